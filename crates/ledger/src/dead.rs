//! Reading what consumers gave up.

use event::{EventId, ProviderName, SourceName, Timestamp};
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, Connection, IdPrefix, List, Page, Paged, Row, StoreError, id};
use utoipa::{IntoParams, ToSchema};

use crate::BodyInJson;
use crate::predicates::dead_at;
use store::many::{Value, fetch};
use store::time;

/// Which dead letters to list: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeadFilter {
    /// The event's id, or its beginning.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
    /// The group, as the list of groups names it.
    pub group: Option<String>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadRow {
    /// The event's id, or one given when it was filed if it is no event.
    pub id: String,
    /// The consumer that gave up.
    pub consumer: String,
    /// The configured sender.
    pub source: Option<String>,
    /// The kind of sender.
    pub provider: Option<String>,
    /// The provider's name for what happened.
    pub topic: String,
    /// How often the consumer had tried, including attempts before it was sent again.
    pub attempts: i64,
    /// Why it gave up.
    pub error: String,
    /// Names the group of letters with such an error.
    pub group: String,
    /// When its first attempt failed.
    #[schema(value_type = String, format = DateTime)]
    pub first_failed_at: Timestamp,
    /// When the dead letter was filed.
    #[schema(value_type = String, format = DateTime)]
    pub failed_at: Timestamp,
}

fn row(row: &AnyRow) -> Result<DeadRow, StoreError> {
    Ok(DeadRow {
        id: id(row, "event_id")?.to_string(),
        consumer: row.try_get("consumer")?,
        source: row.try_get("source")?,
        provider: row.try_get("provider")?,
        topic: row.try_get("topic")?,
        attempts: row.try_get("attempts")?,
        error: row.try_get("error")?,
        group: row.try_get("group_id")?,
        first_failed_at: time(row, "first_failed_at")?,
        failed_at: time(row, "failed_at")?,
    })
}

impl view::Row for DeadRow {
    type Filter = DeadFilter;

    /// Open dead letters, newest event first: no effect followed, and they were neither sent again nor discarded. The
    /// cursor is `<event id>:<consumer>` of the page's last.
    async fn page(
        connection: &mut Connection,
        filter: &DeadFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let (text, values) = statement(filter, page);
        let rows = fetch(connection, text, values).await?;
        List::by_id("", &KEY).cut(&rows, page, row)
    }
}

/// What is open and fits.
pub(crate) fn chosen(filter: &DeadFilter) -> Conditions {
    let mut conditions = fitting(filter);
    conditions.add(dead_at("s"));
    conditions
}

/// What fits, open or not.
pub(crate) fn fitting(filter: &DeadFilter) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.with_id("s.event_id", filter.id);
    conditions.with("s.consumer =", filter.consumer.as_ref());
    conditions.with("s.source =", filter.source.as_ref());
    conditions.with("s.provider =", filter.provider.as_ref());
    conditions.with("s.group_id =", filter.group.as_ref());
    conditions
}

const ROW: &str = "s.event_id, s.consumer, s.source, s.provider, s.topic, s.attempts, s.error, s.group_id, \
     s.first_failed_at, s.failed_at";

const KEY: [&str; 2] = ["s.event_id", "s.consumer"];

pub(crate) fn statement(filter: &DeadFilter, page: &Page) -> (String, Vec<Value>) {
    List::by_id(&format!("SELECT {ROW} FROM dead_letters s"), &KEY).statement(chosen(filter), page)
}

/// One failed attempt of a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FailedAttempt {
    /// Which, counted from 1.
    pub attempt: i64,
    /// When it failed.
    pub at: String,
    /// Why.
    pub error: String,
}

/// A dead letter, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// What a list shows of it.
    #[serde(flatten)]
    pub row: DeadRow,
    /// Every failed attempt that is known of, the oldest first: `attempt`, `at`, `error`.
    #[schema(value_type = Vec<Object>)]
    pub history: serde_json::Value,
    /// The job that sent it again last.
    pub resent_in: Option<String>,
    /// The job that discarded it, or that sent the event in its place.
    pub discarded_in: Option<String>,
    /// The event that was sent with another body in its place.
    #[serde(default)]
    pub replaced_by: Option<String>,
    /// Headers and properties of its message.
    #[schema(value_type = Object)]
    pub headers: serde_json::Value,
    /// Content type of the body.
    pub content_type: String,
    /// The body.
    #[serde(flatten)]
    pub body: BodyInJson,
}

impl DeadLetter {
    /// The failed attempts of its history.
    pub fn failed_attempts(&self) -> Vec<FailedAttempt> {
        let attempts = self.history.as_array().into_iter().flatten();
        attempts.filter_map(|attempt| FailedAttempt::deserialize(attempt).ok()).collect()
    }
}

/// The dead letters of one event, open or not.
pub async fn show_dead(connection: &mut Connection, id: EventId) -> Result<Vec<DeadLetter>, StoreError> {
    let text = format!(
        "SELECT {ROW}, s.history, s.resent_in, s.discarded_in, s.replaced_by, s.headers, s.content_type, s.body \
         FROM dead_letters s WHERE s.event_id = $1 ORDER BY s.consumer"
    );
    let rows = fetch(connection, text, [Value::from(id)]).await?;
    let whole = |found: &AnyRow| {
        Ok(DeadLetter {
            row: row(found)?,
            history: serde_json::from_str(found.try_get("history")?).unwrap_or_default(),
            resent_in: found.try_get("resent_in")?,
            discarded_in: found.try_get("discarded_in")?,
            replaced_by: store::optional_id(found, "replaced_by")?.map(|id| id.to_string()),
            headers: serde_json::from_str(found.try_get("headers")?).unwrap_or_default(),
            content_type: found.try_get("content_type")?,
            body: BodyInJson::from(found.try_get::<Vec<u8>, _>("body")?),
        })
    };
    rows.iter().map(whole).collect()
}

/// The error without what tells one event's from another's: words with a digit in them (of letters, digits and hyphens,
/// such as an id), and what is quoted.
pub(crate) fn error_group(error: &str) -> String {
    let unquoted: String =
        error.split('"').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "\"…\"" }).collect();
    let is_of_word = |c: char| c.is_alphanumeric() || c == '-';
    let word = |piece: &str| {
        let at = piece.find(|c| !is_of_word(c)).unwrap_or(piece.len());
        let (word, rest) = piece.split_at(at);
        let word = if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word };
        format!("{word}{rest}")
    };
    unquoted.split_inclusive(|c| !is_of_word(c)).map(word).collect()
}

/// A short name for a consumer's errors of one kind: always the same for the same.
pub(crate) fn group_id(consumer: &str, error: &str) -> String {
    // FNV-1a (Noll; 32 bit): a name, not a secret.
    let text = format!("{consumer} {}", error_group(error));
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_and_quoted_values_are_one_group() {
        let one = r#"/parcelas/0/valor: expected a number, got "abc" after 3 tries"#;
        let other = r#"/parcelas/11/valor: expected a number, got "x y z" after 12 tries"#;
        assert_eq!(error_group(one), r#"/parcelas/#/valor: expected a number, got "…" after # tries"#);
        assert_eq!(group_id("invoices", one), group_id("invoices", other));
        assert_ne!(group_id("invoices", one), group_id("receivables", one));
        let elsewhere = one.replace("valor", "vencimento");
        assert_ne!(group_id("invoices", one), group_id("invoices", &elsewhere));
        let id = "0199d3c0-1f2e-7abc-8def-0123456789ab";
        assert_eq!(error_group(&format!("no agreement {id} (line 3)")), "no agreement # (line #)");
        assert_eq!(group_id("invoices", one).len(), 8);
    }
}
