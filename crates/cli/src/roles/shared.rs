//! The shared parts of the roles of one process, and their tasks.

use std::future::Future;
use std::sync::Arc;

use broker::{DynBroker, Layout};
use ledger::feed::Feed;
use server::{ComponentHealth, Health, Operations};
use store::Store;
use subscriptions::Seal;
use subscriptions::queue::Queues;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Roles;
use crate::config::Config;

/// The shared parts of the roles of one process.
pub(super) struct Shared<'a> {
    pub config: &'a Config,
    pub roles: Roles,
    pub broker: DynBroker,
    /// Open if one of the roles needs it.
    pub store: Option<Store>,
    pub layout: Layout,
    /// Encrypts the secrets of subscriptions.
    pub seal: Arc<Seal>,
    /// The queues of subscriptions, if one of the roles manages them.
    pub queues: Option<Queues>,
    pub health: Health,
    pub operations: Operations,
    /// Cancelled once broker and store are prepared.
    pub prepared: CancellationToken,
    /// Cancelled once the tables exist.
    pub migrated: CancellationToken,
    /// Cancelled when the ingress must stop accepting requests.
    pub accepting: CancellationToken,
    /// Cancelled when everything else must end.
    pub working: CancellationToken,
}

impl Shared<'_> {
    /// A component of the health of the process. A secondary one does not make the process unready: an ingress that can
    /// store events is ready, even if other roles of its process have to wait. Only the tables have to exist first.
    pub fn component(&self, name: &'static str, is_secondary: bool) -> ComponentHealth {
        if is_secondary { self.health.secondary(name) } else { self.health.component(name) }
    }

    /// The feed of a role, which follows the record once the tables exist. Its readers end when `stop` is cancelled.
    pub fn feed(&self, store: &Store, stop: &CancellationToken, tasks: &mut Tasks) -> Feed {
        let feed = Feed::new(store.clone(), stop.clone());
        let following = feed.clone();
        tasks.spawn_once(&self.migrated, &self.working, |_| following.run());
        feed
    }
}

/// The tasks of a process.
#[derive(Default)]
pub(super) struct Tasks {
    /// Those that answer the requests of the ingress; they end first.
    pub requests: JoinSet<()>,
    pub others: JoinSet<()>,
}

impl Tasks {
    /// Runs the work once `ready` is cancelled, unless `stop` is first; the work ends when `stop` is cancelled.
    pub fn spawn_once<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        ready: &CancellationToken,
        stop: &CancellationToken,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) {
        let (ready, stop) = (ready.clone(), stop.clone());
        self.others.spawn(async move {
            if stop.run_until_cancelled(ready.cancelled()).await.is_some() {
                work(stop).await;
            }
        });
    }
}
