//! Entries of the audit that are old enough go, and sessions that have ended.

use std::time::Duration;

use event::Chain;
use store::Store;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often old entries are looked for.
const PERIOD: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(86_400);

/// Deletes entries of the audit that are older than so many days, until `stop`. Several processes may do so at once.
pub async fn forget_old_entries(store: Store, days: u32, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let forgotten = access::forget(&store, event::now() - days * DAY).await;
        if matches!(forgotten, Ok(true)) {
            continue;
        }
        let ended = access::forget_sessions(&store, event::now()).await;
        for error in [forgotten.err(), ended.err()].into_iter().flatten() {
            tracing::warn!(error = %Chain(&error), "old entries of the audit and ended sessions are not deleted; tried again in an hour");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(PERIOD) => {}
        }
    }
}
