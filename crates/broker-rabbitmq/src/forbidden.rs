//! Exchanges and routing keys that the user may not publish to.
//!
//! RabbitMQ answers such a publish by closing the channel. What was refused just now is therefore answered from memory,
//! and tried again every few seconds only: permissions change without notice.

use std::time::Duration;

use broker::ExchangeName;
use tokio::time::Instant;

/// How long an answer is valid.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

struct Refusal {
    exchange: ExchangeName,
    routing_key: String,
    at: Instant,
    error: lapin::Error,
}

/// The answers of the last seconds. Each cost a channel, so they are few.
#[derive(Default)]
pub(crate) struct Forbidden(Vec<Refusal>);

impl Forbidden {
    pub(crate) fn remember(&mut self, exchange: ExchangeName, routing_key: String, error: lapin::Error) {
        self.0.push(Refusal { exchange, routing_key, at: Instant::now(), error });
    }

    /// RabbitMQ's last answer, as long as it is valid.
    pub(crate) fn answer(&mut self, exchange: &ExchangeName, routing_key: &str) -> Option<lapin::Error> {
        if self.0.is_empty() {
            return None;
        }
        self.0.retain(|refusal| refusal.at.elapsed() < AGAIN_AFTER);
        let same = |refusal: &&Refusal| refusal.exchange == *exchange && refusal.routing_key == routing_key;
        self.0.iter().find(same).map(|refusal| refusal.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_tried_again_after_a_while_and_nothing_else_is_held_up() {
        let (closed, open) = (ExchangeName::new("closed"), ExchangeName::new("open"));
        let mut forbidden = Forbidden::default();
        assert!(forbidden.answer(&closed, "key").is_none());
        forbidden.remember(closed.clone(), "key".to_owned(), lapin::ErrorKind::ChannelsLimitReached.into());
        forbidden.0[0].at -= AGAIN_AFTER / 2;
        assert!(forbidden.answer(&closed, "key").is_some());
        assert!(forbidden.answer(&closed, "other").is_none() && forbidden.answer(&open, "key").is_none());
        forbidden.0[0].at -= AGAIN_AFTER / 2;
        assert!(forbidden.answer(&closed, "key").is_none());
    }
}
