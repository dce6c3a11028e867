//! A request of the push door, and what its answer means.
//!
//! Headers as Standard Webhooks and the HTTP binding of CloudEvents (1.0.2, binary mode; the JSON batch for several events) have
//! them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::{Chain, EventId, Timestamp};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, InvalidHeaderValue};
use http::{HeaderMap, Method, StatusCode};
use ledger::feed::FeedEvent;
use outbound::{
    Address, Answer, BadAddress, BadCredential, BadHeader, Client, ClientAuthentication, Credentials,
    OAuth2Settings, Refused, Request, TlsError, retry_after, static_headers,
};
use serde::Deserialize;

use super::queue::Pending;
use super::schedule::LONGEST_ASKED;
use crate::declaration::{Auth, Push, Tls};
use crate::{
    EvaluationError, Expression, ExpressionError, Input, NotASigningSecret, Secrets, SigningSecret, sign,
};

/// How much of an answer is recorded.
pub(super) const ANSWER_BYTES: usize = 4 << 10;

/// How much of an answer to a batch is read: a thousand ids fit.
const BATCH_ANSWER_BYTES: usize = 64 << 10;

/// About how many headers a request has besides those that its subscription sets: a map that has room for all does not grow.
const HEADERS: usize = 20;

const BATCH: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Where requests go, and everything that they have in common.
pub(super) struct Endpoint {
    client: Client,
    url: Address,
    credentials: Credentials,
    headers: HeaderMap,
    /// The newest first.
    signing: Vec<SigningSecret>,
    /// Until when each is used.
    signing_until: Vec<Option<Timestamp>>,
    timeout: Duration,
    transform: Option<Arc<Expression>>,
    is_batch: bool,
}

/// Why nothing can be sent with a declaration and its secrets.
#[derive(Debug, thiserror::Error)]
pub enum BadEndpoint {
    /// The URL is no address.
    #[error("push.url")]
    Address(#[from] BadAddress),
    /// The URL is an address that nothing is sent to.
    #[error("push.url")]
    Refused(#[from] Refused),
    /// The token endpoint is no address.
    #[error("push.auth.oauth2.token_url")]
    TokenAddress(#[source] BadAddress),
    /// The token endpoint is an address that nothing is sent to.
    #[error("push.auth.oauth2.token_url")]
    TokenRefused(#[source] Refused),
    /// The authentication cannot be sent.
    #[error("push.auth")]
    Credential(#[from] BadCredential),
    /// The secret of the authentication is missing.
    #[error("push.auth: its secret is missing; edit the subscription")]
    NoSecret,
    /// The value of a header is missing.
    #[error("push.headers: {0} has no value; edit the subscription")]
    NoHeader(String),
    /// A header cannot be sent.
    #[error("push.headers")]
    Header(#[from] BadHeader),
    /// The TLS settings cannot be used.
    #[error("push.tls")]
    Tls(#[from] TlsError),
    /// The signing secret cannot be used.
    #[error("the signing secret")]
    Signing(#[from] NotASigningSecret),
    /// An expression cannot be compiled.
    #[error("the filter or the transform")]
    Expression(#[from] ExpressionError),
}

/// Why an event has no body to send.
#[derive(Debug, thiserror::Error)]
enum NoBody {
    #[error("the transform has no value for this event")]
    Transform(#[from] EvaluationError),
    #[error("the transform failed")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What the answer means for its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are delivered, but for those that the answer names.
    Delivered,
    /// They are tried again by the schedule.
    Failed,
    /// Nothing is sent before this time, and then they are.
    Asked(Timestamp),
    /// The endpoint wants no more events.
    Gone,
}

/// A request that was answered, or failed.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) at: Timestamp,
    pub(super) duration: Duration,
    pub(super) status: Option<StatusCode>,
    pub(super) error: Option<String>,
    pub(super) answer: Option<String>,
    pub(super) verdict: Verdict,
    /// The events of a batch that the answer names as failed.
    pub(super) failed: HashSet<EventId>,
    /// Events that were not sent: the transform has no value for them.
    pub(super) unsendable: HashMap<EventId, String>,
    /// The request before this one with the same events, to which the endpoint answered 401.
    pub(super) denied: Option<Denied>,
}

/// A request whose access token, which was kept, the endpoint did not accept: it was sent again with a new one.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) at: Timestamp,
    pub(super) duration: Duration,
    pub(super) answer: Option<String>,
}

impl Endpoint {
    pub(super) fn new(
        client: &Client,
        push: &Push,
        transform: Option<&str>,
        secrets: &Secrets,
    ) -> Result<Self, BadEndpoint> {
        let url: Address = push.url.parse()?;
        client.check(&url)?;
        let headers = push.headers.iter().map(|name| match secrets.header(name) {
            Some(value) => Ok((name.clone(), value.clone())),
            None => Err(BadEndpoint::NoHeader(name.clone())),
        });
        let headers = static_headers(&headers.collect::<Result<Vec<_>, _>>()?)?;
        let signing = secrets.signing.iter().map(|key| key.secret.parse());
        let client = match &push.tls {
            Some(tls) => client.with_tls(trust(tls, secrets)?),
            None => client.clone(),
        };
        Ok(Self {
            credentials: credentials(&client, push.auth.as_ref(), secrets)?,
            client,
            url,
            headers,
            signing: signing.collect::<Result<_, _>>()?,
            signing_until: secrets.signing.iter().map(|key| key.until).collect(),
            timeout: Duration::from_millis(push.timeout_ms),
            transform: transform.map(Expression::transform).transpose()?.map(Arc::new),
            is_batch: push.batch_events > 1,
        })
    }

    /// Sends these events in one request; several, or one, as a batch.
    pub(super) async fn send(&self, events: &[Pending]) -> Outcome {
        let at = event::now();
        let began = Instant::now();
        let mut unsendable = HashMap::new();
        let mut bodies = Vec::with_capacity(events.len());
        for pending in events {
            let event = pending.event.as_ref().expect("an event is sent with its contents");
            match self.body(event).await {
                Ok(body) => bodies.push((event, body)),
                Err(error) => {
                    unsendable.insert(pending.id, Chain(&error).to_string());
                }
            }
        }
        let sent: Vec<EventId> = match self.is_batch {
            true => bodies.iter().map(|(event, _)| event.id).collect(),
            false => Vec::new(),
        };
        let request = match self.is_batch {
            _ if bodies.is_empty() => None,
            true => Some(self.batch(&bodies, at)),
            false => bodies.pop().map(|(event, body)| self.single(event, body, at)),
        };
        let mut outcome = Outcome {
            at,
            duration: Duration::ZERO,
            status: None,
            error: None,
            answer: None,
            verdict: Verdict::Delivered,
            failed: HashSet::new(),
            unsendable,
            denied: None,
        };
        let mut denied = None;
        match request {
            None => {}
            Some(Err(error)) => {
                outcome.error = Some(format!("the request cannot be built: {error}"));
                outcome.verdict = Verdict::Failed;
            }
            Some(Ok(request)) => {
                match self.client.send_noting(request, &self.credentials, &mut denied).await {
                    Ok(answer) => outcome.read(&answer, &sent),
                    Err(error) => {
                        outcome.error = Some(clean(&Chain(&error).to_string()));
                        outcome.verdict = asked(error.retry_after());
                    }
                }
            }
        }
        outcome.duration = began.elapsed();
        if let Some(outbound::Denied { answer, took }) = denied {
            outcome.denied = Some(Denied { at, duration: took, answer: shown(&answer) });
            // Attempts of one event have different times.
            outcome.at = at + took.max(Duration::from_micros(1));
            outcome.duration = outcome.duration.saturating_sub(took);
        }
        outcome
    }

    /// The result of the transform; `None` for the event as it is.
    async fn body(&self, event: &Arc<FeedEvent>) -> Result<Option<Bytes>, NoBody> {
        let Some(transform) = self.transform.clone() else { return Ok(None) };
        let event = Arc::clone(event);
        // Bounded, but too long for a thread that has others to serve.
        let applied = tokio::task::spawn_blocking(move || transform.apply(&Input::new(&event))).await??;
        Ok(Some(applied))
    }

    fn single(
        &self,
        event: &FeedEvent,
        body: Option<Bytes>,
        at: Timestamp,
    ) -> Result<Request, InvalidHeaderValue> {
        let content_type = match (&body, event.content_type.as_str()) {
            (Some(_), _) | (None, "") => JSON,
            (None, own) => HeaderValue::from_str(own)?,
        };
        let body = body.unwrap_or_else(|| event.body.clone());
        let mut request = self.request(&event.id.to_string(), content_type, body, at)?;
        attributes(event, &mut request.headers)?;
        Ok(request)
    }

    fn batch(
        &self,
        events: &[(&Arc<FeedEvent>, Option<Bytes>)],
        at: Timestamp,
    ) -> Result<Request, InvalidHeaderValue> {
        let mut body = String::from("[");
        for (event, transformed) in events {
            if body.len() > 1 {
                body.push(',');
            }
            body.push_str(&match transformed {
                Some(data) => with_data(event, data),
                None => event.json(),
            });
        }
        body.push(']');
        // One id for each composition: a receiver takes a batch with the same id for the same events.
        self.request(&EventId::generate().to_string(), BATCH, body.into(), at)
    }

    fn request(
        &self,
        id: &str,
        content_type: HeaderValue,
        body: Bytes,
        at: Timestamp,
    ) -> Result<Request, InvalidHeaderValue> {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + HEADERS);
        headers.extend(self.headers.clone());
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(HeaderName::from_static("webhook-id"), HeaderValue::from_str(id)?);
        headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(at.as_second()));
        let is_live = |until: &&Option<Timestamp>| until.is_none_or(|until| at < until);
        let live = self.signing_until.iter().take_while(is_live).count();
        if live > 0 {
            let signature = sign(&self.signing[..live], id, at.as_second(), &body);
            headers.insert(HeaderName::from_static("webhook-signature"), HeaderValue::from_str(&signature)?);
        }
        let max_answer = if self.is_batch { BATCH_ANSWER_BYTES } else { ANSWER_BYTES };
        let (method, url, timeout) = (Method::POST, self.url.clone(), self.timeout);
        Ok(Request { method, url, headers, body, timeout, max_answer })
    }
}

fn credentials(client: &Client, auth: Option<&Auth>, secrets: &Secrets) -> Result<Credentials, BadEndpoint> {
    let Some(auth) = auth else { return Ok(Credentials::None) };
    let secret = secrets.auth.as_deref().ok_or(BadEndpoint::NoSecret)?;
    Ok(match auth {
        Auth::Basic { username } => Credentials::basic(username, secret)?,
        Auth::Bearer {} => Credentials::bearer(secret)?,
        Auth::Oauth2 { token_url, client_id, scope } => {
            let token_url: Address = token_url.parse().map_err(BadEndpoint::TokenAddress)?;
            client.check(&token_url).map_err(BadEndpoint::TokenRefused)?;
            let settings = OAuth2Settings {
                token_url,
                client_id: client_id.clone(),
                client_secret: secret.to_owned(),
                scope: scope.clone(),
                authentication: ClientAuthentication::ClientSecretBasic,
            };
            Credentials::oauth2(settings, client)?
        }
    })
}

fn trust(tls: &Tls, secrets: &Secrets) -> Result<outbound::Tls, TlsError> {
    let identity = tls.certificate.as_deref().zip(secrets.tls_key.as_deref());
    let identity = identity.map(|(certificate, key)| (certificate.as_bytes(), key.as_bytes()));
    outbound::Tls::new(tls.ca.as_deref().map(str::as_bytes), identity)
}

/// The attributes of a CloudEvent as headers (HTTP binding, section 3.1.3).
fn attributes(event: &FeedEvent, headers: &mut HeaderMap) -> Result<(), InvalidHeaderValue> {
    let mut set = |name: &'static str, value: &str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&encoded(value))?);
        Ok::<_, InvalidHeaderValue>(())
    };
    set("ce-specversion", "1.0")?;
    set("ce-id", &event.id.to_string())?;
    set("ce-type", event.topic())?;
    set("ce-source", &event.source())?;
    set("ce-time", &event.received_at.to_string())?;
    set("ce-provider", event.provider())?;
    if let Some(subject) = &event.subject {
        set("ce-subject", subject)?;
    }
    let related = [
        ("ce-replayof", event.replay_of),
        ("ce-causedby", event.caused_by),
        ("ce-duplicateof", event.duplicate_of),
    ];
    for (name, id) in related {
        if let Some(id) = id {
            set(name, &id.to_string())?;
        }
    }
    if event.is_repaired {
        set("ce-repaired", "true")?;
    }
    if let Some(traceparent) = &event.traceparent {
        set("traceparent", traceparent)?;
    }
    Ok(())
}

/// A value as a header has it (HTTP binding, section 3.1.3.2): what is not printable ASCII, spaces, quotes and per cent signs
/// are escaped.
fn encoded(value: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'%';
    if value.bytes().all(is_plain) {
        return value.into();
    }
    let escape =
        |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(escape).collect()
}

/// The CloudEvent in the JSON format with other data.
fn with_data(event: &FeedEvent, data: &Bytes) -> String {
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&event.json()).expect("the feed writes an object");
    fields.remove("data_base64");
    fields.remove("data");
    fields.insert("datacontenttype".to_owned(), "application/json".into());
    let mut json = serde_json::to_string(&fields).expect("it was JSON before");
    json.pop();
    json + ",\"data\":" + &String::from_utf8_lossy(data) + "}"
}

/// What the answer to a batch may say.
#[derive(Deserialize)]
struct BatchAnswer {
    failed: Option<Vec<String>>,
}

impl Outcome {
    /// Whether the endpoint works, and does not accept what was sent.
    pub(super) fn is_refusal(&self) -> bool {
        self.status
            .is_some_and(|status| status.is_client_error() && ![408, 425, 429].contains(&status.as_u16()))
    }

    /// Takes the answer to a request; with the events that were sent if it was a batch.
    fn read(&mut self, answer: &Answer, batch: &[EventId]) {
        self.status = Some(answer.status);
        self.answer = shown(answer);
        self.verdict = match answer.status.as_u16() {
            200..=299 => Verdict::Delivered,
            410 => Verdict::Gone,
            429 | 503 => asked(retry_after(&answer.headers, event::now())),
            _ => Verdict::Failed,
        };
        if !batch.is_empty() && matches!(answer.status.as_u16(), 200 | 207) {
            match failed(answer, batch) {
                Ok(failed) => self.failed = failed,
                Err(Unreadable) => {
                    self.verdict = Verdict::Failed;
                    self.error = Some(format!("answered {}, and {Unreadable}", answer.status));
                }
            }
        }
        if self.verdict != Verdict::Delivered && self.error.is_none() {
            self.error = Some(match answer.status {
                status if status.is_redirection() => format!("answered {status}; redirects are not followed"),
                status => format!("answered {status}"),
            });
        }
    }
}

/// The verdict on a request that failed and may be sent again after so long. Zero, or a date that has passed, asks for no pause:
/// the next attempt is that of the schedule.
fn asked(after: Option<Duration>) -> Verdict {
    let after = after.filter(|after| !after.is_zero());
    after.map_or(Verdict::Failed, |after| Verdict::Asked(event::now() + after.min(LONGEST_ASKED)))
}

/// What is recorded of an answer.
fn shown(answer: &Answer) -> Option<String> {
    let shown = &answer.body[..answer.body.len().min(ANSWER_BYTES)];
    (!shown.is_empty()).then(|| clean(&String::from_utf8_lossy(shown)))
}

/// The answer to a batch may name events that have to be sent again, and does not tell which.
#[derive(Debug, thiserror::Error)]
#[error("what it names as failed cannot be read, or was not in the batch")]
struct Unreadable;

/// `{"failed": ["<id>", …]}` names the events of a batch that have to be sent again. An object of JSON may do so, and a 207
/// does; any other answer is a text, and names none.
fn failed(answer: &Answer, batch: &[EventId]) -> Result<HashSet<EventId>, Unreadable> {
    let is_detailed = answer.status == StatusCode::MULTI_STATUS;
    if !is_detailed && !answer.body.trim_ascii_start().starts_with(b"{") {
        return Ok(HashSet::new());
    }
    // One that was cut off is not whole.
    let BatchAnswer { failed } = serde_json::from_slice(&answer.body).map_err(|_| Unreadable)?;
    let Some(failed) = failed else {
        return if is_detailed { Err(Unreadable) } else { Ok(HashSet::new()) };
    };
    let id = |text: &String| text.parse::<EventId>().ok().filter(|id| batch.contains(id)).ok_or(Unreadable);
    failed.iter().map(id).collect()
}

/// A text that either database takes.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, headers: &[(&'static str, &str)], body: &str, batch: &[EventId]) -> Outcome {
        let mut outcome = Outcome {
            at: event::now(),
            duration: Duration::ZERO,
            status: None,
            error: None,
            answer: None,
            verdict: Verdict::Failed,
            failed: HashSet::new(),
            unsendable: HashMap::new(),
            denied: None,
        };
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            is_cut: false,
        };
        outcome.read(&answer, batch);
        outcome
    }

    #[test]
    fn every_status_has_its_meaning() {
        let check = |status, expect| assert_eq!(outcome(status, &[], "", &[]).verdict, expect, "{status}");
        for status in [200, 201, 202, 204, 299] {
            check(status, Verdict::Delivered);
        }
        for status in [301, 302, 307, 308, 400, 401, 404, 429, 500, 503] {
            check(status, Verdict::Failed);
        }
        check(410, Verdict::Gone);
    }

    #[test]
    fn an_endpoint_gets_the_pause_that_it_asks_for_and_a_day_at_most() {
        let check = |status, value: &str, seconds: Option<i64>| {
            let before = event::now();
            let outcome = outcome(status, &[("retry-after", value)], "", &[]);
            match (outcome.verdict, seconds) {
                (Verdict::Asked(until), Some(seconds)) => {
                    let earliest = before + Duration::from_secs(seconds.unsigned_abs());
                    assert!(until >= earliest && until <= earliest + Duration::from_secs(5), "{value}");
                }
                (verdict, _) => assert_eq!((verdict, seconds), (Verdict::Failed, None), "{status} {value}"),
            }
        };
        check(429, "7", Some(7));
        check(503, "7", Some(7));
        check(429, "31536000", Some(86_400));
        check(429, "0", None);
        check(503, "Sun, 06 Nov 1994 08:49:37 GMT", None);
        check(429, "soon", None);
        check(500, "7", None);
    }

    #[test]
    fn the_answer_to_a_batch_names_what_failed() {
        let batch @ [one, other] = [EventId::generate(), EventId::generate()];
        let body = format!(r#" {{"failed": ["{one}"], "more": 1}}"#);
        for status in [200, 207] {
            let outcome = outcome(status, &[], &body, &batch);
            assert_eq!((outcome.verdict, outcome.error), (Verdict::Delivered, None));
            assert!(outcome.failed.contains(&one) && !outcome.failed.contains(&other));
        }
        assert!(outcome(200, &[], &body, &[]).failed.is_empty(), "one event is no batch");
        for body in ["", "thanks", "{}", r#"{"failed": null}"#, r#"{"failed": []}"#] {
            let outcome = outcome(200, &[], body, &batch);
            assert!(outcome.verdict == Verdict::Delivered && outcome.failed.is_empty(), "{body}");
        }
        assert_eq!(outcome(204, &[], "", &batch).verdict, Verdict::Delivered);
    }

    #[test]
    fn an_answer_to_a_batch_that_cannot_be_read_delivers_nothing() {
        let batch @ [one, _] = [EventId::generate(), EventId::generate()];
        let check = |status, body: &str| {
            let outcome = outcome(status, &[], body, &batch);
            assert!(outcome.verdict == Verdict::Failed && outcome.failed.is_empty(), "{status} {body}");
            assert!(outcome.error.is_some_and(|error| error.contains("cannot be read")), "{status} {body}");
        };
        let other = EventId::generate();
        for body in [
            format!(r#"{{"failed": ["{one}""#),
            format!(r#"{{"failed": "{one}"}}"#),
            format!(r#"{{"failed": [{{"id": "{one}"}}]}}"#),
            format!(r#"{{"failed": ["{one}", 7]}}"#),
            format!(r#"{{"failed": ["{one}", "else"]}}"#),
            format!(r#"{{"failed": ["{one}", "{other}"]}}"#),
        ] {
            check(200, &body);
            check(207, &body);
        }
        for body in ["", "thanks", "{}", "[]"] {
            check(207, body);
        }
    }

    #[test]
    fn an_answer_is_recorded_in_part_and_as_both_databases_take_it() {
        let long = "é".repeat(ANSWER_BYTES);
        let kept = outcome(500, &[], &long, &[]).answer.unwrap();
        assert!(kept.len() <= ANSWER_BYTES + 3 && kept.starts_with("éé"));
        assert_eq!(outcome(200, &[], "a\0b", &[]).answer.as_deref(), Some("a\u{fffd}b"));
        assert_eq!(outcome(204, &[], "", &[]).answer, None);
        let moved = outcome(302, &[], "", &[]).error.unwrap();
        assert_eq!(moved, "answered 302 Found; redirects are not followed");
    }

    #[test]
    fn attributes_travel_as_headers_and_are_escaped() {
        let event =
            FeedEvent::example(EventId::generate(), Some("pedido/á \"1\" %"), event::now(), "{}".into());
        let mut headers = HeaderMap::new();
        attributes(&event, &mut headers).unwrap();
        assert_eq!(headers["ce-subject"], "pedido/%C3%A1%20%221%22%20%25");
        assert_eq!(headers["ce-id"], event.id.to_string().as_str());
        assert!(!headers.contains_key("ce-replayof"));
    }
}
