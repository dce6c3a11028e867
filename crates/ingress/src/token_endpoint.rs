//! `POST /oauth/token`: access tokens for senders that fetch one before they post (RFC 6749, section 4.4).
//!
//! Credentials are taken in every customary form: HTTP Basic, fields of a form, or JSON. Promises that an answer does not
//! tell an unknown client from a wrong secret, neither by its text nor by its time, and that each client address can only
//! fail so often before it has to wait, whatever it sends then.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use metrics::counter;
use providers::auth::{AccessToken, ClientCredentials};
use server::Peer;
use server::body::{Reader, RequestBody};
use tracing::info;

use crate::receive::{FIRST_BYTES, Inner};
use crate::token::{LIMIT_BYTES, Problem, granted};

impl Inner {
    /// Whether any source has a client that fetches tokens.
    pub(crate) fn issues_tokens(&self) -> bool {
        self.routes.values().any(|route| route.auth().oauth2().is_some())
    }

    pub(crate) async fn token(
        &self,
        client: IpAddr,
        request: Request<impl RequestBody>,
    ) -> Response<Full<Bytes>> {
        if let Err(problem) = self.tokens.admit(client) {
            counter!("ingress_tokens_total", "outcome" => "denied").increment(1);
            return self.tokens.deny(client, problem);
        }
        let issued = self.issue(client, request).await;
        let label = if issued.is_ok() { "issued" } else { "denied" };
        counter!("ingress_tokens_total", "outcome" => label).increment(1);
        match issued {
            Ok(token) => granted(&token),
            Err(problem) => self.tokens.deny(client, self.tokens.count(client).err().unwrap_or(problem)),
        }
    }

    async fn issue(
        &self,
        client: IpAddr,
        request: Request<impl RequestBody>,
    ) -> Result<AccessToken, Problem> {
        if request.method() != Method::POST {
            return Err(Problem::Method);
        }
        let (parts, body) = request.into_parts();
        let pace = self.config.limits.pace();
        let mut reader = Reader::new(body, LIMIT_BYTES, pace).map_err(|_| Problem::Request)?;
        if !reader.is_whole() {
            reader.more_within(FIRST_BYTES).await.map_err(|_| Problem::Request)?;
        }
        if !reader.is_whole() {
            self.read_unauthenticated(&mut reader, &parts, client).await.map_err(|_| Problem::Request)?;
        }
        let asked = ClientCredentials::read(&parts.headers, &reader.into_bytes()).ok_or(Problem::Request)?;
        if asked.grant_type.as_deref().is_some_and(|grant| grant != "client_credentials") {
            return Err(Problem::Grant);
        }
        let now = event::now();
        // Every source is asked, so that the time does not tell which one knows the client.
        let mut found = None;
        for route in self.routes.values() {
            let auth = route.auth();
            let Some(oauth2) = auth.oauth2() else { continue };
            for (id, secret) in &asked.pairs {
                if let Some(token) = oauth2.grant(id, secret, now) {
                    found = Some((token, &route.name));
                }
            }
        }
        let (token, source) = found.ok_or(Problem::Client)?;
        parts.extensions.get::<Peer>().expect("the server sets the peer").authenticated();
        info!(%source, %client, expires_in_s = token.expires_in_s, "issued an access token");
        Ok(token)
    }
}
