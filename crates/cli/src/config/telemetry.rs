//! `[telemetry]`: where spans go.

use serde::Deserialize;

use super::check::{Mistake, Section};

/// Where spans go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The OTLP receiver's address; empty for none.
    pub otlp_endpoint: String,
}

impl Section for Telemetry {
    fn mistakes(&self) -> Vec<Mistake> {
        let endpoint = &self.otlp_endpoint;
        let is_url = ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
        if endpoint.is_empty() || is_url {
            return Vec::new();
        }
        vec![Mistake::new("otlp_endpoint", "expected a URL such as http://127.0.0.1:4318, or \"\" for none")]
    }
}
