//! `malote sources`: the configured sources, what their requests prove, and how polling them goes.

use anyhow::{Result, bail};
use console::SourceDetail;
use polling::{SOURCES, SourceRow};
use serde::Deserialize;
use serde_json::Value;
use view::Shown;

use super::api::Api;
use super::fields::Fields;
use super::lists::{list, print_json};
use crate::args::sources::{Language, SourceShow, Sources};
use crate::config::Config;
use crate::{report, table};

/// The width of the longest name of a line.
const NAME_WIDTH: usize = 14;

/// Runs the commands that ask the API.
pub async fn run(command: Sources, config: &Config) -> Result<()> {
    match command {
        Sources::List(rows) => list(&SOURCES, rows, config).await.map(drop),
        Sources::Show(args) => show(&args, config).await,
        // They ask no API.
        Sources::Add(_) | Sources::Presets { .. } => Ok(()),
    }
}

async fn show(SourceShow { name, language, output }: &SourceShow, config: &Config) -> Result<()> {
    // Anything else would be another path.
    if event::SourceName::new(name).is_err() {
        bail!("{name:?} is not the name of a source; names are in `malote sources list`");
    }
    let api = Api::new(&output.api, config)?;
    let found: Option<Value> = api.find(&format!("{}/{name}", SOURCES.name)).await?;
    let Some(found) = found else { bail!("no source {name}; their names are in `malote sources list`") };
    if output.json {
        print_json(&found);
        return Ok(());
    }
    report::print(&described(&SourceDetail::deserialize(&found)?, *language));
    Ok(())
}

/// A source as text.
fn described(found: &SourceDetail, language: Language) -> String {
    let SourceDetail { configured, secrets, refusals, polling, documents } = found;
    let mut fields = Fields::new(NAME_WIDTH)
        .text("source", &configured.source)
        .text("provider", &configured.provider)
        .text("address", &configured.address)
        .text("expects", &configured.expects.en);
    if let Some(row) = polling.as_ref().and_then(|row| SourceRow::deserialize(row).ok()) {
        let every = row.poll_every_s.map(|seconds| format!("every {seconds} s"));
        fields = fields
            .text("polled", &every.unwrap_or_else(|| "no".to_owned()))
            .time("last poll", &row.polled_at)
            .text("items", &row.items)
            .time("next poll", &row.next_poll_at)
            .text("failed polls", &Some(row.failures).filter(|failures| *failures > 0))
            .time("last failure", &row.failed_at)
            .text("failure", &row.failure);
    }
    if let Some(api) = documents {
        let state = if api.failing_since.is_some() { "failing" } else { "working" };
        fields = fields
            .text("documents' API", &state)
            .time("failing since", &api.failing_since)
            .time("asked again", &api.held_until);
    }
    let mut text = fields.text;
    if !secrets.is_empty() {
        text += &format!("\n{}", table::rows(ledger::SourceSecret::COLUMNS, secrets));
    }
    if !refusals.is_empty() {
        text += &format!("\nRefused requests\n{}", table::rows(ledger::SourceRefusal::COLUMNS, refusals));
    }
    if let Some(panel) = &configured.panel {
        let (heading, lines) = match language {
            Language::En => ("Enter in the panel of", &panel.text.en),
            Language::Pt => ("Informe no painel de", &panel.text.pt),
        };
        text += &format!("\n{heading} {}\n", panel.title);
        lines.lines().for_each(|line| text += &format!("  {line}\n"));
        text += &format!("  {}\n", panel.page);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_source_is_described_with_its_secrets_and_the_panel_of_its_sender() {
        let found = SourceDetail::deserialize(json!({
            "source": "loja", "provider": "iugu", "address": "http://127.0.0.1:8080/webhooks/loja",
            "expects": {"en": "the parameter token in the address", "pt": "o parâmetro token no endereço"},
            "panel": {
                "title": "Iugu", "page": "https://iugu.example",
                "text": {"en": "URL: x", "pt": "Endereço: x\nEventos: todos"}, "stops": {"en": "", "pt": ""},
            },
            "secrets": [{
                "setting": "auth.query.secrets", "place": 1, "state": "latest", "first_seen_at": "2026-11-22T16:01:34Z",
                "used_at": "2026-11-23T16:01:34Z", "removed_at": null,
            }],
            "refusals": [{"reason": "not authenticated", "failed": "auth.query", "refused_at": "2026-11-22T16:01:35Z"}],
            "polling": null,
            "documents": {"failures": 2, "failing_since": "2026-11-22T16:01:36Z", "held_until": null},
        }))
        .unwrap();
        let text = described(&found, Language::Pt);
        for expect in [
            "expects         the parameter token in the address",
            "documents' API  failing",
            "failing since   2026-11-22 16:01:36Z",
            "auth.query.secrets",
            "latest",
            "Refused requests",
            "not authenticated",
            "Informe no painel de Iugu\n  Endereço: x\n  Eventos: todos\n  https://iugu.example",
        ] {
            assert!(text.contains(expect), "{expect}: {text}");
        }
    }
}
