//! The secrets of a subscription: never in its declaration, and encrypted in the store.

use std::collections::BTreeMap;
use std::fmt;

use event::Timestamp;
use serde::{Deserialize, Serialize};

/// What a subscription must keep to itself. `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The keys that requests are signed with, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signing: Vec<SigningKey>,
    /// The values of the headers that the declaration names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The password, the token or the client secret of the declaration's `auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// The key of the client certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<String>,
}

/// A key that requests are signed with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// The key as Standard Webhooks writes it: `whsec_…`.
    pub secret: String,
    /// Until when it is used beside its successor; the newest key has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Secrets {
    /// The value of a header, whose name is compared without case.
    pub fn header(&self, name: &str) -> Option<&String> {
        header(&self.headers, name)
    }

    /// The signing secrets that are used at this time, newest first.
    pub fn signing_at(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let is_live = move |key: &&SigningKey| key.until.is_none_or(|until| now < until);
        self.signing.iter().filter(is_live).map(|key| key.secret.as_str())
    }
}

/// The value of a header in this map, whose names are compared without case (RFC 9110, section 5.1).
pub(crate) fn header<'a>(headers: &'a BTreeMap<String, String>, name: &str) -> Option<&'a String> {
    headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("until", &self.until).finish_non_exhaustive()
    }
}
