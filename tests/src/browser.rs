//! A page in Chromium, through the API of its driver: W3C WebDriver, and commands of the browser's own protocol for what that
//! lacks.

use anyhow::{Context, Result, ensure};
use harness::Chromedriver;
use serde_json::{Value, json};

/// A browser with one page.
pub struct Browser {
    client: reqwest::Client,
    /// The address of the session.
    session: String,
    _driver: Chromedriver,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// `light` or `dark`.
    pub scheme: &'static str,
    /// The width of the window, in CSS pixels.
    pub width: u32,
}

/// The height of the window, in CSS pixels.
const HEIGHT: u32 = 900;

impl Browser {
    /// Starts one whose pages have this script from the start.
    pub async fn start(script: &str) -> Result<Self> {
        let driver = Chromedriver::start()?;
        let client = reqwest::Client::new();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": driver.arguments()},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let sessions = format!("{}/session", driver.url());
        let opened = post(&client, &sessions, &wanted).await?;
        let id = opened["sessionId"].as_str().context("a session has an id")?;
        let browser = Self { client, session: format!("{sessions}/{id}"), _driver: driver };
        browser.protocol("Page.enable", json!({})).await?;
        browser.protocol("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await?;
        Ok(browser)
    }

    async fn command(&self, command: &str, body: Value) -> Result<Value> {
        post(&self.client, &format!("{}/{command}", self.session), &body).await
    }

    /// A command of the Chrome DevTools Protocol.
    pub async fn protocol(&self, command: &str, params: Value) -> Result<Value> {
        self.command("goog/cdp/execute", json!({"cmd": command, "params": params})).await
    }

    /// Goes to a page, and waits until it is loaded.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.command("url", json!({"url": url})).await.map(drop)
    }

    /// The value of a script's `return`, or of its promise.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.command("execute/sync", json!({"script": script, "args": []})).await
    }

    /// Looks at the page in this way from here on.
    pub async fn look(&self, Look { scheme, width }: Look) -> Result<()> {
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.protocol("Emulation.setEmulatedMedia", scheme).await?;
        let size = json!({"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": false});
        self.protocol("Emulation.setDeviceMetricsOverride", size).await.map(drop)
    }

    /// Asks for pages in this language from here on.
    pub async fn speak(&self, language: &str) -> Result<()> {
        let headers = json!({"headers": {"accept-language": language}});
        self.protocol("Network.enable", json!({})).await?;
        self.protocol("Network.setExtraHTTPHeaders", headers).await.map(drop)
    }

    /// What the browser has logged since it was last asked.
    pub async fn logged(&self) -> Result<Vec<Value>> {
        let entries = self.command("se/log", json!({"type": "browser"})).await?;
        Ok(entries.as_array().cloned().unwrap_or_default())
    }

    /// The top of a page of this width, as a PNG.
    pub async fn screenshot(&self, width: u32) -> Result<Vec<u8>> {
        let clip = json!({"x": 0, "y": 0, "width": width, "height": 640, "scale": 1});
        let taken = self.protocol("Page.captureScreenshot", json!({"format": "png", "clip": clip})).await?;
        let text = taken["data"].as_str().context("a picture")?;
        Ok(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)?)
    }
}

/// Sends a command; an error says what the driver answers.
async fn post(client: &reqwest::Client, url: &str, body: &Value) -> Result<Value> {
    let answer = client.post(url).json(body).send().await?;
    let (status, mut answer) = (answer.status(), answer.json::<Value>().await?);
    let value = answer["value"].take();
    ensure!(status.is_success(), "{url}: {}: {}", value["error"], value["message"]);
    Ok(value)
}
