//! What the end-to-end tests (`suite/main.rs`), the floods (`floods/main.rs`) and the benchmarks (`bench/main.rs`) share: the
//! product as a black box.

use std::path::PathBuf;

pub mod browser;
pub mod product;
pub mod usage;

/// Where the fault tests write their tables if they run in full (`cargo xtask test --faults`).
pub fn full_faults() -> Option<PathBuf> {
    std::env::var_os("MALOTE_TEST_FAULTS").map(PathBuf::from)
}

/// A documented topic of Mercado Eletrônico's that no domain takes, so that its events are unrouted. A domain that takes it names
/// another one here.
pub const UNROUTED: &str = "supplier.created";

/// The documented body of [`UNROUTED`], which the source `me` sends.
pub fn unrouted() -> &'static str {
    product::example("mercado-eletronico", UNROUTED)
}

/// Every consumer of a scaled product that is a process: the ledger, and each domain's.
pub fn consumers() -> Vec<&'static str> {
    std::iter::once("ledger").chain(domains::ALL.iter().map(|domain| domain.name())).collect()
}

/// The arguments that start the process of a consumer.
pub fn consumer_command(name: &'static str) -> Vec<&'static str> {
    if name == "ledger" { vec![name] } else { vec!["consume", name] }
}

/// The roles of a scaled product, each as a process of its name, with its arguments.
pub fn roles() -> Vec<(&'static str, Vec<&'static str>)> {
    let ports = ["console", "ingress"].map(|role| (role, vec![role]));
    ports.into_iter().chain(consumers().into_iter().map(|name| (name, consumer_command(name)))).collect()
}

/// A CPF with its check digits (Receita Federal: weights 10 to 2 and 11 to 2, modulo 11).
pub fn cpf(number: usize) -> String {
    let mut digits: Vec<usize> =
        format!("{:09}", 100_000_000 + number).bytes().map(|byte| usize::from(byte - b'0')).collect();
    for length in [9, 10] {
        let sum: usize = digits.iter().enumerate().map(|(at, digit)| digit * (length + 1 - at)).sum();
        digits.push((sum * 10 % 11) % 10);
    }
    digits.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use event::{ProviderName, Topic};

    use super::*;

    #[test]
    fn no_domain_takes_what_is_to_be_unrouted() {
        let (provider, topic) = (ProviderName::new("mercado-eletronico"), Topic::new(UNROUTED));
        let (provider, topic) = (provider.unwrap(), topic.unwrap());
        let takers = domains::ALL.iter().filter(|domain| domain.bindings.takes(&provider, &topic));
        assert_eq!(takers.map(|domain| domain.name()).collect::<Vec<_>>(), [""; 0]);
    }
}
