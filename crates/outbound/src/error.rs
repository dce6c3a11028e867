//! Why a request has no answer. No message contains a path, a query, a header or a secret.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::guard::Refused;

/// Why a request has no answer. `event::Chain` displays it with its causes.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// An address of the host is not allowed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name of the host cannot be resolved.
    #[error("{host} cannot be resolved")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver says.
        source: Arc<io::Error>,
    },
    /// No connection could be made.
    #[error("{host} ({address}) cannot be reached")]
    Connect {
        /// The host: that of the proxy, if there is one.
        host: String,
        /// The last address that was tried.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The proxy does not connect to the host.
    #[error("the proxy {proxy} does not connect to {host}: {reason}")]
    Proxy {
        /// The proxy.
        proxy: String,
        /// The host.
        host: String,
        /// What it answered.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("no TLS connection to {host}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The time-out passed.
    #[error("{host} timed out after {} ms, while {step}", after.as_millis())]
    TimedOut {
        /// The host.
        host: String,
        /// What was in progress.
        step: Step,
        /// The time-out: that of the request, or of connecting.
        after: Duration,
    },
    /// The connection broke, or the answer is malformed.
    #[error("{host} did not answer properly")]
    Protocol {
        /// The host.
        host: String,
        /// What is wrong.
        source: hyper::Error,
    },
    /// The token endpoint gave no token.
    #[error("no access token")]
    Token(#[source] Arc<TokenError>),
}

impl SendError {
    /// How long the token endpoint wants to be left alone, if it answered 429 or 503 and says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Token(error) => match **error {
                TokenError::Denied { retry_after, .. } => retry_after,
                TokenError::Send(_) | TokenError::Malformed { .. } => None,
            },
            _ => None,
        }
    }

    /// The kind, as a label of metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Proxy { .. } => "proxy",
            Self::Tls { .. } => "tls",
            Self::TimedOut { .. } => "timed_out",
            Self::Protocol { .. } => "protocol",
            Self::Token(_) => "token",
        }
    }
}

/// What was in progress when a time-out passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waiting for a free connection to be ready.
    Pool,
    /// Asking for an access token.
    Token,
    /// Resolving the name of the host.
    Resolve,
    /// Connecting to an address.
    Connect,
    /// Asking the proxy to connect.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// Sending the request and waiting for the answer.
    Answer,
    /// Reading the body of the answer.
    Body,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pool => "waiting for its connection",
            Self::Token => "asking for an access token",
            Self::Resolve => "resolving its name",
            Self::Connect => "connecting",
            Self::Proxy => "asking the proxy to connect",
            Self::Tls => "negotiating TLS",
            Self::Answer => "waiting for the answer",
            Self::Body => "reading the answer",
        })
    }
}

/// Why there is no access token. What the endpoint says in its own words is left out: it may repeat a secret.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The endpoint has no answer.
    #[error("the token endpoint has no answer")]
    Send(#[source] SendError),
    /// The endpoint refuses.
    #[error("the token endpoint {host} answered {status}{}", code.map(|code| format!(" ({code})")).unwrap_or_default())]
    Denied {
        /// The host of the endpoint.
        host: String,
        /// The status of its answer.
        status: StatusCode,
        /// Its error code (RFC 6749, section 5.2).
        code: Option<&'static str>,
        /// How long it wants to be left alone, with 429 or 503.
        retry_after: Option<Duration>,
    },
    /// The answer has no usable token.
    #[error("the token endpoint {host} answered without a usable token: {reason}")]
    Malformed {
        /// The host of the endpoint.
        host: String,
        /// What is wrong with the answer.
        reason: &'static str,
    },
}
