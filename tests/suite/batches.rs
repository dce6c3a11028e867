//! Batches of the consumer of a domain, on both databases: the effect of one bad body on the others.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use broker::embedded::Embedded;
use broker::{DynBroker, Layout};
use consumer::{Config, Consumer, Failure, Handler, Permanent, Runtime};
use event::{Event, Source, SourceName, Topic};
use invoices::Invoices;
use store::{Page, Store, Tx};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use view::Row as _;

const PATIENCE: Duration = Duration::from_secs(30);

const GOOD: usize = 100;

/// The domain's handler, which waits for a permit before it writes, and counts the facts of each call.
struct Counted {
    gate: Semaphore,
    calls: Mutex<Vec<usize>>,
}

#[async_trait]
impl Handler for Counted {
    type Fact = <Invoices as Handler>::Fact;

    fn read(&self, event: &Event) -> Result<Self::Fact, Permanent> {
        Invoices.read(event)
    }

    async fn write(&self, facts: &[(&Event, &Self::Fact)], tx: &mut Tx) -> Result<(), Failure> {
        self.calls.lock().expect("nobody panics").push(facts.len());
        self.gate.acquire().await.expect("the gate is never closed").forget();
        Invoices.write(facts, tx).await
    }
}

async fn awaited(what: &str, condition: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn a_body_that_cannot_be_read_costs_the_others_nothing(store: Store) {
    let folder = tempfile::tempdir().expect("a folder");
    store.migrate(&[invoices::DOMAIN.component]).await.expect("the tables are new");
    let broker: DynBroker =
        Arc::new(Embedded::open(folder.path().join("broker.db")).expect("a fresh folder"));
    let (layout, work) = (Layout::new(""), invoices::DOMAIN.bindings.work_queue());
    let providers: Vec<_> = work.topics.iter().map(|(provider, _)| provider.clone()).collect();
    let (topology, provider) = (layout.topology(&providers, &[work]), &providers[0]);
    broker.declare(&topology).await.expect("the topology is new");
    let config = Config {
        batch_events: 2 * GOOD,
        batch_timeout_ms: 60_000,
        hold_ms: 10_000,
        prefetch_bytes: 1 << 20,
        policies: Default::default(),
    };
    let runtime = Runtime { broker: broker.clone(), layout: layout.clone(), store: store.clone(), config };
    let handler = Arc::new(Counted { gate: Semaphore::new(0), calls: Mutex::default() });
    let stop = CancellationToken::new();
    let consumer = Consumer::new(&invoices::DOMAIN.bindings, handler.clone(), runtime);
    let running = tokio::spawn(consumer.run(stop.clone()));

    let publish = async |body: String| {
        let source = Source::new(provider.clone(), SourceName::new("me").expect("a name"));
        let event = Event::new(source, Topic::new("invoice.created").expect("a topic"), body.into());
        let published =
            broker.publish(&layout.webhooks(provider), "invoice.created", event.to_message()).await;
        published.expect("the queue is bound");
    };
    // With each of the first batches the window grows; the fourth keeps the consumer busy until it holds all the others.
    for n in 1..=4 {
        publish(format!(r#"{{"data": {{"invoiceId": "first {n}"}}}}"#)).await;
        let is_called = async || handler.calls.lock().expect("nobody panics").len() == n;
        awaited("the first events are handled", is_called).await;
        handler.gate.add_permits(usize::from(n < 4));
    }
    for n in 0..GOOD {
        publish(format!(r#"{{"data": {{"invoiceId": "{n}"}}}}"#)).await;
        if n == GOOD / 2 {
            publish(r#"{"data": {}}"#.to_owned()).await;
        }
    }
    let status =
        async |queue: &str| broker.queues(&[layout.queue(queue)]).await.expect("an answer").remove(0);
    awaited("the consumer holds every delivery", async || {
        status("invoices").await.unacked == Some(GOOD as u64 + 2)
    })
    .await;
    handler.gate.add_permits(1_000);
    awaited("the bad body becomes a dead letter", async || status("dead").await.ready == 1).await;

    assert_eq!(*handler.calls.lock().expect("nobody panics"), [1, 1, 1, 1, GOOD]);
    let mut connection = store.read().await.expect("a connection");
    let page = invoices::Invoice::page(&mut connection, &Default::default(), &Page::first(1_000)).await;
    assert_eq!(page.expect("a list").items.len(), GOOD + 4);
    stop.cancel();
    running.await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_cannot_be_read_costs_the_others_nothing_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&store::Config::new("sqlite"), folder.path()).expect("a store in a fresh folder");
    a_body_that_cannot_be_read_costs_the_others_nothing(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_cannot_be_read_costs_the_others_nothing_on_postgresql() {
    let (store, ()) = crate::store_laws::fresh().await;
    a_body_that_cannot_be_read_costs_the_others_nothing(store).await;
}
