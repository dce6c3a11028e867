//! The registry of the domains.

use consumer::Domain;

/// All of them. A new domain is a new line.
pub static ALL: [&Domain; 3] = [&invoices::DOMAIN, &receivables::DOMAIN, &prescriptions::DOMAIN];

/// The domain of a consumer's name.
pub fn named(name: &str) -> Option<&'static &'static Domain> {
    ALL.iter().find(|domain| domain.name() == name)
}
