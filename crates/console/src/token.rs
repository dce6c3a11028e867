//! The bearer token (RFC 6750), and how long a request with it may take.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use server::Peer;
use subtle::ConstantTimeEq;

use crate::ConsoleState;
use crate::refusal::{self, Refusal};

/// A secret that all clients share. It cannot be printed. Clones share it.
#[derive(Clone)]
pub struct Token(Arc<RwLock<Box<str>>>);

impl Token {
    /// The token with this text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(Arc::new(RwLock::new(text.into())))
    }

    /// Replaces the text: requests from now on need the new one.
    pub fn replace(&self, text: impl Into<Box<str>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// Compares in a time that depends on the lengths alone. An empty token fits nothing.
    fn fits(&self, presented: &[u8]) -> bool {
        let text = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !text.is_empty() && bool::from(text.as_bytes().ct_eq(presented))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Longer than any list takes and shorter than a client waits: a database that neither answers nor breaks off
/// becomes a 503.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a request waits for the tables. While the database is down this may be long.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Lets a request pass that has the token.
pub(crate) async fn authorize(State(state): State<ConsoleState>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    if !presented.is_some_and(|presented| state.token.fits(presented)) {
        return Refusal::Unauthorized.into_response();
    }
    if let Some(peer) = request.extensions().get::<Peer>() {
        peer.authenticated();
    }
    // Right after a start the tables may not exist yet, which would look like a broken database.
    let _ = tokio::time::timeout(START_PATIENCE, state.migrated.cancelled()).await;
    refusal::complete(next.run(request).await, &state)
}

/// Refuses what takes too long.
pub(crate) async fn in_time(State(state): State<ConsoleState>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refusal::late(&state).await.into_response(),
    }
}

/// What follows the scheme, whose case does not matter (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_fits_and_it_is_never_printed() {
        let token = Token::new("s3cret");
        assert!(token.fits(b"s3cret"));
        for almost in ["", "s3cre", "s3cret ", "s3creT", "s3cret1"] {
            assert!(!token.fits(almost.as_bytes()), "{almost:?}");
        }
        assert!(!Token::new("").fits(b""));
        assert!(!format!("{token:?}").contains("s3"));
        let shared = token.clone();
        token.replace("0ther");
        assert!(shared.fits(b"0ther") && !shared.fits(b"s3cret"));
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        assert_eq!(bearer(b"bEaReR  abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bearer"), None);
    }
}
