//! The domains that the tests know.

use consumer::Domain;

/// All of them, as in the registry of the program.
pub static DOMAINS: [&Domain; 3] = [&invoices::DOMAIN, &receivables::DOMAIN, &prescriptions::DOMAIN];
