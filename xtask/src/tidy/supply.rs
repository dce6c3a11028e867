//! Third-party packages: licences, duplicate versions, and sources.
//!
//! The lists are those of deny.toml, which `cargo deny` reads too. Licences and versions are checked for what is built
//! on this machine (`cargo tree`), sources for everything in Cargo.lock. Needs no more network than a build.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Finding, licence};

const LICENCE: &str = "licence";
const DUPLICATE: &str = "duplicate";
const SOURCE: &str = "source";

/// The declaration, relative to the root.
pub const DENY: &str = "deny.toml";

/// What cargo has resolved, relative to the root.
pub const LOCK: &str = "Cargo.lock";

/// What tidy reads of deny.toml; the rest is for `cargo deny`.
#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

/// A version that may be there beside a newer one.
#[derive(Deserialize)]
struct Skip {
    /// `name@version`.
    #[serde(rename = "crate")]
    package: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

/// A package that is built.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Built<'a> {
    name: &'a str,
    version: &'a str,
    /// Empty where the manifest names none.
    licence: &'a str,
}

/// Every package that deny.toml does not allow, and every entry of deny.toml that allows nothing.
///
/// # Errors
/// A file does not parse.
pub fn check(deny: &str, lock: &str, tree: &str, members: &[&str]) -> Result<Vec<Finding>> {
    let deny: Deny = toml::from_str(deny).context("reading deny.toml")?;
    let lock: Lock = toml::from_str(lock).context("reading Cargo.lock")?;
    // An empty line ends what one member of the workspace needs.
    let built = tree.lines().filter(|line| !line.is_empty()).map(built).collect::<Result<BTreeSet<_>>>()?;
    let mut findings = licences(&deny.licenses, &built);
    findings.extend(duplicates(&deny.bans, &built));
    findings.extend(sources(&deny.sources, &lock, members));
    Ok(findings)
}

/// A line of `cargo tree`: `name v1.2.3 (source)|licence (*)`, where the parentheses may be missing.
fn built(line: &str) -> Result<Built<'_>> {
    let parts = || {
        let (package, licence) = line.trim_end_matches(" (*)").split_once('|')?;
        let (name, rest) = package.split_once(" v")?;
        Some(Built { name, version: rest.split(' ').next()?, licence })
    };
    parts().with_context(|| format!("`cargo tree` printed a line that is no package: {line}"))
}

fn licences(licenses: &Licenses, built: &BTreeSet<Built>) -> Vec<Finding> {
    let finding = |package: &Built| {
        let what = match licence::satisfied(package.licence, &licenses.allow) {
            Ok(true) => return None,
            Ok(false) => "is not allowed by [licenses] of deny.toml".to_owned(),
            Err(error) => format!("is no licence expression: {error}"),
        };
        let Built { name, version, licence } = package;
        let detail = format!(
            "{name} {version}: its licence `{licence}` {what}; use another crate, or allow the licence if it is permissive"
        );
        Some(Finding::new(DENY, LICENCE, detail))
    };
    built.iter().filter_map(finding).collect()
}

fn duplicates(bans: &Bans, built: &BTreeSet<Built>) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in built {
        versions.entry(package.name).or_default().push(package.version);
    }
    let mut findings = Vec::new();
    for Skip { package, reason } in &bans.skip {
        if reason.trim().is_empty() {
            let detail = format!("{package} has no `reason`: say what needs that version");
            findings.push(Finding::new(DENY, DUPLICATE, detail));
        }
        let needed = package.split_once('@').is_some_and(|(name, version)| {
            versions.get(name).is_some_and(|all| all.len() > 1 && all.contains(&version))
        });
        if !needed {
            let detail =
                format!("{package} is no second version of a crate (any more): remove it from [bans] skip");
            findings.push(Finding::new(DENY, DUPLICATE, detail));
        }
    }
    let skipped: BTreeSet<_> = bans.skip.iter().map(|skip| skip.package.as_str()).collect();
    for (name, all) in versions {
        let left: Vec<_> = all
            .into_iter()
            .filter(|version| !skipped.contains(format!("{name}@{version}").as_str()))
            .collect();
        if left.len() > 1 {
            let detail = format!(
                "{name} is built in versions {}: `cargo tree --invert {name}@{}` shows what needs which; settle on one, or \
                 name all but one in [bans] skip of deny.toml with the reason",
                left.join(" and "),
                left[0]
            );
            findings.push(Finding::new(LOCK, DUPLICATE, detail));
        }
    }
    findings
}

fn sources(sources: &Sources, lock: &Lock, members: &[&str]) -> Vec<Finding> {
    let finding = |Locked { name, version, source }: &Locked| {
        let from = match source {
            Some(source) => {
                let registry = source.strip_prefix("registry+");
                if registry.is_some_and(|url| sources.allow_registry.iter().any(|allowed| allowed == url)) {
                    return None;
                }
                format!("from {source}")
            }
            None if members.contains(&name.as_str()) => return None,
            None => "from a folder outside the workspace".to_owned(),
        };
        let detail = format!(
            "{name} {version} comes {from}; only the registries of [sources] in deny.toml are allowed"
        );
        Some(Finding::new(LOCK, SOURCE, detail))
    };
    lock.package.iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
    const TREE: &str = "event v0.1.0 (/src/crates/event)|Apache-2.0\n\
        serde v1.0.2|MIT OR Apache-2.0\n\
        serde_derive v1.0.2 (proc-macro)|MIT OR Apache-2.0\n\
        \n\
        serde v1.0.2|MIT OR Apache-2.0 (*)\n";

    fn deny(skip: &str) -> String {
        format!(
            "[licenses]\nallow = [\"Apache-2.0\"]\n[bans]\nskip = [{skip}]\n[sources]\n\
             allow-registry = [\"https://github.com/rust-lang/crates.io-index\"]\n"
        )
    }

    fn locked(name: &str, source: Option<&str>) -> String {
        let source = source.map(|source| format!("source = \"{source}\"\n")).unwrap_or_default();
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.2\"\n{source}")
    }

    fn findings(skip: &str, lock: &str, tree: &str) -> Vec<String> {
        check(&deny(skip), lock, tree, &["event"]).unwrap().iter().map(ToString::to_string).collect()
    }

    fn lock() -> String {
        locked("event", None) + &locked("serde", Some(REGISTRY))
    }

    #[test]
    fn what_is_allowed_and_there_once_is_no_finding() {
        assert_eq!(findings("", &lock(), TREE), [""; 0]);
    }

    #[test]
    fn a_licence_that_is_not_allowed_or_missing_is_found() {
        let tree = format!("{TREE}gnu v2.0.0|GPL-3.0 AND Apache-2.0\nbare v1.0.0|\n");
        let findings = findings("", &lock(), &tree);
        assert!(
            findings[0]
                .starts_with("deny.toml: [licence] bare 1.0.0: its licence `` is no licence expression")
        );
        assert!(findings[1].starts_with(
            "deny.toml: [licence] gnu 2.0.0: its licence `GPL-3.0 AND Apache-2.0` is not allowed by [licenses]"
        ));
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn two_versions_of_a_crate_are_found_unless_one_is_skipped_with_its_reason() {
        let tree = format!("{TREE}serde v0.9.1|Apache-2.0\n");
        let both = findings("", &lock(), &tree);
        assert!(
            both[0].starts_with("Cargo.lock: [duplicate] serde is built in versions 0.9.1 and 1.0.2"),
            "{both:?}"
        );
        assert_eq!(both.len(), 1);
        assert_eq!(findings("{ crate = \"serde@0.9.1\", reason = \"old\" }", &lock(), &tree), [""; 0]);
        let without = findings("{ crate = \"serde@0.9.1\" }", &lock(), &tree);
        assert_eq!(
            without,
            ["deny.toml: [duplicate] serde@0.9.1 has no `reason`: say what needs that version"]
        );
        let third = format!("{tree}serde v0.8.0|Apache-2.0\n");
        assert_eq!(findings("{ crate = \"serde@0.9.1\", reason = \"old\" }", &lock(), &third).len(), 1);
    }

    #[test]
    fn an_entry_that_skips_nothing_is_found() {
        for package in ["serde@1.0.2", "serde@0.9.1", "serde", "gone@1.0.0"] {
            let skip = format!("{{ crate = \"{package}\", reason = \"old\" }}");
            let expected = format!(
                "deny.toml: [duplicate] {package} is no second version of a crate (any more): remove it from [bans] skip"
            );
            assert_eq!(findings(&skip, &lock(), TREE), [expected]);
        }
    }

    #[test]
    fn a_package_of_another_registry_of_git_or_of_a_folder_elsewhere_is_found() {
        let git = "git+https://example.com/serde#0123";
        let other = "registry+https://example.com/index";
        let lock = lock() + &locked("a", Some(git)) + &locked("b", Some(other)) + &locked("c", None);
        let allowed = "only the registries of [sources] in deny.toml are allowed";
        assert_eq!(
            findings("", &lock, TREE),
            [
                format!("Cargo.lock: [source] a 1.0.2 comes from {git}; {allowed}"),
                format!("Cargo.lock: [source] b 1.0.2 comes from {other}; {allowed}"),
                format!("Cargo.lock: [source] c 1.0.2 comes from a folder outside the workspace; {allowed}"),
            ]
        );
    }
}
