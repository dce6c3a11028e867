//! One queue in memory: which of its rows are with which consumer, and how far it was handed out.
//!
//! Ids grow along the queue. Everything up to `cursor` was handed out or taken away in this run of the process; of
//! that, `returned` came back and is ready again. Everything after `cursor` is ready and was not looked at yet. So
//! the head of the queue is the first of `returned`, else the first row after `cursor`, and memory grows with what
//! consumers hold, never with the length of the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::file::{File, MessageId, StoredMessage, StoredQueue, Table};
use crate::Queue;

/// Bytes of bodies that are read from a queue at a time, as long as it is one message at least.
const READ_BYTES: usize = 1024 * 1024;

/// Names a consumer; never used twice in a process.
pub(super) type ConsumerId = u64;

/// A delivery in flight to a consumer, as stored; the consumer parses it.
pub(super) struct Handed {
    pub id: i64,
    pub redelivered: bool,
    pub routing_key: String,
    pub properties: Vec<u8>,
    pub body: Bytes,
}

/// How much a consumer may hold.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    messages: usize,
    /// Of bodies. The last one may exceed it.
    bytes: usize,
}

impl Limit {
    pub fn new(messages: u16, bytes: usize) -> Self {
        Self { messages: usize::from(messages.max(1)), bytes: bytes.max(1) }
    }
}

/// A consumer and what it holds.
pub(super) struct Consumer {
    pub id: ConsumerId,
    pub limit: Limit,
    pub deliveries: UnboundedSender<Handed>,
    /// What it holds, by its id in the queue.
    pub held: BTreeMap<i64, Held>,
    held_bytes: usize,
}

/// A message that a consumer holds.
pub(super) struct Held {
    /// How often it came back before.
    deliveries: u32,
    message: MessageId,
    bytes: usize,
}

impl Consumer {
    pub fn new(id: ConsumerId, limit: Limit, deliveries: UnboundedSender<Handed>) -> Self {
        Self { id, limit, deliveries, held: BTreeMap::new(), held_bytes: 0 }
    }

    fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How many more messages it takes.
    fn room(&self) -> usize {
        match self.held_bytes < self.limit.bytes {
            true => self.limit.messages.saturating_sub(self.held.len()),
            false => 0,
        }
    }

    fn hold(&mut self, id: i64, held: Held) {
        self.held_bytes += held.bytes;
        self.held.insert(id, held);
    }

    fn release(&mut self, id: i64) -> Option<Held> {
        let held = self.held.remove(&id)?;
        self.held_bytes -= held.bytes;
        Some(held)
    }
}

/// When the head of a queue expires.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// To be looked up.
    Unknown,
    /// Nothing is ready, or the queue has no time to live.
    Never,
    /// At this time, in microseconds since 1970.
    At(i64),
}

/// A queue. Changed only along with the file; if the file refuses a change, all queues are reloaded.
pub(super) struct QueueState {
    pub queue: Queue,
    pub table: Table,
    pub consumers: Vec<Consumer>,
    pub due: Due,
    /// Whether it is among those to look at in this cycle.
    pub is_changed: bool,
    /// When to check it next for what expires.
    pub scheduled: Option<i64>,
    /// Rows in the table.
    length: i64,
    /// Rows that consumers hold.
    held: i64,
    next_id: i64,
    /// When the file was read, in microseconds since 1970, and the highest id it had then.
    loaded: (i64, i64),
    cursor: i64,
    returned: BTreeSet<i64>,
    /// The highest id that a consumer ever had in this run.
    handed_out: i64,
    /// Length and `handed_out` as the file has them.
    saved: (i64, i64),
    /// Whose turn it is.
    turn: usize,
}

/// A message that goes into a queue.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub routing_key: &'a str,
    pub properties: &'a [u8],
    pub expiration: Option<Duration>,
    pub body: &'a [u8],
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl QueueState {
    /// A queue as the file has it after recovery: nobody holds anything.
    pub fn new(stored: StoredQueue, now: i64) -> Self {
        Self {
            due: if stored.queue.message_ttl.is_some() { Due::Unknown } else { Due::Never },
            queue: stored.queue,
            table: stored.table,
            consumers: Vec::new(),
            is_changed: false,
            scheduled: None,
            length: stored.length,
            held: 0,
            next_id: stored.highest_id + 1,
            loaded: (now, stored.highest_id),
            cursor: 0,
            returned: BTreeSet::new(),
            handed_out: 0,
            saved: (stored.length, 0),
            turn: 0,
        }
    }

    /// Messages that could be handed out.
    pub fn ready(&self) -> i64 {
        self.length - self.held
    }

    /// Messages that consumers hold.
    pub fn held(&self) -> i64 {
        self.held
    }

    /// Whether there is something to hand out and someone to take it.
    pub fn can_hand_out(&self) -> bool {
        self.ready() > 0 && self.consumers.iter().any(Consumer::has_room)
    }

    /// How many more messages the consumers take.
    pub fn room(&self) -> usize {
        self.consumers.iter().map(Consumer::room).sum()
    }

    /// Time to live in microseconds.
    fn ttl(&self) -> Option<i64> {
        self.queue.message_ttl.map(micros)
    }

    fn look_up_due(&mut self) {
        if self.queue.message_ttl.is_some() {
            self.due = Due::Unknown;
        }
    }

    /// Changes the delivery limit.
    pub fn limit_deliveries(&mut self, file: &File, limit: u32) -> rusqlite::Result<()> {
        if self.queue.delivery_limit != limit {
            file.limit_deliveries(&self.table, limit)?;
            self.queue.delivery_limit = limit;
        }
        Ok(())
    }

    /// Appends a message.
    pub fn append(
        &mut self,
        file: &File,
        now: i64,
        message: MessageId,
        expiration: Option<Duration>,
    ) -> rusqlite::Result<()> {
        let expires_at =
            self.ttl().map(|ttl| now.saturating_add(expiration.map_or(ttl, |own| ttl.min(micros(own)))));
        file.insert(&self.table, self.next_id, expires_at, message)?;
        self.next_id += 1;
        self.length += 1;
        if self.ready() == 1 {
            self.look_up_due();
        }
        Ok(())
    }

    /// The ready messages at the head, oldest first, without taking them: at most this many, and few if they are large.
    /// Those that came back are given on their own, before the others.
    pub fn peek(&self, file: &File, limit: usize) -> rusqlite::Result<Vec<StoredMessage>> {
        if self.returned.is_empty() {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            return file.after(&self.table, self.cursor, limit, READ_BYTES);
        }
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for &id in self.returned.iter().take(limit) {
            let message = file.one(&self.table, id)?;
            bytes += message.as_ref().map_or(0, |message| message.body.len());
            messages.extend(message);
            if bytes >= READ_BYTES {
                break;
            }
        }
        Ok(messages)
    }

    fn take(&mut self, id: i64) {
        if !self.returned.remove(&id) {
            self.cursor = self.cursor.max(id);
        }
        self.look_up_due();
    }

    /// Hands a ready message to the next consumer in turn that has room. The delivery goes out after the commit.
    pub fn hand_out(&mut self, message: StoredMessage) -> Option<(UnboundedSender<Handed>, Handed)> {
        let count = self.consumers.len();
        let place = (0..count).map(|n| (self.turn + n) % count).find(|&n| self.consumers[n].has_room())?;
        self.turn = place + 1;
        let id = message.id;
        self.take(id);
        self.held += 1;
        let redelivered = message.deliveries > 0 || id <= self.handed_out;
        self.handed_out = self.handed_out.max(id);
        let consumer = &mut self.consumers[place];
        let StoredMessage { message, deliveries, routing_key, properties, body, .. } = message;
        consumer.hold(id, Held { deliveries, message, bytes: body.len() });
        Some((consumer.deliveries.clone(), Handed { id, redelivered, routing_key, properties, body }))
    }

    /// Takes a message that is ready off the queue for good.
    pub fn remove(&mut self, file: &File, id: i64) -> rusqlite::Result<()> {
        file.delete(&self.table, id, id)?;
        self.take(id);
        self.length -= 1;
        Ok(())
    }

    /// Takes messages that a consumer holds off the queue for good; passes over ids that it does not hold. Gives which
    /// messages these were.
    pub fn ack(
        &mut self,
        file: &File,
        consumer: ConsumerId,
        ids: &mut [i64],
    ) -> rusqlite::Result<Vec<MessageId>> {
        let Some(consumer) = self.consumers.iter_mut().find(|c| c.id == consumer) else {
            return Ok(Vec::new());
        };
        let mut messages = Vec::with_capacity(ids.len());
        // A batch is mostly one run of ids, which is one statement.
        ids.sort_unstable();
        let mut run: Option<(i64, i64)> = None;
        for &id in ids.iter() {
            let Some(held) = consumer.release(id) else { continue };
            messages.push(held.message);
            self.held -= 1;
            self.length -= 1;
            run = match run {
                Some((first, last)) if last + 1 == id => Some((first, id)),
                Some((first, last)) => {
                    file.delete(&self.table, first, last)?;
                    Some((id, id))
                }
                None => Some((id, id)),
            };
        }
        if let Some((first, last)) = run {
            file.delete(&self.table, first, last)?;
        }
        Ok(messages)
    }

    /// Makes a message that a consumer holds ready again, at its old place, delivered once more. Gives the count.
    pub fn give_back(&mut self, file: &File, consumer: ConsumerId, id: i64) -> rusqlite::Result<Option<u32>> {
        let holder = self.consumers.iter_mut().find(|c| c.id == consumer);
        let Some(Held { deliveries, .. }) = holder.and_then(|c| c.release(id)) else { return Ok(None) };
        file.count_delivery(&self.table, id, id)?;
        self.held -= 1;
        self.returned.insert(id);
        self.look_up_due();
        Ok(Some(deliveries + 1))
    }

    /// Looks up when the head expires, if that is not known. What an earlier run left waits no longer than the time
    /// to live from now on: a clock that was ahead then holds nothing up.
    pub fn find_due(&mut self, file: &File) -> rusqlite::Result<Due> {
        if self.due == Due::Unknown {
            let head = match self.returned.first() {
                _ if self.ready() == 0 => None,
                Some(&id) => file.head(&self.table, id)?,
                None => file.head(&self.table, self.cursor + 1)?,
            };
            let (loaded_at, found_up_to) = self.loaded;
            self.due = match (head, self.ttl()) {
                (Some((id, Some(expires_at))), Some(ttl)) if id <= found_up_to => {
                    Due::At(expires_at.min(loaded_at.saturating_add(ttl)))
                }
                (Some((_, Some(expires_at))), _) => Due::At(expires_at),
                _ => Due::Never,
            };
        }
        Ok(self.due)
    }

    /// Writes length and `handed_out` to the file if they changed.
    pub fn save(&mut self, file: &File) -> rusqlite::Result<()> {
        let now = (self.length, self.handed_out);
        if now != self.saved {
            file.save(&self.table, now.0, now.1)?;
            self.saved = now;
        }
        Ok(())
    }

    /// Gives everything back that consumers hold, for an orderly end: nothing is left to recover.
    pub fn end(&mut self, file: &File) -> rusqlite::Result<()> {
        for id in self.consumers.iter().flat_map(|consumer| consumer.held.keys()) {
            file.count_delivery(&self.table, *id, *id)?;
        }
        self.consumers.clear();
        self.held = 0;
        self.handed_out = 0;
        self.save(file)
    }
}
