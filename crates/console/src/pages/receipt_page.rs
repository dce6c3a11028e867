//! The receipt of an event or a rejected body: a page to print, and the same text as a file.

use askama::Template;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode, Uri};
use ledger::{RecordedEvent, Rejected};
use serde_json::value::RawValue;
use view::MASK;

use super::personal::{self, Personal};
use super::shell::{Shell, Visit, page};
use super::{Pages, Problem, given, read};

#[derive(Template)]
#[template(path = "receipt.html")]
struct ReceiptPage {
    shell: Shell,
    text: String,
    /// The page of what was received.
    back: String,
    download: String,
    personal: Option<Personal>,
}

pub(super) async fn show(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let (back, file) = uri.path().rsplit_once('/').unwrap_or_default();
    let (_, is_revealed) = personal::split(given(query));
    let path = personal::asking(back, is_revealed);
    let answer: Box<RawValue> = match read(&pages, &visit, &path).await {
        Ok(answer) => answer,
        Err(answer) => return pages.problem(&headers, &uri, Some(visit), answer).await,
    };
    let text = match back.starts_with("/events/") {
        true => serde_json::from_str(answer.get()).ok().and_then(|event: RecordedEvent| event.receipt_text()),
        false => serde_json::from_str(answer.get()).ok().and_then(|body: Rejected| body.receipt_text()),
    };
    let Some(text) = text else {
        let shell = pages.shell(&headers, &uri, Some(visit), "No receipt");
        let detail = "It was not posted by a sender, or was recorded before receipts were kept.";
        return page(StatusCode::NOT_FOUND, &Problem::new(shell, detail, StatusCode::NOT_FOUND));
    };
    if file.ends_with(".txt") {
        let disposition = format!("attachment; filename=\"receipt-{id}.txt\"");
        let head =
            [(CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, disposition)];
        return (head, text).into_response();
    }
    let personal = is_revealed || text.contains(MASK);
    let mut shell = pages.shell(&headers, &uri, Some(visit.clone()), "Receipt");
    shell.title = format!("{} {id}", shell.title);
    let made = ReceiptPage {
        personal: personal.then(|| Personal::new(&visit, uri.path(), &[], is_revealed)),
        download: personal::asking(&format!("{back}/receipt.txt"), is_revealed),
        back: back.to_owned(),
        text,
        shell,
    };
    page(StatusCode::OK, &made)
}
