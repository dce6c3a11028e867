//! `malote documents`: what was fetched, and why something was not.

use std::fs::OpenOptions;
use std::io::{Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use documents::{DOCUMENTS, DocumentDetail};

use super::api::Api;
use super::fields::{Described, Fields};
use super::{ids, lists, resend};
use crate::args::documents::{Documents, Open};
use crate::config::Config;
use crate::table;
use view::Shown;

/// `malote documents`
pub async fn run(command: Documents, config: &Config) -> Result<ExitCode> {
    match command {
        Documents::List(list) => lists::list(&DOCUMENTS, list, config).await.map(drop)?,
        Documents::Show(show) => lists::show::<DocumentDetail>(&DOCUMENTS, show, false, config).await?,
        Documents::Fetch(args) => return resend::fetch(args, config).await,
        Documents::Open(args) => open(args, config).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(Open { id, version, output, api }: Open, config: &Config) -> Result<()> {
    let query: Vec<_> =
        version.map(|version| ("version".to_owned(), version.to_string())).into_iter().collect();
    let api = Api::new(&api, config)?;
    let id = ids::whole(&[&DOCUMENTS], &id, &api).await?;
    let Some(content) = api.bytes(&format!("{}/{id}/body", DOCUMENTS.name), &query).await? else {
        bail!("nothing was fetched of {id}; `malote documents show {id}` says why");
    };
    match output {
        Some(file) => write(&file, &content).with_context(|| format!("cannot write {}", file.display())),
        None => stdout().write_all(&content).context("cannot write to standard output"),
    }
}

/// It may be about a person: for this user only.
fn write(file: &Path, content: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(content)
}

impl Described for DocumentDetail {
    fn described(&self) -> String {
        let Self { row, versions } = self;
        let fields = Fields::new(12)
            .text("id", &row.id)
            .text("source", &row.source)
            .text("entity", &row.entity)
            .text("external_id", &row.external_id)
            .text("state", &row.state)
            .text("reason", &row.reason)
            .time("due_at", &row.due_at)
            .text("event_id", &row.event_id);
        if versions.is_empty() {
            return fields.text;
        }
        format!("{}\n{}", fields.text, table::rows(documents::VersionRow::COLUMNS, versions))
    }
}
