//! The list of sources.

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, List, Row, StoreError};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, TableRow, View, column, dropped, shown};

/// Which sources: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SourceFilter {
    /// The source's name.
    pub source: Option<String>,
    /// Its provider.
    pub provider: Option<String>,
}

/// A source, and how polling it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceRow {
    /// The source's name.
    pub source: String,
    /// Its provider.
    pub provider: String,
    /// How often it is polled, in seconds; null if it is not.
    pub poll_every_s: Option<i64>,
    /// When it was polled last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub polled_at: Option<Timestamp>,
    /// How many items were listed then.
    pub items: Option<i64>,
    /// When it is polled next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_poll_at: Option<Timestamp>,
    /// How many polls have failed in a row.
    pub failures: i64,
    /// When one failed last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failed_at: Option<Timestamp>,
    /// Why the last one failed; null if it did not.
    pub failure: Option<String>,
}

impl SourceRow {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let time = |column: &str| -> Result<Option<Timestamp>, StoreError> {
            let microseconds: Option<i64> = row.try_get(column)?;
            Ok(microseconds.and_then(|at| Timestamp::from_microsecond(at).ok()))
        };
        let poll_every_s: Option<i64> = row.try_get("every_s")?;
        Ok(Self {
            source: row.try_get("source")?,
            provider: row.try_get("provider")?,
            polled_at: time("polled_at")?,
            items: row.try_get("items")?,
            next_poll_at: time("next_at")?.max(time("held_until")?).filter(|_| poll_every_s.is_some()),
            failures: row.try_get("failures")?,
            failed_at: time("failed_at")?,
            failure: row.try_get("failure")?,
            poll_every_s,
        })
    }
}

impl TableRow for SourceRow {
    type Filter = SourceFilter;

    const LIST: List<'static> = List::new(
        "SELECT source, provider, every_s, polled_at, items, next_at, held_until, failures, failed_at, failure \
         FROM sources",
        &["source"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &SourceFilter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("provider =", filter.provider.as_ref());
        conditions
    }
}

impl Shown for SourceRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Source", |row| shown(&row.source), Form::Id),
        column("Provider", |row| shown(&row.provider), Form::Text),
        dropped(2, column("Every (s)", |row| shown(&row.poll_every_s), Form::Number)),
        column("Polled", |row| shown(&row.polled_at), Form::Time),
        dropped(3, column("Items", |row| shown(&row.items), Form::Number)),
        dropped(1, column("Next", |row| shown(&row.next_poll_at), Form::Time)),
        column("Failure", |row| shown(&row.failure), Form::Text),
    ];
}

/// `sources`
pub static SOURCES: View = View {
    name: "sources",
    tag: "sources",
    about: "The configured sources, and how polling them goes",
    row: "source",
    rows: "sources",
    example: "provider=recuperador",
    empty: "No sources are configured: see [[sources]] in docs/configuration.toml.",
    reading: Reading::new::<SourceRow>(),
};

/// Every list of this crate.
pub static VIEWS: [&View; 1] = [&SOURCES];
