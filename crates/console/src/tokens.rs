//! Tokens of the API: added and removed.

use access::{AddedToken, BadToken, Identity, NewApiToken, TokenRow};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::ConsoleState;
use crate::refusal::Refusal;
use crate::subscription::read_json;
use crate::token::Audited;

impl From<BadToken> for Refusal {
    fn from(error: BadToken) -> Self {
        match error {
            BadToken::Name(_) | BadToken::Installation | BadToken::Expired(_) => {
                Self::Parameter(error.to_string())
            }
            BadToken::Exists(_) => Self::TokenExists(error),
            BadToken::Store(error) => Self::Store(error),
        }
    }
}

/// Adds a token. The answer has its text, which is not shown again.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", operation_id = "add_token", request_body = NewApiToken,
    responses(
        (status = 201, description = "The token", body = AddedToken),
        (status = 409, description = "There is a token with this name")))]
pub(crate) async fn create(
    State(state): State<ConsoleState>,
    Extension(identity): Extension<Identity>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let new: NewApiToken = read_json(&body)?;
    let added = access::add(&state.store, &new, &identity).await?;
    let audited = Audited(format!("{} {}", added.name, added.role.as_str()));
    Ok((StatusCode::CREATED, Extension(audited), Json(added)).into_response())
}

/// One token: whose it is, and what it allows.
#[utoipa::path(get, path = "/api/v1/tokens/{name}", tag = "access", operation_id = "show_token",
    params(("name" = String, Path, description = "The token's name")),
    responses((status = 200, description = "The token", body = TokenRow)))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    Path(name): Path<String>,
) -> Result<Json<TokenRow>, Refusal> {
    access::show(&mut *state.store.read().await?, &name).await?.map(Json).ok_or(Refusal::NoToken(name))
}

/// Removes a token: it opens nothing from now on.
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "access", operation_id = "remove_token",
    params(("name" = String, Path, description = "The token's name")),
    responses((status = 200, description = "What was removed", body = TokenRow)))]
pub(crate) async fn remove(
    State(state): State<ConsoleState>,
    Path(name): Path<String>,
) -> Result<Json<TokenRow>, Refusal> {
    access::remove(&state.store, &name).await?.map(Json).ok_or(Refusal::NoToken(name))
}
