//! Received events and their outcomes, one by one.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use event::EventId;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use ledger::{DeadLetter, RecordedEvent, Rejected};
use serde::{Deserialize, Serialize};
use store::Paged;
use subscriptions::Taker;
use utoipa::ToSchema;
use view::List;

use crate::ConsoleState;
use crate::page::Id;
use crate::refusal::Refusal;
use crate::reveal::{Reveal, RevealParameter};

/// An event, whole, with the subscriptions that take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventDetail {
    /// The event.
    #[serde(flatten)]
    pub event: RecordedEvent,
    /// Its outcome at each push and pull subscription that takes it.
    #[serde(default)]
    pub subscriptions: Vec<Taker>,
}

/// One event with its body, and its outcome at each consumer and each push and pull subscription.
#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "record",
    params(("id" = String, Path, description = "The event's id"), RevealParameter),
    responses((status = 200, description = "The event", body = EventDetail)))]
pub(crate) async fn event(
    State(state): State<ConsoleState>,
    Id(id): Id,
    reveal: Reveal,
) -> Result<Json<EventDetail>, Refusal> {
    let mut connection = state.store.read().await?;
    let mut event = ledger::show(&mut connection, id).await?.ok_or(Refusal::NoSuchId)?;
    let from = [Some(event.row.source.as_str()), Some(event.row.provider.as_str())];
    state.personal.receipt(reveal, from, &mut event.receipt);
    event.body = state.personal.shown(reveal, Some(&event.row.provider), event.body);
    let subscriptions = subscriptions::takers(&mut connection, id).await?;
    Ok(Json(EventDetail { event, subscriptions }))
}

/// The body of an event or of a rejected request, byte for byte, under the content type that it came with.
#[utoipa::path(get, path = "/api/v1/events/{id}/body", tag = "record",
    params(("id" = String, Path, description = "The event's id, or the rejected request's")),
    responses((status = 200, description = "The body as received", body = Vec<u8>,
        content_type = "application/octet-stream")))]
pub(crate) async fn body(State(state): State<ConsoleState>, Id(id): Id) -> Result<Response, Refusal> {
    let mut connection = state.store.read().await?;
    let found = ledger::body(&mut connection, id).await?.ok_or(Refusal::NoSuchId)?;
    Ok(download(id, found))
}

/// A stranger wrote the body and its content type: a browser must neither show it nor run it.
pub(crate) fn download(id: EventId, ledger::Body { content_type, bytes }: ledger::Body) -> Response {
    let content_type = HeaderValue::from_str(&content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    let disposition = format!("attachment; filename=\"{id}\"");
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_DISPOSITION, disposition.try_into().expect("an id is plain text"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    response
}

/// One rejected body, whole.
#[utoipa::path(get, path = "/api/v1/rejected/{id}", tag = "record",
    params(("id" = String, Path, description = "The id that the sender was answered with"), RevealParameter),
    responses((status = 200, description = "The rejected body", body = Rejected)))]
pub(crate) async fn rejected_body(
    State(state): State<ConsoleState>,
    Id(id): Id,
    reveal: Reveal,
) -> Result<Json<Rejected>, Refusal> {
    let mut connection = state.store.read().await?;
    let mut rejected = ledger::show_rejected(&mut connection, id).await?.ok_or(Refusal::NoSuchId)?;
    let from = [rejected.row.source.as_deref(), rejected.row.provider.as_deref()];
    state.personal.receipt(reveal, from, &mut rejected.receipt);
    rejected.body = state.personal.shown(reveal, rejected.row.provider.as_deref(), rejected.body);
    Ok(Json(rejected))
}

/// The dead letters of one event, whole: one for each consumer that gave it up, open or not.
#[utoipa::path(get, path = "/api/v1/dead/{id}", tag = "record",
    params(("id" = String, Path, description = "The event's id"), RevealParameter),
    responses((status = 200, description = "The letters", body = List<DeadLetter>)))]
pub(crate) async fn dead_letters(
    State(state): State<ConsoleState>,
    Id(id): Id,
    reveal: Reveal,
) -> Result<Json<List<DeadLetter>>, Refusal> {
    let mut connection = state.store.read().await?;
    let mut items = ledger::show_dead(&mut connection, id).await?;
    for letter in &mut items {
        let body = letter.body.clone();
        letter.body = state.personal.shown(reveal, letter.row.provider.as_deref(), body);
    }
    if items.is_empty() { Err(Refusal::NoSuchId) } else { Ok(Json(Paged { items, next: None }.into())) }
}
