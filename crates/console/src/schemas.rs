//! The types of domain events, and the JSON Schema of each.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::ConsoleState;
use crate::refusal::Refusal;

/// A type of domain event with the schema of its data.
#[derive(Clone, Debug)]
pub struct EventSchema {
    /// Its name.
    pub name: &'static str,
    /// When it is sent.
    pub meaning: &'static str,
    /// The JSON Schema of its data.
    pub schema: Value,
}

/// The types of domain events.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventTypes {
    /// Every type.
    items: Vec<EventTypeRow>,
}

/// A type of domain event.
#[derive(Serialize, ToSchema)]
struct EventTypeRow {
    /// Its name: the CloudEvents `type`, and the topic.
    r#type: &'static str,
    /// When it is sent.
    meaning: &'static str,
    /// Where the JSON Schema of its data is.
    schema: String,
}

const PATH: &str = "/api/v1/schemas";

/// The types of malote's own domain events.
#[utoipa::path(get, path = "/api/v1/schemas", tag = "books",
    responses((status = 200, description = "Every type, with the path of its schema", body = EventTypes)))]
pub(crate) async fn list(State(state): State<ConsoleState>) -> Json<EventTypes> {
    let row = |event: &EventSchema| EventTypeRow {
        r#type: event.name,
        meaning: event.meaning,
        schema: format!("{PATH}/{}", event.name),
    };
    Json(EventTypes { items: state.schemas.iter().map(row).collect() })
}

/// The JSON Schema (2020-12) of the data of a domain event.
#[utoipa::path(get, path = "/api/v1/schemas/{id}", tag = "books",
    params(("id" = String, Path, description = "The type, such as receivable.paid")),
    responses((status = 200, description = "The schema", body = Object, content_type = "application/schema+json")))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let found = state.schemas.iter().find(|event| event.name == name).ok_or(Refusal::NoSuchId)?;
    Ok(([(CONTENT_TYPE, "application/schema+json")], found.schema.to_string()).into_response())
}
