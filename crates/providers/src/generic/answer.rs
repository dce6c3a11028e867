//! What a sender wants to be answered where an event is accepted.

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// The success answer that a sender insists on, instead of malote's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// A 2xx status.
    pub status: StatusCode,
    /// The body, possibly empty.
    pub body: Bytes,
    /// The body's `Content-Type`.
    pub content_type: String,
}

/// A configured success answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerConfig {
    /// A 2xx status.
    #[serde(default)]
    pub status: SuccessStatus,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// The body's `Content-Type`.
    #[serde(default = "text_plain")]
    pub content_type: String,
}

pub(super) fn text_plain() -> String {
    "text/plain; charset=utf-8".to_owned()
}

impl AnswerConfig {
    /// The answer itself.
    pub fn to_answer(&self) -> Answer {
        Answer {
            status: self.status.status(),
            body: Bytes::from(self.body.clone()),
            content_type: self.content_type.clone(),
        }
    }

    /// Every mistake that the form of a value does not show, as (path, message).
    pub fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        content_type_mistake(&self.content_type).into_iter().collect()
    }
}

pub(super) fn content_type_mistake(content_type: &str) -> Option<(&'static str, &'static str)> {
    let is_wrong = http::HeaderValue::from_str(content_type).is_err();
    is_wrong.then_some(("content_type", "expected a media type such as text/plain"))
}

/// A status that says success: 200 to 299.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct SuccessStatus(StatusCode);

/// The status is not 2xx.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a status from 200 to 299, got {0}")]
pub struct NotASuccess(u16);

impl SuccessStatus {
    pub(super) fn status(self) -> StatusCode {
        self.0
    }
}

impl Default for SuccessStatus {
    fn default() -> Self {
        Self(StatusCode::OK)
    }
}

impl TryFrom<u16> for SuccessStatus {
    type Error = NotASuccess;

    fn try_from(code: u16) -> Result<Self, NotASuccess> {
        let status = StatusCode::from_u16(code).ok().filter(StatusCode::is_success);
        status.map(Self).ok_or(NotASuccess(code))
    }
}

impl From<SuccessStatus> for u16 {
    fn from(status: SuccessStatus) -> Self {
        status.0.as_u16()
    }
}
