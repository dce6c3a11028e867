//! The walk through a day: table by table, one range of ids at a time, each range with a few statements.
//!
//! A [`Walk`] is a value that is stored after every step, together with the differences found in it: the console that
//! takes the job next continues there. Memory and statements are bounded by [`RANGE_ROWS`], not by the day.
//!
//! When an event is in no queue: queues do not show their contents, so [`Walk::begin`] infers, for each consumer, up to
//! which time of receipt a pending event can no longer be in flight. All of these must hold:
//!
//! - It was received more than [`IN_HAND_SECONDS`] ago, so that no consumer holds it.
//! - The queue of the consumer is empty, or the consumer has handled an event received [`IN_HAND_SECONDS`] later:
//!   queues are first in, first out.
//! - No retry queue holds anything, or the event is older than all waits of its consumer together.
//! - It has no open or discarded dead letter there, and no other job is running or ended recently: what a job sends is
//!   in flight, however old it is.
//!
//! A wrong inference is harmless: the event is sent under the same id, and its effect happens once.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::FixedQueue;
use broker::layout::{Layout, RetryDelay};
use event::{Day, EventId, Timestamp, Zone};
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{AnyRow, Connection, Row, StoreError, id, id_bound, optional_id};

use super::{Difference, Reconciliation, SourceBooks};
use crate::EventState;
use crate::events::{CLOCK_SLACK_SECONDS, WITH_ORIGIN, id_at};
use crate::origins::booked_source;
use crate::predicates::{
    Predicate, dead, discarded_by_letter, discarded_by_mark, duplicate, given_up, handled_by_all, pending,
    pending_at, routed, unfinished, unrouted,
};

/// How many rows of a table a step processes.
pub(crate) const RANGE_ROWS: i64 = 5_000;

/// How long a row may be in flight before its absence elsewhere is a difference.
const GRACE_SECONDS: i64 = 60;

/// How long a consumer may hold an event.
pub(crate) const IN_HAND_SECONDS: i64 = 300;

/// How many of the newest rows of the inbox are searched for the last one of a consumer.
const LATELY_HANDLED_ROWS: i64 = 10_000;

/// The kind of difference that sending again repairs: the effect is pending on record. An unaccounted event may have
/// had its effect if the inbox was lost.
pub(crate) const IN_NO_QUEUE: &str = "pending, in no queue";

/// The next phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Start: the queues are inspected first.
    Begin,
    /// Every event, and where it is pending.
    Events,
    /// Handled events that are not on record.
    Inbox,
    /// Dead letters whose event is not on record.
    Dead,
    /// Unrouted events that are not on record.
    Unrouted,
    /// Rejected bodies.
    Rejected,
    /// The counts of the ingresses, compared with the record.
    Sources,
    /// Events in no queue are sent again.
    Repair,
    /// Waits for what was sent again.
    Settle,
    /// Deletes the findings of earlier passes.
    Tidy,
    /// Done.
    Over,
}

/// A running reconciliation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Walk {
    day: String,
    zone: String,
    /// Start and end of the day, in microseconds.
    from: i64,
    to: i64,
    pass: i64,
    pub(crate) phase: Phase,
    /// The last id processed in this phase.
    pub(crate) after: String,
    /// Messages in each queue that was not empty when the pass began.
    waiting: BTreeMap<String, u64>,
    /// For each consumer the id before which no pending event is in a queue, or nothing if that is unknown; under the
    /// empty name for consumers that no longer exist.
    in_no_queue_before: BTreeMap<String, String>,
    books: BTreeMap<String, SourceBooks>,
    /// Why the queue of a consumer refused what was sent again.
    #[serde(default)]
    pub(crate) refused: BTreeMap<String, String>,
    /// How many events this pass has processed.
    pub(crate) events: i64,
    differences: i64,
    pub(crate) sent: i64,
    /// Until when to wait for what was sent, in microseconds.
    pub(crate) settle_until: i64,
}

/// The result of a step.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) differences: Vec<Difference>,
    /// How many events it processed.
    pub(crate) events: i64,
}

/// What is counted in the place of a state: an event without evidence of one, and a replay.
const UNACCOUNTED: &str = "unaccounted";
const REPLAYED: &str = "replayed";

/// The outcome of the event in `e`: the first state with evidence.
pub(crate) fn state() -> String {
    let evidence: [(Predicate, EventState); 8] = [
        (duplicate, EventState::Duplicate),
        (unrouted, EventState::Unrouted),
        (dead, EventState::Dead),
        (pending, EventState::Pending),
        (discarded_by_mark, EventState::Discarded),
        (discarded_by_letter, EventState::Discarded),
        (routed, EventState::Routed),
        (handled_by_all, EventState::Handled),
    ];
    let whens = evidence.map(|(predicate, state)| format!("WHEN {} THEN '{}'", predicate("e"), state.name()));
    format!("CASE {} ELSE '{UNACCOUNTED}' END", whens.join(" "))
}

/// The last id of a range between two ids, both exclusive; no row if fewer are left.
pub(crate) fn last_of_range(table: &str, id: &str) -> String {
    let before = RANGE_ROWS - 1;
    format!("SELECT {id} FROM {table} WHERE {id} > $1 AND {id} < $2 ORDER BY {id} LIMIT 1 OFFSET {before}")
}

pub(crate) fn count_states() -> String {
    let (state, source) = (state(), booked_source());
    format!(
        "SELECT source, state, count(*) AS count FROM (SELECT {source} AS source, \
         CASE WHEN e.replay_of IS NOT NULL THEN '{REPLAYED}' ELSE {state} END AS state FROM {WITH_ORIGIN} \
         AND {IN_RANGE}) AS states GROUP BY source, state"
    )
}

pub(crate) fn find_unaccounted() -> String {
    let (state, source) = (state(), booked_source());
    format!(
        "SELECT {source} AS source, e.id AS event_id, e.consumers AS consumer FROM {WITH_ORIGIN} \
         AND {IN_RANGE} AND e.replay_of IS NULL AND {state} = '{UNACCOUNTED}' ORDER BY e.id"
    )
}

/// Rows of a table about events that are not on record.
pub(crate) fn find_unrecorded(table: &str) -> String {
    let (source, consumer, condition) = match table {
        "claims" => ("NULL", "t.consumer", ""),
        // A letter without a source is not an event.
        "dead_letters" => ("t.source", "t.consumer", "AND t.source IS NOT NULL"),
        _ => ("(SELECT o.source FROM origins o WHERE o.id = t.origin)", "NULL", ""),
    };
    // The bounds are repeated for the events: otherwise a plan may read all of them.
    format!(
        "SELECT CAST({source} AS TEXT) AS source, t.event_id AS event_id, CAST({consumer} AS TEXT) AS consumer \
         FROM {table} t WHERE t.event_id > $1 AND t.event_id <= $2 {condition} AND NOT EXISTS \
         (SELECT 1 FROM events e WHERE e.id = t.event_id AND e.id > $1 AND e.id <= $2) ORDER BY t.event_id"
    )
}

const IN_RANGE: &str = "e.id > $1 AND e.id <= $2 AND e.received_at >= $3 AND e.received_at < $4";

/// The stored walk of a job.
pub(crate) async fn load(connection: &mut Connection, job: &str) -> Result<Option<Walk>, StoreError> {
    let text = "SELECT walk FROM reconciliation WHERE job_id = $1".to_owned();
    let rows = fetch(connection, text, [Value::from(job)]).await?;
    let walk = |row: &AnyRow| {
        let text: String = row.try_get(0)?;
        Ok(serde_json::from_str(&text).expect("the table holds the walks it was given"))
    };
    rows.first().map(walk).transpose()
}

fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MAX)
}

impl Walk {
    /// The walk through a day of the configured zone. A day that the ingresses counted only in another zone belongs to
    /// that one, such as days before the zone was changed.
    pub(crate) async fn new(connection: &mut Connection, day: Day, zone: &Zone) -> Result<Self, StoreError> {
        let text = "SELECT DISTINCT zone FROM tally WHERE day = $1 ORDER BY zone".to_owned();
        let rows = fetch(connection, text, [Value::from(&day)]).await?;
        let zones = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        let counted = match zones.iter().any(|name| name == zone.name()) {
            true => None,
            false => zones.iter().find_map(|name| Zone::new(name).ok()),
        };
        let zone = counted.as_ref().unwrap_or(zone);
        let bounds = zone.bounds(day);
        Ok(Self {
            day: day.to_string(),
            zone: zone.name().to_owned(),
            from: bounds.start.as_microsecond(),
            to: bounds.end.as_microsecond(),
            pass: 1,
            phase: Phase::Begin,
            after: String::new(),
            waiting: BTreeMap::new(),
            in_no_queue_before: BTreeMap::new(),
            books: BTreeMap::new(),
            refused: BTreeMap::new(),
            events: 0,
            differences: 0,
            sent: 0,
            settle_until: 0,
        })
    }

    pub(crate) fn pass(&self) -> i64 {
        self.pass
    }

    pub(crate) fn differences(&self) -> i64 {
        self.differences
    }

    /// Starts again from the beginning of the day.
    pub(crate) fn again(&mut self) {
        self.pass += 1;
        self.enter(Phase::Begin);
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.after.clear();
    }

    pub(crate) fn into_books(self) -> Reconciliation {
        let mut sources: Vec<SourceBooks> = self.books.into_values().collect();
        // Domain events come after what was posted.
        sources.sort_by_key(|books| books.source.starts_with('/'));
        Reconciliation {
            day: self.day,
            zone: self.zone,
            balanced: self.phase == Phase::Over && self.differences == 0,
            sources,
            differences: self.differences,
            sent: self.sent,
            waiting: self.waiting,
        }
    }

    /// Begins a pass. `waiting` has the number of messages of each queue that is not empty, by its name without prefix;
    /// `waits` has each consumer with the sum of its waits.
    pub(crate) async fn begin(
        &mut self,
        connection: &mut Connection,
        waiting: BTreeMap<String, u64>,
        waits: &[(&str, Duration)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.in_no_queue_before = in_no_queue_before(connection, &waiting, waits, now).await?;
        self.waiting = waiting;
        self.books.clear();
        (self.events, self.differences) = (0, 0);
        // Read before the events: a tally arrives after the events that it counts.
        let text = "SELECT source, CAST(sum(accepted) AS BIGINT) AS accepted, CAST(sum(rejected) AS BIGINT) AS rejected \
                    FROM tally WHERE day = $1 AND zone = $2 GROUP BY source";
        let day = [Value::from(&self.day), Value::from(&self.zone)];
        for row in fetch(connection, text.to_owned(), day).await? {
            let books = self.books_of(row.try_get("source")?);
            books.counted_accepted = row.try_get("accepted")?;
            books.counted_rejected = row.try_get("rejected")?;
        }
        self.enter(Phase::Events);
        Ok(())
    }

    fn books_of(&mut self, source: String) -> &mut SourceBooks {
        self.books.entry(source.clone()).or_insert_with(|| SourceBooks { source, ..SourceBooks::default() })
    }

    /// Processes the next range.
    pub(crate) async fn step(
        &mut self,
        connection: &mut Connection,
        now: Timestamp,
    ) -> Result<Found, StoreError> {
        let found = match self.phase {
            Phase::Events => self.events(connection).await?,
            Phase::Inbox => self.not_recorded(connection, now, "claims", Phase::Dead).await?,
            Phase::Dead => self.not_recorded(connection, now, "dead_letters", Phase::Unrouted).await?,
            Phase::Unrouted => self.not_recorded(connection, now, "unrouted_events", Phase::Rejected).await?,
            Phase::Rejected => self.rejected(connection).await?,
            Phase::Sources => {
                let missing = |books| missing(books, &self.waiting);
                let differences = self.books.values().flat_map(missing).collect();
                self.enter(Phase::Repair);
                Found { differences, events: 0 }
            }
            Phase::Begin | Phase::Repair | Phase::Settle | Phase::Tidy | Phase::Over => Found::default(),
        };
        self.events += found.events;
        self.differences += i64::try_from(found.differences.len()).unwrap_or(i64::MAX);
        Ok(found)
    }

    /// The next range of a table within `start` and `end`: the id after which it begins, and its last id. Advances
    /// behind it, and after the last one to the phase `next`.
    async fn range(
        &mut self,
        connection: &mut Connection,
        (table, column): (&str, &str),
        (start, end): (String, String),
        next: Phase,
    ) -> Result<[Value; 2], StoreError> {
        let after = if self.after.is_empty() { start } else { std::mem::take(&mut self.after) };
        let rows =
            fetch(connection, last_of_range(table, column), [id_bound(&after), id_bound(&end)]).await?;
        let upper = match rows.first() {
            Some(row) => {
                self.after = id(row, 0)?.to_string();
                self.after.clone()
            }
            None => {
                self.enter(next);
                end
            }
        };
        Ok([id_bound(&after), id_bound(&upper)])
    }

    async fn received(
        &mut self,
        connection: &mut Connection,
        table: &str,
        next: Phase,
    ) -> Result<Vec<Value>, StoreError> {
        let ids = (id_at(time(self.from), -CLOCK_SLACK_SECONDS), id_at(time(self.to), CLOCK_SLACK_SECONDS));
        let [after, upper] = self.range(connection, (table, "id"), ids, next).await?;
        Ok(vec![after, upper, Value::from(self.from), Value::from(self.to)])
    }

    async fn events(&mut self, connection: &mut Connection) -> Result<Found, StoreError> {
        // The ledger may not have read the event yet.
        let next =
            if self.waiting.contains_key(FixedQueue::Ledger.name()) { Phase::Rejected } else { Phase::Inbox };
        let range = self.received(connection, "events", next).await?;
        let mut found = Found::default();
        let mut has_unaccounted = false;
        for row in fetch(connection, count_states(), range.clone()).await? {
            let (state, count): (String, i64) = (row.try_get("state")?, row.try_get("count")?);
            found.events += count;
            let books = self.books_of(row.try_get("source")?);
            let column = match EventState::named(&state) {
                None if state == REPLAYED => {
                    books.replayed += count;
                    continue;
                }
                Some(EventState::Duplicate) => &mut books.duplicate,
                Some(EventState::Unrouted) => &mut books.unrouted,
                Some(EventState::Dead) => &mut books.dead,
                Some(EventState::Pending) => &mut books.pending,
                Some(EventState::Discarded) => &mut books.discarded,
                Some(EventState::Handled) => &mut books.handled,
                Some(EventState::Routed) => &mut books.routed,
                None => {
                    has_unaccounted = true;
                    &mut books.unaccounted
                }
            };
            *column += count;
            books.received += count;
        }
        if has_unaccounted {
            unaccounted(connection, &range, &mut found.differences).await?;
        }
        self.in_no_queue(connection, range, &mut found.differences).await?;
        Ok(found)
    }

    /// Pending events that no queue can still deliver.
    async fn in_no_queue(
        &self,
        connection: &mut Connection,
        mut values: Vec<Value>,
        differences: &mut Vec<Difference>,
    ) -> Result<(), StoreError> {
        let mut bind = |value: Value| {
            values.push(value);
            format!("${}", values.len())
        };
        let mut known = Vec::new();
        let mut old = Vec::new();
        for (consumer, before) in self.in_no_queue_before.iter().filter(|(name, _)| !name.is_empty()) {
            let consumer = bind(Value::from(consumer));
            if !before.is_empty() {
                old.push(format!("(s.consumer = {consumer} AND s.event_id < {})", bind(id_bound(before))));
            }
            known.push(consumer);
        }
        if let Some(before) = self.in_no_queue_before.get("") {
            let is_gone = match known.is_empty() {
                true => String::new(),
                false => format!("s.consumer NOT IN ({}) AND ", known.join(", ")),
            };
            old.push(format!("({is_gone}s.event_id < {})", bind(id_bound(before))));
        }
        if old.is_empty() {
            return Ok(());
        }
        let text = format!(
            "SELECT (SELECT o.source FROM origins o WHERE o.id = e.origin) AS source, s.event_id AS event_id, \
             s.consumer AS consumer FROM unsettled_events s CROSS JOIN events e WHERE e.id = s.event_id AND s.event_id > $1 AND s.event_id <= $2 \
             AND {IN_RANGE} AND NOT {} AND {} AND NOT {} AND ({}) ORDER BY s.event_id, s.consumer",
            duplicate("e"),
            pending_at("s"),
            given_up("s"),
            old.join(" OR ")
        );
        for row in fetch(connection, text, values).await? {
            let consumer: String = row.try_get("consumer")?;
            let detail = match self.in_no_queue_before.contains_key(&consumer) {
                true if self.refused.contains_key(&consumer) => {
                    format!("pending, and its queue does not accept it: {}", self.refused[&consumer])
                }
                true => "pending, and in no queue: it is sent to the consumer again".to_owned(),
                false => format!(
                    "there is no consumer {consumer} any more: discard the dead letter, or replay the event to another"
                ),
            };
            differences.push(difference(IN_NO_QUEUE, &row, Some(consumer), detail)?);
        }
        Ok(())
    }

    /// Traces of an event that is not on record, although there was enough time.
    async fn not_recorded(
        &mut self,
        connection: &mut Connection,
        now: Timestamp,
        table: &str,
        next: Phase,
    ) -> Result<Found, StoreError> {
        let kind = match table {
            "claims" => "handled, not recorded",
            "dead_letters" => "dead, not recorded",
            _ => "unrouted, not recorded",
        };
        let latest = time(self.to).min(now - Duration::from_secs(GRACE_SECONDS.unsigned_abs()));
        let ids = (id_at(time(self.from), 0), id_at(latest, 0));
        let range = self.range(connection, (table, "event_id"), ids, next).await?;
        let rows = fetch(connection, find_unrecorded(table), range).await?;
        let detail = "the ledger has no such event: see the queues ledger and parked";
        let row = |row: &AnyRow| difference(kind, row, row.try_get("consumer")?, detail.to_owned());
        Ok(Found { differences: rows.iter().map(row).collect::<Result<_, _>>()?, events: 0 })
    }

    async fn rejected(&mut self, connection: &mut Connection) -> Result<Found, StoreError> {
        let range = self.received(connection, "rejected_bodies", Phase::Sources).await?;
        let text = "SELECT e.source, count(*) AS count, \
                    sum(CASE WHEN EXISTS (SELECT 1 FROM events r WHERE r.id = e.id) THEN 1 ELSE 0 END) AS resent \
                    FROM rejected_bodies e WHERE e.id > $1 AND e.id <= $2 AND e.received_at >= $3 AND e.received_at < $4 \
                    AND e.source IS NOT NULL GROUP BY e.source";
        for row in fetch(connection, text.to_owned(), range).await? {
            let (count, resent): (i64, i64) = (row.try_get("count")?, row.try_get("resent")?);
            let books = self.books_of(row.try_get("source")?);
            books.rejected += count;
            books.rejected_resent += resent;
        }
        Ok(Found::default())
    }
}

fn difference(
    kind: &str,
    row: &AnyRow,
    consumer: Option<String>,
    detail: String,
) -> Result<Difference, StoreError> {
    Ok(Difference {
        kind: kind.to_owned(),
        source: row.try_get("source")?,
        event_id: optional_id(row, "event_id")?.map(|id| id.to_string()),
        consumer,
        detail,
        sent_at: None,
    })
}

/// Events that are neither settled nor pending.
async fn unaccounted(
    connection: &mut Connection,
    range: &[Value],
    differences: &mut Vec<Difference>,
) -> Result<(), StoreError> {
    for row in fetch(connection, find_unaccounted(), range.to_vec()).await? {
        let detail = "neither handled by every consumer bound to it nor pending: replay it";
        differences.push(difference(UNACCOUNTED, &row, row.try_get("consumer")?, detail.to_owned())?);
    }
    Ok(())
}

/// For each consumer the id before which no pending event is in a queue (see the head of this file); under the empty
/// name that for consumers that no longer exist. Empty while messages of a job are in flight.
async fn in_no_queue_before(
    connection: &mut Connection,
    waiting: &BTreeMap<String, u64>,
    waits: &[(&str, Duration)],
    now: Timestamp,
) -> Result<BTreeMap<String, String>, StoreError> {
    let in_hand = Duration::from_secs(IN_HAND_SECONDS.unsigned_abs());
    // A reconciliation that sent nothing does not matter here.
    let text = format!(
        "SELECT 1 FROM jobs WHERE (action <> 'reconcile' AND {}) \
         OR (finished_at > $1 AND (action <> 'reconcile' OR sent > 0)) LIMIT 1",
        unfinished("jobs")
    );
    if !fetch(connection, text, [Value::from(now - in_hand)]).await?.is_empty() {
        return Ok(BTreeMap::new());
    }
    let is_retried = RetryDelay::ALL
        .into_iter()
        .any(|delay| waiting.contains_key(Layout::new("").retry_queue(delay).as_str()));
    let id_before = |latest: Timestamp, waits: Duration| {
        let waits = if is_retried { waits } else { Duration::ZERO };
        id_at(latest.checked_sub(waits).unwrap_or(Timestamp::UNIX_EPOCH), 0)
    };
    let default_waits = consumer::DEFAULT_RETRY.iter().map(|delay| delay.duration()).sum();
    let mut before = BTreeMap::from([(String::new(), id_before(now - in_hand, default_waits))]);
    for &(consumer, waits) in waits {
        let mut latest = Some(now - in_hand);
        if waiting.contains_key(consumer) {
            latest = last_handled(connection, consumer).await?.map(|last| latest_of(last, now) - in_hand);
        }
        let id = latest.map_or_else(String::new, |latest| id_before(latest, waits));
        before.insert(consumer.to_owned(), id);
    }
    Ok(before)
}

fn latest_of(last: EventId, now: Timestamp) -> Timestamp {
    let given =
        i64::try_from(last.milliseconds()).ok().and_then(|given| Timestamp::from_millisecond(given).ok());
    given.map_or(now, |given| given.min(now))
}

/// The event received last of those that the consumer has handled lately.
async fn last_handled(connection: &mut Connection, consumer: &str) -> Result<Option<EventId>, StoreError> {
    let text = format!(
        "SELECT lately.event_id FROM (SELECT event_id, consumer FROM claims ORDER BY event_id DESC \
         LIMIT {LATELY_HANDLED_ROWS}) AS lately WHERE lately.consumer = $1 ORDER BY lately.event_id DESC LIMIT 1"
    );
    let rows = fetch(connection, text, [Value::from(consumer)]).await?;
    rows.first().map(|row| id(row, 0)).transpose()
}

/// Answers of the ingresses without a record. A tally arrives after the events that it counts. What is recorded and not
/// counted is not a difference: a killed ingress loses its last counts.
fn missing(books: &SourceBooks, waiting: &BTreeMap<String, u64>) -> Vec<Difference> {
    let missing = |kind: &str, queue: FixedQueue, counted: i64, recorded: i64| {
        (counted > recorded && !waiting.contains_key(queue.name())).then(|| Difference {
            kind: kind.to_owned(),
            source: Some(books.source.clone()),
            event_id: None,
            consumer: None,
            detail: format!(
                "the ingresses answered {counted}, the ledger has {recorded}: {} are missing",
                counted - recorded
            ),
            sent_at: None,
        })
    };
    let accepted = books.received - books.rejected_resent;
    let events = missing("events missing", FixedQueue::Ledger, books.counted_accepted, accepted);
    let rejected = missing("rejected missing", FixedQueue::Rejected, books.counted_rejected, books.rejected);
    events.into_iter().chain(rejected).collect()
}
