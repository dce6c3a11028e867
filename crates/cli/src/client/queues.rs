//! How full the queues are, which consumers are paused, and the spools of the ingresses.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use broker::Layout;
use serde_json::{Value, json};

use super::api::{Api, addresses};
use super::lists::print_json;
use crate::args::Queues;
use crate::config::Config;
use crate::installation;
use crate::management::Management;
use crate::report;
use crate::table::{self, Column, Form, column};

const QUEUES: [Column; 5] = [
    column("Queue", "name", Form::Text),
    column("Ready", "ready", Form::Number),
    column("Held", "unacked", Form::Number),
    column("Consumers", "consumers", Form::Number),
    column("Carries", "purpose", Form::Text),
];

const SPOOLS: [Column; 6] = [
    column("Spool of", "ingress", Form::Text),
    column("Events", "events", Form::Number),
    column("Full", "full", Form::Text),
    column("Oldest", "oldest", Form::Text),
    column("Drained", "rate", Form::Text),
    column("Set aside", "set_aside", Form::Number),
];

const LANES: [Column; 5] = [
    column("Waits at", "ingress", Form::Text),
    column("For", "lane", Form::Text),
    column("Events", "events", Form::Number),
    column("Oldest", "oldest", Form::Text),
    column("Because", "because", Form::Text),
];

/// The time between the two readings of a rate.
const READING: std::time::Duration = std::time::Duration::from_secs(1);

/// Prints queues and spools. Status 1 if the queues cannot be read.
pub async fn run(Queues { process, output }: Queues, config: &Config) -> Result<ExitCode> {
    let api = Api::new(&output.api, config)?;
    let processes = addresses(config, &process);
    let spools = spools(&api, &processes, process.is_empty()).await;
    let queues = match api.get("queues", &[]).await.map(|mut page| page["items"].take()) {
        Ok(Value::Array(mut rows)) => {
            add_pauses(&api, &processes, &installation::layout(config), &mut rows).await;
            if let Err(error) = add_held(config, &mut rows).await {
                report::note(format!("what consumers hold cannot be read: {error:#}"));
            }
            Ok(rows)
        }
        Ok(_) => bail!("{} does not answer as malote does", api.base()),
        Err(error) => Err(error),
    };
    if output.json {
        let mut rows = queues?;
        rows.extend(spools);
        print_json(&Value::Array(rows));
        return Ok(ExitCode::SUCCESS);
    }
    let status = match queues {
        Ok(rows) => {
            report::print(&table::of_rows(&QUEUES, &rows));
            for row in &rows {
                if let (Some(queue), Some(why)) = (row["name"].as_str(), row["paused"].as_str()) {
                    report::line(match why {
                        "starting" => format!(
                            "\nThe consumer of {queue} has not started: its process waits for the broker or the store."
                        ),
                        why => format!("\nThe consumer of {queue} is paused: {why}"),
                    });
                }
            }
            if rows.iter().all(|row| row["unacked"].is_null()) {
                report::line(
                    "\nHeld: AMQP does not tell what consumers hold; RabbitMQ's management API does (broker.management_url).",
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) if spools.is_empty() => return Err(error),
        Err(error) => report::failed(&error),
    };
    let (read, unread): (Vec<_>, Vec<_>) = spools.into_iter().partition(|spool| spool["trouble"].is_null());
    let (lanes, read): (Vec<_>, Vec<_>) = read.into_iter().partition(|row| !row["lane"].is_null());
    for (columns, rows) in [(&SPOOLS[..], read), (&LANES, lanes)] {
        if !rows.is_empty() {
            report::print(&format!("\n{}", table::of_rows(columns, &rows)));
        }
    }
    for spool in unread {
        let text = |name: &str| spool[name].as_str().unwrap_or_default().to_owned();
        report::line(format!("\nThe spool of {} cannot be read: {}", text("ingress"), text("trouble")));
    }
    Ok(status)
}

/// The spools of these processes. Configured addresses may belong to the same process, and a missing answer from one is
/// normal.
async fn spools(api: &Api, processes: &[String], are_configured: bool) -> Vec<Value> {
    let mut spools = Vec::new();
    for process in processes {
        let rows = spool(api, process).await;
        let is_read = rows.first().is_some_and(|row| row["trouble"].is_null());
        match are_configured {
            true if is_read => return rows,
            true => {}
            false => spools.extend(rows),
        }
    }
    spools
}

/// Adds to the queues whether their consumers in these processes are paused, and why.
async fn add_pauses(api: &Api, processes: &[String], layout: &Layout, rows: &mut [Value]) {
    for process in processes {
        let Some(ready) = api.readiness(process).await else { continue };
        for (name, state) in ready["components"].as_object().into_iter().flatten() {
            let Some((consumer, trouble)) = name.strip_prefix("consumer.").zip(state["trouble"].as_str())
            else {
                continue;
            };
            let queue = layout.queue(consumer);
            for row in rows.iter_mut().filter(|row| row["name"] == queue.as_str()) {
                row["paused"] = trouble.into();
            }
        }
    }
}

/// Adds what consumers hold, if AMQP does not show it and the management API is configured.
async fn add_held(config: &Config, rows: &mut [Value]) -> Result<()> {
    if rows.iter().all(|row| !row["unacked"].is_null()) {
        return Ok(());
    }
    let Some(management) = Management::configured(config)? else { return Ok(()) };
    let queues = management.of_vhost("queues", &[]).await?;
    for queue in queues.as_array().into_iter().flatten() {
        for row in rows.iter_mut().filter(|row| row["name"] == queue["name"]) {
            row["unacked"] = queue["messages_unacknowledged"].clone();
        }
    }
    Ok(())
}

/// The spool of an ingress, and what waits in it by destination; nothing if it has none.
async fn spool(api: &Api, ingress: &str) -> Vec<Value> {
    let url = format!("{}/metrics", ingress.trim_end_matches('/'));
    let read = async || api.text(&url).await;
    let (before, after) = match read().await {
        Ok(before) if value(&before, "spool_limit_bytes").is_none() => return Vec::new(),
        Ok(before) if value(&before, "spool_events") == Some(0.0) => (before.clone(), before),
        Ok(before) => {
            tokio::time::sleep(READING).await;
            match read().await {
                Ok(after) => (before, after),
                Err(_) => (before.clone(), before),
            }
        }
        Err(error) => return vec![json!({ "ingress": ingress, "trouble": format!("{error:#}") })],
    };
    let of = |name: &str| value(&after, name).unwrap_or(0.0);
    let drained = of("spool_drained_total") - value(&before, "spool_drained_total").unwrap_or(0.0);
    let (bytes, limit) = (of("spool_bytes"), of("spool_limit_bytes"));
    let whole = json!({
        "ingress": ingress,
        "events": of("spool_events") as u64,
        "bytes": bytes as u64,
        "limit_bytes": limit as u64,
        "full": format!("{:.1} of {:.0} MiB", bytes / 1_048_576.0, limit / 1_048_576.0),
        "oldest_seconds": of("spool_oldest_seconds") as u64,
        "oldest": if of("spool_events") > 0.0 { format!("{} s", of("spool_oldest_seconds")) } else { String::new() },
        "drained_per_second": drained as u64,
        "rate": if drained > 0.0 { format!("{drained}/s") } else { String::new() },
        "set_aside": of("spool_set_aside_events") as u64,
    });
    [whole].into_iter().chain(lanes(ingress, &after)).collect()
}

/// What waits for the broker or is set aside, by destination and reason.
fn lanes(ingress: &str, text: &str) -> Vec<Value> {
    let oldest = series(text, "spool_lane_oldest_seconds");
    let waiting = series(text, "spool_lane_events").into_iter().map(|lane| (lane, false));
    let set_aside = series(text, "spool_set_aside_lane_events").into_iter().map(|lane| (lane, true));
    let row = |((labels, events), is_aside): ((BTreeMap<String, String>, f64), bool)| {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let (exchange, routing_key, why) = (label("exchange"), label("routing_key"), label("why"));
        let oldest =
            oldest.iter().find(|(other, _)| !is_aside && *other == labels).map(|(_, seconds)| *seconds);
        json!({
            "ingress": ingress,
            "lane": format!("{exchange} {routing_key}").trim(),
            "exchange": exchange,
            "routing_key": routing_key,
            "events": events as u64,
            "oldest_seconds": oldest.map(|seconds| seconds as u64),
            "oldest": oldest.map_or_else(String::new, |seconds| format!("{seconds} s")),
            "set_aside": is_aside,
            "because": if is_aside { format!("set aside: {why}") } else { why.replace('_', " ") },
            "why": why,
        })
    };
    waiting.chain(set_aside).filter(|((_, events), _)| *events > 0.0).map(row).collect()
}

/// The value of a metric without labels, in Prometheus' text format.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The labels and values of a metric, in Prometheus' text format.
fn series(text: &str, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
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
        let of = |row: &Value| {
            [row["lane"].clone(), row["events"].clone(), row["oldest"].clone(), row["because"].clone()]
        };
        assert_eq!(
            rows.iter().map(of).collect::<Vec<_>>(),
            [
                [json!("received.a x \"y\", {z}"), json!(3), json!("7 s"), json!("refused")],
                [json!("ledger"), json!(1), json!(""), json!("set aside: the broker refused the message")],
            ]
        );
        assert_eq!((&rows[0]["set_aside"], &rows[1]["set_aside"]), (&json!(false), &json!(true)));
    }

    #[test]
    fn a_metric_is_read_by_its_whole_name() {
        let text = "# TYPE spool_events gauge\nspool_events_total 7\nspool_events 3\nx{a=\"b\"} 1\n";
        assert_eq!(value(text, "spool_events"), Some(3.0));
        assert_eq!(value(text, "spool"), None);
    }
}
