//! Encryption at rest: AES-256-GCM with the installation's key.
//!
//! What is sealed begins with the id of its key, so that a wrong key is told from damage, and is bound to its context: in the
//! row of another subscription it cannot be read.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// How many bytes a key has.
pub const KEY_BYTES: usize = 32;

/// The form of what is sealed: this byte, the id of the key, the nonce, the text with its tag.
const FORM: u8 = 1;

const ID_BYTES: usize = 8;

const HEAD_BYTES: usize = 1 + ID_BYTES + NONCE_LEN;

/// The keys of an installation. `Debug` shows nothing of them.
pub struct Seal {
    /// The one that seals, then those that it replaced.
    keys: Vec<Key>,
}

struct Key {
    fingerprint: [u8; 16],
    aead: LessSafeKey,
}

/// What is sealed cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no key.
    #[error(
        "this process has no key for secrets: set secrets.key_file, for every console and every role `subscriptions`, to a file \
         with the installation's key; a new one is made with `openssl rand -hex 32`"
    )]
    NoKey,
    /// It was sealed with another key.
    #[error("the value was encrypted with another key than the one in secrets.key_file")]
    OtherKey,
    /// It was changed or cut, or sealed for another context.
    #[error("the encrypted value is damaged")]
    Damaged,
}

impl Seal {
    /// Seals with this key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self { keys: vec![Key::new(key)] }
    }

    /// Neither seals nor reads anything: for a process that has no key.
    pub fn without_key() -> Self {
        Self { keys: Vec::new() }
    }

    /// Reads what an earlier key has sealed, too.
    pub fn with_replaced(mut self, key: &[u8; KEY_BYTES]) -> Self {
        self.keys.push(Key::new(key));
        self
    }

    /// What tells each key from others without helping to find it, 32 hexadecimal digits; that of the key that seals is first.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|key| providers::to_hex(&key.fingerprint))
    }

    /// Encrypts a value for one context, such as the row that it is kept in.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.keys.first().ok_or(SealError::NoKey)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the system gives random numbers");
        let mut sealed = plain.to_vec();
        let tag = key
            .aead
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .expect("the value is shorter than 64 GiB");
        Ok([&[FORM], key.id(), &nonce, &sealed, tag.as_ref()].concat())
    }

    /// Decrypts what was sealed for the same context.
    pub fn unseal(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        if self.keys.is_empty() {
            return Err(SealError::NoKey);
        }
        let (head, text) = sealed.split_at_checked(HEAD_BYTES).ok_or(SealError::Damaged)?;
        let [FORM, rest @ ..] = head else { return Err(SealError::Damaged) };
        let (id, nonce) = rest.split_at(ID_BYTES);
        let key = self.keys.iter().find(|key| key.id() == id).ok_or(SealError::OtherKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut text = text.to_vec();
        let plain = key.aead.open_in_place(nonce, Aad::from(context), &mut text);
        Ok(plain.map_err(|_| SealError::Damaged)?.to_vec())
    }

    /// Whether the key that seals now has sealed this: what a replaced key has sealed should be sealed again.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        self.keys.first().is_some_and(|key| sealed.get(1..=ID_BYTES) == Some(key.id()))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal([secret])")
    }
}

impl Key {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let name =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), b"the fingerprint of a key that seals");
        let fingerprint = *name.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("the key has 32 bytes"));
        Self { fingerprint, aead }
    }

    fn id(&self) -> &[u8] {
        &self.fingerprint[..ID_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_with_its_key_in_its_context_only() {
        let seal = Seal::new(&[1; KEY_BYTES]);
        let sealed = seal.seal("subscription/1", b"whsec_x").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"whsec_x"));
        assert_eq!(Seal::new(&[1; KEY_BYTES]).unseal("subscription/1", &sealed).unwrap(), b"whsec_x");
        assert_eq!(seal.unseal("subscription/2", &sealed), Err(SealError::Damaged));
        assert_eq!(Seal::new(&[2; KEY_BYTES]).unseal("subscription/1", &sealed), Err(SealError::OtherKey));
        assert_ne!(seal.seal("subscription/1", b"whsec_x").unwrap(), sealed);
        assert_eq!(seal.unseal("", &seal.seal("", b"").unwrap()).unwrap(), b"");
        assert_eq!(format!("{seal:?}"), "Seal([secret])");
        let none = Seal::without_key();
        assert_eq!(none.seal("", b"").and(none.unseal("subscription/1", &sealed)), Err(SealError::NoKey));
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_damage_or_another_key() {
        let seal = Seal::new(&[1; KEY_BYTES]);
        let sealed = seal.seal("context", b"secret").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expect =
                if (1..=ID_BYTES).contains(&(bit / 8)) { SealError::OtherKey } else { SealError::Damaged };
            assert_eq!(seal.unseal("context", &changed), Err(expect), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(seal.unseal("context", &sealed[..length]), Err(SealError::Damaged), "{length}");
        }
    }

    #[test]
    fn a_replaced_key_reads_what_it_sealed_until_that_is_sealed_again() {
        let old = Seal::new(&[1; KEY_BYTES]);
        let sealed = old.seal("context", b"secret").unwrap();
        let new = Seal::new(&[2; KEY_BYTES]).with_replaced(&[1; KEY_BYTES]);
        assert_eq!(new.unseal("context", &sealed).unwrap(), b"secret");
        assert!(!new.is_current(&sealed) && old.is_current(&sealed));
        let again = new.seal("context", b"secret").unwrap();
        assert!(new.is_current(&again));
        assert_eq!(old.unseal("context", &again), Err(SealError::OtherKey));
        assert_eq!(new.fingerprints().nth(1), old.fingerprints().next());
        assert!(new.fingerprints().all(|fingerprint| fingerprint.len() == 32));
    }

    #[tokio::test]
    async fn the_secrets_of_subscriptions_are_sealed_again_with_a_new_key() {
        let (store, _folder) = store::fresh_sqlite!().await;
        store.migrate(&[ledger::COMPONENT, crate::COMPONENT]).await.unwrap();
        let (old, new) = (Seal::new(&[1; KEY_BYTES]), Seal::new(&[2; KEY_BYTES]));
        let secrets = crate::Secrets { auth: Some("password".to_owned()), ..crate::Secrets::default() };
        for name in ["one", "two"] {
            let declaration = serde_json::json!({"name": name, "topics": ["recuperador:#"], "pull": {}});
            let declaration = serde_json::from_value(declaration).unwrap();
            crate::add(&store, &old, &declaration, &secrets, crate::Seek::Now).await.unwrap();
        }
        assert!(crate::seal_again(&store, &new).await.is_err());
        let both = Seal::new(&[2; KEY_BYTES]).with_replaced(&[1; KEY_BYTES]);
        assert_eq!(crate::seal_again(&store, &both).await.unwrap(), 2);
        assert_eq!(crate::seal_again(&store, &both).await.unwrap(), 0);
        for subscription in crate::list(&store).await.unwrap() {
            assert_eq!(crate::unseal(&new, &subscription).unwrap(), secrets);
        }
        let declaration = serde_json::json!({"name": "three", "topics": ["recuperador:#"], "pull": {}});
        let declaration = serde_json::from_value(declaration).unwrap();
        let (none, at) = (Seal::without_key(), crate::Seek::Now);
        let refused = crate::add(&store, &none, &declaration, &secrets, at).await;
        assert!(matches!(refused, Err(crate::SubscriptionError::Sealed { cause: SealError::NoKey, .. })));
        // Without secrets, none is needed.
        let added = crate::add(&store, &none, &declaration, &crate::Secrets::default(), at).await.unwrap();
        assert_eq!(crate::unseal(&none, &added).unwrap(), crate::Secrets::default());
    }
}
