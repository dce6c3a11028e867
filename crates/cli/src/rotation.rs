//! Secrets and certificates that change while a process runs.
//!
//! Promises that a changed file is in force within seconds, and at once on SIGHUP; that one that cannot be used is
//! logged and leaves in force what was; and that no request is lost for it: each is checked against the old secrets
//! or the new ones. Other settings, the passwords of broker and store and the key of subjects among them, are read at
//! start only.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use console::Token;
use ingress::Ingress;
use server::Certificate;
use tokio::time::sleep;
use tracing::{error, info};

use crate::config::{self, Config};
use crate::data_dir;
use crate::report::chain;
use crate::signals::Hangup;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// What of a process can be replaced.
#[derive(Default)]
pub struct Rotation {
    /// Each with the section of its port.
    pub certificates: Vec<(&'static str, Certificate)>,
    /// Takes the credentials of its sources.
    pub ingress: Option<Ingress>,
    /// The token of the console.
    pub token: Option<Token>,
}

/// What shows that a file is another than before, also behind a symbolic link.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

impl Rotation {
    /// Follows the files of a configuration that was read from `file`, without an end.
    pub async fn run(self, file: Option<PathBuf>, config: &Config, mut hangup: Hangup) {
        let mut files = self.files(config);
        let look = |files: &[PathBuf]| files.iter().map(|file| stamp(file)).collect::<Vec<_>>();
        let mut in_force = look(&files);
        let mut before = in_force.clone();
        loop {
            let is_asked = tokio::select! {
                () = hangup.next() => true,
                () = sleep(PERIOD) => false,
            };
            let now = look(&files);
            // What still changes is not written to its end.
            if is_asked || now != in_force && now == before {
                in_force.clone_from(&now);
                self.read_certificates();
                if let Some(config) = self.read_secrets(file.as_deref()) {
                    files = self.files(&config);
                    in_force = look(&files);
                }
            }
            before = look(&files);
        }
    }

    fn files(&self, config: &Config) -> Vec<PathBuf> {
        let certificates = self.certificates.iter().flat_map(|(_, certificate)| certificate.files());
        let mut files: Vec<_> = certificates.map(Path::to_owned).collect();
        files.extend(config.secret_files.iter().cloned());
        if self.token.is_some() && config.console_token.is_none() {
            files.push(data_dir::token_file(&config.data.dir));
        }
        files
    }

    fn read_certificates(&self) {
        for (section, certificate) in &self.certificates {
            match certificate.reload() {
                Ok(()) => info!("the certificate of {section}.tls is read again"),
                Err(error) => {
                    error!("the certificate of {section}.tls in force stays: {}", chain(&error));
                }
            }
        }
    }

    /// The configuration that the secrets in force are from, unless it has mistakes.
    fn read_secrets(&self, file: Option<&Path>) -> Option<Config> {
        let config = match config::load(file) {
            Ok(loaded) => loaded.config,
            Err(mistakes) => {
                let mistakes = mistakes.to_string().replace('\n', ";");
                error!("the secrets in force stay, those in the files cannot be used: {mistakes}");
                return None;
            }
        };
        if let Some(ingress) = &self.ingress {
            for source in &config.sources {
                ingress.set_auth(&source.name, source.auth.clone());
            }
        }
        if let Some(token) = &self.token {
            match config.console_token.clone().map_or_else(|| data_dir::existing_token(&config.data.dir), Ok)
            {
                Ok(text) => token.replace(text.expose()),
                Err(error) => error!("the token in force stays: {error:#}"),
            }
        }
        info!("secrets are read again");
        Some(config)
    }
}
