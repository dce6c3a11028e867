//! `[log]`: what is logged, and how.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::check::{Mistake, Section};

/// How the log is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// What is written: a level, or levels of parts.
    pub filter: String,
    /// In which form.
    pub format: LogFormat,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One readable line for each.
    Text,
    /// One JSON object for each.
    Json,
}

impl Section for Log {
    fn mistakes(&self) -> Vec<Mistake> {
        const EXPECTED: &str = "expected a level (error, warn, info, debug, trace), or levels of parts such as \
                                \"info,ingress=debug\"";
        if is_filter(&self.filter) { Vec::new() } else { vec![Mistake::new("filter", EXPECTED)] }
    }
}

/// Whether each part of a filter is a level, or says of which part it is one. A lone word that is no level would be
/// taken for a part's name, and silence all others.
fn is_filter(filter: &str) -> bool {
    let is_sound = |part: &str| {
        let part = part.trim();
        part.contains(['=', '[', ']', '}']) || !part.is_empty() && part.parse::<LevelFilter>().is_ok()
    };
    filter.split(',').all(is_sound) && EnvFilter::try_new(filter).is_ok()
}
