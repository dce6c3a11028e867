//! A list as one value: how its rows are filtered, read, described and displayed.
//!
//! Place in the flow: the ledger and each domain declare a [`View`] for every list that they keep. The console derives
//! a route and a part of the OpenAPI document from it, the command line a command with its help and its table. This
//! crate knows no table, no HTTP and no terminal.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use store::{Connection, Page, Paged, StoreError};
//! use view::{Form, Reading, Row, View, column};
//!
//! /// An order.
//! #[derive(Serialize, utoipa::ToSchema)]
//! struct Order {
//!     /// The provider's id.
//!     id: String,
//! }
//!
//! /// Which orders.
//! #[derive(Default, Deserialize, utoipa::IntoParams)]
//! #[into_params(parameter_in = Query)]
//! struct Filter {
//!     /// The provider's id.
//!     id: Option<String>,
//! }
//!
//! impl Row for Order {
//!     type Filter = Filter;
//!
//!     async fn page(_: &mut Connection, filter: &Filter, _: &Page) -> Result<Paged<Self>, StoreError> {
//!         let items = filter.id.iter().map(|id| Order { id: id.clone() }).collect();
//!         Ok(Paged { items, next: None })
//!     }
//! }
//!
//! static ORDERS: View = View {
//!     name: "orders",
//!     tag: "books",
//!     about: "Orders",
//!     row: "order",
//!     rows: "orders",
//!     columns: &[column("Order", "id", Form::Id)],
//!     example: "id=1",
//!     empty: "No orders yet.",
//!     reading: Reading::new::<Order>(),
//! };
//! assert_eq!(ORDERS.filters(), ["id"]);
//! ```

mod column;
mod filter;
mod reading;

pub use column::{Column, Form, column};
pub use filter::{BadParameter, check, names, read};
pub use reading::{Answer, List, Reading, Row, Unread};

use store::{Connection, Page};
use utoipa::openapi::path::Parameter;

/// A list.
#[derive(Debug)]
pub struct View {
    /// Its path under `/api/v1`, and its command.
    pub name: &'static str,
    /// The section of the API that it belongs to.
    pub tag: &'static str,
    /// What it lists: a sentence without a full stop.
    pub about: &'static str,
    /// The name of one row.
    pub row: &'static str,
    /// The name of several rows.
    pub rows: &'static str,
    /// The columns for display.
    pub columns: &'static [Column],
    /// An example of a filter.
    pub example: &'static str,
    /// The text for an empty list, with the next step.
    pub empty: &'static str,
    /// How its rows are read and described.
    pub reading: Reading,
}

impl View {
    /// The names of its filter parameters.
    pub fn filters(&self) -> Vec<String> {
        self.parameters().into_iter().map(|parameter| parameter.name).collect()
    }

    /// The same as parameters of the API.
    pub fn parameters(&self) -> Vec<Parameter> {
        (self.reading.parameters)()
    }

    /// Checks a parameter of the filter; an error says what is wrong with it.
    pub fn check(&self, parameter: &str, value: &str) -> Result<(), BadParameter> {
        (self.reading.check)(parameter, value)
    }

    /// A page of the rows that match the filter, given by parameter.
    pub async fn page(
        &self,
        connection: &mut Connection,
        filter: &[(String, String)],
        page: &Page,
    ) -> Result<Answer, Unread> {
        (self.reading.page)(connection, filter, page).await
    }
}
