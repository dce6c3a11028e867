//! The harness: private, real servers for tests, benches and fault tests.
//!
//! A [`RabbitMq`] node and a [`Postgres`] cluster start in seconds in a temporary folder, on loopback ports of
//! their own, beside whatever else the machine runs; they can be killed, stopped and restarted on their data; and
//! they are ended by process id, even when the test process is killed. The two that a whole run shares are
//! [`Servers`]; a test gets its own virtual host and database of them through [`Shared`]. They are the machine's own, or
//! those of another Debian [`Release`]. A [`Receiver`] gets HTTP requests and answers as a test wants,
//! an [`IdentityProvider`] says who somebody is, and a [`Chromedriver`] has a browser. The harness knows nothing of
//! malote.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! // A test that only needs room of its own, under `cargo xtask test`:
//! let shared = harness::Shared::from_env()?;
//! let (broker_url, store_url) = (shared.fresh_vhost()?, shared.fresh_database()?);
//!
//! // A test that breaks things:
//! let rabbitmq = harness::RabbitMq::start()?;
//! rabbitmq.create_vhost("orders")?;
//! let url = rabbitmq.url("orders");
//! rabbitmq.kill9()?;
//! rabbitmq.restart()?;
//! # Ok(())
//! # }
//! ```

mod authority;
mod chromedriver;
mod clock;
mod disk;
mod http;
mod identity_provider;
mod install;
mod postgres;
mod process;
mod proxy;
mod rabbitmq;
mod receiver;
mod root;
mod shared;

pub use chromedriver::Chromedriver;
pub use clock::shifted_clock;
pub use disk::SmallDisk;
pub use identity_provider::{CLIENT, IdentityProvider};
pub use install::{Versions, ensure_installed, versions};
pub use postgres::Postgres;
pub use process::free_port;
pub use proxy::{Proxy, Way};
pub use rabbitmq::{NodeOptions, RabbitMq};
pub use receiver::{Received, Receiver, Reply};
pub use root::{DEBOOTSTRAP, ROOT, Release, Root};
pub use shared::{
    AMQP, AMQP_ADMIN, BIN, POSTGRES, PREVIOUS, Servers, Shared, malote_binary, previous_binary,
};

/// A path segment of a URL (RFC 3986, section 2.1): everything but unreserved characters is escaped.
fn percent_encode(segment: &str) -> String {
    let mut encoded = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_virtual_host_is_escaped_in_a_url() {
        assert_eq!(super::percent_encode("/"), "%2F");
        assert_eq!(super::percent_encode("test_1-a.b~c d"), "test_1-a.b~c%20d");
    }
}
