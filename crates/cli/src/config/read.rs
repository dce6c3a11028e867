//! Brings defaults, file and environment together, and checks what no single value shows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use providers::auth::Secret;
use providers::{Provider, SubjectKey, generic};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use super::check::{Gathered, nearest};
use super::{Config, ConsoleSection, DEFAULT, IngressSection, Mistake, Mistakes, Sections, environment};

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "malote.toml";

/// A configuration, and what it was read from.
#[derive(Debug)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// The same as it is written, secrets included.
    pub tree: Value,
    /// The file, if one was read.
    pub file: Option<PathBuf>,
}

/// Reads the file, which has to be there if it is named, and the environment.
pub fn load(file: Option<&Path>) -> Result<Loaded, Mistakes> {
    let path = match file {
        Some(path) => Some(path.to_owned()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
    };
    let text = match &path {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| one(path.display().to_string(), format!("cannot be read: {error}")))?,
        None => String::new(),
    };
    let name = path.as_ref().map_or_else(String::new, |path| path.display().to_string());
    // A variable that is no text is none of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let (config, tree) = load_parts(&name, &text, variables)?;
    Ok(Loaded { config, tree, file: path })
}

fn one(path: String, message: String) -> Mistakes {
    Mistakes(vec![Mistake { path, message }])
}

/// The configuration of a file's text and environment variables, parsed and as a tree.
pub fn load_parts(
    name: &str,
    text: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(Config, Value), Mistakes> {
    // Only position and reason are told: the line itself may hold a secret.
    if let Err(error) = toml::from_str::<toml::Table>(text) {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        return Err(one(format!("{name} line {line}"), error.message().to_owned()));
    }
    let merged = |text: &str, settings: Vec<(String, config::Value)>| {
        let file = |text| config::File::from_str(text, config::FileFormat::Toml);
        let builder = config::Config::builder().add_source(file(DEFAULT)).add_source(file(text));
        let tree = settings
            .into_iter()
            .try_fold(builder, |builder, (path, value)| builder.set_override(path, value))
            .and_then(|builder| builder.build())
            .and_then(config::Config::try_deserialize::<Value>);
        tree.map_err(|error| one(name.to_owned(), error.to_string()))
    };
    let default = merged("", Vec::new())?;
    let tree = merged(text, environment::settings(variables, &default))?;
    Ok((read(&tree, &default)?, tree))
}

const TABLES: [&str; 11] = [
    "data",
    "broker",
    "store",
    "ingress",
    "console",
    "operations",
    "consumer",
    "log",
    "telemetry",
    "providers",
    "sources",
];

pub(crate) fn read(tree: &Value, default: &Value) -> Result<Config, Mistakes> {
    let mut gathered = Gathered::default();
    let present =
        tree.as_object().map(|map| map.keys().map(String::as_str).collect::<Vec<_>>()).unwrap_or_default();
    for name in present.into_iter().filter(|name| !TABLES.contains(name)) {
        let message = match nearest(name, TABLES) {
            Some(meant) => format!("there is no such section; did you mean {meant}?"),
            None => format!("there is no such section; allowed: {}", TABLES.join(", ")),
        };
        gathered.add(name, message);
    }
    let sections = sections(tree, default, &mut gathered);
    let config = sections.map(|sections| checked(sections, &mut gathered));
    gathered.into_result()?;
    Ok(config.expect("every section that cannot be read is a mistake"))
}

fn sections(tree: &Value, default: &Value, gathered: &mut Gathered) -> Option<Sections> {
    macro_rules! table {
        ($name:literal) => {
            gathered.table(tree.get($name).unwrap_or(&Value::Null), $name, &default[$name])
        };
    }
    // All are read before any `?` ends the search.
    let (data, broker, store) = (table!("data"), table!("broker"), table!("store"));
    let (ingress, console, operations) = (table!("ingress"), table!("console"), table!("operations"));
    let (consumer, log, telemetry) = (table!("consumer"), table!("log"), table!("telemetry"));
    let providers = list(tree, "providers", gathered);
    let sources = list(tree, "sources", gathered);
    Some(Sections {
        data: data?,
        broker: broker?,
        store: store?,
        ingress: ingress?,
        console: console?,
        operations: operations?,
        consumer: consumer?,
        log: log?,
        telemetry: telemetry?,
        providers,
        sources,
    })
}

fn list<T: serde::de::DeserializeOwned>(
    tree: &Value,
    name: &str,
    gathered: &mut Gathered,
) -> Vec<(usize, T)> {
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

/// What no single value shows.
fn checked(sections: Sections, gathered: &mut Gathered) -> Config {
    let Sections { data, broker, store, ingress, console, operations, consumer, log, telemetry, .. } =
        sections;
    let mut providers = Provider::builtin();
    for (index, generic) in &sections.providers {
        add_provider(*index, generic, &mut providers, gathered);
    }
    let mut names = BTreeSet::new();
    for (index, source) in &sections.sources {
        let at = |rest: &str| format!("sources[{index}].{rest}");
        if !names.insert(&source.name) {
            gathered.add(at("name"), format!("another source is named {} already", source.name));
        }
        if !providers.iter().any(|provider| *provider.name() == source.provider) {
            let known = || providers.iter().map(|provider| provider.name().as_str());
            let meant =
                nearest(source.provider.as_str(), known()).map(|meant| format!("; did you mean {meant}?"));
            let allowed = known().collect::<Vec<_>>().join(", ");
            gathered.add(
                at("provider"),
                format!(
                    "there is no provider {}{}; allowed: {allowed}",
                    source.provider,
                    meant.unwrap_or_default()
                ),
            );
        }
        for (path, message) in source.auth.mistakes() {
            let path = if path.is_empty() { at("auth") } else { at(&format!("auth.{path}")) };
            gathered.add(path, message);
        }
        for (index, provider) in sections.providers.iter().filter(|(_, p)| p.name == source.provider) {
            for header in provider.keep_headers.iter().filter(|name| source.auth.is_credential(name.as_str()))
            {
                gathered.add(
                    format!("providers[{index}].keep_headers"),
                    format!(
                        "{} is a credential of source {}, and is never kept",
                        header.as_str(),
                        source.name
                    ),
                );
            }
        }
    }

    if !["sqlite", "postgres", "postgresql"].iter().any(|kind| {
        let rest = store.url.strip_prefix(kind);
        rest.is_some_and(|rest| {
            if *kind == "sqlite" { rest.is_empty() || rest.starts_with(':') } else { rest.starts_with("://") }
        })
    }) {
        gathered.add(
            "store.url",
            "allowed: \"sqlite\", \"sqlite:<file>\" or \"postgres://user:password@host/database\"",
        );
    }
    if broker.prefix.len() > 64
        || broker.prefix.chars().any(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
    {
        gathered.add("broker.prefix", "takes at most 64 letters, digits, '-', '_' and '.'");
    }
    let at_least_one = [
        ("store.max_connections", u64::from(store.max_connections)),
        ("store.acquire_timeout_ms", store.acquire_timeout_ms),
        ("broker.connection_timeout_ms", broker.connection_timeout_ms),
        ("broker.confirm_timeout_ms", broker.confirm_timeout_ms),
        ("broker.channels", broker.channels as u64),
        ("broker.window", broker.window as u64),
        ("ingress.body_limit_bytes", ingress.body_limit_bytes as u64),
        ("ingress.answer_timeout_ms", ingress.answer_timeout_ms),
        ("ingress.source_requests", ingress.source_requests as u64),
        ("consumer.batch_events", consumer.batch_events as u64),
        ("consumer.batch_timeout_ms", consumer.batch_timeout_ms),
    ];
    for (path, value) in at_least_one {
        if value == 0 {
            gathered.add(path, "expected a number of at least 1");
        }
    }
    if EnvFilter::try_new(&log.filter).is_err() {
        gathered.add("log.filter", "expected a level (error, warn, info, debug, trace), or levels of parts such as \"info,ingress=debug\"");
    }
    let endpoint = &telemetry.otlp_endpoint;
    if !endpoint.is_empty() && !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        gathered
            .add("telemetry.otlp_endpoint", "expected a URL such as http://127.0.0.1:4318, or \"\" for none");
    }

    let IngressSection {
        listen,
        body_limit_bytes,
        answer_timeout_ms,
        source_requests,
        trusted_proxies,
        subject_key,
        limits,
        tls,
    } = ingress;
    let ingress = ingress::Config {
        listen,
        body_limit_bytes,
        answer_timeout_ms,
        source_requests,
        trusted_proxies,
        limits,
        tls,
    };
    let ConsoleSection { listen, token, limits, tls } = console;
    let console = server::Config { listen, limits, tls };
    let console_token = Some(token).filter(|token| !token.expose().is_empty());
    if console_token
        .as_ref()
        .is_some_and(|token| token.expose().len() < 16 || token.expose().contains(char::is_whitespace))
    {
        gathered.add(
            "console.token",
            "expected at least 16 characters without a space, or \"\" for one in the data directory",
        );
    }
    let subject_key = match subject_key.expose() {
        "" => None,
        text => {
            let key = parse_subject_key(&Secret::from(text));
            if key.is_none() {
                gathered.add(
                    "ingress.subject_key",
                    "expected 64 hexadecimal digits, or \"\" for one in the data directory",
                );
            }
            key
        }
    };
    let sources = sections.sources.into_iter().map(|(_, source)| source).collect();
    Config {
        data,
        broker,
        store,
        ingress,
        subject_key,
        console,
        console_token,
        operations,
        consumer,
        log,
        telemetry,
        providers,
        sources,
    }
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

/// The key in 64 hexadecimal digits.
pub(crate) fn parse_subject_key(text: &Secret) -> Option<SubjectKey> {
    let digits = text.expose().trim().as_bytes();
    let mut key = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(SubjectKey::from_bytes(key))
}

/// A configuration tree as TOML, without its secrets.
pub fn shown(tree: &Value) -> String {
    let mut tree = tree.clone();
    hide(&mut tree);
    toml::to_string_pretty(&tree).expect("a configuration holds what TOML can say")
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (name.as_str(), value) {
                    ("secrets" | "passwords", Value::Array(secrets)) => secrets.fill("[secret]".into()),
                    ("token" | "subject_key" | "secrets" | "passwords", value) => {
                        if value.as_str() != Some("") {
                            *value = "[secret]".into();
                        }
                    }
                    ("url" | "otlp_endpoint", Value::String(url)) => *url = without_password(url),
                    (_, value) => hide(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A URL with its password replaced.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // The last @ before the hosts: a password may hold one that is not encoded.
    let Some((credentials, hosts)) = rest.rsplit_once('@') else { return url.to_owned() };
    let user = credentials.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:[secret]@{hosts}")
}
