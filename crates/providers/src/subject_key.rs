//! The key under which a person's number becomes a subject that names nobody.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A secret of the installation. Whoever lacks it cannot find a CPF from its subject by trying all CPFs.
#[derive(Clone)]
pub struct SubjectKey([u8; 32]);

impl SubjectKey {
    /// A key from its bytes, which should be random and kept for as long as the events are.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA256 of the text, cut to 128 bits, in hexadecimal: always the same for the same text and key.
    pub fn hash(&self, text: impl AsRef<[u8]>) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(text.as_ref());
        mac.finalize().into_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
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
