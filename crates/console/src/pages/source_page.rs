//! A source: its secrets with their age and last use, what its sender enters, what was refused, how polling and fetching go.

use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use ledger::{SOURCE_REFUSALS, SOURCE_SECRETS, SecretState};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;
use view::{Described, View};

use super::rows::{Cell, Part, Rows};
use super::shell::{Shell, Visit, page};
use super::text::Lang;
use super::{ItemPage, Pages, link, read};
use crate::sources::{SenderPanel, SourceDetail, Texts};

/// What is said where several secrets are accepted.
const ROTATING: &str = "Each of these secrets is accepted. Remove the one that is used earlier from the configuration once its sender uses the other.";

/// The page of a source.
pub(super) async fn show(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let found: SourceDetail = match read(&pages, &visit, uri.path()).await {
        Ok(found) => found,
        Err(answer) => return pages.problem(&headers, &uri, Some(visit), answer).await,
    };
    let mut shell = pages.shell(&headers, &uri, Some(visit), "source");
    let source = &found.configured.source;
    shell.title = format!("{} {source}", shell.title);
    let of_this = |path: &str| link(path, [("source", source)]);
    let mut links = vec![
        ("Events", of_this("/events")),
        ("Rejected bodies", of_this("/rejected")),
        ("Dead letters", of_this("/dead")),
    ];
    if found.documents.is_some() {
        links.push(("Documents", of_this("/documents")));
    }
    let links = links.into_iter().map(|(text, href)| (shell.t(text).to_owned(), href)).collect();
    let parts = parts(&shell, &found);
    let (actions, personal, progress, outcome) = (Vec::new(), None, None, None);
    page(StatusCode::OK, &ItemPage { shell, actions, links, personal, parts, progress, outcome })
}

fn parts(shell: &Shell, found: &SourceDetail) -> Vec<Part> {
    let configured = &found.configured;
    let text = |name: &str, text: &str| (name.to_owned(), Cell { text: text.to_owned(), ..Cell::default() });
    let mut parts = vec![Part {
        fields: vec![
            text("provider", &configured.provider),
            text("address", &configured.address),
            text("expects", in_language(shell, &configured.expects)),
        ],
        ..Part::default()
    }];
    let accepted = found.secrets.iter().filter(|secret| secret.state != SecretState::Removed).count();
    parts.push(Part {
        note: (accepted > 1).then(|| shell.t(ROTATING).to_owned()),
        ..table(shell, "Secrets", &SOURCE_SECRETS, &found.secrets)
    });
    parts.push(table(shell, "Refused requests", &SOURCE_REFUSALS, &found.refusals));
    let is_polled = found.polling.as_ref().is_some_and(|row| !row["poll_every_s"].is_null());
    parts.push(match &found.polling {
        Some(row) if is_polled => Part { fields: fields(shell, row), ..titled("Polling") },
        _ => Part { note: Some(shell.t("It is not polled.").to_owned()), ..titled("Polling") },
    });
    if let Some(api) = &found.documents {
        let is_failing = api.failing_since.is_some();
        let (state, class) = if is_failing { ("failing", "bad") } else { ("working", "good") };
        let mut fields = vec![("state".to_owned(), Cell { class, ..text("", shell.t(state)).1 })];
        fields.extend(self::fields(shell, &view::shown(api)));
        parts.push(Part { fields, ..titled("API of its documents") });
    }
    parts.extend(configured.panel.iter().map(|panel| sender(shell, panel)));
    parts
}

/// What to enter at the sender.
fn sender(shell: &Shell, panel: &SenderPanel) -> Part {
    let text = |text: &str| Cell { text: text.to_owned(), ..Cell::default() };
    Part {
        fields: vec![
            ("sender".to_owned(), text(&panel.title)),
            ("page about it".to_owned(), text(&panel.page)),
            ("when the events stop".to_owned(), text(in_language(shell, &panel.stops))),
        ],
        text: Some(in_language(shell, &panel.text).to_owned()),
        ..titled("What to enter in the sender's panel")
    }
}

fn titled(title: &str) -> Part {
    Part { title: title.to_owned(), ..Part::default() }
}

fn in_language<'a>(shell: &Shell, texts: &'a Texts) -> &'a str {
    match shell.lang {
        Lang::English => &texts.en,
        Lang::Portuguese => &texts.pt,
    }
}

/// The fields of an object that say something besides which source it is of.
fn fields(shell: &Shell, object: &Value) -> Vec<(String, Cell)> {
    let is_shown = |(name, value): &(&String, &Value)| {
        !value.is_null() && !["source", "provider"].contains(&name.as_str())
    };
    let fields = object.as_object().into_iter().flatten().filter(is_shown);
    fields.map(|(name, value)| (name.clone(), Cell::from_field(shell, name, value))).collect()
}

/// Rows under a title; without any, what that means.
fn table<T: Serialize>(shell: &Shell, title: &str, view: &View<Described>, rows: &[T]) -> Part {
    let items: Vec<_> = rows.iter().filter_map(|row| to_raw_value(row).ok()).collect();
    let table = Rows::from_list(shell, view, shell.t(title).to_owned(), &items, &[]).ok();
    match table.filter(|table| !table.rows.is_empty()) {
        Some(table) => Part { rows: Some(table), ..titled(title) },
        None => Part { note: Some(shell.t(view.empty).to_owned()), ..titled(title) },
    }
}
