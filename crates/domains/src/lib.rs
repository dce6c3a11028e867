//! The registry of the domains: lists them for the program, the tests and the benchmarks. The build tool takes them from its
//! manifest.
//!
//! Place in the flow: the program wires, binds, migrates and lists what [`ALL`] has; the tests and the benchmarks read
//! the same list. Knows nothing of a domain but its [`Domain`](consumer::Domain) value and, for tests, its laws.

use consumer::Domain;

/// The crates of all domains, for a macro that declares something for each: `each!(with)` is `with! { invoices … }`. A
/// new domain is one more word here.
#[macro_export]
macro_rules! each {
    ($with:ident) => {
        $with! { invoices receivables prescriptions purchasing }
    };
}

macro_rules! registry {
    ($($domain:ident)+) => {
        $(pub use ::$domain;)+

        /// All domains.
        pub static ALL: &[&Domain] = &[$(&$domain::DOMAIN),+];
    };
}

each!(registry);
