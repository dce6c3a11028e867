//! A recorded body: raw, or as a member of a JSON object.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A body as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// As the sender declared it.
    pub content_type: String,
    /// Byte for byte.
    pub bytes: Vec<u8>,
}

/// A body within JSON: exactly one of the first two members is there, unless it is masked as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Text)]
pub struct BodyInJson {
    /// The body, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64 (RFC 4648, section 4), if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Whether personal data in it is masked; then `reveal=true` asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
}

impl BodyInJson {
    /// The bytes; `None` unless it is exactly one of text and base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.body, &self.body_base64) {
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, Some(encoded)) => BASE64_STANDARD.decode(encoded).ok(),
            _ => None,
        }
    }
}

impl From<Vec<u8>> for BodyInJson {
    fn from(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self { body: Some(text), body_base64: None, masked: false },
            Err(error) => {
                let encoded = BASE64_STANDARD.encode(error.into_bytes());
                Self { body: None, body_base64: Some(encoded), masked: false }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_text_where_it_can_be() {
        let check = |bytes: &[u8], expect| {
            let body = BodyInJson::from(bytes.to_vec());
            assert_eq!(serde_json::to_string(&body).unwrap(), expect);
            assert_eq!(body.bytes().as_deref(), Some(bytes));
        };
        check("{\"ação\":1}".as_bytes(), r#"{"body":"{\"ação\":1}"}"#);
        check(&[0xff, 0], r#"{"body_base64":"/wA="}"#);
        check(b"", r#"{"body":""}"#);
    }
}
