//! The push door: HTTP requests to the services.
//!
//! Any number of replicas share the subscriptions evenly, each delivered by the one that holds its lease. A replica that is
//! killed loses its leases within seconds, and what it had not written down is sent again: at least once, never lost.
//!
//! ```text
//! feed ──▶ feed_part ──▶ reorder ──▶ queue ──▶ request ──▶ the service
//!               └─ window: the cursor    └── record: attempts, rows of events that wait, the cursor
//! ```

mod feed_part;
mod gauges;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod leases;
mod queue;
mod record;
mod reorder;
mod request;
mod schedule;
mod senders;
mod summary;
#[cfg(test)]
mod tests;
mod window;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use event::{Chain, EventId};
use ledger::feed::{Feed, FeedError};
use outbound::Client;
use store::{Store, StoreError, lease};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use self::summary::{Summary, is_running, summary};

use self::leases::{LEASE, Seen};
pub use self::request::BadEndpoint;
use self::request::Endpoint;
use self::worker::Worker;
use crate::declaration::BadDeclaration;
use crate::{
    Config, Declaration, ExpressionError, Seal, Secrets, SubscriptionError, attempts, closing, table,
};

/// How often a replica looks for changes of subscriptions.
const POLL: Duration = Duration::from_millis(500);

/// How often leases are renewed.
const RENEW: Duration = Duration::from_secs(1);

/// So long before the end of its lease a replica stops: clocks and networks are not exact.
const MARGIN: Duration = Duration::from_millis(500);

/// How often old attempts, and undelivered events that are no longer on record, are deleted.
const SWEEP: Duration = Duration::from_secs(60);

/// The pause before a subscription that cannot be delivered is tried again.
const RETRY: Duration = Duration::from_secs(15);

/// Whether events can be sent with a declaration and its secrets, as far as it shows without sending any.
pub fn check(client: &Client, declaration: &Declaration, secrets: &Secrets) -> Result<(), BadEndpoint> {
    let Some(push) = &declaration.push else { return Ok(()) };
    Endpoint::new(client, push, declaration.transform.as_deref(), secrets).map(drop)
}

/// The push door of one process.
pub struct Engine {
    /// Where subscriptions are.
    pub store: Store,
    /// Where events come from; it has to run.
    pub feed: Feed,
    /// What sends.
    pub client: Client,
    /// What reads the secrets.
    pub seal: Arc<Seal>,
    /// The settings.
    pub config: Config,
}

/// What all workers of a replica share.
struct Context {
    store: Store,
    feed: Feed,
    client: Client,
    seal: Arc<Seal>,
    config: Config,
    /// The name of this replica.
    name: String,
    lease_until: Mutex<Instant>,
}

impl Context {
    fn lease_until(&self) -> Instant {
        *self.lease_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a subscription is not delivered.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    #[error(transparent)]
    Declaration(#[from] BadDeclaration),
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    #[error("filter")]
    Filter(#[from] ExpressionError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("it is no push subscription")]
    NoPush,
}

struct Running {
    version: i64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Engine {
    /// Delivers until it is stopped. Ends once every request that was under way has ended or was cut off.
    pub async fn run(self, stop: CancellationToken) {
        let Self { store, feed, client, seal, config } = self;
        let name = EventId::generate().to_string();
        let lease_until = Mutex::new(Instant::now());
        let context = Arc::new(Context { store, feed, client, seal, config, name, lease_until });
        let mut replica =
            Replica { context: Arc::clone(&context), workers: HashMap::new(), renewed: None, replicas: 1 };
        let deliver = async {
            while !stop.is_cancelled() {
                // The embedded database has one writer, which may be busy for a moment: nothing of it is an error yet.
                if let Err(error) = replica.tick().await {
                    debug!(error = %Chain(&error), "the leases of push subscriptions were not renewed");
                }
                stop.run_until_cancelled(sleep(POLL)).await;
            }
            replica.end().await;
        };
        tokio::join!(
            deliver,
            stop.run_until_cancelled(sweep(&context)),
            stop.run_until_cancelled(gauges::measure_again(&context.store))
        );
    }
}

/// Deletes what is not kept again and again, apart from what renews the leases.
async fn sweep(context: &Context) {
    let Context { store, config, .. } = context;
    loop {
        sleep(SWEEP).await;
        if let Err(error) = attempts::sweep(store, config.keep_attempts_days, event::now()).await {
            debug!(error = %Chain(&error), "old attempts were not deleted");
        }
        if let Err(error) = closing::sweep(store).await {
            debug!(error = %Chain(&error), "undelivered events that are no longer on record were not deleted");
        }
    }
}

struct Replica {
    context: Arc<Context>,
    workers: HashMap<EventId, Running>,
    renewed: Option<Instant>,
    replicas: usize,
}

impl Replica {
    /// Renews the leases, takes what is this replica's share, and keeps a worker for each of them.
    async fn tick(&mut self) -> Result<(), StoreError> {
        let context = Arc::clone(&self.context);
        let Context { store, name, .. } = &*context;
        let mut seen = leases::seen(store).await?;
        if seen.is_empty() && self.workers.is_empty() && !leases::has_queues(store).await? {
            // An installation without push and queue subscriptions writes nothing.
            return Ok(());
        }
        // In this order: a replica stops before its leases end by the clock of the database.
        let (began, now) = (Instant::now(), lease::clock(store).await?);
        if self.renewed.is_none_or(|at| at.elapsed() >= RENEW) {
            self.replicas = leases::renew(store, name, now).await?;
            self.renewed = Some(began);
            *context.lease_until.lock().unwrap_or_else(PoisonError::into_inner) = began + LEASE - MARGIN;
            seen = leases::seen(store).await?;
        }
        let plan = leases::plan(&seen, name, self.replicas, now);
        self.stop_changed(&seen, &plan.release);
        self.reap(&seen, &plan.release).await?;
        let mut mine: Vec<(EventId, i64)> = seen
            .iter()
            .filter(|one| one.is_of(name) && !plan.release.contains(&one.id))
            .map(|one| (one.id, one.version))
            .collect();
        for id in plan.claim {
            if leases::claim(store, id, name, now).await? {
                let version = seen.iter().find(|one| one.id == id).map_or(0, |one| one.version);
                mine.push((id, version));
            }
        }
        for (id, version) in mine {
            self.workers.entry(id).or_insert_with(|| {
                let stop = CancellationToken::new();
                let task = tokio::spawn(work(Arc::clone(&context), id, stop.clone()));
                Running { version, stop, task }
            });
        }
        Ok(())
    }

    /// Stops the workers of subscriptions that were changed, paused, removed or taken over, or are another replica's share.
    fn stop_changed(&self, seen: &[Seen], release: &[EventId]) {
        for (id, running) in &self.workers {
            let is_same =
                |one: &Seen| one.id == *id && one.version == running.version && one.is_of(&self.context.name);
            if release.contains(id) || !seen.iter().any(is_same) {
                running.stop.cancel();
            }
        }
    }

    /// Forgets workers that have ended. What is not this replica's any more is given back.
    async fn reap(&mut self, seen: &[Seen], release: &[EventId]) -> Result<(), StoreError> {
        let ended: HashSet<EventId> = self
            .workers
            .iter()
            .filter(|(_, running)| running.task.is_finished())
            .map(|(id, _)| *id)
            .collect();
        self.workers.retain(|id, _| !ended.contains(id));
        // A worker that was released before it was started holds its lease, too.
        let idle = release.iter().copied().filter(|id| !self.workers.contains_key(id));
        let given_back: HashSet<EventId> =
            ended.iter().copied().filter(|id| !seen.iter().any(|one| one.id == *id)).chain(idle).collect();
        for id in given_back {
            leases::release(&self.context.store, id, &self.context.name).await?;
        }
        Ok(())
    }

    /// Ends all workers and gives back their leases.
    async fn end(self) {
        let Self { context, workers, renewed, .. } = self;
        workers.values().for_each(|running| running.stop.cancel());
        for running in workers.into_values() {
            // A panic was reported where it happened.
            let _ = running.task.await;
        }
        // Without it, the others wait for the end of the leases.
        if renewed.is_some()
            && let Err(error) = leases::leave(&context.store, &context.name).await
        {
            debug!(error = %Chain(&error), "the leases of push subscriptions were not given back");
        }
    }
}

/// Delivers one subscription until it is stopped, paused or lost.
async fn work(context: Arc<Context>, id: EventId, stop: CancellationToken) {
    let trouble = match deliver(&context, id, &stop).await {
        Ok(()) => return,
        Err(trouble) => trouble,
    };
    let reported = match &trouble {
        Trouble::Store(error) | Trouble::Feed(FeedError::Store(error)) => {
            debug!(error = %Chain(error), "a push subscription waits for the store");
            Ok(())
        }
        Trouble::Feed(FeedError::Deleted(_)) => {
            let reason = "retention has deleted events that were not delivered yet (ledger.keep_days); resume it to go \
                          on with those that are left";
            report(&context, id, "paused", reason).await
        }
        Trouble::Feed(FeedError::Unknown) => report(&context, id, "paused", UNKNOWN).await,
        trouble => {
            let reason = Chain(trouble).to_string();
            report(&context, id, "failing", &reason).await
        }
    };
    if let Err(error) = reported {
        debug!(error = %Chain(&error), "the state of a push subscription was not written");
    }
    stop.run_until_cancelled(sleep(RETRY)).await;
}

/// Where the position of a subscription is not of this feed.
const UNKNOWN: &str = "the feed does not have its position: the database was restored from a backup that is older, or is of \
                       another installation; seek to the beginning, a date or now";

async fn deliver(context: &Arc<Context>, id: EventId, stop: &CancellationToken) -> Result<(), Trouble> {
    let Some(subscription) = table::by_id(&context.store, id).await? else { return Ok(()) };
    let name = subscription.name().clone();
    info!(subscription = %name, "delivers a push subscription");
    Worker::new(Arc::clone(context), subscription).await?.run(stop).await
}

/// Writes down why a subscription is not delivered.
async fn report(context: &Context, id: EventId, state: &str, reason: &str) -> Result<(), StoreError> {
    warn!(subscription = %id, state, reason, "a push subscription is not delivered");
    leases::report(&context.store, id, &context.name, state, reason).await
}
