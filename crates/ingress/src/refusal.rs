//! Every answer that is not a success, and its HTTP form, in one place.

use broker::PublishError;
use bytes::Bytes;
use event::EventId;
use http::{Response, StatusCode};
use http_body_util::Full;
use providers::Unusable;
use providers::auth::{Auth, Denied, Failed};
use server::{BodyError, Problem};

use crate::memory::Exhausted;
use crate::quota::UsedUp;

/// Why a request did not become an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no such address; webhooks are posted to /webhooks/{{source}}")]
    NoSuchAddress,
    #[error("no source of this name is configured; check the last part of the address")]
    UnknownSource,
    #[error("only POST is allowed here")]
    Method,
    #[error("{denied}{expected}")]
    Denied {
        denied: Denied,
        /// What the source requires, for the sender: the same whatever failed.
        expected: String,
        /// What failed, for the log.
        failed: Failed,
    },
    #[error("unsupported Content-Encoding; send gzip, deflate or none")]
    ContentEncoding,
    #[error("too many requests of this source are in progress; retry later")]
    Busy,
    #[error("too many concurrent requests from this client; retry later")]
    ClientBusy,
    #[error("no memory available for this body; retry later")]
    NoMemory,
    #[error("the disk is nearly full, and nothing was stored; retry later")]
    DiskFull,
    #[error(transparent)]
    OverQuota(#[from] UsedUp),
    #[error(transparent)]
    Body(BodyError),
    /// The body is kept under the id, with the reason.
    #[error("{cause}")]
    Unusable { cause: Unusable, id: EventId },
    #[error("the event could not be stored; retry later")]
    NotStored(#[source] PublishError),
    #[error("the event was not confirmed in time; retry later")]
    NotInTime,
    /// The broker would refuse it again. A spool takes it instead.
    #[error("the body is larger than the broker accepts")]
    TooLargeToStore(#[source] PublishError),
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge(_) => Self::TooLargeToStore(error),
            PublishError::MissingExchange { .. }
            | PublishError::Unroutable { .. }
            | PublishError::Refused
            | PublishError::Rejected(_)
            | PublishError::Unavailable(_) => Self::NotStored(error),
        }
    }
}

impl From<Exhausted> for Refusal {
    fn from(Exhausted: Exhausted) -> Self {
        Self::NoMemory
    }
}

/// How long a sender is asked to wait, in seconds: about the time a broker takes to come back.
const RETRY_AFTER_S: u32 = 5;

impl Refusal {
    /// The refusal of an authentication.
    pub(crate) fn denied(auth: &Auth, (denied, failed): (Denied, Failed)) -> Self {
        let expected = match denied {
            Denied::Credentials if auth.is_closed() => {
                ": it accepts no requests; it is only polled, or is no longer configured".to_owned()
            }
            Denied::Credentials => format!(": expected {}; check each, and its value", auth.expected()),
            Denied::Network | Denied::Browser => String::new(),
        };
        Self::Denied { denied, expected, failed }
    }

    /// The kind of refusal in a few words, as a label of counters.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchAddress => "no such address",
            Self::UnknownSource => "no such source",
            Self::Method => "not a POST",
            Self::Denied { denied: Denied::Credentials, .. } => "not authenticated",
            Self::Denied { denied: Denied::Network, .. } => "network not allowed",
            Self::Denied { denied: Denied::Browser, .. } => "sent by a web page",
            Self::ContentEncoding => "unsupported content encoding",
            Self::Busy => "too many requests at once",
            Self::ClientBusy => "too many requests of this client at once",
            Self::NoMemory => "no memory",
            Self::OverQuota(_) => "over its quota",
            Self::Body(BodyError::TooLarge { .. }) => "body too long",
            Self::Body(BodyError::TimedOut { .. } | BodyError::TooSlow { .. }) => "body too slow",
            Self::Body(BodyError::Broken(_)) => "body cut off",
            Self::Unusable { .. } => "unusable body",
            Self::NotStored(_) => "not stored",
            Self::NotInTime => "not confirmed in time",
            Self::DiskFull => "the disk is full",
            Self::TooLargeToStore(_) => "too large for the broker",
        }
    }

    /// Whether the event was not stored, through no fault of its sender.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::NotStored(_) | Self::NotInTime | Self::DiskFull | Self::TooLargeToStore(_))
    }

    fn problem(&self) -> Problem {
        let problem = match self {
            Self::NoSuchAddress => Problem::new(StatusCode::NOT_FOUND),
            Self::UnknownSource => {
                Problem::new(StatusCode::NOT_FOUND).with_type("unknown-source", "Unknown source")
            }
            Self::Method => Problem::new(StatusCode::METHOD_NOT_ALLOWED).allow("POST"),
            // A challenge has to be there (RFC 9110, section 15.5.2); the detail says what is expected.
            Self::Denied { denied: Denied::Credentials, .. } => {
                Problem::new(StatusCode::UNAUTHORIZED).authenticate("Webhook realm=\"malote\"")
            }
            Self::Denied { denied: Denied::Network | Denied::Browser, .. } => {
                Problem::new(StatusCode::FORBIDDEN)
            }
            Self::ContentEncoding => Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::Busy | Self::ClientBusy => Problem::new(StatusCode::TOO_MANY_REQUESTS).retry_after(1),
            Self::NoMemory => Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(1),
            Self::DiskFull => Problem::new(StatusCode::INSUFFICIENT_STORAGE).retry_after(RETRY_AFTER_S),
            Self::OverQuota(used_up) => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS).retry_after(used_up.retry_after_s)
            }
            Self::Body(BodyError::TooLarge { .. }) | Self::TooLargeToStore(_) => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::Body(BodyError::TimedOut { .. } | BodyError::TooSlow { .. }) => {
                Problem::new(StatusCode::REQUEST_TIMEOUT)
            }
            Self::Body(BodyError::Broken(_)) => Problem::new(StatusCode::BAD_REQUEST),
            Self::Unusable { id, .. } => Problem::new(StatusCode::BAD_REQUEST)
                .with_type("unusable-body", "The body cannot be used")
                .member("id", id.to_string()),
            Self::NotStored(_) | Self::NotInTime => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(RETRY_AFTER_S)
            }
        };
        problem.detail(self.to_string())
    }
}

impl From<Refusal> for Response<Full<Bytes>> {
    fn from(refusal: Refusal) -> Self {
        refusal.problem().into_response()
    }
}
