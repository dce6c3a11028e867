//! Laws and doubles are compiled for tests alone, and there is one double of the broker.

use super::code::tokens;
use super::{File, Finding};

const RULE: &str = "scaffolding";

/// The feature that compiles [`MODULES`]; only `[dev-dependencies]` turn it on.
const FEATURE: &str = "test-support";

/// The modules of a crate that tests of other crates use.
const MODULES: [&str; 2] = ["laws", "test_support"];

/// What stands before such a module, as [`tokens`] shows it: without the feature's name.
const CONDITION: [&str; 13] = ["#", "[", "cfg", "(", "any", "(", "test", ",", "feature", "=", ")", ")", "]"];

const TRAITS: [&str; 4] = ["Broker", "Deliveries", "Publisher", "Subscriber"];

/// The types that implement one of [`TRAITS`]: the two brokers, the spool, and the double with its subscriptions.
const IMPLEMENTORS: [&str; 9] = [
    "Deliveries",
    "Embedded",
    "EmbeddedDeliveries",
    "Forgetful",
    "RabbitMq",
    "RecordingBroker",
    "Silent",
    "Spool",
    "Subscription",
];

/// Every module for tests that is always compiled, every further double of the broker, and every crate that the binary has
/// with the feature on. `features` is what the binary is made of, one package a line: `name v1.2.3|feature,feature`.
pub fn check(sources: &[File], features: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in sources {
        let tokens = tokens(text);
        for (index, (token, line)) in tokens.iter().enumerate() {
            let word = |at: usize| tokens.get(index + at).map_or("", |(token, _)| *token);
            let place = || format!("{path}:{line}");
            if *token == "mod" && MODULES.contains(&word(1)) && word(2) == ";" {
                let before = tokens[..index].iter().map(|(token, _)| *token).filter(|token| *token != "pub");
                if !before.rev().take(CONDITION.len()).eq(CONDITION.into_iter().rev()) {
                    let detail = format!("`{}` lacks `#[cfg(any(test, feature = \"{FEATURE}\"))]`", word(1));
                    findings.push(Finding::new(place(), RULE, detail));
                }
            }
            if TRAITS.contains(token) && word(1) == "for" && !IMPLEMENTORS.contains(&word(2)) {
                let detail =
                    format!("`{}` is a broker: tests use `broker::test_support::RecordingBroker`", word(2));
                findings.push(Finding::new(place(), RULE, detail));
            }
        }
    }
    for line in features.lines() {
        if let Some((package, features)) = line.split_once('|')
            && features.split(',').any(|feature| feature == FEATURE)
        {
            let name = package.split(' ').next().unwrap_or_default();
            let detail = format!("the binary has {name} with the feature {FEATURE}, which is for tests");
            findings.push(Finding::new("crates/cli/Cargo.toml", RULE, detail));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn findings(text: &str, features: &str) -> Vec<String> {
        check(&[file("crates/a/src/lib.rs", text)], features).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn laws_and_doubles_need_the_feature() {
        for module in ["pub mod laws;", "mod laws;", "pub mod test_support;"] {
            let condition = "#[cfg(any(test, feature = \"test-support\"))]";
            assert!(findings(&format!("mod a;\n{condition}\n{module}\n"), "").is_empty());
            for text in [format!("mod a;\n{module}\n"), format!("{condition}\nmod a;\n{module}\n")] {
                assert_eq!(findings(&text, "").len(), 1, "{text}");
            }
        }
    }

    #[test]
    fn there_is_one_double_of_the_broker() {
        assert!(findings("impl Broker for RabbitMq {}\nimpl broker::Publisher for Spool {}", "").is_empty());
        assert_eq!(
            findings("#[cfg(test)]\nmod tests {\n    impl Publisher for Failing {}\n}\n", ""),
            ["crates/a/src/lib.rs:3: [scaffolding] `Failing` is a broker: tests use \
                 `broker::test_support::RecordingBroker`"]
        );
    }

    #[test]
    fn the_binary_has_no_crate_with_the_feature() {
        let tree = |features: &str| format!("cli v0.1.0 (/a/cli)|\nstore v0.1.0 (/a/store)|{features}\n");
        assert!(findings("", &tree("default,std")).is_empty());
        assert_eq!(
            findings("", &tree("default,test-support")),
            [
                "crates/cli/Cargo.toml: [scaffolding] the binary has store with the feature test-support, which is for tests"
            ]
        );
    }
}
