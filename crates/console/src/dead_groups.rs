//! Notes about groups of dead letters.

use access::Identity;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use ledger::{GroupNote, NewGroupNote, NoteError};

use crate::ConsoleState;
use crate::refusal::Refusal;
use crate::subscription::read_json;
use crate::token::Audited;

/// Notes a text and the address of a ticket about a group of dead letters, in place of what was noted before. What is not given
/// stays as it is, and an empty text removes what was there.
#[utoipa::path(post, path = "/api/v1/dead/groups/{group}/note", tag = "record", operation_id = "note_group",
    params(("group" = String, Path, description = "The group, as the list of groups names it")),
    request_body = NewGroupNote,
    responses((status = 200, description = "What is noted now; null if nothing is", body = Option<GroupNote>),
        (status = 404, description = "There is no such group", body = Object)))]
pub(crate) async fn note(
    State(state): State<ConsoleState>,
    Extension(identity): Extension<Identity>,
    Path(group): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let new: NewGroupNote = read_json(&body)?;
    let noted = ledger::note_group(&state.store, &group, &new, &identity.name).await?;
    let what = noted.as_ref().map(|note| format!("{group} {} {}", note.text, note.ticket)).unwrap_or(group);
    Ok((Extension(Audited(what.trim().to_owned())), Json(noted)).into_response())
}

impl From<NoteError> for Refusal {
    fn from(error: NoteError) -> Self {
        match error {
            NoteError::NoGroup(_) => Self::NoSuchId,
            NoteError::Unfit(text) => Self::Parameter(text),
            NoteError::Store(error) => Self::Store(error),
        }
    }
}
