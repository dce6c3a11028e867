//! What a domain implements.

use std::any::Any;
use std::fmt::Display;

use async_trait::async_trait;
use broker::QueueName;
use event::{Event, Message};
use store::{StoreError, Tx};

/// Gives events their effect: each is read by itself, then the facts of many are written together.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// What an event says.
    type Fact: Send + Sync + 'static;

    /// Reads one event. Asks neither the database nor the clock: the same event gives the same fact. An event that
    /// cannot be read is set aside alone and becomes a dead letter, unless it was handled before.
    fn read(&self, event: &Event) -> Result<Self::Fact, Permanent>;

    /// What `read` had to leave out of the fact, for operators; stored beside the event's claim in the inbox. Names places
    /// in the body and quotes nothing of it.
    fn note(&self, _fact: &Self::Fact) -> Option<String> {
        None
    }

    /// Writes the effects of all the facts into the transaction, and only there. The runtime commits; what returns an
    /// error is rolled back and tried again by halves. Called once for each event whose transaction commits; the same
    /// event may come again after a rollback. Events come in no promised order, within a call neither: an older fact must
    /// not overwrite a newer one. No event is there twice.
    async fn write(&self, facts: &[(&Event, &Self::Fact)], tx: &mut Tx) -> Result<(), Failure>;
}

/// Sees events in the transaction in which they are handled.
#[async_trait]
pub trait Observer: Send + Sync + 'static {
    /// Called after the effects of these events are written and before the transaction commits, which it may not.
    async fn observe(&self, events: &[&Event], tx: &mut Tx) -> Result<(), Failure>;
}

/// A fact of a handler that the runtime does not know by its type.
pub(crate) type AnyFact = Box<dyn Any + Send + Sync>;

/// A [`Handler`] of facts of any type.
#[async_trait]
pub(crate) trait AnyHandler: Send + Sync {
    fn read(&self, event: &Event) -> Result<AnyFact, Permanent>;
    fn note(&self, fact: &AnyFact) -> Option<String>;
    async fn write(&self, facts: &[(&Event, &AnyFact)], tx: &mut Tx) -> Result<(), Failure>;
}

#[async_trait]
impl<H: Handler> AnyHandler for H {
    fn read(&self, event: &Event) -> Result<AnyFact, Permanent> {
        Ok(Box::new(Handler::read(self, event)?))
    }

    fn note(&self, fact: &AnyFact) -> Option<String> {
        Handler::note(self, typed::<H>(fact))
    }

    async fn write(&self, facts: &[(&Event, &AnyFact)], tx: &mut Tx) -> Result<(), Failure> {
        let facts: Vec<(&Event, &H::Fact)> =
            facts.iter().map(|(event, fact)| (*event, typed::<H>(fact))).collect();
        Handler::write(self, &facts, tx).await
    }
}

fn typed<H: Handler>(fact: &AnyFact) -> &H::Fact {
    (**fact).downcast_ref().expect("a handler gets back the facts that it read")
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

/// Why an event cannot be read, now or ever: it becomes a dead letter.
///
/// The text is shown to operators and logged. It names the place, and holds no personal data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Permanent(String);

impl Permanent {
    /// For this reason.
    pub fn new(reason: impl Display) -> Self {
        Self(reason.to_string())
    }
}

impl From<Permanent> for Failure {
    fn from(permanent: Permanent) -> Self {
        Self::Permanent(permanent.0)
    }
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
