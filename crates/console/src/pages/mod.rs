//! The console in a browser.
//!
//! Place in the flow: a client of the API in the same process. The page of a list or a row has the path that it has in the API,
//! without `/api/v1`, and is made from the API's answer: roles, filters, the audit and errors are the API's. Pages work without
//! scripts, and nothing is loaded from elsewhere. Who is logged in has a cookie; see [`session`].

mod actions;
mod chart;
mod edit_page;
mod event_page;
mod facets;
mod group;
mod job;
mod live;
mod map;
mod overview;
pub(crate) mod personal;
mod provider_login;
mod receipt_page;
mod reconcile_page;
mod rows;
pub(crate) mod search;
mod session;
mod shell;
mod source_page;
mod subscription_page;
pub(crate) mod text;

use access::Role;
use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, MatchedPath, RawQuery, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Collected};
use ledger::{DEAD, EVENTS};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tower_service::Service;
use view::{Described, List, View};

use self::actions::Action;
use self::facets::{FacetsPart, Suggestions};
use self::group::Group;
use self::live::Followed;
use self::map::RouteMap;
use self::personal::Personal;
use self::rows::{Fields, Part, Rows};
use self::session::{Turnstile, cookie};
use self::shell::{Shell, Visit, page, title};
use self::text::Lang;
use crate::refusal::Refusal;
use crate::{ConsoleState, OTHER_VIEWS, ROUTES, RouteRow};

/// Rows with a page of their own, besides events.
const ITEMS: [&str; 7] = ["dead", "rejected", "jobs", "subscriptions", "attempts", "tokens", "documents"];

/// What of a query is no filter.
const PAGING: [&str; 2] = ["limit", "cursor"];

/// In which forms a list can be had whole.
const FORMATS: [&str; 2] = ["csv", "ndjson"];

/// What keeps a page from loading or running anything else, and from being framed.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; object-src 'none'; base-uri 'none'";

/// For a form that no page of this session has sent.
const STALE: &str = "The page was open for too long, or came from elsewhere. Load it again.";

/// What the pages are made of.
#[derive(Clone)]
pub(crate) struct Pages {
    state: ConsoleState,
    api: Router,
    turnstile: Turnstile,
    followed: Followed,
}

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    shell: Shell,
    about: &'static str,
    empty: &'static str,
    fields: Vec<FilterField>,
    is_filtered: bool,
    /// What is filled in, after a colon.
    filtered_by: String,
    /// The row of which these are the parts.
    subject: Option<Rows>,
    /// Of dead letters of one group, that group.
    group: Option<Group>,
    rows: Rows,
    personal: Option<Personal>,
    next: Option<String>,
    actions: Vec<Action>,
    /// What can be added to it.
    additions: Vec<Action>,
    links: Vec<(String, String)>,
    /// Where the whole list is, in each form.
    exports: Vec<(&'static str, String)>,
    /// Where it is told that there is more, if this is the top of such a list.
    live: Option<String>,
    /// The routes, drawn.
    map: Option<RouteMap>,
    /// How many rows have which values.
    facets: Option<FacetsPart>,
}

/// A field of a filter's form.
struct FilterField {
    name: String,
    about: String,
    value: String,
    words: Vec<String>,
    /// Values that are on record, of which others may be filled in, too.
    suggested: Vec<String>,
    is_time: bool,
}

#[derive(Template)]
#[template(path = "item.html")]
struct ItemPage {
    shell: Shell,
    actions: Vec<Action>,
    /// Further pages about the row: text and address.
    links: Vec<(String, String)>,
    personal: Option<Personal>,
    parts: Vec<Part>,
    progress: Option<Progress>,
    /// Of a job, the outcome of what it sent.
    outcome: Option<String>,
}

/// How far a job is.
struct Progress {
    done: u64,
    total: u64,
    is_running: bool,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    shell: Shell,
    next: String,
    /// Why the last log-in failed.
    trouble: Option<&'static str>,
    /// Where somebody logs in at a provider, if there is one.
    provider: Option<String>,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem {
    shell: Shell,
    detail: String,
    /// What to do about it.
    advice: &'static str,
}

impl Problem {
    fn new(shell: Shell, detail: &str, status: StatusCode) -> Self {
        Self { detail: shell.t(detail).to_owned(), advice: advice(status), shell }
    }
}

/// What to do about an answer with this status.
pub(crate) fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => {
            "Ask an administrator for a token with that role, or log in with another one."
        }
        StatusCode::NOT_FOUND => {
            "Look for it with the field above, or in its list. What is older than the time for which it is kept was deleted."
        }
        StatusCode::BAD_REQUEST | StatusCode::CONFLICT => {
            "Go back, change what was asked for, and try again."
        }
        _ => "Load the page again in a moment. If that does not help, `malote doctor` says what to do.",
    }
}

/// The pages; `api` is what they ask.
pub(crate) fn router(state: ConsoleState, api: Router) -> Router {
    let exported =
        state.views.iter().flat_map(|view| FORMATS.map(|format| format!("/{}.{format}", view.name)));
    let exports = exported.fold(Router::new(), |router, path| router.route(&path, get(export)));
    let names = state.views.iter().map(|view| view.name).chain(OTHER_VIEWS.map(|view| view.name));
    let lists = names.fold(exports, |router, name| router.route(&format!("/{name}"), get(list)));
    let pages = Pages { state, api, turnstile: Turnstile::default(), followed: Followed::default() };
    let closed = ITEMS
        .into_iter()
        .fold(lists, |router, list| router.route(&format!("/{list}/{{id}}"), get(item)))
        .route("/", get(overview::show))
        .route("/dead/{id}/{consumer}/edit", get(edit_page::show).post(edit_page::send))
        .route("/dead/groups/{group}", get(group::show).post(group::note))
        .route("/events/{id}", get(event_page::show))
        .route("/sources/{name}", get(source_page::show))
        .route("/events/{id}/body", get(body))
        .route("/documents/{id}/body", get(body))
        .route("/events/{id}/receipt", get(receipt_page::show))
        .route("/events/{id}/receipt.txt", get(receipt_page::show))
        .route("/rejected/{id}/receipt", get(receipt_page::show))
        .route("/rejected/{id}/receipt.txt", get(receipt_page::show))
        .route("/events/live", get(live::follow))
        .route("/forms/subscriptions", get(subscription_page::new).post(subscription_page::send))
        .route("/forms/subscriptions/{name}", get(subscription_page::edit).post(subscription_page::send))
        .route("/reconciliation", get(reconcile_page::show))
        .route("/search", get(search::search))
        .route("/logout", get(async || Redirect::to("/")).post(session::log_out))
        .route("/actions/{*path}", get(actions::reopened).post(actions::act))
        .layer(from_fn_with_state(pages.clone(), session::require));
    let open = Router::new()
        .route("/login", get(session::login).post(session::log_in))
        .route("/language", get(language))
        .route(shell::STYLES.path(), get(shell::styles))
        .route(shell::SCRIPT.path(), get(shell::script))
        .route(shell::FAVICON.path(), get(shell::favicon))
        .route("/login/oidc", get(provider_login::leave))
        .route(provider_login::CALLBACK, get(provider_login::come_back))
        .route("/{*path}", any(unknown));
    closed.merge(open).with_state(pages).layer(from_fn(compressed)).layer(from_fn(protected))
}

/// Adds what a browser has to keep to.
async fn protected(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // A body that somebody else wrote has a stricter one.
    headers.entry("content-security-policy").or_insert(HeaderValue::from_static(POLICY));
    headers.insert("referrer-policy", HeaderValue::from_static("same-origin"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Compresses pages for those who take that. They hold the token of forms beside what an address has in it, whose length would
/// give it away to another site that can send requests with the cookie (BREACH): the cookie is not sent with those.
async fn compressed(request: Request, next: Next) -> Response {
    let is_taken = shell::takes_gzip(request.headers());
    let response = next.run(request).await;
    let is_text =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !is_taken || !is_text {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = body.collect().await.map(Collected::to_bytes) else { return broken() };
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(shell::gzip(&bytes, shell::FAST)))
}

/// What is nowhere: a page for a browser, and for other clients the answer of the API.
async fn unknown(State(pages): State<Pages>, request: Request) -> Response {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if request.uri().path().starts_with("/api/") || !accept.contains("text/html") {
        let Ok(answer) = pages.api.clone().call(request).await;
        return answer;
    }
    let (parts, _) = request.into_parts();
    match session::visit(&pages.state, &parts.headers).await {
        Ok(visit) => {
            let shell = pages.shell(&parts.headers, &parts.uri, visit, "There is no such page");
            let status = StatusCode::NOT_FOUND;
            page(status, &Problem::new(shell, "No page has this address.", status))
        }
        Err(refusal) => pages.problem(&parts.headers, &parts.uri, None, refusal.into_response()).await,
    }
}

/// An address with a query.
fn link<'a, V: AsRef<str>>(path: &str, pairs: impl IntoIterator<Item = (&'a str, V)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name, value.as_ref().to_owned())).collect();
    let query = serde_urlencoded::to_string(pairs).expect("pairs of text are a query");
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The pairs of a query, without those that a form sends although nobody filled them in.
fn given(query: Option<String>) -> Vec<(String, String)> {
    let mut pairs = pairs(query);
    pairs.retain(|(_, value)| !value.is_empty());
    pairs
}

/// The pairs of a query; none if it cannot be read.
fn pairs(query: Option<String>) -> Vec<(String, String)> {
    serde_urlencoded::from_str(&query.unwrap_or_default()).unwrap_or_default()
}

/// Pairs as [`link`] takes them.
fn borrowed(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> + Clone {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// Asks the API as somebody. Errors are answers, too.
async fn ask(pages: &Pages, visit: &Visit, method: Method, path: &str, body: Body) -> Response {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    let Ok(uri) = format!("/api/v1{path}").parse() else { return StatusCode::NOT_FOUND.into_response() };
    *request.uri_mut() = uri;
    request.extensions_mut().insert(visit.identity.clone());
    if let Some(peer) = &visit.peer {
        request.extensions_mut().insert(peer.clone());
    }
    let Ok(response) = pages.api.clone().call(request).await;
    response
}

/// What the API answers to a question, or the answer that is no success.
async fn read<T: serde::de::DeserializeOwned>(
    pages: &Pages,
    visit: &Visit,
    path: &str,
) -> Result<T, Response> {
    let response = ask(pages, visit, Method::GET, path, Body::empty()).await;
    if response.status() != StatusCode::OK {
        return Err(response);
    }
    json(response).await.ok_or_else(broken)
}

/// For an answer of the API that no page can be made of.
fn broken() -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// The JSON of an answer, if it is such.
async fn json<T: serde::de::DeserializeOwned>(response: Response) -> Option<T> {
    let bytes = response.into_body().collect().await.ok()?.to_bytes();
    serde_json::from_slice(&bytes).ok()
}

impl Pages {
    fn shell(&self, headers: &HeaderMap, uri: &Uri, visit: Option<Visit>, english: &str) -> Shell {
        let chosen = cookie(headers, "malote_language").and_then(Lang::named);
        let wanted = || headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).map(Lang::wanted);
        let lang = chosen.or_else(wanted).unwrap_or(Lang::English);
        Shell {
            lang,
            title: title(lang.text(english)),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            visit,
            views: self.state.views.clone(),
        }
    }

    /// The page of an answer that is no success: problem details of the API.
    async fn problem(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        visit: Option<Visit>,
        answer: Response,
    ) -> Response {
        let (status, title, detail) = self.trouble(answer).await;
        let shell = self.shell(headers, uri, visit, &title);
        page(status, &Problem { detail: shell.lang.message(&detail), advice: advice(status), shell })
    }

    /// What an answer says that is no success: its status, its title, its detail.
    async fn trouble(&self, answer: Response) -> (StatusCode, String, String) {
        let answer = crate::refusal::complete(answer, &self.state);
        let status = answer.status();
        let problem: Map<String, Value> = json(answer).await.unwrap_or_default();
        let text = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
        let title = text("title").unwrap_or_else(|| status.canonical_reason().unwrap_or("Error").to_owned());
        let detail = text("detail").unwrap_or_else(|| title.clone());
        (status, title, detail)
    }

    /// The page for a form that is not taken.
    fn stale(&self, headers: &HeaderMap, uri: &Uri, visit: Option<Visit>) -> Response {
        let shell = self.shell(headers, uri, visit, "Forbidden");
        page(StatusCode::FORBIDDEN, &Problem::new(shell, STALE, StatusCode::CONFLICT))
    }

    fn view(&self, name: &str) -> Option<&'static View> {
        self.state.views.iter().copied().find(|view| view.name == name)
    }

    /// A filter of a list with its points in time as the API takes them: `yesterday`, `2h` and the like are for people.
    fn with_times(
        &self,
        view: &View<impl AsRef<Described>>,
        mut given: Vec<(String, String)>,
    ) -> Vec<(String, String)> {
        let fields = view.fields();
        let is_time =
            |name: &str| fields.iter().any(|field| field.name == name && field.kind == view::Kind::Time);
        for (_, value) in given.iter_mut().filter(|(name, _)| is_time(name)) {
            if let Ok(moment) = value.parse::<view::Moment>() {
                *value = moment.time(&self.state.zone, &self.state.zone).to_string();
            }
        }
        given
    }

    /// A list of the overview.
    async fn listed(&self, shell: &Shell, visit: &Visit, name: &str, path: &str) -> Option<Rows> {
        let view = self.view(name)?;
        let List { items, .. } = read::<List<Box<RawValue>>>(self, visit, path).await.ok()?;
        Rows::from_list(shell, view, title(shell.t(view.rows)), &items, &[]).ok()
    }
}

async fn list(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    route: MatchedPath,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let name = route.as_str().trim_start_matches('/');
    let given = given(query);
    match (pages.view(name), OTHER_VIEWS.into_iter().find(|view| view.name == name)) {
        (Some(view), _) => list_of(&pages, view, visit, &headers, &uri, &given).await,
        (None, Some(view)) => list_of(&pages, view, visit, &headers, &uri, &given).await,
        (None, None) => pages.problem(&headers, &uri, Some(visit), Refusal::NoSuchPath.into_response()).await,
    }
}

async fn list_of(
    pages: &Pages,
    view: &View<impl AsRef<Described>>,
    visit: Visit,
    headers: &HeaderMap,
    uri: &Uri,
    given: &[(String, String)],
) -> Response {
    let suggested = facets::suggestions(&pages.state, view).await;
    let fields: Vec<_> =
        view.fields().into_iter().map(|field| FilterField::new(field, given, &suggested)).collect();
    let (given, is_revealed) = personal::split(pages.with_times(view, given.to_vec()));
    let given = given.as_slice();
    let path = personal::asking(&link(uri.path(), borrowed(given)), is_revealed);
    let shell = pages.shell(headers, uri, Some(visit.clone()), view.rows);
    let List { items, next } = match read::<List<Box<RawValue>>>(pages, &visit, &path).await {
        Ok(list) => list,
        Err(answer) => return pages.problem(headers, uri, Some(visit), answer).await,
    };
    let filter: Vec<_> = given.iter().filter(|(name, _)| !PAGING.contains(&name.as_str())).cloned().collect();
    let Ok(rows) = Rows::from_list(&shell, view, shell.title.clone(), &items, &filter) else {
        return pages.problem(headers, uri, Some(visit), broken()).await;
    };
    let routes: Vec<RouteRow> = match view.name == ROUTES.name {
        true => items.iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect(),
        false => Vec::new(),
    };
    let is_renewal = headers.contains_key(session::RENEWAL);
    let facets = match view.name == EVENTS.name && filter.len() == given.len() && !is_renewal {
        true => facets::counted(pages, &shell, &visit, &filter).await,
        false => None,
    };
    let next = next.map(|next| {
        let kept = given.iter().filter(|(name, _)| name != "cursor").cloned();
        let pairs: Vec<_> = kept.chain([("cursor".to_owned(), next)]).collect();
        personal::asking(&link(uri.path(), borrowed(&pairs)), is_revealed)
    });
    let subject = match view.name.strip_suffix("/history") {
        Some(book) if !filter.is_empty() => {
            pages.listed(&shell, &visit, book, &link(&format!("/{book}"), borrowed(&filter))).await
        }
        _ => None,
    };
    let group = match view.name == DEAD.name {
        true => Group::find(pages, &visit, &shell, &filter).await,
        false => None,
    };
    let has_views = pages.view(view.name).is_some();
    let made = ListPage {
        about: view.about,
        empty: view.empty,
        // Of what is declared, the list itself says what an empty answer means.
        is_filtered: !filter.is_empty() && has_views,
        actions: actions::offered_for_all(view.name, &filter, &visit),
        additions: actions::offered_to_add(view.name, &visit),
        links: actions::beside_list(&shell, view.name, &visit),
        personal: (!view.personal().is_empty())
            .then(|| Personal::new(&visit, uri.path(), given, is_revealed)),
        subject,
        group,
        exports: FORMATS
            .into_iter()
            .filter(|_| has_views)
            .map(|format| (format, link(&format!("{}.{format}", uri.path()), borrowed(&filter))))
            .collect(),
        live: (view.name == EVENTS.name && filter.len() == given.len())
            .then(|| link("/events/live", borrowed(&filter))),
        filtered_by: filled_in(&shell, &filter),
        map: RouteMap::new(&shell, &routes),
        facets,
        shell,
        fields,
        rows,
        next,
    };
    page(StatusCode::OK, &made)
}

/// What of a filter is filled in, for those who see no form: after a colon, each field with its value.
fn filled_in(shell: &Shell, filter: &[(String, String)]) -> String {
    let pairs: Vec<_> = filter.iter().map(|(name, value)| format!("{} {value}", shell.name(name))).collect();
    if pairs.is_empty() { String::new() } else { format!(": {}", pairs.join(", ")) }
}

/// A list whole, as a file.
async fn export(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let (list, format) = uri.path().rsplit_once('.').unwrap_or_default();
    let given = match pages.view(list.trim_start_matches('/')) {
        Some(view) => pages.with_times(view, given(query)),
        None => given(query),
    };
    let path = link(list, borrowed(&given).chain([("format", format)]));
    let answer = ask(&pages, &visit, Method::GET, &path, Body::empty()).await;
    if answer.status().is_success() {
        answer
    } else {
        pages.problem(&headers, &uri, Some(visit), answer).await
    }
}

/// A body as it was received, to be saved.
async fn body(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let path = uri.path_and_query().map_or(uri.path(), http::uri::PathAndQuery::as_str);
    let answer = ask(&pages, &visit, Method::GET, path, Body::empty()).await;
    if answer.status().is_success() {
        answer
    } else {
        pages.problem(&headers, &uri, Some(visit), answer).await
    }
}

impl FilterField {
    fn new(field: view::Field, given: &[(String, String)], suggested: &Suggestions) -> Self {
        let value = session::field(given, &field.name).map(str::to_owned);
        let is_time = field.kind == view::Kind::Time;
        let words = if let view::Kind::Word(words) = field.kind { words } else { Vec::new() };
        let suggested = suggested.get(field.name.as_str()).cloned().unwrap_or_default();
        let value = value.unwrap_or_default();
        Self { name: field.name, about: field.about, value, words, suggested, is_time }
    }
}

async fn item(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let (list, id) = uri.path().trim_start_matches('/').split_once('/').unwrap_or_default();
    let (_, is_revealed) = personal::split(given(query));
    let answer: Box<RawValue> = match read(&pages, &visit, &personal::asking(uri.path(), is_revealed)).await {
        Ok(answer) => answer,
        Err(answer) => return pages.problem(&headers, &uri, Some(visit), answer).await,
    };
    // What one event has several of is a list of rows.
    let several = serde_json::from_str::<List<Fields>>(answer.get()).map(|List { items, .. }| items);
    let rows = several.or_else(|_| serde_json::from_str(answer.get()).map(|row| vec![row]));
    let rows: Vec<Fields> = rows.unwrap_or_default();
    let name = pages.view(list).map_or(list, |view| view.row);
    let state = rows.first().and_then(|row| row.get("state")?.as_str()).unwrap_or_default();
    let mut actions = actions::offered(list, id, rows.first(), &visit);
    if list == "jobs" && state == "done" {
        actions.extend(rows.first().map(|job| job::further(job, &visit)).unwrap_or_default());
    }
    let is_masked = rows.iter().any(|row| row.get("masked") == Some(&Value::Bool(true)));
    let personal = (is_revealed || is_masked).then(|| Personal::new(&visit, uri.path(), &[], is_revealed));
    let mut shell = pages.shell(&headers, &uri, Some(visit.clone()), name);
    shell.title = format!("{} {id}", shell.title);
    let number = |name: &str| rows.first()?.get(name)?.as_u64();
    let is_running = list == "jobs" && matches!(state, "waiting" | "running");
    let progress = number("progress").zip(number("total"));
    let progress = progress.map(|(done, total)| Progress { done, total: total.max(done), is_running });
    let outcome = match list {
        "jobs" => job::outcome(&pages, &visit, &shell, id, rows.first()).await,
        _ => None,
    };
    let mut parts: Vec<_> = rows.iter().flat_map(|row| rows::parts(&shell, row)).collect();
    if let Some(job) = rows.first().filter(|_| list == "jobs") {
        parts.extend(reconcile_page::parts(&pages, &visit, &shell, job).await);
    }
    let mut links = actions::beside_row(&shell, list, id);
    if list == "dead" {
        links.extend(edit_page::links(&shell, id, &rows));
    }
    if let Some(row) = rows.first() {
        links.extend(own_links(&shell, &visit, list, id, row));
    }
    page(StatusCode::OK, &ItemPage { shell, actions, links, personal, parts, progress, outcome })
}

/// What belongs to a row and has an address of its own.
fn own_links(shell: &Shell, visit: &Visit, list: &str, id: &str, row: &Fields) -> Vec<(String, String)> {
    let may_see = visit.identity.role >= Role::Operator;
    match list {
        "dead" | "attempts" => vec![(title(shell.t("event")), format!("/events/{id}"))],
        "rejected" => {
            let has_receipt = row.get("receipt").is_some_and(Value::is_object);
            let receipt = has_receipt.then(|| event_page::receipt_link(shell, &format!("/rejected/{id}")));
            let body =
                may_see.then(|| (shell.t("Download the body").to_owned(), format!("/events/{id}/body")));
            receipt.into_iter().chain(body).collect()
        }
        "documents" if may_see => {
            let versions = row.get("versions").and_then(Value::as_array).into_iter().flatten();
            let version = |version: &Value| {
                let number = version["version"].as_i64()?;
                let href = format!("/documents/{id}/body?version={number}");
                Some((shell.filled("Content of version {}", &[&number]), href))
            };
            versions.filter_map(version).collect()
        }
        _ => Vec::new(),
    }
}

/// Chooses the language, and leads back.
async fn language(RawQuery(query): RawQuery) -> Response {
    let pairs = pairs(query);
    let field = |name: &str| pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    let lang = field("to").and_then(Lang::named).unwrap_or(Lang::English);
    let mut response = Redirect::to(&session::next_path(field("back"))).into_response();
    let cookie = format!("malote_language={}; Path=/; SameSite=Strict; Max-Age=31536000", lang.code());
    response.headers_mut().insert(
        http::header::SET_COOKIE,
        HeaderValue::from_str(&cookie).expect("a language's tag is plain text"),
    );
    response
}
