//! Secrets and certificates that change while a process runs.
//!
//! Promises that a changed secret file or certificate is in force within seconds, and a changed `auth`, console token or credential
//! for the API of a source (`api`, `poll.auth`) of the configuration file on SIGHUP; that an access token that was got with other
//! credentials is dropped; that new connections to broker and store use a changed password file; that an
//! invalid file is logged and changes nothing; that a source removed from the configuration is denied and not polled, and its
//! documents are not fetched, until it is there again; and that no request is lost: each is checked against the old or the new secrets. Everything else, including the subject key, is
//! read only at start: it is named in the log, and does not hold up the secrets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use console::Token;
use event::SourceName;
use ingress::Ingress;
use polling::BadPoll;
use providers::auth::Auth;
use serde_json::Value;
use server::{Certificate, TlsError};
use store::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::documents;
use super::polls::Polls;
use super::signals::Hangup;
use crate::config::{self, Config, Loaded, Mistakes};
use crate::data_dir;
use crate::report::chain;

/// How often the files are checked.
const PERIOD: Duration = Duration::from_secs(2);

/// The parts of a process that can be reloaded.
#[derive(Default)]
pub struct Rotation {
    /// Each with the section of its port.
    pub certificates: Vec<(&'static str, Certificate)>,
    /// Receives new credentials of its sources.
    pub ingress: Option<Ingress>,
    /// The token of the console.
    pub token: Option<Token>,
    /// Receives new credentials for the APIs that documents are fetched from.
    pub documents: Option<watch::Sender<Vec<::documents::Source>>>,
    /// Receives new credentials for the APIs that are polled.
    pub polls: Option<Polls>,
    /// Has a password. The broker reads its password for each connection.
    pub store: Option<Store>,
}

impl Rotation {
    /// Follows the files of the configuration that the process started with; never returns.
    pub async fn run(self, loaded: &Loaded, mut hangup: Hangup) {
        let mut tree = loaded.tree.clone();
        let mut files = self.secret_files(&loaded.config);
        let mut certificates: Vec<_> =
            self.certificates.iter().map(|certificate| (certificate, Watch::default())).collect();
        let mut secrets = Watch::default();
        let mut returned = Vec::new();
        loop {
            let is_asked = tokio::select! {
                () = hangup.next() => true,
                () = sleep(PERIOD) => false,
            };
            for ((section, certificate), watch) in &mut certificates {
                let Some(stamps) = watch.due(certificate.files(), is_asked) else { continue };
                let read = certificate
                    .reload()
                    .map_err(|error| Kept::Certificate { section, error: Box::new(error) });
                if watch.settle(stamps, is_asked, read) {
                    info!("reloaded the certificate of {section}.tls");
                }
            }
            let is_asked = is_asked && self.accept(loaded, &mut tree, &mut returned).await;
            self.restore(&loaded.config, &mut returned).await;
            let Some(stamps) = secrets.due(files.iter().map(PathBuf::as_path), is_asked) else { continue };
            let read = config::resolved(&tree, loaded.needed).map_err(Kept::Secrets);
            let read = read.and_then(|config| {
                files = self.secret_files(&config);
                self.apply(&config)?;
                Ok(config::warnings(&config))
            });
            let warnings = read.as_ref().cloned().unwrap_or_default();
            if secrets.settle(stamps, is_asked, read.map(drop)) {
                info!("secrets reloaded");
                warnings.iter().for_each(|warning| warn!("{warning}"));
            }
        }
    }

    /// The files whose secrets this process can reload.
    fn secret_files(&self, config: &Config) -> Vec<PathBuf> {
        let mut files = config.reloadable_files.clone();
        if self.token.is_some() && config.console.token().is_none() {
            files.push(data_dir::token_file(&config.data.dir));
        }
        files
    }

    /// Reloads into `tree` what needs no restart; returns whether the configuration is valid. Missing sources are denied, and not
    /// polled any more; those that were missing before are in `returned`.
    async fn accept(&self, loaded: &Loaded, tree: &mut Value, returned: &mut Vec<String>) -> bool {
        let new = match config::load(loaded.file.as_deref(), loaded.needed) {
            Ok(new) => new.tree,
            Err(mistakes) => {
                error!("{}", Kept::Secrets(mistakes));
                return false;
            }
        };
        let is_kept = |name: &str| config::sources(&new).any(|(kept, _)| kept == name);
        for (name, _) in config::sources(tree).filter(|(name, _)| !is_kept(name)) {
            let Ok(source) = SourceName::new(name) else { continue };
            if let Some(ingress) = &self.ingress {
                ingress.set_auth(&source, Auth::closed());
                warn!("source {name} is no longer configured: its requests are denied");
            }
            // The processes with a console poll.
            if let (Some(_), Some(store)) = (&self.token, &self.store)
                && let Err(error) = polling::forget(store, &source).await
            {
                warn!("source {name} is no longer configured, and polled until a restart: {}", chain(&error));
            }
        }
        let changed = config::needs_restart(&loaded.tree, &new);
        if !changed.is_empty() {
            warn!(
                "needs a restart: {}; sources among them keep their secrets until then",
                changed.join(", ")
            );
        }
        // Without the missing ones: a later change of a file must not re-enable them.
        let reloaded = config::reloaded(&loaded.tree, tree, &new);
        let had = |tree: &Value, name: &str| config::sources(tree).any(|(other, _)| other == name);
        returned.retain(|name| had(&reloaded, name));
        returned.extend(
            config::sources(&reloaded).filter(|(name, _)| !had(tree, name)).map(|(name, _)| name.to_owned()),
        );
        *tree = reloaded;
        true
    }

    /// Has sources polled and listed that are configured again. Those that the store does not take stay in `returned`.
    async fn restore(&self, config: &Config, returned: &mut Vec<String>) {
        let (Some(_), Some(store)) = (&self.token, &self.store) else { return returned.clear() };
        while let Some(name) = returned.last() {
            let source = config.sources.iter().find(|source| source.name.as_str() == name);
            if let Some(source) = source
                && let Some(provider) = config.provider(&source.provider)
                && let Err(error) =
                    polling::restore(store, (&source.name, provider, source.poll.as_ref())).await
            {
                debug!("source {name} is configured again, and not polled yet: {}", chain(&error));
                return;
            }
            returned.pop();
        }
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        if let Some(polls) = &self.polls {
            polls.rotate(config).map_err(Kept::Poll)?;
        }
        if let Some(sources) = &self.documents {
            sources.send_replace(documents::sources(config));
        }
        if let Some(ingress) = &self.ingress {
            for source in &config.sources {
                ingress.set_auth(&source.name, source.auth.clone());
            }
            for (_, certificate) in self.certificates.iter().filter(|(section, _)| *section == "ingress") {
                certificate.ask_clients(config.asks_for_client_certificates());
            }
        }
        if let Some(store) = &self.store {
            store.reconnect_with(&config.store).map_err(Kept::Password)?;
        }
        let Some(token) = &self.token else { return Ok(()) };
        let text = config.console.token().cloned().map_or_else(|| data_dir::made_token(&config.data.dir), Ok);
        token.replace(text.map_err(Kept::Token)?.expose());
        Ok(())
    }
}

/// What is kept as it is, since its new form cannot be used.
#[derive(Debug, thiserror::Error)]
enum Kept {
    #[error("keeping the current certificate of {section}.tls")]
    Certificate {
        section: &'static str,
        #[source]
        error: Box<TlsError>,
    },
    #[error(
        "keeping the current secrets: the new configuration is invalid: {}", .0.to_string().replace('\n', ";")
    )]
    Secrets(Mistakes),
    #[error("keeping the current password of the store")]
    Password(#[source] StoreError),
    #[error("keeping the current credentials of poll.auth")]
    Poll(#[source] BadPoll),
    #[error("keeping the current token")]
    Token(#[source] anyhow::Error),
}

/// Detects a changed file, also behind a symbolic link: times, length and inode.
type Stamp = Option<([i64; 4], u64, u64)>;

type Stamps = BTreeMap<PathBuf, Stamp>;

fn stamp(file: &Path) -> Stamp {
    let is = fs::metadata(file).ok()?;
    Some(([is.mtime(), is.mtime_nsec(), is.ctime(), is.ctime_nsec()], is.len(), is.ino()))
}

/// Files that are read together.
#[derive(Default)]
struct Watch {
    /// Taken before the files were read; `None` if they must be read: at first, since they may have changed while the
    /// process started, and after an error.
    in_force: Option<Stamps>,
    before: Stamps,
    /// What the log says of the last reading, if that failed.
    error: Option<String>,
}

impl Watch {
    /// The current stamps, if the files must be read.
    fn due<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>, is_asked: bool) -> Option<Stamps> {
        let now: Stamps = files.into_iter().map(|file| (file.to_owned(), stamp(file))).collect();
        // A file that still changes is not completely written.
        let is_settled = std::mem::replace(&mut self.before, now.clone()) == now;
        (is_asked || is_settled && self.in_force.as_ref() != Some(&now)).then_some(now)
    }

    /// Stores the result of a reading; returns whether to log it. An error is logged once.
    fn settle(&mut self, stamps: Stamps, is_asked: bool, read: Result<(), Kept>) -> bool {
        let is_first = self.in_force.is_none() && self.error.is_none();
        let error = read.err().map(|error| chain(&error));
        self.in_force = error.is_none().then_some(stamps);
        if let Some(error) = error.as_ref().filter(|error| is_asked || self.error.as_ref() != Some(error)) {
            error!("{error}");
        }
        self.error = error;
        self.error.is_none() && (is_asked || !is_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_again_until_they_are_read_without_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::default();
        let due = |watch: &mut Watch| watch.due([file.as_path()], false);
        assert!(due(&mut watch).is_none(), "may still be written");
        // It may have changed since the process read it.
        let stamps = due(&mut watch).unwrap();
        // Changed after its stamp was taken, with the same length and time of modification.
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        let started = std::time::Instant::now();
        // The system's clock for files ticks every few milliseconds.
        while stamp(&file) == stamps[&file] {
            assert!(started.elapsed() < Duration::from_secs(5), "the time of change is looked at");
            fs::write(&file, "2").unwrap();
            fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        }
        assert!(!watch.settle(stamps, false, Ok(())));
        assert!(due(&mut watch).is_none());
        let stamps = due(&mut watch).unwrap();
        assert!(!watch.settle(stamps, false, Err(Kept::Secrets(Mistakes(Vec::new())))));
        let stamps = due(&mut watch).unwrap();
        assert!(watch.settle(stamps, false, Ok(())));
        assert!(due(&mut watch).is_none());
    }
}
