//! `[console]`: the port of the administration API, and its token.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use access::Role;
use console::OidcSettings;
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
    /// Where the trace of an event is shown, with `{trace_id}`; empty if nowhere.
    trace_url: String,
    /// How long the audit keeps an entry.
    pub keep_audit_days: u32,
    #[serde(default)]
    limits: server::Limits,
    /// Certificate and key; without it, plain HTTP.
    #[serde(default)]
    pub tls: Option<server::Tls>,
    /// The provider of OpenID Connect; without it, people log in with tokens alone.
    #[serde(default)]
    pub oidc: Option<Oidc>,
}

/// `[console.oidc]`: where people log in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    issuer: String,
    client_id: String,
    client_secret: Option<Secret>,
    #[serde(default = "groups")]
    groups_claim: String,
    roles: BTreeMap<String, Role>,
}

fn groups() -> String {
    "groups".to_owned()
}

impl Oidc {
    /// The secret of the client; a public one has none.
    pub fn client_secret(&self) -> Option<&Secret> {
        self.client_secret.as_ref().filter(|secret| !secret.expose().is_empty())
    }

    /// The provider.
    pub fn settings(&self) -> OidcSettings {
        OidcSettings {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret().map(|secret| secret.expose().to_owned()),
            groups_claim: self.groups_claim.clone(),
            roles: self.roles.clone(),
        }
    }

    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if let Err(error) = self.settings().check() {
            mistakes.push(Mistake::new("oidc.issuer", error.to_string()));
        }
        if self.client_id.is_empty() {
            mistakes
                .push(Mistake::new("oidc.client_id", "missing: the provider gives it to this installation"));
        }
        if self.roles.is_empty() {
            let expected = "names no group; without one nobody can log in there";
            mistakes.push(Mistake::new("oidc.roles", expected));
        }
        mistakes
    }
}

impl Section for Console {
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = out_of_range(&[("keep_audit_days", u64::from(self.keep_audit_days), 36_500)]);
        if self.trace_url().is_some_and(|url| !is_trace_url(url)) {
            mistakes
                .push(Mistake::new("trace_url", "expected an http or https address with {trace_id} in it"));
        }
        if self.token().is_some_and(|token| !is_token(token)) {
            let expected =
                "expected at least 16 characters without a space, or \"\" for one in the data directory";
            mistakes.push(Mistake::new("token", expected));
        }
        mistakes.extend(self.oidc.iter().flat_map(Oidc::mistakes));
        mistakes
    }
}

impl Console {
    /// The settings of the port.
    pub fn server(&self) -> server::Config {
        let Self { listen, hosts, limits, tls, .. } = self.clone();
        server::Config { hosts, limits, tls, ..server::Config::new(listen) }
    }

    /// The address of traces, if there is one.
    pub fn trace_url(&self) -> Option<&str> {
        Some(self.trace_url.as_str()).filter(|url| !url.is_empty())
    }

    /// The token; without it, that of the data directory.
    pub fn token(&self) -> Option<&Secret> {
        Some(&self.token).filter(|token| !token.expose().is_empty())
    }
}

/// Whether an address can lead to a trace.
fn is_trace_url(url: &str) -> bool {
    let is_http = url.starts_with("https://") || url.starts_with("http://");
    is_http && url.contains("{trace_id}") && !url.contains(char::is_whitespace)
}

/// Whether a token is long enough and valid in a header.
pub(crate) fn is_token(token: &Secret) -> bool {
    token.expose().len() >= SHORTEST_SECRET && !token.expose().contains(char::is_whitespace)
}

/// The minimum length of a token.
const SHORTEST_SECRET: usize = 16;
