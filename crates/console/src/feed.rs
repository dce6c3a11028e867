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
use ledger::feed::{After, FeedError, Item, Topics};
use serde::Deserialize;
use subscriptions::pull::Filtered;
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::ConsoleState;
use crate::names;
use crate::page::pairs;
use crate::permit::Permit;
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

/// How often the reader of a subscription is asked whether it may go on.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

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
    /// The maximum number of events in the answer. A stream has no limit.
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

pub(crate) fn wrong(name: &str, problem: impl std::fmt::Display) -> Refusal {
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
    let FeedParameters { after, topics, wait, limit } =
        view::read(&pairs).map_err(|error| Refusal::Parameter(error.to_string()))?;
    let form = Form::new(&headers, limit, wait)?;
    let topics: Topics = topics.unwrap_or_default().parse().map_err(|error| wrong("topics", error))?;
    topics.check().map_err(|error| wrong("topics", error))?;
    let after = form.after(&headers, after)?.unwrap_or(After::Beginning);
    let providers: Vec<_> =
        topics.providers().map(|provider| ("provider".to_owned(), provider.to_string())).collect();
    names::check(&state, &mut *state.store.read().await?, &providers, None).await?;
    let reader = state.feed.reader(after, topics).await?;
    form.answer(Filtered::everything(reader), None).await
}

/// How a reader is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// With the events that there are, after a wait for the first.
    Lines { limit: usize, wait: Duration },
    /// With a stream of Server-Sent Events.
    Stream,
}

impl Form {
    /// The form that a request asks for, with its parameters `limit` and `wait`.
    pub(crate) fn new(
        headers: &HeaderMap,
        limit: Option<String>,
        wait: Option<String>,
    ) -> Result<Self, Refusal> {
        let limit = number("limit", limit, [1, MOST_EVENTS as u64], DEFAULT_LIMIT as u64)?;
        let wait = number("wait", wait, [0, LONGEST_WAIT_S], 0)?;
        Ok(match text(headers, ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream")) {
            true => Self::Stream,
            false => Self::Lines { limit: limit as usize, wait: Duration::from_secs(wait) },
        })
    }

    /// Where the reader begins, with its parameter `after`; `None` where it says nothing of that.
    pub(crate) fn after(self, headers: &HeaderMap, after: Option<String>) -> Result<Option<After>, Refusal> {
        let last = text(headers, "last-event-id").filter(|id| !id.is_empty());
        let (name, after) = match (self, last) {
            (Self::Stream, Some(id)) => ("Last-Event-ID", Some(id.to_owned())),
            _ => ("after", after),
        };
        after.map(|after| after.parse::<After>().map_err(|error| wrong(name, error))).transpose()
    }

    /// Answers with what the reader reads, as long as the permit is valid.
    pub(crate) async fn answer(
        self,
        mut reader: Filtered,
        permit: Option<Permit>,
    ) -> Result<Response, Refusal> {
        let Self::Lines { limit, wait } = self else {
            let body = Body::from_stream(events(reader, permit));
            return Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response());
        };
        let items = reader.next(limit, wait).await?;
        if let Some(permit) = permit.filter(|_| !wait.is_zero()) {
            permit.check().await?;
        }
        let body: String = items.iter().flat_map(|item| [item.json(), "\n".to_owned()]).collect();
        let (position, end) = (reader.cursor().to_string(), reader.is_end().to_string());
        let headers = [(CONTENT_TYPE.as_str(), "application/x-ndjson"), (POSITION, &position), (END, &end)];
        Ok((headers, body).into_response())
    }
}

/// The text of a header.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Server-Sent Events (HTML, section 9.2). One with an id alone is no event: it moves on what the client sends as `Last-Event-ID`.
fn events(reader: Filtered, permit: Option<Permit>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let begun = Instant::now();
    let parts = stream::unfold(Some((reader, begun)), move |reading| {
        let permit = permit.clone();
        async move {
            let (mut reader, mut checked) =
                reading.filter(|(reader, _)| begun.elapsed() < STREAM_TIME && !reader.is_stopped())?;
            let items = reader.next(STREAM_EVENTS, KEEP_ALIVE).await;
            // After the reading: what came since it was paused or removed is not given.
            if let Some(permit) = permit.filter(|_| checked.elapsed() >= CHECK_PERIOD) {
                checked = Instant::now();
                if let Err(refusal) = permit.check().await {
                    return Some((Ok(ended(serde_json::json!({"detail": refusal.to_string()}))), None));
                }
            }
            let text = match items {
                Ok(items) if items.is_empty() => format!("id: {}\n\n", reader.cursor()),
                Ok(items) => {
                    let event = |item: &Item| format!("id: {}\ndata: {}\n\n", item.cursor, item.json());
                    items.iter().map(event).collect()
                }
                Err(error) => return Some((Ok(ended(problem(&error))), None)),
            };
            Some((Ok(Bytes::from(text)), Some((reader, checked))))
        }
    });
    stream::once(async { Ok(Bytes::from_static(b"retry: 1000\n\n")) }).chain(parts)
}

/// The last event of a stream.
fn ended(problem: serde_json::Value) -> Bytes {
    format!("event: error\ndata: {problem}\n\n").into()
}

/// What ends a stream, as one line of JSON.
fn problem(error: &FeedError) -> serde_json::Value {
    let mut problem = serde_json::json!({"detail": error.to_string()});
    if let FeedError::Deleted(after) = error {
        problem["after"] = after.to_string().into();
    }
    problem
}
