//! A text that is never shown.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use event::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// A secret of the configuration. `Debug`, `Display` and serialisation give `[secret]`.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret {
    text: String,
    digest: SecretDigest,
    /// The second of its last use, 0 if there was none; shared by all clones.
    used: Arc<AtomicI64>,
}

/// The SHA-256 of a secret, or of a text to compare with one.
#[derive(Clone)]
pub(super) struct SecretDigest([u8; 32]);

impl SecretDigest {
    pub(super) fn new(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// How often a random text has each of its characters, on average and at most: of 40 digits drawn at random, fewer than one
/// in a hundred have less than nine different ones.
const REPETITIONS: usize = 5;

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Compares digests, so that timing does not reveal the length of the secret either.
    pub(super) fn is(&self, given: &SecretDigest) -> Choice {
        self.digest.is(given)
    }

    /// Notes the second of its use, if it was used. Writes once a second at most, since processors share what is written.
    pub(super) fn used(&self, now: Timestamp, is_used: Choice) {
        let last = self.used.load(Ordering::Relaxed);
        let next = i64::conditional_select(&last, &now.as_second(), is_used);
        if next != last {
            self.used.store(next, Ordering::Relaxed);
        }
    }

    /// The second in which a request proved to know it last, since the process has it.
    pub fn last_use(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.used.load(Ordering::Relaxed)).ok().filter(|time| time.as_second() > 0)
    }

    /// Takes over the time of use of another secret with the same text.
    pub(super) fn continue_from(&mut self, other: &Self) {
        if self == other {
            self.used = Arc::clone(&other.used);
        }
    }

    /// Whether it is the placeholder of an example.
    pub fn is_placeholder(&self) -> bool {
        let letters: String =
            self.text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        ["replaceme", "changeme", "changethis", "placeholder", "alongrandomtext"]
            .iter()
            .any(|word| letters.contains(word))
    }

    /// The maximum entropy of the text in bits: as if drawn at random from the kinds of characters that it contains. Of a
    /// text that repeats few characters, only the length counts that they would fill. A text that a person made up has
    /// far less.
    pub fn most_bits(&self) -> u32 {
        let has = |is_one: fn(char) -> bool| self.text.contains(is_one);
        let is_hex = self.text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
            || self.text.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F'));
        let kinds = [
            (has(|c| c.is_ascii_digit()), 10),
            (has(|c| c.is_ascii_lowercase()), 26),
            (has(|c| c.is_ascii_uppercase()), 26),
            (has(|c| !c.is_ascii_alphanumeric()), 32),
        ];
        let letters: u32 = kinds.iter().filter(|(is_there, _)| *is_there).map(|(_, count)| count).sum();
        let letters = if is_hex { letters.min(16) } else { letters };
        let different = self.text.chars().collect::<BTreeSet<char>>().len() * REPETITIONS;
        let length = u32::try_from(self.text.chars().count().min(different)).unwrap_or(u32::MAX);
        // Hundredths of a bit, so that integers suffice.
        let bits = (f64::from(letters.max(1)).log2() * 100.0) as u32;
        length.saturating_mul(bits) / 100
    }
}

/// In constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.digest).into()
    }
}

impl Eq for Secret {}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        let digest = SecretDigest::new(text.as_bytes());
        Self { text, digest, used: Arc::default() }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_worth_what_its_length_and_its_letters_allow() {
        for (text, bits) in [
            ("", 0),
            ("0000", 13),
            ("0123456789abcdef0123456789abcdef", 128),
            ("aB3-aB3-", 52),
            ("a".repeat(85).as_str(), 20),
        ] {
            assert_eq!(Secret::from(text).most_bits(), bits, "{text}");
        }
    }

    #[test]
    fn what_examples_have_in_the_place_of_a_secret_is_told_from_one() {
        for text in ["replace-me-1", "CHANGE_ME", "please change this", "a long random text"] {
            assert!(Secret::from(text).is_placeholder(), "{text}");
        }
        assert!(!Secret::from("9f86d081884c7d659a2feaa0c55ad015").is_placeholder());
    }
}
