//! Many queues, and fewer: what idle ones cost, and what a deleted one leaves.

use super::*;
use crate::embedded::queue::{Incoming, Limit};

/// Declares this many queues that nobody uses, beside `work`, and one with a time to live that leads to it.
fn declare_idle(file: &File, state: &mut BrokerState, now: i64, idle: usize) {
    let wait = Queue {
        message_ttl: Some(Duration::from_secs(60)),
        dead_letter_exchange: Some(ExchangeName::default_exchange()),
        ..queue("wait")
    };
    let idle = (0..idle).map(|n| Queue { name: QueueName::new(format!("idle.{n}")), ..queue("") });
    let queues = [queue("work"), wait].into_iter().chain(idle).collect();
    let delay = Exchange { name: ExchangeName::new("delay"), kind: ExchangeKind::Fanout, alternate: None };
    let binding = Binding {
        exchange: delay.name.clone(),
        destination: Destination::Queue(QueueName::new("wait")),
        routing_key: String::new(),
    };
    let topology = Topology { exchanges: vec![delay], queues, bindings: vec![binding] };
    state.declare(file, now, &topology).unwrap().unwrap();
}

/// What a cycle does after its commands; when the next message expires, and whether there may be more to do.
fn finish_cycle(file: &File, state: &mut BrokerState, now: i64) -> (Option<i64>, bool) {
    let mut more = state.expire(file, now).unwrap();
    more |= state.hand_out(file, now).unwrap();
    (state.settle(file).unwrap(), more)
}

/// How often queues are looked at while a message waits, is delivered and is acked, beside so many idle queues.
fn looks(idle: usize) -> usize {
    let directory = TempDir::new().unwrap();
    let file = File::open(&directory.path().join("broker.db")).unwrap();
    let mut state = BrokerState::load(&file, 0).unwrap();
    declare_idle(&file, &mut state, 0, idle);
    let (sender, mut deliveries) = unbounded_channel();
    let consumer = Consumer::new(1, Limit::new(10, usize::MAX), sender);
    state.subscribe(&QueueName::new("work"), consumer).unwrap();
    assert_eq!(finish_cycle(&file, &mut state, 0), (None, false));

    let before = state.looks;
    let properties = properties::write(&message("m"));
    let waiting = Incoming { routing_key: "work", properties: &properties, expiration: None, body: b"{}" };
    state.publish(&file, 0, &ExchangeName::new("delay"), waiting).unwrap().unwrap();
    let (due, _) = finish_cycle(&file, &mut state, 0);
    let due = due.expect("a message waits");
    assert_eq!(finish_cycle(&file, &mut state, due - 1), (Some(due), false));
    assert_eq!(finish_cycle(&file, &mut state, due), (None, false));
    for (consumer, delivery) in state.outbox.drain(..) {
        consumer.send(delivery).unwrap();
    }
    let delivery = deliveries.try_recv().expect("it is delivered once its wait is over");
    state.ack(&file, &QueueName::new("work"), 1, &mut [delivery.id]).unwrap();
    assert_eq!(finish_cycle(&file, &mut state, due), (None, false));
    state.looks - before
}

#[test]
fn idle_queues_are_not_looked_at() {
    let alone = looks(0);
    assert!(alone > 0);
    assert_eq!([looks(100), looks(1_000)], [alone; 2]);
}

#[tokio::test]
async fn a_deleted_queue_leaves_nothing_in_the_file_and_the_others_where_they_are() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    broker.declare(&fan_out()).await.unwrap();
    let wait = Queue {
        message_ttl: Some(Duration::from_millis(200)),
        dead_letter_exchange: Some(ExchangeName::default_exchange()),
        ..queue("wait")
    };
    declare(&broker, &[wait, queue("late")]).await;
    let to_wait = [Binding {
        exchange: ExchangeName::new("both"),
        destination: Destination::Queue(QueueName::new("wait")),
        routing_key: String::new(),
    }];
    let bound = Topology { bindings: to_wait.to_vec(), ..Topology::default() };
    broker.declare(&bound).await.unwrap();
    let mut two = subscribe(&broker, "two").await;
    broker.publish(&ExchangeName::new("both"), "late", message("a")).await.unwrap();
    let a = next(&mut two).await;

    // The first of the queues: another one gets its place in memory.
    assert_eq!(broker.delete_queue(&QueueName::new("one")).await.unwrap(), 1);
    two.ack(&[a.tag]).await.unwrap();
    assert_eq!(next(&mut subscribe(&broker, "late").await).await.message.message_id, "a");
    broker.unbind(&to_wait).await.unwrap();
    broker.publish(&ExchangeName::new("both"), "late", message("b")).await.unwrap();
    let b = next(&mut two).await;
    assert_eq!(b.message.message_id, "b");
    two.ack(&[b.tag]).await.unwrap();
    drop(two);
    assert_eq!(broker.delete_queue(&QueueName::new("late")).await.unwrap(), 1);
    broker.close().await;
    assert_eq!(stored(&directory), 0);

    let broker = open_in(&directory);
    assert!(broker.queues(&[QueueName::new("one")]).await.is_err());
    declare(&broker, &[queue("one")]).await;
    put(&broker, "one", "c").await.unwrap();
    assert_eq!([ready(&broker, "one").await, ready(&broker, "two").await], [1, 0]);
    broker.close().await;
    assert_eq!(stored(&directory), 1);
}
