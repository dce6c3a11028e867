//! Secrets change while requests come in: each is answered by the old or the new one, and none is lost.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Postgres, RabbitMq, Received, Receiver, Reply};
use serde_json::Value;

use crate::product::{PATIENCE, Product};

const SOURCE: &str = r#"
[[sources]]
name = "rotating"
provider = "gestao-online"
auth.query = { name = "token", secrets_file = "rotating.secret" }
"#;

/// Writes the file as a secret store does: beside it, and then in its place.
fn write(product: &Product, text: &str) -> Result<()> {
    let (draft, file) = (product.folder().join("draft"), product.folder().join("rotating.secret"));
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, file)?)
}

fn hang_up(product: &Product) -> Result<()> {
    let status = Command::new("kill").args(["-HUP", &product.pid("up").to_string()]).status()?;
    ensure!(status.success(), "kill -HUP");
    Ok(())
}

/// Whether a request with this secret is accepted. Anything but yes or no is an error.
async fn accepts(product: &Product, secret: &str) -> Result<bool> {
    accepts_at(product, "rotating", secret).await
}

async fn accepts_at(product: &Product, source: &str, secret: &str) -> Result<bool> {
    let (client, _) = product.target("go");
    let url = format!("{}/webhooks/{source}?token={secret}", product.ingress);
    let request = client.post(url).header("content-type", "application/json");
    let answer = request.body(r#"{"event_id": "ORDER_CREATED", "data": {"code": "1"}}"#).send().await?;
    match answer.status().as_u16() {
        200 => Ok(true),
        401 => Ok(false),
        status => anyhow::bail!("{status}: {}", answer.text().await?),
    }
}

/// Posts with both secrets until only the new one is accepted; from then on each stays what it is.
async fn rotates(product: &Product, old: &str, new: &str) -> Result<()> {
    let started = Instant::now();
    let mut seen = (true, false);
    while seen != (false, true) {
        ensure!(started.elapsed() < PATIENCE, "{seen:?}:\n{}", product.output("up"));
        let now = tokio::try_join!(accepts(product, old), accepts(product, new))?;
        ensure!((seen.0 || !now.0) && (!seen.1 || now.1), "{seen:?}, then {now:?}");
        seen = now;
    }
    Ok(())
}

async fn says(product: &Product, text: &str, count: usize) -> Result<()> {
    let started = Instant::now();
    while product.output("up").matches(text).count() < count {
        ensure!(started.elapsed() < PATIENCE, "no {text:?}:\n{}", product.output("up"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_rotates_under_load_and_a_broken_file_keeps_the_old_one() -> Result<()> {
    let mut product = Product::configured("embedded", "sqlite", SOURCE)?;
    write(&product, "secret-1\n")?;
    product.start("up", &["up"]).await?;
    assert_eq!((accepts(&product, "secret-1").await?, accepts(&product, "secret-2").await?), (true, false));

    write(&product, "secret-2\n")?;
    rotates(&product, "secret-1", "secret-2").await?;

    // Nothing in it: the old one stays, and the log names the file.
    write(&product, "\n")?;
    hang_up(&product)?;
    says(&product, "keeping the current secrets: the new configuration is invalid", 1).await?;
    assert!(product.output("up").contains("rotating.secret is empty"));
    assert!(accepts(&product, "secret-2").await?);

    // The process lives on, and reads again when it is told to.
    write(&product, "secret-3\nsecret-4\n")?;
    hang_up(&product)?;
    rotates(&product, "secret-2", "secret-4").await?;
    assert!(accepts(&product, "secret-3").await?);

    // The token of the API, too.
    let token = fs::read_to_string(product.folder().join("data/token"))?;
    let (client, _) = product.target("go");
    let status = async |token: &str| {
        let request = client.get(format!("{}/api/v1/version", product.console)).bearer_auth(token.trim());
        anyhow::Ok(request.send().await?.status().as_u16())
    };
    assert_eq!(status(&token).await?, 200);
    let next = "0123456789abcdef0123456789abcdef";
    fs::write(product.folder().join("data/token"), next).context("the token")?;
    hang_up(&product)?;
    let started = Instant::now();
    while status(next).await? != 200 {
        ensure!(started.elapsed() < PATIENCE, "{}", product.output("up"));
    }
    assert_eq!(status(&token).await?, 401);
    // A token file that is missing for a moment is no new token.
    fs::remove_file(product.folder().join("data/token"))?;
    hang_up(&product)?;
    says(&product, "keeping the current token", 1).await?;
    assert_eq!(status(next).await?, 200);
    let log = product.output("up");
    assert!(!log.contains("secret-") && !log.contains(next), "a secret is in the log");
    product.terminate("up").await
}

#[tokio::test]
async fn a_changed_configuration_waits_for_sighup_and_a_removed_source_is_denied() -> Result<()> {
    let of_fixed =
        |rest: &str| format!("[[sources]]\nname = \"fixed\"\nprovider = \"gestao-online\"\n{rest}\n");
    let closed = of_fixed("auth.query = { name = \"token\", secrets = [\"fixed-1\"] }");
    let mut product = Product::configured("embedded", "sqlite", &format!("{SOURCE}{closed}"))?;
    let file = product.folder().join("malote.toml");
    let text = fs::read_to_string(&file)?;
    write(&product, "secret-1\n")?;
    product.start("up", &["up"]).await?;
    assert!(accepts_at(&product, "fixed", "fixed-1").await?);
    assert!(!accepts_at(&product, "fixed", "x").await?);
    let turns = async |accepted: bool, secret: &str| {
        let started = Instant::now();
        while accepts_at(&product, "fixed", secret).await? != accepted {
            ensure!(started.elapsed() < PATIENCE, "not {accepted}:\n{}", product.output("up"));
        }
        anyhow::Ok(())
    };

    // A secret file that changes does not bring the unfinished file of settings into force.
    fs::write(&file, text.replace(&closed, &of_fixed("auth = \"none\"")))?;
    write(&product, "secret-2\n")?;
    rotates(&product, "secret-1", "secret-2").await?;
    assert!(!accepts_at(&product, "fixed", "x").await?);
    hang_up(&product)?;
    turns(true, "x").await?;

    // What is checked together is in force together.
    let changed = closed.clone() + "duplicates = \"none\"\n" + &closed.replace("\"fixed\"", "\"added\"");
    fs::write(&file, text.replace(&closed, &changed))?;
    hang_up(&product)?;
    says(&product, "needs a restart: sources.added, sources.fixed.duplicates", 1).await?;
    assert!(accepts_at(&product, "fixed", "x").await?);

    // A removed source is denied, whatever else changed, and stays so.
    let without = text.replace(&closed, "").replace("body_timeout_ms = 15000", "body_timeout_ms = 2000");
    fs::write(&file, without)?;
    hang_up(&product)?;
    turns(false, "x").await?;
    says(&product, "needs a restart: ingress.limits.body_timeout_ms", 1).await?;
    write(&product, "secret-3\n")?;
    rotates(&product, "secret-2", "secret-3").await?;
    assert!(!accepts_at(&product, "fixed", "fixed-1").await?);

    // Back as it was at start.
    fs::write(&file, &text)?;
    hang_up(&product)?;
    turns(true, "fixed-1").await?;
    assert!(!accepts_at(&product, "fixed", "x").await?);
    product.terminate("up").await
}

#[tokio::test]
async fn a_secret_in_the_configuration_rotates_although_other_settings_need_a_restart() -> Result<()> {
    let fixed = |secret: &str| {
        format!(
            "[[sources]]\nname = \"fixed\"\nprovider = \"gestao-online\"\nauth.query = {{ name = \"token\", secrets = [\"{secret}\"] }}\n"
        )
    };
    let mut product = Product::configured("embedded", "sqlite", &fixed("leaked"))?;
    let file = product.folder().join("malote.toml");
    let text = fs::read_to_string(&file)?;
    product.start("up", &["up"]).await?;
    assert!(accepts_at(&product, "fixed", "leaked").await?);

    let changed = text.replace("body_timeout_ms = 15000", "body_timeout_ms = 2000");
    let added = fixed("x").replace("\"fixed\"", "\"added\"");
    fs::write(&file, changed.replace(&fixed("leaked"), &(fixed("next") + &added)))?;
    hang_up(&product)?;
    let started = Instant::now();
    while accepts_at(&product, "fixed", "leaked").await? {
        ensure!(started.elapsed() < PATIENCE, "the old secret is in force:\n{}", product.output("up"));
    }
    assert!(accepts_at(&product, "fixed", "next").await?);
    says(&product, "needs a restart: ingress.limits.body_timeout_ms, sources.added", 1).await?;
    product.terminate("up").await
}

/// An API whose tokens name the secret that they were got with, and that accepts all of them.
fn answer_with_tokens(request: &Received) -> Reply {
    let found = |body: String| Reply::status(200).header("content-type", "application/json").body(body);
    match request.method.as_str() {
        "POST" => {
            let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let secret = asked["clientSecret"].as_str().unwrap_or_default();
            found(format!(r#"{{"accessToken": "token-of-{secret}", "expiresIn": 3600}}"#))
        }
        _ if request.target == "/unread" => found("[]".to_owned()),
        _ => found(r#"{"invoiceNumber": 4711}"#.to_owned()),
    }
}

#[tokio::test]
async fn rotated_credentials_for_apis_are_in_force_without_a_restart_and_old_tokens_are_dropped() -> Result<()>
{
    let api = Receiver::start()?;
    api.answer_with(|request, _| answer_with_tokens(request));
    let extra = format!(
        r#"
[outbound]
allow = ["127.0.0.0/8"]
[[sources]]
name = "fetched"
provider = "mercado-eletronico"
auth = "none"
api = {{ base_url = "{0}", client_id = "me", client_secret_file = "rotating.secret" }}
[[sources]]
name = "polled"
provider = "recuperador"
poll = {{ url = "{0}/unread", every_s = 1, auth = {{ json_token = {{ token_url = "{0}/tokens", client_id = "me", client_secret = "poll-1" }} }} }}
"#,
        api.url("")
    );
    let mut product = Product::configured("embedded", "sqlite", &extra)?;
    write(&product, "api-1\n")?;
    product.start("up", &["up"]).await?;
    let (client, _) = product.target("go");
    let post = async |id: u32| {
        let body = format!(r#"{{"topic": "invoice.created", "data": {{"invoiceId": "{id}"}}}}"#);
        let request = client.post(format!("{}/webhooks/fetched", product.ingress));
        let answer = request.header("content-type", "application/json").body(body).send().await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        Ok(())
    };
    let shown = |target: &str, secret: &str| {
        let token = format!("Bearer token-of-{secret}");
        let is_one = |one: &&Received| one.target == target && one.header("authorization") == Some(&token);
        api.requests().iter().filter(is_one).count()
    };
    let await_request = async |target: &str, secret: &str| {
        let started = Instant::now();
        while shown(target, secret) == 0 {
            ensure!(started.elapsed() < PATIENCE, "{target} with {secret}:\n{}", product.output("up"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    post(1).await?;
    await_request("/v1/invoices/1", "api-1").await?;
    await_request("/unread", "poll-1").await?;

    // A changed file, which is noticed.
    write(&product, "api-2\n")?;
    says(&product, "the API of a source is configured otherwise", 1).await?;
    post(2).await?;
    await_request("/v1/invoices/2", "api-2").await?;
    // A changed configuration, on SIGHUP.
    let file = product.folder().join("malote.toml");
    let text = fs::read_to_string(&file)?;
    let changed = text
        .replace("poll-1", "poll-2")
        .replace("client_id = \"me\", client_secret_file", "client_id = \"other\", client_secret_file");
    fs::write(&file, changed)?;
    hang_up(&product)?;
    await_request("/unread", "poll-2").await?;
    says(&product, "the API of a source is configured otherwise", 2).await?;
    let old = shown("/unread", "poll-1");
    post(3).await?;
    await_request("/v1/invoices/3", "api-2").await?;
    let asked_as = |id: &str| {
        api.requests().iter().filter(|one| String::from_utf8_lossy(&one.body).contains(id)).count()
    };
    assert_eq!((asked_as("\"other\""), shown("/unread", "poll-1")), (1, old));

    // A source that is not configured any more is neither fetched for nor polled.
    let without = text.split("[[sources]]\nname = \"fetched\"").next().unwrap_or_default();
    fs::write(&file, without)?;
    hang_up(&product)?;
    says(&product, "source polled is no longer configured", 1).await?;
    let log = product.output("up");
    for secret in ["api-1", "api-2", "poll-1", "poll-2", "token-of"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert!(!log.contains("needs a restart"), "{log}");
    product.terminate("up").await
}

/// Waits until a server has a session that was made with the password of now.
async fn await_session(what: &str, product: &Product, has_session: impl Fn() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !has_session()? {
        ensure!(started.elapsed() < PATIENCE, "{what}:\n{}", product.output("invoices"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_of_broker_and_store_is_used_at_the_next_connection() -> Result<()> {
    let node = tokio::task::block_in_place(RabbitMq::start)?;
    let postgres = tokio::task::block_in_place(Postgres::start)?;
    node.rabbitmqctl("add_user", &["malote", "first"])?;
    node.rabbitmqctl("set_permissions", &["malote", ".*", ".*", ".*"])?;
    postgres.query("postgres", "CREATE ROLE malote LOGIN PASSWORD 'first'")?;
    postgres.query("postgres", "CREATE DATABASE malote OWNER malote")?;
    let access = postgres.folder().join("data/pg_hba.conf");
    let trusting = fs::read_to_string(&access)?;
    fs::write(&access, format!("host all malote all scram-sha-256\n{trusting}"))?;
    postgres.query("postgres", "SELECT pg_reload_conf()")?;

    let with_user = |url: String, user: &str| url.replace(&format!("{user}@"), "malote@");
    let mut product = Product::configured(
        &with_user(node.url("/"), "guest:guest"),
        &with_user(postgres.url("malote"), "postgres"),
        "",
    )?;
    let files = ["broker.password", "store.password"].map(|name| product.folder().join(name));
    let write = |password: &str| files.iter().try_for_each(|file| fs::write(file, password));
    let name_of = |file: &Path| file.display().to_string();
    product.set_environment(
        "invoices",
        [
            ("MALOTE__BROKER__PASSWORD_FILE".to_owned(), name_of(&files[0])),
            ("MALOTE__STORE__PASSWORD_FILE".to_owned(), name_of(&files[1])),
        ],
    );
    write("first\n")?;
    product.start("invoices", &["consume", "invoices"]).await?;

    node.rabbitmqctl("change_password", &["malote", "second"])?;
    postgres.query("postgres", "ALTER ROLE malote PASSWORD 'second'")?;
    let changed_at = event::now();
    write("second\n")?;
    node.rabbitmqctl("close_all_connections", &["rotated"])?;
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'malote'";
    postgres.query("postgres", ended)?;

    await_session("no connection to RabbitMQ", &product, || {
        let listed = node.rabbitmqctl("list_connections", &["user", "connected_at"])?;
        let connected_at = |line: &str| line.strip_prefix("malote\t")?.trim().parse::<i64>().ok();
        Ok(listed.lines().filter_map(connected_at).any(|at| at > changed_at.as_millisecond()))
    })
    .await?;
    await_session("no session of PostgreSQL", &product, || {
        let text = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'malote' AND backend_start > '{changed_at}'"
        );
        Ok(postgres.query("postgres", &text)?.trim() != "0")
    })
    .await?;
    product.ready("invoices").await?;
    product.terminate("invoices").await
}

/// Waits until `malote sources show` says this of the use of the two secrets.
async fn tells(product: &Product, expect: [&str; 2]) -> Result<Value> {
    let started = Instant::now();
    loop {
        let printed = product.command(&["sources", "show", "two", "--json"])?.output()?;
        let shown: Value = serde_json::from_slice(&printed.stdout).unwrap_or_default();
        let states = |at: usize| shown["secrets"][at]["state"].as_str();
        if (states(0), states(1)) == (Some(expect[0]), Some(expect[1])) {
            return Ok(shown);
        }
        ensure!(started.elapsed() < PATIENCE, "not {expect:?}: {shown:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Uses one secret after the other, with a restart of the ingress between.
async fn the_use_of_two_secrets_is_known(product: &mut Product, ingress: &str) -> Result<()> {
    tells(product, ["unused", "unused"]).await?;
    assert!(!accepts_at(product, "two", "neither").await?);
    assert!(accepts_at(product, "two", "old-1").await?);
    let shown = tells(product, ["latest", "unused"]).await?;
    let (first_seen, refused) = (&shown["secrets"][0]["first_seen_at"], &shown["refusals"][0]);
    assert_eq!((&refused["reason"], &refused["failed"]), (&"not authenticated".into(), &"auth.query".into()));
    // Times of use are whole seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(accepts_at(product, "two", "new-2").await?);
    tells(product, ["earlier", "latest"]).await?;
    product.terminate(ingress).await?;
    product.start(ingress, &[ingress]).await?;
    // The report of the new process has a refusal, and knows of no use.
    assert!(!accepts_at(product, "two", "neither").await?);
    let started = Instant::now();
    loop {
        let again = tells(product, ["earlier", "latest"]).await?;
        assert_eq!(&again["secrets"][0]["first_seen_at"], first_seen);
        if again["refusals"][0]["refused_at"] != refused["refused_at"] {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "no report after the restart: {again:#}");
    }
    assert!(accepts_at(product, "two", "old-1").await?);
    let shown = tells(product, ["latest", "earlier"]).await?;
    ensure!(!shown.to_string().contains("old-1") && !shown.to_string().contains("new-2"), "{shown:#}");
    let printed = String::from_utf8(product.command(&["sources", "show", "two"])?.output()?.stdout)?;
    ensure!(printed.contains("Enter in the panel of") && printed.contains("latest"), "{printed}");
    Ok(())
}

const TWO: &str = "\n[[sources]]\nname = \"two\"\nprovider = \"gestao-online\"\n\
                   auth.query = { name = \"token\", secrets = [\"old-1\", \"new-2\"] }\n";

#[tokio::test]
async fn which_of_two_secrets_is_still_used_is_known_after_a_restart_embedded() -> Result<()> {
    let mut product = Product::configured("embedded", "sqlite", TWO)?;
    product.start("up", &["up"]).await?;
    the_use_of_two_secrets_is_known(&mut product, "up").await
}

#[tokio::test]
async fn which_of_two_secrets_is_still_used_is_known_after_a_restart_scaled() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let mut product = Product::configured(&shared.fresh_vhost()?, &shared.fresh_database()?, TWO)?;
    for role in ["console", "ingress", "ledger"] {
        product.start(role, &[role]).await?;
    }
    the_use_of_two_secrets_is_known(&mut product, "ingress").await
}
