//! Sessions of the console: a cookie stands for a token, until one of the two ends.

use std::time::Duration;

use event::Timestamp;
use store::many::{Value, fetch};
use store::{Connection, Row, Store, StoreError};

use crate::{Digest, Fresh};

/// What the cookie of a session begins with.
pub const SESSION_PREFIX: &str = "malote_session_";

/// How long a session lasts without a request, and at most.
pub const IDLE: Duration = Duration::from_secs(8 * 3600);
/// See [`IDLE`].
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// How exactly the last request of a session is kept: the table is written at most so often.
const USE_PERIOD: Duration = Duration::from_secs(60);

/// Begins a session of who has this token; the answer is its cookie.
pub async fn begin_session(store: &Store, token: Digest, now: Timestamp) -> Result<Fresh, StoreError> {
    let fresh = Fresh::generate(SESSION_PREFIX);
    let text = "INSERT INTO console_sessions (digest, token, created_at, used_at) VALUES ($1, $2, $3, $3) \
                RETURNING created_at";
    let values = [Value::from(fresh.digest.0.to_vec()), Value::from(token.0.to_vec()), Value::from(now)];
    let mut tx = store.begin().await?;
    fetch(&mut tx, text.to_owned(), values).await?;
    tx.commit().await?;
    Ok(fresh)
}

/// The token of a session that has not ended, and whether its use is to be noted.
pub async fn session(
    connection: &mut Connection,
    session: Digest,
    now: Timestamp,
) -> Result<Option<(Digest, bool)>, StoreError> {
    let text =
        "SELECT token, used_at FROM console_sessions WHERE digest = $1 AND created_at > $2 AND used_at > $3";
    let values = [Value::from(session.0.to_vec()), Value::from(now - LONGEST), Value::from(now - IDLE)];
    let rows = fetch(connection, text.to_owned(), values).await?;
    let read = |row: &store::AnyRow| {
        let used: i64 = row.try_get(1)?;
        Ok((Digest::read(row, 0)?, used < (now - USE_PERIOD).as_microsecond()))
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
