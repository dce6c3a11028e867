//! The OpenAPI document: a projection of the lists and the handlers, built once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use utoipa::OpenApi;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Ref, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{self, RefOr, ResponseBuilder};
use view::View;

use crate::{
    OTHER_VIEWS, attempts, dead_groups, documents, edit, facets, feed, jobs, lists, overview, pull, queues,
    record, schemas, sources, subscription, tokens,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "malote: administration API",
        description = "Every event received, its outcome, and what was booked. Lists come in pages, newest first; \
                       errors are problem details (RFC 9457).\n\n\
                       The `id` of a row is what `GET …/{id}` and the parameter `id` take. A row that is an event, or its \
                       outcome at a consumer or a subscription (dead letters, attempts, undelivered events), has the id of the \
                       event as `id`. A row of anything else (documents, differences, books) names the event that it comes from \
                       in `event_id`.",
    ),
    tags(
        (name = "record", description = "Received events and their outcome"),
        (name = "jobs", description = "What is sent again, discarded or reconciled"),
        (name = "books", description = "What the consumers booked"),
        (name = "documents", description = "What was fetched from the APIs of the providers"),
        (name = "subscriptions", description = "What internal services asked for"),
        (name = "access", description = "Who may do what, and who has done what"),
        (name = "sources", description = "Who sends, and how polling goes"),
        (name = "operations", description = "What runs"),
    ),
    paths(
        record::event, facets::show, record::body, record::rejected_body, record::dead_letters, edit::edit, dead_groups::note, jobs::create, jobs::show,
        jobs::outcome, jobs::cancel, jobs::pause, jobs::resume, jobs::reconciliation, feed::follow, subscription::create, subscription::show,
        subscription::edit, subscription::remove, subscription::pause, subscription::resume, subscription::seek,
        subscription::rotate_secret, subscription::test, attempts::show, attempts::retry,
        attempts::discard,
        sources::show, documents::show, documents::body, pull::events, pull::store_cursor, schemas::list, schemas::show,
        tokens::create, tokens::show, tokens::remove, overview::show, queues::version, serve,
    ),
)]
struct Document;

const OPEN: &str = "/api/v1/openapi.json";

/// Adds what all protected paths share: the token, and the problems that they may answer with.
fn add_common(document: &mut openapi::OpenApi) {
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let of_subscription = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The token of one pull subscription, which opens nothing else"))
        .build();
    components.add_security_scheme("subscription", SecurityScheme::Http(of_subscription));
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let problem = ObjectBuilder::new()
        .description(Some("Problem details (RFC 9457)"))
        .property("type", text())
        .property("title", text())
        .property("status", ObjectBuilder::new().schema_type(Type::Integer))
        .property("detail", text());
    components.schemas.insert("Problem".to_owned(), problem.build().into());
    let answer = |description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .build()
            .into()
    };
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten().filter(|_| path != OPEN) {
            let token = || vec![SecurityRequirement::new("token", Vec::<String>::new())];
            operation.security.get_or_insert_with(token);
            let responses = &mut operation.responses.responses;
            responses.insert("401".to_owned(), answer("The token is missing or wrong"));
            responses.insert("403".to_owned(), answer("The role of the token does not allow this"));
            responses.insert("503".to_owned(), answer("The database or the broker is down; see Retry-After"));
            let key = ["id", "name"].into_iter().find(|key| path.contains(&format!("{{{key}}}")));
            if let Some(key) = key {
                responses.insert("404".to_owned(), answer(&format!("There is none with this {key}")));
            }
            let is_query = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query);
            let is_queried = operation.parameters.iter().flatten().any(is_query);
            if is_queried || operation.request_body.is_some() {
                responses.insert("400".to_owned(), answer("A parameter cannot be used; the detail names it"));
            }
        }
    }
}

/// The OpenAPI document of the administration API with these lists, as indented JSON.
pub fn openapi(views: &[&View]) -> String {
    let mut document = Document::openapi();
    views.iter().for_each(|view| lists::describe(view, &mut document));
    for view in OTHER_VIEWS {
        lists::describe(view, &mut document);
    }
    add_common(&mut document);
    document.to_pretty_json().expect("the document is plain JSON")
}

/// The document as an answer.
pub(crate) struct Served {
    text: Bytes,
    /// Its entity tag, which changes with it.
    tag: String,
}

impl Served {
    /// The document with these lists, built once.
    pub(crate) fn new(views: &[&View]) -> Self {
        let text = openapi(views);
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self { text: text.into(), tag: format!("\"{:016x}\"", hasher.finish()) }
    }
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operations", security(()),
    responses((status = 200, description = "The OpenAPI document", body = Object),
        (status = 304, description = "It is the one that If-None-Match names")))]
pub(crate) async fn serve(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    let Served { text, tag } = &*served;
    // Cached, but revalidated: a new version of malote has another document.
    let caching = [(CACHE_CONTROL, "no-cache"), (ETAG, tag.as_str())];
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = |value: &str| value.split(',').any(|one| one.trim().trim_start_matches("W/") == tag);
    if known.into_iter().any(is_known) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(CONTENT_TYPE, "application/json")], text.clone()).into_response()
}
