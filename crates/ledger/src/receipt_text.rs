//! A receipt as text, which can be sent to the sender of an event or of a rejected body.

use crate::{Receipt, RecordedEvent, Rejected};

impl RecordedEvent {
    /// The receipt as text that can be sent to the sender; `None` if there is none.
    pub fn receipt_text(&self) -> Option<String> {
        let row = &self.row;
        let address = format!("/webhooks/{}", row.source);
        let received_at = row.received_at.to_string();
        let lines = [
            ("event", Some(row.id.as_str())),
            ("received", Some(&received_at)),
            ("posted to", Some(&address)),
        ];
        Some(written(&lines, self.receipt.as_ref()?, self.size))
    }
}

impl Rejected {
    /// The same of a rejected body.
    pub fn receipt_text(&self) -> Option<String> {
        let row = &self.row;
        let address = row.source.as_ref().map(|source| format!("/webhooks/{source}"));
        let received_at = row.received_at.to_string();
        let lines = [
            ("id", Some(row.id.as_str())),
            ("received", Some(&received_at)),
            ("posted to", address.as_deref()),
            ("rejected", Some(&row.cause)),
        ];
        Some(written(&lines, self.receipt.as_ref()?, self.size))
    }
}

/// Lines of name and value: what was received, and what every receipt ends with.
fn written(received: &[(&str, Option<&str>)], receipt: &Receipt, size: i64) -> String {
    let Receipt { client, status, sender_id, body_sha256 } = receipt;
    let answer = match status {
        200..300 => format!("{status}, once the event was stored durably; 503 if that took too long"),
        _ => status.to_string(),
    };
    let body = format!("{size} byte{}, SHA-256 {body_sha256}", if size == 1 { "" } else { "s" });
    let ending = [
        ("posted from", Some(client.as_str())),
        ("sender's id", sender_id.as_deref()),
        ("answer", Some(&answer)),
        ("body", Some(&body)),
    ];
    let lines = received.iter().chain(&ending).filter_map(|(name, value)| Some((name, (*value)?)));
    lines.map(|(name, value)| format!("{name:11}  {value}\n")).collect()
}
