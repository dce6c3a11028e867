//! Reading the marks of events that no queue is bound to.

use event::{ProviderName, SourceName, Timestamp, Topic};
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, Connection, IdPrefix, List, Page, Paged, Row, StoreError, id};
use utoipa::{IntoParams, ToSchema};

use crate::origins::{Origins, Wanted};
use crate::predicates::{is_duplicate, open_mark};
use store::time;

/// Which marks to list: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UnroutedFilter {
    /// The event's id, or its beginning.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
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
    /// The topic that no queue is bound to.
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
        id: id(row, "event_id")?.to_string(),
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
        let origins = filter.origin().find(connection).await?;
        LIST.page(connection, chosen(filter, &origins), page, row).await
    }
}

impl UnroutedFilter {
    pub(crate) fn origin(&self) -> Wanted<'_> {
        let Self { source, provider, topic, .. } = self;
        Wanted { source: source.as_ref(), provider: provider.as_ref(), topic: topic.as_ref() }
    }
}

/// What is open and fits.
pub(crate) fn chosen(filter: &UnroutedFilter, origins: &Origins) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.add(open_mark("s"));
    // Duplicates are not delivered anyway.
    conditions.add(format!("NOT {}", is_duplicate("s")));
    conditions.with_id("s.event_id", filter.id);
    filter.origin().add(&mut conditions, "s.origin", origins, filter.id.is_none());
    conditions
}

/// The origin is looked up for the rows of the page: a join could begin with it, and lose the order.
pub(crate) const LIST: List<'_> = List::by_id(
    "SELECT s.event_id, (SELECT o.source FROM origins o WHERE o.id = s.origin) AS source, \
     (SELECT o.provider FROM origins o WHERE o.id = s.origin) AS provider, \
     (SELECT o.topic FROM origins o WHERE o.id = s.origin) AS topic, s.subject, s.received_at, s.marked_at \
     FROM unrouted_events s",
    &["s.event_id"],
);
