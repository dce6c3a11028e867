//! The client against real receivers on loopback.

mod connections;
mod exchange;
mod guarded;
mod http2;
mod proxied;
mod tls;
mod tokens;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method};

use crate::resolve::Resolver;
use crate::{Answer, Client, Config, Credentials, Request, SendError, Step};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn config() -> Config {
    Config { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Config::default() }
}

fn client() -> Client {
    Client::new(&config())
}

/// A client for which every name resolves to what a function says: of the name, and of the number of the lookup.
fn resolving(
    config: &Config,
    answer: impl Fn(&str, usize) -> Vec<&'static str> + Send + Sync + 'static,
) -> Client {
    let lookups = Arc::new(AtomicUsize::new(0));
    let lookup = move |name: String| {
        let addresses = answer(&name, lookups.fetch_add(1, Ordering::SeqCst));
        let found: Vec<IpAddr> = addresses.into_iter().map(|address| address.parse().unwrap()).collect();
        let found = if found.is_empty() { Err(io::Error::other("no such name")) } else { Ok(found) };
        Box::pin(async move { found }) as crate::resolve::Looking
    };
    Client::with_resolver(config, Resolver::new(Box::new(lookup)))
}

fn post(url: &str) -> Request {
    Request {
        method: Method::POST,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: "{}".into(),
        timeout: LONG,
        max_answer: 64 * 1024,
    }
}

async fn send(client: &Client, request: Request) -> Result<Answer, SendError> {
    client.send(request, &Credentials::None).await
}

/// The step that timed out.
fn step(sent: Result<Answer, SendError>) -> Step {
    match sent {
        Err(SendError::TimedOut { step, .. }) => step,
        sent => panic!("{sent:?}"),
    }
}
