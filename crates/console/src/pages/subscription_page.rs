//! A subscription that is written: tried on events on record, added, or changed.
//!
//! The form begins with a whole declaration, of which it shows what most subscriptions have; what it does not show stays as it is.

use access::Role;
use askama::Template;
use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use subscriptions::{SUBSCRIPTIONS, TrialOutcome};

use super::actions::{self, NO_WORDS};
use super::session::{self, Sent};
use super::shell::{Shell, Visit, page};
use super::{Pages, ask, pairs, read};
use crate::body_text::indented;

/// What somebody can add: its name in an address, its label, and what its declaration begins with.
const KINDS: [(&str, &str, &str); 5] = [
    ("push", "Push", r#"{"push": {}}"#),
    ("push-bearer", "Push with a bearer token", r#"{"push": {"auth": {"bearer": {}}}}"#),
    ("push-basic", "Push with a password", r#"{"push": {"auth": {"basic": {}}}}"#),
    ("pull", "Pull", r#"{"pull": {}}"#),
    ("queue", "Queue", r#"{"queue": {}}"#),
];

/// On how many of the last events a declaration is tried.
const TRIED_EVENTS: &str = "200";

#[derive(Template)]
#[template(path = "subscription.html")]
struct SubscriptionPage {
    shell: Shell,
    form_token: String,
    /// Kinds to choose from: where each is, its label, and whether it is this one.
    kinds: Vec<(String, &'static str, bool)>,
    hidden: Vec<(&'static str, String)>,
    fields: Vec<Field>,
    trial: [Field; 2],
    /// What the button says that saves it, if somebody may.
    save: Option<&'static str>,
    trouble: Option<String>,
    outcome: Option<Outcome>,
}

/// A field of the form.
struct Field {
    name: &'static str,
    label: &'static str,
    /// The type of its input, or `textarea`.
    kind: &'static str,
    hint: &'static str,
    is_required: bool,
    words: &'static [&'static str],
    value: String,
}

/// What a trial found, as it is shown.
struct Outcome {
    numbers: [(&'static str, u64); 4],
    failure: Option<String>,
    deliveries: Vec<Delivery>,
}

struct Delivery {
    id: String,
    about: String,
    body: String,
    error: Option<String>,
}

fn field(name: &'static str, label: &'static str, kind: &'static str, hint: &'static str) -> Field {
    Field { name, label, kind, hint, is_required: false, words: &[], value: String::new() }
}

fn required(field: Field) -> Field {
    Field { is_required: true, ..field }
}

/// The fields of a declaration of this door.
fn fields(declaration: &Value, is_new: bool) -> Vec<Field> {
    let mut fields = Vec::new();
    if is_new {
        fields.push(required(field("declaration.name", "Name", "text", "crm")));
    }
    fields.push(required(field("declaration.topics", "Topics", "text", "mercado-eletronico:order.*")));
    let auth = &declaration["push"]["auth"];
    if !declaration["push"].is_null() {
        fields.push(required(field("declaration.push.url", "URL", "url", "https://crm.example.com/hooks")));
        if !auth["basic"].is_null() {
            fields.push(required(field("declaration.push.auth.basic.username", "User", "text", "")));
        }
        if !auth.is_null() {
            let secret = field("secrets.auth", "Password, token or client secret", "password", "");
            fields.push(if is_new { required(secret) } else { secret });
        }
    }
    if declaration["queue"].is_null() {
        fields.push(field("declaration.filter", "Filter (CEL)", "textarea", "data.total > 1000"));
    } else {
        fields.push(field("declaration.queue.user", "User of RabbitMQ", "text", ""));
    }
    if !declaration["push"].is_null() {
        let order = field("declaration.push.order", "Order", "text", "");
        fields.extend([
            field("declaration.transform", "Transform (CEL)", "textarea", "{'id': data.id}"),
            field("declaration.push.concurrency", "Most requests at a time", "number", "8"),
            field("declaration.push.rate_per_s", "Most requests in a second", "number", ""),
            field("declaration.push.timeout_ms", "Longest request in milliseconds", "number", "15000"),
            field("declaration.push.batch_events", "Most events in a request", "number", "1"),
            field("declaration.push.retry", "Waits before each further attempt", "text", "5s, 30s, 5m"),
            Field { words: &["none", "subject"], ..order },
        ]);
    }
    if is_new {
        fields.push(field("begin", "Begin with", "text", "now, beginning, 2026-11-22T12:00:00Z"));
    }
    fields
}

/// What a declaration has in a field.
fn value(declaration: &Value, name: &str) -> String {
    let path = name.strip_prefix("declaration").map(|path| path.replace('.', "/"));
    match path.and_then(|path| declaration.pointer(&path)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(words)) if words.is_empty() => NO_WORDS.to_owned(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// What the page of a form is made of.
struct Draft {
    /// The subscription, if there is one already.
    name: Option<String>,
    declaration: Value,
    /// Of the subscription as the form was made of it.
    version: Option<String>,
    /// What the fields say, where they say something that is not in the declaration.
    given: Vec<(String, String)>,
    trouble: Option<String>,
    outcome: Option<Outcome>,
}

impl Draft {
    fn new(name: Option<String>, declaration: Value) -> Self {
        Self { name, declaration, version: None, given: Vec::new(), trouble: None, outcome: None }
    }

    fn page(
        self,
        pages: &Pages,
        visit: &Visit,
        headers: &HeaderMap,
        uri: &Uri,
        status: StatusCode,
    ) -> Response {
        let Self { name, declaration, version, given, trouble, outcome } = self;
        let is_new = name.is_none();
        let given =
            |name: &str| given.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let filled = |mut field: Field| {
            // A secret is not sent back.
            field.value = match (field.kind, given(field.name)) {
                ("password", _) => String::new(),
                (_, Some(given)) => given,
                (_, None) => value(&declaration, field.name),
            };
            field
        };
        let title = if is_new { "Add a subscription" } else { "Edit and try" };
        let mut shell = pages.shell(headers, uri, Some(visit.clone()), title);
        if let Some(name) = &name {
            shell.title = format!("{name}: {}", shell.title);
        }
        let kinds = KINDS.into_iter().filter(|_| is_new).map(|(kind, label, base)| {
            let is_this =
                serde_json::from_str::<Value>(base).is_ok_and(|base| kind_of(&base) == kind_of(&declaration));
            (format!("/forms/subscriptions?kind={kind}"), label, is_this)
        });
        let last = Field {
            value: TRIED_EVENTS.to_owned(),
            ..field("form_last", "Try it on the last events", "number", "")
        };
        let made = SubscriptionPage {
            kinds: kinds.collect(),
            form_token: visit.form_token.clone(),
            fields: fields(&declaration, is_new).into_iter().map(filled).collect(),
            trial: [last, field("form_event", "or on this event", "text", "")].map(|field| {
                let given = given(field.name).unwrap_or_else(|| field.value.clone());
                Field { value: given, ..field }
            }),
            hidden: [("declaration:json", Some(declaration.to_string())), ("version", version)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            save: (visit.identity.role == Role::Admin).then_some(if is_new { "Add" } else { "Save" }),
            trouble,
            outcome,
            shell,
        };
        page(status, &made)
    }
}

/// Which kind a declaration is of.
fn kind_of(declaration: &Value) -> (Option<&str>, Option<&str>) {
    let door = ["push", "pull", "queue"].into_iter().find(|door| !declaration[*door].is_null());
    let auth = declaration["push"]["auth"].as_object().and_then(|auth| auth.keys().next());
    (door, auth.map(String::as_str))
}

/// The form of a new subscription.
pub(super) async fn new(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let pairs = pairs(query);
    let kind = session::field(&pairs, "kind").unwrap_or("push");
    let (_, _, base) = KINDS.into_iter().find(|(name, ..)| *name == kind).unwrap_or(KINDS[0]);
    let declaration = serde_json::from_str(base).unwrap_or_default();
    Draft::new(None, declaration).page(&pages, &visit, &headers, &uri, StatusCode::OK)
}

/// The form of a subscription that there is.
pub(super) async fn edit(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let found: Map<String, Value> = match read(&pages, &visit, &format!("/subscriptions/{name}")).await {
        Ok(found) => found,
        Err(answer) => return pages.problem(&headers, &uri, Some(visit), answer).await,
    };
    let declaration = found.get("declaration").cloned().unwrap_or_default();
    let mut draft = Draft::new(Some(name), declaration);
    draft.version = found.get("version").map(Value::to_string);
    draft.page(&pages, &visit, &headers, &uri, StatusCode::OK)
}

/// Tries or saves what a form says; if that cannot be, the form says why.
pub(super) async fn send(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    name: Option<Path<String>>,
    headers: HeaderMap,
    uri: Uri,
    Sent(given): Sent,
) -> Response {
    let name = name.map(|Path(name)| name);
    let text = |name: &str| session::field(&given, name).map(str::to_owned);
    let asked: Vec<_> = given.iter().filter(|(name, _)| !name.starts_with("form_")).cloned().collect();
    let mut asked = actions::json(asked);
    let mut declaration = asked["declaration"].take();
    let mut draft = Draft::new(name.clone(), declaration.clone());
    draft.version = text("version");
    let answer = if text("form_save").is_some() {
        asked["declaration"] = declaration;
        let (method, path) = match &name {
            Some(name) => (Method::PUT, format!("subscriptions/{name}")),
            None => (Method::POST, SUBSCRIPTIONS.name.to_owned()),
        };
        let answer =
            ask(&pages, &visit, method.clone(), &format!("/{path}"), Body::from(asked.to_string())).await;
        if answer.status().is_success() {
            return actions::done(&pages, visit, &headers, &uri, (&method, &path), answer).await;
        }
        answer
    } else {
        let name = name.or_else(|| text("declaration.name")).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| "new".to_owned());
        declaration["name"] = name.as_str().into();
        let mut trial = json!({ "declaration": declaration });
        let tried = [("event", text("form_event")), ("last", text("form_last"))];
        if let Some((field, Some(value))) =
            tried.into_iter().find(|(_, value)| value.as_ref().is_some_and(|text| !text.is_empty()))
        {
            trial[field] = actions::json(vec![(field.to_owned(), value)])[field].take();
        }
        let path = format!("/subscriptions/{name}/test");
        ask(&pages, &visit, Method::POST, &path, Body::from(trial.to_string())).await
    };
    draft.given = given;
    let status = answer.status();
    if status.is_success() {
        draft.outcome = super::json::<Box<RawValue>>(answer).await.and_then(|found| outcome(&found));
    } else {
        draft.trouble = Some(pages.trouble(answer).await.2);
    }
    draft.page(&pages, &visit, &headers, &uri, status)
}

fn outcome(found: &RawValue) -> Option<Outcome> {
    let TrialOutcome { looked_at, of_topics, matching, failing, failure, deliveries } =
        serde_json::from_str(found.get()).ok()?;
    let delivery = |one: subscriptions::TrialDelivery| Delivery {
        about: [Some(one.topic), one.subject].into_iter().flatten().collect::<Vec<_>>().join(" · "),
        body: one.body.as_str().map_or_else(|| indented(&one.body.to_string()), str::to_owned),
        id: one.id,
        error: one.error,
    };
    Some(Outcome {
        numbers: [
            ("Events looked at", looked_at),
            ("Of these topics", of_topics),
            ("Would be delivered", matching),
            ("Filter fails", failing),
        ],
        failure,
        deliveries: deliveries.into_iter().map(delivery).collect(),
    })
}
