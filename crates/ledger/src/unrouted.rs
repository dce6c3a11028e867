//! Reading the marks of events that no queue is bound to.

use event::{EventId, ProviderName, SourceName, Timestamp, Topic};
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, Connection, List, Page, Paged, Row, StoreError};
use utoipa::{IntoParams, ToSchema};

use crate::predicates::{of_duplicate, open_mark};
use crate::time::time;

/// Which marks to list: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UnroutedFilter {
    /// The event's id.
    #[param(value_type = Option<String>)]
    pub id: Option<EventId>,
    /// The configured sender.
    #[param(value_type = Option<String>)]
    pub source: Option<SourceName>,
    /// The kind of sender.
    #[param(value_type = Option<String>)]
    pub provider: Option<ProviderName>,
    /// The topic, whole.
    #[param(value_type = Option<String>)]
    pub topic: Option<Topic>,
}

/// An event that no queue is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnroutedRow {
    /// The event's id.
    pub id: String,
    /// The configured sender.
    pub source: String,
    /// The kind of sender.
    pub provider: String,
    /// The topic that nobody is bound to.
    pub topic: String,
    /// What the event is about.
    pub subject: Option<String>,
    /// Receipt.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// When the event was marked.
    #[schema(value_type = String, format = DateTime)]
    pub marked_at: Timestamp,
}

fn row(row: &AnyRow) -> Result<UnroutedRow, StoreError> {
    Ok(UnroutedRow {
        id: row.try_get("event_id")?,
        source: row.try_get("source")?,
        provider: row.try_get("provider")?,
        topic: row.try_get("topic")?,
        subject: row.try_get("subject")?,
        received_at: time(row, "received_at")?,
        marked_at: time(row, "marked_at")?,
    })
}

impl view::Row for UnroutedRow {
    type Filter = UnroutedFilter;

    /// The cursor is the id of the page's last event.
    async fn page(
        connection: &mut Connection,
        filter: &UnroutedFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        LIST.page(connection, chosen(filter), page, row).await
    }
}

/// What is open and fits.
pub(crate) fn chosen(filter: &UnroutedFilter) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.add(open_mark("s"));
    // Duplicates are not delivered anyway.
    conditions.add(format!("NOT {}", of_duplicate("s")));
    conditions.with("s.event_id =", filter.id.as_ref());
    conditions.with("s.source =", filter.source.as_ref());
    conditions.with("s.provider =", filter.provider.as_ref());
    conditions.with("s.topic =", filter.topic.as_ref());
    conditions
}

pub(crate) const LIST: List<'_> = List::new(
    "SELECT s.event_id, s.source, s.provider, s.topic, s.subject, s.received_at, s.marked_at FROM unrouted s",
    &["s.event_id"],
);
