//! How full the queues are, what consumers hold, which are paused, and the spools of the ingresses.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use broker::Layout;
use console::{QUEUES, QueueRow};
use serde::Serialize;
use server::ComponentStatus;
use view::{Column, Form, List, Shown, column, shown};

use super::api::{Api, addresses};
use super::lists::print_json;
use crate::args::Queues;
use crate::config::Config;
use crate::installation;
use crate::management::{ManagedQueue, Management};
use crate::report;
use crate::table;

/// The spool of an ingress, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SpoolRow {
    ingress: String,
    events: u64,
    bytes: u64,
    limit_bytes: u64,
    full: String,
    oldest_seconds: u64,
    oldest: String,
    drained_per_second: u64,
    rate: String,
    set_aside: u64,
}

const SPOOLS: [Column<SpoolRow>; 6] = [
    column("Spool of", |row| shown(&row.ingress), Form::Text),
    column("Events", |row| shown(&row.events), Form::Number),
    column("Full", |row| shown(&row.full), Form::Text),
    column("Oldest", |row| shown(&row.oldest), Form::Text),
    column("Drained", |row| shown(&row.rate), Form::Text),
    column("Set aside", |row| shown(&row.set_aside), Form::Number),
];

/// What waits in a spool, by where it goes and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct LaneRow {
    ingress: String,
    lane: String,
    exchange: String,
    routing_key: String,
    events: u64,
    oldest_seconds: Option<u64>,
    oldest: String,
    set_aside: bool,
    because: String,
    why: String,
}

const LANES: [Column<LaneRow>; 5] = [
    column("Waits at", |row| shown(&row.ingress), Form::Text),
    column("For", |row| shown(&row.lane), Form::Text),
    column("Events", |row| shown(&row.events), Form::Number),
    column("Oldest", |row| shown(&row.oldest), Form::Text),
    column("Because", |row| shown(&row.because), Form::Text),
];

/// An ingress whose spool cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct UnreadSpool {
    ingress: String,
    trouble: String,
}

/// The spool of one ingress.
enum Spool {
    /// As a whole, and what waits in it.
    Read(SpoolRow, Vec<LaneRow>),
    Unread(UnreadSpool),
}

/// The time between the two readings of a rate.
const READING: std::time::Duration = std::time::Duration::from_secs(1);

/// Prints queues and spools. Status 1 if the queues cannot be read.
pub async fn run(Queues { process, output }: Queues, config: &Config) -> Result<ExitCode> {
    let api = Api::new(&output.api, config)?;
    let processes = addresses(config, &process);
    let spools = spools(&api, &processes, process.is_empty()).await;
    let queues = match api.get::<List<QueueRow>>(QUEUES.name, &[]).await {
        Ok(List { items: mut rows, .. }) => {
            add_pauses(&api, &processes, &installation::layout(config), &mut rows).await;
            if let Err(error) = add_managed(config, &mut rows).await {
                report::note(format!(
                    "what consumers hold cannot be read from RabbitMQ's management API: {error:#}"
                ));
            }
            add_held(&api, &processes, &mut rows).await;
            Ok(rows)
        }
        Err(error) => Err(error),
    };
    if output.json {
        let mut rows: Vec<_> = queues?.iter().map(shown).collect();
        for spool in &spools {
            match spool {
                Spool::Read(whole, lanes) => {
                    rows.push(shown(whole));
                    rows.extend(lanes.iter().map(shown));
                }
                Spool::Unread(unread) => rows.push(shown(unread)),
            }
        }
        print_json(&rows);
        return Ok(ExitCode::SUCCESS);
    }
    let status = match queues {
        Ok(rows) => {
            print_queues(&rows);
            ExitCode::SUCCESS
        }
        Err(error) if spools.is_empty() => return Err(error),
        Err(error) => report::failed(&error),
    };
    print_spools(&spools);
    Ok(status)
}

fn print_spools(spools: &[Spool]) {
    let (mut wholes, mut all_lanes, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for spool in spools {
        match spool {
            Spool::Read(whole, lanes) => {
                wholes.push(whole);
                all_lanes.extend(lanes);
            }
            Spool::Unread(spool) => unread.push(spool),
        }
    }
    if !wholes.is_empty() {
        report::print(&format!("\n{}", table::rows(&SPOOLS, wholes)));
    }
    if !all_lanes.is_empty() {
        report::print(&format!("\n{}", table::rows(&LANES, all_lanes)));
    }
    for UnreadSpool { ingress, trouble } in unread {
        report::line(format!("\nThe spool of {ingress} cannot be read: {trouble}"));
    }
}

fn print_queues(rows: &[QueueRow]) {
    report::print(&table::rows(QueueRow::COLUMNS, rows));
    for QueueRow { name, paused, .. } in rows {
        match paused.as_deref() {
            None => {}
            Some("starting") => report::line(format!(
                "\nThe consumer of {name} has not started: its process waits for the broker or the store."
            )),
            Some(why) => report::line(format!("\nThe consumer of {name} is paused: {why}")),
        }
    }
    if rows.iter().any(|row| row.unacked.is_none()) {
        report::line(
            "\nHeld is empty where a consumer runs in a process that was not asked: name each with --process, or set \
             broker.management_url.",
        );
    }
}

/// The spools of these processes. Configured addresses may belong to the same process, and a missing answer from one is
/// normal.
async fn spools(api: &Api, processes: &[String], are_configured: bool) -> Vec<Spool> {
    let mut spools = Vec::new();
    for process in processes {
        let spool = spool(api, process).await;
        match are_configured {
            true if matches!(spool, Some(Spool::Read(..))) => return spool.into_iter().collect(),
            true => {}
            false => spools.extend(spool),
        }
    }
    spools
}

/// Adds to the queues whether their consumers in these processes are paused, and why.
async fn add_pauses(api: &Api, processes: &[String], layout: &Layout, rows: &mut [QueueRow]) {
    for process in processes {
        let Some(ready) = api.readiness(process).await else { continue };
        for (name, ComponentStatus { trouble, .. }) in ready.components {
            let Some((consumer, trouble)) = name.strip_prefix("consumer.").zip(trouble) else { continue };
            let queue = layout.queue(consumer);
            for row in rows.iter_mut().filter(|row| row.name == queue.as_str()) {
                row.paused = Some(trouble.clone());
            }
        }
    }
}

/// Adds what consumers hold by their own count, where all consumers of a queue run in these processes.
async fn add_held(api: &Api, processes: &[String], rows: &mut [QueueRow]) {
    if rows.iter().all(|row| row.unacked.is_some()) {
        return;
    }
    let mut metrics = String::new();
    for process in processes {
        metrics += &api.text(&format!("{process}/metrics")).await.unwrap_or_default();
    }
    let (held, subscriptions) =
        (by_queue(&metrics, "amqp_held_deliveries"), by_queue(&metrics, "amqp_subscriptions"));
    let count = |counts: &BTreeMap<String, u64>, row: &QueueRow| counts.get(&row.name).copied().unwrap_or(0);
    for row in rows.iter_mut().filter(|row| row.unacked.is_none()) {
        row.unacked = (count(&subscriptions, row) == row.consumers).then(|| count(&held, row));
    }
}

/// The sum of a metric for each queue.
fn by_queue(metrics: &str, name: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (mut labels, value) in series(metrics, name) {
        *sums.entry(labels.remove("queue").unwrap_or_default()).or_default() += value as u64;
    }
    sums
}

/// Adds what consumers hold, if AMQP does not show it and the management API is configured.
async fn add_managed(config: &Config, rows: &mut [QueueRow]) -> Result<()> {
    if rows.iter().all(|row| row.unacked.is_some()) {
        return Ok(());
    }
    let Some(management) = Management::configured(config)? else { return Ok(()) };
    let queues: Vec<ManagedQueue> = management.get_in_vhost("queues", &[]).await?;
    for queue in queues {
        for row in rows.iter_mut().filter(|row| queue.name == row.name.as_str()) {
            row.unacked = queue.messages_unacknowledged;
        }
    }
    Ok(())
}

/// The spool of an ingress, and what waits in it by destination; nothing if it has none.
async fn spool(api: &Api, ingress: &str) -> Option<Spool> {
    let url = format!("{}/metrics", ingress.trim_end_matches('/'));
    let read = async || api.text(&url).await;
    let (before, after) = match read().await {
        Ok(before) if value(&before, "spool_limit_bytes").is_none() => return None,
        Ok(before) if value(&before, "spool_events") == Some(0.0) => (before.clone(), before),
        Ok(before) => {
            tokio::time::sleep(READING).await;
            match read().await {
                Ok(after) => (before, after),
                Err(_) => (before.clone(), before),
            }
        }
        Err(error) => {
            let trouble = format!("{error:#}");
            return Some(Spool::Unread(UnreadSpool { ingress: ingress.to_owned(), trouble }));
        }
    };
    let metric = |name: &str| value(&after, name).unwrap_or(0.0);
    let drained = metric("spool_drained_total") - value(&before, "spool_drained_total").unwrap_or(0.0);
    let (events, oldest) = (metric("spool_events"), metric("spool_oldest_seconds"));
    let (bytes, limit) = (metric("spool_bytes"), metric("spool_limit_bytes"));
    let row = SpoolRow {
        ingress: ingress.to_owned(),
        events: events as u64,
        bytes: bytes as u64,
        limit_bytes: limit as u64,
        full: format!("{:.1} of {:.0} MiB", bytes / 1_048_576.0, limit / 1_048_576.0),
        oldest_seconds: oldest as u64,
        oldest: if events > 0.0 { format!("{oldest} s") } else { String::new() },
        drained_per_second: drained as u64,
        rate: if drained > 0.0 { format!("{drained}/s") } else { String::new() },
        set_aside: metric("spool_set_aside_events") as u64,
    };
    Some(Spool::Read(row, lanes(ingress, &after)))
}

/// What waits for the broker or is set aside, by destination and reason.
fn lanes(ingress: &str, text: &str) -> Vec<LaneRow> {
    let oldest = series(text, "spool_lane_oldest_seconds");
    let waiting = series(text, "spool_lane_events").into_iter().map(|lane| (lane, false));
    let set_aside = series(text, "spool_set_aside_lane_events").into_iter().map(|lane| (lane, true));
    let row = |((labels, events), set_aside): ((BTreeMap<String, String>, f64), bool)| {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let (exchange, routing_key, why) = (label("exchange"), label("routing_key"), label("why"));
        let oldest =
            oldest.iter().find(|(other, _)| !set_aside && *other == labels).map(|(_, seconds)| *seconds);
        LaneRow {
            ingress: ingress.to_owned(),
            lane: format!("{exchange} {routing_key}").trim().to_owned(),
            exchange,
            routing_key,
            events: events as u64,
            oldest_seconds: oldest.map(|seconds| seconds as u64),
            oldest: oldest.map_or_else(String::new, |seconds| format!("{seconds} s")),
            set_aside,
            because: if set_aside { format!("set aside: {why}") } else { why.replace('_', " ") },
            why,
        }
    };
    waiting.chain(set_aside).filter(|((_, events), _)| *events > 0.0).map(row).collect()
}

/// The value of a metric without labels, in Prometheus' text format.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The labels and values of a metric, in Prometheus' text format.
pub(super) fn series(text: &str, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
    let line = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        Some((self::labels(labels), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Labels such as `exchange="a",why="b"`. In a value, `\\`, `\"` and `\n` stand for backslash, quote and line feed.
fn labels(text: &str) -> BTreeMap<String, String> {
    let (mut labels, mut rest) = (BTreeMap::new(), text);
    while let Some((name, quoted)) = rest.split_once("=\"") {
        let (mut value, mut characters) = (String::new(), quoted.chars());
        loop {
            match characters.next() {
                Some('\\') => match characters.next() {
                    Some('n') => value.push('\n'),
                    escaped => value.extend(escaped),
                },
                Some('"') | None => break,
                Some(character) => value.push(character),
            }
        }
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        rest = characters.as_str();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_read_with_their_labels() {
        let text = concat!(
            "spool_lane_events{exchange=\"received.a\",routing_key=\"x \\\"y\\\", {z}\",why=\"refused\"} 3\n",
            "spool_lane_events{exchange=\"received.b\",routing_key=\"x\",why=\"refused\"} 0\n",
            "spool_lane_oldest_seconds{exchange=\"received.a\",routing_key=\"x \\\"y\\\", {z}\",why=\"refused\"} 7\n",
            "spool_set_aside_lane_events{exchange=\"\",routing_key=\"ledger\",why=\"the broker refused the message\"} 1\n",
        );
        let rows = lanes("http://i", text);
        let parts = |row: &LaneRow| (row.lane.clone(), row.events, row.oldest.clone(), row.because.clone());
        let expect = |lane: &str, events, oldest: &str, because: &str| {
            (lane.to_owned(), events, oldest.to_owned(), because.to_owned())
        };
        assert_eq!(
            rows.iter().map(parts).collect::<Vec<_>>(),
            [
                expect("received.a x \"y\", {z}", 3, "7 s", "refused"),
                expect("ledger", 1, "", "set aside: the broker refused the message"),
            ]
        );
        assert_eq!((rows[0].set_aside, rows[1].set_aside), (false, true));
    }

    #[test]
    fn what_replicas_hold_is_added_up_by_queue() {
        let text = "amqp_held_deliveries{queue=\"ledger\"} 3\namqp_held_deliveries{queue=\"invoices\"} 1\n";
        let held = by_queue(&text.repeat(2), "amqp_held_deliveries");
        assert_eq!(held, [("ledger".to_owned(), 6), ("invoices".to_owned(), 2)].into());
    }

    #[test]
    fn a_metric_is_read_by_its_whole_name() {
        let text = "# TYPE spool_events gauge\nspool_events_total 7\nspool_events 3\nx{a=\"b\"} 1\n";
        assert_eq!(value(text, "spool_events"), Some(3.0));
        assert_eq!(value(text, "spool"), None);
    }
}
