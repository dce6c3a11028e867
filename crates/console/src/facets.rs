//! How many events of a filter have each value.

use axum::Json;
use axum::extract::{RawQuery, State};
use ledger::{EventFilter, Facets};

use crate::ConsoleState;
use crate::page;
use crate::refusal::Refusal;

/// How many events have each state, source, provider and topic, of the newest 200 that fit.
#[utoipa::path(get, path = "/api/v1/events/facets", tag = "record", operation_id = "event_facets", params(EventFilter),
    responses((status = 200, description = "The counts", body = Facets)))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Facets>, Refusal> {
    let filter = page::filter::<EventFilter>(&query.unwrap_or_default())?;
    Ok(Json(ledger::facets(&mut *state.store.read().await?, &filter).await?))
}
