//! The client of the administration API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use providers::auth::Secret;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use server::Readiness;
use view::{List, View};

use crate::args::ApiArgs;
use crate::config::Config;
use crate::data_dir;

/// The most rows that the API gives at once.
const PAGE_LIMIT: u32 = 1_000;

/// After which pauses a GET is sent again whose connection breaks off: a port that is full closes those of clients that it
/// does not know, and a console that restarts all of them.
const RETRY_PAUSES_MS: [u64; 4] = [100, 200, 400, 800];

type Answered = (StatusCode, HeaderMap, Bytes);

/// Problem details (RFC 9457), as far as a person reads them.
#[derive(Default, Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// An answer without the resource.
struct Refusal {
    status: StatusCode,
    /// The problem's title and detail.
    text: String,
}

/// Asks the API of one installation.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: Secret,
    /// Where no token was found.
    looked_at: Option<PathBuf>,
    /// Where the ingress is: its address is easily mistaken for that of the API.
    ingress: Option<SocketAddr>,
}

impl Api {
    /// The API that the arguments name, else the configured one.
    pub fn new(args: &ApiArgs, config: &Config) -> Result<Self> {
        let scheme = if config.console.tls.is_some() { "https" } else { "http" };
        // An empty variable is as good as none.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let base = match given(&args.api) {
            Some(api) if api.contains("://") => api,
            Some(api) => format!("{scheme}://{api}"),
            None => format!("{scheme}://{}", reachable(config.console.listen)),
        };
        let token = match (given(&args.token), config.console.token()) {
            (Some(token), _) => Secret::from(token.as_str()),
            (None, Some(token)) => token.clone(),
            (None, None) => data_dir::existing_token(&config.data.dir)?,
        };
        let mut api = Self::at(&base, token)?;
        if api.token.expose().is_empty() {
            api.looked_at = Some(config.data.dir.join("token"));
        }
        api.ingress = Some(reachable(config.ingress.listen));
        Ok(api)
    }

    /// The API at an address.
    pub fn at(base: &str, token: Secret) -> Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("malote/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_secs(30))
            .build()
            .context("cannot make an HTTP client")?;
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { client, base, token, looked_at: None, ingress: None })
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One resource under `/api/v1`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(String, String)]) -> Result<T> {
        let answered = self.ask(path, query).await?.map_err(|refusal| anyhow!(refusal.text))?;
        self.read(path, &answered)
    }

    /// One resource that need not be there.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        self.find_with(path, &[]).await
    }

    /// The same, with a query.
    pub async fn find_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(String, String)],
    ) -> Result<Option<T>> {
        match self.ask(path, query).await? {
            Ok(found) => self.read(path, &found).map(Some),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND && !self.is_ingress() => Ok(None),
            Err(refusal) => bail!(refusal.text),
        }
    }

    /// A resource that is no JSON and need not be there.
    pub async fn bytes(&self, path: &str, query: &[(String, String)]) -> Result<Option<Bytes>> {
        match self.ask(path, query).await? {
            Ok(found) => Ok(Some(found)),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND && !self.is_ingress() => Ok(None),
            Err(refusal) => bail!(refusal.text),
        }
    }

    /// Asks for something to be done.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let request = self.client.post(self.url(path, &[])?).json(body);
        let answered = self.send(request).await?.map_err(|refusal| anyhow!(refusal.text))?;
        self.read(path, &answered)
    }

    /// Puts something in the place of a resource.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let request = self.client.put(self.url(path, &[])?).json(body);
        let answered = self.send(request).await?.map_err(|refusal| anyhow!(refusal.text))?;
        self.read(path, &answered)
    }

    /// Removes a resource.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str, query: &[(String, String)]) -> Result<T> {
        let answered = self.send(self.client.delete(self.url(path, query)?)).await?;
        self.read(path, &answered.map_err(|refusal| anyhow!(refusal.text))?)
    }

    /// What the API answered at a path. What a later release adds to it is ignored.
    pub fn read<T: DeserializeOwned>(&self, path: &str, answered: &[u8]) -> Result<T> {
        serde_json::from_slice(answered).with_context(|| self.not_malote(path))
    }

    /// The error for an answer of another form.
    pub fn not_malote(&self, path: &str) -> String {
        format!("{}/api/v1/{path} does not answer as malote does", self.base)
    }

    /// The text of another resource of the same installation, such as an ingress's `/metrics`.
    pub async fn text(&self, url: &str) -> Result<String> {
        let sent = self.client.get(url).timeout(Duration::from_secs(3)).send().await;
        let answered = sent.and_then(reqwest::Response::error_for_status);
        let text = async { answered?.text().await };
        text.await.map_err(|error| anyhow!(crate::report::chain(&error.without_url())))
    }

    /// What a process says of its readiness, whatever the status; `None` where none answers.
    pub async fn readiness(&self, base: &str) -> Option<Readiness> {
        let asked = self.client.get(format!("{base}/readyz")).timeout(Duration::from_secs(3)).send();
        serde_json::from_slice(&asked.await.ok()?.bytes().await.ok()?).ok()
    }

    fn url(&self, path: &str, query: &[(String, String)]) -> Result<reqwest::Url> {
        reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.base), query)
            .map_err(|error| anyhow!("{} is not a URL: {error}", self.base))
    }

    async fn ask(&self, path: &str, query: &[(String, String)]) -> Result<Result<Bytes, Refusal>> {
        self.send(self.client.get(self.url(path, query)?)).await
    }

    /// A part of the feed: its lines, the position to continue after, and whether that is the end for now.
    pub async fn feed(&self, query: &[(String, String)]) -> Result<(String, String, bool)> {
        let request = self.client.get(self.url("feed", query)?);
        let (headers, body) = self.answer(request).await?.map_err(|refusal| anyhow!(refusal.text))?;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let position = header("malote-position").with_context(|| self.not_malote("feed"))?.to_owned();
        let is_end = header("malote-end") == Some("true");
        Ok((String::from_utf8(body.into()).with_context(|| self.not_malote("feed"))?, position, is_end))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Result<Bytes, Refusal>> {
        Ok(self.answer(request).await?.map(|(_, body)| body))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Result<(HeaderMap, Bytes), Refusal>> {
        let request = request.bearer_auth(self.token.expose()).build();
        let request = request.map_err(|error| self.unreachable(&error))?;
        for pause in RETRY_PAUSES_MS.map(Duration::from_millis) {
            // Nothing else can be sent again without doing something twice.
            let Some(question) = request.try_clone().filter(|request| request.method() == Method::GET) else {
                break;
            };
            match self.exchange(question).await {
                Err(error) if is_broken_off(&error) => tokio::time::sleep(pause).await,
                answered => return self.answered(answered),
            }
        }
        self.answered(self.exchange(request).await)
    }

    fn answered(&self, answered: reqwest::Result<Answered>) -> Result<Result<(HeaderMap, Bytes), Refusal>> {
        let (status, headers, body) = answered.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok(Ok((headers, body)));
        }
        Ok(Err(Refusal { status, text: self.refused(status, &body) }))
    }

    async fn exchange(&self, request: reqwest::Request) -> reqwest::Result<Answered> {
        let response = self.client.execute(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok((status, headers, response.bytes().await?))
    }

    /// The rows of a list, page by page, at most `limit`.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        filters: &[(String, String)],
        limit: u32,
    ) -> Result<Vec<T>> {
        Ok(self.newest(path, filters, limit).await?.0)
    }

    /// The same, and whether there are more.
    pub async fn newest<T: DeserializeOwned>(
        &self,
        path: &str,
        filters: &[(String, String)],
        limit: u32,
    ) -> Result<(Vec<T>, bool)> {
        let (mut rows, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let left = limit - u32::try_from(rows.len()).unwrap_or(limit);
            let mut query = filters.to_vec();
            query.push(("limit".to_owned(), left.min(PAGE_LIMIT).to_string()));
            query.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
            let page: List<T> = self.get(path, &query).await?;
            rows.extend(page.items);
            cursor = page.next;
            if cursor.is_none() || rows.len() >= limit as usize {
                rows.truncate(limit as usize);
                return Ok((rows, cursor.is_some()));
            }
        }
    }

    /// At most so many rows of a list as the API answers with them, and whether there are more.
    pub async fn rows(
        &self,
        view: &View,
        filters: &[(String, String)],
        limit: u32,
    ) -> Result<(Vec<Box<RawValue>>, bool)> {
        if view.is_paged() {
            return self.newest(view.name, filters, limit).await;
        }
        let mut rows = self.get::<List<_>>(view.name, filters).await?.items;
        rows.truncate(limit as usize);
        Ok((rows, false))
    }

    fn is_ingress(&self) -> bool {
        let rest = self.base.split_once("://").map_or("", |(_, rest)| rest);
        let address = rest.replace("localhost", "127.0.0.1").parse::<SocketAddr>().ok();
        address.is_some() && address == self.ingress
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
        let Problem { title, detail } = serde_json::from_slice(body).unwrap_or_default();
        let title = title.unwrap_or_else(|| status.to_string());
        let detail = match status {
            StatusCode::UNAUTHORIZED => {
                let found = self.looked_at.as_ref().map_or_else(
                    || "and this one is not it".to_owned(),
                    |file| format!("and {} does not exist", file.display()),
                );
                Some(format!(
                    "{} wants its token, {found}; give --token, or --config of that installation",
                    self.base
                ))
            }
            StatusCode::NOT_FOUND if self.is_ingress() => {
                Some(format!("{} is the ingress; the API has the port of console.listen", self.base))
            }
            _ => detail,
        };
        detail.map_or_else(|| title.clone(), |detail| format!("{title}: {detail}"))
    }
}

/// The connection was made, and ended without a whole answer.
fn is_broken_off(error: &reqwest::Error) -> bool {
    !error.is_connect() && !error.is_timeout() && !error.is_builder()
}

/// The operations addresses of the processes that a command asks: the given ones, else the configured one.
pub fn addresses(config: &Config, processes: &[String]) -> Vec<String> {
    if !processes.is_empty() {
        return processes.iter().map(|base| base.trim_end_matches('/').to_owned()).collect();
    }
    let scheme = if config.operations.tls.is_some() { "https" } else { "http" };
    vec![format!("{scheme}://{}", reachable(config.operations.listen))]
}

/// 0.0.0.0 listens everywhere and can be reached nowhere.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    match (listen.ip().is_unspecified(), listen.is_ipv4()) {
        (true, true) => ([127, 0, 0, 1], listen.port()).into(),
        (true, false) => ([0, 0, 0, 0, 0, 0, 0, 1], listen.port()).into(),
        (false, _) => listen,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use ledger::DeadGroup;

    use super::*;

    /// An API that gives these answers, one to each connection, and hands back the requests' first lines. Without a status, the
    /// connection ends.
    async fn serve(answers: Vec<(&'static str, Value)>) -> (Api, tokio::task::JoinHandle<Vec<String>>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Api::at(&format!("http://{}", listener.local_addr().unwrap()), Secret::from("t")).unwrap();
        let served = tokio::spawn(async move {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..length]);
                asked.push(text.lines().next().unwrap().to_owned());
                if status.is_empty() {
                    continue;
                }
                let body = body.to_string();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (api, served)
    }

    #[tokio::test]
    async fn a_list_is_fetched_page_by_page_up_to_its_limit() {
        let pages = vec![
            ("200 OK", json!({"items": [9, 8], "next": "8"})),
            ("200 OK", json!({"items": [7, 6], "next": "6"})),
        ];
        let (api, served) = serve(pages).await;
        let rows: Vec<u8> = api.list("events", &[("state".to_owned(), "dead".to_owned())], 3).await.unwrap();
        assert_eq!(rows, [9, 8, 7]);
        assert_eq!(
            served.await.unwrap(),
            [
                "GET /api/v1/events?state=dead&limit=3 HTTP/1.1",
                "GET /api/v1/events?state=dead&limit=1&cursor=8 HTTP/1.1",
            ]
        );
    }

    #[tokio::test]
    async fn a_row_without_a_field_is_an_error_that_names_route_and_field_and_a_new_field_is_none() {
        let group = json!({"group": "0a", "consumer": "a", "error": "e", "count": 1, "new": true,
            "first_failed_at": "2026-11-22T16:01:34Z", "last_failed_at": "2026-11-22T16:01:34Z"});
        let mut older = group.clone();
        older.as_object_mut().unwrap().remove("count");
        let pages = [group, older].map(|group| ("200 OK", json!({"items": [group], "next": null})));
        let (api, served) = serve(pages.into()).await;
        let groups = api.list::<DeadGroup>("dead/groups", &[], 9).await.unwrap();
        assert_eq!((groups[0].group.as_str(), groups[0].count), ("0a", 1));
        let error = format!("{:#}", api.list::<DeadGroup>("dead/groups", &[], 9).await.unwrap_err());
        let route =
            format!("{}/api/v1/dead/groups does not answer as malote does: missing field `count`", api.base);
        assert!(error.starts_with(&route), "{error}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_question_whose_connection_breaks_off_is_asked_again_and_a_request_to_act_is_not() {
        const BROKEN_OFF: &str = "";
        let answers = vec![(BROKEN_OFF, json!(null)), (BROKEN_OFF, json!(null)), ("200 OK", json!(7))];
        let (api, served) = serve(answers).await;
        assert_eq!(api.get::<u8>("events", &[]).await.unwrap(), 7);
        assert_eq!(served.await.unwrap(), ["GET /api/v1/events? HTTP/1.1"; 3]);

        let (api, served) = serve(vec![(BROKEN_OFF, json!(null)); 2]).await;
        let error = api.post::<u8>("jobs", &json!({})).await.unwrap_err().to_string();
        assert!(error.contains(" broke off: "), "{error}");
        assert!(!served.is_finished(), "it was posted once");
        served.abort();

        let (api, served) = serve(vec![(BROKEN_OFF, json!(null)); RETRY_PAUSES_MS.len() + 1]).await;
        let error = api.get::<u8>("events", &[]).await.unwrap_err().to_string();
        assert!(error.contains(" broke off: "), "{error}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_problem_is_told_in_its_own_words_and_silence_with_what_to_do() {
        let problem = json!({"title": "Bad Request", "detail": "limit: expected a number"});
        let (api, served) = serve(vec![("400 Bad Request", problem)]).await;
        let error = api.get::<Value>("events", &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "Bad Request: limit: expected a number");
        served.await.unwrap();
        // The listener has gone with its task.
        let error = api.get::<Value>("events", &[]).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot reach http://127.0.0.1:"), "{error}");
        assert!(error.ends_with("is `malote up` or `malote console` running?"), "{error}");
    }
}
