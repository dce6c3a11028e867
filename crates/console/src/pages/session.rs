//! Logging in: a cookie stands for a token. Forms carry a token of the session, and come from pages of this origin only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use access::{Digest, Entry, Identity, LONGEST, SESSION_PREFIX};
use axum::body::Bytes;
use axum::extract::{RawQuery, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use event::Chain;
use http::header::{ACCEPT, COOKIE, HOST, ORIGIN, SET_COOKIE};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use server::Peer;

use super::shell::Visit;
use super::{Login, Pages, page};
use crate::ConsoleState;
use crate::refusal::Refusal;
use crate::token;

const COOKIE_NAME: &str = "malote_session";

/// On requests that the script of a page sends by itself.
pub(super) const RENEWAL: &str = "malote-renewal";

/// How soon after a wrong token the next one is tried, from any client: tokens are too long to be guessed, and wrong ones cost
/// a look into the database.
const PAUSE: Duration = Duration::from_millis(200);

/// When the next log-in is tried. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Turnstile(Arc<Mutex<Option<Instant>>>);

impl Turnstile {
    fn is_open(&self) -> bool {
        let closed_until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        closed_until.is_none_or(|until| Instant::now() >= until)
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE);
    }
}

/// A cookie by its name.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(other, _)| *other == name).map(|(_, value)| value)
}

fn session(headers: &HeaderMap) -> Option<(Digest, &str)> {
    let text = cookie(headers, COOKIE_NAME)?;
    Some((Digest::presented(SESSION_PREFIX, text.as_bytes())?, text))
}

/// What forms of a session send back. Its cookie cannot be found from it.
fn form_token(session: &str) -> String {
    Digest::new(format!("form {session}").as_bytes()).to_hex()
}

/// Who looks, if somebody is logged in.
async fn visit(state: &ConsoleState, headers: &HeaderMap) -> Result<Option<Visit>, Refusal> {
    let Some((digest, text)) = session(headers) else { return Ok(None) };
    let now = event::now();
    let found = access::session(&mut *state.store.read().await?, digest, now).await?;
    let Some((token, is_noted)) = found else { return Ok(None) };
    let identity = match token == state.token.digest() {
        true => Some(Identity::installation()),
        false => {
            access::identify(&mut *state.store.read().await?, token, now).await?.map(|(identity, _)| identity)
        }
    };
    // A page that renews itself does not keep a session alive that nobody uses.
    let is_stream = headers.get(ACCEPT).is_some_and(|accept| accept == "text/event-stream");
    let is_renewal = is_stream || headers.contains_key(RENEWAL);
    if is_noted
        && !is_renewal
        && let Err(error) = access::note_session(&state.store, digest, now).await
    {
        tracing::debug!(error = %Chain(&error), "the use of a session is not noted");
    }
    Ok(identity.map(|identity| Visit { identity, form_token: form_token(text), peer: None }))
}

/// Lets those see a page who are logged in; others log in first.
pub(super) async fn require(State(pages): State<Pages>, mut request: Request, next: Next) -> Response {
    token::wait_for_tables(&pages.state).await;
    match visit(&pages.state, request.headers()).await {
        Ok(Some(mut visit)) => {
            visit.peer = request.extensions().get::<Peer>().cloned();
            token::note_authenticated(request.extensions());
            request.extensions_mut().insert(visit);
            next.run(request).await
        }
        Ok(None) => {
            let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            let next = serde_urlencoded::to_string([("next", path)]).expect("pairs of text are a query");
            Redirect::to(&format!("/login?{next}")).into_response()
        }
        Err(refusal) => pages.problem(request.headers(), request.uri(), None, refusal.into_response()).await,
    }
}

/// Whether a form was sent by a page of this origin. Browsers say so; what is no browser has no cookie of somebody else.
fn is_own(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match (text(ORIGIN), text(HOST)) {
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, authority)| authority == host)
        }
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// The fields of a form, if it was sent by a page of this session.
pub(super) fn form(headers: &HeaderMap, visit: Option<&Visit>, body: &[u8]) -> Option<Vec<(String, String)>> {
    let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(body).ok()?;
    let is_token =
        |visit: &Visit| fields.iter().any(|(name, value)| name == "form_token" && *value == visit.form_token);
    let is_sent = is_own(headers) && visit.is_none_or(is_token);
    is_sent.then(|| fields.into_iter().filter(|(name, _)| name != "form_token").collect())
}

/// Where a log-in leads: a path of this origin.
pub(super) fn next_path(next: Option<&str>) -> String {
    let is_path =
        |next: &&str| next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n']);
    next.filter(is_path).unwrap_or("/").to_owned()
}

/// The form to log in with. With a code that logs in once, no form is needed.
pub(super) async fn login(
    State(pages): State<Pages>,
    headers: HeaderMap,
    uri: http::Uri,
    extensions: Extensions,
    RawQuery(query): RawQuery,
) -> Response {
    let pairs = super::given(query);
    let field = |name: &str| pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    let next = next_path(field("next"));
    if let Some(code) = field("once").filter(|_| pages.turnstile.is_open()) {
        if pages.state.token.use_login_code(code) {
            let token = (Identity::installation(), pages.state.token.digest());
            return begin(&pages, token, &next, &headers, &uri, &extensions).await;
        }
        pages.turnstile.close();
    }
    let shell = pages.shell(&headers, &uri, None, "Log in");
    page(StatusCode::OK, &Login { next, is_refused: false, shell })
}

/// Logs in with a token.
pub(super) async fn log_in(
    State(pages): State<Pages>,
    headers: HeaderMap,
    uri: http::Uri,
    extensions: Extensions,
    body: Bytes,
) -> Response {
    let Some(fields) = form(&headers, None, &body) else { return StatusCode::FORBIDDEN.into_response() };
    let field = |name: &str| fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.trim());
    let next = next_path(field("next"));
    if !pages.turnstile.is_open() {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
    }
    let presented = field("token").unwrap_or_default();
    match token::identify(&pages.state, Some(presented.as_bytes())).await {
        Ok(identity) => {
            let token = (identity, Digest::new(presented.as_bytes()));
            begin(&pages, token, &next, &headers, &uri, &extensions).await
        }
        Err(Refusal::Unauthorized) => {
            pages.turnstile.close();
            tracing::warn!(
                client = client(&extensions),
                "a log-in to the console with a token that opens nothing"
            );
            let shell = pages.shell(&headers, &uri, None, "Log in");
            page(StatusCode::UNAUTHORIZED, &Login { next, is_refused: true, shell })
        }
        Err(refusal) => pages.problem(&headers, &uri, None, refusal.into_response()).await,
    }
}

/// Begins a session of somebody with this token, and leads to a path.
async fn begin(
    pages: &Pages,
    (identity, token): (Identity, Digest),
    next: &str,
    headers: &HeaderMap,
    uri: &http::Uri,
    extensions: &Extensions,
) -> Response {
    let store = &pages.state.store;
    let begun = async {
        let entry = Entry {
            identity: &identity,
            client: client(extensions).unwrap_or_default(),
            action: "POST /login".to_owned(),
            what: "/login".to_owned(),
            status: StatusCode::SEE_OTHER.as_u16(),
            people: Vec::new(),
        };
        access::record(store, &entry).await?;
        access::begin_session(store, token, event::now()).await
    };
    match begun.await {
        Ok(cookie) => with_cookie(Redirect::to(next), headers, &cookie.text, LONGEST.as_secs()),
        Err(error) => pages.problem(headers, uri, None, Refusal::Store(error).into_response()).await,
    }
}

fn client(extensions: &Extensions) -> Option<String> {
    extensions.get::<Peer>().map(|peer| peer.address().ip().to_string())
}

/// Ends the session.
pub(super) async fn log_out(
    State(pages): State<Pages>,
    axum::Extension(visit): axum::Extension<Visit>,
    headers: HeaderMap,
    uri: http::Uri,
    body: Bytes,
) -> Response {
    if form(&headers, Some(&visit), &body).is_none() {
        return pages.stale(&headers, &uri, visit);
    }
    if let Some((digest, _)) = session(&headers)
        && let Err(error) = access::end_session(&pages.state.store, digest).await
    {
        return pages.problem(&headers, &uri, Some(visit), Refusal::Store(error).into_response()).await;
    }
    with_cookie(Redirect::to("/login"), &headers, "", 0)
}

/// Whether a host, with or without a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name == "[::1]" || name.starts_with("127.")
}

/// An answer that sets the cookie. Only to a loopback host it may go without TLS.
fn with_cookie(answer: Redirect, headers: &HeaderMap, value: &str, seconds: u64) -> Response {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let secure = if is_loopback(host) { "" } else { "; Secure" };
    let cookie =
        format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let mut response = answer.into_response();
    let cookie = HeaderValue::from_str(&cookie).expect("a cookie of hexadecimal digits is a header");
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_log_in_leads_nowhere_else() {
        for (next, path) in [
            (Some("/events?state=dead"), "/events?state=dead"),
            (Some("//evil.example"), "/"),
            (Some("/\\evil.example"), "/"),
            (Some("https://evil.example"), "/"),
            (Some("/a\r\nx: y"), "/"),
            (None, "/"),
        ] {
            assert_eq!(next_path(next), path, "{next:?}");
        }
    }

    #[test]
    fn only_a_page_of_the_same_origin_sends_forms() {
        for (given, is_taken) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("origin", "http://127.0.0.1:8081"), ("host", "127.0.0.1:8081")], true),
            (&[("origin", "http://evil.example"), ("host", "127.0.0.1:8081")], false),
            (&[("origin", "null"), ("host", "127.0.0.1:8081")], false),
            (&[], true),
        ] {
            assert_eq!(is_own(&headers(given)), is_taken, "{given:?}");
        }
    }

    #[test]
    fn a_form_needs_the_token_of_its_session() {
        let visit = Visit { identity: Identity::installation(), form_token: form_token("one"), peer: None };
        let sent = |body: &str| form(&HeaderMap::new(), Some(&visit), body.as_bytes());
        assert_eq!(sent("reason=x"), None);
        assert_eq!(sent(&format!("form_token={}", form_token("two"))), None);
        let fields = sent(&format!("reason=x&form_token={}", form_token("one")));
        assert_eq!(fields, Some(vec![("reason".to_owned(), "x".to_owned())]));
    }

    #[test]
    fn the_cookie_goes_over_tls_but_to_this_machine() {
        let cookie = |host: &str| {
            let response = with_cookie(Redirect::to("/"), &headers(&[("host", host)]), "x", 5);
            response.headers()[SET_COOKIE].to_str().unwrap().to_owned()
        };
        assert_eq!(
            cookie("127.0.0.1:8081"),
            "malote_session=x; Path=/; HttpOnly; SameSite=Strict; Max-Age=5"
        );
        assert!(cookie("malote.example.com").ends_with("; Secure"));
        assert!(cookie("localhost.example.com").ends_with("; Secure"));
    }
}
