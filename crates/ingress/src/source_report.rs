//! What an ingress reports of its sources beside its counts: the last use of each secret, and the last refused requests.
//!
//! A report is made in the background, from what requests note in memory. It has no secret: only hashes with the key of subjects, from
//! which nobody can try out guesses who has not got that key.

use event::{SourceName, Timestamp};
use providers::SubjectKey;
use providers::auth::Auth;
use serde::Serialize;

/// How many hexadecimal digits of a hash tell secrets apart.
const FINGERPRINT_DIGITS: usize = 16;

/// What is known of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SourceReport {
    source: String,
    /// Those that it accepts now.
    secrets: Vec<SecretReport>,
    /// The last one for each reason.
    refusals: Vec<RefusalReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SecretReport {
    setting: &'static str,
    place: usize,
    fingerprint: String,
    /// Since the start of the process.
    used_at: Option<Timestamp>,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RefusalReport {
    /// The kind of refusal.
    pub(crate) reason: &'static str,
    /// The mechanisms that it did not pass, as settings: never which part of one.
    pub(crate) failed: Option<String>,
    /// When.
    pub(crate) at: Timestamp,
}

impl SourceReport {
    pub(crate) fn new(
        source: &SourceName,
        auth: &Auth,
        mut refusals: Vec<RefusalReport>,
        key: &SubjectKey,
    ) -> Self {
        let mut secrets = Vec::new();
        for (setting, list) in auth.secrets() {
            for (place, secret) in list.iter().enumerate() {
                // The same secret of two sources has two fingerprints.
                let mut fingerprint =
                    key.hash(format!("a secret of a source\0{source}\0{setting}\0{}", secret.expose()));
                fingerprint.truncate(FINGERPRINT_DIGITS);
                secrets.push(SecretReport { setting, place, fingerprint, used_at: secret.last_use() });
            }
        }
        refusals.sort_by_key(|refusal| refusal.reason);
        Self { source: source.to_string(), secrets, refusals }
    }
}
