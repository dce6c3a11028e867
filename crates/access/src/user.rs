//! The users of the console: who has logged in, how, and from where last.
//!
//! Kept apart from the audit, whose entries are deleted after some time, and from tokens, which are not all used in a browser.

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::many::{Value, fetch};
use store::{AnyRow, Conditions, Connection, List, Page, Paged, Row, Store, StoreError, time};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, View, column, dropped, shown};

use crate::{Holder, Identity, Role};

store::stored_enum! {
    /// How somebody logs in.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "kebab-case")]
    Login {
        /// With a token of the API.
        Token = "token",
        /// At a provider of OpenID Connect.
        OpenidConnect = "openid-connect",
    }
}

impl From<&Holder> for Login {
    fn from(holder: &Holder) -> Self {
        match holder {
            Holder::Token(_) => Self::Token,
            Holder::User(_) => Self::OpenidConnect,
        }
    }
}

/// Notes that somebody logs in from an address.
pub async fn note_login(
    store: &Store,
    identity: &Identity,
    login: Login,
    client: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let text = "INSERT INTO console_users (login, name, role, client, first_at, last_at, logins) \
                VALUES ($1, $2, $3, $4, $5, $5, 1) ON CONFLICT (login, name) DO UPDATE SET role = excluded.role, \
                client = excluded.client, last_at = excluded.last_at, logins = console_users.logins + 1 \
                RETURNING logins";
    let values = [
        Value::from(login.as_str()),
        Value::from(&identity.name),
        Value::from(identity.role.as_str()),
        Value::from(client),
        Value::from(now),
    ];
    let mut tx = store.begin().await?;
    fetch(&mut tx, text.to_owned(), values).await?;
    Ok(tx.commit().await?)
}

/// Which users: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UserFilter {
    /// The user's name.
    pub name: Option<String>,
    /// The role of the last log-in.
    pub role: Option<Role>,
    /// How they log in.
    pub login: Option<Login>,
}

/// Somebody who has logged in to the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserRow {
    /// Their name: that of the token, or what the provider says.
    pub name: String,
    /// What the last log-in allowed.
    pub role: Role,
    /// How they log in.
    pub login: Login,
    /// When they logged in last.
    #[schema(value_type = String, format = DateTime)]
    pub last_login_at: Timestamp,
    /// The client's address then.
    pub client: String,
    /// When they logged in first.
    #[schema(value_type = String, format = DateTime)]
    pub first_login_at: Timestamp,
    /// How often they have logged in.
    pub logins: i64,
}

impl Shown for UserRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Name", |row| shown(&row.name), Form::Id),
        column("Role", |row| shown(&row.role), Form::Text),
        column("Logs in with", |row| shown(&row.login), Form::Text),
        column("Last log-in", |row| shown(&row.last_login_at), Form::Time),
        dropped(3, column("From", |row| shown(&row.client), Form::Text)),
        dropped(1, column("First log-in", |row| shown(&row.first_login_at), Form::Time)),
        dropped(2, column("Log-ins", |row| shown(&row.logins), Form::Number)),
    ];
}

/// `users`
pub static USERS: View = View {
    name: "users",
    tag: "access",
    about: "Who has logged in to the console, with which role, how, and from where last",
    row: "user",
    rows: "users",
    example: "login=token",
    empty: "No users: nobody has logged in to the console.",
    reading: Reading::new::<UserRow>(),
};

impl view::Row for UserRow {
    type Filter = UserFilter;

    async fn page(
        connection: &mut Connection,
        filter: &UserFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        // A name from elsewhere may contain a colon.
        const LIST: List<'_> = List::new(
            "SELECT login, name, role, client, first_at, last_at, logins FROM console_users",
            &["login", "name"],
        );
        let mut conditions = Conditions::default();
        conditions.with("name =", filter.name.as_ref());
        conditions.with("role =", filter.role.map(|role| Value::from(role.as_str())));
        conditions.with("login =", filter.login.map(|login| Value::from(login.as_str())));
        let read = |row: &AnyRow| {
            Ok::<_, StoreError>(Self {
                name: row.try_get("name")?,
                role: Role::from_row(row)?,
                login: Login::read(row, "login")?,
                last_login_at: time(row, "last_at")?,
                client: row.try_get("client")?,
                first_login_at: time(row, "first_at")?,
                logins: row.try_get("logins")?,
            })
        };
        LIST.page(connection, conditions, page, read).await
    }
}
