//! Edit and retry of a dead letter: from a file, standard input or an editor.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use console::{EditChecked, EditRequest};
use ledger::jobs::Job;
use ledger::{BodyInJson, DEAD, DeadLetter, EVENTS};

use super::api::Api;
use super::ask::confirm;
use super::{follow, ids, lists};
use crate::args::dead::{DeadEdit, EditArgs};
use crate::config::Config;
use crate::report;

/// `malote dead edit`
pub async fn edit(args: DeadEdit, config: &Config) -> Result<ExitCode> {
    let DeadEdit { id, consumer, file, reason, to_all, job } = args;
    let EditArgs { dry_run, yes, detach, api } = job;
    if file.as_deref() == Some(Path::new("-")) && !yes && !dry_run {
        bail!("--file -: standard input has the body, so nobody can be asked; give --yes or --dry-run");
    }
    let api = Api::new(&api, config)?;
    let id = ids::whole(&[&DEAD, &EVENTS], &id, &api).await?;
    let letter = letter(&id, consumer.as_deref(), &api).await?;
    let original =
        letter.body.bytes().context("the API gives no body; a token with the role operator sees it")?;
    let body = match file {
        Some(file) => read(&file)?,
        None => in_editor(&original, &letter)?,
    };
    let BodyInJson { body, body_base64, .. } = body.into();
    let checking = EditRequest { body, body_base64, reason, to_all, dry_run: true };
    let path = format!("dead/{id}/{}/edit", letter.row.consumer);
    let EditChecked { subject, diff, .. } = api.post(&path, &checking).await?;
    diff.iter().for_each(report::line);
    let about = subject.map(|subject| format!(" about {subject}")).unwrap_or_default();
    report::line(format!("\nIts contract and {} can read this body{about}.", letter.row.consumer));
    if dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let to = if to_all { "every consumer of the topic" } else { &letter.row.consumer };
    if !yes {
        confirm(&format!("Send it to {to} in place of the dead letter?"))?;
    }
    let job: Job = api.post(&path, &EditRequest { dry_run: false, ..checking }).await?;
    let sent = job.filter["id"].as_str().unwrap_or_default();
    report::line(format!("The new event is {sent}; the dead letter is closed."));
    if detach {
        report::line(format!("`malote jobs watch {}` follows the job that sends it.", job.id));
        return Ok(ExitCode::SUCCESS);
    }
    follow::jobs(&api, vec![job]).await
}

/// The letter to edit.
async fn letter(id: &str, consumer: Option<&str>, api: &Api) -> Result<DeadLetter> {
    let path = format!("{}/{id}", DEAD.name);
    let found = api.find_with::<view::List<DeadLetter>>(&path, &lists::revealing(true)).await?;
    let mut letters = found.map(|list| list.items).unwrap_or_default();
    if letters.is_empty() {
        bail!("no consumer gave up on {id}");
    }
    letters.retain(|letter| consumer.is_none_or(|consumer| letter.row.consumer == consumer));
    match <[DeadLetter; 1]>::try_from(letters) {
        Ok([letter]) => Ok(letter),
        Err(none) if none.is_empty() => bail!("{} did not give up on {id}", consumer.unwrap_or_default()),
        Err(several) => {
            let names: Vec<_> = several.iter().map(|letter| letter.row.consumer.as_str()).collect();
            bail!("several consumers gave up on {id}: give --consumer with one of {}", names.join(", "))
        }
    }
}

/// The bytes of a file, or of standard input for `-`.
fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// What the editor of the person at the terminal makes of a body.
fn in_editor(original: &[u8], letter: &DeadLetter) -> Result<Vec<u8>> {
    let variable = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
    let Some(editor) = variable("VISUAL").or_else(|| variable("EDITOR")) else {
        bail!("neither VISUAL nor EDITOR names an editor; give the corrected body with --file");
    };
    let mut file = tempfile::Builder::new()
        .prefix("malote-")
        .suffix(if letter.content_type.contains("json") { ".json" } else { ".txt" })
        .tempfile()
        .context("cannot write a file to edit")?;
    file.write_all(original)?;
    file.flush()?;
    report::note(format!("{}: {}", letter.row.consumer, letter.row.error));
    // As git and others do: the variable may have options.
    let mut words = editor.split_whitespace();
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .arg(file.path())
        .status()
        .with_context(|| format!("cannot start {editor}"))?;
    if !status.success() {
        bail!("{editor} ended with {status}: nothing was done");
    }
    let mut edited = read(file.path())?;
    // Editors end the last line.
    if edited.last() == Some(&b'\n') && original.last() != Some(&b'\n') {
        edited.pop();
    }
    Ok(edited)
}
