//! `malote simulate`: load as the providers make it, from variations of their documented examples.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::api::reachable;
use super::sender::Sender;
use super::variation::varied;
use crate::args::Simulate;
use crate::config::{Config, Source};
use crate::report;

/// What is posted, over and over: a body for a source.
struct Example {
    source: Source,
    body: &'static str,
}

/// Posts, and reports the result. Status 1 if anything was not accepted.
pub async fn run(args: Simulate, config: &Config) -> Result<ExitCode> {
    let examples = Arc::new(examples(&args, config)?);
    let scheme = if config.ingress.tls.is_some() { "https" } else { "http" };
    let listen = reachable(config.ingress.listen);
    let base = args.url.clone().unwrap_or_else(|| format!("{scheme}://{listen}"));
    let sender = Sender::new(&base)?;
    let names: BTreeSet<&str> = examples.iter().map(|example| example.source.name.as_str()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    report::line(format!("Posts {} invented events to {base}, as {names}.", args.count));
    if !is_loopback(&base) && !args.yes {
        bail!("{base} is not this machine, and what it books cannot be undone: pass --yes to post there");
    }
    let bar = ProgressBar::new(args.count).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {msg}")
            .expect("the template is sound"),
    );

    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    // Different in every run, so that a run is about things of its own.
    let run = u64::try_from(event::now().as_millisecond() / 100).unwrap_or(0) % 1_000_000_000;
    let mut workers = JoinSet::new();
    for _ in 0..u64::from(args.connections).min(args.count) {
        let (examples, sender, next, bar) =
            (Arc::clone(&examples), sender.clone(), Arc::clone(&next), bar.clone());
        let base = base.clone();
        let (count, rate) = (args.count, args.rate);
        workers.spawn(async move {
            let mut outcomes = Outcomes { base, ..Outcomes::default() };
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return outcomes;
                }
                if let Some(rate) = rate {
                    let due = Duration::from_secs_f64(index as f64 / f64::from(rate));
                    sleep_until((started + due).into()).await;
                }
                let example = &examples[usize::try_from(index).unwrap_or(0) % examples.len()];
                let number = run + index / examples.len() as u64;
                let source = &example.source;
                let posted =
                    sender.post(source.name.as_str(), &source.auth, varied(example.body, number)).await;
                outcomes.add(posted);
                bar.inc(1);
            }
        });
    }
    let mut all = Outcomes::default();
    while let Some(ended) = workers.join_next().await {
        all.merge(ended?);
    }
    bar.finish_and_clear();
    report::print(&all.summary(started.elapsed()));
    if all.first_refusal.is_some() {
        return Ok(ExitCode::FAILURE);
    }
    report::line("Their outcome: `malote events list`, `malote queues`.");
    Ok(ExitCode::SUCCESS)
}

/// Whether an address is of this machine only. An address that is none is refused by [`Sender`].
fn is_loopback(base: &str) -> bool {
    let url = reqwest::Url::parse(base).ok();
    url.as_ref().and_then(reqwest::Url::host_str).is_some_and(|host| {
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    })
}

fn examples(args: &Simulate, config: &Config) -> Result<Vec<Example>> {
    if config.sources.is_empty() {
        bail!(
            "no sources are configured: `malote config show --default` shows how, `malote demo` needs none"
        );
    }
    let wanted = |source: &&Source| args.source.as_deref().is_none_or(|name| source.name.as_str() == name);
    let sources: Vec<_> = config.sources.iter().filter(wanted).collect();
    if sources.is_empty() {
        let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
        let given = args.source.as_deref().unwrap_or_default();
        let meant =
            event::nearest(given, names.iter().copied()).map(|meant| format!(" did you mean {meant}?"));
        bail!("there is no source {given};{} configured: {}", meant.unwrap_or_default(), names.join(", "));
    }
    let bodies = |source: &Source| {
        let topics = config.provider(&source.provider).map(|provider| provider.topics()).unwrap_or_default();
        topics.iter().filter_map(|topic| topic.example).collect::<Vec<_>>()
    };
    // One of each source in turn.
    let per_source: Vec<_> = sources.into_iter().map(|source| (source, bodies(source))).collect();
    let longest = per_source.iter().map(|(_, bodies)| bodies.len()).max().unwrap_or(0);
    let examples: Vec<_> = (0..longest)
        .flat_map(|index| {
            per_source.iter().filter_map(move |(source, bodies)| Some((*source, *bodies.get(index)?)))
        })
        .map(|(source, body)| Example { source: source.clone(), body })
        .collect();
    if examples.is_empty() {
        bail!("these sources have no documented examples: only built-in providers have");
    }
    Ok(examples)
}

#[derive(Default)]
struct Outcomes {
    /// Where it is posted to.
    base: String,
    by_status: BTreeMap<String, u64>,
    latencies: Vec<Duration>,
    first_refusal: Option<String>,
}

impl Outcomes {
    fn add(&mut self, posted: reqwest::Result<crate::client::sender::Answer>) {
        let (status, refusal) = match posted {
            Ok(answer) if answer.status.is_success() => {
                self.latencies.push(answer.took);
                (answer.status.as_u16().to_string(), None)
            }
            Ok(answer) => (answer.status.as_u16().to_string(), Some(answer.body)),
            Err(error) if error.is_connect() => (
                "not connected".to_owned(),
                Some(format!("cannot reach {}: is the ingress running?", self.base)),
            ),
            Err(error) if error.is_timeout() => {
                ("no answer".to_owned(), Some(report::chain(&error.without_url())))
            }
            Err(error) => ("broken off".to_owned(), Some(report::chain(&error.without_url()))),
        };
        if let Some(text) = refusal {
            self.first_refusal.get_or_insert(format!("{status}: {text}"));
        }
        *self.by_status.entry(status).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.latencies.extend(other.latencies);
        if let Some(refusal) = other.first_refusal {
            self.first_refusal.get_or_insert(refusal);
        }
    }

    fn summary(&mut self, took: Duration) -> String {
        self.latencies.sort_unstable();
        let accepted = self.latencies.len();
        let statuses: Vec<_> =
            self.by_status.iter().map(|(status, count)| format!("{count} × {status}")).collect();
        let seconds = took.as_secs_f64();
        let mut text = format!(
            "{} in {seconds:.1} s, {:.0} accepted per second\n",
            statuses.join(", "),
            accepted as f64 / seconds
        );
        let at = |percent: usize| {
            let index = (accepted * percent / 100).min(accepted.saturating_sub(1));
            self.latencies.get(index).map(|latency| latency.as_secs_f64() * 1000.0)
        };
        if let (Some(p50), Some(p99)) = (at(50), at(99)) {
            text += &format!("latency p50 {p50:.1} ms, p99 {p99:.1} ms\n");
        }
        if let Some(refusal) = &self.first_refusal {
            text += &format!("the first that was not accepted: {refusal}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_posted_to_without_being_asked() {
        for base in ["http://127.0.0.1:8080", "http://localhost", "https://[::1]:1", "http://127.9.9.9"] {
            assert!(is_loopback(base), "{base}");
        }
        for base in
            ["http://0.0.0.0:8080", "https://malote.example", "http://10.0.0.1", "http://localhost.example"]
        {
            assert!(!is_loopback(base), "{base}");
        }
    }
}
