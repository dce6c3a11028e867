//! What a shell and a supervisor see of the commands: exit codes, lost output, what is left behind.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::product::Product;

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
