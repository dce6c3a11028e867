//! What came in and what became of it: the ledger's lists.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use event::EventId;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use ledger::{
    DeadFilter, DeadGroup, DeadLetter, DeadRow, Event, EventFilter, EventRow, Rejected, RejectedFilter,
    RejectedRow, UnroutedFilter, UnroutedRow,
};

use store::Paged;

use crate::ConsoleState;
use crate::names;
use crate::page::{Id, List, PageParameters, Query};
use crate::refusal::Refusal;

/// Every accepted event.
#[utoipa::path(get, path = "/api/v1/events", tag = "record", params(EventFilter, PageParameters),
    responses((status = 200, description = "A page of events", body = List<EventRow>)))]
pub(crate) async fn events(
    State(state): State<ConsoleState>,
    Query { filter, page, given }: Query<EventFilter>,
) -> Result<Json<List<EventRow>>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = ledger::list(&mut connection, &filter, &page).await?;
    names::answer(&state, &mut connection, &given, page).await
}

/// One event with its body, and what became of it at each consumer.
#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "record",
    params(("id" = String, Path, description = "The event's id")),
    responses((status = 200, description = "The event", body = Event)))]
pub(crate) async fn event(State(state): State<ConsoleState>, Id(id): Id) -> Result<Json<Event>, Refusal> {
    let mut connection = state.store.read().await?;
    ledger::show(&mut connection, id).await?.map(Json).ok_or(Refusal::NoSuchId)
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
fn download(id: EventId, ledger::Body { content_type, bytes }: ledger::Body) -> Response {
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

/// Authenticated bodies that could not be used, with the cause.
#[utoipa::path(get, path = "/api/v1/rejected", tag = "record", params(RejectedFilter, PageParameters),
    responses((status = 200, description = "A page of rejected bodies", body = List<RejectedRow>)))]
pub(crate) async fn rejected(
    State(state): State<ConsoleState>,
    Query { filter, page, given }: Query<RejectedFilter>,
) -> Result<Json<List<RejectedRow>>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = ledger::rejected(&mut connection, &filter, &page).await?;
    names::answer(&state, &mut connection, &given, page).await
}

/// One rejected body, whole.
#[utoipa::path(get, path = "/api/v1/rejected/{id}", tag = "record",
    params(("id" = String, Path, description = "The id that the sender was answered with")),
    responses((status = 200, description = "The rejected body", body = Rejected)))]
pub(crate) async fn rejected_body(
    State(state): State<ConsoleState>,
    Id(id): Id,
) -> Result<Json<Rejected>, Refusal> {
    let mut connection = state.store.read().await?;
    ledger::show_rejected(&mut connection, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// What consumers gave up and have not handled since.
#[utoipa::path(get, path = "/api/v1/dead", tag = "record", params(DeadFilter, PageParameters),
    responses((status = 200, description = "A page of dead letters", body = List<DeadRow>)))]
pub(crate) async fn dead(
    State(state): State<ConsoleState>,
    Query { filter, page, given }: Query<DeadFilter>,
) -> Result<Json<List<DeadRow>>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = ledger::dead(&mut connection, &filter, &page).await?;
    names::answer(&state, &mut connection, &given, page).await
}

/// Dead letters by consumer and error, the largest group first: at most 1,000 groups.
#[utoipa::path(get, path = "/api/v1/dead/groups", tag = "record", params(DeadFilter),
    responses((status = 200, description = "All groups, on one page", body = List<DeadGroup>)))]
pub(crate) async fn dead_groups(
    State(state): State<ConsoleState>,
    Query { filter, given, .. }: Query<DeadFilter>,
) -> Result<Json<List<DeadGroup>>, Refusal> {
    let mut connection = state.store.read().await?;
    let items = ledger::dead_groups(&mut connection, &filter).await?;
    names::answer(&state, &mut connection, &given, Paged { items, next: None }).await
}

/// The dead letters of one event, whole: one for each consumer that gave it up, open or not.
#[utoipa::path(get, path = "/api/v1/dead/{id}", tag = "record",
    params(("id" = String, Path, description = "The event's id")),
    responses((status = 200, description = "The letters", body = List<DeadLetter>)))]
pub(crate) async fn dead_letters(
    State(state): State<ConsoleState>,
    Id(id): Id,
) -> Result<Json<List<DeadLetter>>, Refusal> {
    let mut connection = state.store.read().await?;
    let items = ledger::show_dead(&mut connection, id).await?;
    if items.is_empty() { Err(Refusal::NoSuchId) } else { Ok(Json(Paged { items, next: None }.into())) }
}

/// Events whose topic no queue is bound to.
#[utoipa::path(get, path = "/api/v1/unrouted", tag = "record", params(UnroutedFilter, PageParameters),
    responses((status = 200, description = "A page of unrouted events", body = List<UnroutedRow>)))]
pub(crate) async fn unrouted(
    State(state): State<ConsoleState>,
    Query { filter, page, given }: Query<UnroutedFilter>,
) -> Result<Json<List<UnroutedRow>>, Refusal> {
    let mut connection = state.store.read().await?;
    let page = ledger::unrouted(&mut connection, &filter, &page).await?;
    names::answer(&state, &mut connection, &given, page).await
}
