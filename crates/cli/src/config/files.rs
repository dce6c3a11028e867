//! Secrets that are kept in files of their own: `token_file` beside `token`, `secrets_file` beside `secrets`.
//!
//! The content of a file replaces the setting before anything is parsed, so that no other code knows about files. A
//! trailing line break is ignored; for a list, each line is one secret. No message quotes a file.

use std::path::{Path, PathBuf};
use std::{fs, io};

use event::Chain;
use serde_json::{Map, Value, json};

use super::Mistake;

/// The secrets that a command uses. Other files may be missing: in a container, a role has only its own.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    /// The password of the broker.
    pub broker: bool,
    /// The password of the store.
    pub store: bool,
    /// The token of the administration API.
    pub token: bool,
    /// The key of subjects.
    pub subject_key: bool,
    /// The credentials of the sources.
    pub sources: bool,
    /// The password of the proxy for requests of malote's own.
    pub outbound: bool,
    /// The credentials of malote at the APIs of the providers.
    pub apis: bool,
    /// The credentials for the APIs that sources are polled at.
    pub polls: bool,
}

impl Needed {
    /// Everything that is configured.
    pub const ALL: Self = Self {
        broker: true,
        store: true,
        token: true,
        subject_key: true,
        sources: true,
        outbound: true,
        apis: true,
        polls: true,
    };
    /// Nothing.
    pub const NONE: Self = Self {
        broker: false,
        store: false,
        token: false,
        subject_key: false,
        sources: false,
        outbound: false,
        apis: false,
        polls: false,
    };
}

/// The files that were read, and the errors of others.
#[derive(Default)]
pub(crate) struct SecretFiles {
    /// Every file that a setting names.
    pub(crate) files: Vec<PathBuf>,
    /// Those with the console's token, a source's secrets and its credentials for APIs, or the store's password.
    pub(crate) reloadable: Vec<PathBuf>,
    /// That of the broker's password.
    pub(crate) broker_password: Option<PathBuf>,
    /// The sources whose secrets are missing, by index.
    pub(crate) closed: Vec<usize>,
    /// Why a setting cannot be used.
    pub(crate) mistakes: Vec<Mistake>,
}

/// The section of the proxy, whose password is read at start only.
const PROXY: &str = "outbound.proxy";

/// The section of the provider of OpenID Connect, whose secret is read at start only.
const OIDC: &str = "console.oidc";

/// The credentials for the API that a source is polled at, within the source.
const POLL: &str = "poll.auth";

/// The outcome of reading a `*_file` setting.
enum Taken {
    /// The setting is not set.
    Nothing,
    Text(String),
    /// The file is missing, and not needed.
    Absent,
}

/// Replaces the `*_file` settings of a configuration tree by the contents of the files.
pub(crate) fn read_into(tree: &mut Value, needed: Needed) -> SecretFiles {
    let mut found = SecretFiles::default();
    let own = [
        ("console", "token", needed.token),
        (OIDC, "client_secret", needed.token),
        ("ingress", "subject_key", needed.subject_key),
    ];
    for (section, name, is_needed) in own {
        let pointer = format!("/{}", section.replace('.', "/"));
        let Some(table) = tree.pointer_mut(&pointer).and_then(Value::as_object_mut) else { continue };
        let Taken::Text(secret) = found.take(table, section, name, is_needed) else { continue };
        if table.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty()) {
            found.mistake(section, name, format!("is set beside {name}: remove one of them"));
        }
        table.insert(name.to_owned(), secret.into());
    }
    let urls = [("broker", needed.broker), ("store", needed.store), (PROXY, needed.outbound)];
    for (section, is_needed) in urls {
        let pointer = format!("/{}", section.replace('.', "/"));
        let Some(table) = tree.pointer_mut(&pointer).and_then(Value::as_object_mut) else { continue };
        let Taken::Text(password) = found.take(table, section, "password", is_needed) else { continue };
        match table.get("url").and_then(Value::as_str).map(|url| with_password(url, &password)) {
            Some(Ok(url)) => drop(table.insert("url".to_owned(), url.into())),
            Some(Err(error)) => found.mistake(section, "password", error.to_string()),
            // A value that is not a text is a separate mistake.
            None => {}
        }
    }
    let sources = tree.get_mut("sources").and_then(Value::as_array_mut);
    for (index, source) in sources.into_iter().flatten().enumerate() {
        if let Some(api) = source.get_mut("api").and_then(Value::as_object_mut) {
            let path = format!("sources[{index}].api");
            match found.take(api, &path, "client_secret", needed.apis) {
                Taken::Nothing => {}
                Taken::Text(_) if api.contains_key("client_secret") => {
                    found.mistake(
                        &path,
                        "client_secret",
                        "is set beside client_secret: remove one of them".to_owned(),
                    );
                }
                Taken::Text(secret) => drop(api.insert("client_secret".to_owned(), secret.into())),
                Taken::Absent => drop(api.insert("client_secret".to_owned(), UNREAD.into())),
            }
        }
        read_poll(&mut found, index, source, needed);
        let Some(mechanisms) = source.get_mut("auth").and_then(Value::as_object_mut) else { continue };
        for (mechanism, table) in mechanisms {
            let Some(table) = table.as_object_mut() else { continue };
            let name = match mechanism.as_str() {
                "basic" => "passwords",
                "oauth2" => "client_secrets",
                _ => "secrets",
            };
            let path = format!("sources[{index}].auth.{mechanism}");
            if mechanism == "client_certificate" {
                read_authorities(&mut found, index, table, &path, needed);
                continue;
            }
            let text = match found.take(table, &path, name, needed.sources) {
                Taken::Nothing => continue,
                Taken::Text(text) => text,
                Taken::Absent => {
                    found.closed.push(index);
                    UNREAD.to_owned()
                }
            };
            let secrets = text.lines().filter(|line| !line.is_empty()).map(Value::from);
            match table.entry(name).or_insert_with(|| json!([])) {
                Value::Array(list) => list.extend(secrets),
                _ => found.mistake(&path, name, format!("is set beside {name}, which is no list")),
            }
        }
    }
    found
}

/// The authorities of client certificates: a whole file in PEM.
fn read_authorities(
    found: &mut SecretFiles,
    index: usize,
    table: &mut Map<String, Value>,
    path: &str,
    needed: Needed,
) {
    const NAME: &str = "authorities";
    let text = match found.take(table, path, NAME, needed.sources) {
        Taken::Nothing => return,
        Taken::Text(text) => text,
        Taken::Absent => {
            found.closed.push(index);
            UNREAD.to_owned()
        }
    };
    if table.insert(NAME.to_owned(), text.into()).is_some() {
        found.mistake(path, NAME, format!("is set beside {NAME}: remove one of them"));
    }
}

/// The credentials for the API that a source is polled at.
fn read_poll(found: &mut SecretFiles, index: usize, source: &mut Value, needed: Needed) {
    let auth = source.pointer_mut("/poll/auth").and_then(Value::as_object_mut);
    for (mechanism, table) in auth.into_iter().flatten() {
        let Some(table) = table.as_object_mut() else { continue };
        let path = format!("sources[{index}].{POLL}.{mechanism}");
        let named = table.keys().filter_map(|key| key.strip_suffix("_file"));
        for name in named.map(str::to_owned).collect::<Vec<_>>() {
            let text = match found.take(table, &path, &name, needed.polls) {
                Taken::Nothing => continue,
                Taken::Text(text) => text,
                Taken::Absent => UNREAD.to_owned(),
            };
            if table.insert(name.clone(), text.into()).is_some() {
                found.mistake(&path, &name, format!("is set beside {name}: remove one of them"));
            }
        }
    }
}

impl SecretFiles {
    /// Removes `<name>_file` from a table, and returns the content of the file.
    fn take(&mut self, table: &mut Map<String, Value>, path: &str, name: &str, is_needed: bool) -> Taken {
        let file = match table.remove(&format!("{name}_file")) {
            None => return Taken::Nothing,
            Some(Value::String(file)) if file.is_empty() => return Taken::Nothing,
            Some(Value::String(file)) => PathBuf::from(file),
            Some(_) => {
                self.mistake(path, name, "expected the path of a file".to_owned());
                return Taken::Text(UNREAD.to_owned());
            }
        };
        let text = read(&file);
        if text.is_err() && !is_needed {
            return Taken::Absent;
        }
        match path {
            "broker" => self.broker_password = Some(file.clone()),
            "ingress" | PROXY | OIDC => {}
            _ => self.reloadable.push(file.clone()),
        }
        self.files.push(file);
        Taken::Text(text.unwrap_or_else(|error| {
            self.mistake(path, name, Chain(&error).to_string());
            UNREAD.to_owned()
        }))
    }

    fn mistake(&mut self, path: &str, name: &str, message: String) {
        self.mistakes.push(Mistake { path: format!("{path}.{name}_file"), message });
    }
}

/// A placeholder for a file that could not be read, so that its absence is not a second mistake. It satisfies the rules
/// of every secret.
pub(super) const UNREAD: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Why a file does not contain a secret.
#[derive(Debug, thiserror::Error)]
enum NoSecret {
    #[error("cannot read {}", file.display())]
    Unread { file: PathBuf, source: io::Error },
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
}

fn read(file: &Path) -> Result<String, NoSecret> {
    let unread = |source| NoSecret::Unread { file: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(unread)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(NoSecret::Empty(file.to_owned())),
        text => Ok(text.to_owned()),
    }
}

/// Why a password cannot be put into a URL.
#[derive(Debug, thiserror::Error)]
enum NoPlace {
    #[error("needs a URL that names the user, such as amqp://user@host")]
    NoUser,
    #[error("is set beside a URL with a password: remove one of them")]
    HasPassword,
}

/// A URL with this password for the user that it names.
fn with_password(url: &str, password: &str) -> Result<String, NoPlace> {
    let (scheme, rest) = url.split_once("://").ok_or(NoPlace::NoUser)?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) =
        authority.rsplit_once('@').filter(|(user, _)| !user.is_empty()).ok_or(NoPlace::NoUser)?;
    if user.contains(':') {
        return Err(NoPlace::HasPassword);
    }
    let encoded: String = password
        .bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    Ok(format!("{scheme}://{user}:{encoded}@{hosts}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::Needed;
    use crate::config::{Mistakes, load, load_parts};

    #[test]
    fn every_secret_can_come_from_a_file_without_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let key = "5".repeat(64);
        let text = format!(
            r#"
            broker.url = "amqp://malote@10.0.0.1,10.0.0.2/vhost"
            broker.password_file = {:?}
            broker.insecure = true
            store.url = "postgres://malote@127.0.0.1/malote"
            store.password_file = {:?}
            console.token_file = {:?}
            ingress.subject_key_file = {:?}
            outbound.proxy = {{ url = "http://me@proxy:3128", password_file = {:?} }}
            [[sources]]
            name = "one"
            provider = "recuperador"
            auth.bearer = {{ secrets = ["inline"], secrets_file = {:?} }}
            [[sources]]
            name = "two"
            provider = "recuperador"
            auth.basic = {{ username = "me", passwords_file = {:?} }}
            "#,
            file("broker", "a/b@c\n"),
            file("store", "d:e\r\n"),
            file("token", "0123456789abcdef\n"),
            file("key", &key),
            file("proxy", "f@g\n"),
            file("bearer", "next\n\nlast\n"),
            file("basic", "password 1"),
        );
        let (config, tree) = load_parts("", &text, []).unwrap();
        assert_eq!(config.store.url, "postgres://malote:d%3Ae@127.0.0.1/malote");
        assert!(!config.is_embedded() && config.ingress.subject_key().is_some());
        assert_eq!(config.console.token().unwrap().expose(), "0123456789abcdef");
        let signed = |index: usize| {
            let providers::auth::Auth::All(all) = config.sources[index].auth.clone() else { panic!() };
            let lists = [all.bearer.map(|bearer| bearer.secrets), all.basic.map(|basic| basic.passwords)];
            let secrets = lists.into_iter().flatten().flatten();
            secrets.map(|secret| secret.expose().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (signed(0), signed(1)),
            (vec!["inline".into(), "next".into(), "last".into()], vec!["password 1".into()])
        );
        assert_eq!(config.outbound.proxy.url.as_ref().unwrap().password(), Some("f@g"));
        assert_eq!(config.secret_files.len(), 7);
        assert!(config.broker.password_file.is_some_and(|file| file.ends_with("broker")));
        let names = config.reloadable_files.iter().map(|file| file.file_name().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["token", "store", "bearer", "basic"]);
        // Only the names of the files are shown.
        let shown = crate::config::shown(&tree);
        assert!(shown.contains("token_file = ") && !shown.contains("0123456789abcdef"), "{shown}");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        let text = format!(
            r#"
            broker.url = "amqp://malote:hunter2@127.0.0.1"
            broker.password_file = "/dev/null"
            console.token = "0123456789abcdef"
            console.token_file = {:?}
            [[sources]]
            name = "one"
            provider = "recuperador"
            auth.bearer = {{ secrets_file = "/nowhere/secret" }}
            "#,
            empty.display().to_string(),
        );
        let Mistakes(mistakes) = load_parts("", &text, []).unwrap_err();
        let shown: Vec<_> = mistakes.iter().map(|one| format!("{}: {}", one.path, one.message)).collect();
        let check =
            |expect: &str| assert!(shown.iter().any(|shown| shown.contains(expect)), "{expect}: {shown:#?}");
        check("broker.password_file: /dev/null is empty");
        check("console.token_file: is set beside token");
        check(&format!("console.token_file: {} is empty", empty.display()));
        check("sources[0].auth.bearer.secrets_file: cannot read /nowhere/secret: No such file");
        assert!(!shown.iter().any(|shown| shown.contains("hunter2")), "{shown:#?}");
    }

    #[test]
    fn a_command_needs_only_the_files_of_its_own_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, "p").unwrap();
        let config = folder.path().join("malote.toml");
        let text = format!(
            r#"
            broker = {{ url = "amqp://malote@127.0.0.1", password_file = {password:?} }}
            store = {{ url = "postgres://malote@127.0.0.1/malote", password_file = "/nowhere/store" }}
            console.token_file = "/nowhere/token"
            ingress.subject_key_file = "/nowhere/key"
            outbound.proxy = {{ url = "http://me@proxy:3128", password_file = "/nowhere/proxy" }}
            [[sources]]
            name = "one"
            provider = "recuperador"
            auth.bearer = {{ secrets_file = "/nowhere/secret" }}
            "#
        );
        std::fs::write(&config, text).unwrap();
        let mistakes = |needed: Needed| match load(Some(&config), needed) {
            Ok(_) => Vec::new(),
            Err(Mistakes(mistakes)) => mistakes.into_iter().map(|one| one.path).collect(),
        };
        let all = [
            "store.password_file",
            "console.token_file",
            "ingress.subject_key_file",
            "outbound.proxy.password_file",
            "sources[0].auth.bearer.secrets_file",
        ];
        let mut shown = mistakes(Needed::ALL);
        shown.sort_by_key(|path| all.iter().position(|known| known == path));
        assert_eq!(shown, all);
        let needed = Needed { broker: true, ..Needed::NONE };
        assert_eq!(mistakes(Needed { store: true, ..needed }), ["store.password_file"]);
        let loaded = load(Some(&config), needed).unwrap().config;
        assert!(loaded.console.token().is_none() && loaded.ingress.subject_key().is_none());
        let is_closed = loaded.sources[0].auth.secrets().iter().all(|(_, secrets)| secrets.is_empty());
        assert!(is_closed);
        assert_eq!(loaded.secret_files.iter().filter(|file| **file == password).count(), 1);
    }
}
