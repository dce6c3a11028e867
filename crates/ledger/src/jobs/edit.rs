//! Edit and retry: an event with another body is sent in place of a dead letter.
//!
//! ```text
//! edit ──▶ one transaction: claim the original ▸ close its letter ▸ record the new event ▸ make the job that sends it
//! ```
//!
//! Promises that the consumer gets the effect of the original or of the new event, and never of both, whatever else sends the
//! original: the claim stands in the inbox where the consumer would have put its own. The new event has an id of its own, names
//! the original in `replayof`, and is sent by a job as any recorded event, however often a console ends meanwhile. The original
//! event stays as it is.

use std::sync::Arc;

use bytes::Bytes;
use consumer::{Bindings, Failure, Recorder, takers};
use event::{Event, EventId, header};
use store::{AnyRow, Connection, Row, Store, StoreError, Tx, inbox, optional_id};

use super::resend::first_message;
use super::selection::{Letter, letter};
use super::{Action, Job, JobError, NewJob, StillUnusable, What, table};
use crate::predicates::{dead_at, handled, open_letter, pending_at};
use crate::record::Events;
use store::many::{Value, fetch};

/// What an operator wants sent in place of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEdit {
    /// The event that the letter is of.
    pub event_id: EventId,
    /// The consumer that gave it up.
    pub consumer: String,
    /// The body to send.
    pub body: Bytes,
    /// Why; kept with the job.
    pub reason: String,
    /// Whether all consumers of the topic get it, and not only the one that gave up.
    pub to_all: bool,
    /// Who asks.
    pub requested_by: String,
}

/// Reads an event with its new body as its sender's contract and these consumers would, and gives it with what was read of
/// that body; or says why it cannot be used.
pub type CheckEdit = Arc<dyn Fn(Event, &[&str]) -> Result<Event, StillUnusable> + Send + Sync>;

/// Why a dead letter is not edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// This consumer has not given up such an event.
    #[error("no consumer {consumer} gave up on the event {event_id}")]
    NoLetter {
        /// The event asked for.
        event_id: EventId,
        /// The consumer asked for.
        consumer: String,
    },
    /// The letter is not open, for this reason.
    #[error("{0}")]
    Closed(String),
    /// It asks for something that cannot be.
    #[error("{0}")]
    Unfit(String),
    /// The request to the database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<JobError> for EditError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Unfit(text) => Self::Unfit(text),
            JobError::Store(error) => Self::Store(error),
        }
    }
}

/// An edit that can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedEdit {
    /// The body of the dead letter.
    pub original: Bytes,
    /// What will be sent, under an id that is not its own yet.
    pub event: Event,
    /// The consumers whose letters are closed.
    letters: Vec<String>,
}

const CHANGED: &str = "the dead letter has changed meanwhile; look at it again";

const COLUMNS: &str = "s.event_id, s.consumer, s.topic, s.content_type, s.headers, s.body, s.replaced_by, s.resent_in, \
     s.discarded_in";

/// What edits are done with. Clones share it.
#[derive(Clone)]
pub struct Editor {
    /// Where the letters are.
    pub store: Store,
    /// The bindings of all consumers that handle events.
    pub consumers: Vec<Bindings>,
    /// Reads an edited event.
    pub check: CheckEdit,
}

impl Editor {
    /// Checks an edit without doing it.
    pub async fn check(&self, new: &NewEdit) -> Result<CheckedEdit, EditError> {
        let letter = open_letter_of(&mut *self.store.read().await?, new).await?;
        new.job(EventId::generate()).check_texts()?;
        if new.reason.trim().is_empty() {
            return Err(EditError::Unfit("reason: say why the body is edited".to_owned()));
        }
        let consumer = new.consumer.as_str();
        if !self.consumers.iter().any(|one| one.consumer == consumer) {
            return Err(EditError::Unfit(format!(
                "{consumer} is not a consumer of malote: what another service would read is not known. Discard its letter, and \
                 send the corrected event from there"
            )));
        }
        let original: Bytes = letter.body.clone().into();
        if original == new.body {
            return Err(EditError::Unfit(
                "body: it is that of the dead letter; `malote dead retry` sends it as it is".to_owned(),
            ));
        }
        let event = Event::from_message(&first_message(&letter)).map_err(|malformed| {
            EditError::Unfit(format!("the message is not an event of malote's: {malformed}"))
        })?;
        let topic = event.topic.clone();
        let replay_of = Some(event.replay_of.unwrap_or(event.id));
        let event = Event { replay_of, data: new.body.clone(), ..event };
        let all: Vec<&str> = takers(&self.consumers, &event.source.provider, &event.topic).collect();
        let read_by = if new.to_all { &all[..] } else { &[consumer][..] };
        let event = (self.check)(event, read_by).map_err(|error| EditError::Unfit(error.to_string()))?;
        if event.topic != topic {
            return Err(EditError::Unfit(format!(
                "body: its topic is {}, and that of the dead letter {topic}; an edit keeps the topic",
                event.topic
            )));
        }
        let letters = match new.to_all {
            true => open_letters(&mut *self.store.read().await?, new).await?,
            false => vec![consumer.to_owned()],
        };
        Ok(CheckedEdit { original, event, letters })
    }

    /// Closes the letter, and has the edited event sent in its place. Of two edits of a letter one is done; the other is told so.
    pub async fn edit(&self, new: &NewEdit) -> Result<Job, EditError> {
        let CheckedEdit { event, letters, .. } = self.check(new).await?;
        let job = EventId::generate();
        // Before the millisecond of the job: what is as old as the job is none of its rows.
        let before = job.milliseconds().saturating_sub(1);
        let id = EventId::from_parts(before, [&job.as_bytes()[..], &new.event_id.as_bytes()[..]]);
        let mut tx = self.store.begin().await?;
        for consumer in &letters {
            if !close(&mut tx, new.event_id, consumer, job, id).await? {
                drop(tx);
                let late = NewEdit { consumer: consumer.clone(), ..new.clone() };
                open_letter_of(&mut *self.store.read().await?, &late).await?;
                return Err(EditError::Closed(CHANGED.to_owned()));
            }
        }
        let mut message = Event { id, traceparent: None, ..event }.into_message();
        if !new.to_all {
            message.headers.insert(header::TO_CONSUMER.to_owned(), new.consumer.as_str().into());
        }
        let recorder = Events { consumers: self.consumers.clone() };
        recorder.record(&[&message], &mut tx).await.map_err(|failure| match failure {
            Failure::Store(error) => EditError::Store(error),
            Failure::Transient(text) | Failure::Permanent(text) => EditError::Unfit(text),
        })?;
        let asked = new.job(id);
        let job = table::insert(&mut tx, &asked, job, 1, asked.filter.to_string()).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(job)
    }
}

impl NewEdit {
    /// The job that sends the event with this id.
    fn job(&self, id: EventId) -> NewJob {
        NewJob {
            filter: serde_json::json!({ "id": id }),
            to_consumer: (!self.to_all).then(|| self.consumer.clone()),
            reason: Some(self.reason.trim().to_owned()),
            requested_by: self.requested_by.clone(),
            ..NewJob::new(Action::Replay, What::Events)
        }
    }
}

/// The letter, if it is open; else why it is not.
async fn open_letter_of(connection: &mut Connection, new: &NewEdit) -> Result<Letter, EditError> {
    let flag = |condition: String| format!("CAST(CASE WHEN {condition} THEN 1 ELSE 0 END AS BIGINT)");
    let text = format!(
        "SELECT {COLUMNS}, {} AS is_dead, {} AS is_handled FROM dead_letters s \
         WHERE s.event_id = $1 AND s.consumer = $2",
        flag(dead_at("s")),
        flag(handled("s"))
    );
    let rows = fetch(connection, text, [Value::from(new.event_id), Value::from(&new.consumer)]).await?;
    let Some(row) = rows.first() else {
        return Err(EditError::NoLetter { event_id: new.event_id, consumer: new.consumer.clone() });
    };
    if row.try_get::<i64, _>("is_dead").map_err(StoreError::from)? != 0 {
        return Ok(letter(row)?);
    }
    Err(EditError::Closed(why_closed(row)?))
}

fn why_closed(row: &AnyRow) -> Result<String, StoreError> {
    let job = |column| row.try_get::<Option<String>, _>(column);
    let is_handled: i64 = row.try_get("is_handled")?;
    Ok(match (optional_id(row, "replaced_by")?, job("discarded_in")?, job("resent_in")?) {
        (Some(event), Some(job), _) => {
            format!("the event {event} was sent in its place by the job {job}; the dead letter is closed")
        }
        (Some(event), None, _) => {
            format!("the event {event} was sent in its place; the dead letter is closed")
        }
        _ if is_handled != 0 => "its consumer has handled the event meanwhile".to_owned(),
        (None, Some(job), _) => format!("the job {job} has discarded the dead letter"),
        (None, None, Some(job)) => format!("the job {job} has sent it again; wait for its outcome"),
        (None, None, None) => CHANGED.to_owned(),
    })
}

/// The consumers of all open letters of the event. While another consumer has the event before it, the edited one would come
/// as a second.
async fn open_letters(connection: &mut Connection, new: &NewEdit) -> Result<Vec<String>, EditError> {
    let mut names = async |text: String| -> Result<Vec<String>, StoreError> {
        let rows = fetch(connection, text, [Value::from(new.event_id)]).await?;
        rows.iter().map(|row| Ok(row.try_get("consumer")?)).collect()
    };
    let letters = names(format!(
        "SELECT s.consumer FROM dead_letters s WHERE s.event_id = $1 AND {} ORDER BY s.consumer",
        dead_at("s")
    ))
    .await?;
    let pending = names(format!(
        "SELECT s.consumer FROM unsettled_events s WHERE s.event_id = $1 AND {} ORDER BY s.consumer",
        pending_at("s")
    ))
    .await?;
    match pending.iter().find(|name| !letters.contains(name)) {
        Some(name) => Err(EditError::Unfit(format!(
            "to_all: the original is still pending at {name}; wait, or send the edited event to {} only",
            new.consumer
        ))),
        None => Ok(letters),
    }
}

/// Claims the original for its consumer and closes the letter. False if another was faster.
async fn close(
    tx: &mut Tx,
    event_id: EventId,
    consumer: &str,
    job: EventId,
    replaced_by: EventId,
) -> Result<bool, StoreError> {
    if inbox::claim(tx, consumer, &[event_id], event::now()).await?.is_empty() {
        return Ok(false);
    }
    let text = format!("replaced by {replaced_by}, which has another body");
    inbox::note(tx, consumer, &[inbox::Note { event_id, text }]).await?;
    let text = format!(
        "UPDATE dead_letters SET replaced_by = $3, discarded_in = $4 \
         WHERE event_id = $1 AND consumer = $2 AND {} RETURNING consumer",
        open_letter("dead_letters")
    );
    let values =
        vec![Value::from(event_id), Value::from(consumer), Value::from(replaced_by), Value::from(&job)];
    Ok(!fetch(tx, text, values).await?.is_empty())
}
