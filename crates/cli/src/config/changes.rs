//! The settings that a running process cannot reload.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The settings of the console's token.
const TOKEN: [&str; 2] = ["token", "token_file"];

/// The credentials for the API of a source.
const API: [&str; 4] = ["client_id", "client_secret", "client_secret_file", "headers"];

/// The paths of the settings that differ from those at the start and need a restart: everything but the token of the
/// console, the authentication of the sources, and the credentials for their APIs. A source that is missing from the new tree is not a difference.
pub fn needs_restart(started: &Value, new: &Value) -> Vec<String> {
    let (mut started, new) = (fixed(started), fixed(new));
    if let Some(sources) = started["sources"].as_object_mut() {
        sources.retain(|name, _| new["sources"].get(name).is_some());
    }
    let mut paths = Vec::new();
    compare("", Some(&started), Some(&new), &mut paths);
    paths
}

/// The tree that is in force after a reload, out of the one at the start, the one in force and the new one: the latter's
/// token of the console, and its credentials of each source of which nothing else has changed. What is checked together is
/// in force together: a source with another change keeps its credentials. Sources that are missing are left out.
pub fn reloaded(started: &Value, in_force: &Value, new: &Value) -> Value {
    let mut tree = in_force.clone();
    let console = tree.as_object_mut().map(|tree| tree.entry("console").or_insert_with(|| Map::new().into()));
    if let Some(console) = console.and_then(Value::as_object_mut) {
        for name in TOKEN {
            match new.pointer(&format!("/console/{name}")) {
                Some(value) => drop(console.insert(name.to_owned(), value.clone())),
                None => drop(console.remove(name)),
            }
        }
    }
    let (fixed_at_start, fixed_now) = (fixed(started), fixed(new));
    let is_reloaded = |name: &str| fixed_at_start["sources"][name] == fixed_now["sources"][name];
    let find = |tree: &Value, name: &str| {
        sources(tree).find(|(other, _)| *other == name).map(|(_, value)| value.clone())
    };
    let kept = sources(started).filter_map(|(name, _)| {
        let new = find(new, name)?;
        if is_reloaded(name) { Some(new) } else { find(in_force, name) }
    });
    tree["sources"] = kept.collect();
    tree
}

/// The sources of a tree.
pub fn sources(tree: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let sources = tree.get("sources").and_then(Value::as_array).into_iter().flatten();
    sources.filter_map(|source| Some((source.get("name")?.as_str()?, source)))
}

/// A tree without what can be reloaded, its sources by name.
fn fixed(tree: &Value) -> Value {
    let mut fixed = tree.clone();
    if let Some(console) = fixed.get_mut("console").and_then(Value::as_object_mut) {
        console.retain(|name, _| !TOKEN.contains(&name.as_str()));
    }
    let without_credentials = |(name, source): (&str, &Value)| {
        let mut source = source.clone();
        let table = source.as_object_mut()?;
        if let Some(api) = table.get_mut("api").and_then(Value::as_object_mut) {
            api.retain(|name, _| !API.contains(&name.as_str()));
        }
        if let Some(poll) = table.get_mut("poll").and_then(Value::as_object_mut) {
            poll.remove("auth");
        }
        let auth = table.remove("auth");
        // This mechanism includes a rule for duplicates.
        if auth.is_some_and(|auth| auth.get("standard_webhooks").is_some()) {
            table.entry("duplicates").or_insert_with(|| "standard_webhooks".into());
        }
        Some((name.to_owned(), source))
    };
    fixed["sources"] = Value::Object(sources(tree).filter_map(without_credentials).collect::<Map<_, _>>());
    fixed
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, paths: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(&path, old.get(name), new.get(name), paths);
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_reloaded_is_and_the_rest_stays_as_it_is() {
        let tree = |text: &str| toml::from_str::<Value>(text).unwrap();
        let source = |name: &str, rest: &str, secret: &str| {
            format!("[[sources]]\nname = \"{name}\"\n{rest}\nauth.bearer.secrets = [\"{secret}\"]\n")
        };
        let started = [
            "broker.prefix = \"\"\nconsole.token = \"x\"\n",
            &source("one", "", "1"),
            &source("two", "", "1"),
        ];
        let started = tree(&started.concat());
        let check = |in_force: &Value, new: &[&str], expect: &[&str]| {
            let reloaded = reloaded(&started, in_force, &tree(&new.concat()));
            assert_eq!(reloaded, tree(&expect.concat()), "{new:?}");
            reloaded
        };
        let changed = source("two", "keep_days = 1", "2");
        let (head, new_head) =
            ("broker.prefix = \"\"\n", "broker.prefix = \"y\"\nconsole.token_file = \"f\"\n");
        let in_force = check(
            &started,
            &[new_head, &source("one", "", "2"), &changed, &source("three", "", "1")],
            &[head, "console.token_file = \"f\"\n", &source("one", "", "2"), &source("two", "", "1")],
        );
        let in_force = check(
            &in_force,
            &[head, "[console]\n", &changed],
            &[head, "[console]\n", &source("two", "", "1")],
        );
        // What came back with another change is not in force before a restart.
        let changed = source("one", "keep_days = 1", "3");
        check(
            &in_force,
            &[head, "[console]\n", &changed, &source("two", "", "3")],
            &[head, "[console]\n", &source("two", "", "3")],
        );
    }

    #[test]
    fn only_secrets_and_auth_change_without_a_restart() {
        let tree = |text: &str| toml::from_str::<Value>(text).unwrap();
        let one = "[[sources]]\nname = \"one\"\nprovider = \"a\"\n";
        let two = "[[sources]]\nname = \"two\"\nprovider = \"a\"\n";
        let bearer = "auth.bearer.secrets = [\"x\"]\n";
        let started = format!("broker.prefix = \"\"\nconsole.token = \"x\"\n{one}{bearer}");
        let check = |new: &str, expect: &[&str]| {
            assert_eq!(needs_restart(&tree(&started), &tree(new)), expect, "{new}");
        };
        let head = "broker.prefix = \"\"\n";
        check(&format!("{head}console.token_file = \"y\"\n{one}auth = \"none\"\n"), &[]);
        check(&format!("{head}[console]\n"), &[]);
        check(&format!("{head}[console]\n{two}{bearer}{one}{bearer}"), &["sources.two"]);
        check(&format!("broker.prefix = \"y\"\nconsole.token = \"x\"\n{one}{bearer}"), &["broker.prefix"]);
        let duplicates = "duplicates = { header = \"x-id\" }\n";
        check(&format!("{head}[console]\n{one}{duplicates}{bearer}"), &["sources.one.duplicates"]);
        let signed = "auth.standard_webhooks.secrets = [\"x\"]\n";
        check(&format!("{head}[console]\n{one}{signed}"), &["sources.one.duplicates"]);
        let provider = "[[providers]]\nname = \"a\"\ntopic.header = \"x-topic\"\n";
        check(&format!("{head}[console]\n{one}{bearer}{provider}"), &["providers"]);
        let api = "api = { base_url = \"x\", client_id = \"a\", client_secret = \"b\" }\n";
        let poll = "poll = { url = \"x\", every_s = 1, auth.bearer.token = \"y\" }\n";
        let started = format!("{head}{one}{bearer}{api}{poll}");
        let check = |api: &str, poll: &str, expect: &[&str]| {
            let new = format!("{head}{one}{bearer}{api}{poll}");
            assert_eq!(needs_restart(&tree(&started), &tree(&new)), expect, "{new}");
        };
        let rotated = "api = { base_url = \"x\", client_id = \"c\", client_secret_file = \"d\" }\n";
        check(rotated, "poll = { url = \"x\", every_s = 1, auth.headers.x-key = \"z\" }\n", &[]);
        check(
            "api = { base_url = \"x\", headers.x-key = \"z\" }\n",
            "poll = { url = \"x\", every_s = 1 }\n",
            &[],
        );
        check("api = { base_url = \"y\" }\n", poll, &["sources.one.api.base_url"]);
        check("", "poll = { url = \"x\", every_s = 2 }\n", &["sources.one.api", "sources.one.poll.every_s"]);
    }
}
