//! The configuration for display: without secrets.

use serde_json::Value;

/// A configuration tree as TOML, without its secrets.
pub fn shown(tree: &Value) -> String {
    let mut tree = tree.clone();
    hide(&mut tree);
    toml::to_string_pretty(&tree).expect("a configuration holds what TOML can say")
}

/// Whether a part of a configuration file is hidden.
pub(super) fn holds_secret(text: &str) -> bool {
    let tree = toml::from_str::<Value>(text).unwrap_or_default();
    let mut shown = tree.clone();
    hide(&mut shown);
    shown != tree
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (name.as_str(), value) {
                    ("secrets" | "passwords", Value::Array(secrets)) => secrets.fill("[secret]".into()),
                    ("token" | "subject_key" | "secrets" | "passwords", value) => {
                        if value.as_str() != Some("") {
                            *value = "[secret]".into();
                        }
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
