//! Edits over a broker, with the consumer at work.

use broker::test_support::{Answer, RecordingBroker};

use super::*;

impl Setting {
    fn editor(&self) -> Editor {
        let check: CheckEdit = Arc::new(|event, _| Ok(event));
        Editor { store: self.store.clone(), consumers: vec![ORDERS], check }
    }

    async fn dead_letter(&self) -> Event {
        let original = event("ORDER");
        *self.orders.failing.lock().unwrap() = true;
        self.publish(std::slice::from_ref(&original)).await;
        self.all_in_state(1, EventState::Dead).await;
        *self.orders.failing.lock().unwrap() = false;
        original
    }
}

fn edit_of(original: &Event) -> NewEdit {
    NewEdit {
        event_id: original.id,
        consumer: "orders".to_owned(),
        body: r#"{"a": 2}"#.into(),
        reason: "a was wrong".to_owned(),
        to_all: false,
        requested_by: "maria".to_owned(),
    }
}

fn sent_by(job: &Job) -> EventId {
    job.filter["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_edited_event_is_handled_once_and_its_original_never_whatever_sends_it() {
    let setting = setting().await;
    let original = setting.dead_letter().await;
    let job = setting.editor().edit(&edit_of(&original)).await.unwrap();
    setting.run();
    let job = setting.ended(&job).await;
    assert_eq!((job.state, job.sent, job.trouble.as_str()), (JobState::Done, 1, ""));
    setting.all_in_state(1, EventState::Handled).await;
    // The original comes again: redelivered, and replayed.
    setting.publish(std::slice::from_ref(&original)).await;
    let replay = ask(Action::Replay, What::Events, json!({"id": original.id}));
    assert_eq!(setting.ended(&setting.create(&replay).await).await.sent, 1);
    setting.publish(&[event("ORDER")]).await;
    setting.all_in_state(2, EventState::Handled).await;
    let handled = setting.orders.handled.lock().unwrap().clone();
    assert_eq!((handled.len(), handled[0]), (2, sent_by(&job)));
    assert!(!handled.contains(&original.id));
    let outcome = outcome(&mut setting.store.read().await.unwrap(), job.id()).await.unwrap().unwrap();
    assert_eq!((outcome.sent, outcome.settled), (1, 1));
}

#[tokio::test]
async fn an_edit_is_sent_once_though_its_console_ends_before_the_broker_confirms() {
    let setting = setting().await;
    let original = setting.dead_letter().await;
    let broker = RecordingBroker::in_front_of(setting.broker.clone());
    broker.answer(Answer::Hold);
    let killed = Runner { broker: broker.clone(), ..setting.runner() };
    let killed = tokio::spawn(killed.run(CancellationToken::new()));
    let job = setting.editor().edit(&edit_of(&original)).await.unwrap();
    // The broker has it, and the consumer handles it; the console does not learn that.
    setting.all_in_state(1, EventState::Handled).await;
    killed.abort();
    let mut tx = setting.store.begin().await.unwrap();
    sql::assembled("UPDATE jobs SET lease_until = 0".to_owned()).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    setting.run();
    let job = setting.ended(&job).await;
    assert_eq!((job.state, job.sent), (JobState::Done, 1));
    setting.publish(&[event("ORDER")]).await;
    setting.all_in_state(2, EventState::Handled).await;
    let handled = setting.orders.handled.lock().unwrap().clone();
    assert_eq!((handled.len(), handled[0]), (2, sent_by(&job)));
}

#[tokio::test]
async fn an_edited_event_that_dies_again_is_edited_again_and_stands_where_the_first_stood() {
    let setting = setting().await;
    let original = setting.dead_letter().await;
    setting.run();
    *setting.orders.failing.lock().unwrap() = true;
    let first = setting.ended(&setting.editor().edit(&edit_of(&original)).await.unwrap()).await;
    let first = Event { id: sent_by(&first), ..original.clone() };
    setting.all_in_state(1, EventState::Dead).await;
    *setting.orders.failing.lock().unwrap() = false;
    let again = NewEdit { body: r#"{"a": 3}"#.into(), ..edit_of(&first) };
    let second = setting.ended(&setting.editor().edit(&again).await.unwrap()).await;
    setting.all_in_state(1, EventState::Handled).await;
    let shown =
        crate::show(&mut setting.store.read().await.unwrap(), sent_by(&second)).await.unwrap().unwrap();
    assert_eq!(shown.replay_of, Some(original.id.to_string()));
    assert_eq!(shown.replaces, Some(first.id.to_string()));
    assert_eq!(setting.in_state(EventState::Discarded).await, 2);
}
