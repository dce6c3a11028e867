//! Who may name whom, and which crate may name a fenced library.
//!
//! Both are tables: a change of the architecture is a change here, and nowhere else in the build tool.

use cargo_metadata::{DependencyKind, Metadata};

use super::Finding;

/// The rule of [`CRATES`].
const MAY_NAME: &str = "may-name";

/// The rule of [`FENCES`].
const FENCE: &str = "fence";

/// Every crate and the crates of ours that it may name. `ALL` is no restriction.
const CRATES: [(&str, &[&str]); 19] = [
    ("event", &[]),
    ("providers", &["event"]),
    ("broker", &["event"]),
    ("store", &["event"]),
    ("server", &[]),
    ("view", &["store"]),
    ("broker-rabbitmq", &["broker", "event"]),
    ("consumer", &["broker", "event", "store", "view"]),
    ("ingress", &["broker", "event", "providers", "server"]),
    ("ledger", &["consumer", "broker", "event", "store", "view"]),
    ("invoices", &["consumer", "event", "providers", "store", "view"]),
    ("receivables", &["consumer", "event", "providers", "store", "view"]),
    ("prescriptions", &["consumer", "event", "providers", "store", "view"]),
    ("console", &["ledger", "broker", "event", "store", "server", "view"]),
    ("cli", ALL),
    ("tests", ALL),
    ("fuzz-targets", ALL),
    ("harness", &[]),
    ("xtask", ALL),
];

/// May name every crate.
const ALL: &[&str] = &["*"];

/// What the tests of any crate may name besides: mechanism, never a domain.
const HORIZONTAL: [&str; 8] =
    ["event", "providers", "broker", "broker-rabbitmq", "store", "consumer", "server", "harness"];

/// The tests of the API read lists with rows in them.
const CONSOLE_TESTS: [&str; 3] = ["invoices", "receivables", "prescriptions"];

/// A library that only some crates may name.
struct Fence {
    library: &'static str,
    may: &'static [&'static str],
    /// Whether any crate's tests may name it too.
    in_tests: bool,
}

const FENCES: [Fence; 9] = [
    Fence { library: "lapin", may: &["broker-rabbitmq", "tests"], in_tests: false },
    Fence { library: "axum", may: &["console", "tests"], in_tests: true },
    Fence { library: "hyper", may: &["server"], in_tests: true },
    Fence { library: "hyper-util", may: &["server"], in_tests: true },
    Fence { library: "sqlx", may: &["store"], in_tests: false },
    Fence { library: "rusqlite", may: &["broker", "tests"], in_tests: true },
    Fence { library: "reqwest", may: &["cli", "tests"], in_tests: true },
    Fence { library: "anyhow", may: &["cli", "xtask", "tests", "harness"], in_tests: true },
    Fence { library: "clap", may: &["cli", "xtask", "tests"], in_tests: false },
];

/// A workspace member, as far as the rules see it.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder, relative to the root.
    pub folder: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    in_tests: bool,
}

/// The members of the workspace.
pub fn packages(metadata: &Metadata) -> Vec<Package> {
    let of = |package: &cargo_metadata::Package| {
        let folder = package.manifest_path.parent().expect("a manifest is in a folder");
        let dependencies = package.dependencies.iter().map(|dependency| Dependency {
            name: dependency.name.clone(),
            in_tests: dependency.kind == DependencyKind::Development,
        });
        Package {
            name: package.name.to_string(),
            folder: folder.strip_prefix(&metadata.workspace_root).unwrap_or(folder).to_string(),
            dependencies: dependencies.collect(),
        }
    };
    metadata.workspace_packages().into_iter().map(of).collect()
}

/// Every dependency that a table does not allow, and every crate that the table does not know or no longer has.
pub fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Package { name, folder, dependencies } in packages {
        let manifest = format!("{folder}/Cargo.toml");
        let Some((_, may_name)) = CRATES.iter().find(|(crate_name, _)| crate_name == name) else {
            let detail = format!(
                "{name} has no row in the table of who may name whom (xtask/src/tidy/dependencies.rs)"
            );
            findings.push(Finding::new(manifest, MAY_NAME, detail));
            continue;
        };
        for dependency in dependencies {
            let other = dependency.name.as_str();
            let ours = packages.iter().any(|package| package.name == other);
            let in_tests = dependency.in_tests
                && (HORIZONTAL.contains(&other) || (name == "console" && CONSOLE_TESTS.contains(&other)));
            if ours && !(*may_name == ALL || may_name.contains(&other) || in_tests) {
                let tests = if dependency.in_tests { "the tests of " } else { "" };
                findings.push(Finding::new(
                    &*manifest,
                    MAY_NAME,
                    format!("{tests}{name} may not name {other}"),
                ));
            }
            if let Some(fence) = FENCES.iter().find(|fence| fence.library == other)
                && !fence.may.contains(&name.as_str())
                && !(fence.in_tests && dependency.in_tests)
            {
                let may = fence.may.join(", ");
                findings.push(Finding::new(&*manifest, FENCE, format!("only {may} may name {other}")));
            }
        }
    }
    for (name, _) in CRATES {
        if !packages.iter().any(|package| package.name == name) {
            let detail = format!("the table of who may name whom has a row for {name}, which does not exist");
            findings.push(Finding::new("xtask/src/tidy/dependencies.rs", MAY_NAME, detail));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with every crate of the table, of which one has dependencies: `(name, whether in tests only)`.
    fn workspace(changed: &str, dependencies: &[(&str, bool)]) -> Vec<Package> {
        let package = |name: &str| {
            let of = |(name, in_tests): &(&str, bool)| Dependency {
                name: (*name).to_owned(),
                in_tests: *in_tests,
            };
            Package {
                name: name.to_owned(),
                folder: format!("crates/{name}"),
                dependencies: dependencies.iter().filter(|_| name == changed).map(of).collect(),
            }
        };
        CRATES.iter().map(|(name, _)| package(name)).collect()
    }

    fn details(packages: &[Package]) -> Vec<String> {
        check(packages).into_iter().map(|finding| finding.detail).collect()
    }

    #[test]
    fn what_the_table_allows_is_no_finding() {
        let ledger = [("consumer", false), ("broker", false), ("serde", false), ("anyhow", true)];
        assert!(details(&workspace("ledger", &ledger)).is_empty());
        assert!(details(&workspace("cli", &[("receivables", false), ("reqwest", false)])).is_empty());
    }

    #[test]
    fn the_console_names_domains_in_its_tests_alone() {
        assert!(details(&workspace("console", &[("receivables", true)])).is_empty());
        let findings = details(&workspace("console", &[("receivables", false)]));
        assert_eq!(findings, ["console may not name receivables"]);
    }

    #[test]
    fn a_domain_names_no_other_domain_and_not_even_in_its_tests() {
        let findings = details(&workspace("invoices", &[("receivables", false), ("ledger", true)]));
        assert_eq!(
            findings,
            ["invoices may not name receivables", "the tests of invoices may not name ledger"]
        );
    }

    #[test]
    fn tests_may_name_mechanism_that_the_crate_may_not() {
        let dependencies = [("broker-rabbitmq", true), ("harness", true)];
        assert!(details(&workspace("consumer", &dependencies)).is_empty());
        let findings = details(&workspace("consumer", &dependencies.map(|(name, _)| (name, false))));
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn a_fenced_library_is_named_by_its_crates_alone() {
        assert!(details(&workspace("broker-rabbitmq", &[("lapin", false)])).is_empty());
        assert_eq!(
            details(&workspace("ingress", &[("lapin", false)])),
            ["only broker-rabbitmq, tests may name lapin"]
        );
        assert_eq!(
            details(&workspace("ingress", &[("lapin", true)])),
            ["only broker-rabbitmq, tests may name lapin"]
        );
        assert_eq!(
            details(&workspace("store", &[("anyhow", false)])),
            ["only cli, xtask, tests, harness may name anyhow"]
        );
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        let mut packages = workspace("event", &[]);
        packages[0].name = "happening".to_owned();
        let findings = details(&packages);
        assert!(findings[0].starts_with("happening has no row"), "{findings:?}");
        assert!(findings[1].ends_with("has a row for event, which does not exist"), "{findings:?}");
    }
}
