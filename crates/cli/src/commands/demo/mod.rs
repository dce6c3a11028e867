//! `malote demo`: everything embedded, every documented example posted, and the outcome.
//!
//! Posts over HTTP with the credentials of each source and reads the books through the administration API, as the
//! providers and the operators of a real installation do; and plays the APIs of the providers.

mod apis;
mod setting;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use consumer::Expectation;
use event::ProviderName;
use ledger::{EVENTS, EventRow, EventState};
use providers::Provider;
use serde::Deserialize;

use self::apis::Apis;
use self::setting::Setting;
use crate::args::Demo;
use crate::client::api::Api;
use crate::client::sender::Sender;
use crate::config::{Config, Source};
use crate::registry;
use crate::report;
use crate::roles::signals::Signals;
use crate::roles::telemetry::Telemetry;
use crate::roles::{Roles, Running};
use crate::table::{self, Lines};

/// How long everything may take to be settled.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the demo.
pub async fn run(args: &Demo) -> Result<ExitCode> {
    let mut signals = Signals::take().context("cannot take signals")?;
    let setting = Setting::make(args.keep.as_deref())?;
    let telemetry = Telemetry::install(&setting.config)?;
    let _apis = Apis::start(setting.apis()).await?;
    let running = Running::start(&setting.config, Roles::all(), &telemetry).await?;
    let shown = tokio::select! {
        shown = show(&setting, &running) => shown.map(Some),
        () = signals.next() => Ok(None),
    };
    if let Ok(Some(wrong)) = &shown {
        if wrong.is_empty() {
            report::line("\nEverything is as expected.");
        } else {
            report::line("\nNot as expected:");
            wrong.iter().for_each(|wrong| report::line(format!("  {wrong}")));
        }
        // If nobody can read the addresses, there is no reason to keep running.
        if !args.once && !report::is_output_lost() {
            report::print(&setting.invitation(&running));
            signals.next().await;
        }
    }
    // A second signal leaves work undone, and never the folder.
    tokio::select! {
        () = running.stop() => {}
        () = signals.next() => {}
    }
    let left = setting.clear();
    let wrong = shown?;
    if !args.once || wrong.is_none() {
        report::line(format!("\nstopped; {left}"));
    }
    Ok(match wrong {
        Some(wrong) if wrong.is_empty() || !args.once => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::from(130),
    })
}

/// Posts everything and prints the outcome; returns what is not as expected.
async fn show(setting: &Setting, running: &Running) -> Result<Vec<String>> {
    let address = |address: Option<SocketAddr>| address.context("every role runs");
    let (ingress, console) = (address(running.ingress)?, address(running.console)?);
    let token = running.token.clone().context("the console has a token")?;
    let api = Api::at(&format!("http://{console}"), token)?;
    let mut posting = Posting {
        config: &setting.config,
        sender: Sender::new(&format!("http://{ingress}"))?,
        api,
        accepted: BTreeMap::new(),
        refused: Vec::new(),
        apis: format!("http://{}", setting.apis()),
    };
    let started = Instant::now();
    report::line(format!(
        "malote demo: posts every documented example to http://{ingress}/webhooks/<source>\n{}",
        setting.ports()
    ));
    let mut books = Books::default();
    for provider in Provider::builtin() {
        for topic in in_order(&provider) {
            posting.post(provider.name().as_str(), topic).await?;
            if expectations().any(|expected| expected.after == Some(topic)) {
                posting.settle().await?;
                books.read(&posting.api, Some(topic)).await?;
            }
        }
    }
    posting.settle().await?;
    posting.complete(&mut books).await?;
    let events = posting.events().await?;

    report::print(&posting.summary(&events));
    report::line(format!("\nAll in {:.1} s. The books:", started.elapsed().as_secs_f64()));
    report::print(&books.text);
    report::print(&unrouted(&events));

    let mut wrong = posting.refused;
    wrong.extend(books.wrong);
    let is_contrary = |event: &&EventRow| event.state == EventState::Unrouted && !event.consumers.is_empty();
    let contrary = events.iter().filter(is_contrary).count();
    if contrary > 0 {
        wrong.push(format!("{contrary} events are unrouted although a consumer is bound to their topic"));
    }
    let dead = events.iter().filter(|event| event.state == EventState::Dead).count();
    if dead > 0 {
        wrong.push(format!("{dead} events are dead letters: see `malote dead list`"));
    }
    Ok(wrong)
}

/// What the lists of the domains have to show.
fn expectations() -> impl Iterator<Item = &'static Expectation> {
    registry::ALL.iter().flat_map(|domain| domain.expectations)
}

/// What the lists of the domains show, and what they should show and do not.
#[derive(Default)]
struct Books {
    text: String,
    wrong: Vec<String>,
}

impl Books {
    /// Reads the lists of which something is expected after this topic, or all lists at the end.
    async fn read(&mut self, api: &Api, after: Option<&str>) -> Result<()> {
        let moment = after.map(|topic| format!(", after {topic}")).unwrap_or_default();
        for view in registry::books() {
            let expected = expectations().filter(|one| one.view.name == view.name && one.after == after);
            let expected: Vec<_> = expected.collect();
            if after.is_some() && expected.is_empty() {
                continue;
            }
            let (rows, _) = api.rows(view, &[], u32::MAX).await?;
            self.text += &format!("\n{}{moment}\n{}", view.about, table::text(view.table(&rows)?).text);
            for Expectation { text, is_met, .. } in expected {
                if !is_met(&rows)? {
                    self.wrong.push(format!("{text}{moment}"));
                }
            }
        }
        Ok(())
    }
}

/// Topics whose examples are about one thing, in the order that makes sense; the others of a provider come after them. Of two
/// notices about one thing, the one received later is newer.
const FIRST: [&str; 5] =
    ["ORDER_CANCEL", "acordo.cadastrado", "parcela.aprovada", "acordo.cancelado", "acordo.quitado"];

/// The topics of a provider that have an example.
fn in_order(provider: &Provider) -> Vec<&'static str> {
    let topics = provider.topics().iter().filter(|topic| topic.example.is_some());
    let mut topics: Vec<_> = topics.map(|topic| topic.name).collect();
    topics.sort_by_key(|topic| FIRST.iter().position(|first| first == topic).unwrap_or(FIRST.len()));
    topics
}

/// What the ingress answers to an accepted event.
#[derive(Deserialize)]
struct Receipt {
    topic: String,
}

struct Posting<'a> {
    config: &'a Config,
    sender: Sender,
    api: Api,
    /// How many were posted and accepted, by provider.
    accepted: BTreeMap<String, (u64, u64)>,
    refused: Vec<String>,
    /// Where the APIs of the providers are.
    apis: String,
}

impl Posting<'_> {
    async fn post(&mut self, provider: &str, topic: &str) -> Result<()> {
        let source = self.config.sources.iter().find(|source| source.provider.as_str() == provider);
        let Source { name, auth, .. } = source.with_context(|| format!("no source for {provider}"))?;
        let example = Provider::named(provider).and_then(|provider| {
            provider.topics().iter().find(|info| info.name == topic).and_then(|info| info.example)
        });
        let example = example.with_context(|| format!("no example of {topic}"))?;
        // The example's files are nowhere.
        let example = example.replace("https://...", &self.apis);
        let answer = self.sender.post(name.as_str(), auth, example).await?;
        let (posted, accepted) = self.accepted.entry(provider.to_owned()).or_default();
        *posted += 1;
        let receipt = serde_json::from_str::<Receipt>(&answer.body);
        if answer.status.as_u16() == 200 && receipt.is_ok_and(|receipt| receipt.topic == topic) {
            *accepted += 1;
        } else {
            self.refused.push(format!("{provider} {topic}: {} {}", answer.status, answer.body));
        }
        Ok(())
    }

    /// Reads the lists at the end, once they show what is expected, or after a while: documents are fetched beside the events.
    async fn complete(&self, books: &mut Books) -> Result<()> {
        let started = Instant::now();
        loop {
            let mut read = Books::default();
            read.read(&self.api, None).await?;
            if read.wrong.is_empty() || started.elapsed() > PATIENCE {
                books.text += &read.text;
                books.wrong.extend(read.wrong);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every recorded event that was posted.
    async fn events(&self) -> Result<Vec<EventRow>> {
        let mut events: Vec<EventRow> = self.api.list(EVENTS.name, &[], u32::MAX).await?;
        events.retain(|event| event.provider != ProviderName::OWN);
        Ok(events)
    }

    /// Waits until the ledger has every accepted event and no consumer has one to do.
    async fn settle(&self) -> Result<()> {
        let accepted: u64 = self.accepted.values().map(|(_, accepted)| accepted).sum();
        let started = Instant::now();
        loop {
            let events = self.events().await?;
            let count = |state| events.iter().filter(|event| event.state == state).count();
            // One that is routed is not marked unrouted yet: the mark comes by a queue of its own.
            let (pending, unmarked) = (count(EventState::Pending), count(EventState::Routed));
            if events.len() as u64 == accepted && pending == 0 && unmarked == 0 {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "after {PATIENCE:?}, {} of {accepted} events are recorded and {pending} of them pending",
                    events.len()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn summary(&self, events: &[EventRow]) -> String {
        let mut lines =
            Lines::new(&["Provider", "Posted", "Accepted", "Booked", "Unrouted", "Authenticated by"]);
        (1..5).for_each(|column| lines.align_right(column));
        for Source { provider, name, .. } in &self.config.sources {
            let (posted, accepted) = self.accepted.get(provider.as_str()).copied().unwrap_or_default();
            let count = |state| {
                let is_one = |event: &&EventRow| event.provider == provider.as_str() && event.state == state;
                events.iter().filter(is_one).count().to_string()
            };
            lines.add_texts([
                provider.to_string(),
                posted.to_string(),
                accepted.to_string(),
                count(EventState::Handled),
                count(EventState::Unrouted),
                setting::mechanisms(name.as_str()).to_owned(),
            ]);
        }
        lines.to_string()
    }
}

fn unrouted(events: &[EventRow]) -> String {
    let unrouted = events.iter().filter(|event| event.state == EventState::Unrouted);
    let topics: Vec<_> = unrouted.map(|event| event.topic.as_str()).collect();
    if topics.is_empty() {
        return String::new();
    }
    let mut families: BTreeMap<String, u64> = BTreeMap::new();
    for topic in &topics {
        let family =
            topic.split_once('.').map_or_else(|| (*topic).to_owned(), |(family, _)| format!("{family}.*"));
        *families.entry(family).or_default() += 1;
    }
    let mut families: Vec<_> = families.into_iter().collect();
    families.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let most = families.iter().take(FAMILIES).map(|(family, count)| format!("{family} {count}"));
    let mut most = most.collect::<Vec<_>>().join(", ");
    let rest: u64 = families.iter().skip(FAMILIES).map(|(_, count)| count).sum();
    if rest > 0 {
        most += &format!(", others {rest}");
    }
    format!(
        "\n{} events have a topic that no consumer is bound to. They are kept; `malote unrouted list` has them:\n  \
         {most}\n",
        topics.len()
    )
}

/// How many families of topics are listed by name.
const FAMILIES: usize = 6;

/// The path of this program, as short as it can be typed.
fn program() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "malote".into());
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| program.strip_prefix(here).ok().map(Path::to_owned));
    short.unwrap_or(program).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_cancelled_before_it_is_created() {
        let topics = in_order(&Provider::named("gestao-online").unwrap());
        assert_eq!(topics[0], "ORDER_CANCEL");
        assert_eq!(topics.len(), 6);
    }

    #[test]
    fn every_provider_has_a_source_with_credentials_of_its_own() {
        let setting = Setting::make(None).unwrap();
        let providers: Vec<_> =
            setting.config.sources.iter().map(|source| source.provider.to_string()).collect();
        for provider in Provider::builtin() {
            assert!(providers.contains(&provider.name().to_string()), "{}", provider.name());
        }
        assert!(
            setting.config.sources.iter().all(|source| matches!(source.auth, providers::auth::Auth::All(_)))
        );
    }
}
