//! Jobs: operations on many recorded rows. They replay events; retry or discard dead letters, rejected bodies and
//! unrouted events; have documents fetched; and reconcile a day.
//!
//! ```text
//! ask ──▶ job (counted) ──▶ runner: choose the next rows ▸ publish, confirmed ▸ commit marks and progress ──▶ done
//!                              └─(killed in between)──▶ the same rows again, under the same ids
//! ```
//!
//! A job processes the rows that existed when it was created, oldest first, and stays on record: who requested what,
//! when, and how many rows. Its messages carry its id ([`event::header::JOB`]). A replayed event keeps its id, so that
//! only consumers act that have not handled it; with `again` it gets a new id, derived from those of the job and the
//! event, and every consumer acts once more. The order of the messages is not defined.

mod edit;
mod outcome;
mod reconciling;
mod resend;
mod runner;
mod selection;
mod table;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use event::{Day, Event, EventId, ProviderName, Timestamp, Zone};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::StoreError;
use utoipa::ToSchema;

pub use edit::{CheckEdit, CheckedEdit, EditError, Editor, NewEdit};
pub use outcome::{JobOutcome, outcome};
pub use runner::Runner;
pub use selection::RejectedBody;
pub use table::{JobFilter, cancel, count, create, pause, resume, show};

/// A rejected body that can be used after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The event that it is.
    pub event: Event,
    /// What identifies its fact among the source's, and for how many seconds others with this key repeat it.
    pub duplicate_key: Option<(String, i64)>,
}

/// Reads a rejected body once more: as the events that it holds, of which the first has its id; or says why it still cannot be
/// used.
pub type Reread = Arc<dyn Fn(&RejectedBody) -> Result<Vec<Accepted>, StillUnusable> + Send + Sync>;

/// Why a rejected body still cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StillUnusable {
    /// The record names no sender.
    #[error("it is not known which source sent it")]
    UnknownSource,
    /// Its sender is not configured.
    #[error("no source {0} is configured any more")]
    NoSource(String),
    /// The kind of its sender is not configured.
    #[error("no provider {0}")]
    NoProvider(ProviderName),
    /// What is wrong with the body, as the provider's contract has it.
    #[error(transparent)]
    Body(Box<dyn Error + Send + Sync>),
    /// What is wrong with it for a consumer.
    #[error("{consumer}: {reason}")]
    Consumer {
        /// Who would not handle it.
        consumer: &'static str,
        /// What its handler says.
        reason: consumer::Permanent,
    },
}

/// Has the documents that these events name fetched now. Gives how many of the events name any.
pub type Fetch = Arc<dyn Fn(Vec<Event>) -> BoxFuture<'static, Result<usize, StoreError>> + Send + Sync>;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sends recorded events again, whatever their outcome.
    Replay,
    /// What is open is sent again.
    Retry,
    /// Closes open entries without a retry.
    Discard,
    /// Has the documents that events name fetched now, also those that were fetched before.
    Fetch,
    /// Compares the two sides of the books for a day; `filter` is `{"day": "2026-11-24"}`, `today` or `yesterday`.
    Reconcile,
}

/// What it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Accepted events.
    Events,
    /// Dead letters.
    Dead,
    /// Rejected bodies.
    Rejected,
    /// Events whose topic no queue is bound to.
    Unrouted,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// No console works on it yet.
    Waiting,
    /// A console works on it, or will go on.
    Running,
    /// It has processed all rows.
    Done,
    /// An operator stopped it; it goes on when it is resumed.
    Paused,
    /// An operator ended it.
    Cancelled,
    /// It cannot be done.
    Failed,
}

macro_rules! displayed_by_name {
    ($($name:ident),*) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&table::word(self))
            }
        })*
    };
}

displayed_by_name!(Action, What, JobState);

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// What is done.
    pub action: Action,
    /// What it is done to.
    pub what: What,
    /// Which rows: the parameters of the list.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub filter: Value,
    /// Of a replay: the one consumer it is for; all by default.
    #[serde(default)]
    pub to_consumer: Option<String>,
    /// Of a replay: consumers that have handled the event handle it once more.
    #[serde(default)]
    pub again: bool,
    /// The maximum number of rows per second.
    #[serde(default)]
    pub rate: Option<u32>,
    /// The maximum number of rows, the oldest first; all by default.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Of a discard: why.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who asks: the API says it, whatever is here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub requested_by: String,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// A job as it is on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id, in header `malote_job` of what it sends.
    pub id: String,
    /// What is done.
    pub action: Action,
    /// What it is done to.
    pub what: What,
    /// Which rows.
    #[schema(value_type = Object)]
    pub filter: Value,
    /// The one consumer it is for.
    pub to_consumer: Option<String>,
    /// Whether consumers that have handled an event handle it once more.
    pub again: bool,
    /// The maximum number of rows per second.
    pub rate: Option<u32>,
    /// The maximum number of rows.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Why rows are discarded.
    pub reason: Option<String>,
    /// Who asked.
    pub requested_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    /// Where it is.
    pub state: JobState,
    /// How many rows matched when it was created; of a reconciliation, how many events the ingresses counted, or how
    /// many it processed if that is more.
    pub total: i64,
    /// How many it has processed.
    pub progress: i64,
    /// How many of those were sent or discarded; the others could not be, see `trouble`.
    pub sent: i64,
    /// What it waits for, why it failed, or why rows were not sent.
    pub trouble: String,
    /// When work began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The key of the last processed row.
    #[serde(skip)]
    resume_after: String,
}

/// The filter of a reconciliation.
#[derive(Deserialize)]
struct DayFilter {
    day: Option<String>,
}

impl Job {
    /// What it does, in a few words: `retry dead source=main`.
    pub fn summary(&self) -> String {
        let mut text = format!("{} {}", self.action, self.what);
        for (name, value) in self.filter.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text += &format!(" {name}={value}");
        }
        if let Some(consumer) = &self.to_consumer {
            text += &format!(" to {consumer}");
        }
        if self.again {
            text += " again";
        }
        if let Some(limit) = self.limit {
            text += &format!(" at most {limit}");
        }
        text
    }

    /// How many rows it may still process.
    fn rows_left(&self) -> u32 {
        let left = |limit: u32| u32::try_from(i64::from(limit) - self.progress).unwrap_or(0);
        self.limit.map_or(u32::MAX, left)
    }

    /// Of a reconciliation.
    fn day(&self) -> Day {
        let day = self.filter["day"].as_str().map(str::parse);
        day.and_then(Result::ok).expect("a reconciliation is made with a day")
    }

    fn id(&self) -> EventId {
        self.id.parse().expect("the table holds the ids it was given")
    }
}

/// The most characters of a reason and of who asks.
const TEXT_LIMIT_CHARS: usize = 200;

/// Why a job is not made.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It asks for something that cannot be.
    #[error("{0}")]
    Unfit(String),
    /// The request to the database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NewJob {
    /// A job of all rows, at any rate.
    pub fn new(action: Action, what: What) -> Self {
        Self {
            action,
            what,
            filter: Value::Object(serde_json::Map::new()),
            to_consumer: None,
            again: false,
            rate: None,
            limit: None,
            reason: None,
            requested_by: String::new(),
            dry_run: false,
        }
    }

    /// What is wrong with it, as far as that shows before rows are looked for.
    pub fn check(&self, consumers: &[&str]) -> Result<(), JobError> {
        let wrong = |text: String| Err(JobError::Unfit(text));
        match (self.action, self.what) {
            (Action::Replay | Action::Reconcile | Action::Fetch, What::Events)
            | (Action::Retry | Action::Discard, What::Dead | What::Rejected | What::Unrouted) => {}
            (Action::Replay, _) => {
                return wrong("what: only events are replayed; retry takes the others".into());
            }
            (Action::Reconcile, _) => return wrong("what: events are reconciled".into()),
            (Action::Fetch, _) => return wrong("what: the documents of events are fetched".into()),
            (Action::Retry | Action::Discard, What::Events) => {
                return wrong("what: expected dead, rejected or unrouted; events are replayed".into());
            }
        }
        if self.action != Action::Replay && (self.again || self.to_consumer.is_some()) {
            return wrong("again and to_consumer go with replay only".into());
        }
        if let Some(name) = self.to_consumer.as_deref().filter(|name| !consumers.contains(name)) {
            let meant = event::nearest(name, consumers.iter().copied());
            let meant = meant.map(|meant| format!("did you mean {meant:?}? ")).unwrap_or_default();
            return wrong(format!(
                "to_consumer: there is no consumer {name:?}; {meant}expected one of {}",
                consumers.join(", ")
            ));
        }
        if self.action == Action::Reconcile && self.rate.is_some() {
            return wrong("rate: goes with what is sent or discarded only".into());
        }
        if self.action == Action::Reconcile && self.limit.is_some() {
            return wrong("limit: a day is reconciled whole".into());
        }
        if self.limit == Some(0) {
            return wrong("limit: expected a number of at least 1, of rows".into());
        }
        if self.rate == Some(0) {
            return wrong("rate: expected a number of at least 1, of rows per second".into());
        }
        let reason = self.reason.as_deref().map_or("", str::trim);
        match (self.action, reason.is_empty()) {
            (Action::Discard, true) => return wrong("reason: say why the rows are discarded".into()),
            (Action::Discard, false) | (_, true) => {}
            (_, false) => return wrong("reason: goes with discard only".into()),
        }
        self.check_texts()?;
        match self.action {
            Action::Reconcile => self.day(&Zone::default()).map(drop),
            Action::Replay | Action::Retry | Action::Discard | Action::Fetch => {
                selection::Selection::new(self.what, &self.filter).map(drop)
            }
        }
    }

    /// What is wrong with the reason, or with who asks.
    fn check_texts(&self) -> Result<(), JobError> {
        let reason = self.reason.as_deref().map_or("", str::trim);
        for (name, text) in [("requested_by", self.requested_by.as_str()), ("reason", reason)] {
            if text.chars().count() > TEXT_LIMIT_CHARS || text.contains('\0') {
                let text = format!("{name}: expected at most {TEXT_LIMIT_CHARS} characters, and no NUL");
                return Err(JobError::Unfit(text));
            }
        }
        if self.requested_by.trim().is_empty() {
            return Err(JobError::Unfit("requested_by: missing; name who requests the job".to_owned()));
        }
        Ok(())
    }

    /// How many of so many rows it processes.
    fn at_most(&self, rows: i64) -> i64 {
        self.limit.map_or(rows, |limit| rows.min(limit.into()))
    }

    /// The day to reconcile; today if none is given.
    fn day(&self, zone: &Zone) -> Result<Day, JobError> {
        let DayFilter { day } = selection::filter(&self.filter, &["day"])?;
        let today = zone.day(event::now());
        match day.as_deref() {
            None | Some("today") => Ok(today),
            Some("yesterday") => Ok(today.minus(1)),
            Some(day) => day
                .parse()
                .map_err(|error| JobError::Unfit(format!("filter.day: {error}; or today, or yesterday"))),
        }
    }
}
