//! The settings that a running process cannot reload.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The paths of the settings that differ from those at the start and need a restart: everything but the token of the
/// console and the authentication of the sources. A source that is missing from the new tree is not a difference.
pub fn needs_restart(started: &Value, new: &Value) -> Vec<String> {
    let (mut started, new) = (fixed(started), fixed(new));
    if let Some(sources) = started["sources"].as_object_mut() {
        sources.retain(|name, _| new["sources"].get(name).is_some());
    }
    let mut paths = Vec::new();
    compare("", Some(&started), Some(&new), &mut paths);
    paths
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
        console.retain(|name, _| !["token", "token_file"].contains(&name.as_str()));
    }
    let without_auth = |(name, source): (&str, &Value)| {
        let mut source = source.clone();
        let table = source.as_object_mut()?;
        let auth = table.remove("auth");
        // This mechanism includes a rule for duplicates.
        if auth.is_some_and(|auth| auth.get("standard_webhooks").is_some()) {
            table.entry("duplicates").or_insert_with(|| "standard_webhooks".into());
        }
        Some((name.to_owned(), source))
    };
    fixed["sources"] = Value::Object(sources(tree).filter_map(without_auth).collect::<Map<_, _>>());
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
    }
}
