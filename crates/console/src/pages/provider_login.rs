//! Logging in at a provider of OpenID Connect: the browser leaves for it, and comes back with a code.
//!
//! What ties the two together is in a cookie of a few minutes. The provider sends the browser from another site, so that this
//! cookie is `Lax`; that of the session is `Strict`, and not sent before a page of this site has led further.

use access::{Holder, LONGEST};
use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{HOST, SET_COOKIE};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Uri};

use super::session::{self, cookie, field, is_loopback, next_path};
use super::shell::{Shell, page};
use super::{Pages, Problem, advice};
use crate::oidc::{Kept, OidcError};
use crate::refusal::Refusal;

/// Where the provider sends the browser.
pub(super) const CALLBACK: &str = "/login/oidc/callback";

const COOKIE_NAME: &str = "malote_oidc";

/// How long somebody may take at the provider, in seconds.
const PATIENCE_S: u32 = 600;

#[derive(Template)]
#[template(path = "welcome.html")]
struct Welcome {
    shell: Shell,
    name: String,
    next: String,
}

/// This console as a browser reaches it.
fn redirect(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8081");
    format!("{}://{host}{CALLBACK}", if is_loopback(host) { "http" } else { "https" })
}

fn with_kept(mut response: Response, headers: &HeaderMap, value: &str, seconds: u32) -> Response {
    let secure = session::secure(headers);
    let cookie =
        format!("{COOKIE_NAME}={value}; Path=/login; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// Sends the browser to the provider.
pub(super) async fn leave(
    State(pages): State<Pages>,
    headers: HeaderMap,
    uri: Uri,
    extensions: Extensions,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(provider) = pages.state.oidc.clone() else {
        return pages.problem(&headers, &uri, None, Refusal::NoSuchPath.into_response()).await;
    };
    let pairs = super::given(query);
    let next = next_path(field(&pairs, "next"));
    if !pages.turnstile.is_open(session::client(&extensions)) {
        let status = StatusCode::TOO_MANY_REQUESTS;
        return session::log_in_page(&pages, &headers, &uri, &next, status, Some(session::TOO_MANY));
    }
    match provider.leave(&redirect(&headers), next).await {
        Ok((url, kept)) => {
            let kept = serde_urlencoded::to_string(kept).unwrap_or_default();
            with_kept(Redirect::to(&url).into_response(), &headers, &kept, PATIENCE_S)
        }
        Err(error) => refused(&pages, &headers, &uri, &error),
    }
}

/// Logs in who comes back from the provider.
pub(super) async fn come_back(
    State(pages): State<Pages>,
    headers: HeaderMap,
    uri: Uri,
    extensions: Extensions,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(provider) = pages.state.oidc.clone() else {
        return pages.problem(&headers, &uri, None, Refusal::NoSuchPath.into_response()).await;
    };
    let client = session::client(&extensions);
    let pairs = super::given(query);
    let field = |name: &str| pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let kept = cookie(&headers, COOKIE_NAME).and_then(|text| serde_urlencoded::from_str::<Kept>(text).ok());
    let kept = kept.filter(|kept| field("state").is_some_and(|state| state == kept.state));
    let found = match (kept, field("code")) {
        _ if !pages.turnstile.is_open(client) => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            return session::log_in_page(&pages, &headers, &uri, "/", status, Some(session::TOO_MANY));
        }
        (Some(kept), Some(code)) => {
            provider.come_back(&redirect(&headers), &kept, code).await.map(|identity| (identity, kept.next))
        }
        (Some(_), None) => {
            Err(OidcError::Token(field("error").unwrap_or_else(|| "there is none".to_owned())))
        }
        (None, _) => Err(OidcError::Token("this browser has not asked for it".to_owned())),
    };
    let (identity, next) = match found {
        Ok(found) => found,
        Err(error) => {
            let response = refused(&pages, &headers, &uri, &error);
            session::failed(&pages, client, ("GET", CALLBACK), response.status()).await;
            return response;
        }
    };
    let somebody = (identity.clone(), Holder::User(identity.clone()));
    match session::begin(&pages, somebody, client).await {
        Ok(cookie) => {
            let shell = pages.shell(&headers, &uri, None, "Welcome");
            let response =
                page(StatusCode::OK, &Welcome { name: identity.name, next: next_path(Some(&next)), shell });
            let response = session::with_cookie(response, &headers, &cookie.text, LONGEST.as_secs());
            with_kept(response, &headers, "", 0)
        }
        Err(error) => pages.problem(&headers, &uri, None, Refusal::Store(error).into_response()).await,
    }
}

/// The page for who is not logged in.
fn refused(pages: &Pages, headers: &HeaderMap, uri: &Uri, error: &OidcError) -> Response {
    let status = match error {
        OidcError::Provider { .. } => StatusCode::BAD_GATEWAY,
        OidcError::Token(_) => StatusCode::UNAUTHORIZED,
        OidcError::NoRole { .. } => StatusCode::FORBIDDEN,
    };
    tracing::warn!("a log-in at the provider has failed: {error}");
    let shell = pages.shell(headers, uri, None, "Log in");
    page(status, &Problem { detail: error.to_string(), advice: advice(status), shell })
}
