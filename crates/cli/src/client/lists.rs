//! The lists and single resources of the administration API, as text.

use anyhow::{Context, Result, bail};
use event::EventId;
use ledger::{EVENTS, REJECTED};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use view::{View, shown};

use super::api::Api;
use super::described::Described;
use crate::args::{EventFilters, EventList, List, Show};
use crate::config::Config;
use crate::report;
use crate::table;

/// Prints a list. Whether it is shown as a table.
pub async fn list(view: &View, list: List, config: &Config) -> Result<bool> {
    let mut filters = list.filters;
    filters.extend(list.source.map(|source| ("source".to_owned(), source)));
    let known = view.filters();
    if let Some((field, _)) = filters.iter().find(|(field, _)| !known.contains(field)) {
        bail!(
            "--where: {field} is not a field that {} are filtered by; expected one of {}",
            view.name,
            known.join(", ")
        );
    }
    let api = Api::new(&list.output.api, config)?;
    let (rows, has_more) = rows(view, &api, &filters, list.limit).await?;
    if list.output.json {
        print_json(&rows);
    } else if rows.is_empty() {
        let none = if filters.is_empty() { view.empty } else { "Nothing fits these filters." };
        report::line(none);
    } else {
        let table = view.table(&rows).with_context(|| api.not_malote(view.name))?;
        report::print(&table::text(&table));
        if has_more {
            let shown =
                if rows.len() == 1 { "newest is".to_owned() } else { format!("newest {} are", rows.len()) };
            report::line(format!("\nOnly the {shown} shown; --limit shows more."));
        }
        return Ok(true);
    }
    Ok(false)
}

/// At most so many rows of a list as the API answers with them, and whether there are more.
async fn rows(
    view: &View,
    api: &Api,
    filters: &[(String, String)],
    limit: u32,
) -> Result<(Vec<Box<RawValue>>, bool)> {
    if view.is_paged() {
        return api.newest(view.name, filters, limit).await;
    }
    let mut rows = api.get::<view::List<_>>(view.name, filters).await?.items;
    rows.truncate(limit as usize);
    Ok((rows, false))
}

/// Prints the list of events.
pub async fn events(list: EventList, config: &Config) -> Result<()> {
    let EventList { filter, list: mut rest } = list;
    rest.filters.extend(fields(&filter, config));
    self::list(&EVENTS, rest, config).await.map(drop)
}

/// The filter as parameters of the list.
pub fn fields(filter: &EventFilters, config: &Config) -> Vec<(String, String)> {
    let EventFilters { provider, topic, state, subject, from, to } = filter;
    let given = [
        ("provider", provider.clone()),
        ("topic", topic.clone()),
        ("state", state.clone()),
        ("subject", subject.clone()),
        ("from", from.map(|moment| moment.time(&config.time.zone).to_string())),
        ("to", to.map(|moment| moment.time(&config.time.zone).to_string())),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Prints one event or one rejected body.
pub async fn show<T: Described>(view: &View, show: Show, config: &Config) -> Result<()> {
    let Show { id, output } = show;
    let what = view.row;
    if id.parse::<EventId>().is_err() {
        bail!("{id} is not the id of one: ids are in `malote {} list`", view.name);
    }
    let api = Api::new(&output.api, config)?;
    let path = format!("{}/{id}", view.name);
    let Some(found) = api.find::<Box<RawValue>>(&path).await? else {
        let other = if view.name == EVENTS.name { &REJECTED } else { &EVENTS };
        if api.find::<IgnoredAny>(&format!("{}/{id}", other.name)).await?.is_some() {
            bail!("no {what} {id}, but `malote {} show {id}` shows it", other.name);
        }
        bail!("no {what} {id}; ids are in `malote {} list`", view.name);
    };
    if output.json {
        print_json(&found);
    } else {
        report::print(&api.read::<T>(&path, found.get().as_bytes())?.described());
    }
    Ok(())
}

/// Prints JSON with indentation.
pub fn print_json(value: &impl Serialize) {
    report::line(format!("{:#}", shown(value)));
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::domains;

    #[test]
    fn an_example_filters_by_a_parameter() {
        let views: Vec<_> = domains::views().collect();
        let document: Value = serde_json::from_str(&console::openapi(&views)).unwrap();
        for view in views.into_iter().filter(|view| !view.example.is_empty()) {
            let list = &document["paths"][format!("/api/v1/{}", view.name)]["get"];
            let parameters = list["parameters"].as_array().unwrap();
            let (example, _) = view.example.split_once('=').unwrap();
            assert!(parameters.iter().any(|parameter| parameter["name"] == example), "{}", view.name);
        }
    }
}
