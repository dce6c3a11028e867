//! Reading what consumers gave up.

use event::{ProviderName, SourceName, Timestamp};
use serde::{Deserialize, Serialize};
use store::{AnyRow, Connection, Page, Paged, Row, StoreError};
use utoipa::{IntoParams, ToSchema};

use crate::statement::{Conditions, Value, fetch, time};

/// Which dead letters to list: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeadFilter {
    /// The consumer that gave up.
    pub consumer: Option<String>,
    /// The configured sender.
    #[param(value_type = Option<String>)]
    pub source: Option<SourceName>,
    /// The kind of sender.
    #[param(value_type = Option<String>)]
    pub provider: Option<ProviderName>,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadRow {
    /// The event's id, or one given when it was filed if it is no event.
    pub event_id: String,
    /// The consumer that gave up.
    pub consumer: String,
    /// The configured sender.
    pub source: Option<String>,
    /// The kind of sender.
    pub provider: Option<String>,
    /// The provider's name for what happened.
    pub topic: String,
    /// How often the consumer had tried.
    pub attempts: i64,
    /// Why it gave up.
    pub error: String,
    /// When its first attempt failed.
    #[schema(value_type = String, format = DateTime)]
    pub first_failed_at: Timestamp,
    /// When the dead letter was filed.
    #[schema(value_type = String, format = DateTime)]
    pub failed_at: Timestamp,
}

fn row(row: &AnyRow) -> Result<DeadRow, StoreError> {
    Ok(DeadRow {
        event_id: row.try_get("event_id")?,
        consumer: row.try_get("consumer")?,
        source: row.try_get("source")?,
        provider: row.try_get("provider")?,
        topic: row.try_get("topic")?,
        attempts: row.try_get("attempts")?,
        error: row.try_get("error")?,
        first_failed_at: time(row, "first_failed_at")?,
        failed_at: time(row, "failed_at")?,
    })
}

/// A page of the dead letters that no effect followed, newest event first. The cursor is `<event id>:<consumer>` of
/// the page's last.
pub async fn dead(
    connection: &mut Connection,
    filter: &DeadFilter,
    page: &Page,
) -> Result<Paged<DeadRow>, StoreError> {
    let (text, values) = statement(filter, page);
    let rows = fetch(connection, text, values).await?;
    let rows = rows.iter().map(row).collect::<Result<_, _>>()?;
    Ok(Paged::cut(rows, page, |row: &DeadRow| format!("{}:{}", row.event_id, row.consumer)))
}

pub(crate) fn statement(filter: &DeadFilter, page: &Page) -> (String, Vec<Value>) {
    let mut conditions = Conditions::default();
    conditions.with("s.consumer =", filter.consumer.as_ref());
    conditions.with("s.source =", filter.source.as_ref());
    conditions.with("s.provider =", filter.provider.as_ref());
    if let Some(cursor) = page.cursor.as_deref() {
        let (id, consumer) = cursor.split_once(':').unwrap_or((cursor, ""));
        let (id, consumer) = (conditions.bind(Value::from(&id)), conditions.bind(Value::from(&consumer)));
        conditions.add(format!("(s.event_id, s.consumer) < ({id}, {consumer})"));
    }
    conditions
        .add("NOT EXISTS (SELECT 1 FROM inbox i WHERE i.event_id = s.event_id AND i.consumer = s.consumer)");
    let clause = conditions.clause();
    let limit = conditions.bind(Value::Long(i64::from(page.limit) + 1));
    let text = format!(
        "SELECT s.event_id, s.consumer, s.source, s.provider, s.topic, s.attempts, s.error, \
         s.first_failed_at, s.failed_at FROM dead_letter s {clause} \
         ORDER BY s.event_id DESC, s.consumer DESC LIMIT {limit}"
    );
    (text, conditions.values)
}
