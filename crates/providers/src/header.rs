//! HTTP headers: their names as configuration gives them, and which hold credentials.

use std::fmt;

use http::header::AsHeaderName;
use serde::{Deserialize, Serialize};

/// Headers that may hold a credential, which no configuration can keep.
pub(crate) const CREDENTIAL_HEADERS: [&str; 4] =
    ["authorization", "proxy-authorization", "cookie", "webhook-signature"];

/// A header name, in any case; compared and shown in lower case (RFC 9110, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(http::HeaderName);

/// The text is no header name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a header name (letters, digits and '-'), got {0:?}")]
pub struct NotAHeaderName(String);

impl TryFrom<String> for HeaderName {
    type Error = NotAHeaderName;

    fn try_from(text: String) -> Result<Self, NotAHeaderName> {
        http::HeaderName::from_bytes(text.as_bytes()).map(Self).map_err(|_| NotAHeaderName(text))
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> Self {
        name.0.as_str().to_owned()
    }
}

impl HeaderName {
    /// The name's text, in lower case.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The header's only value; `None` if it is missing, there twice or not text.
    pub(crate) fn only<'a>(&self, headers: &'a http::HeaderMap) -> Option<&'a str> {
        only(headers, &self.0)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A header's only value; `None` if it is missing, there twice or not text.
pub(crate) fn only(headers: &http::HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    match values.next() {
        None => std::str::from_utf8(value.as_bytes()).ok(),
        Some(_) => None,
    }
}
