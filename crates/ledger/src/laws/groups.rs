//! What groups of dead letters say.

use consumer::Recorder;
use event::{EventId, header};
use store::laws::plan;
use store::many::fetch;
use store::{Page, Store};
use view::Row;

use super::{BINDINGS, message, record};
use crate::dead_groups::trends_statement;
use crate::record::DeadLetters;
use crate::{DeadFilter, DeadGroup, NewGroupNote, NoteError, note_group};

async fn groups(store: &Store) -> Vec<DeadGroup> {
    let mut connection = store.read().await.expect("a connection");
    DeadGroup::page(&mut connection, &DeadFilter::default(), &Page::first(9)).await.expect("a page").items
}

/// A dead letter of one group that was given up so many minutes ago.
async fn given_up(store: &Store, minutes: u64) {
    let (event, message) = message(&EventId::generate().to_string(), None);
    record(store, &[&message]).await.expect("it is recorded");
    let at = event::now() - std::time::Duration::from_secs(60 * minutes);
    let mut message = event.to_message();
    message.headers.insert(header::CONSUMER.to_owned(), BINDINGS.consumer.into());
    message.headers.insert(header::ERROR.to_owned(), "/total: missing".into());
    message.headers.insert(header::GIVEN_UP_AT.to_owned(), at.to_string().into());
    let mut tx = store.begin().await.expect("a transaction");
    DeadLetters { prefix: String::new() }.record(&[&message], &mut tx).await.expect("it is filed");
    tx.commit().await.expect("a commit");
}

/// A group says how many such letters were given up in each hour of a day and each day of two weeks, also those that are closed.
pub async fn a_group_says_when_its_letters_were_given_up(store: &Store) {
    const DAY: u64 = 24 * 60;
    for minutes in [5, 20, 150, DAY - 5, DAY + 5, 3 * DAY + 5, 14 * DAY - 5, 14 * DAY + 5] {
        given_up(store, minutes).await;
    }
    let [group] = groups(store).await.try_into().expect("one group");
    let mut hours = [0; 24];
    (hours[23], hours[21], hours[0]) = (2, 1, 1);
    let mut days = [0; 14];
    (days[13], days[12], days[10], days[0]) = (4, 1, 1, 1);
    assert_eq!((group.count, group.per_hour, group.per_day), (8, hours.to_vec(), days.to_vec()));
    // What is closed was given up all the same.
    let mut tx = store.begin().await.expect("a transaction");
    let close = "UPDATE dead_letters SET discarded_in = '1' WHERE failed_at = (SELECT max(failed_at) FROM dead_letters)";
    fetch(&mut tx, close.to_owned(), []).await.expect("it is closed");
    tx.commit().await.expect("a commit");
    let group = groups(store).await.remove(0);
    assert_eq!((group.count, group.per_hour, group.per_day), (7, hours.to_vec(), days.to_vec()));
    let (text, values) = trends_statement(&DeadFilter::default(), event::now());
    let plan = plan(store, &text, values).await;
    assert!(plan.contains("dead_letters_failed_at"), "{plan}");
}

/// What is noted about a group replaces what was noted before, field by field; a note without text and ticket is removed.
pub async fn a_group_keeps_its_last_note(store: &Store) {
    given_up(store, 5).await;
    let group = groups(store).await.remove(0).group;
    let note = |text: Option<&str>, ticket: Option<&str>| NewGroupNote {
        text: text.map(str::to_owned),
        ticket: ticket.map(str::to_owned),
    };
    let noted = async |new: NewGroupNote, by: &str| note_group(store, &group, &new, by).await;
    let address = "https://tickets.example/7";
    for (by, new, expect) in [
        ("maria", note(Some(" asked the sender "), None), ("asked the sender", "")),
        ("olga", note(None, Some(address)), ("asked the sender", address)),
        ("maria", note(Some(""), None), ("", address)),
    ] {
        let answered = noted(new, by).await.expect("it is noted");
        let found = groups(store).await.remove(0).note;
        assert_eq!(answered, found);
        let found = found.expect("a note");
        assert_eq!((found.text.as_str(), found.ticket.as_str(), found.by.as_str()), (expect.0, expect.1, by));
    }
    for (new, expect) in [
        (note(None, Some("javascript:alert(1)")), "ticket: expected an address"),
        (note(Some(&"x".repeat(501)), None), "text: expected at most 500"),
        (note(Some("a\0"), None), "text: expected at most 500"),
    ] {
        let refused = noted(new, "maria").await.expect_err("it is refused").to_string();
        assert!(refused.starts_with(expect), "{refused}");
    }
    assert_eq!(noted(note(None, Some(" ")), "maria").await.expect("it is removed"), None);
    assert_eq!(groups(store).await[0].note, None);
    let unknown = note_group(store, "ffffffff", &note(Some("x"), None), "maria").await;
    assert!(matches!(unknown, Err(NoteError::NoGroup(_))), "{unknown:?}");
}
