//! Attempts to deliver events to push subscriptions: one event's, sending events again, and discarding those that are undelivered.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use ledger::BodyInJson;
use store::Paged;
use subscriptions::{AttemptDetail, Closed, Discarding, Resending};
use view::List;

use crate::ConsoleState;
use crate::feed::wrong;
use crate::page::Id;
use crate::refusal::Refusal;
use crate::reveal::{Reveal, RevealParameter};
use crate::subscription::{read_json, reason_to_keep};
use crate::token::Audited;

/// Every attempt to deliver one event, whole: with the beginning of the answer.
#[utoipa::path(get, path = "/api/v1/attempts/{id}", tag = "subscriptions", operation_id = "show_attempts",
    params(("id" = String, Path, description = "The event's id"), RevealParameter),
    responses((status = 200, description = "The attempts, oldest first", body = List<AttemptDetail>)))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    Id(id): Id,
    reveal: Reveal,
) -> Result<Json<List<AttemptDetail>>, Refusal> {
    let mut connection = state.store.read().await?;
    let mut items = subscriptions::show_attempts(&mut connection, id).await?;
    let provider = ledger::provider(&mut connection, id).await?;
    for attempt in &mut items {
        let answer = BodyInJson { body: attempt.answer.take(), ..BodyInJson::default() };
        let shown = state.personal.shown(reveal, provider.as_deref(), answer);
        (attempt.answer, attempt.masked) = (shown.body, shown.masked);
    }
    if items.is_empty() { Err(Refusal::NoSuchId) } else { Ok(Json(Paged { items, next: None }.into())) }
}

/// Sends events again to a push subscription, at once and each with a new schedule: one, those that fit a filter, or all. Without
/// `again`, those that wait or are undelivered; with it, also those of the period that were delivered. A request does a part of
/// many: repeat it with the `next` of its answer as `after` until there is none.
#[utoipa::path(post, path = "/api/v1/attempts/retry", tag = "subscriptions", operation_id = "retry_attempts",
    request_body = Resending, responses((status = 200, description = "How many are, or would be", body = Closed)))]
pub(crate) async fn retry(State(state): State<ConsoleState>, body: Bytes) -> Result<Response, Refusal> {
    let asked: Resending = read_json(&body)?;
    if asked.again && asked.id.is_none() && asked.from.is_none() {
        return Err(wrong("from", "is missing: sending delivered events again needs a period or an event"));
    }
    let closed = subscriptions::resend(&state.store, &asked).await?;
    let subscription = asked.subscription.as_str();
    if !asked.dry_run {
        tracing::info!(subscription, total = closed.total, "events are sent again");
    }
    Ok(audited(format!("{subscription} {}", count(&closed, asked.dry_run)), closed))
}

/// Discards undelivered events of a push subscription: one, those that fit a filter, or all. They are listed no more; their
/// attempts stay on record, and the audit has the reason. A request does a part of many: repeat it with the `next` of its answer
/// as `after` until there is none.
#[utoipa::path(post, path = "/api/v1/undelivered/discard", tag = "subscriptions", operation_id = "discard_undelivered",
    request_body = Discarding, responses((status = 200, description = "How many are, or would be", body = Closed)))]
pub(crate) async fn discard(State(state): State<ConsoleState>, body: Bytes) -> Result<Response, Refusal> {
    let asked: Discarding = read_json(&body)?;
    let reason = reason_to_keep(&asked.reason)?;
    if reason.is_empty() && !asked.dry_run {
        return Err(wrong("reason", "is missing"));
    }
    let closed = subscriptions::discard(&state.store, &asked).await?;
    let subscription = asked.subscription.as_str();
    if !asked.dry_run {
        tracing::info!(subscription, total = closed.total, "undelivered events are discarded");
    }
    Ok(audited(format!("{subscription} {}: {reason}", count(&closed, asked.dry_run)), closed))
}

fn count(closed: &Closed, is_dry: bool) -> String {
    if is_dry { "counted".to_owned() } else { closed.total.to_string() }
}

fn audited(what: String, closed: Closed) -> Response {
    (Extension(Audited(what)), Json(closed)).into_response()
}
