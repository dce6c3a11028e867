//! One connection: what its peer is doing, for how long it may, and how it ends.
//!
//! hyper parses; this file keeps time. The socket ([`Watched`]) and the running requests ([`Running`]) note what
//! happens in an [`Activity`], and the connection's task looks at it a few times a minute ([`drive`]). So a request
//! sets no timer, and every stall has its limit: nothing sent, half a head, idle, an answer that is not taken.
//! Bodies are the exception: their limit belongs to the handler that reads them.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::config::Limits;
use crate::known::Known;
use crate::memory::{HEAD_LIMIT_BYTES, HEAD_LIMIT_HEADERS};
use crate::metrics::{Metrics, Stall};
use crate::problem::Problem;

/// How long the 408 of a stalled head may take to be written.
const FAREWELL: Duration = Duration::from_secs(1);

/// How many connections of the process drain a refused body at a time, so that the peer sees the answer; beyond that,
/// connections are reset.
const MAX_LINGERING: usize = 16;

/// How fast such a connection reads: this many bytes, then a pause.
const LINGERING_BYTES: usize = 64 * 1024;
const LINGERING_PAUSE: Duration = Duration::from_millis(10);

/// How long a new connection may send nothing before it can be closed for another one. A real client sends its first
/// byte right after the TCP handshake, but a busy process may take longer to read it: that of a known client has
/// [`PROCEEDING`]. While a full port fills with silent connections, a new one waits for this long.
const SETTLING: Duration = Duration::from_millis(10);

/// How long a TLS handshake, the head of a request, or a request that proves nothing may take before the connection can be
/// closed for another one: a few round trips. It bounds how fast strangers replace each other, and what that costs.
pub(crate) const PROCEEDING: Duration = Duration::from_secs(1);

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4). The rest of it carries no more information.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Silent,
    /// The TLS handshake is in progress.
    Handshake,
    /// The head of a request has begun and not ended.
    Head,
    /// At least one request runs.
    Running,
    /// All requests are answered.
    Idle,
    /// The head took too long: the socket answers 408 and ends.
    Expired,
    /// The end was requested, and hyper is closing the connection.
    Closing,
    /// The answer is out; the rest of what the peer sends is read and thrown away.
    Lingering,
    /// Closed to make room for another connection.
    GivenWay,
}

struct PeerState {
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// How many requests run: more than one over HTTP/2.
    running: usize,
    /// Since when the peer reads nothing.
    stalled_since: Option<Instant>,
    http2: bool,
    /// How much of the preface of HTTP/2 has come, while nothing else has.
    preface: Option<usize>,
    /// The last request has a body, which may not have been read to its end.
    has_body: bool,
}

impl PeerState {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    fn unused_since(&self, now: Instant, is_trusted: bool) -> Option<Instant> {
        match self.phase {
            Phase::Idle | Phase::Lingering => Some(self.since),
            Phase::Silent if now >= self.since + if is_trusted { PROCEEDING } else { SETTLING } => {
                Some(self.since)
            }
            Phase::Handshake | Phase::Head if now >= self.since + PROCEEDING => Some(self.since),
            Phase::Running if !is_trusted && now >= self.since + PROCEEDING => Some(self.since),
            Phase::Silent
            | Phase::Handshake
            | Phase::Head
            | Phase::Running
            | Phase::Expired
            | Phase::Closing
            | Phase::GivenWay => None,
        }
    }
}

/// What the peer of one connection is doing. Shared by the socket, the running requests and the connection's task.
pub(crate) struct Activity {
    limits: Limits,
    state: Mutex<PeerState>,
    client: Client,
    known: Arc<Known>,
    /// The client was known when the connection began, and nobody else sends on its connections.
    is_known: bool,
    /// A request on this connection was authenticated. Set under the lock of the state: no connection gives way after it.
    is_authenticated: AtomicBool,
    /// The requests in progress of the client, over all its connections. `None`: it has no limit.
    client_requests: Option<Arc<AtomicU64>>,
    /// Those of all clients.
    all_requests: Arc<AtomicU64>,
}

/// What the connection's task has to do now.
#[derive(Debug)]
enum Verdict {
    /// Look again then.
    LookAgain(Instant),
    /// The head took too long: poll the connection, so that the socket answers.
    Expire,
    /// Nobody uses it: close it in an orderly way.
    Close,
    /// Waiting longer for the peer is pointless.
    Abandon(Stall),
}

impl Activity {
    /// `is_known`: the client is, and nobody else sends on its connections.
    pub(crate) fn new(
        limits: Limits,
        (client, is_known): (Client, bool),
        known: Arc<Known>,
        client_requests: Option<Arc<AtomicU64>>,
        all_requests: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let state = PeerState {
            phase: Phase::Silent,
            since: Instant::now(),
            running: 0,
            stalled_since: None,
            http2: false,
            preface: Some(0),
            has_body: false,
        };
        let (state, is_authenticated) = (Mutex::new(state), AtomicBool::new(false));
        Arc::new(Self {
            limits,
            state,
            client,
            known,
            is_known,
            is_authenticated,
            client_requests,
            all_requests,
        })
    }

    /// Notes that a request on this connection is authenticated.
    pub(crate) fn authenticated(&self) {
        if !self.is_authenticated.load(Ordering::Relaxed) {
            let state = self.lock();
            self.is_authenticated.store(true, Ordering::Relaxed);
            drop(state);
            self.known.note(self.client, Instant::now());
        }
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.is_known || self.is_authenticated.load(Ordering::Relaxed)
    }

    /// Remembers the client until long after this connection if it has authenticated a request.
    pub(crate) fn end(&self) {
        if self.is_authenticated.load(Ordering::Relaxed) {
            self.known.note(self.client, Instant::now());
        }
    }

    /// Marks the start of the TLS handshake. The server limits its time.
    pub(crate) fn begin_handshake(&self) {
        self.lock().enter(Phase::Handshake);
    }

    /// Marks the end of the TLS handshake: from now on the peer has the full time for its first byte.
    pub(crate) fn end_handshake(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Handshake {
            state.enter(Phase::Silent);
        }
    }

    /// Since when the connection is idle or proves nothing, if it can be closed for another one.
    pub(crate) fn unused_since(&self, now: Instant) -> Option<Instant> {
        self.lock().unused_since(now, self.is_trusted())
    }

    /// Whether the connection is being closed for another one.
    pub(crate) fn is_giving_way(&self) -> bool {
        self.lock().phase == Phase::GivenWay
    }

    /// Marks the connection to be closed at once when its end is requested, if it still can be; returns whether it was. On an
    /// idle connection, a request that begins before is still answered.
    pub(crate) fn give_way(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let is_unused = state.unused_since(now, self.is_trusted()).is_some();
        if is_unused {
            state.enter(Phase::GivenWay);
        }
        is_unused
    }

    /// Notes that a request runs for as long as the returned value lives.
    pub(crate) fn request(self: &Arc<Self>, has_body: bool) -> Running {
        let mut state = self.lock();
        if state.running == 0 {
            state.enter(Phase::Running);
        }
        state.running += 1;
        state.has_body = has_body;
        drop(state);
        let share = self.limits.requests_share(self.all_requests.fetch_add(1, Ordering::Relaxed));
        let is_beyond_share = self
            .client_requests
            .as_ref()
            .is_some_and(|requests| requests.fetch_add(1, Ordering::Relaxed) >= share);
        Running { activity: Arc::clone(self), is_beyond_share }
    }

    /// An HTTP/2 peer sends frames that begin no request, so there only the first bytes begin a head. Whether HTTP/2 begins.
    fn received(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        match state.phase {
            Phase::Silent if !bytes.is_empty() => state.enter(Phase::Head),
            Phase::Idle if !bytes.is_empty() && !state.http2 => state.enter(Phase::Head),
            _ => {}
        }
        let Some(seen) = state.preface.take() else { return false };
        let next = &PREFACE[seen..];
        let next = &next[..next.len().min(bytes.len())];
        if bytes.starts_with(next) {
            state.http2 = seen + next.len() == PREFACE.len();
            state.preface = (!state.http2).then_some(seen + next.len());
        }
        state.http2
    }

    /// Whether an answer is hyper's own, to a head that is too large. It says so by its status alone.
    fn is_refused_head(&self, answer: &[u8]) -> bool {
        answer.starts_with(b"HTTP/1.1 431 ") && self.lock().running == 0
    }

    /// No phase that begins after a look can end before the next one: looks are at most the shortest limit apart.
    fn look(&self, now: Instant) -> Verdict {
        let limits = &self.limits;
        let shortest = limits
            .first_byte_timeout()
            .min(limits.header_timeout())
            .min(limits.body_timeout())
            .min(limits.idle_timeout())
            .max(Duration::from_millis(1));
        let mut state = self.lock();
        if state.stalled_since.is_some_and(|since| now >= since + limits.idle_timeout()) {
            return Verdict::Abandon(Stall::Write);
        }
        let (allowed, verdict) = match state.phase {
            Phase::Running | Phase::Handshake | Phase::GivenWay => return Verdict::LookAgain(now + shortest),
            Phase::Silent => (limits.first_byte_timeout(), Verdict::Abandon(Stall::FirstByte)),
            Phase::Head => (limits.header_timeout(), Verdict::Expire),
            Phase::Idle => (limits.idle_timeout(), Verdict::Close),
            Phase::Expired => (FAREWELL, Verdict::Abandon(Stall::Close)),
            Phase::Closing => (limits.header_timeout(), Verdict::Abandon(Stall::Close)),
            Phase::Lingering => (limits.body_timeout(), Verdict::Abandon(Stall::Close)),
        };
        let deadline = state.since + allowed;
        if now < deadline {
            return Verdict::LookAgain(deadline.min(now + shortest));
        }
        match verdict {
            Verdict::Expire => state.enter(Phase::Expired),
            Verdict::Close => {
                state.enter(Phase::Closing);
                state.has_body = false;
            }
            Verdict::LookAgain(_) | Verdict::Abandon(_) => {}
        }
        verdict
    }

    /// The end was requested: an idle connection need not linger for the body of an earlier request. Returns whether it
    /// must be closed at once.
    fn stopping(&self) -> bool {
        let mut state = self.lock();
        if state.running == 0 {
            state.has_body = false;
        }
        state.phase == Phase::GivenWay
    }

    /// Starts to drain the connection if the peer may still be sending: closing it would reset it, and the reset would
    /// overtake the answer (RFC 9112, section 9.6).
    fn linger(&self) -> Option<Linger> {
        let mut state = self.lock();
        if state.http2 || !state.has_body && state.phase != Phase::Head {
            return None;
        }
        let linger = Linger::begin()?;
        state.enter(Phase::Lingering);
        Some(linger)
    }

    fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drains slowly what a peer still sends after its answer.
struct Linger {
    pause: Pin<Box<Sleep>>,
    since_pause_bytes: usize,
}

static LINGERING: AtomicUsize = AtomicUsize::new(0);

impl Linger {
    /// `None` if the maximum number already does so.
    fn begin() -> Option<Self> {
        let linger = Self { pause: Box::pin(sleep_until(Instant::now())), since_pause_bytes: 0 };
        (LINGERING.fetch_add(1, Ordering::Relaxed) < MAX_LINGERING).then_some(linger)
    }

    /// Reads to the end.
    fn poll<T: AsyncRead + Unpin>(&mut self, socket: &mut T, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.pause.as_mut().poll(cx));
            let mut scratch = [MaybeUninit::uninit(); 8192];
            let mut scratch = ReadBuf::uninit(&mut scratch);
            let read = ready!(Pin::new(&mut *socket).poll_read(cx, &mut scratch));
            if read.is_err() || scratch.filled().is_empty() {
                return Poll::Ready(());
            }
            self.since_pause_bytes += scratch.filled().len();
            if self.since_pause_bytes >= LINGERING_BYTES {
                self.since_pause_bytes = 0;
                self.pause.as_mut().reset(Instant::now() + LINGERING_PAUSE);
            }
        }
    }
}

impl Drop for Linger {
    fn drop(&mut self) {
        LINGERING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running request. It lives in the handler's future and then in the response's body.
pub(crate) struct Running {
    activity: Arc<Activity>,
    /// The client has more requests in progress than it may.
    pub(crate) is_beyond_share: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.activity.all_requests.fetch_sub(1, Ordering::Relaxed);
        if let Some(requests) = &self.activity.client_requests {
            requests.fetch_sub(1, Ordering::Relaxed);
        }
        let mut state = self.activity.lock();
        state.running -= 1;
        if state.running == 0 && state.phase == Phase::Running {
            state.enter(Phase::Idle);
        }
    }
}

/// Runs a connection to its end: its own, that of the server (once `stop` is cancelled), or that of its limits.
pub(crate) async fn drive<C>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    metrics: &Metrics,
    stop: CancellationToken,
) where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut stopping = false;
    let mut look = pin!(sleep_until(Instant::now()));
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended early");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                if activity.stopping() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            () = look.as_mut() => match activity.look(Instant::now()) {
                Verdict::LookAgain(at) => look.as_mut().reset(at),
                // The next turn of the loop polls the connection, and looks again only after it.
                Verdict::Expire => metrics.timed_out(Stall::Head),
                Verdict::Close => {
                    metrics.timed_out(Stall::Idle);
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::Abandon(stall) => {
                    metrics.timed_out(stall);
                    return;
                }
            },
        }
    }
}

/// A socket that notes what goes through it, answers heads that take too long or are too large, and ends without a reset.
pub(crate) struct Watched<T, F> {
    socket: T,
    activity: Arc<Activity>,
    begin_http2: F,
    stalled: bool,
    shut: bool,
    linger: Option<Linger>,
}

impl<T: AsyncRead + AsyncWrite + Unpin, F> Watched<T, F> {
    /// `begin_http2` tells whether there is room for a connection that speaks HTTP/2; it is asked at most once.
    pub(crate) fn new(socket: T, activity: Arc<Activity>, begin_http2: F) -> Self {
        Self { socket, activity, begin_http2, stalled: false, shut: false, linger: None }
    }

    fn wrote<R>(&mut self, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if self.stalled != polled.is_pending() {
            self.stalled = polled.is_pending();
            self.activity.lock().stalled_since = self.stalled.then(Instant::now);
        }
        polled
    }

    /// The answer fits the empty send buffer of a socket, so one write is all of it. It is of no use to an HTTP/2
    /// peer, which has no request that it could belong to.
    fn expire(&mut self, cx: &mut Context<'_>) -> io::Error {
        if !self.activity.lock().http2 {
            let problem =
                Problem::new(StatusCode::REQUEST_TIMEOUT).detail("The head of the request took too long.");
            let _ = Pin::new(&mut self.socket).poll_write(cx, &last_answer(problem));
            let _ = Pin::new(&mut self.socket).poll_shutdown(cx);
        }
        io::Error::new(io::ErrorKind::TimedOut, "the head of the request took too long")
    }

    /// Answers in place of hyper, whose answer has `length` bytes. As with [`Self::expire`], one write is all of it.
    fn refuse_head(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, &last_answer(head_too_large()));
        written.map_ok(|_| length)
    }
}

impl<T, F> AsyncRead for Watched<T, F>
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: FnMut() -> bool + Unpin,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.socket).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if this.activity.received(&buf.filled()[before..]) && !(this.begin_http2)() {
                    let full = "too many connections for one more that speaks HTTP/2";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::QuotaExceeded, full)));
                }
                Poll::Ready(result)
            }
            Poll::Pending if this.activity.lock().phase == Phase::Expired => {
                Poll::Ready(Err(this.expire(cx)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin, F: Unpin> AsyncWrite for Watched<T, F> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match this.activity.is_refused_head(buf) {
            true => this.refuse_head(cx, buf.len()),
            false => Pin::new(&mut this.socket).poll_write(cx, buf),
        };
        this.wrote(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match bufs.first().is_some_and(|first| this.activity.is_refused_head(first)) {
            true => this.refuse_head(cx, bufs.iter().map(|buf| buf.len()).sum()),
            false => Pin::new(&mut this.socket).poll_write_vectored(cx, bufs),
        };
        this.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_flush(cx);
        this.wrote(polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            this.shut = true;
            this.linger = this.activity.linger();
        }
        if let Some(linger) = &mut this.linger {
            ready!(linger.poll(&mut this.socket, cx));
            this.linger = None;
        }
        Poll::Ready(Ok(()))
    }
}

/// The answer to a head that is too large.
pub(crate) fn head_too_large() -> Problem {
    let detail = format!(
        "The head of a request may have at most {HEAD_LIMIT_BYTES} bytes and {HEAD_LIMIT_HEADERS} headers."
    );
    Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).detail(detail)
}

/// The HTTP/1.1 text of an answer to a request that hyper never saw whole, after which the connection ends.
fn last_answer(problem: Problem) -> Vec<u8> {
    let (head, body) = problem.into_response().into_parts();
    let body = pin!(body.collect());
    let Poll::Ready(Ok(body)) = body.poll(&mut Context::from_waker(std::task::Waker::noop())) else {
        unreachable!("a body that is in memory is ready and has no error")
    };
    let body = body.to_bytes();
    let mut text =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", head.status, body.len())
            .into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&body);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(is_known: bool) -> Arc<Activity> {
        let client = Client::new([192, 0, 2, 1].into());
        Activity::new(Limits::default(), (client, is_known), Arc::default(), None, Arc::default())
    }

    #[test]
    fn a_request_protects_its_connection_for_longer_than_a_moment_only_if_it_is_authenticated() {
        for is_known in [false, true] {
            let activity = activity(is_known);
            let _running = activity.request(false);
            assert!(!activity.give_way(Instant::now()), "it may take a few round trips");
            let _later = activity.request(false);
            let later = Instant::now() + PROCEEDING;
            assert_eq!(activity.unused_since(later).is_some(), !is_known);
            activity.authenticated();
            assert!(!activity.give_way(later));
            assert!(activity.known.contains(activity.client));
        }
        let stranger = activity(false);
        let _running = stranger.request(false);
        assert!(stranger.give_way(Instant::now() + PROCEEDING));
        // Neither another request nor a proof that comes too late keeps a connection that is being closed.
        let _another = stranger.request(false);
        stranger.authenticated();
        assert!(stranger.is_giving_way() && stranger.stopping());
    }

    #[test]
    fn a_new_connection_of_a_known_client_has_longer_for_its_first_byte() {
        for is_known in [false, true] {
            let (activity, begun) = (activity(is_known), Instant::now());
            assert_eq!(activity.unused_since(begun + 2 * SETTLING).is_some(), !is_known);
            assert!(activity.unused_since(begun + PROCEEDING + SETTLING).is_some());
        }
    }

    #[test]
    fn a_connection_whose_request_has_begun_gives_no_way() {
        let activity = activity(false);
        drop(activity.request(false));
        let now = Instant::now();
        assert!(activity.unused_since(now).is_some());
        let running = activity.request(false);
        assert!(!activity.give_way(now));
        assert!(!activity.stopping());
        drop(running);
        assert!(activity.give_way(now) && activity.stopping());
        // Before the task of the connection notices.
        let _running = activity.request(false);
        assert!(!activity.stopping());
    }
}
