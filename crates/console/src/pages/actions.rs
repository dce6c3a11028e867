//! What can be done with a row: forms whose fields become the JSON of a request to the API.

use access::Role;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Map, Value};

use super::rows::Fields;
use super::shell::Visit;
use super::{Pages, ask, session};

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
}

const RATE: Input = Input { name: "rate", label: "Most in a second", is_required: false, words: &[] };

/// Fields that are numbers in JSON.
const NUMBERS: [&str; 2] = ["rate", "limit"];

const REASON: Input = Input { name: "reason", label: "Reason", is_required: true, words: &[] };

const DELIVER: Input =
    Input { name: "deliver", label: "Deliver what waited", is_required: true, words: &["all", "none"] };

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
        "jobs" if matches!(state, "waiting" | "running") => {
            vec![action("Cancel the job", format!("/jobs/{id}/cancel"), Vec::new(), Vec::new())]
        }
        "subscriptions" => {
            let (label, path, input) = match state {
                "paused" => ("Resume", format!("/subscriptions/{id}/resume"), DELIVER),
                _ => ("Pause", format!("/subscriptions/{id}/pause"), REASON),
            };
            let mut actions = vec![action(label, path, Vec::new(), vec![input])];
            if field("undelivered").and_then(Value::as_i64).is_some_and(|undelivered| undelivered > 0) {
                let subscription = || vec![("subscription".to_owned(), id.to_owned())];
                actions.extend([
                    action(
                        "Send undelivered events again",
                        "/attempts/retry".to_owned(),
                        subscription(),
                        Vec::new(),
                    ),
                    action(
                        "Discard undelivered events",
                        "/undelivered/discard".to_owned(),
                        subscription(),
                        vec![REASON],
                    ),
                ]);
            }
            actions
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

/// The fields of a form as JSON: `filter.id` is the field `id` of the object `filter`.
fn json(fields: Vec<(String, String)>) -> Value {
    let mut object = Map::new();
    for (name, value) in fields {
        match name.split_once('.') {
            // What nobody has filled in is not asked for.
            None if NUMBERS.contains(&name.as_str()) && value.is_empty() => {}
            None if NUMBERS.contains(&name.as_str()) => {
                let number = value.parse::<u32>().map_or_else(|_| value.into(), Value::from);
                object.insert(name, number);
            }
            None => drop(object.insert(name, value.into())),
            Some((outer, inner)) => {
                let nested = object.entry(outer.to_owned()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(nested) = nested {
                    nested.insert(inner.to_owned(), value.into());
                }
            }
        }
    }
    Value::Object(object)
}

/// Asks the API to do what a form says, and leads to the page of the result.
pub(super) async fn act(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path(path): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let Some(mut fields) = session::form(&headers, Some(&visit), &body) else {
        return pages.stale(&headers, &uri, visit);
    };
    if path == "jobs" {
        fields.push(("requested_by".to_owned(), visit.identity.name.clone()));
    }
    let asked = if fields.is_empty() { Body::empty() } else { Body::from(json(fields).to_string()) };
    let answer = ask(&pages, &visit, Method::POST, &format!("/{path}"), asked).await;
    if !answer.status().is_success() {
        return pages.problem(&headers, &uri, Some(visit), answer).await;
    }
    if answer.status() == StatusCode::CREATED {
        let made: Option<Map<String, Value>> = super::json(answer).await;
        let id = made.as_ref().and_then(|made| made.get("id")?.as_str());
        return Redirect::to(&format!("/{path}/{}", id.unwrap_or_default())).into_response();
    }
    // What an action is done to is what its path begins with.
    let row = path.rsplit_once('/').map_or("", |(row, _)| row);
    Redirect::to(&format!("/{row}")).into_response()
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
    fn numbers_are_numbers_and_left_out_where_they_are_empty() {
        let fields = [("rate", "200"), ("limit", ""), ("reason", "7")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(super::json(fields), json!({"rate": 200, "reason": "7"}));
    }
}
