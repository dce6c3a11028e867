//! A list that grows: how many rows are new, at most once a second.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use ledger::EventRow;
use tokio::time::{Instant, sleep};
use view::List;

use super::shell::Visit;
use super::{Pages, borrowed, given, link, read};

/// How often the list is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// The most rows that are counted at once.
const MOST: usize = 200;

/// How long a stream may be silent; the server closes connections that are idle for longer than 75 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a stream lasts. The browser comes again, with a session that is still valid, and says which row it saw last.
const STREAM_TIME: Duration = Duration::from_secs(60);

/// What is followed.
struct Following {
    pages: Pages,
    visit: Visit,
    path: String,
    /// The newest row so far; rows are in the order of their ids.
    last: String,
    begun: Instant,
    spoken: Instant,
}

/// A stream of Server-Sent Events (HTML, section 9.2) with the number of events that match a filter and have come since.
pub(super) async fn follow(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let (given, most) = (given(query), MOST.to_string());
    let path = link("/events", borrowed(&given).chain([("limit", most.as_str())]));
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let now = Instant::now();
    let mut following = Following { pages, visit, path, last: String::new(), begun: now, spoken: now };
    following.last = match seen {
        Some(seen) => seen,
        None => match following.rows().await {
            Ok(rows) => rows.first().map(|row| row.id.clone()).unwrap_or_default(),
            Err(answer) => return answer,
        },
    };
    let events = stream::unfold(following, |mut following| async move {
        let text = following.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), following))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

impl Following {
    async fn rows(&self) -> Result<Vec<EventRow>, Response> {
        read::<List<EventRow>>(&self.pages, &self.visit, &self.path).await.map(|list| list.items)
    }

    /// What is sent next; nothing more at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            sleep(PERIOD).await;
            if self.begun.elapsed() > STREAM_TIME || self.pages.state.feed.is_stopped() {
                return None;
            }
            // A database that is down for a moment ends no stream.
            let rows = self.rows().await.unwrap_or_default();
            let fresh = rows.iter().take_while(|row| row.id > self.last).count();
            let is_due = self.spoken.elapsed() > KEEP_ALIVE;
            if fresh == 0 && !is_due {
                continue;
            }
            self.spoken = Instant::now();
            if let Some(row) = rows.first().filter(|_| fresh > 0) {
                self.last.clone_from(&row.id);
                let more = if fresh == MOST { "+" } else { "" };
                return Some(format!("id: {}\ndata: {fresh}{more}\n\n", self.last));
            }
            return Some(": nothing new\n\n".to_owned());
        }
    }
}
