//! The way of one request, from its head to the broker's confirm.

mod polled;

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::mem;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use broker::{DiskAlarm, ExchangeName, FixedQueue, Layout, Publisher};
use bytes::Bytes;
use event::{Chain, Event, EventId, Headers, Message, Receipt, SourceName, Timestamp, Topic, Zone, header};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use providers::auth::{Auth, Credentials, client_ip};
use providers::{Duplicates, Inbound, Reading, SubjectKey, Unusable};
use server::body::{Reader, RequestBody};
use server::{Client, ClientRequests, Operations, Peer, Server};
use tokio::sync::SemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::service_fn;
use tower_service::Service;
use tracing::field::Empty;
use tracing::{Instrument, Span, debug_span, error, warn};

use crate::coding::coding;
use crate::memory::{Held, Memory, SMALL_BYTES, UnprovedBody};
use crate::misses::Misses;
use crate::outcome::{Accepted, Outcome};
use crate::refusal::Refusal;
use crate::source::Route;
use crate::source_report::SourceReport;
use crate::tally::{self, Row};
use crate::token::Tokens;
use crate::trace::traceparent;
use crate::{Config, Source};

pub use polled::{Kept, NotKept};

/// The ingress at work. Cloning shares it.
#[derive(Clone)]
pub struct Ingress(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) routes: HashMap<String, Route>,
    publisher: Arc<dyn Publisher>,
    layout: Layout,
    pub(crate) key: SubjectKey,
    zone: Zone,
    pub(crate) config: Config,
    pub(crate) memory: Memory,
    /// The alarm of the disk that events are stored on, if it is ours.
    disk: DiskAlarm,
    /// Requests in progress of clients behind a trusted proxy.
    client_requests: ClientRequests,
    misses: Misses,
    pub(crate) tokens: Tokens,
    /// Whether requests are received. If not, the secrets of the sources may be missing.
    is_served: AtomicBool,
}

impl Ingress {
    /// An ingress for these sources. `key` hashes personal data in subjects; answers are counted by days of `zone`;
    /// while the alarm of `disk` is raised, no event is accepted.
    pub fn new(
        sources: Vec<Source>,
        publisher: Arc<dyn Publisher>,
        layout: Layout,
        key: SubjectKey,
        zone: Zone,
        config: Config,
        disk: DiskAlarm,
    ) -> Self {
        let places = config.source_requests;
        let routes: HashMap<_, _> = sources
            .into_iter()
            .map(|source| (source.name.to_string(), Route::new(source, places, &zone, &layout)))
            .collect();
        let memory = Memory::new(config.body_memory_bytes, config.unproved_body_memory_bytes);
        let client_requests = ClientRequests::new(config.limits.client_requests);
        Self(Arc::new(Inner {
            routes,
            publisher,
            layout,
            key,
            zone,
            config,
            memory,
            disk,
            client_requests,
            misses: Misses::default(),
            tokens: Tokens::default(),
            is_served: AtomicBool::new(false),
        }))
    }

    /// Reports to the ledger every few seconds what was answered and which secrets were used, and to the log every minute what was refused; both
    /// once more when `stop` is cancelled, after the last request and before the broker closes.
    pub async fn report(self, stop: CancellationToken) {
        let Self(inner) = &self;
        let run = EventId::generate();
        let (mut reported, mut reported_sources) = (Vec::new(), Vec::new());
        let mut summarised = Instant::now();
        loop {
            let last = stop.run_until_cancelled(sleep(REPORT_PERIOD)).await.is_none();
            if last || summarised.elapsed() >= SUMMARY_PERIOD {
                summarised = Instant::now();
                inner.misses.summarise();
                inner.tokens.summarise();
                inner.routes.iter().for_each(|(source, route)| route.refusals.summarise(source));
            }
            inner.routes.values().for_each(Route::report_uses);
            let rows: Vec<Row> = inner
                .routes
                .iter()
                .flat_map(|(source, route)| {
                    let row = |(day, counts)| Row { source: source.clone(), day, counts };
                    route.tally.counts().into_iter().map(row)
                })
                .collect();
            let sources = inner.source_reports();
            if rows != reported || sources != reported_sources {
                let exchange = inner.layout.tallies();
                let changed: Vec<_> = sources.iter().filter(|one| !reported_sources.contains(one)).collect();
                let report = tally::report(run, &inner.zone, &rows, &changed);
                let publish = inner.publisher.publish(&exchange, "", report);
                match timeout(inner.config.answer_timeout(), publish).await {
                    Ok(Ok(())) => {
                        inner.routes.values().for_each(|route| route.tally.forget(event::now()));
                        (reported, reported_sources) = (rows, sources);
                    }
                    Ok(Err(error)) => warn!("cannot publish the tallies; retrying: {}", Chain(&error)),
                    Err(_) => warn!("cannot publish the tallies; retrying: not confirmed in time"),
                }
            }
            if last {
                return;
            }
        }
    }

    /// Replaces the authentication of a source; requests in progress are checked against the earlier one. A source that
    /// is not configured stays unknown.
    pub fn set_auth(&self, source: &SourceName, auth: Auth) {
        if let Some(route) = self.0.routes.get(source.as_str()) {
            route.set_auth(auth);
        }
    }

    /// Serves the port until `stop` is cancelled, as [`Server::serve`] does.
    ///
    /// A boxed future, so that the whole way of a request is compiled with this crate, as optimised as this one is.
    pub fn serve(
        self,
        port: Server,
        operations: Operations,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(port.answering_soon().serve(self.service(), operations, stop))
    }

    /// The service to run on a [`Server`], which provides the peer's address.
    pub(crate) fn service<B: RequestBody + Send + 'static>(
        self,
    ) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
    {
        self.0.is_served.store(true, Ordering::Relaxed);
        service_fn(move |request| receive(self.clone(), request))
    }
}

/// How often changed counts are reported to the ledger.
const REPORT_PERIOD: Duration = Duration::from_secs(5);

/// How often the number of refused requests is logged.
const SUMMARY_PERIOD: Duration = Duration::from_secs(60);

/// How long a request may wait for the first bytes of its body before its memory is charged as that of an unauthenticated one.
/// Most arrive with the head.
pub(crate) const FIRST_BYTES: Duration = Duration::from_millis(100);

/// What a header of a request takes besides its text: an entry of a map, and two allocations.
const HEADER_BYTES: usize = 256;

/// The longest property of AMQP 0-9-1 (shortstr, section 4.2.5.3). The media type of the provider replaces a longer
/// content type.
const CONTENT_TYPE_LIMIT_BYTES: usize = 255;

/// What is known of a request before its source has a say.
pub(crate) struct Arrival {
    pub(crate) id: EventId,
    pub(crate) time: Timestamp,
    /// The address of the client; `None` if the body was polled, and nothing is answered.
    pub(crate) client: Option<IpAddr>,
    pub(crate) traceparent: String,
}

/// Each async function that takes the head by value has a copy of it in its future, so the others borrow this one's.
async fn receive<B: RequestBody + Send>(
    Ingress(ingress): Ingress,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().expect("the server sets the peer");
    let peer = peer.address().ip().to_canonical();
    let client = client_ip(peer, &parts.headers, &ingress.config.trusted_proxies);
    let path = parts.uri.path();
    let address = address(path);
    let route = address.as_ref().and_then(|(name, suffix)| {
        let route = ingress.routes.get(name.as_ref())?;
        (suffix.is_empty() || route.has_suffix(suffix)).then_some(route)
    });
    let Some(route) = route else {
        if Tokens::is_address(path) && ingress.issues_tokens() {
            // On the heap, as all that is rare: hyper moves the future of a request, and each connection has room for one.
            return Ok(Box::pin(ingress.token(client, Request::from_parts(parts, body))).await);
        }
        ingress.misses.count(client, path);
        return Ok(match address {
            Some((_, suffix)) if suffix.is_empty() => Refusal::UnknownSource.into(),
            _ => Refusal::NoSuchAddress.into(),
        });
    };
    let source = &route.name;
    let id = EventId::generate();
    let traceparent = traceparent(&parts.headers, id);
    // At the level of debugging, since only an exporter of spans has a use for it.
    let span = debug_span!("receive", event_id = %id, %source, topic = Empty, traceparent);
    async {
        let arrival = Arrival { id, time: event::now(), client: Some(client), traceparent };
        // The server counts by the address of the connection, which may be that of a proxy.
        let turn = match client == peer {
            true => Ok(None),
            false => ingress.client_requests.begin(Client::new(client)).map(Some).ok_or(Refusal::ClientBusy),
        };
        let accepted = match turn {
            Ok(_turn) => ingress.accept(route, arrival, client, &mut parts, body).await,
            Err(refusal) => Err(refusal),
        };
        Ok(match accepted {
            Ok(outcome) => {
                outcome.count(route);
                outcome.into()
            }
            Err(refusal) => {
                report(route, client, id, &refusal);
                refusal.into()
            }
        })
    }
    .instrument(span)
    .await
}

/// The source of an address and what follows it: `/webhooks/{source}`. Some senders double slashes or append one.
fn address(path: &str) -> Option<(Cow<'_, str>, String)> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let (Some("webhooks"), Some(name)) = (parts.next(), parts.next()) else { return None };
    let name = percent_decode_str(name).decode_utf8().ok()?;
    // Most addresses end here, and need no memory.
    Some((name, parts.fold(String::new(), |suffix, part| suffix + "/" + part)))
}

/// Counts a refusal, and logs it if it is the first of its client. The log names the source, the client and the reason,
/// and nothing from the request.
fn report(route: &Route, client: IpAddr, event_id: EventId, refusal: &Refusal) {
    let source = &route.name;
    let count = match refusal {
        Refusal::Unusable { .. } => &route.rejected,
        Refusal::Denied { .. } => &route.denied,
        Refusal::NotStored(_) | Refusal::TooLargeToStore(_) | Refusal::NotInTime | Refusal::DiskFull => {
            &route.unavailable
        }
        Refusal::NoSuchAddress
        | Refusal::UnknownSource
        | Refusal::Method
        | Refusal::ContentEncoding
        | Refusal::Busy
        | Refusal::ClientBusy
        | Refusal::NoMemory
        | Refusal::OverQuota(_)
        | Refusal::Body(_) => &route.refused,
    };
    count.increment(1);
    let failed = if let Refusal::Denied { failed, .. } = refusal { Some(*failed) } else { None };
    route.refusals.note(refusal.reason(), failed, event::now());
    let is_first = match refusal.is_failure() {
        true => route.refusals.is_first_failure(refusal.reason()),
        false => route.refusals.is_first(client, refusal.reason()),
    };
    if !is_first {
        return;
    }
    match refusal {
        Refusal::Unusable { .. } => warn!(%source, %event_id, %client, "rejected, and kept: {refusal}"),
        Refusal::Denied { failed, .. } => {
            warn!(%source, %event_id, %client, %failed, "denied: {refusal}");
        }
        Refusal::NotStored(cause) | Refusal::TooLargeToStore(cause) => {
            error!(%source, %event_id, "{refusal}: {}", Chain(cause));
        }
        Refusal::NotInTime | Refusal::DiskFull => error!(%source, %event_id, "{refusal}"),
        _ => warn!(%source, %event_id, %client, "refused: {refusal}"),
    }
}

impl Inner {
    /// What is known of each source. Nothing, if no request can use a secret here.
    fn source_reports(&self) -> Vec<SourceReport> {
        if !self.is_served.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.routes.values().map(|route| route.report(&self.key)).collect()
    }

    async fn accept<'a>(
        &self,
        route: &'a Route,
        arrival: Arrival,
        client: IpAddr,
        parts: &mut Parts,
        body: impl RequestBody,
    ) -> Result<Outcome<'a>, Refusal> {
        let has_challenges = !route.challenges.is_empty();
        if has_challenges {
            let proxies = &self.config.trusted_proxies;
            if let Some(reply) = route.reply_by_head(parts, client, arrival.time, proxies)? {
                return Ok(Outcome::Reply(Box::new(reply)));
            }
        }
        if parts.method != Method::POST {
            return Err(Refusal::Method);
        }
        let (body, _share) = self.authenticated(route, parts, body, client, arrival.time).await?;
        if has_challenges && let Some(reply) = route.reply(parts, &body) {
            return Ok(Outcome::Reply(Box::new(reply)));
        }
        self.keep(route, arrival, parts, body).await
    }

    /// Keeps a body of the source within its quotas.
    async fn keep<'a>(
        &self,
        route: &'a Route,
        arrival: Arrival,
        parts: &mut Parts,
        body: Bytes,
    ) -> Result<Outcome<'a>, Refusal> {
        if self.disk.is_raised() {
            return Err(Refusal::DiskFull);
        }
        let Some(quotas) = &route.quotas else { return self.store(route, arrival, parts, body).await };
        let bytes = body.len();
        quotas.request(bytes, Instant::now())?;
        let stored = self.store(route, arrival, parts, body).await;
        if !matches!(stored, Ok(_) | Err(Refusal::Unusable { .. })) {
            quotas.give_back(bytes);
        }
        stored
    }

    /// Reads an event and publishes it. A body that cannot be used is kept as rejected.
    async fn store<'a>(
        &self,
        route: &'a Route,
        arrival: Arrival,
        parts: &mut Parts,
        body: Bytes,
    ) -> Result<Outcome<'a>, Refusal> {
        let provider = &route.provider;
        if provider.has_several_events() {
            return Box::pin(self.store_several(route, arrival, parts, body)).await;
        }
        let inbound = Inbound { headers: &parts.headers, body: &body };
        let turn = self.memory.checking(body.len()).await;
        let rule = route.duplicates.as_ref();
        let read = provider.read_fact(&inbound, &self.key, rule);
        drop(turn);
        let (reading, fact) = match read {
            Ok(read) => read,
            Err(cause) => return Err(Box::pin(self.reject(route, arrival, parts, body, cause)).await),
        };
        route.look_at_first(reading.subject.is_some(), fact.is_some());
        let Arrival { id, time, client, traceparent } = arrival;
        let receipt = client.map(|client| route.receipt(client, fact.as_ref()));
        let key = fact.map(|fact| fact.key).zip(rule.map(Duplicates::window_s));
        let topic = reading.topic.clone();
        Span::current().record("topic", topic.as_str());
        let mut message = message(route, (id, time, traceparent), reading, media_type(route, parts), body);
        message.headers.extend(receipt.map(|receipt| (header::ANSWER, receipt)));
        // They are parts of the connection's buffer, or take memory of their own.
        drop(mem::take(&mut parts.headers));
        let is_duplicate = self.publish_event(route, (id, time), message, &topic, key).await?;
        route.tally.accepted(time);
        Ok(Outcome::One(Accepted { id, topic, is_duplicate }, route.answer.as_ref()))
    }

    /// Keeps a body that cannot be used, and says why.
    pub(crate) async fn reject(
        &self,
        route: &Route,
        arrival: Arrival,
        parts: &Parts,
        body: Bytes,
        cause: Unusable,
    ) -> Refusal {
        let Arrival { id, time, client, traceparent } = arrival;
        let bytes = body.len();
        // Before the body is kept, so that every 400 is on record.
        if let Some(quotas) = &route.quotas
            && let Err(used_up) = quotas.rejected(bytes, Instant::now())
        {
            return used_up.into();
        }
        let mut headers = route.provider.keep(&parts.headers);
        let identity = route.duplicates.as_ref().and_then(|rule| rule.kept_header(&parts.headers));
        let identity = identity.filter(|_| !route.has_secret_ids());
        let sender_id = identity.as_ref().map(|(_, id)| id.clone());
        headers.extend(identity);
        let reading = unread(headers);
        let topic = reading.topic.clone();
        Span::current().record("topic", topic.as_str());
        let mut message = message(route, (id, time, traceparent), reading, media_type(route, parts), body);
        if let Some(client) = client {
            let receipt = Receipt { status: StatusCode::BAD_REQUEST.as_u16(), client, sender_id };
            message.headers.insert(header::ANSWER, receipt.to_string().into());
        }
        message.headers.insert(header::CAUSE, cause.to_string().into());
        match self.publish(route, &self.layout.rejected(), topic.as_str(), Arc::new(message)).await {
            Ok(()) => {
                route.tally.rejected(time);
                Refusal::Unusable { cause, id }
            }
            Err(refusal) => {
                if let Some(quotas) = &route.quotas {
                    quotas.give_back_rejected(bytes);
                }
                refusal
            }
        }
    }

    /// The body of an authenticated request, with its memory and its place among the requests of the source.
    async fn authenticated<'a>(
        &'a self,
        route: &'a Route,
        parts: &Parts,
        body: impl RequestBody,
        client_ip: IpAddr,
        now: Timestamp,
    ) -> Result<(Bytes, Share<'a>), Refusal> {
        let auth = route.auth();
        let peer = parts.extensions.get::<Peer>().expect("the server sets the peer");
        let mut credentials = Credentials {
            headers: &parts.headers,
            query: parts.uri.query(),
            client_ip,
            connection: auth.connection(peer, &self.config.trusted_proxies),
            body: &[],
            now,
        };
        if let Err(denied) = auth.check_head(&credentials) {
            // The sender may have appended its suffix to the query string.
            credentials.query =
                route.without_suffix(credentials.query).ok_or_else(|| Refusal::denied(&auth, denied))?;
            auth.check_head(&credentials).map_err(|denied| Refusal::denied(&auth, denied))?;
        }
        if auth.is_in_head() {
            peer.authenticated();
        }
        let coding = coding(&parts.headers)?;
        let (limit, pace) = (self.config.body_limit_bytes, self.config.limits.pace());
        // The maximum size of the decoded body, which is in memory at the same time.
        let decoded = if coding.is_some() { limit } else { 0 };
        let mut reader = Reader::new(body, limit, pace).map_err(Refusal::Body)?;
        // Most bodies are complete with their first bytes, and need no memory before they are checked.
        if !reader.is_whole() && reader.declared_len().is_none_or(|length| length <= SMALL_BYTES) {
            reader.more_within(FIRST_BYTES).await.map_err(Refusal::Body)?;
        }
        let (mut unproved, mut proved) = (None, None);
        if !reader.is_whole() {
            match auth.is_in_head() {
                true => proved = Some(Box::pin(self.read_authenticated(&mut reader, decoded)).await?),
                false => {
                    unproved =
                        Some(Box::pin(self.read_unauthenticated(&mut reader, parts, client_ip)).await?);
                }
            }
        }
        let body = reader.into_bytes();
        let turn = self.memory.checking(body.len()).await;
        auth.check_body(&Credentials { body: &body, ..credentials })
            .map_err(|denied| Refusal::denied(&auth, denied))?;
        if auth.is_signed() {
            peer.authenticated();
        }
        drop(turn);
        let mut memory = match proved {
            Some(memory) => memory,
            None => {
                // A body that waits for more memory is counted meanwhile.
                let _waiting = match coding.is_some() && unproved.is_none() {
                    true => Some(self.memory.hold(body.len().min(SMALL_BYTES)).await?),
                    false => None,
                };
                self.memory.hold(body.len() + decoded).await?
            }
        };
        drop(unproved);
        let body = match coding {
            Some(coding) => {
                let _turn = self.memory.checking(limit).await;
                let body = coding.decode(body, limit)?;
                memory.shrink_to(body.len());
                body
            }
            None => body,
        };
        // Taken last, so that neither strangers nor bodies that wait for memory hold a place.
        let place = route.places.try_acquire().map_err(|_| Refusal::Busy)?;
        Ok((body, Share { _place: place, _memory: memory }))
    }

    /// Reads the rest of a body whose sender is not authenticated yet. Its head is charged with it.
    pub(crate) async fn read_unauthenticated(
        &self,
        reader: &mut Reader<impl RequestBody>,
        parts: &Parts,
        client: IpAddr,
    ) -> Result<UnprovedBody<'_>, Refusal> {
        let mut unproved = self.memory.unproved.open(Client::new(client));
        let head = head_bytes(parts);
        let mut paused_for = 0;
        while !reader.is_whole() {
            unproved.grow_to(head + reader.len());
            let more = async {
                if let Some(pause) = unproved.pause(reader.len() - paused_for) {
                    let begin = Instant::now();
                    sleep(pause).await;
                    reader.leave_out(begin.elapsed());
                }
                paused_for = reader.len();
                reader.more().await
            };
            tokio::select! {
                biased;
                () = unproved.dropped() => return Err(Refusal::NoMemory),
                more = more => more.map_err(Refusal::Body)?,
            }
        }
        unproved.complete();
        Ok(unproved)
    }

    /// Reads the rest of a body whose sender is authenticated. All its memory is taken beforehand, since half-read
    /// bodies would wait for each other; so is the memory for the `decoded` bytes that it becomes.
    async fn read_authenticated(
        &self,
        reader: &mut Reader<impl RequestBody>,
        decoded: usize,
    ) -> Result<Held<'_>, Refusal> {
        let undeclared = if decoded > 0 { self.config.body_limit_bytes } else { SMALL_BYTES };
        let mut room = reader.declared_len().unwrap_or(undeclared);
        let mut memory = self.memory.hold(room + decoded).await?;
        while !reader.is_whole() {
            reader.more().await.map_err(Refusal::Body)?;
            if reader.len() > room {
                room = self.config.body_limit_bytes;
                memory = self.memory.hold(room + decoded).await?;
            }
        }
        memory.shrink_to(reader.len() + decoded);
        Ok(memory)
    }

    /// Publishes an event, and returns whether it is a duplicate: that is published to the ledger only.
    pub(crate) async fn publish_event(
        &self,
        route: &Route,
        (id, time): (EventId, Timestamp),
        mut message: Message,
        topic: &Topic,
        key: Option<(String, i64)>,
    ) -> Result<bool, Refusal> {
        let Some((key, window_s)) = key else {
            self.publish(route, &route.received, topic.as_str(), Arc::new(message)).await?;
            return Ok(false);
        };
        message.headers.insert(header::DUPLICATE_KEY, key.as_str().into());
        message.headers.insert(header::DUPLICATE_WINDOW_S, window_s.into());
        if let Some(first) = route.recent.first(&key, time, window_s) {
            message.headers.insert(header::DUPLICATE_OF, first.to_string().into());
            let ledger = self.layout.queue(FixedQueue::Ledger);
            let ledgers = ExchangeName::default_exchange();
            self.publish(route, &ledgers, ledger.as_str(), Arc::new(message)).await?;
            return Ok(true);
        }
        self.publish(route, &route.received, topic.as_str(), Arc::new(message)).await?;
        route.recent.remember(&key, id, time);
        Ok(false)
    }

    async fn publish(
        &self,
        route: &Route,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Result<(), Refusal> {
        let started = Instant::now();
        let published = timeout(self.config.answer_timeout(), async {
            let _turn = self.memory.publishing(message.body.len()).await;
            self.publisher.publish_shared(exchange, routing_key, message).await
        });
        let published = published.await;
        route.publish_seconds.record(started.elapsed().as_secs_f64());
        published.map_err(|_| Refusal::NotInTime)?.map_err(Refusal::from)
    }
}

/// What an authenticated request holds until it is answered.
struct Share<'a> {
    _place: SemaphorePermit<'a>,
    _memory: Held<'a>,
}

/// What the head of a request occupies, about: its texts, and as much for each header as it takes by itself.
fn head_bytes(parts: &Parts) -> usize {
    let uri = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
    parts
        .headers
        .iter()
        .fold(uri, |sum, (name, value)| sum + name.as_str().len() + value.len() + HEADER_BYTES)
}

/// What is known of a body that cannot be used. Its topic could not be read.
fn unread(headers: Headers) -> Reading {
    let topic = Topic::new("rejected").expect("a literal that keeps the rule");
    Reading { topic, subject: None, repaired: false, headers }
}

/// The message of an event that was received.
pub(crate) fn message(
    route: &Route,
    (id, time, traceparent): (EventId, Timestamp, String),
    reading: Reading,
    content_type: String,
    data: Bytes,
) -> Message {
    let Reading { topic, subject, repaired, headers } = reading;
    Event {
        id,
        source: route.event_source.clone(),
        topic,
        subject,
        time,
        content_type,
        data,
        traceparent: Some(traceparent),
        replay_of: None,
        caused_by: None,
        repaired,
        headers,
    }
    .into_message()
}

/// The content type of a body: as declared, if AMQP can carry it, or that of the provider.
pub(crate) fn media_type(route: &Route, parts: &Parts) -> String {
    content_type(parts)
        .filter(|value| value.len() <= CONTENT_TYPE_LIMIT_BYTES)
        .unwrap_or(route.provider.media_type())
        .to_owned()
}

/// The declared content type, if it is text.
fn content_type(parts: &Parts) -> Option<&str> {
    parts.headers.get(CONTENT_TYPE)?.to_str().ok().filter(|value| !value.is_empty())
}
