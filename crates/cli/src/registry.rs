//! The domains of this program: those of the registry, and in tests a toy.

#[cfg(test)]
mod toy;

use consumer::{Domain, DomainEvent};
use view::View;

macro_rules! all {
    ($($domain:ident)+) => {
        /// All domains.
        pub static ALL: &[&Domain] = &[
            $(&::domains::$domain::DOMAIN,)+
            #[cfg(test)]
            &toy::DOMAIN,
        ];
    };
}

::domains::each!(all);

/// The domain of a consumer's name.
pub fn named(name: &str) -> Option<&'static &'static Domain> {
    ALL.iter().find(|domain| domain.name() == name)
}

/// The lists of the domains.
pub fn books() -> impl Iterator<Item = &'static View> {
    ALL.iter().flat_map(|domain| domain.views).copied()
}

/// The types of domain events, with those of fetched documents.
pub fn events() -> impl Iterator<Item = &'static DomainEvent> {
    ALL.iter().flat_map(|domain| domain.events).chain(documents::EVENTS)
}

/// Every list: the ledger's, those of subscriptions, documents, sources, tokens and audit, and those of the domains.
pub fn views() -> impl Iterator<Item = &'static View> {
    let mechanism = ledger::VIEWS.into_iter().chain(subscriptions::VIEWS).chain(documents::VIEWS);
    mechanism.chain(polling::VIEWS).chain(access::VIEWS).chain(books())
}
