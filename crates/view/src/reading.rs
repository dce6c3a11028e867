//! How rows of a type are read, described and shown, with the type erased.

use std::future::Future;
use std::pin::Pin;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{AnyRow, Conditions, Connection, Page, Paged, StoreError};
use utoipa::openapi::path::Parameter;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::column::{Column, Table};
use crate::filter::{self, BadParameter};

/// A row as the API answers with it and its clients read it: one type for both. A client ignores unknown fields.
pub trait Shown: Serialize + DeserializeOwned + ToSchema + Sized + 'static {
    /// The columns for display.
    const COLUMNS: &'static [Column<Self>];

    /// The fields that say something of a person. They are masked unless somebody asks for them who may.
    const PERSONAL: &'static [&'static str] = &[];

    /// Those of them with the number of a party that is a company or a person: only a person's is masked.
    const PARTIES: &'static [&'static str] = &[];
}

/// A row of a list in the database.
pub trait Row: Shown {
    /// The filter: every given field must match. Its fields are the parameters of the list.
    type Filter: DeserializeOwned + IntoParams + Send + Sync;

    /// A page of the matching rows, newest first unless the list says otherwise.
    fn page(
        connection: &mut Connection,
        filter: &Self::Filter,
        page: &Page,
    ) -> impl Future<Output = Result<Paged<Self>, StoreError>> + Send;
}

/// A row that one statement gives, with conditions that follow from the filter alone: what most lists are.
pub trait TableRow: Shown {
    /// The filter: every given field must match. Its fields are the parameters of the list.
    type Filter: DeserializeOwned + IntoParams + Send + Sync;

    /// The statement and the key of its rows.
    const LIST: store::List<'static>;

    /// Reads a row of the statement.
    const READ: fn(&AnyRow) -> Result<Self, StoreError>;

    /// The conditions of a filter.
    fn conditions(filter: &Self::Filter) -> Conditions;
}

impl<T: TableRow> Row for T {
    type Filter = T::Filter;

    fn page(
        connection: &mut Connection,
        filter: &T::Filter,
        page: &Page,
    ) -> impl Future<Output = Result<Paged<Self>, StoreError>> + Send {
        let conditions = T::conditions(filter);
        async move { T::LIST.page(connection, conditions, page, T::READ).await }
    }
}

/// The filter of a list that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
pub struct NoFilter {}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The rows, newest first.
    pub items: Vec<T>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
}

impl<T> From<Paged<T>> for List<T> {
    fn from(Paged { items, next }: Paged<T>) -> Self {
        Self { items, next }
    }
}

/// A page as the API answers it.
#[derive(Debug)]
pub struct PageJson {
    /// A [`List`] as JSON.
    pub json: String,
    /// Whether it has no rows.
    pub is_empty: bool,
}

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The filter cannot be used.
    #[error(transparent)]
    Filter(#[from] serde_urlencoded::de::Error),
    /// The request to the database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How rows are described and shown.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    pub(crate) parameters: fn() -> Vec<Parameter>,
    pub(crate) schemas: fn() -> Vec<(String, RefOr<Schema>)>,
    pub(crate) table: fn(&[Box<RawValue>]) -> serde_json::Result<Table>,
    pub(crate) personal: &'static [&'static str],
    pub(crate) parties: &'static [&'static str],
    pub(crate) is_paged: bool,
}

impl Described {
    /// Rows of this type, all on one page, that are read from elsewhere than the database.
    pub const fn new<R: Shown>() -> Self {
        Self {
            parameters: Vec::new,
            schemas: schemas::<R>,
            table: table::<R>,
            personal: R::PERSONAL,
            parties: R::PARTIES,
            is_paged: false,
        }
    }

    /// The same with a filter.
    pub const fn filtered<R: Shown, F: IntoParams>() -> Self {
        Self { parameters: || F::into_params(|| None), ..Self::new::<R>() }
    }
}

impl AsRef<Self> for Described {
    fn as_ref(&self) -> &Self {
        self
    }
}

type Read<'a> = Pin<Box<dyn Future<Output = Result<PageJson, Unread>> + Send + 'a>>;

/// How rows in the database are read, described and shown.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    described: Described,
    pub(crate) check: fn(&str, &str) -> Result<(), BadParameter>,
    pub(crate) page: for<'a> fn(&'a mut Connection, &'a [(String, String)], &'a Page) -> Read<'a>,
}

impl Reading {
    /// Reads and describes rows of this type, page by page.
    pub const fn new<R: Row>() -> Self {
        let parameters = || R::Filter::into_params(|| None);
        Self {
            described: Described { parameters, is_paged: true, ..Described::new::<R>() },
            check: filter::check::<R::Filter>,
            page: page::<R>,
        }
    }

    /// Rows of this type, all on one page.
    pub const fn whole<R: Row>() -> Self {
        let Self { described, check, page } = Self::new::<R>();
        Self { described: Described { is_paged: false, ..described }, check, page }
    }
}

impl AsRef<Described> for Reading {
    fn as_ref(&self) -> &Described {
        &self.described
    }
}

fn page<'a, R: Row>(
    connection: &'a mut Connection,
    given: &'a [(String, String)],
    page: &'a Page,
) -> Read<'a> {
    Box::pin(async move {
        let filter = filter::read(given)?;
        let list = List::from(R::page(connection, &filter, page).await?);
        let json = serde_json::to_string(&list).expect("a row is JSON");
        Ok(PageJson { json, is_empty: list.items.is_empty() })
    })
}

/// Rows of this type, as the API answered with them.
///
/// # Errors
/// A row is of another form: says which field.
pub fn read_rows<R: Shown>(rows: &[Box<RawValue>]) -> serde_json::Result<Vec<R>> {
    rows.iter().map(|row| serde_json::from_str(row.get())).collect()
}

fn table<R: Shown>(rows: &[Box<RawValue>]) -> serde_json::Result<Table> {
    Ok(Table::new(R::COLUMNS, &read_rows::<R>(rows)?))
}

/// Named and composed as the OpenAPI derive does for the answer of a handler.
fn schemas<R: Shown>() -> Vec<(String, RefOr<Schema>)> {
    let name = format!("{}_{}", List::<R>::name(), R::name());
    let mut schemas = vec![(name, List::<R>::schema())];
    List::<R>::schemas(&mut schemas);
    schemas.push((R::name().into_owned(), R::schema()));
    R::schemas(&mut schemas);
    schemas
}
