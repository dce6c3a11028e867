//! The setting `broker.management_url`.

use reqwest::Url;
use serde::Deserialize;

/// Where the management API is: `http://host:15672`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ManagementUrl(Option<Url>);

impl TryFrom<String> for ManagementUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url =
            Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        match url {
            Some(url) if url.username().is_empty() && url.password().is_none() => Ok(Self(Some(url))),
            Some(_) => Err("holds a user or a password: those of broker.url are used".to_owned()),
            None => Err("expected an address such as http://rabbitmq:15672, or nothing".to_owned()),
        }
    }
}

impl ManagementUrl {
    /// The address, if one is configured.
    pub fn get(&self) -> Option<&Url> {
        self.0.as_ref()
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
                (Err(said), Err(expect)) => {
                    assert!(said.contains(expect) && !said.contains("s3cret"), "{said}")
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
