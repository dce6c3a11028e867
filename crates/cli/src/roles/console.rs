//! The role that serves the administration API and runs jobs.

use std::sync::Arc;

use ::documents::Archive;
use console::{ConsoleState, EventSchema, Oidc, Overviews, PersonalFields, SeenTokens, Token};
use consumer::{Bindings, DomainEvent};
use event::ProviderName;
use ledger::jobs::{Editor, Runner};
use providers::SubjectKey;
use providers::auth::Secret;
use server::Server;
use store::Store;
use subscriptions::queue::Queues;

use super::documents;
use super::reread::{check_edit, reread};
use super::shared::{Shared, Tasks};
use super::telemetry::VERSION;
use crate::installation;
use crate::registry;
use crate::sender_texts;

/// The parts of the console beside those that all roles share.
pub(super) struct Parts {
    pub port: Server,
    pub token: Secret,
    pub key: SubjectKey,
    pub store: Store,
    pub queues: Queues,
}

fn schema(event: &DomainEvent) -> EventSchema {
    EventSchema { name: event.name, meaning: event.meaning, schema: event.schema() }
}

/// Starts it; returns the token, which can be replaced.
pub(super) fn start(shared: &Shared<'_>, parts: Parts, tasks: &mut Tasks) -> Token {
    let Parts { port, token, key, store, queues } = parts;
    let config = shared.config;
    let editor = Editor {
        store: store.clone(),
        consumers: installation::consumers(),
        check: check_edit(config, key.clone()),
    };
    let pseudonyms = key.clone();
    let runner = Runner {
        broker: shared.broker.clone(),
        layout: shared.layout.clone(),
        store: store.clone(),
        zone: config.time.zone.clone(),
        consumers: installation::consumers(),
        policies: config.consumer.policies.clone(),
        reread: reread(config, key),
        fetch: documents::fetch(config, store.clone()),
    };
    // While the broker is down the job shows it; the console keeps running.
    tasks.spawn_once(&shared.migrated, &shared.working, |stop| runner.run(stop));
    let feed = shared.feed(&store, &shared.accepting, tasks);
    let (audited, days) = (store.clone(), config.console.keep_audit_days);
    tasks.spawn_once(&shared.migrated, &shared.working, move |stop| {
        console::forget_old_entries(audited, days, stop)
    });
    let token = Token::new(token.expose());
    let client = outbound::Client::new(&config.outbound);
    // Its address was checked with the configuration.
    let oidc = config.console.oidc.as_ref().and_then(|one| Oidc::new(one.settings(), client.clone()).ok());
    let providers = config.providers.iter().map(|provider| provider.name().to_string());
    let personal = config.providers.iter().map(|it| (it.name().to_string(), it.personal().to_vec()));
    let identified = config.sources.iter().filter_map(|source| {
        let rule = source.duplicates(config.provider(&source.provider)?)?;
        Some((source.name.to_string(), rule.id_names()))
    });
    let state = ConsoleState {
        feed,
        editor,
        store,
        queues,
        broker: shared.broker.clone(),
        layout: shared.layout.clone(),
        token: token.clone(),
        overviews: Overviews::default(),
        seen: SeenTokens::default(),
        oidc,
        seal: Arc::clone(&shared.seal),
        archive: Archive::new(installation::files_dir(config)),
        client,
        consumers: registry::ALL.iter().map(|domain| (domain.name(), domain.bindings.purpose)).collect(),
        work: installation::consumers().iter().map(Bindings::work_queue).collect(),
        views: registry::views().collect(),
        sources: sender_texts::configured_sources(config).into(),
        providers: providers.chain([ProviderName::OWN.to_owned()]).collect(),
        pseudonym: Arc::new(move |person| pseudonyms.hash(person)),
        personal: PersonalFields::new(personal, identified),
        schemas: registry::events().map(schema).collect(),
        health: shared.health.clone(),
        migrated: shared.migrated.clone(),
        zone: config.time.zone.clone(),
        trace_url: config.console.trace_url().map(str::to_owned),
        version: VERSION,
    };
    let served = console::serve(state, port, shared.operations.public(), shared.working.clone());
    tasks.others.spawn(served);
    token
}
