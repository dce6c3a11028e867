//! Queues that follow the store, whatever is killed in between. The embedded broker stands for one that services can read.

use std::sync::Mutex;
use std::time::Duration;

use broker::embedded::Embedded;
use broker::test_support::{RecordingBroker, message};
use broker::{FixedQueue, Topology};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::push::laws::unchanged;
use crate::{Seal, Secrets, Seek, State};

const PATIENCE: Duration = Duration::from_secs(20);

/// A store, and a broker with the topology of an installation that has one provider and no consumers.
struct Setting {
    queues: Queues,
    /// In front of the broker that `queues` has.
    recording: Arc<RecordingBroker>,
    users: Arc<Users>,
    seal: Seal,
    _folder: TempDir,
}

/// The management API of nobody.
#[derive(Default)]
struct Users(Mutex<Vec<(String, QueueName, Vec<String>)>>);

impl Users {
    fn all(&self) -> Vec<(String, QueueName, Vec<String>)> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Management for Users {
    async fn make_user(&self, user: &str, queue: &QueueName, exchanges: &[String]) -> Result<String, Cause> {
        let mut users = self.0.lock().unwrap();
        users.push((user.to_owned(), queue.clone(), exchanges.to_vec()));
        Ok(format!("password {}", users.len()))
    }

    async fn delete_user(&self, user: &str, queue: &QueueName) -> Result<(), Cause> {
        self.0.lock().unwrap().retain(|(name, of, _)| name != user || of != queue);
        Ok(())
    }

    async fn bytes(&self, _: &QueueName) -> Option<u64> {
        Some(7)
    }

    async fn unacked(&self, _: &QueueName) -> Option<u64> {
        None
    }
}

fn provider() -> ProviderName {
    ProviderName::new("recuperador").unwrap()
}

fn crm() -> SubscriptionName {
    SubscriptionName::new("crm").unwrap()
}

fn declaration(topics: &str, user: Option<&str>) -> Declaration {
    let topics: Vec<&str> = topics.split(',').collect();
    let user = user.map_or(serde_json::json!({}), |user| serde_json::json!({"user": user}));
    serde_json::from_value(serde_json::json!({"name": "crm", "topics": topics, "queue": user})).unwrap()
}

impl Setting {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = store::Config { max_connections: 4, ..store::Config::new("sqlite") };
        let store = Store::open(&config, folder.path()).unwrap();
        store.migrate(&[ledger::COMPONENT, crate::COMPONENT]).await.unwrap();
        ledger::feed::prepare(&store).await.unwrap();
        let broker: DynBroker = Arc::new(Embedded::open(folder.path().join("broker.db")).unwrap());
        let layout = Layout::new("t.");
        broker.declare(&layout.topology(&[provider()], &[])).await.unwrap();
        let recording = RecordingBroker::in_front_of(broker);
        let users = Arc::<Users>::default();
        let queues = Queues {
            store,
            broker: recording.clone(),
            layout,
            management: Some(users.clone()),
            is_amqp: true,
        };
        Self { queues, recording, users, seal: Seal::new(&[1; 32]), _folder: folder }
    }

    async fn add(&self, declaration: &Declaration) {
        let added =
            table::add(&self.queues.store, &self.seal, declaration, &Secrets::default(), Seek::Now).await;
        added.unwrap();
    }

    async fn edit(&self, declaration: &Declaration) {
        table::edit(&self.queues.store, &self.seal, declaration, None, unchanged).await.unwrap();
    }

    async fn remove(&self) {
        table::remove(&self.queues.store, &crm()).await.unwrap();
    }

    async fn publish(&self, topic: &str) {
        let exchange = self.queues.layout.webhooks(&provider());
        self.queues.broker.publish(&exchange, topic, message(topic)).await.unwrap();
    }

    /// How many messages are in the queue of the subscription, if there is one.
    async fn waiting(&self) -> Option<u64> {
        self.queues.contents(&crm()).await.unwrap().map(|contents| contents.ready)
    }

    /// How many messages went to no queue.
    async fn unrouted(&self) -> u64 {
        let queue = self.queues.layout.queue(FixedQueue::Unrouted);
        self.queues.broker.queues(&[queue]).await.unwrap()[0].ready
    }

    async fn on_record(&self) -> usize {
        record::all(&self.queues.store).await.unwrap().len()
    }

    /// Settles until the broker has changed so many times, and then is killed. False if it settles before.
    async fn settle_and_be_killed(&self, changes: usize) -> bool {
        self.recording.stop_after_changes(changes);
        let name = crm();
        let is_killed = tokio::select! {
            settled = self.queues.settle(&name) => {
                settled.unwrap();
                false
            }
            () = self.recording.stopped() => true,
        };
        self.recording.stop_after_changes(usize::MAX);
        is_killed
    }
}

#[tokio::test]
async fn a_queue_has_the_topics_of_its_subscription_and_goes_with_it() {
    let setting = Setting::new().await;
    setting.publish("acordo.quitado").await;
    assert_eq!((setting.waiting().await, setting.unrouted().await), (None, 1));

    setting.add(&declaration("recuperador:acordo.*,recuperador:boleto.pago", None)).await;
    setting.queues.settle(&crm()).await.unwrap();
    for topic in ["acordo.quitado", "boleto.pago", "boleto.vencido"] {
        setting.publish(topic).await;
    }
    assert_eq!((setting.waiting().await, setting.unrouted().await), (Some(2), 2));

    setting.edit(&declaration("recuperador:boleto.#", None)).await;
    setting.queues.settle(&crm()).await.unwrap();
    for topic in ["acordo.quitado", "boleto.pago", "boleto.vencido"] {
        setting.publish(topic).await;
    }
    assert_eq!((setting.waiting().await, setting.unrouted().await), (Some(4), 3));

    setting.remove().await;
    setting.queues.settle(&crm()).await.unwrap();
    setting.publish("boleto.pago").await;
    assert_eq!((setting.waiting().await, setting.unrouted().await), (None, 4));
    assert_eq!(setting.on_record().await, 0);
}

/// A change of topics that is killed after each of its steps: no event is missing that was asked for before and after, and
/// once another process continues, the bindings are those that are asked for.
#[tokio::test]
async fn a_change_that_is_killed_anywhere_is_continued_and_loses_no_event() {
    for changes in 0..=2 {
        let setting = Setting::new().await;
        setting.add(&declaration("recuperador:acordo.*", None)).await;
        setting.queues.settle(&crm()).await.unwrap();
        setting.edit(&declaration("recuperador:acordo.quitado,recuperador:boleto.#", None)).await;
        assert_eq!(setting.settle_and_be_killed(changes).await, changes < 2, "after {changes} changes");
        setting.publish("acordo.quitado").await;
        assert_eq!(setting.waiting().await, Some(1), "after {changes} changes");

        // Asked for something else meanwhile: what the killed one may have bound has to go.
        setting.edit(&declaration("recuperador:acordo.quitado", None)).await;
        setting.queues.restore().await.unwrap();
        for topic in ["acordo.quitado", "acordo.cancelado", "boleto.pago"] {
            setting.publish(topic).await;
        }
        assert_eq!(
            (setting.waiting().await, setting.unrouted().await),
            (Some(2), 2),
            "after {changes} changes"
        );
    }
}

#[tokio::test]
async fn an_addition_and_a_removal_that_are_killed_are_continued() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:#", Some("crm-reader"))).await;
    assert!(setting.settle_and_be_killed(0).await);
    assert_eq!((setting.waiting().await, setting.on_record().await), (None, 1));
    setting.queues.restore().await.unwrap();
    assert_eq!(setting.waiting().await, Some(0));

    setting.queues.new_password(&crm()).await.unwrap();
    setting.publish("acordo.quitado").await;
    setting.remove().await;
    assert!(setting.settle_and_be_killed(0).await);
    assert_eq!((setting.waiting().await, setting.on_record().await), (Some(1), 1));
    setting.queues.restore().await.unwrap();
    assert_eq!((setting.waiting().await, setting.on_record().await), (None, 0));
    assert_eq!(setting.users.all(), []);
}

#[tokio::test]
async fn a_subscription_gets_nothing_that_waited_for_a_removed_one_of_its_name() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:acordo.*", None)).await;
    setting.queues.settle(&crm()).await.unwrap();
    setting.publish("acordo.quitado").await;
    setting.remove().await;
    // The process is killed here, before it deletes the queue.
    setting.add(&declaration("recuperador:boleto.*", None)).await;
    setting.queues.settle(&crm()).await.unwrap();
    for topic in ["acordo.quitado", "boleto.pago"] {
        setting.publish(topic).await;
    }
    assert_eq!((setting.waiting().await, setting.unrouted().await), (Some(1), 1));
}

#[tokio::test]
async fn processes_that_change_a_queue_at_once_agree_on_what_is_asked_for() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:acordo.*", None)).await;
    let topics =
        ["recuperador:boleto.*", "recuperador:acordo.*,recuperador:boleto.*", "recuperador:acordo.*"];
    for _ in 0..5 {
        let settle = |topics: &'static str| {
            let setting = &setting;
            async move {
                setting.edit(&declaration(topics, None)).await;
                setting.queues.settle(&crm()).await.unwrap();
            }
        };
        tokio::join!(settle(topics[0]), settle(topics[1]), settle(topics[2]));
    }
    setting.edit(&declaration("recuperador:acordo.*", None)).await;
    setting.queues.settle(&crm()).await.unwrap();
    for topic in ["acordo.quitado", "boleto.pago"] {
        setting.publish(topic).await;
    }
    assert_eq!((setting.waiting().await, setting.unrouted().await), (Some(1), 1));
}

#[tokio::test]
async fn a_user_has_its_queue_and_goes_with_its_subscription() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:acordo.*,recuperador:boleto.*", Some("crm-reader"))).await;
    let credentials = setting.queues.new_password(&crm()).await.unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("crm-reader", "password 1"));
    assert_eq!(setting.waiting().await, Some(0), "the queue is there before its user");
    let exchanges = vec!["t.webhooks.recuperador".to_owned()];
    let queue = QueueName::new("t.subscription.crm");
    assert_eq!(setting.users.all(), [("crm-reader".to_owned(), queue, exchanges)]);

    // Without the user, it goes; the queue stays.
    setting.edit(&declaration("recuperador:acordo.*", None)).await;
    setting.queues.settle(&crm()).await.unwrap();
    assert_eq!((setting.users.all().len(), setting.waiting().await), (0, Some(0)));
    let refused = setting.queues.new_password(&crm()).await.err();
    assert!(matches!(refused, Some(QueueError::NoUser(_))), "{refused:?}");

    setting.edit(&declaration("recuperador:acordo.*", Some("crm-reader"))).await;
    setting.queues.new_password(&crm()).await.unwrap();
    setting.remove().await;
    setting.queues.settle(&crm()).await.unwrap();
    assert_eq!(setting.users.all(), []);
}

#[tokio::test]
async fn what_is_impossible_is_refused_with_what_to_do() {
    let setting = Setting::new().await;
    let check = |queues: &Queues, user, expect: Option<&str>| {
        let refused = queues.check(&declaration("recuperador:#", user)).err().map(|error| error.to_string());
        assert_eq!(refused.is_some(), expect.is_some(), "{refused:?}");
        assert!(refused.unwrap_or_default().contains(expect.unwrap_or_default()));
    };
    check(&setting.queues, Some("crm"), None);
    let alone = Queues { management: None, ..setting.queues.clone() };
    check(&alone, None, None);
    check(&alone, Some("crm"), Some("set broker.management_url"));
    let embedded = Queues { is_amqp: false, ..setting.queues.clone() };
    check(&embedded, None, Some("use --pull or --push"));

    setting.add(&declaration("recuperador:#", None)).await;
    embedded.settle(&crm()).await.unwrap();
    assert_eq!(setting.waiting().await, None, "nobody could read it");
    let reports = embedded.report(&table::list(&setting.queues.store).await.unwrap()).await.unwrap();
    assert!(reports[0].trouble.as_ref().is_some_and(|trouble| trouble.contains("--pull")), "{reports:?}");
}

#[tokio::test]
async fn a_report_says_what_waits_and_that_nobody_reads_it() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:#", None)).await;
    let report = async || {
        let subscriptions = table::list(&setting.queues.store).await.unwrap();
        setting.queues.report(&subscriptions).await.unwrap().remove(0)
    };
    assert_eq!(report().await.trouble.as_deref(), Some("queue t.subscription.crm is not declared yet"));
    setting.queues.settle(&crm()).await.unwrap();
    let empty = report().await;
    assert_eq!((empty.messages, empty.bytes, empty.trouble), (Some(0), None, None));
    setting.publish("acordo.quitado").await;
    let unread = report().await;
    assert_eq!((unread.messages, unread.consumers, unread.bytes), (Some(1), 0, Some(7)));
    assert_eq!(unread.trouble.as_deref(), Some("nobody reads queue t.subscription.crm"));
    let queue = setting.queues.queue(&crm());
    let _deliveries = setting.queues.broker.subscribe(&queue, 1).await.unwrap();
    assert_eq!(report().await.trouble, None);
}

#[tokio::test]
async fn a_queue_that_the_broker_has_lost_is_declared_again() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:#", None)).await;
    let stop = CancellationToken::new();
    // Two replicas watch, and neither disturbs the other.
    let watching = [(); 2].map(|()| {
        let (queues, stopped) = (setting.queues.clone(), stop.clone());
        tokio::spawn(async move { queues.keep(1_000, stopped).await })
    });
    let is_there = || async {
        while setting.waiting().await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_there()).await.expect("it is declared");
    setting.queues.broker.delete_queue(&setting.queues.queue(&crm())).await.unwrap();
    tokio::time::timeout(PATIENCE, is_there()).await.expect("it is declared again");
    setting.publish("acordo.quitado").await;
    assert_eq!(setting.waiting().await, Some(1));
    let state = async || {
        let found = table::get(&setting.queues.store, &crm()).await.unwrap().unwrap();
        (found.state, found.reason)
    };
    let is = async |expected: State| {
        while state().await.0 != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is(State::Failing)).await.expect("nobody reads it");
    assert_eq!(state().await.1, "nobody reads queue t.subscription.crm");
    let queue = setting.queues.queue(&crm());
    let _deliveries = setting.queues.broker.subscribe(&queue, 1).await.unwrap();
    tokio::time::timeout(PATIENCE, is(State::Active)).await.expect("somebody reads it");
    assert_eq!(state().await.1, "");
    stop.cancel();
    for replica in watching {
        replica.await.unwrap();
    }
}

/// A process may end after it has written what only it could see.
#[tokio::test]
async fn what_another_process_saw_is_corrected() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:#", None)).await;
    setting.queues.settle(&crm()).await.unwrap();
    let (queues, stop) = (setting.queues.clone(), CancellationToken::new());
    let stopped = stop.clone();
    let watching = tokio::spawn(async move { queues.keep(1_000, stopped).await });
    let store = &setting.queues.store;
    let is_right = || async {
        loop {
            let found = table::get(store, &crm()).await.unwrap().unwrap();
            let messages = record::messages(&mut store.read().await.unwrap(), "crm").await.unwrap();
            if (found.state, found.reason.as_str(), messages) == (State::Active, "", Some(0)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_right()).await.expect("it is measured");
    let wrong = record::Sight { messages: Some(9), trouble: Some("the broker is down".to_owned()) };
    record::see(store, &crm(), &wrong).await.unwrap();
    tokio::time::timeout(PATIENCE, is_right()).await.expect("it is measured again");
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn what_a_consumer_holds_is_a_part_of_what_a_queue_has() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:#", None)).await;
    setting.queues.settle(&crm()).await.unwrap();
    let contents = async || setting.queues.contents(&crm()).await.unwrap().unwrap();
    assert!(contents().await.is_empty());
    setting.publish("acordo.quitado").await;
    assert_eq!(contents().await.to_string(), "1 messages");
    let mut deliveries = setting.queues.broker.subscribe(&setting.queues.queue(&crm()), 10).await.unwrap();
    let delivery = deliveries.next().await.unwrap();
    let held = contents().await;
    assert!(!held.is_empty() && held.ready == 0, "{held:?}");
    assert_eq!(held.to_string(), "0 messages, and 1 that consumers hold unacknowledged");
    deliveries.ack(&[delivery.tag]).await.unwrap();
    // A broker that does not show what its consumers hold.
    let unseen = Contents { ready: 0, unacked: None, consumers: 1 };
    assert!(!unseen.is_empty() && Contents { consumers: 0, ..unseen }.is_empty());
}

#[tokio::test]
async fn what_is_declared_is_what_the_topology_shows() {
    let setting = Setting::new().await;
    setting.add(&declaration("recuperador:acordo.*", None)).await;
    let queues = work_queues(&setting.queues.store).await.unwrap();
    let Topology { queues, bindings, .. } = setting.queues.layout.topology(&[provider()], &queues);
    let queue = queues.iter().find(|queue| queue.name.as_str() == "t.subscription.crm").unwrap();
    assert!(queue.delivery_limit > 0 && queue.message_ttl.is_none());
    assert_eq!(queue.dead_letter_exchange, Some(setting.queues.layout.dead()));
    let arguments = queue.arguments();
    assert!(arguments.keys().all(|name| !name.starts_with("x-max-length")), "{arguments:?}");
    let keys: Vec<_> = bindings
        .iter()
        .filter(|binding| binding.destination == Destination::Queue(queue.name.clone()))
        .map(|binding| (binding.exchange.as_str(), binding.routing_key.as_str()))
        .collect();
    assert_eq!(keys, [("t.requeue", "t.subscription.crm"), ("t.webhooks.recuperador", "acordo.*")]);
}
