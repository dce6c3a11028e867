//! Requests under way, at most so many at a time.
//!
//! The state of a request in progress takes more memory than an allocator keeps at hand for the next one. So each place for a
//! request keeps its own.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll, unfold};
use tokio::sync::mpsc;

use super::queue::Pending;
use super::request::{Endpoint, Outcome};

/// What is sent in one request.
struct Sending {
    events: Vec<Pending>,
    is_probe: bool,
}

/// A request that was answered, or failed.
pub(super) struct Sent {
    pub(super) events: Vec<Pending>,
    pub(super) outcome: Outcome,
    pub(super) is_probe: bool,
    place: usize,
}

/// The requests of one endpoint.
pub(super) struct Senders {
    endpoint: Arc<Endpoint>,
    most: usize,
    /// Each takes one request, and another once that has ended.
    places: Vec<mpsc::Sender<Sending>>,
    idle: Vec<usize>,
    sent: SelectAll<BoxStream<'static, Sent>>,
}

impl Senders {
    /// So many requests at a time.
    pub(super) fn new(endpoint: Endpoint, most: usize) -> Self {
        let (places, idle, sent) = (Vec::new(), Vec::new(), SelectAll::new());
        Self { endpoint: Arc::new(endpoint), most, places, idle, sent }
    }

    /// Whether another request may begin.
    pub(super) fn has_room(&self) -> bool {
        self.under_way() < self.most
    }

    /// How many requests have begun and not ended.
    pub(super) fn under_way(&self) -> usize {
        self.places.len() - self.idle.len()
    }

    /// Begins a request, for which there has to be room. It gets on while [`Self::next`] is awaited.
    pub(super) fn send(&mut self, events: Vec<Pending>, is_probe: bool) {
        let place = self.idle.pop().unwrap_or_else(|| self.open());
        let taken = self.places[place].try_send(Sending { events, is_probe });
        taken.expect("an idle place takes a request");
    }

    fn open(&mut self) -> usize {
        let (place, endpoint) = (self.places.len(), Arc::clone(&self.endpoint));
        let (sender, requests) = mpsc::channel(1);
        let sent = unfold((endpoint, requests), move |(endpoint, mut requests)| async move {
            let Sending { events, is_probe } = requests.recv().await?;
            let outcome = endpoint.send(&events).await;
            Some((Sent { events, outcome, is_probe, place }, (endpoint, requests)))
        });
        self.sent.push(sent.boxed());
        self.places.push(sender);
        place
    }

    /// The next request that has ended. Without one under way it may never come. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Sent> {
        let sent = self.sent.next().await?;
        self.idle.push(sent.place);
        Some(sent)
    }

    /// Cuts off what is under way.
    pub(super) fn cut_off(&mut self) {
        self.places.clear();
        self.idle.clear();
        self.sent.clear();
    }
}
