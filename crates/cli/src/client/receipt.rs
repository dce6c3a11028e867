//! What has a receipt: what was posted.

use console::EventDetail;
use ledger::{Receipt, RecordedEvent, Rejected};

/// What was posted and is on record.
pub trait Received {
    /// Its receipt.
    fn receipt(&self) -> Option<&Receipt>;

    /// The receipt as text that can be sent to the sender.
    fn receipt_text(&self) -> Option<String>;
}

impl Received for RecordedEvent {
    fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    fn receipt_text(&self) -> Option<String> {
        self.receipt_text()
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
        self.receipt_text()
    }
}
