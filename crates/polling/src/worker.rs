//! Polls every source when it is due, for as long as the process runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{Chain, EventId, SourceName, Timestamp};
use futures_util::future::join_all;
use ingress::Ingress;
use metrics::{counter, gauge};
use outbound::{BadAddress, BadCredential, Client};
use providers::Provider;
use store::{Store, StoreError, lease};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Poll, PollAuth};
use crate::poll::{Cause, Failure, Listed, Outcome, Permit, Plan, Tools};
use crate::table::{self, After, Claim};

/// How often a process looks whether a source is due: another one may have polled it, or have been killed.
const CHECK: Duration = Duration::from_secs(2);

/// How much longer than one request the lease lasts.
const MARGIN: Duration = Duration::from_secs(10);

/// The longest pause after failures, unless polls are further apart anyway.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The longest pause that an API can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A source that is polled.
#[derive(Clone)]
pub struct Polled {
    pub(crate) plan: Arc<Plan>,
    /// What the credentials of the plan are made of.
    auth: PollAuth,
}

/// Polls sources. Any number of processes may do so; one polls a source at a time.
pub struct Poller {
    /// Where the leases and the results are.
    pub store: Store,
    /// Where the items go.
    pub ingress: Ingress,
    /// Sends the requests.
    pub client: Client,
    /// The sources. The credentials of one may change, which is in force with its next poll; one that is missing is not polled. One
    /// that was not there at the start is not noticed.
    pub sources: watch::Receiver<Vec<Polled>>,
}

/// Why a source cannot be polled. The configuration was checked for both.
#[derive(Debug, thiserror::Error)]
pub enum BadPoll {
    /// An address is none.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The credentials cannot be sent.
    #[error(transparent)]
    Credential(#[from] BadCredential),
}

impl Polled {
    /// A source that is polled so, with requests of this client.
    pub fn new(
        source: SourceName,
        provider: &Provider,
        poll: &Poll,
        client: &Client,
    ) -> Result<Self, BadPoll> {
        let plan = Plan {
            source,
            endpoints: poll.endpoints(provider.polling())?,
            credentials: poll.auth.credentials(client)?,
            items: poll.items.clone(),
            acknowledge: poll.acknowledge(provider.polling()),
            timeout: poll.timeout(),
            every: poll.every(),
        };
        Ok(Self { plan: Arc::new(plan), auth: poll.auth.clone() })
    }

    /// Its source.
    pub fn source(&self) -> &SourceName {
        &self.plan.source
    }

    /// Whether it shows these credentials: if so, its access token stays valid.
    pub fn has_auth(&self, poll: &Poll) -> bool {
        self.auth == poll.auth
    }
}

impl Poller {
    /// Works until `stop` is cancelled; the item that is being stored is finished. What is not acknowledged by then comes again.
    pub async fn run(self, stop: CancellationToken) {
        let owner = EventId::generate().to_string();
        let plans: Vec<_> = self.sources.borrow().iter().map(|source| Arc::clone(&source.plan)).collect();
        join_all(plans.into_iter().map(|plan| self.follow(plan, &owner, &stop))).await;
    }

    async fn follow(&self, mut plan: Arc<Plan>, owner: &str, stop: &CancellationToken) {
        let (mut listed, mut trouble) = (Listed::new(), None);
        while !stop.is_cancelled() {
            let stepped = match self.is_current(&mut plan).await {
                Ok(true) => self.step(&plan, owner, &mut listed, stop).await,
                Ok(false) => Ok(CHECK),
                Err(error) => Err(error),
            };
            let pause = match stepped {
                Ok(wait) => {
                    trouble = None;
                    wait
                }
                Err(error) => {
                    let reason = Chain(&error).to_string();
                    if trouble.as_ref() != Some(&reason) {
                        warn!(source = %plan.source, "not polled: {reason}");
                        trouble = Some(reason);
                    }
                    CHECK
                }
            };
            stop.run_until_cancelled(sleep(pause.min(CHECK))).await;
        }
    }

    /// Brings a plan up to date; false if its source is not configured any more. With other credentials, an API that has failed is asked
    /// at once.
    async fn is_current(&self, plan: &mut Arc<Plan>) -> Result<bool, StoreError> {
        let find = |sources: &[Polled]| sources.iter().find(|one| one.plan.source == plan.source).cloned();
        let Some(Polled { plan: newer, .. }) = find(&self.sources.borrow()) else { return Ok(false) };
        if !Arc::ptr_eq(plan, &newer) {
            table::hurry(&self.store, &newer.source).await?;
            info!(source = %newer.source, "the credentials of poll.auth have changed");
            *plan = newer;
        }
        Ok(true)
    }

    /// Polls a source if it is due, and gives how long to wait for the next poll. All times are those of the store's clock.
    async fn step(
        &self,
        plan: &Plan,
        owner: &str,
        listed: &mut Listed,
        stop: &CancellationToken,
    ) -> Result<Duration, StoreError> {
        let duration = plan.timeout + MARGIN;
        let (began, now) = (Instant::now(), lease::clock(&self.store).await?);
        let before = match table::claim(&self.store, &plan.source, owner, now, duration).await? {
            Claim::Granted(before) => before,
            Claim::NotBefore(due) => return Ok(due.duration_since(now).try_into().unwrap_or_default()),
        };
        let mut permit = Lease { poller: self, plan, owner, stop, until: began + duration, is_lost: false };
        let tools = Tools { client: &self.client, ingress: &self.ingress, stop };
        let outcome = plan.poll(&tools, listed, &mut permit).await;
        if stop.is_cancelled() || permit.is_lost {
            // Cut off: it is still due.
            table::release(&self.store, &plan.source, owner).await?;
            return Ok(CHECK);
        }
        let now = lease::clock(&self.store).await?;
        let after = after(&outcome, before.failures, plan.every, now);
        report(&plan.source, &outcome, before.failures, &after);
        table::settle(&self.store, &plan.source, owner, now, &after).await?;
        Ok(after.next_at.duration_since(now).try_into().unwrap_or_default())
    }
}

/// What a poll leads to.
fn after(outcome: &Outcome, failures: u32, every: Duration, now: Timestamp) -> After {
    let Outcome { items, failure } = outcome;
    let (failures, pause, retry_after) = match failure {
        None => (0, every, None),
        Some(Failure { retry_after, cause, .. }) => {
            let doubled = every.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE.max(every));
            let is_slowed = *cause == Cause::Api && retry_after.is_none();
            let pause = if is_slowed { doubled } else { every };
            (failures.saturating_add(1), pause, retry_after.map(|wait| wait.min(LONGEST_RETRY_AFTER)))
        }
    };
    let held_until = retry_after.map(|wait| now + wait);
    After {
        items: *items,
        failure: failure.as_ref().map(|failure| failure.reason.clone()),
        failures,
        next_at: (now + pause).max(held_until.unwrap_or(now)),
        held_until,
    }
}

/// Counts a poll, and logs a failure that is the first in a row, and its end.
fn report(source: &SourceName, outcome: &Outcome, failures: u32, after: &After) {
    let label = source.to_string();
    let result = if after.failure.is_none() { "success" } else { "failure" };
    counter!("polls_total", "source" => label.clone(), "outcome" => result).increment(1);
    gauge!("poll_failures", "source" => label).set(f64::from(after.failures));
    match &after.failure {
        Some(reason) => {
            warn!(%source, failures = after.failures, next_at = %after.next_at, "polling failed: {reason}");
        }
        None if failures > 0 => info!(%source, items = outcome.items, "polling works again"),
        None => {}
    }
}

/// The lease of the source under way.
struct Lease<'a> {
    poller: &'a Poller,
    plan: &'a Plan,
    owner: &'a str,
    stop: &'a CancellationToken,
    /// When it ends, by the clock of this process.
    until: Instant,
    is_lost: bool,
}

impl Permit for Lease<'_> {
    async fn may_go_on(&mut self) -> bool {
        if self.stop.is_cancelled() || self.is_lost {
            return false;
        }
        let (now, duration) = (Instant::now(), self.plan.timeout + MARGIN);
        // Enough for another request.
        if now + self.plan.timeout + MARGIN / 2 < self.until {
            return true;
        }
        self.is_lost = !matches!(self.extend(duration).await, Ok(true));
        self.until = now + duration;
        !self.is_lost
    }
}

impl Lease<'_> {
    async fn extend(&self, duration: Duration) -> Result<bool, StoreError> {
        let Self { poller: Poller { store, .. }, plan, owner, .. } = self;
        let until = lease::clock(store).await? + duration;
        table::extend(store, &plan.source, owner, until).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_api_is_asked_less_and_less_often_and_never_before_it_wants() {
        let now: Timestamp = "2026-11-27T08:00:00Z".parse().unwrap();
        let check = |every_s: u64, failures: u32, retry_after_s: Option<u64>, expect_s: i64| {
            let failure = Failure::failed("x", retry_after_s.map(Duration::from_secs));
            let outcome = Outcome { items: 0, failure: Some(failure) };
            let after = after(&outcome, failures, Duration::from_secs(every_s), now);
            assert_eq!(after.next_at.duration_since(now).as_secs(), expect_s, "{every_s} {failures}");
            assert_eq!(after.failures, failures + 1);
        };
        check(60, 0, None, 60);
        check(60, 3, None, 480);
        check(60, 40, None, 3_600);
        check(7_200, 40, None, 7_200);
        check(60, 9, Some(5), 60);
        check(60, 9, Some(100_000_000), 86_400);
        for cause in [Cause::Item, Cause::Own] {
            let failure = Some(Failure { cause, ..Failure::failed("x", None) });
            let after = after(&Outcome { items: 9, failure }, 9, Duration::from_secs(60), now);
            assert_eq!(after.next_at.duration_since(now).as_secs(), 60, "the API does not fail: {cause:?}");
        }
        let works = after(&Outcome::default(), 9, Duration::from_secs(60), now);
        assert_eq!((works.failures, works.next_at.duration_since(now).as_secs()), (0, 60));
    }
}
