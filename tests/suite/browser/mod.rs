//! The console in Chromium: every screen in both languages, light and dark, narrow and wide.
//!
//! axe-core looks for what keeps people from using a page. With the folder in [`SCREENS`], the same walk takes the pictures of
//! docs/console.md (`cargo xtask docs --screens`).

mod refused;
mod scriptless;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Receiver, Reply};
use serde_json::{Value, json};

use tests::browser::{Browser, Look};

use crate::consumers;
use crate::product::{PATIENCE, Product, example};

/// The variable with the folder for pictures.
const SCREENS: &str = "MALOTE_TEST_SCREENS";

/// The languages: what a browser asks for, and a word of the overview.
const LANGUAGES: [(&str, &str); 2] = [("en-GB", "Overview"), ("pt-BR", "Visão geral")];

/// Each with the rules that are applied: all of them once at each width and in each scheme, then what the other combinations can
/// break.
const LOOKS: [(Look, &str); 4] = [
    (Look { scheme: "light", width: 1440 }, "{}"),
    (Look { scheme: "dark", width: 1440 }, "{runOnly: ['color-contrast']}"),
    (Look { scheme: "dark", width: 360 }, "{}"),
    (Look { scheme: "light", width: 360 }, "{runOnly: ['color-contrast']}"),
];

/// Lists that are whole on one page. Of the others a few rows are looked at: the rest looks alike, and axe takes its time.
const WHOLE: [&str; 3] = ["/", "/queues", "/routes"];

/// Lists that the menu does not have.
const OTHER_LISTS: [&str; 3] = ["/dead/groups", "/attempts/report", "/prescriptions/files"];

/// Pages that say what is wrong: nothing was found, a filter cannot be used, there is no such row.
const PROBLEMS: [&str; 3] = ["/search?q=nothing", "/events?state=none", "/jobs/none"];

/// The most bytes of a page, with everything that it loads.
const WEIGHT_LIMIT_BYTES: u64 = 120 * 1024;

/// Pictures: the file, the page, and the width. Few rows keep the files small.
const PICTURES: [(&str, &str, u32); 18] = [
    ("overview", "/?period=hour", 1000),
    ("events", "/events?source=go", 1000),
    ("event", "/events?source=rec&state=handled/{id}", 1000),
    ("dead", "/dead/groups", 1000),
    ("retry", "/dead?consumer=receivables&limit=3", 1000),
    ("routes", "/routes?provider=gestao-online&topic=ORDER_CREATED", 1000),
    ("map", "/routes?provider=mercado-eletronico", 1000),
    ("rejected", "/rejected?limit=5", 1000),
    ("subscription", "/subscriptions/crm", 1000),
    ("source", "/sources/go", 1000),
    ("group", "/dead/groups/{id}", 1000),
    ("jobs", "/jobs?limit=5", 1000),
    ("receivables", "/receivables?limit=5", 1000),
    ("audit", "/audit?limit=8", 1000),
    ("tokens", "/tokens", 1000),
    ("narrow", "/events?limit=3", 360),
    ("narrow-overview", "/", 360),
    ("narrow-dead", "/dead?limit=3", 360),
];

/// The text of axe-core, at the version and with the hash of the lock file.
fn axe() -> Result<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    fs::create_dir_all(&folder)?;
    let lock = fs::read_to_string(sources.join("package-lock.json"))?;
    if !fs::read_to_string(folder.join("installed")).is_ok_and(|installed| installed == lock) {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(sources.join(name), folder.join(name))?;
        }
        let mut npm = Command::new("npm");
        consumers::run(npm.args(["ci", "--silent", "--ignore-scripts", "--no-audit"]), &folder)?;
        fs::write(folder.join("installed"), lock)?;
    }
    Ok(fs::read_to_string(folder.join("node_modules/axe-core/axe.min.js"))?)
}

/// An installation with something in every list.
struct Furnished {
    product: Product,
    /// The token of somebody who may only look.
    viewer: String,
    _endpoint: Receiver,
}

impl Furnished {
    async fn start() -> Result<Self> {
        let mut product =
            Product::configured("embedded", "sqlite", "[outbound]\nallow = [\"127.0.0.0/8\"]\n")?;
        product.start("up", &["up"]).await?;
        let endpoint = Receiver::start()?;
        endpoint.answer_with(|_, number| Reply::status(if number % 3 == 0 { 503 } else { 200 }));
        let (url, topics) = (endpoint.url("/events"), "recuperador:#");
        product.run(&[
            "subscriptions",
            "add",
            "crm",
            "--push",
            &url,
            "--topics",
            topics,
            "--retry",
            "1s,1h",
        ])?;
        product.run(&["subscriptions", "add", "reports", "--pull", "--topics", "malote:#"])?;
        let viewer = product.run(&["tokens", "add", "vera", "--role", "viewer"])?;
        let viewer = viewer.split_whitespace().find(|word| word.starts_with("malote_")).context("a token")?;
        let viewer = viewer.to_owned();
        product.run(&["simulate", "--count", "60"])?;
        // Given up at once: an amount that is none.
        let body = example("recuperador", "acordo.cadastrado").replace("460.20", "\"abc\"");
        for number in 1..=12 {
            product.post("rec", body.replacen("88120", &format!("9{number}"), 1)).await?;
        }
        let topic = format!("NEW_{}", "x".repeat(150));
        product.post("go", format!(r#"{{"event_id": "{topic}", "data": {{"id": "1"}}}}"#)).await?;
        // Kept as rejected: it has no topic.
        product.request("me", r#"{"data": {}}"#).send().await?;
        let furnished = Self { product, viewer, _endpoint: endpoint };
        for list in [["dead", "list"], ["rejected", "list"], ["unrouted", "list"], ["attempts", "list"]] {
            furnished.wait_for_rows(&list).await?;
        }
        furnished.product.run(&["events", "replay", "--source", "go", "--yes", "--detach"])?;
        Ok(furnished)
    }

    async fn wait_for_rows(&self, list: &[&str]) -> Result<()> {
        let started = Instant::now();
        while self.product.json(list)?.is_empty() {
            ensure!(started.elapsed() < PATIENCE, "{list:?} stays empty");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn token(&self) -> Result<String> {
        let file = self.product.folder().join("data/token");
        Ok(fs::read_to_string(file)?.trim().to_owned())
    }

    /// A browser in which an administrator is logged in.
    async fn browse(&self, script: &str) -> Result<Walk> {
        let browser = Browser::start(script).await?;
        let origin = self.product.console.clone();
        let mut walk = Walk { browser, origin, language: "", findings: Vec::new() };
        walk.speak("en").await?;
        walk.log_in(&self.token()?).await?;
        Ok(walk)
    }
}

/// A walk through the console, and what it has found.
struct Walk {
    browser: Browser,
    origin: String,
    language: &'static str,
    findings: Vec<String>,
}

impl Walk {
    /// Logs in with the form of the page.
    async fn log_in(&mut self, token: &str) -> Result<()> {
        self.open("/login").await?;
        let fill = format!("document.querySelector('#token').value = {token:?}; document.forms[0].submit();");
        self.browser.run(&fill).await?;
        self.until("location.pathname === '/'").await
    }

    async fn open(&self, path: &str) -> Result<()> {
        self.browser.open(&format!("{}{path}", self.origin)).await
    }

    async fn speak(&mut self, language: &'static str) -> Result<()> {
        self.language = language;
        self.browser.speak(language).await
    }

    async fn click(&self, selector: &str) -> Result<()> {
        self.browser.run(&format!("document.querySelector({selector:?}).click()")).await.map(drop)
    }

    /// Waits until an expression is true on the page.
    async fn until(&self, expression: &str) -> Result<()> {
        let started = Instant::now();
        // A page that is being replaced answers nothing.
        while !self.browser.run(&format!("return {expression}")).await.is_ok_and(|value| value == true) {
            ensure!(started.elapsed() < PATIENCE, "it never is: {expression}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Presses a key, as a person does.
    async fn press(&self, key: &str) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "text": if kind == "keyDown" { key } else { "" }});
            self.browser.protocol("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// Takes the pictures.
    async fn take_pictures(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for (name, path, width) in PICTURES {
            self.browser.look(Look { scheme: "light", width }).await?;
            let mut path = path.to_owned();
            if path.ends_with("/{id}") {
                self.open(path.trim_end_matches("/{id}")).await?;
                path = self.links("td.id a").await?.into_iter().next().context("a row")?;
            }
            self.open(&path).await?;
            fs::write(folder.join(format!("{name}.png")), self.browser.screenshot(width).await?)?;
        }
        Ok(())
    }

    fn find(&mut self, path: &str, finding: impl std::fmt::Display) {
        self.findings.push(format!("{} {path}: {finding}", self.language));
    }

    /// Looks at a page in every way.
    async fn visit(&mut self, path: &str) -> Result<()> {
        self.open(path).await?;
        self.examine(path).await
    }

    /// Looks at the page that is open.
    async fn examine(&mut self, path: &str) -> Result<()> {
        // What kind of page it is, it says itself.
        let is_problem =
            self.browser.run("return document.querySelector('p[role=alert]') !== null").await? == true;
        let loaded = self.browser.run(LOADED).await?;
        for url in loaded["urls"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !url.starts_with(&self.origin) {
                self.find(path, format!("loads {url}"));
            }
        }
        let weight = loaded["bytes"].as_u64().context("a number of bytes")?;
        if weight > WEIGHT_LIMIT_BYTES {
            self.find(path, format!("weighs {weight} bytes"));
        }
        for (look, rules) in LOOKS {
            self.browser.look(look).await?;
            let found = self.browser.run(&AXE.replace("RULES", rules)).await?;
            for violation in found.as_array().context("a list of violations")? {
                self.find(path, format!("{look:?} {violation}"));
            }
        }
        for entry in self.browser.logged().await? {
            // Advice is at a lower level. The status of an answer is what such a page is there to say.
            let is_expected = is_problem && entry["source"] == "network";
            if (entry["level"] == "SEVERE" || entry["level"] == "WARNING") && !is_expected {
                self.find(path, format!("logs {}", entry["message"]));
            }
        }
        Ok(())
    }

    /// What a script makes of the links of this page.
    async fn links(&self, selector: &str) -> Result<Vec<String>> {
        let script =
            format!("return [...document.querySelectorAll({selector:?})].map((a) => a.getAttribute('href'))");
        let found = self.browser.run(&script).await?;
        Ok(found.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }
}

/// What a page has loaded.
const LOADED: &str =
    "const entries = ['navigation', 'resource'].flatMap((type) => performance.getEntriesByType(type));
    return {urls: entries.map((entry) => entry.name).filter((name) => !name.startsWith('data:')),
            bytes: entries.reduce((sum, entry) => sum + entry.encodedBodySize, 0)};";

/// What is wrong with a page: violations of the rules of axe, and a page that is wider than its window.
const AXE: &str = "return (async () => {
    document.querySelectorAll('details').forEach((one) => { one.open = true; });
    const found = await axe.run(document, RULES);
    const texts = found.violations.map(({id, nodes}) => `${id}: ${nodes[0].html} ${nodes[0].failureSummary}`);
    const isOut = (one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.wide, pre, .hidden, .skip');
    const out = [...document.querySelectorAll('body *')].filter(isOut).map((one) => one.outerHTML.slice(0, 200));
    return document.documentElement.scrollWidth > innerWidth ? [...texts, `overflows: ${out[0]}`] : texts;
})()";

/// One installation and one browser for all: both take a moment to start.
#[tokio::test]
async fn every_screen_is_usable_in_a_browser() -> Result<()> {
    let furnished = Furnished::start().await?;
    let mut walk = furnished.browse(&axe()?).await?;
    walk.use_keys_and_local_times().await?;
    walk.follow_a_list(&furnished.product).await?;
    walk.retry_a_group_step_by_step(&furnished.product).await?;
    walk.add_a_subscription_and_rotate_its_secret(&furnished.product).await?;
    walk.visit_everything().await?;
    walk.do_without_scripts(&furnished.token()?).await?;
    if let Some(folder) = std::env::var_os(SCREENS) {
        walk.speak("en").await?;
        walk.take_pictures(&PathBuf::from(folder)).await?;
    }
    walk.be_refused(&furnished).await?;
    ensure!(walk.findings.is_empty(), "{} findings:\n{}", walk.findings.len(), walk.findings.join("\n"));
    Ok(())
}

impl Walk {
    /// Every screen in both languages, light and dark, at both widths.
    async fn visit_everything(&mut self) -> Result<()> {
        for (language, overview) in LANGUAGES {
            self.speak(language).await?;
            self.visit("/login").await?;
            self.open("/").await?;
            ensure!(self.browser.run("return document.querySelector('h1').textContent").await? == overview);
            let lists = self.links("body > nav a").await?;
            ensure!(lists.len() > 15, "few lists: {lists:?}");
            self.visit("/dead?consumer=receivables&limit=5").await?;
            for list in lists.iter().map(String::as_str).chain(OTHER_LISTS) {
                let few = if WHOLE.contains(&list) { "" } else { "?limit=5" };
                self.visit(&format!("{list}{few}")).await?;
                // The page of its first row, if rows of this list have one.
                let item = self.links("td.id a").await?.into_iter().next();
                if let Some(item) = item.filter(|item| item.starts_with(&format!("{list}/"))) {
                    self.visit(&item).await?;
                }
            }
            for path in PROBLEMS {
                self.visit(path).await?;
            }
            for form in ["/forms/subscriptions", "/forms/subscriptions?kind=pull", "/forms/subscriptions/crm"]
            {
                self.visit(form).await?;
            }
            self.open("/dead?consumer=receivables").await?;
            let edit = self.links("td.id a").await?.into_iter().next().context("an open dead letter")?;
            self.open(&edit).await?;
            let edit =
                self.links("a[href$='/edit']").await?.into_iter().next().context("a link to edit it")?;
            self.visit(&edit).await?;
        }
        Ok(())
    }

    async fn use_keys_and_local_times(&self) -> Result<()> {
        self.open("/events?source=rec").await?;
        for key in ["j", "j", "k"] {
            self.press(key).await?;
        }
        self.until("document.querySelector('tbody tr').contains(document.activeElement)").await?;
        self.press("o").await?;
        self.until("location.pathname.startsWith('/events/') && location.search === '?source=rec'").await?;
        self.press("?").await?;
        self.until("document.querySelector('#keys').open").await?;
        self.click("#keys button").await?;
        // The browser moves the focus out of it a moment later.
        self.until("!document.querySelector('#keys').open && !document.activeElement.closest('dialog')")
            .await?;
        self.press("/").await?;
        self.until("document.activeElement.id === 'search'").await?;
        // What somebody types is a text.
        self.press("j").await?;
        self.until("document.activeElement.value === 'j'").await?;
        self.open("/events?source=rec").await?;
        let exact = "document.querySelector('tbody time').title";
        self.until(&format!("{exact}.endsWith('Z')")).await?;
        self.browser.run("document.querySelector('[data-views] input').value = 'mine'").await?;
        self.click("[data-views] button").await?;
        self.open("/dead").await?;
        self.click("[data-views] li a").await?;
        self.until("location.search === '?source=rec'").await?;
        self.click("[data-views] li button").await?;
        self.until("!document.querySelector('[data-views] li')").await?;
        self.click("[data-time]").await?;
        self.until(&format!("!{exact}.endsWith('Z')")).await?;
        self.click("[data-time]").await?;
        self.until(&format!("{exact}.endsWith('Z')")).await
    }

    async fn follow_a_list(&self, product: &Product) -> Result<()> {
        self.open("/events?source=rec").await?;
        let first = "document.querySelector('tbody td.id').textContent";
        let body = |number: &str| example("recuperador", "acordo.quitado").replacen("88120", number, 1);
        let id = product.post("rec", body("71")).await?;
        self.until(&format!("{first} === '{id}'")).await?;
        self.click("[data-live] button").await?;
        product.post("rec", body("72")).await?;
        self.until("document.querySelector('[data-text]').textContent === '1 new'").await?;
        self.until(&format!("{first} === '{id}'")).await?;
        self.click("[data-text]").await?;
        self.until(&format!("{first} !== '{id}'")).await
    }

    /// Adds a subscription, sees its first push, and rotates its secret while events come: none is lost, and a receiver that
    /// still has the previous secret accepts each of them.
    async fn add_a_subscription_and_rotate_its_secret(&mut self, product: &Product) -> Result<()> {
        let shop = Receiver::start()?;
        self.open("/forms/subscriptions").await?;
        let fields = [
            ("declaration.name", "shop".to_owned()),
            ("declaration.topics", "recuperador:acordo.cadastrado".to_owned()),
            ("declaration.push.url", shop.url("/hooks")),
        ];
        for (name, value) in fields {
            self.browser.run(&format!("document.getElementById({name:?}).value = {value:?}")).await?;
        }
        self.click("[name=form_save]").await?;
        self.until("document.querySelector('#shown-secret')?.textContent.startsWith('whsec_')").await?;
        self.examine("a secret that is shown once").await?;
        let body = |number: u32| {
            example("recuperador", "acordo.cadastrado").replacen("88120", &number.to_string(), 1)
        };
        product.post("rec", body(81)).await?;
        ensure!(shop.wait_for(1, PATIENCE).await, "there is no push");
        self.open("/attempts?subscription=shop").await?;
        let started = Instant::now();
        while self.browser.run("return document.querySelectorAll('tbody tr').length").await? == 0 {
            ensure!(started.elapsed() < PATIENCE, "the first push is not shown");
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.open("/attempts?subscription=shop").await?;
        }
        product.post("rec", body(82)).await?;
        self.open("/subscriptions/shop").await?;
        self.click("form[action$='/rotate-secret'] button").await?;
        self.until("document.querySelector('#shown-secret')?.textContent.startsWith('whsec_')").await?;
        let signatures = |request: &harness::Received| {
            request.header("webhook-signature").map_or(0, |signed| signed.split(' ').count())
        };
        // What delivers it takes a moment to notice.
        let (mut posted, started) = (2, Instant::now());
        while !shop.requests().iter().any(|request| signatures(request) == 2) {
            ensure!(started.elapsed() < PATIENCE, "no request is signed with both secrets");
            product.post("rec", body(81 + posted)).await?;
            posted += 1;
            ensure!(shop.wait_for(posted as usize, PATIENCE).await, "a push is lost");
        }
        assert_eq!(signatures(&shop.requests()[0]), 1);
        product.run(&["subscriptions", "remove", "shop", "--yes"])?;
        Ok(())
    }

    async fn retry_a_group_step_by_step(&mut self, product: &Product) -> Result<()> {
        self.open("/dead/groups").await?;
        let group = self.links("td.id a").await?.into_iter().next().context("a group")?;
        self.open(&group).await?;
        // One, ten, all: the page of a job that took a part offers the same again.
        for number in 0..3 {
            let here = self.browser.run("return location.href").await?;
            let press = format!("document.querySelectorAll('form.action button')[{number}].click()");
            self.browser.run(&press).await?;
            if number == 2 {
                // All that match: their number first.
                self.until(
                    "location.pathname === '/actions/jobs' && document.querySelector('main form.action') !== null",
                )
                .await?;
                self.examine("the number of what is retried").await?;
                self.click("main form.action button").await?;
            }
            self.until(&format!("location.href !== {here} && document.querySelector('progress').value > 0"))
                .await?;
            // The page follows the job to its end.
            self.until("!document.querySelector('[data-running]')").await?;
        }
        let mut retries = product.rows(&["jobs", "list"])?;
        retries.retain(|job| job["action"] == "retry");
        let limits: Vec<_> = retries.iter().map(|job| job["limit"].as_u64()).collect();
        assert_eq!(limits, [Some(1), Some(10), None]);
        Ok(())
    }
}
