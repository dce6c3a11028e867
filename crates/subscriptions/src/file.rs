//! The declarative file of subscriptions: TOML, read whole, with the line of every mistake.
//!
//! ```toml
//! [[subscriptions]]
//! name = "billing"
//! topics = ["malote:receivable.*"]
//! pull = {}
//!
//! [[subscriptions]]
//! name = "crm"
//! topics = ["recuperador:acordo.#"]
//! push = { url = "https://crm.example/hooks", headers = ["x-api-key"] }
//! secrets = { signing = { file = "crm.secret" }, headers = { x-api-key = { env = "CRM_API_KEY" } } }
//! ```
//!
//! Pure: secrets are references, which the caller resolves. No message quotes a text of the file where a secret may stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use event::nearest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::{Path, Segment};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Declaration;

/// The one table of the file.
const TABLE: &str = "subscriptions";

/// A subscription of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What it asks for.
    pub declaration: Declaration,
    /// Where its secrets are.
    pub secrets: References,
    /// The line on which it begins.
    pub line: usize,
}

/// Where the secrets of a subscription are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// The signing secret; one is made where none is given.
    #[serde(default)]
    pub signing: Option<Reference>,
    /// The values of headers, by name.
    #[serde(default)]
    pub headers: BTreeMap<String, Reference>,
    /// The password, the token or the client secret of `push.auth`.
    #[serde(default)]
    pub auth: Option<Reference>,
    /// The key of `push.tls.certificate`.
    #[serde(default)]
    pub tls_key: Option<Reference>,
}

/// Where one secret is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// In a file; a trailing line break does not count.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
}

/// Something in the file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The setting: `subscriptions[1].push.timeout_ms`; empty where the file is not TOML.
    pub path: String,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, path, message } = self;
        let colon = if path.is_empty() { "" } else { ": " };
        write!(f, "line {line}: {path}{colon}{message}")
    }
}

/// The subscriptions of a file, in its order.
///
/// # Errors
/// Every mistake of the file, in the order of the lines.
pub fn parse(text: &str) -> Result<Vec<Declared>, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mistake = |error: &toml::de::Error| Mistake {
        line: line(text, error.span().map_or(0, |span| span.start)),
        path: String::new(),
        message: error.message().to_owned(),
    };
    if !errors.is_empty() {
        let mut mistakes: Vec<_> = errors.iter().map(mistake).collect();
        mistakes.sort_by_key(|mistake| mistake.line);
        // The parser also names what follows from a mistake in the same line.
        mistakes.dedup_by_key(|mistake| mistake.line);
        return Err(mistakes);
    }
    // Fails for numbers that are too large.
    let tree: Value = toml::from_str(text).map_err(|error| vec![mistake(&error)])?;
    let mut reading = Reading { text, document: document.get_ref(), mistakes: Vec::new() };
    let declared = reading.subscriptions(&tree);
    let mut mistakes = reading.mistakes;
    if mistakes.is_empty() {
        return Ok(declared);
    }
    mistakes.sort_by_key(|mistake| mistake.line);
    Err(mistakes)
}

/// The line of a place in the text.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// A field of a declaration that becomes another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The field: `push.timeout_ms`.
    pub field: String,
    /// What it was, if it was there.
    pub before: Option<Value>,
    /// What it becomes.
    pub after: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "none".to_owned(), Value::to_string);
        write!(f, "{}: {} → {}", self.field, text(&self.before), text(&self.after))
    }
}

/// What makes one declaration the other, field by field.
pub fn changes(before: &Declaration, after: &Declaration) -> Vec<Change> {
    let tree = |declaration| serde_json::to_value(declaration).expect("texts and numbers are JSON");
    let mut found = Vec::new();
    compare("", Some(&tree(before)), Some(&tree(after)), &mut found);
    found
}

fn compare(field: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let (Some(Value::Object(old)), Some(Value::Object(new))) = (before, after) else {
        found.push(Change { field: field.to_owned(), before: before.cloned(), after: after.cloned() });
        return;
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let field = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
        compare(&field, old.get(key), new.get(key), found);
    }
}

struct Reading<'a> {
    text: &'a str,
    document: &'a DeTable<'a>,
    mistakes: Vec<Mistake>,
}

impl Reading<'_> {
    fn add(&mut self, keys: &[String], message: impl Into<String>) {
        let line = line(self.text, place(self.document, keys));
        let path = keys.iter().fold(String::new(), |path, key| match key.parse::<usize>() {
            Ok(index) => format!("{path}[{index}]"),
            Err(_) if path.is_empty() => key.clone(),
            Err(_) => format!("{path}.{key}"),
        });
        self.mistakes.push(Mistake { line, path, message: message.into() });
    }

    fn subscriptions(&mut self, tree: &Value) -> Vec<Declared> {
        for key in tree.as_object().into_iter().flat_map(|table| table.keys()).filter(|key| *key != TABLE) {
            self.add(std::slice::from_ref(key), format!("there is no such table; expected [[{TABLE}]]"));
        }
        let mut declared: Vec<Declared> = Vec::new();
        match tree.get(TABLE) {
            None => {}
            Some(Value::Array(tables)) => {
                for (index, table) in tables.iter().enumerate() {
                    declared.extend(self.subscription(index, table));
                }
            }
            Some(_) => self.add(&[TABLE.to_owned()], format!("expected tables [[{TABLE}]]")),
        }
        let mut names = BTreeMap::new();
        for (index, one) in declared.iter().enumerate() {
            if let Some(first) = names.insert(one.declaration.name.as_str(), one.line) {
                let keys = [TABLE.to_owned(), index.to_string(), "name".to_owned()];
                self.add(&keys, format!("is the name of the one on line {first}, too: names are unique"));
            }
        }
        declared
    }

    fn subscription(&mut self, index: usize, table: &Value) -> Option<Declared> {
        let keys = vec![TABLE.to_owned(), index.to_string()];
        let mut table = table.clone();
        let secrets = table.as_object_mut().and_then(|table| table.remove("secrets"));
        let before = self.mistakes.len();
        let declaration = self.read::<Declaration>(&keys, table);
        let secrets = match secrets {
            Some(secrets) => self.read::<References>(&[&keys[..], &["secrets".to_owned()]].concat(), secrets),
            None => Some(References::default()),
        };
        let (declaration, secrets) = (declaration?, secrets?);
        if self.mistakes.len() > before {
            return None;
        }
        if let Err(error) = declaration.check() {
            let message = error.to_string();
            // The text begins with the setting, where it is about one.
            let (path, rest) = message.split_once(": ").unwrap_or_default();
            let is_setting =
                !path.is_empty() && path.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c));
            let (path, message) = if is_setting { (path, rest) } else { ("", message.as_str()) };
            let within = path.split('.').filter(|part| !part.is_empty()).map(str::to_owned);
            let keys: Vec<_> = keys.into_iter().chain(within).collect();
            self.add(&keys, message);
            return None;
        }
        if declaration.push.is_none() && secrets != References::default() {
            self.add(
                &[&keys[..], &["secrets".to_owned()]].concat(),
                "only a push subscription has secrets of its own",
            );
            return None;
        }
        let line = line(self.text, place(self.document, &keys));
        Some(Declared { declaration, secrets, line })
    }

    /// Reads a table. What is wrong in it is noted, and replaced or removed until the rest can be read; `None` where that
    /// is not possible.
    fn read<T: DeserializeOwned>(&mut self, before: &[String], mut table: Value) -> Option<T> {
        let mut seen = BTreeSet::new();
        loop {
            let error = match serde_path_to_error::deserialize::<_, T>(&table) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let message = error.inner().to_string();
            let mut keys = keys(error.path());
            let field = ["unknown field `", "missing field `"].iter().find_map(|text| quoted(&message, text));
            if let Some(field) = field.filter(|field| keys.last().is_none_or(|last| last != field)) {
                keys.push(field.to_owned());
            }
            self.add(&[before, &keys].concat(), explained(&message, before, &keys));
            if !seen.insert(keys.clone()) || !repair(&mut table, &keys) {
                return None;
            }
        }
    }
}

/// Where the deepest part of a path begins that the document has.
fn place(document: &DeTable<'_>, keys: &[String]) -> usize {
    let mut at = 0;
    let mut table = Some(document);
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for key in keys {
        let found = match (table, value.map(Spanned::get_ref)) {
            (Some(table), _) => {
                table.iter().find(|(name, _)| *name.get_ref() == *key).map(|(name, value)| {
                    at = name.span().start;
                    value
                })
            }
            (None, Some(DeValue::Array(array))) => {
                key.parse::<usize>().ok().and_then(|index| array.get(index)).inspect(|value| {
                    at = value.span().start;
                })
            }
            _ => None,
        };
        let Some(found) = found else { return at };
        value = Some(found);
        table = match found.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => None,
        };
    }
    at
}

fn keys(path: &Path) -> Vec<String> {
    let key = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    };
    path.iter().filter_map(key).collect()
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.split('`').next()
}

/// The message of the deserialiser in the words of people who write the file. Quotes names, never a value.
fn explained(message: &str, before: &[String], keys: &[String]) -> String {
    let allowed = || message.split('`').skip(3).step_by(2).collect::<Vec<_>>();
    if let Some(field) = quoted(message, "unknown field `") {
        let allowed = allowed();
        return match nearest(field, allowed.iter().copied()) {
            Some(meant) => format!("there is no such setting; did you mean {meant}?"),
            None => format!("there is no such setting; allowed: {}", allowed.join(", ")),
        };
    }
    if message.starts_with("missing field `") {
        return "is missing".to_owned();
    }
    if before.last().is_some_and(|last| last == "secrets") {
        let is_table = matches!(keys.last().map(String::as_str), None | Some("headers"));
        return match is_table {
            true => "expected a table".to_owned(),
            false => {
                "expected { file = \"…\" } or { env = \"…\" }: secrets do not stand in this file".to_owned()
            }
        };
    }
    if message.starts_with("unknown variant `") {
        return format!("expected one of {}", allowed().join(", "));
    }
    let expected = message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "));
    let expected = expected.or_else(|| message.strip_prefix("invalid value: ")?.rsplit_once(", expected "));
    match expected {
        Some((_, "u8" | "u16" | "u32" | "u64" | "usize")) => {
            "expected a whole number of at least 0".to_owned()
        }
        Some((_, "a string")) => "expected a text".to_owned(),
        Some((_, "a sequence")) => "expected a list".to_owned(),
        Some((_, "a boolean")) => "expected true or false".to_owned(),
        Some((_, other)) if other.starts_with("struct ") || other == "a map" => "expected a table".to_owned(),
        Some((_, other)) => format!("expected {other}"),
        None => message.to_owned(),
    }
}

/// Puts something that can be read in the place of what is missing or wrong, or removes it.
fn repair(table: &mut Value, keys: &[String]) -> bool {
    let Some((last, parents)) = keys.split_last() else { return false };
    let instead = match last.as_str() {
        "name" | "username" | "client_id" => Some(json!("x")),
        "topics" => Some(json!(["x:#"])),
        "url" | "token_url" => Some(json!("https://x.invalid")),
        _ => None,
    };
    let pointer: String = parents.iter().map(|key| format!("/{key}")).collect();
    match (table.pointer_mut(&pointer), last.parse::<usize>()) {
        (Some(Value::Object(map)), _) => match instead {
            Some(instead) => {
                map.insert(last.clone(), instead);
                true
            }
            None => map.remove(last).is_some(),
        },
        (Some(Value::Array(items)), Ok(index)) if index < items.len() => {
            items.remove(index);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[subscriptions]]
name = "billing"
topics = ["malote:receivable.*"]
pull = {}

[[subscriptions]]
name = "crm"
topics = ["recuperador:acordo.#", "malote:#"]
filter = "data.valor > 1"
[subscriptions.push]
url = "https://crm.example/hooks"
headers = ["x-api-key"]
[subscriptions.secrets]
signing = { file = "crm.secret" }
headers.x-api-key = { env = "CRM_API_KEY" }
"#;

    #[test]
    fn a_file_has_declarations_and_where_their_secrets_are() {
        let declared = parse(GOOD).unwrap();
        let names: Vec<_> = declared.iter().map(|one| (one.declaration.name.as_str(), one.line)).collect();
        assert_eq!(names, [("billing", 2), ("crm", 7)]);
        assert_eq!(declared[0].secrets, References::default());
        assert_eq!(declared[1].declaration.push.as_ref().unwrap().headers, ["x-api-key"]);
        let References { signing, headers, .. } = &declared[1].secrets;
        assert_eq!(signing, &Some(Reference::File("crm.secret".into())));
        assert_eq!(headers["x-api-key"], Reference::Env("CRM_API_KEY".to_owned()));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_line() {
        let text = r#"
[[subscriptions]]
nam = "billing"
topics = "malote:#"
pull = {}

[[subscriptions]]
name = "CRM"
topics = ["recuperador"]
push = { timeout_ms = "soon", urls = "https://crm.example" }
secrets = { signing = "whsec_c2VjcmV0", auth = { file = 1 } }

[[subscriptions]]
name = "both"
topics = ["malote:#"]
push = { url = "https://crm.example" }
pull = {}

[[subscriptions]]
name = "wide"
topics = ["malote:#"]

[subscriptions.push]
url = "https://crm.example"
concurrency = 0

[subscription]
"#;
        let mistakes = parse(text).unwrap_err();
        let shown: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        for expect in [
            "line 3: subscriptions[0].nam: there is no such setting; did you mean name?",
            "line 2: subscriptions[0].name: is missing",
            "line 4: subscriptions[0].topics: expected a list",
            "line 8: subscriptions[1].name: ",
            "line 10: subscriptions[1].push.timeout_ms: expected a whole number of at least 0",
            "line 10: subscriptions[1].push.urls: there is no such setting; did you mean url?",
            "line 10: subscriptions[1].push.url: is missing",
            "line 11: subscriptions[1].secrets.signing: expected { file = ",
            "line 13: subscriptions[2]: a subscription has exactly one of push, pull and queue",
            "line 25: subscriptions[3].push.concurrency: expected 1 to 256, got 0",
            "line 27: subscription: there is no such table; expected [[subscriptions]]",
        ] {
            assert!(shown.iter().any(|line| line.starts_with(expect)), "{expect}\n{shown:#?}");
        }
        assert!(mistakes.is_sorted_by_key(|mistake| mistake.line), "{shown:#?}");
        assert!(!shown.concat().contains("c2VjcmV0"), "a secret is quoted: {shown:#?}");
    }

    #[test]
    fn changes_are_told_field_by_field() {
        let (before, mut after) =
            (parse(GOOD).unwrap()[1].declaration.clone(), parse(GOOD).unwrap()[1].declaration.clone());
        assert_eq!(changes(&before, &after), []);
        after.filter = None;
        after.topics.pop();
        after.push.as_mut().unwrap().timeout_ms = 1;
        let shown: Vec<_> = changes(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "filter: \"data.valor > 1\" → none",
                "push.timeout_ms: 15000 → 1",
                "topics: [\"recuperador:acordo.#\",\"malote:#\"] → [\"recuperador:acordo.#\"]",
            ]
        );
    }

    #[test]
    fn two_of_one_name_and_what_is_no_toml_are_mistakes_with_their_lines() {
        let twice = format!("{GOOD}[[subscriptions]]\nname = \"crm\"\ntopics = [\"a:b\"]\npull = {{}}\n");
        let shown = parse(&twice).unwrap_err()[0].to_string();
        assert!(
            shown.starts_with("line 18: subscriptions[2].name: is the name of the one on line 7"),
            "{shown}"
        );
        let mistakes = parse("[[subscriptions]]\nname = \nx = = 1\n").unwrap_err();
        assert_eq!(mistakes.iter().map(|mistake| mistake.line).collect::<Vec<_>>(), [2, 3]);
        assert!(parse("subscriptions = 1").unwrap_err()[0].to_string().contains("expected tables"));
    }
}
