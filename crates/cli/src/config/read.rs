//! Brings defaults, file and environment together, and checks what no single value shows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use event::nearest;
use providers::auth::{Auth, PLACEHOLDER, Secret};
use providers::generic::TopicFrom;
use providers::{HeaderName, Provider, SubjectKey, generic};
use serde_json::Value;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::check::Gathered;
use super::environment::Setting;
use super::files::{Needed, SecretFiles};
use super::{
    BrokerUrl, Config, ConsoleSection, DEFAULT, DuplicatesRule, IngressSection, Mistake, Mistakes, Sections,
    Source, environment, files,
};
use crate::domains;

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
    /// The secrets that have to be there.
    pub needed: Needed,
}

/// Reads the file, which has to be there if it is named, and the environment.
pub fn load(file: Option<&Path>, needed: Needed) -> Result<Loaded, Mistakes> {
    let path = match file {
        // An empty MALOTE_CONFIG names no file.
        Some(path) if !path.as_os_str().is_empty() => Some(path.to_owned()),
        _ => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
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
    let (mut config, tree) = load_needed(&name, &text, variables, needed)?;
    config.secret_files.extend(path.iter().filter(|_| holds_secret(&text)).cloned());
    Ok(Loaded { config, tree, file: path, needed })
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
    load_needed(name, text, variables, Needed::ALL)
}

fn load_needed(
    name: &str,
    text: &str,
    variables: impl IntoIterator<Item = (String, String)>,
    needed: Needed,
) -> Result<(Config, Value), Mistakes> {
    // Only position and reason are told: the line itself may hold a secret.
    if let Err(error) = toml::from_str::<toml::Table>(text) {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        return Err(one(format!("{name} line {line}"), error.message().to_owned()));
    }
    let merged = |text: &str, settings: &[Setting]| {
        let file = |text| config::File::from_str(text, config::FileFormat::Toml);
        let builder = config::Config::builder().add_source(file(DEFAULT)).add_source(file(text));
        let tree = settings
            .iter()
            .try_fold(builder, |builder, set| builder.set_override(&set.path, set.value.clone()))
            .and_then(|builder| builder.build())
            .and_then(config::Config::try_deserialize::<Value>);
        let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
        tree.map_err(|error| one(name.to_owned(), first_line(error.to_string())))
    };
    let mut default = merged("", &[])?;
    let (settings, unread) = environment::settings(variables, &default);
    let tree = merged(text, &settings)?;
    files::read_into(&mut default, needed);
    let mut mistakes = match with_secrets(&tree, &default, needed) {
        Ok(config) if unread.is_empty() => return Ok((config, tree)),
        Ok(_) => Vec::new(),
        Err(Mistakes(mistakes)) => mistakes,
    };
    for Mistake { path, message } in &mut mistakes {
        // The last is the one that counts: a longer path comes after a shorter one.
        let is_here = |set: &&Setting| {
            path.strip_prefix(&set.path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if let Some(set) = settings.iter().rev().find(is_here) {
            *message += &format!(" (from {})", set.variable);
        }
        if let Some(name) = source_name(&tree, path) {
            *message += &format!(" (source {name})");
        }
    }
    mistakes.extend(unread);
    Err(Mistakes(mistakes))
}

/// The configuration of a tree that was loaded before, with what its secret files hold now.
pub fn resolved(tree: &Value, needed: Needed) -> Result<Config, Mistakes> {
    let mut default = toml::from_str(DEFAULT).expect("the defaults are TOML, as a test shows");
    files::read_into(&mut default, needed);
    with_secrets(tree, &default, needed)
}

fn with_secrets(tree: &Value, default: &Value, needed: Needed) -> Result<Config, Mistakes> {
    let mut tree = tree.clone();
    let found = files::read_into(&mut tree, needed);
    let SecretFiles { files, reloadable, broker_password, closed, mistakes: unusable } = found;
    match read(&tree, default) {
        Ok(mut config) if unusable.is_empty() => {
            config.broker.password_file = broker_password;
            for index in closed {
                config.sources[index].auth = Auth::closed();
            }
            Ok(Config { secret_files: files, reloadable_files: reloadable, ..config })
        }
        Ok(_) => Err(Mistakes(unusable)),
        Err(Mistakes(mistakes)) => Err(Mistakes(mistakes.into_iter().chain(unusable).collect())),
    }
}

/// The name of the source that a path such as `sources[5].auth` is in.
fn source_name<'a>(tree: &'a Value, path: &str) -> Option<&'a str> {
    let (index, rest) = path.strip_prefix("sources[")?.split_once(']')?;
    let is_name = rest == ".name";
    tree["sources"].get(index.parse::<usize>().ok()?)?["name"].as_str().filter(|_| !is_name)
}

const TABLES: [&str; 13] = [
    "data",
    "time",
    "broker",
    "store",
    "ingress",
    "console",
    "operations",
    "consumer",
    "ledger",
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
    gathered.into_result(&TABLES)?;
    Ok(config.expect("every section that cannot be read is a mistake"))
}

fn sections(tree: &Value, default: &Value, gathered: &mut Gathered) -> Option<Sections> {
    macro_rules! table {
        ($name:literal) => {
            gathered.table(tree.get($name).unwrap_or(&Value::Null), $name, &default[$name])
        };
    }
    // All are read before any `?` ends the search.
    let (data, time) = (table!("data"), table!("time"));
    let (broker, store) = (table!("broker"), table!("store"));
    let (ingress, console, operations) = (table!("ingress"), table!("console"), table!("operations"));
    let (consumer, ledger) = (table!("consumer"), table!("ledger"));
    let (log, telemetry) = (table!("log"), table!("telemetry"));
    let providers = list(tree, "providers", gathered);
    let sources = list(tree, "sources", gathered);
    Some(Sections {
        data: data?,
        time: time?,
        broker: broker?,
        store: store?,
        ingress: ingress?,
        console: console?,
        operations: operations?,
        consumer: consumer?,
        ledger: ledger?,
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
    let Sections { data, time, broker, store, ingress, console, operations, consumer, .. } = sections;
    let Sections { ledger: mut retention, log, telemetry, .. } = sections;
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
        for (what, header) in unproved(source, &sections.providers) {
            gathered.add(
                at("auth"),
                format!(
                    "the {what} is read from the header {header}, which the signature does not cover: a request that \
                     is overheard can be sent again with another; read it from the body, or require a secret in the \
                     head or a network besides"
                ),
            );
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

    if let Some(message) = store_mistake(&store.url) {
        gathered.add("store.url", message);
    }
    if store.is_exposed() && !store.insecure {
        gathered.add(
            "store.url",
            "its sslmode lets anybody on the way pass for the database; leave it out, which is verify-full, or allow it \
             with store.insecure = true",
        );
    }
    if matches!(&broker.url, BrokerUrl::Amqp(url) if url.is_exposed()) && !broker.insecure {
        gathered.add(
            "broker.url",
            "leads over the network without TLS, which shows the password and every event; use amqps://, or allow it \
             with broker.insecure = true",
        );
    }
    if matches!(broker.url, BrokerUrl::Amqp(_)) && broker.management_url.is_exposed() && !broker.insecure {
        gathered.add(
            "broker.management_url",
            "leads over the network without TLS, which shows the password of broker.url; use https://, or allow it with \
             broker.insecure = true",
        );
    }
    let pairs = [
        ("broker.tls", broker.tls.certificate.is_some(), broker.tls.key.is_some()),
        ("store.tls", store.tls.certificate.is_some(), store.tls.key.is_some()),
    ];
    for (path, has_certificate, has_key) in pairs {
        if has_certificate != has_key {
            gathered.add(path, "certificate and key belong together: give both or neither");
        }
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
        ("ingress.spool.patience_ms", ingress.spool.patience_ms),
        ("consumer.batch_events", consumer.batch_events as u64),
        ("consumer.batch_timeout_ms", consumer.batch_timeout_ms),
        ("consumer.prefetch_bytes", consumer.prefetch_bytes as u64),
    ];
    for (path, value) in at_least_one {
        if value == 0 {
            gathered.add(path, "expected a number of at least 1");
        }
    }
    for (name, change) in &consumer.policies {
        let known = || domains::ALL.iter().map(|domain| domain.name());
        if !known().any(|known| known == name) {
            let meant = nearest(name, known()).map(|meant| format!("; did you mean {meant}?"));
            let allowed = known().collect::<Vec<_>>().join(", ");
            gathered.add(
                format!("consumer.policies.{name}"),
                format!("there is no such consumer{}; allowed: {allowed}", meant.unwrap_or_default()),
            );
        }
        for (field, message) in change.mistakes() {
            gathered.add(format!("consumer.policies.{name}.{field}"), message);
        }
    }
    if !is_filter(&log.filter) {
        gathered.add("log.filter", "expected a level (error, warn, info, debug, trace), or levels of parts such as \"info,ingress=debug\"");
    }
    let endpoint = &telemetry.otlp_endpoint;
    if !endpoint.is_empty() && !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        gathered
            .add("telemetry.otlp_endpoint", "expected a URL such as http://127.0.0.1:4318, or \"\" for none");
    }

    let IngressSection {
        listen,
        hosts,
        body_limit_bytes,
        body_memory_bytes,
        unproved_body_memory_bytes,
        answer_timeout_ms,
        source_requests,
        trusted_proxies,
        subject_key,
        spool,
        limits,
        tls,
    } = ingress;
    if spool.limit_bytes > 0 && spool.patience_ms >= answer_timeout_ms {
        gathered.add(
            "ingress.spool.patience_ms",
            format!(
                "expected less than ingress.answer_timeout_ms, {answer_timeout_ms}: storing takes time, too"
            ),
        );
    }
    let (body_memory_bytes, unproved_body_memory_bytes) =
        ingress::Config::memory(body_limit_bytes, body_memory_bytes, unproved_body_memory_bytes);
    let ingress = ingress::Config {
        listen,
        hosts,
        body_limit_bytes,
        body_memory_bytes,
        unproved_body_memory_bytes,
        answer_timeout_ms,
        source_requests,
        trusted_proxies,
        limits,
        tls,
    };
    if let Some((setting, message)) = ingress.memory_mistake() {
        gathered.add(format!("ingress.{setting}"), message);
    }
    let listens = [
        ("ingress.listen", ingress.listen),
        ("console.listen", console.listen),
        ("operations.listen", operations.listen),
    ];
    for (index, (path, ours)) in listens.iter().enumerate() {
        // Containers of one role each may share a port on every address.
        let is_taken = |(_, theirs): &&(_, SocketAddr)| {
            theirs == ours && ours.port() != 0 && !ours.ip().is_unspecified()
        };
        if let Some((earlier, _)) = listens[..index].iter().find(is_taken) {
            gathered.add(*path, format!("has the address of {earlier}, {ours}: give each its own"));
        }
    }
    let ConsoleSection { listen, hosts, token, limits, tls } = console;
    let console = server::Config { hosts, limits, tls, ..server::Config::new(listen) };
    let console_token = Some(token).filter(|token| !token.expose().is_empty());
    if console_token.as_ref().is_some_and(Secret::is_placeholder) {
        gathered.add("console.token", PLACEHOLDER);
    }
    if console_token.as_ref().is_some_and(|token| !is_token(token)) {
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
    let sources: Vec<_> = sections.sources.into_iter().map(|(_, source)| source).collect();
    retention.sources =
        sources.iter().filter_map(|source| Some((source.name.clone(), source.keep_days?))).collect();
    retention.zone = time.zone.clone();
    Config {
        data,
        zone: time.zone,
        broker,
        store,
        ingress,
        spool,
        subject_key,
        console,
        console_token,
        operations,
        consumer,
        retention,
        log,
        telemetry,
        providers,
        sources,
        secret_files: Vec::new(),
        reloadable_files: Vec::new(),
    }
}

/// What is read of a source's headers although nothing proves that its sender wrote them.
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

/// Whether each part of a filter is a level, or says of which part it is one. A lone word that is no level would be
/// taken for a part's name, and silence all others.
fn is_filter(filter: &str) -> bool {
    let is_sound = |part: &str| {
        let part = part.trim();
        part.contains(['=', '[', ']', '}']) || !part.is_empty() && part.parse::<LevelFilter>().is_ok()
    };
    filter.split(',').all(is_sound) && EnvFilter::try_new(filter).is_ok()
}

/// What is wrong with `store.url`, if anything.
fn store_mistake(url: &str) -> Option<&'static str> {
    const ALLOWED: &str =
        "allowed: \"sqlite\", \"sqlite:<file>\" or \"postgres://user:password@host/database\"";
    if url == "sqlite" {
        return None;
    }
    if let Some(file) = url.strip_prefix("sqlite:") {
        let is_file = !file.trim_matches('/').is_empty();
        return if is_file { None } else { Some("names no file; write \"sqlite:<file>\", or \"sqlite\"") };
    }
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Some(ALLOWED);
    }
    reqwest::Url::parse(url).is_err().then_some(
        "is not a URL; in user and password, write special characters percent-encoded, such as %2F for / and \
         %23 for #",
    )
}

/// Whether a token is one that cannot be guessed and can stand in a header.
pub(crate) fn is_token(token: &Secret) -> bool {
    token.expose().len() >= SHORTEST_SECRET && !token.expose().contains(char::is_whitespace)
}

/// The fewest characters of a token that is not guessed soon.
const SHORTEST_SECRET: usize = 16;

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

/// Whether something of a configuration file is not shown.
fn holds_secret(text: &str) -> bool {
    let tree = toml::from_str::<Value>(text).unwrap_or_default();
    let mut shown = tree.clone();
    hide(&mut shown);
    shown != tree
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

/// A URL with its password and the values of its parameters replaced.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // What is not encoded may stand for anything.
    if rest.contains('@') {
        return format!("{scheme}://[secret]");
    }
    // The last @ before the hosts: a password may hold one that is not encoded.
    let authority = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => match credentials.split_once(':') {
            Some((user, _)) => format!("{user}:[secret]@{hosts}"),
            None => format!("{credentials}@{hosts}"),
        },
        None => authority.to_owned(),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let Some((path, query)) = rest.split_once('?') else { return format!("{scheme}://{authority}{rest}") };
    // A parameter may be a password or a key; its name is not.
    let hidden = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) => format!("{name}=[secret]"),
        None => "[secret]".to_owned(),
    });
    format!("{scheme}://{authority}{path}?{}", hidden.collect::<Vec<_>>().join("&"))
}
