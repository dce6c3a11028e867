//! A group of dead letters above the list of its letters: its trend, and what was noted about it.

use access::Role;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, Method, Uri};
use ledger::{DEAD, DEAD_GROUPS, DeadGroup, GroupNote, NewGroupNote};
use view::List;

use super::chart::Chart;
use super::rows::{Cell, Rows, Title};
use super::session::{self, Sent};
use super::shell::{Shell, Visit};
use super::{Pages, ask, link, read};

/// What the list of a group's letters begins with.
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) charts: [Chart; 2],
    /// The numbers of the charts.
    pub(crate) numbers: [Rows; 2],
    pub(crate) note: Option<GroupNote>,
    pub(crate) form: Option<Form>,
}

/// Where those send a note who may, and what is filled in.
pub(crate) struct Form {
    pub(crate) path: String,
    pub(crate) form_token: String,
    pub(crate) text: String,
    pub(crate) ticket: String,
}

impl Group {
    /// The group that a filter names, if it has open letters.
    pub(super) async fn find(
        pages: &Pages,
        visit: &Visit,
        shell: &Shell,
        filter: &[(String, String)],
    ) -> Option<Self> {
        let group = session::field(filter, "group")?;
        let path = link(&format!("/{}", DEAD_GROUPS.name), [("group", group)]);
        let found = read::<List<DeadGroup>>(pages, visit, &path).await.ok()?;
        let DeadGroup { group, consumer, error, per_hour, per_day, note, .. } =
            found.items.into_iter().next()?;
        let noted = note.clone();
        let form = (visit.identity.role >= Role::Operator).then(|| Form {
            path: format!("/{}/{group}", DEAD_GROUPS.name),
            form_token: visit.form_token.clone(),
            text: noted.as_ref().map(|note| note.text.clone()).unwrap_or_default(),
            ticket: noted.map(|note| note.ticket).unwrap_or_default(),
        });
        let titles = [shell.t("Given up in the last 24 hours"), shell.t("Given up in the last 14 days")];
        let ago = |number: usize, is_hours: bool| match is_hours {
            true => shell.filled("{} to {} hours ago", &[&number, &(number + 1)]),
            false => shell.filled("{} to {} days ago", &[&number, &(number + 1)]),
        };
        Some(Self {
            title: format!("{consumer}: {error}"),
            charts: [
                Chart::counts(titles[0], &per_hour, |number| ago(number, true)),
                Chart::counts(titles[1], &per_day, |number| ago(number, false)),
            ],
            numbers: [
                numbers(shell, titles[0], &per_hour, |number| ago(number, true)),
                numbers(shell, titles[1], &per_day, |number| ago(number, false)),
            ],
            note,
            form,
        })
    }
}

/// The numbers of a chart, newest first.
fn numbers(shell: &Shell, title: &str, counts: &[i64], ago: impl Fn(usize) -> String) -> Rows {
    let row = |(number, count): (usize, &i64)| {
        let count = Cell { text: count.to_string(), class: "number", ..Cell::default() };
        vec![Cell { text: ago(number), ..Cell::default() }, count]
    };
    let column = |title: &str, is_number| Title { title: title.to_owned(), is_number };
    Rows {
        caption: title.to_owned(),
        columns: vec![column(shell.t("When"), false), column(shell.t("Given up"), true)],
        rows: counts.iter().rev().enumerate().map(row).collect(),
    }
}

/// The list of a group's letters.
fn letters(group: &str) -> Response {
    Redirect::to(&link(&format!("/{}", DEAD.name), [("group", group)])).into_response()
}

/// Leads to the list, where the group is.
pub(super) async fn show(Path(group): Path<String>) -> Response {
    letters(&group)
}

/// Notes what a form has.
pub(super) async fn note(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path(group): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    Sent(fields): Sent,
) -> Response {
    let field = |name: &str| session::field(&fields, name).map(str::to_owned);
    let new = NewGroupNote { text: field("text"), ticket: field("ticket") };
    let asked = Body::from(serde_json::to_vec(&new).unwrap_or_default());
    let answer = ask(&pages, &visit, Method::POST, &format!("{}/note", uri.path()), asked).await;
    match answer.status().is_success() {
        true => letters(&group),
        false => pages.problem(&headers, &uri, Some(visit), answer).await,
    }
}
