//! How rows of a type are read and described, with the type erased.

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{Connection, Page, Paged, StoreError};
use utoipa::openapi::path::Parameter;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::filter::{self, BadParameter};

/// A row of a list.
pub trait Row: Serialize + ToSchema + Sized + 'static {
    /// The filter: every given field must match. Its fields are the parameters of the list.
    type Filter: DeserializeOwned + IntoParams + Send + Sync;

    /// A page of the matching rows, newest first.
    fn page(
        connection: &mut Connection,
        filter: &Self::Filter,
        page: &Page,
    ) -> impl Future<Output = Result<Paged<Self>, StoreError>> + Send;
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub struct List<T> {
    /// The rows, newest first.
    items: Vec<T>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
}

impl<T> From<Paged<T>> for List<T> {
    fn from(Paged { items, next }: Paged<T>) -> Self {
        Self { items, next }
    }
}

/// A page as the API answers it.
#[derive(Debug)]
pub struct Answer {
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
    /// The database did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Read<'a> = Pin<Box<dyn Future<Output = Result<Answer, Unread>> + Send + 'a>>;

/// How the rows of a list are read and described.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub(crate) parameters: fn() -> Vec<Parameter>,
    pub(crate) check: fn(&str, &str) -> Result<(), BadParameter>,
    pub(crate) page: for<'a> fn(&'a mut Connection, &'a [(String, String)], &'a Page) -> Read<'a>,
    schemas: fn() -> Vec<(String, RefOr<Schema>)>,
}

impl Reading {
    /// Reads and describes rows of this type.
    pub const fn new<R: Row>() -> Self {
        Self {
            parameters: || R::Filter::into_params(|| None),
            check: filter::check::<R::Filter>,
            page: page::<R>,
            schemas: schemas::<R>,
        }
    }

    /// The schemas of the API that describe a page, by name; that of the page itself is the first.
    pub fn schemas(&self) -> Vec<(String, RefOr<Schema>)> {
        (self.schemas)()
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
        Ok(Answer { json, is_empty: list.items.is_empty() })
    })
}

/// Named and composed as the OpenAPI derive does for the answer of a handler.
fn schemas<R: Row>() -> Vec<(String, RefOr<Schema>)> {
    let name = format!("{}_{}", List::<R>::name(), R::name());
    let mut schemas = vec![(name, List::<R>::schema())];
    List::<R>::schemas(&mut schemas);
    schemas.push((R::name().into_owned(), R::schema()));
    R::schemas(&mut schemas);
    schemas
}
