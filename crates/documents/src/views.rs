//! The lists of documents and their versions.

use event::{EventId, Timestamp};
use serde::{Deserialize, Serialize};
use store::many::Value;
use store::{AnyRow, Conditions, Connection, IdPrefix, List, Page, Paged, Row, StoreError, id, optional_id};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, Tone, Tones, View, column, dropped, shown};

use crate::document::DocumentState;
use crate::table::time;

/// Which documents: those that agree with every field given.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DocumentFilter {
    /// The document's id, or its beginning.
    #[param(value_type = Option<String>)]
    pub id: Option<IdPrefix>,
    /// The source's name.
    pub source: Option<String>,
    /// What it is about, such as `invoice`.
    pub entity: Option<String>,
    /// The provider's id.
    pub external_id: Option<String>,
    /// Where it stands.
    pub state: Option<DocumentState>,
}

/// A document, with its newest version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentRow {
    /// Its id.
    pub id: String,
    /// The source's name.
    pub source: String,
    /// What it is about, such as `invoice`.
    pub entity: String,
    /// The provider's id. Of a file, a hash of its address and name.
    pub external_id: String,
    /// The number of the newest version; 0 if there is none.
    pub version: i64,
    /// Where it stands.
    pub state: DocumentState,
    /// Why it waits, is not fetched, or has no content any more.
    pub reason: Option<String>,
    /// When the newest version was fetched.
    pub fetched_at: Option<String>,
    /// When it is fetched next.
    pub due_at: Option<String>,
    /// The media type of the newest version.
    pub content_type: Option<String>,
    /// Its size in bytes.
    pub size: Option<i64>,
    /// Its SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// The event that asked for the newest version; where there is none, the newest event that names the document.
    pub event_id: String,
}

/// A version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionRow {
    /// Its number, from 1 on.
    pub version: i64,
    /// When it was fetched.
    pub fetched_at: String,
    /// Its media type.
    pub content_type: String,
    /// Its size in bytes.
    pub size: i64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The event that asked for it.
    pub event_id: String,
}

/// Which versions: those of one document.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct VersionFilter {
    /// The document's id.
    pub id: String,
}

impl DocumentRow {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let written = |column| Ok::<_, StoreError>(time(row, column)?.map(|time| time.to_string()));
        let reason: String = row.try_get("reason")?;
        let event = match optional_id(row, "event_id")? {
            Some(event) => event,
            None => id(row, "asked_by")?,
        };
        Ok(Self {
            id: id(row, "id")?.to_string(),
            source: row.try_get("source")?,
            entity: row.try_get("entity")?,
            external_id: row.try_get("external_id")?,
            version: row.try_get("version")?,
            state: DocumentState::from_row(row)?,
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            fetched_at: written("fetched_at")?,
            due_at: written("due_at")?,
            content_type: row.try_get("content_type")?,
            size: row.try_get("size")?,
            sha256: row.try_get("sha256")?,
            event_id: event.to_string(),
        })
    }
}

impl view::Row for DocumentRow {
    type Filter = DocumentFilter;

    async fn page(
        connection: &mut Connection,
        filter: &DocumentFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        const LIST: List<'_> = List::by_id(
            "SELECT d.id, d.source, d.entity, d.external_id, d.version, d.state, d.reason, d.due_at, d.asked_by, \
             v.fetched_at, v.content_type, v.size, v.sha256, v.event_id FROM documents d \
             LEFT JOIN document_versions v ON v.document = d.id AND v.version = d.version",
            &["d.id"],
        );
        let mut conditions = Conditions::default();
        conditions.with_id("d.id", filter.id);
        conditions.with("d.source =", filter.source.as_ref());
        conditions.with("d.entity =", filter.entity.as_ref());
        conditions.with("d.external_id =", filter.external_id.as_ref());
        conditions.with("d.state =", filter.state.map(|state| Value::from(state.as_str())));
        LIST.page(connection, conditions, page, Self::read).await
    }
}

impl view::Row for VersionRow {
    type Filter = VersionFilter;

    async fn page(
        connection: &mut Connection,
        filter: &VersionFilter,
        _: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        let Ok(document) = filter.id.parse::<EventId>() else {
            return Ok(Paged { items: Vec::new(), next: None });
        };
        let text = "SELECT version, fetched_at, content_type, size, sha256, event_id FROM document_versions \
                    WHERE document = $1 ORDER BY version DESC";
        let rows = store::many::fetch(connection, text.to_owned(), [document.into()]).await?;
        let version = |row: &AnyRow| {
            Ok(Self {
                version: row.try_get("version")?,
                fetched_at: time(row, "fetched_at")?.map(|time| time.to_string()).unwrap_or_default(),
                content_type: row.try_get("content_type")?,
                size: row.try_get("size")?,
                sha256: row.try_get("sha256")?,
                event_id: id(row, "event_id")?.to_string(),
            })
        };
        let items = rows.iter().map(version).collect::<Result<_, StoreError>>()?;
        Ok(Paged { items, next: None })
    }
}

/// What the states mean to those who read them.
const TONES: Tones =
    &[("fetched", Tone::Good), ("waiting", Tone::Waiting), ("gone", Tone::Bad), ("refused", Tone::Bad)];

impl Shown for DocumentRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Id", |row| shown(&row.id), Form::Id),
        dropped(3, column("Source", |row| shown(&row.source), Form::Text)),
        column("Entity", |row| shown(&row.entity), Form::Text),
        column("External id", |row| shown(&row.external_id), Form::Text),
        column("State", |row| shown(&row.state), Form::State(TONES)),
        dropped(2, column("Version", |row| shown(&row.version), Form::Number)),
        dropped(4, column("Fetched", |row| shown(&row.fetched_at), Form::Time)),
        dropped(1, column("Size", |row| shown(&row.size), Form::Number)),
        column("Reason", |row| shown(&row.reason), Form::Text),
    ];
}

impl Shown for VersionRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Version", |row| shown(&row.version), Form::Number),
        column("Fetched", |row| shown(&row.fetched_at), Form::Time),
        dropped(2, column("Type", |row| shown(&row.content_type), Form::Text)),
        column("Size", |row| shown(&row.size), Form::Number),
        dropped(1, column("SHA-256", |row| shown(&row.sha256), Form::Text)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];
}

/// `documents`
pub static DOCUMENTS: View = View {
    name: "documents",
    tag: "documents",
    about: "What events only name, as it was fetched from the API of its provider, or why it was not",
    row: "document",
    rows: "documents",
    example: "state=waiting",
    empty: "No documents. They are fetched for sources with an `api`; docs/configuration.toml shows how.",
    reading: Reading::new::<DocumentRow>(),
};

/// `documents/{id}/versions`
pub static VERSIONS: View = View {
    name: "documents/{id}/versions",
    tag: "documents",
    about: "The versions of a document, the newest first",
    row: "version",
    rows: "versions",
    example: "",
    empty: "No version of it was fetched yet.",
    reading: Reading::whole::<VersionRow>(),
};

/// Every list of documents.
pub static VIEWS: [&View; 2] = [&DOCUMENTS, &VERSIONS];

/// How the API of a source answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceApi {
    /// How many requests have failed in a row.
    pub failures: i64,
    /// Since when all have failed; null if the last one has not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// Before this time nothing is asked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub held_until: Option<Timestamp>,
}

/// How the API of a source answers; `None` if its documents are not fetched.
pub async fn source_api(connection: &mut Connection, source: &str) -> Result<Option<SourceApi>, StoreError> {
    let text = "SELECT failures, failing_since, held_until FROM document_sources WHERE source = $1";
    let rows = store::many::fetch(connection, text.to_owned(), [Value::from(source)]).await?;
    let api = |row: &AnyRow| {
        Ok(SourceApi {
            failures: row.try_get("failures")?,
            failing_since: time(row, "failing_since")?,
            held_until: time(row, "held_until")?,
        })
    };
    rows.first().map(api).transpose()
}

/// A document with all its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentDetail {
    /// The document.
    #[serde(flatten)]
    pub row: DocumentRow,
    /// Its versions, the newest first.
    pub versions: Vec<VersionRow>,
}

/// A document with all its versions; `None` if there is none with this id.
pub async fn show(
    connection: &mut Connection,
    document: EventId,
) -> Result<Option<DocumentDetail>, StoreError> {
    let id = document.to_string();
    let filter = DocumentFilter { id: Some(document.into()), ..DocumentFilter::default() };
    let found = <DocumentRow as view::Row>::page(connection, &filter, &Page::first(1)).await?;
    let Some(row) = found.items.into_iter().next() else { return Ok(None) };
    let versions =
        <VersionRow as view::Row>::page(connection, &VersionFilter { id }, &Page::first(1)).await?;
    Ok(Some(DocumentDetail { row, versions: versions.items }))
}
