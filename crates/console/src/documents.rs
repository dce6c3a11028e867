//! Documents that were fetched, one by one, and their content.

use ::documents::{self, DocumentDetail};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use crate::ConsoleState;
use crate::page::{Id, pairs};
use crate::record::download;
use crate::refusal::Refusal;

/// One document, with all its versions.
#[utoipa::path(get, path = "/api/v1/documents/{id}", tag = "documents",
    params(("id" = String, Path, description = "The document's id")),
    responses((status = 200, description = "The document", body = DocumentDetail)))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    Id(id): Id,
) -> Result<Json<DocumentDetail>, Refusal> {
    let mut connection = state.store.read().await?;
    documents::show(&mut connection, id).await?.map(Json).ok_or(Refusal::NoSuchId)
}

/// The content of a document, byte for byte, by default that of its newest version. That of a file is there even if its address
/// has expired.
#[utoipa::path(get, path = "/api/v1/documents/{id}/body", tag = "documents",
    params(
        ("id" = String, Path, description = "The document's id"),
        ("version" = Option<i64>, Query, description = "The number of a version")),
    responses((status = 200, description = "The content", body = Vec<u8>,
        content_type = "application/octet-stream")))]
pub(crate) async fn body(
    State(state): State<ConsoleState>,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let given = pairs(&query.unwrap_or_default(), &["version".to_owned()])?;
    let wrong = |_| Refusal::Parameter("version: expected the number of a version".to_owned());
    let version = given.first().map(|(_, text)| text.parse::<i64>()).transpose().map_err(wrong)?;
    let found = documents::body(&mut *state.store.read().await?, id, version).await?;
    let documents::Body { content_type, sha256, body } = found.ok_or(Refusal::NoSuchId)?;
    let bytes = match body {
        Some(bytes) => bytes,
        None => {
            let file = state.archive.open(&sha256).await;
            let missing = "The file is not in this console's folder of files: give it the folder of the process that \
                           archives them (documents.files_dir).";
            file.ok().flatten().ok_or_else(|| Refusal::Conflict(missing.to_owned()))?
        }
    };
    Ok(download(id, ledger::Body { content_type, bytes }))
}
