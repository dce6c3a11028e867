//! One poll of one source: its addresses are asked, each item is kept, and acknowledged once it is durable.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use event::{Chain, SourceName};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use ingress::{Ingress, Kept};
use metrics::counter;
use outbound::{Answer, Client, Credentials, Request, retry_after};
use providers::Item;
use providers::generic::Pointer;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::{Acknowledge, Endpoint, acknowledging};
use crate::template::{Encoding, Missing};

/// The longest answer, in bytes.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// The longest answer to an acknowledgement; nothing of it is read.
const LONGEST_RECEIPT: usize = 64 * 1024;

/// After so many failed acknowledgements in a row, the rest waits for the next poll.
const FAILED_ACKNOWLEDGEMENTS: usize = 3;

/// After so many items in a row whose acknowledgement is refused, those that were tried at earlier polls are left out: what is
/// wrong is the request, not the items.
const REFUSED_ITEMS: usize = 20;

/// How one source is polled.
pub(crate) struct Plan {
    pub(crate) source: SourceName,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) credentials: Credentials,
    pub(crate) items: Option<Pointer>,
    pub(crate) acknowledge: Option<Acknowledge>,
    pub(crate) timeout: Duration,
    pub(crate) every: Duration,
}

/// The items that are durable here and were listed, by address: kept again, each would be recorded as a duplicate at every poll.
pub(crate) type Listed = HashMap<String, HashSet<Bytes>>;

/// How a poll ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) items: usize,
    /// The first thing that went wrong, and of one item only if nothing else did.
    pub(crate) failure: Option<Failure>,
}

impl Outcome {
    /// Adds a failure; whether it ends the poll.
    fn fail(&mut self, failure: Failure) -> bool {
        let is_final = failure.is_final;
        if self
            .failure
            .as_ref()
            .is_none_or(|first| first.cause == Cause::Item && failure.cause != Cause::Item)
        {
            self.failure = Some(failure);
        }
        is_final
    }
}

/// Why a poll failed. Names the host, and quotes nothing of requests and answers.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// How long the API asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the rest of the poll would fail, too.
    pub(crate) is_final: bool,
    pub(crate) cause: Cause,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The API, or the way to it.
    Api,
    /// One item: others may well succeed.
    Item,
    /// Malote itself, such as a broker that is down.
    Own,
}

impl Failure {
    fn new(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), retry_after: None, is_final: false, cause: Cause::Api }
    }

    #[cfg(test)]
    pub(crate) fn failed(reason: &str, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::new(reason) }
    }
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        Self { cause: Cause::Item, ..Self::new(format_args!("{missing}, which poll.acknowledge needs")) }
    }
}

/// Whether to go on: asked before each item. False once the lease is lost, or the process stops.
pub(crate) trait Permit {
    /// Whether there is time for another request.
    async fn may_go_on(&mut self) -> bool;
}

/// What a poll works with.
pub(crate) struct Tools<'a> {
    pub(crate) client: &'a Client,
    pub(crate) ingress: &'a Ingress,
    /// Cuts off requests; what is being stored is finished.
    pub(crate) stop: &'a CancellationToken,
}

impl Tools<'_> {
    async fn send(&self, request: Request, credentials: &Credentials) -> Result<Answer, Failure> {
        let sent = self.stop.run_until_cancelled(self.client.send(request, credentials)).await;
        let sent = sent.ok_or_else(|| Failure { is_final: true, ..Failure::new("the process stops") })?;
        sent.map_err(|error| Failure::new(Chain(&error)))
    }
}

impl Plan {
    /// Polls the source once. `listed` is what the polls before have kept.
    pub(crate) async fn poll(
        &self,
        tools: &Tools<'_>,
        listed: &mut Listed,
        permit: &mut impl Permit,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for endpoint in &self.endpoints {
            if !permit.may_go_on().await {
                break;
            }
            let known = listed.entry(endpoint.plain.clone()).or_default();
            let items = match self.list(tools, endpoint).await {
                Ok(items) => items,
                Err(failure) => match outcome.fail(failure) {
                    true => break,
                    false => continue,
                },
            };
            outcome.items += items.len();
            let bodies: HashSet<&Bytes> = items.iter().map(Item::body).collect();
            known.retain(|body| bodies.contains(body));
            if self.take(tools, endpoint, &items, known, &mut outcome, permit).await {
                break;
            }
        }
        outcome
    }

    /// The items that an address lists.
    async fn list(&self, tools: &Tools<'_>, endpoint: &Endpoint) -> Result<Vec<Item>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let request = Request {
            method: Method::GET,
            url: endpoint.url.clone(),
            headers,
            body: Bytes::new(),
            timeout: self.timeout,
            max_answer: LONGEST_ANSWER,
        };
        let answer = tools.send(request, &self.credentials).await?;
        self.check(&answer, endpoint.url.host())?;
        if answer.is_cut {
            let message = format!("{} answered with more than {LONGEST_ANSWER} bytes", endpoint.url.host());
            return Err(Failure::new(message));
        }
        let content_type = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        providers::items(&answer.body, content_type, self.items.as_ref())
            .map_err(|error| Failure::new(Chain(&error)))
    }

    /// Keeps the items, and acknowledges each that is durable; whether the poll ends. One that fails does not keep back the others.
    async fn take(
        &self,
        tools: &Tools<'_>,
        endpoint: &Endpoint,
        items: &[Item],
        known: &mut HashSet<Bytes>,
        outcome: &mut Outcome,
        permit: &mut impl Permit,
    ) -> bool {
        let (mut refused, mut refused_items) = (0, 0);
        for item in items {
            if !permit.may_go_on().await {
                return true;
            }
            let is_new = !known.contains(item.body());
            if is_new {
                match self.keep(tools.ingress, item).await {
                    Ok(()) => drop(known.insert(item.body().clone())),
                    Err(failure) => match outcome.fail(failure) {
                        true => return true,
                        false => continue,
                    },
                }
            }
            let is_tried = refused < FAILED_ACKNOWLEDGEMENTS && (is_new || refused_items < REFUSED_ITEMS);
            let Some(acknowledge) = self.acknowledge.as_ref().filter(|_| is_tried) else { continue };
            match self.acknowledge(tools, acknowledge, endpoint, item).await {
                // It stays known while it is listed: an API that forgets what was acknowledged gives nothing new.
                Ok(()) => (refused, refused_items) = (0, 0),
                Err(failure) => {
                    match failure.cause {
                        Cause::Item => refused_items += 1,
                        Cause::Api | Cause::Own => refused += 1,
                    }
                    if outcome.fail(failure) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Makes an item durable: as an event, as the duplicate of one, or as a rejected body.
    async fn keep(&self, ingress: &Ingress, item: &Item) -> Result<(), Failure> {
        let source = &self.source;
        let count = |outcome: &'static str| {
            counter!("polled_items_total", "source" => source.to_string(), "outcome" => outcome).increment(1);
        };
        match ingress.keep_polled(source, item.body().clone()).await {
            Ok(Kept::Event(event_id)) => {
                debug!(%source, %event_id, "kept an item");
                count("accepted");
            }
            Ok(Kept::Duplicate(_)) => count("duplicate"),
            Ok(Kept::Rejected(event_id, cause)) => {
                warn!(%source, %event_id, "an item is rejected, and kept: {cause}");
                count("rejected");
            }
            Err(not_kept) => {
                count("unavailable");
                let mut failure = Failure::new(format_args!("an item is not stored: {}", Chain(&not_kept)));
                failure.is_final = not_kept.is_of_all();
                failure.cause = if failure.is_final { Cause::Own } else { Cause::Item };
                return Err(failure);
            }
        }
        Ok(())
    }

    async fn acknowledge(
        &self,
        tools: &Tools<'_>,
        Acknowledge { method, url, body, content_type }: &Acknowledge,
        endpoint: &Endpoint,
        item: &Item,
    ) -> Result<(), Failure> {
        let acknowledged = async {
            let plain = url.without_values(&endpoint.plain);
            let url = url.fill(item, &endpoint.plain, Encoding::Percent)?;
            let body = body.fill(item, &endpoint.plain, Encoding::for_body(content_type))?;
            let url: outbound::Address = url.parse().map_err(|error| {
                let reason = format!("poll.acknowledge.url gives no address for an item: {error}");
                Failure { cause: Cause::Item, ..Failure::new(reason) }
            })?;
            // Credentials go with it.
            if plain.parse::<outbound::Address>().is_ok_and(|plain| plain.origin() != url.origin()) {
                let reason = "poll.acknowledge.url: an item leads to another host than the address that is written there";
                return Err(Failure { cause: Cause::Item, ..Failure::new(reason) });
            }
            let host = url.host().to_owned();
            let headers = if body.is_empty() { HeaderMap::new() } else { acknowledging(content_type) };
            let request = Request {
                method: method.clone(),
                url,
                headers,
                body: body.into(),
                timeout: self.timeout,
                max_answer: LONGEST_RECEIPT,
            };
            let answer = tools.send(request, &self.credentials).await?;
            // Refused for what it says, which is about this item.
            let is_of_item = answer.status.is_client_error();
            self.check(&answer, &host).map_err(|failure| match is_of_item && !failure.is_final {
                true => Failure { cause: Cause::Item, ..failure },
                false => failure,
            })
        };
        let acknowledged: Result<(), Failure> = acknowledged.await;
        let outcome = if acknowledged.is_ok() { "success" } else { "failure" };
        counter!("poll_acknowledgements_total", "source" => self.source.to_string(), "outcome" => outcome)
            .increment(1);
        acknowledged.map_err(|failure| Failure {
            reason: format!("an item is stored and not acknowledged: {}", failure.reason),
            ..failure
        })
    }

    /// Whether an answer is a success.
    fn check(&self, answer: &Answer, host: &str) -> Result<(), Failure> {
        let status = answer.status;
        if status.is_success() {
            return Ok(());
        }
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": it refuses the credentials of poll.auth",
            StatusCode::NOT_FOUND | StatusCode::GONE => ": nothing is at this address",
            StatusCode::TOO_MANY_REQUESTS => ": too many requests",
            status if status.is_redirection() => ": redirects are not followed; set the new address",
            _ => "",
        };
        let is_pause = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let retry_after = retry_after(&answer.headers, event::now()).filter(|_| is_pause);
        Err(Failure {
            reason: format!("{host} answered {}{hint}", status.as_u16()),
            retry_after,
            is_final: is_pause || status == StatusCode::UNAUTHORIZED,
            cause: Cause::Api,
        })
    }
}
