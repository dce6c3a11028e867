//! Sessions of the console: a cookie stands for a token, until one of the two ends, or for a user whom a provider has named.

use std::time::Duration;

use event::Timestamp;
use store::many::{Value, fetch};
use store::{Connection, Row, Store, StoreError};

use crate::{Digest, Fresh, Identity, Role};

/// What the cookie of a session begins with.
pub const SESSION_PREFIX: &str = "malote_session_";

/// How long a session lasts without a request, and at most.
pub const IDLE: Duration = Duration::from_secs(8 * 3600);
/// See [`IDLE`].
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// How exactly the last request of a session is kept: the table is written at most so often.
const USE_PERIOD: Duration = Duration::from_secs(60);

/// Whose a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Whose token has this digest, for as long as there is that token.
    Token(Digest),
    /// A user, with the role at the log-in.
    User(Identity),
}

/// Begins a session; the answer is its cookie.
pub async fn begin_session(store: &Store, holder: &Holder, now: Timestamp) -> Result<Fresh, StoreError> {
    let fresh = Fresh::generate(SESSION_PREFIX);
    let text = "INSERT INTO console_sessions (digest, token, created_at, used_at, user_name, user_role) \
                VALUES ($1, $2, $3, $3, $4, $5) RETURNING created_at";
    let (token, user) = match holder {
        Holder::Token(token) => (*token, None),
        // Nobody has such a token.
        Holder::User(user) => (fresh.digest, Some(user)),
    };
    let values = [
        Value::from(fresh.digest.0.to_vec()),
        Value::from(token.0.to_vec()),
        Value::from(now),
        Value::from(user.map(|user| user.name.clone())),
        Value::from(user.map(|user| user.role.as_str().to_owned())),
    ];
    let mut tx = store.begin().await?;
    fetch(&mut tx, text.to_owned(), values).await?;
    tx.commit().await?;
    Ok(fresh)
}

/// Whose a session is that has not ended, and whether its use is to be noted.
pub async fn session(
    connection: &mut Connection,
    session: Digest,
    now: Timestamp,
) -> Result<Option<(Holder, bool)>, StoreError> {
    let text = "SELECT token, used_at, user_name, user_role AS role FROM console_sessions \
                WHERE digest = $1 AND created_at > $2 AND used_at > $3";
    let values = [Value::from(session.0.to_vec()), Value::from(now - LONGEST), Value::from(now - IDLE)];
    let rows = fetch(connection, text.to_owned(), values).await?;
    let read = |row: &store::AnyRow| {
        let used: i64 = row.try_get(1)?;
        let holder = match row.try_get::<Option<String>, _>("user_name")? {
            Some(name) => Holder::User(Identity { name, role: Role::from_row(row)? }),
            None => Holder::Token(Digest::read(row, 0)?),
        };
        Ok((holder, used < (now - USE_PERIOD).as_microsecond()))
    };
    rows.first().map(read).transpose()
}

/// Notes that a session is used now.
pub async fn note_session(store: &Store, session: Digest, now: Timestamp) -> Result<(), StoreError> {
    let text = "UPDATE console_sessions SET used_at = $2 WHERE digest = $1 RETURNING used_at".to_owned();
    let mut tx = store.begin().await?;
    fetch(&mut tx, text, [Value::from(session.0.to_vec()), Value::from(now)]).await?;
    Ok(tx.commit().await?)
}

/// Ends a session.
pub async fn end_session(store: &Store, session: Digest) -> Result<(), StoreError> {
    let text = "DELETE FROM console_sessions WHERE digest = $1 RETURNING used_at".to_owned();
    let mut tx = store.begin().await?;
    fetch(&mut tx, text, [Value::from(session.0.to_vec())]).await?;
    Ok(tx.commit().await?)
}

/// Deletes the sessions that have ended by themselves.
pub async fn forget_sessions(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let text =
        "DELETE FROM console_sessions WHERE created_at <= $1 OR used_at <= $2 RETURNING used_at".to_owned();
    let mut tx = store.begin().await?;
    fetch(&mut tx, text, [Value::from(now - LONGEST), Value::from(now - IDLE)]).await?;
    Ok(tx.commit().await?)
}
