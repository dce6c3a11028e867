//! The audit: who has changed something or looked at a body, from where, and with which result.

use event::{EventId, Timestamp};
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch, insert};
use store::{
    AnyRow, Conditions, Connection, IdPrefix, List, Page, Paged, Row, Store, StoreError, id, id_bound,
};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, View, column, dropped, shown};

use crate::{Identity, Role};

/// How many entries one statement deletes, so that it does not hold up others.
const FORGET_LIMIT: u32 = 5_000;

/// What somebody has done.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Who: the name of the token.
    pub identity: &'a Identity,
    /// The client's address.
    pub client: String,
    /// What was done: a method and a path of the API.
    pub action: String,
    /// To what: the path as it was asked for, and what the answer added.
    pub what: String,
    /// The status of the answer.
    pub status: u16,
    /// Whose data was shown or asked for: pseudonyms, each of them once.
    pub people: Vec<String>,
}

/// Writes down what somebody has done.
pub async fn record(store: &Store, entry: &Entry<'_>) -> Result<(), StoreError> {
    let text = "INSERT INTO audit (id, who, role, client, action, what, status) \
                VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING status";
    let id = EventId::generate();
    let values = [
        Value::from(id),
        Value::from(&entry.identity.name),
        Value::from(entry.identity.role.as_str()),
        Value::from(&entry.client),
        Value::from(&entry.action),
        Value::from(&entry.what),
        Value::from(i64::from(entry.status)),
    ];
    let mut tx = store.begin().await?;
    fetch(&mut tx, text.to_owned(), values).await?;
    let people = entry.people.iter().map(|person| vec![Value::from(person), Value::from(id)]).collect();
    insert(&mut tx, "audit_people (person, entry)", "RETURNING 1", people).await?;
    Ok(tx.commit().await?)
}

/// Deletes entries from before this time. Returns whether there may be more of them.
pub async fn forget(store: &Store, before: Timestamp) -> Result<bool, StoreError> {
    let text = format!(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT {FORGET_LIMIT}) \
         RETURNING status"
    );
    let people = format!(
        "DELETE FROM audit_people WHERE entry IN (SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT {FORGET_LIMIT})"
    );
    let mut tx = store.begin().await?;
    fetch(&mut tx, people, [bound(before)]).await?;
    let deleted = fetch(&mut tx, text, [bound(before)]).await?.len();
    tx.commit().await?;
    Ok(deleted == FORGET_LIMIT as usize)
}

/// The first id of a time.
fn bound(time: Timestamp) -> Value {
    id_bound(&format!("{:012x}", time.as_millisecond().max(0)))
}

/// Which entries to list: all that is given must fit.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditFilter {
    /// Only the entry with this id, or those whose ids begin with it.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
    /// Only what was done with this token.
    pub who: Option<String>,
    /// Only this, as an entry shows it: a method and a path of the API.
    pub action: Option<String>,
    /// Only what was done to this, such as an event's id.
    pub what: Option<String>,
    /// Only what showed or asked for data of this person: a CPF, CNPJ or e-mail address, or the subject of their events.
    pub person: Option<String>,
    /// Only what was done at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only what was done before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
}

/// An entry of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRow {
    /// Its id.
    pub id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The name of the token.
    pub who: String,
    /// What it allowed.
    pub role: Role,
    /// The client's address.
    pub client: String,
    /// What was done: a method and a path of the API.
    pub action: String,
    /// To what.
    pub what: String,
    /// The status of the answer.
    pub status: i64,
}

impl Shown for AuditRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("At", |row| shown(&row.at), Form::Time),
        column("Who", |row| shown(&row.who), Form::Text),
        dropped(2, column("Role", |row| shown(&row.role), Form::Text)),
        dropped(1, column("From", |row| shown(&row.client), Form::Text)),
        column("Status", |row| shown(&row.status), Form::Number),
        column("Action", |row| shown(&row.action), Form::Text),
        column("What", |row| shown(&row.what), Form::Text),
    ];
}

/// `audit`
pub static AUDIT: View = View {
    name: "audit",
    tag: "access",
    about: "Who has changed something or looked at a body, from where, and with which result",
    row: "audit entry",
    rows: "audit entries",
    example: "who=maria",
    empty: "No audit entries: nobody has changed anything or looked at a body.",
    reading: Reading::new::<AuditRow>(),
};

impl view::Row for AuditRow {
    type Filter = AuditFilter;

    async fn page(
        connection: &mut Connection,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.with_id("id", filter.id);
        conditions.with("who =", filter.who.as_ref());
        conditions.with("action =", filter.action.as_ref());
        conditions.with("id >=", filter.from.map(bound));
        conditions.with("id <", filter.to.map(bound));
        if let Some(person) = &filter.person {
            let person = conditions.bind(Value::from(person));
            conditions.add(format!("id IN (SELECT entry FROM audit_people WHERE person = {person})"));
        }
        if let Some(what) = &filter.what {
            let escaped = what.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
            let part = conditions.bind(Value::from(format!("%{escaped}%")));
            conditions.add(format!(r"what LIKE {part} ESCAPE '\'"));
        }
        let read = |row: &AnyRow| {
            let id = id(row, "id")?;
            let milliseconds = i64::try_from(id.milliseconds()).unwrap_or(i64::MAX);
            Ok::<_, StoreError>(Self {
                id: id.to_string(),
                at: Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX),
                who: row.try_get("who")?,
                role: Role::from_row(row)?,
                client: row.try_get("client")?,
                action: row.try_get("action")?,
                what: row.try_get("what")?,
                status: row.try_get("status")?,
            })
        };
        let select = "SELECT id, who, role, client, action, what, status FROM audit";
        List::by_id(select, &["id"]).page(connection, conditions, page, read).await
    }
}
