//! The client of the administration API.

use anyhow::{Context, Result, anyhow, bail};
use providers::auth::Secret;
use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::args::ApiArgs;
use crate::config::Config;
use crate::data_dir;

/// The most rows that the API gives at once.
const PAGE_LIMIT: u32 = 1_000;

/// Asks the API of one installation.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: Secret,
}

impl Api {
    /// The API that the arguments name, else the configured one.
    pub fn new(args: &ApiArgs, config: &Config) -> Result<Self> {
        let scheme = if config.console.tls.is_some() { "https" } else { "http" };
        let base = args.api.clone().unwrap_or_else(|| format!("{scheme}://{}", config.console.listen));
        let token = match (&args.token, &config.console_token) {
            (Some(token), _) => Secret::from(token.as_str()),
            (None, Some(token)) => token.clone(),
            (None, None) => data_dir::existing_token(&config.data.dir).with_context(|| {
                format!("no token for {base}: give --token, or start `malote up`, which makes one")
            })?,
        };
        Self::at(&base, token)
    }

    /// The API at an address.
    pub fn at(base: &str, token: Secret) -> Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("malote/", env!("CARGO_PKG_VERSION")))
            .timeout(std::time::Duration::from_secs(30))
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), token })
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One resource under `/api/v1`.
    pub async fn get(&self, path: &str, query: &[(String, String)]) -> Result<Value> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.base), query)
            .map_err(|error| anyhow!("{} is not a URL: {error}", self.base))?;
        let sent = self.client.get(url).bearer_auth(self.token.expose()).send().await;
        let response = sent.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .with_context(|| format!("{} does not answer as malote does", self.base));
        }
        bail!(self.refused(status, &body))
    }

    /// The rows of a list, page by page, at most `limit`.
    pub async fn list(&self, path: &str, filters: &[(String, String)], limit: u32) -> Result<Vec<Value>> {
        let (mut rows, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let left = limit - u32::try_from(rows.len()).unwrap_or(limit);
            let mut query = filters.to_vec();
            query.push(("limit".to_owned(), left.min(PAGE_LIMIT).to_string()));
            query.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
            let mut page = self.get(path, &query).await?;
            let Value::Array(items) = page["items"].take() else {
                bail!("{} does not answer as malote does", self.base)
            };
            rows.extend(items);
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() || rows.len() >= limit as usize {
                rows.truncate(limit as usize);
                return Ok(rows);
            }
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            anyhow!("cannot reach {}: is `malote up` or `malote console` running?", self.base)
        } else if error.is_timeout() {
            anyhow!("{} does not answer in time", self.base)
        } else {
            anyhow!("{} broke off: {}", self.base, crate::report::chain(error))
        }
    }

    /// The problem's title and detail (RFC 9457).
    fn refused(&self, status: StatusCode, body: &[u8]) -> String {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| problem[name].as_str().map(str::to_owned);
        let title = text("title").unwrap_or_else(|| status.to_string());
        let hint = match status {
            StatusCode::UNAUTHORIZED => format!(
                "the token is not the one of {}; give --token, or --config of that installation",
                self.base
            ),
            _ => String::new(),
        };
        [Some(title), text("detail"), Some(hint)]
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(": ")
    }
}
