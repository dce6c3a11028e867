//! Open connections: each is driven by a task of its own, and waits here for its next request.
//!
//! A connection with HTTP/1.1 belongs to one request at a time; one with HTTP/2 is shared. Its tasks end with the last
//! handle of it, whatever the other side does, and when it has been idle for too long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many connections without a request are kept for one origin.
const MOST_IDLE: usize = 256;

/// The maximum size of the head of an answer, in bytes.
const MOST_HEAD: u32 = 64 * 1024;

/// How long a used connection may take to be ready again; normally it already is.
const READY: Duration = Duration::from_secs(1);

/// How often a connection with HTTP/2 that waits for an answer is tested, and how long the test may take.
pub(crate) const PING: Duration = Duration::from_secs(10);

/// The windows of HTTP/2: how much of an answer, and of all answers of a connection, is sent before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What a request is on a connection.
pub(crate) type Message = Request<Full<Bytes>>;

/// The bytes of a connection, with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The idle connections of one client, by origin.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<String, Open>>);

#[derive(Default)]
struct Open {
    /// Those with HTTP/1.1, the last used at the end.
    idle: Vec<Connection>,
    /// The one with HTTP/2.
    shared: Option<Connection>,
}

/// An open connection.
pub(crate) struct Connection {
    sender: Sender,
    usage: Arc<Mutex<Usage>>,
    /// Ends the tasks of the connection with its last handle.
    tasks: Arc<DropGuard>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// How many requests a connection has, when the last one ended, and whether it has been idle for too long.
struct Usage {
    requests: usize,
    since: Instant,
    is_over: bool,
}

/// A request of a connection, until it is dropped.
pub(crate) struct InUse(Arc<Mutex<Usage>>);

impl Pool {
    /// An open connection to an origin.
    pub(crate) fn take(&self, origin: &str) -> Option<Connection> {
        let mut all = self.lock();
        let open = all.get_mut(origin)?;
        if let Some(shared) = open.shared.as_ref().filter(|shared| !shared.is_closed()) {
            return shared.share();
        }
        open.shared = None;
        if let Some(at) = open.idle.iter().rposition(Connection::is_ready) {
            return Some(open.idle.remove(at));
        }
        open.forget_closed();
        open.idle.pop()
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(&self, origin: &str, connection: Connection) {
        if connection.is_closed() {
            return;
        }
        let mut all = self.lock();
        if !all.contains_key(origin) {
            // A new origin is rare: the moment to forget those that nobody uses any more.
            all.retain(|_, open| open.is_any());
            all.insert(origin.to_owned(), Open::default());
        }
        let Some(open) = all.get_mut(origin) else { return };
        if connection.is_http2() {
            open.shared = Some(connection);
            return;
        }
        if open.idle.len() == MOST_IDLE {
            open.forget_closed();
        }
        if open.idle.len() < MOST_IDLE {
            open.idle.push(connection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn forget_closed(&mut self) {
        self.idle.retain(|connection| !connection.is_closed());
    }

    fn is_any(&self) -> bool {
        self.idle.iter().chain(&self.shared).any(|connection| !connection.is_closed())
    }
}

impl Connection {
    /// Begins HTTP on a stream: HTTP/2 if the server has chosen it, else HTTP/1.1.
    /// It ends when it was idle for so long and, if it is HTTP/2, when the other side does not answer a test within its period.
    pub(crate) async fn open(
        stream: Box<dyn Stream>,
        is_http2: bool,
        idle: Duration,
        ping: Duration,
    ) -> hyper::Result<Self> {
        let token = CancellationToken::new();
        let tasks = Tasks(token.clone());
        let usage = Arc::new(Mutex::new(Usage { requests: 0, since: Instant::now(), is_over: false }));
        let end = end_when_idle(Arc::clone(&usage), idle, token.clone());
        let stream = TokioIo::new(stream);
        let sender = if is_http2 {
            let (sender, connection) = http2::Builder::new(tasks.clone())
                .timer(TokioTimer::new())
                .keep_alive_interval(ping)
                .keep_alive_timeout(ping)
                .max_header_list_size(MOST_HEAD)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(stream)
                .await?;
            tasks.execute(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) =
                http1::Builder::new().max_header_size(MOST_HEAD as usize).handshake(stream).await?;
            tasks.execute(connection);
            Sender::Http1(sender)
        };
        tasks.execute(end);
        Ok(Self { sender, usage, tasks: Arc::new(token.drop_guard()) })
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Another handle of it; `None` for HTTP/1.1.
    pub(crate) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        let sender = Sender::Http2(sender.clone());
        Some(Self { sender, usage: Arc::clone(&self.usage), tasks: Arc::clone(&self.tasks) })
    }

    /// From now on it is not idle; `None` if it is just being closed for that.
    pub(crate) fn begin(&self) -> Option<InUse> {
        let mut usage = lock(&self.usage);
        if usage.is_over {
            return None;
        }
        usage.requests += 1;
        Some(InUse(Arc::clone(&self.usage)))
    }

    /// Whether it can send another request, after waiting for a moment if it needs to.
    pub(crate) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) if !sender.is_ready() => {
                timeout(READY, sender.ready()).await.is_ok_and(|ready| ready.is_ok())
            }
            Sender::Http1(_) | Sender::Http2(_) => true,
        }
    }

    /// Sends a request. The error has it again if nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        message: Message,
    ) -> Result<Response<Incoming>, TrySendError<Message>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(message).await,
            Sender::Http2(sender) => sender.try_send_request(message).await,
        }
    }

    fn is_closed(&self) -> bool {
        let is_closed = match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        };
        is_closed || lock(&self.usage).is_over
    }

    fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut current = lock(&self.0);
        current.requests -= 1;
        current.since = Instant::now();
    }
}

fn lock(current: &Mutex<Usage>) -> MutexGuard<'_, Usage> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the tasks of a connection when it has had no request for so long.
async fn end_when_idle(current: Arc<Mutex<Usage>>, limit: Duration, token: CancellationToken) {
    loop {
        let now = Instant::now();
        let end = {
            let mut usage = lock(&current);
            let end = if usage.requests == 0 { usage.since } else { now } + limit;
            usage.is_over = end <= now;
            end
        };
        if end <= now {
            return token.cancel();
        }
        sleep_until(end).await;
    }
}

/// Starts the tasks of one connection, which end together.
#[derive(Clone)]
struct Tasks(CancellationToken);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        // How a connection ends is told to its requests.
        tokio::spawn(self.0.clone().run_until_cancelled_owned(task));
    }
}

#[cfg(test)]
mod tests {
    use hyper::service::service_fn;
    use tokio::io::duplex;
    use tokio::task::yield_now;

    use super::*;

    /// How often these connections are tested.
    const OFTEN: Duration = Duration::from_millis(100);

    /// An HTTP/2 server that never answers a request, for as long as it may run; and a connection to it.
    async fn http2(may_run: Duration) -> Connection {
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(async move {
            let never = |_: Request<Incoming>| {
                std::future::pending::<Result<Response<Full<Bytes>>, std::io::Error>>()
            };
            let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            let mut served = Box::pin(server.serve_connection(TokioIo::new(far), service_fn(never)));
            let _ = timeout(may_run, served.as_mut()).await;
            // It stays connected, and does nothing any more.
            std::future::pending::<()>().await;
            drop(served);
        });
        Connection::open(Box::new(near), true, Duration::from_secs(3_600), OFTEN).await.unwrap()
    }

    fn request() -> Message {
        Request::post("http://target.test/").body(Full::default()).unwrap()
    }

    #[tokio::test]
    async fn a_connection_with_http2_that_answers_no_ping_ends() {
        let mut connection = http2(Duration::from_millis(50)).await;
        let _in_use = connection.begin().unwrap();
        let sent = timeout(Duration::from_secs(20), connection.send(request())).await;
        assert!(sent.expect("it ends by itself").is_err() && connection.is_closed());
    }

    #[tokio::test]
    async fn a_connection_with_http2_whose_server_is_only_slow_stays() {
        let mut connection = http2(Duration::from_secs(20)).await;
        let _in_use = connection.begin().unwrap();
        assert!(timeout(10 * OFTEN, connection.send(request())).await.is_err());
        assert!(!connection.is_closed());
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_too_long_takes_no_request() {
        let (near, _far) = duplex(64);
        let connection =
            Connection::open(Box::new(near), false, Duration::from_millis(1), PING).await.unwrap();
        drop(connection.begin().unwrap());
        while !connection.is_closed() {
            yield_now().await;
        }
        assert!(connection.begin().is_none());
    }
}
