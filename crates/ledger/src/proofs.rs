//! What the ingresses report of each source beside their counts: its secrets with their last use, and the last refused requests.
//!
//! A secret is known by a keyed hash that its ingress makes: it tells secrets apart, and helps nobody to guess one. Reports may
//! come late, twice, and from several ingresses: a time of use only grows, and which secrets there are is what the newest report
//! says.

use event::{SourceName, Timestamp};
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch, insert};
use store::{AnyRow, Connection, Row, StoreError, Tx, optional_time, time};
use utoipa::ToSchema;
use view::{Column, Described, Form, Shown, Tone, Tones, View, column, dropped, shown};

/// What an ingress says of a source.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SourceReport {
    source: SourceName,
    secrets: Vec<SecretReport>,
    refusals: Vec<RefusalReport>,
}

#[derive(Clone, Debug, Deserialize)]
struct SecretReport {
    setting: String,
    place: i64,
    fingerprint: String,
    used_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize)]
struct RefusalReport {
    reason: String,
    failed: Option<String>,
    at: Timestamp,
}

/// Writes reports, each with its time.
pub(crate) async fn write(
    tx: &mut Tx,
    mut reports: Vec<(Timestamp, SourceReport)>,
) -> Result<(), StoreError> {
    // Two transactions wait for each other in one order only.
    reports.sort_by(|(at, one), (other_at, other)| (&one.source, at).cmp(&(&other.source, other_at)));
    for (at, SourceReport { source, mut secrets, mut refusals }) in reports {
        secrets.sort_by(|one, other| {
            (&one.setting, &one.fingerprint).cmp(&(&other.setting, &other.fingerprint))
        });
        secrets.dedup_by(|one, other| one.setting == other.setting && one.fingerprint == other.fingerprint);
        refusals.sort_by(|one, other| one.reason.cmp(&other.reason));
        write_secrets(tx, &source, at, secrets).await?;
        let row = |one: RefusalReport| {
            vec![Value::from(&source), one.reason.into(), one.failed.into(), one.at.into()]
        };
        let tail = "ON CONFLICT (source, reason) DO UPDATE SET failed = excluded.failed, refused_at = excluded.refused_at \
                    WHERE excluded.refused_at > source_refusals.refused_at";
        let into = "source_refusals (source, reason, failed, refused_at)";
        insert(tx, into, tail, refusals.into_iter().map(row).collect()).await?;
    }
    Ok(())
}

async fn write_secrets(
    tx: &mut Tx,
    source: &SourceName,
    at: Timestamp,
    secrets: Vec<SecretReport>,
) -> Result<(), StoreError> {
    let text = "SELECT max(CASE WHEN removed_at > seen_at THEN removed_at ELSE seen_at END) AS newest \
                FROM source_secrets WHERE source = $1";
    let rows = fetch(tx, text.to_owned(), [Value::from(source)]).await?;
    let newest = rows.first().map(|row| optional_time(row, "newest")).transpose()?.flatten();
    // A late report says when secrets were used, and nothing of which there are now.
    let later = newest.filter(|newest| *newest >= at);
    let row = |one: SecretReport| {
        vec![
            Value::from(source),
            one.setting.into(),
            one.fingerprint.into(),
            one.place.into(),
            // A report comes a moment after the first use.
            one.used_at.map_or(at, |used| used.min(at)).into(),
            at.into(),
            one.used_at.map(Timestamp::as_microsecond).into(),
            later.map(Timestamp::as_microsecond).into(),
        ]
    };
    let mut tail = "ON CONFLICT (source, setting, fingerprint) DO UPDATE SET \
                    used_at = CASE WHEN excluded.used_at > coalesce(source_secrets.used_at, 0) THEN excluded.used_at \
                    ELSE source_secrets.used_at END, \
                    first_seen_at = CASE WHEN excluded.first_seen_at < source_secrets.first_seen_at \
                    THEN excluded.first_seen_at ELSE source_secrets.first_seen_at END"
        .to_owned();
    if later.is_none() {
        tail += ", place = excluded.place, seen_at = excluded.seen_at, removed_at = NULL";
    }
    let into =
        "source_secrets (source, setting, fingerprint, place, first_seen_at, seen_at, used_at, removed_at)";
    insert(tx, into, &tail, secrets.into_iter().map(row).collect()).await?;
    let text =
        "UPDATE source_secrets SET removed_at = $2 WHERE source = $1 AND seen_at < $2 AND removed_at IS NULL";
    if later.is_none() {
        fetch(tx, text.to_owned(), [Value::from(source), at.into()]).await?;
    }
    Ok(())
}

/// What is known of the use of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretState {
    /// Of the secrets of its setting, it was used last.
    Latest,
    /// Another one of its setting was used later.
    Earlier,
    /// It is accepted, and no request has had it.
    Unused,
    /// It is not configured any more.
    Removed,
}

/// A secret of a source. The secret itself is nowhere: its place in the list says which one it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceSecret {
    /// The setting with the list that it is in.
    pub setting: String,
    /// Its place in this list, from 0 on.
    pub place: i64,
    /// What is known of its use.
    pub state: SecretState,
    /// When an ingress had it first, since these times are kept.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen_at: Timestamp,
    /// When a request had it last, to the second, as the ingresses report it every few seconds.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<Timestamp>,
    /// When an ingress did not have it any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub removed_at: Option<Timestamp>,
}

const TONES: Tones = &[("latest", Tone::Good), ("earlier", Tone::Waiting), ("unused", Tone::Waiting)];

impl Shown for SourceSecret {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Setting", |row| shown(&row.setting), Form::Text),
        column("Place", |row| shown(&row.place), Form::Number),
        column("Use", |row| shown(&row.state), Form::State(TONES)),
        column("Last used", |row| shown(&row.used_at), Form::Time),
        column("First seen", |row| shown(&row.first_seen_at), Form::Time),
        dropped(1, column("Removed", |row| shown(&row.removed_at), Form::Time)),
    ];
}

/// The secrets of a source, as they are shown.
pub static SOURCE_SECRETS: View<Described> = View {
    name: "sources/{name}/secrets",
    tag: "sources",
    about: "The secrets of a source, with their last use",
    row: "secret",
    rows: "secrets",
    example: "",
    empty: "No ingress has reported a secret of this source.",
    reading: Described::new::<SourceSecret>(),
};

/// The last request of a source that was refused for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceRefusal {
    /// The kind of refusal in a few words.
    pub reason: String,
    /// The mechanisms that the request did not pass.
    pub failed: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub refused_at: Timestamp,
}

impl Shown for SourceRefusal {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Last", |row| shown(&row.refused_at), Form::Time),
        column("Reason", |row| shown(&row.reason), Form::State(&[])),
        column("Not passed", |row| shown(&row.failed), Form::Text),
    ];
}

/// The last refused requests of a source, as they are shown.
pub static SOURCE_REFUSALS: View<Described> = View {
    name: "sources/{name}/refusals",
    tag: "sources",
    about: "The last refused request of a source for each reason",
    row: "refused request",
    rows: "refused requests",
    example: "",
    empty: "No request of this source was refused.",
    reading: Described::new::<SourceRefusal>(),
};

/// The secrets of a source: those that are accepted first, by setting and place.
pub async fn source_secrets(
    connection: &mut Connection,
    source: &str,
) -> Result<Vec<SourceSecret>, StoreError> {
    let text = "SELECT setting, place, first_seen_at, used_at, removed_at, \
                max(CASE WHEN removed_at IS NULL THEN used_at END) OVER (PARTITION BY setting) AS newest \
                FROM source_secrets WHERE source = $1 \
                ORDER BY CASE WHEN removed_at IS NULL THEN 0 ELSE 1 END, removed_at DESC, setting, place";
    let rows = fetch(connection, text.to_owned(), [Value::from(source)]).await?;
    let secret = |row: &AnyRow| {
        let (used_at, newest) = (optional_time(row, "used_at")?, optional_time(row, "newest")?);
        let removed_at = optional_time(row, "removed_at")?;
        let setting: String = row.try_get("setting")?;
        let state = match (removed_at, used_at) {
            (Some(_), _) => SecretState::Removed,
            (None, None) => SecretState::Unused,
            (None, used_at) if used_at == newest => SecretState::Latest,
            (None, _) => SecretState::Earlier,
        };
        Ok(SourceSecret {
            setting: format!("auth.{setting}"),
            place: row.try_get("place")?,
            state,
            first_seen_at: time(row, "first_seen_at")?,
            used_at,
            removed_at,
        })
    };
    rows.iter().map(secret).collect()
}

/// The last refused requests of a source, the newest first: one for each reason.
pub async fn source_refusals(
    connection: &mut Connection,
    source: &str,
) -> Result<Vec<SourceRefusal>, StoreError> {
    let text = "SELECT reason, failed, refused_at FROM source_refusals WHERE source = $1 ORDER BY refused_at DESC, reason";
    let rows = fetch(connection, text.to_owned(), [Value::from(source)]).await?;
    let refusal = |row: &AnyRow| {
        Ok(SourceRefusal {
            reason: row.try_get("reason")?,
            failed: row.try_get("failed")?,
            refused_at: time(row, "refused_at")?,
        })
    };
    rows.iter().map(refusal).collect()
}
