//! The settings: the section `[documents]`, and the API of a source.

use std::collections::BTreeMap;
use std::path::PathBuf;

use event::SourceName;
use outbound::{Address, BadCredential, Client, Credentials, JsonTokenSettings};
use providers::Provider;
use providers::auth::Secret;
use providers::documents::{Api, ApiAuthentication};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// `[documents]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Time-out of a request, in milliseconds.
    pub timeout_ms: u64,
    /// How many requests are in flight to the API of one source.
    pub concurrency: u32,
    /// The maximum size of a document.
    pub document_limit_bytes: u64,
    /// The maximum size of a file.
    pub file_limit_bytes: u64,
    /// The folder of archived files; empty for `files` in the data directory.
    pub files_dir: PathBuf,
    /// For how many days documents and files are kept after they were fetched or asked for last; 0 means forever.
    pub keep_days: u32,
}

/// The API of a source: `[[sources]] api`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Its address.
    pub base_url: Address,
    /// The client, where it gives access tokens.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<Secret>,
    /// The headers of every request, where it does not.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

/// A source whose documents are fetched.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: SourceName,
    /// Its provider, which declares an API.
    pub provider: Provider,
    /// How that is reached.
    pub api: ApiConfig,
}

impl ApiConfig {
    /// Every mistake that no single value shows, as (path, message), for a source of this provider.
    pub fn mistakes(&self, provider: &Provider) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let mut add = |path, message: &str| mistakes.push((path, message.to_owned()));
        let Some(api) = provider.api() else {
            add("", "the provider has no API that documents are fetched from: remove it");
            return mistakes;
        };
        if self.base_url.as_str().contains('?') {
            add("base_url", "expected an address without a query, such as https://api.example.com");
        }
        match api.authentication {
            ApiAuthentication::JsonToken(_) => {
                if self.client_id.as_deref().unwrap_or_default().is_empty() {
                    add("client_id", "missing: this API gives access tokens for client_id and client_secret");
                }
                if self.client_secret.as_ref().is_none_or(|secret| secret.expose().is_empty()) {
                    add(
                        "client_secret",
                        "missing: this API gives access tokens for client_id and client_secret",
                    );
                }
                if !self.headers.is_empty() {
                    add("headers", "this API takes client_id and client_secret instead: remove them");
                }
            }
            ApiAuthentication::Headers => {
                for (path, is_set) in
                    [("client_id", self.client_id.is_some()), ("client_secret", self.client_secret.is_some())]
                {
                    if is_set {
                        add(path, "this API takes headers instead: remove it");
                    }
                }
                if let Err(error) = Credentials::headers(&self.pairs()) {
                    add("headers", &event::Chain(&error).to_string());
                }
            }
        }
        mistakes
    }

    /// Its secrets, each with its path.
    pub fn secrets(&self) -> impl Iterator<Item = (String, &Secret)> {
        let headers = self.headers.iter().map(|(name, value)| (format!("headers.{name}"), value));
        self.client_secret.iter().map(|secret| ("client_secret".to_owned(), secret)).chain(headers)
    }

    /// What its requests show.
    pub(crate) fn credentials(&self, api: &Api, client: &Client) -> Result<Credentials, BadCredential> {
        match api.authentication {
            ApiAuthentication::Headers => Ok(Credentials::headers(&self.pairs())?),
            ApiAuthentication::JsonToken(path) => {
                let settings = JsonTokenSettings {
                    token_url: self.below(path).ok_or(BadCredential::Empty)?,
                    client_id: self.client_id.clone().unwrap_or_default(),
                    client_secret: self.client_secret.as_ref().map_or("", Secret::expose).to_owned(),
                };
                Credentials::json_token(settings, client)
            }
        }
    }

    /// Tells these credentials from others; says nothing of them.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let secrets = self.secrets().map(|(path, secret)| format!("{path}={}", secret.expose()));
        let own = [self.base_url.as_str().to_owned(), self.client_id.clone().unwrap_or_default()];
        for part in own.into_iter().chain(secrets) {
            hash.update(part);
            hash.update([0]);
        }
        providers::to_hex(&hash.finalize()[..4])
    }

    /// The address of a path of the API.
    pub(crate) fn below(&self, path: &str) -> Option<Address> {
        format!("{}{path}", self.base_url.as_str().trim_end_matches('/')).parse().ok()
    }

    fn pairs(&self) -> Vec<(String, String)> {
        self.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use providers::{beneficio_visao, gestao_online, mercado_eletronico, recuperador};

    use super::*;

    fn check(provider: &str, api: serde_json::Value, expect: &[(&str, &str)]) {
        let api: ApiConfig = serde_json::from_value(api).unwrap();
        let mistakes = api.mistakes(&Provider::named(provider).unwrap());
        assert_eq!(mistakes.len(), expect.len(), "{mistakes:?}");
        for ((path, message), (at, what)) in mistakes.iter().zip(expect) {
            assert!(
                path == at && message.contains(what) && !message.contains("hunter2"),
                "{path}: {message}"
            );
        }
    }

    #[test]
    fn an_api_has_the_credentials_that_its_provider_declares() {
        let url = "https://api.example.com/";
        let token = serde_json::json!({"base_url": url, "client_id": "me", "client_secret": "hunter2"});
        let headers = serde_json::json!({"base_url": url, "headers": {"x-api-key": "hunter2", "origin": "https://us.example"}});
        check(mercado_eletronico::NAME, token.clone(), &[]);
        check(gestao_online::NAME, headers.clone(), &[]);
        check(beneficio_visao::NAME, serde_json::json!({"base_url": url}), &[]);
        check(
            mercado_eletronico::NAME,
            headers,
            &[("client_id", "missing"), ("client_secret", "missing"), ("headers", "remove them")],
        );
        check(
            gestao_online::NAME,
            token.clone(),
            &[("client_id", "remove it"), ("client_secret", "remove it")],
        );
        check(recuperador::NAME, token, &[("", "no API")]);
        let reserved =
            serde_json::json!({"base_url": "https://api.example.com?a=b", "headers": {"host": "hunter2"}});
        check(gestao_online::NAME, reserved, &[("base_url", "without a query"), ("headers", "host")]);
    }

    #[test]
    fn other_credentials_have_another_fingerprint() {
        let fingerprint = |secret: &str| {
            let api = serde_json::json!({"base_url": "https://api.example.com", "client_id": "me", "client_secret": secret});
            serde_json::from_value::<ApiConfig>(api).unwrap().fingerprint()
        };
        assert_eq!(fingerprint("one"), fingerprint("one"));
        assert_ne!(fingerprint("one"), fingerprint("two"));
        assert_eq!(fingerprint("one").len(), 8);
    }

    #[test]
    fn a_path_is_below_the_address_with_or_without_its_last_slash() {
        for base in ["https://api.example.com/v2", "https://api.example.com/v2/"] {
            let api: ApiConfig = serde_json::from_value(serde_json::json!({"base_url": base})).unwrap();
            assert_eq!(api.below("/v1/orders/7").unwrap().as_str(), "https://api.example.com/v2/v1/orders/7");
        }
    }
}
