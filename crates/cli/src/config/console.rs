//! `[console]`: the port of the administration API, and its token.

use std::net::SocketAddr;

use providers::auth::Secret;
use serde::Deserialize;

use super::check::{Mistake, Section, out_of_range};

/// The settings of the administration API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Address and port.
    pub listen: SocketAddr,
    hosts: Vec<server::HostName>,
    token: Secret,
    /// How long the audit keeps an entry.
    pub keep_audit_days: u32,
    #[serde(default)]
    limits: server::Limits,
    /// Certificate and key; without it, plain HTTP.
    #[serde(default)]
    pub tls: Option<server::Tls>,
}

impl Section for Console {
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = out_of_range(&[("keep_audit_days", u64::from(self.keep_audit_days), 36_500)]);
        if self.token().is_some_and(|token| !is_token(token)) {
            let expected =
                "expected at least 16 characters without a space, or \"\" for one in the data directory";
            mistakes.push(Mistake::new("token", expected));
        }
        mistakes
    }
}

impl Console {
    /// The settings of the port.
    pub fn server(&self) -> server::Config {
        let Self { listen, hosts, limits, tls, .. } = self.clone();
        server::Config { hosts, limits, tls, ..server::Config::new(listen) }
    }

    /// The token; without it, that of the data directory.
    pub fn token(&self) -> Option<&Secret> {
        Some(&self.token).filter(|token| !token.expose().is_empty())
    }
}

/// Whether a token is long enough and valid in a header.
pub(crate) fn is_token(token: &Secret) -> bool {
    token.expose().len() >= SHORTEST_SECRET && !token.expose().contains(char::is_whitespace)
}

/// The minimum length of a token.
const SHORTEST_SECRET: usize = 16;
