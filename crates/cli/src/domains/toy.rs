//! A fourth domain: everything that a crate of its own would contain. It is in the registry of tests only.

use std::sync::Arc;

use async_trait::async_trait;
use consumer::{Bindings, Consumer, DEFAULT_RETRY, Domain, Failure, Handler, Permanent};
use event::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::many::{insert, rounds};
use store::{
    AnyRow, Component, Conditions, Connection, DriverError, List, Migration, Page, Paged, Row, StoreError, Tx,
};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, View, column, shown};

/// The domain.
pub static DOMAIN: Domain = Domain {
    bindings: Bindings {
        consumer: "toys",
        purpose: "counts toys",
        topics: &[("mercado-eletronico", &["toy.*"])],
        prefetch: 16,
        retry: DEFAULT_RETRY,
    },
    component: Component {
        name: "toys",
        migrations: &[Migration::portable(
            1,
            "toys",
            "CREATE TABLE toys (name TEXT NOT NULL PRIMARY KEY, made BIGINT NOT NULL, first_event TEXT NOT NULL);",
        )],
    },
    views: &[&TOYS],
    consumer: |_, runtime| Consumer::new(&DOMAIN.bindings, Arc::new(Toys), runtime),
};

struct Toys;

#[async_trait]
impl Handler for Toys {
    /// The name of the toy that was made.
    type Fact = String;

    fn read(&self, event: &Event) -> Result<String, Permanent> {
        let body: Value = serde_json::from_slice(&event.data).map_err(Permanent::new)?;
        body["toy"].as_str().map(str::to_owned).ok_or_else(|| Permanent::new("toy: missing"))
    }

    async fn write(&self, facts: &[(&Event, &String)], tx: &mut Tx) -> Result<(), Failure> {
        let rows = facts.iter().map(|(event, toy)| (*toy, vec![(*toy).into(), 1.into(), (&event.id).into()]));
        for round in rounds(rows) {
            let tail = "ON CONFLICT (name) DO UPDATE SET made = toys.made + 1";
            insert(tx, "toys (name, made, first_event)", tail, round).await?;
        }
        Ok(())
    }
}

/// A toy.
#[derive(Serialize, Deserialize, ToSchema)]
struct Toy {
    /// Its name.
    name: String,
    /// How many were made.
    made: i64,
}

/// The filter.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// The toy's name.
    name: Option<String>,
}

impl view::Row for Toy {
    type Filter = Filter;

    async fn page(
        connection: &mut Connection,
        filter: &Filter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        const LIST: List<'_> = List::new("SELECT name, made, first_event FROM toys", &["first_event"]);
        let mut conditions = Conditions::default();
        conditions.with("name =", filter.name.as_ref());
        let toy = |row: &AnyRow| -> Result<Self, DriverError> {
            Ok(Self { name: row.try_get("name")?, made: row.try_get("made")? })
        };
        LIST.page(connection, conditions, page, toy).await
    }
}

impl Shown for Toy {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Toy", |row| shown(&row.name), Form::Text),
        column("Made", |row| shown(&row.made), Form::Number),
    ];
}

static TOYS: View = View {
    name: "toys",
    tag: "books",
    about: "Toys that were made",
    row: "toy",
    rows: "toys",
    example: "name=car",
    empty: "No toys yet.",
    reading: Reading::new::<Toy>(),
};
