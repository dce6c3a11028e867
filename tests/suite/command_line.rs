//! What a shell and a supervisor see of the commands: exit codes, lost output, what is left behind.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::product::{PATIENCE, Product, example};

#[tokio::test]
async fn output_that_is_lost_is_a_failure_and_a_reader_that_has_seen_enough_is_none() -> Result<()> {
    let product = Product::embedded().await?;
    let mut lost = product.command(&["topology", "show"])?;
    let lost = lost.stdout(File::options().write(true).open("/dev/full")?).output()?;
    assert_eq!(lost.status.code(), Some(1));
    assert!(!lost.stderr.is_empty(), "it says what is wrong");

    let mut enough = product.command(&["topology", "show", "--format", "definitions"])?;
    let mut enough = enough.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(enough.stdout.take());
    let mut complaints = String::new();
    enough.stderr.take().context("standard error")?.read_to_string(&mut complaints)?;
    assert_eq!((enough.wait()?.code(), complaints.as_str()), (Some(0), ""));
    Ok(())
}

#[test]
fn the_demo_leaves_nothing_behind() -> Result<()> {
    let _one = crate::product::DEMO.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let demo = |stdout: Stdio| {
        Command::new(harness::malote_binary()?)
            .current_dir(folder.path())
            .env("TMPDIR", folder.path())
            .args(["demo", "--once"])
            .stdin(Stdio::null())
            .stdout(stdout)
            .spawn()
            .context("the binary starts")
    };
    assert!(demo(Stdio::null())?.wait()?.success());
    // A reader that leaves after the first line.
    let mut piped = demo(Stdio::piped())?;
    drop(piped.stdout.take());
    piped.wait()?;
    let left: Vec<_> = fs::read_dir(folder.path())?.collect::<std::io::Result<_>>()?;
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused_and_harms_nothing() -> Result<()> {
    let product = Product::embedded().await?;
    let mut second = product.command(&["up"])?;
    second.env("MALOTE__INGRESS__LISTEN", "127.0.0.1:0").env("MALOTE__CONSOLE__LISTEN", "127.0.0.1:0");
    // Its operations port is taken too, which it says with what to set.
    let first = second.stdin(Stdio::null()).output()?;
    let complaint = String::from_utf8_lossy(&first.stderr).into_owned();
    assert_eq!(first.status.code(), Some(1));
    assert!(complaint.contains("set another operations.listen (MALOTE__OPERATIONS__LISTEN)"), "{complaint}");
    let second = second.env("MALOTE__OPERATIONS__LISTEN", "127.0.0.1:0").output()?;
    assert_eq!(second.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(complaint.contains("in use by another malote process"), "{complaint}");
    product.post("go", r#"{"event_id": "ORDER_CREATED", "data": {"code": "1"}}"#).await?;
    product.settled(1).await?;
    Ok(())
}

/// What a command prints, with these variables; and what it complains of, if it fails.
fn printed(
    product: &Product,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<Result<String, String>> {
    let output = product.command(arguments)?.envs(variables.iter().copied()).stdin(Stdio::null()).output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

#[tokio::test]
async fn an_event_is_found_by_the_beginning_of_its_id_or_its_number_and_its_rows_name_it() -> Result<()> {
    let product = Product::embedded().await?;
    let order = product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    let other = product.post("me", example("mercado-eletronico", "order.created")).await?;
    product.settled(2).await?;
    assert!(product.run(&["events", "show", &order[..18]])?.contains(&order));
    let replay = ["events", "replay", &other[..18], "--dry-run"];
    assert!(product.run(&replay)?.contains("replay 1 event"), "only the one that is meant");
    let complaint = printed(&product, &["events", "show", &order[..4]], &[])?.expect_err("both begin so");
    assert!(complaint.contains("several ids begin with"), "{complaint}");
    assert!(complaint.contains(&order) && complaint.contains(&other), "{complaint}");
    let complaint = printed(&product, &["events", "show", "ffffffff"], &[])?.expect_err("none begins so");
    assert!(complaint.contains("no id in `malote events list` begins with ffffffff"), "{complaint}");

    let found = product.rows(&["events", "list", "--subject", "0000593098"])?;
    assert!(found.iter().any(|row| row["id"] == *order), "{found:#?}");
    let booked = product.rows(&["receivables", "list"])?;
    assert!(booked.iter().any(|row| row["event_id"] == *order), "{booked:#?}");
    Ok(())
}

#[tokio::test]
async fn a_table_fits_into_its_columns_with_local_times_and_a_pipe_gets_all_of_it() -> Result<()> {
    let product = Product::embedded().await?;
    let id = product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    product.settled(1).await?;
    let (list, narrow) = (["events", "list"], [("COLUMNS", "80"), ("TZ", "America/Sao_Paulo")]);
    let table = printed(&product, &list, &narrow)?.expect("a list");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains(&id[..18]) && !table.contains(&id), "{table}");
    assert!(table.contains("-03 ") && table.contains("No room for Consumers"), "{table}");
    let utc = printed(&product, &["events", "list", "--utc"], &narrow)?.expect("a list");
    assert!(utc.contains("Z ") && !utc.contains("-03 "), "{utc}");
    let whole = printed(&product, &list, &[("COLUMNS", ""), ("TZ", "America/Sao_Paulo")])?.expect("a list");
    assert!(whole.contains(&id) && whole.contains("Consumers"), "{whole}");
    let json = printed(&product, &["events", "list", "--json"], &narrow)?.expect("a list");
    assert!(json.contains(&id) && !json.contains("-03"), "{json}");
    Ok(())
}

#[tokio::test]
async fn a_shell_completes_ids_sources_and_topics_and_without_the_api_what_is_configured() -> Result<()> {
    let mut product = Product::embedded().await?;
    let id = product.post("go", r#"{"event_id": "ORDER_CREATED", "data": {"code": "1"}}"#).await?;
    let complete = |words: &[&str]| -> Result<Vec<String>> {
        let output =
            product.command(&[&["complete", "--"], words].concat())?.stdin(Stdio::null()).output()?;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    };
    let started = Instant::now();
    while !complete(&["events", "show", &id[..18]])?.contains(&id) {
        assert!(started.elapsed() < PATIENCE, "{id} is not completed");
    }
    assert!(complete(&["events", "show", "zz"])?.is_empty());
    assert_eq!(complete(&["sources", "show", "v"])?, ["visao"]);
    assert!(complete(&["events", "list", "--topic", "ORDER_"])?.contains(&"ORDER_CREATED".to_owned()));

    // The script of bash, as bash runs it.
    let binary = harness::malote_binary()?;
    let folder = binary.parent().context("a folder")?.display().to_string();
    let in_bash = |words: &str| -> Result<String> {
        let script = format!(
            "export PATH={folder}:$PATH; source <(malote completions bash); COMP_WORDS=({words}); \\
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _malote_values malote \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \\
             echo \"${{COMPREPLY[*]}}\""
        );
        let mut bash = Command::new("bash");
        let output =
            bash.args(["-c", &script]).current_dir(product.folder()).env_remove("MALOTE_CONFIG").output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    assert_eq!(in_bash("malote events list --source g")?, "go");
    assert_eq!(in_bash(&format!("malote events show {}", &id[..18]))?, id);
    assert_eq!(in_bash("malote events sho")?, "show", "what is no value is completed as before");

    product.terminate("up").await?;
    let complete = |words: &[&str]| -> Result<(String, Duration)> {
        let started = Instant::now();
        let output =
            product.command(&[&["complete", "--"], words].concat())?.stdin(Stdio::null()).output()?;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        Ok((String::from_utf8(output.stdout)?, started.elapsed()))
    };
    assert_eq!(complete(&["sources", "show", "v"])?.0, "visao\n");
    // One that takes the question and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let api = format!("http://{}", silent.local_addr()?);
    let (found, took) = complete(&["events", "show", "--api", &api, "--token", "x", ""])?;
    assert_eq!(found, "");
    // The limit is 300 ms; the rest is the start of a process on a busy machine.
    assert!(took < Duration::from_secs(5), "{took:?}");
    Ok(())
}
