//! `[outbound]`: where malote sends requests by itself.

use super::check::{DAY_MS, Mistake, Section, out_of_range};

impl Section for outbound::Config {
    fn mistakes(&self) -> Vec<Mistake> {
        out_of_range(&[
            ("connect_timeout_ms", self.connect_timeout_ms, DAY_MS),
            ("idle_timeout_ms", self.idle_timeout_ms, DAY_MS),
        ])
    }
}
