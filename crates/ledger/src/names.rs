//! The names on record: to tell a name without current rows from an unknown one, and to suggest one.

use std::collections::BTreeSet;

use event::ProviderName;
use store::{Connection, Row, StoreError};

use store::many::{Value, fetch};

/// The kind of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A configured sender.
    Source,
    /// A kind of sender.
    Provider,
    /// A consumer that gave up an event.
    Consumer,
    /// A group of dead letters.
    Group,
}

/// The maximum number of names returned.
const LIMIT: u32 = 200;

impl Name {
    /// Table and column; each column is the first of an index, or one of the few origins'.
    fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Source => &[("origins", "source"), ("rejected_bodies", "source")],
            Self::Provider => &[("origins", "provider"), ("rejected_bodies", "provider")],
            Self::Consumer => &[("dead_letters", "consumer")],
            Self::Group => &[("dead_letters", "group_id")],
        }
    }

    /// Which rows of a table are listed: the sources of domain events are consumers.
    fn condition(self, table: &str) -> String {
        match (self, table) {
            (Self::Source, "origins") => format!("provider <> '{}'", ProviderName::OWN),
            _ => "1 = 1".to_owned(),
        }
    }
}

/// Whether a name is on record.
pub async fn is_on_record(connection: &mut Connection, name: Name, text: &str) -> Result<bool, StoreError> {
    for (table, column) in name.columns() {
        let statement = format!("SELECT 1 AS found FROM {table} WHERE {column} = $1 LIMIT 1");
        if !fetch(connection, statement, [Value::from(text)]).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The names on record, at most 200 of each table. Skips from one name to the next by index, however many rows have it.
pub async fn on_record(connection: &mut Connection, name: Name) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for (table, column) in name.columns() {
        let condition = name.condition(table);
        let statement = format!(
            "WITH RECURSIVE found (name) AS (SELECT min({column}) FROM {table} WHERE {condition} UNION ALL \
             SELECT (SELECT min(t.{column}) FROM {table} t WHERE t.{column} > found.name AND {condition}) \
             FROM found WHERE found.name IS NOT NULL) \
             SELECT name FROM found WHERE name IS NOT NULL LIMIT {LIMIT}"
        );
        for row in fetch(connection, statement, []).await? {
            names.push(row.try_get(0)?);
        }
    }
    Ok(names)
}

/// The names that events on record have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// Of their senders.
    pub sources: BTreeSet<String>,
    /// Of the kinds of these.
    pub providers: BTreeSet<String>,
    /// Of what happened.
    pub topics: BTreeSet<String>,
}

/// The names that events on record have, at most 200 combinations of them.
pub async fn senders(connection: &mut Connection) -> Result<Senders, StoreError> {
    let text = format!("SELECT source, provider, topic FROM origins ORDER BY id DESC LIMIT {LIMIT}");
    let mut senders = Senders::default();
    for row in fetch(connection, text, []).await? {
        senders.sources.insert(row.try_get("source")?);
        senders.providers.insert(row.try_get("provider")?);
        senders.topics.insert(row.try_get("topic")?);
    }
    Ok(senders)
}
