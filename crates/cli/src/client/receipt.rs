//! The receipt of what was posted, as text that can be sent to its sender: nothing of the body is in it.

use console::EventDetail;
use ledger::{Receipt, RecordedEvent, Rejected};

use super::fields::{Fields, bytes};

/// What was posted and is on record.
pub trait Received {
    /// Its receipt.
    fn receipt(&self) -> Option<&Receipt>;

    /// The receipt as text.
    fn receipt_text(&self) -> Option<String>;
}

impl Received for RecordedEvent {
    fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    fn receipt_text(&self) -> Option<String> {
        let (receipt, row) = (self.receipt.as_ref()?, &self.row);
        let fields = Fields::new(WIDTH)
            .text("event", &row.id)
            .text("received", &row.received_at)
            .text("posted to", &format!("/webhooks/{}", row.source));
        Some(ending(fields, receipt, self.size))
    }
}

impl Received for EventDetail {
    fn receipt(&self) -> Option<&Receipt> {
        self.event.receipt()
    }

    fn receipt_text(&self) -> Option<String> {
        self.event.receipt_text()
    }
}

impl Received for Rejected {
    fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    fn receipt_text(&self) -> Option<String> {
        let (receipt, row) = (self.receipt.as_ref()?, &self.row);
        let address = row.source.as_ref().map(|source| format!("/webhooks/{source}"));
        let fields = Fields::new(WIDTH)
            .text("id", &row.id)
            .text("received", &row.received_at)
            .text("posted to", &address)
            .text("rejected", &row.cause);
        Some(ending(fields, receipt, self.size))
    }
}

/// The width of the longest name of a line.
const WIDTH: usize = 11;

/// What every receipt ends with.
fn ending(fields: Fields, receipt: &Receipt, size: i64) -> String {
    let Receipt { client, status, sender_id, body_sha256 } = receipt;
    let answer = match status {
        200..300 => format!("{status}, once the event was stored durably; 503 if that took too long"),
        _ => status.to_string(),
    };
    fields
        .text("posted from", client)
        .text("sender's id", sender_id)
        .text("answer", &answer)
        .text("body", &format!("{}, SHA-256 {body_sha256}", bytes(size)))
        .text
}
