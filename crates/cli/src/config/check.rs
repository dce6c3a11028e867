//! Finds every mistake at once: after one is found, its setting falls back to what is allowed and the search goes on.
//!
//! A message names the path and what is allowed. It never repeats a value where a secret may stand.

use std::collections::BTreeSet;
use std::fmt;

use event::nearest;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// A setting that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `sources[1].auth.hmac.algorithm`.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Mistake {
    /// A mistake at a path.
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// A table of the file. It is deserialised on its own, so that a mistake in one does not hide those of another.
pub(super) trait Section: DeserializeOwned {
    /// Mistakes that no single value shows, each with its path within the section.
    fn mistakes(&self) -> Vec<Mistake> {
        Vec::new()
    }
}

/// The longest time-out, in milliseconds: a day. Far more could not be added to the present time.
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The most bytes of a disk or of memory: 1 TiB.
pub(super) const MOST_BYTES: u64 = 1 << 40;

/// The settings among these that are 0, or more than their upper bound.
pub(super) fn out_of_range(settings: &[(&str, u64, u64)]) -> Vec<Mistake> {
    let wrong = settings.iter().filter(|(_, value, most)| !(1..=*most).contains(value));
    let expected = |most| format!("expected a number of at least 1 and at most {most}");
    wrong.map(|(path, _, most)| Mistake::new(*path, expected(most))).collect()
}

/// A certificate without its key, or a key without its certificate.
pub(super) fn lone_half(path: &str, has_certificate: bool, has_key: bool) -> Option<Mistake> {
    (has_certificate != has_key)
        .then(|| Mistake::new(path, "certificate and key belong together: give both or neither"))
}

/// All that is wrong with a configuration; at least one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mistakes = &self.0;
        let s = if mistakes.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} mistake{s}", mistakes.len())?;
        mistakes.iter().try_for_each(|Mistake { path, message }| write!(f, "\n  {path}: {message}"))
    }
}

/// Gathers mistakes, one for each path.
#[derive(Default)]
pub(crate) struct Gathered(Vec<Mistake>);

impl Gathered {
    /// Adds a mistake, unless something about the same setting or a part of it was reported before.
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        let is_known = |known: &Mistake| {
            known.path == path
                || known.path.strip_prefix(&path).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        if !self.0.iter().any(is_known) {
            self.0.push(Mistake::new(path, message));
        }
    }

    /// Adds the mistakes of a section, whose paths are within it.
    pub(crate) fn add_within(&mut self, section: &str, mistakes: Vec<Mistake>) {
        for Mistake { path, message } in mistakes {
            self.add(format!("{section}.{path}"), message);
        }
    }

    /// Nothing, or the mistakes in the order of their paths: of sections as `tables` has them, of elements by number.
    pub(crate) fn into_result(mut self, tables: &[&str]) -> Result<(), Mistakes> {
        self.0.sort_by_cached_key(|mistake| {
            let mut parts = mistake.path.split(['.', '[', ']']).filter(|part| !part.is_empty());
            let table = parts.next().and_then(|first| tables.iter().position(|table| *table == first));
            let rest: Vec<_> = parts.map(|part| (part.parse::<usize>().ok(), part.to_owned())).collect();
            (table.unwrap_or(tables.len()), rest)
        });
        if self.0.is_empty() { Ok(()) } else { Err(Mistakes(self.0)) }
    }

    /// Deserialises a section of a tree, as [`Self::table`] does.
    pub(crate) fn section<T: DeserializeOwned>(
        &mut self,
        tree: &Value,
        default: &Value,
        name: &str,
    ) -> Option<T> {
        self.table(tree.get(name).unwrap_or(&Value::Null), name, &default[name])
    }

    /// Deserialises a table. What is wrong in it is gathered and replaced by the default, or by a value that is
    /// allowed, until the rest can be read; `None` when nothing can be put in its place.
    pub(crate) fn table<T: DeserializeOwned>(
        &mut self,
        value: &Value,
        path: &str,
        default: &Value,
    ) -> Option<T> {
        let mut value = value.clone();
        let mut replaced = BTreeSet::new();
        loop {
            let error = match serde_path_to_error::deserialize::<_, T>(&value) {
                Ok(parsed) => return Some(parsed),
                Err(error) => error,
            };
            let mut keys = keys(error.path());
            let message = error.inner().to_string();
            let (mistake, is_unknown) = match quoted(&message, "unknown field `") {
                Some(field) => {
                    if keys.last().is_none_or(|last| last != field) {
                        keys.push(field.to_owned());
                    }
                    (unknown(field, &message), true)
                }
                None => match quoted(&message, "missing field `") {
                    Some(field) => {
                        keys.push(field.to_owned());
                        (missing(field), false)
                    }
                    None => (explained(&display(path, &keys), &keys, &message), false),
                },
            };
            self.add(display(path, &keys), mistake);
            let pointer: String = keys.iter().map(|key| format!("/{key}")).collect();
            if !replaced.insert(pointer.clone()) {
                return None;
            }
            if keys.is_empty() && !default.is_null() {
                value = default.clone();
                continue;
            }
            let instead =
                if is_unknown { None } else { default.pointer(&pointer).cloned().or_else(|| allowed(&keys)) };
            if !put(&mut value, &keys, instead) {
                return None;
            }
        }
    }
}

fn keys(path: &Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        })
        .collect()
}

fn display(path: &str, keys: &[String]) -> String {
    keys.iter().fold(path.to_owned(), |path, key| match key.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) if path.is_empty() => key.clone(),
        Err(_) => format!("{path}.{key}"),
    })
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.split('`').next()
}

fn missing(field: &str) -> String {
    match field {
        "auth" => {
            "is missing; give the mechanisms that must pass, or write auth = \"none\" to accept unauthenticated requests"
                .to_owned()
        }
        _ => "is missing".to_owned(),
    }
}

fn unknown(field: &str, message: &str) -> String {
    let allowed: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    match nearest(field, allowed.iter().copied()) {
        Some(meant) => format!("there is no such setting; did you mean {meant}?"),
        None => format!("there is no such setting; allowed: {}", allowed.join(", ")),
    }
}

/// The message of a deserialiser, in the words of people who write settings.
fn explained(path: &str, keys: &[String], message: &str) -> String {
    let is_element = keys.last().is_some_and(|key| key.parse::<usize>().is_ok());
    match keys.iter().rev().find(|key| key.parse::<usize>().is_err()).map(String::as_str) {
        Some("listen") => return "expected an address and a port such as 127.0.0.1:8080".to_owned(),
        Some("hosts") if is_element => {
            return "expected a host name without scheme and port, such as malote.example.com".to_owned();
        }
        // One that is mapped into IPv6 has a message of its own.
        Some("trusted_proxies") if is_element && !message.contains("mapped form") => {
            return "expected a network such as 10.0.0.0/8, or an address such as 10.0.0.1".to_owned();
        }
        Some("trusted_proxies") if !is_element => {
            return "expected a list of networks such as [\"10.0.0.0/8\"]".to_owned();
        }
        _ => {}
    }
    let is_secret = |key: &String| {
        ["auth", "secrets", "passwords", "client_secrets", "token", "subject_key", "url"]
            .contains(&key.as_str())
    };
    let mut message = message.to_owned();
    if keys.iter().any(is_secret)
        && let (Some(start), Some(end)) = (message.find("string \""), message.rfind('"'))
    {
        message.replace_range(start..=end, "a text");
    }
    if let Some((got, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    {
        let expected = match expected {
            "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number".to_owned(),
            "a string" => "a text".to_owned(),
            "a sequence" => "a list".to_owned(),
            "a boolean" => "true or false".to_owned(),
            "a map" => format!("a table [{path}]"),
            other if other.starts_with("struct ") => format!("a table [{path}]"),
            other => other.to_owned(),
        };
        message = format!("expected {expected}, got {}", got.replace("string ", ""));
    } else if message.starts_with("unknown variant") {
        message = message.replace("unknown variant ", "got ").replace(", expected", "; allowed:");
    } else if let Some(rest) = message.strip_prefix("invalid value: ") {
        message = match rest.rsplit_once(", expected ") {
            Some((got, "u8")) => format!("expected a whole number from 0 to {}, got {got}", u8::MAX),
            Some((got, "u16")) => format!("expected a whole number from 0 to {}, got {got}", u16::MAX),
            Some((got, "u32")) => format!("expected a whole number from 0 to {}, got {got}", u32::MAX),
            Some((got, "u64" | "usize")) => format!("expected a whole number of at least 0, got {got}"),
            _ => format!("got {rest}"),
        }
        .replace("integer ", "");
    }
    message
}

/// A valid value in place of a wrong or missing one without a default.
fn allowed(keys: &[String]) -> Option<Value> {
    let name = keys.iter().rev().find(|key| key.parse::<usize>().is_err())?;
    let is_element = keys.last() != Some(name);
    let (text, is_list) = match name.as_str() {
        "auth" => ("none", false),
        "secrets" | "passwords" | "client_secrets" => ("whsec_c2VjcmV0", true),
        "networks" | "trusted_proxies" | "allow" => ("127.0.0.0/8", true),
        "hosts" | "except" => ("localhost", true),
        "keep_headers" => ("x-allowed", true),
        "name" | "provider" | "username" | "header" | "client_id" | "entity" | "constant" | "certificate"
        | "key" => ("allowed", false),
        "pointer" => ("/allowed", false),
        "topic" => return Some(serde_json::json!({"constant": "allowed"})),
        _ => return None,
    };
    Some(if is_list && !is_element { serde_json::json!([text]) } else { text.into() })
}

/// Replaces or removes a value; false if nothing can be done.
fn put(value: &mut Value, keys: &[String], instead: Option<Value>) -> bool {
    let Some((last, parents)) = keys.split_last() else { return false };
    let pointer: String = parents.iter().map(|key| format!("/{key}")).collect();
    match (value.pointer_mut(&pointer), instead) {
        (Some(Value::Object(map)), Some(instead)) => {
            map.insert(last.clone(), instead);
            true
        }
        (Some(Value::Object(map)), None) => map.remove(last).is_some(),
        (Some(Value::Array(items)), Some(instead)) => last
            .parse::<usize>()
            .ok()
            .and_then(|index| items.get_mut(index))
            .map(|item| *item = instead)
            .is_some(),
        _ => false,
    }
}
