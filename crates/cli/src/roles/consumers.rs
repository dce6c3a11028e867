//! The roles that consume: the ledger and the domains, whose events are published beside them.

use std::sync::Arc;

use consumer::{Relay, Runtime};
use ledger::witness::{self, Kept, Witness};
use store::Store;

use super::follow;
use super::shared::{Shared, Tasks};
use crate::installation;

/// Starts the consumers of these roles; they wait until broker and store are prepared.
pub(super) fn start(shared: &Shared<'_>, store: Store, tasks: &mut Tasks) {
    let Shared { config, roles, prepared, working, .. } = shared;
    let runtime = Runtime {
        broker: shared.broker.clone(),
        layout: shared.layout.clone(),
        store: store.clone(),
        config: config.consumer.clone(),
    };
    let mut consumers = match roles.ledger {
        true => ledger::consumers(runtime.clone(), &installation::consumers()),
        false => Vec::new(),
    };
    let (kept, retention) = (Kept::default(), config.retention());
    consumers.extend(roles.domains.iter().map(|domain| {
        let consumer = (domain.consumer)(&retention.zone, runtime.clone());
        let witness = Arc::new(Witness::new(consumer.name(), kept.clone()));
        consumer.observed(witness)
    }));
    let Runtime { broker, layout, store: kept_in, .. } = runtime;
    if !roles.domains.is_empty() || roles.documents {
        let relay = Relay { broker: broker.clone(), layout: layout.clone(), store: kept_in.clone() };
        tasks.spawn_once(prepared, working, |stop| relay.run(stop));
    }
    if !roles.domains.is_empty() {
        tasks.others.spawn(witness::report(kept, kept_in, broker, layout, working.clone()));
    }
    for consumer in consumers {
        let name = format!("consumer.{}", consumer.name());
        let health = &shared.health;
        let component = if roles.ingress { health.secondary(name) } else { health.component(name) };
        tasks.others.spawn(follow::follow(consumer.status(), follow::consumer, component));
        tasks.spawn_once(prepared, working, |stop| consumer.run(stop));
    }
    if roles.ledger {
        tasks.spawn_once(prepared, working, |stop| ledger::sweep_until(store, retention, stop));
    }
}
