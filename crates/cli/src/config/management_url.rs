//! The setting `broker.management_url`.

use std::net::IpAddr;

use reqwest::Url;
use serde::Deserialize;

/// The address of the management API: `http://host:15672`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ManagementUrl(Option<Url>);

/// Why a text is not the address of a management API.
#[derive(Debug, thiserror::Error)]
pub enum NotAManagementUrl {
    /// It contains credentials.
    #[error("holds a user or a password: those of broker.url are used")]
    Credentials,
    /// It is not an HTTP address.
    #[error("expected an address such as http://rabbitmq:15672, or nothing")]
    Address,
}

impl TryFrom<String> for ManagementUrl {
    type Error = NotAManagementUrl;

    fn try_from(text: String) -> Result<Self, NotAManagementUrl> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url =
            Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        match url {
            Some(url) if url.username().is_empty() && url.password().is_none() => Ok(Self(Some(url))),
            Some(_) => Err(NotAManagementUrl::Credentials),
            None => Err(NotAManagementUrl::Address),
        }
    }
}

impl ManagementUrl {
    /// The address, if one is configured.
    pub fn get(&self) -> Option<&Url> {
        self.0.as_ref()
    }

    /// Whether it crosses the network without TLS, so that the password of `broker.url` can be read there.
    pub fn is_exposed(&self) -> bool {
        self.0.as_ref().is_some_and(|url| {
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            let is_local = match host.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical().is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            };
            url.scheme() == "http" && !is_local
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_credentials_is_taken() {
        let check = |text: &str, expect: Result<bool, &str>| {
            let parsed = ManagementUrl::try_from(text.to_owned());
            match (parsed, expect) {
                (Ok(ManagementUrl(url)), Ok(is_given)) => assert_eq!(url.is_some(), is_given, "{text}"),
                (Err(error), Err(expect)) => {
                    let shown = error.to_string();
                    assert!(shown.contains(expect) && !shown.contains("s3cret"), "{shown}")
                }
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        };
        check("", Ok(false));
        check("http://rabbitmq:15672", Ok(true));
        check("https://rabbitmq/management/", Ok(true));
        check("http://malote:s3cret@rabbitmq:15672", Err("those of broker.url"));
        check("amqp://rabbitmq", Err("http://rabbitmq:15672"));
        check("rabbitmq:15672", Err("http://rabbitmq:15672"));
    }
}
