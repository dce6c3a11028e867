//! Batches of the consumer of a domain, on both databases: the effect of one bad body on the others.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use broker::embedded::Embedded;
use broker::{DynBroker, Layout, QueueStatus};
use consumer::{Announcement, Config, Consumer, Failure, Handler, Permanent, Runtime};
use domains::invoices::{self, Invoices};
use event::{Event, Message, Source, SourceName, Topic, header};
use store::seen::{self, Sighting};
use store::{Page, Store, Tx};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
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

    async fn write(
        &self,
        facts: &[(&Event, &Self::Fact)],
        tx: &mut Tx,
    ) -> Result<Vec<Announcement>, Failure> {
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

/// A consumer of invoices at work.
struct Setup {
    _folder: TempDir,
    broker: DynBroker,
    layout: Layout,
    store: Store,
    handler: Arc<Counted>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Setup {
    async fn new(store: Store) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        store.migrate(&[invoices::DOMAIN.component]).await.expect("the tables are new");
        let broker: DynBroker =
            Arc::new(Embedded::open(folder.path().join("broker.db")).expect("a fresh folder"));
        let (layout, work) = (Layout::new(""), invoices::DOMAIN.bindings.work_queue());
        let providers: Vec<_> = work.topics.iter().map(|(provider, _)| provider.clone()).collect();
        broker.declare(&layout.topology(&providers, &[work])).await.expect("the topology is new");
        let config = Config {
            batch_events: 2 * GOOD,
            batch_timeout_ms: 60_000,
            hold_ms: 10_000,
            prefetch_bytes: 1 << 20,
            policies: Default::default(),
        };
        let runtime =
            Runtime { broker: broker.clone(), layout: layout.clone(), store: store.clone(), config };
        let handler = Arc::new(Counted { gate: Semaphore::new(0), calls: Mutex::default() });
        let stop = CancellationToken::new();
        let consumer = Consumer::new(&invoices::DOMAIN.bindings, handler.clone(), runtime);
        let running = tokio::spawn(consumer.run(stop.clone()));
        Self { _folder: folder, broker, layout, store, handler, stop, running }
    }

    fn message(&self, body: String) -> Message {
        let work = invoices::DOMAIN.bindings.work_queue();
        let source = Source::new(work.topics[0].0.clone(), SourceName::new("me").expect("a name"));
        Event::new(source, Topic::new("invoice.created").expect("a topic"), body.into()).to_message()
    }

    async fn publish(&self, message: Message) {
        let work = invoices::DOMAIN.bindings.work_queue();
        let exchange = self.layout.webhooks(&work.topics[0].0);
        let published = self.broker.publish(&exchange, "invoice.created", message).await;
        published.expect("the queue is bound");
    }

    async fn publish_body(&self, body: String) {
        self.publish(self.message(body)).await;
    }

    fn calls(&self) -> Vec<usize> {
        self.handler.calls.lock().expect("nobody panics").clone()
    }

    async fn status(&self, queue: &str) -> QueueStatus {
        self.broker.queues(&[self.layout.queue(queue)]).await.expect("an answer").remove(0)
    }
}

async fn a_body_that_cannot_be_read_costs_the_others_nothing(store: Store) {
    let setup = Setup::new(store).await;
    // With each of the first batches the window grows; the fourth keeps the consumer busy until it holds all the others.
    for n in 1..=4 {
        setup.publish_body(format!(r#"{{"data": {{"invoiceId": "first {n}"}}}}"#)).await;
        awaited("the first events are handled", async || setup.calls().len() == n).await;
        setup.handler.gate.add_permits(usize::from(n < 4));
    }
    for n in 0..GOOD {
        setup.publish_body(format!(r#"{{"data": {{"invoiceId": "{n}"}}}}"#)).await;
        if n == GOOD / 2 {
            setup.publish_body(r#"{"data": {}}"#.to_owned()).await;
        }
    }
    awaited("the consumer holds every delivery", async || {
        setup.status("invoices").await.unacked == Some(GOOD as u64 + 2)
    })
    .await;
    setup.handler.gate.add_permits(1_000);
    awaited("the bad body becomes a dead letter", async || setup.status("dead").await.ready == 1).await;

    assert_eq!(setup.calls(), [1, 1, 1, 1, GOOD]);
    let mut connection = setup.store.read().await.expect("a connection");
    let page = invoices::Invoice::page(&mut connection, &Default::default(), &Page::first(1_000)).await;
    assert_eq!(page.expect("a list").items.len(), GOOD + 4);
    setup.stop.cancel();
    setup.running.await.expect("it stops");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_another_replica_holds_on_a_bad_body_does_not_stop_the_others() {
    let (store, ()) = crate::store_laws::fresh().await;
    let setup = Setup::new(store.clone()).await;
    setup.handler.gate.add_permits(1_000);
    let mut bad = setup.message(r#"{"data": {}}"#.to_owned());
    bad.headers.insert(header::DUPLICATE_KEY.to_owned(), "key".into());
    bad.headers.insert(header::DUPLICATE_WINDOW_S.to_owned(), 3_600.into());
    let mut first = Event::from_message(&bad).expect("an event");
    first.id = event::EventId::generate();
    let mut claim = store.begin().await.expect("a transaction");
    let sighting = Sighting::from_message(&first, &bad).expect("it has a key");
    assert!(seen::duplicates(&mut claim, &[sighting]).await.expect("the key is new").is_empty());

    setup.publish(bad).await;
    let begun = Instant::now();
    for n in 1..=5 {
        setup.publish_body(format!(r#"{{"data": {{"invoiceId": "{n}"}}}}"#)).await;
        awaited("a good event is handled", async || setup.calls().iter().sum::<usize>() == n).await;
    }
    // A lock is waited for up to 10 s elsewhere.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(setup.status("dead").await.ready, 0);

    claim.commit().await.expect("the first event is handled");
    awaited("the repetition is acked", async || setup.status("invoices").await.unacked == Some(0)).await;
    assert_eq!(setup.status("dead").await.ready, 0);
    setup.stop.cancel();
    setup.running.await.expect("it stops");
}
