//! A whole domain in one file: everything that a crate of its own would contain. Only the tests of this crate add it to the
//! domains; the registry proper, `domains`, does not have it.

use std::sync::Arc;

use async_trait::async_trait;
use consumer::{
    Announcement, Bindings, Consumer, DEFAULT_RETRY, Domain, EventType, Failure, Handler, Permanent,
};
use event::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::many::{insert, rounds};
use store::{AnyRow, Component, Conditions, List, Migration, Row, StoreError, Tx};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, TableRow, View, column, shown};

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
    events: &[MADE.declared()],
    views: &[&TOYS],
    expectations: &[],
    consumer: |_, runtime| Consumer::new(&DOMAIN.bindings, Arc::new(Toys), runtime),
    check: |_, event| Toys.read(event).map(drop),
};

static MADE: EventType<ToyMade> = EventType::new("toy.made", "toy", "When a toy is made for the first time");

/// What the event says.
#[derive(Serialize, ToSchema)]
struct ToyMade {
    /// The toy's name.
    name: String,
}

struct Toys;

#[async_trait]
impl Handler for Toys {
    /// The name of the toy that was made.
    type Fact = String;

    fn read(&self, event: &Event) -> Result<String, Permanent> {
        let body: Value = serde_json::from_slice(&event.data).map_err(Permanent::new)?;
        body["toy"].as_str().map(str::to_owned).ok_or_else(|| Permanent::new("toy: missing"))
    }

    async fn write(&self, facts: &[(&Event, &String)], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
        let rows = facts.iter().map(|(event, toy)| (*toy, vec![(*toy).into(), 1.into(), (&event.id).into()]));
        let mut announcements = Vec::new();
        for round in rounds(rows) {
            let tail =
                "ON CONFLICT (name) DO UPDATE SET made = toys.made + 1 RETURNING name, made, first_event";
            for row in insert(tx, "toys (name, made, first_event)", tail, round).await? {
                let (name, made, first): (String, i64, String) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                let cause = facts.iter().find(|(event, _)| made == 1 && event.id.to_string() == first);
                announcements.extend(
                    cause.map(|(event, _)| MADE.announce(event, &name, &ToyMade { name: name.clone() })),
                );
            }
        }
        Ok(announcements)
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

impl TableRow for Toy {
    type Filter = Filter;

    const LIST: List<'static> = List::new("SELECT name, made, first_event FROM toys", &["first_event"]);

    const READ: fn(&AnyRow) -> Result<Self, StoreError> =
        |row| Ok(Self { name: row.try_get("name")?, made: row.try_get("made")? });

    fn conditions(filter: &Filter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("name =", filter.name.as_ref());
        conditions
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
