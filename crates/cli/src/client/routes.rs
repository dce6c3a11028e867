//! `malote routes`: where events go.

use anyhow::{Context, Result};
use console::ROUTES;
use serde_json::value::RawValue;
use view::List;

use super::api::Api;
use super::lists::print_json;
use crate::args::Routes;
use crate::config::Config;
use crate::report;
use crate::table;

/// Prints each topic with what takes it, or what takes one topic.
pub async fn run(Routes { provider, topic, output }: Routes, config: &Config) -> Result<()> {
    let given = [("provider", provider), ("topic", topic)];
    let given: Vec<_> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let api = Api::new(&output.api, config)?;
    let List { items, .. } = api.get::<List<Box<RawValue>>>(ROUTES.name, &given).await?;
    if output.json {
        print_json(&items);
    } else if items.is_empty() {
        report::line(ROUTES.empty);
    } else {
        let rows = ROUTES.table(&items).with_context(|| api.not_malote(ROUTES.name))?;
        report::print(&table::text(rows).text);
    }
    Ok(())
}
