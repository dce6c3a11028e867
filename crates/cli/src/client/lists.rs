//! The lists and single resources of the administration API: one row for each, with its columns.

use anyhow::{Result, bail};
use event::{EventId, header};
use serde_json::Value;

use super::api::Api;
use crate::args::{EventFilters, EventList, List, Show};
use crate::config::Config;
use crate::report;
use crate::table::{self, Column, Form, column};

/// A list of the API.
pub struct View {
    /// Its path under `/api/v1`.
    pub path: &'static str,
    /// What a person wants to see of a row.
    pub columns: &'static [Column],
    /// What its rows can be filtered by.
    pub filters: &'static [&'static str],
    /// A filter that makes sense.
    pub example: &'static str,
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
    filters: &["id", "source", "provider", "topic", "state", "subject", "from", "to"],
    example: "state=dead",
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
    filters: &["id", "group", "consumer", "source", "provider"],
    example: "consumer=invoices",
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
    filters: &["id", "source", "provider"],
    example: "provider=recuperador",
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
    filters: &["id", "source", "provider", "topic"],
    example: "provider=recuperador",
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
    filters: &["source", "external_id", "status"],
    example: "status=103",
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
    filters: &["source", "kind", "state", "agreement_id"],
    example: "state=open",
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
    filters: &["source", "state", "document"],
    example: "state=active",
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
    filters: &["source", "state", "document"],
    example: "state=renewed",
    empty: "No prescriptions yet. They come from beneficio-visao; see `malote events list`.",
};

/// Every list, each under the name of its command.
pub const ALL: [&View; 8] =
    [&EVENTS, &DEAD, &REJECTED, &UNROUTED, &INVOICES, &RECEIVABLES, &AGREEMENTS, &PRESCRIPTIONS];

/// Prints a list.
pub async fn list(view: &View, list: List, config: &Config) -> Result<()> {
    let mut filters = list.filters;
    filters.extend(list.source.map(|source| ("source".to_owned(), source)));
    if let Some((field, _)) = filters.iter().find(|(field, _)| !view.filters.contains(&field.as_str())) {
        bail!(
            "--where: {field} is not a field that {} are filtered by; expected one of {}",
            view.path,
            view.filters.join(", ")
        );
    }
    let api = Api::new(&list.output.api, config)?;
    let (rows, has_more) = api.newest(view.path, &filters, list.limit).await?;
    if list.output.json {
        print_json(&Value::Array(rows));
    } else if rows.is_empty() {
        let none = if filters.is_empty() { view.empty } else { "Nothing fits these filters." };
        report::line(none);
    } else {
        report::print(&table::of_rows(view.columns, &rows));
        if has_more {
            let shown =
                if rows.len() == 1 { "newest is".to_owned() } else { format!("newest {} are", rows.len()) };
            report::line(format!("\nOnly the {shown} shown; --limit shows more."));
        }
    }
    Ok(())
}

/// Prints the list of events.
pub async fn events(list: EventList, config: &Config) -> Result<()> {
    let EventList { filter, list: mut rest } = list;
    rest.filters.extend(fields(&filter, config));
    self::list(&EVENTS, rest, config).await
}

/// The filter as the list's parameters.
pub fn fields(filter: &EventFilters, config: &Config) -> Vec<(String, String)> {
    let EventFilters { provider, topic, state, subject, from, to } = filter;
    let given = [
        ("provider", provider.clone()),
        ("topic", topic.clone()),
        ("state", state.clone()),
        ("subject", subject.clone()),
        ("from", from.map(|moment| moment.time(&config.zone).to_string())),
        ("to", to.map(|moment| moment.time(&config.zone).to_string())),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Prints one event or one rejected body.
pub async fn show(view: &View, show: Show, config: &Config) -> Result<()> {
    let Show { id, output } = show;
    let what = if view.path == EVENTS.path { "event" } else { "rejected body" };
    if id.parse::<EventId>().is_err() {
        bail!("{id} is not the id of one: ids are in `malote {} list`", view.path);
    }
    let api = Api::new(&output.api, config)?;
    let Some(found) = api.find(&format!("{}/{id}", view.path)).await? else {
        let other = if view.path == EVENTS.path { &REJECTED } else { &EVENTS };
        if api.find(&format!("{}/{id}", other.path)).await?.is_some() {
            bail!("no {what} {id}, but `malote {} show {id}` shows it", other.path);
        }
        bail!("no {what} {id}; ids are in `malote {} list`", view.path);
    };
    if output.json {
        print_json(&found);
    } else {
        report::print(&described(&found));
    }
    Ok(())
}

/// Prints JSON with indentation.
pub fn print_json(value: &Value) {
    report::line(format!("{value:#}"));
}

/// The fields of an event and of a rejected body, in the order of their telling. A body, which may be long, is last.
const FIELDS: [&str; 15] = [
    "id",
    "source",
    "provider",
    "topic",
    "subject",
    "state",
    "cause",
    "received_at",
    "unrouted_at",
    "replay_of",
    "duplicate_of",
    "traceparent",
    "repaired",
    "content_type",
    "size",
];

const OUTCOMES: [Column; 8] = [
    column("Consumer", "consumer", Form::Text),
    column("State", "state", Form::State),
    column("Handled", "handled_at", Form::Time),
    column("Not read", "note", Form::Text),
    column("Attempts", "attempts", Form::Number),
    column("First failed", "first_failed_at", Form::Time),
    column("Failed", "failed_at", Form::Time),
    column("Error", "error", Form::Text),
];

/// A resource as lines of name and value, then its headers, what became of it, and its body.
pub fn described(found: &Value) -> String {
    let width = FIELDS.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for name in FIELDS {
        let said = match &found[name] {
            Value::Null | Value::Bool(false) => continue,
            Value::Bool(true) => "yes".to_owned(),
            size if name == "size" => format!("{size} byte{}", if *size == 1 { "" } else { "s" }),
            time if name.ends_with("_at") => table::written(Form::Time, time),
            value => table::written(Form::Text, value),
        };
        text += &format!("{name:width$}  {said}\n");
    }
    let headers = found["headers"].as_object().into_iter().flatten();
    let headers: Vec<_> = headers.filter_map(|(name, value)| Some((sent(name)?, value))).collect();
    if !headers.is_empty() {
        text += "\nheaders\n";
    }
    for (name, value) in headers {
        text += &format!("  {name}: {}\n", table::written(Form::Text, value));
    }
    if let Some(outcomes) = found["outcomes"].as_array().filter(|outcomes| !outcomes.is_empty()) {
        let has = |column: &&Column| outcomes.iter().any(|outcome| !outcome[column.field].is_null());
        let columns: Vec<_> = OUTCOMES.iter().filter(has).copied().collect();
        text += &format!("\n{}", table::of_rows(&columns, outcomes));
    }
    if let Some(body) = found["body"].as_str() {
        text += &format!("\nbody\n{}\n", body.trim_end());
    }
    if let Some(body) = found["body_base64"].as_str() {
        text += &format!("\nbody, base64 (not UTF-8)\n{body}\n");
    }
    text
}

/// The name of a header as the sender gave it; `None` for one of the message that carried it.
fn sent(name: &str) -> Option<&str> {
    if let Some(name) = name.strip_prefix(header::HTTP) {
        return Some(name);
    }
    let is_ours = name.starts_with(header::CLOUD_EVENTS)
        || name.starts_with("malote_")
        || name.starts_with("x-")
        || ["message_id", "type", "app_id"].contains(&name);
    (!is_ours).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_is_described_in_order_and_without_what_is_missing() {
        let found = json!({
            "id": "1", "subject": null, "received_at": "2026-11-22T16:01:34.5Z", "body": "{\"a\": 1}", "size": 8,
            "repaired": false, "consumers": {"invoices": "handled"}, "cause": "the body is not JSON",
            "headers": {"http_user-agent": "curl", "cloudEvents_id": "1", "app_id": "malote", "type": "rejected"},
            "outcomes": [{
                "consumer": "invoices", "state": "handled", "handled_at": "2026-11-22T16:01:35.5Z", "error": null,
            }],
        });
        let text = described(&found);
        let lines: Vec<String> = text
            .lines()
            .filter(|line| !line.contains('─'))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "id 1",
                "cause the body is not JSON",
                "received_at 2026-11-22 16:01:34Z",
                "size 8 bytes",
                "",
                "headers",
                "user-agent: curl",
                "",
                "Consumer State Handled",
                "invoices handled 2026-11-22 16:01:35Z",
                "",
                "body",
                "{\"a\": 1}",
            ]
        );
        let text = described(&json!({"body_base64": "/w=="}));
        assert_eq!(text, "\nbody, base64 (not UTF-8)\n/w==\n");
    }

    #[test]
    fn the_filters_of_a_list_are_those_of_the_api() {
        let document: Value = serde_json::from_str(&console::openapi()).unwrap();
        for view in ALL {
            let parameters =
                document["paths"][format!("/api/v1/{}", view.path)]["get"]["parameters"].as_array();
            let names: Vec<&str> =
                parameters.unwrap().iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
            let filters: Vec<&str> =
                names.into_iter().filter(|name| !["limit", "cursor"].contains(name)).collect();
            assert_eq!(filters, view.filters, "{}", view.path);
        }
    }
}
