//! Merges defaults, file and environment, and collects all mistakes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use event::nearest;
use providers::auth::{Auth, PLACEHOLDER};
use serde_json::Value;

use super::check::{Gathered, Mistake, Mistakes};
use super::environment::{self, Setting};
use super::files::{self, Needed, SecretFiles};
use super::presets;
use super::secrets::{Configured, secrets};
use super::sections::{Config, NAMES};
use super::shown::holds_secret;

/// The commented defaults, which are also the reference of all settings.
pub const DEFAULT: &str = include_str!("default.toml");

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
    /// The required secrets.
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
    // Only position and reason are shown: the line itself may hold a secret.
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
    let (settings, mut unread) = environment::settings(variables, &default);
    let mut tree = merged(text, &settings)?;
    unread.extend(presets::expand(&mut tree));
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

/// The configuration of a tree that was loaded before, with the current contents of its secret files.
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

pub(super) fn read(tree: &Value, default: &Value) -> Result<Config, Mistakes> {
    let mut gathered = Gathered::default();
    let present = tree.as_object().into_iter().flat_map(|map| map.keys());
    for name in present.filter(|name| !NAMES.contains(&name.as_str())) {
        let message = match nearest(name, NAMES.iter().copied()) {
            Some(meant) => format!("there is no such section; did you mean {meant}?"),
            None => format!("there is no such section; allowed: {}", NAMES.join(", ")),
        };
        gathered.add(name, message);
    }
    let config = Config::read(tree, default, &mut gathered);
    if let Some(config) = &config {
        check_ports(config, &mut gathered);
        for Configured { path, index, .. } in secrets(config).iter().filter(|one| one.secret.is_placeholder())
        {
            let index = index.map(|index| format!("[{index}]")).unwrap_or_default();
            gathered.add(format!("{path}{index}"), PLACEHOLDER);
        }
    }
    gathered.into_result(NAMES)?;
    Ok(config.expect("every section that cannot be read is a mistake"))
}

/// One address for two ports is a mistake.
fn check_ports(config: &Config, gathered: &mut Gathered) {
    let listens = [
        ("ingress.listen", config.ingress.listen),
        ("console.listen", config.console.listen),
        ("operations.listen", config.operations.listen),
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
}
