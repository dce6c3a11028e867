//! All exchanges and queues of the embedded broker, and what each operation does to them.
//!
//! Every operation changes memory and writes to the file in one go; [`writer`](super::writer) commits. When the file
//! refuses a write, this value is dropped and reloaded from what the file last committed, as after a crash: there is
//! one way back to a true state, and it is the one that every start takes.

use std::collections::{BTreeSet, HashSet};

use tokio::sync::mpsc::UnboundedSender;

use super::Contents;
use super::file::{File, MessageId, StoredMessage};
use super::messages::Messages;
use super::properties::{self, Death};
use super::queue::{Consumer, ConsumerId, Due, Handed, Incoming, Limit, QueueState};
use super::routes::{QueueIndex, Route, Routes};
use crate::{
    Binding, BrokerError, Cause, Destination, ExchangeName, PublishError, Queue, QueueName, QueueStatus,
    Topology,
};

/// Messages handed out or expired per queue in one transaction, and the bytes of their bodies: what is beyond goes into a
/// later one, so that publishers are answered in between.
const BATCH: usize = 1_024;
const BATCH_BYTES: usize = 1024 * 1024;

/// Messages read at a time.
const READ: usize = 128;

/// Warnings about dead letters without a destination that are not repeated.
const REMEMBERED_WARNINGS: usize = 1_024;

#[derive(Debug, thiserror::Error)]
#[error("{kind} {name} is already declared, as {existing}")]
struct Different {
    kind: &'static str,
    name: String,
    existing: String,
}

#[derive(Debug, thiserror::Error)]
#[error("exchange {0} of a binding is not declared")]
struct UnknownExchange(ExchangeName);

/// Exchanges, queues, and the deliveries that go out after the next commit.
pub(super) struct BrokerState {
    routes: Routes,
    queues: Vec<QueueState>,
    messages: Messages,
    /// Queues to look at in this cycle: those that changed since they were looked at last. In every other queue there is
    /// nothing to hand out and nothing to save, so that idle queues cost nothing.
    changed: Vec<QueueIndex>,
    /// Queues that were looked at in this cycle, to be settled.
    looked_at: Vec<QueueIndex>,
    /// When the heads of queues expire.
    due: BTreeSet<(i64, QueueIndex)>,
    /// How often a queue was looked at.
    #[cfg(test)]
    pub looks: usize,
    /// Deliveries to send once what was written is committed.
    pub outbox: Vec<(UnboundedSender<Handed>, Handed)>,
    /// Messages dead-lettered since the last commit.
    pub dead_letters: u64,
    warned: HashSet<(QueueIndex, String)>,
}

impl BrokerState {
    /// What the file holds; takes from consumers that are gone what they had.
    pub fn load(file: &File, now: i64) -> rusqlite::Result<Self> {
        let mut state = Self {
            routes: Routes::default(),
            queues: Vec::new(),
            messages: Messages::above(file.highest_message()?),
            changed: Vec::new(),
            looked_at: Vec::new(),
            due: BTreeSet::new(),
            #[cfg(test)]
            looks: 0,
            outbox: Vec::new(),
            dead_letters: 0,
            warned: HashSet::new(),
        };
        for exchange in file.exchanges()? {
            state.routes.add_exchange(exchange);
        }
        for stored in file.recover_queues()? {
            file.each_held(&stored.table, |message| state.messages.hold(message, 1))?;
            state.routes.add_queue(stored.queue.name.clone(), state.queues.len());
            state.queues.push(QueueState::new(stored, now));
        }
        for binding in file.bindings()? {
            state.routes.add_binding(binding);
        }
        if file.is_writing() {
            file.commit()?;
        }
        state.look_at_all();
        Ok(state)
    }

    /// Looks at every queue in this cycle.
    fn look_at_all(&mut self) {
        self.due.clear();
        self.changed = (0..self.queues.len()).collect();
        for queue in &mut self.queues {
            queue.is_changed = true;
            queue.scheduled = None;
        }
    }

    /// A queue that is about to change: it is looked at in this cycle.
    fn changing(&mut self, index: QueueIndex) -> &mut QueueState {
        let queue = &mut self.queues[index];
        if !std::mem::replace(&mut queue.is_changed, true) {
            self.changed.push(index);
        }
        queue
    }

    fn queue(&mut self, name: &QueueName) -> Option<&mut QueueState> {
        self.routes.queue(name).map(|index| self.changing(index))
    }

    /// Stores a message in every queue it is routed to. The inner error is the publisher's own.
    pub fn publish(
        &mut self,
        file: &File,
        now: i64,
        exchange: &ExchangeName,
        message: Incoming<'_>,
    ) -> rusqlite::Result<Result<(), PublishError>> {
        match self.routes.route(exchange, message.routing_key) {
            Route::Queues(targets) => {
                self.put(file, now, &targets, message)?;
                Ok(Ok(()))
            }
            Route::Unroutable => Ok(Err(PublishError::Unroutable {
                exchange: exchange.clone(),
                routing_key: message.routing_key.to_owned(),
            })),
            Route::MissingExchange => Ok(Err(PublishError::MissingExchange { exchange: exchange.clone() })),
        }
    }

    /// Stores a message, and appends it to queues.
    fn put(
        &mut self,
        file: &File,
        now: i64,
        queues: &[QueueIndex],
        Incoming { routing_key, properties, expiration, body }: Incoming<'_>,
    ) -> rusqlite::Result<()> {
        let id = self.messages.next_id();
        file.insert_message(id, routing_key, properties, body)?;
        for &queue in queues {
            self.changing(queue).append(file, now, id, expiration)?;
        }
        self.messages.hold(id, queues.len());
        Ok(())
    }

    /// Queues no longer hold these messages: those that none holds are deleted.
    fn release(&mut self, file: &File, mut messages: Vec<MessageId>) -> rusqlite::Result<()> {
        messages.retain(|message| self.messages.release(*message));
        messages.sort_unstable();
        file.delete_messages(&messages)
    }

    /// Declares everything or, with an inner error, nothing.
    pub fn declare(
        &mut self,
        file: &File,
        now: i64,
        topology: &Topology,
    ) -> rusqlite::Result<Result<(), BrokerError>> {
        if let Err(error) = self.check_declaration(topology) {
            return Ok(Err(error));
        }
        for exchange in &topology.exchanges {
            if self.routes.exchange(&exchange.name).is_none() {
                file.insert_exchange(exchange)?;
                self.routes.add_exchange(exchange.clone());
            }
        }
        for queue in &topology.queues {
            match self.routes.queue(&queue.name) {
                Some(index) => self.queues[index].limit_deliveries(file, queue.delivery_limit)?,
                None => {
                    let stored = file.insert_queue(queue.clone())?;
                    self.routes.add_queue(queue.name.clone(), self.queues.len());
                    self.queues.push(QueueState::new(stored, now));
                }
            }
        }
        for binding in &topology.bindings {
            if !self.routes.has_binding(binding) {
                file.insert_binding(binding)?;
                self.routes.add_binding(binding.clone());
            }
        }
        Ok(Ok(()))
    }

    /// Removes bindings; passes over those that do not exist.
    pub fn unbind(&mut self, file: &File, bindings: &[Binding]) -> rusqlite::Result<()> {
        for binding in bindings {
            if self.routes.remove_binding(binding) {
                file.delete_binding(binding)?;
            }
        }
        Ok(())
    }

    /// Deletes a queue with what it holds, which ends its subscriptions. Gives how many messages were ready.
    pub fn delete_queue(&mut self, file: &File, name: &QueueName) -> rusqlite::Result<u64> {
        let Some(index) = self.routes.remove_queue(name) else { return Ok(0) };
        let gone = self.queues.swap_remove(index);
        // The last queue has its place now.
        if let Some(moved) = self.queues.get(index) {
            self.routes.add_queue(moved.queue.name.clone(), index);
        }
        self.warned.clear();
        self.look_at_all();
        let mut messages = Vec::new();
        file.each_held(&gone.table, |message| messages.push(message))?;
        file.delete_queue(&gone.table, name)?;
        self.release(file, messages)?;
        Ok(u64::try_from(gone.ready()).unwrap_or(0))
    }

    fn check_declaration(&self, topology: &Topology) -> Result<(), BrokerError> {
        let conflict = |kind, name: String, existing: String| BrokerError::Conflict {
            what: format!("{kind} {name}"),
            cause: Different { kind, name, existing }.into(),
        };
        for exchange in &topology.exchanges {
            match self.routes.exchange(&exchange.name) {
                Some(existing) if existing != exchange => {
                    return Err(conflict("exchange", exchange.name.to_string(), format!("{existing:?}")));
                }
                Some(_) | None => {}
            }
        }
        for queue in &topology.queues {
            match self.routes.queue(&queue.name).map(|index| &self.queues[index].queue) {
                Some(existing) if !same_queue(existing, queue) => {
                    return Err(conflict("queue", queue.name.to_string(), format!("{existing:?}")));
                }
                Some(_) | None => {}
            }
        }
        let exchange_exists = |name: &ExchangeName| {
            self.routes.exchange(name).is_some() || topology.exchanges.iter().any(|e| e.name == *name)
        };
        for binding in &topology.bindings {
            if !exchange_exists(&binding.exchange) {
                return Err(BrokerError::Unavailable(UnknownExchange(binding.exchange.clone()).into()));
            }
            match &binding.destination {
                Destination::Exchange(name) if !exchange_exists(name) => {
                    return Err(BrokerError::Unavailable(UnknownExchange(name.clone()).into()));
                }
                Destination::Queue(name)
                    if self.routes.queue(name).is_none()
                        && !topology.queues.iter().any(|q| q.name == *name) =>
                {
                    return Err(BrokerError::MissingQueue { queue: name.clone() });
                }
                Destination::Exchange(_) | Destination::Queue(_) => {}
            }
        }
        Ok(())
    }

    /// What a queue holds. The inner error is the caller's own.
    pub fn contents(
        &mut self,
        file: &File,
        name: &QueueName,
    ) -> rusqlite::Result<Result<Contents, BrokerError>> {
        match self.queue(name) {
            Some(queue) => file.contents(&queue.table).map(Ok),
            None => Ok(Err(BrokerError::MissingQueue { queue: name.clone() })),
        }
    }

    /// Adds a consumer to a queue.
    pub fn subscribe(&mut self, name: &QueueName, consumer: Consumer) -> Result<(), BrokerError> {
        let Some(queue) = self.queue(name) else {
            return Err(BrokerError::MissingQueue { queue: name.clone() });
        };
        queue.consumers.push(consumer);
        Ok(())
    }

    /// Removes a consumer. What it holds is ready again, or dead-lettered if it came back too often.
    pub fn unsubscribe(
        &mut self,
        file: &File,
        now: i64,
        name: &QueueName,
        consumer: ConsumerId,
    ) -> rusqlite::Result<()> {
        let Some(index) = self.routes.queue(name) else { return Ok(()) };
        let Some(leaving) = self.queues[index].consumers.iter().find(|c| c.id == consumer) else {
            return Ok(());
        };
        let held: Vec<i64> = leaving.held.keys().copied().collect();
        self.changing(index);
        for id in held {
            let queue = &mut self.queues[index];
            let Some(deliveries) = queue.give_back(file, consumer, id)? else { continue };
            if deliveries > queue.queue.delivery_limit
                && let Some(message) = file.one(&queue.table, id)?
            {
                self.dead_letter(file, now, index, message, Death::DeliveryLimit)?;
            }
        }
        self.queues[index].consumers.retain(|c| c.id != consumer);
        Ok(())
    }

    /// Changes how much a consumer may hold.
    pub fn limit(&mut self, name: &QueueName, consumer: ConsumerId, limit: Limit) {
        let Some(queue) = self.queue(name) else { return };
        if let Some(consumer) = queue.consumers.iter_mut().find(|c| c.id == consumer) {
            consumer.limit = limit;
        }
    }

    /// Takes off the queue what a consumer holds.
    pub fn ack(
        &mut self,
        file: &File,
        name: &QueueName,
        consumer: ConsumerId,
        ids: &mut [i64],
    ) -> rusqlite::Result<()> {
        match self.queue(name) {
            Some(queue) => {
                let messages = queue.ack(file, consumer, ids)?;
                self.release(file, messages)
            }
            None => Ok(()),
        }
    }

    /// Moves a ready message to the dead letter exchange of its queue, in the transaction that takes it off. Gives it
    /// back when that exchange leads to no queue: the message is then still where it was.
    fn dead_letter(
        &mut self,
        file: &File,
        now: i64,
        index: QueueIndex,
        message: StoredMessage,
        death: Death,
    ) -> rusqlite::Result<Option<StoredMessage>> {
        let Queue { name, dead_letter_exchange, .. } = &self.queues[index].queue;
        if let Some(exchange) = dead_letter_exchange {
            let Route::Queues(targets) = self.routes.route(exchange, &message.routing_key) else {
                if self.warned.len() >= REMEMBERED_WARNINGS {
                    self.warned.clear();
                }
                if self.warned.insert((index, message.routing_key.clone())) {
                    tracing::warn!(
                        queue = %name, %exchange, routing_key = message.routing_key, reason = death.reason(),
                        "no queue accepts a dead letter: it stays in its queue and is tried again",
                    );
                }
                return Ok(Some(message));
            };
            let properties = properties::bury(&message.properties, name.as_str(), death);
            let StoredMessage { routing_key, body, .. } = &message;
            let letter = Incoming { routing_key, properties: &properties, expiration: None, body };
            self.put(file, now, &targets, letter)?;
        } else if death == Death::DeliveryLimit {
            tracing::error!(
                queue = %name, message_id = properties::message_id(&message.properties),
                "a message passed the delivery limit of a queue without a dead letter exchange: it is dropped",
            );
        }
        self.changing(index).remove(file, message.id)?;
        self.release(file, vec![message.message])?;
        self.dead_letters += 1;
        Ok(None)
    }

    /// Dead-letters what has been in its queue for the time to live. True when there may be more.
    pub fn expire(&mut self, file: &File, now: i64) -> rusqlite::Result<bool> {
        let mut more = false;
        while let Some(&(due, index)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            self.look();
            // It is scheduled again when it is settled.
            self.changing(index).scheduled = None;
            let (mut expired, mut bytes) = (0, 0);
            while let Due::At(due) = self.queues[index].find_due(file)?
                && due <= now
            {
                let Some(message) = self.queues[index].peek(file, 1)?.pop() else { break };
                if expired >= BATCH || bytes >= BATCH_BYTES {
                    more = true;
                    break;
                }
                expired += 1;
                bytes += message.body.len();
                if let Some(message) = self.dead_letter(file, now, index, message, Death::Expired)? {
                    // To the end of the queue for another round, so that it holds up none of those behind it.
                    self.messages.hold(message.message, 1);
                    self.queues[index].append(file, now, message.message, None)?;
                    self.queues[index].remove(file, message.id)?;
                    self.release(file, vec![message.message])?;
                }
            }
        }
        Ok(more)
    }

    /// Hands out what is ready to consumers with room. True when there may be more.
    pub fn hand_out(&mut self, file: &File, now: i64) -> rusqlite::Result<bool> {
        std::mem::swap(&mut self.changed, &mut self.looked_at);
        for place in 0..self.looked_at.len() {
            let index = self.looked_at[place];
            self.look();
            self.queues[index].is_changed = false;
            let (mut read, mut bytes) = (0, 0);
            while self.queues[index].can_hand_out() {
                if read >= BATCH || bytes >= BATCH_BYTES {
                    self.changing(index);
                    break;
                }
                let messages = self.queues[index].peek(file, self.queues[index].room().min(READ))?;
                if messages.is_empty() {
                    break;
                }
                for message in messages {
                    read += 1;
                    bytes += message.body.len();
                    // After a crash only: whatever else comes back too often is dead at once.
                    let message = if message.deliveries > self.queues[index].queue.delivery_limit {
                        self.dead_letter(file, now, index, message, Death::DeliveryLimit)?
                    } else {
                        Some(message)
                    };
                    if let Some(message) = message {
                        self.outbox.extend(self.queues[index].hand_out(message));
                    }
                }
            }
        }
        Ok(!self.changed.is_empty())
    }

    fn look(&mut self) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
    }

    /// Brings the lengths in the file up to date. Gives the time when the next message expires.
    pub fn settle(&mut self, file: &File) -> rusqlite::Result<Option<i64>> {
        let looked_at = std::mem::take(&mut self.looked_at);
        for &index in looked_at.iter().chain(&self.changed) {
            let queue = &mut self.queues[index];
            queue.save(file)?;
            let due = match queue.find_due(file)? {
                Due::At(due) => Some(due),
                Due::Unknown | Due::Never => None,
            };
            let before = std::mem::replace(&mut queue.scheduled, due);
            if before != due {
                if let Some(before) = before {
                    self.due.remove(&(before, index));
                }
                self.due.extend(due.map(|due| (due, index)));
            }
        }
        self.looked_at = looked_at;
        self.looked_at.clear();
        Ok(self.due.first().map(|(due, _)| *due))
    }

    /// How full these queues are.
    pub fn status(&self, names: &[QueueName]) -> Result<Vec<QueueStatus>, BrokerError> {
        let status = |name: &QueueName| match self.routes.queue(name) {
            Some(index) => Ok(QueueStatus {
                queue: name.clone(),
                ready: u64::try_from(self.queues[index].ready()).unwrap_or(0),
                unacked: u64::try_from(self.queues[index].held()).ok(),
                consumers: self.queues[index].consumers.len() as u64,
            }),
            None => Err(BrokerError::MissingQueue { queue: name.clone() }),
        };
        names.iter().map(status).collect()
    }

    /// Gives back what every consumer holds, for an orderly end.
    pub fn end(&mut self, file: &File) -> rusqlite::Result<()> {
        self.queues.iter_mut().try_for_each(|queue| queue.end(file))
    }
}

/// Whether a declared queue equals the existing one in what cannot change; times to live are compared in whole
/// milliseconds.
fn same_queue(existing: &Queue, declared: &Queue) -> bool {
    let Queue { name, delivery_limit: _, message_ttl, dead_letter_exchange } = declared;
    existing.name == *name
        && existing.message_ttl.map(|ttl| ttl.as_millis()) == message_ttl.map(|ttl| ttl.as_millis())
        && existing.dead_letter_exchange == *dead_letter_exchange
}

/// A cause for an error that many callers get.
pub(super) fn shared(error: &std::sync::Arc<rusqlite::Error>) -> Cause {
    Box::new(error.clone())
}
