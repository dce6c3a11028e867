//! What can be done with a row: forms whose fields become the JSON of a request to the API.

use access::{Role, TOKENS, USERS};
use askama::Template;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use ledger::EVENTS;
use serde_json::{Map, Value};
use subscriptions::SUBSCRIPTIONS;

use super::rows::Fields;
use super::session::{self, Sent};
use super::shell::{Shell, Visit, page};
use super::{ITEMS, Pages, ask, borrowed, link};

/// A form.
pub(crate) struct Action {
    pub(crate) label: &'static str,
    pub(crate) path: String,
    pub(crate) form_token: String,
    pub(crate) hidden: Vec<(String, String)>,
    pub(crate) inputs: Vec<Input>,
}

/// A field to fill in.
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) is_required: bool,
    pub(crate) words: &'static [&'static str],
    /// As HTML names it.
    pub(crate) kind: &'static str,
    /// An example.
    pub(crate) hint: &'static str,
}

impl Input {
    const fn optional(name: &'static str, label: &'static str) -> Self {
        Self { name, label, is_required: false, words: &[], kind: "text", hint: "" }
    }

    const fn required(name: &'static str, label: &'static str) -> Self {
        Self { is_required: true, ..Self::optional(name, label) }
    }

    const fn one_of(name: &'static str, label: &'static str, words: &'static [&'static str]) -> Self {
        Self { words, ..Self::required(name, label) }
    }
}

const RATE: Input = Input::optional("rate", "Most in a second");

/// Fields that are numbers in JSON.
const NUMBERS: [&str; 9] =
    ["rate", "limit", "rate_per_s", "last", "keep_s", "timeout_ms", "concurrency", "batch_events", "version"];

/// Fields that are lists of words in JSON, in a form with commas or spaces between them.
const LISTS: [&str; 3] = ["topics", "headers", "retry"];

/// What a list without words is in a form: where nothing is filled in, nothing is asked for.
pub(super) const NO_WORDS: &str = "none";

/// The field with the method of a request, where it is not POST, which alone forms have.
const METHOD: &str = "form_method";

/// What of an answer nobody can read again.
const SECRETS: [&str; 3] = ["token", "secret", "password"];

/// What is shown with them.
const BESIDES: [&str; 2] = ["user", "queue"];

const REASON: Input = Input::required("reason", "Reason");

const DELIVER: Input = Input::one_of("deliver", "Deliver what waited", &["all", "none"]);

const SINCE: Input = Input { hint: TIME, ..Input::required("deliver", "Deliver what was received since") };

const TO: Input =
    Input { hint: "now, beginning, 2026-11-22T12:00:00Z", ..Input::required("to", "Go on from") };

const BACKFILL_RATE: Input = Input::optional("rate_per_s", "Again beside live events, most in a second");

const KEEP: Input = Input { hint: "86400", ..Input::optional("keep_s", "Seconds with both secrets") };

const DAY: Input = Input { hint: "2026-11-22", ..Input::required("filter.day", "Day") };

const SURE: Input = Input { kind: "checkbox", ..Input::required("form_sure", "Yes, remove it") };

const DISCARD: Input = Input::one_of("discard", "With the messages in its queue", &["false", "true"]);

const TOKEN: [Input; 3] = [
    Input { hint: "maria", ..Input::required("name", "Name") },
    Input::one_of("role", "Role", &["viewer", "operator", "admin"]),
    Input { hint: TIME, ..Input::optional("expires_at", "Expires") },
];

const TIME: &str = "2026-11-22T12:00:00Z";

/// What somebody may do with a row of a list.
pub(super) fn offered(list: &str, id: &str, row: Option<&Fields>, visit: &Visit) -> Vec<Action> {
    if visit.identity.role < Role::Operator {
        return Vec::new();
    }
    let field = |name: &str| row.and_then(|row| row.get(name));
    let state = field("state").and_then(Value::as_str).unwrap_or_default();
    let action = |label, path: String, hidden, inputs| Action {
        label,
        path: format!("/actions{path}"),
        form_token: visit.form_token.clone(),
        hidden,
        inputs,
    };
    let row_job = |label, action_name: &str, what: &str, inputs| {
        job(visit, label, (action_name, what), &[("id".to_owned(), id.to_owned())], inputs)
    };
    match list {
        "events" => vec![row_job("Replay", "replay", "events", Vec::new())],
        "dead" | "rejected" => {
            vec![
                row_job("Retry", "retry", list, Vec::new()),
                row_job("Discard", "discard", list, vec![REASON]),
            ]
        }
        "documents" => {
            let event = field("event_id").and_then(Value::as_str).unwrap_or_default();
            vec![job(
                visit,
                "Fetch again",
                ("fetch", "events"),
                &[("id".to_owned(), event.to_owned())],
                Vec::new(),
            )]
        }
        "jobs" if matches!(state, "waiting" | "running" | "paused") => {
            let (label, word) = if state == "paused" { ("Resume", "resume") } else { ("Pause", "pause") };
            let change = |label, word| action(label, format!("/jobs/{id}/{word}"), Vec::new(), Vec::new());
            // A reconciliation compares a moment: it is cancelled and begun again.
            let can_pause = field("action").and_then(Value::as_str) != Some("reconcile");
            let paused = can_pause.then(|| change(label, word));
            paused.into_iter().chain([change("Cancel the job", "cancel")]).collect()
        }
        "subscriptions" => row.map(|row| subscription_actions(id, row, visit)).unwrap_or_default(),
        "tokens" if visit.identity.role == Role::Admin => {
            vec![removal(visit, "Remove the token", format!("tokens/{id}"), vec![SURE])]
        }
        _ => Vec::new(),
    }
}

/// What somebody may do with a subscription.
fn subscription_actions(name: &str, row: &Fields, visit: &Visit) -> Vec<Action> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let (door, is_paused) = (text("door"), text("state") == "paused");
    let action =
        |label, action: &str, inputs| form(visit, label, format!("subscriptions/{name}/{action}"), inputs);
    let mut actions = match (door, is_paused) {
        ("queue", _) => Vec::new(),
        (_, true) => {
            vec![action("Resume", "resume", vec![DELIVER]), action("Resume since", "resume", vec![SINCE])]
        }
        (_, false) => vec![action("Pause", "pause", vec![REASON])],
    };
    match door {
        "push" => actions.push(action("Set the position", "seek", vec![TO, BACKFILL_RATE])),
        "pull" => actions.push(action("Set the position", "seek", vec![TO])),
        _ => {}
    }
    if row.get("undelivered").and_then(Value::as_i64).is_some_and(|undelivered| undelivered > 0) {
        let of_this = |label, path: &str, inputs| {
            let mut action = form(visit, label, path.to_owned(), inputs);
            action.hidden.push(("subscription".to_owned(), name.to_owned()));
            action
        };
        actions.extend([
            of_this("Send undelivered events again", "attempts/retry", Vec::new()),
            of_this("Discard undelivered events", "undelivered/discard", vec![REASON]),
        ]);
    }
    if visit.identity.role == Role::Admin {
        let (label, inputs) =
            if door == "push" { ("New secret", vec![KEEP]) } else { ("New token", Vec::new()) };
        actions.push(action(label, "rotate-secret", inputs));
        let inputs = if door == "queue" { vec![DISCARD, SURE] } else { vec![SURE] };
        actions.push(removal(visit, "Remove the subscription", format!("subscriptions/{name}"), inputs));
    }
    actions
}

/// Pages that belong to a list.
pub(super) fn beside_list(shell: &Shell, list: &str, visit: &Visit) -> Vec<(String, String)> {
    let mut links = Vec::new();
    if list == SUBSCRIPTIONS.name {
        links.push(("Report of pushes", "/attempts/report"));
        if visit.identity.role == Role::Admin {
            links.push(("Add a subscription", "/forms/subscriptions"));
        }
    }
    if list == TOKENS.name {
        links.push(("Users", "/users"));
    }
    if list == USERS.name {
        links.push(("Tokens", "/tokens"));
    }
    links.into_iter().map(|(text, href)| (shell.t(text).to_owned(), href.to_owned())).collect()
}

/// Pages that belong to a row.
pub(super) fn beside_row(shell: &Shell, list: &str, id: &str) -> Vec<(String, String)> {
    let mut links = Vec::new();
    if list == SUBSCRIPTIONS.name {
        let of_this = |path: &str| link(path, [("subscription", id)]);
        links.extend([
            ("Edit and try", format!("/forms/subscriptions/{id}")),
            ("Attempts", of_this("/attempts")),
            ("Undelivered events", of_this("/undelivered")),
            ("Report of pushes", of_this("/attempts/report")),
        ]);
    }
    links.into_iter().map(|(text, href)| (shell.t(text).to_owned(), href)).collect()
}

/// A form that posts to a path of the API.
fn form(visit: &Visit, label: &'static str, path: String, inputs: Vec<Input>) -> Action {
    Action {
        label,
        path: format!("/actions/{path}"),
        form_token: visit.form_token.clone(),
        hidden: Vec::new(),
        inputs,
    }
}

fn removal(visit: &Visit, label: &'static str, path: String, inputs: Vec<Input>) -> Action {
    let mut action = form(visit, label, path, inputs);
    action.hidden.push((METHOD.to_owned(), "delete".to_owned()));
    action
}

/// Daily reconciliation.
pub(super) fn reconciling(visit: &Visit) -> Vec<Action> {
    let yesterday = [("day".to_owned(), "yesterday".to_owned())];
    let action = |label, filter: &[(String, String)], inputs| {
        job(visit, label, ("reconcile", EVENTS.name), filter, inputs)
    };
    vec![action("Reconcile yesterday", &yesterday, Vec::new()), action("Reconcile", &[], vec![DAY])]
}

/// What somebody may add to a list.
pub(super) fn offered_to_add(list: &str, visit: &Visit) -> Vec<Action> {
    match list {
        "tokens" if visit.identity.role == Role::Admin => {
            vec![form(visit, "Add a token", "tokens".to_owned(), TOKEN.into())]
        }
        _ => Vec::new(),
    }
}

/// A form that asks for a job on the rows of a filter.
fn job(
    visit: &Visit,
    label: &'static str,
    (action, what): (&str, &str),
    filter: &[(String, String)],
    inputs: Vec<Input>,
) -> Action {
    let fixed = [("action", action), ("what", what)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let filter = filter.iter().map(|(name, value)| (format!("filter.{name}"), value.clone()));
    Action {
        label,
        path: "/actions/jobs".to_owned(),
        form_token: visit.form_token.clone(),
        hidden: fixed.into_iter().chain(filter).collect(),
        inputs,
    }
}

/// What somebody may do with all rows of a list that match a filter: first with one, then with ten, then with all. Without a filter
/// nothing is offered.
pub(super) fn offered_for_all(list: &str, filter: &[(String, String)], visit: &Visit) -> Vec<Action> {
    if visit.identity.role < Role::Operator || filter.is_empty() {
        return Vec::new();
    }
    let (name, labels) = match list {
        "events" => ("replay", ["Replay the oldest", "Replay the oldest 10", "Replay all that match"]),
        "dead" | "rejected" | "unrouted" => {
            ("retry", ["Retry the oldest", "Retry the oldest 10", "Retry all that match"])
        }
        _ => return Vec::new(),
    };
    let limited = |(label, limit): (&'static str, Option<&str>)| {
        let inputs = if limit.is_none() { vec![RATE] } else { Vec::new() };
        let mut action = job(visit, label, (name, list), filter, inputs);
        action.hidden.extend(limit.map(|limit| ("limit".to_owned(), limit.to_owned())));
        action
    };
    let mut actions: Vec<_> = labels.into_iter().zip([Some("1"), Some("10"), None]).map(limited).collect();
    if name == "retry" {
        actions.push(job(visit, "Discard all that match", ("discard", list), filter, vec![REASON]));
    }
    actions
}

/// The fields of a form as JSON: `filter.id` is the field `id` of the object `filter`, and `declaration:json` is JSON already.
/// What nobody has filled in is not there.
pub(super) fn json(fields: Vec<(String, String)>) -> Value {
    let mut object = Map::new();
    for (name, text) in fields {
        set(&mut object, &name, &text);
    }
    Value::Object(object)
}

fn set(object: &mut Map<String, Value>, name: &str, text: &str) {
    if let Some(name) = name.strip_suffix(":json") {
        object.insert(name.to_owned(), serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    } else if let Some((outer, inner)) = name.split_once('.') {
        if text.is_empty() && !object.contains_key(outer) {
            return;
        }
        let nested = object.entry(outer.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(nested) = nested {
            set(nested, inner, text);
        }
    } else if text.is_empty() {
        object.remove(name);
    } else if NUMBERS.contains(&name) {
        object.insert(name.to_owned(), text.trim().parse::<u64>().map_or_else(|_| text.into(), Value::from));
    } else if LISTS.contains(&name) {
        let words = text.split([',', ' ', '\r', '\n']).filter(|word| !word.is_empty() && *word != NO_WORDS);
        object.insert(name.to_owned(), words.collect());
    } else {
        // Lines of forms end with two characters.
        object.insert(name.to_owned(), text.replace("\r\n", "\n").into());
    }
}

/// Leads on from an address that only forms are sent to, when it is opened again: to what the form was about. Nothing is done.
pub(super) async fn reopened(uri: Uri) -> Redirect {
    let path = uri.path().strip_prefix("/actions").unwrap_or_default();
    let page = path.rsplit_once('/').map_or("", |(page, _)| page);
    Redirect::to(&session::next_path(Some(if page.is_empty() { path } else { page })))
}

/// Asks the API to do what a form says, and leads to the page of the result.
pub(super) async fn act(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path(path): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    Sent(mut fields): Sent,
) -> Response {
    let method = match session::field(&fields, METHOD) {
        Some("put") => Method::PUT,
        Some("delete") => Method::DELETE,
        _ => Method::POST,
    };
    let is_confirmed = session::field(&fields, CONFIRMED).is_some();
    fields.retain(|(name, _)| !name.starts_with("form_"));
    if method == Method::POST && is_of_many(&path, &fields) {
        return match in_parts(&pages, &visit, &path, json(fields.clone()), !is_confirmed).await {
            Ok(Done::Many(total)) if is_confirmed => all_done(&path, total),
            Ok(Done::Many(total)) => confirm(&pages, visit, (&headers, &uri), (&path, fields), total),
            Ok(Done::Made(id)) => Redirect::to(&format!("/{path}/{id}")).into_response(),
            Err(answer) => pages.problem(&headers, &uri, Some(visit), answer).await,
        };
    }
    let answer = match method {
        Method::DELETE => {
            let asked = link(&format!("/{path}"), borrowed(&fields));
            ask(&pages, &visit, method.clone(), &asked, Body::empty()).await
        }
        _ => {
            let asked = if fields.is_empty() { Body::empty() } else { Body::from(json(fields).to_string()) };
            ask(&pages, &visit, method.clone(), &format!("/{path}"), asked).await
        }
    };
    if !answer.status().is_success() {
        return pages.problem(&headers, &uri, Some(visit), answer).await;
    }
    done(&pages, visit, &headers, &uri, (&method, &path), answer).await
}

/// Leads to the page of a result, or shows what nobody can read again.
pub(super) async fn done(
    pages: &Pages,
    visit: Visit,
    headers: &HeaderMap,
    uri: &Uri,
    (method, path): (&Method, &str),
    answer: Response,
) -> Response {
    let status = answer.status();
    let made: Map<String, Value> = super::json(answer).await.unwrap_or_default();
    let next = next(method, status, path, &made);
    let text = |name: &'static str| Some((name, made.get(name)?.as_str()?.to_owned()));
    if !SECRETS.into_iter().any(|name| text(name).is_some()) {
        return Redirect::to(&next).into_response();
    }
    let shown = SECRETS.into_iter().chain(BESIDES).filter_map(text).collect();
    let shell = pages.shell(headers, uri, Some(visit), "Shown once");
    page(StatusCode::OK, &Once { shell, shown, next })
}

/// The page of what an action was done to.
fn next(method: &Method, status: StatusCode, path: &str, made: &Map<String, Value>) -> String {
    let list = path.rsplit_once('/').map_or("", |(list, _)| list);
    let identity = || ["id", "name"].into_iter().find_map(|name| made.get(name)?.as_str());
    match *method {
        Method::PUT => format!("/{path}"),
        Method::POST if status == StatusCode::CREATED => match identity().filter(|_| ITEMS.contains(&path)) {
            Some(id) => format!("/{path}/{id}"),
            None => format!("/{path}"),
        },
        _ => format!("/{list}"),
    }
}

/// What is shown once.
#[derive(Template)]
#[template(path = "once.html")]
struct Once {
    shell: Shell,
    shown: Vec<(&'static str, String)>,
    next: String,
}

/// A field of a form that was shown with the number of rows.
const CONFIRMED: &str = "form_confirmed";

/// What closes undelivered events. A request does a part of many.
const UNDELIVERED: [&str; 2] = ["attempts/retry", "undelivered/discard"];

/// Whether an action takes all rows that match a filter: then their number is shown before.
fn is_of_many(path: &str, fields: &[(String, String)]) -> bool {
    let has = |wanted: &str| fields.iter().any(|(name, _)| name == wanted);
    match path {
        "jobs" => !has("filter.id") && !has("limit") && !has("filter.day"),
        path => UNDELIVERED.contains(&path) && !has("id"),
    }
}

/// The result of an action on many rows.
enum Done {
    /// It was done to so many, or would be.
    Many(i64),
    /// Something with this id does it.
    Made(String),
}

/// Asks for an action, part by part until everything is done or counted.
async fn in_parts(
    pages: &Pages,
    visit: &Visit,
    path: &str,
    mut asked: Value,
    is_dry: bool,
) -> Result<Done, Response> {
    let mut total = 0;
    asked["dry_run"] = is_dry.into();
    loop {
        let body = Body::from(asked.to_string());
        let answer = ask(pages, visit, Method::POST, &format!("/{path}"), body).await;
        if !answer.status().is_success() {
            return Err(answer);
        }
        let part: Map<String, Value> = super::json(answer).await.ok_or_else(super::broken)?;
        if let Some(id) = part.get("id").and_then(Value::as_str) {
            return Ok(Done::Made(id.to_owned()));
        }
        total += part.get("total").and_then(Value::as_i64).unwrap_or_default();
        match part.get("next").filter(|next| next.is_string()) {
            Some(next) => asked["after"] = next.clone(),
            None => return Ok(Done::Many(total)),
        }
    }
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    shell: Shell,
    about: String,
    actions: Vec<Action>,
    back: String,
}

/// The page with the number of rows that an action would take, and the button that does it.
fn confirm(
    pages: &Pages,
    visit: Visit,
    (headers, uri): (&HeaderMap, &Uri),
    (path, fields): (&str, Vec<(String, String)>),
    total: i64,
) -> Response {
    let field = |name: &str| session::field(&fields, name).unwrap_or_default();
    let label = match (path, field("action")) {
        ("attempts/retry", _) => "Send undelivered events again",
        ("undelivered/discard", _) => "Discard undelivered events",
        (_, "replay") => "Replay",
        (_, "discard") => "Discard",
        _ => "Retry",
    };
    let filter =
        fields.iter().filter_map(|(name, value)| Some((name.strip_prefix("filter.")?, value.as_str())));
    let back = match path {
        "jobs" => link(&format!("/{}", field("what")), filter),
        _ => format!("/subscriptions/{}", field("subscription")),
    };
    let form_token = visit.form_token.clone();
    let shell = pages.shell(headers, uri, Some(visit), label);
    let about = match total {
        0 => shell.t("Nothing matches any more.").to_owned(),
        _ => shell.filled("Rows that match: {}. What comes in meanwhile is left out.", &[&total]),
    };
    let hidden = fields.into_iter().chain([(CONFIRMED.to_owned(), "yes".to_owned())]).collect();
    let path = format!("/actions/{path}");
    let action = Action { label, path, form_token, hidden, inputs: Vec::new() };
    let actions = if total > 0 { vec![action] } else { Vec::new() };
    page(StatusCode::OK, &ConfirmPage { shell, about, actions, back })
}

/// After everything was done: the list of what is left.
fn all_done(path: &str, total: i64) -> Response {
    tracing::info!(path, total, "done on a page");
    let list = path.rsplit_once('/').map_or("", |(list, _)| list);
    Redirect::to(&format!("/{list}")).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_dot_in_a_name_makes_an_object() {
        let fields = [("action", "retry"), ("filter.id", "1"), ("filter.source", "a")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(super::json(fields), json!({"action": "retry", "filter": {"id": "1", "source": "a"}}));
    }

    #[test]
    fn a_form_changes_what_it_shows_of_a_declaration_and_keeps_the_rest() {
        let known = r#"{"name": "crm", "filter": "true", "push": {"url": "https://a", "tls": {"ca": "…"}}}"#;
        let fields = [
            ("declaration:json", known),
            ("declaration.topics", "recuperador:#, malote:#\r\n go:x"),
            ("declaration.filter", ""),
            ("declaration.push.url", "https://b"),
            ("declaration.push.retry", "none"),
            ("secrets.auth", ""),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let push = json!({"url": "https://b", "tls": {"ca": "…"}, "retry": []});
        let topics = ["recuperador:#", "malote:#", "go:x"];
        let declaration = json!({"name": "crm", "push": push, "topics": topics});
        assert_eq!(super::json(fields), json!({ "declaration": declaration }));
    }

    #[test]
    fn numbers_are_numbers_and_left_out_where_they_are_empty() {
        let fields = [("rate", "200"), ("limit", ""), ("reason", "7")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(super::json(fields), json!({"rate": 200, "reason": "7"}));
    }
}
