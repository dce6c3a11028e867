//! Exchanges and bindings in memory: which queues a message goes to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::topology::topic_matches;
use crate::{Binding, Destination, Exchange, ExchangeKind, ExchangeName, QueueName};

/// Routing keys remembered per exchange. Topics are few; a sender that makes them up must not fill the memory.
const REMEMBERED_KEYS: usize = 1_024;

/// A place in the list of queues.
pub(super) type QueueIndex = usize;

/// Where a message goes.
pub(super) enum Route {
    /// To these queues, at least one, each once.
    Queues(Arc<[QueueIndex]>),
    /// To no queue.
    Unroutable,
    /// The exchange does not exist.
    MissingExchange,
}

struct Node {
    exchange: Exchange,
    bindings: Vec<Binding>,
    remembered: HashMap<String, Arc<[QueueIndex]>>,
}

/// All exchanges with their bindings, and the names of the queues.
#[derive(Default)]
pub(super) struct Routes {
    exchanges: HashMap<ExchangeName, Node>,
    bindings: HashSet<Binding>,
    queues: HashMap<QueueName, QueueIndex>,
}

impl Routes {
    /// The exchange of this name.
    pub fn exchange(&self, name: &ExchangeName) -> Option<&Exchange> {
        self.exchanges.get(name).map(|node| &node.exchange)
    }

    /// The queue of this name.
    pub fn queue(&self, name: &QueueName) -> Option<QueueIndex> {
        self.queues.get(name).copied()
    }

    /// Whether the binding exists.
    pub fn has_binding(&self, binding: &Binding) -> bool {
        self.bindings.contains(binding)
    }

    /// Adds an exchange.
    pub fn add_exchange(&mut self, exchange: Exchange) {
        self.forget();
        let node = Node { exchange, bindings: Vec::new(), remembered: HashMap::new() };
        self.exchanges.insert(node.exchange.name.clone(), node);
    }

    /// Adds a queue, or gives it another place.
    pub fn add_queue(&mut self, name: QueueName, index: QueueIndex) {
        self.forget();
        self.queues.insert(name, index);
    }

    /// Adds a binding of an exchange that exists.
    pub fn add_binding(&mut self, binding: Binding) {
        self.forget();
        if let Some(node) = self.exchanges.get_mut(&binding.exchange) {
            node.bindings.push(binding.clone());
            self.bindings.insert(binding);
        }
    }

    /// Removes a binding; whether it existed.
    pub fn remove_binding(&mut self, binding: &Binding) -> bool {
        let existed = self.bindings.remove(binding);
        if existed && let Some(node) = self.exchanges.get_mut(&binding.exchange) {
            node.bindings.retain(|other| other != binding);
            self.forget();
        }
        existed
    }

    /// Removes a queue with its bindings; its former place.
    pub fn remove_queue(&mut self, name: &QueueName) -> Option<QueueIndex> {
        let index = self.queues.remove(name)?;
        let stays = |binding: &Binding| binding.destination != Destination::Queue(name.clone());
        self.bindings.retain(stays);
        self.exchanges.values_mut().for_each(|node| node.bindings.retain(stays));
        self.forget();
        Some(index)
    }

    fn forget(&mut self) {
        for node in self.exchanges.values_mut() {
            node.remembered.clear();
        }
    }

    /// Where a message goes that is published to an exchange with a routing key.
    pub fn route(&mut self, exchange: &ExchangeName, routing_key: &str) -> Route {
        let queues = if exchange.as_str().is_empty() {
            match self.queues.get(&QueueName::new(routing_key)) {
                Some(&index) => Arc::from([index]),
                None => return Route::Unroutable,
            }
        } else {
            let Some(node) = self.exchanges.get(exchange) else { return Route::MissingExchange };
            match node.remembered.get(routing_key) {
                Some(queues) => queues.clone(),
                None => self.walk_and_remember(exchange, routing_key),
            }
        };
        if queues.is_empty() { Route::Unroutable } else { Route::Queues(queues) }
    }

    fn walk_and_remember(&mut self, exchange: &ExchangeName, routing_key: &str) -> Arc<[QueueIndex]> {
        let queues: Arc<[QueueIndex]> = self.walk(exchange, routing_key).into();
        let node = self.exchanges.get_mut(exchange).expect("the caller has looked it up");
        if node.remembered.len() >= REMEMBERED_KEYS {
            node.remembered.clear();
        }
        node.remembered.insert(routing_key.to_owned(), queues.clone());
        queues
    }

    /// Follows bindings and alternate exchanges; visits each exchange once, so that a loop of bindings ends.
    fn walk(&self, from: &ExchangeName, routing_key: &str) -> Vec<QueueIndex> {
        let mut queues = Vec::new();
        let mut seen = HashSet::from([from]);
        let mut open = vec![from];
        while let Some(node) = open.pop().and_then(|name| self.exchanges.get(name)) {
            let takes = |binding: &&Binding| match node.exchange.kind {
                ExchangeKind::Fanout => true,
                ExchangeKind::Direct => binding.routing_key == routing_key,
                ExchangeKind::Topic => topic_matches(&binding.routing_key, routing_key),
            };
            let mut taken = false;
            for binding in node.bindings.iter().filter(takes) {
                taken = true;
                match &binding.destination {
                    Destination::Queue(name) => queues.extend(self.queue(name)),
                    Destination::Exchange(name) => open.extend(seen.insert(name).then_some(name)),
                }
            }
            if !taken && let Some(alternate) = &node.exchange.alternate {
                open.extend(seen.insert(alternate).then_some(alternate));
            }
        }
        queues.sort_unstable();
        queues.dedup();
        queues
    }
}
