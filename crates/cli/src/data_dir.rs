//! The data directory: made at first start for this user only, with the secrets that are made rather than given.
//!
//! Promises that a secret is made once, also by processes that start together, and that no other user can read it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use providers::SubjectKey;
use providers::auth::Secret;

use crate::config::{MOUNTED_SECRETS, is_token, parse_key, parse_subject_key};

const TOKEN: &str = "token";
const SUBJECT_KEY: &str = "subject-key";
const SECRETS_KEY: &str = "secrets-key";

/// A data directory that exists.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Makes the directory, 0700, where it is missing. One that others may look into stays so, and is warned of.
    pub fn open(path: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("cannot make the data directory {} (data.dir)", path.display()))?;
        if let Some(mode) = open_mode(path) {
            tracing::warn!(
                "others can read the data directory (mode {mode:o}), which holds secrets and personal data: chmod \
                 700 {}",
                path.display()
            );
        }
        Ok(Self(path.to_owned()))
    }

    /// The administration token, made at first use.
    pub fn token(&self) -> Result<Secret> {
        let token = made_secret(&self.0.join(TOKEN))?;
        check_token(&self.0.join(TOKEN), token)
    }

    /// The key of subjects, made at first use.
    pub fn subject_key(&self) -> Result<SubjectKey> {
        let text = made_secret(&self.0.join(SUBJECT_KEY))?;
        match parse_subject_key(&text) {
            Some(key) => Ok(key),
            None => bail!("{} does not hold 64 hexadecimal digits", self.0.join(SUBJECT_KEY).display()),
        }
    }
}

/// The secret in a file, which is made if it is missing.
fn made_secret(file: &Path) -> Result<Secret> {
    let cannot = |what: &str| format!("cannot {what} {}", file.display());
    if !file.exists() {
        // Written beside and linked into place: nobody sees half of it, and the first of two makers wins.
        let mut draft = file.as_os_str().to_owned();
        draft.push(format!(".{}", &random_hex()[..16]));
        let mut options = OpenOptions::new();
        let open = options.write(true).create_new(true).mode(0o600).open(&draft);
        let mut draft_file = open.with_context(|| cannot("make"))?;
        let written = writeln!(draft_file, "{}", random_hex()).and_then(|()| draft_file.sync_all());
        written.with_context(|| cannot("write"))?;
        let linked = fs::hard_link(&draft, file);
        let _ = fs::remove_file(&draft);
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| cannot("make"));
            }
            _ => {}
        }
    }
    read(file)
}

/// The key that secrets are encrypted with, from its file, which is made if it is missing. A file that others can use is
/// refused, unless a container runtime mounts it.
pub fn secrets_key(file: &Path) -> Result<[u8; 32]> {
    checked_secrets_key(file, &made_secret(file)?)
}

/// The key that the key of secrets replaces, from its file, which must exist.
pub fn replaced_secrets_key(file: &Path) -> Result<[u8; 32]> {
    checked_secrets_key(file, &read(file)?)
}

fn checked_secrets_key(file: &Path, text: &Secret) -> Result<[u8; 32]> {
    if let Some(mode) = open_mode(file).filter(|_| !file.starts_with(MOUNTED_SECRETS)) {
        bail!(
            "others can use {0} (mode {mode:o}), which holds the key of all secrets: chmod 600 {0}",
            file.display()
        );
    }
    parse_key(text).with_context(|| format!("{} does not hold 64 hexadecimal digits", file.display()))
}

/// The path of the key that secrets are encrypted with, unless it is configured.
pub fn secrets_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join(SECRETS_KEY)
}

/// The administration token that another process made; empty, which no installation takes, where none has yet.
pub fn existing_token(data_dir: &Path) -> Result<Secret> {
    if token_file(data_dir).exists() { made_token(data_dir) } else { Ok(Secret::from("")) }
}

/// The administration token of a data directory, which must exist.
pub fn made_token(data_dir: &Path) -> Result<Secret> {
    let file = token_file(data_dir);
    check_token(&file, read(&file)?)
}

/// The path of the subject key, unless it is configured.
pub fn subject_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join(SUBJECT_KEY)
}

/// Whether a data directory contains a subject key.
pub fn has_subject_key(data_dir: &Path) -> bool {
    subject_key_file(data_dir).exists()
}

/// The error for a role that needs the subject key of others and has none.
pub fn missing_subject_key(data_dir: &Path) -> String {
    format!(
        "ingress.subject_key is not set, and {} does not exist: every ingress and console of an installation needs the same \
         key, or one person's events get several subjects. Set it for all of them, to 64 hexadecimal digits such as from \
         `openssl rand -hex 32`; an installation that has run before has its key in the file subject-key of the ingress's \
         data directory",
        subject_key_file(data_dir).display()
    )
}

/// The path of the administration token.
pub fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join(TOKEN)
}

fn check_token(file: &Path, token: Secret) -> Result<Secret> {
    if is_token(&token) {
        return Ok(token);
    }
    let what = match token.expose() {
        "" => "is empty",
        text if text.contains(char::is_whitespace) => "holds more than a token",
        _ => "is too short",
    };
    bail!("{} {what}: delete it and start again, a new one is made", file.display())
}

/// The mode of a file or directory that others than its owner may use.
pub fn open_mode(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

fn read(file: &Path) -> Result<Secret> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Secret::from(text.trim()))
}

/// 256 random bits in hexadecimal.
pub fn random_hex() -> String {
    let mut bytes = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).expect("the system gives random numbers");
    providers::to_hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_can_be_guessed_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(folder.path()).unwrap();
        let file = folder.path().join(TOKEN);
        for (text, what) in [("", "is empty"), ("x\n", "is too short"), ("0123456789 abcdef", "holds more")] {
            fs::write(&file, text).unwrap();
            for refused in [data_dir.token(), existing_token(folder.path())] {
                let printed = refused.unwrap_err().to_string();
                assert!(printed.starts_with(&format!("{} {what}", file.display())), "{printed}");
                assert!(printed.contains("delete it and start again"), "{printed}");
            }
        }
    }

    #[test]
    fn the_key_of_secrets_is_made_once_and_refused_where_others_can_use_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = secrets_key_file(folder.path());
        // Several processes start at once.
        let keys = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| secrets_key(&file).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(keys.iter().all(|key| *key == keys[0]) && keys[0] != [0; 32]);
        let set_mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(open_mode(&file), None);
        for mode in [0o604, 0o640, 0o660] {
            set_mode(mode);
            let printed = secrets_key(&file).unwrap_err().to_string();
            assert!(
                printed.contains(&format!("(mode {mode:o})")) && printed.contains("chmod 600"),
                "{printed}"
            );
        }
        set_mode(0o600);
        fs::write(&file, "whsec_x").unwrap();
        let printed = secrets_key(&file).unwrap_err().to_string();
        assert!(
            printed.ends_with("does not hold 64 hexadecimal digits") && !printed.contains("whsec"),
            "{printed}"
        );
    }

    #[test]
    fn secrets_are_made_once_and_for_this_user_only() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let data_dir = DataDir::open(&path).unwrap();
        let token = data_dir.token().unwrap();
        assert_eq!(token.expose().len(), 64);
        assert_eq!(DataDir::open(&path).unwrap().token().unwrap().expose(), token.expose());
        assert_eq!(existing_token(&path).unwrap().expose(), token.expose());
        data_dir.subject_key().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        let mut files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files, [path.join("subject-key"), path.join("token")]);
        assert!(files.iter().all(|file| mode(file) == 0o600));
    }
}
