//! The lists and single resources of the administration API, as text.

use anyhow::{Context, Result, bail};
use ledger::{DEAD, EVENTS, REJECTED};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use view::{View, shown};

use super::api::Api;
use super::fields::Described;
use super::ids;
use super::receipt::Received;
use crate::args::subscriptions::Rows;
use crate::args::{EventList, List, Options, ReceivedShow, Show};
use crate::config::Config;
use crate::report;
use crate::table;

/// Prints a list. Whether it is shown as a table.
pub async fn list(view: &View, list: List, config: &Config) -> Result<bool> {
    let mut filters = list.filters;
    filters.extend(list.source.map(|source| ("source".to_owned(), source)));
    check_fields(view, &filters)?;
    let api = Api::new(&list.output.api, config)?;
    for (_, id) in filters.iter_mut().filter(|(field, _)| ["caused_by", "event_id"].contains(&field.as_str()))
    {
        *id = ids::whole(&[&EVENTS], id, &api).await?;
    }
    if list.reveal && view.personal().is_empty() {
        bail!("--reveal: {} say nothing of people", view.rows);
    }
    let is_filtered = !filters.is_empty();
    filters.extend(revealing(list.reveal));
    let (rows, has_more) = api.rows(view, &filters, list.limit).await?;
    if list.output.json {
        print_json(&rows);
    } else if rows.is_empty() {
        let none = if is_filtered { "Nothing matches these filters." } else { view.empty };
        report::line(none);
    } else {
        let mut table = view.table(&rows).with_context(|| api.not_malote(view.name))?;
        // The newest is where the person looks: above the prompt.
        if view.is_paged() && table::is_terminal() {
            table.rows.reverse();
        }
        let table::Text { text, left_out } = table::text(table);
        report::print(&text);
        if !left_out.is_empty() {
            report::line(format!("\nNo room for {}; --json has everything.", left_out.join(", ")));
        }
        if has_more {
            let shown =
                if rows.len() == 1 { "newest is".to_owned() } else { format!("newest {} are", rows.len()) };
            report::line(format!("\nOnly the {shown} shown; --limit shows more."));
        }
        return Ok(true);
    }
    Ok(false)
}

/// Refuses a field that the rows of this list are not filtered by.
pub fn check_fields(view: &View, filters: &[(String, String)]) -> Result<()> {
    let known = view.filters();
    if let Some((field, _)) = filters.iter().find(|(field, _)| !known.contains(field)) {
        bail!(
            "--where: {field} is not a field that {} are filtered by; expected one of {}",
            view.name,
            known.join(", ")
        );
    }
    Ok(())
}

/// The parameter that asks for personal data.
pub fn revealing(reveal: bool) -> Vec<(String, String)> {
    reveal.then(|| ("reveal".to_owned(), "true".to_owned())).into_iter().collect()
}

/// Prints the list of events.
pub async fn events(list: EventList, config: &Config) -> Result<()> {
    let EventList { filter, list: mut rest } = list;
    rest.filters.extend(filter.parameters(&config.time.zone));
    self::list(&EVENTS, rest, config).await.map(drop)
}

/// Prints a list without a source, filtered by the options that it declares.
pub async fn list_with_options<F>(
    view: &View,
    filter: Options<F>,
    rows: Rows,
    config: &Config,
) -> Result<()> {
    let Rows { limit, mut filters, output } = rows;
    filters.extend(filter.parameters(&config.time.zone));
    self::list(view, List { limit, filters, source: None, reveal: false, output }, config).await.map(drop)
}

/// Prints one event or one rejected body.
pub async fn show<T: Described>(view: &View, show: Show, reveal: bool, config: &Config) -> Result<()> {
    let Show { id, output } = show;
    let api = Api::new(&output.api, config)?;
    let found = find(view, &id, &revealing(reveal), &api).await?;
    if output.json {
        print_json(&found);
    } else {
        report::print(&api.read::<T>(view.name, found.get().as_bytes())?.described());
    }
    Ok(())
}

/// Prints what was posted, or only its receipt.
pub async fn show_received<T: Described + Received>(
    view: &View,
    args: ReceivedShow,
    config: &Config,
) -> Result<()> {
    let ReceivedShow { receipt, reveal, show } = args;
    if !receipt {
        return self::show::<T>(view, show, reveal, config).await;
    }
    let api = Api::new(&show.output.api, config)?;
    let found = find(view, &show.id, &[], &api).await?;
    let found: T = api.read(view.name, found.get().as_bytes())?;
    let Some(text) = found.receipt_text() else {
        bail!(
            "there is no receipt of {}: it was not posted, or a version of malote recorded it that kept none",
            show.id
        );
    };
    match show.output.json {
        true => print_json(&found.receipt()),
        false => report::print(&text),
    }
    Ok(())
}

/// One event, rejected body or document, as the API answers it.
pub async fn find(view: &View, id: &str, query: &[(String, String)], api: &Api) -> Result<Box<RawValue>> {
    let what = view.row;
    // A rejected body that was sent again is an event, under the same id.
    let lists: &[&View] = match view.name {
        name if name == EVENTS.name => &[&EVENTS, &REJECTED],
        name if name == REJECTED.name => &[&REJECTED, &EVENTS],
        _ => &[view],
    };
    let id = ids::whole(lists, id, api).await?;
    let path = format!("{}/{id}", view.name);
    let Some(found) = api.find_with::<Box<RawValue>>(&path, query).await? else {
        let other = if view.name == EVENTS.name { &REJECTED } else { &EVENTS };
        if api.find::<IgnoredAny>(&format!("{}/{id}", other.name)).await?.is_some() {
            bail!("no {what} {id}, but `malote {} show {id}` shows it", other.name);
        }
        bail!("no {what} {id}; ids are in `malote {} list`", view.name);
    };
    Ok(found)
}

/// Prints all rows of one event; `none` is the error without one.
pub async fn show_all<T: Described>(
    view: &View,
    show: Show,
    reveal: bool,
    none: &str,
    config: &Config,
) -> Result<()> {
    let Show { id, output } = show;
    let api = Api::new(&output.api, config)?;
    // Dead letters that are closed are not in their list, and attempts are found by their event.
    let lists: &[&View] = if view.name == DEAD.name { &[&DEAD, &EVENTS] } else { &[&EVENTS] };
    let id = ids::whole(lists, &id, &api).await?;
    let path = format!("{}/{id}", view.name);
    let Some(found) = api.find_with::<view::List<Box<RawValue>>>(&path, &revealing(reveal)).await? else {
        bail!("{none}; `malote events show {id}` shows its outcome");
    };
    if output.json {
        print_json(&found.items);
        return Ok(());
    }
    let mut texts = Vec::new();
    for row in found.items {
        texts.push(api.read::<T>(&path, row.get().as_bytes())?.described());
    }
    report::print(&texts.join("\n"));
    Ok(())
}

/// Prints JSON with indentation.
pub fn print_json(value: &impl Serialize) {
    report::line(format!("{:#}", shown(value)));
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::registry;

    #[test]
    fn an_example_filters_by_a_parameter() {
        let views: Vec<_> = registry::views().collect();
        let document: Value = serde_json::from_str(&console::openapi(&views)).unwrap();
        for view in views.into_iter().filter(|view| !view.example.is_empty()) {
            let list = &document["paths"][format!("/api/v1/{}", view.name)]["get"];
            let parameters = list["parameters"].as_array().unwrap();
            let (example, _) = view.example.split_once('=').unwrap();
            assert!(parameters.iter().any(|parameter| parameter["name"] == example), "{}", view.name);
        }
    }
}
