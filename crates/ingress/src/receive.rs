//! The way of one request, from its head to the broker's confirm.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{DiskAlarm, ExchangeName, FixedQueue, Layout, Publisher};
use bytes::Bytes;
use event::{Chain, Event, EventId, Headers, Message, SourceName, Timestamp, Topic, Zone, header};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use providers::auth::{Auth, Credentials, client_ip};
use providers::{Answer, Duplicates, Inbound, Reading, SubjectKey};
use serde::Serialize;
use server::body::{Reader, RequestBody};
use server::{Client, ClientRequests, Operations, Peer, Server};
use tokio::sync::SemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::service_fn;
use tower_service::Service;
use tracing::field::Empty;
use tracing::{Instrument, Span, debug, debug_span, error, warn};

use crate::coding::coding;
use crate::memory::{Held, Memory, SMALL_BYTES, UnprovedBody};
use crate::misses::Misses;
use crate::refusal::Refusal;
use crate::source::Route;
use crate::tally::{self, Row};
use crate::trace::traceparent;
use crate::{Config, Source};

/// The ingress at work. Cloning shares it.
#[derive(Clone)]
pub struct Ingress(Arc<Inner>);

struct Inner {
    routes: HashMap<String, Route>,
    publisher: Arc<dyn Publisher>,
    layout: Layout,
    key: SubjectKey,
    zone: Zone,
    config: Config,
    memory: Memory,
    /// The alarm of the disk that events are stored on, if it is ours.
    disk: DiskAlarm,
    /// Requests in progress of clients behind a trusted proxy.
    client_requests: ClientRequests,
    misses: Misses,
}

/// What an accepted request is answered with.
struct Accepted<'a> {
    id: EventId,
    topic: Topic,
    /// It repeats a fact that this ingress took before.
    is_duplicate: bool,
    answer: Option<&'a Answer>,
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
        }))
    }

    /// Reports to the ledger every few seconds what was answered, and to the log every minute what was refused; both
    /// once more when `stop` is cancelled, after the last request and before the broker closes.
    pub async fn report(self, stop: CancellationToken) {
        let Self(inner) = &self;
        let run = EventId::generate();
        let mut reported = Vec::new();
        let mut summarised = Instant::now();
        loop {
            let last = stop.run_until_cancelled(sleep(REPORT_PERIOD)).await.is_none();
            if last || summarised.elapsed() >= SUMMARY_PERIOD {
                summarised = Instant::now();
                inner.misses.summarise();
                inner.routes.iter().for_each(|(source, route)| route.refusals.summarise(source));
            }
            let rows: Vec<Row> = inner
                .routes
                .iter()
                .flat_map(|(source, route)| {
                    let row = |(day, counts)| Row { source: source.clone(), day, counts };
                    route.tally.counts().into_iter().map(row)
                })
                .collect();
            if rows != reported {
                let exchange = inner.layout.tallies();
                let publish = inner.publisher.publish(&exchange, "", tally::report(run, &inner.zone, &rows));
                match timeout(inner.config.answer_timeout(), publish).await {
                    Ok(Ok(())) => {
                        inner.routes.values().for_each(|route| route.tally.forget(event::now()));
                        reported = rows;
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
        Box::pin(port.serve(self.service(), operations, stop))
    }

    /// The service to run on a [`Server`], which provides the peer's address.
    pub(crate) fn service<B: RequestBody + Send + 'static>(
        self,
    ) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
    {
        service_fn(move |request| {
            let Self(ingress) = self.clone();
            async move { Ok(receive(&ingress, request).await) }
        })
    }
}

/// How often changed counts are reported to the ledger.
const REPORT_PERIOD: Duration = Duration::from_secs(5);

/// How often the number of refused requests is logged.
const SUMMARY_PERIOD: Duration = Duration::from_secs(60);

/// How long a request may wait for the first bytes of its body before its memory is charged as that of an unauthenticated one.
/// Most arrive with the head.
const FIRST_BYTES: Duration = Duration::from_millis(100);

/// What a header of a request takes besides its text: an entry of a map, and two allocations.
const HEADER_BYTES: usize = 256;

/// The longest property of AMQP 0-9-1 (shortstr, section 4.2.5.3). The media type of the provider replaces a longer
/// content type.
const CONTENT_TYPE_LIMIT_BYTES: usize = 255;

/// What is known of a request before its source has a say.
struct Arrival {
    id: EventId,
    time: Timestamp,
    client: IpAddr,
    traceparent: String,
}

async fn receive<B: RequestBody + Send>(ingress: &Inner, request: Request<B>) -> Response<Full<Bytes>> {
    let peer = request.extensions().get::<Peer>().expect("the server sets the peer");
    let peer = peer.address().ip().to_canonical();
    let client = client_ip(peer, request.headers(), &ingress.config.trusted_proxies);
    let path = request.uri().path();
    let name = source_name(path);
    let Some(route) = name.as_deref().and_then(|name| ingress.routes.get(name)) else {
        ingress.misses.count(client, path);
        return match name {
            Some(_) => Refusal::UnknownSource.into(),
            None => Refusal::NoSuchAddress.into(),
        };
    };
    let source = &route.name;
    let id = EventId::generate();
    let traceparent = traceparent(request.headers(), id);
    // At the level of debugging, since only an exporter of spans has a use for it.
    let span = debug_span!("receive", event_id = %id, %source, topic = Empty, traceparent);
    async {
        let arrival = Arrival { id, time: event::now(), client, traceparent };
        // The server counts by the address of the connection, which may be that of a proxy.
        let turn = match client == peer {
            true => Ok(None),
            false => ingress.client_requests.begin(Client::new(client)).map(Some).ok_or(Refusal::ClientBusy),
        };
        let accepted = match turn {
            Ok(_turn) => ingress.accept(route, arrival, request).await,
            Err(refusal) => Err(refusal),
        };
        match accepted {
            Ok(accepted) => {
                match accepted.is_duplicate {
                    true => route.duplicate.increment(1),
                    false => route.accepted.increment(1),
                }
                debug!(duplicate = accepted.is_duplicate, "accepted");
                accepted.into()
            }
            Err(refusal) => {
                report(route, client, id, &refusal);
                refusal.into()
            }
        }
    }
    .instrument(span)
    .await
}

/// The source of an address: `/webhooks/{source}`. Some senders double slashes or append one.
fn source_name(path: &str) -> Option<Cow<'_, str>> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next(), parts.next()) {
        (Some("webhooks"), Some(name), None) => percent_decode_str(name).decode_utf8().ok(),
        _ => None,
    }
}

/// Counts a refusal, and logs it if it is the first of its client. The log names the source, the client and the reason,
/// and nothing from the request.
fn report(route: &Route, client: IpAddr, event_id: EventId, refusal: &Refusal) {
    let source = &route.name;
    let count = match refusal {
        Refusal::Unusable { .. } => &route.rejected,
        Refusal::Denied(_) => &route.denied,
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
    let is_first = match refusal.is_failure() {
        true => route.refusals.is_first_failure(refusal.reason()),
        false => route.refusals.is_first(client, refusal.reason()),
    };
    if !is_first {
        return;
    }
    match refusal {
        Refusal::Unusable { .. } => warn!(%source, %event_id, %client, "rejected, and kept: {refusal}"),
        Refusal::Denied(_) => warn!(%source, %event_id, %client, "denied: {refusal}"),
        Refusal::NotStored(cause) | Refusal::TooLargeToStore(cause) => {
            error!(%source, %event_id, "{refusal}: {}", Chain(cause));
        }
        Refusal::NotInTime | Refusal::DiskFull => error!(%source, %event_id, "{refusal}"),
        _ => warn!(%source, %event_id, %client, "refused: {refusal}"),
    }
}

impl Inner {
    async fn accept<'a>(
        &self,
        route: &'a Route,
        arrival: Arrival,
        request: Request<impl RequestBody>,
    ) -> Result<Accepted<'a>, Refusal> {
        if request.method() != Method::POST {
            return Err(Refusal::Method);
        }
        let (parts, body) = request.into_parts();
        let (body, _share) = self.authenticated(route, &parts, body, arrival.client, arrival.time).await?;
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
        Arrival { id, time, traceparent, .. }: Arrival,
        parts: Parts,
        body: Bytes,
    ) -> Result<Accepted<'a>, Refusal> {
        let provider = &route.provider;
        let inbound = Inbound { headers: &parts.headers, body: &body };
        let turn = self.memory.checking(body.len()).await;
        let rule = route.duplicates.as_ref();
        let (reading, fact, cause) = match provider.read_fact(&inbound, &self.key, rule) {
            Ok((reading, fact)) => (reading, fact, None),
            Err(cause) => {
                // Before the body is kept, so that every 400 is on record.
                if let Some(quotas) = &route.quotas {
                    quotas.rejected(inbound.body.len(), Instant::now())?;
                }
                let mut headers = provider.keep(&parts.headers);
                let identity = rule.and_then(|rule| rule.kept_header(&parts.headers));
                headers.extend(identity.filter(|(name, _)| !route.auth().is_credential(name)));
                (unread(headers), None, Some(cause))
            }
        };
        drop(turn);
        let key = fact.zip(rule.map(Duplicates::window_s));
        Span::current().record("topic", reading.topic.as_str());
        let mut message = Event {
            id,
            source: route.event_source.clone(),
            topic: reading.topic.clone(),
            subject: reading.subject,
            time,
            content_type: content_type(&parts)
                .filter(|value| value.len() <= CONTENT_TYPE_LIMIT_BYTES)
                .unwrap_or(provider.media_type())
                .to_owned(),
            data: body,
            traceparent: Some(traceparent),
            replay_of: None,
            repaired: reading.repaired,
            headers: reading.headers,
        }
        .into_message();
        let topic = reading.topic;
        match cause {
            None => {
                let is_duplicate = self.publish_event(route, (id, time), message, &topic, key).await?;
                route.tally.accepted(time);
                Ok(Accepted { id, topic, is_duplicate, answer: provider.answer() })
            }
            Some(cause) => {
                message.headers.insert(header::CAUSE, cause.to_string().into());
                let bytes = message.body.len();
                let kept = self.publish(route, &self.layout.rejected(), topic.as_str(), message).await;
                if let (Err(_), Some(quotas)) = (&kept, &route.quotas) {
                    quotas.give_back_rejected(bytes);
                }
                kept?;
                route.tally.rejected(time);
                Err(Refusal::Unusable { cause, id })
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
        let credentials =
            Credentials { headers: &parts.headers, query: parts.uri.query(), client_ip, body: &[], now };
        let auth = route.auth();
        auth.check_head(&credentials).map_err(Refusal::Denied)?;
        let peer = parts.extensions.get::<Peer>().expect("the server sets the peer");
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
                true => proved = Some(self.read_proved(&mut reader, decoded).await?),
                false => unproved = Some(self.read_unproved(&mut reader, parts, client_ip).await?),
            }
        }
        let body = reader.into_bytes();
        let turn = self.memory.checking(body.len()).await;
        auth.check_body(&Credentials { body: &body, ..credentials }).map_err(Refusal::Denied)?;
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
    async fn read_unproved(
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
    async fn read_proved(
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

    /// Publishes an event. One that repeats a fact goes to the record alone: true.
    async fn publish_event(
        &self,
        route: &Route,
        (id, time): (EventId, Timestamp),
        mut message: Message,
        topic: &Topic,
        key: Option<(String, i64)>,
    ) -> Result<bool, Refusal> {
        let Some((key, window_s)) = key else {
            self.publish(route, &route.received, topic.as_str(), message).await?;
            return Ok(false);
        };
        message.headers.insert(header::DUPLICATE_KEY, key.as_str().into());
        message.headers.insert(header::DUPLICATE_WINDOW_S, window_s.into());
        if let Some(first) = route.recent.first(&key, time, window_s) {
            message.headers.insert(header::DUPLICATE_OF, first.to_string().into());
            let ledger = self.layout.queue(FixedQueue::Ledger);
            self.publish(route, &ExchangeName::default_exchange(), ledger.as_str(), message).await?;
            return Ok(true);
        }
        self.publish(route, &route.received, topic.as_str(), message).await?;
        route.recent.remember(key, id, time);
        Ok(false)
    }

    async fn publish(
        &self,
        route: &Route,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Message,
    ) -> Result<(), Refusal> {
        let started = Instant::now();
        let published = timeout(self.config.answer_timeout(), async {
            let _turn = self.memory.publishing(message.body.len()).await;
            self.publisher.publish(exchange, routing_key, message).await
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

/// The declared content type, if it is text.
fn content_type(parts: &Parts) -> Option<&str> {
    parts.headers.get(CONTENT_TYPE)?.to_str().ok().filter(|value| !value.is_empty())
}

/// malote's own answer.
#[derive(Serialize)]
struct Taken<'a> {
    id: EventId,
    topic: &'a str,
}

impl From<Accepted<'_>> for Response<Full<Bytes>> {
    fn from(accepted: Accepted<'_>) -> Self {
        let (status, content_type, body) = match accepted.answer {
            Some(answer) => {
                (answer.status, HeaderValue::from_str(&answer.content_type).ok(), answer.body.clone())
            }
            None => {
                let body = serde_json::to_string(&Taken { id: accepted.id, topic: accepted.topic.as_str() })
                    .expect("two texts are JSON");
                (StatusCode::OK, Some(HeaderValue::from_static("application/json")), body.into())
            }
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        if let Some(value) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        response
    }
}
