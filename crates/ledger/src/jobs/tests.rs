//! Jobs over the embedded broker and a database file.

mod editing;
mod faults;
mod fetching;
mod others;
mod pausing;
mod reconciling;

use std::sync::Mutex;
use std::time::Duration;

use broker::embedded::Embedded;
use broker::{DynBroker, Layout};
use consumer::{
    Announcement, Bindings, Consumer, DEFAULT_RETRY, Failure, Handler, Permanent, PolicyChange, Runtime,
};
use event::{Event, EventId, Message, Source, Zone, header};
use serde_json::json;
use store::{Page, Row, Store, Tx, sql};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    DeadFilter, DeadGroup, DeadRow, EventFilter, EventRow, EventState, RejectedFilter, RejectedRow,
    Retention, UnroutedFilter, UnroutedRow, show_dead,
};
use view::Row as _;

const PATIENCE: Duration = Duration::from_secs(30);

static ORDERS: Bindings = Bindings {
    consumer: "orders",
    purpose: "",
    topics: &[("gestao-online", &["ORDER"])],
    prefetch: 50,
    retry: DEFAULT_RETRY,
};

/// Keeps the ids of what it handles, and fails while it is told to.
#[derive(Default)]
struct Orders {
    handled: Mutex<Vec<EventId>>,
    failing: Mutex<bool>,
}

#[async_trait::async_trait]
impl Handler for Orders {
    type Fact = ();

    fn read(&self, _: &Event) -> Result<(), Permanent> {
        Ok(())
    }

    async fn write(&self, facts: &[(&Event, &())], _: &mut Tx) -> Result<Vec<Announcement>, Failure> {
        for (event, ()) in facts {
            if *self.failing.lock().unwrap() {
                return Err(Failure::Permanent(format!("order {} is unknown", event.id)));
            }
            self.handled.lock().unwrap().push(event.id);
        }
        Ok(Vec::new())
    }
}

struct Setting {
    broker: DynBroker,
    store: Store,
    layout: Layout,
    orders: Arc<Orders>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

async fn setting() -> Setting {
    let folder = tempfile::tempdir().unwrap();
    let config =
        store::Config { max_connections: 4, acquire_timeout_ms: 5_000, ..store::Config::new("sqlite") };
    let store = Store::open(&config, folder.path()).unwrap();
    store.migrate(&[crate::COMPONENT]).await.unwrap();
    let broker: DynBroker = Arc::new(Embedded::open(folder.path().join("broker.db")).unwrap());
    let layout = Layout::new("");
    let provider = event::ProviderName::new("gestao-online").unwrap();
    broker.declare(&layout.topology(&[provider], &[ORDERS.work_queue()])).await.unwrap();
    let setting = Setting {
        broker,
        store,
        layout,
        orders: Arc::default(),
        stop: CancellationToken::new(),
        _folder: folder,
    };
    let policy = PolicyChange { attempts: Some(1), ..PolicyChange::default() };
    let config = consumer::Config {
        batch_events: 50,
        batch_timeout_ms: 10_000,
        hold_ms: 10_000,
        prefetch_bytes: 1 << 24,
        policies: [("orders".to_owned(), policy)].into(),
    };
    let (broker, layout, store) = (setting.broker.clone(), setting.layout.clone(), setting.store.clone());
    let runtime = Runtime { broker, layout, store, config };
    let mut consumers = crate::consumers(runtime.clone(), &[ORDERS]);
    consumers.push(Consumer::new(&ORDERS, setting.orders.clone(), runtime));
    for consumer in consumers {
        tokio::spawn(consumer.run(setting.stop.clone()));
    }
    setting
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn event(topic: &str) -> Event {
    broker::test_support::event("/gestao-online/go", topic, r#"{"a": 1}"#)
}

fn ask(action: Action, what: What, filter: serde_json::Value) -> NewJob {
    NewJob {
        action,
        what,
        filter,
        to_consumer: None,
        again: false,
        limit: None,
        rate: None,
        reason: (action == Action::Discard).then(|| "known".to_owned()),
        requested_by: "maria@host".to_owned(),
        dry_run: false,
    }
}

/// A console of this release beside one of a later release with more kinds of jobs.
#[tokio::test]
async fn a_job_of_a_kind_that_is_not_known_is_left_to_those_who_know_it() {
    let setting = setting().await;
    setting.publish(&[event("ORDER")]).await;
    setting.all_in_state(1, EventState::Handled).await;
    for (id, action, what, state) in [
        ("01a20000-0000-7000-8000-000000000001", "archive", "events", "waiting"),
        ("01a20000-0000-7000-8000-000000000002", "replay", "documents", "waiting"),
        ("01a20000-0000-7000-8000-000000000003", "replay", "events", "postponed"),
    ] {
        let mut tx = setting.store.begin().await.unwrap();
        let text = format!(
            "INSERT INTO jobs (id, action, what, filter, options, requested_by, requested_at, state, total, progress, \
             sent, resume_after, trouble) VALUES ('{id}', '{action}', '{what}', '{{}}', '{{}}', 'maria', 0, '{state}', \
             0, 0, 0, '', '')"
        );
        sql::assembled(text).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    setting.run();
    let ours = setting.create(&ask(Action::Replay, What::Events, json!({}))).await;
    assert_eq!(setting.ended(&ours).await.state, JobState::Done);
    let unknown: EventId = "01a20000-0000-7000-8000-000000000001".parse().unwrap();
    assert_eq!(cancel(&setting.store, unknown).await.unwrap(), None);
    let mut connection = setting.store.read().await.unwrap();
    let listed = Job::page(&mut connection, &JobFilter::default(), &Page::first(10)).await.unwrap().items;
    assert_eq!(listed.iter().map(|job| &job.id).collect::<Vec<_>>(), [&ours.id]);
    let text = "SELECT state FROM jobs WHERE worker IS NULL ORDER BY id LIMIT 3";
    let states: Vec<String> = sql::scalar(text).fetch_all(&mut *connection).await.unwrap();
    assert_eq!(states, ["waiting", "waiting", "postponed"]);
}

/// The known kinds, as statements name them.
#[test]
fn every_kind_of_job_is_known() {
    let actions = [Action::Replay, Action::Retry, Action::Discard, Action::Fetch, Action::Reconcile];
    let words = actions.map(|one| table::word(&one));
    let subjects = [What::Events, What::Dead, What::Rejected, What::Unrouted].map(|one| table::word(&one));
    use JobState::{Cancelled, Done, Failed, Paused, Running, Waiting};
    let states = [Waiting, Running, Paused, Done, Cancelled, Failed].map(|one| table::word(&one));
    for word in words.iter().chain(&subjects).chain(&states) {
        assert!(table::KNOWN.contains(&format!("'{word}'")), "{word}");
    }
}

impl Setting {
    fn runner(&self) -> Runner {
        Runner {
            broker: self.broker.clone(),
            layout: self.layout.clone(),
            store: self.store.clone(),
            zone: Zone::default(),
            consumers: vec![ORDERS],
            policies: Default::default(),
            fetch: Arc::new(|events| {
                Box::pin(async move { Ok(events.iter().filter(|event| event.subject.is_some()).count()) })
            }),
            reread: Arc::new(|rejected| match rejected.body.as_slice() {
                b"hopeless" => Err(StillUnusable::Body("it is not JSON".into())),
                body => {
                    let first = Accepted {
                        event: Event { id: rejected.id, time: rejected.received_at, ..event("ORDER") },
                        duplicate_key: (body == b"same").then(|| ("a".to_owned(), 3_600)),
                    };
                    let second = Accepted { event: event("ORDER"), duplicate_key: None };
                    Ok([first].into_iter().chain((body == b"two").then_some(second)).collect())
                }
            }),
        }
    }

    fn run(&self) -> JoinHandle<()> {
        tokio::spawn(self.runner().run(self.stop.clone()))
    }

    async fn publish(&self, events: &[Event]) {
        for event in events {
            let received = self.layout.received(&event.source.provider);
            self.broker.publish(&received, event.topic.as_str(), event.to_message()).await.unwrap();
        }
    }

    /// Records these bodies as rejected.
    async fn reject(&self, bodies: &[&'static str]) {
        for body in bodies {
            let mut message = Message { body: (*body).into(), ..event("rejected").to_message() };
            message.headers.insert(header::CAUSE.to_owned(), "it was not read".into());
            self.broker.publish(&self.layout.rejected(), "", message).await.unwrap();
        }
        let started = Instant::now();
        while self.rejected().await.len() < bodies.len() {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn rejected(&self) -> Vec<RejectedRow> {
        let mut connection = self.store.read().await.unwrap();
        RejectedRow::page(&mut connection, &RejectedFilter::default(), &Page::first(10)).await.unwrap().items
    }

    async fn create(&self, new: &NewJob) -> Job {
        create(&self.store, new, &["orders"], &Zone::default()).await.unwrap()
    }

    /// The job once it has ended.
    async fn ended(&self, job: &Job) -> Job {
        let started = Instant::now();
        loop {
            let job = show(&mut self.store.read().await.unwrap(), job.id()).await.unwrap().unwrap();
            if !matches!(job.state, JobState::Waiting | JobState::Running) {
                return job;
            }
            assert!(started.elapsed() < PATIENCE, "{job:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn in_state(&self, state: EventState) -> usize {
        let filter = EventFilter { state: Some(state), ..EventFilter::default() };
        let mut connection = self.store.read().await.unwrap();
        let listed = EventRow::page(&mut connection, &filter, &Page::first(1_000)).await.unwrap().items;
        assert!(listed.iter().all(|row| row.state == state), "{listed:?}");
        listed.len()
    }

    async fn all_in_state(&self, count: usize, state: EventState) {
        let started = Instant::now();
        while self.in_state(state).await != count {
            assert!(started.elapsed() < PATIENCE, "{} of {count} are {state:?}", self.in_state(state).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn handled(&self) -> usize {
        self.orders.handled.lock().unwrap().len()
    }
}

#[tokio::test]
async fn an_event_is_held_where_it_would_be_deleted_while_it_is_under_way() {
    const THREE_DAYS_S: i64 = 3 * 24 * 60 * 60;
    // The process that deletes has a setting of its own, and it may change while the message waits.
    let retention = Retention { keep_days: 1, ..Retention::default() };
    for (again, held) in [(false, 1), (true, 0)] {
        let setting = setting().await;
        setting.publish(&[crate::reconcile::tests::aged(event("ORDER"), THREE_DAYS_S)]).await;
        setting.all_in_state(1, EventState::Handled).await;
        setting.run();
        let replay = NewJob { again, ..ask(Action::Replay, What::Events, json!({"source": "go"})) };
        assert_eq!(setting.ended(&setting.create(&replay).await).await.sent, 1);
        let mut connection = setting.store.read().await.unwrap();
        let count: i64 = sql::scalar("SELECT count(*) FROM events WHERE held_until IS NOT NULL")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        drop(connection);
        assert_eq!(count, held, "again = {again}");
        let deleted = crate::retain(&setting.store, &retention, event::now()).await.unwrap();
        assert_eq!(deleted == 0, held == 1, "again = {again}: {deleted} deleted");
    }
}

#[tokio::test]
async fn a_replay_reaches_only_who_still_owes_the_event_its_effect_unless_it_is_asked_again() {
    let setting = setting().await;
    let events: Vec<_> = (0..5).map(|_| event("ORDER")).collect();
    setting.publish(&events).await;
    setting.all_in_state(5, EventState::Handled).await;
    setting.run();
    let job = setting.create(&ask(Action::Replay, What::Events, json!({"source": "go"}))).await;
    assert_eq!((job.total, job.state), (5, JobState::Waiting));
    let job = setting.ended(&job).await;
    assert_eq!((job.state, job.progress, job.sent, job.trouble.as_str()), (JobState::Done, 5, 5, ""));
    assert!(job.started_at.is_some() && job.finished_at.is_some());
    // Behind the replayed ones.
    setting.publish(&[event("ORDER")]).await;
    setting.all_in_state(6, EventState::Handled).await;
    assert_eq!(setting.handled(), 6);

    let again = NewJob { again: true, ..ask(Action::Replay, What::Events, json!({"id": events[0].id})) };
    let job = setting.ended(&setting.create(&again).await).await;
    assert_eq!((job.total, job.sent), (1, 1));
    setting.all_in_state(7, EventState::Handled).await;
    assert_eq!(setting.handled(), 7);
    let replayed = EventId::derived(job.id(), events[0].id);
    assert_eq!(setting.orders.handled.lock().unwrap().last(), Some(&replayed));
    let mut connection = setting.store.read().await.unwrap();
    let shown = crate::show(&mut connection, replayed).await.unwrap().unwrap();
    assert_eq!(shown.replay_of, Some(events[0].id.to_string()));
}

#[tokio::test]
async fn a_replay_leaves_duplicates_out_unless_one_is_asked_for_by_its_id() {
    let setting = setting().await;
    let keyed = |event: &Event| {
        let mut message = event.to_message();
        message.headers.insert(header::DUPLICATE_KEY.to_owned(), "a".into());
        message.headers.insert(header::DUPLICATE_WINDOW_S.to_owned(), 3_600.into());
        message
    };
    let (first, second) = (event("ORDER"), event("ORDER"));
    let received = setting.layout.received(&first.source.provider);
    setting.broker.publish(&received, "ORDER", keyed(&first)).await.unwrap();
    setting.all_in_state(1, EventState::Handled).await;
    setting.broker.publish(&received, "ORDER", keyed(&second)).await.unwrap();
    setting.all_in_state(1, EventState::Duplicate).await;
    setting.run();
    for (again, handled) in [(false, 1), (true, 2)] {
        let replay = NewJob { again, ..ask(Action::Replay, What::Events, json!({"source": "go"})) };
        let job = setting.ended(&setting.create(&replay).await).await;
        assert_eq!((job.total, job.sent, job.trouble.as_str()), (1, 1, ""), "again: {again}");
        setting.all_in_state(handled, EventState::Handled).await;
        assert_eq!(setting.handled(), handled, "again: {again}");
    }
    assert_eq!(setting.in_state(EventState::Duplicate).await, 1);
    let by_state = ask(Action::Replay, What::Events, json!({"state": "duplicate"}));
    let refused = create(&setting.store, &by_state, &["orders"], &Zone::default()).await.unwrap_err();
    assert!(refused.to_string().contains("replay one by its id"), "{refused}");

    let by_id = ask(Action::Replay, What::Events, json!({"id": second.id}));
    let job = setting.ended(&setting.create(&by_id).await).await;
    assert_eq!((job.total, job.sent), (1, 1));
    setting.all_in_state(3, EventState::Handled).await;
    assert_eq!(setting.orders.handled.lock().unwrap().last(), Some(&second.id));
}

#[tokio::test]
async fn a_replayed_event_is_the_recorded_one_to_the_last_byte() {
    let setting = setting().await;
    setting.stop.cancel();
    let original = Event {
        subject: Some(event::Subject::new("order", "7")),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        repaired: true,
        headers: [("user-agent".to_owned(), "go/1".to_owned())].into(),
        content_type: "text/json".into(),
        data: vec![0, 159, 255].into(),
        ..event("ORDER")
    };
    let mut tx = setting.store.begin().await.unwrap();
    let recorder = crate::record::Events { consumers: vec![ORDERS] };
    consumer::Recorder::record(&recorder, &[&original.to_message()], &mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let job = setting.create(&ask(Action::Replay, What::Events, json!({}))).await;
    let stop = CancellationToken::new();
    tokio::spawn(setting.runner().run(stop.clone()));
    setting.ended(&job).await;
    let mut deliveries = setting.broker.subscribe(&setting.layout.queue("orders"), 10).await.unwrap();
    let message = timeout(PATIENCE, deliveries.next()).await.unwrap().unwrap().message;
    assert_eq!(Event::from_message(&message), Ok(original));
    assert_eq!(message.text(header::JOB), Some(job.id.as_str()));
    assert_eq!(message.text("cloudEvents_source"), Some("/gestao-online/go"));
    stop.cancel();
}

#[tokio::test]
async fn a_dead_letter_goes_back_with_its_history_and_is_open_again_if_it_dies_again() {
    let setting = setting().await;
    *setting.orders.failing.lock().unwrap() = true;
    setting.publish(&[event("ORDER"), event("ORDER")]).await;
    setting.all_in_state(2, EventState::Dead).await;
    let mut connection = setting.store.read().await.unwrap();
    let groups =
        DeadGroup::page(&mut connection, &DeadFilter::default(), &Page::first(10)).await.unwrap().items;
    drop(connection);
    let [group] = groups.as_slice() else { panic!("{groups:?}") };
    assert_eq!((group.count, group.error.as_str()), (2, "order # is unknown"));

    setting.run();
    let retry = ask(Action::Retry, What::Dead, json!({"group": group.group}));
    let job = setting.ended(&setting.create(&retry).await).await;
    assert_eq!((job.total, job.sent), (2, 2));
    let history = async |id: &str| {
        let letters = show_dead(&mut setting.store.read().await.unwrap(), id.parse().unwrap()).await.unwrap();
        letters[0].history.as_array().unwrap().len()
    };
    let mut connection = setting.store.read().await.unwrap();
    let started = Instant::now();
    let row = loop {
        let rows =
            DeadRow::page(&mut connection, &DeadFilter::default(), &Page::first(10)).await.unwrap().items;
        if rows.len() == 2 && history(&rows[0].id).await == 2 && history(&rows[1].id).await == 2 {
            break rows[0].clone();
        }
        assert!(started.elapsed() < PATIENCE, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // One attempt before it was sent again and one after, as in its history.
    assert_eq!((row.attempts, row.group), (2, group.group.clone()));

    *setting.orders.failing.lock().unwrap() = false;
    setting.ended(&setting.create(&retry).await).await;
    setting.all_in_state(2, EventState::Handled).await;
    assert_eq!(setting.open_letters().await, []);
    assert_eq!(setting.handled(), 2);
}

#[tokio::test]
async fn a_job_with_a_limit_takes_the_oldest_rows_and_leaves_the_rest() {
    let setting = setting().await;
    *setting.orders.failing.lock().unwrap() = true;
    let events: Vec<_> = (0..3).map(|_| event("ORDER")).collect();
    setting.publish(&events).await;
    setting.all_in_state(3, EventState::Dead).await;
    *setting.orders.failing.lock().unwrap() = false;
    setting.run();
    let first = NewJob { limit: Some(2), ..ask(Action::Retry, What::Dead, json!({})) };
    assert_eq!(count(&setting.store, &first, &Zone::default()).await.unwrap(), 2);
    let job = setting.ended(&setting.create(&first).await).await;
    assert_eq!((job.total, job.progress, job.sent, job.limit), (2, 2, 2, Some(2)));
    assert_eq!(job.summary(), "retry dead at most 2");
    let open: Vec<_> = setting.open_letters().await.into_iter().map(|row| row.id).collect();
    assert_eq!(open, [events[2].id.to_string()]);
    // More than there are: all of them.
    let rest = setting.ended(&setting.create(&NewJob { limit: Some(10), ..first }).await).await;
    assert_eq!((rest.total, rest.sent), (1, 1));
    setting.all_in_state(3, EventState::Handled).await;
}

#[tokio::test]
async fn what_is_discarded_is_listed_no_more_and_accounted_for() {
    let setting = setting().await;
    *setting.orders.failing.lock().unwrap() = true;
    setting.publish(&[event("ORDER"), event("NOBODYS")]).await;
    setting.all_in_state(1, EventState::Dead).await;
    setting.all_in_state(1, EventState::Unrouted).await;
    setting.run();
    for what in [What::Dead, What::Unrouted] {
        let job = setting.ended(&setting.create(&ask(Action::Discard, what, json!({}))).await).await;
        assert_eq!((job.sent, job.reason.as_deref()), (1, Some("known")));
    }
    assert_eq!(setting.in_state(EventState::Discarded).await, 2);
    let mut connection = setting.store.read().await.unwrap();
    assert!(
        DeadRow::page(&mut connection, &DeadFilter::default(), &Page::first(10))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let marks =
        UnroutedRow::page(&mut connection, &UnroutedFilter::default(), &Page::first(10)).await.unwrap();
    assert!(marks.items.is_empty());
    let (books, _) =
        crate::reconcile::tests::read(&setting.store, &event::now().to_string()[..10], &[]).await;
    assert_eq!((books.sources[0].received, books.sources[0].discarded, books.balanced), (2, 2, true));

    // Sent again, it is open again.
    *setting.orders.failing.lock().unwrap() = false;
    setting.ended(&setting.create(&ask(Action::Replay, What::Events, json!({}))).await).await;
    setting.all_in_state(1, EventState::Handled).await;
    setting.all_in_state(1, EventState::Unrouted).await;
}

#[tokio::test]
async fn an_unrouted_event_reaches_who_subscribes_later_and_is_open_again_if_nobody_does() {
    let setting = setting().await;
    setting.publish(&[event("NOBODYS")]).await;
    setting.all_in_state(1, EventState::Unrouted).await;
    setting.run();
    let retry = ask(Action::Retry, What::Unrouted, json!({"topic": "NOBODYS"}));
    let job = setting.ended(&setting.create(&retry).await).await;
    assert_eq!(job.sent, 1);
    setting.all_in_state(1, EventState::Unrouted).await;

    let queue = broker::Queue {
        name: setting.layout.queue("theirs"),
        delivery_limit: 20,
        message_ttl: None,
        dead_letter_exchange: None,
    };
    let binding = broker::Binding {
        exchange: setting.layout.webhooks(&event("NOBODYS").source.provider),
        destination: broker::Destination::Queue(queue.name.clone()),
        routing_key: "NOBODYS".to_owned(),
    };
    let topology =
        broker::Topology { queues: vec![queue.clone()], bindings: vec![binding], ..Default::default() };
    setting.broker.declare(&topology).await.unwrap();
    setting.ended(&setting.create(&retry).await).await;
    let mut theirs = setting.broker.subscribe(&queue.name, 10).await.unwrap();
    timeout(PATIENCE, theirs.next()).await.unwrap().unwrap();
    assert_eq!(setting.in_state(EventState::Unrouted).await, 0);
    // The reader of that queue is unknown.
    assert_eq!(setting.in_state(EventState::Routed).await, 1);
    assert_eq!(setting.in_state(EventState::Handled).await, 0);
}

#[tokio::test]
async fn a_rejected_body_is_read_again_and_what_is_still_hopeless_stays_with_its_cause() {
    let setting = setting().await;
    setting.reject(&["hopeless", "fixed"]).await;
    setting.run();
    let job = setting.ended(&setting.create(&ask(Action::Retry, What::Rejected, json!({}))).await).await;
    assert_eq!((job.progress, job.sent), (2, 1));
    assert_eq!(job.trouble, "1 not sent: it is not JSON");
    setting.all_in_state(1, EventState::Handled).await;
    let left = setting.rejected().await;
    assert_eq!(left.iter().map(|row| row.cause.as_str()).collect::<Vec<_>>(), ["it is not JSON"]);
}

#[tokio::test]
async fn a_rejected_body_with_several_events_becomes_all_of_them() {
    let setting = setting().await;
    setting.reject(&["two"]).await;
    setting.run();
    let job = setting.ended(&setting.create(&ask(Action::Retry, What::Rejected, json!({}))).await).await;
    assert_eq!((job.progress, job.sent, job.trouble.as_str()), (1, 1, ""));
    setting.all_in_state(2, EventState::Handled).await;
    assert!(setting.rejected().await.is_empty());
}

#[tokio::test]
async fn rejected_copies_of_one_fact_become_one_event_and_its_duplicates() {
    let setting = setting().await;
    setting.reject(&["same", "same"]).await;
    setting.run();
    let job = setting.ended(&setting.create(&ask(Action::Retry, What::Rejected, json!({}))).await).await;
    assert_eq!((job.sent, job.trouble.as_str()), (2, ""));
    setting.all_in_state(1, EventState::Duplicate).await;
    setting.all_in_state(1, EventState::Handled).await;
    assert_eq!(setting.handled(), 1);
    // Nothing waits for the duplicate.
    let outcome = outcome(&mut setting.store.read().await.unwrap(), job.id()).await.unwrap().unwrap();
    assert_eq!((outcome.sent, outcome.settled, outcome.pending), (2, 2, 0));
}

#[tokio::test]
async fn a_job_keeps_its_rate_goes_on_after_its_console_and_ends_when_it_is_cancelled() {
    let setting = setting().await;
    let events: Vec<_> = (0..300).map(|_| event("NOBODYS")).collect();
    setting.publish(&events).await;
    setting.all_in_state(300, EventState::Unrouted).await;
    let new = NewJob { rate: Some(100), ..ask(Action::Replay, What::Events, json!({"topic": "NOBODYS"})) };
    let job = setting.create(&new).await;
    let started = Instant::now();
    let first = setting.run();
    let progress =
        async || show(&mut setting.store.read().await.unwrap(), job.id()).await.unwrap().unwrap().progress;
    while progress().await < 50 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // As a kill would: whatever it was doing stays undone, and the job is still its own.
    first.abort();
    let _ = first.await;
    let before = progress().await;
    assert!((50..300).contains(&before), "{before}");
    let mut tx = setting.store.begin().await.unwrap();
    sql::query("UPDATE jobs SET lease_until = 0").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    setting.run();
    while progress().await < 200 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(1_500), "200 rows in {:?}", started.elapsed());
    let cancelled = cancel(&setting.store, job.id()).await.unwrap().unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    // Jobs run one after the other: once the next has ended, this one is no longer running.
    let next = setting.create(&ask(Action::Replay, What::Events, json!({"source": "nobody"}))).await;
    assert_eq!(setting.ended(&next).await.state, JobState::Done);
    let after = progress().await;
    assert!(after < 300, "{after}");
    // Nothing was skipped where one took over from the other.
    let gone_through: i64 =
        sql::assembled("SELECT count(*) FROM unrouted_events WHERE resent_in IS NOT NULL".to_owned())
            .fetch_one(&mut *setting.store.read().await.unwrap())
            .await
            .unwrap()
            .get(0);
    assert_eq!(gone_through, after);
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_by_field() {
    let check = |new: NewJob, expect: &str| {
        let printed = new.check(&["orders"]).unwrap_err().to_string();
        assert!(printed.starts_with(expect), "{printed}");
    };
    let replay = || ask(Action::Replay, What::Events, json!({}));
    check(ask(Action::Replay, What::Dead, json!({})), "what: only events are replayed");
    check(ask(Action::Retry, What::Events, json!({})), "what: expected dead, rejected or unrouted");
    check(
        NewJob { to_consumer: Some("order".into()), ..replay() },
        "to_consumer: there is no consumer \"order\"",
    );
    check(NewJob { rate: Some(0), ..replay() }, "rate: ");
    check(NewJob { limit: Some(0), ..replay() }, "limit: ");
    let reconcile = ask(Action::Reconcile, What::Events, json!({}));
    check(NewJob { limit: Some(5), ..reconcile }, "limit: a day is reconciled whole");
    check(NewJob { requested_by: " ".into(), ..replay() }, "requested_by: ");
    check(NewJob { reason: Some("x".into()), ..replay() }, "reason: goes with discard only");
    check(NewJob { reason: None, ..ask(Action::Discard, What::Dead, json!({})) }, "reason: say why");
    check(
        ask(Action::Replay, What::Events, json!({"sorce": "go"})),
        "filter: there is no \"sorce\"; expected one of id,",
    );
    check(ask(Action::Replay, What::Events, json!({"state": "lost"})), "filter.state: unknown variant");
    check(ask(Action::Replay, What::Events, json!(["go"])), "filter: expected an object");
}
