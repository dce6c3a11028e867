//! Access tokens (RFC 6749, client credentials) for senders that fetch one before they post.
//!
//! A token is its expiry and an HMAC under the client's secret, over the expiry, the source and the client: nothing is
//! stored, it is good for its source only, and it ends with the secret that it was issued for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event::Timestamp;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConstantTimeEq};

use super::Signed;
use super::mechanism::{Algorithm, Key, LENIENT, authorization};
use super::secret::{Secret, SecretDigest};

/// A client that fetches tokens from `/oauth/token`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// The client; no other source has it.
    pub client_id: String,
    /// The live secrets.
    pub client_secrets: Vec<Secret>,
    /// How long a token is valid, in seconds.
    #[serde(default = "hour")]
    pub ttl_s: u32,
    /// The source that tokens are bound to.
    #[serde(skip)]
    source: String,
}

fn hour() -> u32 {
    3_600
}

/// The longest life of a token, in seconds: a day.
pub(super) const MOST_TTL_S: u32 = 86_400;

/// An issued token.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// What the sender puts after `Bearer`.
    pub text: String,
    /// How long it is valid, in seconds.
    pub expires_in_s: u32,
}

/// The expiry, in seconds since 1970.
const EXPIRY_BYTES: usize = 8;
const MAC_BYTES: usize = 32;

impl OAuth2 {
    pub(super) fn bind(&mut self, source: &str) {
        source.clone_into(&mut self.source);
    }

    /// A token for a client with these credentials. Takes the same time whichever part is wrong.
    pub fn grant(&self, client_id: &str, client_secret: &str, now: Timestamp) -> Option<AccessToken> {
        let given = SecretDigest::new(client_secret.as_bytes());
        let is_client =
            SecretDigest::new(client_id.as_bytes()).is(&SecretDigest::new(self.client_id.as_bytes()));
        let mut found = None;
        for secret in &self.client_secrets {
            let fits = secret.is(&given) & is_client;
            let token = self.token(secret, now);
            secret.used(now, fits);
            if bool::from(fits) {
                found = Some(token);
            }
        }
        found
    }

    fn token(&self, secret: &Secret, now: Timestamp) -> AccessToken {
        let expiry = (now.as_second() + i64::from(self.ttl_s)).to_be_bytes();
        let text = URL_SAFE_NO_PAD.encode([&expiry[..], &self.mac(secret, expiry)].concat());
        AccessToken { text, expires_in_s: self.ttl_s }
    }

    /// The lengths keep texts apart that are the same when they are joined.
    fn mac(&self, secret: &Secret, expiry: [u8; EXPIRY_BYTES]) -> Vec<u8> {
        let key = Key::new(Algorithm::Sha256, secret.expose().as_bytes());
        let (source, client) = (self.source.as_bytes(), self.client_id.as_bytes());
        let length = (source.len() as u64).to_be_bytes();
        key.sign(&[b"malote access token", &expiry, &length, source, client])
    }

    pub(super) fn check(&self, headers: &HeaderMap, now: Timestamp) -> bool {
        let Some(given) = authorization(headers, "Bearer") else { return false };
        let Ok(given) = URL_SAFE_NO_PAD.decode(given) else { return false };
        let Some((expiry, mac)) = given.split_first_chunk::<EXPIRY_BYTES>() else { return false };
        if mac.len() != MAC_BYTES {
            return false;
        }
        let mut fits = Choice::from(0);
        for secret in &self.client_secrets {
            let one = self.mac(secret, *expiry).ct_eq(mac);
            secret.used(now, one);
            fits |= one;
        }
        bool::from(fits) && now.as_second() < i64::from_be_bytes(*expiry)
    }

    pub(super) fn sign(&self, now: Timestamp, signed: &mut Signed) {
        if let Some(secret) = self.client_secrets.first() {
            let token = self.token(secret, now).text;
            signed.headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
    }
}

/// What a client sends to get a token, in any customary form.
#[derive(Default)]
pub struct ClientCredentials {
    /// Client and secret, in each way that they can be read.
    pub pairs: Vec<(String, String)>,
    /// The grant, if it says one.
    pub grant_type: Option<String>,
}

impl ClientCredentials {
    /// Reads HTTP Basic, the fields of a form, or a JSON object; `None` if there are no credentials. Basic goes first.
    pub fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let fields = fields(body);
        let field = |names: [&str; 2]| {
            fields.iter().find(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.clone())
        };
        let basic = authorization(headers, "Basic")
            .and_then(|given| LENIENT.decode(given).ok())
            .and_then(|given| String::from_utf8(given).ok())
            .and_then(|given| given.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned())));
        let pairs = match basic {
            // RFC 6749 (section 2.3.1) encodes both as in a form; many clients do not.
            Some((id, secret)) => {
                let decoded = (decoded(&id), decoded(&secret));
                vec![(id, secret), decoded]
            }
            None => vec![(field(["client_id", "clientId"])?, field(["client_secret", "clientSecret"])?)],
        };
        Some(Self { pairs, grant_type: field(["grant_type", "grantType"]) })
    }
}

/// A text that is encoded as in a form.
fn decoded(text: &str) -> String {
    let plain = text.replace('+', " ");
    percent_encoding::percent_decode_str(&plain).decode_utf8_lossy().into_owned()
}

/// The fields of a JSON object or of a form, whatever the content type says.
fn fields(body: &[u8]) -> Vec<(String, String)> {
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body) {
        Ok(object) => {
            object.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
        }
        Err(_) => form_urlencoded::parse(body).into_owned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, secrets: &[&str]) -> OAuth2 {
        let client_secrets = secrets.iter().map(|secret| Secret::from(*secret)).collect();
        OAuth2 { client_id: "erp".to_owned(), client_secrets, ttl_s: 600, source: source.to_owned() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn bearer(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        headers
    }

    #[test]
    fn a_token_is_for_its_source_and_time_and_ends_with_its_secret() {
        let me = client("me", &["new", "old"]);
        let token = me.grant("erp", "old", at(1_000)).unwrap();
        assert_eq!(token.expires_in_s, 600);
        let headers = bearer(&token.text);
        assert!(me.check(&headers, at(1_000)) && me.check(&headers, at(1_599)));
        assert!(!me.check(&headers, at(1_600)));
        assert!(!client("other", &["new", "old"]).check(&headers, at(1_000)), "another source");
        assert!(!client("me", &["new"]).check(&headers, at(1_000)), "its secret is gone");
        let mut other = client("me", &["old"]);
        other.client_id = "crm".to_owned();
        assert!(!other.check(&headers, at(1_000)), "another client");
        // Neither a later expiry nor half a signature passes.
        let mut bytes = URL_SAFE_NO_PAD.decode(&token.text).unwrap();
        bytes[7] = bytes[7].wrapping_add(1);
        assert!(!me.check(&bearer(&URL_SAFE_NO_PAD.encode(&bytes)), at(1_000)));
        for length in [0, 8, 24, 39] {
            assert!(!me.check(&bearer(&URL_SAFE_NO_PAD.encode(&bytes[..length])), at(1_000)), "{length}");
        }
    }

    #[test]
    fn only_the_client_itself_gets_a_token() {
        let me = client("me", &["s3cret"]);
        for (id, secret) in [("erp", "wrong"), ("crm", "s3cret"), ("", ""), ("s3cret", "erp"), ("erp", "")] {
            assert!(me.grant(id, secret, at(1_000)).is_none(), "{id} {secret}");
        }
        assert!(client("me", &[]).grant("erp", "", at(1_000)).is_none());
        assert_eq!(me.client_secrets[0].last_use(), None);
        assert!(me.grant("erp", "s3cret", at(1_000)).is_some());
        assert_eq!(me.client_secrets[0].last_use(), Some(at(1_000)));
    }

    #[test]
    fn credentials_are_read_in_every_customary_form() {
        let check = |authorization: Option<&str>, body: &str, expect: Option<(&str, &str)>| {
            let mut headers = HeaderMap::new();
            headers.extend(authorization.map(|it| (http::header::AUTHORIZATION, it.parse().unwrap())));
            let read = ClientCredentials::read(&headers, body.as_bytes());
            let pairs = read.map(|read| read.pairs).unwrap_or_default();
            let found = expect.map(|(id, secret)| pairs.contains(&(id.to_owned(), secret.to_owned())));
            assert_eq!(
                (found.unwrap_or(true), pairs.is_empty()),
                (true, expect.is_none()),
                "{body} {pairs:?}"
            );
        };
        let basic = |pair: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        check(Some(&basic("erp:a:b")), "grant_type=client_credentials", Some(("erp", "a:b")));
        check(Some(&basic("erp%3A1:a%2Bb+c")), "", Some(("erp:1", "a+b c")));
        check(Some(&basic("erp:a+b")), "", Some(("erp", "a+b")));
        check(None, "grant_type=client_credentials&client_id=erp&client_secret=a%2Bb", Some(("erp", "a+b")));
        check(None, r#"{"clientId": "erp", "clientSecret": "a+b"}"#, Some(("erp", "a+b")));
        check(None, r#"{"client_id": "erp", "client_secret": "a+b"}"#, Some(("erp", "a+b")));
        check(None, r#"{"clientId": "erp"}"#, None);
        check(Some("Bearer x"), "", None);
        let read =
            ClientCredentials::read(&HeaderMap::new(), b"client_id=a&client_secret=b&grant_type=password");
        assert_eq!(read.unwrap().grant_type.as_deref(), Some("password"));
    }
}
