//! A part of the feed as a worker reads it: the live events, or a part of history beside them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::SubscriptionName;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ledger::feed::{After, Cursor, Feed, FeedError, FeedEvent, Item, Reader, Topics};
use tracing::warn;

use super::reorder::Reorder;
use super::window::{Most, PART, Window};
use crate::{Backfill, Expression, Input, is_delivered};

/// How long a reading waits for new events.
const WAIT: Duration = Duration::from_secs(1);

/// How much may be read and not done.
const MOST: Most = Most { events: 2_048, bytes: 8 << 20 };

/// The same where events wait for others that were received before them: what is received within half a second has room.
const MOST_ORDERED: Most = Most { events: 8_192, bytes: 16 << 20 };

const LEFT_OUT: &str = "retention has deleted events that were to be delivered again; they are left out";

/// A part of the feed as a subscription reads it: the live end, or a part of history.
pub(super) struct FeedPart {
    /// `None` while a read is running, which has it.
    reader: Option<Reader>,
    pub(super) window: Window,
    pub(super) reorder: Reorder,
    /// Of a part of history: its end, and how fast it is read.
    part: Option<(Cursor, Rate)>,
    is_read: bool,
    name: SubscriptionName,
}

/// Whether the filter of a subscription selects an event.
pub(super) enum Wanted {
    Yes,
    No,
    /// Its expression has no result for this event, for this reason.
    Unclear(String),
}

/// What was read.
pub(super) struct Read {
    reader: Reader,
    pub(super) items: Result<Vec<(Item, Wanted)>, FeedError>,
}

impl FeedPart {
    /// The live events after a cursor.
    pub(super) async fn live(
        feed: &Feed,
        name: &SubscriptionName,
        after: Cursor,
        topics: Topics,
        wait: Duration,
    ) -> Result<Self, FeedError> {
        let reader = feed.reader(After::Cursor(after), topics).await?;
        let most = if wait.is_zero() { MOST } else { MOST_ORDERED };
        let (window, reorder) = (Window::new(after, most), Reorder::new(wait));
        Ok(Self { reader: Some(reader), window, reorder, part: None, is_read: false, name: name.clone() })
    }

    /// A part of history; `None` if its cursors are not of this feed any more. Live events never wait for it: what retention has
    /// deleted of it is left out.
    pub(super) async fn history(
        feed: &Feed,
        name: &SubscriptionName,
        backfill: &Backfill,
        topics: Topics,
    ) -> Result<Option<Self>, FeedError> {
        let (Ok(mut after), Ok(until)) = (backfill.cursor.parse(), backfill.until.parse()) else {
            return Ok(None);
        };
        loop {
            match Self::live(feed, name, after, topics.clone(), Duration::ZERO).await {
                Ok(live) => {
                    let part = Some((until, Rate::new(backfill.rate_per_s)));
                    return Ok(Some(Self { part, ..live }));
                }
                Err(FeedError::Deleted(known)) => {
                    warn!(subscription = %name, "{LEFT_OUT}");
                    after = known;
                }
                Err(FeedError::Unknown) => {
                    warn!(subscription = %name, "the feed does not have the part of history that was to be delivered");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next reading, if there is room for more. It does not begin by itself.
    pub(super) fn reading(
        &mut self,
        filter: Option<Arc<Expression>>,
        now: Instant,
    ) -> Option<BoxFuture<'static, Read>> {
        if !self.window.has_room() || self.is_read {
            return None;
        }
        let mut limit = PART;
        if let Some((_, rate)) = &mut self.part {
            limit = limit.min(rate.available(now));
            if limit == 0 {
                return None;
            }
        }
        let mut reader = self.reader.take()?;
        let wait = if self.reorder.is_waiting() { self.reorder.wait().min(WAIT) } else { WAIT };
        let history = self.part.is_some().then(|| self.name.clone());
        let read = async move {
            let items = loop {
                match (reader.next(limit, wait).await, &history) {
                    (Ok(items), _) => break Ok(filtered(items, filter).await),
                    (Err(FeedError::Deleted(known)), Some(name)) => {
                        warn!(subscription = %name, "{LEFT_OUT}");
                        reader.leave_out_deleted(known);
                    }
                    (Err(error), _) => break Err(error),
                }
            };
            Read { reader, items }
        };
        Some(read.boxed())
    }

    /// Events whose wait for others ends early: there is no room to read more, and all that is under way waits.
    pub(super) fn stuck(&mut self) -> Vec<Arc<FeedEvent>> {
        let waiting = self.reorder.len();
        if waiting == 0 || waiting < self.window.under_way() || self.window.has_room() {
            return Vec::new();
        }
        self.reorder.first_half()
    }

    /// Takes back the reader, and gives the items that belong here. What is wanted has to be pushed to the window.
    pub(super) fn take(&mut self, read: Read) -> Result<Vec<(Item, Wanted)>, FeedError> {
        let Read { reader, items } = read;
        let (cursor, seen_until) = (reader.cursor(), reader.seen_until());
        self.reader = Some(reader);
        let mut items = items?;
        if let Some((until, rate)) = &mut self.part {
            items.retain(|(item, _)| !item.cursor.is_after(until));
            rate.spend(items.len());
            self.is_read = !until.is_after(&cursor);
        }
        if let Some(time) = seen_until {
            self.reorder.seen_until(time);
        }
        Ok(items)
    }

    /// After the items of a reading were pushed: everything else up to there is not wanted.
    pub(super) fn settle_read(&mut self) {
        if let Some(reader) = &self.reader {
            let cursor = self.part.as_ref().map_or(reader.cursor(), |(until, _)| {
                if reader.cursor().is_after(until) { *until } else { reader.cursor() }
            });
            self.window.read_up_to(cursor);
        }
    }

    /// Whether a part of history is delivered, or has rows.
    pub(super) fn is_done(&self) -> bool {
        self.is_read && self.window.is_empty()
    }

    /// How far a part of history is.
    pub(super) fn backfill(&self) -> Option<Backfill> {
        let (until, rate) = self.part.as_ref()?;
        let (cursor, until) = (self.window.cursor().to_string(), until.to_string());
        Some(Backfill { cursor, until, rate_per_s: rate.per_s })
    }

    /// When a reading that waits for its rate can begin.
    pub(super) fn next_reading(&mut self, now: Instant) -> Option<Instant> {
        let (_, rate) = self.part.as_mut().filter(|_| !self.is_read)?;
        Some(now + rate.ready_in(now)?)
    }
}

/// What of it is delivered: no duplicates, and what a filter wants. Apart from the threads that have others to serve: an evaluation
/// is bounded, but may take long.
async fn filtered(items: Vec<Item>, filter: Option<Arc<Expression>>) -> Vec<(Item, Wanted)> {
    let of_topics = |item: &Item| if is_delivered(item.event()) { Wanted::Yes } else { Wanted::No };
    let Some(filter) = filter.filter(|_| !items.is_empty()) else {
        let wanted: Vec<_> = items.iter().map(of_topics).collect();
        return items.into_iter().zip(wanted).collect();
    };
    let events: Vec<Arc<FeedEvent>> = items.iter().map(|item| Arc::clone(item.event())).collect();
    let evaluate = move || {
        let wanted = |event: &Arc<FeedEvent>| match filter.matches(&Input::new(event)) {
            _ if !is_delivered(event) => Wanted::No,
            Ok(true) => Wanted::Yes,
            Ok(false) => Wanted::No,
            Err(error) => Wanted::Unclear(format!("the filter has no value for this event: {error}")),
        };
        events.iter().map(wanted).collect::<Vec<_>>()
    };
    match tokio::task::spawn_blocking(evaluate).await {
        Ok(wanted) => items.into_iter().zip(wanted).collect(),
        Err(_) => {
            let unclear = |item| (item, Wanted::Unclear("the filter failed".to_owned()));
            items.into_iter().map(unclear).collect()
        }
    }
}

/// How many of something may begin in a second. What was not used is kept for a tenth of a second.
pub(super) struct Rate {
    per_s: u32,
    tokens: f64,
    at: Option<Instant>,
}

impl Rate {
    pub(super) fn new(per_s: u32) -> Self {
        Self { per_s, tokens: 1.0, at: None }
    }

    /// How many may begin now.
    pub(super) fn available(&mut self, now: Instant) -> usize {
        let per_s = f64::from(self.per_s);
        let passed = now.saturating_duration_since(self.at.unwrap_or(now)).as_secs_f64();
        self.tokens = (self.tokens + passed * per_s).min((per_s / 10.0).max(1.0));
        self.at = Some(now);
        // A whole one, but for the rounding of the sum; never negative.
        (self.tokens + 1e-6).max(0.0) as usize
    }

    pub(super) fn spend(&mut self, count: usize) {
        self.tokens -= count as f64;
    }

    /// How long until the next may begin; `None` if one may now.
    pub(super) fn ready_in(&mut self, now: Instant) -> Option<Duration> {
        if self.available(now) > 0 {
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - self.tokens) / f64::from(self.per_s)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_a_pause_saves_up_little() {
        let start = Instant::now();
        let mut rate = Rate::new(50);
        let mut sent = 0;
        for millisecond in 0..2_000 {
            let now = start + Duration::from_millis(millisecond);
            let count = rate.available(now);
            rate.spend(count);
            sent += count;
        }
        assert!((98..=101).contains(&sent), "{sent}");
        assert_eq!(rate.available(start + Duration::from_secs(60)), 5, "a tenth of a second");
        let mut slow = Rate::new(1);
        assert_eq!(slow.available(start), 1);
        slow.spend(1);
        let wait = slow.ready_in(start).unwrap();
        assert!(wait > Duration::from_millis(990) && slow.ready_in(start + wait).is_none(), "{wait:?}");
    }
}
