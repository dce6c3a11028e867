//! What has come of late: by source, with its outcome and whether the source is silent; and over time, how much and how fast.
//!
//! Promises that its cost grows with the period, and not with the record. What is open is counted up to [`MOST_OPEN`]; how long events took is
//! measured on [`SAMPLE`] of each interval. Both say so.

use std::collections::BTreeMap;
use std::time::Duration;

use event::{EventId, Timestamp};
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{AnyRow, Connection, Row, StoreError, id_bound};
use utoipa::{IntoParams, ToSchema};

use crate::events::{Chosen, chosen, id_at};
use crate::origins::Origins;
use crate::{EventFilter, EventState};

/// The most events of a state that are counted.
const MOST_OPEN: usize = 10_000;

/// How many events of an interval are measured.
const SAMPLE: usize = 50;

const HOUR_S: i64 = 3_600;

/// A shorter silence is never longer than every pause, since those are rounded up.
const LEAST_SILENCE_S: i64 = 2 * HOUR_S;

/// How far back pauses are looked for, in hours.
const PAUSES_HOURS: i64 = 7 * 24;

/// For how long a source must have been sending before its silence means something, in hours.
const KNOWN_HOURS: i64 = 24;

/// How far back an overview looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// The last hour, minute by minute.
    #[default]
    Hour,
    /// The last 24 hours, half an hour by half an hour.
    Day,
    /// The last 7 days, by 3 hours.
    Week,
}

impl Period {
    /// How many intervals it has, and how long each is, in seconds.
    fn intervals(self) -> (i64, i64) {
        match self {
            Self::Hour => (60, 60),
            Self::Day => (48, HOUR_S / 2),
            Self::Week => (56, 3 * HOUR_S),
        }
    }
}

/// What an overview is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OverviewFilter {
    /// How far back it looks; an hour by default.
    #[serde(default)]
    #[param(inline, value_type = Option<Period>)]
    pub period: Period,
}

/// What has come of late, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Numbers)]
pub struct Overview {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Every sender of which there are events on record, by name.
    pub sources: Vec<SourceOverview>,
    /// The period, interval by interval.
    pub intervals: Vec<Interval>,
}

/// A sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceOverview {
    /// Its name; of domain events, the consumer that announces them.
    pub source: String,
    /// The kind of sender.
    pub provider: String,
    /// How many events came in the period.
    pub received: i64,
    /// How many of those were handled by every consumer, or went to queues of other services alone. Null if too many are open to
    /// count them all.
    pub handled: Option<i64>,
    /// How many are pending, whenever they came.
    pub pending: i64,
    /// How many are dead.
    pub dead: i64,
    /// How many are unrouted.
    pub unrouted: i64,
    /// Whether there are more of the last three: only the newest 10,000 events of each state are counted.
    pub at_least: bool,
    /// When the last event came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_received_at: Option<Timestamp>,
    /// The longest pause in the 7 days before the last event, rounded up to hours. Null if the last event is not older than 2 hours,
    /// or if it had been sending for less than 24 hours.
    pub longest_pause_hours: Option<i64>,
    /// Whether it has been silent for longer than that.
    pub is_silent: bool,
}

/// A part of the period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interval {
    /// Its start.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// How many events came.
    pub received: i64,
    /// How many of those were measured: of its first 50 that consumers take, those that one has handled.
    pub measured: i64,
    /// The median of the time from receipt until the last consumer had handled them, in milliseconds.
    pub median_ms: Option<i64>,
    /// The longest such time.
    pub slowest_ms: Option<i64>,
}

/// A source and its provider.
type Sender = (String, String);

fn sender(row: &AnyRow) -> Result<Sender, StoreError> {
    Ok((row.try_get("source")?, row.try_get("provider")?))
}

/// Intervals of a period as the table `b` of a statement: `n`, and the ids from `lo` to `hi`.
struct Bounds {
    from: Timestamp,
    count: i64,
    seconds: i64,
}

impl Bounds {
    /// So many intervals up to the end of the one that a time is in.
    fn until(now: Timestamp, count: i64, seconds: i64) -> Self {
        let end = (now.as_second() / seconds + 1) * seconds;
        let from = Timestamp::from_second(end - count * seconds).unwrap_or(Timestamp::MIN);
        Self { from, count, seconds }
    }

    fn start(&self, n: i64) -> Timestamp {
        self.from + Duration::from_secs(u64::try_from(n * self.seconds).unwrap_or_default())
    }

    fn id(&self, n: i64) -> Value {
        id_bound(&id_at(self.start(n), 0))
    }

    /// `WITH b(n, lo, hi) AS (…)`, and its values.
    fn table(&self) -> (String, Vec<Value>) {
        let row = |n: i64| format!("({n}, ${}, ${})", n + 1, n + 2);
        let rows: Vec<_> = (0..self.count).map(row).collect();
        (
            format!("WITH b(n, lo, hi) AS (VALUES {})", rows.join(", ")),
            (0..=self.count).map(|n| self.id(n)).collect(),
        )
    }
}

/// The overview of a period that ends now.
pub async fn overview(
    connection: &mut Connection,
    filter: OverviewFilter,
    now: Timestamp,
) -> Result<Overview, StoreError> {
    let (count, seconds) = filter.period.intervals();
    let bounds = Bounds::until(now, count, seconds);
    let mut sources = last_seen(connection, now).await?;
    let mut intervals = measured(connection, &bounds).await?;
    for (sender, n, received) in received(connection, &bounds).await? {
        if let (Some(source), Some(interval)) = (sources.get_mut(&sender), intervals.get_mut(n)) {
            source.received += received;
            interval.received += received;
        }
    }
    let mut unfinished: BTreeMap<Sender, i64> = BTreeMap::new();
    let mut is_whole = true;
    for state in [
        EventState::Pending,
        EventState::Dead,
        EventState::Unrouted,
        EventState::Discarded,
        EventState::Duplicate,
    ] {
        let since = matches!(state, EventState::Discarded | EventState::Duplicate).then_some(bounds.from);
        let counts = counted(connection, state, since, &bounds).await?;
        is_whole &= counts.iter().map(|(_, all, _)| all).sum::<i64>() < MOST_OPEN as i64;
        for (sender, all, recent) in counts {
            *unfinished.entry(sender.clone()).or_default() += recent;
            let Some(source) = sources.get_mut(&sender) else { continue };
            match state {
                EventState::Pending => source.pending = all,
                EventState::Dead => source.dead = all,
                EventState::Unrouted => source.unrouted = all,
                _ => {}
            }
        }
    }
    for (sender, source) in &mut sources {
        let unfinished = unfinished.get(sender).copied().unwrap_or_default();
        source.handled = is_whole.then_some((source.received - unfinished).max(0));
        source.at_least = !is_whole;
    }
    Ok(Overview { from: bounds.from, to: now, sources: sources.into_values().collect(), intervals })
}

/// Every sender, with its last event, and whether it is silent.
async fn last_seen(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<BTreeMap<Sender, SourceOverview>, StoreError> {
    let text = "SELECT o.source, o.provider, \
         (SELECT e.id FROM events e WHERE e.origin = o.id ORDER BY e.id DESC LIMIT 1) AS last FROM origins o";
    let mut sources: BTreeMap<Sender, SourceOverview> = BTreeMap::new();
    for row in fetch(connection, text.to_owned(), []).await? {
        let (source, provider) = sender(&row)?;
        let last = store::optional_id(&row, "last")?.and_then(received_at);
        let entry = sources.entry((source.clone(), provider.clone())).or_default();
        *entry = SourceOverview {
            source,
            provider,
            last_received_at: entry.last_received_at.max(last),
            ..SourceOverview::default()
        };
    }
    for source in sources.values_mut() {
        let Some(last) = source.last_received_at else { continue };
        let silence = now.as_second() - last.as_second();
        if silence >= LEAST_SILENCE_S {
            source.longest_pause_hours = longest_pause(&hours(connection, source, last).await?);
            source.is_silent = source.longest_pause_hours.is_some_and(|hours| silence > hours * HOUR_S);
        }
    }
    Ok(sources)
}

/// The hours in which events of a source came, within the last days before a time.
async fn hours(
    connection: &mut Connection,
    source: &SourceOverview,
    until: Timestamp,
) -> Result<Vec<i64>, StoreError> {
    let (with, mut values) = Bounds::until(until, PAUSES_HOURS, HOUR_S).table();
    let first = values.len() + 1;
    values.extend([&source.source, &source.provider].map(Value::from));
    let text = format!(
        "{with} SELECT DISTINCT b.n FROM origins o CROSS JOIN b WHERE o.source = ${first} AND o.provider = ${} \
         AND EXISTS (SELECT 1 FROM events e WHERE e.origin = o.id AND e.id >= b.lo AND e.id < b.hi) ORDER BY b.n",
        first + 1
    );
    fetch(connection, text, values).await?.iter().map(|row| number(row, "n")).collect()
}

/// Between the hours in which events came, the longest pause that there can have been.
fn longest_pause(hours: &[i64]) -> Option<i64> {
    let (first, last) = (hours.first()?, hours.last()?);
    let longest = hours.windows(2).map(|pair| pair[1] - pair[0] + 1).max();
    longest.filter(|_| last - first >= KNOWN_HOURS)
}

/// When an event came, by its id.
fn received_at(id: EventId) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(id.milliseconds()).ok()?).ok()
}

fn number(row: &AnyRow, column: &str) -> Result<i64, StoreError> {
    Ok(row.try_get(column)?)
}

/// The origins that have events since the first bound: others are not looked for in every interval.
fn recent_origins() -> &'static str {
    "(SELECT r.id, r.source, r.provider FROM origins r \
      WHERE EXISTS (SELECT 1 FROM events e WHERE e.origin = r.id AND e.id >= $1)) o"
}

/// How many events of each sender came in each interval.
async fn received(
    connection: &mut Connection,
    bounds: &Bounds,
) -> Result<Vec<(Sender, usize, i64)>, StoreError> {
    let (with, values) = bounds.table();
    let text = format!(
        "{with} SELECT o.source, o.provider, b.n, \
         (SELECT count(*) FROM events e WHERE e.origin = o.id AND e.id >= b.lo AND e.id < b.hi) AS received \
         FROM {} CROSS JOIN b",
        recent_origins()
    );
    let row = |row: &AnyRow| {
        let n = usize::try_from(number(row, "n")?).unwrap_or_default();
        Ok((sender(row)?, n, number(row, "received")?))
    };
    fetch(connection, text, values).await?.iter().map(row).collect()
}

/// How many events of each sender are in a state, and how many of those came within the bounds; those received since a time.
async fn counted(
    connection: &mut Connection,
    state: EventState,
    since: Option<Timestamp>,
    bounds: &Bounds,
) -> Result<Vec<(Sender, i64, i64)>, StoreError> {
    let filter = EventFilter { state: Some(state), from: since, ..EventFilter::default() };
    let Chosen { from, mut conditions, .. } = chosen(&filter, &Origins::All, &[]);
    let bound = conditions.bind(bounds.id(0));
    let text = format!(
        "SELECT o.source, o.provider, count(*) AS total, \
         CAST(sum(CASE WHEN c.id >= {bound} THEN 1 ELSE 0 END) AS BIGINT) AS recent \
         FROM (SELECT DISTINCT e.id, e.origin FROM {from} {} ORDER BY e.id DESC LIMIT {MOST_OPEN}) c \
         JOIN origins o ON o.id = c.origin GROUP BY o.source, o.provider",
        conditions.clause()
    );
    let row = |row: &AnyRow| Ok((sender(row)?, number(row, "total")?, number(row, "recent")?));
    fetch(connection, text, conditions.values).await?.iter().map(row).collect()
}

/// The intervals, with the time that events of each took.
async fn measured(connection: &mut Connection, bounds: &Bounds) -> Result<Vec<Interval>, StoreError> {
    let sample = |n: i64| {
        format!(
            "SELECT * FROM (SELECT {n} AS n, e.received_at, \
             (SELECT max(c.handled_at) FROM claims c WHERE c.event_id = e.id) AS handled_at FROM events e \
             WHERE e.id >= ${} AND e.id < ${} AND e.consumers <> '' ORDER BY e.id LIMIT {SAMPLE}) s{n}",
            n + 1,
            n + 2
        )
    };
    let text = (0..bounds.count).map(sample).collect::<Vec<_>>().join(" UNION ALL ");
    let mut times: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for row in fetch(connection, text, (0..=bounds.count).map(|n| bounds.id(n))).await? {
        if let Some(handled) = row.try_get::<Option<i64>, _>("handled_at")? {
            let time = (handled - number(&row, "received_at")?) / 1_000;
            times.entry(number(&row, "n")?).or_default().push(time.max(0));
        }
    }
    let interval = |n: i64| {
        let mut times = times.remove(&n).unwrap_or_default();
        times.sort_unstable();
        Interval {
            from: bounds.start(n),
            received: 0,
            measured: i64::try_from(times.len()).unwrap_or(i64::MAX),
            median_ms: times.get(times.len() / 2).copied(),
            slowest_ms: times.last().copied(),
        }
    };
    Ok((0..bounds.count).map(interval).collect())
}
