//! Reading authenticated bodies that could not be used.

use event::{EventId, ProviderName, SourceName, Timestamp, header};
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, Connection, IdPrefix, List, Page, Paged, Row, StoreError, id};
use utoipa::{IntoParams, ToSchema};

use crate::predicates::open_body;
use crate::{BodyInJson, Receipt};
use store::many::{Value, fetch};
use store::time;

/// Which rejected bodies to list: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RejectedFilter {
    /// The rejected body's id, or its beginning.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
    /// The configured sender.
    #[param(value_type = Option<String>)]
    pub source: Option<SourceName>,
    /// The kind of sender.
    #[param(value_type = Option<String>)]
    pub provider: Option<ProviderName>,
}

/// A rejected body in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectedRow {
    /// The id that the sender was answered with.
    pub id: String,
    /// The configured sender.
    pub source: Option<String>,
    /// The kind of sender.
    pub provider: Option<String>,
    /// Receipt.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// Why it could not be used.
    pub cause: String,
}

/// A rejected body, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rejected {
    /// What a list shows of it.
    #[serde(flatten)]
    pub row: RejectedRow,
    /// What its sender was answered.
    #[serde(default)]
    pub receipt: Option<Receipt>,
    /// Headers and properties of its message.
    #[schema(value_type = Object)]
    pub headers: serde_json::Value,
    /// Content type of the body, as the sender declared it.
    pub content_type: String,
    /// Length of the body in bytes.
    pub size: i64,
    /// The body as received.
    #[serde(flatten)]
    pub body: BodyInJson,
}

fn row(row: &AnyRow) -> Result<RejectedRow, StoreError> {
    Ok(RejectedRow {
        id: id(row, "id")?.to_string(),
        source: row.try_get("source")?,
        provider: row.try_get("provider")?,
        received_at: time(row, "received_at")?,
        cause: row.try_get("cause")?,
    })
}

impl view::Row for RejectedRow {
    type Filter = RejectedFilter;

    /// Rejected bodies that were neither sent again nor discarded. The cursor is the id of the page's last.
    async fn page(
        connection: &mut Connection,
        filter: &RejectedFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        LIST.page(connection, chosen(filter), page, row).await
    }
}

/// What is open and fits.
pub(crate) fn chosen(filter: &RejectedFilter) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.add(open_body("rejected_bodies"));
    conditions.with_id("id", filter.id);
    conditions.with("source =", filter.source.as_ref());
    conditions.with("provider =", filter.provider.as_ref());
    conditions
}

pub(crate) const LIST: List<'_> =
    List::by_id("SELECT id, source, provider, received_at, cause FROM rejected_bodies", &["id"]);

/// One rejected body, whole; `None` if there is none with this id.
pub async fn show_rejected(connection: &mut Connection, id: EventId) -> Result<Option<Rejected>, StoreError> {
    let text = "SELECT id, source, provider, received_at, cause, content_type, size, headers, body \
                FROM rejected_bodies WHERE id = $1"
        .to_owned();
    let rows = fetch(connection, text, [Value::from(id)]).await?;
    let whole = |found: &AnyRow| {
        let headers: serde_json::Value = serde_json::from_str(found.try_get("headers")?).unwrap_or_default();
        let body: Vec<u8> = found.try_get("body")?;
        let (answer, webhook_id) = (headers[header::ANSWER].as_str(), headers["http_webhook-id"].as_str());
        Ok(Rejected {
            row: row(found)?,
            receipt: Receipt::new(answer, webhook_id, &body),
            headers,
            content_type: found.try_get("content_type")?,
            size: found.try_get("size")?,
            body: BodyInJson::from(body),
        })
    };
    rows.first().map(whole).transpose()
}
