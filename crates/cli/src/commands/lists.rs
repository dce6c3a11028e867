//! The lists and single resources of the administration API: one row for each, with its columns.

use anyhow::Result;
use serde_json::Value;

use crate::api::Api;
use crate::args::{EventList, List, Output, Show};
use crate::config::Config;
use crate::report;
use crate::table::{self, Column, Form, column};

/// A list of the API.
pub struct View {
    /// Its path under `/api/v1`.
    pub path: &'static str,
    /// What a person wants to see of a row.
    pub columns: &'static [Column],
    /// What is said of an empty list, with the next step.
    pub empty: &'static str,
}

/// `malote events list`
pub const EVENTS: View = View {
    path: "events",
    columns: &[
        column("Received", "received_at", Form::Time),
        column("Source", "source", Form::Text),
        column("Topic", "topic", Form::Text),
        column("Subject", "subject", Form::Text),
        column("State", "state", Form::State),
        column("Consumers", "consumers", Form::States),
        column("Id", "id", Form::Id),
    ],
    empty: "No events. `malote simulate` posts some; `malote config show` shows the sources.",
};

/// `malote dead list`
pub const DEAD: View = View {
    path: "dead",
    columns: &[
        column("Failed", "failed_at", Form::Time),
        column("Consumer", "consumer", Form::Text),
        column("Topic", "topic", Form::Text),
        column("Attempts", "attempts", Form::Number),
        column("Error", "error", Form::Text),
        column("Event", "event_id", Form::Id),
    ],
    empty: "No dead letters: no consumer has given up on an event.",
};

/// `malote rejected list`
pub const REJECTED: View = View {
    path: "rejected",
    columns: &[
        column("Received", "received_at", Form::Time),
        column("Source", "source", Form::Text),
        column("Cause", "cause", Form::Text),
        column("Id", "id", Form::Id),
    ],
    empty: "No rejected bodies: everything that was authenticated could be used.",
};

/// `malote unrouted list`
pub const UNROUTED: View = View {
    path: "unrouted",
    columns: &[
        column("Received", "received_at", Form::Time),
        column("Source", "source", Form::Text),
        column("Topic", "topic", Form::Text),
        column("Subject", "subject", Form::Text),
        column("Id", "id", Form::Id),
    ],
    empty: "No unrouted events: a consumer is bound to every topic that came.",
};

/// `malote invoices list`
pub const INVOICES: View = View {
    path: "invoices",
    columns: &[
        column("Source", "source", Form::Text),
        column("Invoice", "external_id", Form::Text),
        column("Status", "status", Form::Text),
        column("Before", "previous_status", Form::Text),
        column("Attachments", "attachments", Form::Count),
        column("Credit memo", "credit_memo_requested", Form::Flag),
    ],
    empty: "No invoices yet. They come with invoice.* and TAX_INVOICE_CHANGE_STATUS; see `malote events list`.",
};

/// `malote receivables list`
pub const RECEIVABLES: View = View {
    path: "receivables",
    columns: &[
        column("Source", "source", Form::Text),
        column("Id", "external_id", Form::Text),
        column("Kind", "kind", Form::Text),
        column("Agreement", "agreement_id", Form::Text),
        column("Due", "due_date", Form::Text),
        column("Amount", "amount_centavos", Form::Money),
        column("Paid", "paid_date", Form::Text),
        column("State", "state", Form::State),
    ],
    empty: "No receivables yet. They come with acordo.*, ORDER_* and FINANCIAL_*; see `malote events list`.",
};

/// `malote agreements list`
pub const AGREEMENTS: View = View {
    path: "agreements",
    columns: &[
        column("Source", "source", Form::Text),
        column("Agreement", "external_id", Form::Text),
        column("Client", "client_name", Form::Text),
        column("CPF / CNPJ", "document", Form::TaxId),
        column("Agreed", "agreed_centavos", Form::Money),
        column("Original", "original_centavos", Form::Money),
        column("Instalments", "instalments", Form::Number),
        column("State", "state", Form::State),
    ],
    empty: "No agreements yet. They come with acordo.*; see `malote events list`.",
};

/// `malote prescriptions list`
pub const PRESCRIPTIONS: View = View {
    path: "prescriptions",
    columns: &[
        column("Source", "source", Form::Text),
        column("CPF", "document", Form::TaxId),
        column("E-mail", "email", Form::Text),
        column("State", "state", Form::State),
        column("Reason", "reason", Form::Text),
        column("Right", "right", Form::Eye),
        column("Left", "left", Form::Eye),
        column("Files", "files", Form::Count),
    ],
    empty: "No prescriptions yet. They come from beneficio-visao; see `malote events list`.",
};

const QUEUES: [Column; 4] = [
    column("Queue", "name", Form::Text),
    column("Ready", "ready", Form::Number),
    column("Consumers", "consumers", Form::Number),
    column("Carries", "purpose", Form::Text),
];

/// Prints a list.
pub async fn list(view: &View, list: List, config: &Config) -> Result<()> {
    let mut filters = list.filters;
    filters.extend(list.source.map(|source| ("source".to_owned(), source)));
    let api = Api::new(&list.output.api, config)?;
    let rows = api.list(view.path, &filters, list.limit).await?;
    if list.output.json {
        print_json(&Value::Array(rows));
    } else if rows.is_empty() {
        let none = if filters.is_empty() { view.empty } else { "Nothing fits these filters." };
        report::line(none);
    } else {
        report::print(&table::of_rows(view.columns, &rows));
        if rows.len() == list.limit as usize {
            report::line(format!("\nThe newest {} are shown; --limit shows more.", list.limit));
        }
    }
    Ok(())
}

/// Prints the list of events.
pub async fn events(list: EventList, config: &Config) -> Result<()> {
    let EventList { provider, topic, state, subject, since, until, list: mut rest } = list;
    let given = [
        ("provider", provider),
        ("topic", topic),
        ("state", state),
        ("subject", subject),
        ("from", since),
        ("to", until),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    rest.filters.extend(given);
    self::list(&EVENTS, rest, config).await
}

/// Prints one event or one rejected body.
pub async fn show(view: &View, show: Show, config: &Config) -> Result<()> {
    let found = Api::new(&show.output.api, config)?.get(&format!("{}/{}", view.path, show.id), &[]).await?;
    if show.output.json {
        print_json(&found);
    } else {
        report::print(&described(&found));
    }
    Ok(())
}

/// Prints the state of the queues.
pub async fn queues(output: Output, config: &Config) -> Result<()> {
    let api = Api::new(&output.api, config)?;
    let Value::Array(rows) = api.get("queues", &[]).await?["items"].take() else {
        anyhow::bail!("{} does not answer as malote does", api.base())
    };
    if output.json {
        print_json(&Value::Array(rows));
    } else {
        report::print(&table::of_rows(&QUEUES, &rows));
    }
    Ok(())
}

/// Prints JSON with indentation.
pub fn print_json(value: &Value) {
    report::line(format!("{value:#}"));
}

/// A resource as lines of name and value; its body, which may be long, last.
fn described(found: &Value) -> String {
    let Value::Object(fields) = found else { return format!("{found:#}\n") };
    let mut text = String::new();
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields.iter().filter(|(name, _)| !BODY.contains(&name.as_str())) {
        match value {
            Value::Null => {}
            Value::Object(map) if map.is_empty() => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Array(items) => {
                items.iter().for_each(|item| text += &format!("{name:width$}  {}\n", inline(item)))
            }
            Value::Object(_) => text += &format!("{name:width$}  {}\n", inline(value)),
            value if name.ends_with("_at") => {
                text += &format!("{name:width$}  {}\n", table::written(Form::Time, value))
            }
            value => text += &format!("{name:width$}  {}\n", table::written(Form::Text, value)),
        }
    }
    for body in BODY.iter().filter_map(|name| fields.get(*name)) {
        match body {
            Value::Null => {}
            Value::String(body) => text += &format!("\n{}\n", body.trim_end()),
            body => text += &format!("\n{body:#}\n"),
        }
    }
    text
}

/// The fields that hold a body.
const BODY: [&str; 2] = ["body", "body_base64"];

fn inline(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let parts = map.iter().filter(|(_, value)| !value.is_null());
            parts.map(|(name, value)| format!("{name} {}", inline(value))).collect::<Vec<_>>().join(", ")
        }
        value => table::written(Form::Text, value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_is_described_without_what_is_missing_and_its_body_comes_last() {
        let found = json!({
            "id": "1", "subject": null, "received_at": "2026-11-22T16:01:34.5Z", "body": "{\"a\": 1}",
            "outcomes": [{"consumer": "invoices", "state": "handled", "error": null}],
        });
        let text = described(&found);
        assert_eq!(
            text,
            "id           1\n\
             outcomes     consumer invoices, state handled\n\
             received_at  2026-11-22 16:01:34Z\n\n{\"a\": 1}\n"
        );
    }
}
