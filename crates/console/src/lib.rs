//! The administration API: every event received, its outcome, and what was booked, under `/api/v1`; and the same in a browser.
//!
//! Place in the flow: to the right of the ledger and the domains, whose rows it reads; the command line and the
//! operator's tools are its clients. Everything but the OpenAPI document needs a bearer token: rows contain names and
//! documents of people, which are masked unless asked for, so no answer may be cached. The role of the token decides which routes it opens; who changes something or
//! looks at a body is in the audit. Lists come in pages, newest first: `{"items": […], "next":
//! "<cursor>" | null}`; errors are problem details (RFC 9457).
//!
//! Jobs, subscriptions, tokens and the audit are written, nothing else. This crate knows no list and no table: the ledger and each domain declare their lists as
//! [`View`]s, and read them.

mod attempts;
mod body_text;
mod dead_groups;
mod document;
mod documents;
mod edit;
mod export;
mod facets;
mod feed;
mod forgetting;
mod jobs;
mod known_tokens;
mod lists;
mod names;
mod oidc;
mod overview;
mod page;
mod pages;
mod permit;
mod pull;
mod query_error;
mod queue_door;
mod queues;
mod record;
mod refusal;
mod reveal;
mod routes;
mod rules;
mod schemas;
mod sources;
mod subscription;
mod token;
mod tokens;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use ::documents::Archive;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use broker::layout::WorkQueue;
use broker::{DynBroker, Layout};
use event::Zone;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use ledger::feed::Feed;
use ledger::jobs::Editor;
use server::{Health, Operations, Server};
use store::Store;
use subscriptions::Seal;
use subscriptions::queue::Queues;
use tokio_util::sync::CancellationToken;
use view::{Described, View};

pub use document::openapi;
pub use edit::{EditChecked, EditRequest};
pub use export::Format;
pub use forgetting::forget_old_entries;
pub use jobs::Counted;
pub use oidc::{BadIssuer, Oidc, OidcSettings};
pub use overview::{Breach, BreachKind, Component, ComponentState, Overview, Overviews};
pub use page::Asked;
pub use query_error::QueryError;
pub use queues::{QUEUES, QueueRow, Version};
pub use record::EventDetail;
pub use reveal::PersonalFields;
pub use routes::{ROUTES, RouteRow};
pub use schemas::EventSchema;
pub use sources::{ConfiguredSource, SenderPanel, SourceDetail, Texts};
pub use token::{SeenTokens, Token};

use crate::refusal::Refusal;

/// The lists that are not read from the database alone.
pub(crate) static OTHER_VIEWS: [&View<Described>; 2] = [&QUEUES, &ROUTES];

/// Turns what identifies a person into what subjects and the audit have in its place: always the same, and nobody can turn it back.
pub type Pseudonym = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// What the API is made of. Cloning shares it.
#[derive(Clone)]
pub struct ConsoleState {
    /// Where the rows are.
    pub store: Store,
    /// Its events in their order.
    pub feed: Feed,
    /// What dead letters are edited with.
    pub editor: Editor,
    /// Where the queues are.
    pub broker: DynBroker,
    /// The names of the queues.
    pub layout: Layout,
    /// Those of subscriptions.
    pub queues: Queues,
    /// The token of the installation.
    pub token: Token,
    /// The numbers of each period that this process has read.
    pub overviews: Overviews,
    /// Whose other tokens this process has seen.
    pub seen: SeenTokens,
    /// Where people log in besides with tokens.
    pub oidc: Option<Oidc>,
    /// The key of the secrets of subscriptions.
    pub seal: Arc<Seal>,
    /// Where archived files are.
    pub archive: Archive,
    /// What push subscriptions send with: knows which addresses may be sent to.
    pub client: outbound::Client,
    /// Our consumers: name, and what it does in a few words. Each has the queue of its name.
    pub consumers: Vec<(&'static str, &'static str)>,
    /// Their queues, with the topics that these are bound to.
    pub work: Vec<WorkQueue>,
    /// The lists: the ledger's, and those of the domains.
    pub views: Vec<&'static View>,
    /// The configured sources.
    pub sources: Arc<[ConfiguredSource]>,
    /// The names of the providers, configured and built in.
    pub providers: Vec<String>,
    /// The names of personal fields in bodies.
    pub personal: PersonalFields,
    /// What subjects and the audit have in place of what identifies a person.
    pub pseudonym: Pseudonym,
    /// The types of domain events.
    pub schemas: Arc<[EventSchema]>,
    /// The health of this process: a consumer is `consumer.<name>`.
    pub health: Health,
    /// Cancelled once the tables are up to date.
    pub migrated: CancellationToken,
    /// The time zone of the days to reconcile.
    pub zone: Zone,
    /// Where the trace of an event is shown, with `{trace_id}`.
    pub trace_url: Option<String>,
    /// The program's version.
    pub version: &'static str,
}

/// Serves the port until `stop` is cancelled, as [`Server::serve`] does. A boxed future, so that it is compiled with this
/// crate.
pub fn serve(
    state: ConsoleState,
    port: Server,
    operations: Operations,
    stop: CancellationToken,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(port.serve(router(state), operations, stop))
}

/// The service to run on a [`Server`].
fn router(state: ConsoleState) -> Router {
    let no_such_method = async || Refusal::Method("GET, HEAD");
    let document = Arc::new(document::Served::new(&state.views));
    let lists = state
        .views
        .iter()
        .fold(Router::new(), |router, view| router.route(&lists::path(view), lists::route(view)));
    let protected = lists
        .route("/api/v1/events/{id}", get(record::event))
        .route("/api/v1/events/facets", get(facets::show))
        .route("/api/v1/events/{id}/body", get(record::body))
        .route("/api/v1/rejected/{id}", get(record::rejected_body))
        .route("/api/v1/dead/{id}", get(record::dead_letters))
        .route(
            "/api/v1/dead/{id}/{consumer}/edit",
            post(edit::edit)
                .layer(DefaultBodyLimit::max(edit::BODY_LIMIT_BYTES))
                .fallback(async || Refusal::Method("POST")),
        )
        .route("/api/v1/jobs", post(jobs::create).fallback(async || Refusal::Method("GET, HEAD, POST")))
        .route(
            "/api/v1/dead/groups/{group}/note",
            post(dead_groups::note).fallback(async || Refusal::Method("POST")),
        )
        .route("/api/v1/jobs/{id}", get(jobs::show))
        .route("/api/v1/jobs/{id}/outcome", get(jobs::outcome))
        .route("/api/v1/jobs/{id}/cancel", post(jobs::cancel).fallback(async || Refusal::Method("POST")))
        .route("/api/v1/jobs/{id}/pause", post(jobs::pause).fallback(async || Refusal::Method("POST")))
        .route("/api/v1/jobs/{id}/resume", post(jobs::resume).fallback(async || Refusal::Method("POST")))
        .route("/api/v1/jobs/{id}/reconciliation", get(jobs::reconciliation))
        .route(
            "/api/v1/subscriptions",
            post(subscription::create).fallback(async || Refusal::Method("GET, HEAD, POST")),
        )
        .route(
            "/api/v1/subscriptions/{name}",
            get(subscription::show)
                .put(subscription::edit)
                .delete(subscription::remove)
                .fallback(async || Refusal::Method("GET, HEAD, PUT, DELETE")),
        )
        .route("/api/v1/sources/{name}", get(sources::show))
        .route("/api/v1/documents/{id}", get(documents::show))
        .route("/api/v1/documents/{id}/body", get(documents::body))
        .merge(subscription_actions())
        .route("/api/v1/attempts/{id}", get(attempts::show))
        .route("/api/v1/attempts/retry", post(attempts::retry).fallback(async || Refusal::Method("POST")))
        .route(
            "/api/v1/undelivered/discard",
            post(attempts::discard).fallback(async || Refusal::Method("POST")),
        )
        .route("/api/v1/tokens", post(tokens::create).fallback(async || Refusal::Method("GET, HEAD, POST")))
        .route(
            "/api/v1/tokens/{name}",
            get(tokens::show).delete(tokens::remove).fallback(async || Refusal::Method("GET, HEAD, DELETE")),
        )
        .route(&lists::path(&QUEUES), get(queues::queues))
        .route(&lists::path(&ROUTES), get(routes::routes))
        .route("/api/v1/schemas", get(schemas::list))
        .route("/api/v1/schemas/{id}", get(schemas::show))
        .route("/api/v1/overview", get(overview::show))
        .route("/api/v1/version", get(queues::version))
        .fallback(async || Refusal::NoSuchPath)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(state.clone(), token::in_time))
        // Readers of the feed wait for events.
        .route("/api/v1/feed", get(feed::follow).fallback(no_such_method))
        // Last, so that it is asked first: without a token nobody learns which paths there are.
        .layer(from_fn_with_state(state.clone(), token::authorize))
        .with_state(state.clone());
    let api = Router::new()
        .route("/api/v1/openapi.json", get(document::serve))
        .method_not_allowed_fallback(no_such_method)
        .with_state(document)
        .merge(protected)
        .merge(pull_door(state.clone()));
    let pages = pages::router(state, api.clone());
    api.merge(pages).layer(from_fn(no_store))
}

/// What is done with one subscription.
fn subscription_actions() -> Router<ConsoleState> {
    let actions = [
        ("pause", post(subscription::pause)),
        ("resume", post(subscription::resume)),
        ("seek", post(subscription::seek)),
        ("rotate-secret", post(subscription::rotate_secret)),
        ("test", post(subscription::test)),
    ];
    actions.into_iter().fold(Router::new(), |router, (action, route)| {
        let route = route.fallback(async || Refusal::Method("POST"));
        router.route(&format!("/api/v1/subscriptions/{{name}}/{action}"), route)
    })
}

/// What the token of a pull subscription opens, too.
fn pull_door(state: ConsoleState) -> Router {
    Router::new()
        .route(
            "/api/v1/subscriptions/{name}/cursor",
            put(pull::store_cursor).fallback(async || Refusal::Method("PUT")),
        )
        .layer(from_fn_with_state(state.clone(), token::in_time))
        // Readers wait for events.
        .route(
            "/api/v1/subscriptions/{name}/events",
            get(pull::events).fallback(async || Refusal::Method("GET, HEAD")),
        )
        .layer(from_fn_with_state(state.clone(), pull::authorize))
        .with_state(state)
}

/// Forbids caching of every answer that does not allow it.
async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
