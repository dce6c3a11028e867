//! Reconciliation: days whose books were read, and on the page of such a job its books and its differences.

use access::Role;
use askama::Template;
use axum::extract::{Extension, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use ledger::{DIFFERENCES, JOBS, Reconciliation, SourceBooks};
use serde_json::Value;
use serde_json::value::RawValue;
use view::List;

use super::actions::{self, Action};
use super::rows::{Cell, Fields, Part, Rows, Title};
use super::shell::{Shell, Visit, page};
use super::{Pages, borrowed, given, link, read};

/// So many differences are on the page of a job; the others are on a page of their own.
const MOST_DIFFERENCES: &str = "50";

#[derive(Template)]
#[template(path = "reconcile.html")]
struct ReconcilePage {
    shell: Shell,
    actions: Vec<Action>,
    rows: Rows,
    next: Option<String>,
}

/// The days that were reconciled, and a form for another one.
pub(super) async fn show(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let asked: Vec<_> = given(query).into_iter().filter(|(name, _)| name == "cursor").collect();
    let path = link(&format!("/{}", JOBS.name), borrowed(&asked).chain([("action", "reconcile")]));
    let List { items, next } = match read::<List<Box<RawValue>>>(&pages, &visit, &path).await {
        Ok(list) => list,
        Err(answer) => return pages.problem(&headers, &uri, Some(visit), answer).await,
    };
    let shell = pages.shell(&headers, &uri, Some(visit.clone()), "Reconciliation");
    let Ok(rows) = Rows::from_list(&shell, &JOBS, shell.title.clone(), &items, &[]) else {
        return pages.problem(&headers, &uri, Some(visit), super::broken()).await;
    };
    let may = visit.identity.role >= Role::Operator;
    let actions = if may { actions::reconciling(&visit) } else { Vec::new() };
    let next = next.map(|next| link(uri.path(), [("cursor", next)]));
    page(StatusCode::OK, &ReconcilePage { actions, rows, next, shell })
}

/// What a reconciliation has found, if a job is one and has begun.
pub(super) async fn parts(pages: &Pages, visit: &Visit, shell: &Shell, job: &Fields) -> Vec<Part> {
    let text = |name: &str| job.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("action") != "reconcile" {
        return Vec::new();
    }
    let id = text("id");
    let Ok(found) = read::<Reconciliation>(pages, visit, &format!("/jobs/{id}/reconciliation")).await else {
        return Vec::new();
    };
    let list = format!("/{}", DIFFERENCES.name.replace("{id}", id));
    let mut parts = vec![summary(shell, &found, &list), books(shell, &found.sources)];
    let path = link(&list, [("limit", MOST_DIFFERENCES)]);
    if found.differences + found.sent > 0
        && let Ok(List { items, .. }) = read::<List<Box<RawValue>>>(pages, visit, &path).await
        && let Ok(rows) = Rows::from_list(shell, &DIFFERENCES, shell.t("Differences").to_owned(), &items, &[])
    {
        parts.push(Part { title: rows.caption.clone(), rows: Some(rows), ..Part::default() });
    }
    parts
}

fn cell(text: impl ToString) -> Cell {
    Cell { text: text.to_string(), ..Cell::default() }
}

fn summary(shell: &Shell, found: &Reconciliation, list: &str) -> Part {
    let (text, class) = match found.balanced {
        true => ("✓ The books balance", "good"),
        false => ("✗ The books do not balance", "bad"),
    };
    let waiting: Vec<_> = found.waiting.iter().map(|(queue, count)| format!("{queue}: {count}")).collect();
    let mut fields = vec![
        (shell.t("Day"), cell(format!("{} ({})", found.day, found.zone))),
        (shell.t("Result"), Cell { class, ..cell(shell.t(text)) }),
        (shell.t("Differences"), Cell { href: Some(list.to_owned()), ..cell(found.differences) }),
        (shell.t("Sent again"), cell(found.sent)),
    ];
    if !waiting.is_empty() {
        fields.push((shell.t("Waiting in queues"), cell(waiting.join(", "))));
    }
    let fields = fields.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect();
    Part { title: shell.t("Books").to_owned(), fields, ..Part::default() }
}

fn books(shell: &Shell, sources: &[SourceBooks]) -> Part {
    let titles = [
        shell.t("Source"),
        shell.t("Answered"),
        shell.t("Received"),
        shell.t("Handled"),
        shell.t("Routed"),
        shell.t("Pending"),
        shell.t("Dead"),
        shell.t("Unrouted"),
        shell.t("Discarded"),
        shell.t("Duplicate"),
        shell.t("Unaccounted"),
        shell.t("Rejected"),
    ];
    let row = |one: &SourceBooks| {
        let numbers = [
            one.counted_accepted,
            one.received,
            one.handled,
            one.routed,
            one.pending,
            one.dead,
            one.unrouted,
            one.discarded,
            one.duplicate,
            one.unaccounted,
            one.rejected,
        ];
        let number = |number| Cell { class: "number", ..cell(number) };
        [cell(&one.source)].into_iter().chain(numbers.map(number)).collect()
    };
    let title = |(at, title): (usize, &str)| Title { title: title.to_owned(), is_number: at > 0 };
    let rows = Rows {
        caption: shell.t("Sources").to_owned(),
        columns: titles.into_iter().enumerate().map(title).collect(),
        rows: sources.iter().map(row).collect(),
    };
    Part { title: rows.caption.clone(), rows: Some(rows), ..Part::default() }
}
