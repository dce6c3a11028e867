//! Who may do what with an installation, and who has done what.
//!
//! Place in the flow: beside it. The console asks whose token a request has, and what its role allows; it writes down every
//! change, every look at a body and whose data was shown. Three roles, of which each allows what the one before it allows:
//!
//! ```text
//! viewer ──▶ operator                     ──▶ admin
//! masked     unmasked, jobs, pause, retry     subscriptions, tokens, audit
//! ```
//!
//! Promises: the store has no token, only its digest; a token that was removed or has expired opens nothing from then on; an
//! entry of the audit never changes. This crate knows no HTTP.

mod audit;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod role;
mod secret;
mod session;
mod token;
mod user;

pub use audit::{AUDIT, AuditFilter, AuditRow, Entry, forget, record};
pub use role::Role;
pub use secret::{Digest, Fresh};
pub use session::{
    Holder, LONGEST, SESSION_PREFIX, begin_session, end_session, forget_sessions, note_session, session,
};
pub use token::{
    AddedToken, BadToken, INSTALLATION, Identity, NewApiToken, PREFIX, TOKENS, TokenRow, add, identify,
    is_name, known, note_use, remove, show,
};
pub use user::{Login, USERS, UserFilter, UserRow, note_login};

use store::{Component, Migration};
use view::View;

/// The tables of tokens, sessions, users and audit.
pub const COMPONENT: Component = Component {
    name: "access",
    migrations: &[
        Migration::portable(1, "access", include_str!("../migrations/0001_access.sql")),
        Migration::portable(2, "sessions of the console", include_str!("../migrations/0002_sessions.sql")),
        Migration::portable(3, "people in the audit", include_str!("../migrations/0003_people.sql")),
        Migration::portable(4, "users of the console", include_str!("../migrations/0004_users.sql")),
        Migration::portable(5, "log-ins", include_str!("../migrations/0005_logins.sql")),
    ],
};

/// Every list of this crate.
pub static VIEWS: [&View; 3] = [&TOKENS, &USERS, &AUDIT];
