//! The first page: what needs somebody, what each source sends, how much and how fast, and what runs.

use askama::Template;
use axum::extract::{Extension, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use ledger::{Interval, SourceOverview};

use super::chart::Chart;
use super::rows::{Cell, Rows, Title};
use super::shell::{Shell, Visit, page, title};
use super::{Pages, link, read};
use crate::overview::{Breach, BreachKind, Component, ComponentState, Overview};

/// The lists that it shows, and how many rows of each.
const LISTS: [(&str, &str); 3] =
    [("dead/groups", "/dead/groups?limit=10"), ("jobs", "/jobs?limit=5"), ("events", "/events?limit=10")];

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    breaches: Vec<Trouble>,
    sources: Rows,
    /// The address of each period, what it is called, and whether it is shown.
    periods: Vec<(String, String, bool)>,
    charts: Vec<Chart>,
    numbers: Rows,
    components: Vec<Health>,
    lists: Vec<(&'static str, Rows)>,
}

/// A component as the page shows it.
struct Health {
    sign: &'static str,
    class: &'static str,
    name: String,
    state: String,
}

/// Something that needs somebody: what it is about, and what is wrong with it.
struct Trouble {
    about: String,
    href: Option<String>,
    trouble: String,
}

pub(super) async fn show(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let shell = pages.shell(&headers, &uri, Some(visit.clone()), "Overview");
    let asked = format!("/overview?{}", query.unwrap_or_default());
    let Overview { numbers, components, breaches } = match read(&pages, &visit, &asked).await {
        Ok(overview) => overview,
        Err(answer) => return pages.problem(&headers, &uri, Some(visit), answer).await,
    };
    let mut lists = Vec::new();
    for (name, path) in LISTS {
        if let Some(rows) = pages.listed(&shell, &visit, name, path).await {
            lists.push((path.split('?').next().unwrap_or(path), rows));
        }
    }
    let ends = [numbers.from, numbers.to].map(view::time);
    let made = OverviewPage {
        breaches: breaches.iter().map(|breach| Trouble::new(&shell, breach)).collect(),
        sources: sources(&shell, numbers.sources, &breaches),
        periods: periods(&shell, &asked),
        charts: vec![
            Chart::received(&shell, &numbers.intervals, &ends),
            Chart::latency(&shell, &numbers.intervals, &ends),
        ],
        numbers: interval_rows(&shell, &numbers.intervals),
        components: health(&shell, components),
        lists,
        shell,
    };
    page(StatusCode::OK, &made)
}

fn periods(shell: &Shell, asked: &str) -> Vec<(String, String, bool)> {
    let periods =
        [("hour", shell.t("Last hour")), ("day", shell.t("Last day")), ("week", shell.t("Last week"))];
    let chosen = periods.iter().position(|(name, _)| asked.ends_with(&format!("period={name}"))).unwrap_or(0);
    let period = |(at, (name, text)): (usize, &(&str, &str))| {
        (format!("/?period={name}"), (*text).to_owned(), at == chosen)
    };
    periods.iter().enumerate().map(period).collect()
}

impl Trouble {
    fn new(shell: &Shell, breach: &Breach) -> Self {
        let Breach { kind, name, provider, count, at_least, since, longest_pause_hours, reason } = breach;
        let reason = reason.as_deref().unwrap_or_default();
        let of_source = |state| Some(events(name, provider.as_deref().unwrap_or_default(), state));
        let number = counted(count.unwrap_or_default(), *at_least);
        let ago = since.map(|since| shell.ago(since)).unwrap_or_default();
        let (href, trouble) = match kind {
            BreachKind::Component => (None, shell.t(reason).to_owned()),
            BreachKind::Subscription => (
                Some(format!("/subscriptions/{name}")),
                match since {
                    Some(_) => shell.filled("a subscription that fails, since {}: {}", &[&ago, &reason]),
                    None => shell.filled("a subscription that fails: {}", &[&reason]),
                },
            ),
            BreachKind::Silent => (
                of_source(""),
                shell.filled(
                    "silent: the last event came {}, and no pause of the last 7 days was longer than {} h",
                    &[&ago, &longest_pause_hours.unwrap_or_default()],
                ),
            ),
            BreachKind::Dead => (of_source("dead"), shell.filled("dead events: {}", &[&number])),
            BreachKind::Unrouted => (of_source("unrouted"), shell.filled("unrouted events: {}", &[&number])),
        };
        Self { about: name.clone(), href, trouble }
    }
}

/// The list of a source's events in a state.
fn events(source: &str, provider: &str, state: &str) -> String {
    let pairs = [("source", source), ("provider", provider), ("state", state)];
    link("/events", pairs.into_iter().filter(|(_, value)| !value.is_empty()))
}

/// A number, of which there may be more.
fn counted(count: i64, at_least: bool) -> String {
    if at_least { format!("≥ {count}") } else { count.to_string() }
}

/// Titles of columns, which have numbers from one of them on.
fn titles<'a>(texts: impl IntoIterator<Item = &'a str>, first_number: usize) -> Vec<Title> {
    let title = |(at, text)| Title { title: title(text), is_number: at >= first_number };
    texts.into_iter().enumerate().map(title).collect()
}

/// What every source sends, those that need somebody first.
fn sources(shell: &Shell, mut sources: Vec<SourceOverview>, breaches: &[Breach]) -> Rows {
    let is_of = |breach: &Breach, source: &SourceOverview| {
        breach.name == source.source && breach.provider.as_ref() == Some(&source.provider)
    };
    sources
        .sort_by_key(|source| (!breaches.iter().any(|breach| is_of(breach, source)), source.source.clone()));
    let row = |source: &SourceOverview| {
        let events = |state: &str| events(&source.source, &source.provider, state);
        let number = |count: i64, state: &str, class| Cell {
            text: counted(count, source.at_least),
            class: if count > 0 { class } else { "number" },
            href: (count > 0).then(|| events(state)),
            time: None,
        };
        let plain = |text: String| Cell { text, class: "number", ..Cell::default() };
        let last = source.last_received_at;
        vec![
            Cell { text: source.source.clone(), href: Some(events("")), ..Cell::default() },
            Cell { text: source.provider.clone(), ..Cell::default() },
            Cell {
                text: last.map(view::time).unwrap_or_default(),
                time: last.map(|last| last.to_string()),
                class: if source.is_silent { "bad" } else { "" },
                href: None,
            },
            plain(source.received.to_string()),
            plain(source.handled.map_or("–".to_owned(), |count| count.to_string())),
            number(source.pending, "pending", "number waiting"),
            number(source.dead, "dead", "number bad"),
            number(source.unrouted, "unrouted", "number bad"),
        ]
    };
    Rows {
        caption: title(shell.t("Sources")),
        columns: titles(
            [
                shell.t("Source"),
                shell.t("Provider"),
                shell.t("Last event"),
                shell.t("Received"),
                shell.t("Handled or routed"),
                shell.t("pending"),
                shell.t("dead"),
                shell.t("unrouted"),
            ],
            3,
        ),
        rows: sources.iter().map(row).collect(),
    }
}

/// The numbers of the charts, newest first.
fn interval_rows(shell: &Shell, intervals: &[Interval]) -> Rows {
    let row = |one: &Interval| {
        let number = |count: Option<i64>| Cell {
            text: count.map_or("–".to_owned(), |count| count.to_string()),
            class: "number",
            ..Cell::default()
        };
        let from = Cell { text: view::time(one.from), ..Cell::default() };
        vec![
            from,
            number(Some(one.received)),
            number(Some(one.measured)),
            number(one.median_ms),
            number(one.slowest_ms),
        ]
    };
    Rows {
        caption: shell.t("The numbers of the charts").to_owned(),
        columns: titles(
            [
                shell.t("From"),
                shell.t("Received"),
                shell.t("Measured"),
                shell.t("Median, ms"),
                shell.t("Slowest, ms"),
            ],
            1,
        ),
        rows: intervals.iter().rev().map(row).collect(),
    }
}

fn health(shell: &Shell, components: Vec<Component>) -> Vec<Health> {
    let shown = |Component { name, state, trouble }: Component| {
        let (sign, class, word) = match state {
            ComponentState::Up => ("✓", "good", shell.t("up")),
            ComponentState::Trouble => ("✗", "bad", shell.t("in trouble")),
            ComponentState::Unseen => ("?", "waiting", shell.t("not seen from here")),
        };
        let state = match trouble {
            Some(trouble) => format!("{word}: {}", shell.t(&trouble)),
            None => word.to_owned(),
        };
        Health { sign, class, name, state }
    };
    components.into_iter().map(shown).collect()
}
