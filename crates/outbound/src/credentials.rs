//! What a request shows of who sends it, and the headers that people may add to it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::client::Client;
use crate::oauth2::{JsonTokenSettings, OAuth2, OAuth2Settings};

/// The most headers of a request that are configured, and their most bytes together.
const MOST_HEADERS: usize = 64;
const MOST_BYTES: usize = 16 * 1024;

/// Headers that are not configured: those of a connection, of the body, and those that malote sets.
const RESERVED: [&str; 14] = [
    "connection",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Beginnings of further ones: of the body, of Standard Webhooks and of CloudEvents.
const RESERVED_BEGINNINGS: [&str; 3] = ["content-", "webhook-", "ce-"];

/// The credentials of a target. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// None are needed.
    None,
    /// The same headers for every request.
    Headers(HeaderMap),
    /// An access token, which is got when it is needed, and once more if the target answers 401 to it.
    OAuth2(OAuth2),
}

/// Why credentials cannot be used. No message quotes them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCredential {
    /// A header cannot be used.
    #[error(transparent)]
    Header(#[from] BadHeader),
    /// A user name with a colon, or a user name or password with a control character.
    #[error("a user name has no colon, and neither user name nor password a control character")]
    Basic,
    /// A token with characters that a header cannot have.
    #[error("a token has letters, digits and punctuation of ASCII only, and at least one")]
    Token,
    /// A setting of OAuth2 is missing.
    #[error("client_id and client_secret must not be empty")]
    Empty,
}

/// Why a header cannot be added to requests. No message quotes its value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// It is no name of a header.
    #[error("{0:?} is no name of a header: it has letters, digits and - only")]
    Name(String),
    /// The value has characters that a header cannot have.
    #[error("the value of {0} has line breaks or characters that are not ASCII")]
    Value(HeaderName),
    /// The name is not free.
    #[error("{0} is set by malote or belongs to the connection; choose another header")]
    Reserved(HeaderName),
    /// The name stands twice.
    #[error("{0} is given twice")]
    Twice(HeaderName),
    /// There are too many, or they are too long.
    #[error("more than {MOST_HEADERS} headers, or more than {MOST_BYTES} bytes of them")]
    TooMany,
}

impl Credentials {
    /// Headers with secrets, such as `x-api-key`.
    pub fn headers(headers: &[(String, String)]) -> Result<Self, BadHeader> {
        let mut headers = static_headers(headers)?;
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        Ok(Self::Headers(headers))
    }

    /// A user name and password (RFC 7617).
    pub fn basic(user: &str, password: &str) -> Result<Self, BadCredential> {
        if user.contains(':') || user.chars().chain(password.chars()).any(char::is_control) {
            return Err(BadCredential::Basic);
        }
        Self::authorization(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// A token (RFC 6750).
    pub fn bearer(token: &str) -> Result<Self, BadCredential> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadCredential::Token);
        }
        Self::authorization(&format!("Bearer {token}"))
    }

    /// Access tokens by client credentials (RFC 6749, section 4.4). The endpoint is asked by this client, under the same rules
    /// as the target.
    pub fn oauth2(settings: OAuth2Settings, client: &Client) -> Result<Self, BadCredential> {
        if settings.client_id.is_empty() || settings.client_secret.is_empty() {
            return Err(BadCredential::Empty);
        }
        Ok(Self::OAuth2(OAuth2::new(settings, client.clone())))
    }

    /// Access tokens for a client's id and secret, which are sent as JSON. The endpoint is asked as that of
    /// [`oauth2`](Self::oauth2) is.
    pub fn json_token(settings: JsonTokenSettings, client: &Client) -> Result<Self, BadCredential> {
        if settings.client_id.is_empty() || settings.client_secret.is_empty() {
            return Err(BadCredential::Empty);
        }
        Ok(Self::OAuth2(OAuth2::json(settings, client.clone())))
    }

    fn authorization(text: &str) -> Result<Self, BadCredential> {
        let mut value = HeaderValue::from_str(text).map_err(|_| BadCredential::Token)?;
        value.set_sensitive(true);
        Ok(Self::Headers(HeaderMap::from_iter([(AUTHORIZATION, value)])))
    }
}

/// The name of a header that people may configure: none that belongs to the connection or that malote sets itself.
pub fn header_name(name: &str) -> Result<HeaderName, BadHeader> {
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadHeader::Name(shown(name)))?;
    let is_begun = |beginning: &&str| header.as_str().starts_with(*beginning);
    if RESERVED.contains(&header.as_str()) || RESERVED_BEGINNINGS.iter().any(is_begun) {
        return Err(BadHeader::Reserved(header));
    }
    Ok(header)
}

/// Headers that people configure for every request, checked: names and values that can be sent, none that belongs to the
/// connection or that malote sets itself, none twice.
pub fn static_headers(headers: &[(String, String)]) -> Result<HeaderMap, BadHeader> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MOST_HEADERS || bytes > MOST_BYTES {
        return Err(BadHeader::TooMany);
    }
    let mut checked = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let header = header_name(name)?;
        let value = HeaderValue::from_str(value.trim()).ok().filter(|_| value.is_ascii());
        let Some(value) = value else { return Err(BadHeader::Value(header)) };
        if checked.contains_key(&header) {
            return Err(BadHeader::Twice(header));
        }
        checked.insert(header, value);
    }
    Ok(checked)
}

/// The beginning of a name: what stands after a colon may be a value.
fn shown(name: &str) -> String {
    let mut shown: String = name.split(':').next().unwrap_or_default().chars().take(40).collect();
    if shown.len() < name.len() {
        let _ = write!(shown, "…");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Result<HeaderMap, BadHeader> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        static_headers(&pairs)
    }

    #[test]
    fn headers_are_checked_and_those_of_malote_and_of_the_connection_refused() {
        let checked = headers(&[("X-Api-Key", " s3cret "), ("User-Agent", "us"), ("x-empty", "")]).unwrap();
        assert_eq!((checked.len(), &checked["x-api-key"]), (3, &HeaderValue::from_static("s3cret")));
        for name in [
            "Host",
            "Connection",
            "Transfer-Encoding",
            "TE",
            "Upgrade",
            "Proxy-Authorization",
            "Content-Length",
            "content-type",
            "Webhook-Id",
            "webhook-signature",
            "ce-id",
            "CE-Type",
            "Traceparent",
            "tracestate",
        ] {
            let error = headers(&[(name, "hunter2")]).unwrap_err();
            assert!(matches!(error, BadHeader::Reserved(_)), "{name}: {error}");
        }
        let check = |pairs: &[(&str, &str)], expect: &str| {
            let error = headers(pairs).unwrap_err().to_string();
            assert!(error.contains(expect) && !error.contains("hunter2"), "{error}");
        };
        check(&[("x key", "hunter2")], "\"x key\" is no name");
        check(&[("x-key: hunter2", "")], "\"x-key…\" is no name");
        check(&[("", "hunter2")], "\"\" is no name");
        check(&[("x-key", "hunter2\r\nx-other: 1")], "the value of x-key has line breaks");
        check(&[("x-key", "hunter2é")], "not ASCII");
        check(&[("x-key", "1"), ("X-Key", "2")], "x-key is given twice");
        check(&[("x-key", &"2".repeat(MOST_BYTES))], "more than");
        check(&[("x-key", "1"); MOST_HEADERS + 1], "more than");
    }

    #[test]
    fn basic_and_bearer_are_one_header_that_is_not_shown() {
        let value = |credentials: &Credentials| match credentials {
            Credentials::Headers(headers) => headers[AUTHORIZATION].to_str().unwrap().to_owned(),
            _ => panic!("{credentials:?}"),
        };
        let basic = Credentials::basic("Aladdin", "open sesame").unwrap();
        assert_eq!(value(&basic), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let bearer = Credentials::bearer("hunter2").unwrap();
        assert_eq!(value(&bearer), "Bearer hunter2");
        let key = Credentials::headers(&[("x-api-key".to_owned(), "hunter2".to_owned())]).unwrap();
        assert!(!format!("{basic:?}{bearer:?}{key:?}").contains("hunter2"));
        assert!(!format!("{basic:?}").contains("QWxh"));
        assert_eq!(Credentials::basic("a:b", "c").unwrap_err(), BadCredential::Basic);
        assert_eq!(Credentials::basic("a", "c\n").unwrap_err(), BadCredential::Basic);
        for token in ["", "a b", "a\nb", "é"] {
            assert_eq!(Credentials::bearer(token).unwrap_err(), BadCredential::Token);
        }
    }
}
