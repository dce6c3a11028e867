//! What ingresses report of the secrets of sources.

use consumer::Recorder;
use event::{EventId, Message, Timestamp};
use serde_json::{Value, json};
use store::Store;

use crate::record::Tallies;
use crate::{SecretState, SourceSecret, source_refusals, source_secrets};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

fn report(second: i64, sources: Value) -> Message {
    let body = json!({"ingress": EventId::generate(), "counts": [], "at": at(second), "sources": sources});
    Message { body: body.to_string().into(), ..Message::default() }
}

fn secret(place: i64, fingerprint: &str, used: Option<i64>) -> Value {
    json!({"setting": "query.secrets", "place": place, "fingerprint": fingerprint, "used_at": used.map(at)})
}

fn report_of(source: &str, second: i64, secrets: &[Value]) -> Message {
    report(second, json!([{"source": source, "secrets": secrets, "refusals": []}]))
}

async fn record(store: &Store, messages: &[&Message]) {
    let mut tx = store.begin().await.expect("a transaction");
    Tallies.record(messages, &mut tx).await.expect("it is recorded");
    tx.commit().await.expect("a commit");
}

async fn secrets(store: &Store, source: &str) -> Vec<SourceSecret> {
    let mut connection = store.read().await.expect("a connection");
    source_secrets(&mut connection, source).await.expect("an answer")
}

/// Of two secrets the one that was used last is told from the other, whatever the order of the reports, and a restart of the
/// ingress, which knows of no use, takes nothing away.
pub async fn of_two_secrets_the_one_used_last_is_known(store: &Store) {
    let other = report_of("other", 5, &[secret(0, "a", None)]);
    let expect = [(0, SecretState::Earlier, Some(at(-5))), (1, SecretState::Latest, Some(at(9)))];
    for (source, order) in [("in-order", [0, 1, 2]), ("late", [2, 0, 1]), ("twice", [1, 1, 0])] {
        let reports = [
            report_of(source, 0, &[secret(0, "a", Some(-5)), secret(1, "b", None)]),
            report_of(source, 10, &[secret(0, "a", Some(-5)), secret(1, "b", Some(9))]),
            report_of(source, 20, &[secret(0, "a", None), secret(1, "b", None)]),
        ];
        record(store, &[&reports[order[0]], &other]).await;
        record(store, &[&reports[order[1]], &reports[order[2]]]).await;
        let found = secrets(store, source).await;
        let states: Vec<_> = found.iter().map(|one| (one.place, one.state, one.used_at)).collect();
        assert_eq!(states, expect, "{source}");
        let seen: Vec<_> = found.iter().map(|one| one.first_seen_at).collect();
        assert_eq!(seen, [at(-5), at(0)], "age counts from the first use or report: {source}");
        assert_eq!(found[0].setting, "auth.query.secrets");
        assert!(found.iter().all(|one| one.removed_at.is_none()));
    }
    assert_eq!(secrets(store, "other").await[0].state, SecretState::Unused);
}

/// A secret is removed with the first report without it; an older report that comes late does not bring it back, a newer one does.
pub async fn a_secret_is_removed_with_the_first_report_without_it(store: &Store) {
    let both = report_of("loja", 0, &[secret(0, "a", Some(-5)), secret(1, "b", None)]);
    let rotated = report_of("loja", 10, &[secret(0, "b", Some(9))]);
    record(store, &[&both]).await;
    record(store, &[&rotated]).await;
    record(store, &[&both, &report_of("loja", 5, &[secret(0, "a", Some(4)), secret(1, "b", None)])]).await;
    let found = secrets(store, "loja").await;
    let states: Vec<_> = found.iter().map(|one| (one.place, one.state, one.removed_at)).collect();
    assert_eq!(states, [(0, SecretState::Latest, None), (0, SecretState::Removed, Some(at(10)))]);
    assert_eq!(found[1].used_at, Some(at(4)), "the late report still says when it was used");
    record(store, &[&report_of("loja", 30, &[secret(0, "a", None)])]).await;
    let found = secrets(store, "loja").await;
    let states: Vec<_> = found.iter().map(|one| (one.used_at, one.state)).collect();
    assert_eq!(states, [(Some(at(4)), SecretState::Latest), (Some(at(9)), SecretState::Removed)]);
    record(store, &[&report_of("loja", 40, &[])]).await;
    assert!(secrets(store, "loja").await.iter().all(|one| one.state == SecretState::Removed));
}

/// The last refused request of each reason is kept, so that a flood of one kind hides no other.
pub async fn the_last_refusal_of_each_reason_is_kept(store: &Store) {
    let refused = |second, refusals: Value| {
        report(second, json!([{"source": "loja", "secrets": [], "refusals": refusals}]))
    };
    let denied =
        |second: i64| json!({"reason": "not authenticated", "failed": "auth.hmac", "at": at(second)});
    let long = json!({"reason": "body too long", "failed": null, "at": at(1)});
    record(store, &[&refused(5, json!([denied(4), long])), &refused(10, json!([denied(9)]))]).await;
    record(store, &[&refused(5, json!([denied(4), long]))]).await;
    let mut connection = store.read().await.expect("a connection");
    let found = source_refusals(&mut connection, "loja").await.expect("an answer");
    let found: Vec<_> =
        found.iter().map(|one| (one.reason.as_str(), one.failed.as_deref(), one.refused_at)).collect();
    assert_eq!(found, [("not authenticated", Some("auth.hmac"), at(9)), ("body too long", None, at(1))]);
    assert!(source_refusals(&mut connection, "other").await.expect("an answer").is_empty());
}
