//! Which event is sent next: those that are due, and of one subject only the first.
//!
//! Knows no clock, no store and no HTTP: it is told what comes, what is taken and with which outcome, and says which rows have
//! to change. An event has a row in the store while it waits for another attempt; with order by subject, the events behind
//! it have one, too, so that the cursor passes them. Everything else waits in memory, with its place in the feed.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use event::{EventId, Timestamp};
use ledger::feed::FeedEvent;

use crate::Order;

/// The most bytes of contents that were read again and are not settled; one event may have more.
const MOST_BYTES: i64 = 8 << 20;

/// An event to be delivered.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) id: EventId,
    pub(super) subject: Option<Arc<str>>,
    pub(super) received_at: Timestamp,
    /// The attempts that were made.
    pub(super) attempts: i64,
    /// The waits of the schedule that are used up.
    pub(super) steps: usize,
    /// Not before this time.
    pub(super) due_at: Timestamp,
    /// Whether it has a row in the store.
    pub(super) is_stored: bool,
    /// About the size of its contents.
    pub(super) bytes: i64,
    /// Its contents, unless they have to be read again.
    pub(super) event: Option<Arc<FeedEvent>>,
}

impl Pending {
    /// An event that was read from the feed.
    pub(super) fn fresh(event: Arc<FeedEvent>) -> Self {
        Self {
            id: event.id,
            subject: event.subject.as_deref().map(Arc::from),
            received_at: event.received_at,
            attempts: 0,
            steps: 0,
            due_at: Timestamp::UNIX_EPOCH,
            is_stored: false,
            bytes: event.size(),
            event: Some(event),
        }
    }
}

/// The outcome of an event that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is delivered.
    Delivered,
    /// Its attempts are used up.
    Undelivered,
    /// It is tried again, not before this time.
    Again(Timestamp),
}

/// A row that has to change.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// The event waits; without a time, it is undelivered.
    Write(Pending, Option<Timestamp>),
    /// The row goes.
    Delete(EventId),
    /// The event has no row and needs none.
    Finish(EventId),
}

/// The events of one subject, the first one first. Only that one is sent.
#[derive(Default)]
struct Lane {
    events: VecDeque<EventId>,
    /// The first one has a row, and so has everything behind it.
    is_blocked: bool,
}

/// The events to be delivered.
pub(super) struct Queue {
    order: Order,
    events: HashMap<EventId, Pending>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Due, with contents.
    ready: VecDeque<EventId>,
    /// Due, without contents.
    unread: VecDeque<EventId>,
    /// Those whose contents were read again, or are being read, and how many bytes they have.
    fetched: HashSet<EventId>,
    fetched_bytes: i64,
    waiting: BTreeSet<(Timestamp, EventId)>,
}

impl Queue {
    pub(super) fn new(order: Order) -> Self {
        let (ready, unread) = (VecDeque::new(), VecDeque::new());
        let (events, lanes, waiting) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { order, events, lanes, ready, unread, fetched: HashSet::new(), fetched_bytes: 0, waiting }
    }

    /// Takes an event that waits in the store. By subject, they have to come in the order of their receipt.
    pub(super) fn load(&mut self, pending: Pending) {
        if self.events.contains_key(&pending.id) {
            return;
        }
        let (id, due_at) = (pending.id, pending.due_at);
        let is_first = match self.lane_of(&pending) {
            Some(lane) => {
                lane.is_blocked = true;
                lane.events.push_back(id);
                lane.events.len() == 1
            }
            None => true,
        };
        self.events.insert(id, pending);
        if is_first {
            self.waiting.insert((due_at, id));
        }
    }

    /// Takes an event of the feed. Gives a change if it waits behind one that waits for another attempt.
    pub(super) fn push(&mut self, event: Arc<FeedEvent>) -> Option<Change> {
        let mut pending = Pending::fresh(event);
        let id = pending.id;
        if self.events.contains_key(&id) {
            // It has a row: the position was set back.
            return Some(Change::Finish(id));
        }
        let Some(lane) = self.lane_of(&pending) else {
            self.events.insert(id, pending);
            self.ready.push_back(id);
            return None;
        };
        lane.events.push_back(id);
        if lane.is_blocked {
            let change = park(&mut pending);
            self.events.insert(id, pending);
            return Some(change);
        }
        if lane.events.len() == 1 {
            self.ready.push_back(id);
        }
        self.events.insert(id, pending);
        None
    }

    fn lane_of(&mut self, pending: &Pending) -> Option<&mut Lane> {
        let subject = pending.subject.as_ref().filter(|_| self.order == Order::Subject)?;
        Some(self.lanes.entry(Arc::clone(subject)).or_default())
    }

    /// Takes the next events that are due, at most so many. One that has failed goes alone: it may be why the endpoint refused
    /// the others of its batch.
    pub(super) fn take(&mut self, most: usize, now: Timestamp) -> Vec<Pending> {
        self.wake(now);
        let has_failed = |id: &EventId| self.events[id].steps > 0;
        let count = match self.ready.front() {
            Some(first) if has_failed(first) => 1,
            _ => self.ready.iter().take(most).take_while(|id| !has_failed(id)).count(),
        };
        self.ready.drain(..count).map(|id| self.events[&id].clone()).collect()
    }

    /// Takes the event that a probe is sent with. One that was never sent tells more of the endpoint than one that may itself
    /// be what the endpoint refuses.
    pub(super) fn take_for_probe(&mut self, now: Timestamp) -> Option<Pending> {
        self.wake(now);
        let id = self.ready.remove(self.first_fresh().unwrap_or(0))?;
        Some(self.events[&id].clone())
    }

    /// Whether an event can be sent that was never sent before.
    pub(super) fn has_fresh(&self) -> bool {
        self.first_fresh().is_some()
    }

    fn first_fresh(&self) -> Option<usize> {
        self.ready.iter().position(|id| self.events[id].attempts == 0)
    }

    /// Makes ready what is due.
    pub(super) fn wake(&mut self, now: Timestamp) {
        while let Some((due_at, id)) = self.waiting.first().copied().filter(|(due_at, _)| *due_at <= now) {
            self.waiting.remove(&(due_at, id));
            self.make_ready(id);
        }
    }

    fn make_ready(&mut self, id: EventId) {
        let has_contents = self.events[&id].event.is_some();
        let queue = if has_contents { &mut self.ready } else { &mut self.unread };
        queue.push_back(id);
    }

    /// The due events whose contents have to be read, once there is room for many: contents that were read again and are
    /// not settled are at most so many, and at most [`MOST_BYTES`].
    pub(super) fn take_unread(&mut self, most: usize, now: Timestamp) -> Vec<EventId> {
        self.wake(now);
        let mut taken = Vec::new();
        if self.fetched.len() > most / 2 || self.fetched_bytes > MOST_BYTES / 2 {
            return taken;
        }
        while self.fetched.len() < most
            && let Some(id) = self.unread.front().copied()
        {
            let bytes = self.events[&id].bytes;
            if self.fetched_bytes + bytes > MOST_BYTES && !self.fetched.is_empty() {
                break;
            }
            self.unread.pop_front();
            self.fetched.insert(id);
            self.fetched_bytes += bytes;
            taken.push(id);
        }
        taken
    }

    /// The contents of an event are not in memory any more.
    fn forget_contents(&mut self, id: EventId) {
        if self.fetched.remove(&id) {
            self.fetched_bytes -= self.events[&id].bytes;
        }
    }

    /// The contents of events that were taken unread. Gives the changes for those that are no longer on record.
    pub(super) fn contents(
        &mut self,
        ids: &[EventId],
        mut events: HashMap<EventId, Arc<FeedEvent>>,
    ) -> Vec<Pending> {
        let mut gone = Vec::new();
        for id in ids {
            let pending = self.events.get_mut(id).expect("an event is there until it is settled");
            match events.remove(id) {
                Some(event) => {
                    pending.event = Some(event);
                    self.ready.push_back(*id);
                }
                None => gone.push(pending.clone()),
            }
        }
        gone
    }

    /// Reading the contents failed: they are read again later.
    pub(super) fn unread_again(&mut self, ids: Vec<EventId>) {
        ids.iter().for_each(|id| self.forget_contents(*id));
        self.unread.extend(ids);
    }

    /// Takes the outcome of an event that was taken, `pending` being its new counts. Gives the changes that follow.
    pub(super) fn settle(&mut self, pending: Pending, settled: Settled, changes: &mut Vec<Change>) {
        let id = pending.id;
        self.forget_contents(id);
        match settled {
            Settled::Again(due_at) => return self.again(pending, due_at, changes),
            Settled::Delivered if pending.is_stored => changes.push(Change::Delete(id)),
            Settled::Delivered => changes.push(Change::Finish(id)),
            Settled::Undelivered => changes.push(Change::Write(pending.clone(), None)),
        }
        self.events.remove(&id);
        let Some(subject) = pending.subject.filter(|_| self.order == Order::Subject) else { return };
        let lane = self.lanes.get_mut(&subject).expect("an event is in its lane");
        lane.events.pop_front();
        match lane.events.front().copied() {
            Some(id) => {
                let next = &self.events[&id];
                lane.is_blocked = next.is_stored;
                self.waiting.insert((next.due_at, id));
            }
            None => {
                self.lanes.remove(&subject);
            }
        }
    }

    fn again(&mut self, mut pending: Pending, due_at: Timestamp, changes: &mut Vec<Change>) {
        let id = pending.id;
        pending.due_at = due_at;
        pending.event = None;
        pending.is_stored = true;
        changes.push(Change::Write(pending.clone(), Some(due_at)));
        if let Some(lane) = self.lane_of(&pending) {
            lane.is_blocked = true;
            let behind: Vec<EventId> = lane.events.iter().skip(1).copied().collect();
            for id in behind {
                let follower = self.events.get_mut(&id).expect("every event of a lane is there");
                if !follower.is_stored {
                    changes.push(park(follower));
                }
            }
        }
        self.events.insert(id, pending);
        self.waiting.insert((due_at, id));
    }

    /// When the next event is due, if none is now.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due_at, _)| *due_at)
    }

    /// Whether an event is due whose contents are there.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the first of its events was received.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.events.values().map(|pending| pending.received_at).min()
    }

    /// How many events it has.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

/// Gives an event a row, so that the cursor passes it.
fn park(pending: &mut Pending) -> Change {
    pending.is_stored = true;
    pending.event = None;
    Change::Write(pending.clone(), Some(pending.due_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Events of subjects, pushed in this order; each is known by its subject and number.
    fn pushed(queue: &mut Queue, subjects: &[&str]) -> (Vec<EventId>, Vec<Change>) {
        let mut changes = Vec::new();
        let ids = subjects.iter().map(|subject| {
            let event = FeedEvent::example(EventId::generate(), Some(subject), at(0), "{}".into());
            let id = event.id;
            changes.extend(queue.push(Arc::new(event)));
            id
        });
        (ids.collect(), changes)
    }

    fn taken(queue: &mut Queue, now: i64) -> Vec<Pending> {
        let unread = queue.take_unread(100, at(now));
        let read = unread.iter().map(|id| (*id, Arc::new(FeedEvent::example(*id, None, at(0), "{}".into()))));
        let read = read.collect();
        assert!(queue.contents(&unread, read).is_empty());
        queue.take(100, at(now))
    }

    fn ids(pending: &[Pending]) -> Vec<EventId> {
        pending.iter().map(|pending| pending.id).collect()
    }

    fn settle(queue: &mut Queue, pending: &Pending, settled: Settled) -> Vec<Change> {
        let mut changes = Vec::new();
        queue.settle(pending.clone(), settled, &mut changes);
        changes
    }

    #[test]
    fn without_an_order_everything_is_sent_at_once_and_a_retry_holds_back_nothing() {
        let mut queue = Queue::new(Order::None);
        let (all, _) = pushed(&mut queue, &["a", "a", "b"]);
        let sent = taken(&mut queue, 0);
        assert_eq!(ids(&sent), all);
        assert!(matches!(settle(&mut queue, &sent[1], Settled::Delivered)[..], [Change::Finish(_)]));
        let changes = settle(&mut queue, &sent[0], Settled::Again(at(5)));
        assert!(matches!(&changes[..], [Change::Write(one, Some(due))] if one.id == all[0] && *due == at(5)));
        assert_eq!(queue.next_due(), Some(at(5)));
        assert!(taken(&mut queue, 4).is_empty());
        let again = taken(&mut queue, 5);
        assert_eq!(ids(&again), all[..1]);
        assert!(
            matches!(settle(&mut queue, &again[0], Settled::Delivered)[..], [Change::Delete(id)] if id == all[0])
        );
        let changes = settle(&mut queue, &sent[2], Settled::Undelivered);
        assert!(matches!(&changes[..], [Change::Write(one, None)] if one.id == all[2]));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn by_subject_one_is_sent_after_the_other_and_a_retry_holds_back_its_subject_alone() {
        let mut queue = Queue::new(Order::Subject);
        let (all, changes) = pushed(&mut queue, &["a", "a", "b", "a"]);
        assert!(changes.is_empty());
        let sent = taken(&mut queue, 0);
        assert_eq!(ids(&sent), [all[0], all[2]], "the first of each subject");
        let changes = settle(&mut queue, &sent[0], Settled::Again(at(5)));
        let written: Vec<_> =
            changes.iter().map(|change| matches!(change, Change::Write(_, Some(_)))).collect();
        assert_eq!(written, [true; 3], "those behind it have rows now: the cursor passes them");
        let (late, changes) = pushed(&mut queue, &["a", "b"]);
        assert!(matches!(&changes[..], [Change::Write(one, Some(_))] if one.id == late[0]));
        settle(&mut queue, &sent[1], Settled::Delivered);
        assert_eq!(ids(&taken(&mut queue, 4)), [late[1]], "the other subject goes on");
        for (now, expected) in (5..).zip([all[0], all[1], all[3], late[0]]) {
            let next = taken(&mut queue, now);
            assert_eq!(ids(&next), [expected]);
            assert!(matches!(settle(&mut queue, &next[0], Settled::Delivered)[..], [Change::Delete(_)]));
        }
        assert!(queue.lanes.len() == 1 && queue.events.len() == 1, "only the last of b is left");
    }

    #[test]
    fn a_probe_is_sent_with_an_event_that_was_never_sent_if_there_is_one() {
        let mut queue = Queue::new(Order::Subject);
        let (all, _) = pushed(&mut queue, &["a"]);
        let mut failed = taken(&mut queue, 0).remove(0);
        failed.attempts = 1;
        settle(&mut queue, &failed, Settled::Again(at(5)));
        let unread = queue.take_unread(1, at(5));
        queue.contents(&unread, HashMap::from([(all[0], Arc::clone(failed.event.as_ref().unwrap()))]));
        assert!(queue.has_ready() && !queue.has_fresh());
        let (fresh, _) = pushed(&mut queue, &["b"]);
        assert!(queue.has_fresh());
        assert_eq!(queue.take_for_probe(at(5)).map(|pending| pending.id), Some(fresh[0]));
        assert_eq!(queue.take_for_probe(at(5)).map(|pending| pending.id), Some(all[0]));
        assert!(queue.take_for_probe(at(5)).is_none());
    }

    #[test]
    fn an_event_that_has_failed_is_sent_alone() {
        let mut queue = Queue::new(Order::None);
        let (all, _) = pushed(&mut queue, &["a", "b", "c"]);
        for (steps, mut sent) in taken(&mut queue, 0).into_iter().enumerate() {
            sent.steps = steps % 2;
            settle(&mut queue, &sent, Settled::Again(at(steps as i64)));
        }
        let parts = [taken(&mut queue, 2), queue.take(100, at(2)), queue.take(100, at(2))];
        assert_eq!(parts.map(|part| ids(&part)), [vec![all[0]], vec![all[1]], vec![all[2]]]);
    }

    #[test]
    fn what_was_given_up_makes_room_for_the_next_of_its_subject() {
        let mut queue = Queue::new(Order::Subject);
        let (all, _) = pushed(&mut queue, &["a", "a"]);
        let first = taken(&mut queue, 0).remove(0);
        settle(&mut queue, &first, Settled::Undelivered);
        assert_eq!(ids(&taken(&mut queue, 0)), all[1..]);
    }

    #[test]
    fn stored_events_come_first_and_each_at_its_time() {
        let mut queue = Queue::new(Order::Subject);
        let stored = |received: i64, due: i64| Pending {
            due_at: at(due),
            is_stored: true,
            event: None,
            ..Pending::fresh(Arc::new(FeedEvent::example(
                EventId::generate(),
                Some("a"),
                at(received),
                "{}".into(),
            )))
        };
        // The later one has its own time, which the first does not bring forward.
        let (first, second) = (stored(1, 3), stored(2, 60));
        queue.load(first.clone());
        queue.load(second.clone());
        queue.load(second.clone());
        let (fresh, changes) = pushed(&mut queue, &["a"]);
        assert!(matches!(&changes[..], [Change::Write(one, Some(_))] if one.id == fresh[0]));
        assert!(taken(&mut queue, 2).is_empty());
        let sent = taken(&mut queue, 3);
        assert_eq!(ids(&sent), [first.id]);
        settle(&mut queue, &sent[0], Settled::Delivered);
        assert!(taken(&mut queue, 59).is_empty());
        let sent = taken(&mut queue, 60);
        assert_eq!(ids(&sent), [second.id]);
        settle(&mut queue, &sent[0], Settled::Delivered);
        assert_eq!(ids(&taken(&mut queue, 60)), fresh);
    }

    #[test]
    fn contents_that_are_read_again_have_room_for_so_many_and_so_many_bytes() {
        let stored = |queue: &mut Queue, bytes: &[i64]| {
            for bytes in bytes {
                let event = FeedEvent::example(EventId::generate(), None, at(0), "{}".into());
                let fresh = Pending::fresh(Arc::new(event));
                queue.load(Pending { due_at: at(0), is_stored: true, bytes: *bytes, event: None, ..fresh });
            }
        };
        let mut queue = Queue::new(Order::None);
        stored(&mut queue, &[1; 10]);
        assert_eq!(queue.take_unread(4, at(0)).len(), 4);
        assert!(queue.take_unread(4, at(0)).is_empty(), "none of them is settled");

        let mut queue = Queue::new(Order::None);
        stored(&mut queue, &[MOST_BYTES / 2 + 1, 3 * MOST_BYTES, MOST_BYTES / 2, MOST_BYTES / 2, 1]);
        let counts: Vec<usize> = std::iter::from_fn(|| {
            let unread = queue.take_unread(100, at(0));
            assert!(queue.take_unread(100, at(0)).is_empty(), "there is no room");
            let read =
                unread.iter().map(|id| (*id, Arc::new(FeedEvent::example(*id, None, at(0), "{}".into()))));
            let read = read.collect();
            assert!(queue.contents(&unread, read).is_empty());
            for sent in queue.take(100, at(0)) {
                settle(&mut queue, &sent, Settled::Again(at(60)));
            }
            Some(unread.len()).filter(|count| *count > 0)
        })
        .collect();
        assert!(counts.iter().sum::<usize>() == 5 && counts.iter().all(|count| *count <= 2), "{counts:?}");
    }

    #[test]
    fn an_event_that_is_no_longer_on_record_is_told_from_the_others() {
        let mut queue = Queue::new(Order::None);
        let (all, _) = pushed(&mut queue, &["a", "b"]);
        let sent = taken(&mut queue, 0);
        settle(&mut queue, &sent[1], Settled::Again(at(1)));
        settle(&mut queue, &sent[0], Settled::Again(at(1)));
        let mut unread = queue.take_unread(10, at(1));
        unread.sort();
        let read = Arc::new(FeedEvent::example(all[1], None, at(0), "{}".into()));
        let gone = queue.contents(&unread, HashMap::from([(all[1], read)]));
        assert_eq!(ids(&gone), all[..1], "retention has deleted it");
        assert_eq!(ids(&queue.take(10, at(1))), all[1..]);
    }
}
