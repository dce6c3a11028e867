//! Retention: settled events older than the `keep_days` of their source are deleted gradually in the background.
//!
//! A pending event, and one with an open dead letter, stays until it is handled or discarded. One that a job has sent
//! again stays while its message is in flight ([`hold`]): else its claim would be deleted, and the message would take
//! effect a second time. The tables of the domains are not touched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use event::{Day, EventId, SourceName, Timestamp, Zone};
use serde::Deserialize;
use store::many::{Value, chunks, fetch, fetch_given, insert};
use store::{Row, Store, StoreError, id, id_bound};
use tokio::time::{Instant, sleep};

use crate::events::{CLOCK_SLACK_SECONDS, id_at};
use crate::origins;
use crate::predicates::{dead, pending};
use store::time;

/// How many rows leave in one transaction.
const STEP: i64 = 256;

/// The most of the time that goes into it, as a divisor, so that others write, too.
const SHARE: u32 = 4;

/// How long an event stays after a job has sent it again: longer than a consumer that has handled it may be stopped
/// with the message in its queue. While a consumer has not handled it, it stays in any case.
const HOLD: Duration = Duration::from_secs(30 * 24 * 3_600);

/// No event is deleted at this age: `keep_days` are whole days.
const LEAST_AGE: Duration = Duration::from_secs(12 * 3_600);

/// The name that replaces the ingresses in the counts of days that are otherwise deleted: one for all, so that two
/// replicas at once count a day once.
const REST: &str = "retention";

/// How long what came in is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// In days; 0 means forever.
    pub keep_days: u32,
    /// The same for single sources.
    #[serde(skip)]
    pub sources: BTreeMap<SourceName, u32>,
    /// The time zone of the days.
    #[serde(skip)]
    pub zone: Zone,
}

impl Retention {
    /// For how many days the events of a source are kept; `None` means forever.
    pub(crate) fn days(&self, source: &str) -> Option<u32> {
        let own = self.sources.iter().find(|(name, _)| name.as_str() == source);
        Some(own.map_or(self.keep_days, |(_, days)| *days)).filter(|days| *days > 0)
    }

    /// The first day whose events are kept: a day is kept or deleted as a whole.
    fn first_kept(&self, source: &str, now: Timestamp) -> Option<Day> {
        Some(self.zone.day(now).minus(self.days(source)?))
    }
}

/// Protects these events from deletion while messages of a job are in flight. Returns those that are already deleted,
/// or being deleted: a job must not send them.
pub(crate) async fn hold(
    store: &Store,
    mut ids: Vec<EventId>,
    now: Timestamp,
) -> Result<BTreeSet<EventId>, StoreError> {
    let oldest_young = id_at(now - LEAST_AGE, 0);
    ids.retain(|id| id.to_string() < oldest_young);
    let mut gone: BTreeSet<EventId> = ids.iter().copied().collect();
    if ids.is_empty() {
        return Ok(gone);
    }
    let mut tx = store.begin().await?;
    for chunk in chunks(&ids) {
        // Writes a row of the event itself: this waits for a running deletion, and a waiting deletion checks the row
        // again.
        let list = store::sql::list(2, chunk.len());
        let text = format!("UPDATE events SET held_until = $1 WHERE id IN ({list}) RETURNING id");
        let values = [Value::from(now + HOLD)].into_iter().chain(chunk.iter().copied().map(Value::from));
        for row in &fetch(&mut tx, text, values).await? {
            gone.remove(&id(row, 0)?);
        }
    }
    tx.commit().await.map_err(StoreError::from)?;
    Ok(gone)
}

/// Deletes what is old and settled. Gives the number of events and rejected bodies that are gone.
pub async fn retain(store: &Store, retention: &Retention, now: Timestamp) -> Result<u64, StoreError> {
    let mut sources: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (number, source) in origins::all(&mut *store.read().await?).await? {
        sources.entry(source).or_default().push(number);
    }
    for text in ["SELECT DISTINCT source FROM tally", REJECTED_SOURCES] {
        for row in &fetch(&mut *store.read().await?, text.to_owned(), []).await? {
            sources.entry(row.try_get(0)?).or_default();
        }
    }
    let (mut days, mut of_origins, mut of_sources) = (Vec::new(), Vec::new(), Vec::new());
    for (source, origins) in &sources {
        let Some(first_kept) = retention.first_kept(source, now) else { continue };
        let until = retention.zone.bounds(first_kept).start;
        // First the counts, then the events: meanwhile, and after a kill, nothing seems to be missing.
        forget_tallies(store, source, first_kept, &retention.zone).await?;
        of_origins.extend(origins.iter().map(|origin| Old::new(Value::from(*origin), until)));
        of_sources.push(Old::new(Value::from(source), until));
        days.push((source, origins, until));
    }
    let mut gone = delete(store, &settled_events(now), of_origins).await?;
    gone += delete(store, &rejected(), of_sources).await?;
    for (source, origins, until) in days {
        tally_rest(store, source, origins, until, &retention.zone).await?;
    }
    Ok(gone)
}

/// Deletes the counts of the ingresses for deleted days.
async fn forget_tallies(store: &Store, source: &str, first_kept: Day, zone: &Zone) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    // A day of another zone reaches into the next.
    for (zones, before) in [("zone = $2", first_kept), ("zone <> $2", first_kept.minus(1))] {
        let text = format!("DELETE FROM tally WHERE source = $1 AND {zones} AND day < $3");
        fetch(&mut tx, text, [source.into(), zone.name().into(), Value::from(&before)]).await?;
    }
    Ok(tx.commit().await?)
}

/// Replaces the counts of the ingresses for deleted days by the number of events that are left because they are pending
/// or dead: this way the books of such a day balance.
async fn tally_rest(
    store: &Store,
    source: &str,
    origins: &[i64],
    until: Timestamp,
    zone: &Zone,
) -> Result<(), StoreError> {
    let mut days: BTreeMap<Day, i64> = BTreeMap::new();
    for origin in origins {
        let mut last = id_bound("");
        loop {
            // A replay is counted nowhere, and neither is an event that came from a rejected body.
            let text = "SELECT e.id, e.received_at FROM events e WHERE e.origin = $1 AND e.id > $2 AND e.id < $3 \
                        AND e.replay_of IS NULL AND NOT EXISTS (SELECT 1 FROM rejected_bodies r WHERE r.id = e.id) \
                        ORDER BY e.id LIMIT $4";
            let values = [(*origin).into(), last, id_bound(&id_at(until, CLOCK_SLACK_SECONDS)), STEP.into()];
            let rows = fetch(&mut *store.read().await?, text.to_owned(), values).await?;
            for row in &rows {
                let received_at = time(row, "received_at")?;
                if received_at < until {
                    *days.entry(zone.day(received_at)).or_default() += 1;
                }
            }
            match rows.last() {
                Some(row) => last = id(row, 0)?.into(),
                None => break,
            }
        }
    }
    let row = |(day, count): (Day, i64)| {
        let (day, none) = (Value::from(&day), Value::from(0));
        vec![REST.into(), source.into(), day, zone.name().into(), count.into(), none, event::now().into()]
    };
    let mut tx = store.begin().await?;
    let into = "tally (ingress, source, day, zone, accepted, rejected, reported_at)";
    let tail = "ON CONFLICT (ingress, source, day) DO UPDATE SET zone = excluded.zone, \
                accepted = excluded.accepted, reported_at = excluded.reported_at";
    insert(&mut tx, into, tail, days.into_iter().map(row).collect()).await?;
    Ok(tx.commit().await?)
}

/// The sources of rejected bodies, found in their index by one step each.
const REJECTED_SOURCES: &str = "WITH RECURSIVE found(name) AS (SELECT min(source) FROM rejected_bodies UNION ALL \
     SELECT (SELECT min(source) FROM rejected_bodies WHERE source > found.name) FROM found \
     WHERE found.name IS NOT NULL) SELECT name FROM found WHERE name IS NOT NULL";

/// Which events are deleted.
struct Leaving {
    table: &'static str,
    /// The column by which the rows are found, the first of an index with the id.
    by: &'static str,
    /// Of a row `e`.
    condition: String,
    /// The tables with rows about it, under `event_id`.
    others: &'static [&'static str],
}

fn rejected() -> Leaving {
    Leaving { table: "rejected_bodies", by: "source", condition: "1 = 1".to_owned(), others: &[] }
}

fn settled_events(now: Timestamp) -> Leaving {
    Leaving {
        table: "events",
        by: "origin",
        condition: format!(
            "(e.held_until IS NULL OR e.held_until < {}) AND NOT {} AND NOT {}",
            now.as_microsecond(),
            pending("e"),
            dead("e")
        ),
        others: &["claims", "unsettled_events", "dead_letters", "unrouted_events"],
    }
}

/// What is old of one origin, or one source.
struct Old {
    of: Value,
    until: Timestamp,
    /// The oldest ones that are found and not deleted yet.
    found: VecDeque<EventId>,
    /// The last one that was found.
    last: Value,
}

impl Old {
    fn new(of: Value, until: Timestamp) -> Self {
        Self { of, until, found: VecDeque::new(), last: id_bound("") }
    }

    /// Finds the next ones.
    async fn find(&mut self, store: &Store, leaving: &Leaving) -> Result<(), StoreError> {
        let Leaving { table, by, condition, .. } = leaving;
        let text = format!(
            "SELECT e.id FROM {table} e WHERE e.{by} = $1 AND e.id > $2 AND e.id < $3 AND e.received_at < $4 \
             AND {condition} ORDER BY e.id LIMIT $5"
        );
        // The id is generated before the time of receipt, and by another clock.
        let before = id_bound(&id_at(self.until, CLOCK_SLACK_SECONDS));
        let values = [self.of.clone(), self.last.clone(), before, self.until.into(), STEP.into()];
        let rows = fetch(&mut *store.read().await?, text, values).await?;
        self.found = rows.iter().map(|row| id(row, 0)).collect::<Result<_, _>>()?;
        if let Some(last) = self.found.back() {
            self.last = Value::from(*last);
        }
        Ok(())
    }
}

/// Deletes what is old, step by step; returns how many events. The oldest of all leave first, whatever their origin: what came
/// in together is together on the disk.
async fn delete(store: &Store, leaving: &Leaving, mut old: Vec<Old>) -> Result<u64, StoreError> {
    let mut gone = 0;
    loop {
        let begun = Instant::now();
        let mut ids = Vec::new();
        while ids.len() < STEP as usize {
            for old in old.iter_mut().filter(|old| old.found.is_empty()) {
                old.find(store, leaving).await?;
            }
            old.retain(|old| !old.found.is_empty());
            let Some(oldest) = old.iter_mut().min_by_key(|old| old.found.front().copied()) else { break };
            ids.extend(oldest.found.pop_front());
        }
        if ids.is_empty() {
            return Ok(gone);
        }
        gone += delete_step(store, leaving, &ids).await?;
        sleep(begun.elapsed() * (SHARE - 1)).await;
    }
}

/// Deletes the rows that still satisfy the condition, with all rows about them: a job may have sent one of them again
/// since they were found.
async fn delete_step(store: &Store, leaving: &Leaving, ids: &[EventId]) -> Result<u64, StoreError> {
    let Leaving { table, condition, others, .. } = leaving;
    let given = |ids: &[EventId]| ids.iter().map(|id| vec![Value::from(*id)]).collect();
    let mut tx = store.begin().await?;
    let text =
        |ids: &str| format!("DELETE FROM {table} AS e WHERE e.id IN ({ids}) AND {condition} RETURNING id");
    let rows = fetch_given(&mut tx, text, given(ids)).await?;
    let gone = rows.iter().map(|row| id(row, 0)).collect::<Result<Vec<_>, _>>()?;
    for table in *others {
        let text = |ids: &str| format!("DELETE FROM {table} WHERE event_id IN ({ids})");
        fetch_given(&mut tx, text, given(&gone)).await?;
    }
    // A message's id is any text.
    let text = |ids: &str| format!("DELETE FROM retry WHERE message_id IN ({ids})");
    fetch_given(&mut tx, text, gone.iter().map(|id| vec![Value::from(id)]).collect()).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(gone.len() as u64)
}

#[cfg(test)]
mod tests {
    use event::Event;
    use store::sql;

    use super::*;
    use crate::reconcile::tests::{aged, read_in};
    use crate::tests::{die, fresh, handle, invoice, receive};

    const TEN_DAYS_S: i64 = 10 * 24 * 60 * 60;

    async fn run(store: &Store, text: String) {
        let mut tx = store.begin().await.unwrap();
        sql::assembled(text).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn counted(store: &Store, source: &str, day: Day, accepted: i64, rejected: i64) {
        let text = format!(
            "INSERT INTO tally (ingress, source, day, zone, accepted, rejected, reported_at) VALUES \
             ('i', '{source}', '{day}', 'America/Sao_Paulo', {accepted}, {rejected}, 0)"
        );
        run(store, text).await;
    }

    #[tokio::test]
    async fn an_old_day_with_an_open_dead_letter_or_a_pending_event_keeps_just_these_and_balances() {
        let (store, _folder) = fresh().await;
        let retention = Retention { keep_days: 7, ..Retention::default() };
        // All at the same time, so on one day.
        let first = aged(invoice(), TEN_DAYS_S);
        let events: Vec<Event> =
            (0..5).map(|_| Event { time: first.time, ..aged(invoice(), TEN_DAYS_S) }).collect();
        receive(&store, &events).await;
        let day = retention.zone.day(first.time);
        counted(&store, "go-1", day, 5, 0).await;
        die(&store, &events[0], "invoices").await;
        for event in &events {
            handle(&store, event, "receivables").await;
        }
        for event in &events[2..] {
            handle(&store, event, "invoices").await;
        }
        let books = async || {
            // What is pending is in its queue.
            let (books, differences) =
                read_in(&store, &retention.zone, &day.to_string(), &["invoices"]).await;
            assert_eq!(differences, []);
            books
                .sources
                .into_iter()
                .map(|books| (books.counted_accepted, books.received))
                .collect::<Vec<_>>()
        };
        assert_eq!(books().await, [(5, 5)]);
        for _ in 0..2 {
            retain(&store, &retention, event::now()).await.unwrap();
            assert_eq!(books().await, [(2, 2)]);
        }
        handle(&store, &events[0], "invoices").await;
        handle(&store, &events[1], "invoices").await;
        assert_eq!(retain(&store, &retention, event::now()).await.unwrap(), 2);
        assert_eq!(books().await, []);
    }

    #[tokio::test]
    async fn what_is_sent_again_since_it_was_found_stays() {
        let (store, _folder) = fresh().await;
        let events = [invoice(), invoice()];
        receive(&store, &events).await;
        for event in &events {
            handle(&store, event, "invoices").await;
            handle(&store, event, "receivables").await;
        }
        let again = events[0].id;
        run(
            &store,
            format!("DELETE FROM claims WHERE event_id = unhex('{again}', '-') AND consumer = 'invoices'"),
        )
        .await;
        let found = events.each_ref().map(|event| event.id);
        assert_eq!(delete_step(&store, &settled_events(event::now()), &found).await.unwrap(), 1);
        for (table, id, rows) in
            [("events", "id", 1), ("unsettled_events", "event_id", 2), ("claims", "event_id", 1)]
        {
            let text = format!("SELECT {id} FROM {table}");
            let left = fetch(&mut store.read().await.unwrap(), text, []).await.unwrap();
            let left: Vec<EventId> = left.iter().map(|row| store::id(row, 0).unwrap()).collect();
            assert_eq!(left, vec![again; rows], "{table}");
        }
    }

    #[tokio::test]
    async fn what_a_job_sends_again_stays_while_it_is_under_way_and_what_is_gone_is_not_sent() {
        let (store, _folder) = fresh().await;
        let retention = Retention { keep_days: 7, ..Retention::default() };
        let events = [aged(invoice(), TEN_DAYS_S), aged(invoice(), TEN_DAYS_S)];
        receive(&store, &events).await;
        for event in &events {
            handle(&store, event, "invoices").await;
            handle(&store, event, "receivables").await;
        }
        let (now, young) = (event::now(), invoice().id);
        let gone = hold(&store, vec![events[0].id, young], now).await.unwrap();
        assert!(gone.is_empty(), "{gone:?}");
        assert_eq!(retain(&store, &retention, now).await.unwrap(), 1);
        let gone = hold(&store, events.iter().map(|event| event.id).collect(), now).await.unwrap();
        assert_eq!(gone, BTreeSet::from([events[1].id]));
        let later = now + HOLD + Duration::from_secs(1);
        assert_eq!(retain(&store, &retention, later).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn the_day_of_an_event_is_that_of_its_receipt_whatever_its_id_tells() {
        let (store, _folder) = fresh().await;
        let retention = Retention { keep_days: 7, ..Retention::default() };
        let now = event::now();
        let until = retention.zone.bounds(retention.first_kept("go-1", now).unwrap()).start;
        let second = std::time::Duration::from_secs(1);
        let before = aged(invoice(), now.duration_since(until).as_secs() + 2);
        let after = aged(invoice(), now.duration_since(until).as_secs() - 2);
        let kept = Event { time: until + second, ..before };
        let gone = Event { time: until - second, ..after };
        receive(&store, &[kept.clone(), gone.clone()]).await;
        for event in [&kept, &gone] {
            handle(&store, event, "invoices").await;
            handle(&store, event, "receivables").await;
        }
        assert_eq!(retain(&store, &retention, now).await.unwrap(), 1);
        let rows =
            fetch(&mut store.read().await.unwrap(), "SELECT id FROM events".to_owned(), []).await.unwrap();
        assert_eq!(rows.iter().map(|row| store::id(row, 0).unwrap()).collect::<Vec<_>>(), [kept.id]);
    }

    #[tokio::test]
    async fn two_replicas_that_retain_at_once_count_what_is_left_once() {
        let (store, _folder) = fresh().await;
        let zone = Zone::default();
        let event = aged(invoice(), TEN_DAYS_S);
        receive(&store, std::slice::from_ref(&event)).await;
        for _ in 0..2 {
            tally_rest(&store, "go-1", &[1], event::now(), &zone).await.unwrap();
        }
        let text = "SELECT CAST(sum(accepted) AS BIGINT) FROM tally".to_owned();
        let counted = fetch(&mut store.read().await.unwrap(), text, []).await.unwrap();
        assert_eq!(counted[0].get::<i64, _>(0), 1);
    }

    #[tokio::test]
    async fn rejected_bodies_leave_with_what_was_counted_of_them() {
        let (store, _folder) = fresh().await;
        let retention = Retention { keep_days: 7, ..Retention::default() };
        for (name, seconds) in [("old", TEN_DAYS_S), ("new", 0)] {
            let body = aged(invoice(), seconds);
            let (day, id) = (retention.zone.day(body.time), body.id);
            counted(&store, name, day, 0, 1).await;
            let at = body.time.as_microsecond();
            let text = format!(
                "INSERT INTO rejected_bodies (id, source, provider, received_at, cause, content_type, size, headers, body) \
                 VALUES (unhex('{id}', '-'), '{name}', 'p', {at}, '', '', 0, '{{}}', '')"
            );
            run(&store, text).await;
        }
        assert_eq!(retain(&store, &retention, event::now()).await.unwrap(), 1);
        let left = async |table: &str| {
            let text = format!("SELECT source FROM {table}");
            let rows = fetch(&mut store.read().await.unwrap(), text, []).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
        };
        assert_eq!(
            (left("rejected_bodies").await, left("tally").await),
            (vec!["new".into()], vec!["new".into()])
        );
    }
}
