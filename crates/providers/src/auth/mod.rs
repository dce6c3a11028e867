//! Whether a request is authenticated.
//!
//! An [`Auth`] is what one source requires. Every configured mechanism must pass; within a mechanism any live secret is
//! accepted, so that secrets can rotate. A refusal does not say which part failed.

mod client_certificate;
mod client_ip;
mod expected;
mod failed;
mod mechanism;
mod oauth2;
mod secret;
mod signature;

pub use client_certificate::{
    ClientCertificate, Connection, NotASubject, ProxyFormat, ProxyHeaders, Subject, Verified,
};
pub use client_ip::{Networks, NotANetwork, client_ip, hold_everyone, networks, parse_network};
pub use expected::Expected;
pub use failed::Failed;
pub use mechanism::{
    Algorithm, Basic, Bearer, Encoding, Header, Hmac, Query, SignedTime, StandardWebhooks, WebhookKey,
};
pub use oauth2::{AccessToken, ClientCredentials, OAuth2};
pub use secret::Secret;
pub use signature::{NotAPublicKey, PublicKey, Signature, SignatureAlgorithm, SignedMoment};

use std::fmt;
use std::net::IpAddr;

use event::Timestamp;
use http::HeaderMap;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Duplicates, HeaderName};

/// What a source requires: `"none"`, which has to be written out, or a table of mechanisms.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Unauthenticated requests are accepted.
    None,
    /// Every mechanism given must pass.
    All(Box<Mechanisms>),
}

/// The mechanisms that a source requires.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mechanisms {
    /// A secret in a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// A secret in the query string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Query>,
    /// User name and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Bearer>,
    /// A token that the sender fetches with its own credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    /// A signature over the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac: Option<Hmac>,
    /// A signature over any parts of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// A Standard Webhooks signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_webhooks: Option<StandardWebhooks>,
    /// A client certificate of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// The networks that the client's address must be in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Networks>,
}

/// The mechanisms of authentication.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's query string, without the `?`.
    pub query: Option<&'a str>,
    /// The client's address, see [`client_ip`].
    pub client_ip: IpAddr,
    /// What is known of the connection.
    pub connection: Connection<'a>,
    /// The request's body, whole; [`Auth::check_head`] does not look at it.
    pub body: &'a [u8],
    /// The present time.
    pub now: Timestamp,
}

/// A refusal, without a hint at the part that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Answered with 401.
    #[error("the request is not authenticated as this source requires")]
    Credentials,
    /// Answered with 403.
    #[error("the request is not allowed for this source")]
    Network,
    /// Answered with 403.
    #[error(
        "the request comes from a web page (Origin or Sec-Fetch-Site), and this source has no secret that would prove \
         its sender"
    )]
    Browser,
}

/// What a sender adds to a request to authenticate it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Signed {
    /// Headers, with lower-case names.
    pub headers: Vec<(String, String)>,
    /// Parameters of the query string, not encoded yet.
    pub query: Vec<(String, String)>,
}

impl Auth {
    /// That of a source that accepts no requests: each is answered with 401.
    pub fn closed() -> Self {
        let bearer = Some(Bearer { secrets: Vec::new() });
        Self::All(Box::new(Mechanisms { bearer, ..Mechanisms::default() }))
    }

    /// Whether no request can pass: see [`Self::closed`].
    pub fn is_closed(&self) -> bool {
        let Self::All(required) = self else { return false };
        required.bearer.as_ref().is_some_and(|bearer| bearer.secrets.is_empty())
    }

    /// Binds what is issued to the source of this name.
    pub fn bind(&mut self, source: &str) {
        if let Self::All(required) = self
            && let Some(oauth2) = &mut required.oauth2
        {
            oauth2.bind(source);
        }
    }

    /// The client that fetches tokens, if there is one.
    pub fn oauth2(&self) -> Option<&OAuth2> {
        let Self::All(required) = self else { return None };
        required.oauth2.as_ref()
    }

    /// The client certificate that is required, if one is.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        let Self::All(required) = self else { return None };
        required.client_certificate.as_ref()
    }

    /// Checks everything: [`Self::check_head`], then [`Self::check_body`].
    pub fn check(&self, credentials: &Credentials<'_>) -> Result<(), Denied> {
        self.check_head(credentials).and_then(|()| self.check_body(credentials)).map_err(|(denied, _)| denied)
    }

    /// Checks what needs no body: network, client certificate, header, query, Basic, bearer and access token. The network comes first, so that
    /// nothing can be learned about the rest from outside. If only the network is required, any web page open in a browser
    /// inside would pass: requests from pages are refused.
    ///
    /// # Errors
    /// The refusal, and which mechanisms failed: for the log, never for the sender.
    pub fn check_head(&self, credentials: &Credentials<'_>) -> Result<(), (Denied, Failed)> {
        let Credentials { headers, query, connection, now, .. } = *credentials;
        if let Self::All(required) = self
            && !required.networks.iter().all(|networks| networks.contain(credentials.client_ip))
        {
            return Err((Denied::Network, Failed::NONE));
        }
        if !self.has_secret() && is_from_a_page(headers) {
            return Err((Denied::Browser, Failed::NONE));
        }
        let Self::All(required) = self else { return Ok(()) };
        // All of them, so that the time to a refusal does not reveal which one failed.
        let failed = Failed::NONE
            .or(Failed::HEADER, required.header.iter().all(|header| header.check(headers, now)))
            .or(Failed::QUERY, required.query.iter().all(|by| by.check(query, now)))
            .or(Failed::BASIC, required.basic.iter().all(|basic| basic.check(headers, now)))
            .or(Failed::BEARER, required.bearer.iter().all(|bearer| bearer.check(headers, now)))
            .or(Failed::OAUTH2, required.oauth2.iter().all(|oauth2| oauth2.check(headers, now)));
        let failed = match &required.client_certificate {
            None => failed,
            Some(rule) => failed.or(Failed::CLIENT_CERTIFICATE, rule.check(headers, connection)),
        };
        failed.into_result()
    }

    /// Whether [`Self::check_head`] authenticates the sender: the head contains a secret, or only the address is
    /// required and not every address is allowed. If a signature is required as well, others send from the same
    /// networks.
    pub fn is_in_head(&self) -> bool {
        let Self::All(required) = self else { return false };
        required.has_secret_in_head() || required.restricts_networks() && !self.is_signed()
    }

    /// Whether [`Self::check_body`] authenticates the sender.
    pub fn is_signed(&self) -> bool {
        let Self::All(required) = self else { return false };
        required.hmac.is_some() || required.signature.is_some() || required.standard_webhooks.is_some()
    }

    /// Checks what may cover the body: the signatures. Fails as [`Self::check_head`] does.
    pub fn check_body(&self, credentials: &Credentials<'_>) -> Result<(), (Denied, Failed)> {
        let Self::All(required) = self else { return Ok(()) };
        let Credentials { headers, body, now, .. } = *credentials;
        let standard = &required.standard_webhooks;
        let failed = Failed::NONE
            .or(Failed::HMAC, required.hmac.iter().all(|hmac| hmac.check(headers, body, now)))
            .or(Failed::SIGNATURE, required.signature.iter().all(|by| by.check(credentials)))
            .or(Failed::STANDARD_WEBHOOKS, standard.iter().all(|by| by.check(headers, body, now)));
        failed.into_result()
    }

    /// The last use of each secret, with the path of the setting and its place in the list.
    pub fn last_uses(&self) -> impl Iterator<Item = (&'static str, usize, Option<Timestamp>)> {
        let lists = self.secrets().into_iter();
        lists.flat_map(|(path, list)| {
            list.iter().enumerate().map(move |(index, secret)| (path, index, secret.last_use()))
        })
    }

    /// Takes over the last use of every secret that the earlier authentication has, too.
    pub fn continue_from(&mut self, earlier: &Self) {
        let Self::All(required) = self else { return };
        let earlier = earlier.secrets();
        for (path, list) in required.secrets_mut() {
            let known = earlier.iter().filter(|(other, _)| *other == path).flat_map(|(_, list)| *list);
            for known in known {
                list.iter_mut().for_each(|secret| secret.continue_from(known));
            }
        }
    }

    /// What a sender that knows the first secret of each mechanism adds to a request. Nothing can be added
    /// about networks.
    pub fn sign(&self, body: &[u8], now: Timestamp) -> Signed {
        let mut signed = Signed::default();
        if let Self::All(required) = self {
            required.header.iter().for_each(|header| header.sign(&mut signed));
            required.query.iter().for_each(|query| query.sign(&mut signed));
            required.basic.iter().for_each(|basic| basic.sign(&mut signed));
            required.bearer.iter().for_each(|bearer| bearer.sign(&mut signed));
            required.oauth2.iter().for_each(|oauth2| oauth2.sign(now, &mut signed));
            required.hmac.iter().for_each(|hmac| hmac.sign(body, now, &mut signed));
            required.signature.iter().for_each(|signature| signature.sign(body, now, &mut signed));
            required.standard_webhooks.iter().for_each(|signature| signature.sign(body, now, &mut signed));
        }
        signed
    }

    /// Whether a header, by its lower-case name, carries a credential: such a header is never kept with an
    /// event.
    pub fn is_credential(&self, header: &str) -> bool {
        match self {
            Self::None => false,
            Self::All(required) => required.headers().iter().any(|(_, name)| *name == header),
        }
    }

    /// Whether a sender has to know a secret, or a private key.
    pub fn has_secret(&self) -> bool {
        match self {
            Self::None => false,
            Self::All(required) => required.has_secret_in_head() || self.is_signed(),
        }
    }

    /// The secrets of each mechanism, with the path of the setting.
    pub fn secrets(&self) -> Vec<(&'static str, &[Secret])> {
        let Self::All(required) = self else { return Vec::new() };
        required.secrets().into_iter().filter_map(|(path, list)| Some((path, list?.as_slice()))).collect()
    }

    /// How the mechanisms themselves identify a repeated request: Standard Webhooks by its signed `webhook-id`.
    pub fn duplicates(&self) -> Option<Duplicates> {
        let Self::All(required) = self else { return None };
        required.standard_webhooks.as_ref()?;
        let id = HeaderName::try_from("webhook-id".to_owned()).expect("a literal that keeps the rule");
        Some(Duplicates::by_header(id))
    }

    /// Whether a header, by its lower-case name, is trusted to come from the sender: a signature covers it, or another
    /// mechanism authenticates the whole request. Without any authentication, all headers are equal.
    pub fn proves_header(&self, name: &str) -> bool {
        let Self::All(required) = self else { return true };
        let Mechanisms { hmac, signature, standard_webhooks, .. } = &**required;
        let is_signed_time =
            |hmac: &Hmac| hmac.timestamp.as_ref().is_some_and(|time| time.header.as_str() == name);
        required.has_secret_in_head()
            || required.restricts_networks()
            || !self.is_signed()
            || signature.as_ref().is_some_and(|signature| signature.covers(name))
            || hmac.as_ref().is_some_and(is_signed_time)
            || standard_webhooks.is_some() && ["webhook-id", "webhook-timestamp"].contains(&name)
    }

    /// Every mistake in the configuration, as (path, message). One with a mistake may refuse or accept
    /// every request.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        match self {
            Self::None => Vec::new(),
            Self::All(required) => required.mistakes(),
        }
    }
}

/// The error for a placeholder that an example has instead of a secret.
pub const PLACEHOLDER: &str = "holds the placeholder of an example, which everybody knows; make a secret of your own, such as with openssl rand -hex 32";

/// Whether a browser sent this for a web page (Fetch Standard, "HTTP extensions"; Fetch Metadata).
fn is_from_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key("origin") || headers.get("sec-fetch-site").is_some_and(|site| site != "none")
}

impl Mechanisms {
    /// Whether the head of a request has to contain a secret, or its connection to prove a private key.
    pub fn has_secret_in_head(&self) -> bool {
        self.header.is_some()
            || self.query.is_some()
            || self.basic.is_some()
            || self.bearer.is_some()
            || self.oauth2.is_some()
            || self.client_certificate.is_some()
    }

    /// See [`Auth::expectations`].
    fn expectations(&self) -> Vec<Expected<'_>> {
        let mut expected = Vec::new();
        expected.extend(self.header.iter().map(|it| Expected::Header(it.name.as_str())));
        expected.extend(self.query.iter().map(|it| Expected::Parameter(&it.name)));
        expected.extend(self.basic.iter().map(|_| Expected::Basic));
        expected.extend(self.bearer.iter().map(|_| Expected::Bearer));
        expected.extend(self.oauth2.iter().map(|_| Expected::IssuedToken));
        if let Some(hmac) = &self.hmac {
            expected.push(Expected::Header(hmac.header.as_str()));
            expected.extend(hmac.timestamp.iter().map(|time| Expected::Header(time.header.as_str())));
        }
        if let Some(signature) = &self.signature {
            let (headers, parameters) = signature.needs();
            expected.extend(headers.into_iter().map(Expected::Header));
            expected.extend(parameters.into_iter().map(Expected::Parameter));
        }
        if self.standard_webhooks.is_some() {
            expected.extend(["webhook-id", "webhook-timestamp", "webhook-signature"].map(Expected::Header));
        }
        expected.extend(self.client_certificate.iter().map(ClientCertificate::expected));
        expected
    }

    /// Whether any address is refused.
    fn restricts_networks(&self) -> bool {
        self.networks.as_ref().is_some_and(|networks| !networks.hold_everyone())
    }

    /// The headers that carry credentials, each after the path of what names it.
    fn headers(&self) -> Vec<(&'static str, &str)> {
        [
            ("header.name", self.header.as_ref().map(|header| header.name.as_str())),
            ("basic", self.basic.as_ref().map(|_| "authorization")),
            ("bearer", self.bearer.as_ref().map(|_| "authorization")),
            ("oauth2", self.oauth2.as_ref().map(|_| "authorization")),
            ("hmac.header", self.hmac.as_ref().map(|hmac| hmac.header.as_str())),
            ("signature.header", self.signature.as_ref().map(|signature| signature.header.as_str())),
            ("standard_webhooks", self.standard_webhooks.as_ref().map(|_| "webhook-signature")),
        ]
        .into_iter()
        .filter_map(|(path, header)| Some((path, header?)))
        .chain(self.client_certificate.iter().flat_map(|rule| &rule.proxy).flat_map(ProxyHeaders::headers))
        .collect()
    }

    fn secrets(&self) -> [(&'static str, Option<&Vec<Secret>>); 8] {
        // Where the sender signs with a private key, there is no secret.
        let by_secret = self.signature.as_ref().filter(|signature| !signature.algorithm.is_asymmetric());
        [
            ("header.secrets", self.header.as_ref().map(|header| &header.secrets)),
            ("query.secrets", self.query.as_ref().map(|query| &query.secrets)),
            ("basic.passwords", self.basic.as_ref().map(|basic| &basic.passwords)),
            ("bearer.secrets", self.bearer.as_ref().map(|bearer| &bearer.secrets)),
            ("oauth2.client_secrets", self.oauth2.as_ref().map(|oauth2| &oauth2.client_secrets)),
            ("hmac.secrets", self.hmac.as_ref().map(|hmac| &hmac.secrets)),
            ("signature.secrets", by_secret.map(|signature| &signature.secrets)),
            (
                "standard_webhooks.secrets",
                self.standard_webhooks.as_ref().map(|signature| &signature.secrets),
            ),
        ]
    }

    fn secrets_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Vec<Secret>)> {
        [
            ("header.secrets", self.header.as_mut().map(|header| &mut header.secrets)),
            ("query.secrets", self.query.as_mut().map(|query| &mut query.secrets)),
            ("basic.passwords", self.basic.as_mut().map(|basic| &mut basic.passwords)),
            ("bearer.secrets", self.bearer.as_mut().map(|bearer| &mut bearer.secrets)),
            ("oauth2.client_secrets", self.oauth2.as_mut().map(|oauth2| &mut oauth2.client_secrets)),
            ("hmac.secrets", self.hmac.as_mut().map(|hmac| &mut hmac.secrets)),
            ("signature.secrets", self.signature.as_mut().map(|signature| &mut signature.secrets)),
            (
                "standard_webhooks.secrets",
                self.standard_webhooks.as_mut().map(|signature| &mut signature.secrets),
            ),
        ]
        .into_iter()
        .filter_map(|(path, list)| Some((path, list?)))
    }

    fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut mistake = |path: &str, message: &str| mistakes.push((path.to_owned(), message.to_owned()));

        let lists = self.secrets();
        let has_other =
            self.signature.is_some() || self.client_certificate.is_some() || self.networks.is_some();
        if lists.iter().all(|(_, list)| list.is_none()) && !has_other {
            mistake(
                "",
                "names no mechanism; give header, query, basic, bearer, oauth2, hmac, signature, standard_webhooks, \
                 client_certificate or networks, or write auth = \"none\"",
            );
        }
        for (path, message) in self.client_certificate.iter().flat_map(ClientCertificate::mistakes) {
            let dot = if path.is_empty() { "" } else { "." };
            mistake(&format!("client_certificate{dot}{path}"), message);
        }
        for (path, message) in self.signature.iter().flat_map(Signature::mistakes) {
            mistake(&format!("signature.{path}"), message);
        }
        if let Some(oauth2) = &self.oauth2 {
            if oauth2.client_id.is_empty() {
                mistake("oauth2.client_id", "must not be empty");
            }
            if !(1..=oauth2::MOST_TTL_S).contains(&oauth2.ttl_s) {
                mistake("oauth2.ttl_s", "expected a number of at least 1 and at most 86400, a day");
            }
        }
        for (path, list) in lists.iter().filter_map(|(path, list)| Some((path, (*list)?))) {
            if list.is_empty() {
                mistake(path, "must not be empty; give at least one secret");
            }
            for (index, secret) in list.iter().enumerate() {
                if secret.expose().is_empty() {
                    mistake(&format!("{path}[{index}]"), "must not be empty");
                } else if secret.is_placeholder() {
                    mistake(&format!("{path}[{index}]"), PLACEHOLDER);
                } else if *path == "standard_webhooks.secrets" && StandardWebhooks::key(secret).is_none() {
                    mistake(&format!("{path}[{index}]"), "expected whsec_ and base64");
                }
            }
        }
        if self.networks.as_ref().is_some_and(Networks::is_empty) {
            mistake("networks", "must not be empty; give at least one network such as 203.0.113.0/24");
        }
        if let Some(Hmac { header, timestamp: Some(time), .. }) = &self.hmac {
            if time.header == *header {
                mistake("hmac.timestamp.header", "is the header of the signature; give that of the time");
            }
            if time.tolerance_s == 0 {
                mistake("hmac.timestamp.tolerance_s", "expected a number of at least 1");
            }
        }
        if self.query.as_ref().is_some_and(|query| query.name.is_empty()) {
            mistake("query.name", "must not be empty");
        }
        if self.basic.as_ref().is_some_and(|basic| basic.username.contains(':')) {
            mistake("basic.username", "must not hold ':', which ends a user name");
        }

        let headers = self.headers();
        for (index, (path, header)) in headers.iter().enumerate() {
            if let Some((earlier, _)) = headers[..index].iter().find(|(_, other)| other == header) {
                mistake(
                    path,
                    &format!("takes the header {header}, as {earlier} does; no request can pass both"),
                );
            }
        }
        mistakes
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoneOrTable;

        impl<'de> Visitor<'de> for NoneOrTable {
            type Value = Auth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\" or a table of mechanisms")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Auth, E> {
                match text {
                    "none" => Ok(Auth::None),
                    // Not quoted: it may be a secret in the wrong place.
                    _ => Err(E::custom("expected \"none\" or a table of mechanisms, got another text")),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Auth, A::Error> {
                Mechanisms::deserialize(MapAccessDeserializer::new(map)).map(|all| Auth::All(Box::new(all)))
            }
        }

        deserializer.deserialize_any(NoneOrTable)
    }
}

impl Serialize for Auth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::All(required) => required.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests;
