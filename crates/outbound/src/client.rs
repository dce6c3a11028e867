//! One request and its answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::address::Address;
use crate::config::Config;
use crate::connect::Connector;
use crate::error::{SendError, Step};
use crate::guard::Refused;
use crate::pool::{Connection, Message, Pool};
use crate::resolve::Resolver;
use crate::tls::{Tls, Trust};

/// How much of a long answer is discarded, and for how long, to keep its connection.
const DISCARDED: usize = 256 * 1024;
const DISCARDING: Duration = Duration::from_millis(100);

/// Sent unless the request has its own.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("malote/", env!("CARGO_PKG_VERSION")));

/// The client. Clones share its connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    trust: Trust,
    pool: Pool,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub url: Address,
    /// Its headers, without those of the connection (`host`, `content-length`).
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Time-out of the whole exchange: the access token, connecting, and the last byte of the answer.
    pub timeout: Duration,
    /// The maximum size of the answer's body in bytes; the rest of a longer one is discarded.
    pub max_answer: usize,
}

/// An answer, whatever its status; a redirect is one, too.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it was sent, at most `max_answer` bytes of it.
    pub body: Bytes,
    /// Whether the body was longer.
    pub is_cut: bool,
}

impl Client {
    /// A client with these settings, which trusts the certificate authorities of the system.
    pub fn new(config: &Config) -> Self {
        Self::with_resolver(config, Resolver::system())
    }

    pub(crate) fn with_resolver(config: &Config, resolver: Resolver) -> Self {
        let connector = Arc::new(Connector::new(config, resolver));
        Self(Arc::new(Inner { connector, trust: Trust::system(), pool: Pool::default() }))
    }

    /// A client with the same settings for targets with their own certificates. It has its own connections, so that none is
    /// shared with targets that trust others.
    #[must_use]
    pub fn with_tls(&self, tls: Tls) -> Self {
        let connector = Arc::clone(&self.0.connector);
        Self(Arc::new(Inner { connector, trust: Trust::Own(tls), pool: Pool::default() }))
    }

    /// Whether a target is refused for what its URL says: an address that is not allowed, or `localhost`. What a name
    /// resolves to is checked by each connection.
    pub fn check(&self, url: &Address) -> Result<(), Refused> {
        self.0.connector.guard.check_written(url)
    }

    /// Sends a request without a time-out and without credentials of its own. The step that is in progress is kept in
    /// `step`.
    pub(crate) async fn exchange(&self, request: Request, step: &mut Step) -> Result<Answer, SendError> {
        let Request { method, url, headers, body, timeout: _, max_answer } = request;
        let mut message = Message::new(Full::new(body));
        *message.method_mut() = method;
        *message.headers_mut() = headers;
        message.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        loop {
            *step = Step::Pool;
            let pooled = self.0.pool.take(url.origin());
            let is_pooled = pooled.is_some();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => self.connect(&url, step).await?,
            };
            let Some(in_use) = connection.begin() else { continue };
            // A new one needs no turn of its task to take its first request.
            if is_pooled && !connection.ready().await {
                continue;
            }
            *step = Step::Answer;
            self.address(&mut message, &url, connection.is_http2());
            let answer = match connection.send(message).await {
                Ok(answer) => answer,
                Err(mut error) => match error.take_message().filter(|_| is_pooled) {
                    // The connection was closed meanwhile, and nothing was sent.
                    Some(unsent) => {
                        message = unsent;
                        continue;
                    }
                    None => return Err(failed(&url, error.into_error())),
                },
            };
            *step = Step::Body;
            let (head, mut rest) = answer.into_parts();
            let (body, is_cut) = read(&mut rest, max_answer).await.map_err(|error| failed(&url, error))?;
            // What is left of an answer is in the way of the next one.
            let is_free = !connection.is_http2() && (!is_cut || discard(&mut rest).await);
            drop(in_use);
            if is_free {
                self.0.pool.put(url.origin(), connection);
            }
            return Ok(Answer { status: head.status, headers: head.headers, body, is_cut });
        }
    }

    /// Apart, so that a request that needs none is small, and of a type without a name, so that only this crate has the code of
    /// connections: the body of an `async fn` is compiled wherever it is awaited.
    fn connect<'a>(
        &'a self,
        to: &'a Address,
        step: &'a mut Step,
    ) -> Pin<Box<dyn Future<Output = Result<Connection, SendError>> + Send + 'a>> {
        Box::pin(async move {
            let connection = self.0.connector.connect(to, &self.0.trust, step).await?;
            if let Some(shared) = connection.share() {
                self.0.pool.put(to.origin(), shared);
            }
            Ok(connection)
        })
    }

    /// Where a request goes, in the form that the connection needs.
    fn address(&self, message: &mut Message, to: &Address, is_http2: bool) {
        if is_http2 {
            message.headers_mut().remove(HOST);
            *message.uri_mut() = to.absolute().clone();
            return;
        }
        message.headers_mut().insert(HOST, to.authority().clone());
        let Some(authorization) = self.0.connector.forwarding(to) else {
            *message.uri_mut() = to.relative().clone();
            return;
        };
        *message.uri_mut() = to.absolute().clone();
        if let Some(authorization) = authorization {
            message.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
    }
}

fn failed(url: &Address, source: hyper::Error) -> SendError {
    SendError::Protocol { host: url.host().to_owned(), source }
}

/// At most so many bytes of a body, and whether it was longer.
async fn read(body: &mut Incoming, limit: usize) -> hyper::Result<(Bytes, bool)> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = limit - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((read.freeze(), true));
        }
    }
    Ok((read.freeze(), false))
}

/// Whether the rest of a body is short and comes at once.
async fn discard(body: &mut Incoming) -> bool {
    let mut left = DISCARDED;
    let end = async {
        while let Some(frame) = body.frame().await {
            let length = frame.ok().map(|frame| frame.data_ref().map_or(0, Bytes::len));
            match length.and_then(|length| left.checked_sub(length)) {
                Some(less) => left = less,
                None => return false,
            }
        }
        true
    };
    timeout(DISCARDING, end).await.unwrap_or(false)
}
