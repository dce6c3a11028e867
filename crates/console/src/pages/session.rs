//! Logging in: a cookie stands for a token. Forms carry a token of the session, and come from pages of this origin only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use access::{Digest, Entry, Fresh, Holder, Identity, LONGEST, SESSION_PREFIX};
use axum::body::Bytes;
use axum::extract::{FromRequest, RawQuery, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use event::Chain;
use http::header::{ACCEPT, COOKIE, HOST, ORIGIN, RETRY_AFTER, SET_COOKIE};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use server::Peer;
use store::StoreError;

use super::shell::Visit;
use super::{Login, Pages, page};
use crate::ConsoleState;
use crate::refusal::Refusal;
use crate::token;

const COOKIE_NAME: &str = "malote_session";

/// On requests that the script of a page sends by itself.
pub(super) const RENEWAL: &str = "malote-renewal";

/// How soon after a wrong token the same client may try the next one; twice as long after each further one, up to 13 s. Tokens are
/// too long to be guessed, and wrong ones cost a look into the database and an entry of the audit.
const PAUSE: Duration = Duration::from_millis(200);

/// The most times that the pause is doubled.
const MOST_DOUBLINGS: u32 = 6;

/// How long wrong tokens of a client count.
const REMEMBERED: Duration = Duration::from_secs(600);

/// So many clients are kept apart. More than that are an attack, and the oldest are forgotten.
const MOST_CLIENTS: usize = 10_000;

/// When each client may try the next log-in. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Turnstile(Arc<Mutex<HashMap<Option<IpAddr>, Failures>>>);

/// Wrong tokens of a client.
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn until(&self) -> Instant {
        self.last + PAUSE * 2_u32.pow(self.count.saturating_sub(1).min(MOST_DOUBLINGS))
    }
}

impl Turnstile {
    pub(super) fn is_open(&self, client: Option<IpAddr>) -> bool {
        let clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(&client.map(network)).is_none_or(|failures| Instant::now() >= failures.until())
    }

    pub(super) fn close(&self, client: Option<IpAddr>) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        clients.retain(|_, failures| now < failures.last + REMEMBERED);
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        let failures = clients.entry(client.map(network)).or_insert(Failures { count: 0, last: now });
        *failures = Failures { count: failures.count + 1, last: now };
    }
}

/// What one client has for itself: an address, or the network of an IPv6 address.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
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
pub(super) async fn visit(state: &ConsoleState, headers: &HeaderMap) -> Result<Option<Visit>, Refusal> {
    let Some((digest, text)) = session(headers) else { return Ok(None) };
    let now = event::now();
    let found = access::session(&mut *state.store.read().await?, digest, now).await?;
    let Some((holder, is_noted)) = found else { return Ok(None) };
    let identity = match holder {
        Holder::User(user) => Some(user),
        Holder::Token(token) if token == state.token.digest() => Some(Identity::installation()),
        Holder::Token(token) => {
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

/// The fields of a form that a page of this session sent. Any other request is answered with a page that says so.
pub(super) struct Sent(pub(super) Vec<(String, String)>);

impl FromRequest<Pages> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, pages: &Pages) -> Result<Self, Response> {
        let (headers, uri) = (request.headers().clone(), request.uri().clone());
        let visit = request.extensions().get::<Visit>().cloned();
        let body = Bytes::from_request(request, pages).await.map_err(IntoResponse::into_response)?;
        let fields = visit.as_ref().and_then(|visit| form(&headers, Some(visit), &body));
        fields.map(Self).ok_or_else(|| pages.stale(&headers, &uri, visit))
    }
}

/// The value of a field, the last of its name.
pub(super) fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().rfind(|(other, _)| other == name).map(|(_, value)| value.as_str())
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
    let next = next_path(field(&pairs, "next"));
    let client = client(&extensions);
    if let Some(code) = field(&pairs, "once").filter(|_| pages.turnstile.is_open(client)) {
        if pages.state.token.use_login_code(code) {
            let holder = Holder::Token(pages.state.token.digest());
            return redirected(&pages, (Identity::installation(), holder), &next, &headers, &uri, client)
                .await;
        }
        failed(&pages, client, ("GET", "/login"), StatusCode::UNAUTHORIZED).await;
    }
    log_in_page(&pages, &headers, &uri, &next, StatusCode::OK, None)
}

/// The form to log in with, and why it failed last.
pub(super) fn log_in_page(
    pages: &Pages,
    headers: &HeaderMap,
    uri: &http::Uri,
    next: &str,
    status: StatusCode,
    trouble: Option<&'static str>,
) -> Response {
    let shell = pages.shell(headers, uri, None, "Log in");
    let provider = pages.state.oidc.as_ref().map(|_| super::link("/login/oidc", [("next", next)]));
    let mut response = page(status, &Login { next: next.to_owned(), trouble, provider, shell });
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("13"));
    }
    response
}

/// For a client that has to wait.
pub(super) const TOO_MANY: &str =
    "Too many log-ins from your address have failed. Wait a few seconds, then try again.";

const WRONG: &str = "This token opens nothing: it is not known, was removed, or has expired.";

/// Logs in with a token.
pub(super) async fn log_in(
    State(pages): State<Pages>,
    headers: HeaderMap,
    uri: http::Uri,
    extensions: Extensions,
    body: Bytes,
) -> Response {
    let answer =
        |next: &str, status, trouble| log_in_page(&pages, &headers, &uri, next, status, Some(trouble));
    let Some(fields) = form(&headers, None, &body) else {
        return answer("/", StatusCode::FORBIDDEN, super::STALE);
    };
    let (next, client) = (next_path(field(&fields, "next")), client(&extensions));
    if !pages.turnstile.is_open(client) {
        return answer(&next, StatusCode::TOO_MANY_REQUESTS, TOO_MANY);
    }
    let presented = field(&fields, "token").unwrap_or_default().trim();
    match token::identify(&pages.state, Some(presented.as_bytes())).await {
        Ok(identity) => {
            let holder = Holder::Token(Digest::new(presented.as_bytes()));
            redirected(&pages, (identity, holder), &next, &headers, &uri, client).await
        }
        Err(Refusal::Unauthorized) => {
            failed(&pages, client, ("POST", "/login"), StatusCode::UNAUTHORIZED).await;
            answer(&next, StatusCode::UNAUTHORIZED, WRONG)
        }
        Err(refusal) => pages.problem(&headers, &uri, None, refusal.into_response()).await,
    }
}

/// Writes down a log-in that failed. Its client waits before the next one.
pub(super) async fn failed(pages: &Pages, client: Option<IpAddr>, action: (&str, &str), status: StatusCode) {
    pages.turnstile.close(client);
    token::wait_for_tables(&pages.state).await;
    if let Err(error) = noted(pages, &Identity::stranger(), client, action, status).await {
        tracing::error!(?client, error = %Chain(&error), "the audit misses a log-in that failed");
    }
}

/// Writes down a log-in or a log-out.
async fn noted(
    pages: &Pages,
    identity: &Identity,
    client: Option<IpAddr>,
    (method, path): (&str, &str),
    status: StatusCode,
) -> Result<(), StoreError> {
    let entry = Entry {
        identity,
        client: client.map(|client| client.to_string()).unwrap_or_default(),
        action: format!("{method} {path}"),
        what: path.to_owned(),
        status: status.as_u16(),
        people: Vec::new(),
    };
    access::record(&pages.state.store, &entry).await
}

/// Begins a session of somebody, and leads to a path.
async fn redirected(
    pages: &Pages,
    somebody: (Identity, Holder),
    next: &str,
    headers: &HeaderMap,
    uri: &http::Uri,
    client: Option<IpAddr>,
) -> Response {
    match begin(pages, somebody, client).await {
        Ok(cookie) => {
            with_cookie(Redirect::to(next).into_response(), headers, &cookie.text, LONGEST.as_secs())
        }
        Err(error) => pages.problem(headers, uri, None, Refusal::Store(error).into_response()).await,
    }
}

/// Begins a session, if the audit has it.
pub(super) async fn begin(
    pages: &Pages,
    (identity, holder): (Identity, Holder),
    client: Option<IpAddr>,
) -> Result<Fresh, StoreError> {
    noted(pages, &identity, client, ("POST", "/login"), StatusCode::SEE_OTHER).await?;
    let (now, client) = (event::now(), client.map(|client| client.to_string()).unwrap_or_default());
    access::note_login(&pages.state.store, &identity, access::Login::from(&holder), &client, now).await?;
    access::begin_session(&pages.state.store, &holder, now).await
}

pub(super) fn client(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Peer>().map(|peer| peer.address().ip())
}

/// Ends the session.
pub(super) async fn log_out(
    State(pages): State<Pages>,
    axum::Extension(visit): axum::Extension<Visit>,
    headers: HeaderMap,
    uri: http::Uri,
    Sent(_): Sent,
) -> Response {
    let ended = async {
        if let Some((digest, _)) = session(&headers) {
            access::end_session(&pages.state.store, digest).await?;
        }
        let client = visit.peer.as_ref().map(|peer| peer.address().ip());
        noted(&pages, &visit.identity, client, ("POST", "/logout"), StatusCode::SEE_OTHER).await
    };
    if let Err(error) = ended.await {
        return pages.problem(&headers, &uri, Some(visit), Refusal::Store(error).into_response()).await;
    }
    with_cookie(Redirect::to("/login").into_response(), &headers, "", 0)
}

/// Whether a host, with or without a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name == "[::1]" || name.starts_with("127.")
}

/// What a cookie ends with that goes over TLS only. To a loopback host it may go without.
pub(super) fn secure(headers: &HeaderMap) -> &'static str {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_loopback(host) { "" } else { "; Secure" }
}

/// An answer that sets the cookie.
pub(super) fn with_cookie(
    mut response: Response,
    headers: &HeaderMap,
    value: &str,
    seconds: u64,
) -> Response {
    let secure = secure(headers);
    let cookie =
        format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let cookie = HeaderValue::from_str(&cookie).expect("a cookie of hexadecimal digits is a header");
    response.headers_mut().append(SET_COOKIE, cookie);
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
    fn each_client_waits_for_its_own_failures_alone() {
        let turnstile = Turnstile::default();
        let client = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let until = |turnstile: &Turnstile| {
            let clients = turnstile.0.lock().unwrap();
            clients.values().map(|failures| failures.until() - failures.last).collect::<Vec<_>>()
        };
        turnstile.close(client("2001:db8::1"));
        assert!(!turnstile.is_open(client("2001:db8::2")), "one client has a whole network");
        assert!(turnstile.is_open(client("2001:db8:1::1")) && turnstile.is_open(client("192.0.2.1")));
        assert_eq!(until(&turnstile), [PAUSE]);
        (0..20).for_each(|_| turnstile.close(client("2001:db8::1")));
        assert_eq!(until(&turnstile), [PAUSE * 64]);
    }

    #[test]
    fn the_cookie_goes_over_tls_but_to_this_machine() {
        let cookie = |host: &str| {
            let response =
                with_cookie(Redirect::to("/").into_response(), &headers(&[("host", host)]), "x", 5);
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
