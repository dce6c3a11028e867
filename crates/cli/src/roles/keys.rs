//! Whether a process has the keys of its installation. With another subject key, one person's events get several subjects; with
//! another key of secrets, those of subscriptions cannot be read.
//!
//! The store keeps the fingerprint of each key. A process with all roles, a console, and a ledger whose configuration has the
//! subject key compare theirs with it. An ingress of its own has no store, and cannot.

use std::path::{Path, PathBuf};

use providers::SubjectKey;
use store::agreed::{self, Agreed};
use store::{Store, StoreError};
use subscriptions::Seal;

use super::Roles;
use crate::config::Config;
use crate::data_dir;

/// What the fingerprint of the subject key is kept under: the setting.
const SUBJECT_KEY: &str = "ingress.subject_key";

/// What the fingerprint of the key of secrets is kept under: the setting.
const SECRETS_KEY: &str = "secrets.key_file";

/// A key of a process, as it is compared.
pub(super) struct KeyCheck {
    /// What the fingerprint is kept under.
    name: &'static str,
    own: Agreed,
    /// The fingerprint that this one may replace.
    replaced: String,
    /// The file that the key is in, if there is one.
    file: Option<PathBuf>,
    /// Whether the process may set the fingerprint where there is none.
    may_set: bool,
}

/// The key is not that of the installation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WrongKey {
    #[error(
        "{place} holds another key than this installation's, so that the secrets of subscriptions cannot be read: its \
         fingerprint is {own}, and that of the key which {set_by} set at {set_at} is {agreed}. Give this process a copy of \
         that key's file. To change the key on purpose, set secrets.replaced_key_file to the file of the old one"
    )]
    OtherSecrets { place: String, own: String, set_by: String, set_at: event::Timestamp, agreed: String },
    #[error(
        "{place} holds another subject key than this installation's, so that one person's events would get several subjects: \
         its fingerprint is {own}, and that of the key which {set_by} set at {set_at} is {agreed}. Give this process that \
         key. To change the key on purpose, give every ingress and console the new one and set \
         ingress.replaced_subject_key = {agreed:?}"
    )]
    Other { place: String, own: String, set_by: String, set_at: event::Timestamp, agreed: String },
    #[error(
        "{file} may hold a subject key that no ingress has, and the store knows of none yet to compare it with: set \
         ingress.subject_key to the key of the ingresses, which without that setting is in the file subject-key of their data \
         directory"
    )]
    Unconfirmed { file: String },
}

impl KeyCheck {
    /// The subject key of these roles. `None` where they have none, or no store.
    pub(super) fn subject_key(config: &Config, roles: Roles, key: Option<&SubjectKey>) -> Option<Self> {
        if !roles.has_store() {
            return None;
        }
        let configured = config.ingress.subject_key();
        let file = configured.is_none().then(|| data_dir::subject_key_file(&config.data.dir));
        let key = key.cloned().or_else(|| configured.filter(|_| roles.ledger))?;
        // A console of an earlier release made a key of its own, in the same file.
        let may_set = roles.ingress || file.is_none();
        let replaced = config.ingress.replaced_subject_key.clone();
        Some(Self { name: SUBJECT_KEY, own: own(roles, key.fingerprint()), replaced, file, may_set })
    }

    /// The key of secrets of these roles, which is in this file. `None` where they have none.
    pub(super) fn secrets_key(roles: Roles, seal: &Seal, file: PathBuf) -> Option<Self> {
        let mut fingerprints = seal.fingerprints();
        let own = own(roles, fingerprints.next()?);
        let replaced = fingerprints.next().unwrap_or_default();
        Some(Self { name: SECRETS_KEY, own, replaced, file: Some(file), may_set: true })
    }

    /// Compares it, and sets the fingerprint where there is none or the one to replace.
    pub(super) async fn run(&self, store: &Store) -> Result<Result<(), WrongKey>, StoreError> {
        if self.may_set {
            let mut tx = store.begin().await?;
            agreed::set(&mut tx, self.name, &self.own, &self.replaced).await?;
            tx.commit().await.map_err(StoreError::from)?;
        }
        let file = self.file.as_deref().map(Path::display);
        let place = file.as_ref().map_or_else(|| self.name.to_owned(), ToString::to_string);
        Ok(match agreed::agreed(&mut *store.read().await?, self.name).await? {
            Some(agreed) if agreed.fingerprint == self.own.fingerprint => Ok(()),
            Some(Agreed { fingerprint: agreed, set_by, set_at }) => {
                let own = self.own.fingerprint.clone();
                Err(match self.name {
                    SECRETS_KEY => WrongKey::OtherSecrets { place, own, set_by, set_at, agreed },
                    _ => WrongKey::Other { place, own, set_by, set_at, agreed },
                })
            }
            None => {
                Err(WrongKey::Unconfirmed { file: file.map(|file| file.to_string()).unwrap_or_default() })
            }
        })
    }
}

/// The fingerprint of a key of these roles.
fn own(roles: Roles, fingerprint: String) -> Agreed {
    let set_by = match roles {
        Roles { ingress: true, .. } => "malote up",
        Roles { console: true, .. } => "malote console",
        Roles { subscriptions: true, .. } => "malote subscriptions",
        _ => "malote ledger",
    };
    Agreed { fingerprint, set_by: set_by.to_owned(), set_at: event::now() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;
    use crate::data_dir::DataDir;
    use crate::registry;

    const NONE: Roles = Roles {
        ingress: false,
        ledger: false,
        domains: &[],
        console: false,
        subscriptions: false,
        documents: false,
    };
    const CONSOLE: Roles = Roles { console: true, ..NONE };
    const LEDGER: Roles = Roles { ledger: true, ..NONE };

    async fn check(store: &Store, roles: Roles, text: &str) -> Option<Result<(), String>> {
        let config = load_parts("", text, []).unwrap().0;
        let made = || DataDir::open(&config.data.dir).unwrap().subject_key().unwrap();
        let key = roles.reads_bodies().then(|| config.ingress.subject_key().unwrap_or_else(made));
        let check = KeyCheck::subject_key(&config, roles, key.as_ref())?;
        Some(check.run(store).await.unwrap().map_err(|wrong| wrong.to_string()))
    }

    async fn store(folder: &Path) -> Store {
        let store = Store::open(&store::Config::new("sqlite"), folder).unwrap();
        store.migrate(&[]).await.unwrap();
        store
    }

    fn key(digits: &str) -> String {
        format!("ingress.subject_key = {:?}\n", digits.repeat(32))
    }

    #[tokio::test]
    async fn every_role_that_has_store_and_key_refuses_one_that_is_not_the_installations() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        assert_eq!(check(&store, Roles::all(), &key("0a")).await, Some(Ok(())));
        for roles in [CONSOLE, LEDGER, Roles::all()] {
            assert_eq!(check(&store, roles, &key("0a")).await, Some(Ok(())));
            let printed = check(&store, roles, &key("0b")).await.unwrap().unwrap_err();
            assert!(printed.starts_with("ingress.subject_key holds another subject key"), "{printed}");
            assert!(printed.contains("malote up set at 2") && !printed.contains("0b0b"), "{printed}");
        }
        let ingress = Roles { ingress: true, ..Roles::default() };
        assert_eq!(check(&store, ingress, &key("0b")).await, None);
        assert_eq!(check(&store, LEDGER, "").await, None);
        let consumer = Roles { domains: &registry::ALL[..1], ..Roles::default() };
        assert_eq!(check(&store, consumer, &key("0b")).await, None);
    }

    #[tokio::test]
    async fn a_key_is_replaced_on_purpose_by_naming_the_fingerprint_of_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        check(&store, Roles::all(), &key("0a")).await.unwrap().unwrap();
        let printed = check(&store, CONSOLE, &key("0b")).await.unwrap().unwrap_err();
        let setting = &printed[printed.find("ingress.replaced_subject_key").unwrap()..];
        let new = format!("{}{setting}\n", key("0b"));
        // As long as the setting stays.
        for _ in 0..2 {
            assert_eq!(check(&store, CONSOLE, &new).await, Some(Ok(())));
        }
        assert_eq!(check(&store, Roles::all(), &key("0b")).await, Some(Ok(())));
        assert!(check(&store, CONSOLE, &key("0a")).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_process_with_another_key_of_secrets_is_refused_unless_it_has_the_old_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let check = async |roles, seal: Seal| {
            let check = KeyCheck::secrets_key(roles, &seal, PathBuf::from("/etc/malote/key")).unwrap();
            check.run(&store).await.unwrap().map_err(|wrong| wrong.to_string())
        };
        let (old, new) = ([1; 32], [2; 32]);
        for roles in [Roles::all(), CONSOLE] {
            assert_eq!(check(roles, Seal::new(&old)).await, Ok(()));
        }
        let printed = check(CONSOLE, Seal::new(&new)).await.unwrap_err();
        assert!(
            printed.starts_with("/etc/malote/key holds another key than this installation's"),
            "{printed}"
        );
        assert!(
            printed.contains("malote up set at 2") && printed.contains("secrets.replaced_key_file"),
            "{printed}"
        );
        assert_eq!(check(CONSOLE, Seal::new(&new).with_replaced(&old)).await, Ok(()));
        assert_eq!(check(Roles::all(), Seal::new(&new)).await, Ok(()));
        assert!(check(CONSOLE, Seal::new(&old)).await.is_err());
        assert!(KeyCheck::secrets_key(CONSOLE, &Seal::without_key(), PathBuf::new()).is_none());
    }

    #[tokio::test]
    async fn a_key_that_a_console_made_for_itself_is_never_that_of_the_installation() {
        let (folder, of_console) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = store(folder.path()).await;
        let text = format!("data.dir = {:?}\n", of_console.path());
        let printed = check(&store, CONSOLE, &text).await.unwrap().unwrap_err();
        assert!(printed.contains("set ingress.subject_key to the key of the ingresses"), "{printed}");
        check(&store, Roles::all(), &key("0a")).await.unwrap().unwrap();
        let printed = check(&store, CONSOLE, &text).await.unwrap().unwrap_err();
        let file = data_dir::subject_key_file(of_console.path());
        assert!(printed.starts_with(&format!("{} holds another", file.display())), "{printed}");
        // The file of a process with all roles is shared.
        let (folder, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = self::store(folder.path()).await;
        let text = format!("data.dir = {:?}\n", shared.path());
        for roles in [Roles::all(), CONSOLE] {
            assert_eq!(check(&store, roles, &text).await, Some(Ok(())));
        }
    }
}
