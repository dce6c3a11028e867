//! What a provider posts.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// A request as far as a provider's contract is about it. Authentication comes before, see [`crate::auth`].
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's body, whole.
    pub body: &'a Bytes,
}

impl<'a> Inbound<'a> {
    /// The declared `Content-Type`.
    pub(crate) fn content_type(&self) -> Option<&'a str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }
}
