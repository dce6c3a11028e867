//! The registry of the domains.

#[cfg(test)]
mod toy;

use consumer::Domain;
use view::View;

/// All domains. A new domain is a new line.
pub static ALL: &[&Domain] = &[
    &invoices::DOMAIN,
    &receivables::DOMAIN,
    &prescriptions::DOMAIN,
    #[cfg(test)]
    &toy::DOMAIN,
];

/// The domain of a consumer's name.
pub fn named(name: &str) -> Option<&'static &'static Domain> {
    ALL.iter().find(|domain| domain.name() == name)
}

/// The lists of the domains.
pub fn books() -> impl Iterator<Item = &'static View> {
    ALL.iter().flat_map(|domain| domain.views).copied()
}

/// Every list: the ledger's and those of the domains.
pub fn views() -> impl Iterator<Item = &'static View> {
    ledger::VIEWS.into_iter().chain(books())
}
