//! `[log]`: what is logged, and how.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::check::{Mistake, Section};

/// The settings of the log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// What is logged: a level, or levels of parts.
    pub filter: String,
    /// The format.
    pub format: LogFormat,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

impl Section for Log {
    fn mistakes(&self) -> Vec<Mistake> {
        const EXPECTED: &str = "expected a level (error, warn, info, debug, trace), or levels of parts such as \
                                \"info,ingress=debug\"";
        if is_filter(&self.filter) { Vec::new() } else { vec![Mistake::new("filter", EXPECTED)] }
    }
}

/// Whether each part of a filter is a level, alone or for a named part. A lone word that is not a level would be taken
/// for the name of a part, and silence all others.
fn is_filter(filter: &str) -> bool {
    let is_sound = |part: &str| {
        let part = part.trim();
        part.contains(['=', '[', ']', '}']) || !part.is_empty() && part.parse::<LevelFilter>().is_ok()
    };
    filter.split(',').all(is_sound) && EnvFilter::try_new(filter).is_ok()
}
