//! What an edit of a dead letter promises.

use std::sync::Arc;

use consumer::{Failure, Recorder};
use event::{Event, EventId, Zone, header};
use store::{Page, Store, inbox};
use view::Row;

use super::{BINDINGS, message, record};
use crate::jobs::{
    self, Action, CheckEdit, EditError, Editor, Job, JobFilter, NewEdit, NewJob, StillUnusable, What,
};
use crate::record::DeadLetters;
use crate::{ConsumerState, DeadFilter, DeadRow, EventFilter, EventRow, EventState, show, show_dead};

fn editor(store: &Store) -> Editor {
    // Bodies that begin with `{` are read.
    let check: CheckEdit = Arc::new(|event: Event, _: &[&str]| match event.data.first() {
        Some(b'{') => Ok(event),
        _ => Err(StillUnusable::Body("/: expected an object".into())),
    });
    Editor { store: store.clone(), consumers: vec![BINDINGS], check }
}

fn new(event: &Event, body: &'static str) -> NewEdit {
    NewEdit {
        event_id: event.id,
        consumer: BINDINGS.consumer.to_owned(),
        body: body.into(),
        reason: "the total was wrong".to_owned(),
        to_all: false,
        requested_by: "maria".to_owned(),
    }
}

/// Files the event as a dead letter of the consumer.
async fn die(store: &Store, event: &Event, given_up_at: &str) -> Result<(), Failure> {
    let mut message = event.to_message();
    for (name, value) in [
        (header::CONSUMER, BINDINGS.consumer),
        (header::ERROR, "/total: missing"),
        (header::GIVEN_UP_AT, given_up_at),
    ] {
        message.headers.insert(name.to_owned(), value.into());
    }
    let mut tx = store.begin().await?;
    DeadLetters { prefix: String::new() }.record(&[&message], &mut tx).await?;
    Ok(tx.commit().await?)
}

async fn dead_event(store: &Store) -> Event {
    let (event, message) = message(&EventId::generate().to_string(), None);
    record(store, &[&message]).await.expect("it is recorded");
    die(store, &event, "2026-11-22T12:00:00Z").await.expect("it is filed");
    event
}

fn id_sent_by(job: &Job) -> EventId {
    job.filter["id"].as_str().and_then(|id| id.parse().ok()).expect("the job names the event that it sends")
}

/// Of several edits of a letter, one after the other or at once, one is done, with one job and one event; the others are told
/// which. The original stays as it is, and counts as discarded.
pub async fn a_letter_is_replaced_once(store: &Store) {
    let editor = editor(store);
    for _ in 0..5 {
        let original = dead_event(store).await;
        let (one, other) = (new(&original, r#"{"total": 1}"#), new(&original, r#"{"total": 2}"#));
        let (one, other) = tokio::join!(editor.edit(&one), editor.edit(&other));
        let (job, refused) = match (one, other) {
            (Ok(job), Err(refused)) | (Err(refused), Ok(job)) => (job, refused),
            both => panic!("not exactly one is done: {both:?}"),
        };
        let EditError::Closed(why) = refused else { panic!("{refused:?}") };
        let sent = id_sent_by(&job);
        assert!(why.contains(&sent.to_string()) && why.contains(&job.id), "{why}");
        let late = editor.check(&new(&original, "{}")).await;
        assert!(late.is_err(), "{late:?}");
        let late = editor.edit(&new(&original, r#"{"total": 3}"#)).await;
        assert!(matches!(&late, Err(EditError::Closed(text)) if *text == why), "{late:?}");

        let mut connection = store.read().await.expect("a connection");
        let shown = show(&mut connection, original.id).await.expect("a row").expect("it is there");
        assert_eq!(
            (shown.row.state, shown.body.body.as_deref()),
            (EventState::Discarded, Some("{}")),
            "the original"
        );
        let [outcome] = shown.outcomes.try_into().expect("one consumer");
        assert_eq!(
            (outcome.state, outcome.replaced_by, outcome.handled_at),
            (ConsumerState::Discarded, Some(sent.to_string()), None)
        );
        let shown = show(&mut connection, sent).await.expect("a row").expect("it is there");
        let original_id = Some(original.id.to_string());
        assert_eq!((&shown.replay_of, &shown.replaces), (&original_id, &original_id));
        assert_eq!((shown.row.state, shown.row.topic.as_str()), (EventState::Pending, "acordo.quitado"));
        assert!(shown.row.consumers.contains_key(BINDINGS.consumer), "{:?}", shown.row);
        for state in [EventState::Discarded, EventState::Pending, EventState::Dead, EventState::Handled] {
            let id =
                (if state == EventState::Discarded { original.id } else { sent }).to_string().parse().ok();
            let filter = EventFilter { id, state: Some(state), ..EventFilter::default() };
            let found =
                EventRow::page(&mut connection, &filter, &Page::first(9)).await.expect("a page").items;
            let is_shown = matches!(state, EventState::Discarded | EventState::Pending);
            assert_eq!(found.len(), usize::from(is_shown), "{state:?}");
        }
        let filter = JobFilter { id: job.id.parse().ok(), ..JobFilter::default() };
        let jobs = Job::page(&mut connection, &filter, &Page::first(9)).await.expect("a page").items;
        assert_eq!(jobs.first(), Some(&job));
        assert_eq!(
            (job.reason.as_deref(), job.to_consumer.as_deref()),
            (Some("the total was wrong"), Some(BINDINGS.consumer))
        );
    }
}

/// Once a letter is replaced, its original has no effect any more: its consumer finds it handled, it is not retried, with the
/// reason, and it stays closed even if it dies again. What was handled before is not replaced.
pub async fn an_original_and_its_replacement_never_both_have_an_effect(store: &Store) {
    let editor = editor(store);
    let claimed = async |event: &Event| {
        let mut tx = store.begin().await.expect("a transaction");
        let claimed = inbox::claim(&mut tx, BINDINGS.consumer, &[event.id], event::now()).await;
        tx.commit().await.expect("a commit");
        claimed.expect("it is asked").contains(&event.id)
    };
    let original = dead_event(store).await;
    let job = editor.edit(&new(&original, r#"{"total": 1}"#)).await.expect("it is edited");
    assert!(!claimed(&original).await, "a consumer would handle the original");
    let retry = NewJob {
        filter: serde_json::json!({ "id": original.id }),
        requested_by: "maria".to_owned(),
        ..NewJob::new(Action::Retry, What::Dead)
    };
    let zone = Zone::default();
    for refused in [
        jobs::count(store, &retry, &zone).await.map(drop),
        jobs::create(store, &retry, &[BINDINGS.consumer], &zone).await.map(drop),
    ] {
        let text = refused.expect_err("it is closed").to_string();
        assert!(text.contains(&id_sent_by(&job).to_string()), "{text}");
    }
    die(store, &original, "2026-11-23T12:00:00Z").await.expect("it is filed");
    let filter = DeadFilter { id: original.id.to_string().parse().ok(), ..DeadFilter::default() };
    let mut connection = store.read().await.expect("a connection");
    let open = DeadRow::page(&mut connection, &filter, &Page::first(9)).await.expect("a page").items;
    assert_eq!(open, []);
    let shown = show(&mut connection, original.id).await.expect("a row").expect("it is there");
    assert_eq!(shown.row.state, EventState::Discarded);
    let [letter] =
        show_dead(&mut connection, original.id).await.expect("rows").try_into().expect("one letter");
    assert_eq!(letter.replaced_by, Some(id_sent_by(&job).to_string()));
    drop(connection);

    let handled = dead_event(store).await;
    assert!(claimed(&handled).await);
    let late = editor.edit(&new(&handled, r#"{"total": 1}"#)).await;
    assert!(
        matches!(&late, Err(EditError::Closed(text)) if text.contains("has handled the event")),
        "{late:?}"
    );
}

/// What cannot be sent is refused with the reason, and nothing is written.
pub async fn an_edit_that_cannot_be_sent_changes_nothing(store: &Store) {
    let editor = editor(store);
    let original = dead_event(store).await;
    let good = new(&original, r#"{"total": 1}"#);
    for (edit, expect) in [
        (NewEdit { body: "[]".into(), ..good.clone() }, "/: expected an object"),
        (NewEdit { body: original.data.clone(), ..good.clone() }, "body: it is that of the dead letter"),
        (NewEdit { reason: " ".to_owned(), ..good.clone() }, "reason: say why"),
        (NewEdit { requested_by: String::new(), ..good.clone() }, "requested_by: missing"),
        (NewEdit { consumer: "nobody".to_owned(), ..good.clone() }, "no consumer nobody gave up"),
        (NewEdit { event_id: EventId::generate(), ..good.clone() }, "no consumer receivables gave up"),
    ] {
        let refused = editor.edit(&edit).await.expect_err("it is refused").to_string();
        assert!(refused.starts_with(expect), "{refused}");
    }
    let mut connection = store.read().await.expect("a connection");
    let shown = show(&mut connection, original.id).await.expect("a row").expect("it is there");
    assert_eq!(shown.row.state, EventState::Dead);
    drop(connection);
    editor.edit(&good).await.expect("it can still be edited");
}
