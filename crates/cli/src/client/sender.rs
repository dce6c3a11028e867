//! Posts as the providers do: with the credentials of a source, over HTTP.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use providers::auth::Auth;
use reqwest::{Client, StatusCode, Url};

/// Posts to one ingress. Cloning shares its connections.
#[derive(Clone)]
pub struct Sender {
    client: Client,
    base: Url,
}

/// What the ingress answered.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, as far as it is text.
    pub body: String,
    /// From the first byte sent to the last byte received.
    pub took: Duration,
}

impl Sender {
    /// A sender to the ingress at this address.
    pub fn new(base: &str) -> Result<Self> {
        let base = base.trim_end_matches('/').parse().with_context(|| format!("{base} is not a URL"))?;
        let client = Client::builder()
            .user_agent(concat!("malote-simulate/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_secs(15))
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { client, base })
    }

    /// Posts a body to a source.
    pub async fn post(&self, source: &str, auth: &Auth, body: String) -> reqwest::Result<Answer> {
        let signed = auth.sign(body.as_bytes(), event::now());
        let mut url = self.base.clone();
        url.set_path(&format!("/webhooks/{source}"));
        if !signed.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&signed.query);
        }
        let mut request = self.client.post(url).header("content-type", "application/json");
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        let started = Instant::now();
        let response = request.body(body).send().await?;
        let status = response.status();
        let body = response.text().await?;
        Ok(Answer { status, body, took: started.elapsed() })
    }
}
