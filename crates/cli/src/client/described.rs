//! One event, rejected body or dead letter as text: lines of name and value, then its headers, its outcomes and its body.

use console::EventDetail;
use event::header;
use ledger::{BodyInJson, Caused, DeadLetter, EventState, FailedAttempt, Outcome, Rejected};
use serde_json::Value;
use subscriptions::Taker;
use view::{Column, Form, Shown, Table, column, shown};

use super::fields::{Described, Fields, bytes, hidden};
use super::receipt::Received;
use crate::table;

/// The width of the longest name of a line.
const NAME_WIDTH: usize = 12;

impl Described for EventDetail {
    fn described(&self) -> String {
        let Self { event, subscriptions } = self;
        let row = &event.row;
        let is_taken = row.state == EventState::Unrouted && !subscriptions.is_empty();
        let note = is_taken.then_some("no queue is bound to its topic; the subscriptions below take it");
        let fields = Fields::new(NAME_WIDTH)
            .text("id", &row.id)
            .text("source", &row.source)
            .text("provider", &row.provider)
            .text("topic", &row.topic)
            .text("subject", &row.subject)
            .text("state", &row.state)
            .text("note", &note)
            .time("received_at", &row.received_at)
            .time("unrouted_at", &event.unrouted_at)
            .text("replay_of", &event.replay_of)
            .text("replaces", &event.replaces)
            .text("caused_by", &event.caused_by)
            .text("duplicate_of", &row.duplicate_of)
            .text("traceparent", &event.traceparent)
            .text("repaired", &event.repaired.then_some("yes"))
            .text("content_type", &event.content_type)
            .text("size", &bytes(event.size));
        let caused = match event.caused.as_slice() {
            [] => String::new(),
            caused => format!("\n{}", table::rows(&CAUSED, caused)),
        };
        fields.text
            + &receipt(event)
            + &headers(&event.headers)
            + &filled(&OUTCOMES, &event.outcomes)
            + &filled(Taker::COLUMNS, subscriptions)
            + &caused
            + &body(&event.body)
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
        fields.text + &receipt(self) + &headers(&self.headers) + &body(&self.body)
    }
}

impl Described for DeadLetter {
    fn described(&self) -> String {
        let row = &self.row;
        let fields = Fields::new(15)
            .text("id", &row.id)
            .text("consumer", &row.consumer)
            .text("topic", &row.topic)
            .text("error", &row.error)
            .text("group", &row.group)
            .text("attempts", &row.attempts)
            .time("first_failed_at", &row.first_failed_at)
            .time("failed_at", &row.failed_at)
            .text("resent_in", &self.resent_in)
            .text("discarded_in", &self.discarded_in)
            .text("replaced_by", &self.replaced_by);
        let content_type = Fields::new(NAME_WIDTH).text("content_type", &self.content_type);
        fields.text
            + &history(&self.failed_attempts())
            + "\n"
            + &content_type.text
            + &headers(&self.headers)
            + &body(&self.body)
    }
}

const CAUSED: [Column<Caused>; 3] = [
    column("Caused", |row| shown(&row.topic), Form::Text),
    column("Subject", |row| shown(&row.subject), Form::Text),
    column("Id", |row| shown(&row.id), Form::Id),
];

const HISTORY: [Column<FailedAttempt>; 3] = [
    column("Attempt", |row| shown(&row.attempt), Form::Number),
    column("At", |row| shown(&row.at), Form::Time),
    column("Error", |row| shown(&row.error), Form::Text),
];

fn history(attempts: &[FailedAttempt]) -> String {
    if attempts.is_empty() { String::new() } else { format!("\n{}", table::rows(&HISTORY, attempts)) }
}

const OUTCOMES: [Column<Outcome>; 8] = [
    column("Consumer", |row| shown(&row.consumer), Form::Text),
    column("State", |row| shown(&row.state), Form::State(EventState::TONES)),
    column("Handled", |row| shown(&row.handled_at), Form::Time),
    column("Note", |row| shown(&row.note), Form::Text),
    column("Attempts", |row| shown(&row.attempts), Form::Number),
    column("First failed", |row| shown(&row.first_failed_at), Form::Time),
    column("Failed", |row| shown(&row.failed_at), Form::Time),
    column("Error", |row| shown(&row.error), Form::Text),
];

/// Rows as a table, without the columns that have no value.
fn filled<R>(columns: &[Column<R>], rows: &[R]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let table = Table::new(columns, rows);
    let is_empty = |index: &usize| table.rows.iter().all(|row| row[*index].is_null());
    let empty: Vec<usize> = (0..table.columns.len()).filter(is_empty).collect();
    format!("\n{}", table::text(table.without(&empty)).text)
}

/// The receipt, indented under its title.
fn receipt(received: &impl Received) -> String {
    let text = received.receipt_text().unwrap_or_default();
    let lines: String = text.lines().map(|line| format!("  {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("\nreceipt\n{lines}") }
}

/// The headers that the sender gave.
fn headers(headers: &Value) -> String {
    let headers = headers.as_object().into_iter().flatten();
    let lines: String = headers
        .filter_map(|(name, value)| {
            Some(format!("  {}: {}\n", sent(name)?, view::written(Form::Text, value)))
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

fn body(BodyInJson { body, body_base64, masked }: &BodyInJson) -> String {
    let text = body.as_ref().map(|text| format!("\nbody\n{}\n", text.trim_end()));
    let base64 = body_base64.as_ref().map(|text| format!("\nbody, base64 (not UTF-8)\n{text}\n"));
    text.unwrap_or_default() + &base64.unwrap_or_default() + hidden(*masked)
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
        let event: EventDetail = serde_json::from_value(json!({
            "id": "1", "source": "me", "provider": "mercado-eletronico", "topic": "invoice.paid", "subject": null,
            "received_at": "2026-11-22T16:01:34.5Z", "body": "{\"a\": 1}", "size": 8, "state": "handled",
            "repaired": false, "consumers": {"invoices": "handled"}, "content_type": "application/json",
            "headers": {"http_user-agent": "curl", "cloudEvents_id": "1", "app_id": "malote", "type": "rejected"},
            "receipt": {"client": "192.0.2.1", "status": 202, "sender_id": "evt 1", "body_sha256": "0a1b"},
            "caused": [{"id": "0199d3c0-1f2e-7abc-8def-0123456789ab", "topic": "invoice.created", "subject": "invoice/7"}],
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
                "receipt",
                "event 1",
                "received 2026-11-22T16:01:34.5Z",
                "posted to /webhooks/me",
                "posted from 192.0.2.1",
                "sender's id evt 1",
                "answer 202, once the event was stored durably; 503 if that took too long",
                "body 8 bytes, SHA-256 0a1b",
                "",
                "headers",
                "user-agent: curl",
                "",
                "Consumer State Handled",
                "invoices handled 2026-11-22 16:01:35Z",
                "",
                "Caused Subject Id",
                "invoice.created invoice/7 0199d3c0-1f2e-7abc-8def-0123456789ab",
                "",
                "body",
                "{\"a\": 1}",
            ]
        );
    }

    #[test]
    fn an_event_that_only_a_push_takes_is_shown_with_it() {
        let event: EventDetail = serde_json::from_value(json!({
            "id": "1", "source": "me", "provider": "mercado-eletronico", "topic": "invoice.paid", "subject": null,
            "received_at": "2026-11-22T16:01:34.5Z", "body": "{}", "size": 2, "state": "unrouted", "outcomes": [],
            "unrouted_at": "2026-11-22T16:01:35Z", "repaired": false, "consumers": {}, "caused": [], "headers": {},
            "content_type": "application/json",
            "subscriptions": [{
                "subscription": "crm", "door": "push", "state": "waiting", "attempts": 2, "last_at": null,
                "due_at": "2026-11-22T16:02:00Z", "error": "answered 503",
            }],
        }))
        .unwrap();
        let text = lines(&event.described());
        assert!(
            text.contains(&"note no queue is bound to its topic; the subscriptions below take it".to_owned()),
            "{text:?}"
        );
        let at = text.iter().position(|line| line.starts_with("Subscription")).unwrap();
        assert_eq!(text[at], "Subscription Door State Attempts Next attempt Error");
        assert_eq!(text[at + 1], "crm push waiting 2 2026-11-22 16:02:00Z answered 503");
    }

    #[test]
    fn a_rejected_body_is_described_with_its_cause_and_one_that_is_no_text_in_base64() {
        let rejected: Rejected = serde_json::from_value(json!({
            "id": "1", "source": null, "provider": null, "received_at": "2026-11-22T16:01:34.5Z", "size": 1,
            "cause": "the body is not JSON", "content_type": "text/plain", "headers": {}, "body_base64": "/w==",
            "receipt": {"client": "192.0.2.1", "status": 400, "sender_id": null, "body_sha256": "0a1b"},
        }))
        .unwrap();
        let expect = [
            "id 1",
            "cause the body is not JSON",
            "received_at 2026-11-22 16:01:34Z",
            "content_type text/plain",
            "size 1 byte",
            "",
            "receipt",
            "id 1",
            "received 2026-11-22T16:01:34.5Z",
            "rejected the body is not JSON",
            "posted from 192.0.2.1",
            "answer 400",
            "body 1 byte, SHA-256 0a1b",
            "",
            "body, base64 (not UTF-8)",
            "/w==",
        ];
        assert_eq!(lines(&rejected.described()), expect);
    }

    #[test]
    fn a_dead_letter_is_described_with_every_attempt_that_is_known() {
        let letter: DeadLetter = serde_json::from_value(json!({
            "id": "1", "consumer": "invoices", "source": "me", "provider": "p", "topic": "t", "attempts": 2,
            "error": "no", "group": "0a", "first_failed_at": "2026-11-22T16:01:34Z",
            "failed_at": "2026-11-22T16:01:35Z", "content_type": "application/json", "headers": {}, "body": "{}",
            "history": [{"attempt": 1, "at": "2026-11-22T16:01:34Z", "error": "no"}, {"malformed": true}],
            "resent_in": null, "discarded_in": "7",
        }))
        .unwrap();
        assert_eq!(
            lines(&letter.described()),
            [
                "id 1",
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
