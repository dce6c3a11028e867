//! The settings of subscriptions.

use serde::Deserialize;

/// `[subscriptions]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long an event of an ordered subscription waits for others that were received before it, in milliseconds.
    pub order_wait_ms: u64,
    /// How long every request of a subscription fails until it is paused, in seconds.
    pub pause_after_s: u64,
    /// How long attempts are kept, in days.
    pub keep_attempts_days: u32,
    /// From how many messages on the queue of a subscription is reported in the log.
    pub queue_alarm_messages: u64,
}
