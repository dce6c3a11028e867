//! One event, rejected body or dead letter as text: lines of name and value, then its headers, its outcomes and its body.

use event::header;
use ledger::{BodyInJson, DeadLetter, FailedAttempt, Outcome, RecordedEvent, Rejected};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use view::{Column, Form, Table, column, shown};

use crate::table;

/// A resource that a command shows.
pub trait Described: DeserializeOwned {
    /// It as text, with a line's end at its end.
    fn described(&self) -> String;
}

/// The width of the longest name of a line.
const NAME_WIDTH: usize = 12;

/// Lines of name and value.
pub struct Fields {
    /// The lines so far, with a line's end after each.
    pub text: String,
    width: usize,
}

impl Fields {
    /// No lines yet; names are this wide.
    pub fn new(width: usize) -> Self {
        Self { text: String::new(), width }
    }

    /// Adds a line, unless there is no value.
    fn add(mut self, name: &str, value: &impl Serialize, form: Form) -> Self {
        let value = shown(value);
        if !value.is_null() {
            let (text, width) = (table::written(form, &value), self.width);
            self.text += &format!("{name:width$}  {text}\n");
        }
        self
    }

    /// Adds a text or a number.
    pub fn text(self, name: &str, value: &impl Serialize) -> Self {
        self.add(name, value, Form::Text)
    }

    /// Adds a point in time.
    pub fn time(self, name: &str, value: &impl Serialize) -> Self {
        self.add(name, value, Form::Time)
    }
}

fn bytes(size: i64) -> String {
    format!("{size} byte{}", if size == 1 { "" } else { "s" })
}

impl Described for RecordedEvent {
    fn described(&self) -> String {
        let row = &self.row;
        let fields = Fields::new(NAME_WIDTH)
            .text("id", &row.id)
            .text("source", &row.source)
            .text("provider", &row.provider)
            .text("topic", &row.topic)
            .text("subject", &row.subject)
            .text("state", &row.state)
            .time("received_at", &row.received_at)
            .time("unrouted_at", &self.unrouted_at)
            .text("replay_of", &self.replay_of)
            .text("duplicate_of", &row.duplicate_of)
            .text("traceparent", &self.traceparent)
            .text("repaired", &self.repaired.then_some("yes"))
            .text("content_type", &self.content_type)
            .text("size", &bytes(self.size));
        fields.text + &headers(&self.headers) + &outcomes(&self.outcomes) + &body(&self.body)
    }
}

impl Described for Rejected {
    fn described(&self) -> String {
        let row = &self.row;
        let fields = Fields::new(NAME_WIDTH)
            .text("id", &row.id)
            .text("source", &row.source)
            .text("provider", &row.provider)
            .text("cause", &row.cause)
            .time("received_at", &row.received_at)
            .text("content_type", &self.content_type)
            .text("size", &bytes(self.size));
        fields.text + &headers(&self.headers) + &body(&self.body)
    }
}

impl Described for DeadLetter {
    fn described(&self) -> String {
        let row = &self.row;
        let fields = Fields::new(15)
            .text("event_id", &row.event_id)
            .text("consumer", &row.consumer)
            .text("topic", &row.topic)
            .text("error", &row.error)
            .text("group", &row.group)
            .text("attempts", &row.attempts)
            .time("first_failed_at", &row.first_failed_at)
            .time("failed_at", &row.failed_at)
            .text("resent_in", &self.resent_in)
            .text("discarded_in", &self.discarded_in);
        let content_type = Fields::new(NAME_WIDTH).text("content_type", &self.content_type);
        fields.text
            + &history(&self.failed_attempts())
            + "\n"
            + &content_type.text
            + &headers(&self.headers)
            + &body(&self.body)
    }
}

const HISTORY: [Column<FailedAttempt>; 3] = [
    column("Attempt", |row| shown(&row.attempt), Form::Number),
    column("At", |row| shown(&row.at), Form::Time),
    column("Error", |row| shown(&row.error), Form::Text),
];

fn history(attempts: &[FailedAttempt]) -> String {
    if attempts.is_empty() { String::new() } else { format!("\n{}", table::of_rows(&HISTORY, attempts)) }
}

const OUTCOMES: [Column<Outcome>; 8] = [
    column("Consumer", |row| shown(&row.consumer), Form::Text),
    column("State", |row| shown(&row.state), Form::State),
    column("Handled", |row| shown(&row.handled_at), Form::Time),
    column("Not read", |row| shown(&row.note), Form::Text),
    column("Attempts", |row| shown(&row.attempts), Form::Number),
    column("First failed", |row| shown(&row.first_failed_at), Form::Time),
    column("Failed", |row| shown(&row.failed_at), Form::Time),
    column("Error", |row| shown(&row.error), Form::Text),
];

/// The outcomes, without the columns that have no value.
fn outcomes(outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return String::new();
    }
    let Table { columns, rows } = Table::new(&OUTCOMES, outcomes);
    let kept: Vec<bool> =
        (0..columns.len()).map(|index| rows.iter().any(|row| !row[index].is_null())).collect();
    let table =
        Table { columns: only(columns, &kept), rows: rows.into_iter().map(|row| only(row, &kept)).collect() };
    format!("\n{}", table::text(&table))
}

fn only<T>(all: Vec<T>, kept: &[bool]) -> Vec<T> {
    all.into_iter().zip(kept).filter_map(|(one, kept)| kept.then_some(one)).collect()
}

/// The headers that the sender gave.
fn headers(headers: &Value) -> String {
    let headers = headers.as_object().into_iter().flatten();
    let lines: String = headers
        .filter_map(|(name, value)| {
            Some(format!("  {}: {}\n", sent(name)?, table::written(Form::Text, value)))
        })
        .collect();
    if lines.is_empty() { lines } else { format!("\nheaders\n{lines}") }
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

fn body(BodyInJson { body, body_base64 }: &BodyInJson) -> String {
    let text = body.as_ref().map(|text| format!("\nbody\n{}\n", text.trim_end()));
    let base64 = body_base64.as_ref().map(|text| format!("\nbody, base64 (not UTF-8)\n{text}\n"));
    text.unwrap_or_default() + &base64.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains('─'));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn an_event_is_described_in_order_and_without_what_is_missing() {
        let event: RecordedEvent = serde_json::from_value(json!({
            "id": "1", "source": "me", "provider": "mercado-eletronico", "topic": "invoice.paid", "subject": null,
            "received_at": "2026-11-22T16:01:34.5Z", "body": "{\"a\": 1}", "size": 8, "state": "handled",
            "repaired": false, "consumers": {"invoices": "handled"}, "content_type": "application/json",
            "headers": {"http_user-agent": "curl", "cloudEvents_id": "1", "app_id": "malote", "type": "rejected"},
            "outcomes": [{
                "consumer": "invoices", "state": "handled", "handled_at": "2026-11-22T16:01:35.5Z", "error": null,
            }],
        }))
        .unwrap();
        assert_eq!(
            lines(&event.described()),
            [
                "id 1",
                "source me",
                "provider mercado-eletronico",
                "topic invoice.paid",
                "state handled",
                "received_at 2026-11-22 16:01:34Z",
                "content_type application/json",
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
    }

    #[test]
    fn a_rejected_body_is_described_with_its_cause_and_one_that_is_no_text_in_base64() {
        let rejected: Rejected = serde_json::from_value(json!({
            "id": "1", "source": null, "provider": null, "received_at": "2026-11-22T16:01:34.5Z", "size": 1,
            "cause": "the body is not JSON", "content_type": "text/plain", "headers": {}, "body_base64": "/w==",
        }))
        .unwrap();
        let expect = [
            "id 1",
            "cause the body is not JSON",
            "received_at 2026-11-22 16:01:34Z",
            "content_type text/plain",
            "size 1 byte",
            "",
            "body, base64 (not UTF-8)",
            "/w==",
        ];
        assert_eq!(lines(&rejected.described()), expect);
    }

    #[test]
    fn a_dead_letter_is_described_with_every_attempt_that_is_known() {
        let letter: DeadLetter = serde_json::from_value(json!({
            "event_id": "1", "consumer": "invoices", "source": "me", "provider": "p", "topic": "t", "attempts": 2,
            "error": "no", "group": "0a", "first_failed_at": "2026-11-22T16:01:34Z",
            "failed_at": "2026-11-22T16:01:35Z", "content_type": "application/json", "headers": {}, "body": "{}",
            "history": [{"attempt": 1, "at": "2026-11-22T16:01:34Z", "error": "no"}, {"malformed": true}],
            "resent_in": null, "discarded_in": "7",
        }))
        .unwrap();
        assert_eq!(
            lines(&letter.described()),
            [
                "event_id 1",
                "consumer invoices",
                "topic t",
                "error no",
                "group 0a",
                "attempts 2",
                "first_failed_at 2026-11-22 16:01:34Z",
                "failed_at 2026-11-22 16:01:35Z",
                "discarded_in 7",
                "",
                "Attempt At Error",
                "1 2026-11-22 16:01:34Z no",
                "",
                "content_type application/json",
                "",
                "body",
                "{}",
            ]
        );
    }
}
