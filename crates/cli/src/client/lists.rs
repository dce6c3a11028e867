//! The lists and single resources of the administration API, as text.

use anyhow::{Result, bail};
use event::{EventId, header};
use ledger::{EVENTS, REJECTED};
use serde_json::Value;
use view::View;

use super::api::Api;
use crate::args::{EventFilters, EventList, List, Show};
use crate::config::Config;
use crate::report;
use crate::table::{self, Column, Form, column};

/// Prints a list.
pub async fn list(view: &View, list: List, config: &Config) -> Result<()> {
    let mut filters = list.filters;
    filters.extend(list.source.map(|source| ("source".to_owned(), source)));
    let known = view.filters();
    if let Some((field, _)) = filters.iter().find(|(field, _)| !known.contains(field)) {
        bail!(
            "--where: {field} is not a field that {} are filtered by; expected one of {}",
            view.name,
            known.join(", ")
        );
    }
    let api = Api::new(&list.output.api, config)?;
    let (rows, has_more) = api.newest(view.name, &filters, list.limit).await?;
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

/// The filter as parameters of the list.
pub fn fields(filter: &EventFilters, config: &Config) -> Vec<(String, String)> {
    let EventFilters { provider, topic, state, subject, from, to } = filter;
    let given = [
        ("provider", provider.clone()),
        ("topic", topic.clone()),
        ("state", state.clone()),
        ("subject", subject.clone()),
        ("from", from.map(|moment| moment.time(&config.time.zone).to_string())),
        ("to", to.map(|moment| moment.time(&config.time.zone).to_string())),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Prints one event or one rejected body.
pub async fn show(view: &View, show: Show, config: &Config) -> Result<()> {
    let Show { id, output } = show;
    let what = view.row;
    if id.parse::<EventId>().is_err() {
        bail!("{id} is not the id of one: ids are in `malote {} list`", view.name);
    }
    let api = Api::new(&output.api, config)?;
    let Some(found) = api.find(&format!("{}/{id}", view.name)).await? else {
        let other = if view.name == EVENTS.name { &REJECTED } else { &EVENTS };
        if api.find(&format!("{}/{id}", other.name)).await?.is_some() {
            bail!("no {what} {id}, but `malote {} show {id}` shows it", other.name);
        }
        bail!("no {what} {id}; ids are in `malote {} list`", view.name);
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

/// The fields of an event and of a rejected body, in display order. A body, which may be long, is last.
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

/// A resource as lines of name and value, then its headers, its outcome, and its body.
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
    use crate::domains;

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
    fn a_column_shows_a_field_of_the_row_and_an_example_filters_by_a_parameter() {
        let views: Vec<_> = domains::views().collect();
        let document: Value = serde_json::from_str(&console::openapi(&views)).unwrap();
        for view in views {
            let (page, _) = view.reading.schemas().swap_remove(0);
            let items = &document["components"]["schemas"][page]["properties"]["items"]["items"];
            let row = document.pointer(&items["$ref"].as_str().unwrap()[1..]).unwrap();
            for column in view.columns {
                assert!(row["properties"][column.field].is_object(), "{} {}", view.name, column.field);
            }
            let list = &document["paths"][format!("/api/v1/{}", view.name)]["get"];
            let parameters = list["parameters"].as_array().unwrap();
            let (example, _) = view.example.split_once('=').unwrap();
            assert!(parameters.iter().any(|parameter| parameter["name"] == example), "{}", view.name);
        }
    }
}
