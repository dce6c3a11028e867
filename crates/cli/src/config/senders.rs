//! `[[providers]]` and `[[sources]]`: the senders and their contracts.

use std::collections::BTreeSet;

use documents::ApiConfig;
use event::{Chain, ProviderName, SourceName, nearest};
use providers::auth::{Auth, PLACEHOLDER};
use providers::generic::{AnswerConfig, Suffix, TopicFrom};
use providers::{Challenge, Duplicates, HeaderName, Provider, generic};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::Gathered;
use super::files::UNREAD;

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
    /// Whether it is polled and has no `auth`: nobody can post to it.
    #[serde(skip)]
    is_closed: bool,
    /// How it is polled, if it is.
    #[serde(default)]
    pub poll: Option<polling::Poll>,
    /// Its rule for duplicates, if different from that of its provider.
    #[serde(default)]
    pub duplicates: Option<DuplicatesRule>,
    /// How many days its events are kept, if different from `[ledger]`.
    #[serde(default)]
    pub keep_days: Option<u32>,
    /// Its quotas.
    #[serde(default)]
    pub quota: ingress::Quota,
    /// The API that its documents are fetched from; without it, none are.
    #[serde(default)]
    pub api: Option<ApiConfig>,
    /// The success answer that it insists on, if different from that of its provider.
    #[serde(default)]
    pub answer: Option<AnswerConfig>,
    /// Its requests that are no events, if different from those of its provider.
    #[serde(default)]
    pub challenges: Option<Vec<Challenge>>,
    /// What it appends to its address, if different from its provider.
    #[serde(default)]
    pub suffixes: Option<Vec<Suffix>>,
}

impl Source {
    /// How its duplicates are recognised: by its own rule, else by that of its provider, else by that of its credentials.
    pub fn duplicates(&self, provider: &Provider) -> Option<Duplicates> {
        match &self.duplicates {
            None => provider.duplicates().cloned().or_else(|| self.auth.duplicates()),
            Some(DuplicatesRule::Off) => None,
            Some(DuplicatesRule::By(rule)) => Some(rule.clone().comparing_as(provider.duplicates())),
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

/// Why the name of malote's own provider is refused.
const OWN: &str =
    "malote is the provider of malote's own domain events, which nobody posts: choose another name";

/// Both lists as written, each element with its index.
pub(super) struct Senders {
    providers: Vec<(usize, generic::Config)>,
    sources: Vec<(usize, Source)>,
}

impl Senders {
    /// Reads both. An element that cannot be read is left out and reported as a mistake.
    pub(super) fn read(tree: &Value, gathered: &mut Gathered) -> Self {
        Self { providers: list(tree, "providers", gathered), sources: sources(tree, gathered) }
    }

    /// Every provider, including the built-in ones, and every source. Collects mistakes that no single value shows.
    pub(super) fn checked(self, gathered: &mut Gathered) -> (Vec<Provider>, Vec<Source>) {
        let mut providers = Provider::builtin();
        for (index, generic) in &self.providers {
            add_provider(*index, generic, &mut providers, gathered);
        }
        let (mut names, mut clients) = (BTreeSet::new(), BTreeSet::new());
        for (index, source) in &self.sources {
            if let Some(oauth2) = source.auth.oauth2()
                && !clients.insert(&oauth2.client_id)
            {
                let message = "another source has this client already; give each source its own";
                gathered.add(format!("sources[{index}].auth.oauth2.client_id"), message);
            }
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
        if provider.is_own() {
            gathered.add(at("provider"), OWN);
        } else if !providers.iter().any(|known| known.name() == provider) {
            let known = || providers.iter().map(|provider| provider.name().as_str());
            let meant = nearest(provider.as_str(), known()).map(|meant| format!("; did you mean {meant}?"));
            let (meant, allowed) = (meant.unwrap_or_default(), known().collect::<Vec<_>>().join(", "));
            gathered
                .add(at("provider"), format!("there is no provider {provider}{meant}; allowed: {allowed}"));
        }
        let known = providers.iter().find(|known| known.name() == provider);
        for (path, message) in source.api.iter().zip(known).flat_map(|(api, of)| api.mistakes(of)) {
            let path = if path.is_empty() { at("api") } else { at(&format!("api.{path}")) };
            gathered.add(path, message);
        }
        if let Some((poll, known)) = source.poll.as_ref().zip(known) {
            for (path, message) in poll.mistakes(known.polling()) {
                gathered.add(at(&format!("poll.{path}")), message);
            }
            for (path, _) in poll.auth.secrets().iter().filter(|(_, secret)| secret.is_placeholder()) {
                gathered.add(at(&format!("poll.auth.{path}")), PLACEHOLDER);
            }
            if source.duplicates(known).is_none() {
                let message = "missing: what is polled comes again until it is acknowledged, and without a rule every time \
                               as a new event; give a field that identifies a fact";
                gathered.add(at("duplicates"), message);
            }
        }
        for (path, message) in auth.mistakes().into_iter().filter(|_| !source.is_closed) {
            let path = if path.is_empty() { at("auth") } else { at(&format!("auth.{path}")) };
            gathered.add(path, message);
        }
        let authorities = auth.client_certificate().and_then(|required| required.authorities.as_deref());
        if let Some(Err(error)) = authorities.filter(|pem| *pem != UNREAD).map(server::ClientAuthority::new) {
            gathered.add(at("auth.client_certificate.authorities"), Chain(&error).to_string());
        }
        let has_several = |known: &&Provider| known.name() == provider && known.has_several_events();
        if matches!(source.duplicates, Some(DuplicatesRule::Off))
            && providers.iter().any(|known| has_several(&known))
        {
            gathered.add(
                at("duplicates"),
                "its bodies hold several events: those that are stored before one fails are sent again with it, and have to \
                 be recognised; give a rule, or leave it out",
            );
        }
        for (path, message) in source.answer.iter().flat_map(AnswerConfig::mistakes) {
            gathered.add(at(&format!("answer.{path}")), message);
        }
        for (index, challenge) in source.challenges.iter().flatten().enumerate() {
            for (path, message) in challenge.mistakes() {
                let dot = if path.is_empty() { "" } else { "." };
                gathered.add(at(&format!("challenges[{index}]{dot}{path}")), message);
            }
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

/// The sources, of which those that are only polled have no authentication that a request could pass.
fn sources(tree: &Value, gathered: &mut Gathered) -> Vec<(usize, Source)> {
    let mut tree = tree.clone();
    let mut closed = BTreeSet::new();
    let items = tree.get_mut("sources").and_then(Value::as_array_mut).into_iter().flatten();
    for (index, item) in items.enumerate() {
        let Some(source) = item.as_object_mut() else { continue };
        if source.contains_key("poll") && !source.contains_key("auth") {
            source.insert("auth".to_owned(), "none".into());
            closed.insert(index);
        }
    }
    let mut sources: Vec<(usize, Source)> = list(&tree, "sources", gathered);
    for (_, source) in sources.iter_mut().filter(|(index, _)| closed.contains(index)) {
        source.auth = Auth::closed();
        source.is_closed = true;
    }
    sources
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
    if config.name.is_own() {
        gathered.add(format!("providers[{index}].name"), OWN);
    } else if providers.iter().any(|provider| *provider.name() == config.name) {
        gathered.add(
            format!("providers[{index}].name"),
            format!("another provider is named {} already", config.name),
        );
    } else {
        providers.push(Provider::generic(config));
    }
}
