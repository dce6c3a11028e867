//! The tokens of the administration API: whose they are, and how long they open it.

use std::collections::HashMap;

use event::{EventId, Timestamp};
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{AnyRow, Conditions, Connection, List, Page, Paged, Row, Store, StoreError, optional_time, time};
use utoipa::ToSchema;
use view::{Column, Form, NoFilter, Reading, Shown, View, column, dropped, shown};

use crate::{Digest, Fresh, Role};

/// What a token begins with, so that it can be told from other secrets.
pub const PREFIX: &str = "malote_token_";

/// The name of the token that the configuration or the data directory has. It is the first one, and never expires.
pub const INSTALLATION: &str = "installation";

/// The longest name, in characters.
const NAME_LIMIT: usize = 64;

/// How exactly the last use of a token is kept: the table is written at most so often for each.
const USE_PERIOD_MICROSECONDS: i64 = 60_000_000;

/// Whose token a request has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the token.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

impl Identity {
    /// Who has the token of the installation: everybody who may read its configuration.
    pub fn installation() -> Self {
        Self { name: INSTALLATION.to_owned(), role: Role::Admin }
    }

    /// Somebody who has tried to log in.
    pub fn stranger() -> Self {
        Self { name: "(nobody)".to_owned(), role: Role::Viewer }
    }

    /// Whether it is that of the installation.
    pub fn is_installation(&self) -> bool {
        self.name == INSTALLATION
    }
}

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// Its name: lower-case letters, digits and '-', such as that of the person or program that gets it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it stops to open anything; null for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// A token that was added.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AddedToken {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The token. It is not shown again.
    pub token: String,
}

/// Why a token is not added.
#[derive(Debug, thiserror::Error)]
pub enum BadToken {
    /// The name cannot be used.
    #[error("name: expected 1 to {NAME_LIMIT} lower-case letters, digits and '-', got {0:?}")]
    Name(String),
    /// The name means the token of the installation.
    #[error(
        "name: {INSTALLATION} is the token of the configuration or the data directory; choose another name"
    )]
    Installation,
    /// It would open nothing.
    #[error("expires_at: {0} has passed already")]
    Expired(Timestamp),
    /// There is one with this name.
    #[error("there is a token {0} already; remove it first, or choose another name")]
    Exists(String),
    /// The request to the database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a token may have this name: the same rule as for sources.
pub fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=NAME_LIMIT).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Adds a token, and gives it: nobody can read it again.
pub async fn add(store: &Store, new: &NewApiToken, by: &Identity) -> Result<AddedToken, BadToken> {
    let name = &new.name;
    if !is_name(name) {
        return Err(BadToken::Name(name.clone()));
    }
    if name == INSTALLATION {
        return Err(BadToken::Installation);
    }
    let now = event::now();
    if let Some(expired) = new.expires_at.filter(|expires| *expires <= now) {
        return Err(BadToken::Expired(expired));
    }
    let fresh = Fresh::generate(PREFIX);
    let text = "INSERT INTO api_tokens (id, name, role, digest, created_at, created_by, expires_at) \
                VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING RETURNING name";
    let values = [
        Value::from(EventId::generate()),
        Value::from(name),
        Value::from(new.role.as_str()),
        Value::from(fresh.digest.0.to_vec()),
        Value::from(now),
        Value::from(&by.name),
        Value::from(new.expires_at.map(Timestamp::as_microsecond)),
    ];
    let mut tx = store.begin().await?;
    let is_added = !fetch(&mut tx, text.to_owned(), values).await?.is_empty();
    tx.commit().await.map_err(StoreError::from)?;
    if !is_added {
        return Err(BadToken::Exists(new.name.clone()));
    }
    Ok(AddedToken { name: new.name.clone(), role: new.role, token: fresh.text })
}

/// A token, if there is one with this name.
pub async fn show(connection: &mut Connection, name: &str) -> Result<Option<TokenRow>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM api_tokens WHERE name = $1");
    fetch(connection, text, [Value::from(name)]).await?.first().map(TokenRow::read).transpose()
}

/// Removes a token; `None` if there is none with this name.
pub async fn remove(store: &Store, name: &str) -> Result<Option<TokenRow>, StoreError> {
    let mut tx = store.begin().await?;
    let text = format!("DELETE FROM api_tokens WHERE name = $1 RETURNING {COLUMNS}");
    let removed = fetch(&mut tx, text, [Value::from(name)]).await?.first().map(TokenRow::read).transpose()?;
    tx.commit().await?;
    Ok(removed)
}

/// The names of all tokens by their digests, also of those that have expired.
pub async fn known(connection: &mut Connection) -> Result<HashMap<Digest, String>, StoreError> {
    let rows = fetch(connection, "SELECT digest, name FROM api_tokens".to_owned(), []).await?;
    rows.iter().map(|row| Ok((Digest::read(row, 0)?, row.try_get(1)?))).collect()
}

/// Whose token this is, and when it was used last, as far as that is kept. `None` if it opens nothing now.
pub async fn identify(
    connection: &mut Connection,
    digest: Digest,
    now: Timestamp,
) -> Result<Option<(Identity, Option<Timestamp>)>, StoreError> {
    let text = "SELECT name, role, used_at FROM api_tokens \
                WHERE digest = $1 AND (expires_at IS NULL OR expires_at > $2)";
    let rows = fetch(connection, text.to_owned(), [Value::from(digest.0.to_vec()), Value::from(now)]).await?;
    let identity = |row: &AnyRow| {
        let identity = Identity { name: row.try_get("name")?, role: Role::from_row(row)? };
        Ok((identity, optional_time(row, "used_at")?))
    };
    rows.first().map(identity).transpose()
}

/// Notes that a token is used, to the minute. `used`: the last use that is kept.
pub async fn note_use(
    store: &Store,
    identity: &Identity,
    used: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let earlier = now.as_microsecond() - USE_PERIOD_MICROSECONDS;
    if identity.is_installation() || used.is_some_and(|used| used.as_microsecond() > earlier) {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    let text = "UPDATE api_tokens SET used_at = $2 WHERE name = $1 RETURNING name".to_owned();
    fetch(&mut tx, text, [Value::from(&identity.name), Value::from(now)]).await?;
    Ok(tx.commit().await?)
}

/// A token in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRow {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Whose token added it.
    pub created_by: String,
    /// When it stops to open anything; null for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, name, role, created_at, created_by, expires_at, used_at";

impl TokenRow {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.try_get("name")?,
            role: Role::from_row(row)?,
            created_at: time(row, "created_at")?,
            created_by: row.try_get("created_by")?,
            expires_at: optional_time(row, "expires_at")?,
            used_at: optional_time(row, "used_at")?,
        })
    }
}

impl Shown for TokenRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Name", |row| shown(&row.name), Form::Id),
        column("Role", |row| shown(&row.role), Form::Text),
        dropped(2, column("Added", |row| shown(&row.created_at), Form::Time)),
        dropped(1, column("By", |row| shown(&row.created_by), Form::Text)),
        column("Expires", |row| shown(&row.expires_at), Form::Time),
        column("Last used", |row| shown(&row.used_at), Form::Time),
    ];
}

/// `tokens`
pub static TOKENS: View = View {
    name: "tokens",
    tag: "access",
    about: "The tokens of the administration API besides that of the installation: whose they are, and what they allow",
    row: "token",
    rows: "tokens",
    example: "",
    empty: "No tokens but that of the installation. `malote tokens add NAME --role viewer` adds one.",
    reading: Reading::new::<TokenRow>(),
};

impl view::Row for TokenRow {
    type Filter = NoFilter;

    async fn page(connection: &mut Connection, _: &NoFilter, page: &Page) -> Result<Paged<Self>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM api_tokens");
        List::by_id(&select, &["id"]).page(connection, Conditions::default(), page, Self::read).await
    }
}
