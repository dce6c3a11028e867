//! Which copy of a retried message continues.
//!
//! A consumer publishes a retry before it acks the original. If the ack is lost, the original is redelivered, fails
//! again and sends a second copy. Each copy has its own name; the first that fails claims the attempt, and the others
//! end there. A redelivered copy claims its own attempt again, so no crash loses both.

use crate::{Component, Migration, StoreError, Tx, many, sql};

pub(crate) const COMPONENT: Component = Component {
    name: "retry",
    migrations: &[Migration::portable(1, "retry", include_str!("../migrations/0001_retry.sql"))],
};

/// A failed attempt at a message that was retried before.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The message's id.
    pub message_id: &'a str,
    /// Whose attempt it was.
    pub consumer: &'a str,
    /// The job that sent the message again; empty for none. Each such job has attempts of its own.
    pub job: &'a str,
    /// The number of attempts before this one.
    pub number: i64,
    /// The name of the copy that failed.
    pub copy: &'a str,
}

/// Claims an attempt for a copy. False if another copy has claimed this attempt or a later one.
pub async fn claim(tx: &mut Tx, attempt: &Attempt<'_>) -> Result<bool, StoreError> {
    let Attempt { message_id, consumer, job, number, copy } = *attempt;
    let claimed = many::insert(
        tx,
        "retry (message_id, consumer, job, attempt, copy)",
        "ON CONFLICT (message_id, consumer, job) DO UPDATE SET attempt = excluded.attempt, \
         copy = excluded.copy WHERE excluded.attempt > retry.attempt \
         OR (excluded.attempt = retry.attempt AND excluded.copy = retry.copy) RETURNING attempt",
        vec![vec![message_id.into(), consumer.into(), job.into(), number.into(), copy.into()]],
    )
    .await?;
    Ok(!claimed.is_empty())
}

/// Deletes the attempts of messages that the consumer is done with.
pub async fn forget(tx: &mut Tx, consumer: &str, message_ids: &[&str]) -> Result<(), StoreError> {
    for chunk in many::chunks(message_ids) {
        let list = sql::list(2, chunk.len());
        let text = format!("DELETE FROM retry WHERE consumer = $1 AND message_id IN ({list})");
        let values = std::iter::once(consumer.into()).chain(chunk.iter().map(|id| (*id).into()));
        many::fetch(tx, text, values).await?;
    }
    Ok(())
}
