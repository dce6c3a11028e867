//! What operators see while something is broken: `doctor`, `queues`, lists and jobs.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::{Proxy, SmallDisk, Way};
use serde_json::Value;

use crate::product::{PATIENCE, Product, example};

/// A user that runs nothing.
const NOBODY: u32 = 65_534;

/// What a command printed, and how it ended.
struct Printed {
    status: Option<i32>,
    text: String,
}

fn ask(product: &Product, arguments: &[&str]) -> Result<Printed> {
    let output = product.command(arguments)?.stdin(Stdio::null()).output()?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(Printed { status: output.status.code(), text })
}

#[track_caller]
fn assert_printed(printed: &Printed, status: i32, parts: &[&str]) {
    assert_eq!(printed.status, Some(status), "{}", printed.text);
    for part in parts {
        assert!(printed.text.contains(part), "{part:?} is missing in\n{}", printed.text);
    }
}

/// Asks until it is printed.
async fn until_printed(product: &Product, arguments: &[&str], part: &str) -> Result<Printed> {
    let started = Instant::now();
    loop {
        let printed = ask(product, arguments)?;
        if printed.text.contains(part) {
            return Ok(printed);
        }
        ensure!(started.elapsed() < PATIENCE, "{part:?} is never printed:\n{}", printed.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn order(n: usize) -> String {
    format!(r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{n}", "code": "{n:010}", "status": 1}}}}"#)
}

/// A body that its consumer gives up at once, with an id of its own.
fn hopeless(webhook: usize) -> String {
    let body = example("recuperador", "acordo.cadastrado").replace("460.20", "\"abc\"");
    body.replacen("88120", &format!("{}", 88_120 + webhook), 1)
}

fn queue<'a>(queues: &'a [Value], name: &str) -> Result<&'a Value> {
    queues.iter().find(|queue| queue["name"] == name).with_context(|| format!("no queue {name}"))
}

#[tokio::test]
async fn doctor_names_the_file_that_the_user_of_malote_cannot_write() -> Result<()> {
    refuse_files(&Product::embedded().await?, &["store.db-shm", "store.db", "broker.db"])
}

#[tokio::test]
async fn doctor_looks_at_the_file_of_the_spool() -> Result<()> {
    let broker = harness::Shared::from_env()?.fresh_vhost()?;
    let mut product = Product::configured(&broker, "sqlite", "")?;
    product.start("up", &["up"]).await?;
    until_printed(&product, &["doctor"], "is ready").await?;
    refuse_files(&product, &["spool.db"])
}

/// Takes the leave to write each file, and the folder, from the user of malote.
fn refuse_files(product: &Product, files: &[&str]) -> Result<()> {
    assert_printed(&ask(product, &["doctor"])?, 0, &["one was committed and read back"]);
    let data = product.folder().join("data");
    // Root writes whatever the mode is, so the folder becomes somebody else's.
    if fs::metadata(&data)?.uid() == 0 {
        chown(&data, Some(NOBODY), Some(NOBODY))?;
        for entry in fs::read_dir(&data)? {
            chown(entry?.path(), Some(NOBODY), Some(NOBODY))?;
        }
    }
    let check = |path: &Path, mode: u32| -> Result<()> {
        let before = fs::metadata(path)?.permissions();
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        let printed = ask(product, &["doctor"]);
        fs::set_permissions(path, before)?;
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        assert_printed(&printed?, 1, &["✗", &name, "chmod"]);
        Ok(())
    };
    for name in files {
        check(&data.join(name), 0o400)?;
    }
    check(&data, 0o500)?;
    assert_printed(&ask(product, &["doctor"])?, 0, &[]);
    Ok(())
}

#[tokio::test]
async fn doctor_tells_a_locked_store_and_a_full_disk() -> Result<()> {
    let disk = SmallDisk::mount(64 << 20)?;
    let store = format!("sqlite:{}", disk.path().join("store.db").display());
    let mut product = Product::configured("embedded", &store, "")?;
    let no_limit = ("MALOTE__DATA__DISK_FREE_LIMIT_BYTES".to_owned(), "0".to_owned());
    product.set_environment("up", [no_limit]);
    product.start("up", &["up"]).await?;
    {
        let config =
            store::Config { max_connections: 1, acquire_timeout_ms: 5_000, ..store::Config::new(store) };
        let locker = store::Store::open(&config, product.folder())?;
        let lock = locker.begin().await?;
        assert_printed(
            &ask(&product, &["doctor"])?,
            1,
            &["store.db accepts no writes: another process has locked it"],
        );
        drop(lock);
        locker.close().await;
    }
    disk.fill()?;
    assert_printed(&ask(&product, &["doctor"])?, 1, &["is not writable: No space left on device"]);
    disk.empty()?;
    // The pauses of the outage end by themselves.
    until_printed(&product, &["doctor"], "is ready").await?;
    Ok(())
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_told_with_its_reason_everywhere() -> Result<()> {
    let postgres = harness::Postgres::start()?;
    postgres.create_database("malote")?;
    let mut product = Product::configured("embedded", &postgres.url("malote"), "")?;
    product.start("up", &["up"]).await?;
    product.post("go", order(0)).await?;
    product.settled(1).await?;
    assert_printed(
        &ask(&product, &["overview", "--check"])?,
        0,
        &["Nothing needs attention", "In the last hour, "],
    );
    let routes = product.json(&["routes", "--provider", "gestao-online", "--topic", "ORDER_CREATED"])?;
    let takers: Vec<_> = routes.iter().map(|route| route["to"].as_str().unwrap_or_default()).collect();
    ensure!(takers.iter().any(|to| to.ends_with("receivables")), "{routes:?}");
    assert_printed(&ask(&product, &["routes", "--topic", "nobody.takes.this"])?, 0, &["Nothing takes this"]);

    postgres.set("default_transaction_read_only", "on")?;
    for n in 1..=51 {
        product.post("go", order(n)).await?;
    }
    until_printed(&product, &["queues"], "The consumer of ledger is paused: ").await?;
    let queues = product.json(&["queues"])?;
    let ledger = queue(&queues, "ledger")?;
    assert_eq!(
        ledger["ready"].as_u64().context("ready")? + ledger["unacked"].as_u64().context("unacked")?,
        51,
        "{ledger}"
    );
    assert!(ledger["unacked"].as_u64() > Some(0), "{ledger}");
    assert!(ledger["paused"].as_str().is_some_and(|why| why.contains("read-only transaction")), "{ledger}");
    let address = format!("PostgreSQL at 127.0.0.1:{}/malote", postgres.port());
    let doctor = ask(&product, &["doctor"])?;
    assert_printed(
        &doctor,
        1,
        &[
            "the consumer ledger",
            "is paused",
            &address,
            "default_transaction_read_only is on",
            "ALTER SYSTEM RESET",
        ],
    );
    assert!(!doctor.text.contains("read back"), "{}", doctor.text);
    let replay = ask(&product, &["events", "replay", "--everything"])?;
    assert_printed(&replay, 1, &["Service Unavailable", &address, "read-only transaction"]);

    // A standby answers every question, too.
    postgres.set("default_transaction_read_only", "off")?;
    postgres.stop()?;
    let signal = postgres.folder().join("data/standby.signal");
    fs::write(&signal, "")?;
    fs::set_permissions(&signal, Permissions::from_mode(0o666))?;
    postgres.restart()?;
    assert_printed(&ask(&product, &["doctor"])?, 1, &["is in recovery", "set store.url to the primary"]);

    postgres.kill9()?;
    for command in [&["events", "list"][..], &["dead", "list", "--group"], &["jobs", "list"]] {
        // The sessions of a killed server answer for a moment longer.
        let printed = until_printed(&product, command, "refused").await?;
        assert_printed(&printed, 1, &["Service Unavailable", &address, "malote doctor"]);
    }
    assert_printed(&ask(&product, &["doctor"])?, 1, &[&address, "refused"]);

    fs::remove_file(&signal)?;
    postgres.restart()?;
    product.settled(52).await?;
    // The consumers that had nothing to do with those events look at the database in their own time.
    let started = Instant::now();
    while product.json(&["queues"])?.iter().any(|queue| !queue["paused"].is_null()) {
        ensure!(started.elapsed() < PATIENCE, "a consumer stays paused");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Sends again, and waits for the outcome: the command itself waits for ten seconds only.
async fn resend(product: &Product, arguments: &[&str], sent: &str, status: i32, outcome: &str) -> Result<()> {
    let mut printed = ask(product, arguments)?;
    assert!(printed.text.contains(sent), "{sent:?} is missing in\n{}", printed.text);
    if !printed.text.contains(outcome) {
        let jobs = product.json(&["jobs", "list", "--limit", "1"])?;
        let id = jobs[0]["id"].as_str().context("the job's id")?;
        printed = until_printed(product, &["jobs", "watch", id], outcome).await?;
    }
    assert_printed(&printed, status, &[outcome]);
    Ok(())
}

/// Sends again and discards what was not handled, and shows the outcome.
async fn resend_and_discard(product: &Product) -> Result<()> {
    for webhook in 0..2 {
        product.post("rec", hopeless(webhook)).await?;
    }
    product.post("me", ::tests::unrouted()).await?;
    product.post("visao", example("beneficio-visao", "renewed")).await?;
    product.settled(4).await?;
    let refused = product.request("go", "[]").send().await?;
    ensure!(refused.status() == 400, "{}", refused.status());
    until_printed(product, &["rejected", "list", "--json"], "\"id\"").await?;

    until_printed(product, &["unrouted", "list", "--json"], ::tests::UNROUTED).await?;

    let dead = product.rows(&["dead", "list"])?;
    assert_eq!(dead.len(), 2, "{dead:?}");
    let first = dead[0]["id"].as_str().context("an id")?;
    let died_again = "1 died again: `malote dead list`";
    resend(product, &["dead", "retry", first], "1 sent again.", 1, died_again).await?;
    let group = dead[0]["group"].as_str().context("a group")?;
    resend(product, &["dead", "retry", "--group", group], "2 sent again.", 1, "2 died again").await?;
    let replay = ["events", "replay", "--state", "dead", "--again"];
    resend(product, &replay, "2 sent again.", 1, "2 died again").await?;
    let came_back = "1 came back, since no queue is bound";
    resend(product, &["unrouted", "retry", "--everything"], "1 sent again.", 1, came_back).await?;
    assert_printed(
        &ask(product, &["rejected", "retry", "--everything"])?,
        1,
        &["0 sent again.", "1 not sent"],
    );

    for list in ["dead", "rejected", "unrouted"] {
        let printed = ask(product, &[list, "discard", "--everything", "--reason", "known"])?;
        assert_printed(&printed, 0, &[" discarded."]);
        assert_eq!(product.rows(&[list, "list"])?, [] as [Value; 0], "{list}");
        assert_printed(
            &ask(product, &[list, "discard", "--everything", "--reason", "known"])?,
            0,
            &["Nothing to discard"],
        );
    }
    let jobs = product.rows(&["jobs", "list"])?;
    assert!(jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
    assert!(jobs.iter().any(|job| job["action"] == "discard" && job["reason"] == "known"), "{jobs:?}");
    let replay = ["events", "replay", "--source", "visao", "--again"];
    resend(product, &replay, "1 sent again.", 0, "1 handled").await?;

    let unknown = |list: &str, name: &str| ask(product, &[list, "list", "--where", name]);
    assert_printed(
        &unknown("events", "source=recc")?,
        1,
        &["no source \"recc\"", "did you mean \"rec\"?", "go, me, rec"],
    );
    assert_printed(&unknown("invoices", "source=typo")?, 1, &["no source \"typo\"", "go, me, rec, visao"]);
    assert_printed(&unknown("dead", "consumer=invoice")?, 1, &["did you mean \"invoices\"?"]);
    assert_printed(&unknown("dead", "group=nothing")?, 1, &["no group \"nothing\"", group]);
    assert_printed(&unknown("events", "source=go")?, 0, &["Nothing matches"]);
    Ok(())
}

#[tokio::test]
async fn what_died_again_is_told_and_what_is_discarded_is_gone_embedded() -> Result<()> {
    resend_and_discard(&Product::embedded().await?).await
}

#[tokio::test]
async fn what_died_again_is_told_and_what_is_discarded_is_gone_scaled() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    resend_and_discard(&Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?).await
}

/// A command that waits.
fn begin(product: &Product, arguments: &[&str]) -> Result<Child> {
    let mut command = product.command(arguments)?;
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

/// Reads standard error up to a line with this text.
fn read_to(child: &mut Child, text: &str) -> Result<()> {
    let mut seen = String::new();
    for line in BufReader::new(child.stderr.as_mut().context("standard error")?).lines() {
        let line = line?;
        if line.contains(text) {
            return Ok(());
        }
        seen += &line;
    }
    anyhow::bail!("{text:?} is not printed:\n{seen}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_command_tells_what_its_job_waits_for() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let broker = shared.fresh_vhost()?;
    let address = broker.rsplit_once('@').map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    let port = address.rsplit(':').next().context("a port")?;
    let proxy = Proxy::start(port.parse()?).await?;
    let through = broker.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let mut product = Product::configured(&through, &shared.fresh_database()?, "")?;
    product.start("up", &["up"]).await?;
    product.post("rec", hopeless(0)).await?;
    product.settled(1).await?;

    proxy.set(Way::Cut);
    let mut waiting = begin(&product, &["dead", "retry", "--everything"])?;
    read_to(&mut waiting, "the broker does not accept what is sent: ")?;
    // An interruption ends the command, not the job.
    ensure!(Command::new("kill").args(["-INT", &waiting.id().to_string()]).status()?.success());
    let ended = waiting.wait_with_output()?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && text.contains("The job continues. `malote jobs watch "), "{text}");
    let jobs = product.rows(&["jobs", "list"])?;
    let id = jobs[0]["id"].as_str().context("an id")?;

    // A console that starts without the broker goes on, and says what is missing.
    product.kill9("up")?;
    product.launch("up", &["up"])?;
    until_printed(&product, &["jobs", "show", id, "--json"], "\"state\": \"running\"").await?;
    let mut watching = begin(&product, &["jobs", "watch", id])?;
    read_to(&mut watching, "the broker does not accept what is sent: ")?;
    proxy.set(Way::Open);
    let ended = watching.wait_with_output()?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(text.contains("1 sent again."), "{text}");
    assert_printed(&until_printed(&product, &["jobs", "watch", id], "1 died again").await?, 1, &[]);
    Ok(())
}

#[tokio::test]
async fn what_a_consumer_of_rabbitmq_holds_is_counted_by_itself_or_by_the_management_api() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let mut product = Product::configured(&shared.fresh_vhost()?, "sqlite", "")?;
    product.start("up", &["up"]).await?;
    until_printed(&product, &["doctor"], "is ready").await?;

    let config = store::Config {
        max_connections: 1,
        acquire_timeout_ms: 5_000,
        ..store::Config::new(format!("sqlite:{}", product.folder().join("data/store.db").display()))
    };
    let locker = store::Store::open(&config, product.folder())?;
    let lock = locker.begin().await?;
    for n in 0..51 {
        product.post("go", order(n)).await?;
    }
    for management in ["", shared.admin_url()] {
        let started = Instant::now();
        loop {
            let mut command = product.command(&["queues", "--json"])?;
            command.env("MALOTE__BROKER__MANAGEMENT_URL", management);
            let output = command.stdin(Stdio::null()).output()?;
            let queues: Vec<Value> = serde_json::from_slice(&output.stdout)?;
            let ledger = queue(&queues, "ledger")?;
            let (ready, held) = (ledger["ready"].as_u64(), ledger["unacked"].as_u64());
            // RabbitMQ counts every few seconds, the consumer at once.
            if held > Some(0) && ready.zip(held).is_some_and(|(ready, held)| ready + held == 51) {
                break;
            }
            ensure!(started.elapsed() < PATIENCE, "{ledger}\n{}", String::from_utf8_lossy(&output.stderr));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let elsewhere = ["queues", "--process", "http://127.0.0.1:1"];
    assert_printed(
        &ask(&product, &elsewhere)?,
        0,
        &["a process that was not asked", "broker.management_url"],
    );
    drop(lock);
    locker.close().await;
    product.settled(51).await?;
    let started = Instant::now();
    while product.json(&["queues"])?.iter().any(|row| !row["name"].is_null() && row["unacked"] != 0) {
        ensure!(started.elapsed() < PATIENCE, "something is held:\n{}", product.run(&["queues"])?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_console_without_the_key_of_its_ingress_refuses_to_start() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let product = Product::configured(&shared.fresh_vhost()?, &shared.fresh_database()?, "")?;
    for role in ["console", "ingress"] {
        let mut command = product.command(&[role])?;
        let output = command.env("MALOTE__INGRESS__SUBJECT_KEY", "").stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{role}: {text}");
        assert!(
            text.contains("ingress.subject_key") && text.contains("openssl rand -hex 32"),
            "{role}: {text}"
        );
    }
    assert!(!product.folder().join("data/subject-key").exists(), "a key was made");
    Ok(())
}

#[tokio::test]
async fn a_process_with_another_subject_key_than_before_refuses_to_start_unless_it_is_meant() -> Result<()> {
    let mut product = Product::embedded().await?;
    product.terminate("up").await?;
    fs::remove_file(product.folder().join("data/subject-key"))?;
    let Err(refused) = product.start("up", &["up"]).await else { bail!("it starts with a new key") };
    let printed = refused.to_string();
    let (_, setting) = printed.split_once("ingress.replaced_subject_key = ").context("what to do")?;
    let digits = setting.trim_start_matches(['\\', '"']).chars().take_while(char::is_ascii_hexdigit);
    let variable = "MALOTE__INGRESS__REPLACED_SUBJECT_KEY".to_owned();
    product.set_environment("up", [(variable, digits.collect::<String>())]);
    product.start("up", &["up"]).await
}
