//! What is set about polling a source.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use outbound::{Address, BadAddress, BadCredential, Client, Credentials, JsonTokenSettings, OAuth2Settings};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use providers::Polling;
use providers::auth::Secret;
use providers::generic::Pointer;
use serde::{Deserialize, Deserializer};

use crate::template::Template;

/// The longest pause between two polls, in seconds: a week.
const LONGEST_EVERY_S: u64 = 7 * 24 * 60 * 60;

/// The longest time-out of a request, in milliseconds.
const LONGEST_TIMEOUT_MS: u64 = 10 * 60 * 1_000;

/// How a source is polled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// The address that lists the items; of a provider whose API is known, only its host.
    pub url: Address,
    /// How often, in seconds.
    pub every_s: u32,
    /// The credentials.
    #[serde(default)]
    pub auth: PollAuth,
    /// Parameters of the query.
    #[serde(default, deserialize_with = "parameters")]
    pub parameters: BTreeMap<String, String>,
    /// Where in the answer the list is; empty for the whole answer.
    #[serde(default, deserialize_with = "pointer")]
    pub items: Option<Pointer>,
    /// The request that acknowledges an item.
    #[serde(default)]
    pub acknowledge: Option<Acknowledge>,
    /// Time-out of a request.
    #[serde(default = "thirty_seconds")]
    pub timeout_ms: u64,
}

/// The credentials for an API: at most one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollAuth {
    /// User name and password (RFC 7617).
    pub basic: Option<Basic>,
    /// A token (RFC 6750).
    pub bearer: Option<Bearer>,
    /// Headers by name.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Access tokens by client credentials (RFC 6749, section 4.4).
    pub oauth2: Option<ClientCredentials>,
    /// Access tokens for an id and a secret that are sent as JSON: `{"clientId", "clientSecret"}`.
    pub json_token: Option<JsonToken>,
}

/// User name and password; some APIs have their token in the place of the user name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user name.
    pub username: Secret,
    /// The password.
    #[serde(default = "empty")]
    pub password: Secret,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    /// The token.
    pub token: Secret,
}

/// Client credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentials {
    /// The token endpoint.
    pub token_url: Address,
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// What for, where the endpoint needs it.
    #[serde(default)]
    pub scope: Option<String>,
}

/// An id and a secret for a token endpoint that answers `{"accessToken", "expiresIn"}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonToken {
    /// The token endpoint.
    pub token_url: Address,
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
}

/// The request that acknowledges an item.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// Its method.
    #[serde(default = "post", deserialize_with = "method")]
    pub method: Method,
    /// Its address.
    #[serde(default = "same_address")]
    pub url: Template,
    /// Its body.
    #[serde(default)]
    pub body: Template,
    /// The type of its body.
    #[serde(default = "json")]
    pub content_type: String,
}

/// One address that is polled.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// With its parameters.
    pub(crate) url: Address,
    /// Without a query: what `{url}` stands for.
    pub(crate) plain: String,
}

fn thirty_seconds() -> u64 {
    30_000
}

fn empty() -> Secret {
    Secret::from("")
}

fn post() -> Method {
    Method::POST
}

fn same_address() -> Template {
    "{url}".parse().expect("a literal that keeps the rule")
}

fn json() -> String {
    "application/json".to_owned()
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::GET];
    let found = known.into_iter().find(|method| *method == *text);
    found.ok_or_else(|| {
        serde::de::Error::custom("expected \"POST\", \"PUT\", \"PATCH\", \"DELETE\" or \"GET\"")
    })
}

fn pointer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pointer>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.is_empty() {
        true => Ok(None),
        false => Pointer::try_from(text).map(Some).map_err(serde::de::Error::custom),
    }
}

fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Number(i64),
    }
    let written = BTreeMap::<String, Written>::deserialize(deserializer)
        .map_err(|_| serde::de::Error::custom("expected texts and numbers, such as { id_credor = 17 }"))?;
    let text = |written| match written {
        Written::Text(text) => text,
        Written::Number(number) => number.to_string(),
    };
    Ok(written.into_iter().map(|(name, value)| (name, text(value))).collect())
}

impl Poll {
    /// Every mistake that no single value shows, as (path, message).
    pub fn mistakes(&self, polling: Option<Polling>) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut mistake = |path: &str, message: String| mistakes.push((path.to_owned(), message));
        for (path, value, most) in [
            ("every_s", self.every_s.into(), LONGEST_EVERY_S),
            ("timeout_ms", self.timeout_ms, LONGEST_TIMEOUT_MS),
        ] {
            if !(1..=most).contains(&value) {
                mistake(path, format!("expected a number of at least 1 and at most {most}"));
            }
        }
        if let Err(error) = self.endpoints(polling) {
            mistake("url", error.to_string());
        }
        if let Err((path, message)) = self.auth.check() {
            mistake(path, message);
        }
        if let Some(Acknowledge { content_type, .. }) = &self.acknowledge
            && HeaderValue::from_str(content_type).is_err()
        {
            mistake("acknowledge.content_type", "expected a media type such as application/json".to_owned());
        }
        mistakes
    }

    /// The addresses to ask: that of the configuration or, if it names a host only, those of the provider's API there.
    pub(crate) fn endpoints(&self, polling: Option<Polling>) -> Result<Vec<Endpoint>, BadAddress> {
        let text = self.url.as_str();
        let (plain, query) = text.split_once('?').map_or((text, None), |(plain, query)| (plain, Some(query)));
        let parameters = self.parameters.iter().map(|(name, value)| {
            let [name, value] = [name, value].map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC));
            format!("{name}={value}")
        });
        let query: Vec<String> = query.map(str::to_owned).into_iter().chain(parameters).collect();
        let origin = self.url.origin();
        let paths = match polling {
            Some(polling) if plain.trim_end_matches('/') == origin => polling.paths,
            _ => return Ok(vec![Endpoint::new(plain.to_owned(), &query)?]),
        };
        paths.iter().map(|path| Endpoint::new(format!("{origin}{path}"), &query)).collect()
    }

    /// The request that acknowledges an item: as configured, or that of the provider's API.
    pub(crate) fn acknowledge(&self, polling: Option<Polling>) -> Option<Acknowledge> {
        self.acknowledge.clone().or_else(|| {
            let body =
                polling?.acknowledge.parse().expect("the template of a built-in provider keeps the rule");
            Some(Acknowledge { method: post(), url: same_address(), body, content_type: json() })
        })
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs(self.every_s.into())
    }
}

impl Endpoint {
    fn new(plain: String, query: &[String]) -> Result<Self, BadAddress> {
        let url = match query {
            [] => plain.parse()?,
            query => format!("{plain}?{}", query.join("&")).parse()?,
        };
        Ok(Self { url, plain })
    }
}

impl PollAuth {
    /// Every secret, with its path.
    pub fn secrets(&self) -> Vec<(String, &Secret)> {
        let mut secrets = Vec::new();
        if let Some(basic) = &self.basic {
            secrets.push(("basic.username".to_owned(), &basic.username));
            secrets.push(("basic.password".to_owned(), &basic.password));
        }
        secrets.extend(self.bearer.iter().map(|bearer| ("bearer.token".to_owned(), &bearer.token)));
        secrets.extend(self.headers.iter().map(|(name, value)| (format!("headers.{name}"), value)));
        secrets.extend(self.oauth2.iter().map(|one| ("oauth2.client_secret".to_owned(), &one.client_secret)));
        let json_token = self.json_token.iter();
        secrets.extend(json_token.map(|one| ("json_token.client_secret".to_owned(), &one.client_secret)));
        secrets
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let given = [
            self.basic.is_some(),
            self.bearer.is_some(),
            !self.headers.is_empty(),
            self.oauth2.is_some(),
            self.json_token.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() > 1 {
            return Err(("auth", "expected one of basic, bearer, headers, oauth2 and json_token".to_owned()));
        }
        let oauth2 = self.oauth2.as_ref().map(|one| ("auth.oauth2", &one.client_id, &one.client_secret));
        let json = self.json_token.as_ref();
        let json = json.map(|one| ("auth.json_token", &one.client_id, &one.client_secret));
        match oauth2.or(json) {
            Some((path, id, secret)) if id.is_empty() || secret.expose().is_empty() => {
                Err((path, BadCredential::Empty.to_string()))
            }
            Some(_) => Ok(()),
            None => self.written().map(drop).map_err(|error| ("auth", error.to_string())),
        }
    }

    /// The credentials that need no token endpoint.
    fn written(&self) -> Result<Credentials, BadCredential> {
        if let Some(Basic { username, password }) = &self.basic {
            return Credentials::basic(username.expose(), password.expose());
        }
        if let Some(Bearer { token }) = &self.bearer {
            return Credentials::bearer(token.expose());
        }
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        Ok(Credentials::headers(&headers)?)
    }

    /// The credentials for requests by this client. They were checked.
    pub(crate) fn credentials(&self, client: &Client) -> Result<Credentials, BadCredential> {
        if let Some(JsonToken { token_url, client_id, client_secret }) = &self.json_token {
            let settings = JsonTokenSettings {
                token_url: token_url.clone(),
                client_id: client_id.clone(),
                client_secret: client_secret.expose().to_owned(),
            };
            return Credentials::json_token(settings, client);
        }
        let Some(ClientCredentials { token_url, client_id, client_secret, scope }) = &self.oauth2 else {
            return self.written();
        };
        let settings = OAuth2Settings {
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            client_secret: client_secret.expose().to_owned(),
            scope: scope.clone(),
            authentication: Default::default(),
        };
        Credentials::oauth2(settings, client)
    }
}

/// The headers of a request that acknowledges.
pub(crate) fn acknowledging(content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.extend(HeaderValue::from_str(content_type).ok().map(|value| (http::header::CONTENT_TYPE, value)));
    headers
}

#[cfg(test)]
mod tests {
    use providers::Provider;

    use super::*;

    fn poll(text: serde_json::Value) -> Result<Poll, String> {
        serde_json::from_value(text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_host_of_a_known_api_gives_its_addresses_and_a_path_is_asked_itself() {
        let known = Provider::named("recuperador").unwrap().polling();
        let check = |url: &str, polling, expect: &[&str]| {
            let parameters = serde_json::json!({"id_credor": 17, "b": "x y"});
            let poll =
                poll(serde_json::json!({"url": url, "every_s": 60, "parameters": parameters})).unwrap();
            let endpoints = poll.endpoints(polling).unwrap();
            let urls: Vec<_> = endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect();
            assert_eq!(urls, expect, "{url}");
        };
        let both = [
            "https://app.recuperador.com.br/api/v1PayloadWebhookAcordo?b=x%20y&id%5Fcredor=17",
            "https://app.recuperador.com.br/api/v1PayloadWebhookParcelaAprovada?b=x%20y&id%5Fcredor=17",
        ];
        check("https://app.recuperador.com.br", known, &both);
        check("https://app.recuperador.com.br/", known, &both);
        check("https://h.example/api/x?a=1", known, &["https://h.example/api/x?a=1&b=x%20y&id%5Fcredor=17"]);
        check("https://h.example", None, &["https://h.example/?b=x%20y&id%5Fcredor=17"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let check = |rest: serde_json::Value, expect: &str| {
            let mut text = serde_json::json!({"url": "https://h.example/a", "every_s": 60});
            text.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            let found = match poll(text) {
                Ok(poll) => {
                    poll.mistakes(None).iter().map(|(path, message)| format!("{path}: {message}")).collect()
                }
                Err(error) => error,
            };
            assert!(found.contains(expect) && !found.contains("hunter"), "{found}");
        };
        check(serde_json::json!({"every_s": 0}), "every_s: expected a number of at least 1");
        check(serde_json::json!({"url": "ftp://h"}), "expected http:// or https://");
        check(serde_json::json!({"items": "rows"}), "expected a JSON pointer");
        check(serde_json::json!({"acknowledge": {"url": "{/id"}}), "has no end");
        check(serde_json::json!({"acknowledge": {"method": "FETCH"}}), "expected \"POST\"");
        let both = serde_json::json!({"bearer": {"token": "hunter2"}, "basic": {"username": "hunter3"}});
        check(serde_json::json!({"auth": both}), "auth: expected one of");
        let json_token =
            serde_json::json!({"token_url": "https://h.example/t", "client_id": "me", "client_secret": ""});
        check(
            serde_json::json!({"auth": {"json_token": json_token}}),
            "auth.json_token: client_id and client_secret",
        );
        check(serde_json::json!({"auth": {"bearer": {"token": "hunter 2"}}}), "auth: a token has letters");
        check(serde_json::json!({"auth": {"headers": {"host": "hunter2"}}}), "auth: host is set by malote");
    }
}
