//! The configuration for display: without secrets.

use serde_json::Value;

/// A configuration tree as TOML, without its secrets.
pub fn shown(tree: &Value) -> String {
    let mut tree = tree.clone();
    hide_all(&mut tree);
    toml::to_string_pretty(&tree).expect("a configuration holds what TOML can say")
}

/// Whether a part of a configuration file is hidden.
pub(super) fn holds_secret(text: &str) -> bool {
    let tree = toml::from_str::<Value>(text).unwrap_or_default();
    let mut shown = tree.clone();
    hide_all(&mut shown);
    shown != tree
}

fn hide_all(tree: &mut Value) {
    // The section of this name has paths of files only.
    let section = tree.as_object_mut().and_then(|sections| match sections.remove("secrets")? {
        section @ Value::Object(_) => Some(section),
        other => {
            sections.insert("secrets".to_owned(), other);
            None
        }
    });
    hide(tree);
    if let (Some(sections), Some(section)) = (tree.as_object_mut(), section) {
        sections.insert("secrets".to_owned(), section);
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (name.as_str(), value) {
                    ("secrets" | "passwords" | "client_secrets", Value::Array(secrets)) => {
                        secrets.fill("[secret]".into())
                    }
                    ("headers", Value::Object(headers)) => {
                        headers.values_mut().for_each(|value| *value = "[secret]".into());
                    }
                    (
                        "token" | "subject_key" | "secrets" | "passwords" | "client_secret"
                        | "client_secrets",
                        value,
                    ) => {
                        if value.as_str() != Some("") {
                            *value = "[secret]".into();
                        }
                    }
                    ("poll", poll @ Value::Object(_)) => {
                        poll.get_mut("auth").into_iter().for_each(hide_texts);
                        hide(poll);
                    }
                    ("url" | "otlp_endpoint", Value::String(url)) => *url = without_password(url),
                    (_, value) => hide(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Hides every text, but not the names of files.
fn hide_texts(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.iter_mut()
                .filter(|(name, _)| !name.ends_with("_file"))
                .for_each(|(_, value)| hide_texts(value));
        }
        Value::String(text) if !text.is_empty() => *text = "[secret]".to_owned(),
        _ => {}
    }
}

/// A URL with its password and the values of its parameters replaced.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A value that is not encoded may mean anything.
    if rest.contains('@') {
        return format!("{scheme}://[secret]");
    }
    // The last @ before the hosts: a password may contain one that is not encoded.
    let authority = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => match credentials.split_once(':') {
            Some((user, _)) => format!("{user}:[secret]@{hosts}"),
            None => format!("{credentials}@{hosts}"),
        },
        None => authority.to_owned(),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let Some((path, query)) = rest.split_once('?') else { return format!("{scheme}://{authority}{rest}") };
    // A parameter may be a password or a key; its name is not.
    let hidden = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) => format!("{name}=[secret]"),
        None => "[secret]".to_owned(),
    });
    format!("{scheme}://{authority}{path}?{}", hidden.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_of_secrets_is_shown_and_whatever_else_has_that_name_is_not() {
        assert_eq!(
            shown(&serde_json::json!({"secrets": {"key_file": "/a"}})),
            "[secrets]\nkey_file = \"/a\"\n"
        );
        for text in
            ["secrets = \"hidden-1\"", "secrets = [\"hidden-1\"]", "[a]\nsecrets = { b = \"hidden-1\" }"]
        {
            assert!(holds_secret(text), "{text}");
            assert!(!shown(&toml::from_str(text).unwrap()).contains("hidden-1"), "{text}");
        }
    }
}
