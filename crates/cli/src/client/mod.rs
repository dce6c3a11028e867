//! The client of a running malote: the commands that ask its administration API, and `simulate`, which posts to its
//! ingress.
//!
//! Knows addresses, tokens and JSON. Opens no broker and no database.

pub mod api;
pub mod dead;
mod follow;
pub mod jobs;
pub mod lists;
pub mod queues;
pub mod reconcile;
pub mod resend;
pub mod sender;
pub mod simulate;
mod variation;
