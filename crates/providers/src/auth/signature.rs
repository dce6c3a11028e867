//! A signature over any parts of a request, by a shared secret or by the sender's private key.
//!
//! What is signed is a [`Template`]. Every live secret or key is tried, and every signature of the header that may hold
//! several, so that either side can rotate.

use std::fmt;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use event::Timestamp;
use ring::signature::{self as asymmetric, UnparsedPublicKey, VerificationAlgorithm};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use super::mechanism::{Algorithm, Encoding, Key, LENIENT, TOLERANCE_SECONDS, from_hex};
use super::secret::Secret;
use super::{Credentials, Signed};
use crate::header::HeaderName;
use crate::hex::to_hex;
use crate::template::{Parts, Piece, Template};

/// How many signatures of one header are compared at most.
const SIGNATURES: usize = 8;

/// A signature over parts of the request.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The header that holds the signature.
    pub header: HeaderName,
    /// The field of the header that holds it, where the header is a list such as `t=1,v1=ab`. There may be several of the
    /// name, of which one has to fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What stands before the signature, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// What is signed.
    #[serde(default = "Template::body")]
    pub signed: Template,
    /// How it is signed.
    #[serde(default)]
    pub algorithm: SignatureAlgorithm,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// The time of the request, which `signed` covers: an intercepted request cannot be replayed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<SignedMoment>,
    /// The live secrets.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// The live public keys of the sender, for the algorithms that need one: PEM or base64 (SubjectPublicKeyInfo), or the
    /// bytes of an Ed25519 key in hexadecimal or base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<PublicKey>,
    #[serde(skip)]
    keys: Keys,
}

/// Where the time of a signed request is: in a header or in a field of the header of the signature. It is in seconds or
/// milliseconds since 1970 (UTC), which its size tells.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignedMoment {
    /// The header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// The field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How far it may be from ours, in seconds.
    #[serde(default = "tolerance")]
    pub tolerance_s: u64,
}

fn tolerance() -> u64 {
    TOLERANCE_SECONDS
}

/// How a text is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureAlgorithm {
    /// HMAC-SHA256.
    #[default]
    HmacSha256,
    /// HMAC-SHA1, for senders that know nothing newer.
    HmacSha1,
    /// HMAC-SHA512.
    HmacSha512,
    /// SHA-256 of a text that contains the secret.
    Sha256,
    /// SHA-1 of a text that contains the secret.
    Sha1,
    /// SHA-512 of a text that contains the secret.
    Sha512,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA with P-256 and SHA-256; the signature in DER or as 64 bytes.
    EcdsaP256,
    /// RSA with SHA-256 (PKCS #1 v1.5), with keys of 1,024 bits or more.
    RsaSha256,
}

impl SignatureAlgorithm {
    /// Whether the sender signs with a private key, so that malote has its public key only.
    pub fn is_asymmetric(self) -> bool {
        matches!(self, Self::Ed25519 | Self::EcdsaP256 | Self::RsaSha256)
    }

    /// Whether it is a hash without a key.
    pub fn is_plain_hash(self) -> bool {
        matches!(self, Self::Sha1 | Self::Sha256 | Self::Sha512)
    }

    /// Whether it rests on SHA-1, which is outdated.
    pub fn is_outdated(self) -> bool {
        matches!(self, Self::HmacSha1 | Self::Sha1)
    }

    fn keyed(self) -> Option<Algorithm> {
        match self {
            Self::HmacSha256 => Some(Algorithm::Sha256),
            Self::HmacSha1 => Some(Algorithm::Sha1),
            Self::HmacSha512 => Some(Algorithm::Sha512),
            Self::Sha1 | Self::Sha256 | Self::Sha512 | Self::Ed25519 | Self::EcdsaP256 | Self::RsaSha256 => {
                None
            }
        }
    }

    /// The algorithm that verifies a signature of this length.
    fn verification(self, length: usize) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::Ed25519 => Some(&asymmetric::ED25519),
            Self::EcdsaP256 if length == 64 => Some(&asymmetric::ECDSA_P256_SHA256_FIXED),
            Self::EcdsaP256 => Some(&asymmetric::ECDSA_P256_SHA256_ASN1),
            // Senders have keys of 1,024 bits.
            Self::RsaSha256 => Some(&asymmetric::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
            _ => None,
        }
    }
}

/// A public key, which is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    text: String,
    algorithm: SignatureAlgorithm,
    bytes: Vec<u8>,
}

/// The text is no public key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "expected a public key (Ed25519, P-256 or RSA): PEM or base64 (SubjectPublicKeyInfo), or an Ed25519 key of 32 bytes in hexadecimal or base64"
)]
pub struct NotAPublicKey;

impl TryFrom<String> for PublicKey {
    type Error = NotAPublicKey;

    fn try_from(text: String) -> Result<Self, NotAPublicKey> {
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        let base64: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
        let base64 = base64.strip_prefix("whpk_").unwrap_or(&base64);
        let decoded =
            from_hex(base64).filter(|bytes| bytes.len() == 32).or_else(|| LENIENT.decode(base64).ok());
        let decoded = decoded.ok_or(NotAPublicKey)?;
        let (algorithm, bytes) = match decoded.len() {
            32 => (SignatureAlgorithm::Ed25519, decoded),
            _ => {
                let (identifier, bytes) = subject_public_key(&decoded).ok_or(NotAPublicKey)?;
                let known = IDENTIFIERS.iter().find(|(start, _)| identifier.starts_with(start));
                (known.ok_or(NotAPublicKey)?.1, bytes.to_vec())
            }
        };
        Ok(Self { text, algorithm, bytes })
    }
}

impl PublicKey {
    /// Whether it is an RSA key of less than 2,048 bits.
    pub fn is_short(&self) -> bool {
        self.algorithm == SignatureAlgorithm::RsaSha256 && self.bytes.len() < 256
    }
}

/// How the algorithms of supported keys begin (RFC 8410, section 3; RFC 5480, section 2.1.1; RFC 8017, appendix A.1).
const IDENTIFIERS: [(&[u8], SignatureAlgorithm); 3] = [
    (&[0x06, 0x03, 0x2b, 0x65, 0x70], SignatureAlgorithm::Ed25519),
    (
        &[
            0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
            0x03, 0x01, 0x07,
        ],
        SignatureAlgorithm::EcdsaP256,
    ),
    (&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], SignatureAlgorithm::RsaSha256),
];

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.text
    }
}

/// The algorithm and the key itself in a SubjectPublicKeyInfo (RFC 5280, section 4.1).
fn subject_public_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    /// The content of the element with this tag, and what follows it.
    fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
        let [found, length, rest @ ..] = der else { return None };
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
            0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
            _ => return None,
        };
        (*found == tag && length <= rest.len()).then(|| rest.split_at(length))
    }
    let (info, _) = element(der, 0x30)?;
    let (algorithm, after) = element(info, 0x30)?;
    let (bits, _) = element(after, 0x03)?;
    // The first byte is the number of unused bits.
    Some((algorithm, bits.strip_prefix(&[0])?))
}

/// The keys of HMACs, derived from the secrets when the first request is checked.
#[derive(Clone, Default)]
struct Keys(OnceLock<Vec<Key>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Signature {
    pub(super) fn check(&self, credentials: &Credentials<'_>) -> bool {
        let Credentials { headers, query, body, now, .. } = *credentials;
        let Some(header) = self.header.only(headers) else { return false };
        let mut request = Parts::new(headers, query, body);
        request.fields = header;
        let given = self.given(header, &request);
        let is_fresh = self.timestamp.as_ref().is_none_or(|time| time.is_fresh(&request, now));
        match self.signed.pieces(&request) {
            Some(pieces) if is_fresh && !given.is_empty() => self.fits(&pieces, &given, now),
            _ => false,
        }
    }

    /// The signatures in the header.
    fn given(&self, header: &str, request: &Parts<'_>) -> Vec<Vec<u8>> {
        let decoded = |text: &str| self.encoding.decode(text.strip_prefix(self.prefix.as_str())?);
        match &self.field {
            Some(field) => request.fields(field).filter_map(decoded).take(SIGNATURES).collect(),
            None => match decoded(header) {
                Some(one) => vec![one],
                None => header.split_whitespace().filter_map(decoded).take(SIGNATURES).collect(),
            },
        }
    }

    fn fits(&self, pieces: &[Piece<'_>], given: &[Vec<u8>], now: Timestamp) -> bool {
        if self.algorithm.is_asymmetric() {
            let text = self.text(pieces, &[]);
            return given.iter().any(|signature| {
                let Some(verification) = self.algorithm.verification(signature.len()) else { return false };
                let verifies = |key: &PublicKey| {
                    UnparsedPublicKey::new(verification, &key.bytes).verify(&text, signature).is_ok()
                };
                self.public_keys.iter().any(verifies)
            });
        }
        let mut fits = Choice::from(0);
        for (index, secret) in self.secrets.iter().enumerate() {
            let made = self.made(index, secret, pieces);
            let one = given.iter().fold(Choice::from(0), |any, given| any | made.as_slice().ct_eq(given));
            secret.used(now, one);
            fits |= one;
        }
        fits.into()
    }

    /// The signature by the secret of this index.
    fn made(&self, index: usize, secret: &Secret, pieces: &[Piece<'_>]) -> Vec<u8> {
        let secret = secret.expose().as_bytes();
        let Some(algorithm) = self.algorithm.keyed() else {
            let text = self.text(pieces, secret);
            return match self.algorithm {
                SignatureAlgorithm::Sha1 => Sha1::digest(text).to_vec(),
                SignatureAlgorithm::Sha512 => Sha512::digest(text).to_vec(),
                _ => Sha256::digest(text).to_vec(),
            };
        };
        let key = |secret: &Secret| Key::new(algorithm, secret.expose().as_bytes());
        let keys = self.keys.0.get_or_init(|| self.secrets.iter().map(key).collect());
        let parts: Vec<&[u8]> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Bytes(bytes) => bytes.as_ref(),
                Piece::Secret => secret,
            })
            .collect();
        keys[index].sign(&parts)
    }

    fn text(&self, pieces: &[Piece<'_>], secret: &[u8]) -> Vec<u8> {
        let parts = pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.as_ref(),
            Piece::Secret => secret,
        });
        parts.flatten().copied().collect()
    }

    /// What a sender with the first secret adds. Headers and parameters that are signed are made up; a signature by a private
    /// key cannot be made.
    pub(super) fn sign(&self, body: &[u8], now: Timestamp, signed: &mut Signed) {
        let Some(secret) = self.secrets.first().filter(|_| !self.algorithm.is_asymmetric()) else { return };
        let made_up = to_hex(&Sha256::digest(body)[..8]);
        let mut fields = Vec::new();
        let mut headers = http::HeaderMap::new();
        if let Some(time) = &self.timestamp {
            let text = now.as_second().to_string();
            match (&time.header, &time.field) {
                (Some(header), _) => drop(insert(&mut headers, header, &text)),
                (None, Some(field)) => fields.push(format!("{field}={text}")),
                (None, None) => {}
            }
        }
        for name in self.signed.headers() {
            if !headers.contains_key(name.as_str()) {
                insert(&mut headers, name, &made_up);
            }
        }
        let query: Vec<_> = self.signed.parameters().map(|name| (name.to_owned(), made_up.clone())).collect();
        let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(&query).finish();
        let list = fields.join(",");
        let mut request = Parts::new(&headers, Some(&encoded), body);
        request.fields = &list;
        let Some(pieces) = self.signed.pieces(&request) else { return };
        let text = format!("{}{}", self.prefix, self.encoding.encode(&self.made(0, secret, &pieces)));
        drop(pieces);
        let value = match &self.field {
            Some(field) => {
                fields.push(format!("{field}={text}"));
                fields.join(",")
            }
            None => text,
        };
        let made = headers
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        signed.headers.extend(made);
        signed.headers.push((self.header.to_string(), value));
        signed.query.extend(query);
    }

    /// Every mistake, as (path within the mechanism, message).
    pub(super) fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let mut mistakes = Vec::new();
        let mut check = |is_wrong: bool, path, message| {
            if is_wrong {
                mistakes.push((path, message));
            }
        };
        let is_asymmetric = self.algorithm.is_asymmetric();
        check(
            is_asymmetric && self.public_keys.is_empty(),
            "public_keys",
            "must not be empty; give the sender's public key",
        );
        check(
            !is_asymmetric && !self.public_keys.is_empty(),
            "public_keys",
            "are for ed25519, ecdsa-p256 and rsa-sha256; give secrets",
        );
        check(
            is_asymmetric && self.public_keys.iter().any(|key| key.algorithm != self.algorithm),
            "public_keys",
            "have a key of another algorithm or curve, which fits no signature",
        );
        check(
            is_asymmetric && !self.secrets.is_empty(),
            "secrets",
            "are for the other algorithms; this one needs public_keys only",
        );
        let hashes_secret = self.signed.has_secret();
        check(
            self.algorithm.is_plain_hash() && !hashes_secret,
            "signed",
            "contains no {secret}, so that everybody can make this hash",
        );
        check(
            is_asymmetric && hashes_secret,
            "signed",
            "contains {secret}, and a private key signs without one",
        );
        check(
            self.field.as_deref().is_some_and(|field| self.signed.has_field(field)),
            "signed",
            "contains the field of the signature itself",
        );
        check(
            self.signed.headers().any(|name| *name == self.header),
            "signed",
            "contains the header of the signature itself",
        );
        if let Some(time) = &self.timestamp {
            check(time.tolerance_s == 0, "timestamp.tolerance_s", "expected a number of at least 1");
            check(
                time.header.is_some() == time.field.is_some(),
                "timestamp",
                "give exactly one of header and field",
            );
            let in_header = |header: &HeaderName| self.signed.headers().any(|name| name == header);
            let is_signed = time.header.as_ref().map_or_else(
                || time.field.as_deref().is_none_or(|field| self.signed.has_field(field)),
                in_header,
            );
            check(!is_signed, "timestamp", "is no part of signed, so that everybody can change it");
        }
        mistakes
    }

    /// Whether the signature covers this header, by its lower-case name.
    pub(super) fn covers(&self, header: &str) -> bool {
        self.signed.headers().any(|name| name.as_str() == header)
    }

    /// The headers and parameters that a request needs for it.
    pub(super) fn needs(&self) -> (Vec<&str>, Vec<&str>) {
        let time = self.timestamp.iter().filter_map(|time| time.header.as_ref());
        let mut headers: Vec<&str> = std::iter::once(&self.header)
            .chain(self.signed.headers())
            .chain(time)
            .map(HeaderName::as_str)
            .collect();
        headers.dedup();
        (headers, self.signed.parameters().collect())
    }
}

/// Inserts a header; what is no value of a header is left out.
fn insert(headers: &mut http::HeaderMap, name: &HeaderName, text: &str) -> Option<()> {
    headers.insert(http::HeaderName::try_from(name.as_str()).ok()?, http::HeaderValue::try_from(text).ok()?);
    Some(())
}

impl SignedMoment {
    fn is_fresh(&self, request: &Parts<'_>, now: Timestamp) -> bool {
        let text = match (&self.header, &self.field) {
            (Some(header), _) => header.only(request.headers),
            (None, field) => field.as_deref().and_then(|field| request.fields(field).next()),
        };
        // The first number is that of the year 5138 in seconds, and of 1973 in milliseconds.
        let seconds = text.and_then(|text| text.parse::<i64>().ok()).map(|given| match given {
            100_000_000_000.. => given / 1_000,
            given => given,
        });
        seconds.is_some_and(|seconds| seconds.abs_diff(now.as_second()) <= self.tolerance_s)
    }
}

impl Encoding {
    /// The bytes of a signature.
    pub(super) fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => from_hex(text),
            Self::Base64 => LENIENT.decode(text).ok(),
            Self::Base64Url => URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok(),
        }
    }

    /// The text of a signature.
    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => to_hex(bytes),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Base64Url => URL_SAFE_NO_PAD.encode(bytes),
        }
    }
}
