//! The role that fetches documents.

use std::sync::Arc;

use ::documents::{Archive, Cause, Engine, Source, ask_for};
use ledger::jobs::Fetch;
use outbound::Client;
use store::Store;
use tokio::sync::watch;

use super::shared::{Shared, Tasks};
use crate::config::Config;
use crate::installation;

/// Starts it if the process has it, and a source has an API or old documents are deleted; it waits until the tables exist. Gives what
/// changes the credentials of the sources.
pub(super) fn start(
    shared: &Shared<'_>,
    store: Store,
    tasks: &mut Tasks,
) -> Option<watch::Sender<Vec<Source>>> {
    let sources = sources(shared.config);
    let is_idle = sources.is_empty() && shared.config.documents.keep_days == 0;
    if !shared.roles.documents || is_idle {
        return None;
    }
    let feed = shared.feed(&store, &shared.working, tasks);
    let (changes, sources) = watch::channel(sources);
    let engine = Engine {
        store,
        feed,
        client: Client::new(&shared.config.outbound),
        public: Client::new(&outbound::Config { allow: Vec::new(), ..shared.config.outbound.clone() }),
        archive: Archive::new(installation::files_dir(shared.config)),
        config: shared.config.documents.clone(),
        sources,
    };
    tasks.spawn_once(&shared.migrated, &shared.working, |stop| engine.run(stop));
    Some(changes)
}

/// What has documents fetched that recorded events name.
pub(super) fn fetch(config: &Config, store: Store) -> Fetch {
    let sources = Arc::new(sources(config));
    Arc::new(move |events| {
        let (sources, store) = (Arc::clone(&sources), store.clone());
        Box::pin(async move {
            let mut count = 0;
            let mut tx = store.begin().await?;
            for source in sources.iter() {
                let of_source = events.iter().filter(|event| event.source.name == source.name);
                let causes: Vec<_> = of_source.map(Cause::from).collect();
                count += ask_for(&mut tx, source, &causes).await?;
            }
            tx.commit().await?;
            Ok(count)
        })
    })
}

/// The sources with an API.
pub(super) fn sources(config: &Config) -> Vec<Source> {
    let with_api = config.sources.iter().filter_map(|source| {
        let provider = config.provider(&source.provider)?.clone();
        Some(Source { name: source.name.clone(), provider, api: source.api.clone()? })
    });
    with_api.collect()
}
