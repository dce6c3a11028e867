//! `malote overview`: what needs somebody, what each source sends, and what runs.

use std::process::ExitCode;

use anyhow::Result;
use console::{Breach, Component, Overview};
use ledger::SourceOverview;
use serde_json::Value;
use serde_json::value::RawValue;
use view::{Column, Form, Table, Tone, Tones, column, dropped, shown};

use super::api::Api;
use super::lists::print_json;
use crate::args;
use crate::config::Config;
use crate::report;
use crate::table::{self, Text};

/// A number, of which there may be more.
fn counted(count: Option<i64>, at_least: bool) -> Value {
    shown(&count.map(|count| if at_least { format!("≥ {count}") } else { count.to_string() }))
}

const BREACHES: [Column<Breach>; 5] = [
    column("Trouble", |row| shown(&row.kind), Form::Text),
    column("Of", |row| shown(&row.name), Form::Text),
    column("Events", |row| counted(row.count, row.at_least), Form::Number),
    dropped(1, column("Since", |row| shown(&row.since), Form::Time)),
    column("Reason", reason, Form::Text),
];

fn reason(row: &Breach) -> Value {
    let pause = |hours| format!("no pause of the last 7 days was longer than {hours} h");
    shown(&row.reason.clone().or_else(|| row.longest_pause_hours.map(pause)))
}

const SOURCES: [Column<SourceOverview>; 8] = [
    column("Source", |row| shown(&row.source), Form::Id),
    dropped(1, column("Provider", |row| shown(&row.provider), Form::Text)),
    dropped(2, column("Last event", |row| shown(&row.last_received_at), Form::Time)),
    column("Received", |row| shown(&row.received), Form::Number),
    dropped(3, column("Handled", |row| shown(&row.handled), Form::Number)),
    column("Pending", |row| counted(Some(row.pending), row.at_least), Form::Number),
    column("Dead", |row| counted(Some(row.dead), row.at_least), Form::Number),
    column("Unrouted", |row| counted(Some(row.unrouted), row.at_least), Form::Number),
];

/// What the states of a component mean to those who read them.
const TONES: Tones = &[("up", Tone::Good), ("trouble", Tone::Bad), ("unseen", Tone::Waiting)];

const COMPONENTS: [Column<Component>; 3] = [
    column("Component", |row| shown(&row.name), Form::Text),
    column("State", |row| shown(&row.state), Form::State(TONES)),
    column("Trouble", |row| shown(&row.trouble), Form::Text),
];

/// Prints the overview of a period. With `check`, status 1 if something needs somebody.
pub async fn run(args: args::Overview, config: &Config) -> Result<ExitCode> {
    let args::Overview { period, check, output } = args;
    let api = Api::new(&output.api, config)?;
    let found: Box<RawValue> = api.get("overview", &[("period".to_owned(), period.clone())]).await?;
    let overview: Overview = api.read("overview", found.get().as_bytes())?;
    if output.json {
        print_json(&found);
    } else {
        report::print(&text(&overview, &period));
    }
    let is_failure = check && !overview.breaches.is_empty();
    Ok(if is_failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(overview: &Overview, period: &str) -> String {
    let Overview { numbers, components, breaches } = overview;
    let attention = match breaches.as_slice() {
        [] => "Nothing needs attention: every component is up, no source is silent, and nothing is dead or unrouted.\n".to_owned(),
        breaches => rows(&BREACHES, breaches),
    };
    let sources = match numbers.sources.as_slice() {
        [] => "No events yet.\n".to_owned(),
        sources => rows(&SOURCES, sources),
    };
    let received: i64 = numbers.intervals.iter().map(|interval| interval.received).sum();
    let slowest = numbers.intervals.iter().filter_map(|interval| interval.slowest_ms).max();
    let slowest = slowest.map(|slowest| format!("; the slowest of those measured took {slowest} ms"));
    format!(
        "{attention}\n{sources}\nIn the last {period}, {received} event{} came{}.\n\n{}",
        if received == 1 { "" } else { "s" },
        slowest.unwrap_or_default(),
        rows(&COMPONENTS, components)
    )
}

/// A table, and which columns have no room.
fn rows<R>(columns: &[Column<R>], rows: &[R]) -> String {
    let Text { text, left_out } = table::text(Table::new(columns, rows));
    match left_out.as_slice() {
        [] => text,
        left_out => format!("{text}No room for {}; --json has everything.\n", left_out.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_needs_somebody_comes_first() {
        let breach = |kind: &str, rest: Value| {
            let mut row = json!({"kind": kind, "name": "me", "at_least": false});
            row.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            row
        };
        let overview = |breaches: Value| {
            let answer = json!({
                "from": "2026-11-22T12:00:00Z", "to": "2026-11-22T13:00:00Z", "breaches": breaches,
                "components": [{"name": "feed", "state": "up", "trouble": null}],
                "intervals": [{"from": "2026-11-22T12:00:00Z", "received": 3, "measured": 3, "median_ms": 5, "slowest_ms": 9}],
                "sources": [{"source": "me", "provider": "p", "received": 3, "handled": null, "pending": 1, "dead": 10000,
                    "unrouted": 0, "at_least": true, "last_received_at": "2026-11-22T12:30:00Z",
                    "longest_pause_hours": null, "is_silent": false}],
            });
            text(&serde_json::from_value(answer).unwrap(), "hour")
        };
        let found = overview(json!([
            breach("silent", json!({"since": "2026-11-22T09:00:00Z", "longest_pause_hours": 2})),
            breach("dead", json!({"count": 10000, "at_least": true})),
        ]));
        let lines: Vec<_> =
            found.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "Trouble Of Events Since Reason");
        assert_eq!(
            lines[2],
            "silent me 2026-11-22 09:00:00Z no pause of the last 7 days was longer than 2 h"
        );
        assert_eq!(lines[3], "dead me ≥ 10000");
        assert!(
            found.contains("In the last hour, 3 events came; the slowest of those measured took 9 ms."),
            "{found}"
        );
        assert!(lines.contains(&"feed up".to_owned()), "{found}");
        assert!(overview(json!([])).starts_with("Nothing needs attention"));
    }
}
