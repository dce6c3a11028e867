//! What a domain implements.

use async_trait::async_trait;
use broker::QueueName;
use event::{Event, Message};
use store::{StoreError, Tx};

/// Gives events their effect.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Writes the effects of all the events into the transaction, and only there. The runtime commits; what returns an
    /// error is rolled back, and each event is then tried by itself. Called once for each event whose transaction commits;
    /// the same event may come again after a rollback. Events come in no promised order, within a call neither: an older
    /// fact must not overwrite a newer one. No event is there twice.
    async fn handle(&self, events: &[&Event], tx: &mut Tx) -> Result<(), Failure>;
}

/// Records messages as they are, many at a time. The inbox is not asked: recording the same message twice must change
/// nothing.
#[async_trait]
pub trait Recorder: Send + Sync + 'static {
    /// Writes all messages into the transaction. After an error each is tried alone.
    async fn record(&self, messages: &[&Message], tx: &mut Tx) -> Result<(), Failure>;

    /// Where a message goes instead of being recorded. The runtime publishes it, waits for the confirm, and acks the
    /// original; a crash in between sends it twice.
    fn forward(&self, _message: &Message) -> Option<Forward> {
        None
    }
}

/// A message that belongs into another queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The queue. If it is gone, the message is a dead letter.
    pub queue: QueueName,
    /// The message as it is to arrive there.
    pub message: Message,
}

/// Why an event had no effect: what the runtime does next depends on the variant alone.
///
/// The text is shown to operators and logged. It names the place, and holds no personal data.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It may work later: the event is tried again after the next delay.
    #[error("{0}")]
    Transient(String),
    /// It will never work as it is: the event becomes a dead letter.
    #[error("{0}")]
    Permanent(String),
    /// The database did not do its part: an outage pauses the consumer, a value that never fits counts as
    /// [`Self::Permanent`], anything else as [`Self::Transient`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<store::DriverError> for Failure {
    fn from(error: store::DriverError) -> Self {
        Self::Store(error.into())
    }
}
