//! The role that serves the administration API and runs jobs.

use console::{ConsoleState, Token};
use ledger::feed::Feed;
use ledger::jobs::Runner;
use providers::SubjectKey;
use providers::auth::Secret;
use server::Server;
use store::Store;

use super::reread::reread;
use super::shared::{Shared, Tasks};
use super::telemetry::VERSION;
use crate::domains;
use crate::installation;

/// The parts of the console beside those that all roles share.
pub(super) struct Parts {
    pub port: Server,
    pub token: Secret,
    pub key: SubjectKey,
    pub store: Store,
}

/// Starts it; returns the token, which can be replaced.
pub(super) fn start(shared: &Shared<'_>, parts: Parts, tasks: &mut Tasks) -> Token {
    let Parts { port, token, key, store } = parts;
    let config = shared.config;
    let runner = Runner {
        broker: shared.broker.clone(),
        layout: shared.layout.clone(),
        store: store.clone(),
        zone: config.time.zone.clone(),
        consumers: installation::consumers(),
        policies: config.consumer.policies.clone(),
        reread: reread(config, key),
    };
    // While the broker is down the job shows it; the console keeps running.
    tasks.spawn_once(&shared.migrated, &shared.working, |stop| runner.run(stop));
    let feed = Feed::new(store.clone(), shared.accepting.clone());
    let following = feed.clone();
    tasks.spawn_once(&shared.migrated, &shared.working, |_| following.run());
    let token = Token::new(token.expose());
    let state = ConsoleState {
        feed,
        store,
        broker: shared.broker.clone(),
        layout: shared.layout.clone(),
        token: token.clone(),
        consumers: domains::ALL.iter().map(|domain| (domain.name(), domain.bindings.purpose)).collect(),
        views: domains::views().collect(),
        sources: config.sources.iter().map(|source| source.name.to_string()).collect(),
        providers: config.providers.iter().map(|provider| provider.name().to_string()).collect(),
        health: shared.health.clone(),
        migrated: shared.migrated.clone(),
        zone: config.time.zone.clone(),
        version: VERSION,
    };
    let served = console::serve(state, port, shared.operations.public(), shared.working.clone());
    tasks.others.spawn(served);
    token
}
