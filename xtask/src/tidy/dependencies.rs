//! Who may name whom, and which crate may name a fenced library.
//!
//! Both are tables: a change of the architecture is a change here, and nowhere else in the build tool.

use cargo_metadata::{DependencyKind, Metadata};

use super::Finding;

/// The rule of [`CRATES`].
const MAY_NAME: &str = "may-name";

/// The rule of [`FENCES`].
const FENCE: &str = "fence";

/// Every crate and the crates of ours that it may name. `ALL` is no restriction. The domains have no rows: what the registry
/// depends on besides is one, and may name what [`DOMAIN`] has.
const CRATES: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("providers", &["event"]),
    ("broker", &["event"]),
    ("store", &["event"]),
    ("server", &[]),
    ("outbound", &["event"]),
    ("view", &["event", "store"]),
    ("access", &["event", "store", "view"]),
    ("broker-rabbitmq", &["broker", "event"]),
    ("consumer", &["broker", "event", "store", "view"]),
    ("ingress", &["broker", "event", "providers", "server"]),
    ("ledger", &["consumer", "broker", "event", "store", "view"]),
    (
        "subscriptions",
        &["access", "outbound", "providers", "ledger", "consumer", "broker", "event", "store", "view"],
    ),
    ("polling", &["ingress", "outbound", "providers", "event", "store", "view"]),
    ("documents", &["outbound", "providers", "ledger", "consumer", "event", "store", "view"]),
    (REGISTRY, &["consumer"]),
    (
        "console",
        &[
            "access",
            "documents",
            "subscriptions",
            "outbound",
            "ledger",
            "broker",
            "event",
            "store",
            "server",
            "view",
        ],
    ),
    ("cli", ALL),
    ("tests", ALL),
    ("fuzz-targets", ALL),
    ("harness", &[]),
    ("xtask", ALL),
];

/// What the crate of a domain may name.
const DOMAIN: &[&str] = &["consumer", "event", "providers", "store", "view"];

/// The crate that depends on every domain.
const REGISTRY: &str = "domains";

/// May name every crate.
const ALL: &[&str] = &["*"];

/// What the tests of any crate may name besides: mechanism, never a domain.
const HORIZONTAL: [&str; 9] =
    ["event", "providers", "broker", "broker-rabbitmq", "store", "consumer", "server", "outbound", "harness"];

/// The tests of the API read lists with rows in them.
const CONSOLE_TESTS: [&str; 1] = ["domains"];

/// The crates of the domains: what the registry depends on and has no row of its own.
pub fn domains(packages: &[Package]) -> Vec<&str> {
    let registry = packages.iter().filter(|package| package.name == REGISTRY);
    let names = registry.flat_map(|package| &package.dependencies).map(|dependency| dependency.name.as_str());
    let is_member = |name: &&str| packages.iter().any(|package| package.name == *name);
    names.filter(|name| row(name).is_none()).filter(is_member).collect()
}

/// The row of a crate in [`CRATES`].
fn row(name: &str) -> Option<&'static [&'static str]> {
    CRATES.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, row)| *row)
}

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
    Fence { library: "hyper", may: &["server", "outbound"], in_tests: true },
    Fence { library: "hyper-util", may: &["server", "outbound"], in_tests: true },
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
    let member = |package: &cargo_metadata::Package| {
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
    metadata.workspace_packages().into_iter().map(member).collect()
}

/// Every dependency that a table does not allow, and every crate that the table does not know or no longer has.
pub fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let domains = domains(packages);
    for Package { name, folder, dependencies } in packages {
        let manifest = format!("{folder}/Cargo.toml");
        let is_domain = domains.contains(&name.as_str());
        let Some(may_name) = row(name).or(is_domain.then_some(DOMAIN)) else {
            let detail = format!(
                "{name} has no row in the table of who may name whom (xtask/src/tidy/dependencies.rs), and is no domain: \
                 {REGISTRY} does not depend on it"
            );
            findings.push(Finding::new(manifest, MAY_NAME, detail));
            continue;
        };
        for dependency in dependencies {
            let other = dependency.name.as_str();
            let ours = packages.iter().any(|package| package.name == other);
            let in_tests = dependency.in_tests
                && (HORIZONTAL.contains(&other) || (name == "console" && CONSOLE_TESTS.contains(&other)));
            let allowed =
                may_name == ALL || may_name.contains(&other) || name == REGISTRY && domains.contains(&other);
            if ours && !(allowed || in_tests) {
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
    for (name, _) in CRATES.iter().copied() {
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

    /// Domains, as the registry depends on them.
    const DOMAINS: [(&str, bool); 2] = [("invoices", false), ("receivables", false)];

    /// A workspace with every crate of the table and some domains. One crate has these dependencies: `(name, whether in tests
    /// only)`.
    fn workspace(changed: &str, dependencies: &[(&str, bool)]) -> Vec<Package> {
        let package = |name: &str| {
            let dependency = |(name, in_tests): &(&str, bool)| Dependency {
                name: (*name).to_owned(),
                in_tests: *in_tests,
            };
            let registered = DOMAINS.iter().filter(|_| name == REGISTRY);
            let changed = dependencies.iter().filter(|_| name == changed);
            Package {
                name: name.to_owned(),
                folder: format!("crates/{name}"),
                dependencies: registered.chain(changed).map(dependency).collect(),
            }
        };
        let rows = CRATES.iter().map(|(name, _)| *name);
        rows.chain(DOMAINS.map(|(name, _)| name)).map(package).collect()
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
        assert!(details(&workspace("console", &[("domains", true)])).is_empty());
        let findings = details(&workspace("console", &[("domains", false), ("receivables", true)]));
        assert_eq!(
            findings,
            ["console may not name domains", "the tests of console may not name receivables"]
        );
    }

    #[test]
    fn the_registry_names_domains_and_nothing_else_may() {
        let packages = workspace("domains", &[("consumer", false), ("serde", false)]);
        assert!(details(&packages).is_empty());
        assert_eq!(domains(&packages), ["invoices", "receivables"]);
        let findings = details(&workspace("domains", &[("ledger", false)]));
        assert_eq!(findings, ["domains may not name ledger"]);
        let findings = details(&workspace("ledger", &[("domains", false), ("invoices", false)]));
        assert_eq!(findings, ["ledger may not name domains", "ledger may not name invoices"]);
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
