//! Ids as people give them: whole, or any beginning that only one has.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use event::EventId;
use serde_json::Value;
use serde_json::value::RawValue;
use store::IdPrefix;
use view::View;

use super::api::Api;
use crate::table;

/// The most rows that are listed for a beginning of several ids.
const CANDIDATES: u32 = 10;

/// The whole id of this text, from the first of the lists that has one. A whole id is taken as it is: what a list no longer has can
/// still be shown.
pub async fn whole(views: &[&View], text: &str, api: &Api) -> Result<String> {
    let name = views[0].name;
    if let Ok(id) = text.parse::<EventId>() {
        return Ok(id.to_string());
    }
    if text.parse::<IdPrefix>().is_err() {
        bail!(
            "{text} is not an id, nor at least 4 characters that one begins with; ids are in `malote {name} list`"
        );
    }
    for view in views {
        let filter = [("id".to_owned(), text.to_owned())];
        let (rows, _) = api.rows(view, &filter, CANDIDATES).await?;
        let ids: BTreeSet<String> = rows.iter().filter_map(|row| id(row)).collect();
        match ids.len() {
            0 => {}
            1 => return Ok(ids.into_iter().collect()),
            _ => {
                let candidates = table::text(view.table(&rows)?).text;
                bail!("several ids begin with {text}; give more of the one that is meant\n\n{candidates}");
            }
        }
    }
    bail!("no id in `malote {name} list` begins with {text}")
}

/// The same of several texts.
pub async fn all_whole(views: &[&View], texts: Vec<String>, api: &Api) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for text in texts {
        ids.push(whole(views, &text, api).await?);
    }
    Ok(ids)
}

/// The id of a row.
fn id(row: &RawValue) -> Option<String> {
    let row: Value = serde_json::from_str(row.get()).ok()?;
    row["id"].as_str().map(str::to_owned)
}
