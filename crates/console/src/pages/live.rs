//! A list that grows: how many rows are new, at most once a second.
//!
//! Pages with the same filter share one reading of the database, however many are open; of each a message of some bytes leaves.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse, Response};
use event::EventId;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Uri};
use ledger::EventFilter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::shell::Visit;
use super::{Pages, borrowed, given, link};
use crate::page;

/// How often the list is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// The most rows that are counted at once.
const MOST: u32 = 200;

/// How long a stream may be silent; the server closes connections that are idle for longer than 75 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a stream lasts. The browser comes again, with a session that is still valid, and says which row it saw last.
const STREAM_TIME: Duration = Duration::from_secs(60);

/// The newest rows of a list, the newest first; nothing before it was first read.
type Newest = Option<Arc<[EventId]>>;

/// The lists that open pages follow, by their filters. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Followed(Arc<Mutex<HashMap<String, watch::Sender<Newest>>>>);

impl Followed {
    /// The newest rows of a list, which is read once a `period` for as long as somebody follows it.
    fn follow<F>(
        &self,
        filter: String,
        period: Duration,
        read: impl Fn() -> F + Send + Sync + 'static,
    ) -> watch::Receiver<Newest>
    where
        F: Future<Output = Newest> + Send,
    {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(&filter) {
            return list.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        lists.insert(filter.clone(), sender.clone());
        let followed = self.clone();
        tokio::spawn(async move {
            while followed.is_wanted(&filter, &sender) {
                // A database that is down for a moment ends no stream.
                if let Some(rows) = read().await {
                    sender.send_if_modified(|last| last.replace(Arc::clone(&rows)) != Some(rows));
                }
                sleep(period).await;
            }
        });
        receiver
    }

    /// Whether somebody follows a list; else it is forgotten.
    fn is_wanted(&self, filter: &str, sender: &watch::Sender<Newest>) -> bool {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = sender.receiver_count() > 0;
        if !is_wanted {
            lists.remove(filter);
        }
        is_wanted
    }
}

/// What one page follows.
struct Following {
    pages: Pages,
    rows: watch::Receiver<Newest>,
    /// The newest row so far; rows are in the order of their ids.
    last: Option<EventId>,
    begun: Instant,
    spoken: Instant,
}

/// A stream of Server-Sent Events (HTML, section 9.2) with the number of events that match a filter and have come since.
pub(super) async fn follow(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let given = given(query);
    let query = link("", borrowed(&given)).trim_start_matches('?').to_owned();
    let filter = match page::filter::<EventFilter>(&query) {
        Ok(filter) => Arc::new(filter),
        Err(refusal) => {
            return pages.problem(&headers, &uri, Some(visit), refusal.into_response()).await;
        }
    };
    let store = pages.state.store.clone();
    let mut rows = pages.followed.follow(query, PERIOD, move || {
        let (store, filter) = (store.clone(), Arc::clone(&filter));
        async move {
            let mut connection = store.read().await.ok()?;
            Some(ledger::newest(&mut connection, &filter, MOST).await.ok()?.into())
        }
    });
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    // Without a database, what comes once it answers is new.
    let _ = timeout(KEEP_ALIVE, rows.wait_for(Option::is_some)).await;
    let newest = rows.borrow().as_ref().and_then(|rows| rows.first().copied());
    let now = Instant::now();
    let following = Following { pages, rows, last: seen.or(newest), begun: now, spoken: now };
    let events = stream::unfold(following, |mut following| async move {
        let text = following.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), following))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

impl Following {
    /// What is sent next; nothing more at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.begun.elapsed() > STREAM_TIME || self.pages.state.feed.is_stopped() {
                return None;
            }
            if let Some(news) = self.news() {
                self.spoken = Instant::now();
                return Some(news);
            }
            // The reading ends when nobody follows; this one does.
            let _ = timeout(PERIOD, self.rows.changed()).await;
            if self.spoken.elapsed() > KEEP_ALIVE {
                self.spoken = Instant::now();
                return Some(": nothing new\n\n".to_owned());
            }
        }
    }

    /// How many rows have come since the last one that was sent, if there are any.
    fn news(&mut self) -> Option<String> {
        let rows = self.rows.borrow_and_update().clone()?;
        let fresh = rows.iter().take_while(|id| Some(**id) > self.last).count();
        let newest = *rows.first().filter(|_| fresh > 0)?;
        self.last = Some(newest);
        let more = if fresh == MOST as usize { "+" } else { "" };
        Some(format!("id: {newest}\ndata: {fresh}{more}\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn pages_with_one_filter_cost_one_reading_and_nobody_costs_none() {
        let period = Duration::from_millis(1);
        let (followed, readings) = (Followed::default(), [0; 3].map(|_| Arc::new(AtomicUsize::new(0))));
        let open = |page: usize, filter: &str| {
            let counter = Arc::clone(&readings[page]);
            followed.follow(filter.to_owned(), period, move || {
                counter.fetch_add(1, Ordering::Relaxed);
                async { Some(Arc::from([EventId::generate()])) }
            })
        };
        let counts = || readings.each_ref().map(|count| count.load(Ordering::Relaxed));
        let (mut first, mut same, mut other) =
            (open(0, "state=dead"), open(1, "state=dead"), open(2, "source=go"));
        for page in [&mut first, &mut same, &mut other] {
            page.changed().await.unwrap();
            page.changed().await.unwrap();
        }
        let [mine, shared, others] = counts();
        assert!(mine > 1 && shared == 0 && others > 1, "{:?}", counts());
        // The reading goes on for the one that is left.
        drop((first, other));
        same.borrow_and_update();
        same.changed().await.unwrap();
        assert!(counts()[0] > mine);
        drop(same);
        while !followed.0.lock().unwrap().is_empty() {
            sleep(period).await;
        }
        let ended = counts();
        sleep(period * 20).await;
        assert_eq!(counts(), ended);
    }
}
