//! Publishes what is spooled: each lane in its order, a bounded number at a time, until the broker has confirmed
//! everything.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use event::Chain;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::lanes::{self, Gate, Trouble};
use super::{Inner, NotOpen, PROBE, READ_PATIENCE, Spool, probe, size, unwrapped};
use crate::backoff::jittered;
use crate::embedded::Embedded;
use crate::{
    Broker, BrokerError, Deliveries, Delivery, DeliveryTag, DynBroker, ExchangeName, PublishError, Publisher,
    Subscriber, Topology,
};

/// How many messages of a lane are in flight to the broker at once. New publishes wait once no more than this are left.
const WINDOW: u16 = 128;

/// How many lanes are drained with the whole window at once: this bounds the memory.
const TURNS: usize = 8;

/// How many are considered after a round in which nothing was confirmed. At most two of them are published: the first
/// and, if it is refused, one of the others, since the first itself may be the problem.
const PROBED: u16 = 8;

/// How many are published at once after a refusal; doubles with each round in which all are confirmed.
const FEW: usize = 2;

/// How often a message may fail while a later one of its lane is confirmed, before it is set aside.
const TRIES: u32 = 8;

/// The pause after a round in which nothing was confirmed. It doubles, up to the first limit while the broker does not
/// answer, and up to the second while it refuses: then each try leaves another copy in the queues that accept it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_REFUSAL: Duration = Duration::from_secs(60);

/// How long draining continues after a stop.
const LAST_ROUNDS: Duration = Duration::from_secs(5);

/// How often the broker is checked while it is down.
const LOOK: Duration = Duration::from_secs(1);

/// What the drains of a run share.
#[derive(Clone)]
struct Drains {
    inner: Arc<Inner>,
    broker: DynBroker,
    topology: Arc<Topology>,
    stop: CancellationToken,
    turns: Arc<Semaphore>,
    /// When the last rounds end after a stop: at the same moment for all lanes.
    end: Arc<OnceLock<Instant>>,
}

/// How the reading of a lane's queue ends.
enum End {
    /// Everything is confirmed.
    Drained,
    /// A probe was confirmed: the rest may follow.
    Recovered,
    /// Nothing was confirmed.
    Nothing(Trouble),
    /// A write to the file failed, or it is not open.
    Lost,
    /// Stopped, and the time for the last rounds is over.
    Stopped,
}

impl From<BrokerError> for End {
    fn from(_: BrokerError) -> Self {
        Self::Lost
    }
}

/// The result of a round.
enum Round {
    /// Everything is confirmed.
    Through,
    /// Some are through.
    Part,
    Nothing(Trouble),
}

impl Spool {
    /// Drains the file until `stop` is cancelled, then for a few seconds more while that makes progress. `broker`
    /// publishes in the order it is asked, and is closed at the end; `topology` is declared again where it is gone.
    pub async fn run(&self, broker: DynBroker, topology: Topology, stop: CancellationToken) {
        let inner = &self.0;
        let shown = async {
            loop {
                inner.show();
                sleep(Duration::from_secs(1)).await;
            }
        };
        let looked = async {
            loop {
                inner.check_again().await;
                sleep(LOOK).await;
            }
        };
        let turns = Arc::new(Semaphore::new(TURNS));
        let drains = Drains {
            inner: inner.clone(),
            broker: broker.clone(),
            topology: topology.into(),
            stop,
            turns,
            end: Arc::default(),
        };
        tokio::select! {
            () = drains.run() => {}
            () = inner.try_aside(&broker) => {}
            () = shown => {}
            () = looked => {}
        }
        inner.show();
        let file = std::mem::replace(&mut inner.state().file, Err(NotOpen::Closed));
        if let Ok(file) = file {
            file.close().await;
        }
        broker.close().await;
    }
}

impl Drains {
    /// Runs a drain for each lane in use until the stop.
    async fn run(self) {
        // The drains of an earlier run ended when that was dropped.
        self.inner.state().lanes.in_use.values_mut().for_each(|lane| lane.has_drain = false);
        let mut drains = JoinSet::new();
        loop {
            let is_open = self.inner.state().file.is_ok();
            for (name, lane) in &mut self.inner.state().lanes.in_use {
                if !std::mem::replace(&mut lane.has_drain, true) {
                    drains.spawn(self.clone().drain(name.clone()));
                }
            }
            if self.stop.is_cancelled() && drains.is_empty() {
                return;
            }
            tokio::select! {
                () = self.inner.begun.notified() => {}
                Some(ended) = drains.join_next() => {
                    if let Err(error) = ended && let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
                () = self.stop.cancelled(), if !self.stop.is_cancelled() => {
                    self.end();
                }
                () = sleep(LONGEST_PAUSE), if !is_open => {
                    match self.inner.open().await {
                        Ok(()) => tracing::info!("the spool's file is open"),
                        Err(error) => self.inner.state().file = Err(NotOpen::Failed(Arc::new(error))),
                    }
                }
            }
        }
    }

    /// When the last rounds end. The stop sets it.
    fn end(&self) -> Instant {
        *self.end.get_or_init(|| Instant::now() + LAST_ROUNDS)
    }

    /// Waits for the stop and the end of the last rounds.
    async fn last_rounds_over(&self) {
        self.stop.cancelled().await;
        sleep_until(self.end()).await;
    }

    /// Drains one lane until it is empty.
    async fn drain(self, name: String) {
        let mut pause = FIRST_PAUSE;
        let mut lane = Draining { drains: &self, name: &name, tries: HashMap::new(), failures: 0 };
        let mut is_probing = true;
        let Some(woken) = self.inner.state().lanes.in_use.get(&name).map(|lane| lane.woken.clone()) else {
            return;
        };
        let mut was_woken = false;
        loop {
            let end = match lane.session(is_probing).await {
                Ok(end) | Err(end) => end,
            };
            match end {
                End::Drained => {
                    if self.inner.end_lane(&name).await {
                        return;
                    }
                }
                End::Stopped => return,
                End::Recovered => (is_probing, pause) = (false, FIRST_PAUSE),
                End::Lost => {
                    sleep(FIRST_PAUSE).await;
                    if self.stop.is_cancelled() || self.inner.state().file.is_err() {
                        // The next file has its own lanes.
                        self.inner.drain_ended(&name);
                        return;
                    }
                }
                End::Nothing(trouble) => {
                    if self.stop.is_cancelled() {
                        return;
                    }
                    self.inner.keep_spooling(&name, &trouble);
                    is_probing = true;
                    let longest = if trouble.is_answer() { LONGEST_REFUSAL } else { LONGEST_PAUSE };
                    pause = pause.min(longest);
                    tokio::select! {
                        () = sleep(jittered(pause)) => (pause, was_woken) = (pause * 2, false),
                        () = self.inner.again.notified() => (pause, was_woken) = (FIRST_PAUSE, false),
                        // Once per length of the pause: a queue that hovers at its limit must not make others retry
                        // more often.
                        () = woken.notified(), if !was_woken => was_woken = true,
                        () = self.stop.cancelled() => {}
                    }
                }
            }
        }
    }
}

/// A lane that is being drained.
struct Draining<'a> {
    drains: &'a Drains,
    name: &'a str,
    /// How often a message has failed while a later one was confirmed, by its position in the file.
    tries: HashMap<DeliveryTag, u32>,
    /// Rounds in which nothing was confirmed.
    failures: usize,
}

impl Draining<'_> {
    /// Reads the lane's queue until that ends.
    async fn session(&mut self, is_probing: bool) -> Result<End, End> {
        let Drains { inner, turns, .. } = self.drains;
        let _turn = match is_probing {
            true => None,
            false => tokio::select! {
                turn = turns.acquire() => turn.ok(),
                () = self.drains.last_rounds_over() => return Ok(End::Stopped),
            },
        };
        let (file, queue) = {
            let state = inner.state();
            let lane = state.lanes.in_use.get(self.name).ok_or(End::Drained)?;
            (state.file.clone().map_err(|_| End::Lost)?, lane.queue.clone())
        };
        let limit = if is_probing { PROBED } else { WINDOW };
        let mut deliveries = file.subscribe(&queue, limit).await?;
        let mut held = VecDeque::new();
        let mut window = if is_probing { 1 } else { usize::from(WINDOW) };
        loop {
            self.gather(&mut held, usize::from(limit), deliveries.as_mut()).await?;
            let batch = held.drain(..held.len().min(window)).collect();
            match self.round(batch, &mut held, &file, deliveries.as_mut()).await? {
                Round::Through if is_probing => return Ok(End::Recovered),
                Round::Through => {
                    window = (window * 2).min(usize::from(WINDOW));
                    inner.hand_over_if_few_left(self.name);
                }
                // What failed while others were confirmed is retried, but not in a hot loop, and not with many behind
                // it.
                Round::Part => {
                    window = FEW;
                    inner.resume_spooling(self.name);
                    sleep(FIRST_PAUSE).await;
                }
                Round::Nothing(trouble) => {
                    let is_refused = is_probing && trouble.is_answer();
                    if !is_refused
                        || !self.try_another(&trouble, &mut held, &file, deliveries.as_mut()).await?
                    {
                        self.failures += 1;
                        return Ok(End::Nothing(trouble));
                    }
                    sleep(FIRST_PAUSE).await;
                }
            }
        }
    }

    /// Tries one of those behind the refused first: a different one each time. If it is confirmed, the first has failed
    /// while another was confirmed.
    async fn try_another(
        &mut self,
        trouble: &Trouble,
        held: &mut VecDeque<Delivery>,
        file: &Embedded,
        deliveries: &mut dyn Deliveries,
    ) -> Result<bool, BrokerError> {
        let Some(others) = held.len().checked_sub(1).filter(|others| *others > 0) else { return Ok(false) };
        let Some(other) = held.remove(1 + self.failures % others) else { return Ok(false) };
        let Some(first) = held.pop_front() else { return Ok(false) };
        let is_through = matches!(self.round(vec![other], held, file, deliveries).await?, Round::Through);
        match is_through {
            true => self.retry_or_set_aside(first, trouble, held, file, deliveries).await?,
            false => held.push_front(first),
        }
        Ok(is_through)
    }

    /// Puts the message in front again, or sets it aside after too many failures.
    async fn retry_or_set_aside(
        &mut self,
        taken: Delivery,
        trouble: &Trouble,
        held: &mut VecDeque<Delivery>,
        file: &Embedded,
        deliveries: &mut dyn Deliveries,
    ) -> Result<(), BrokerError> {
        let tries = self.tries.entry(taken.tag).or_default();
        *tries += 1;
        if *tries < TRIES {
            held.push_front(taken);
            return Ok(());
        }
        self.tries.remove(&taken.tag);
        self.drains.inner.set_aside(self.name, file, &taken, trouble, deliveries).await
    }

    /// Waits for a delivery, and takes those that are available with it. An error ends the session.
    async fn gather(
        &mut self,
        held: &mut VecDeque<Delivery>,
        limit: usize,
        deliveries: &mut dyn Deliveries,
    ) -> Result<(), End> {
        /// How long to wait for those that the file has not delivered yet.
        const COMPANY: Duration = Duration::from_millis(20);
        let company_until = Instant::now() + COMPANY;
        let Drains { inner, stop, .. } = self.drains;
        let waiting = || inner.state().lanes.in_use.get(self.name).map_or(0, |lane| lane.messages);
        loop {
            if stop.is_cancelled() && Instant::now() >= self.drains.end() {
                return Err(End::Stopped);
            }
            let waiting = waiting();
            if held.is_empty() && waiting == 0 {
                return Err(End::Drained);
            }
            if held.len() >= limit.min(usize::try_from(waiting).unwrap_or(usize::MAX)) && !held.is_empty() {
                break;
            }
            // One that is being stored arrives soon, or is given up.
            let until = if held.is_empty() { Instant::now() + READ_PATIENCE } else { company_until };
            match timeout_at(until, deliveries.next()).await {
                Ok(delivery) => held.push_back(delivery?),
                Err(_) if held.is_empty() => {}
                Err(_) => break,
            }
        }
        if let Some(lane) = inner.state().lanes.in_use.get_mut(self.name) {
            lane.oldest = held.front().map(|delivery| delivery.message.timestamp);
        }
        Ok(())
    }

    /// Publishes these in order, waits for every confirm, and removes the confirmed ones from the file. The others are
    /// put in front again or set aside. An error means that the file cannot be read on.
    async fn round(
        &mut self,
        batch: Vec<Delivery>,
        held: &mut VecDeque<Delivery>,
        file: &Embedded,
        deliveries: &mut dyn Deliveries,
    ) -> Result<Round, BrokerError> {
        let Drains { inner, broker, topology, .. } = self.drains;
        let routed: Vec<_> = batch.iter().map(|delivery| unwrapped(delivery.message.clone())).collect();
        let publishes = routed
            .iter()
            .map(|(exchange, key, message)| broker.publish(exchange, key, message.clone()))
            .collect();
        let outcomes: Vec<Option<PublishError>> =
            in_order(publishes).await.into_iter().map(Result::err).collect();
        if outcomes.iter().any(|error| error.as_ref().is_none_or(|error| Trouble::new(error).is_answer())) {
            inner.broker_is_back();
        }
        let last_through = outcomes.iter().rposition(Option::is_none);
        let through: Vec<_> = batch
            .iter()
            .zip(&outcomes)
            .filter(|(_, error)| error.is_none())
            .map(|(taken, _)| taken)
            .collect();
        deliveries.ack(&through.iter().map(|taken| taken.tag).collect::<Vec<_>>()).await?;
        inner.release_confirmed(self.name, &through);
        for taken in through {
            self.tries.remove(&taken.tag);
        }
        let is_gone = |error: &PublishError| {
            matches!(error, PublishError::MissingExchange { .. } | PublishError::Unroutable { .. })
        };
        if outcomes.iter().flatten().any(is_gone) {
            match broker.declare(topology).await {
                Ok(()) => inner.state().lanes.wake_all(),
                Err(error) => {
                    tracing::warn!("the topology is missing and cannot be declared: {}", Chain(&error))
                }
            }
        }
        let Some(trouble) = outcomes.iter().flatten().next().map(Trouble::new) else {
            return Ok(Round::Through);
        };
        let (mut stay, mut has_left) = (Vec::new(), false);
        // Their own lane keeps their order.
        for (index, (taken, error)) in batch.into_iter().zip(outcomes).enumerate() {
            let Some(trouble) = error.as_ref().map(Trouble::new) else { continue };
            inner.metrics.refused_tries.increment(u64::from(trouble.is_answer()));
            if trouble.is_of_message() {
                self.tries.remove(&taken.tag);
                inner.set_aside(self.name, file, &taken, &trouble, deliveries).await?;
                has_left = true;
            } else if self.name == lanes::SHARED && trouble.is_answer() {
                inner.separate(file, &taken, &trouble, deliveries).await?;
                has_left = true;
            } else {
                stay.push((index, taken, trouble));
            }
        }
        // Last one first, since each is put in front.
        for (index, taken, trouble) in stay.into_iter().rev() {
            if trouble.is_answer() && last_through.is_some_and(|last| last > index) {
                self.retry_or_set_aside(taken, &trouble, held, file, deliveries).await?;
            } else {
                held.push_front(taken);
            }
        }
        // What left the lane no longer blocks it.
        Ok(if last_through.is_some() || has_left { Round::Part } else { Round::Nothing(trouble) })
    }
}

impl Inner {
    fn release_confirmed(&self, name: &str, through: &[&Delivery]) {
        let mut state = self.state();
        for delivery in through {
            state.release(name, size(&delivery.message));
            self.metrics.drained.increment(1);
        }
        if let Some(lane) = state.lanes.in_use.get_mut(name) {
            lane.drained += through.len() as u64;
        }
    }

    /// Moves a refused message from the shared lane to its own, so that it does not block others; sets it aside if no
    /// lane is left.
    async fn separate(
        &self,
        file: &Embedded,
        delivery: &Delivery,
        trouble: &Trouble,
        deliveries: &mut dyn Deliveries,
    ) -> Result<(), BrokerError> {
        let message = delivery.message.clone();
        let (exchange, routing_key, _) = unwrapped(message.clone());
        let name = lanes::name(&exchange, &routing_key);
        let queue = {
            let mut state = self.state();
            let own = state.lanes.own(&name, trouble).map(|lane| {
                lane.messages += 1;
                lane.queue.clone()
            });
            state.messages += u64::from(own.is_some());
            own
        };
        let Some(queue) = queue else {
            return self.set_aside(lanes::SHARED, file, delivery, trouble, deliveries).await;
        };
        let stored = file.publish(&ExchangeName::default_exchange(), queue.as_str(), message).await;
        let left = if stored.is_ok() { lanes::SHARED } else { &name };
        {
            let mut state = self.state();
            state.release(left, 0);
            self.show_change(&state);
        }
        self.begun.notify_one();
        stored.map_err(|error| BrokerError::Unavailable(error.into()))?;
        deliveries.ack(&[delivery.tag]).await
    }

    /// With few left, new publishes wait for the last of them.
    fn hand_over_if_few_left(&self, name: &str) {
        if let Some(lane) = self.state().lanes.in_use.get_mut(name)
            && lane.messages <= u64::from(WINDOW)
        {
            lane.gate = Gate::HandingOver;
        }
    }

    /// Ends the lane if nothing is left in it: its publishes go to the broker again. False if something is left.
    async fn end_lane(&self, name: &str) -> bool {
        let (file, queue) = {
            let state = self.state();
            let Some(lane) = state.lanes.in_use.get(name) else { return true };
            (state.file.clone(), lane.queue.clone())
        };
        // What was acked while a write failed is delivered again.
        let left = match file {
            Ok(file) => file.queues(&[queue]).await.map_or(0, |status| status[0].ready),
            Err(_) => 0,
        };
        let mut state = self.state();
        match state.lanes.in_use.get_mut(name) {
            Some(lane) if lane.messages == 0 && left == 0 => {}
            Some(lane) => {
                if lane.messages == 0 {
                    lane.messages = left;
                    state.messages += left;
                }
                return false;
            }
            None => return true,
        }
        let Some(lane) = state.lanes.end(name) else { return true };
        // Whatever made these succeed may make others succeed.
        if lane.trouble.is_answer() {
            state.lanes.wake_beside(name);
        }
        self.show_change(&state);
        drop(state);
        let (events, after) = (lane.drained, lane.since.elapsed());
        tracing::info!(
            lane = lanes::shown(name),
            events,
            ?after,
            "the spool is drained, events go to the broker"
        );
        self.changed.send_replace(());
        true
    }

    /// A drain has ended before its lane was empty: the next one continues there.
    fn drain_ended(&self, name: &str) {
        if let Some(lane) = self.state().lanes.in_use.get_mut(name) {
            lane.has_drain = false;
        }
    }

    /// The lane will not be empty soon after all: publishes that wait for it are stored.
    fn resume_spooling(&self, name: &str) {
        if let Some(lane) = self.state().lanes.in_use.get_mut(name)
            && std::mem::replace(&mut lane.gate, Gate::Spooling) == Gate::HandingOver
        {
            self.changed.send_replace(());
        }
    }

    /// Nothing of a lane is confirmed, for this reason.
    fn keep_spooling(&self, name: &str, trouble: &Trouble) {
        self.resume_spooling(name);
        let mut state = self.state();
        state.trouble.clone_from(&trouble.text);
        let Some(lane) = state.lanes.in_use.get_mut(name) else { return };
        if lane.trouble != *trouble {
            tracing::warn!(
                lane = lanes::shown(name),
                "the broker still does not accept these: {}",
                trouble.text
            );
            lane.trouble = trouble.clone();
            self.show_change(&state);
        }
    }

    /// Checks whether the broker is up, if in doubt, and whether what was refused would be accepted now.
    pub(super) async fn check_again(&self) {
        let (is_down, is_refusing, is_empty, is_calm, file, has_room) = {
            let state = self.state();
            (
                state.outage.is_some(),
                state.refusal.is_some(),
                state.lanes.in_use.is_empty(),
                state.is_calm(),
                state.file.clone(),
                self.has_room(&state),
            )
        };
        if self.doubted.swap(false, Ordering::AcqRel) || is_down || is_refusing && is_empty {
            match self.broker.check().await {
                Ok(_) => {
                    self.broker_is_back();
                    if is_refusing && is_empty && (is_down || is_calm) {
                        self.takes_again();
                    }
                }
                Err(error) => self.broker_is_down(&error),
            }
        }
        if is_refusing
            && has_room
            && let Ok(file) = file
            && file.publish(&ExchangeName::default_exchange(), PROBE, probe()).await.is_ok()
        {
            self.takes_again();
        }
    }

    fn broker_is_down(&self, error: &BrokerError) {
        let trouble = Trouble::outage(Chain(error).to_string());
        let mut state = self.state();
        if state.outage.is_none() {
            tracing::warn!("the broker is down, events go to the spool: {}", trouble.text);
        }
        state.outage = Some(trouble);
        self.show_change(&state);
    }
}

type Publishing<'a> = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + 'a>>;

/// Starts the publishes in order, then waits for all. A broker stores what it is asked to in the order in which it was
/// asked first.
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
