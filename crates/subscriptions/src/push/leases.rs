//! Which replica delivers which subscription: leases in the store, taken over when a replica is gone, evenly spread.

use std::time::Duration;

use event::{EventId, Timestamp};
use store::many::{Value, fetch, insert};
use store::{Row, Store, StoreError, id};

/// How long a lease lasts unless it is renewed: so long nobody delivers after a replica was killed.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// How long a replica that is gone is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// A push subscription that is not paused.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) id: EventId,
    pub(super) version: i64,
    owner: Option<String>,
    until: Timestamp,
}

impl Seen {
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.owner.as_deref() == Some(name)
    }
}

/// What a replica does for an even share.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) claim: Vec<EventId>,
    pub(super) release: Vec<EventId>,
}

/// The push subscriptions that are not paused.
pub(super) async fn seen(store: &Store) -> Result<Vec<Seen>, StoreError> {
    let text = "SELECT id, version, lease_owner, lease_until FROM subscriptions \
                WHERE door = 'push' AND state <> 'paused' ORDER BY id";
    let rows = fetch(&mut *store.read().await?, text.to_owned(), []).await?;
    let seen = rows.iter().map(|row| {
        let until = store::optional_time(row, "lease_until")?.unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Seen {
            id: id(row, "id")?,
            version: row.try_get("version")?,
            owner: row.try_get("lease_owner")?,
            until,
        })
    });
    seen.collect()
}

/// Whether there are queue subscriptions: the role keeps their queues, and is missed where it does not run.
pub(super) async fn has_queues(store: &Store) -> Result<bool, StoreError> {
    let text = "SELECT 1 FROM subscriptions WHERE door = 'queue' LIMIT 1".to_owned();
    Ok(!fetch(&mut *store.read().await?, text, []).await?.is_empty())
}

/// Renews the leases of a replica; gives how many replicas there are.
pub(super) async fn renew(store: &Store, name: &str, now: Timestamp) -> Result<usize, StoreError> {
    let mut tx = store.begin_brief().await?;
    let row = vec![Value::from(&name), Value::from(now + LEASE)];
    let tail = "ON CONFLICT (name) DO UPDATE SET alive_until = excluded.alive_until";
    insert(&mut tx, "push_replicas (name, alive_until)", tail, vec![row]).await?;
    let text = "DELETE FROM push_replicas WHERE alive_until < $1";
    fetch(&mut tx, text.to_owned(), [Value::from(now - MEMORY)]).await?;
    let text = "UPDATE subscriptions SET lease_until = $2 WHERE lease_owner = $1";
    fetch(&mut tx, text.to_owned(), [Value::from(&name), Value::from(now + LEASE)]).await?;
    let text = "SELECT count(*) FROM push_replicas WHERE alive_until >= $1";
    let rows = fetch(&mut tx, text.to_owned(), [Value::from(now)]).await?;
    let replicas: i64 = rows[0].try_get(0)?;
    tx.commit().await?;
    Ok(usize::try_from(replicas).unwrap_or(1).max(1))
}

/// What brings a replica to its share.
pub(super) fn plan(seen: &[Seen], name: &str, replicas: usize, now: Timestamp) -> Plan {
    let share = seen.len().div_ceil(replicas);
    let mine: Vec<EventId> = seen.iter().filter(|one| one.is_of(name)).map(|one| one.id).collect();
    let is_free = |one: &&Seen| !one.is_of(name) && (one.owner.is_none() || one.until < now);
    let free = seen.iter().filter(is_free).map(|one| one.id);
    Plan {
        claim: free.take(share.saturating_sub(mine.len())).collect(),
        release: mine.into_iter().skip(share).collect(),
    }
}

/// Takes a subscription that no replica holds. False if another one was first.
pub(super) async fn claim(
    store: &Store,
    subscription: EventId,
    name: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut tx = store.begin_brief().await?;
    let text = "UPDATE subscriptions SET lease_owner = $2, lease_until = $3 \
                WHERE id = $1 AND (lease_owner IS NULL OR lease_until < $4) RETURNING version";
    let values = [subscription.into(), Value::from(&name), Value::from(now + LEASE), Value::from(now)];
    let rows = fetch(&mut tx, text.to_owned(), values).await?;
    tx.commit().await?;
    Ok(!rows.is_empty())
}

/// Gives a subscription back.
pub(super) async fn release(store: &Store, subscription: EventId, name: &str) -> Result<(), StoreError> {
    let mut tx = store.begin_brief().await?;
    let text =
        "UPDATE subscriptions SET lease_owner = NULL, lease_until = NULL WHERE id = $1 AND lease_owner = $2";
    fetch(&mut tx, text.to_owned(), [subscription.into(), Value::from(&name)]).await?;
    Ok(tx.commit().await?)
}

/// Sets the state of a subscription whose lease the replica holds. What management has paused stays paused.
pub(super) async fn report(
    store: &Store,
    subscription: EventId,
    name: &str,
    state: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let mut tx = store.begin_brief().await?;
    let text = "UPDATE subscriptions SET state = $3, reason = $4 \
                WHERE id = $1 AND lease_owner = $2 AND state <> 'paused'";
    let values = [subscription.into(), Value::from(&name), Value::from(&state), Value::from(&reason)];
    fetch(&mut tx, text.to_owned(), values).await?;
    Ok(tx.commit().await?)
}

/// A replica ends.
pub(super) async fn leave(store: &Store, name: &str) -> Result<(), StoreError> {
    let mut tx = store.begin_brief().await?;
    for text in [
        "UPDATE subscriptions SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = $1",
        "DELETE FROM push_replicas WHERE name = $1",
    ] {
        fetch(&mut tx, text.to_owned(), [Value::from(&name)]).await?;
    }
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_replica_gets_its_share_and_what_a_dead_one_held() {
        let now = event::now();
        let seen = |owners: &[(Option<&str>, i64)]| -> Vec<Seen> {
            let one = |(owner, seconds): &(Option<&str>, i64)| Seen {
                id: EventId::generate(),
                version: 1,
                owner: owner.map(str::to_owned),
                until: Timestamp::from_second(now.as_second() + seconds).unwrap(),
            };
            owners.iter().map(one).collect()
        };
        let check = |owners: &[(Option<&str>, i64)], replicas, claim: &[usize], release: &[usize]| {
            let seen = seen(owners);
            let ids = |at: &[usize]| at.iter().map(|at| seen[*at].id).collect::<Vec<_>>();
            let expect = Plan { claim: ids(claim), release: ids(release) };
            assert_eq!(plan(&seen, "a", replicas, now), expect, "{owners:?}");
        };
        check(&[(None, 0), (None, 0), (None, 0)], 1, &[0, 1, 2], &[]);
        check(&[(None, 0), (None, 0), (None, 0)], 2, &[0, 1], &[]);
        check(&[(Some("a"), 3), (Some("a"), 3), (Some("a"), 3), (Some("a"), 3)], 2, &[], &[2, 3]);
        check(&[(Some("a"), 3), (Some("b"), 3), (Some("a"), 3)], 2, &[], &[]);
        check(&[(Some("a"), 3), (Some("b"), -1), (Some("b"), 3)], 1, &[1], &[]);
        check(&[], 2, &[], &[]);
    }
}
