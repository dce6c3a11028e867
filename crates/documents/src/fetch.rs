//! One request to an API, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use event::{Chain, Timestamp};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use outbound::{
    Address, Answer, BadAddress, BadCredential, Client, Credentials, RateLimit, Request, SendError,
    rate_limit, retry_after,
};
use providers::documents::Api;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::config::{Config, Source};
use crate::document::{Content, DocumentState, Due};
use crate::pace::Health;

/// How long an API that answers 429 is left alone if it does not say.
const UNSAID: Duration = Duration::from_secs(30);

/// The longest pause that an API can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(86_400);

/// How a PDF file begins (ISO 32000-2, section 7.5.2).
const PDF: &[u8] = b"%PDF-";

/// Where it may begin: some producers write a line or a byte order mark before it, and readers accept that (ISO 32000-1, annex H).
const BEGINNING: usize = 1_024;

/// Where the documents of one source are fetched.
pub(crate) struct Endpoint {
    client: Client,
    public: Client,
    source: Source,
    credentials: Credentials,
    config: Config,
}

/// Why nothing can be fetched from an API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadEndpoint {
    #[error("the provider has no API")]
    NoApi,
    #[error("api")]
    Credential(#[from] BadCredential),
}

/// Why a document has no address.
#[derive(Debug, thiserror::Error)]
enum NoAddress {
    #[error("its address")]
    Address(#[from] BadAddress),
}

/// What an answer means for the document.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is this.
    Fetched(Box<Content>),
    /// The API does not have it, or not yet.
    Missing(String),
    /// The credentials are wrong, which concerns all that is fetched with them.
    Denied(String),
    /// It will not be fetched: gone or refused, and why.
    Ended(DocumentState, String),
    /// It is fetched later, since the API fails.
    Failed(String),
    /// It is fetched later, since the API asks to wait.
    Asked(Timestamp, String),
}

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) limit: Option<RateLimit>,
}

impl Verdict {
    /// What it means for the requests after it.
    pub(crate) fn health(&self) -> Health {
        match self {
            Self::Fetched(_) | Self::Missing(_) | Self::Ended(..) => Health::Works,
            Self::Failed(_) | Self::Denied(_) => Health::Fails,
            Self::Asked(until, _) => Health::Asks(*until),
        }
    }

    /// The label of metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Fetched(_) => "fetched",
            Self::Missing(_) => DocumentState::Gone.as_str(),
            Self::Denied(_) => DocumentState::Refused.as_str(),
            Self::Ended(state, _) => state.as_str(),
            Self::Failed(_) => "failed",
            Self::Asked(..) => "held",
        }
    }
}

impl Endpoint {
    pub(crate) fn new(
        client: &Client,
        public: &Client,
        source: &Source,
        config: &Config,
    ) -> Result<Self, BadEndpoint> {
        let api: &Api = source.provider.api().ok_or(BadEndpoint::NoApi)?;
        let credentials = source.api.credentials(api, client)?;
        let (client, public) = (client.clone(), public.clone());
        Ok(Self { client, public, source: source.clone(), credentials, config: config.clone() })
    }

    /// Fetches a document.
    pub(crate) async fn fetch(&self, due: &Due) -> Outcome {
        let is_file = due.is_file();
        let (url, client, credentials) = match self.target(due) {
            Ok(target) => target,
            Err(error) => {
                let reason = Chain(&error).to_string();
                return Outcome { verdict: Verdict::Ended(DocumentState::Refused, reason), limit: None };
            }
        };
        let limit = if is_file { self.config.file_limit_bytes } else { self.config.document_limit_bytes };
        let accept = if is_file { "application/pdf, */*;q=0.1" } else { "application/json" };
        let request = Request {
            method: Method::GET,
            url,
            headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]),
            body: Bytes::new(),
            timeout: Duration::from_millis(self.config.timeout_ms),
            max_answer: usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let answered = client.send(request, credentials).await;
        let now = event::now();
        match answered {
            Ok(answer) => Outcome {
                limit: rate_limit(&answer.headers).and_then(|limit| bounded(limit, now)),
                verdict: read(answer, is_file, limit, now),
            },
            Err(error) => Outcome { verdict: unanswered(&error, is_file), limit: None },
        }
    }

    /// The address of a document, and what it is fetched with: a file that is elsewhere gets no credentials of the API, and has to be at
    /// a public address.
    fn target(&self, due: &Due) -> Result<(Address, &Client, &Credentials), NoAddress> {
        let api = &self.source.api;
        let url: Address = match due.is_file() {
            true => due.place.parse()?,
            false => format!("{}{}", api.base_url.as_str().trim_end_matches('/'), due.place).parse()?,
        };
        Ok(match url.origin() == api.base_url.origin() {
            true => (url, &self.client, &self.credentials),
            false => (url, &self.public, &Credentials::None),
        })
    }
}

/// A window of the API. A time that is too long for one is read as a point in time, as some APIs mean it.
fn bounded(limit: RateLimit, now: Timestamp) -> Option<RateLimit> {
    if limit.reset <= LONGEST_ASKED {
        return Some(limit);
    }
    let at = Timestamp::from_second(i64::try_from(limit.reset.as_secs()).ok()?).ok()?;
    let reset = Duration::try_from(at.duration_since(now)).ok().filter(|reset| *reset <= LONGEST_ASKED)?;
    Some(RateLimit { reset, ..limit })
}

/// What an answer means.
fn read(answer: Answer, is_file: bool, limit: u64, now: Timestamp) -> Verdict {
    let status = answer.status;
    let answered = format!("answered {status}");
    let refused = |reason: String| Verdict::Ended(DocumentState::Refused, reason);
    let wait = retry_after(&answer.headers, now).filter(|wait| !wait.is_zero());
    match status {
        StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {}
        StatusCode::NOT_FOUND => return Verdict::Missing(answered),
        StatusCode::GONE => return Verdict::Ended(DocumentState::Gone, answered),
        StatusCode::UNAUTHORIZED => return Verdict::Denied(answered),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            if wait.is_some() || status == StatusCode::TOO_MANY_REQUESTS =>
        {
            let reset =
                rate_limit(&answer.headers).and_then(|limit| bounded(limit, now)).map(|limit| limit.reset);
            let wait = wait.or(reset).unwrap_or(UNSAID).min(LONGEST_ASKED);
            return Verdict::Asked(now + wait, answered);
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => return Verdict::Failed(answered),
        _ if status.is_client_error() => return refused(answered),
        _ if status.is_redirection() => return refused(format!("{answered}; redirects are not followed")),
        _ => return Verdict::Failed(answered),
    }
    if answer.is_cut {
        let setting = if is_file { "file_limit_bytes" } else { "document_limit_bytes" };
        return refused(format!("is longer than {limit} bytes: see documents.{setting}"));
    }
    let content_type =
        answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (content_type, document) = match is_file {
        true if is_pdf(&answer.body) => ("application/pdf", None),
        // The address has expired, and leads to a page that says so.
        true => return refused(format!("{answered}, and no PDF")),
        false => match json(content_type, &answer.body) {
            Some(document) => ("application/json", Some(document)),
            None => return Verdict::Failed(format!("{answered}, and no JSON object")),
        },
    };
    Verdict::Fetched(Box::new(Content {
        fetched_at: now,
        content_type: content_type.to_owned(),
        sha256: providers::to_hex(&Sha256::digest(&answer.body)),
        body: answer.body,
        document,
    }))
}

/// The body as a JSON object, unless it is declared to be something else.
fn json(content_type: &str, body: &[u8]) -> Option<Box<RawValue>> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json");
    let document: Box<RawValue> = serde_json::from_slice(body).ok().filter(|_| is_json)?;
    document.get().starts_with('{').then_some(document)
}

/// A request without an answer.
fn unanswered(error: &SendError, is_file: bool) -> Verdict {
    let reason = Chain(error).to_string();
    match error {
        SendError::Refused(_) if is_file => Verdict::Ended(DocumentState::Refused, reason),
        // The address of the API and its token concern all of its documents: each is a failure of the API until the configuration
        // is corrected.
        _ => Verdict::Failed(reason),
    }
}

fn is_pdf(body: &[u8]) -> bool {
    body[..body.len().min(BEGINNING)].windows(PDF.len()).any(|bytes| bytes == PDF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: Bytes::from_static(body.as_bytes()),
            is_cut: false,
        }
    }

    #[test]
    fn an_answer_is_a_document_or_says_what_becomes_of_it() {
        let now = event::now();
        let check = |status: u16, headers: &[(&'static str, &'static str)], body, is_file, expect: &str| {
            let verdict = read(answer(status, headers, body), is_file, 10, now);
            let shown = match &verdict {
                Verdict::Fetched(content) => format!("fetched {}", content.content_type),
                Verdict::Missing(reason) => format!("missing: {reason}"),
                Verdict::Denied(reason) => format!("denied: {reason}"),
                Verdict::Ended(state, reason) => format!("{}: {reason}", state.as_str()),
                Verdict::Failed(reason) => format!("failed: {reason}"),
                Verdict::Asked(until, _) => format!("wait {}", until.duration_since(now).as_secs()),
            };
            assert_eq!(shown, expect, "{status} {body}");
        };
        let json = [("content-type", "application/json; charset=utf-8")];
        check(200, &json, "{\"a\": 1.50}", false, "fetched application/json");
        check(200, &[], " {}", false, "fetched application/json");
        check(
            200,
            &[("content-type", "text/html")],
            "{}",
            false,
            "failed: answered 200 OK, and no JSON object",
        );
        check(200, &json, "<html>", false, "failed: answered 200 OK, and no JSON object");
        check(200, &json, "[]", false, "failed: answered 200 OK, and no JSON object");
        check(200, &[], "%PDF-1.7", true, "fetched application/pdf");
        check(200, &[], "\u{feff}\n%PDF-1.7", true, "fetched application/pdf");
        check(
            200,
            &[("content-type", "application/pdf")],
            "<html>",
            true,
            "refused: answered 200 OK, and no PDF",
        );
        check(404, &[], "", false, "missing: answered 404 Not Found");
        check(410, &[], "", false, "gone: answered 410 Gone");
        check(401, &[], "", false, "denied: answered 401 Unauthorized");
        for (status, name) in [(403, "Forbidden"), (400, "Bad Request")] {
            check(status, &[], "", false, &format!("refused: answered {status} {name}"));
        }
        check(
            302,
            &[("location", "/")],
            "",
            false,
            "refused: answered 302 Found; redirects are not followed",
        );
        check(500, &[], "", false, "failed: answered 500 Internal Server Error");
        check(503, &[], "", false, "failed: answered 503 Service Unavailable");
        check(503, &[("retry-after", "7")], "", false, "wait 7");
        check(429, &[("retry-after", "120")], "", false, "wait 120");
        check(429, &[("ratelimit-remaining", "0"), ("ratelimit-reset", "45")], "", false, "wait 45");
        check(429, &[], "", false, "wait 30");
        check(429, &[("retry-after", "0")], "", false, "wait 30");
        check(429, &[("retry-after", "99999999999999999999")], "", false, "wait 86400");
        let cut = Answer { is_cut: true, ..answer(200, &json, "{") };
        assert!(matches!(read(cut, false, 10, now), Verdict::Ended(DocumentState::Refused, reason)
            if reason == "is longer than 10 bytes: see documents.document_limit_bytes"));
    }
}
