//! Presets: senders as data, a file each in `presets/`, with a made body beside it.
//!
//! A preset says how the events of a sender are read, what its requests prove, and what to enter in its panel. A source that
//! names one adds its secrets. Nothing here knows a sender.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Provider;

/// Every file of `presets/`: its name and content.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/presets.rs"));

/// A sender that was described beforehand.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Its name, which is that of the file.
    #[serde(skip)]
    pub name: String,
    /// The sender's name, as people write it.
    pub title: String,
    /// The sender's own page about its webhooks.
    pub page: String,
    /// What has not been checked against that page.
    #[serde(default)]
    pub unverified: Vec<Text>,
    /// Who chooses the secret.
    pub secret: SecretFrom,
    /// How events are read: the settings of `[[providers]]` without the name, or the name of a built-in provider.
    pub provider: Value,
    /// The settings of `[[sources]]` that its sources start from, without secrets.
    pub source: Map<String, Value>,
    /// What else its sources may have.
    #[serde(default)]
    pub options: Vec<Choice>,
    /// Further documented topics of which the page shows a body.
    #[serde(default)]
    pub samples: Vec<String>,
    /// What to enter in the sender's panel.
    pub panel: Panel,
    /// The made request.
    pub example: Example,
}

/// Who chooses the secret of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretFrom {
    /// The operator of malote.
    Ours,
    /// The sender, who shows it in its panel.
    Theirs,
    /// There is none: the sender signs with a private key.
    PublicKey,
}

/// What to enter in a sender's panel, in two languages. `{url}` and `{secret}` stand for the address and the secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Line by line, in English.
    pub en: Vec<String>,
    /// The same in Portuguese.
    pub pt: Vec<String>,
    /// What to do when the events stop.
    pub stops: Text,
}

/// A text in two languages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// In English.
    pub en: String,
    /// In Portuguese.
    pub pt: String,
}

/// A setting that a source may have besides, such as the API that its documents are fetched from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What it is for.
    pub about: Text,
    /// Its line in the configuration.
    pub line: String,
}

/// A request that was made up, signed by other software than malote's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// When it was signed, in seconds since 1970 (UTC).
    #[serde(default = "signed_at")]
    pub time: i64,
    /// The query string.
    #[serde(default)]
    pub query: String,
    /// The media type of the body.
    #[serde(default = "json_type")]
    pub content_type: String,
    /// The headers that the sender adds.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The secrets, or public keys, of the source.
    pub auth: Map<String, Value>,
    /// The events that it becomes.
    pub events: Vec<ExampleEvent>,
}

fn signed_at() -> i64 {
    1_700_000_000
}

fn json_type() -> String {
    "application/json".to_owned()
}

/// An event of the made request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleEvent {
    /// Its topic.
    pub topic: String,
    /// Its subject; not compared if it is not given.
    pub subject: Option<String>,
}

impl Preset {
    /// All of them, by name.
    pub fn all() -> Vec<Self> {
        let toml = FILES.iter().filter_map(|(file, text)| Some((file.strip_suffix(".toml")?, text)));
        toml.map(|(name, text)| Self::read(name, text)).collect()
    }

    /// The preset of a name.
    pub fn named(name: &str) -> Option<Self> {
        let file = format!("{name}.toml");
        FILES.iter().find(|(found, _)| *found == file).map(|(_, text)| Self::read(name, text))
    }

    /// The names of all of them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().filter_map(|(file, _)| file.strip_suffix(".toml"))
    }

    fn read(name: &str, text: &[u8]) -> Self {
        const CHECKED: &str = "a preset keeps its form, as a test shows";
        let preset: Self = toml::from_slice(text).expect(CHECKED);
        Self { name: name.to_owned(), ..preset }
    }

    /// The name of its provider.
    pub fn provider_name(&self) -> &str {
        self.provider.as_str().unwrap_or(&self.name)
    }

    /// The settings of its provider, as an element of `[[providers]]`; `None` if it is built in.
    pub fn provider_config(&self) -> Option<Value> {
        let mut config = self.provider.as_object()?.clone();
        config.insert("name".to_owned(), self.name.clone().into());
        config.entry("title").or_insert_with(|| self.title.clone().into());
        Some(config.into())
    }

    /// The settings of a source that starts from it: those of the source itself, and for what it does not set, those of the
    /// preset.
    pub fn source_config(&self, own: &Map<String, Value>) -> Map<String, Value> {
        let mut source = Value::Object(self.source.clone());
        merge(&mut source, &Value::Object(own.clone()));
        let mut source = source.as_object().cloned().unwrap_or_default();
        source.remove("preset");
        source.insert("provider".to_owned(), self.provider_name().into());
        source
    }

    /// The settings with secrets that a source has to add: the path within `auth` of each.
    pub fn secrets(&self) -> Vec<String> {
        let mechanisms = self.source.get("auth").and_then(Value::as_object);
        let list = |(mechanism, table): (&String, &Value)| match mechanism.as_str() {
            "networks" | "client_certificate" => None,
            "basic" => Some("basic.passwords".to_owned()),
            "oauth2" => Some("oauth2.client_secrets".to_owned()),
            "signature" if self.secret == SecretFrom::PublicKey && table.get("algorithm").is_some() => {
                Some("signature.public_keys".to_owned())
            }
            other => Some(format!("{other}.secrets")),
        };
        mechanisms.into_iter().flatten().filter_map(list).collect()
    }

    /// The body of the made request; that of a built-in provider is documented.
    pub fn example_body(&self) -> &'static [u8] {
        let beside = FILES.iter().find(|(file, _)| {
            file.rsplit_once('.').is_some_and(|(stem, ending)| stem == self.name && ending != "toml")
        });
        let documented = || {
            let topic = &self.example.events.first()?.topic;
            Provider::named(self.provider_name())?.example(topic).map(str::as_bytes)
        };
        beside.map(|(_, body)| *body).or_else(documented).unwrap_or_default()
    }

    /// The settings of a source with the secrets of the made request.
    pub fn example_source(&self) -> Map<String, Value> {
        let own = json!({"name": "example", "auth": self.example.auth});
        self.source_config(own.as_object().expect("the literal is an object"))
    }
}

/// Puts every value of `over` into `under`, table by table.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                match under.get_mut(name) {
                    Some(found) => merge(found, value),
                    None => drop(under.insert(name.clone(), value.clone())),
                }
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests;
