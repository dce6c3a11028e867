//! Edit and retry of a dead letter.

use access::Identity;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use event::EventId;
use http::StatusCode;
use ledger::BodyInJson;
use ledger::jobs::{CheckedEdit, Job, NewEdit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ConsoleState;
use crate::body_text;
use crate::refusal::Refusal;
use crate::token::Audited;

/// The longest request: a body of the largest size that an ingress takes by default, with room for how a form writes it.
pub(crate) const BODY_LIMIT_BYTES: usize = 32 << 20;

/// What is sent in place of a dead letter: exactly one of the first two members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// The body, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64 (RFC 4648, section 4), if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Why it is edited.
    pub reason: String,
    /// Whether every consumer of the topic gets it, and not only the one that gave up.
    #[serde(default)]
    pub to_all: bool,
    /// Only check and compare.
    #[serde(default)]
    pub dry_run: bool,
}

/// An edit that was checked and not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditChecked {
    /// The topic, which stays.
    pub topic: String,
    /// What the new body is about.
    pub subject: Option<String>,
    /// What differs, line by line: `-` before what goes, `+` before what comes, a space before what stays, `…` for what is left
    /// out. JSON is compared indented.
    pub diff: Vec<String>,
}

impl EditRequest {
    fn body(&self) -> Result<Bytes, Refusal> {
        let Self { body, body_base64, .. } = self.clone();
        let bytes = BodyInJson { body, body_base64, masked: false }.bytes();
        let expected = "body: expected exactly one of body, which is text, and body_base64";
        bytes.map(Bytes::from).ok_or_else(|| Refusal::Parameter(expected.to_owned()))
    }
}

/// Sends an event with another body in place of a dead letter, to the consumer that gave up. The body is read as the contract
/// of its sender and the consumer would read it, and refused with what is wrong with it. The original stays unchanged; its
/// letter is closed with the id of the new event, which names the original in `replayof`. With `dry_run` it is only checked.
#[utoipa::path(post, path = "/api/v1/dead/{id}/{consumer}/edit", tag = "jobs", request_body = EditRequest,
    params(("id" = String, Path, description = "The event's id"),
        ("consumer" = String, Path, description = "The consumer that gave up")),
    responses((status = 201, description = "The job that sends the new event, whose id is in its filter", body = Job),
        (status = 200, description = "What would be sent", body = EditChecked),
        (status = 409, description = "The dead letter is closed", body = Object)))]
pub(crate) async fn edit(
    State(state): State<ConsoleState>,
    Extension(identity): Extension<Identity>,
    Path((id, consumer)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let event_id: EventId = id.parse().map_err(|_| Refusal::NoSuchId)?;
    let asked: EditRequest =
        serde_json::from_slice(&body).map_err(|error| Refusal::Parameter(error.to_string()))?;
    let body = asked.body()?;
    let EditRequest { reason, to_all, dry_run, .. } = asked;
    let requested_by = identity.name;
    let new = NewEdit { event_id, consumer, body, reason, to_all, requested_by };
    if dry_run {
        let CheckedEdit { original, event, .. } = state.editor.check(&new).await?;
        let diff = body_text::differences(&comparable(&original), &comparable(&new.body));
        let (topic, subject) = (event.topic.to_string(), event.subject.as_ref().map(ToString::to_string));
        return Ok(Json(EditChecked { topic, subject, diff }).into_response());
    }
    let job = state.editor.edit(&new).await?;
    tracing::info!(job = job.id, event_id = %event_id, consumer = new.consumer, "a dead letter is replaced");
    let audited = Audited(job.id.clone());
    Ok((StatusCode::CREATED, Extension(audited), Json(job)).into_response())
}

/// A body as lines.
fn comparable(body: &[u8]) -> String {
    body_text::indented(&String::from_utf8_lossy(body))
}
