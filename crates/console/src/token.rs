//! Bearer tokens (RFC 6750): whose they are, what their role allows, and how long a request with one may take.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use access::{Digest, Entry, Fresh, Identity};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use event::Chain;
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap, StatusCode};
use http_body_util::{BodyExt, Collected};
use server::Peer;
use subtle::ConstantTimeEq;

use crate::ConsoleState;
use crate::known_tokens::KnownTokens;
use crate::refusal::{self, Refusal};
use crate::reveal;
use crate::rules::{Audit, Rule};

/// The token of the installation: the first one, which allows everything. It cannot be printed. Clones share it.
#[derive(Clone)]
pub struct Token(Arc<Shared>);

struct Shared {
    text: RwLock<Box<str>>,
    /// What logs in once in its place.
    login_code: Mutex<Option<Digest>>,
}

impl Token {
    /// The token with this text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Shared { text: RwLock::new(text.into()), login_code: Mutex::default() }))
    }

    /// Replaces the text: requests from now on need the new one.
    pub fn replace(&self, text: impl Into<Box<str>>) {
        *self.0.text.write().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// A code with which `/login?once=<code>` logs in to the console of this process, once. It replaces the one before.
    pub fn login_code(&self) -> String {
        let Fresh { text, digest } = Fresh::generate("");
        *self.0.login_code.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
        text
    }

    /// Whether this is the code, which is used up with that.
    pub(crate) fn use_login_code(&self, presented: &str) -> bool {
        let digest = Digest::new(presented.as_bytes());
        let mut code = self.0.login_code.lock().unwrap_or_else(PoisonError::into_inner);
        code.take_if(|code| *code == digest).is_some()
    }

    /// Its digest.
    pub(crate) fn digest(&self) -> Digest {
        Digest::new(self.0.text.read().unwrap_or_else(PoisonError::into_inner).as_bytes())
    }

    /// Compares in a time that depends on the lengths alone. An empty token fits nothing.
    pub(crate) fn fits(&self, presented: &[u8]) -> bool {
        let text = self.0.text.read().unwrap_or_else(PoisonError::into_inner);
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

/// How often the audit has an entry of who reads on and on.
const FOLLOWING_PERIOD: Duration = Duration::from_secs(3600);

/// How long a request waits for the tables. While the database is down this may be long.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Lets a request pass whose token has the role that its route needs, and writes down what the audit has to have.
pub(crate) async fn authorize(State(state): State<ConsoleState>, request: Request, next: Next) -> Response {
    // A page asks for somebody who is logged in. No client can add an extension.
    let known = request.extensions().get::<Identity>().cloned();
    let identity = match known {
        Some(identity) => Ok(identity),
        None => identify(&state, presented(request.headers())).await,
    };
    let response = match identity {
        Ok(identity) => permit(&state, identity, request, next).await,
        Err(refusal) => refusal.into_response(),
    };
    refusal::complete(response, &state)
}

/// Whose token was presented: that of the installation, or one that was added.
pub(crate) async fn identify(state: &ConsoleState, presented: Option<&[u8]>) -> Result<Identity, Refusal> {
    let presented = presented.ok_or(Refusal::Unauthorized)?;
    if state.token.fits(presented) {
        return Ok(Identity::installation());
    }
    let digest = Digest::presented(access::PREFIX, presented).ok_or(Refusal::Unauthorized)?;
    wait_for_tables(state).await;
    state.seen.api.owner(&state.store, digest, access::known).await?.ok_or(Refusal::Unauthorized)?;
    let now = event::now();
    let found = access::identify(&mut *state.store.read().await?, digest, now).await?;
    let (identity, used) = found.ok_or(Refusal::Unauthorized)?;
    if let Err(error) = access::note_use(&state.store, &identity, used, now).await {
        tracing::debug!(token = identity.name, error = %Chain(&error), "the use of a token is not noted");
    }
    Ok(identity)
}

/// Answers a request if the role is enough, with an entry in the audit where its rule asks for one.
pub(crate) async fn permit(
    state: &ConsoleState,
    identity: Identity,
    mut request: Request,
    next: Next,
) -> Response {
    note_authenticated(request.extensions());
    wait_for_tables(state).await;
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (mut rule, action) = (Rule::new(request.method(), route), format!("{} {route}", request.method()));
    let mut path = request.uri().path().to_owned();
    if reveal::is_asked(request.uri().query()) {
        rule = rule.revealing();
        path += " revealed";
    }
    let client = request.extensions().get::<Peer>().map(|peer| peer.address().ip().to_string());
    request.extensions_mut().insert(identity.clone());
    let response = match identity.role >= rule.role {
        true => next.run(request).await,
        false => Refusal::Role { has: identity.role, needs: rule.role }.into_response(),
    };
    let (response, people) = whose(state, rule, response).await;
    let is_written = match rule.audit {
        // Asking for a person by name tells whether there is something about them.
        Audit::Nothing => !people.is_empty(),
        Audit::Following => state.seen.followers.is_first(&format!("{} {path}", identity.name)),
        Audit::Change | Audit::Look => true,
    };
    if !is_written {
        return response;
    }
    let added = response.extensions().get::<Audited>().map(|Audited(text)| format!(" {text}"));
    let entry = Entry {
        identity: &identity,
        client: client.unwrap_or_default(),
        action,
        what: (path + &added.unwrap_or_default()).trim_end().to_owned(),
        status: response.status().as_u16(),
        people,
    };
    match access::record(&state.store, &entry).await {
        Ok(()) => response,
        // What has been changed cannot be taken back.
        Err(error) if rule.audit == Audit::Change => {
            tracing::error!(?entry, error = %Chain(&error), "the audit misses this entry");
            response
        }
        Err(error) => Refusal::Store(error).into_response(),
    }
}

/// The pseudonyms of those whom an answer is about, as far as it shows or was asked for what identifies them.
async fn whose(state: &ConsoleState, rule: Rule, response: Response) -> (Response, Vec<String>) {
    let asked = response.extensions().get::<AskedFor>().map(|AskedFor(people)| people.clone());
    let mut people: BTreeSet<String> = asked.unwrap_or_default().into_iter().collect();
    if !rule.is_unmasked || !response.status().is_success() {
        return (response, people.into_iter().collect());
    }
    let (parts, body) = response.into_parts();
    let Ok(bytes) = body.collect().await.map(Collected::to_bytes) else {
        return (StatusCode::INTERNAL_SERVER_ERROR.into_response(), Vec::new());
    };
    if let Ok(text) = std::str::from_utf8(&bytes) {
        people.extend(view::people(text).iter().map(|person| (state.pseudonym)(person)));
    }
    (Response::from_parts(parts, Body::from(bytes)), people.into_iter().collect())
}

/// The pseudonyms of those whom a list was asked for. A handler adds it to its answer.
#[derive(Clone)]
pub(crate) struct AskedFor(pub(crate) Vec<String>);

/// What the audit says of a request besides its path. A handler adds it to its answer.
#[derive(Clone)]
pub(crate) struct Audited(pub(crate) String);

/// Whose tokens this process has seen. Clones share it.
#[derive(Clone, Default)]
pub struct SeenTokens {
    /// Those of the API.
    pub(crate) api: KnownTokens,
    /// Those of pull subscriptions.
    pub(crate) readers: KnownTokens,
    /// Who has read on and on.
    pub(crate) followers: Followers,
}

/// Who has read on and on within the last hour. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Followers(Arc<Mutex<HashMap<String, Instant>>>);

impl Followers {
    /// Whether this is the first of the hour.
    fn is_first(&self, name: &str) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, since| since.elapsed() < FOLLOWING_PERIOD);
        match seen.contains_key(name) {
            true => false,
            false => seen.insert(name.to_owned(), Instant::now()).is_none(),
        }
    }
}

/// The token of a request.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()))
}

/// Tells the server that the client of this request is known.
pub(crate) fn note_authenticated(extensions: &Extensions) {
    if let Some(peer) = extensions.get::<Peer>() {
        peer.authenticated();
    }
}

/// Right after a start the tables may not exist yet, which would look like a broken database.
pub(crate) async fn wait_for_tables(state: &ConsoleState) {
    let _ = tokio::time::timeout(START_PATIENCE, state.migrated.cancelled()).await;
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
    fn a_login_code_is_used_once_and_replaced_by_the_next() {
        let token = Token::new("s3cret");
        assert!(!token.use_login_code(""));
        let (first, second) = (token.login_code(), token.login_code());
        assert!(!token.use_login_code(&first));
        assert!(token.clone().use_login_code(&second) && !token.use_login_code(&second));
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        assert_eq!(bearer(b"bEaReR  abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bearer"), None);
    }
}
