//! One event: what it is, what happened to it in the order of time, its body, and how to get to the next one.

use access::Role;
use askama::Template;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use documents::DocumentRow;
use event::{EventId, Timestamp};
use http::header::HOST;
use http::{HeaderMap, StatusCode, Uri};
use ledger::{ConsumerState, DeadLetter, EVENTS, EventFilter, EventRow, Outcome, RecordedEvent};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use subscriptions::AttemptRow;
use view::List;

use super::actions::{self, Action};
use super::personal::{self, Personal};
use super::rows::{self, Cell, Fields, Part, Rows, Title};
use super::shell::{Shell, Visit, page};
use super::{Pages, borrowed, given, link, read};
use crate::body_text::indented;

/// The most bytes of a body that its page shows.
const SHOWN_BYTES: usize = 24 * 1024;

/// Parts of an event that the page shows in its own way.
const OWN_PARTS: [&str; 5] = ["consumers", "outcomes", "caused", "headers", "body"];

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    shell: Shell,
    actions: Vec<Action>,
    /// The pages of the next newer and the next older event of the filter.
    neighbours: [(&'static str, &'static str, Option<String>); 2],
    parts: Vec<Part>,
    timeline: Rows,
    headers: Vec<(String, String)>,
    pretty: String,
    raw: Option<String>,
    /// How many bytes of the body are not shown.
    hidden_bytes: usize,
    /// Where the body is as it was received, for those who may see it.
    download: Option<String>,
    personal: Option<Personal>,
    links: Vec<(String, String)>,
    subject: Option<String>,
    /// The list of what takes its topic.
    takers: String,
    trace: Option<String>,
    commands: Vec<(String, String)>,
}

pub(super) async fn show(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let (filter, is_revealed) = personal::split(given(query));
    let filter = pages.with_times(&EVENTS, filter);
    let path = personal::asking(uri.path(), is_revealed);
    let answer: Box<RawValue> = match read(&pages, &visit, &path).await {
        Ok(answer) => answer,
        Err(answer) => return pages.problem(&headers, &uri, Some(visit), answer).await,
    };
    let (Ok(event), Ok(fields)) =
        (serde_json::from_str::<RecordedEvent>(answer.get()), serde_json::from_str::<Fields>(answer.get()))
    else {
        return pages.problem(&headers, &uri, Some(visit), super::broken()).await;
    };
    let mut shell = pages.shell(&headers, &uri, Some(visit.clone()), "event");
    shell.title = format!("{} {id}", shell.title);
    let attempts = link("/attempts", [("id", id.as_str()), ("limit", "200")]);
    let attempts = read::<List<AttemptRow>>(&pages, &visit, &attempts).await.map(|list| list.items);
    let documents = documents(&pages, &visit, &event.row).await;
    let letters = letters(&pages, &id).await;
    let mut parts = rows::parts(&shell, &fields);
    parts.retain(|part| !OWN_PARTS.contains(&part.title.as_str()));
    let body = event.body.body.as_deref().or(event.body.body_base64.as_deref()).unwrap_or_default();
    let shown = &body[..body.floor_char_boundary(SHOWN_BYTES)];
    let hidden_bytes = body.len() - shown.len();
    let pretty = if hidden_bytes == 0 { indented(shown) } else { shown.to_owned() };
    let made = EventPage {
        actions: actions::offered("events", &id, None, &visit),
        neighbours: neighbours(&pages, &visit, &event.row, &filter).await,
        parts,
        timeline: timeline(&shell, &event, &letters, &attempts.unwrap_or_default(), &documents),
        headers: header_rows(&event.headers),
        raw: (pretty != shown).then(|| shown.to_owned()),
        pretty,
        hidden_bytes,
        download: (visit.identity.role >= Role::Operator).then(|| format!("/events/{id}/body")),
        personal: (is_revealed || event.body.masked || answer.get().contains(MASKED))
            .then(|| Personal::new(&visit, uri.path(), &filter, is_revealed)),
        links: event.receipt.iter().map(|_| receipt_link(&shell, uri.path())).collect(),
        subject: event.row.subject.as_deref().map(|subject| link("/events", [("subject", subject)])),
        commands: commands(&shell, &headers, &visit, &id),
        takers: link("/routes", [("provider", &event.row.provider), ("topic", &event.row.topic)]),
        trace: trace(pages.state.trace_url.as_deref(), event.traceparent.as_deref()),
        shell,
    };
    page(StatusCode::OK, &made)
}

/// The sender's own id, masked.
const MASKED: &str = r#""sender_id":"***""#;

/// The link from the page of what was posted to its receipt.
pub(super) fn receipt_link(shell: &Shell, path: &str) -> (String, String) {
    (shell.t("Receipt for the sender").to_owned(), format!("{path}/receipt"))
}

/// What does the same elsewhere, in a terminal and in a program: showing the body, and for who may, sending the event again.
fn commands(shell: &Shell, headers: &HeaderMap, visit: &Visit, id: &str) -> Vec<(String, String)> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8081");
    let scheme = if super::session::is_loopback(host) { "http" } else { "https" };
    let api = format!("{scheme}://{host}/api/v1");
    let curl = "curl -H \"Authorization: Bearer $MALOTE_TOKEN\"";
    let mut commands = vec![
        (shell.t("Show").to_owned(), format!("malote events show {id}")),
        (shell.t("The body").to_owned(), format!("{curl} '{api}/events/{id}/body'")),
    ];
    if visit.identity.role >= Role::Operator {
        let job = json!({"action": "replay", "what": "events", "filter": {"id": id}});
        let post = format!("{curl} -H 'Content-Type: application/json' -d '{job}' '{api}/jobs'");
        let replay = shell.t("Replay").to_owned();
        commands.extend([(replay.clone(), format!("malote events replay {id}")), (replay, post)]);
    }
    commands
}

/// Where a tracing system shows the trace of an event.
fn trace(template: Option<&str>, traceparent: Option<&str>) -> Option<String> {
    let id = traceparent?.split('-').nth(1)?;
    Some(template?.replace("{trace_id}", id))
}

fn header_rows(headers: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    headers.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// The dead letters of an event, open or not: they have the attempts that failed.
async fn letters(pages: &Pages, id: &str) -> Vec<DeadLetter> {
    let found = async {
        let mut connection = pages.state.store.read().await.ok()?;
        ledger::show_dead(&mut connection, id.parse().ok()?).await.ok()
    };
    found.await.unwrap_or_default()
}

/// The documents about the subject of an event that this event asked for.
async fn documents(pages: &Pages, visit: &Visit, event: &EventRow) -> Vec<DocumentRow> {
    let Some((_, external_id)) = event.subject.as_deref().and_then(|subject| subject.split_once('/')) else {
        return Vec::new();
    };
    let path = link("/documents", [("source", event.source.as_str()), ("external_id", external_id)]);
    let list = read::<List<DocumentRow>>(pages, visit, &path).await;
    let mut documents = list.map(|list| list.items).unwrap_or_default();
    documents.retain(|document| document.event_id == event.id);
    documents
}

/// The pages of the next newer and the next older event that match a filter.
async fn neighbours(
    pages: &Pages,
    visit: &Visit,
    event: &EventRow,
    filter: &[(String, String)],
) -> [(&'static str, &'static str, Option<String>); 2] {
    let asked = |more: &[(&str, String)]| {
        let kept = borrowed(filter).filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        link("/events", kept.chain(more.iter().map(|(name, value)| (*name, value.as_str()))))
    };
    let page_of = |id: &str| link(&format!("/events/{id}"), borrowed(filter));
    let older = asked(&[("cursor", event.id.clone()), ("limit", "1".to_owned())]);
    let older = read::<List<EventRow>>(pages, visit, &older).await.ok();
    let older = older.and_then(|list| list.items.first().map(|row| page_of(&row.id)));
    let newer = newer(pages, &event.id, filter).await.map(|id| page_of(&id.to_string()));
    [("prev", "Newer", newer), ("next", "Older", older)]
}

/// The next newer event that matches a filter.
async fn newer(pages: &Pages, id: &str, filter: &[(String, String)]) -> Option<EventId> {
    let query = link("", borrowed(filter));
    let filter = crate::page::filter::<EventFilter>(query.trim_start_matches('?')).ok()?;
    let mut connection = pages.state.store.read().await.ok()?;
    ledger::next_newer(&mut connection, &filter, id.parse().ok()?).await.ok()?
}

/// Something that happened to an event.
struct Step {
    at: Option<Timestamp>,
    what: String,
    class: &'static str,
    href: Option<String>,
    detail: String,
}

/// What happened to an event in the order of time, with the time since its receipt; what has not happened yet comes last.
fn timeline(
    shell: &Shell,
    event: &RecordedEvent,
    letters: &[DeadLetter],
    attempts: &[AttemptRow],
    documents: &[DocumentRow],
) -> Rows {
    let received_at = event.row.received_at;
    let plain =
        |at, what: &str, detail: String| Step { at, what: what.to_owned(), class: "", href: None, detail };
    let takers: Vec<_> = event.row.consumers.keys().map(String::as_str).collect();
    let mut steps = vec![plain(Some(received_at), shell.t("received"), event.row.source.clone())];
    match event.unrouted_at {
        Some(at) => {
            steps.push(Step { class: "bad", ..plain(Some(at), shell.t("unrouted"), event.row.topic.clone()) })
        }
        None if takers.is_empty() => {}
        None => steps.push(plain(Some(received_at), shell.t("routed"), takers.join(", "))),
    }
    let known = |consumer: &str| letters.iter().any(|letter| letter.row.consumer == consumer);
    steps.extend(
        event.outcomes.iter().flat_map(|outcome| outcome_steps(shell, outcome, known(&outcome.consumer))),
    );
    steps.extend(letters.iter().flat_map(|letter| failed_steps(shell, letter)));
    // Domain events are announced with an effect; their ids have the time of their cause.
    let handled_at = event.outcomes.iter().filter_map(|outcome| outcome.handled_at).max();
    steps.extend(event.caused.iter().map(|caused| Step {
        href: Some(format!("/events/{}", caused.id)),
        ..plain(handled_at, shell.t("announced"), caused.topic.clone())
    }));
    steps.extend(attempts.iter().map(|attempt| attempt_step(shell, attempt)));
    steps.extend(documents.iter().map(|document| Step {
        href: Some(format!("/documents/{}", document.id)),
        ..plain(
            document.fetched_at.as_ref().and_then(|at| at.parse().ok()),
            shell.t("document"),
            format!("{} {}", document.entity, document.reason.clone().unwrap_or_default()),
        )
    }));
    steps.sort_by_key(|step| (step.at.is_none(), step.at));
    let row = |step: Step| {
        let after = step.at.map(|at| elapsed(received_at, at)).unwrap_or_default();
        vec![
            Cell {
                text: step.at.map(view::time).unwrap_or_default(),
                time: step.at.map(|at| at.to_string()),
                ..Cell::default()
            },
            Cell { text: after, class: "number", ..Cell::default() },
            Cell { text: step.what, class: step.class, ..Cell::default() },
            Cell { text: step.detail, href: step.href, ..Cell::default() },
        ]
    };
    let title = |(text, is_number): (&str, bool)| Title { title: text.to_owned(), is_number };
    let titles = [
        (shell.t("At"), false),
        (shell.t("After"), true),
        (shell.t("What"), false),
        (shell.t("Detail"), false),
    ];
    Rows {
        caption: shell.t("Timeline").to_owned(),
        columns: titles.map(title).into(),
        rows: steps.into_iter().map(row).collect(),
    }
}

/// Every attempt of a consumer that failed, as its dead letter has them.
fn failed_steps(shell: &Shell, letter: &DeadLetter) -> Vec<Step> {
    let consumer = &letter.row.consumer;
    let step = |attempt: ledger::FailedAttempt| Step {
        at: attempt.at.parse().ok(),
        what: shell.filled("attempt {} failed", &[&attempt.attempt]),
        class: "waiting",
        href: Some(format!("/dead/{}", letter.row.id)),
        detail: format!("{consumer}: {}", attempt.error),
    };
    letter.failed_attempts().into_iter().map(step).collect()
}

/// The outcome at a consumer; if its failed attempts are not known one by one, the first and the last of them.
fn outcome_steps(shell: &Shell, outcome: &Outcome, are_attempts_known: bool) -> Vec<Step> {
    let consumer = &outcome.consumer;
    let step = |at, what: &str, class, more: &str| Step {
        at,
        what: what.to_owned(),
        class,
        href: None,
        detail: if more.is_empty() { consumer.clone() } else { format!("{consumer}: {more}") },
    };
    let error = outcome.error.as_deref().unwrap_or_default();
    let attempts = outcome.attempts.unwrap_or_default();
    let mut steps = Vec::new();
    if let Some(at) = outcome
        .first_failed_at
        .filter(|at| !are_attempts_known && attempts > 1 && Some(*at) != outcome.failed_at)
    {
        steps.push(step(Some(at), shell.t("first attempt failed"), "waiting", ""));
    }
    if let Some(at) = outcome.failed_at {
        let more = shell.filled("{} attempts: {}", &[&attempts, &error]);
        steps.push(step(Some(at), shell.t("gave up"), "bad", &more));
    }
    match outcome.state {
        ConsumerState::Handled => {
            let note = outcome.note.as_deref().unwrap_or_default();
            steps.push(step(outcome.handled_at, shell.t("handled"), "good", note));
        }
        ConsumerState::Pending => steps.push(step(None, shell.t("pending"), "waiting", "")),
        ConsumerState::Discarded => match &outcome.replaced_by {
            Some(id) => steps.push(Step {
                href: Some(format!("/events/{id}")),
                ..step(None, shell.t("replaced by an edited event"), "", id)
            }),
            None => steps.push(step(None, shell.t("discarded"), "", "")),
        },
        ConsumerState::Dead => {}
    }
    steps
}

fn attempt_step(shell: &Shell, attempt: &AttemptRow) -> Step {
    let AttemptRow { subscription, attempt: number, duration_ms, status, error, at, id } = attempt;
    let status = status.map(|status| status.to_string()).unwrap_or_default();
    let outcome = error.clone().unwrap_or(status);
    let (what, class) =
        if error.is_none() { (shell.t("pushed"), "good") } else { (shell.t("push failed"), "bad") };
    Step {
        at: Some(*at),
        what: what.to_owned(),
        class,
        href: Some(format!("/attempts/{id}")),
        detail: shell.filled("{}, attempt {}: {}, {} ms", &[subscription, number, &outcome, duration_ms]),
    }
}

/// The time from one to the other: `+12 ms`, `+3.4 s`, `+2 min`, `+5 h`, `+3 d`.
fn elapsed(from: Timestamp, to: Timestamp) -> String {
    let milliseconds = to.as_millisecond() - from.as_millisecond();
    match milliseconds {
        ..0 => format!("{milliseconds} ms"),
        0..1_000 => format!("+{milliseconds} ms"),
        1_000..60_000 => format!("+{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        60_000..3_600_000 => format!("+{} min", milliseconds / 60_000),
        3_600_000..86_400_000 => format!("+{} h", milliseconds / 3_600_000),
        _ => format!("+{} d", milliseconds / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_shown_by_its_id() {
        let template = Some("https://traces.example/trace/{trace_id}?from=malote");
        let parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let expect = "https://traces.example/trace/0af7651916cd43dd8448eb211c80319c?from=malote";
        assert_eq!(trace(template, parent).as_deref(), Some(expect));
        assert_eq!((trace(None, parent), trace(template, None)), (None, None));
    }

    #[test]
    fn the_time_since_receipt_is_told_in_its_unit() {
        let from: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (to, expect) in [
            ("2026-11-22T12:00:00.012Z", "+12 ms"),
            ("2026-11-22T12:00:03.45Z", "+3.4 s"),
            ("2026-11-22T12:02:59Z", "+2 min"),
            ("2026-11-22T17:59:00Z", "+5 h"),
            ("2026-11-25T12:00:00Z", "+3 d"),
            ("2026-11-22T11:59:59.995Z", "-5 ms"),
        ] {
            assert_eq!(elapsed(from, to.parse().unwrap()), expect);
        }
    }
}
