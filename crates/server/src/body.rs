//! Reading a request body whole, within a size and a time.
//!
//! Bytes that arrive in one frame are passed on without a copy. A body takes memory as its bytes arrive, at most twice
//! as much, whatever length its head declares.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed, or says so. The answer is 413.
    #[error("the body is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// It did not end in time. The answer is 408.
    #[error("the body did not end within {timeout_ms} ms")]
    TimedOut {
        /// The time allowed, in milliseconds.
        timeout_ms: u128,
    },
    /// It arrived too slowly. The answer is 408.
    #[error("the body came with fewer than {rate_bytes} bytes per second")]
    TooSlow {
        /// The minimum rate.
        rate_bytes: u64,
    },
    /// It ended early or is malformed. The answer is 400, though the peer has most likely left.
    #[error("the body could not be read to its end")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

/// The time limits of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// For the whole body.
    pub timeout: Duration,
    /// How long it may be slower than `rate_bytes`.
    pub grace: Duration,
    /// The minimum average rate after that, in bytes per second; at least 1.
    pub rate_bytes: u64,
}

/// A body that is being read.
pub struct Reader<B> {
    body: B,
    limit_bytes: usize,
    pace: Pace,
    started: Instant,
    expected: usize,
    first: Bytes,
    rest: Option<BytesMut>,
    is_whole: bool,
}

/// The body of a request: hyper's, and those of tests.
pub trait RequestBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin {}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin> RequestBody for B {}

impl<B: RequestBody> Reader<B> {
    /// Does not read yet. A `Content-Length` over the limit is refused.
    pub fn new(body: B, limit_bytes: usize, pace: Pace) -> Result<Self, BodyError> {
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if expected > limit_bytes {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        let (started, is_whole) = (Instant::now(), body.is_end_stream());
        let (first, rest) = (Bytes::new(), None);
        Ok(Self { body, limit_bytes, pace, started, expected, first, rest, is_whole })
    }

    /// Waits for the next bytes, or the end. Trailers are discarded. Cancel safe.
    pub async fn more(&mut self) -> Result<(), BodyError> {
        let (allowed, late) = self.allowed();
        self.next(allowed).await.ok_or(late)?
    }

    /// As [`Self::more`], but only until so long after the beginning. Whether something has come.
    pub async fn more_within(&mut self, wait: Duration) -> Result<bool, BodyError> {
        let (allowed, late) = self.allowed();
        match self.next(allowed.min(wait)).await {
            Some(next) => next.map(|()| true),
            None if allowed <= wait => Err(late),
            None => Ok(false),
        }
    }

    /// How long after the beginning the next bytes may come, and what is wrong after that.
    fn allowed(&self) -> (Duration, BodyError) {
        let Pace { timeout, grace, rate_bytes } = self.pace;
        let slowest = grace + Duration::from_secs_f64(self.len() as f64 / rate_bytes as f64);
        match timeout <= slowest {
            true => (timeout, BodyError::TimedOut { timeout_ms: timeout.as_millis() }),
            false => (slowest, BodyError::TooSlow { rate_bytes }),
        }
    }

    /// `None`: nothing came in time.
    async fn next(&mut self, allowed: Duration) -> Option<Result<(), BodyError>> {
        let frame = timeout_at(self.started + allowed, self.body.frame()).await.ok()?;
        Some(self.take(frame))
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, B::Error>>) -> Result<(), BodyError> {
        let Some(frame) = frame else {
            self.is_whole = true;
            return Ok(());
        };
        if let Ok(data) = frame.map_err(|error| BodyError::Broken(error.into()))?.into_data() {
            self.push(data)?;
        }
        self.is_whole = self.body.is_end_stream();
        Ok(())
    }

    /// Does not count time in which no bytes were requested.
    pub fn leave_out(&mut self, pause: Duration) {
        self.started += pause;
    }

    fn push(&mut self, data: Bytes) -> Result<(), BodyError> {
        let have = self.len();
        if data.len() > self.limit_bytes - have {
            return Err(BodyError::TooLarge { limit_bytes: self.limit_bytes });
        }
        if have == 0 {
            self.first = data;
            return Ok(());
        }
        let rest = self.rest.get_or_insert_with(|| BytesMut::from(&*std::mem::take(&mut self.first)));
        if rest.capacity() - have < data.len() {
            let capacity = self.expected.min(2 * have).max(have + data.len());
            rest.reserve(capacity - have);
        }
        rest.extend_from_slice(&data);
        Ok(())
    }

    /// How many bytes have arrived.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.rest.as_ref().map_or(self.first.len(), BytesMut::len)
    }

    /// The declared length, if any; at most the limit.
    pub fn declared_len(&self) -> Option<usize> {
        (self.expected > 0).then_some(self.expected)
    }

    /// Whether the body has ended.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The bytes that have arrived.
    pub fn into_bytes(self) -> Bytes {
        self.rest.map_or(self.first, BytesMut::freeze)
    }
}

/// Reads a body to its end, see [`Reader`].
pub async fn read<B: RequestBody>(body: B, limit_bytes: usize, pace: Pace) -> Result<Bytes, BodyError> {
    let mut reader = Reader::new(body, limit_bytes, pace)?;
    while !reader.is_whole() {
        reader.more().await?;
    }
    Ok(reader.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body_util::Full;

    use super::*;

    /// Gives its frames one by one and then, if `endless`, nothing and no end.
    struct Frames {
        frames: Vec<&'static str>,
        endless: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.frames.is_empty() {
                return if self.endless { Poll::Pending } else { Poll::Ready(None) };
            }
            Poll::Ready(Some(Ok(Frame::data(self.frames.remove(0).into()))))
        }
    }

    const SOON: Pace =
        Pace { timeout: Duration::from_millis(20), grace: Duration::from_secs(1), rate_bytes: 1 };

    #[tokio::test]
    async fn one_frame_is_not_copied_and_several_are_joined() {
        let sent = Bytes::from(vec![7; 64]);
        let read_back = read(Full::new(sent.clone()), 64, SOON).await.unwrap();
        assert_eq!(read_back.as_ptr(), sent.as_ptr());

        let frames = Frames { frames: vec!["", "ab", "", "cd", "e"], endless: false };
        assert_eq!(read(frames, 5, SOON).await.unwrap(), "abcde");
        assert_eq!(read(Frames { frames: vec![], endless: false }, 5, SOON).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_whether_it_says_so_or_not() {
        let declared = read(Full::new(Bytes::from_static(b"abcdef")), 5, SOON).await;
        assert!(matches!(declared, Err(BodyError::TooLarge { limit_bytes: 5 })));
        let endless = Frames { frames: vec!["abc", "def"], endless: true };
        assert!(matches!(read(endless, 5, SOON).await, Err(BodyError::TooLarge { limit_bytes: 5 })));
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_times_out() {
        let stalled = read(Frames { frames: vec!["abc"], endless: true }, 5, SOON).await;
        assert!(matches!(stalled, Err(BodyError::TimedOut { timeout_ms: 20 })));
    }

    #[tokio::test]
    async fn the_first_bytes_are_waited_for_a_moment_and_the_pace_still_holds() {
        let moment = Duration::from_millis(5);
        let mut reader = Reader::new(Frames { frames: vec!["abc"], endless: true }, 5, SOON).unwrap();
        assert!(reader.more_within(moment).await.unwrap());
        assert!(!reader.more_within(moment).await.unwrap());
        let late = reader.more_within(Duration::from_secs(1)).await;
        assert!(matches!(late, Err(BodyError::TimedOut { timeout_ms: 20 })));
    }

    #[tokio::test]
    async fn a_pause_of_ours_does_not_count() {
        let started = Instant::now();
        let mut reader = Reader::new(Frames { frames: vec![], endless: true }, 5, SOON).unwrap();
        reader.leave_out(Duration::from_millis(50));
        assert!(matches!(reader.more().await, Err(BodyError::TimedOut { timeout_ms: 20 })));
        assert!(started.elapsed() >= Duration::from_millis(70), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_body_that_comes_too_slowly_is_ended_long_before_its_time() {
        let pace =
            Pace { timeout: Duration::from_secs(60), grace: Duration::from_millis(20), rate_bytes: 100 };
        let started = Instant::now();
        let slow = read(Frames { frames: vec!["abc", "def"], endless: true }, 10, pace).await;
        assert!(matches!(slow, Err(BodyError::TooSlow { rate_bytes: 100 })));
        // Six bytes take 60 ms at this rate.
        assert!(started.elapsed() >= Duration::from_millis(80), "{:?}", started.elapsed());
    }
}
