//! The role that delivers push subscriptions and keeps the queues of others.

use std::sync::Arc;

use outbound::Client;
use store::Store;
use subscriptions::push::Engine;

use super::shared::{Shared, Tasks};

/// Starts it if the process has it; it waits until the tables exist.
pub(super) fn start(shared: &Shared<'_>, store: Store, tasks: &mut Tasks) {
    if !shared.roles.subscriptions {
        return;
    }
    let feed = shared.feed(&store, &shared.working, tasks);
    let engine = Engine {
        store,
        feed,
        client: Client::new(&shared.config.outbound),
        seal: Arc::clone(&shared.seal),
        config: shared.config.subscriptions.clone(),
    };
    tasks.spawn_once(&shared.migrated, &shared.working, |stop| engine.run(stop));
    let alarm_messages = shared.config.subscriptions.queue_alarm_messages;
    if let Some(queues) = shared.queues.clone() {
        tasks.spawn_once(&shared.prepared, &shared.working, move |stop| async move {
            queues.keep(alarm_messages, stop).await;
        });
    }
}
