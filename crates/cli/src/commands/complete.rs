//! `malote complete`: the values of the word that somebody types, for the scripts of `malote completions`.
//!
//! Promises to end within the time that a person does not notice, and to print nothing where it knows nothing: then the script
//! completes as if it had not asked. What it prints are plain words, so that no sender's text becomes a part of a command.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Command};
use console::{ROUTES, RouteRow};
use ledger::Facets;
use serde_json::Value;
use view::List;

use crate::args::ApiArgs;
use crate::client::api::Api;
use crate::config::{self, Config, Needed};
use crate::{parser, registry, report};

/// How long it may take.
const PATIENCE: Duration = Duration::from_millis(300);

/// How many rows are looked at.
const LOOKED_AT: u32 = 50;

/// Options with a value that is looked up.
pub const OPTIONS: [&str; 8] =
    ["source", "topic", "provider", "subscription", "event", "caused-by", "group", "job"];

/// Where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    /// The sources of the configuration and of the API.
    Sources,
    /// The documented topics of the configured sources, and those of the newest events.
    Topics,
    /// The providers of the configured sources, and those of the routes.
    Providers,
    /// A field of the newest rows of a list.
    Rows(&'static str, &'static str),
}

/// The word that is typed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Typed {
    values: Option<Values>,
    /// What there is of it.
    beginning: String,
    /// The options before it that say which installation is meant.
    config: Option<PathBuf>,
    api: Option<String>,
    token: Option<String>,
}

/// Prints the values that the last of these words may become.
pub async fn run(words: &[String], config: Option<PathBuf>) {
    let typed = typed(&parser::tree(), words);
    let Some(values) = typed.values else { return };
    let config = typed.config.as_deref().or(config.as_deref());
    let Ok(loaded) = config::load(config, Needed { token: true, ..Needed::NONE }) else { return };
    let mut found = configured(values, &loaded.config);
    let asked = asked(values, &typed, &loaded.config);
    found.extend(tokio::time::timeout(PATIENCE, asked).await.ok().flatten().unwrap_or_default());
    found
        .into_iter()
        .filter(|value| is_plain(value) && value.starts_with(&typed.beginning))
        .for_each(report::line);
}

/// What the configuration alone says.
fn configured(values: Values, config: &Config) -> BTreeSet<String> {
    let sources = config.sources.iter();
    match values {
        Values::Sources => sources.map(|source| source.name.to_string()).collect(),
        Values::Providers => sources.map(|source| source.provider.to_string()).collect(),
        Values::Topics => {
            let providers = sources.filter_map(|source| config.provider(&source.provider));
            providers.flat_map(|provider| provider.topics()).map(|topic| topic.name.to_owned()).collect()
        }
        Values::Rows(..) => BTreeSet::new(),
    }
}

/// Whether a word means the same to every shell.
fn is_plain(word: &str) -> bool {
    !word.starts_with('-')
        && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._/@+".contains(letter))
}

async fn asked(values: Values, typed: &Typed, config: &Config) -> Option<BTreeSet<String>> {
    let api = Api::new(&ApiArgs { api: typed.api.clone(), token: typed.token.clone() }, config).ok()?;
    let (list, field) = match values {
        Values::Sources => ("sources", "source"),
        Values::Topics => {
            let facets: Facets = api.get("events/facets", &[]).await.ok()?;
            return Some(facets.topic.into_iter().map(|topic| topic.value).collect());
        }
        Values::Providers => {
            let routes: List<RouteRow> = api.get(ROUTES.name, &[]).await.ok()?;
            return Some(routes.items.into_iter().map(|route| route.provider).collect());
        }
        Values::Rows(list, field) => (list, field),
    };
    let view = registry::views().find(|view| view.name == list)?;
    let mut query = Vec::new();
    if view.is_paged() {
        query.push(("limit".to_owned(), LOOKED_AT.to_string()));
    }
    // An id is found however old it is.
    if field == "id" && !typed.beginning.is_empty() && view.filters().iter().any(|filter| filter == "id") {
        query.push(("id".to_owned(), typed.beginning.clone()));
    }
    let rows: List<Value> = api.get(list, &query).await.ok()?;
    Some(rows.items.iter().filter_map(|row| row[field].as_str().map(str::to_owned)).collect())
}

/// Follows the words through the commands, to the last one.
fn typed(tree: &Command, words: &[String]) -> Typed {
    let mut typed = Typed::default();
    let Some((last, before)) = words.split_last() else { return typed };
    let (mut command, mut path, mut place) = (tree, Vec::new(), 0);
    // The option whose value comes next.
    let mut open: Option<&Arg> = None;
    for word in before {
        match (open.take(), word.as_str()) {
            // bash makes words of its own of `--source=loja`.
            (Some(option), "=") => open = Some(option),
            (Some(option), value) => typed.note(option, value),
            (None, word) if word.starts_with('-') => {
                let (name, value) =
                    word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
                let option = option(tree, command, name);
                match (option, value) {
                    (Some(option), Some(value)) => typed.note(option, value),
                    (option, _) => open = option,
                }
            }
            (None, word) => match command.find_subcommand(word) {
                Some(child) => {
                    command = child;
                    path.push(child.get_name());
                    place = 0;
                }
                None => place += 1,
            },
        }
    }
    let (arg, beginning) = match (open, last.split_once('=')) {
        (Some(option), _) => (Some(option), last.strip_prefix('=').unwrap_or(last)),
        (None, Some((name, value))) if name.starts_with("--") => (option(tree, command, name), value),
        (None, _) if last.starts_with('-') || command.has_subcommands() && !has_positional(command) => {
            (None, last.as_str())
        }
        (None, _) => (positional(command, place), last.as_str()),
    };
    typed.beginning = beginning.to_owned();
    typed.values = arg.and_then(|arg| looked_up(arg, &path));
    typed
}

impl Typed {
    /// Keeps the value of an option that says which installation is meant.
    fn note(&mut self, option: &Arg, value: &str) {
        match option.get_id().as_str() {
            "config" => self.config = Some(value.into()),
            "api" => self.api = Some(value.to_owned()),
            "token" => self.token = Some(value.to_owned()),
            _ => {}
        }
    }
}

/// An option that takes a value, of this command or of all.
fn option<'a>(tree: &'a Command, command: &'a Command, name: &str) -> Option<&'a Arg> {
    let name = name.strip_prefix("--")?;
    let is_it = |arg: &&Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        (arg.get_long() == Some(name) || aliases.contains(&name)) && arg.get_action().takes_values()
    };
    command.get_arguments().chain(tree.get_arguments().filter(|arg| arg.is_global_set())).find(is_it)
}

fn has_positional(command: &Command) -> bool {
    command.get_positionals().next().is_some()
}

/// The argument at a place; the last one may take all that follow.
fn positional(command: &Command, place: usize) -> Option<&Arg> {
    let takes_more = |arg: &&Arg| {
        arg.get_num_args().is_some_and(|range| range.max_values() > 1)
            || matches!(arg.get_action(), clap::ArgAction::Append)
    };
    command.get_positionals().nth(place).or_else(|| command.get_positionals().last().filter(takes_more))
}

/// Where the values of an argument come from, if they are looked up.
fn looked_up(arg: &Arg, path: &[&str]) -> Option<Values> {
    let name = arg.get_long().unwrap_or_else(|| arg.get_id().as_str());
    let command = path.first().copied().unwrap_or_default();
    Some(match (name, command) {
        ("source", _) | ("name", "sources") if path.last() != Some(&"add") => Values::Sources,
        ("topic", _) => Values::Topics,
        ("provider", _) => Values::Providers,
        ("subscription", _) => Values::Rows("subscriptions", "name"),
        ("event" | "caused-by", _) => Values::Rows("events", "id"),
        ("group", _) => Values::Rows("dead/groups", "group"),
        ("job", _) => Values::Rows("jobs", "id"),
        ("name", "subscriptions") if path.last() != Some(&"add") => Values::Rows("subscriptions", "name"),
        ("name", "tokens") if path.last() != Some(&"add") => Values::Rows("tokens", "name"),
        ("id" | "ids", "events") => Values::Rows("events", "id"),
        ("id" | "ids", "rejected") => Values::Rows("rejected", "id"),
        ("id" | "ids", "unrouted") => Values::Rows("unrouted", "id"),
        ("id" | "ids", "jobs") => Values::Rows("jobs", "id"),
        ("id" | "ids", "documents") => Values::Rows("documents", "id"),
        ("id" | "ids", "dead") => Values::Rows("dead", "id"),
        ("id" | "ids", "undelivered") => Values::Rows("undelivered", "id"),
        ("id" | "ids", "attempts") => Values::Rows("attempts", "id"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;

    fn parsed(words: &str) -> Typed {
        typed(&parser::tree(), &words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_word_that_is_typed_says_what_is_looked_up() {
        let events = Some(Values::Rows("events", "id"));
        for (words, values, beginning) in [
            ("events show ", events, ""),
            ("events show 0199", events, "0199"),
            ("events show 0199 ", None, ""),
            ("events replay 0199 01", events, "01"),
            ("events list --source lo", Some(Values::Sources), "lo"),
            ("events list --source=lo", Some(Values::Sources), "lo"),
            ("events list --source = lo", Some(Values::Sources), "lo"),
            ("events list --source =", Some(Values::Sources), ""),
            ("events list --topic ", Some(Values::Topics), ""),
            ("events list --caused-by ", events, ""),
            ("events list --state ", None, ""),
            ("events list --so", None, "--so"),
            ("events list", None, "list"),
            ("sources show ", Some(Values::Sources), ""),
            ("sources add ", None, ""),
            ("dead show ", Some(Values::Rows("dead", "id")), ""),
            ("jobs watch ", Some(Values::Rows("jobs", "id")), ""),
            ("subscriptions pause ", Some(Values::Rows("subscriptions", "name")), ""),
            ("tokens remove ma", Some(Values::Rows("tokens", "name")), "ma"),
            ("tokens add ", None, ""),
            ("--utc events show ", events, ""),
            ("nonsense ", None, ""),
        ] {
            let typed = parsed(words);
            assert_eq!((typed.values, typed.beginning.as_str()), (values, beginning), "{words:?}");
        }
    }

    #[test]
    fn the_installation_is_the_one_that_the_words_name() {
        let typed = parsed("--config other.toml events show --api http://127.0.0.1:1 --token=x ");
        assert_eq!(typed.config.as_deref(), Some(std::path::Path::new("other.toml")));
        assert_eq!((typed.api.as_deref(), typed.token.as_deref()), (Some("http://127.0.0.1:1"), Some("x")));
        assert_eq!(typed.values, Some(Values::Rows("events", "id")));
    }

    #[test]
    fn every_option_of_the_scripts_is_looked_up() {
        for name in OPTIONS {
            assert!(looked_up(&Arg::new(name).long(name), &["events", "list"]).is_some(), "{name}");
        }
    }

    #[test]
    fn without_the_api_the_configuration_is_completed_and_nothing_that_a_shell_would_read() {
        let text = "[[sources]]\nname = \"loja\"\nprovider = \"gestao-online\"\nauth = \"none\"\n";
        let (config, _) = load_parts("", text, []).unwrap();
        assert_eq!(configured(Values::Sources, &config).into_iter().collect::<Vec<_>>(), ["loja"]);
        assert!(configured(Values::Topics, &config).contains("ORDER_CREATED"));
        assert!(configured(Values::Providers, &config).contains("gestao-online"));
        for word in ["$(reboot)", "a;b", "a b", "`x`", "--yes", "a'b", "é"] {
            assert!(!is_plain(word), "{word}");
        }
        assert!(is_plain("0199d3c0-1f2e") && is_plain("order.created") && is_plain("maria@example.com"));
    }
}
