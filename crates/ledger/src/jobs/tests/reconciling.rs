//! Reconciliations as jobs: large days, kills, cancellations, and events that are in no queue.

use event::Day;

use super::faults::refuse;
use super::*;
use crate::reconcile::tests::aged;
use crate::reconcile::walk::RANGE_ROWS;
use crate::witness::{self, Kept, Witness};
use crate::{Difference, DifferenceFilter, Reconciliation, reconciliation};
use store::many::fetch;

const TEN_MINUTES_S: i64 = 600;

impl Setting {
    async fn reconcile(&self, day: Day) -> Job {
        self.create(&ask(Action::Reconcile, What::Events, json!({ "day": day }))).await
    }

    async fn books(&self, job: &Job) -> Reconciliation {
        reconciliation(&mut self.store.read().await.unwrap(), job.id()).await.unwrap().unwrap()
    }

    async fn differences(&self, job: &Job) -> Vec<Difference> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let mut connection = self.store.read().await.unwrap();
            let filter = DifferenceFilter { id: job.id() };
            let page =
                Difference::page(&mut connection, &filter, &Page { limit: 700, cursor }).await.unwrap();
            all.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return all;
            }
        }
    }

    async fn execute(&self, text: String) {
        let mut tx = self.store.begin().await.unwrap();
        fetch(&mut tx, text, []).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Puts this many handled events of one day straight into the tables; every hundredth is not in the inbox. The day.
    async fn fill(&self, rows: i64) -> Day {
        let zone = Zone::default();
        let day: Day = "2026-10-20".parse().unwrap();
        let start = zone.bounds(day).start.as_millisecond();
        // As many per millisecond as fit into the day.
        let id = format!("unhex(printf('%012x', {start} + n) || printf('70008000%012x', n))");
        let numbers = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {rows})"
        );
        let origin =
            "INSERT INTO origins (id, source, provider, topic) VALUES (1, 'go', 'gestao-online', 'ORDER')";
        self.execute(origin.to_owned()).await;
        self.execute(format!(
            "INSERT INTO events (id, origin, received_at, consumers, content_type, repaired, headers, body) {numbers} \
             SELECT {id}, 1, ({start} + n) * 1000, 'orders', '', 0, '{{}}', x'' FROM numbers"
        ))
        .await;
        self.execute(format!(
            "INSERT INTO claims (event_id, consumer, handled_at) {numbers} SELECT {id}, 'orders', 0 FROM numbers \
             WHERE n % 100 <> 7"
        ))
        .await;
        day
    }
}

/// The console is killed midway; each event is still counted once and each difference listed once.
#[tokio::test]
async fn a_large_day_is_gone_through_in_ranges_also_when_its_console_is_killed() {
    const ROWS: i64 = 100_000;
    let setting = setting().await;
    let day = setting.fill(ROWS).await;
    let job = setting.reconcile(day).await;
    let first = setting.run();
    let progress =
        async || show(&mut setting.store.read().await.unwrap(), job.id()).await.unwrap().unwrap().progress;
    let started = Instant::now();
    while progress().await < 3 * RANGE_ROWS {
        assert!(started.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    first.abort();
    let _ = first.await;
    let before = progress().await;
    assert!(before < ROWS && before % RANGE_ROWS == 0, "{before}");
    setting.execute("UPDATE jobs SET lease_until = 0".to_owned()).await;
    let running = setting.run();
    let ended = setting.ended(&job).await;
    running.abort();
    assert_eq!((ended.state, ended.progress, ended.total, ended.sent), (JobState::Done, ROWS, ROWS, 0));
    assert_eq!(ended.trouble, "1000 differences");
    let books = setting.books(&job).await;
    let [of_go] = books.sources.as_slice() else { panic!("{books:?}") };
    assert_eq!((of_go.received, of_go.handled, of_go.unaccounted), (ROWS, ROWS - ROWS / 100, ROWS / 100));
    assert_eq!((books.balanced, books.differences), (false, ROWS / 100));
    let listed = setting.differences(&job).await;
    let ids: std::collections::BTreeSet<_> =
        listed.iter().map(|found| found.event_id.clone().unwrap()).collect();
    assert_eq!((listed.len(), ids.len()), (1_000, 1_000));
    assert!(listed.iter().all(|found| found.kind == "unaccounted" && found.sent_at.is_none()));
    // Earlier passes leave nothing behind.
    let count = "SELECT count(*) FROM differences".to_owned();
    let kept = fetch(&mut setting.store.read().await.unwrap(), count, []).await.unwrap();
    assert_eq!(kept[0].get::<i64, _>(0), 1_000);
}

#[tokio::test]
async fn a_reconciliation_ends_when_it_is_cancelled() {
    let setting = setting().await;
    let day = setting.fill(20 * RANGE_ROWS).await;
    let job = setting.reconcile(day).await;
    let running = setting.run();
    let shown = async || show(&mut setting.store.read().await.unwrap(), job.id()).await.unwrap().unwrap();
    let started = Instant::now();
    while shown().await.progress == 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    assert_eq!(cancel(&setting.store, job.id()).await.unwrap().unwrap().state, JobState::Cancelled);
    // The lane is free: the next job ends.
    let next = setting.reconcile("2026-10-01".parse().unwrap()).await;
    assert_eq!(setting.ended(&next).await.state, JobState::Done);
    running.abort();
    let cancelled = shown().await;
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert!(cancelled.progress < 20 * RANGE_ROWS, "{cancelled:?}");
    assert!(!setting.books(&job).await.balanced);
}

#[tokio::test]
async fn a_long_replay_keeps_no_day_from_being_reconciled() {
    let setting = setting().await;
    setting.record_foreign().await;
    setting.run();
    let stuck = setting.create(&ask(Action::Replay, What::Events, json!({"source": "rec"}))).await;
    setting.job_is(&stuck, |job| !job.trouble.is_empty()).await;
    let job = setting.reconcile("2026-10-01".parse().unwrap()).await;
    assert_eq!(setting.ended(&job).await.state, JobState::Done);
    assert_eq!(setting.shown(&stuck).await.state, JobState::Running);
}

#[tokio::test]
async fn an_event_that_only_the_ledger_has_is_sent_to_the_consumer_that_owes_it_and_on_record() {
    let setting = setting().await;
    let lost = aged(event("ORDER"), TEN_MINUTES_S);
    let ledger = setting.layout.queue(broker::FixedQueue::Ledger);
    setting
        .broker
        .publish(&broker::ExchangeName::default_exchange(), ledger.as_str(), lost.to_message())
        .await
        .unwrap();
    setting.all_in_state(1, EventState::Pending).await;
    setting.run();
    let job = setting.ended(&setting.reconcile(Zone::default().day(lost.time)).await).await;
    assert_eq!((job.state, job.sent, job.trouble.as_str()), (JobState::Done, 1, ""));
    assert_eq!(setting.handled(), 1);
    let books = setting.books(&job).await;
    assert_eq!((books.balanced, books.sent, books.differences), (true, 1, 0));
    assert_eq!((books.sources[0].received, books.sources[0].handled, books.sources[0].pending), (1, 1, 0));
    let [found] = setting.differences(&job).await.try_into().unwrap();
    assert_eq!((found.kind.as_str(), found.event_id), ("pending, in no queue", Some(lost.id.to_string())));
    assert!(found.sent_at.is_some());
    // It was in its queue all the time and is sent again: it has its effect once.
    let again = setting.ended(&setting.reconcile(Zone::default().day(lost.time)).await).await;
    assert_eq!((again.state, again.sent), (JobState::Done, 0));
    let orders = setting.layout.queue("orders");
    setting
        .broker
        .publish(&broker::ExchangeName::default_exchange(), orders.as_str(), lost.to_message())
        .await
        .unwrap();
    setting.publish(&[event("ORDER")]).await;
    setting.all_in_state(2, EventState::Handled).await;
    assert_eq!(setting.handled(), 2);
}

#[tokio::test]
async fn what_its_queue_does_not_take_stays_a_difference_and_keeps_no_other_waiting() {
    let setting = setting().await;
    let lost = [aged(event("ORDER"), TEN_MINUTES_S), aged(event("ORDER"), TEN_MINUTES_S)];
    let recorder = crate::record::Events { consumers: vec![ORDERS] };
    let messages = lost.each_ref().map(Event::to_message);
    let mut tx = setting.store.begin().await.unwrap();
    consumer::Recorder::record(&recorder, &messages.each_ref(), &mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let broker = setting.recording();
    refuse(&broker, lost[0].id);
    tokio::spawn(Runner { broker, ..setting.runner() }.run(setting.stop.clone()));
    let job = setting.ended(&setting.reconcile(Zone::default().day(lost[0].time)).await).await;
    assert_eq!((job.state, job.sent, job.trouble.as_str()), (JobState::Done, 1, "1 difference"));
    let details: Vec<String> =
        setting.differences(&job).await.into_iter().map(|found| found.detail).collect();
    assert!(
        details.contains(
            &"pending, and its queue does not accept it: the broker refused the message".to_owned()
        ),
        "{details:?}"
    );
    assert_eq!(setting.handled(), 1);
}

#[tokio::test]
async fn an_event_that_only_a_consumer_has_is_told_and_reaches_the_ledger_from_there() {
    let setting = setting().await;
    let lost = aged(event("ORDER"), TEN_MINUTES_S);
    let kept = Kept::default();
    let witness = Witness::new("orders", kept.clone());
    let mut tx = setting.store.begin().await.unwrap();
    store::inbox::claim(&mut tx, "orders", &[lost.id], event::now()).await.unwrap();
    consumer::Handler::write(&*setting.orders, &[(&lost, &())], &mut tx).await.unwrap();
    tx.commit().await.unwrap();
    consumer::Observer::observe(&witness, &[&lost]);
    setting.run();
    let day = Zone::default().day(lost.time);
    let job = setting.ended(&setting.reconcile(day).await).await;
    assert_eq!(setting.differences(&job).await[0].kind, "handled, not recorded");
    let (store, broker) = (&setting.store, &setting.broker);
    witness::send_unrecorded(&kept.take_older(Duration::ZERO), store, broker, &setting.layout).await.unwrap();
    setting.all_in_state(1, EventState::Handled).await;
    let job = setting.ended(&setting.reconcile(day).await).await;
    let books = setting.books(&job).await;
    assert_eq!((books.balanced, books.sources[0].handled, setting.handled()), (true, 1, 1));
}

#[tokio::test]
async fn an_event_that_came_in_lately_or_waits_in_its_queue_is_left_alone() {
    let setting = setting().await;
    setting.stop.cancel();
    let waiting = aged(event("ORDER"), TEN_MINUTES_S);
    let recorder = crate::record::Events { consumers: vec![ORDERS] };
    let mut tx = setting.store.begin().await.unwrap();
    for event in [&waiting, &event("ORDER")] {
        consumer::Recorder::record(&recorder, &[&event.to_message()], &mut tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let orders = setting.layout.queue("orders");
    setting
        .broker
        .publish(&broker::ExchangeName::default_exchange(), orders.as_str(), waiting.to_message())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(setting.runner().run(stop.clone()));
    for day in ["today", "yesterday"] {
        let job = setting.create(&ask(Action::Reconcile, What::Events, json!({ "day": day }))).await;
        let job = setting.ended(&job).await;
        assert_eq!((job.state, job.sent, job.trouble.as_str()), (JobState::Done, 0, ""), "{day}");
    }
    stop.cancel();
    let depth = setting.broker.queues(&[orders]).await.unwrap()[0].ready;
    assert_eq!(depth, 1);
}

#[tokio::test]
async fn what_waits_for_a_configured_retry_is_not_sent_again() {
    let setting = setting().await;
    // Longer ago than all declared waits together, but not than three waits of a day.
    let declared: Duration = DEFAULT_RETRY.iter().map(|delay| delay.duration()).sum();
    let waiting = aged(event("ORDER"), i64::try_from(declared.as_secs()).unwrap() + TEN_MINUTES_S);
    let recorder = crate::record::Events { consumers: vec![ORDERS] };
    let mut tx = setting.store.begin().await.unwrap();
    consumer::Recorder::record(&recorder, &[&waiting.to_message()], &mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let exchange = setting.layout.retry_exchange(consumer::RetryDelay::H24);
    setting.broker.publish(&exchange, "orders", waiting.to_message()).await.unwrap();
    let day = json!({ "day": Zone::default().day(waiting.time) });
    for (delays, expect) in [(vec![consumer::RetryDelay::H24; 3], 0), (DEFAULT_RETRY.to_vec(), 1)] {
        let change = PolicyChange { delays: Some(delays), ..PolicyChange::default() };
        let stop = CancellationToken::new();
        let policies = [("orders".to_owned(), change)].into();
        let running = tokio::spawn(Runner { policies, ..setting.runner() }.run(stop.clone()));
        let job = setting.create(&ask(Action::Reconcile, What::Events, day.clone())).await;
        assert_eq!(setting.ended(&job).await.sent, expect);
        stop.cancel();
        running.await.unwrap();
    }
}

#[tokio::test]
async fn a_reconciliation_tells_what_it_cannot_take() {
    let check = |filter: serde_json::Value, expect: &str| {
        let printed =
            ask(Action::Reconcile, What::Events, filter).check(&["orders"]).unwrap_err().to_string();
        assert!(printed.starts_with(expect), "{printed}");
    };
    check(json!({"source": "go"}), "filter: there is no \"source\"; expected one of day");
    check(
        json!({"day": "tomorrow"}),
        "filter.day: expected a day such as 2026-11-24, got \"tomorrow\"; or today",
    );
    let wrong = ask(Action::Reconcile, What::Dead, json!({})).check(&["orders"]).unwrap_err().to_string();
    assert_eq!(wrong, "what: events are reconciled");
}
