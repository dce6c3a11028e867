//! What `POST /oauth/token` answers (RFC 6749, section 5), and how often a client may fail.
//!
//! Promises that memory and log do not grow with the number of clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use providers::auth::AccessToken;
use serde_json::json;
use server::Client;
use tracing::warn;

use crate::refusal_log::RefusalLog;

/// The longest request, in bytes.
pub(crate) const LIMIT_BYTES: usize = 8 * 1024;

/// How many requests of one client address may fail in a period.
const FAILURES: u32 = 60;

const PERIOD: Duration = Duration::from_secs(60);

/// How many client addresses are counted separately.
const CLIENTS: usize = 1_024;

/// Who has asked for tokens in vain.
#[derive(Default)]
pub(crate) struct Tokens {
    asked: Mutex<Asked>,
    denied: RefusalLog,
}

#[derive(Default)]
struct Asked {
    clients: HashMap<Client, (Instant, u32)>,
    /// The clients beyond the bound.
    others: Option<(Instant, u32)>,
}

impl Asked {
    /// How long a client has to wait that has failed too often. Those beyond the bound share a count, which would make them wait for
    /// each other.
    fn wait(&self, client: Client, now: Instant) -> Option<Duration> {
        let (since, count) = self.clients.get(&client)?;
        let left = PERIOD.checked_sub(now.saturating_duration_since(*since))?;
        (*count >= FAILURES && !left.is_zero()).then_some(left)
    }

    /// Counts a failure; how long to wait, if it is one too many.
    fn count(&mut self, client: Client, now: Instant) -> Option<Duration> {
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, (since, _)| now.saturating_duration_since(*since) < PERIOD);
        }
        let (since, count) = match self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            true => self.others.get_or_insert((now, 0)),
            false => self.clients.entry(client).or_insert((now, 0)),
        };
        if now.saturating_duration_since(*since) >= PERIOD {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count > FAILURES).then(|| PERIOD.saturating_sub(now.saturating_duration_since(*since)))
    }
}

/// Why no token is issued (RFC 6749, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Not a POST.
    Method,
    /// Too many, and after how many seconds to ask again.
    TooMany(u64),
    /// No credentials, or a request that cannot be read.
    Request,
    /// Another grant.
    Grant,
    /// Wrong credentials.
    Client,
}

impl Tokens {
    /// Whether this is the address of the endpoint; some senders double slashes or append one.
    pub(crate) fn is_address(path: &str) -> bool {
        path.split('/').filter(|part| !part.is_empty()).eq(["oauth", "token"])
    }

    pub(crate) fn summarise(&self) {
        self.denied.summarise("oauth/token");
    }

    /// Whether this client may ask: nothing is looked at for one that has failed too often, so that guessing has its limit.
    pub(crate) fn admit(&self, client: IpAddr) -> Result<(), Problem> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.wait(Client::new(client), Instant::now()) {
            Some(wait) => Err(Problem::TooMany(wait.as_secs() + 1)),
            None => Ok(()),
        }
    }

    /// Counts a request of this client that failed.
    pub(crate) fn count(&self, client: IpAddr) -> Result<(), Problem> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.count(Client::new(client), Instant::now()) {
            Some(wait) => Err(Problem::TooMany(wait.as_secs() + 1)),
            None => Ok(()),
        }
    }

    /// The answer without a token, and its line in the log.
    pub(crate) fn deny(&self, client: IpAddr, problem: Problem) -> Response<Full<Bytes>> {
        let reason = problem.description();
        if self.denied.is_first(client, reason) {
            warn!(%client, "no access token was issued: {reason}");
        }
        problem.into()
    }
}

impl Problem {
    fn description(self) -> &'static str {
        match self {
            Self::Method => "only POST is allowed here",
            Self::TooMany(_) => "too many requests for tokens; retry later",
            Self::Request => {
                "expected client_id and client_secret by HTTP Basic, as form fields or as JSON, in at most 8192 bytes"
            }
            Self::Grant => "expected grant_type=client_credentials",
            Self::Client => "the client is unknown or its secret is wrong",
        }
    }
}

impl From<Problem> for Response<Full<Bytes>> {
    fn from(problem: Problem) -> Self {
        let (status, error) = match problem {
            Problem::Method => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request"),
            Problem::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
            Problem::Request => (StatusCode::BAD_REQUEST, "invalid_request"),
            Problem::Grant => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            Problem::Client => (StatusCode::UNAUTHORIZED, "invalid_client"),
        };
        let mut response =
            answer(status, &json!({"error": error, "error_description": problem.description()}));
        let headers: &mut HeaderMap = response.headers_mut();
        match problem {
            Problem::Method => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
            Problem::TooMany(seconds) => drop(headers.insert(RETRY_AFTER, HeaderValue::from(seconds))),
            Problem::Client => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"malote\""));
            }
            Problem::Request | Problem::Grant => {}
        }
        response
    }
}

/// The answer with a token.
pub(crate) fn granted(token: &AccessToken) -> Response<Full<Bytes>> {
    let AccessToken { text, expires_in_s } = token;
    answer(StatusCode::OK, &json!({"access_token": text, "token_type": "Bearer", "expires_in": expires_in_s}))
}

/// An answer that no cache keeps (RFC 6749, section 5.1).
fn answer(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_may_fail_so_often_and_those_beyond_the_bound_share_one_count() {
        let start = Instant::now();
        let mut asked = Asked::default();
        let client = |n: u32| Client::new(IpAddr::from(n.to_be_bytes()));
        for _ in 0..FAILURES {
            assert_eq!(asked.count(client(1), start), None);
        }
        assert_eq!(asked.wait(client(1), start + PERIOD / 2), Some(PERIOD / 2));
        assert_eq!(asked.count(client(1), start + PERIOD / 2), Some(PERIOD / 2));
        assert_eq!(asked.wait(client(2), start), None);
        assert_eq!(asked.count(client(2), start), None);
        assert_eq!(asked.count(client(1), start + PERIOD), None);
        for n in 0..2 * u32::try_from(CLIENTS).unwrap() {
            asked.count(client(n), start + PERIOD);
        }
        assert_eq!(asked.clients.len(), CLIENTS);
        assert!(asked.count(client(1_000_000), start + PERIOD).is_some());
        assert_eq!(asked.wait(client(1_000_000), start + PERIOD), None, "those of others are not its own");
        // A quiet client makes room.
        assert_eq!(asked.count(client(1_000_000), start + 2 * PERIOD), None);
    }
}
