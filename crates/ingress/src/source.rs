//! One configured sender, with what is counted about it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use broker::{ExchangeName, Layout};
use event::{SourceName, Zone};
use metrics::{Counter, Histogram, counter, histogram};
use providers::auth::Auth;
use providers::{Duplicates, Provider};
use tokio::sync::Semaphore;

use crate::quota::{Quota, Quotas};
use crate::recent::Recent;
use crate::refusal_log::RefusalLog;
use crate::tally::Tally;

/// A configured sender: `POST /webhooks/{name}`.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, the last part of its address.
    pub name: SourceName,
    /// The contract it keeps.
    pub provider: Provider,
    /// What it has to prove.
    pub auth: Auth,
    /// How it tells that it sends a fact again, if it does.
    pub duplicates: Option<Duplicates>,
    /// Its quotas.
    pub quota: Quota,
}

/// A source at work.
pub(crate) struct Route {
    pub(crate) name: SourceName,
    pub(crate) provider: Provider,
    pub(crate) duplicates: Option<Duplicates>,
    /// The current authentication of the source.
    auth: RwLock<Arc<Auth>>,
    pub(crate) event_source: event::Source,
    /// Where its events are published.
    pub(crate) received: ExchangeName,
    pub(crate) places: Semaphore,
    pub(crate) quotas: Option<Quotas>,
    pub(crate) recent: Recent,
    pub(crate) tally: Tally,
    pub(crate) refusals: RefusalLog,
    pub(crate) accepted: Counter,
    pub(crate) duplicate: Counter,
    pub(crate) rejected: Counter,
    pub(crate) denied: Counter,
    pub(crate) refused: Counter,
    pub(crate) unavailable: Counter,
    /// From the whole body read to the broker's confirm.
    pub(crate) publish_seconds: Histogram,
}

impl Route {
    pub(crate) fn new(source: Source, places: usize, zone: &Zone, layout: &Layout) -> Self {
        let Source { name, provider, auth, duplicates, quota } = source;
        let label = name.to_string();
        let requests = |outcome: &'static str| counter!("ingress_requests_total", "source" => label.clone(), "outcome" => outcome);
        Self {
            event_source: event::Source::new(provider.name().clone(), name.clone()),
            received: layout.received(provider.name()),
            places: Semaphore::new(places),
            quotas: Quotas::new(quota, Instant::now()),
            recent: Recent::default(),
            tally: Tally::new(zone.clone()),
            refusals: RefusalLog::default(),
            accepted: requests("accepted"),
            duplicate: requests("duplicate"),
            rejected: requests("rejected"),
            denied: requests("denied"),
            refused: requests("refused"),
            unavailable: requests("unavailable"),
            publish_seconds: histogram!("ingress_publish_seconds", "source" => label.clone()),
            auth: RwLock::new(Arc::new(auth)),
            name,
            provider,
            duplicates,
        }
    }

    /// The authentication of the source; a request is checked against one version of it.
    pub(crate) fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.auth.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_auth(&self, auth: Auth) {
        *self.auth.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(auth);
    }
}
