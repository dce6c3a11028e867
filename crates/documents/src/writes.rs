//! The role's part of the store's time. SQLite has one writer at a time: consumers, which record and book events, come first.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use store::Dialect;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// After a write, the next one waits for so many times as long as it took, the time in which it waited for others included: a
/// twentieth of the writer's time at most, and less the more others write.
const PAUSES: u32 = 19;

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What the writes of all sources of a process share. On PostgreSQL nothing: writers do not exclude each other there.
pub(crate) struct Writes(Option<Arc<Mutex<()>>>);

impl Writes {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self((dialect == Dialect::Sqlite).then(Arc::default))
    }

    /// Runs a write once it is its turn.
    pub(crate) async fn run<T>(&self, write: impl Future<Output = T>) -> T {
        let Some(turn) = &self.0 else { return write.await };
        let turn = Arc::clone(turn).lock_owned().await;
        let begun = Instant::now();
        let written = write.await;
        let pause = (begun.elapsed() * PAUSES).min(LONGEST_PAUSE);
        tokio::spawn(async move {
            sleep(pause).await;
            drop(turn);
        });
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn on_sqlite_a_write_waits_for_nineteen_times_as_long_as_the_one_before_it_took() {
        let (writes, begun) = (Writes::new(Dialect::Sqlite), Instant::now());
        writes.run(sleep(Duration::from_millis(20))).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(380), "the first one waits for nobody: {took:?}");
        writes.run(async {}).await;
        assert!(begun.elapsed() >= Duration::from_millis(400));
        assert!(Writes::new(Dialect::Postgres).0.is_none());
    }
}
