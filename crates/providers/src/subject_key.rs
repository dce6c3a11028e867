//! The key that turns a person's number into a pseudonymous subject.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::hex::to_hex;

/// A secret of the installation. Without it, a CPF cannot be found from its subject by trying all CPFs.
#[derive(Clone)]
pub struct SubjectKey(Hmac<Sha256>);

impl SubjectKey {
    /// A key from its bytes, which should be random and kept for as long as the events are.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Hmac::new_from_slice(&bytes).expect("HMAC takes a key of any length"))
    }

    /// HMAC-SHA256 of the text, cut to 128 bits, in hexadecimal: always the same for the same text and key.
    pub fn hash(&self, text: impl AsRef<[u8]>) -> String {
        let mut mac = self.0.clone();
        mac.update(text.as_ref());
        to_hex(&mac.finalize().into_bytes()[..16])
    }

    /// Distinguishes this key from others without helping to find it: 32 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        self.hash("the fingerprint of a subject key")
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_the_key_and_the_text_and_the_key_is_not_shown() {
        let key = SubjectKey::from_bytes([1; 32]);
        assert_eq!(key.hash("52998224725").len(), 32);
        assert_eq!(key.hash("52998224725"), key.clone().hash("52998224725"));
        assert_ne!(key.hash("52998224725"), key.hash("52998224726"));
        assert_ne!(key.hash("52998224725"), SubjectKey::from_bytes([2; 32]).hash("52998224725"));
        assert_eq!(format!("{key:?}"), "SubjectKey([secret])");
    }
}
