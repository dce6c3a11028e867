//! Push subscriptions whose endpoints fail, stall and come back, and whose replicas are killed.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use event::EventId;
use subscriptions::{Order, Resume, pause, resume};

use super::is_full;
use super::rows::Servers;
use crate::pushes::{Endpoint, Pushes};

/// Two replicas on a virtual host and a database of their own: of the shared servers, or, since the full form has none, of others.
async fn started() -> Result<(Pushes, Option<Servers>)> {
    if !is_full() {
        let shared = harness::Shared::from_env()?;
        let pushes = Pushes::on(&shared.fresh_vhost()?, &shared.fresh_database()?)?;
        return Ok((pushes.with_replicas().await?, None));
    }
    let servers = Servers::start()?;
    let (broker, database) = servers.urls()?;
    Ok((Pushes::on(&broker, &database)?.with_replicas().await?, Some(servers)))
}

/// Twelve endpoints that work, three that are slow, and five that are down.
struct Fleet {
    healthy: Vec<Endpoint>,
    slow: Vec<Endpoint>,
    down: Vec<u16>,
}

/// The subscriptions of endpoints that do not work.
fn bad() -> impl Iterator<Item = String> {
    let slow = (0..3).map(|number| format!("slow-{number}"));
    slow.chain((0..5).map(|number| format!("down-{number}")))
}

impl Fleet {
    async fn subscribed(pushes: &Pushes) -> Result<Self> {
        let start = |count: usize| (0..count).map(|_| Endpoint::start()).collect::<Result<Vec<_>>>();
        let (healthy, slow) = (start(12)?, start(3)?);
        let down: Vec<u16> = start(5)?.iter().map(Endpoint::port).collect();
        slow.iter().for_each(|endpoint| endpoint.answer(Duration::from_millis(500), |_| 200));
        for (number, endpoint) in healthy.iter().enumerate() {
            pushes.add(&format!("healthy-{number}"), endpoint.url(), Order::None).await?;
        }
        let down_urls = down.iter().map(|port| format!("http://127.0.0.1:{port}/"));
        for (name, url) in bad().zip(slow.iter().map(Endpoint::url).chain(down_urls)) {
            pushes.add(&name, url, Order::None).await?;
        }
        Ok(Self { healthy, slow, down })
    }

    /// Records events. Gives them, and how long it took until all healthy endpoints had got each.
    async fn round(&self, pushes: &Pushes, events: usize) -> Result<(Vec<EventId>, Duration)> {
        let events = pushes.record(events, 10).await;
        let (begun, mut last) = (SystemTime::now(), SystemTime::UNIX_EPOCH);
        for endpoint in &self.healthy {
            last = last.max(endpoint.wait_for(&events).await?);
        }
        // The first ones may come before the transaction is known to be committed.
        Ok((events, last.duration_since(begun).unwrap_or_default()))
    }
}

/// Waits until each of the two replicas delivers so many subscriptions.
async fn shared(pushes: &Pushes, each: usize) -> Result<()> {
    let shares = format!(
        "SELECT count(*) FROM (SELECT lease_owner FROM subscriptions WHERE lease_owner IS NOT NULL GROUP BY lease_owner \
         HAVING count(*) = {each}) s"
    );
    pushes.wait_for(&shares, 2).await?;
    let all = "SELECT count(*) FROM subscriptions WHERE lease_owner IS NOT NULL";
    pushes.wait_for(all, 2 * i64::try_from(each)?).await
}

/// How many times as long it takes beside the bad ones, and the limit. The short form shares the processors with other tests, which
/// only ever add to a time: the shortest of each kind is compared.
fn ratio(times: &[(f64, f64)]) -> (f64, f64) {
    if is_full() {
        let mut ratios: Vec<f64> = times.iter().map(|(alone, beside)| beside / alone).collect();
        ratios.sort_by(f64::total_cmp);
        return (ratios[ratios.len() / 2], 1.2);
    }
    let shortest = |kind: fn(&(f64, f64)) -> f64| times.iter().map(kind).fold(f64::INFINITY, f64::min);
    (shortest(|(_, beside)| *beside) / shortest(|(alone, _)| *alone), 2.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_healthy_endpoints_do_not_notice_those_that_are_down_or_slow_and_those_get_everything_once_healed()
-> Result<()> {
    let events = if is_full() { 10_000 } else { 300 };
    let (pushes, _servers) = started().await?;
    let fleet = Fleet::subscribed(&pushes).await?;
    let (mut all, mut times) = (Vec::new(), Vec::new());
    for round in 0..=3 {
        for name in bad() {
            pause(&pushes.store, &name.try_into()?, "beside nothing").await?;
        }
        shared(&pushes, 6).await?;
        let (alone, time_alone) = fleet.round(&pushes, events).await?;
        all.extend(alone);
        if round == 0 {
            // Connections, caches and tables are warm now.
            continue;
        }
        for name in bad() {
            resume(&pushes.store, &name.try_into()?, Resume::All).await?;
        }
        shared(&pushes, 10).await?;
        pushes.wait_for("SELECT count(*) FROM subscriptions WHERE state = 'failing'", 5).await?;
        let (beside, time_beside) = fleet.round(&pushes, events).await?;
        all.extend(beside);
        println!(
            "{events} events to 12 endpoints: {time_alone:.2?} alone, {time_beside:.2?} beside 8 bad ones"
        );
        times.push((time_alone.as_secs_f64(), time_beside.as_secs_f64()));
    }
    let (ratio, limit) = ratio(&times);
    ensure!(ratio <= limit, "the healthy ones take {ratio:.2} times as long: {times:.2?}");

    let healed = fleet.down.iter().map(|port| Endpoint::start_at(*port)).collect::<Result<Vec<_>>>()?;
    fleet.slow.iter().for_each(|endpoint| endpoint.answer(Duration::ZERO, |_| 200));
    for endpoint in healed.iter().chain(&fleet.slow) {
        endpoint.wait_for(&all).await?;
    }
    pushes.wait_for("SELECT count(*) FROM subscriptions WHERE state = 'active'", 20).await?;
    pushes.wait_for("SELECT count(*) FROM deliveries", 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_events_of_a_subject_arrive_in_order_whatever_fails_and_whichever_replica_is_killed()
-> Result<()> {
    const SUBJECTS: usize = 100;
    let each = if is_full() { 100 } else { 20 };
    let (mut pushes, _servers) = started().await?;
    let endpoint = Endpoint::start()?;
    // One in five fails, wherever that is.
    endpoint.answer(Duration::ZERO, |number| if (number * 7919) % 5 == 3 { 500 } else { 200 });
    pushes.add("crm", endpoint.url(), Order::Subject).await?;
    let events = pushes.record(SUBJECTS * each, SUBJECTS).await;
    endpoint.reached(events.len() / 3).await?;
    pushes.product.kill9("subscriptions-1")?;
    endpoint.reached(events.len() * 2 / 3).await?;
    pushes.product.start("subscriptions-3", &["subscriptions"]).await?;
    pushes.product.kill9("subscriptions-2")?;
    endpoint.wait_for(&events).await?;
    let places: HashMap<EventId, usize> = events.iter().copied().zip(0..).collect();
    // Of each subject, the numbers of its events in the order in which they were accepted, each once.
    let (mut accepted, mut seen) = (vec![Vec::new(); SUBJECTS], HashSet::new());
    for came in endpoint.came().iter().filter(|came| came.is_accepted) {
        let place = *places.get(&came.id).context("an event that was recorded")?;
        if seen.insert(place) {
            accepted[place % SUBJECTS].push(place / SUBJECTS);
        }
    }
    for (subject, accepted) in accepted.iter().enumerate() {
        ensure!(accepted.iter().copied().eq(0..each), "order/{subject} is out of order: {accepted:?}");
    }
    pushes.wait_for("SELECT count(*) FROM deliveries", 0).await
}
