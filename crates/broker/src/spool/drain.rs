//! Takes what is spooled to the broker: in its order, so many at a time, for as long as it takes.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use event::{Chain, Message};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{ASIDE, Gate, Inner, OVERHEAD_BYTES, PROBE, QUEUE, Spool, Standing, probe, size, unwrapped};
use crate::embedded::Embedded;
use crate::{
    Broker, Deliveries, Delivery, DynBroker, ExchangeName, PublishError, Publisher, QueueName, Subscriber,
    Topology,
};

/// How many are on their way to the broker at once. New publishes wait once no more than this are left.
const WINDOW: u16 = 256;

/// How many after a round in which nothing got through: few, but not one, which may be the trouble itself.
const PROBED: u16 = 8;

/// How often a message may fail in the company of others that get through before it is set aside.
const TRIES: u32 = 8;

/// The pause after a round in which nothing got through: doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a stop goes on draining.
const LAST_ROUNDS: Duration = Duration::from_secs(5);

/// A message that was taken from the file and is still in it.
struct Taken {
    delivery: Delivery,
    tries: u32,
}

/// What a round came to.
enum Round {
    /// Everything is through.
    Through,
    /// Some are through.
    Part,
    /// Nothing is: the broker's trouble.
    Nothing(String),
}

impl Spool {
    /// Drains the file until `stop` is cancelled; then for a few seconds more, while that gets on. `broker` publishes in
    /// the order it is asked, and is closed at the end; `topology` is declared again where it is gone.
    pub async fn run(&self, broker: DynBroker, topology: Topology, stop: CancellationToken) {
        let inner = &*self.0;
        let gauges = async {
            loop {
                inner.show();
                inner.look_again().await;
                sleep(Duration::from_secs(1)).await;
            }
        };
        let drain = async {
            loop {
                let file = inner.state().file.clone();
                match file {
                    Ok(file) => inner.drain(&file, &broker, &topology, &stop).await,
                    Err(_) => {
                        stop.run_until_cancelled(sleep(LONGEST_PAUSE)).await;
                        if inner.open().await.is_ok() {
                            tracing::info!("the spool's file is open");
                        }
                    }
                }
                if stop.is_cancelled() {
                    break;
                }
            }
        };
        tokio::select! {
            () = drain => {}
            () = gauges => {}
        }
        inner.show();
        let file = std::mem::replace(&mut inner.state().file, Err("it is closed".to_owned()));
        if let Ok(file) = file {
            file.close().await;
        }
        broker.close().await;
    }
}

impl Inner {
    /// One subscription of the file's queue, to its end: told to stop, or the file refused a write.
    async fn drain(
        &self,
        file: &Embedded,
        broker: &DynBroker,
        topology: &Topology,
        stop: &CancellationToken,
    ) {
        let subscribed = file.subscribe(&QueueName::new(QUEUE), WINDOW).await;
        let Ok(mut deliveries) = subscribed else {
            stop.run_until_cancelled(sleep(Duration::from_secs(1))).await;
            return;
        };
        let mut held: VecDeque<Taken> = VecDeque::new();
        let mut pause = FIRST_PAUSE;
        let mut probing = false;
        let mut end = None::<Instant>;
        loop {
            if held.is_empty() {
                self.open_the_way();
                let next = match stop.run_until_cancelled(deliveries.next()).await {
                    Some(next) => next,
                    // Told to stop: what is left gets a few seconds.
                    None if self.state().messages == 0 => return,
                    None => {
                        let until = *end.get_or_insert_with(|| Instant::now() + LAST_ROUNDS);
                        let Ok(next) = timeout_at(until, deliveries.next()).await else { return };
                        next
                    }
                };
                let Ok(delivery) = next else { return };
                held.push_back(Taken { delivery, tries: 0 });
            }
            let limit = usize::from(if probing { PROBED } else { WINDOW });
            while held.len() < limit
                && let Ok(Ok(delivery)) = timeout(Duration::ZERO, deliveries.next()).await
            {
                held.push_back(Taken { delivery, tries: 0 });
            }
            self.state().oldest = held.front().map(|taken| taken.delivery.message.timestamp);
            let round = self.round(&mut held, limit, file, broker, topology, deliveries.as_mut()).await;
            let Ok(round) = round else { return };
            match round {
                Round::Through => (probing, pause) = (false, FIRST_PAUSE),
                // What failed in company is tried again, but not in a hot loop.
                Round::Part => {
                    probing = false;
                    sleep(FIRST_PAUSE).await;
                }
                Round::Nothing(why) => {
                    if stop.is_cancelled() {
                        return;
                    }
                    self.keep_spooling(&why);
                    probing = true;
                    stop.run_until_cancelled(sleep(jittered(pause))).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            }
            self.near_the_end();
            if stop.is_cancelled()
                && Instant::now() >= *end.get_or_insert_with(|| Instant::now() + LAST_ROUNDS)
            {
                return;
            }
        }
    }

    /// Publishes the first `limit` of what is held, in order, waits for every confirm, and takes off the file what is
    /// through. An error means that the file's subscription is over.
    async fn round(
        &self,
        held: &mut VecDeque<Taken>,
        limit: usize,
        file: &Embedded,
        broker: &DynBroker,
        topology: &Topology,
        deliveries: &mut dyn Deliveries,
    ) -> Result<Round, crate::BrokerError> {
        let batch: Vec<Taken> = held.drain(..held.len().min(limit)).collect();
        let routed: Vec<_> = batch.iter().map(|taken| unwrapped(taken.delivery.message.clone())).collect();
        let publishes = routed
            .iter()
            .map(|(exchange, key, message)| broker.publish(exchange, key, message.clone()))
            .collect();
        let outcomes = in_order(publishes).await;
        let (mut through, mut failed, mut trouble) = (Vec::new(), Vec::new(), None);
        let mut is_topology_gone = false;
        for (taken, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => through.push(taken),
                Err(error) => {
                    is_topology_gone |= matches!(
                        error,
                        PublishError::MissingExchange { .. } | PublishError::Unroutable { .. }
                    );
                    trouble.get_or_insert_with(|| Chain(&error).to_string());
                    failed.push((taken, error));
                }
            }
        }
        let tags: Vec<_> = through.iter().map(|taken| taken.delivery.tag).collect();
        deliveries.ack(&tags).await?;
        self.took_off(through.iter().map(|taken| &taken.delivery.message));
        if is_topology_gone && let Err(error) = broker.declare(topology).await {
            tracing::warn!("the topology is gone and cannot be declared: {}", Chain(&error));
        }
        let Some(trouble) = trouble else { return Ok(Round::Through) };
        let alone = through.is_empty();
        for (mut taken, error) in failed.into_iter().rev() {
            taken.tries += u32::from(!alone);
            if taken.tries >= TRIES {
                self.set_aside(file, &taken, &error, deliveries).await?;
            } else {
                held.push_front(taken);
            }
        }
        Ok(if alone { Round::Nothing(trouble) } else { Round::Part })
    }

    /// Keeps what the broker never takes out of the others' way.
    async fn set_aside(
        &self,
        file: &Embedded,
        taken: &Taken,
        error: &PublishError,
        deliveries: &mut dyn Deliveries,
    ) -> Result<(), crate::BrokerError> {
        let message = taken.delivery.message.clone();
        let event_id = message.message_id.clone();
        let kept = file.publish(&ExchangeName::default_exchange(), ASIDE, message).await;
        kept.map_err(|error| crate::BrokerError::Unavailable(error.into()))?;
        deliveries.ack(&[taken.delivery.tag]).await?;
        tracing::error!(
            event_id,
            "the broker does not take this event, the spool keeps it aside: {}",
            Chain(error)
        );
        self.metrics.set_aside.increment(1.0);
        let mut state = self.state();
        state.release(size(&taken.delivery.message));
        Ok(())
    }

    fn took_off<'a>(&self, through: impl Iterator<Item = &'a Message>) {
        let mut state = self.state();
        for message in through {
            state.release(size(message));
            state.drained += 1;
            self.metrics.drained.increment(1);
        }
    }

    /// With few left, new publishes wait for the last of them.
    fn near_the_end(&self) {
        let mut state = self.state();
        if state.gate == Gate::Spooling && state.messages <= u64::from(WINDOW) {
            state.gate = Gate::HandingOver;
        }
    }

    /// With nothing left, publishes go to the broker again.
    fn open_the_way(&self) {
        let mut state = self.state();
        if state.messages > 0 || state.gate == Gate::Direct {
            return;
        }
        state.gate = Gate::Direct;
        state.oldest = None;
        state.refusing_until = None;
        let after = state.since.take().map(|since| since.elapsed()).unwrap_or_default();
        tracing::info!(events = state.drained, ?after, "the spool is drained, events go to the broker");
        drop(state);
        self.changed.send_replace(());
        self.standing.send_replace(Standing::Direct);
    }

    /// The broker is away again: whoever waits is stored.
    fn keep_spooling(&self, why: &str) {
        let mut state = self.state();
        why.clone_into(&mut state.trouble);
        if state.gate == Gate::HandingOver {
            state.gate = Gate::Spooling;
            drop(state);
            self.changed.send_replace(());
        }
    }

    /// Whether what was refused would be taken now: by a broker that is back, or a file that takes a write.
    async fn look_again(&self) {
        if !matches!(*self.standing.borrow(), Standing::Refusing(_)) {
            return;
        }
        let (gate, file, has_room) = {
            let state = self.state();
            (state.gate, state.file.clone(), state.bytes + OVERHEAD_BYTES <= self.config.limit_bytes)
        };
        let is_written = async {
            let Ok(file) = &file else { return false };
            has_room && file.publish(&ExchangeName::default_exchange(), PROBE, probe()).await.is_ok()
        };
        if is_written.await || gate == Gate::Direct && self.broker.check().await.is_ok() {
            self.takes_again();
        }
    }

    /// Shows how full the spool is.
    fn show(&self) {
        let state = self.state();
        self.metrics.events.set(state.messages as f64);
        self.metrics.bytes.set(state.bytes as f64);
        let now = u64::try_from(event::now().as_second()).unwrap_or_default();
        let age = state.oldest.filter(|_| state.messages > 0).map_or(0, |oldest| now.saturating_sub(oldest));
        self.metrics.oldest.set(age as f64);
    }
}

type Publishing<'a> = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + 'a>>;

/// Starts each publish after the one before it, then waits for all. A broker stores what it is asked to in the order in
/// which it was asked first.
async fn in_order(mut publishes: Vec<Publishing<'_>>) -> Vec<Result<(), PublishError>> {
    let mut early = Vec::with_capacity(publishes.len());
    poll_fn(|context| {
        for publish in &mut publishes {
            early.push(match publish.as_mut().poll(context) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            });
        }
        Poll::Ready(())
    })
    .await;
    let mut outcomes = Vec::with_capacity(publishes.len());
    for (publish, outcome) in publishes.into_iter().zip(early) {
        outcomes.push(match outcome {
            Some(outcome) => outcome,
            None => publish.await,
        });
    }
    outcomes
}

/// Between half the pause and all of it, so that several ingresses do not come back in step.
fn jittered(pause: Duration) -> Duration {
    // The standard library seeds each hasher from the operating system's randomness.
    let share = (RandomState::new().hash_one(()) % 256) as u32;
    pause / 2 + pause * share / 512
}
