//! Dead letters of queues that other services read.

use broker::layout::WorkQueue;

use super::*;

/// The queue of a subscription, whose messages may come back once.
async fn declare_theirs(setting: &Setting) -> broker::QueueName {
    let consumer = Layout::subscriber(&event::SubscriptionName::new("crm").unwrap());
    let topics = vec![(event("THEIRS").source.provider, "THEIRS".to_owned())];
    let mut topology = setting.layout.work_topology(&WorkQueue { consumer, topics });
    topology.queues[0].delivery_limit = 1;
    setting.broker.declare(&topology).await.unwrap();
    topology.queues[0].name.clone()
}

/// Reads the queue with a service that crashes, until its broker and the record give the message up.
async fn crash(setting: &Setting, queue: &broker::QueueName) {
    // As often as the limit allows, and as often again alone.
    for _ in 0..4 {
        let mut deliveries = setting.broker.subscribe(queue, 1).await.unwrap();
        timeout(PATIENCE, deliveries.next()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_letter_of_another_service_goes_back_to_its_queue_and_its_outcome_there_is_unknown() {
    let setting = setting().await;
    let queue = declare_theirs(&setting).await;
    setting.publish(&[event("THEIRS")]).await;
    setting.all_in_state(1, EventState::Routed).await;
    crash(&setting, &queue).await;
    setting.all_in_state(1, EventState::Dead).await;
    let letters = async || {
        let mut connection = setting.store.read().await.unwrap();
        let filter = DeadFilter { consumer: Some("subscription.crm".to_owned()), ..DeadFilter::default() };
        DeadRow::page(&mut connection, &filter, &Page::first(10)).await.unwrap().items
    };
    let filed = letters().await;
    assert_eq!(filed.len(), 1);
    assert!(filed[0].error.contains("tried alone"), "{}", filed[0].error);

    setting.run();
    let retry = ask(Action::Retry, What::Dead, json!({"consumer": "subscription.crm"}));
    let job = setting.ended(&setting.create(&retry).await).await;
    assert_eq!((job.sent, job.trouble.as_str()), (1, ""));
    assert_eq!(letters().await, []);
    for (state, count) in
        [(EventState::Routed, 1), (EventState::Dead, 0), (EventState::Pending, 0), (EventState::Handled, 0)]
    {
        assert_eq!(setting.in_state(state).await, count, "{state:?}");
    }

    // Given up again, it is open again.
    crash(&setting, &queue).await;
    setting.all_in_state(1, EventState::Dead).await;
    setting.broker.delete_queue(&queue).await.unwrap();
    let job = setting.ended(&setting.create(&retry).await).await;
    assert_eq!((job.sent, job.trouble.as_str()), (0, "1 not sent: there is no consumer subscription.crm"));
    assert_eq!(letters().await.len(), 1);
}
