//! Every row of a filter as a stream: comma-separated values (RFC 4180), or one line of JSON for each.

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use store::Page;
use utoipa::ToSchema;
use view::{Described, Form, List, PageJson, Table, Unread, View};

use crate::ConsoleState;
use crate::refusal::Refusal;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line of titles, and one for each row, as the command line shows it.
    Csv,
    /// Each row as a line of JSON, as a page has it.
    Ndjson,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// Its name, and the extension of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// The rows of a page as text; the first page of CSV has the titles.
    fn written(
        self,
        view: &View<impl AsRef<Described>>,
        items: &[Box<RawValue>],
        is_first: bool,
    ) -> serde_json::Result<String> {
        match self {
            Self::Ndjson => Ok(items.iter().flat_map(|item| [item.get(), "\n"]).collect()),
            Self::Csv => {
                let Table { columns, rows, .. } = view.table(items)?;
                let titles = is_first.then(|| line(columns.iter().map(|(title, _)| (*title).to_owned())));
                let row = |row: &Vec<Value>| {
                    line(columns.iter().zip(row).map(|((_, form), value)| cell(*form, value)))
                };
                Ok(titles.into_iter().chain(rows.iter().map(row)).collect())
            }
        }
    }
}

/// A value as a spreadsheet may have it: a text that it would take for a formula begins with an apostrophe.
fn cell(form: Form, value: &Value) -> String {
    let text = view::written(form, value);
    let is_number = matches!(form, Form::Number | Form::Money | Form::Count);
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number {
        true => format!("'{text}"),
        false => text,
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let quoted = |cell: String| match cell.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    cells.map(quoted).collect::<Vec<_>>().join(",") + "\r\n"
}

/// The rows of a page, written, and where the next one begins.
async fn part(
    view: &'static View,
    state: &ConsoleState,
    given: &[(String, String)],
    page: &Page,
    format: Format,
) -> Result<(Bytes, Option<Page>), Unread> {
    let PageJson { json, .. } = view.page(&mut *state.store.read().await?, given, page).await?;
    let List { items, next } =
        serde_json::from_str::<List<Box<RawValue>>>(&json).expect("a page is a list as JSON");
    let text = format.written(view, &items, page.cursor.is_none()).expect("these are rows of this list");
    Ok((text.into(), next.map(|next| Page { limit: Page::LIMIT, cursor: Some(next) })))
}

/// All rows that fit, page by page as the client takes them. An error midway aborts the answer, which the client notices.
pub(crate) async fn answer(
    view: &'static View,
    state: &ConsoleState,
    given: Vec<(String, String)>,
    format: Format,
) -> Result<Response, Refusal> {
    let (first, next) = part(view, state, &given, &Page::first(Page::LIMIT), format).await?;
    let rest = stream::try_unfold((state.clone(), given, next), move |(state, given, page)| async move {
        let Some(page) = page else { return Ok(None) };
        let (bytes, next) = part(view, &state, &given, &page, format).await?;
        Ok::<_, Unread>(Some((bytes, (state, given, next))))
    });
    let name = view.name.replace(['/', '{', '}'], "-");
    let disposition = format!("attachment; filename=\"{name}.{}\"", format.name());
    let body = Body::from_stream(stream::once(async { Ok(first) }).chain(rest));
    let headers = [(CONTENT_TYPE, format.content_type().to_owned()), (CONTENT_DISPOSITION, disposition)];
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_quoted_and_no_text_is_a_formula() {
        let cells = [
            (Form::Text, json!("a \"b\", c")),
            (Form::Text, json!("=cmd|' /C calc'!A0")),
            (Form::Money, json!(-46020)),
            (Form::Text, json!(null)),
        ];
        let written = line(cells.iter().map(|(form, value)| cell(*form, value)));
        assert_eq!(written, "\"a \"\"b\"\", c\",'=cmd|' /C calc'!A0,-460.20,\r\n");
    }
}
