//! The configured sources, one by one: what their requests have to prove and what is known of that, what to enter in the sender's
//! panel, and how polling and fetching go.

use axum::Json;
use axum::extract::{Path, State};
use ledger::{SourceRefusal, SourceSecret};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Page;
use utoipa::ToSchema;
use view::List;

use crate::ConsoleState;
use crate::refusal::Refusal;

/// The list of the sources.
const SOURCES: &str = "sources";

/// A text in two languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Texts {
    /// In English.
    pub en: String,
    /// In Portuguese.
    pub pt: String,
}

/// What to enter in the panel of a sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderPanel {
    /// The sender's name, as people write it.
    pub title: String,
    /// The sender's own page about its webhooks.
    pub page: String,
    /// What to enter, line by line, without the secret itself.
    pub text: Texts,
    /// What to do when its events stop.
    pub stops: Texts,
}

/// A source as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfiguredSource {
    /// Its name.
    pub source: String,
    /// Its provider.
    pub provider: String,
    /// Where its sender posts to.
    pub address: String,
    /// What a request has to have.
    pub expects: Texts,
    /// What to enter in the sender's panel; null if no preset describes the sender.
    pub panel: Option<SenderPanel>,
}

/// A source, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceDetail {
    /// As it is configured.
    #[serde(flatten)]
    pub configured: ConfiguredSource,
    /// Its secrets, as the ingresses report them, and those that it had before.
    pub secrets: Vec<SourceSecret>,
    /// The last request that was refused, for each reason.
    pub refusals: Vec<SourceRefusal>,
    /// How polling goes: a row of the list of sources.
    #[schema(value_type = Option<Object>)]
    pub polling: Option<Value>,
    /// How the API of its documents answers; null before it was asked.
    pub documents: Option<documents::SourceApi>,
}

/// One source: its secrets with their age and last use, the last refused requests, what to enter in the sender's panel, and how
/// polling it and fetching its documents go.
#[utoipa::path(get, path = "/api/v1/sources/{name}", tag = "sources", operation_id = "show_source",
    params(("name" = String, Path, description = "The source's name")),
    responses((status = 200, description = "The source", body = SourceDetail)))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    Path(name): Path<String>,
) -> Result<Json<SourceDetail>, Refusal> {
    let configured = state.sources.iter().find(|source| source.source == name).cloned();
    let configured = configured.ok_or_else(|| Refusal::NoSource(name.clone()))?;
    let mut connection = state.store.read().await?;
    let polling = match state.views.iter().find(|view| view.name == SOURCES) {
        Some(list) => {
            let this = [("source".to_owned(), name.clone())];
            let answer = list.page(&mut connection, &this, &Page::first(1)).await?;
            let rows: List<Value> = serde_json::from_str(&answer.json).expect("a list is JSON");
            rows.items.into_iter().next()
        }
        None => None,
    };
    Ok(Json(SourceDetail {
        secrets: ledger::source_secrets(&mut connection, &name).await?,
        refusals: ledger::source_refusals(&mut connection, &name).await?,
        documents: documents::source_api(&mut connection, &name).await?,
        polling,
        configured,
    }))
}
