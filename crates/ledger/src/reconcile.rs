//! The books of a day: what came in, what became of it, and whether the two agree.
//!
//! Received and what became of it are read in different ways, so that a mistake in one shows: what is handled is counted
//! in the inbox, what is pending in the list of what is owed. What the ingresses say they answered comes from neither.

use std::collections::BTreeMap;

use event::Timestamp;
use serde::Serialize;
use store::{AnyRow, Connection, Row, StoreError};
use utoipa::ToSchema;

use crate::events::{CLOCK_SLACK_SECONDS, id_at};
use store::many::{Value, fetch};

/// How long a row may be on its way before its absence elsewhere is a difference.
const GRACE_SECONDS: i64 = 60;

/// How long an event may be in a consumer's hands.
const IN_HAND_SECONDS: i64 = 300;

/// The most differences that are listed.
const LISTED: usize = 1_000;

/// The books of one source for one day (UTC, of receipt).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SourceBooks {
    /// The configured sender.
    pub source: String,
    /// Requests that the ingresses say they answered 2xx.
    pub counted_accepted: i64,
    /// Bodies that the ingresses say they kept and answered 400.
    pub counted_rejected: i64,
    /// Events on record, replays not counted.
    pub received: i64,
    /// Every consumer that takes it has handled it.
    pub handled: i64,
    /// Only queues of other services took it.
    pub routed: i64,
    /// A consumer still owes it its effect.
    pub pending: i64,
    /// A consumer gave up.
    pub dead: i64,
    /// No queue is bound to its topic.
    pub unrouted: i64,
    /// An operator let it be.
    pub discarded: i64,
    /// Its sender had sent the same before.
    pub duplicate: i64,
    /// None of these: a difference.
    pub unaccounted: i64,
    /// Rejected bodies on record.
    pub rejected: i64,
    /// Of those, the ones that are events by now.
    pub rejected_resent: i64,
    /// Replays under an id of their own.
    pub replayed: i64,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Difference {
    /// What does not agree, in a few words.
    pub kind: String,
    /// The configured sender, where that is known.
    pub source: Option<String>,
    /// The event, where that is known.
    pub event_id: Option<String>,
    /// The consumer that it is about.
    pub consumer: Option<String>,
    /// What was found, and what to do.
    pub detail: String,
}

/// The books of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reconciliation {
    /// The day, `YYYY-MM-DD`, UTC.
    pub day: String,
    /// Whether there is no difference.
    pub balanced: bool,
    /// Every source that something is known of.
    pub sources: Vec<SourceBooks>,
    /// What does not agree, at most 1,000.
    pub differences: Vec<Difference>,
    /// Messages waiting in each queue that is not empty, by the queue's name without prefix.
    pub waiting: BTreeMap<String, u64>,
}

/// The bounds of a day in ids and in microseconds.
struct Day {
    from: Timestamp,
    to: Timestamp,
}

impl Day {
    fn ids(&self) -> [Value; 2] {
        let from = id_at(self.from, -CLOCK_SLACK_SECONDS);
        let to = id_at(self.to, CLOCK_SLACK_SECONDS);
        [Value::from(&from), Value::from(&to)]
    }

    fn received(&self) -> [Value; 4] {
        let [from, to] = self.ids();
        [from, to, Value::from(self.from), Value::from(self.to)]
    }
}

/// What became of the event in `e`, each state on its own evidence.
const STATE: &str = "CASE WHEN e.duplicate_of IS NOT NULL THEN 'duplicate' \
    WHEN EXISTS (SELECT 1 FROM unrouted u WHERE u.event_id = e.id AND u.discarded_in IS NULL \
    AND (u.resent_in IS NULL OR u.marked_in >= u.resent_in)) THEN 'unrouted' \
    WHEN EXISTS (SELECT 1 FROM dead_letter d WHERE d.event_id = e.id AND d.discarded_in IS NULL \
    AND (d.resent_in IS NULL OR d.died_in >= d.resent_in) AND NOT EXISTS \
    (SELECT 1 FROM inbox i WHERE i.event_id = d.event_id AND i.consumer = d.consumer)) THEN 'dead' \
    WHEN EXISTS (SELECT 1 FROM unsettled s WHERE s.event_id = e.id \
    AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.event_id = s.event_id AND i.consumer = s.consumer) \
    AND NOT EXISTS (SELECT 1 FROM dead_letter d WHERE d.event_id = s.event_id \
    AND d.consumer = s.consumer AND d.discarded_in IS NOT NULL)) THEN 'pending' \
    WHEN EXISTS (SELECT 1 FROM unrouted u WHERE u.event_id = e.id AND u.discarded_in IS NOT NULL) \
    THEN 'discarded' \
    WHEN EXISTS (SELECT 1 FROM dead_letter d WHERE d.event_id = e.id AND d.discarded_in IS NOT NULL \
    AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.event_id = d.event_id AND i.consumer = d.consumer)) \
    THEN 'discarded' \
    WHEN e.consumers = '' AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.event_id = e.id) \
    AND NOT EXISTS (SELECT 1 FROM dead_letter d WHERE d.event_id = e.id) THEN 'routed' \
    WHEN (SELECT count(*) FROM inbox i WHERE i.event_id = e.id \
    AND ' ' || e.consumers || ' ' LIKE '% ' || i.consumer || ' %') \
    = CASE e.consumers WHEN '' THEN 0 ELSE length(e.consumers) - length(replace(e.consumers, ' ', '')) + 1 END \
    THEN 'handled' \
    ELSE 'unaccounted' END";

/// Reads the books of a day (`YYYY-MM-DD`, UTC); `None` if that is no day. `waiting` is how many messages each queue that
/// is not empty had before, by its name without prefix.
pub async fn reconcile(
    connection: &mut Connection,
    day: &str,
    waiting: BTreeMap<String, u64>,
) -> Result<Option<Reconciliation>, StoreError> {
    let begin = format!("{day}T00:00:00Z").parse::<Timestamp>();
    let Some(from) = begin.ok().filter(|_| day.len() == 10) else { return Ok(None) };
    let to = from + std::time::Duration::from_secs(24 * 60 * 60);
    let bounds = Day { from, to };
    let mut books: BTreeMap<String, SourceBooks> = BTreeMap::new();
    count_events(connection, &bounds, &mut books).await?;
    count_rejected(connection, &bounds, &mut books).await?;
    count_tallies(connection, day, &mut books).await?;
    let mut differences = Vec::new();
    unaccounted(connection, &bounds, &mut differences).await?;
    // A ledger that has yet to read an event knows nothing of it.
    if !waiting.contains_key("ledger") {
        not_recorded(connection, &bounds, &mut differences).await?;
    }
    in_no_queue(connection, &bounds, &waiting, &mut differences).await?;
    for row in books.values() {
        differences.extend(missing(row, &waiting));
    }
    differences.truncate(LISTED);
    let sources = books.into_values().collect();
    let balanced = differences.is_empty();
    Ok(Some(Reconciliation { day: day.to_owned(), balanced, sources, differences, waiting }))
}

fn of(books: &mut BTreeMap<String, SourceBooks>, source: String) -> &mut SourceBooks {
    books.entry(source.clone()).or_insert_with(|| SourceBooks { source, ..SourceBooks::default() })
}

async fn count_events(
    connection: &mut Connection,
    day: &Day,
    books: &mut BTreeMap<String, SourceBooks>,
) -> Result<(), StoreError> {
    let text = format!(
        "SELECT source, state, count(*) AS count FROM (SELECT e.source AS source, \
         CASE WHEN e.replay_of IS NOT NULL THEN 'replayed' ELSE {STATE} END AS state FROM event e \
         WHERE e.id >= $1 AND e.id < $2 AND e.received_at >= $3 AND e.received_at < $4) AS states \
         GROUP BY source, state"
    );
    for row in fetch(connection, text, day.received().to_vec()).await? {
        let (state, count): (String, i64) = (row.try_get("state")?, row.try_get("count")?);
        let books = of(books, row.try_get("source")?);
        let column = match state.as_str() {
            "replayed" => {
                books.replayed += count;
                continue;
            }
            "duplicate" => &mut books.duplicate,
            "unrouted" => &mut books.unrouted,
            "dead" => &mut books.dead,
            "pending" => &mut books.pending,
            "discarded" => &mut books.discarded,
            "handled" => &mut books.handled,
            "routed" => &mut books.routed,
            _ => &mut books.unaccounted,
        };
        *column += count;
        books.received += count;
    }
    Ok(())
}

async fn count_rejected(
    connection: &mut Connection,
    day: &Day,
    books: &mut BTreeMap<String, SourceBooks>,
) -> Result<(), StoreError> {
    let text = "SELECT r.source, count(*) AS count, \
                sum(CASE WHEN EXISTS (SELECT 1 FROM event e WHERE e.id = r.id) THEN 1 ELSE 0 END) AS resent \
                FROM rejected r WHERE r.id >= $1 AND r.id < $2 AND r.received_at >= $3 AND r.received_at < $4 \
                AND r.source IS NOT NULL GROUP BY r.source";
    for row in fetch(connection, text.to_owned(), day.received().to_vec()).await? {
        let books = of(books, row.try_get("source")?);
        books.rejected = row.try_get("count")?;
        books.rejected_resent = row.try_get("resent")?;
    }
    Ok(())
}

async fn count_tallies(
    connection: &mut Connection,
    day: &str,
    books: &mut BTreeMap<String, SourceBooks>,
) -> Result<(), StoreError> {
    let text = "SELECT source, CAST(sum(accepted) AS BIGINT) AS accepted, CAST(sum(rejected) AS BIGINT) AS rejected \
                FROM tally WHERE day = $1 GROUP BY source";
    for row in fetch(connection, text.to_owned(), vec![Value::from(&day)]).await? {
        let books = of(books, row.try_get("source")?);
        books.counted_accepted = row.try_get("accepted")?;
        books.counted_rejected = row.try_get("rejected")?;
    }
    Ok(())
}

fn difference(kind: &str, row: &AnyRow, detail: &str) -> Result<Difference, StoreError> {
    Ok(Difference {
        kind: kind.to_owned(),
        source: row.try_get("source")?,
        event_id: row.try_get("event_id")?,
        consumer: row.try_get("consumer")?,
        detail: detail.to_owned(),
    })
}

async fn unaccounted(
    connection: &mut Connection,
    day: &Day,
    differences: &mut Vec<Difference>,
) -> Result<(), StoreError> {
    let text = format!(
        "SELECT e.source AS source, e.id AS event_id, e.consumers AS consumer FROM event e \
         WHERE e.id >= $1 AND e.id < $2 AND e.received_at >= $3 AND e.received_at < $4 \
         AND e.replay_of IS NULL AND {STATE} = 'unaccounted' ORDER BY e.id LIMIT {LISTED}"
    );
    for row in fetch(connection, text, day.received().to_vec()).await? {
        let detail = "neither handled by every consumer that takes it nor pending: replay it";
        differences.push(difference("unaccounted", &row, detail)?);
    }
    Ok(())
}

/// What is known of an event that is not on record itself, though it had the time.
async fn not_recorded(
    connection: &mut Connection,
    day: &Day,
    differences: &mut Vec<Difference>,
) -> Result<(), StoreError> {
    let latest = id_at(event::now(), -GRACE_SECONDS);
    for (kind, table, source, consumer, condition) in [
        ("handled, not recorded", "inbox", "NULL", "t.consumer", ""),
        // A letter without a source was no event.
        ("dead, not recorded", "dead_letter", "t.source", "t.consumer", "AND t.source IS NOT NULL"),
        ("unrouted, not recorded", "unrouted", "t.source", "NULL", ""),
    ] {
        let text = format!(
            "SELECT CAST({source} AS TEXT) AS source, t.event_id AS event_id, CAST({consumer} AS TEXT) AS consumer \
             FROM {table} t WHERE t.event_id >= $1 AND t.event_id < $2 AND t.event_id < $3 {condition} \
             AND NOT EXISTS (SELECT 1 FROM event e WHERE e.id = t.event_id) \
             ORDER BY t.event_id LIMIT {LISTED}"
        );
        let day_ids =
            [Value::from(&id_at(day.from, 0)), Value::from(&id_at(day.to, 0)), Value::from(&latest)];
        for row in fetch(connection, text, day_ids.to_vec()).await? {
            let detail = "the ledger has no such event: see the queues ledger and parked";
            differences.push(difference(kind, &row, detail)?);
        }
    }
    Ok(())
}

/// What a consumer owes, though no queue holds anything that it could still get.
async fn in_no_queue(
    connection: &mut Connection,
    day: &Day,
    waiting: &BTreeMap<String, u64>,
    differences: &mut Vec<Difference>,
) -> Result<(), StoreError> {
    if waiting.keys().any(|queue| queue.starts_with("wait.")) {
        return Ok(());
    }
    let text = format!(
        "SELECT e.source AS source, s.event_id AS event_id, s.consumer AS consumer \
         FROM unsettled s CROSS JOIN event e WHERE e.id = s.event_id AND s.event_id >= $1 AND s.event_id < $2 \
         AND s.event_id < $3 AND e.duplicate_of IS NULL \
         AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.event_id = s.event_id AND i.consumer = s.consumer) \
         AND NOT EXISTS (SELECT 1 FROM dead_letter d WHERE d.event_id = s.event_id AND d.consumer = s.consumer \
         AND (d.discarded_in IS NOT NULL OR d.resent_in IS NULL OR d.died_in >= d.resent_in)) \
         AND NOT EXISTS (SELECT 1 FROM job j WHERE j.state IN ('waiting', 'running') OR j.finished_at > $4) \
         ORDER BY s.event_id LIMIT {LISTED}"
    );
    let now = event::now();
    let latest = id_at(now, -IN_HAND_SECONDS);
    // What a job sends again is on its way, however old it is.
    let lately = Value::from(now - std::time::Duration::from_secs(IN_HAND_SECONDS.unsigned_abs()));
    let [from, to] = day.ids();
    for row in fetch(connection, text, vec![from, to, Value::from(&latest), lately]).await? {
        let consumer: String = row.try_get("consumer")?;
        if !waiting.contains_key(&consumer) {
            let detail = "pending for minutes, and in no queue: replay it";
            differences.push(difference("pending, in no queue", &row, detail)?);
        }
    }
    Ok(())
}

/// What the ingresses answered and the record does not have. A tally travels behind the events that it counts; what is
/// recorded and not counted is no difference: an ingress that is killed takes its last counts with it.
fn missing(books: &SourceBooks, waiting: &BTreeMap<String, u64>) -> Vec<Difference> {
    let missing = |kind: &str, queue: &str, counted: i64, recorded: i64| {
        (counted > recorded && !waiting.contains_key(queue)).then(|| Difference {
            kind: kind.to_owned(),
            source: Some(books.source.clone()),
            event_id: None,
            consumer: None,
            detail: format!(
                "the ingresses answered {counted}, the ledger has {recorded}: {} are missing",
                counted - recorded
            ),
        })
    };
    let accepted = books.received - books.rejected_resent;
    let events = missing("events missing", "ledger", books.counted_accepted, accepted);
    let rejected = missing("rejected missing", "rejected", books.counted_rejected, books.rejected);
    events.into_iter().chain(rejected).collect()
}

#[cfg(test)]
mod tests {
    use event::{EventId, header};
    use store::{Store, sql};

    use super::*;
    use crate::tests::{dead_message, die, file, fresh, handle, invoice, receive, state};
    use crate::{DeadFilter, EventState, dead};

    async fn run(store: &Store, text: String) {
        let mut tx = store.begin().await.unwrap();
        sql::assembled(text).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Received long enough ago to be nowhere on its way.
    fn old() -> event::Event {
        let time = event::now() - std::time::Duration::from_secs(600);
        let event = invoice();
        let id = format!("{}{}", id_at(time, 0), &event.id.to_string()[13..]).parse().unwrap();
        event::Event { id, time, ..event }
    }

    async fn differences(store: &Store, event: &event::Event, waiting: &[&str]) -> Vec<String> {
        let waiting = waiting.iter().map(|name| ((*name).to_owned(), 1)).collect();
        let mut connection = store.read().await.unwrap();
        let day = &event.time.to_string()[..10];
        let books = reconcile(&mut connection, day, waiting).await.unwrap().unwrap();
        assert_eq!(books.balanced, books.differences.is_empty());
        books.differences.into_iter().map(|difference| difference.kind).collect()
    }

    async fn resend(store: &Store, job: EventId) {
        run(store, format!("UPDATE dead_letter SET resent_in = '{job}'")).await;
    }

    #[tokio::test]
    async fn a_dead_letter_that_was_no_event_is_no_difference() {
        let (store, _folder) = fresh().await;
        let event = old();
        let mut message = event.to_message();
        message.headers.remove("cloudEvents_source");
        file(&store, &[message]).await;
        assert_eq!(differences(&store, &event, &[]).await, [""; 0]);
        die(&store, &event, "invoices").await;
        assert_eq!(differences(&store, &event, &[]).await, ["dead, not recorded"]);
    }

    #[tokio::test]
    async fn what_the_ledger_has_yet_to_read_is_no_difference() {
        let (store, _folder) = fresh().await;
        let event = old();
        handle(&store, &event, "invoices").await;
        assert_eq!(differences(&store, &event, &["ledger"]).await, [""; 0]);
        assert_eq!(differences(&store, &event, &[]).await, ["handled, not recorded"]);
    }

    #[tokio::test]
    async fn a_dead_letter_that_was_sent_again_and_is_in_no_queue_is_a_difference() {
        let (store, _folder) = fresh().await;
        let event = old();
        receive(&store, std::slice::from_ref(&event)).await;
        handle(&store, &event, "receivables").await;
        die(&store, &event, "invoices").await;
        assert_eq!(differences(&store, &event, &[]).await, [""; 0]);
        resend(&store, EventId::generate()).await;
        assert_eq!(state(&store).await, EventState::Pending);
        assert_eq!(differences(&store, &event, &["invoices"]).await, [""; 0]);
        assert_eq!(differences(&store, &event, &[]).await, ["pending, in no queue"]);
        run(
            &store,
            "INSERT INTO job (id, action, what, filter, options, requested_by, requested_at, state, total, \
             progress, sent, resume_after, trouble) VALUES ('j', '', '', '', '', '', 0, 'running', 0, 0, 0, '', '')"
                .to_owned(),
        )
        .await;
        assert_eq!(differences(&store, &event, &[]).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_letter_that_dies_again_is_open_whatever_the_clock_of_its_consumer_says() {
        let (store, _folder) = fresh().await;
        let event = invoice();
        file(&store, &[dead_message(&event, "invoices", 9, "2026-11-22T12:00:00Z")]).await;
        let job = EventId::generate();
        resend(&store, job).await;
        let mut again = dead_message(&event, "invoices", 3, "2026-11-22T11:59:00Z");
        again.headers.insert(header::JOB.to_owned(), job.to_string().into());
        file(&store, &[again]).await;
        let mut connection = store.read().await.unwrap();
        let page = store::Page::first(10);
        let letters = dead(&mut connection, &DeadFilter::default(), &page).await.unwrap().items;
        assert_eq!(letters.iter().map(|row| row.attempts).collect::<Vec<_>>(), [3]);
    }

    #[tokio::test]
    async fn a_letter_sent_again_to_a_consumer_that_takes_the_event_no_more_is_pending_there() {
        let (store, _folder) = fresh().await;
        let event = invoice();
        receive(&store, std::slice::from_ref(&event)).await;
        handle(&store, &event, "invoices").await;
        handle(&store, &event, "receivables").await;
        die(&store, &event, "gone").await;
        resend(&store, EventId::generate()).await;
        run(&store, format!("INSERT INTO unsettled (event_id, consumer) VALUES ('{}', 'gone')", event.id))
            .await;
        assert_eq!(state(&store).await, EventState::Pending);
    }
}
