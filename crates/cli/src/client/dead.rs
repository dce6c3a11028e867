//! Dead letters by group, and one event's letters whole.

use anyhow::{Result, bail};
use event::EventId;
use ledger::DEAD;
use serde_json::Value;

use super::api::Api;
use super::lists::{described, print_json};
use crate::args::{List, Show};
use crate::config::Config;
use crate::report;
use crate::table::{self, Column, Form, column};

const GROUPS: [Column; 6] = [
    column("Group", "group", Form::Id),
    column("Consumer", "consumer", Form::Text),
    column("Count", "count", Form::Number),
    column("First failed", "first_failed_at", Form::Time),
    column("Last failed", "last_failed_at", Form::Time),
    column("Error", "error", Form::Text),
];

/// Prints the groups of dead letters, the largest first.
pub async fn groups(list: List, config: &Config) -> Result<()> {
    let mut filters = list.filters;
    filters.extend(list.source.map(|source| ("source".to_owned(), source)));
    let api = Api::new(&list.output.api, config)?;
    let Value::Array(mut rows) = api.get("dead/groups", &filters).await?["items"].take() else {
        bail!("{} does not answer as malote does", api.base())
    };
    rows.truncate(list.limit as usize);
    if list.output.json {
        print_json(&Value::Array(rows));
    } else if rows.is_empty() {
        report::line(if filters.is_empty() { DEAD.empty } else { "Nothing fits these filters." });
    } else {
        report::print(&table::of_rows(&GROUPS, &rows));
        report::line(
            "\n`malote dead list --where group=<Group>` lists one; `malote dead retry --group <Group>` sends it again.",
        );
    }
    Ok(())
}

const HISTORY: [Column; 3] = [
    column("Attempt", "attempt", Form::Number),
    column("At", "at", Form::Time),
    column("Error", "error", Form::Text),
];

/// Prints the dead letters of one event.
pub async fn show(Show { id, output }: Show, config: &Config) -> Result<()> {
    if id.parse::<EventId>().is_err() {
        bail!("{id} is not the id of one: ids are in `malote dead list`");
    }
    let api = Api::new(&output.api, config)?;
    let Some(mut found) = api.find(&format!("dead/{id}")).await? else {
        bail!("no consumer gave up on {id}; `malote events show {id}` shows its outcome");
    };
    let Value::Array(letters) = found["items"].take() else {
        bail!("{} does not answer as malote does", api.base())
    };
    if output.json {
        print_json(&Value::Array(letters));
        return Ok(());
    }
    let texts: Vec<String> = letters.iter().map(letter).collect();
    report::print(&texts.join("\n"));
    Ok(())
}

fn letter(letter: &Value) -> String {
    let mut text = String::new();
    for (name, form) in [
        ("event_id", Form::Text),
        ("consumer", Form::Text),
        ("topic", Form::Text),
        ("error", Form::Text),
        ("group", Form::Text),
        ("attempts", Form::Text),
        ("first_failed_at", Form::Time),
        ("failed_at", Form::Time),
        ("resent_in", Form::Text),
        ("discarded_in", Form::Text),
    ] {
        if !letter[name].is_null() {
            text += &format!("{name:15}  {}\n", table::written(form, &letter[name]));
        }
    }
    if let Some(history) = letter["history"].as_array().filter(|history| !history.is_empty()) {
        text += &format!("\n{}", table::of_rows(&HISTORY, history));
    }
    let mut rest = letter.clone();
    for name in ["topic", "source", "provider"] {
        rest[name] = Value::Null;
    }
    text + "\n" + &described(&rest)
}
