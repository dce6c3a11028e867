//! What a domain implements.

use std::any::Any;
use std::fmt::Display;

use async_trait::async_trait;
use broker::QueueName;
use event::{Event, Message};
use store::{StoreError, Tx};

use crate::Announcement;

/// Writes the effects of events: each event is read on its own, then the facts of many are written together.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// What an event says.
    type Fact: Send + Sync + 'static;

    /// Reads one event. Uses neither the database nor the clock: the same event gives the same fact. An event that
    /// cannot be read is set aside alone and becomes a dead letter, unless it was handled before.
    fn read(&self, event: &Event) -> Result<Self::Fact, Permanent>;

    /// What `read` left out of the fact, for operators; stored beside the event's claim in the inbox. Names places in
    /// the body and quotes nothing.
    fn note(&self, _fact: &Self::Fact) -> Option<String> {
        None
    }

    /// Writes the effects of all the facts into the transaction, and only there. The runtime commits; after an error it
    /// rolls back and retries the batch in halves. An event is in one committed call only; after a rollback it may come
    /// again. The order of events is not defined, neither across calls nor within one: an older fact must not overwrite
    /// a newer one. No call has an event twice.
    ///
    /// Returns the domain events that these effects amount to, those of one subject in their order: one for each real change,
    /// and none where the facts change nothing. The runtime writes them into the transaction.
    async fn write(&self, facts: &[(&Event, &Self::Fact)], tx: &mut Tx)
    -> Result<Vec<Announcement>, Failure>;
}

/// Observes events that were handled.
pub trait Observer: Send + Sync + 'static {
    /// Called after the transaction with the effects of these events is committed, and before they are acked. Includes
    /// events that the consumer had handled before and that are delivered again. Returns at once.
    fn observe(&self, events: &[&Event]);
}

/// A fact whose type the runtime does not know.
pub(crate) type AnyFact = Box<dyn Any + Send + Sync>;

/// A [`Handler`] of facts of any type.
#[async_trait]
pub(crate) trait AnyHandler: Send + Sync {
    fn read(&self, event: &Event) -> Result<AnyFact, Permanent>;
    fn note(&self, fact: &AnyFact) -> Option<String>;
    async fn write(&self, facts: &[(&Event, &AnyFact)], tx: &mut Tx) -> Result<Vec<Announcement>, Failure>;
}

#[async_trait]
impl<H: Handler> AnyHandler for H {
    fn read(&self, event: &Event) -> Result<AnyFact, Permanent> {
        Ok(Box::new(Handler::read(self, event)?))
    }

    fn note(&self, fact: &AnyFact) -> Option<String> {
        Handler::note(self, typed::<H>(fact))
    }

    async fn write(&self, facts: &[(&Event, &AnyFact)], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
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
    /// Reads all messages, without the database: no transaction is kept open for it. After an error each is tried alone.
    fn read<'a>(&'a self, messages: &[&'a Message]) -> Result<Box<dyn Recording + 'a>, Failure>;

    /// Reads all messages and writes them into the transaction.
    async fn record(&self, messages: &[&Message], tx: &mut Tx) -> Result<(), Failure> {
        self.read(messages)?.write(tx).await
    }

    /// Where a message goes instead of being recorded. The runtime publishes it, waits for the confirm, and acks the
    /// original; a crash in between sends it twice.
    fn forward(&self, _message: &Message) -> Option<Forward> {
        None
    }
}

/// Messages that a [`Recorder`] has read.
#[async_trait]
pub trait Recording: Send {
    /// Writes all of them into the transaction. After an error each message is tried alone.
    async fn write(self: Box<Self>, tx: &mut Tx) -> Result<(), Failure>;
}

/// A message that belongs in another queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The queue. If it does not exist, the message becomes a dead letter.
    pub queue: QueueName,
    /// The message to publish there.
    pub message: Message,
}

/// Why an event can never be read: it becomes a dead letter.
///
/// The text is shown to operators and logged. It names the place and contains no personal data.
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
/// The text is shown to operators and logged. It names the place and contains no personal data.
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
