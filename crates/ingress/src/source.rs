//! One configured sender, with what is counted about it.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use broker::{ExchangeName, Layout};
use event::{HeaderValue, Receipt, SourceName, Timestamp, Zone};
use http::request::Parts;
use http::{Method, StatusCode};
use ipnet::IpNet;
use metrics::{Counter, Histogram, counter, gauge, histogram};
use providers::auth::{Auth, Connection, Credentials};
use providers::generic::Suffix;
use providers::{Answer, Challenge, Duplicates, Fact, Provider, Reply, SubjectKey};
use server::{ClientAuthority, Peer};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::quota::{Quota, Quotas};
use crate::recent::Recent;
use crate::refusal::Refusal;
use crate::refusal_log::RefusalLog;
use crate::source_report::SourceReport;
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
    /// How its duplicates are recognised, if they are.
    pub duplicates: Option<Duplicates>,
    /// Its quotas.
    pub quota: Quota,
    /// The success answer that it insists on; malote's own if there is none.
    pub answer: Option<Answer>,
    /// Its requests that are no events.
    pub challenges: Vec<Challenge>,
    /// What it appends to its address.
    pub suffixes: Vec<Suffix>,
}

/// A source at work.
pub(crate) struct Route {
    pub(crate) name: SourceName,
    pub(crate) provider: Provider,
    pub(crate) duplicates: Option<Duplicates>,
    pub(crate) answer: Option<Answer>,
    pub(crate) challenges: Vec<Challenge>,
    suffixes: Vec<Suffix>,
    /// Nobody has looked yet whether its pointers find anything.
    is_new: AtomicBool,
    /// The current authentication of the source.
    auth: RwLock<Arc<Required>>,
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
    pub(crate) challenge: Counter,
    pub(crate) rejected: Counter,
    pub(crate) denied: Counter,
    pub(crate) refused: Counter,
    pub(crate) unavailable: Counter,
    /// From the whole body read to the broker's confirm.
    pub(crate) publish_seconds: Histogram,
}

/// What a source requires, with what its certificates are checked against.
pub(crate) struct Required {
    auth: Auth,
    /// The authorities of its client certificates. The configuration is checked: they can be read.
    authority: Option<ClientAuthority>,
}

impl Required {
    fn new(auth: Auth) -> Self {
        let authorities = auth.client_certificate().and_then(|required| required.authorities.as_deref());
        let authority = authorities.and_then(|pem| ClientAuthority::new(pem).ok());
        Self { auth, authority }
    }

    /// What the connection of a request proves, if the source requires anything of it.
    pub(crate) fn connection<'p>(&self, peer: &'p Peer, trusted_proxies: &[IpNet]) -> Connection<'p> {
        let Some(required) = self.auth.client_certificate() else { return Connection::Unproved };
        let address = peer.address().ip().to_canonical();
        if required.proxy.is_some() && trusted_proxies.iter().any(|network| network.contains(&address)) {
            return Connection::Proxy;
        }
        match (peer.certificate(), &self.authority) {
            (Some(certificate), Some(authority)) if authority.vouches_for(certificate) => {
                let identity = certificate.identity();
                Connection::Certificate { subject: &identity.subject, names: &identity.names }
            }
            _ => Connection::Unproved,
        }
    }
}

impl Deref for Required {
    type Target = Auth;

    fn deref(&self) -> &Auth {
        &self.auth
    }
}

impl Route {
    pub(crate) fn new(source: Source, places: usize, zone: &Zone, layout: &Layout) -> Self {
        let Source { name, provider, mut auth, duplicates, quota, answer, challenges, suffixes } = source;
        auth.bind(name.as_str());
        let has_pointers =
            provider.subject_place().is_some() || duplicates.as_ref().is_some_and(Duplicates::is_by_field);
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
            challenge: requests("challenge"),
            answer,
            challenges,
            suffixes,
            is_new: AtomicBool::new(has_pointers),
            rejected: requests("rejected"),
            denied: requests("denied"),
            refused: requests("refused"),
            unavailable: requests("unavailable"),
            publish_seconds: histogram!("ingress_publish_seconds", "source" => label.clone()),
            auth: RwLock::new(Arc::new(Required::new(auth))),
            name,
            provider,
            duplicates,
        }
    }

    /// The authentication of the source; a request is checked against one version of it.
    pub(crate) fn auth(&self) -> Arc<Required> {
        Arc::clone(&self.auth.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the message of an accepted event says of the answer to its client.
    pub(crate) fn receipt(&self, client: IpAddr, fact: Option<&Fact>) -> HeaderValue {
        let sender_id = fact.and_then(|fact| fact.sender_id.clone()).filter(|_| !self.has_secret_ids());
        let status = self.answer.as_ref().map_or(StatusCode::OK, |answer| answer.status).as_u16();
        Receipt { status, client, sender_id }.to_text().into()
    }

    /// Whether what identifies a fact is a credential.
    pub(crate) fn has_secret_ids(&self) -> bool {
        let header = self.duplicates.as_ref().and_then(Duplicates::header);
        header.is_some_and(|name| self.auth().is_credential(name.as_str()))
    }

    pub(crate) fn set_auth(&self, mut auth: Auth) {
        auth.bind(self.name.as_str());
        let mut current = self.auth.write().unwrap_or_else(PoisonError::into_inner);
        auth.continue_from(&current);
        *current = Arc::new(Required::new(auth));
    }

    /// What is known of its secrets and of refused requests.
    pub(crate) fn report(&self, key: &SubjectKey) -> SourceReport {
        SourceReport::new(&self.name, &self.auth(), self.refusals.last(), key)
    }

    /// Publishes the last use of each secret as a metric.
    pub(crate) fn report_uses(&self) {
        for (setting, index, used) in self.auth().last_uses() {
            let Some(used) = used else { continue };
            let (source, index) = (self.name.to_string(), index.to_string());
            gauge!("ingress_secret_last_used_seconds", "source" => source, "setting" => setting, "index" => index)
                .set(used.as_second() as f64);
        }
    }

    /// Whether the sender may append this to its address.
    pub(crate) fn has_suffix(&self, suffix: &str) -> bool {
        self.suffixes.iter().any(|known| known.as_str() == suffix)
    }

    /// A query string without the suffix that its sender appended; `None` if there is none.
    pub(crate) fn without_suffix<'q>(&self, query: Option<&'q str>) -> Option<Option<&'q str>> {
        let stripped = |suffix: &Suffix| query?.strip_suffix(suffix.as_str());
        self.suffixes.iter().find_map(stripped).map(Some)
    }

    /// Warns if the configured pointers find nothing in the first event.
    pub(crate) fn look_at_first(&self, has_subject: bool, has_fact: bool) {
        if !self.is_new.load(Ordering::Relaxed) || !self.is_new.swap(false, Ordering::Relaxed) {
            return;
        }
        let source = &self.name;
        if let Some(place) = self.provider.subject_place().filter(|_| !has_subject) {
            warn!(%source, "the first event has no subject: nothing is at {place}; check the provider's subject");
        }
        if !has_fact && self.duplicates.as_ref().is_some_and(Duplicates::is_by_field) {
            warn!(%source, "the first event cannot be told from others: nothing is where duplicates.pointer leads to");
        }
    }

    /// The answer to a challenge that the head of a request decides.
    pub(crate) fn reply_by_head(
        &self,
        parts: &Parts,
        client_ip: IpAddr,
        now: Timestamp,
        trusted_proxies: &[IpNet],
    ) -> Result<Option<Reply>, Refusal> {
        let (method, headers, query) = (&parts.method, &parts.headers, parts.uri.query());
        let reply = |challenge: &Challenge| challenge.reply(method, headers, query, &[]);
        if let Some(open) = self.challenges.iter().filter(|challenge| challenge.is_open()).find_map(reply) {
            return Ok(Some(open));
        }
        if method == Method::POST || !self.challenges.iter().any(|challenge| challenge.has_method(method)) {
            return Ok(None);
        }
        let auth = self.auth();
        let query = self.without_suffix(query).unwrap_or(query);
        let peer = parts.extensions.get::<Peer>().expect("the server sets the peer");
        let connection = auth.connection(peer, trusted_proxies);
        let credentials = Credentials { headers, query, client_ip, connection, body: &[], now };
        auth.check_head(&credentials).map_err(|denied| Refusal::denied(&auth, denied))?;
        Ok(self.challenges.iter().find_map(reply))
    }

    /// The answer to an authenticated request that is a challenge.
    pub(crate) fn reply(&self, parts: &Parts, body: &[u8]) -> Option<Reply> {
        let query = parts.uri.query();
        self.challenges
            .iter()
            .find_map(|challenge| challenge.reply(&parts.method, &parts.headers, query, body))
    }
}
