//! What the numbers of an overview mean.

use event::{Event, EventId, Timestamp};
use store::{Page, Store, inbox};
use view::Row;

use super::record;
use crate::overview::{OverviewFilter, Period, overview};
use crate::{EventFilter, EventRow, EventState, SourceOverview};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;

/// Records an event of a source that came so many seconds ago.
async fn came(store: &Store, source: &str, seconds: i64, now: Timestamp) -> Event {
    let mut event = broker::test_support::event(source, "acordo.quitado", "{}");
    let milliseconds = u64::try_from(now.as_millisecond() - seconds * 1_000).expect("after 1970");
    event.id = EventId::from_parts(milliseconds, [&event.id.as_bytes()[..]]);
    event.time = Timestamp::from_millisecond(milliseconds.cast_signed()).expect("a time");
    record(store, &[&event.to_message()]).await.expect("it is recorded");
    event
}

async fn read(store: &Store, period: Period, now: Timestamp) -> crate::Overview {
    let mut connection = store.read().await.expect("a connection");
    overview(&mut connection, OverviewFilter { period }, now).await.expect("an overview")
}

fn source<'a>(overview: &'a crate::Overview, name: &str) -> &'a SourceOverview {
    overview.sources.iter().find(|one| one.source == name).expect("a source")
}

/// An overview counts what the lists show, in the period and over it, and measures what was handled.
pub async fn an_overview_agrees_with_the_lists(store: &Store) {
    let now = event::now();
    let (handled, pending) =
        (came(store, "/recuperador/one", 90, now).await, came(store, "/recuperador/one", 80, now).await);
    came(store, "/recuperador/other", 70, now).await;
    let old = came(store, "/recuperador/one", 2 * HOUR_S, now).await;
    let mut tx = store.begin().await.expect("a transaction");
    let after = handled.time + std::time::Duration::from_millis(250);
    inbox::claim(&mut tx, "receivables", &[handled.id], after).await.expect("it is claimed");
    tx.commit().await.expect("a commit");

    let hour = read(store, Period::Hour, now).await;
    let one = source(&hour, "one");
    assert_eq!((one.received, one.handled, one.pending, one.at_least), (2, Some(1), 2, false));
    assert_eq!(one.last_received_at.map(|time| time.as_second()), Some(pending.time.as_second()));
    assert_eq!((source(&hour, "other").received, source(&hour, "other").pending), (1, 1));
    let filter = EventFilter {
        state: Some(EventState::Pending),
        source: Some(old.source.name.clone()),
        ..EventFilter::default()
    };
    let mut connection = store.read().await.expect("a connection");
    let listed = EventRow::page(&mut connection, &filter, &Page::first(50)).await.expect("a page");
    assert_eq!(one.pending, i64::try_from(listed.items.len()).expect("a number"));
    drop(connection);

    let intervals = &hour.intervals;
    assert_eq!((intervals.len(), intervals.iter().map(|one| one.received).sum::<i64>()), (60, 3));
    let measured: Vec<_> = intervals.iter().filter(|one| one.measured > 0).collect();
    let [one] = measured[..] else { panic!("{measured:?}") };
    assert_eq!((one.median_ms, one.slowest_ms), (Some(250), Some(250)));
    assert!(one.from <= handled.time && handled.time.as_second() < one.from.as_second() + MINUTE_S);

    let day = read(store, Period::Day, now).await;
    assert_eq!((source(&day, "one").received, source(&day, "one").handled), (3, Some(1)));
    assert_eq!(day.intervals.iter().map(|one| one.received).sum::<i64>(), 4);
}

/// A source is silent if its last pause is longer than every other one of the last days, and if it has been sending for long enough
/// to know.
pub async fn a_silence_is_measured_against_the_pauses_before_it(store: &Store) {
    let now = event::now();
    // Every two hours, until five hours ago; the same until one hour ago; and new.
    for hours in (5..60).step_by(2) {
        came(store, "/recuperador/silent", hours * HOUR_S, now).await;
        came(store, "/recuperador/alive", (hours - 4) * HOUR_S, now).await;
    }
    for hours in [10, 9, 8] {
        came(store, "/recuperador/new", hours * HOUR_S, now).await;
    }
    let overview = read(store, Period::Hour, now).await;
    let state = |name| (source(&overview, name).longest_pause_hours, source(&overview, name).is_silent);
    assert_eq!(state("silent"), (Some(3), true));
    // It came an hour ago: nobody looks for its pauses.
    assert_eq!(state("alive"), (None, false));
    assert_eq!(state("new"), (None, false));
}
