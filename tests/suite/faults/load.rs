//! The load of a fault test: providers that post at a steady rate and post again what was not answered well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use event::{ProviderName, Topic};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::product::{PATIENCE, Poster, example};

/// How many requests are under way at once.
const CONNECTIONS: usize = 32;

/// How often a provider posts the same again before it gives up.
const TRIES: usize = 200;

/// One fact: who posts it, and by what it is found in the books.
pub struct Fact {
    pub source: &'static str,
    /// The contract of the source.
    pub provider: &'static str,
    pub topic: &'static str,
    pub table: &'static str,
    pub key: String,
    pub body: String,
}

/// How many kinds of facts there are: at least one for each domain.
pub const KINDS: usize = 5;

/// The fact of a number: orders of Gestão Online's, notas fiscais, agreements, prescriptions and purchases in turn.
pub fn fact(number: usize) -> Fact {
    let order = |topic, table| Fact {
        source: "go",
        provider: "gestao-online",
        topic,
        table,
        key: format!("{number:010}"),
        body: format!(
            r#"{{"event_id": "{topic}", "data": {{"id": "{number}", "code": "{number:010}", "status": 1}}}}"#
        ),
    };
    match number % KINDS {
        0 => order("ORDER_CREATED", "receivables"),
        1 => order("TAX_INVOICE_CHANGE_STATUS", "invoices"),
        2 => Fact {
            source: "rec",
            provider: "recuperador",
            topic: "acordo.cadastrado",
            table: "agreements",
            key: number.to_string(),
            body: example("recuperador", "acordo.cadastrado")
                .replace("88120", &(1_000_000 + number).to_string())
                .replace("45031", &number.to_string()),
        },
        3 => {
            let (provider, topic, key) = ("beneficio-visao", "renewed", tests::cpf(number));
            let body = example(provider, topic).replace("99999999999", &key);
            Fact { source: "visao", provider, topic, table: "prescriptions", key, body }
        }
        _ => {
            let (provider, topic, key) = ("mercado-eletronico", "order.created", number.to_string());
            let body = example(provider, topic).replace("\"123\"", &format!("\"{key}\""));
            Fact { source: "me", provider, topic, table: "purchases", key, body }
        }
    }
}

/// An event that was answered 2xx.
pub struct Accepted {
    pub id: String,
    pub table: &'static str,
    pub key: String,
}

/// The result of the posters.
#[derive(Default)]
pub struct Posted {
    pub accepted: Vec<Accepted>,
    /// Requests that were sent, those sent again included.
    pub sent: usize,
}

/// Posters at work.
pub struct Load {
    posters: JoinSet<Posted>,
    next: Arc<AtomicUsize>,
    /// Posts that were not answered 2xx.
    refused: watch::Sender<usize>,
    count: usize,
}

impl Load {
    /// Posts the facts `first..first + count`, evenly over the time, to the ingresses in turn.
    pub fn start(poster: &Poster, ingresses: &[String], first: usize, count: usize, time: Duration) -> Self {
        let (next, refused) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(0));
        let begin = Instant::now();
        let mut posters = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (poster, ingresses) = (poster.clone(), ingresses.to_vec());
            let (next, refused) = (next.clone(), refused.clone());
            posters.spawn(async move {
                let mut posted = Posted::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return posted;
                    }
                    sleep_until(begin + time.mul_f64(number as f64 / count as f64)).await;
                    let fact = fact(first + number);
                    for again in 0..TRIES {
                        posted.sent += 1;
                        let ingress = &ingresses[(number + again) % ingresses.len()];
                        let request = poster.request(ingress, fact.source, fact.body.as_str());
                        if let Some(id) = answered(request.timeout(PATIENCE)).await {
                            let Fact { table, key, .. } = fact;
                            posted.accepted.push(Accepted { id, table, key });
                            break;
                        }
                        refused.send_modify(|refused| *refused += 1);
                        sleep(Duration::from_millis(200)).await;
                    }
                }
            });
        }
        Self { posters, next, refused, count }
    }

    /// Waits until this share of the facts was posted.
    pub async fn reached(&self, share: f64) {
        while self.next.load(Ordering::Relaxed) < (self.count as f64 * share) as usize {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until a post is refused from now on.
    pub async fn is_refused(&self) {
        // Fails only once the sender is gone, which this value holds.
        let _ = self.refused.subscribe().changed().await;
    }

    /// Waits for the last answer. Every fact must have been taken in the end.
    pub async fn end(mut self) -> Result<Posted> {
        let mut all = Posted::default();
        while let Some(posted) = self.posters.join_next().await {
            let posted = posted?;
            all.sent += posted.sent;
            all.accepted.extend(posted.accepted);
        }
        ensure!(
            all.accepted.len() == self.count,
            "{} of {} facts were taken",
            all.accepted.len(),
            self.count
        );
        Ok(all)
    }
}

/// The id in a 2xx answer.
async fn answered(request: reqwest::RequestBuilder) -> Option<String> {
    let answer = request.send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let answer: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    answer["id"].as_str().map(str::to_owned)
}

#[test]
fn faults_have_every_domain_at_work() {
    let taken = |domain: &&&consumer::Domain| {
        (0..KINDS).map(fact).any(|Fact { provider, topic, .. }| {
            let (provider, topic) = (ProviderName::new(provider).unwrap(), Topic::new(topic).unwrap());
            domain.bindings.takes(&provider, &topic)
        })
    };
    let idle = domains::ALL.iter().filter(|domain| !taken(domain)).map(|domain| domain.name());
    assert_eq!(idle.collect::<Vec<_>>(), [""; 0]);
}
