//! Pull subscriptions: a service reads the events of its subscription, and says how far it has come.
//!
//! Besides the tokens of the API, the subscription's own token opens these two paths.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, FromRequestParts, RawQuery, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use ledger::feed::After;
use serde::Deserialize;
use subscriptions::pull::{Filtered, acknowledge, token_digest, tokens};
use subscriptions::{Acknowledged, BadDeclaration, Expression, Subscription, SubscriptionError};
use utoipa::IntoParams;

use crate::ConsoleState;
use crate::feed::{Form, wrong};
use crate::page::pairs;
use crate::permit::Permit;
use crate::refusal::{self, Refusal};
use crate::subscription::{Named, read_json};
use crate::token;

/// Lets a request pass that has the token of the subscription in the path, or one of the API whose role is enough.
pub(crate) async fn authorize(State(state): State<ConsoleState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let own = token::presented(&parts.headers).and_then(token_digest);
    let name = Named::from_request_parts(&mut parts, &state).await;
    token::wait_for_tables(&state).await;
    let permitted = match own {
        None => token::identify(&state, token::presented(&parts.headers))
            .await
            .and_then(|identity| Ok((name?.0, Some(identity)))),
        Some(digest) => match state.seen.readers.owner(&state.store, digest, tokens).await {
            Ok(owner) => match name {
                Ok(Named(name)) if owner.as_deref() == Some(name.as_str()) => Ok((name, None)),
                _ => Err(Refusal::Unauthorized),
            },
            Err(error) => Err(error.into()),
        },
    };
    let response = match permitted {
        Ok((name, identity)) => {
            parts.extensions.insert(Permit { state: state.clone(), name, token: own });
            let request = Request::from_parts(parts, body);
            match identity {
                Some(identity) => token::permit(&state, identity, request, next).await,
                None => {
                    token::note_authenticated(request.extensions());
                    next.run(request).await
                }
            }
        }
        Err(refusal) => refusal.into_response(),
    };
    refusal::complete(response, &state)
}

/// What a reader takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PullParameters {
    /// The events after this `position`, `beginning` or `now`; by default, after what was acknowledged last.
    after: Option<String>,
    /// How long to wait for the first event, in seconds. A stream waits anyway.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 60, default = 0)]
    wait: Option<String>,
    /// The most events of the answer. A stream has no limit.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
}

/// The events of a pull subscription after what was acknowledged last, in the form of the feed.
///
/// One CloudEvent (JSON format) on each line. Acknowledge the header `malote-position` once the events are dealt with
/// (`PUT /subscriptions/{name}/cursor`); until then they are given again. With `Accept: text/event-stream` the answer is a stream
/// of Server-Sent Events. The token of the subscription opens this path.
#[utoipa::path(get, path = "/api/v1/subscriptions/{name}/events", tag = "subscriptions", operation_id = "pull",
    params(("name" = String, Path, description = "The subscription's name"), PullParameters,
        ("Last-Event-ID" = Option<String>, Header, description = "As `after`, for a stream")),
    security(("token" = []), ("subscription" = [])),
    responses(
        (status = 200, description = "Events, or none if none came in time", content(
            (String = "application/x-ndjson"), (String = "text/event-stream"))),
        (status = 409, description = "It is no pull subscription, or it is paused"),
        (status = 410, description = "Events after the position were deleted by retention: the member `after` is where to continue \
            without them. Or the feed has no such position")))]
pub(crate) async fn events(
    State(state): State<ConsoleState>,
    Extension(permit): Extension<Permit>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let pairs = pairs(&query.unwrap_or_default(), &view::names::<PullParameters>())?;
    let PullParameters { after, wait, limit } =
        view::read(&pairs).map_err(|error| Refusal::Parameter(error.to_string()))?;
    let form = Form::new(&headers, limit, wait)?;
    let after = form.after(&headers, after)?;
    let Subscription { declaration, cursor, .. } = permit.check().await?;
    let (topics, filter) =
        (declaration.topics(), declaration.filter.as_deref().map(Expression::filter).transpose());
    let bad = |error| SubscriptionError::from(BadDeclaration::Expression { field: "filter", error });
    let (topics, filter) = (topics.map_err(SubscriptionError::from)?, filter.map_err(bad)?);
    let reader = state.feed.reader(after.unwrap_or(After::Cursor(cursor)), topics).await?;
    form.answer(Filtered::new(reader, filter), Some(permit)).await
}

/// Stores how far the reader has come: the next reading begins after it. A position before the stored one changes nothing; the
/// answer has the stored one.
#[utoipa::path(put, path = "/api/v1/subscriptions/{name}/cursor", tag = "subscriptions", operation_id = "acknowledge",
    params(("name" = String, Path, description = "The subscription's name")),
    request_body = Acknowledged, security(("token" = []), ("subscription" = [])),
    responses(
        (status = 200, description = "The stored position", body = Acknowledged),
        (status = 409, description = "It is no pull subscription"),
        (status = 410, description = "The feed has no such position")))]
pub(crate) async fn store_cursor(
    State(state): State<ConsoleState>,
    Extension(permit): Extension<Permit>,
    body: Bytes,
) -> Result<Json<Acknowledged>, Refusal> {
    let Acknowledged { position } = read_json(&body)?;
    let After::Cursor(cursor) = position.parse::<After>().map_err(|error| wrong("position", error))? else {
        return Err(wrong("position", "expected the position of an event or of an answer"));
    };
    let name = permit.subscription().await?.declaration.name;
    state.feed.check(cursor).await?;
    let stored = acknowledge(&state.store, &name, cursor).await?;
    Ok(Json(Acknowledged { position: stored.to_string() }))
}
