//! The configuration: every section as a parsed value.
//!
//! [`load`] reads the embedded defaults, the file and the environment, in this order, and returns either a valid
//! [`Config`] or all mistakes at once. Nothing else in malote reads settings from a file or the environment. Secrets
//! are values that cannot be printed.
//!
//! A section is declared once: a line of `sections.rs`, with its type. A section with checks beyond the form of single
//! values has its own file with its `mistakes()`.

mod broker;
mod changes;
mod check;
mod console;
mod consumer;
mod environment;
mod files;
mod ingress;
mod log;
mod management_url;
mod outbound;
mod presets;
mod read;
mod secrets;
mod sections;
mod senders;
mod shown;
mod store;
mod telemetry;
mod warnings;

pub use self::broker::BrokerUrl;
pub(crate) use self::console::is_token;
pub(crate) use self::ingress::{parse_key, parse_subject_key};
pub use self::log::LogFormat;
pub(crate) use self::warnings::MOUNTED_SECRETS;
pub use changes::{needs_restart, reloaded, sources};
pub use check::{Mistake, Mistakes};
pub use files::Needed;
pub use read::{DEFAULT, DEFAULT_FILE, Loaded, load, load_parts, resolved};
pub use sections::Config;
pub use senders::Source;
pub use shown::shown;
pub use warnings::warnings;

#[cfg(test)]
mod tests;
