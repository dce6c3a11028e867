//! How long to wait before the next try: the pause doubles, and the number of tries has no limit.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const SHORTEST: Duration = Duration::from_millis(100);

/// The pauses of one series of tries: 100 ms, 200 ms, 400 ms, up to the longest.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
    longest: Duration,
}

impl Backoff {
    /// A new series.
    pub const fn up_to(longest: Duration) -> Self {
        Self { pause: SHORTEST, longest }
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(self.longest);
        pause
    }

    /// Waits for the next pause. False if `stop` is cancelled meanwhile.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(sleep(self.next_pause())).await.is_some()
    }
}

/// Between half the pause and all of it, so that several processes do not try at the same moment.
pub fn jittered(pause: Duration) -> Duration {
    shortened(pause, random())
}

fn shortened(pause: Duration, random: u64) -> Duration {
    let half = pause / 2;
    let span = u64::try_from(half.as_micros()).map_or(u64::MAX, |span| span.saturating_add(1));
    half + Duration::from_micros(random % span)
}

/// An unpredictable number.
pub fn random() -> u64 {
    // The standard library seeds each hasher from the operating system's randomness.
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_never_end() {
        let mut backoff = Backoff::up_to(Duration::from_secs(10));
        let pauses: Vec<_> = (0..9).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn the_jitter_is_at_most_half_of_a_pause() {
        for random in [0, 1, 49_999, 50_000, 50_001, u64::MAX, random()] {
            let pause = shortened(SHORTEST, random);
            assert!((SHORTEST / 2..=SHORTEST).contains(&pause), "{random}: {pause:?}");
        }
        assert_eq!((shortened(SHORTEST, 0), shortened(SHORTEST, 50_000)), (SHORTEST / 2, SHORTEST));
        assert_ne!(random(), random());
    }
}
