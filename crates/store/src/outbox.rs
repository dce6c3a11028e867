//! The outbox: events that malote itself sends, written in the transaction of the effect that they announce and deleted once
//! the broker has confirmed them.
//!
//! Both happen or neither does: an effect that is rolled back announces nothing, and one that is committed is announced
//! however the process ends. The events of one subject are in the order of their transactions, since a transaction that
//! changes a row waits for the one that changed it before.

use event::{Event, Source, Subject, Timestamp, Topic};
use sqlx::Row;

use crate::many::{self, Value};
use crate::{Component, Connection, Migration, StoreError, Tx, id, optional_id, sql};

pub(crate) const COMPONENT: Component = Component {
    name: "outbox",
    migrations: &[Migration {
        version: 1,
        description: "outbox",
        copies: false,
        sqlite: include_str!("../migrations/0001_outbox.sqlite.sql"),
        postgres: include_str!("../migrations/0001_outbox.postgres.sql"),
    }],
};

/// Writes events in their order; their data are JSON. The caller notifies [`crate::Store::outbox_filled`] after the commit.
pub async fn write(tx: &mut Tx, events: &[Event], now: Timestamp) -> Result<(), StoreError> {
    let row = |event: &Event| {
        vec![
            now.into(),
            event.time.into(),
            event.id.into(),
            event.caused_by.into(),
            event.source.to_text().into(),
            (&event.topic).into(),
            event.subject.as_ref().map(ToString::to_string).into(),
            event.traceparent.clone().into(),
            event.data.clone().into(),
        ]
    };
    let into = "outbox (written_at, received_at, id, caused_by, source, topic, subject, traceparent, data)";
    many::insert(tx, into, "", events.iter().map(row).collect()).await?;
    Ok(())
}

/// The oldest events, with the numbers by which they are deleted.
pub async fn oldest(connection: &mut Connection, limit: usize) -> Result<Vec<(i64, Event)>, StoreError> {
    let text =
        "SELECT number, received_at, id, caused_by, source, topic, subject, traceparent, data FROM outbox \
                ORDER BY number LIMIT $1"
            .to_owned();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = many::fetch(connection, text, [limit.into()]).await?;
    let event = |row: &sqlx::any::AnyRow| {
        const AS_GIVEN: &str = "the outbox holds the events it was given";
        let text = |column| row.try_get::<String, _>(column);
        let time = Timestamp::from_microsecond(row.try_get("received_at")?).expect(AS_GIVEN);
        let source = Source::parse(&text("source")?).expect(AS_GIVEN);
        let data: Vec<u8> = row.try_get("data")?;
        let event = Event {
            id: id(row, "id")?,
            time,
            caused_by: optional_id(row, "caused_by")?,
            subject: row.try_get::<Option<String>, _>("subject")?.as_deref().map(Subject::from_text),
            traceparent: row.try_get("traceparent")?,
            ..Event::new(source, Topic::new(text("topic")?).expect(AS_GIVEN), data.into())
        };
        Ok((row.try_get("number")?, event))
    };
    rows.iter().map(event).collect()
}

/// Deletes the events with these numbers.
pub async fn remove(tx: &mut Tx, numbers: &[i64]) -> Result<(), StoreError> {
    let text = |given: &str| format!("DELETE FROM outbox WHERE number IN ({given})");
    let given = numbers.iter().map(|number| vec![Value::from(*number)]).collect();
    many::fetch_given(tx, text, given).await?;
    Ok(())
}

/// What waits in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many events.
    pub events: i64,
    /// When the oldest was written.
    pub since: Option<Timestamp>,
}

/// What the broker has not confirmed yet.
pub async fn waiting(connection: &mut Connection) -> Result<Waiting, StoreError> {
    // In the order of numbers, PostgreSQL passes over what is deleted by the index, where the relay has marked it, instead of
    // reading the pages until they are vacuumed; a plan from when the table was empty would still read them.
    let text = "SELECT count(*) AS events, min(written_at) AS since \
                FROM (SELECT written_at FROM outbox ORDER BY number) AS waiting";
    let row = sql::query(text).persistent(false).fetch_one(&mut *connection).await?;
    let since: Option<i64> = row.try_get("since")?;
    let since = since.and_then(|since| Timestamp::from_microsecond(since).ok());
    Ok(Waiting { events: row.try_get("events")?, since })
}
