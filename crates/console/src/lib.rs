//! The administration API: every event received, its outcome, and what was booked, under `/api/v1`.
//!
//! Place in the flow: to the right of the ledger and the domains, whose rows it reads; the command line and the
//! operator's tools are its clients. Everything but the OpenAPI document needs the bearer token: rows contain names and
//! documents of people, so no answer may be cached. Lists come in pages, newest first: `{"items": […], "next":
//! "<cursor>" | null}`; errors are problem details (RFC 9457).
//!
//! Only jobs are written. This crate knows no list and no table: the ledger and each domain declare their lists as
//! [`View`]s, and read them.

mod document;
mod feed;
mod jobs;
mod lists;
mod names;
mod page;
mod query_error;
mod queues;
mod record;
mod refusal;
mod token;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use broker::{DynBroker, Layout};
use event::Zone;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use ledger::feed::Feed;
use server::{Health, Operations, Server};
use store::Store;
use tokio_util::sync::CancellationToken;
use view::View;

pub use document::openapi;
pub use jobs::Counted;
pub use page::Asked;
pub use query_error::QueryError;
pub use queues::{QUEUES, QueueRow, Version};
pub use token::Token;

use crate::refusal::Refusal;

/// What the API is made of. Cloning shares it.
#[derive(Clone)]
pub struct ConsoleState {
    /// Where the rows are.
    pub store: Store,
    /// Its events in their order.
    pub feed: Feed,
    /// Where the queues are.
    pub broker: DynBroker,
    /// The names of the queues.
    pub layout: Layout,
    /// What a client has to know.
    pub token: Token,
    /// Our consumers: name, and what it does in a few words. Each has the queue of its name.
    pub consumers: Vec<(&'static str, &'static str)>,
    /// The lists: the ledger's, and those of the domains.
    pub views: Vec<&'static View>,
    /// The names of the configured sources.
    pub sources: Vec<String>,
    /// The names of the providers, configured and built in.
    pub providers: Vec<String>,
    /// The health of this process: a consumer is `consumer.<name>`.
    pub health: Health,
    /// Cancelled once the tables are up to date.
    pub migrated: CancellationToken,
    /// The time zone of the days to reconcile.
    pub zone: Zone,
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
        .route("/api/v1/events/{id}/body", get(record::body))
        .route("/api/v1/rejected/{id}", get(record::rejected_body))
        .route("/api/v1/dead/{id}", get(record::dead_letters))
        .route("/api/v1/jobs", post(jobs::create).fallback(async || Refusal::Method("GET, HEAD, POST")))
        .route("/api/v1/jobs/{id}", get(jobs::show))
        .route("/api/v1/jobs/{id}/outcome", get(jobs::outcome))
        .route("/api/v1/jobs/{id}/cancel", post(jobs::cancel).fallback(async || Refusal::Method("POST")))
        .route("/api/v1/jobs/{id}/reconciliation", get(jobs::reconciliation))
        .route(&lists::path(&queues::QUEUES), get(queues::queues))
        .route("/api/v1/version", get(queues::version))
        .fallback(async || Refusal::NoSuchPath)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(state.clone(), token::in_time))
        // Readers of the feed wait for events.
        .route("/api/v1/feed", get(feed::follow).fallback(no_such_method))
        // Last, so that it is asked first: without the token nobody learns which paths there are.
        .layer(from_fn_with_state(state.clone(), token::authorize))
        .with_state(state);
    Router::new()
        .route("/api/v1/openapi.json", get(document::serve))
        .method_not_allowed_fallback(no_such_method)
        .with_state(document)
        .merge(protected)
        .layer(from_fn(no_store))
}

/// Forbids caching of every answer that does not allow it.
async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
