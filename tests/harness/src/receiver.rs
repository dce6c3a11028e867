//! A receiver of HTTP requests on loopback that answers as a test wants: late, slowly, not at all, or half.
//!
//! HTTP/1.1 with bodies of a declared length, written out by hand so that every way of breaking an answer is a line here. It
//! runs in a thread of its own, records what it gets, and closes every connection when it is dropped.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;

/// The longest head of a request.
const LONGEST_HEAD: usize = 64 * 1024;

type Answers = Arc<dyn Fn(&Received, usize) -> Reply + Send + Sync>;

/// The receiver. It ends when dropped.
pub struct Receiver {
    address: SocketAddr,
    authority: Option<Authority>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    answers: RwLock<Answers>,
    keeps: AtomicBool,
    requests: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    opened: AtomicUsize,
    open: watch::Sender<usize>,
}

/// A request that was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its target, as it was sent.
    pub target: String,
    /// Its headers in the order they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// When its last byte came.
    pub at: SystemTime,
    /// The number of its connection, from 0.
    pub connection: usize,
}

impl Received {
    /// The first header of a name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    manner: Manner,
}

#[derive(Clone, Copy, Debug)]
enum Manner {
    Whole,
    /// Nothing is sent, and the connection stays open.
    Stall,
    /// The connection is closed without an answer.
    Close,
    /// The connection is closed before the last byte of the body.
    Midway,
    /// One byte of the body at a time.
    Drip(Duration),
    /// The body is sent as it is, in place of an answer, and the connection closed.
    Raw,
}

impl Reply {
    /// An answer with this status and an empty body.
    pub fn status(status: u16) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { status, headers, body, delay: Duration::ZERO, manner: Manner::Whole }
    }

    /// No answer, while the client keeps the connection open.
    pub fn stall() -> Self {
        Self { manner: Manner::Stall, ..Self::status(200) }
    }

    /// No answer: the connection is closed.
    pub fn close() -> Self {
        Self { manner: Manner::Close, ..Self::status(200) }
    }

    /// These bytes in place of an answer.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { manner: Manner::Raw, ..Self::status(200).body(bytes) }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Not before this time has passed.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closed before the last byte of the body, which must not be empty.
    #[must_use]
    pub fn midway(self) -> Self {
        Self { manner: Manner::Midway, ..self }
    }

    /// One byte of the body after each pause.
    #[must_use]
    pub fn drip(self, pause: Duration) -> Self {
        Self { manner: Manner::Drip(pause), ..self }
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} status\r\ncontent-length: {}\r\n", self.status, self.body.len());
        self.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head + "\r\n"
    }
}

impl Receiver {
    /// Starts with HTTP on a free port, and answers 200.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start() -> Result<Self> {
        Self::listen(0, None)
    }

    /// Starts on this port, such as that of a receiver that was dropped.
    ///
    /// # Errors
    /// The port is in use.
    pub fn start_at(port: u16) -> Result<Self> {
        Self::listen(port, None)
    }

    /// Starts with TLS, with a certificate for 127.0.0.1 and localhost of an authority of its own.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start_tls() -> Result<Self> {
        Self::listen(0, Some((Authority::create()?, false)))
    }

    /// Starts with TLS, and accepts only clients with a certificate of its authority: [`Self::identity`].
    ///
    /// # Errors
    /// There is no free port.
    pub fn start_mutual_tls() -> Result<Self> {
        Self::listen(0, Some((Authority::create()?, true)))
    }

    fn listen(port: u16, tls: Option<(Authority, bool)>) -> Result<Self> {
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("a port for the receiver")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let acceptor = match &tls {
            Some((authority, is_mutual)) => Some(TlsAcceptor::from(authority.server(*is_mutual)?)),
            None => None,
        };
        let shared = Arc::new(Shared {
            answers: RwLock::new(Arc::new(|_, _| Reply::status(200))),
            keeps: AtomicBool::new(true),
            requests: Mutex::default(),
            count: watch::Sender::new(0),
            opened: AtomicUsize::new(0),
            open: watch::Sender::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let accepting = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, acceptor, accepting) => {}
                }
            });
            // Its tasks end with it.
            drop(runtime);
        });
        let authority = tls.map(|(authority, _)| authority);
        Ok(Self { address, authority, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// The certificate of its authority, in PEM.
    ///
    /// # Panics
    /// It has no TLS.
    pub fn ca(&self) -> &str {
        self.authority.as_ref().expect("a receiver with TLS").certificate()
    }

    /// Certificate and key of a client, of its authority, in PEM.
    ///
    /// # Panics
    /// It has no TLS.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn identity(&self) -> Result<(String, String)> {
        self.authority.as_ref().expect("a receiver with TLS").issue("client")
    }

    /// Answers all requests from now on with this.
    pub fn answer(&self, reply: Reply) {
        self.answer_with(move |_, _| reply.clone());
    }

    /// Answers each request from now on with what a function says: of the request, and of its number since the start,
    /// from 0.
    pub fn answer_with(&self, answers: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) {
        *self.shared.answers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(answers);
    }

    /// Counts requests from now on without keeping them, for measurements.
    pub fn only_count(&self) {
        self.shared.keeps.store(false, Ordering::Relaxed);
    }

    /// How many requests have come whole.
    pub fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// The requests that have come whole.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.requests().clone()
    }

    /// How many connections were opened since the start.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Waits until so many requests have come; false if they have not within this time.
    pub async fn wait_for(&self, count: usize, within: Duration) -> bool {
        let mut counts = self.shared.count.subscribe();
        timeout(within, counts.wait_for(|current| *current >= count)).await.is_ok()
    }

    /// Waits until exactly so many connections are open; false if they are not within this time.
    pub async fn wait_for_open(&self, count: usize, within: Duration) -> bool {
        let mut open = self.shared.open.subscribe();
        timeout(within, open.wait_for(|current| *current == count)).await.is_ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Received>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, received: Received) -> Reply {
        let answers = Arc::clone(&self.answers.read().unwrap_or_else(PoisonError::into_inner));
        let number = *self.count.borrow();
        let reply = answers(&received, number);
        if self.keeps.load(Ordering::Relaxed) {
            self.requests().push(received);
        }
        self.count.send_modify(|count| *count += 1);
        reply
    }
}

async fn accept(listener: std::net::TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((tcp, _)) = listener.accept().await {
        let _ = tcp.set_nodelay(true);
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        let number = shared.opened.fetch_add(1, Ordering::Relaxed);
        shared.open.send_modify(|open| *open += 1);
        tokio::spawn(async move {
            // How a connection ends is the client's to see.
            let _ = match acceptor {
                None => serve(tcp, number, &shared).await,
                Some(acceptor) => match acceptor.accept(tcp).await {
                    Ok(tls) => serve(tls, number, &shared).await,
                    Err(error) => Err(error.into()),
                },
            };
            shared.open.send_modify(|open| *open -= 1);
        });
    }
    pending::<()>().await;
}

/// One connection, to its end.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    number: usize,
    shared: &Shared,
) -> Result<()> {
    let mut buffer = Vec::new();
    while let Some(received) = receive(&mut stream, &mut buffer, number).await? {
        let reply = shared.reply(received);
        if !reply.delay.is_zero() {
            sleep(reply.delay).await;
        }
        match reply.manner {
            Manner::Whole => {
                stream.write_all(&[reply.head().as_bytes(), &reply.body].concat()).await?;
                stream.flush().await?;
            }
            Manner::Drip(pause) => {
                stream.write_all(reply.head().as_bytes()).await?;
                for byte in &reply.body {
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                    sleep(pause).await;
                }
            }
            Manner::Stall => while stream.read(&mut [0; 1024]).await? > 0 {},
            Manner::Close => return Ok(()),
            Manner::Midway => {
                let half = &reply.body[..reply.body.len().saturating_sub(1)];
                stream.write_all(&[reply.head().as_bytes(), half].concat()).await?;
                return Ok(stream.shutdown().await?);
            }
            Manner::Raw => {
                stream.write_all(&reply.body).await?;
                return Ok(stream.shutdown().await?);
            }
        }
    }
    Ok(())
}

/// The next request of a connection; `None` at its end. What follows it stays in the buffer.
async fn receive<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Result<Option<Received>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        anyhow::ensure!(buffer.len() < LONGEST_HEAD, "the head is too long");
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
    let whole = end + length.transpose().context("the length of the body")?.unwrap_or(0);
    while buffer.len() < whole {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer[end..whole].to_vec();
    buffer.drain(..whole);
    Ok(Some(Received { method, target, headers, body, at: SystemTime::now(), connection }))
}
