//! Problem details for HTTP answers (RFC 9457): one shape for every error that a client sees.
//!
//! A problem whose status says everything has the type `about:blank` and, as section 4.2.1 asks, the status phrase
//! as title. A problem that a client may want to tell from others of its status has the type `/problems/<slug>`, a
//! relative URI reference that stays the same across installations, and a title of its own.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value};

/// An error answer being built. Its texts reach the client: no secret and no personal data belongs in them.
///
/// ```
/// use http::StatusCode;
/// use server::Problem;
///
/// let response = Problem::new(StatusCode::SERVICE_UNAVAILABLE)
///     .with_type("spool-full", "The spool is full")
///     .detail("The broker is unreachable and the spool is full.")
///     .retry_after(30)
///     .into_response();
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.headers()["retry-after"], "30");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Problem {
    status: StatusCode,
    r#type: Cow<'static, str>,
    title: Cow<'static, str>,
    detail: Option<Cow<'static, str>>,
    members: Map<String, Value>,
    headers: HeaderMap,
}

impl Problem {
    /// A problem of type `about:blank`.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            r#type: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            detail: None,
            members: Map::new(),
            headers: HeaderMap::new(),
        }
    }

    /// Gives it the type `/problems/<slug>` and that type's title, which is the same for every occurrence.
    pub fn with_type(mut self, slug: &str, title: impl Into<Cow<'static, str>>) -> Self {
        self.r#type = format!("/problems/{slug}").into();
        self.title = title.into();
        self
    }

    /// What is wrong with this request, and what the client can do about it.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// An extension member. The names of the standard members are reserved, and keep the standard value.
    pub fn member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.members.insert(name.into(), value.into());
        self
    }

    /// `Retry-After`, in seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// `Allow`, with a 405: the methods that the resource has.
    pub fn allow(self, methods: &'static str) -> Self {
        self.header(ALLOW, HeaderValue::from_static(methods))
    }

    /// `WWW-Authenticate`, with a 401: a challenge such as `Bearer`.
    pub fn authenticate(self, challenge: &'static str) -> Self {
        self.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// The status it answers with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer, as `application/problem+json`.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut members = self.members;
        members.insert("type".to_owned(), self.r#type.into());
        members.insert("title".to_owned(), self.title.into());
        members.insert("status".to_owned(), self.status.as_u16().into());
        if let Some(detail) = self.detail {
            members.insert("detail".to_owned(), detail.into());
        }
        let mut response = Response::new(Full::from(Value::Object(members).to_string()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    async fn members(response: Response<Full<Bytes>>) -> Value {
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_plain_problem_is_about_blank_with_the_status_phrase() {
        let response = Problem::new(StatusCode::NOT_FOUND).into_response();
        assert_eq!(
            members(response).await,
            json!({"type": "about:blank", "title": "Not Found", "status": 404})
        );
    }

    #[tokio::test]
    async fn a_typed_problem_carries_its_members_and_headers() {
        let problem = Problem::new(StatusCode::UNAUTHORIZED)
            .with_type("credentials", "Credentials are missing or wrong")
            .detail("No credential fits.")
            .member("source", "me-filial-sul")
            .member("status", "cannot be overwritten")
            .retry_after(5)
            .allow("POST")
            .authenticate("Bearer");
        let response = problem.into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "5");
        assert_eq!(response.headers()[ALLOW], "POST");
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(
            members(response).await,
            json!({
                "type": "/problems/credentials",
                "title": "Credentials are missing or wrong",
                "status": 401,
                "detail": "No credential fits.",
                "source": "me-filial-sul",
            })
        );
    }
}
