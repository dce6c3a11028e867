//! A list as one value: how its rows are filtered, read, described and displayed.
//!
//! Place in the flow: the ledger and each domain declare a [`View`] for every list that they keep. The console derives
//! a route and a part of the OpenAPI document from it, the command line a command with its help and its table. This
//! crate knows no table, no HTTP and no terminal.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use store::{Connection, Page, Paged, StoreError};
//! use view::{Column, Form, Reading, Row, Shown, View, column, shown};
//!
//! /// An order.
//! #[derive(Serialize, Deserialize, utoipa::ToSchema)]
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
//! impl Shown for Order {
//!     const COLUMNS: &'static [Column<Self>] = &[column("Order", |row| shown(&row.id), Form::Id)];
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
//!     example: "id=1",
//!     empty: "No orders yet.",
//!     reading: Reading::new::<Order>(),
//! };
//! assert_eq!(ORDERS.filters(), ["id"]);
//! ```

mod column;
mod filter;
mod mask;
mod moment;
mod reading;
mod written;

pub use column::{Column, Form, Table, Tone, Tones, column, dropped, shown};
pub use filter::{BadParameter, Field, Kind, check, names, read};
pub use mask::{MASK, is_personal, is_personal_name, mask_body, mask_rows, people, person};
pub use moment::{Moment, NotAMoment};
pub use reading::{Described, List, NoFilter, PageJson, Reading, Row, Shown, TableRow, Unread, read_rows};
pub use written::{time, written};

use serde_json::value::RawValue;
use store::{Connection, Page};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Schema};

/// A list; by default one in the database.
#[derive(Debug)]
pub struct View<R = Reading> {
    /// Its path under `/api/v1`, and its command. `{id}` stands for a parameter of the filter.
    pub name: &'static str,
    /// The section of the API that it belongs to.
    pub tag: &'static str,
    /// What it lists: a sentence without a full stop.
    pub about: &'static str,
    /// The name of one row.
    pub row: &'static str,
    /// The name of several rows.
    pub rows: &'static str,
    /// An example of a filter; empty if the list has none.
    pub example: &'static str,
    /// The text for an empty list, with the next step.
    pub empty: &'static str,
    /// How its rows are read and described.
    pub reading: R,
}

impl<R: AsRef<Described>> View<R> {
    /// The names of its filter parameters.
    pub fn filters(&self) -> Vec<String> {
        let is_query = |parameter: &Parameter| parameter.parameter_in == ParameterIn::Query;
        self.parameters().into_iter().filter(is_query).map(|parameter| parameter.name).collect()
    }

    /// The same, with what each chooses and what its values are.
    pub fn fields(&self) -> Vec<Field> {
        let (names, schemas) = (self.filters(), self.schemas());
        let parameters = self.parameters().into_iter().filter(|parameter| names.contains(&parameter.name));
        parameters.map(|parameter| Field::new(parameter, &schemas)).collect()
    }

    /// The same as parameters of the API, with those of the path.
    pub fn parameters(&self) -> Vec<Parameter> {
        (self.reading.as_ref().parameters)()
    }

    /// The schemas of the API that describe a page, by name; that of the page itself is the first.
    pub fn schemas(&self) -> Vec<(String, RefOr<Schema>)> {
        (self.reading.as_ref().schemas)()
    }

    /// The fields of its rows that say something of a person.
    pub fn personal(&self) -> &'static [&'static str] {
        self.reading.as_ref().personal
    }

    /// Whether it is read page by page; else all of it is on one page.
    pub fn is_paged(&self) -> bool {
        self.reading.as_ref().is_paged
    }

    /// These rows, as the API answered with them, in the columns that people want to see.
    ///
    /// # Errors
    /// A row is of another form: says which field.
    pub fn table(&self, rows: &[Box<RawValue>]) -> serde_json::Result<Table> {
        (self.reading.as_ref().table)(rows)
    }
}

impl View {
    /// Checks a parameter of the filter; an error says what is wrong with it.
    pub fn check(&self, parameter: &str, value: &str) -> Result<(), BadParameter> {
        (self.reading.check)(parameter, value)
    }

    /// A page of the rows that match the filter, given by parameter. What they say of people is masked.
    pub async fn page(
        &self,
        connection: &mut Connection,
        filter: &[(String, String)],
        page: &Page,
    ) -> Result<PageJson, Unread> {
        let answer = self.page_revealed(connection, filter, page).await?;
        Ok(match self.personal() {
            [] => answer,
            fields => {
                let masked = mask_rows(&answer.json, fields, self.reading.as_ref().parties);
                PageJson { json: masked.expect("an answer is JSON"), ..answer }
            }
        })
    }

    /// The same with everything that the rows say, for those who may see it.
    pub async fn page_revealed(
        &self,
        connection: &mut Connection,
        filter: &[(String, String)],
        page: &Page,
    ) -> Result<PageJson, Unread> {
        (self.reading.page)(connection, filter, page).await
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    struct Toy {
        name: String,
        price: Option<i64>,
    }

    impl Shown for Toy {
        const COLUMNS: &'static [Column<Self>] = &[
            column("Toy", |row| shown(&row.name), Form::Text),
            column("Price", |row| shown(&row.price), Form::Money),
        ];
    }

    static TOYS: View<Described> = View {
        name: "toys",
        tag: "books",
        about: "Toys",
        row: "toy",
        rows: "toys",
        example: "",
        empty: "No toys.",
        reading: Described::new::<Toy>(),
    };

    #[test]
    fn a_state_has_the_tone_that_its_list_declares_and_of_several_the_worst_counts() {
        const TONES: Tones = &[("handled", Tone::Good), ("pending", Tone::Waiting), ("dead", Tone::Bad)];
        let check = |form: Form, value, expect| assert_eq!(form.tone(&value), expect, "{form:?} {value}");
        check(Form::State(TONES), json!("pending"), Some(Tone::Waiting));
        check(Form::State(TONES), json!("other"), None);
        check(Form::State(TONES), json!(null), None);
        check(Form::Text, json!("dead"), None);
        check(Form::States(TONES), json!({"a": "handled", "dead": "pending"}), Some(Tone::Waiting));
        check(Form::States(TONES), json!({"a": "dead", "b": "handled"}), Some(Tone::Bad));
        check(Form::States(TONES), json!({}), None);
    }

    #[test]
    fn rows_are_shown_through_their_type_and_what_a_later_release_adds_is_ignored() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let table = TOYS.table(&[raw(r#"{"name": "car", "price": 5, "new": 1}"#), raw(r#"{"name": "a"}"#)]);
        let Table { columns, rows, .. } = table.unwrap();
        assert_eq!(columns, [("Toy", Form::Text), ("Price", Form::Money)]);
        assert_eq!(rows, [[json!("car"), json!(5)], [json!("a"), json!(null)]]);
        let error = TOYS.table(&[raw(r#"{"price": 5}"#)]).unwrap_err();
        assert!(error.to_string().starts_with("missing field `name`"), "{error}");
    }
}
