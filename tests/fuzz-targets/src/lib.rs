//! Fuzz targets for everything that a stranger can write, each declared once.
//!
//! `fuzz/` runs them under `cargo fuzz` without limit; the tests here run them on the stable toolchain, on their seeds
//! and a bounded number of mutations. A target panics if a property does not hold.

mod addresses;
mod bodies;
mod credentials;
mod declarations;
mod expressions;
mod filters;
#[cfg(test)]
mod mutate;
mod urls;

/// A function that must hold for every input.
pub struct Target {
    /// Its name, also that of its program in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics when a property does not hold for an input.
    pub run: fn(&[u8]),
    /// Seeds.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target { name: "addresses", run: addresses::run, seeds: addresses::seeds },
    Target { name: "bodies", run: bodies::run, seeds: bodies::seeds },
    Target { name: "credentials", run: credentials::run, seeds: credentials::seeds },
    Target { name: "urls", run: urls::run, seeds: urls::seeds },
    Target { name: "filters", run: filters::run, seeds: filters::seeds },
    Target { name: "cursors", run: filters::cursors, seeds: filters::cursor_seeds },
    Target { name: "declarations", run: declarations::run, seeds: declarations::seeds },
    Target { name: "expressions", run: expressions::run, seeds: expressions::seeds },
];

/// Runs the target of a name.
///
/// # Panics
/// There is none, or a property does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the name of a target").run)(input);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// How many mutations each target is tried on.
    const CASES: usize = 3_000;

    fn check(name: &str) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let seeds = (target.seeds)();
        let cases = mutate::cases(&seeds, CASES);
        for input in seeds.iter().chain(&cases) {
            let input = mutate::Shown(input);
            (target.run)(input.0);
        }
    }

    #[test]
    fn an_address_reads_as_the_same_and_none_that_is_not_public_passes() {
        check("addresses");
    }

    #[test]
    fn a_body_is_read_the_same_twice_and_no_error_quotes_it() {
        check("bodies");
    }

    #[test]
    fn a_request_passes_with_the_secret_and_its_own_body_only() {
        check("credentials");
    }

    #[test]
    fn a_url_never_shows_its_password_and_its_address_reads_as_the_same() {
        check("urls");
    }

    #[test]
    fn a_filter_that_was_read_is_read_the_same_from_what_it_was_given() {
        check("filters");
    }

    #[test]
    fn a_cursor_comes_back_as_the_key_it_was_made_of() {
        check("cursors");
    }

    #[test]
    fn a_file_of_subscriptions_is_read_whole_or_every_mistake_has_its_line() {
        check("declarations");
    }

    #[test]
    fn an_expression_ends_with_the_same_value_or_an_error_that_quotes_no_event() {
        check("expressions");
    }

    #[test]
    fn every_target_is_a_program_of_cargo_fuzz_and_the_other_way_round() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        let programs: BTreeSet<_> = fs::read_dir(fuzz.join("fuzz_targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(programs, names);
        let manifest: toml::Table =
            toml::from_str(&fs::read_to_string(fuzz.join("Cargo.toml")).unwrap()).unwrap();
        let declared: BTreeSet<_> = manifest["bin"]
            .as_array()
            .unwrap()
            .iter()
            .map(|bin| bin["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(declared, names);
        for name in &names {
            let program = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
            assert!(program.contains(&format!("run({name:?}, input)")), "{name}");
        }
    }
}
