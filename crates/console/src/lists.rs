//! The lists: a route for each view, and its part of the OpenAPI document.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::CONTENT_TYPE;
use utoipa::IntoParams;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder};
use utoipa::openapi::{OpenApi, Ref, ResponseBuilder};
use view::{Answer, Unread, View};

use crate::ConsoleState;
use crate::names;
use crate::page::{Asked, PageParameters};
use crate::refusal::Refusal;

/// The path of a list.
pub(crate) fn path(view: &View) -> String {
    format!("/api/v1/{}", view.name)
}

/// Answers with pages of a list.
pub(crate) fn route(view: &'static View) -> MethodRouter<ConsoleState> {
    get(move |State(state): State<ConsoleState>, RawQuery(query): RawQuery| async move {
        answer(view, &state, &query.unwrap_or_default()).await
    })
}

async fn answer(view: &View, state: &ConsoleState, query: &str) -> Result<Response, Refusal> {
    let check = |name: &str, value: &str| view.check(name, value);
    let Asked { given, page } = Asked::parse(query, &view.filters(), check)?;
    let mut connection = state.store.read().await?;
    let Answer { json, is_empty } = view.page(&mut connection, &given, &page).await?;
    if is_empty {
        names::check(state, &mut connection, &given, Some(view)).await?;
    }
    Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
}

/// Adds a list to the document.
pub(crate) fn describe(view: &View, document: &mut OpenApi) {
    let schemas = view.reading.schemas();
    let page = Ref::from_schema_name(&schemas[0].0);
    let content = ContentBuilder::new().schema(Some(page)).build();
    let found = ResponseBuilder::new()
        .description(format!("A page of {}", view.rows))
        .content("application/json", content)
        .build();
    let parameters = view.parameters().into_iter().chain(PageParameters::into_params(|| None));
    let operation = OperationBuilder::new()
        .tag(view.tag)
        .summary(Some(format!("{}.", view.about)))
        .operation_id(Some(view.name))
        .parameters(Some(parameters))
        .response("200", found)
        .build();
    document.paths.add_path_operation(path(view), vec![HttpMethod::Get], operation);
    document.components.get_or_insert_default().schemas.extend(schemas);
}

impl From<Unread> for Refusal {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Filter(error) => Self::Query(error.into()),
            Unread::Store(error) => Self::Store(error),
        }
    }
}
