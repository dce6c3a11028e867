//! The store: whether it can be reached, and whether it stores what is written.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use ledger::feed::Held;
use store::outbox::Waiting;
use store::{ReadOnly, Store, StoreError, sql};

use super::{Findings, is_older, queues};
use crate::config::Config;
use crate::installation;
use crate::report::chain;

/// The oldest PostgreSQL that its project still maintains.
pub(super) const OLDEST_POSTGRESQL: (u64, u64) = (15, 0);

/// Connects to the store, and commits a write.
pub(super) async fn check(config: &Config, findings: &mut Findings) {
    let file = installation::store_file(config);
    // Opening it would create it.
    if file.as_ref().is_some_and(|file| !file.exists()) {
        return findings.note("the store has no file yet: the first start makes it");
    }
    if let Some(file) = file.as_deref().filter(|file| is_foreign(file)) {
        return findings.bad(
            format!("{} is not a SQLite database", file.display()),
            "move it away or restore it from a backup, or set store.url; without it, a new and empty one is made",
        );
    }
    let store = match installation::open_store(config) {
        Ok(store) => store,
        Err(error) => return findings.bad(format!("{error:#}"), "set store.url"),
    };
    match store.check().await {
        Err(error) => {
            let fix = match file {
                Some(_) => {
                    "it has to be a SQLite database that this user can write, in a folder that this user can write: see \
                     above; or restore it from a backup"
                }
                None => "start it, or set store.url; user, password and database have to exist",
            };
            findings.bad(format!("{} is unavailable: {}", store.address(), reason(&error)), fix);
        }
        Ok(info) => {
            let text = format!("the store is {} {} at {}", info.product, info.version, info.address);
            match info.product == "PostgreSQL" && is_older(&info.version, OLDEST_POSTGRESQL) {
                true => findings.bad(text, "PostgreSQL 15 or newer is needed"),
                false => findings.good(text),
            }
            check_write(config, &store, file.as_deref(), findings).await;
        }
    }
    store.close().await;
}

/// A read-only database still answers readers, while consumers pause and nothing is booked.
async fn check_write(config: &Config, store: &Store, file: Option<&Path>, findings: &mut Findings) {
    let error = match store.check_kept().await {
        Ok(true) => {
            findings.good("the store accepts writes: one was committed and read back");
            outbox(store, findings).await;
            feed(store, findings).await;
            pushes(store, findings).await;
            documents(store, findings).await;
            return queues::check(config, store, findings).await;
        }
        Ok(false) => {
            return findings.bad(
                format!("{} committed a write, but reads another value", store.address()),
                "set store.url to the database itself: what lies between, such as a pooler, must not read from a replica",
            );
        }
        // SQLITE_ERROR, undefined_table
        Err(error) if is_without_tables(&error) => {
            return findings.note(match has_earlier_tables(store).await {
                true => "the store's tables are of an earlier release: the first start of this one brings them up to date",
                false => "the store has no tables yet: the first start makes them",
            });
        }
        Err(error) => error,
    };
    // The query for the reason may fail as well: then the first error says more.
    let read_only = store.read_only().await.unwrap_or(None);
    let address = store.address();
    let (text, fix) = match (read_only, file) {
        (Some(ReadOnly::Recovery), _) => (
            format!("{address} accepts no writes: it is in recovery, as a standby or after a restore"),
            "set store.url to the primary, or promote this one: SELECT pg_promote()".to_owned(),
        ),
        (Some(ReadOnly::Setting), _) => (
            format!("{address} accepts no writes: default_transaction_read_only is on"),
            "turn it off where it is set: ALTER SYSTEM RESET default_transaction_read_only and SELECT pg_reload_conf(), or \
             ALTER DATABASE or ALTER ROLE … RESET default_transaction_read_only"
                .to_owned(),
        ),
        (None, Some(file)) if matches!(error, StoreError::Conflict(_)) => (
            format!("{} accepts no writes: another process has locked it for seconds", file.display()),
            format!("find that process with `fuser -v {}`, and end what it does", file.display()),
        ),
        (None, file) => (
            format!("{address} accepts no writes: {}", reason(&error)),
            match file {
                Some(_) => "see the findings about its files and folder above: all must be writable, on a disk with free space",
                None => "the user of store.url must own the tables; the log of the server says more",
            }
            .to_owned(),
        ),
    };
    findings.bad(text, fix);
}

/// How long a domain event may wait for the broker before that is reported.
const OUTBOX_PATIENCE: Duration = Duration::from_secs(60);

/// Whether domain events wait to be published. Tables of an earlier release have no outbox.
async fn outbox(store: &Store, findings: &mut Findings) {
    let Ok(mut connection) = store.read().await else { return };
    let Ok(Waiting { events, since }) = store::outbox::waiting(&mut connection).await else { return };
    let age = since.map_or(Duration::ZERO, |since| event::now().duration_since(since).unsigned_abs());
    let text = format!("{events} domain events wait in the outbox");
    if age < OUTBOX_PATIENCE {
        return findings.good(text);
    }
    findings.bad(
        format!("{text}, the oldest for {} s", age.as_secs()),
        "a process with a consumer of a domain publishes them: start one (malote up, malote consume …); if one runs, its log \
         says why they wait",
    );
}

/// How long a transaction may hold back the feed before it is reported.
const HELD_PATIENCE: Duration = Duration::from_secs(5);

/// Whether recorded events wait for a transaction to end before anybody can read them. Tables of an earlier release have no feed.
async fn feed(store: &Store, findings: &mut Findings) {
    let Ok(Some(held)) = ledger::feed::held(store).await else { return };
    let age = held.since.map(|since| event::now().duration_since(since));
    if age.is_some_and(|age| age.unsigned_abs() < HELD_PATIENCE) {
        return;
    }
    let age = age.map_or_else(
        || "for an unknown time (only its user or pg_read_all_stats may see it)".to_owned(),
        |age| format!("for {} s", age.as_secs()),
    );
    let Held { holder, application, database, statement, .. } = held;
    findings.bad(
        format!(
            "the feed is held back: {holder} of PostgreSQL has had a transaction open {age} (application {application:?}, \
             database {database:?}, last statement {statement:?}); nobody can read the events recorded since"
        ),
        "end what it does, or the transaction itself: SELECT pg_terminate_backend(<process>), or ROLLBACK PREPARED",
    );
}

/// Push subscriptions that do not deliver. Tables of an earlier release have none.
async fn pushes(store: &Store, findings: &mut Findings) {
    let Ok(summary) = subscriptions::push::summary(store).await else { return };
    let count = summary.count;
    if count > 0 && !summary.is_delivered {
        findings.bad(
            format!("no process delivers the push subscriptions ({count})"),
            "start `malote up`, or `malote subscriptions` on RabbitMQ and PostgreSQL",
        );
    }
    for (one, lag) in &summary.in_trouble {
        let reason = if one.reason.is_empty() { "no reason was given" } else { &one.reason };
        let (name, state) = (one.name(), one.state.as_str());
        findings.note(format!("the subscription {name} is {state}, and {lag} of its events wait: {reason}"));
    }
    match summary.undelivered {
        0 if count > 0 && summary.in_trouble.is_empty() => {
            findings.good(format!("push subscriptions: {count}, none in trouble"))
        }
        0 => {}
        undelivered => findings.note(format!(
            "{undelivered} events are undelivered: their attempts are used up; `malote undelivered list` shows them, `malote \
             attempts retry` sends them again, and `malote undelivered discard` closes them"
        )),
    }
}

/// Sources whose documents are not fetched, since their API fails. Tables of an earlier release have none.
async fn documents(store: &Store, findings: &mut Findings) {
    for documents::Failing { source, since, waiting } in documents::failing(store).await.unwrap_or_default() {
        findings.note(format!(
            "the API of source {source} has failed since {}, and {waiting} documents wait: `malote documents list --where \
             state=waiting` shows why",
            crate::local::time(since)
        ));
    }
}

/// Whether the releases before `probe` wrote here.
async fn has_earlier_tables(store: &Store) -> bool {
    let Ok(mut connection) = store.read().await else { return false };
    sql::query("SELECT 1 FROM writable").fetch_optional(&mut *connection).await.is_ok()
}

fn is_without_tables(error: &StoreError) -> bool {
    error
        .reason()
        .is_some_and(|reason| reason.contains("no such table") || reason.contains("\"probe\" does not exist"))
}

fn reason(error: &StoreError) -> String {
    error.reason().unwrap_or_else(|| chain(error))
}

/// Whether a non-empty file does not begin like an SQLite file (<https://www.sqlite.org/fileformat.html>, 1.3.1).
fn is_foreign(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(16).read_to_end(&mut head));
    read.is_ok() && !head.is_empty() && head != b"SQLite format 3\0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_something_else_is_told_from_a_database() {
        let folder = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8], expect: bool| {
            let file = folder.path().join("store.db");
            fs::write(&file, bytes).unwrap();
            assert_eq!(is_foreign(&file), expect, "{bytes:?}");
        };
        check(b"", false);
        check(b"SQLite format 3\0and more", false);
        check(b"not a database at all", true);
        check(b"x", true);
        assert!(!is_foreign(&folder.path().join("missing")));
    }
}
