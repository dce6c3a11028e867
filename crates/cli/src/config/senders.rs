//! `[[providers]]` and `[[sources]]`: the senders and their contracts.

use std::collections::BTreeSet;

use event::{ProviderName, SourceName, nearest};
use providers::auth::Auth;
use providers::generic::TopicFrom;
use providers::{Duplicates, HeaderName, Provider, generic};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::Gathered;

/// One configured sender.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name: the last part of its address.
    pub name: SourceName,
    /// Its provider.
    pub provider: ProviderName,
    /// Its authentication.
    pub auth: Auth,
    /// Its rule for duplicates, if different from that of its provider.
    #[serde(default)]
    pub duplicates: Option<DuplicatesRule>,
    /// How many days its events are kept, if different from `[ledger]`.
    #[serde(default)]
    pub keep_days: Option<u32>,
    /// Its quotas.
    #[serde(default)]
    pub quota: ingress::Quota,
}

impl Source {
    /// How it tells that it sends a fact again: by its own rule, else as its provider does, else as its credentials do.
    pub fn duplicates(&self, provider: &Provider) -> Option<Duplicates> {
        match &self.duplicates {
            None => provider.duplicates().cloned().or_else(|| self.auth.duplicates()),
            Some(DuplicatesRule::Off) => None,
            Some(DuplicatesRule::By(rule)) => Some(rule.clone()),
        }
    }
}

/// The rule for duplicates of a source.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub enum DuplicatesRule {
    /// None: duplicates are not recognised.
    Off,
    /// This rule.
    By(Duplicates),
}

/// Why a value is not a rule for duplicates.
#[derive(Debug, thiserror::Error)]
pub enum NotADuplicatesRule {
    /// It is neither "none" nor a table.
    #[error("expected \"none\", or a table such as {{ pointer = \"/id\", window_s = 86400 }}")]
    Form,
    /// The table is invalid.
    #[error(transparent)]
    Table(#[from] serde_json::Error),
}

impl TryFrom<Value> for DuplicatesRule {
    type Error = NotADuplicatesRule;

    fn try_from(value: Value) -> Result<Self, NotADuplicatesRule> {
        match value {
            Value::String(word) if word == "none" => Ok(Self::Off),
            table @ Value::Object(_) => Ok(Self::By(serde_json::from_value(table)?)),
            _ => Err(NotADuplicatesRule::Form),
        }
    }
}

/// Both lists as written, each element with its index.
pub(super) struct Senders {
    providers: Vec<(usize, generic::Config)>,
    sources: Vec<(usize, Source)>,
}

impl Senders {
    /// Reads both. An element that cannot be read is left out and reported as a mistake.
    pub(super) fn read(tree: &Value, gathered: &mut Gathered) -> Self {
        Self { providers: list(tree, "providers", gathered), sources: list(tree, "sources", gathered) }
    }

    /// Every provider, including the built-in ones, and every source. Collects mistakes that no single value shows.
    pub(super) fn checked(self, gathered: &mut Gathered) -> (Vec<Provider>, Vec<Source>) {
        let mut providers = Provider::builtin();
        for (index, generic) in &self.providers {
            add_provider(*index, generic, &mut providers, gathered);
        }
        let mut names = BTreeSet::new();
        for (index, source) in &self.sources {
            if !names.insert(&source.name) {
                let message = format!("another source is named {} already", source.name);
                gathered.add(format!("sources[{index}].name"), message);
            }
            self.check_source(*index, source, &providers, gathered);
        }
        (providers, self.sources.into_iter().map(|(_, source)| source).collect())
    }

    fn check_source(&self, index: usize, source: &Source, providers: &[Provider], gathered: &mut Gathered) {
        let at = |rest: &str| format!("sources[{index}].{rest}");
        let Source { provider, auth, .. } = source;
        if !providers.iter().any(|known| known.name() == provider) {
            let known = || providers.iter().map(|provider| provider.name().as_str());
            let meant = nearest(provider.as_str(), known()).map(|meant| format!("; did you mean {meant}?"));
            let (meant, allowed) = (meant.unwrap_or_default(), known().collect::<Vec<_>>().join(", "));
            gathered
                .add(at("provider"), format!("there is no provider {provider}{meant}; allowed: {allowed}"));
        }
        for (path, message) in auth.mistakes() {
            let path = if path.is_empty() { at("auth") } else { at(&format!("auth.{path}")) };
            gathered.add(path, message);
        }
        for (what, header) in unproved(source, &self.providers) {
            gathered.add(
                at("auth"),
                format!(
                    "the {what} is read from the header {header}, which the signature does not cover: a request that \
                     is overheard can be sent again with another; read it from the body, or require a secret in the \
                     head or a network besides"
                ),
            );
        }
        for (index, generic) in self.providers.iter().filter(|(_, generic)| generic.name == *provider) {
            for header in generic.keep_headers.iter().filter(|name| auth.is_credential(name.as_str())) {
                let (header, name) = (header.as_str(), &source.name);
                gathered.add(
                    format!("providers[{index}].keep_headers"),
                    format!("{header} is a credential of source {name}, and is never kept"),
                );
            }
        }
    }
}

fn list<T: DeserializeOwned>(tree: &Value, name: &str, gathered: &mut Gathered) -> Vec<(usize, T)> {
    match tree.get(name) {
        None => Vec::new(),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                Some((index, gathered.table(item, &format!("{name}[{index}]"), &Value::Null)?))
            })
            .collect(),
        Some(_) => {
            gathered.add(name, format!("expected tables: write [[{name}]]"));
            Vec::new()
        }
    }
}

/// The headers that are read although nothing authenticates them.
fn unproved<'a>(
    source: &'a Source,
    providers: &'a [(usize, generic::Config)],
) -> Vec<(&'static str, &'a HeaderName)> {
    let mut read = Vec::new();
    if let Some((_, provider)) = providers.iter().find(|(_, provider)| provider.name == source.provider) {
        if let TopicFrom::Header(header) = &provider.topic {
            read.push(("topic", header));
        }
        read.extend(
            provider.subject.iter().filter_map(|subject| Some(("subject", subject.header.as_ref()?))),
        );
    }
    if let Some(DuplicatesRule::By(rule)) = &source.duplicates {
        read.extend(rule.header().map(|header| ("key of duplicates", header)));
    }
    read.retain(|(_, header)| !source.auth.proves_header(header.as_str()));
    read
}

fn add_provider(
    index: usize,
    config: &generic::Config,
    providers: &mut Vec<Provider>,
    gathered: &mut Gathered,
) {
    for (path, message) in config.mistakes() {
        gathered.add(format!("providers[{index}].{path}"), message);
    }
    if providers.iter().any(|provider| *provider.name() == config.name) {
        gathered.add(
            format!("providers[{index}].name"),
            format!("another provider is named {} already", config.name),
        );
    } else {
        providers.push(Provider::generic(config));
    }
}
