//! Failed, held and returned deliveries.

use super::*;

fn tried(runtime: &mut Runtime, attempts: u32) {
    let change = PolicyChange {
        attempts: Some(attempts),
        delays: Some(vec![crate::RetryDelay::S1]),
        jitter_percent: Some(100),
    };
    runtime.config.policies.insert("orders".to_owned(), change);
}

async fn await_subscriptions(broker: &RecordingBroker, count: usize) {
    let started = Instant::now();
    while broker.subscriptions() < count {
        assert!(started.elapsed() < PATIENCE, "the consumer gives nothing back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_event_whose_originals_come_again_takes_one_chain_of_retries() {
    let setup = setup().await;
    let broker = setup.recording();
    // The first two acks follow the publishes of the first retry and of its second copy.
    broker.lose_acks(2);
    let mut runtime = Runtime { broker: broker.clone(), ..setup.runtime() };
    tried(&mut runtime, 3);
    let consumer = Consumer::new(&BINDINGS, Arc::<Orders>::default(), runtime);
    let running = tokio::spawn(consumer.run(setup.stop.clone()));
    setup.publish(setup.event("hopeless").to_message()).await;

    let mut dead = setup.broker.subscribe(&setup.layout.queue("dead"), 10).await.unwrap();
    let letter = timeout(PATIENCE, dead.next()).await.expect("a dead letter").unwrap().message;
    assert_eq!(letter.long(header::ATTEMPT), Some(3));
    assert_eq!(letter.text(header::RETRY_COPY), None);
    // A second chain would still wait, or be in flight to the consumer or to a dead letter of its own.
    let started = Instant::now();
    while setup.held(&["wait.1s", "orders"]).await > 0 {
        assert!(started.elapsed() < PATIENCE, "a retry is never handled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    setup.stop.cancel();
    running.await.unwrap();
    assert_eq!(setup.held(&["dead"]).await, 1, "the event took more than one chain of retries");
}

#[tokio::test]
async fn what_a_job_sends_again_has_attempts_of_its_own() {
    let setup = setup().await;
    let mut runtime = setup.runtime();
    tried(&mut runtime, 3);
    let handler = Arc::<Orders>::default();
    let _running = tokio::spawn(Consumer::new(&BINDINGS, handler, runtime).run(setup.stop.clone()));
    let mut message = setup.event("hopeless").to_message();
    let mut dead = setup.broker.subscribe(&setup.layout.queue("dead"), 10).await.unwrap();
    for job in ["1", "2"] {
        message.headers.insert(header::JOB.to_owned(), job.into());
        setup.publish(message.clone()).await;
        let letter = timeout(PATIENCE, dead.next()).await.expect("a dead letter").unwrap().message;
        assert_eq!((letter.text(header::JOB), letter.long(header::ATTEMPT)), (Some(job), Some(3)));
    }
}

#[tokio::test]
async fn what_cannot_be_put_aside_is_given_back_in_time_and_blocks_no_other() {
    let setup = setup().await;
    let broker = setup.recording();
    broker.answer(Answer::Refuse);
    let mut runtime = Runtime { broker: broker.clone(), ..setup.runtime() };
    runtime.config.hold_ms = 200;
    let consumer = Consumer::new(&BINDINGS, Arc::<Orders>::default(), runtime);
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    setup.publish(setup.event("permanent").to_message()).await;
    await_subscriptions(&broker, 3).await;
    setup.publish(setup.event("good").to_message()).await;
    setup.has_effects("good", 1).await;
    broker.answer(Answer::Confirm);
    let dead = setup.dead_letters(1).await;
    assert_eq!(dead["permanent"].long(header::ATTEMPT), Some(1));
}

#[tokio::test]
async fn a_batch_that_does_not_get_through_in_time_is_given_back_bit_by_bit() {
    struct Slow;
    #[async_trait]
    impl Handler for Slow {
        type Fact = ();

        fn read(&self, _: &Event) -> Result<(), Permanent> {
            Ok(())
        }

        async fn write(&self, facts: &[(&Event, &())], _: &mut Tx) -> Result<Vec<Announcement>, Failure> {
            tokio::time::sleep(Duration::from_millis(50)).await;
            match facts.len() {
                1 => Ok(Vec::new()),
                _ => Err(Failure::Transient("too many".into())),
            }
        }
    }
    let setup = setup().await;
    for n in 0..40 {
        setup.publish(setup.event(&format!("slow-{n}")).to_message()).await;
    }
    let broker = setup.recording();
    let mut runtime = Runtime { broker: broker.clone(), ..setup.runtime() };
    runtime.config.hold_ms = 100;
    let running = tokio::spawn(Consumer::new(&BINDINGS, Arc::new(Slow), runtime).run(setup.stop.clone()));
    await_subscriptions(&broker, 2).await;
    let started = Instant::now();
    while setup.claims().await < 40 {
        assert!(started.elapsed() < PATIENCE, "{} of 40 events got through", setup.claims().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setup.stop.cancel();
    running.await.unwrap();
    assert_eq!(setup.ready("dead").await + setup.ready("orders").await, 0);
}
