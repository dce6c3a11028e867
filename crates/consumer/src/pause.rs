//! Waiting for a database or broker that is down, with growing pauses.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Doubles from 100 ms to 5 s.
pub(crate) struct Backoff(Duration);

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }

    /// Waits; false when it is to stop.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(sleep(self.next())).await.is_some()
    }
}
