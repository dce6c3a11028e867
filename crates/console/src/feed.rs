//! The feed: events in their order, as lines of JSON once there are some, or as a stream of Server-Sent Events.
//!
//! What an answer takes is bounded: events and bytes of a part, the time that it waits or streams, and the number of readers. A
//! client that is slow to take a stream delays only itself: the next part is read when the last has been sent.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use ledger::feed::{After, FeedError, Reader, Topics};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::ConsoleState;
use crate::names;
use crate::page::pairs;
use crate::refusal::Refusal;

/// The header of an answer with the position to continue after, whether it has events or not.
const POSITION: &str = "malote-position";

/// The header that says whether that is the end of the feed for now: `true` or `false`.
const END: &str = "malote-end";

const DEFAULT_LIMIT: usize = 100;
const MOST_EVENTS: usize = 1_000;
const LONGEST_WAIT_S: u64 = 60;

/// How many events of a stream are sent at once.
const STREAM_EVENTS: usize = 100;

/// How long a stream may be silent; the server closes connections that are idle for longer than 75 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a stream lasts; the client comes again, with a token that is still valid.
const STREAM_TIME: Duration = Duration::from_secs(15 * 60);

/// What the feed takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FeedParameters {
    /// The `position` of an event, `beginning` or `now`: the events after it.
    #[param(default = "beginning")]
    after: Option<String>,
    /// Only these topics: `<provider>:<pattern>`, separated by commas, with patterns as in AMQP.
    #[param(example = "mercado-eletronico:order.*,recuperador:#")]
    topics: Option<String>,
    /// How long to wait for the first event, in seconds. A stream waits anyway.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 60, default = 0)]
    wait: Option<String>,
    /// The most events of the answer. A stream has no limit.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
}

/// A number of the query.
fn number(name: &str, given: Option<String>, range: [u64; 2], default: u64) -> Result<u64, Refusal> {
    let Some(text) = given else { return Ok(default) };
    text.parse().ok().filter(|number| (range[0]..=range[1]).contains(number)).ok_or_else(|| {
        Refusal::Parameter(format!(
            "{name}: expected a number from {} to {}, got {text:?}",
            range[0], range[1]
        ))
    })
}

fn wrong(name: &str, problem: impl std::fmt::Display) -> Refusal {
    Refusal::Parameter(format!("{name}: {problem}"))
}

/// The feed: every event on record, in an order that never changes.
///
/// One CloudEvent (JSON format) on each line. Its attribute `position` says where it is; the header `malote-position` says
/// where to continue, and `malote-end` whether that is the end for now. Once a position has been seen, nothing appears at or
/// before it.
/// With `Accept: text/event-stream` the answer is a stream of Server-Sent Events that continues after `Last-Event-ID`.
#[utoipa::path(get, path = "/api/v1/feed", tag = "record", operation_id = "feed",
    params(FeedParameters, ("Last-Event-ID" = Option<String>, Header, description = "As `after`, for a stream")),
    responses(
        (status = 200, description = "Events, or none if none came in time", content(
            (String = "application/x-ndjson"), (String = "text/event-stream"))),
        (status = 410, description = "Events after the position were deleted by retention: the member `after` is where to continue \
            without them. Or the feed has no such position")))]
pub(crate) async fn follow(
    State(state): State<ConsoleState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let pairs = pairs(&query.unwrap_or_default(), &view::names::<FeedParameters>())?;
    let asked: FeedParameters = view::read(&pairs).map_err(|error| Refusal::Parameter(error.to_string()))?;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_stream = header(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream"));
    let limit = number("limit", asked.limit, [1, MOST_EVENTS as u64], DEFAULT_LIMIT as u64)?;
    let wait = number("wait", asked.wait, [0, LONGEST_WAIT_S], 0)?;
    let topics: Topics = asked.topics.unwrap_or_default().parse().map_err(|error| wrong("topics", error))?;
    let (name, after) = match header("last-event-id").filter(|id| is_stream && !id.is_empty()) {
        Some(id) => ("Last-Event-ID", id.to_owned()),
        None => ("after", asked.after.unwrap_or_else(|| "beginning".to_owned())),
    };
    let after: After = after.parse().map_err(|error| wrong(name, error))?;
    let providers: Vec<_> =
        topics.providers().map(|provider| ("provider".to_owned(), provider.to_string())).collect();
    names::check(&state, &mut *state.store.read().await?, &providers, None).await?;
    let mut reader = state.feed.reader(after, topics).await?;
    if is_stream {
        let body = Body::from_stream(events(reader));
        return Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response());
    }
    let items = reader.next(limit as usize, Duration::from_secs(wait)).await?;
    let body: String = items.iter().flat_map(|item| [item.json(), "\n".to_owned()]).collect();
    let (position, end) = (reader.cursor().to_string(), reader.is_end().to_string());
    let headers = [(CONTENT_TYPE.as_str(), "application/x-ndjson"), (POSITION, &position), (END, &end)];
    Ok((headers, body).into_response())
}

/// Server-Sent Events (HTML, section 9.2). One with an id alone is no event: it moves on what the client sends as `Last-Event-ID`.
fn events(reader: Reader) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let until = Instant::now() + STREAM_TIME;
    let parts = stream::unfold(Some(reader), move |reader| async move {
        let mut reader = reader.filter(|reader| Instant::now() < until && !reader.is_stopped())?;
        let (text, next) = match reader.next(STREAM_EVENTS, KEEP_ALIVE).await {
            Ok(items) if items.is_empty() => (format!("id: {}\n\n", reader.cursor()), Some(reader)),
            Ok(items) => {
                let event =
                    |item: &ledger::feed::Item| format!("id: {}\ndata: {}\n\n", item.cursor, item.json());
                (items.iter().map(event).collect(), Some(reader))
            }
            Err(error) => (format!("event: error\ndata: {}\n\n", problem(&error)), None),
        };
        Some((Ok(Bytes::from(text)), next))
    });
    stream::once(async { Ok(Bytes::from_static(b"retry: 1000\n\n")) }).chain(parts)
}

/// What ends a stream, as one line of JSON.
fn problem(error: &FeedError) -> serde_json::Value {
    let mut problem = serde_json::json!({"detail": error.to_string()});
    if let FeedError::Deleted(after) = error {
        problem["after"] = after.to_string().into();
    }
    problem
}
