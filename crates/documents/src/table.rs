//! The rows: what is asked for, what is due, what was fetched.

use event::{EventId, SourceName, Timestamp};
use ledger::feed::Cursor;
use outbound::Breaker;
use store::many::{Value, fetch, insert, merged};
use store::{AnyRow, Connection, Dialect, Row, Store, StoreError, Tx, id, lease, outbox};

use crate::config::Source;
use crate::document::{Asked, Content, DocumentState, Due};
use crate::events::announced;
use crate::named::{Cause, asked, named_by_document};

/// The outcome of a fetch.
pub(crate) enum Settled<'a> {
    /// This is its content.
    Fetched(&'a Content),
    /// It is not fetched any more.
    Ended(DocumentState, String),
    /// It is fetched again then, after so many failed attempts, and is in this state until then.
    Again { state: DocumentState, due_at: Timestamp, attempts: i64, reason: String },
}

/// Who fetches, as its lease says.
#[derive(Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) source: &'a Source,
    pub(crate) name: &'a str,
}

impl Holder<'_> {
    /// The name of the lease of a source.
    pub(crate) fn lease(source: &SourceName) -> String {
        format!("documents/{source}")
    }

    /// Whether this replica still is the one that fetches. A SQLite store serves one process.
    async fn holds(self, tx: &mut Tx) -> Result<bool, StoreError> {
        if Dialect::from_connection(&*tx) == Dialect::Sqlite {
            return Ok(true);
        }
        lease::hold(tx, &Self::lease(&self.source.name), self.name).await
    }
}

/// Where the reading of a source's events stands, and how its API answered last.
pub(crate) struct Progress {
    pub(crate) cursor: String,
    pub(crate) breaker: Breaker,
}

/// The progress of a source; `None` before its first.
pub(crate) async fn progress(store: &Store, source: &SourceName) -> Result<Option<Progress>, StoreError> {
    let text = "SELECT cursor, failures, failing_since, held_until FROM document_sources WHERE source = $1";
    let rows = fetch(&mut *store.read().await?, text.to_owned(), [Value::from(source)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let breaker =
        Breaker::new(row.try_get("failures")?, time(row, "failing_since")?, time(row, "held_until")?);
    Ok(Some(Progress { cursor: row.try_get("cursor")?, breaker }))
}

/// If the source has other credentials than at the last start, has what they were refused fetched again, at once. While replicas
/// with old and new ones take turns during a deployment, each turn does.
pub(crate) async fn use_credentials(store: &Store, holder: Holder<'_>) -> Result<(), StoreError> {
    let (source, credentials) = (&holder.source.name, holder.source.api.fingerprint());
    let mut tx = store.begin().await?;
    let text = "UPDATE document_sources SET credentials = $2, failures = 0, failing_since = NULL, held_until = NULL \
                WHERE source = $1 AND credentials <> $2 RETURNING source";
    let changed = fetch(&mut tx, text.to_owned(), [Value::from(source), credentials.into()]).await?;
    if !changed.is_empty() && holder.holds(&mut tx).await? {
        let text = "UPDATE documents SET state = 'waiting', due_at = $2 WHERE source = $1 AND (due_at > $2 \
                    OR state = 'refused' AND entity <> 'file' AND (reason LIKE 'answered 401%' OR reason LIKE 'answered 403%'))";
        fetch(&mut tx, text.to_owned(), [Value::from(source), event::now().into()]).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Sets where the reading of a source's events stands. False if another replica reads them.
pub(crate) async fn set_cursor(
    store: &Store,
    holder: Holder<'_>,
    cursor: &Cursor,
) -> Result<bool, StoreError> {
    read_events(store, holder, cursor, Vec::new()).await
}

/// Writes what the events up to a cursor ask for. False if another replica reads them.
pub(crate) async fn read_events(
    store: &Store,
    holder: Holder<'_>,
    cursor: &Cursor,
    asked: Vec<Asked>,
) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    if !holder.holds(&mut tx).await? {
        return Ok(false);
    }
    ask(&mut tx, holder.source, asked, false).await?;
    let text = "INSERT INTO document_sources (source, cursor, failures, credentials) VALUES ($1, $2, 0, $3) \
                ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor";
    let credentials = holder.source.api.fingerprint();
    let values = [Value::from(&holder.source.name), Value::from(cursor), credentials.into()];
    fetch(&mut tx, text.to_owned(), values).await?;
    tx.commit().await?;
    Ok(true)
}

/// Has everything fetched now that these events of a source name. Gives how many of them name something. An archived file is not
/// fetched again.
pub async fn ask_for(tx: &mut Tx, source: &Source, causes: &[Cause<'_>]) -> Result<usize, StoreError> {
    let named: Vec<Vec<Asked>> = causes.iter().map(|cause| asked(source, cause)).collect();
    let count = named.iter().filter(|named| !named.is_empty()).count();
    ask(tx, source, named.into_iter().flatten().collect(), true).await?;
    Ok(count)
}

/// Asks for documents. What is due already stays due then, unless it is asked for `now`.
pub(crate) async fn ask(
    tx: &mut Tx,
    source: &Source,
    asked: Vec<Asked>,
    now: bool,
) -> Result<(), StoreError> {
    let due = if now { "excluded.due_at" } else { "coalesce(documents.due_at, excluded.due_at)" };
    let tail = format!(
        "ON CONFLICT (source, entity, external_id) DO UPDATE SET place = excluded.place, subject = excluded.subject, \
             asked_by = excluded.asked_by, traceparent = excluded.traceparent, asked = documents.asked + 1, \
             state = CASE WHEN documents.due_at IS NULL THEN excluded.state ELSE documents.state END, \
             reason = CASE WHEN documents.due_at IS NULL THEN excluded.reason ELSE documents.reason END, due_at = {due} \
         WHERE documents.entity <> 'file' OR documents.state <> 'fetched'"
    );
    insert_asked(tx, source, asked, &tail).await
}

/// Asks for documents, unless they were before.
async fn ask_once(tx: &mut Tx, source: &Source, asked: Vec<Asked>) -> Result<(), StoreError> {
    insert_asked(tx, source, asked, "ON CONFLICT (source, entity, external_id) DO NOTHING").await
}

async fn insert_asked(tx: &mut Tx, source: &Source, asked: Vec<Asked>, tail: &str) -> Result<(), StoreError> {
    let now = event::now();
    // Of several events about one thing, the last one counts.
    let keyed = asked.into_iter().map(|one| ((one.entity, one.external_id.clone()), one));
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (_, asked) in merged(keyed, |known, other| *known = other) {
        let is_known = asked.place.is_some();
        let row = row(source, asked, now);
        if is_known { known.push(row) } else { unknown.push(row) }
    }
    let into = "documents (id, provider, source, entity, external_id, subject, place, name, state, reason, asked_by, \
                traceparent, asked, due_at, attempts, version)";
    insert(tx, into, tail, known).await?;
    // What is known already stays.
    insert(tx, into, "ON CONFLICT (source, entity, external_id) DO NOTHING", unknown).await?;
    Ok(())
}

fn row(source: &Source, asked: Asked, now: Timestamp) -> Vec<Value> {
    let Asked { entity, external_id, subject, place, reason, name, asked_by, traceparent } = asked;
    let (state, due_at) = match place {
        Some(_) => (DocumentState::Waiting, Some(now.as_microsecond())),
        None => (DocumentState::Refused, None),
    };
    vec![
        EventId::generate().into(),
        source.provider.name().into(),
        (&source.name).into(),
        entity.into(),
        external_id.into(),
        subject.into(),
        place.unwrap_or_default().into(),
        name.into(),
        state.as_str().into(),
        reason.into(),
        asked_by.into(),
        traceparent.into(),
        1.into(),
        due_at.into(),
        0.into(),
        0.into(),
    ]
}

/// The rows in the index of documents that wait, and in that of files: in these words.
const OF_DOCUMENTS: &str = "entity <> 'file'";
const OF_FILES: &str = "entity = 'file'";

/// The documents of a source that are due, and its files, the longest waiting first: so many of each, since what holds up the ones
/// does not concern the others.
pub(crate) async fn due(
    store: &Store,
    source: &SourceName,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Due>, StoreError> {
    let values = [Value::from(source), now.into()];
    let rows = fetch(&mut *store.read().await?, find_due(limit), values).await?;
    let due = rows.iter().map(|row| {
        Ok(Due {
            id: id(row, "id")?,
            entity: row.try_get("entity")?,
            external_id: row.try_get("external_id")?,
            subject: row.try_get("subject")?,
            place: row.try_get("place")?,
            asked_by: id(row, "asked_by")?,
            traceparent: row.try_get("traceparent")?,
            asked: row.try_get("asked")?,
            attempts: row.try_get("attempts")?,
            reason: row.try_get("reason")?,
        })
    });
    due.collect()
}

/// The statement that finds what is due of the source `$1` at the time `$2`.
pub(crate) fn find_due(limit: usize) -> String {
    let part = |kind: &str| {
        format!(
            "SELECT * FROM (SELECT id, entity, external_id, subject, place, asked_by, traceparent, asked, attempts, reason \
             FROM documents WHERE source = $1 AND due_at <= $2 AND {kind} ORDER BY due_at, id LIMIT {limit}) AS part"
        )
    };
    format!("{} UNION ALL {}", part(OF_DOCUMENTS), part(OF_FILES))
}

/// Has the documents of a source fetched now that wait for another attempt: its API works again.
pub(crate) async fn hurry(store: &Store, source: &SourceName, now: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let text =
        format!("UPDATE documents SET due_at = $2 WHERE source = $1 AND due_at > $2 AND {OF_DOCUMENTS}");
    fetch(&mut tx, text, [Value::from(source), now.into()]).await?;
    Ok(tx.commit().await?)
}

/// Writes the outcome of a fetch: the document's row, a new version with its announcement, what that names, and how the API answers.
/// False if another replica fetches for this source: then nothing is written.
pub(crate) async fn settle(
    store: &Store,
    holder: Holder<'_>,
    due: &Due,
    settled: &Settled<'_>,
    breaker: &Breaker,
) -> Result<bool, StoreError> {
    let now = event::now();
    let mut tx = store.begin().await?;
    if !holder.holds(&mut tx).await? {
        return Ok(false);
    }
    // Locks the row.
    let text = "UPDATE documents SET checked_at = $2 WHERE id = $1 RETURNING version".to_owned();
    let rows = fetch(&mut tx, text, [due.id.into(), now.into()]).await?;
    let Some(found) = rows.first() else { return Ok(false) };
    let mut version: i64 = found.try_get("version")?;
    let mut is_new = false;
    let (state, reason, attempts, again_at) = match settled {
        Settled::Fetched(content) => {
            is_new = has_changed(&mut tx, due.id, version, content).await?;
            if is_new {
                version += 1;
                keep(&mut tx, holder.source, due, version, content).await?;
            }
            (DocumentState::Fetched, "", 0, None)
        }
        Settled::Ended(state, reason) => (*state, reason.as_str(), 0, None),
        Settled::Again { state, due_at, attempts, reason } => {
            (*state, reason.as_str(), *attempts, Some(*due_at))
        }
    };
    // An event that came meanwhile may be about something that the answer does not have yet. A file stays what it is.
    let is_final = due.is_file() && matches!(settled, Settled::Fetched(_));
    let asked = if is_final { i64::MAX } else { due.asked };
    let mut text = "UPDATE documents SET version = $2, attempts = $3, \
                state = CASE WHEN asked > $4 THEN 'waiting' ELSE $5 END, \
                reason = CASE WHEN asked > $4 THEN '' ELSE $6 END, \
                due_at = CASE WHEN asked > $4 THEN $7 ELSE $8 END"
        .to_owned();
    if due.is_file() && again_at.is_none() {
        // The address alone gives the file.
        text.push_str(", place = CASE WHEN asked > $4 THEN place ELSE '' END");
    }
    text.push_str(" WHERE id = $1");
    let again = Value::Long(again_at.map(Timestamp::as_microsecond));
    let next = Value::from(again_at.unwrap_or(now));
    let values = [
        due.id.into(),
        version.into(),
        attempts.into(),
        asked.into(),
        Value::from(state.as_str()),
        Value::from(reason),
        next,
        again,
    ];
    fetch(&mut tx, text, values).await?;
    set_breaker(&mut tx, &holder.source.name, breaker).await?;
    tx.commit().await?;
    if is_new {
        store.outbox_filled().notify_one();
    }
    Ok(true)
}

async fn has_changed(
    tx: &mut Tx,
    document: EventId,
    version: i64,
    content: &Content,
) -> Result<bool, StoreError> {
    let text = "SELECT sha256 FROM document_versions WHERE document = $1 AND version = $2".to_owned();
    let rows = fetch(tx, text, [document.into(), version.into()]).await?;
    let known = rows.first().map(|row| row.try_get::<String, _>("sha256")).transpose()?;
    Ok(known.as_deref() != Some(&content.sha256))
}

/// A new version, its announcement, and what it names.
async fn keep(
    tx: &mut Tx,
    source: &Source,
    due: &Due,
    version: i64,
    content: &Content,
) -> Result<(), StoreError> {
    let row = vec![
        due.id.into(),
        version.into(),
        due.asked_by.into(),
        content.fetched_at.into(),
        (&content.content_type).into(),
        content.size().into(),
        (&content.sha256).into(),
        Value::Bytes(content.document.is_some().then(|| content.body.clone())),
    ];
    let into =
        "document_versions (document, version, event_id, fetched_at, content_type, size, sha256, body)";
    insert(tx, into, "", vec![row]).await?;
    let event = announced(source.provider.name(), &source.name, due, version, content);
    outbox::write(tx, &[event], event::now()).await?;
    let named =
        named_by_document(source, &due.entity, &content.body, due.asked_by, due.traceparent.as_deref());
    ask_once(tx, source, named).await
}

async fn set_breaker(tx: &mut Tx, source: &SourceName, breaker: &Breaker) -> Result<(), StoreError> {
    let long = |time: Option<Timestamp>| Value::Long(time.map(Timestamp::as_microsecond));
    let text =
        "UPDATE document_sources SET failures = $2, failing_since = $3, held_until = $4 WHERE source = $1";
    let values = [
        Value::from(source),
        breaker.failures().into(),
        long(breaker.failing_since()),
        long(breaker.held_until()),
    ];
    fetch(tx, text.to_owned(), values).await?;
    Ok(())
}

pub(crate) fn time(row: &AnyRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let microseconds: Option<i64> = row.try_get(column)?;
    Ok(microseconds.and_then(|microseconds| Timestamp::from_microsecond(microseconds).ok()))
}

/// The content of a version.
pub struct Body {
    /// Its media type.
    pub content_type: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The content; `None` of a file, which is in the [`Archive`](crate::Archive).
    pub body: Option<Vec<u8>>,
}

/// The content of a version of a document, by default of the newest; `None` if there is none.
pub async fn body(
    connection: &mut Connection,
    document: EventId,
    version: Option<i64>,
) -> Result<Option<Body>, StoreError> {
    let text = "SELECT content_type, sha256, body FROM document_versions WHERE document = $1 \
                AND (version = $2 OR $2 = 0) ORDER BY version DESC LIMIT 1";
    let rows = fetch(connection, text.to_owned(), [document.into(), version.unwrap_or(0).into()]).await?;
    let body = rows.first().map(|row| {
        let (content_type, sha256) = (row.try_get("content_type")?, row.try_get("sha256")?);
        Ok::<_, StoreError>(Body { content_type, sha256, body: row.try_get("body")? })
    });
    body.transpose()
}

/// A source whose API fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Its name.
    pub source: String,
    /// Since when every request has failed.
    pub since: Timestamp,
    /// How many documents wait.
    pub waiting: i64,
}

/// The sources whose API fails.
pub async fn failing(store: &Store) -> Result<Vec<Failing>, StoreError> {
    let waiting = |kind: &str| {
        format!("(SELECT count(*) FROM documents WHERE source = s.source AND due_at IS NOT NULL AND {kind})")
    };
    let text = format!(
        "SELECT s.source, s.failing_since, {} + {} AS waiting FROM document_sources s \
         WHERE s.failing_since IS NOT NULL ORDER BY s.source",
        waiting(OF_DOCUMENTS),
        waiting(OF_FILES)
    );
    let rows = fetch(&mut *store.read().await?, text, []).await?;
    let one = |row: &AnyRow| {
        let since = time(row, "failing_since")?.unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Failing { source: row.try_get("source")?, since, waiting: row.try_get("waiting")? })
    };
    rows.iter().map(one).collect()
}
