//! `[log]`: what is logged, and how.

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};

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
        if self.targets().is_some() { Vec::new() } else { vec![Mistake::new("filter", EXPECTED)] }
    }
}

impl Log {
    /// The levels that the filter sets, in all and for parts; `None` if it is malformed.
    pub fn targets(&self) -> Option<Targets> {
        self.filter.split(',').try_fold(Targets::new(), |targets, part| match part.split_once('=') {
            None => Some(targets.with_default(level(part)?)),
            // Levels for spans and their fields are another syntax.
            Some((name, _)) if name.trim().is_empty() || name.contains('[') => None,
            Some((name, shown)) => Some(targets.with_target(name.trim(), level(shown)?)),
        })
    }
}

fn level(text: &str) -> Option<LevelFilter> {
    Some(text.trim()).filter(|text| !text.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn targets(filter: &str) -> Option<Targets> {
        Log { filter: filter.to_owned(), format: LogFormat::Auto }.targets()
    }

    #[test]
    fn a_part_has_its_own_level_and_the_rest_the_common_one() {
        let targets = targets("info, ingress = debug,store=off").unwrap();
        let check = |target: &str, level: Level, expect: bool| {
            assert_eq!(targets.would_enable(target, &level), expect, "{target} {level}");
        };
        check("consumer", Level::INFO, true);
        check("consumer", Level::DEBUG, false);
        check("ingress", Level::DEBUG, true);
        check("ingress::receive", Level::DEBUG, true);
        check("store", Level::ERROR, false);
    }

    #[test]
    fn a_filter_is_levels_and_nothing_else() {
        let malformed = [
            "",
            " ",
            "loud",
            "info,",
            "ingress",
            "ingress=",
            "=debug",
            "ingress=loud",
            "a=b=info",
            "a[span]=info",
        ];
        for filter in malformed {
            assert!(targets(filter).is_none(), "{filter:?}");
        }
    }
}
