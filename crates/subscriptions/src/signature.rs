//! Signatures of Standard Webhooks (specification 1.0, "Signature scheme"): what a service verifies a request with.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use providers::auth::WebhookKey;
use ring::rand::{SecureRandom, SystemRandom};

const PREFIX: &str = "whsec_";

/// How many bytes the key in a secret has: what the specification recommends.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How many bytes the key of a generated secret has.
const GENERATED_BYTES: usize = 32;

/// A secret that requests are signed with. `Debug` does not show it.
#[derive(Clone)]
pub struct SigningSecret {
    text: String,
    key: WebhookKey,
}

/// A text that is no signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASigningSecret {
    /// It has another prefix, or none.
    #[error("a signing secret begins with whsec_")]
    Prefix,
    /// What follows the prefix is not base64.
    #[error("what follows whsec_ in a signing secret is base64, with its padding")]
    Base64,
    /// The key is too short to be safe, or longer than receivers accept.
    #[error("a signing secret has a key of 24 to 64 bytes, not of {0}")]
    Length(usize),
}

impl SigningSecret {
    /// A new secret of 256 bits from the random numbers of the operating system.
    pub fn generate() -> Self {
        let mut key = [0; GENERATED_BYTES];
        SystemRandom::new().fill(&mut key).expect("the system gives random numbers");
        Self { text: format!("{PREFIX}{}", BASE64_STANDARD.encode(key)), key: WebhookKey::new(&key) }
    }

    /// The text that a receiver is given: `whsec_…`.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl FromStr for SigningSecret {
    type Err = NotASigningSecret;

    fn from_str(text: &str) -> Result<Self, NotASigningSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(NotASigningSecret::Prefix)?;
        let key = BASE64_STANDARD.decode(encoded).map_err(|_| NotASigningSecret::Base64)?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(NotASigningSecret::Length(key.len()));
        }
        Ok(Self { text: text.to_owned(), key: WebhookKey::new(&key) })
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret([secret])")
    }
}

/// The header `webhook-signature` of a request: one signature for each live secret, so that a receiver that has either of
/// them accepts it. `id` and `timestamp` (seconds since 1970) are those of the headers `webhook-id` and
/// `webhook-timestamp`.
pub fn sign(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let signatures: Vec<_> = secrets.iter().map(|secret| secret.key.sign(id, &timestamp, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use event::Timestamp;
    use http::HeaderMap;
    use providers::auth::{Auth, Connection, Credentials};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn secret(text: &str) -> SigningSecret {
        text.parse().unwrap()
    }

    #[test]
    fn the_examples_of_the_specification_are_signed_as_it_says() {
        // Those of its reference libraries and of "Signature scheme".
        for (text, id, timestamp, body, expect) in [
            (
                SECRET,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_plJ3nmyCDGBKInavdOK15jsl",
                "msg_loFOjxBNrRLzqYUf",
                1_731_705_121,
                r#"{"event_type":"ping","data":{"success":true}}"#,
                "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
            ),
        ] {
            // The key of the second is shorter than the specification recommends.
            let key = BASE64_STANDARD.decode(text.trim_start_matches(PREFIX)).unwrap();
            let secret = SigningSecret { text: text.to_owned(), key: WebhookKey::new(&key) };
            assert_eq!(sign(&[secret], id, timestamp, body.as_bytes()), expect);
        }
    }

    #[test]
    fn either_live_secret_verifies_and_nothing_else_does() {
        let signature = sign(&[secret(SECRET), secret(OTHER)], "event-1", 1_700_000_000, b"body");
        assert_eq!(signature.split(' ').count(), 2);
        let verifies = |secret: &str, body: &[u8]| {
            let mut headers = HeaderMap::new();
            for (name, text) in [
                ("webhook-id", "event-1"),
                ("webhook-timestamp", "1700000000"),
                ("webhook-signature", &*signature),
            ] {
                headers.insert(name, text.parse().unwrap());
            }
            let receiver: Auth =
                serde_json::from_value(json!({"standard_webhooks": {"secrets": [secret]}})).unwrap();
            let (client_ip, now) = ([127, 0, 0, 1].into(), Timestamp::from_second(1_700_000_010).unwrap());
            let connection = Connection::Unproved;
            receiver
                .check(&Credentials { headers: &headers, query: None, client_ip, connection, body, now })
                .is_ok()
        };
        assert!(verifies(SECRET, b"body") && verifies(OTHER, b"body"));
        assert!(!verifies(SECRET, b"other body") && !verifies(SigningSecret::generate().expose(), b"body"));
    }

    #[test]
    fn a_generated_secret_reads_as_itself_and_no_other_text_does() {
        let generated = SigningSecret::generate();
        assert_ne!(generated.expose(), SigningSecret::generate().expose());
        assert_eq!(secret(generated.expose()).expose(), generated.expose());
        assert_eq!(
            sign(&[secret(generated.expose())], "1", 2, b"3"),
            sign(std::slice::from_ref(&generated), "1", 2, b"3")
        );
        assert_eq!(format!("{generated:?}"), "SigningSecret([secret])");
        for (text, expect) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", NotASigningSecret::Prefix),
            ("whsec_", NotASigningSecret::Length(0)),
            ("whsec_AAAA", NotASigningSecret::Length(3)),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa!w", NotASigningSecret::Base64),
        ] {
            assert_eq!(text.parse::<SigningSecret>().unwrap_err(), expect, "{text}");
        }
        let long = format!("{PREFIX}{}", BASE64_STANDARD.encode([1; 65]));
        assert_eq!(long.parse::<SigningSecret>().unwrap_err(), NotASigningSecret::Length(65));
    }
}
