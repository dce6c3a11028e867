//! Jobs under faults: a broker that is down, a killed console, a letter that dies again before it is marked.

use broker::test_support::{Answer, RecordingBroker};

use super::super::selection::Selection;
use super::*;

impl Setting {
    pub(super) fn recording(&self) -> Arc<RecordingBroker> {
        RecordingBroker::in_front_of(self.broker.clone())
    }

    /// A broker that stores messages and does not confirm them by itself.
    fn unconfirmed(&self) -> Arc<RecordingBroker> {
        let broker = self.recording();
        broker.answer(Answer::Hold);
        broker
    }

    pub(super) async fn shown(&self, job: &Job) -> Job {
        show(&mut self.store.read().await.unwrap(), job.id()).await.unwrap().unwrap()
    }

    /// Waits until a job is as it should be.
    pub(super) async fn job_is(&self, job: &Job, is: impl Fn(&Job) -> bool) -> Job {
        let started = Instant::now();
        loop {
            let job = self.shown(job).await;
            if is(&job) {
                return job;
            }
            assert!(started.elapsed() < PATIENCE, "{job:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn handled_are(&self, count: usize) {
        let started = Instant::now();
        while self.handled() != count {
            assert!(started.elapsed() < PATIENCE, "{} of {count}", self.handled());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn open_letters(&self) -> Vec<crate::DeadRow> {
        let mut connection = self.store.read().await.unwrap();
        DeadRow::page(&mut connection, &DeadFilter::default(), &Page::first(10)).await.unwrap().items
    }

    async fn open_letters_are(&self, count: usize) {
        let started = Instant::now();
        while self.open_letters().await.len() != count {
            assert!(started.elapsed() < PATIENCE, "{:?}", self.open_letters().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn history_of(&self, id: EventId) -> usize {
        let letters = show_dead(&mut self.store.read().await.unwrap(), id).await.unwrap();
        letters[0].history.as_array().unwrap().len()
    }

    /// An event on record whose provider's exchanges the broker does not know.
    pub(super) async fn record_foreign(&self) -> Event {
        let foreign = Event { source: Source::parse("/recuperador/rec").unwrap(), ..event("acordo.quitado") };
        let mut tx = self.store.begin().await.unwrap();
        let recorder = crate::record::Events { consumers: vec![ORDERS] };
        consumer::Recorder::record(&recorder, &[&foreign.to_message()], &mut tx).await.unwrap();
        tx.commit().await.unwrap();
        foreign
    }
}

/// From now on the broker refuses this event, and nothing else.
pub(super) fn refuse(broker: &RecordingBroker, id: EventId) {
    let id = id.to_string();
    broker.refuse(move |published| published.message.message_id == id);
}

#[tokio::test]
async fn a_job_never_goes_through_what_it_sent_itself() {
    let setting = setting().await;
    let job = EventId::generate();
    let before = event("ORDER");
    // The least id that the job may give: those that it derives lie anywhere in its millisecond.
    let least = format!("{}-7000-8000-000000000000", &job.to_string()[..13]);
    let own = Event { id: least.parse().unwrap(), replay_of: Some(before.id), ..event("ORDER") };
    let mut older = before.clone();
    older.id = format!("{}-7000-8000-000000000000", crate::events::id_at(event::now(), -60)).parse().unwrap();
    setting.publish(&[older, own]).await;
    setting.all_in_state(2, EventState::Handled).await;
    let selection = Selection::new(What::Events, &json!({})).unwrap();
    let mut connection = setting.store.read().await.unwrap();
    assert_eq!(selection.count(&mut connection, job).await.unwrap(), 1);
}

#[tokio::test]
async fn a_job_waits_for_the_broker_and_says_so_and_goes_on_where_it_was() {
    let setting = setting().await;
    setting.record_foreign().await;
    setting.run();
    let job = setting.create(&ask(Action::Replay, What::Events, json!({"source": "rec"}))).await;
    let waiting = setting.job_is(&job, |job| !job.trouble.is_empty()).await;
    assert_eq!((waiting.state, waiting.progress, waiting.sent), (JobState::Running, 0, 0));
    assert!(waiting.trouble.contains("exchange received.recuperador does not exist"), "{}", waiting.trouble);
    let provider = event::ProviderName::new("recuperador").unwrap();
    setting.broker.declare(&setting.layout.topology(&[provider], &[])).await.unwrap();
    let done = setting.ended(&job).await;
    assert_eq!((done.state, done.progress, done.sent, done.trouble.as_str()), (JobState::Done, 1, 1, ""));
}

#[tokio::test]
async fn a_job_that_waits_for_the_broker_can_be_cancelled_and_the_next_one_begins() {
    let setting = setting().await;
    setting.record_foreign().await;
    setting.publish(&[event("ORDER")]).await;
    setting.all_in_state(1, EventState::Routed).await;
    setting.all_in_state(1, EventState::Handled).await;
    setting.run();
    let stuck = setting.create(&ask(Action::Replay, What::Events, json!({"source": "rec"}))).await;
    let next = setting.create(&ask(Action::Replay, What::Events, json!({"source": "go"}))).await;
    setting.job_is(&stuck, |job| !job.trouble.is_empty()).await;
    cancel(&setting.store, stuck.id()).await.unwrap().unwrap();
    assert_eq!(setting.ended(&next).await.state, JobState::Done);
    let provider = event::ProviderName::new("recuperador").unwrap();
    setting.broker.declare(&setting.layout.topology(&[provider], &[])).await.unwrap();
    let stuck = setting.shown(&stuck).await;
    assert_eq!((stuck.state, stuck.progress, stuck.sent), (JobState::Cancelled, 0, 0));
}

#[tokio::test]
async fn a_console_killed_between_publishing_and_marking_leaves_no_effect_twice_and_none_out() {
    let setting = setting().await;
    let events: Vec<_> = (0..20).map(|_| event("ORDER")).collect();
    setting.publish(&events).await;
    setting.all_in_state(20, EventState::Handled).await;
    let again = NewJob { again: true, ..ask(Action::Replay, What::Events, json!({"source": "go"})) };
    let job = setting.create(&again).await;
    let killed = Runner { broker: setting.unconfirmed(), ..setting.runner() };
    let killed = tokio::spawn(killed.run(setting.stop.clone()));
    setting.handled_are(40).await;
    killed.abort();
    let _ = killed.await;
    assert_eq!(setting.shown(&job).await.progress, 0);
    let mut tx = setting.store.begin().await.unwrap();
    sql::query("UPDATE jobs SET lease_until = 0").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    setting.run();
    let job = setting.ended(&job).await;
    assert_eq!((job.state, job.total, job.progress, job.sent), (JobState::Done, 20, 20, 20));
    // Behind what was sent a second time.
    setting.publish(&[event("ORDER")]).await;
    setting.all_in_state(41, EventState::Handled).await;
    assert_eq!(setting.handled(), 41);
}

#[tokio::test]
async fn a_refused_message_is_tried_again_without_those_of_its_batch_that_are_confirmed() {
    let setting = setting().await;
    let events: Vec<_> = (0..3).map(|_| event("ORDER")).collect();
    setting.publish(&events).await;
    setting.all_in_state(3, EventState::Handled).await;
    let broker = setting.recording();
    let times = |id: EventId| broker.tries(|published| published.message.message_id == id.to_string());
    refuse(&broker, events[1].id);
    tokio::spawn(Runner { broker: broker.clone(), ..setting.runner() }.run(setting.stop.clone()));
    let job = setting.create(&ask(Action::Replay, What::Events, json!({"source": "go"}))).await;
    let started = Instant::now();
    while times(events[1].id) < 3 {
        assert!(started.elapsed() < PATIENCE, "the refused one is not tried again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(setting.shown(&job).await.trouble.contains("refused"));
    broker.refuse(|_| false);
    let job = setting.ended(&job).await;
    assert_eq!((job.state, job.progress, job.sent, job.trouble.as_str()), (JobState::Done, 3, 3, ""));
    assert_eq!((times(events[0].id), times(events[2].id)), (1, 1));
}

#[tokio::test]
async fn a_second_console_leaves_a_job_alone_while_the_first_works_on_it() {
    let setting = setting().await;
    setting.publish(&[event("ORDER")]).await;
    setting.all_in_state(1, EventState::Handled).await;
    let job = setting.create(&ask(Action::Replay, What::Events, json!({}))).await;
    let held = setting.unconfirmed();
    let stop = CancellationToken::new();
    let first = tokio::spawn(Runner { broker: held.clone(), ..setting.runner() }.run(stop.clone()));
    setting.job_is(&job, |job| job.state == JobState::Running).await;
    let now = event::now();
    let soon = now + Duration::from_secs(1);
    assert_eq!(table::take(&setting.store, table::Lane::Sending, "another", now, soon).await.unwrap(), None);
    let late = now + Duration::from_secs(60);
    assert!(
        table::take(&setting.store, table::Lane::Sending, "another", late, late).await.unwrap().is_some()
    );
    // The first finds out before it writes anything down.
    held.confirm(1);
    stop.cancel();
    first.await.unwrap();
    assert_eq!(setting.shown(&job).await.progress, 0);
}

#[tokio::test]
async fn a_letter_that_dies_again_before_it_is_marked_is_open_and_one_that_is_handled_is_not() {
    for fails_again in [true, false] {
        let setting = setting().await;
        *setting.orders.failing.lock().unwrap() = true;
        let event = event("ORDER");
        setting.publish(std::slice::from_ref(&event)).await;
        setting.open_letters_are(1).await;
        *setting.orders.failing.lock().unwrap() = fails_again;
        let job = setting.create(&ask(Action::Retry, What::Dead, json!({}))).await;
        let held = setting.unconfirmed();
        tokio::spawn(Runner { broker: held.clone(), ..setting.runner() }.run(setting.stop.clone()));
        if fails_again {
            let started = Instant::now();
            while setting.history_of(event.id).await < 2 {
                assert!(started.elapsed() < PATIENCE);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } else {
            setting.handled_are(1).await;
        }
        held.confirm(1);
        let job = setting.ended(&job).await;
        assert_eq!((job.progress, job.sent), (1, 1));
        assert_eq!(setting.open_letters().await.len(), usize::from(fails_again));
        let state = if fails_again { EventState::Dead } else { EventState::Handled };
        assert_eq!(setting.in_state(state).await, 1);
    }
}

#[tokio::test]
async fn a_letter_that_is_no_event_or_of_nobody_stays_open_and_the_job_says_why() {
    let setting = setting().await;
    let mut foreign = event("ORDER").to_message();
    foreign.message_id = "7".to_owned();
    let nobodys = event("ORDER").to_message();
    for (mut message, consumer) in [(foreign, "orders"), (nobodys, "gone")] {
        message.headers.insert(header::CONSUMER.to_owned(), consumer.into());
        message.headers.insert(header::ERROR.to_owned(), "no".into());
        message.headers.insert(header::GIVEN_UP_AT.to_owned(), event::now().to_string().into());
        setting.broker.publish(&setting.layout.dead(), "", message).await.unwrap();
    }
    setting.open_letters_are(2).await;
    let before = setting.open_letters().await;
    setting.run();
    let job = setting.ended(&setting.create(&ask(Action::Retry, What::Dead, json!({}))).await).await;
    assert_eq!((job.state, job.progress, job.sent), (JobState::Done, 2, 0), "{job:?}");
    assert!(job.trouble.starts_with("2 not sent: "), "{}", job.trouble);
    // Behind whatever was sent.
    setting.publish(&[event("ORDER")]).await;
    setting.handled_are(1).await;
    assert_eq!(setting.open_letters().await, before);
}

#[tokio::test]
async fn what_was_discarded_and_is_sent_again_after_all_is_discarded_no_more() {
    let setting = setting().await;
    *setting.orders.failing.lock().unwrap() = true;
    setting.publish(&[event("ORDER"), event("NOBODYS")]).await;
    setting.all_in_state(1, EventState::Dead).await;
    setting.all_in_state(1, EventState::Unrouted).await;
    setting.run();
    for what in [What::Dead, What::Unrouted] {
        setting.ended(&setting.create(&ask(Action::Discard, what, json!({}))).await).await;
    }
    assert_eq!(setting.in_state(EventState::Discarded).await, 2);
    *setting.orders.failing.lock().unwrap() = false;
    let to = NewJob {
        to_consumer: Some("orders".to_owned()),
        ..ask(Action::Replay, What::Events, json!({"state": "discarded"}))
    };
    assert_eq!(setting.ended(&setting.create(&to).await).await.sent, 2);
    setting.all_in_state(2, EventState::Handled).await;
}

#[tokio::test]
async fn marks_whose_events_are_not_recorded_do_not_end_a_job_before_the_others() {
    let setting = setting().await;
    // More than a job processes at once, and all before the recorded one.
    let lost: Vec<_> = (0..250).map(|_| event("NOBODYS")).collect();
    let mut tx = setting.store.begin().await.unwrap();
    let messages: Vec<_> = lost.iter().map(Event::to_message).collect();
    let messages: Vec<_> = messages.iter().collect();
    consumer::Recorder::record(&crate::record::Unrouted, &messages, &mut tx).await.unwrap();
    tx.commit().await.unwrap();
    setting.publish(&[event("NOBODYS")]).await;
    setting.all_in_state(1, EventState::Unrouted).await;
    let job = setting.create(&ask(Action::Retry, What::Unrouted, json!({}))).await;
    setting.run();
    let job = setting.ended(&job).await;
    assert_eq!((job.state, job.total, job.progress, job.sent), (JobState::Done, 251, 251, 1));
    assert!(job.trouble.starts_with("250 not sent: the ledger has not recorded"), "{}", job.trouble);
    // The recorded one comes back, still unrouted. Discarding needs no event.
    setting.all_in_state(1, EventState::Unrouted).await;
    let job = setting.ended(&setting.create(&ask(Action::Discard, What::Unrouted, json!({}))).await).await;
    assert_eq!((job.state, job.total, job.progress, job.sent), (JobState::Done, 251, 251, 251), "{job:?}");
}
