//! Reading a request body whole, within a size and a time.
//!
//! The bytes are handed on as they came off the connection when they came in one frame, and copied once otherwise.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout_at;

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
    /// It ended early or is malformed. The answer is 400, though the peer has most likely left.
    #[error("the body could not be read to its end")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

/// Reads a body to its end.
///
/// A `Content-Length` over the limit is refused before anything is read. `timeout` bounds the whole body, not a
/// pause within it. Trailers are thrown away. Not cancel safe: what was read is lost with the future.
pub async fn read<B>(body: B, limit_bytes: usize, timeout: Duration) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let too_large = || BodyError::TooLarge { limit_bytes };
    let expected = usize::try_from(body.size_hint().lower()).map_err(|_| too_large())?;
    if expected > limit_bytes {
        return Err(too_large());
    }
    let mut body = pin!(body);
    let deadline = tokio::time::Instant::now() + timeout;
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    loop {
        let frame = timeout_at(deadline, body.frame())
            .await
            .map_err(|_| BodyError::TimedOut { timeout_ms: timeout.as_millis() })?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|error| BodyError::Broken(error.into()))?.into_data() else { continue };
        let have = rest.as_ref().map_or(first.len(), BytesMut::len);
        if data.len() > limit_bytes - have {
            return Err(too_large());
        }
        if have == 0 {
            first = data;
            continue;
        }
        rest.get_or_insert_with(|| {
            let mut whole = BytesMut::with_capacity(expected.max(have + data.len()));
            whole.extend_from_slice(&first);
            whole
        })
        .extend_from_slice(&data);
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;
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

    const SOON: Duration = Duration::from_millis(20);

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
}
