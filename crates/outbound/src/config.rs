//! The settings of the client: the section `[outbound]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::HeaderValue;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::address::{Address, Host};

/// The settings. The default allows public addresses only, and has no proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Networks that may be connected to besides public addresses.
    #[serde(deserialize_with = "networks")]
    pub allow: Vec<IpNet>,
    /// Time-out of a connection: resolving, connecting and the TLS handshake together.
    pub connect_timeout_ms: u64,
    /// How long a connection stays open without a request.
    pub idle_timeout_ms: u64,
    /// The proxy.
    #[serde(default)]
    pub proxy: Proxy,
}

impl Default for Config {
    fn default() -> Self {
        let proxy = Proxy::default();
        Self { allow: Vec::new(), connect_timeout_ms: 5_000, idle_timeout_ms: 15_000, proxy }
    }
}

/// The proxy that requests go through.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Its address; without one, there is no proxy.
    #[serde(deserialize_with = "proxy_url")]
    pub url: Option<ProxyUrl>,
    /// What is reached without it: a host name with all names below it, or a network of addresses that a URL has.
    pub except: Vec<Exception>,
}

/// The address of a proxy: `http://user:password@host:port`.
#[derive(Clone)]
pub struct ProxyUrl {
    url: Address,
    password: Option<String>,
    authorization: Option<HeaderValue>,
}

/// A target that is reached without the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Exception {
    /// Addresses in this network.
    Network(IpNet),
    /// This name and those below it.
    Name(String),
}

/// The text is neither a host name nor a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a host name such as internal.example.com, or a network such as 10.0.0.0/8")]
pub struct NotAnException;

/// The text is no address of a proxy. It is not quoted, since it may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the address of a proxy such as http://proxy:3128 or http://user:password@proxy:3128")]
pub struct NotAProxy;

impl FromStr for ProxyUrl {
    type Err = NotAProxy;

    fn from_str(text: &str) -> Result<Self, NotAProxy> {
        let mut url = url::Url::parse(text).map_err(|_| NotAProxy)?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        if url.scheme() != "http" || url.path() != "/" || url.query().is_some() {
            return Err(NotAProxy);
        }
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| NotAProxy)?;
        let authorization = (!user.is_empty() || password.is_some()).then(|| {
            let text = BASE64_STANDARD.encode(format!("{user}:{}", password.as_deref().unwrap_or_default()));
            let mut value =
                HeaderValue::try_from(format!("Basic {text}")).expect("base64 is a header's value");
            value.set_sensitive(true);
            value
        });
        let url = url.as_str().parse().map_err(|_| NotAProxy)?;
        Ok(Self { url, password, authorization })
    }
}

impl ProxyUrl {
    /// Its password.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub(crate) fn url(&self) -> &Address {
        &self.url
    }

    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl Proxy {
    /// The proxy that a target is reached through.
    pub(crate) fn proxy_for(&self, target: &Address) -> Option<&ProxyUrl> {
        let is_excepted = |exception: &Exception| exception.contains(target.target());
        self.url.as_ref().filter(|_| !self.except.iter().any(is_excepted))
    }
}

impl Exception {
    fn contains(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Network(network), Host::Ip(ip)) => network.contains(&ip.to_canonical()),
            (Self::Name(above), Host::Name(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name.strip_suffix(above.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

impl TryFrom<String> for Exception {
    type Error = NotAnException;

    fn try_from(text: String) -> Result<Self, NotAnException> {
        if let Some(network) = network(&text) {
            return Ok(Self::Network(network));
        }
        // Names are compared as an address has them, without the dot that may end one.
        let name = text.strip_prefix("*.").or(text.strip_prefix('.')).unwrap_or(&text);
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_alone = !name.contains([':', '/', '\\', '?', '#', '@']);
        let url: Address = format!("http://{name}").parse().map_err(|_| NotAnException)?;
        match url.target() {
            Host::Name(name) if is_alone => Ok(Self::Name(name.clone())),
            _ => Err(NotAnException),
        }
    }
}

/// A network, or a single address.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical())))
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<Network>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(|Network(network)| network).collect())
}

struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_mapped = |network: &IpNet| match network {
            IpNet::V4(_) => false,
            IpNet::V6(v6) => v6.addr().to_ipv4_mapped().is_some(),
        };
        // Addresses are compared as IPv4, so a mapped network would never match.
        let network = network(&text).filter(|network| !is_mapped(network));
        network.map(Self).ok_or_else(|| {
            D::Error::custom("expected a network such as 10.0.0.0/8, or an address such as 10.0.0.1")
        })
    }
}

fn proxy_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ProxyUrl>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let timeouts = "connect_timeout_ms = 1\nidle_timeout_ms = 1\n";
        toml::from_str(&format!("{timeouts}{text}")).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn an_allow_list_has_networks_and_addresses() {
        let allow = config("allow = [\"127.0.0.0/8\", \"10.1.2.3\", \"::ffff:10.1.2.4\", \"fd00::/8\"]")
            .unwrap()
            .allow;
        let allow: Vec<_> = allow.iter().map(IpNet::to_string).collect();
        assert_eq!(allow, ["127.0.0.0/8", "10.1.2.3/32", "10.1.2.4/32", "fd00::/8"]);
        for wrong in ["ten", "localhost", "10.0.0.0/33", "::ffff:10.0.0.0/104"] {
            let error = config(&format!("allow = [\"{wrong}\"]")).unwrap_err();
            assert!(error.contains("expected a network such as 10.0.0.0/8"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_password_of_a_proxy_is_sent_and_not_shown() {
        let config =
            config("allow = []\nproxy = { url = \"http://me:hunter%402@proxy:3128\", except = [] }").unwrap();
        let proxy = config.proxy.url.as_ref().unwrap();
        assert_eq!((proxy.url().origin(), proxy.password()), ("http://proxy:3128", Some("hunter@2")));
        assert_eq!(proxy.authorization().unwrap(), "Basic bWU6aHVudGVyQDI=");
        assert!(!format!("{config:?}").contains("hunter") && !format!("{config:?}").contains("bWU6"));
        for wrong in
            ["hunter2", "https://u:hunter2@proxy", "http://u:hunter2@proxy/path", "socks5://u:hunter2@proxy"]
        {
            let text = format!("allow = []\nproxy = {{ url = \"{wrong}\", except = [] }}");
            let error = super::tests::config(&text).unwrap_err();
            assert!(error.contains("http://proxy:3128") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn exceptions_are_names_with_all_below_them_and_written_addresses() {
        let except = "except = [\"internal.example\", \"*.corp\", \"10.0.0.0/8\", \"::1\"]";
        let config =
            config(&format!("allow = []\nproxy = {{ url = \"http://proxy:3128\", {except} }}")).unwrap();
        let check = |url: &str, is_proxied: bool| {
            assert_eq!(config.proxy.proxy_for(&url.parse().unwrap()).is_some(), is_proxied, "{url}");
        };
        check("https://internal.example/a", false);
        check("https://a.internal.example./a", false);
        check("http://b.corp", false);
        check("http://10.1.2.3", false);
        check("http://[::ffff:10.1.2.3]", false);
        check("http://[::1]", false);
        check("https://notinternal.example", true);
        check("https://internal.example.com", true);
        check("http://11.1.2.3", true);
        for wrong in [
            "",
            "*",
            "a b",
            "internal.example/path",
            "internal.example:8080",
            "10.0.0.0/33",
            "http://internal.example",
        ] {
            let text = format!("allow = []\nproxy = {{ url = \"\", except = [\"{wrong}\"] }}");
            let error = super::tests::config(&text).unwrap_err();
            assert!(error.contains("such as internal.example.com"), "{wrong}: {error}");
        }
    }
}
