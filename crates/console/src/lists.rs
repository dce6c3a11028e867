//! The lists: a route for each view, and its part of the OpenAPI document.

use access::{AUDIT, Identity, Role};
use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use event::EventId;
use http::header::CONTENT_TYPE;
use utoipa::IntoParams;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder};
use utoipa::openapi::{OpenApi, Ref, ResponseBuilder};
use view::{Described, PageJson, Unread, View};

use crate::ConsoleState;
use crate::export;
use crate::names;
use crate::page::{Asked, Id, PageParameters};
use crate::refusal::Refusal;
use crate::reveal::{self, RevealParameter};
use crate::token::{AskedFor, Audited};

/// How long a pseudonym is, in hexadecimal digits.
const PSEUDONYM_DIGITS: usize = 32;

/// The path of a list.
pub(crate) fn path(view: &View<impl AsRef<Described>>) -> String {
    format!("/api/v1/{}", view.name)
}

/// Answers with pages of a list.
pub(crate) fn route(view: &'static View) -> MethodRouter<ConsoleState> {
    match view.name.contains("{id}") {
        true => get(
            move |State(state): State<ConsoleState>,
                  Extension(identity): Extension<Identity>,
                  Id(id): Id,
                  RawQuery(query): RawQuery| async move {
                answer(view, &state, &identity, Some(id), &query.unwrap_or_default()).await
            },
        ),
        false => get(
            move |State(state): State<ConsoleState>,
                  Extension(identity): Extension<Identity>,
                  RawQuery(query): RawQuery| async move {
                answer(view, &state, &identity, None, &query.unwrap_or_default()).await
            },
        ),
    }
}

/// A page; `id` is that of the path, if it has one.
async fn answer(
    view: &'static View,
    state: &ConsoleState,
    identity: &Identity,
    id: Option<EventId>,
    query: &str,
) -> Result<Response, Refusal> {
    let check = |name: &str, value: &str| view.check(name, value);
    let is_revealed = !view.personal().is_empty() && reveal::is_asked(Some(query));
    let query = if is_revealed { reveal::without(query) } else { query.to_owned() };
    let Asked { mut given, page, format } = Asked::parse(&query, &view.filters(), check)?;
    // Whether there is a row for a person is personal, too.
    let is_about_somebody = given.iter().any(|pair| names_somebody(view, pair));
    if is_about_somebody && identity.role < Role::Operator {
        return Err(Refusal::Role { has: identity.role, needs: Role::Operator });
    }
    given.extend(id.map(|id| ("id".to_owned(), id.to_string())));
    let asked = Extension(AskedFor(sought(state, view, &given)));
    let audited = Extension(Audited(filter_text(state, view, &given)));
    if view.name == AUDIT.name {
        for (_, person) in given.iter_mut().filter(|(name, _)| name == "person") {
            *person = pseudonym(state, person);
        }
    }
    if let Some(format) = format {
        names::check(state, &mut *state.store.read().await?, &given, Some(view)).await?;
        return Ok((asked, audited, export::answer(view, state, given, format).await?).into_response());
    }
    let mut connection = state.store.read().await?;
    let PageJson { json, is_empty } = match is_revealed {
        true => view.page_revealed(&mut connection, &given, &page).await?,
        false => view.page(&mut connection, &given, &page).await?,
    };
    if is_empty {
        names::check(state, &mut connection, &given, Some(view)).await?;
    }
    Ok((asked, audited, [(CONTENT_TYPE, "application/json")], json).into_response())
}

/// Whether a pair of a filter says whom it is about: by a personal field of the list, or an id of a sender that has the form of one.
fn names_somebody(view: &View, (name, value): &(String, String)) -> bool {
    view.personal().contains(&name.as_str()) || name == "sender_id" && view::is_personal(value)
}

/// The pseudonyms of those whom a filter asks for.
fn sought(state: &ConsoleState, view: &View, given: &[(String, String)]) -> Vec<String> {
    let people = given.iter().filter(|pair| names_somebody(view, pair));
    people.map(|(_, value)| pseudonym(state, value)).collect()
}

/// A filter as the audit has it: without what is personal.
fn filter_text(state: &ConsoleState, view: &View, given: &[(String, String)]) -> String {
    let pair = |pair: &(String, String)| match (names_somebody(view, pair), pair) {
        (true, (name, value)) => format!("{name}={}", pseudonym(state, value)),
        (false, (name, value)) => format!("{name}={value}"),
    };
    given.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// The pseudonym of somebody by their number or address, however it is written, or by a subject, which is their pseudonym already.
fn pseudonym(state: &ConsoleState, text: &str) -> String {
    let last = text.trim().rsplit('/').next().unwrap_or_default();
    if last.len() == PSEUDONYM_DIGITS && last.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return last.to_owned();
    }
    let bare = || text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
    (state.pseudonym)(&view::person(text).unwrap_or_else(bare))
}

/// Adds a list to the document.
pub(crate) fn describe(view: &View<impl AsRef<Described>>, document: &mut OpenApi) {
    let schemas = view.schemas();
    let page = Ref::from_schema_name(&schemas[0].0);
    let content = ContentBuilder::new().schema(Some(page)).build();
    let found = ResponseBuilder::new()
        .description(match view.is_paged() {
            true => format!("A page of {}", view.rows),
            false => format!("All {}, on one page", view.rows),
        })
        .content("application/json", content)
        .build();
    let mut parameters = view.parameters();
    if view.is_paged() {
        parameters.extend(PageParameters::into_params(|| None));
    }
    if !view.personal().is_empty() {
        parameters.extend(RevealParameter::into_params(|| None));
    }
    let operation = OperationBuilder::new()
        .tag(view.tag)
        .summary(Some(format!("{}.", view.about)))
        .operation_id(Some(operation_id(view.name)))
        .parameters((!parameters.is_empty()).then_some(parameters))
        .response("200", found)
        .build();
    document.paths.add_path_operation(path(view), vec![HttpMethod::Get], operation);
    document.components.get_or_insert_default().schemas.extend(schemas);
}

/// What names the list in a generated client: `dead_groups`, and of a list of one resource `differences`.
fn operation_id(name: &str) -> String {
    name.rsplit("{id}/").next().unwrap_or(name).replace('/', "_")
}

impl From<Unread> for Refusal {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Filter(error) => Self::Query(error.into()),
            Unread::Store(error) => Self::Store(error),
        }
    }
}
