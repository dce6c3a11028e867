//! Every secret of a configuration: one list for all that is asked of secrets.

use percent_encoding::percent_decode_str;
use providers::auth::Secret;

use super::Config;
use super::broker::BrokerUrl;

/// A secret that is configured, wherever it was read from.
pub(super) struct Configured {
    /// The setting.
    pub path: String,
    /// Its place, if the setting is a list.
    pub index: Option<usize>,
    /// The secret itself, which is not empty.
    pub secret: Secret,
}

/// All of them, in the order of the settings.
pub(super) fn secrets(config: &Config) -> Vec<Configured> {
    let one = |path: &str, secret: Secret| Configured { path: path.to_owned(), index: None, secret };
    let mut secrets = Vec::new();
    if let BrokerUrl::Amqp(url) = &config.broker.url {
        secrets.push(one("broker.url", url.credentials().1.into()));
    }
    secrets.extend(store_passwords(&config.store.url).map(|password| one("store.url", password)));
    secrets.push(one("ingress.subject_key", config.ingress.subject_key_text().clone()));
    secrets.extend(config.console.token().map(|token| one("console.token", token.clone())));
    let oidc = config.console.oidc.as_ref().and_then(|oidc| oidc.client_secret().cloned());
    secrets.extend(oidc.map(|secret| one("console.oidc.client_secret", secret)));
    let proxy = config.outbound.proxy.url.as_ref().and_then(|url| url.password());
    secrets.extend(proxy.map(|password| one("outbound.proxy.url", password.into())));
    for (number, source) in config.sources.iter().enumerate() {
        for (path, secret) in source.api.iter().flat_map(documents::ApiConfig::secrets) {
            secrets.push(one(&format!("sources[{number}].api.{path}"), secret.clone()));
        }
        for (path, list) in source.auth.secrets() {
            let path = format!("sources[{number}].auth.{path}");
            secrets.extend(list.iter().enumerate().map(|(index, secret)| Configured {
                path: path.clone(),
                index: Some(index),
                secret: secret.clone(),
            }));
        }
    }
    secrets.retain(|configured| !configured.secret.expose().is_empty());
    secrets
}

/// The password of PostgreSQL, which may stand before the host or among the parameters.
fn store_passwords(url: &str) -> impl Iterator<Item = Secret> {
    let url = reqwest::Url::parse(url).ok();
    let before = url.as_ref().and_then(|url| url.password());
    let before = before.map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
    let pairs: Vec<_> = url.iter().flat_map(|url| url.query_pairs().into_owned()).collect();
    let among = pairs.into_iter().filter(|(name, _)| name == "password").map(|(_, text)| text);
    before.into_iter().chain(among).map(Secret::from)
}
