//! Access tokens by client credentials (RFC 6749, section 4.4), or for a client's id and secret in a JSON object.
//!
//! A token is kept until shortly before its end. One request at a time asks for a new one; all that wait meanwhile get the
//! same token, or the same error.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::address::Address;
use crate::client::{Answer, Client, Request};
use crate::error::{Step, TokenError};
use crate::retry_after;

/// The longest answer of a token endpoint, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// How long a token is kept whose endpoint does not say.
const UNSAID: Duration = Duration::from_secs(5 * 60);

/// The longest time that a token is kept.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long before its end a token is replaced: time for a request in progress, and for clocks that differ.
const MARGIN: Duration = Duration::from_secs(30);

/// The error codes of an endpoint (RFC 6749, section 5.2). Others are not repeated.
const CODES: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// How a client gets its tokens.
#[derive(Clone)]
pub struct OAuth2Settings {
    /// The token endpoint.
    pub token_url: Address,
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// What for, where the endpoint needs it.
    pub scope: Option<String>,
    /// How the client shows its secret.
    pub authentication: ClientAuthentication,
}

/// How a client shows its secret to the token endpoint (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// In the header `authorization`.
    #[default]
    ClientSecretBasic,
    /// In the body, for endpoints that do not support the header.
    ClientSecretPost,
}

/// How a client gets its tokens where the endpoint takes `{"clientId", "clientSecret"}` as JSON, and answers with
/// `{"accessToken", "expiresIn"}`.
#[derive(Clone)]
pub struct JsonTokenSettings {
    /// The token endpoint.
    pub token_url: Address,
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
}

/// The tokens of one client at one endpoint. Clones share them.
#[derive(Clone)]
pub struct OAuth2(Arc<Tokens>);

struct Tokens {
    client: Client,
    url: Address,
    headers: HeaderMap,
    body: Bytes,
    kept: Mutex<Kept>,
    /// Held by the request that asks.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    token: Option<Token>,
    /// The last error and when it came: the answer for those that waited for it.
    failed: Option<(Instant, Arc<TokenError>)>,
}

/// An access token.
#[derive(Clone)]
pub(crate) struct Token {
    /// The value of the header `authorization`.
    pub(crate) header: HeaderValue,
    got: Instant,
    end: Instant,
}

impl OAuth2 {
    pub(crate) fn new(settings: OAuth2Settings, client: Client) -> Self {
        let OAuth2Settings { token_url, client_id, client_secret, scope, authentication } = settings;
        let mut headers = headers("application/x-www-form-urlencoded");
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = scope.filter(|scope| !scope.is_empty()) {
            form.append_pair("scope", &scope);
        }
        match authentication {
            ClientAuthentication::ClientSecretBasic => {
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(&client_id), encoded(&client_secret));
                let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)));
                let mut value = value.expect("base64 is a header's value");
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            ClientAuthentication::ClientSecretPost => {
                form.append_pair("client_id", &client_id).append_pair("client_secret", &client_secret);
            }
        }
        Self::with(client, token_url, headers, form.finish().into())
    }

    pub(crate) fn json(settings: JsonTokenSettings, client: Client) -> Self {
        let JsonTokenSettings { token_url, client_id, client_secret } = settings;
        let body = serde_json::json!({ "clientId": client_id, "clientSecret": client_secret });
        Self::with(client, token_url, headers("application/json"), body.to_string().into())
    }

    fn with(client: Client, url: Address, headers: HeaderMap, body: Bytes) -> Self {
        let (kept, asking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Tokens { client, url, headers, body, kept, asking }))
    }

    /// A token that is valid for a while: the one that is kept, or a new one.
    pub(crate) async fn token(&self) -> Result<Token, Arc<TokenError>> {
        let began = Instant::now();
        if let Some(token) = self.kept().valid(began) {
            return Ok(token);
        }
        let _asking = self.0.asking.lock().await;
        {
            let kept = self.kept();
            if let Some(token) = kept.valid(Instant::now()) {
                return Ok(token);
            }
            if let Some((at, error)) = &kept.failed
                && *at >= began
            {
                return Err(Arc::clone(error));
            }
        }
        let asked = Box::pin(self.ask()).await;
        let mut kept = self.kept();
        match asked {
            Ok(token) => {
                *kept = Kept { token: Some(token.clone()), failed: None };
                Ok(token)
            }
            Err(error) => {
                let error = Arc::new(error);
                kept.failed = Some((Instant::now(), Arc::clone(&error)));
                Err(error)
            }
        }
    }

    /// Has the next request ask for a new token, unless somebody has done so meanwhile.
    pub(crate) fn reject(&self, token: &Token) {
        let mut kept = self.kept();
        if kept.token.as_ref().is_some_and(|current| current.got == token.got) {
            kept.token = None;
        }
    }

    async fn ask(&self) -> Result<Token, TokenError> {
        let Tokens { client, url, headers, body, .. } = &*self.0;
        let request = Request {
            method: Method::POST,
            url: url.clone(),
            headers: headers.clone(),
            body: body.clone(),
            // The request that waits for the token has a time-out.
            timeout: Duration::MAX,
            max_answer: LONGEST_ANSWER,
        };
        let answer = client.exchange(request, &mut Step::Token).await.map_err(TokenError::Send)?;
        let host = || url.host().to_owned();
        if !answer.status.is_success() {
            let is_asked = matches!(answer.status.as_u16(), 429 | 503);
            let retry_after = if is_asked { retry_after(&answer.headers, event::now()) } else { None };
            let code = code(&answer.body);
            return Err(TokenError::Denied { host: host(), status: answer.status, code, retry_after });
        }
        read(&answer).map_err(|reason| TokenError::Malformed { host: host(), reason })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The headers of a request with a body of this type.
fn headers(content_type: &'static str) -> HeaderMap {
    let headers = [(CONTENT_TYPE, content_type), (ACCEPT, "application/json")]
        .map(|(name, value)| (name, HeaderValue::from_static(value)));
    HeaderMap::from_iter(headers)
}

impl Kept {
    fn valid(&self, now: Instant) -> Option<Token> {
        self.token.clone().filter(|token| token.end > now)
    }
}

impl Token {
    /// Whether it was got since then.
    pub(crate) fn is_newer_than(&self, time: Instant) -> bool {
        self.got >= time
    }
}

/// A successful answer (RFC 6749, section 5.1). Endpoints that take JSON name the fields in their own way.
#[derive(Deserialize)]
struct Granted {
    #[serde(alias = "accessToken")]
    access_token: Option<String>,
    #[serde(alias = "tokenType")]
    token_type: Option<String>,
    /// In seconds; some endpoints write the number as a text.
    #[serde(alias = "expiresIn")]
    expires_in: Option<Value>,
}

fn read(answer: &Answer) -> Result<Token, &'static str> {
    if answer.is_cut {
        return Err("it is too long");
    }
    let granted: Granted =
        serde_json::from_slice(&answer.body).map_err(|_| "it is not the JSON of a token")?;
    if granted.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("its token_type is not Bearer");
    }
    let token = granted.access_token.filter(|token| !token.is_empty()).ok_or("it has no access_token")?;
    let is_sendable = token.bytes().all(|byte| byte.is_ascii_graphic());
    let header = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_sendable);
    let mut header = header.ok_or("its access_token has characters that a header cannot have")?;
    header.set_sensitive(true);
    let seconds = match &granted.expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let whole = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(UNSAID);
    let whole = whole.min(LONGEST);
    let got = Instant::now();
    // A short one is used for nine tenths of its time.
    Ok(Token { header, got, end: got + whole - MARGIN.min(whole / 10) })
}

fn code(body: &[u8]) -> Option<&'static str> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let code = body.get("error")?.as_str()?;
    CODES.into_iter().find(|known| *known == code)
}

impl fmt::Debug for OAuth2Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2Settings")
            .field("token_url", &self.token_url)
            .field("client_id", &self.client_id)
            .field("scope", &self.scope)
            .field("authentication", &self.authentication)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JsonTokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonTokenSettings").field("token_url", &self.token_url).finish_non_exhaustive()
    }
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2").field("token_url", &self.0.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn answer(body: &str) -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
            is_cut: false,
        }
    }

    #[test]
    fn a_token_is_kept_until_shortly_before_its_end() {
        let check = |body: &str, expect: Duration| {
            let token = read(&answer(body)).unwrap();
            assert_eq!(token.end - token.got, expect, "{body}");
            assert_eq!(token.header, "Bearer abc", "{body}");
        };
        let seconds = Duration::from_secs;
        check(r#"{"access_token":"abc","token_type":"Bearer","expires_in":3600}"#, seconds(3570));
        check(r#"{"access_token":"abc","token_type":"bearer","expires_in":"3600"}"#, seconds(3570));
        check(r#"{"access_token":"abc","expires_in":10}"#, seconds(9));
        check(r#"{"accessToken":"abc","expiresIn":3600}"#, seconds(3570));
        check(r#"{"access_token":"abc","expires_in":0}"#, Duration::ZERO);
        check(r#"{"access_token":"abc"}"#, seconds(270));
        check(r#"{"access_token":"abc","expires_in":-1}"#, seconds(270));
        check(r#"{"access_token":"abc","expires_in":1e300}"#, seconds(270));
        check(r#"{"access_token":"abc","expires_in":1e12}"#, LONGEST - MARGIN);
    }

    #[test]
    fn an_answer_without_a_usable_token_says_why_and_is_not_quoted() {
        let check = |body: &str, expect: &str| {
            let reason = read(&answer(body)).err().unwrap();
            assert!(reason.contains(expect), "{body}: {reason}");
        };
        check("<html>hunter2", "not the JSON");
        check("[]", "not the JSON");
        check("{}", "no access_token");
        check(r#"{"access_token":""}"#, "no access_token");
        check(r#"{"access_token":"a","token_type":"mac"}"#, "not Bearer");
        check(r#"{"access_token":"a\nb"}"#, "characters");
        check(r#"{"access_token":"a b"}"#, "characters");
        assert_eq!(
            code(br#"{"error":"invalid_client","error_description":"hunter2"}"#),
            Some("invalid_client")
        );
        assert_eq!(code(br#"{"error":"hunter2"}"#), None);
    }
}
