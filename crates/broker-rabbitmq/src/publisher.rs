//! Publishing: channels that one task each owns, a bounded window of publishes in flight, and what each confirm means.
//!
//! Promises that success is exactly "acked and not returned", and that a publish ends by its deadline. What was in
//! flight when a channel ends is published again on the next one, under the same message id, while its caller waits;
//! the publish that caused the end gets the cause as its error. A caller that goes away disturbs no other.
//!
//! lapin hands a returned message to whichever confirm it sees next, which with several in flight can be another's.
//! Returned messages are therefore matched by exchange, routing key and message id: from the first one on, what is
//! acked is held back until nothing is in flight, when every returned message has been seen.
//!
//! The window bounds the number of publishes in flight. The bytes of large messages are bounded before they get there, over
//! all channels ([`Turns`]), and within the time of the publish.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use broker::backoff::jittered;
use broker::{Backoff, ExchangeName, PublishError};
use bytes::Bytes;
use event::Message;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use metrics::{Counter, Gauge, Histogram};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, error, warn};

use crate::connection::{LONGEST_PAUSE, Supervised};
use crate::declare::soft_error;
use crate::forbidden::Forbidden;
use crate::link::Link;
use crate::message::{Unsendable, short, to_properties};
use crate::turns::{Turn, Turns};
use crate::window::Window;
use crate::{Config, Unavailable};

/// The sending side: hands each publish to one of the owner tasks.
pub(crate) struct Publisher {
    senders: RwLock<Vec<mpsc::Sender<Request>>>,
    owners: Mutex<Vec<JoinHandle<()>>>,
    next: AtomicUsize,
    turns: Turns,
    connection: Supervised,
    confirm_timeout: Duration,
    outcomes: Outcomes,
}

/// `amqp_publishes_total`, by outcome.
struct Outcomes {
    confirmed: Counter,
    unroutable: Counter,
    refused: Counter,
    too_large: Counter,
    rejected: Counter,
    missing_exchange: Counter,
    unavailable: Counter,
}

impl Outcomes {
    fn new() -> Self {
        let counter = |outcome| metrics::counter!("amqp_publishes_total", "outcome" => outcome);
        Self {
            confirmed: counter("confirmed"),
            unroutable: counter("unroutable"),
            refused: counter("refused"),
            too_large: counter("too_large"),
            rejected: counter("rejected"),
            missing_exchange: counter("missing_exchange"),
            unavailable: counter("unavailable"),
        }
    }

    fn count(&self, result: &Result<(), PublishError>) {
        match result {
            Ok(()) => &self.confirmed,
            Err(PublishError::Unroutable { .. }) => &self.unroutable,
            Err(PublishError::Refused) => &self.refused,
            Err(PublishError::TooLarge(_)) => &self.too_large,
            Err(PublishError::Rejected(_)) => &self.rejected,
            Err(PublishError::MissingExchange { .. }) => &self.missing_exchange,
            Err(PublishError::Unavailable(_)) => &self.unavailable,
        }
        .increment(1);
    }
}

/// One publish, with its waiting caller.
struct Request {
    exchange: ExchangeName,
    routing_key: String,
    message: Arc<Message>,
    reply: oneshot::Sender<Result<(), PublishError>>,
    /// That of a large message. It lasts until the message is no longer in flight, even if its caller has gone.
    turn: Option<Turn>,
}

impl Request {
    fn answer(self, result: Result<(), PublishError>) {
        // The caller may have given up.
        let _ = self.reply.send(result);
    }

    fn answer_unroutable(self) {
        let Self { exchange, routing_key, reply, .. } = self;
        let _ = reply.send(Err(PublishError::Unroutable { exchange, routing_key }));
    }

    fn is_in(&self, returned: &BasicReturnMessage) -> bool {
        let message_id = returned.delivery.properties.message_id();
        message_id.as_ref().map_or("", ShortString::as_str) == self.message.message_id
            && returned.delivery.routing_key.as_str() == self.routing_key
            && returned.delivery.exchange.as_str() == self.exchange.as_str()
    }

    fn form(&self) -> Result<(ShortString, ShortString, BasicProperties), Unsendable> {
        Ok((short(self.exchange.as_str())?, short(&self.routing_key)?, to_properties(&self.message)?))
    }
}

/// A request that was sent on the channel.
struct InFlight {
    request: Request,
    sent: Instant,
}

impl Publisher {
    /// Starts the owner tasks.
    pub(crate) fn start(config: &Config, connection: Supervised) -> Self {
        let window = config.window.max(1);
        let mut senders = Vec::new();
        let mut owners = Vec::new();
        for _ in 0..config.channels.max(1) {
            let (sender, requests) = mpsc::channel(window);
            let owner = Owner {
                requests,
                connection: connection.clone(),
                open_timeout: config.operation_timeout(),
                // Leaves the other half of each caller's time for publishing again.
                stall: config.confirm_timeout() / 2,
                window,
                suspects: 0,
                forbidden: Forbidden::default(),
                confirm_seconds: metrics::histogram!("amqp_confirm_seconds"),
                in_flight: metrics::gauge!("amqp_in_flight"),
            };
            senders.push(sender);
            owners.push(tokio::spawn(owner.run()));
        }
        Self {
            senders: RwLock::new(senders),
            owners: Mutex::new(owners),
            next: AtomicUsize::new(0),
            turns: Turns::new(),
            connection,
            confirm_timeout: config.confirm_timeout(),
            outcomes: Outcomes::new(),
        }
    }

    /// Gives the result, or `None` if there is none by then. What ends later is not counted.
    pub(crate) async fn publish(
        &self,
        until: Instant,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Option<Result<(), PublishError>> {
        let (reply, answer) = oneshot::channel();
        let is_large = Turns::is_large(message.body.len());
        let (exchange, routing_key) = (exchange.clone(), routing_key.to_owned());
        let request = Request { exchange, routing_key, message, reply, turn: None };
        let waiting = match is_large {
            true => Some(self.hand_over_in_turn(request)),
            false => self.hand_over(request),
        };
        let confirmed = timeout_at(until, async {
            if let Some(waiting) = waiting {
                waiting.await;
            }
            // The owner drops what it does not answer.
            answer.await.unwrap_or_else(|_| Err(PublishError::Unavailable(Unavailable::Closed.into())))
        });
        let result = confirmed.await.ok()?;
        self.outcomes.count(&result);
        Some(result)
    }

    /// The result of a publish that was not confirmed in time.
    pub(crate) fn unconfirmed(&self) -> Result<(), PublishError> {
        let result = Err(PublishError::Unavailable(self.connection.why_down()));
        self.outcomes.count(&result);
        result
    }

    /// Hands a request to the next owner task. What waits for room there is given back, and is on the heap: a publish
    /// seldom waits, and its future stays small. A request that nobody takes is dropped.
    fn hand_over(&self, request: Request) -> Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(senders.len())?;
        let request = match senders[turn].try_send(request) {
            Err(TrySendError::Full(request)) => request,
            Ok(()) | Err(TrySendError::Closed(_)) => return None,
        };
        let sender = senders[turn].clone();
        Some(Box::pin(async move { drop(sender.send(request).await) }))
    }

    /// Hands a large message over once it is its turn.
    fn hand_over_in_turn(&self, mut request: Request) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            request.turn = Some(self.turns.clone().wait(request.message.body.len()).await);
            if let Some(waiting) = self.hand_over(request) {
                waiting.await;
            }
        })
    }

    /// Accepts no more publishes and waits for those in flight, at most for the time-out of a confirm.
    pub(crate) async fn close(&self) {
        self.senders.write().unwrap_or_else(PoisonError::into_inner).clear();
        let owners = std::mem::take(&mut *self.owners.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Instant::now() + self.confirm_timeout;
        for mut owner in owners {
            if timeout_at(deadline, &mut owner).await.is_err() {
                owner.abort();
            }
        }
    }
}

/// Owns one channel at a time; nobody else touches it.
struct Owner {
    requests: mpsc::Receiver<Request>,
    connection: Supervised,
    open_timeout: Duration,
    /// A channel whose oldest confirm is out this long is thrown away.
    stall: Duration,
    window: usize,
    /// How many at the front of the backlog were in flight when the server closed the channel without saying which
    /// of them is to blame. They are published one at a time, so that the one to blame is found.
    suspects: usize,
    forbidden: Forbidden,
    confirm_seconds: Histogram,
    in_flight: Gauge,
}

/// Why a channel is no longer used.
enum End {
    /// Nobody can publish any more, and nothing is in flight.
    Closed,
    /// The channel failed. `progress` tells whether any request was answered on it.
    Failed { progress: bool },
}

impl Owner {
    async fn run(mut self) {
        let mut backlog = VecDeque::new();
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        loop {
            if backlog.is_empty() {
                match self.requests.recv().await {
                    Some(request) => backlog.push_back(request),
                    None => return,
                }
            }
            let end = match self.open().await {
                Ok((link, channel)) => self.serve(&link, channel, &mut backlog).await,
                Err(error) => {
                    debug!(error = &*error, "no channel to publish on");
                    if self.connection.is_closed() {
                        return;
                    }
                    End::Failed { progress: false }
                }
            };
            match end {
                End::Closed => return,
                End::Failed { progress: true } => backoff = Backoff::up_to(LONGEST_PAUSE),
                End::Failed { progress: false } => sleep(jittered(backoff.next_pause())).await,
            }
            self.forget_the_gone(&mut backlog);
        }
    }

    async fn open(&self) -> Result<(Arc<Link>, Channel), broker::Cause> {
        let deadline = Instant::now() + self.open_timeout;
        let (link, channel) = self.connection.channel(deadline).await?;
        timeout_at(deadline, channel.confirm_select(ConfirmSelectOptions::default()))
            .await
            .map_err(|_| Unavailable::Silent("confirm.select"))??;
        Ok((link, channel))
    }

    fn forget_the_gone(&mut self, backlog: &mut VecDeque<Request>) {
        let suspects =
            backlog.iter().take(self.suspects).filter(|request| !request.reply.is_closed()).count();
        self.suspects = suspects;
        backlog.retain(|request| !request.reply.is_closed());
    }

    /// Publishes on this channel until it ends. What is still to be answered is at the front of the backlog then.
    async fn serve(&mut self, link: &Link, channel: Channel, backlog: &mut VecDeque<Request>) -> End {
        let channel = Arc::new(channel);
        let mut window = Window::new();
        let mut outcomes = Vec::new();
        let mut confirms = Confirms::default();
        let mut stalled = pin!(sleep(self.stall));
        let mut accepting = true;
        let mut progress = false;
        let cause = loop {
            let limit = self.limit(&confirms);
            while window.len() < limit {
                let Some(request) = self.next_request(backlog) else { break };
                match request.form() {
                    Ok((exchange, key, properties)) => {
                        let body = request.message.body.clone();
                        let confirm = publish_and_confirm(channel.clone(), exchange, key, properties, body);
                        window.insert(InFlight { request, sent: Instant::now() }, confirm);
                        self.in_flight.increment(1.0);
                    }
                    Err(error) => request.answer(Err(PublishError::Rejected(Box::new(error)))),
                }
            }
            if window.is_empty() && !accepting {
                return End::Closed;
            }
            tokio::select! {
                biased;
                () = poll_fn(|cx| window.poll_settled(cx, &mut outcomes)), if !window.is_empty() => {
                    self.in_flight.decrement(outcomes.len() as f64);
                    for (published, outcome) in outcomes.drain(..) {
                        self.confirm_seconds.record(published.sent.elapsed().as_secs_f64());
                        confirms.add(published.request, outcome);
                    }
                    let answered = confirms.settle(window.is_empty());
                    progress |= answered > 0;
                    self.suspects = self.suspects.saturating_sub(answered);
                    if let Some(error) = confirms.error.take() {
                        break Some(error);
                    }
                }
                request = self.requests.recv(), if accepting && window.len() < limit => match request {
                    Some(request) => backlog.push_back(request),
                    None => accepting = false,
                },
                () = &mut stalled, if !window.is_empty() => {
                    let oldest = window.oldest().map_or_else(Instant::now, |oldest| oldest.sent);
                    let now = Instant::now();
                    if oldest + self.stall > now {
                        stalled.as_mut().reset(oldest + self.stall);
                    } else if link.blocked() {
                        // The server has announced that it reads nothing now: another channel would not help.
                        stalled.as_mut().reset(now + self.stall);
                    } else {
                        warn!(in_flight = window.len(), "no confirm in time: publishing again on a new channel");
                        break None;
                    }
                }
            }
        };
        self.in_flight.decrement(window.len() as f64);
        let in_window = window.into_occupants().map(|published| published.request);
        let unsettled: Vec<_> = confirms.unsettled().chain(in_window).collect();
        // Where the cause is known, those to blame are answered; the innocent go first on the next channel.
        let innocent = match cause {
            Some(error) => self.blame(unsettled, error, &mut progress),
            None => unsettled,
        };
        innocent.into_iter().rev().for_each(|request| backlog.push_front(request));
        End::Failed { progress }
    }

    /// The next request to publish. Those whose caller has gone are dropped, and those that RabbitMQ has just refused are
    /// answered.
    fn next_request(&mut self, backlog: &mut VecDeque<Request>) -> Option<Request> {
        loop {
            let request = backlog.pop_front().or_else(|| self.requests.try_recv().ok())?;
            if !request.reply.is_closed() {
                match self.forbidden.answer(&request.exchange, &request.routing_key) {
                    Some(error) => request.answer(Err(PublishError::Rejected(error.into()))),
                    None => return Some(request),
                }
            }
            self.suspects = self.suspects.saturating_sub(1);
        }
    }

    /// How many publishes may be in flight now.
    fn limit(&self, confirms: &Confirms) -> usize {
        if confirms.checking() {
            0
        } else if self.suspects > 0 {
            1
        } else {
            self.window
        }
    }

    /// Answers those whose fault the end of the channel is, as far as the server's words tell.
    fn blame(
        &mut self,
        mut unsettled: Vec<Request>,
        error: lapin::Error,
        progress: &mut bool,
    ) -> Vec<Request> {
        match soft_error(&error) {
            Some((AMQPSoftError::NOTFOUND, message)) => {
                let missing = |request: &mut Request| {
                    message.contains(&format!("no exchange '{}' in vhost", request.exchange))
                };
                for request in unsettled.extract_if(.., missing) {
                    *progress = true;
                    self.suspects = self.suspects.saturating_sub(1);
                    let exchange = request.exchange.clone();
                    request.answer(Err(PublishError::MissingExchange { exchange }));
                }
                unsettled
            }
            // Nothing else was in flight, so it is an answer to this one.
            Some((kind, message)) if unsettled.len() == 1 => {
                warn!(%error, "RabbitMQ closed the channel because of one publish");
                *progress = true;
                self.suspects = self.suspects.saturating_sub(1);
                let is_too_large = is_too_large(&kind, message);
                for request in unsettled {
                    if kind == AMQPSoftError::ACCESSREFUSED {
                        let (exchange, routing_key) = (request.exchange.clone(), request.routing_key.clone());
                        self.forbidden.remember(exchange, routing_key, error.clone());
                    }
                    let cause = error.clone().into();
                    request.answer(Err(match is_too_large {
                        true => PublishError::TooLarge(cause),
                        false => PublishError::Rejected(cause),
                    }));
                }
                Vec::new()
            }
            Some(_) => {
                warn!(%error, in_flight = unsettled.len(), "RabbitMQ closed the channel: publishing one at a time");
                self.suspects = self.suspects.max(unsettled.len());
                unsettled
            }
            None => {
                debug!(%error, in_flight = unsettled.len(), "the channel was lost: publishing again");
                unsettled
            }
        }
    }
}

/// RabbitMQ's words, from 3.8 on: `message size … is larger than configured max size …`, or `… than max size …`.
fn is_too_large(kind: &AMQPSoftError, message: &str) -> bool {
    *kind == AMQPSoftError::PRECONDITIONFAILED
        && message.contains("message size")
        && message.contains("is larger than")
}

/// Sends one message when first polled, then waits for its confirm.
async fn publish_and_confirm(
    channel: Arc<Channel>,
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
    body: Bytes,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(exchange, routing_key, options, &body, properties).await?.await
}

/// The confirms that have come in and that callers are not answered with yet.
#[derive(Default)]
struct Confirms {
    acked: Vec<Request>,
    refused: Vec<Request>,
    failed: Vec<Request>,
    returned: Vec<BasicReturnMessage>,
    error: Option<lapin::Error>,
}

impl Confirms {
    /// Whether a message was returned and acks are held back until nothing is in flight.
    fn checking(&self) -> bool {
        !self.returned.is_empty()
    }

    fn add(&mut self, request: Request, outcome: lapin::Result<Confirmation>) {
        match outcome {
            Ok(Confirmation::Ack(returned)) => {
                self.returned.extend(returned);
                self.acked.push(request);
            }
            Ok(Confirmation::Nack(returned)) => {
                self.returned.extend(returned);
                self.refused.push(request);
            }
            Ok(Confirmation::NotRequested) => {
                error!("a channel without publisher confirms was published on");
                self.error = Some(
                    lapin::ErrorKind::InvalidChannelState(
                        lapin::ChannelState::Error,
                        "publisher confirms are off",
                    )
                    .into(),
                );
                self.failed.push(request);
            }
            Err(error) => {
                self.error.get_or_insert(error);
                self.failed.push(request);
            }
        }
    }

    /// Answers what is certain; returns how many.
    fn settle(&mut self, nothing_in_flight: bool) -> usize {
        let mut answered = self.refused.len();
        for request in self.refused.drain(..) {
            request.answer(Err(PublishError::Refused));
        }
        if self.checking() && (!nothing_in_flight || self.error.is_some()) {
            return answered;
        }
        answered += self.acked.len();
        for request in self.acked.drain(..) {
            match self.returned.iter().position(|returned| request.is_in(returned)) {
                Some(index) => {
                    self.returned.swap_remove(index);
                    request.answer_unroutable();
                }
                None => request.answer(Ok(())),
            }
        }
        self.returned.clear();
        answered
    }

    /// What has no certain outcome: acks that were held back are among it.
    fn unsettled(self) -> impl Iterator<Item = Request> {
        self.failed.into_iter().chain(self.acked)
    }
}
