//! The replicas of the role: each source is the work of one of them at a time.
//!
//! A replica takes every source that nobody has, and one that is killed loses its sources within seconds. The pace of an API is
//! therefore kept in one place. On SQLite, whose store serves one process, there are no leases.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{Chain, EventId, SourceName};
use futures_util::future::join_all;
use ledger::feed::Feed;
use outbound::Client;
use store::{Dialect, Store, StoreError, lease};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::archive::Archive;
use crate::config::{Config, Source};
use crate::retain;
use crate::table::Holder;
use crate::worker::{Context, Trouble, Worker};
use crate::writes::Writes;

/// How long a lease lasts, and how often its holder extends it and others ask for it.
const LEASE: Duration = Duration::from_secs(10);
const LEASE_PERIOD: Duration = Duration::from_secs(2);

/// So long before the end of its lease a replica stops: clocks and networks are not exact.
const MARGIN: Duration = Duration::from_secs(1);

/// How often old documents are deleted.
const SWEEP: Duration = Duration::from_secs(3_600);

/// The pause after trouble.
const PAUSE: Duration = Duration::from_secs(1);

/// The role in one process.
pub struct Engine {
    /// Where documents are kept.
    pub store: Store,
    /// Where events come from; it has to run.
    pub feed: Feed,
    /// What fetches.
    pub client: Client,
    /// The same without the exceptions of `[outbound] allow`, for the addresses that events have: who posts one must not reach what
    /// only the configuration may.
    pub public: Client,
    /// Where files are kept.
    pub archive: Archive,
    /// The settings.
    pub config: Config,
    /// The sources with an API. The credentials of one may change, which is in force at once; nothing is fetched for one that is
    /// missing. One that was not there at the start is not noticed.
    pub sources: watch::Receiver<Vec<Source>>,
}

impl Engine {
    /// Fetches until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let Self { store, feed, client, public, archive, config, sources } = self;
        let name = EventId::generate().to_string();
        let writes = Writes::new(store.dialect());
        let context = Arc::new(Context { store, feed, client, public, archive, config, name, writes });
        let names: Vec<_> = sources.borrow().iter().map(|source| source.name.clone()).collect();
        let keep = |name| keep(Arc::clone(&context), name, sources.clone(), stop.clone());
        let kept = join_all(names.into_iter().map(keep).collect::<Vec<_>>());
        // No task of a role ends by itself.
        tokio::join!(kept, stop.run_until_cancelled(sweep(&context)));
    }
}

/// Deletes what is old again and again, if anything is to be deleted.
async fn sweep(context: &Context) {
    let Context { store, archive, config, .. } = context;
    if config.keep_days == 0 {
        return pending().await;
    }
    loop {
        match retain::sweep(store, archive, config.keep_days, event::now()).await {
            Ok(0) => {}
            Ok(versions) => info!(versions, "deleted old documents"),
            Err(error) => warn!("old documents are not deleted: {}", Chain(&error)),
        }
        sleep(SWEEP).await;
    }
}

/// Does the work for one source whenever this replica has its lease.
async fn keep(
    context: Arc<Context>,
    source: SourceName,
    mut sources: watch::Receiver<Vec<Source>>,
    stop: CancellationToken,
) {
    let name = Holder::lease(&source);
    loop {
        let configured = stop.run_until_cancelled(configured(&mut sources, &source)).await;
        let Some(source) = configured.map(Arc::new) else { break };
        let taken = Instant::now();
        match take(&context, &name).await {
            Ok(true) => {}
            Ok(false) => {
                stop.run_until_cancelled(sleep(LEASE_PERIOD)).await;
                continue;
            }
            Err(error) => {
                debug!(source = %source.name, error = %Chain(&error), "the lease of documents was not taken");
                stop.run_until_cancelled(sleep(PAUSE)).await;
                continue;
            }
        }
        let end = stop.child_token();
        let changed = async {
            if end.run_until_cancelled(changed(&mut sources, &source)).await.is_some() {
                info!(source = %source.name, "the API of a source is configured otherwise");
                end.cancel();
            }
        };
        let (worked, (), ()) = tokio::join!(
            async {
                let worked = work(&context, &source, &end).await;
                end.cancel();
                worked
            },
            extend(&context, &name, taken, &end),
            changed,
        );
        if let Err(trouble) = worked {
            report(&source, &trouble);
            stop.run_until_cancelled(sleep(PAUSE)).await;
        }
    }
    // For the next replica, which otherwise waits for the end of the lease.
    if let Err(error) = release(&context, &name).await {
        debug!(%source, error = %Chain(&error), "the lease of documents was not given back");
    }
}

/// A source as it is configured now; waits while it is not.
async fn configured(sources: &mut watch::Receiver<Vec<Source>>, name: &SourceName) -> Source {
    loop {
        let source = sources.borrow_and_update().iter().find(|source| source.name == *name).cloned();
        match source {
            Some(source) => return source,
            None if sources.changed().await.is_ok() => {}
            // Nobody can change it any more.
            None => pending().await,
        }
    }
}

/// Waits until a source is configured otherwise, or not any more.
async fn changed(sources: &mut watch::Receiver<Vec<Source>>, source: &Source) {
    let is_same = |other: &Source| other.name == source.name && other.api == source.api;
    if sources.wait_for(|sources| !sources.iter().any(is_same)).await.is_err() {
        pending().await
    }
}

async fn work(context: &Arc<Context>, source: &Arc<Source>, end: &CancellationToken) -> Result<(), Trouble> {
    info!(source = %source.name, "fetches the documents of a source");
    let worker = end.run_until_cancelled(Worker::new(Arc::clone(context), Arc::clone(source))).await;
    match worker {
        Some(worker) => worker?.run(end).await,
        None => Ok(()),
    }
}

fn report(source: &Source, trouble: &Trouble) {
    let source = &source.name;
    match trouble {
        Trouble::Lost => debug!(%source, "another replica fetches the documents of a source"),
        Trouble::Store(error) => debug!(%source, error = %Chain(error), "documents wait for the store"),
        trouble => warn!(%source, "documents are not fetched: {}", Chain(trouble)),
    }
}

async fn take(context: &Context, name: &str) -> Result<bool, StoreError> {
    let Context { store, name: holder, .. } = context;
    if store.dialect() == Dialect::Sqlite {
        return Ok(true);
    }
    let now = lease::clock(store).await?;
    if !lease::is_free(&mut *store.read().await?, name, holder, now).await? {
        return Ok(false);
    }
    let mut tx = store.begin_brief().await?;
    let is_mine = lease::take(&mut tx, name, holder, now, now + LEASE).await?;
    tx.commit().await?;
    Ok(is_mine)
}

/// Extends the lease until the work ends; ends the work when it cannot.
async fn extend(context: &Context, name: &str, mut taken: Instant, end: &CancellationToken) {
    if context.store.dialect() == Dialect::Sqlite {
        return end.cancelled().await;
    }
    while end.run_until_cancelled(sleep(LEASE_PERIOD)).await.is_some() {
        let began = Instant::now();
        match take(context, name).await {
            Ok(true) => taken = began,
            Ok(false) => end.cancel(),
            Err(_) if taken.elapsed() + LEASE_PERIOD + MARGIN >= LEASE => end.cancel(),
            Err(_) => {}
        }
    }
}

async fn release(context: &Context, name: &str) -> Result<(), StoreError> {
    if context.store.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let mut tx = context.store.begin_brief().await?;
    lease::release(&mut tx, name, &context.name).await?;
    Ok(tx.commit().await?)
}
