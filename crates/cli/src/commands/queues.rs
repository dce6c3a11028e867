//! How full the queues are, which consumers are paused, and the spools of the ingresses.

use std::process::ExitCode;

use anyhow::{Result, bail};
use broker::Layout;
use serde_json::{Value, json};

use super::doctor::addresses;
use super::lists::print_json;
use crate::api::Api;
use crate::args::Queues;
use crate::config::Config;
use crate::installation;
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

/// How far apart the two readings are that a rate is made of.
const READING: std::time::Duration = std::time::Duration::from_secs(1);

/// Prints queues and spools. Status 1 if the queues cannot be read.
pub async fn run(Queues { process, output }: Queues, config: &Config) -> Result<ExitCode> {
    let api = Api::new(&output.api, config)?;
    let processes = addresses(config, &process);
    let spools = spools(&api, &processes, process.is_empty()).await;
    let queues = match api.get("queues", &[]).await.map(|mut page| page["items"].take()) {
        Ok(Value::Array(mut rows)) => {
            add_pauses(&api, &processes, &installation::layout(config), &mut rows).await;
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
                    report::line(format!("\nThe consumer of {queue} is paused: {why}"));
                }
            }
            if rows.iter().all(|row| row["unacked"].is_null()) {
                report::line(
                    "\nHeld: RabbitMQ does not say it over AMQP; `rabbitmqctl list_queues name messages_unacknowledged` does.",
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) if spools.is_empty() => return Err(error),
        Err(error) => report::failed(&error),
    };
    let (read, unread): (Vec<_>, Vec<_>) = spools.into_iter().partition(|spool| spool["trouble"].is_null());
    if !read.is_empty() {
        report::print(&format!("\n{}", table::of_rows(&SPOOLS, &read)));
    }
    for spool in unread {
        let text = |name: &str| spool[name].as_str().unwrap_or_default().to_owned();
        report::line(format!("\nThe spool of {} cannot be read: {}", text("ingress"), text("trouble")));
    }
    Ok(status)
}

/// The spools of these processes. At addresses that nobody named, several may be one process, and one without an answer is
/// no news.
async fn spools(api: &Api, processes: &[String], are_configured: bool) -> Vec<Value> {
    let mut spools = Vec::new();
    for process in processes {
        spools.extend(spool(api, process).await);
    }
    if are_configured {
        let read = spools.iter().position(|spool| spool["trouble"].is_null());
        spools = read.map(|index| spools.swap_remove(index)).into_iter().collect();
    }
    spools
}

/// Adds to the queues which of their consumers these processes have paused, and why.
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

/// The spool of an ingress; `None` where it has none.
async fn spool(api: &Api, ingress: &str) -> Option<Value> {
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
        Err(error) => return Some(json!({ "ingress": ingress, "trouble": format!("{error:#}") })),
    };
    let of = |name: &str| value(&after, name).unwrap_or(0.0);
    let drained = of("spool_drained_total") - value(&before, "spool_drained_total").unwrap_or(0.0);
    let (bytes, limit) = (of("spool_bytes"), of("spool_limit_bytes"));
    Some(json!({
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
    }))
}

/// The value of a metric without labels, in Prometheus' text format.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_read_by_its_whole_name() {
        let text = "# TYPE spool_events gauge\nspool_events_total 7\nspool_events 3\nx{a=\"b\"} 1\n";
        assert_eq!(value(text, "spool_events"), Some(3.0));
        assert_eq!(value(text, "spool"), None);
    }
}
