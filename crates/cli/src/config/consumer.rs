//! `[consumer]`: batches, prefetch and retries.

use event::nearest;

use super::check::{Mistake, Section, at_least_one};
use crate::domains;

impl Section for consumer::Config {
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = at_least_one(&[
            ("batch_events", self.batch_events as u64),
            ("batch_timeout_ms", self.batch_timeout_ms),
            ("prefetch_bytes", self.prefetch_bytes as u64),
        ]);
        for (name, change) in &self.policies {
            let known = || domains::ALL.iter().map(|domain| domain.name());
            if !known().any(|known| known == name) {
                let meant = nearest(name, known()).map(|meant| format!("; did you mean {meant}?"));
                let allowed = known().collect::<Vec<_>>().join(", ");
                mistakes.push(Mistake::new(
                    format!("policies.{name}"),
                    format!("there is no such consumer{}; allowed: {allowed}", meant.unwrap_or_default()),
                ));
            }
            for (field, message) in change.mistakes() {
                mistakes.push(Mistake::new(format!("policies.{name}.{field}"), message));
            }
        }
        mistakes
    }
}
