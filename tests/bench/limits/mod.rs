//! What bounds malote: the same work without malote.

pub mod confirms;
pub mod empty;
pub mod inserts;
pub mod smallest;
pub mod smallest_sqlite;
