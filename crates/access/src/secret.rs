//! Random secrets that are stored as digests.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use store::{AnyRow, Row, StoreError};

/// How many random bytes a secret has.
const BYTES: usize = 32;

/// The SHA-256 of a secret. Secrets are random, so that a digest can be looked up like any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of what may be a secret with this prefix; `None` for a text that cannot be one.
    pub fn presented(prefix: &str, text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(prefix.as_bytes())?;
        let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == 2 * BYTES && digits.iter().all(is_digit)).then(|| Self::new(text))
    }

    /// It in hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// A column with a digest.
    pub fn read(row: &AnyRow, column: usize) -> Result<Self, StoreError> {
        // What is no digest is that of nothing.
        Ok(Self(<[u8; 32]>::try_from(row.try_get::<Vec<u8>, _>(column)?).unwrap_or_default()))
    }

    /// The digest of any secret.
    pub fn new(secret: &[u8]) -> Self {
        Self(digest(&SHA256, secret).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new secret. It cannot be printed.
pub struct Fresh {
    /// The secret, which nobody can read again.
    pub text: String,
    /// What the store keeps of it.
    pub digest: Digest,
}

impl Fresh {
    /// A secret of 256 random bits behind a prefix that tells it from others.
    pub fn generate(prefix: &str) -> Self {
        let mut random = [0; BYTES];
        SystemRandom::new().fill(&mut random).expect("the system gives random numbers");
        let text = format!("{prefix}{}", hex(&random));
        Self { digest: Digest::new(text.as_bytes()), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_secret_has_a_digest() {
        let Fresh { text, digest } = Fresh::generate("malote_x_");
        assert_eq!(Digest::presented("malote_x_", text.as_bytes()), Some(digest));
        assert_ne!(Fresh::generate("malote_x_").text, text);
        for almost in
            ["", "malote_x_", &text[1..], &text[..text.len() - 1], &format!("{text}0"), &text.to_uppercase()]
        {
            assert_eq!(Digest::presented("malote_x_", almost.as_bytes()), None, "{almost}");
        }
        assert_eq!(Digest::presented("malote_y_", text.as_bytes()), None);
    }
}
