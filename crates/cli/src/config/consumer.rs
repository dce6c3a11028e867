//! `[consumer]`: batches, prefetch and retries.

use event::nearest;

use super::check::{DAY_MS, MOST_BYTES, Mistake, Section, out_of_range};
use crate::registry;

impl Section for consumer::Config {
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = out_of_range(&[
            ("batch_events", self.batch_events as u64, 65_535),
            ("batch_timeout_ms", self.batch_timeout_ms, DAY_MS),
            ("prefetch_bytes", self.prefetch_bytes as u64, MOST_BYTES),
        ]);
        // 0 gives them back at once.
        mistakes.extend(out_of_range(&[("hold_ms", self.hold_ms.max(1), DAY_MS)]));
        for (name, change) in &self.policies {
            let known = || registry::ALL.iter().map(|domain| domain.name());
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
