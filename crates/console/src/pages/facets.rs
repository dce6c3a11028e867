//! What helps to fill in a filter: how many of the newest rows have which values, and the values on record.

use std::collections::BTreeMap;

use ledger::{FacetCount, Facets, Senders};
use view::{Described, View};

use super::shell::{Shell, Visit};
use super::{Pages, borrowed, link, read};
use crate::ConsoleState;

/// The counts of a list's values, as its page shows them.
pub(super) struct FacetsPart {
    /// How many rows are counted.
    pub(super) summary: String,
    pub(super) groups: Vec<Group>,
}

/// The values of a field.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) values: Vec<Counted>,
}

/// A value: what it is called, how many rows have it, where the list with it alone is, and whether that is this list.
pub(super) struct Counted {
    pub(super) text: String,
    pub(super) count: usize,
    pub(super) href: String,
    pub(super) is_chosen: bool,
}

/// The counts of the events of a filter; none if there is nothing to choose.
pub(super) async fn counted(
    pages: &Pages,
    shell: &Shell,
    visit: &Visit,
    filter: &[(String, String)],
) -> Option<FacetsPart> {
    let facets: Facets = read(pages, visit, &link("/events/facets", borrowed(filter))).await.ok()?;
    let Facets { counted, has_more, state, source, provider, topic } = facets;
    let groups = [("state", state), ("source", source), ("provider", provider), ("topic", topic)];
    let groups = groups.map(|(name, counts)| group(shell, name, counts, filter));
    let summary = match has_more {
        true => shell.filled("By value, of the newest {}", &[&counted]),
        false => shell.filled("By value, of all {}", &[&counted]),
    };
    (counted > 0).then(|| FacetsPart { summary, groups: groups.into() })
}

fn group(shell: &Shell, name: &'static str, counts: Vec<FacetCount>, filter: &[(String, String)]) -> Group {
    let is_chosen = filter.iter().any(|(other, _)| other == name);
    let value = |FacetCount { value, count }: FacetCount| {
        // What is chosen already is taken back.
        let others = borrowed(filter).filter(|(other, _)| *other != name);
        let href = link("/events", others.chain((!is_chosen).then_some((name, value.as_str()))));
        let text = if name == "state" { shell.t(&value).to_owned() } else { value };
        Counted { text, count, href, is_chosen }
    };
    Group { name, values: counts.into_iter().map(value).collect() }
}

/// Values of filters, by the name of the filter.
pub(super) type Suggestions = BTreeMap<&'static str, Vec<String>>;

/// What is suggested for the filters of a list: names that are configured or on record.
pub(super) async fn suggestions(state: &ConsoleState, view: &View<impl AsRef<Described>>) -> Suggestions {
    let names = view.filters();
    let is_asked = ["source", "provider", "topic"].iter().any(|name| names.iter().any(|other| other == name));
    let mut senders = match state.store.read().await {
        Ok(mut connection) if is_asked => ledger::senders(&mut connection).await.unwrap_or_default(),
        _ => Senders::default(),
    };
    senders.sources.extend(state.sources.iter().map(|source| source.source.clone()));
    senders.providers.extend(state.providers.iter().cloned());
    let consumers = state.consumers.iter().map(|(name, _)| (*name).to_owned()).collect();
    let named = [
        ("source", senders.sources.into_iter().collect()),
        ("provider", senders.providers.into_iter().collect()),
        ("topic", senders.topics.into_iter().collect()),
        ("consumer", consumers),
    ];
    named.into_iter().collect()
}
