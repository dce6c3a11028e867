//! Rows and fields as pages show them.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use view::{Form, Table, Tone, View};

use super::shell::Shell;
use super::{borrowed, link};
use crate::body_text::indented;

/// Rows with their titles.
pub(crate) struct Rows {
    pub(crate) caption: String,
    pub(crate) columns: Vec<Title>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// The title of a column.
pub(crate) struct Title {
    pub(crate) title: String,
    pub(crate) is_number: bool,
}

/// A value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    /// How it looks.
    pub(crate) class: &'static str,
    /// What it leads to.
    pub(crate) href: Option<String>,
    /// The time that it is, in RFC 3339.
    pub(crate) time: Option<String>,
}

/// A part of a row as its page shows it.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) title: String,
    /// What is said of it first.
    pub(crate) note: Option<String>,
    pub(crate) fields: Vec<(String, Cell)>,
    pub(crate) rows: Option<Rows>,
    pub(crate) text: Option<String>,
}

/// Lists whose rows have a page: the list, the field with what identifies a row, and what the address begins with.
const PAGES: [(&str, &str, &str); 16] = [
    ("events", "id", "/events/"),
    ("unrouted", "id", "/events/"),
    ("dead", "id", "/dead/"),
    ("dead/groups", "group", "/dead?group="),
    ("rejected", "id", "/rejected/"),
    ("jobs", "id", "/jobs/"),
    ("jobs/{id}/differences", "event_id", "/events/"),
    ("subscriptions", "name", "/subscriptions/"),
    ("sources", "source", "/sources/"),
    ("tokens", "name", "/tokens/"),
    ("users", "name", "/audit?who="),
    ("attempts", "id", "/attempts/"),
    ("attempts/report", "id", "/attempts/"),
    ("undelivered", "id", "/attempts/"),
    ("documents", "id", "/documents/"),
    ("prescriptions/files", "archive_id", "/documents/"),
];

/// Titles of columns of books whose values lead to the history of a row.
const KEYS: [&str; 4] = ["Invoice", "Agreement", "Id", "State"];

/// Fields of any row that are the id of an event.
const EVENTS: [&str; 6] = ["event_id", "caused_by", "replay_of", "duplicate_of", "replaces", "replaced_by"];

/// Fields with the id of a job.
const JOBS: [&str; 2] = ["resent_in", "discarded_in"];

/// Columns that say what is wrong with a row.
const TROUBLE: [&str; 3] = ["Error", "Cause", "Reason"];

/// The letters of a text from which on it is broken into lines.
const LONG: usize = 48;

/// Fields of any row whose values are words of ours.
const WORDS: [&str; 7] = ["action", "axis", "door", "kind", "role", "state", "what"];

impl Rows {
    /// A page of a list.
    pub(crate) fn from_list(
        shell: &Shell,
        view: &View<impl AsRef<view::Described>>,
        caption: String,
        items: &[Box<RawValue>],
        filter: &[(String, String)],
    ) -> serde_json::Result<Self> {
        let Table { columns, rows, .. } = view.table(items)?;
        let page = PAGES.iter().find(|(list, ..)| *list == view.name);
        let history = shell.views.iter().find(|other| other.name.strip_suffix("/history") == Some(view.name));
        let key = |item: &Map<String, Value>| {
            if let Some(history) = history {
                let field = |name: &String| Some((name.clone(), item.get(name)?.as_str()?.to_owned()));
                let fields: Vec<_> = history.filters().iter().filter_map(field).collect();
                return Some(link(&format!("/{}", history.name), borrowed(&fields)));
            }
            let (_, field, path) = page?;
            // The page of an event leads to the next one of the same filter.
            let kept = if view.name == "events" { filter } else { &[] };
            Some(link(&format!("{path}{}", item.get(*field)?.as_str()?), borrowed(kept)))
        };
        // What leads to the page of a row comes first, then what is wrong with it: both are at hand on a narrow screen, too.
        let is_key = |(title, form): &(&str, Form)| match history {
            Some(_) => KEYS.contains(title),
            None => page.is_some() && *form == Form::Id,
        };
        let first = columns.iter().position(is_key).unwrap_or(0);
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by_key(|at| (*at != first, !TROUBLE.contains(&columns[*at].0)));
        let cells = |(row, raw): (&Vec<Value>, &RawValue)| {
            let item: Map<String, Value> = serde_json::from_str(raw.get()).unwrap_or_default();
            let cell = |at: &usize| {
                let (form, value) = (columns[*at].1, &row[*at]);
                let is_event = form == Form::Id && EVENTS.iter().any(|name| item.get(*name) == Some(value));
                let id = value.as_str().filter(|_| is_event);
                Cell { href: id.map(|id| format!("/events/{id}")), ..Cell::new(shell, form, value) }
            };
            let mut cells: Vec<_> = order.iter().map(cell).collect();
            if let Some(page) = key(&item) {
                cells[0].href = Some(page);
            }
            if let Some(at) = order.iter().position(|at| view.name == "unrouted" && columns[*at].0 == "Topic")
            {
                cells[at].href = takers(raw);
            }
            cells
        };
        let rows = rows.iter().zip(items.iter().map(AsRef::as_ref)).map(cells).collect();
        let is_number = |form| matches!(form, Form::Number | Form::Money | Form::Count);
        let title = |at: &usize| {
            let (title, form) = columns[*at];
            Title { title: shell.t(title).to_owned(), is_number: is_number(form) }
        };
        Ok(Self { caption, columns: order.iter().map(title).collect(), rows })
    }

    /// Objects as a table: a column for each field that one of them has.
    fn from_objects(shell: &Shell, caption: String, objects: &[&Map<String, Value>]) -> Self {
        let mut names: Vec<&String> = Vec::new();
        for name in objects.iter().flat_map(|object| object.keys()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.retain(|name| {
            objects.iter().any(|object| object.get(*name).is_some_and(|value| !value.is_null()))
        });
        let row = |object: &&Map<String, Value>| {
            names
                .iter()
                .map(|name| Cell::from_field(shell, name, object.get(*name).unwrap_or(&Value::Null)))
                .collect()
        };
        Self {
            caption,
            columns: names.iter().map(|name| Title { title: shell.name(name), is_number: false }).collect(),
            rows: objects.iter().map(row).collect(),
        }
    }
}

/// The list of what takes the topic of a row.
fn takers(item: &RawValue) -> Option<String> {
    let item: Map<String, Value> = serde_json::from_str(item.get()).ok()?;
    let pair = |name| Some((name, item.get(name)?.as_str()?));
    Some(link("/routes", [pair("provider")?, pair("topic")?]))
}

/// Each name with its state, in the language of the page.
fn translated(shell: &Shell, states: &Value) -> Value {
    let text = |state: &Value| state.as_str().map_or_else(|| state.clone(), |state| shell.t(state).into());
    states.as_object().map_or_else(
        || states.clone(),
        |states| states.iter().map(|(name, state)| (name.clone(), text(state))).collect(),
    )
}

impl Cell {
    /// A value in its form.
    fn new(shell: &Shell, form: Form, value: &Value) -> Self {
        let tone = form.tone(value).map(|tone| match tone {
            Tone::Good => "good",
            Tone::Waiting => "waiting",
            Tone::Bad => "bad",
        });
        let class = match form {
            Form::Number | Form::Money | Form::Count => "number",
            Form::Id => "id",
            _ => tone.unwrap_or_default(),
        };
        let time = value.as_str().filter(|_| form == Form::Time).map(str::to_owned);
        let text = match form {
            Form::State(_) | Form::Flag => shell.t(&view::written(form, value)).to_owned(),
            Form::States(_) => view::written(form, &translated(shell, value)),
            _ => view::written(form, value),
        };
        let class = if form == Form::Text && text.len() > LONG { "long" } else { class };
        Self { text, class, href: None, time }
    }

    /// A field of an object.
    pub(crate) fn from_field(shell: &Shell, name: &str, value: &Value) -> Self {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) if WORDS.contains(&name) => shell.t(text).to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        let is_time = name.ends_with("_at") || name.ends_with("_since") || name == "at";
        let time = value.as_str().filter(|_| is_time).map(str::to_owned);
        let lists = [("events", &EVENTS[..]), ("jobs", &JOBS[..])];
        let list = lists.into_iter().find(|(_, fields)| fields.contains(&name) && !text.is_empty());
        let href = list.map(|(list, _)| format!("/{list}/{text}"));
        let shown = time.as_deref().map(|time| view::written(Form::Time, &Value::from(time)));
        let is_id = name == "id" || href.is_some();
        Self { text: shown.unwrap_or(text), class: if is_id { "id" } else { "" }, href, time }
    }
}

/// The fields of an object in their order.
pub(crate) struct Fields(pub(crate) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Fields {
    /// A field's value.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }
}

/// A row by its parts: its fields, then what it consists of, then its body.
pub(crate) fn parts(shell: &Shell, Fields(row): &Fields) -> Vec<Part> {
    let mut first = Part::default();
    let mut rest = Vec::new();
    for (name, value) in row {
        match value {
            Value::Null => {}
            Value::String(text) if name == "body" || name == "answer" => {
                rest.push(Part { title: name.clone(), text: Some(indented(text)), ..Part::default() });
            }
            Value::Object(fields) if fields.is_empty() => {}
            Value::Object(fields) => {
                let fields =
                    fields.iter().map(|(name, value)| (name.clone(), Cell::from_field(shell, name, value)));
                rest.push(Part { title: name.clone(), fields: fields.collect(), ..Part::default() });
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                let objects: Vec<_> = items.iter().filter_map(Value::as_object).collect();
                let rows = Rows::from_objects(shell, shell.name(name), &objects);
                rest.push(Part { title: name.clone(), rows: Some(rows), ..Part::default() });
            }
            Value::Array(items) if items.is_empty() => {}
            value => first.fields.push((name.clone(), Cell::from_field(shell, name, value))),
        }
    }
    // The body comes last: it may be long.
    rest.sort_by_key(|part| part.text.is_some());
    rest.insert(0, first);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_shown_by_its_parts_with_the_body_last() {
        let row = r#"{"id": "1", "body": "{\"b\":[1.0,{}],\"a\":\"{\\\\\"}", "nothing": null, "topics": ["a", "b"], "empty": [],
            "caused_by": "2", "received_at": "2026-11-22T16:01:34.5Z", "outcomes": [{"consumer": "invoices", "note": null}],
            "headers": {"x": "1"}}"#;
        let parts = parts(&Shell::english(), &serde_json::from_str(row).unwrap());
        let names: Vec<_> = parts.iter().map(|part| part.title.as_str()).collect();
        assert_eq!(names, ["", "outcomes", "headers", "body"]);
        let field = |name: &str| {
            parts[0].fields.iter().find(|(other, _)| other == name).map(|(_, cell)| cell.clone())
        };
        assert_eq!(field("caused_by").unwrap().href.as_deref(), Some("/events/2"));
        assert_eq!(field("received_at").unwrap().text, "2026-11-22 16:01:34Z");
        assert_eq!(field("topics").unwrap().text, "a, b");
        assert_eq!(field("nothing"), None);
        let outcomes = parts[1].rows.as_ref().unwrap();
        assert_eq!((outcomes.columns.len(), outcomes.rows[0][0].text.as_str()), (1, "invoices"));
        let body = "{\n  \"b\": [\n    1.0,\n    {}\n  ],\n  \"a\": \"{\\\\\"\n}";
        assert_eq!(parts[3].text.as_deref(), Some(body));
        let first: Vec<_> = parts[0].fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(first, ["id", "topics", "caused_by", "received_at"]);
    }
}
