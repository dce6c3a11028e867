//! The mechanisms one by one: configuration, check, and what a sender that knows the first secret sends.
//!
//! Every comparison takes the same time whether it fits or not, and every live secret is compared, so that
//! time tells neither how much of a secret was right nor which one was used.

use std::net::IpAddr;

use ::hmac::{KeyInit, Mac};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use event::Timestamp;
use http::HeaderMap;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::secret::Secret;
use super::{Signed, parse_network};
use crate::header::{self, HeaderName};

/// Base64 with or without padding: senders differ.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How far the time of a signature may be from ours, in seconds (Standard Webhooks, "Webhook timestamp").
const TOLERANCE_SECONDS: u64 = 5 * 60;

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
    /// The time of the request, where the sender signs it together with the body: a request that was overheard is then
    /// of no use later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<SignedTime>,
    /// The live secrets.
    pub secrets: Vec<Secret>,
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
    /// The header's text, if its time is close enough to ours.
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
}

/// A Standard Webhooks signature: `webhook-id`, `webhook-timestamp` (five minutes of tolerance) and
/// `webhook-signature`, in which one `v1` signature of several must fit.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StandardWebhooks {
    /// The live secrets: `whsec_` and base64.
    pub secrets: Vec<Secret>,
}

impl Header {
    pub(super) fn check(&self, headers: &HeaderMap) -> bool {
        self.name.only(headers).is_some_and(|given| any_equal(&self.secrets, given))
    }

    pub(super) fn sign(&self, signed: &mut Signed) {
        if let Some(secret) = self.secrets.first() {
            signed.headers.push((self.name.to_string(), secret.expose().to_owned()));
        }
    }
}

impl Query {
    pub(super) fn check(&self, query: Option<&str>) -> bool {
        let mut values = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .filter(|(name, _)| *name == self.name)
            .map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(given), None) => any_equal(&self.secrets, &given),
            _ => false,
        }
    }

    pub(super) fn sign(&self, signed: &mut Signed) {
        if let Some(secret) = self.secrets.first() {
            signed.query.push((self.name.clone(), secret.expose().to_owned()));
        }
    }
}

impl Basic {
    pub(super) fn check(&self, headers: &HeaderMap) -> bool {
        let given = authorization(headers, "Basic").and_then(|given| LENIENT.decode(given).ok());
        given.is_some_and(|given| {
            any(&self.passwords, |password| {
                equal(format!("{}:{}", self.username, password.expose()).as_bytes(), &given)
            })
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
    pub(super) fn check(&self, headers: &HeaderMap) -> bool {
        authorization(headers, "Bearer").is_some_and(|given| any_equal(&self.secrets, given))
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
        let given = given.and_then(|text| match self.encoding {
            Encoding::Hex => from_hex(text),
            Encoding::Base64 => LENIENT.decode(text).ok(),
        });
        let time = match &self.timestamp {
            None => None,
            Some(time) => match time.fresh(headers, now) {
                Some(text) => Some(text),
                None => return false,
            },
        };
        given.is_some_and(|given| {
            any(&self.secrets, |secret| self.mac(secret, time, body).as_slice().ct_eq(&given))
        })
    }

    pub(super) fn sign(&self, body: &[u8], now: Timestamp, signed: &mut Signed) {
        if let Some(secret) = self.secrets.first() {
            let time = self.timestamp.as_ref().map(|time| (&time.header, now.as_second().to_string()));
            let mac = self.mac(secret, time.as_ref().map(|(_, text)| text.as_str()), body);
            let text = match self.encoding {
                Encoding::Hex => to_hex(&mac),
                Encoding::Base64 => STANDARD.encode(mac),
            };
            signed.headers.push((self.header.to_string(), format!("{}{text}", self.prefix)));
            signed.headers.extend(time.map(|(header, text)| (header.to_string(), text)));
        }
    }

    fn mac(&self, secret: &Secret, time: Option<&str>, body: &[u8]) -> Vec<u8> {
        let parts = [time.unwrap_or_default().as_bytes(), if time.is_some() { b"." } else { b"" }, body];
        match self.algorithm {
            Algorithm::Sha256 => mac::<::hmac::Hmac<Sha256>>(secret.expose().as_bytes(), &parts),
            Algorithm::Sha1 => mac::<::hmac::Hmac<Sha1>>(secret.expose().as_bytes(), &parts),
        }
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
        let fits = any(&self.secrets, |secret| match Self::key(secret) {
            Some(key) => {
                let mac = Self::mac(&key, id, timestamp, body);
                given.iter().fold(Choice::from(0), |fits, given| fits | mac.as_slice().ct_eq(given))
            }
            None => Choice::from(0),
        });
        is_fresh & fits
    }

    pub(super) fn sign(&self, body: &[u8], now: Timestamp, signed: &mut Signed) {
        if let Some(key) = self.secrets.first().and_then(Self::key) {
            let timestamp = now.as_second().to_string();
            // The same body at the same time is the same message.
            let id = format!("msg_{}", &to_hex(&Sha256::digest([timestamp.as_bytes(), body].concat()))[..32]);
            let signature = STANDARD.encode(Self::mac(&key, &id, &timestamp, body));
            signed.headers.push(("webhook-id".to_owned(), id));
            signed.headers.push(("webhook-timestamp".to_owned(), timestamp));
            signed.headers.push(("webhook-signature".to_owned(), format!("v1,{signature}")));
        }
    }

    /// The key in a secret; `None` if it is not base64, or of no bytes: that key everybody knows.
    pub(super) fn key(secret: &Secret) -> Option<Vec<u8>> {
        let text = secret.expose();
        LENIENT.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok().filter(|key| !key.is_empty())
    }

    fn mac(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
        mac::<::hmac::Hmac<Sha256>>(key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
    }
}

/// Whether an address is in one of the networks.
pub(super) fn is_within(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

/// For `deserialize_with`: networks, or single addresses.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<IpNet>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| parse_network(text))
        .collect::<Result<_, _>>()
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// Compares every secret, also after one has fitted.
fn any(secrets: &[Secret], fits: impl Fn(&Secret) -> Choice) -> bool {
    secrets.iter().fold(Choice::from(0), |any, secret| any | fits(secret)).into()
}

fn any_equal(secrets: &[Secret], given: &str) -> bool {
    any(secrets, |secret| equal(secret.expose().as_bytes(), given.as_bytes()))
}

/// Compares digests, so that time does not tell the secret's length either.
fn equal(secret: &[u8], given: &[u8]) -> Choice {
    Sha256::digest(secret).as_slice().ct_eq(Sha256::digest(given).as_slice())
}

fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// What follows the scheme in `Authorization`.
fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, credentials) = header::only(headers, "authorization")?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| credentials.trim_start_matches(' '))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
