//! Dead letters by consumer and error: how many, since when, how their number grows, and what operators have noted about them.

use std::collections::BTreeMap;

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{AnyRow, Connection, Page, Paged, Row, Store, StoreError, time};
use utoipa::ToSchema;

use crate::DeadFilter;
use crate::dead::{chosen, fitting};

/// How many hours and days a trend goes back.
const HOURS: usize = 24;
const DAYS: usize = 14;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// The most characters of a note, and of the address of a ticket.
const TEXT_LIMIT_CHARS: usize = 500;

/// Dead letters of one consumer with one error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadGroup {
    /// Names the group in filters.
    pub group: String,
    /// The consumer that gave up.
    pub consumer: String,
    /// Why, without the numbers and quoted values in which the errors differ.
    pub error: String,
    /// How many.
    pub count: i64,
    /// When the first of them failed first.
    #[schema(value_type = String, format = DateTime)]
    pub first_failed_at: Timestamp,
    /// When the last of them was given up.
    #[schema(value_type = String, format = DateTime)]
    pub last_failed_at: Timestamp,
    /// How many such letters were given up in each of the last 24 hours, the last one at the end; also those that were sent again or
    /// discarded since.
    #[serde(default)]
    pub per_hour: Vec<i64>,
    /// The same in each of the last 14 times 24 hours.
    #[serde(default)]
    pub per_day: Vec<i64>,
    /// What an operator has noted.
    #[serde(default)]
    pub note: Option<GroupNote>,
}

/// What an operator has noted about a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupNote {
    /// The text; empty if there is none.
    pub text: String,
    /// The address of a ticket; empty if there is none.
    pub ticket: String,
    /// Who noted it last.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl GroupNote {
    /// The text and the address of the ticket.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.text, self.ticket).trim().to_owned()
    }
}

/// What is to be noted about a group. What is not given stays as it is; an empty text removes what was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGroupNote {
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The address of a ticket, which begins with `https://` or `http://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// Why something is not noted.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// No consumer has given up with such an error.
    #[error("there is no group of dead letters {0:?}")]
    NoGroup(String),
    /// It cannot be noted like this.
    #[error("{0}")]
    Unfit(String),
    /// The request to the database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl view::Row for DeadGroup {
    type Filter = DeadFilter;

    /// All groups of the dead letters that fit, the largest first: at most 1,000.
    async fn page(
        connection: &mut Connection,
        filter: &DeadFilter,
        _: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let conditions = chosen(filter);
        let text = format!(
            "SELECT s.group_id, s.consumer, max(s.error_group) AS error, count(*) AS count, \
             min(s.first_failed_at) AS first_failed_at, max(s.failed_at) AS last_failed_at \
             FROM dead_letters s {} GROUP BY s.group_id, s.consumer ORDER BY count(*) DESC, s.group_id LIMIT 1000",
            conditions.clause()
        );
        let rows = fetch(connection, text, conditions.values).await?;
        let mut trends = trends(connection, filter, event::now()).await?;
        let mut notes = notes(connection).await?;
        let group = |row: &AnyRow| {
            let group: String = row.try_get("group_id")?;
            let Trend { per_hour, per_day } = trends.remove(&group).unwrap_or_default();
            Ok::<_, StoreError>(Self {
                consumer: row.try_get("consumer")?,
                error: row.try_get("error")?,
                count: row.try_get("count")?,
                first_failed_at: time(row, "first_failed_at")?,
                last_failed_at: time(row, "last_failed_at")?,
                per_hour: per_hour.to_vec(),
                per_day: per_day.to_vec(),
                note: notes.remove(&group),
                group,
            })
        };
        Ok(Paged { items: rows.iter().map(group).collect::<Result<_, _>>()?, next: None })
    }
}

/// How many letters of a group were given up in each hour and day.
#[derive(Default)]
struct Trend {
    per_hour: [i64; HOURS],
    per_day: [i64; DAYS],
}

impl Trend {
    /// Adds letters that were given up so long ago: full hours within the last day, behind those full days.
    fn add(&mut self, ago: usize, count: i64) {
        if let Some(hour) = self.per_hour.iter_mut().rev().nth(ago) {
            *hour += count;
        }
        if let Some(day) = self.per_day.iter_mut().rev().nth((ago + 1).saturating_sub(HOURS)) {
            *day += count;
        }
    }
}

/// The statement of the trends. It counts the letters of the last days in the index of when they were given up, whether they are
/// open or not: that would have to be looked up letter by letter. SQLite would walk the index of groups, were they not an expression.
pub(crate) fn trends_statement(filter: &DeadFilter, now: Timestamp) -> (String, Vec<Value>) {
    let now = now.as_microsecond();
    let mut conditions = fitting(filter);
    conditions.with("s.failed_at >", Some(now - DAY_US * DAYS as i64));
    let age = format!("({now} - s.failed_at)");
    let text = format!(
        "SELECT s.group_id || '' AS group_id, CASE WHEN {age} < {DAY_US} THEN {age} / {HOUR_US} ELSE {HOURS} - 1 + {age} / {DAY_US} END AS ago, \
         count(*) AS count FROM dead_letters s {} GROUP BY 1, 2",
        conditions.clause()
    );
    (text, conditions.values)
}

/// The trend of each group that has letters of the last days.
async fn trends(
    connection: &mut Connection,
    filter: &DeadFilter,
    now: Timestamp,
) -> Result<BTreeMap<String, Trend>, StoreError> {
    let (text, values) = trends_statement(filter, now);
    let mut found: BTreeMap<String, Trend> = BTreeMap::new();
    for row in fetch(connection, text, values).await? {
        // The clock of the consumer may be ahead.
        let ago = usize::try_from(row.try_get::<i64, _>("ago")?).unwrap_or(0);
        found.entry(row.try_get("group_id")?).or_default().add(ago, row.try_get("count")?);
    }
    Ok(found)
}

async fn notes(connection: &mut Connection) -> Result<BTreeMap<String, GroupNote>, StoreError> {
    let text = "SELECT group_id, note, ticket, noted_by, noted_at FROM dead_group_notes".to_owned();
    let rows = fetch(connection, text, []).await?;
    rows.iter().map(|row| Ok((row.try_get("group_id")?, note(row)?))).collect()
}

fn note(row: &AnyRow) -> Result<GroupNote, StoreError> {
    Ok(GroupNote {
        text: row.try_get("note")?,
        ticket: row.try_get("ticket")?,
        by: row.try_get("noted_by")?,
        at: time(row, "noted_at")?,
    })
}

/// A text of a note without the spaces around it; an error names the field.
fn checked<'a>(name: &str, given: Option<&'a String>) -> Result<Option<&'a str>, NoteError> {
    let Some(given) = given.map(|text| text.trim()) else { return Ok(None) };
    if given.chars().count() > TEXT_LIMIT_CHARS || given.contains('\0') {
        let error = format!("{name}: expected at most {TEXT_LIMIT_CHARS} characters, and no NUL");
        return Err(NoteError::Unfit(error));
    }
    Ok(Some(given))
}

/// Notes something about a group, in place of what was noted before. Gives what is noted then; nothing, if nothing is left.
pub async fn note_group(
    store: &Store,
    group: &str,
    new: &NewGroupNote,
    by: &str,
) -> Result<Option<GroupNote>, NoteError> {
    let (text, ticket) = (checked("text", new.text.as_ref())?, checked("ticket", new.ticket.as_ref())?);
    let is_address = |ticket: &str| {
        ticket.is_empty() || ["https://", "http://"].iter().any(|scheme| ticket.starts_with(scheme))
    };
    if !ticket.is_none_or(is_address) {
        let error = "ticket: expected an address that begins with https:// or http://";
        return Err(NoteError::Unfit(error.to_owned()));
    }
    let mut tx = store.begin().await?;
    let known = "SELECT event_id FROM dead_letters WHERE group_id = $1 LIMIT 1".to_owned();
    if fetch(&mut tx, known, [Value::from(group)]).await?.is_empty() {
        return Err(NoteError::NoGroup(group.to_owned()));
    }
    let write = "INSERT INTO dead_group_notes (group_id, note, ticket, noted_by, noted_at) \
         VALUES ($1, coalesce($2, ''), coalesce($3, ''), $4, $5) \
         ON CONFLICT (group_id) DO UPDATE SET note = coalesce($2, dead_group_notes.note), \
         ticket = coalesce($3, dead_group_notes.ticket), noted_by = excluded.noted_by, noted_at = excluded.noted_at \
         RETURNING note, ticket, noted_by, noted_at";
    let values = [
        Value::from(group),
        Value::from(text.map(str::to_owned)),
        Value::from(ticket.map(str::to_owned)),
        Value::from(by),
        Value::from(event::now()),
    ];
    let rows = fetch(&mut tx, write.to_owned(), values).await?;
    let noted = note(rows.first().expect("an upsert gives its row"))?;
    let is_empty = noted.text.is_empty() && noted.ticket.is_empty();
    if is_empty {
        let remove = "DELETE FROM dead_group_notes WHERE group_id = $1".to_owned();
        fetch(&mut tx, remove, [Value::from(group)]).await?;
    }
    tx.commit().await.map_err(StoreError::from)?;
    Ok((!is_empty).then_some(noted))
}
