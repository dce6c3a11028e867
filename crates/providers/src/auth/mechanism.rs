//! The mechanisms one by one, from a secret in a header to signatures (HMAC, Standard Webhooks): configuration, check, and what
//! a sender that knows the first secret sends.
//!
//! Every comparison takes the same time whether it fits or not, and every live secret is compared, so that
//! time reveals neither how much of a secret was right nor which one was used.

use std::fmt;
use std::sync::OnceLock;

use ::hmac::{KeyInit, Mac};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use event::Timestamp;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use super::Signed;
use super::secret::{Secret, SecretDigest};
use crate::header::{self, HeaderName};
use crate::hex::to_hex;

/// Base64 with or without padding: senders differ.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How far the time of a signature may be from ours, in seconds (Standard Webhooks, "Webhook timestamp").
pub(super) const TOLERANCE_SECONDS: u64 = 5 * 60;

/// A secret in a header of the sender's choice.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The header.
    pub name: HeaderName,
    /// The live secrets.
    pub secrets: Vec<Secret>,
}

/// A secret in the query string.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The parameter.
    pub name: String,
    /// The live secrets.
    pub secrets: Vec<Secret>,
}

/// HTTP Basic (RFC 7617).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user name.
    pub username: String,
    /// The live passwords.
    pub passwords: Vec<Secret>,
}

/// A bearer token (RFC 6750).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    /// The live tokens.
    pub secrets: Vec<Secret>,
}

/// A signature over the body in a header of the sender's choice.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hmac {
    /// The header.
    pub header: HeaderName,
    /// The hash function.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// What stands before it, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// The time of the request, if the sender signs it together with the body: an intercepted request cannot be
    /// replayed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<SignedTime>,
    /// The live secrets.
    pub secrets: Vec<Secret>,
    #[serde(skip)]
    pub(super) keys: Keys,
}

/// A time in a header, in seconds since 1970 (UTC). The signature is then over `<the header's text>.<body>`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignedTime {
    /// The header.
    pub header: HeaderName,
    /// How far it may be from ours, in seconds.
    #[serde(default = "tolerance")]
    pub tolerance_s: u64,
}

fn tolerance() -> u64 {
    TOLERANCE_SECONDS
}

impl SignedTime {
    /// The text of the header, if its time is close enough to ours.
    fn fresh<'a>(&self, headers: &'a HeaderMap, now: Timestamp) -> Option<&'a str> {
        self.header.only(headers).filter(|text| is_fresh(text, now, self.tolerance_s))
    }
}

fn is_fresh(text: &str, now: Timestamp, tolerance_s: u64) -> bool {
    text.parse::<i64>().is_ok_and(|seconds| seconds.abs_diff(now.as_second()) <= tolerance_s)
}

/// The hash function of a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// HMAC-SHA256.
    #[default]
    Sha256,
    /// HMAC-SHA1, for senders that know nothing newer.
    Sha1,
    /// HMAC-SHA512.
    Sha512,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal, in either case.
    #[default]
    Hex,
    /// Base64, with or without padding.
    Base64,
    /// Base64 for URLs, with or without padding.
    Base64Url,
}

/// A Standard Webhooks signature: `webhook-id`, `webhook-timestamp` (five minutes of tolerance) and
/// `webhook-signature`, in which one `v1` signature of several must fit.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StandardWebhooks {
    /// The live secrets: `whsec_` and base64.
    pub secrets: Vec<Secret>,
    #[serde(skip)]
    pub(super) keys: Keys,
}

/// The key of one Standard Webhooks secret, ready to sign.
#[derive(Clone)]
pub struct WebhookKey(Key);

/// The keys of signatures, derived from the secrets when the first request is checked: this saves two hash blocks per
/// signature.
#[derive(Clone, Default)]
pub(super) struct Keys(OnceLock<Vec<Option<Key>>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// One key, ready to sign.
#[derive(Clone)]
pub(super) enum Key {
    Sha256(::hmac::Hmac<Sha256>),
    Sha1(::hmac::Hmac<Sha1>),
    Sha512(::hmac::Hmac<Sha512>),
}

impl Key {
    pub(super) fn new(algorithm: Algorithm, bytes: &[u8]) -> Self {
        const ANY_LENGTH: &str = "HMAC takes a key of any length";
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(KeyInit::new_from_slice(bytes).expect(ANY_LENGTH)),
            Algorithm::Sha1 => Self::Sha1(KeyInit::new_from_slice(bytes).expect(ANY_LENGTH)),
            Algorithm::Sha512 => Self::Sha512(KeyInit::new_from_slice(bytes).expect(ANY_LENGTH)),
        }
    }

    /// The signature of a text in parts.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> Vec<u8> {
        fn sign<M: Mac>(mut mac: M, parts: &[&[u8]]) -> Vec<u8> {
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha256(key) => sign(key.clone(), parts),
            Self::Sha1(key) => sign(key.clone(), parts),
            Self::Sha512(key) => sign(key.clone(), parts),
        }
    }
}

impl Header {
    pub(super) fn check(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        self.name.only(headers).is_some_and(|given| any_is(&self.secrets, given.as_bytes(), now).into())
    }

    pub(super) fn sign(&self, signed: &mut Signed) {
        if let Some(secret) = self.secrets.first() {
            signed.headers.push((self.name.to_string(), secret.expose().to_owned()));
        }
    }
}

impl Query {
    pub(super) fn check(&self, query: Option<&str>, now: Timestamp) -> bool {
        let mut values = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .filter(|(name, _)| *name == self.name)
            .map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(given), None) => {
                let decoded = any_is(&self.secrets, given.as_bytes(), now);
                // A secret that was pasted into the address without being encoded: `+` stands for itself.
                let raw = query.and_then(|query| self.raw(query)).filter(|raw| *raw != given);
                (decoded | raw.map_or(Choice::from(0), |raw| any_is(&self.secrets, raw.as_bytes(), now)))
                    .into()
            }
            _ => false,
        }
    }

    /// The value as it is in the query string.
    fn raw<'a>(&self, query: &'a str) -> Option<&'a str> {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == self.name))
            .map(|(_, value)| value)
    }

    pub(super) fn sign(&self, signed: &mut Signed) {
        if let Some(secret) = self.secrets.first() {
            signed.query.push((self.name.clone(), secret.expose().to_owned()));
        }
    }
}

impl Basic {
    pub(super) fn check(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        let given = authorization(headers, "Basic").and_then(|given| LENIENT.decode(given).ok());
        // Senders that are older than RFC 7617 encode in ISO-8859-1.
        let given = given.map(|given| match std::str::from_utf8(&given) {
            Ok(_) => given,
            Err(_) => given.iter().copied().map(char::from).collect::<String>().into_bytes(),
        });
        // A configured user name contains no colon (RFC 7617, section 2).
        let pair = given.as_deref().and_then(|given| {
            let colon = given.iter().position(|byte| *byte == b':')?;
            Some((&given[..colon], &given[colon + 1..]))
        });
        pair.is_some_and(|(username, password)| {
            let is_user = self.username.as_bytes().ct_eq(username);
            (is_user & any_is(&self.passwords, password, now)).into()
        })
    }

    pub(super) fn sign(&self, signed: &mut Signed) {
        if let Some(password) = self.passwords.first() {
            let pair = STANDARD.encode(format!("{}:{}", self.username, password.expose()));
            signed.headers.push(("authorization".to_owned(), format!("Basic {pair}")));
        }
    }
}

impl Bearer {
    pub(super) fn check(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        authorization(headers, "Bearer")
            .is_some_and(|given| any_is(&self.secrets, given.as_bytes(), now).into())
    }

    pub(super) fn sign(&self, signed: &mut Signed) {
        if let Some(secret) = self.secrets.first() {
            signed.headers.push(("authorization".to_owned(), format!("Bearer {}", secret.expose())));
        }
    }
}

impl Hmac {
    pub(super) fn check(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
        let given = self.header.only(headers).and_then(|value| value.strip_prefix(self.prefix.as_str()));
        let given = given.and_then(|text| self.encoding.decode(text));
        let time = match &self.timestamp {
            None => None,
            Some(time) => match time.fresh(headers, now) {
                Some(text) => Some(text),
                None => return false,
            },
        };
        given.is_some_and(|given| {
            any(self.secrets.iter().zip(self.keys()), now, |key| match key {
                Some(key) => Self::mac(key, time, body).as_slice().ct_eq(&given),
                None => Choice::from(0),
            })
            .into()
        })
    }

    pub(super) fn sign(&self, body: &[u8], now: Timestamp, signed: &mut Signed) {
        if let Some(Some(key)) = self.keys().first() {
            let time = self.timestamp.as_ref().map(|time| (&time.header, now.as_second().to_string()));
            let mac = Self::mac(key, time.as_ref().map(|(_, text)| text.as_str()), body);
            let text = self.encoding.encode(&mac);
            signed.headers.push((self.header.to_string(), format!("{}{text}", self.prefix)));
            signed.headers.extend(time.map(|(header, text)| (header.to_string(), text)));
        }
    }

    fn keys(&self) -> &[Option<Key>] {
        let key = |secret: &Secret| Some(Key::new(self.algorithm, secret.expose().as_bytes()));
        self.keys.0.get_or_init(|| self.secrets.iter().map(key).collect())
    }

    fn mac(key: &Key, time: Option<&str>, body: &[u8]) -> Vec<u8> {
        key.sign(&[time.unwrap_or_default().as_bytes(), if time.is_some() { b"." } else { b"" }, body])
    }
}

impl StandardWebhooks {
    pub(super) fn check(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
        let header = |name| header::only(headers, name);
        let (Some(id), Some(timestamp), Some(signatures)) =
            (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
        else {
            return false;
        };
        let is_fresh = is_fresh(timestamp, now, TOLERANCE_SECONDS);
        let given: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|signature| LENIENT.decode(signature.strip_prefix("v1,")?).ok())
            .collect();
        let fits = any(self.secrets.iter().zip(self.keys()), now, |key| {
            let Some(key) = key else { return Choice::from(0) };
            let mac = Self::mac(key, id, timestamp, body);
            given.iter().fold(Choice::from(0), |fits, given| fits | mac.as_slice().ct_eq(given))
        });
        is_fresh & bool::from(fits)
    }

    pub(super) fn sign(&self, body: &[u8], now: Timestamp, signed: &mut Signed) {
        if let Some(Some(key)) = self.keys().first() {
            let timestamp = now.as_second().to_string();
            // The same body at the same time is the same message.
            let id = format!("msg_{}", &to_hex(&Sha256::digest([timestamp.as_bytes(), body].concat()))[..32]);
            let signature = WebhookKey(key.clone()).sign(&id, &timestamp, body);
            signed.headers.push(("webhook-id".to_owned(), id));
            signed.headers.push(("webhook-timestamp".to_owned(), timestamp));
            signed.headers.push(("webhook-signature".to_owned(), signature));
        }
    }

    /// The key in a secret; `None` if it is not base64, or of no bytes: that key everybody knows.
    pub(super) fn key(secret: &Secret) -> Option<Vec<u8>> {
        let text = secret.expose();
        LENIENT.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok().filter(|key| !key.is_empty())
    }

    /// A secret without a key matches nothing.
    fn keys(&self) -> &[Option<Key>] {
        let key = |secret: &Secret| Some(Key::new(Algorithm::Sha256, &Self::key(secret)?));
        self.keys.0.get_or_init(|| self.secrets.iter().map(key).collect())
    }

    fn mac(key: &Key, id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
        key.sign(&[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
    }
}

impl WebhookKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Key::new(Algorithm::Sha256, bytes))
    }

    /// One signature of the header `webhook-signature`: `v1,` and base64.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(StandardWebhooks::mac(&self.0, id, timestamp, body)))
    }
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey([secret])")
    }
}

/// Compares with every secret by what it was made into, even after a match, and notes the use of the one that fits.
fn any<'a, T: 'a>(
    all: impl Iterator<Item = (&'a Secret, &'a T)>,
    now: Timestamp,
    fits: impl Fn(&T) -> Choice,
) -> Choice {
    all.fold(Choice::from(0), |any, (secret, made)| {
        let one = fits(made);
        secret.used(now, one);
        any | one
    })
}

fn any_is(secrets: &[Secret], given: &[u8], now: Timestamp) -> Choice {
    let given = SecretDigest::new(given);
    any(secrets.iter().zip(secrets), now, |secret| secret.is(&given))
}

/// What follows the scheme in `Authorization`.
pub(super) fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, credentials) = header::only(headers, "authorization")?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| credentials.trim_start_matches(' '))
}

/// The bytes of hexadecimal digits in any case.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
