//! Every crate takes its version, edition, lints and the versions of its dependencies from the workspace.
//!
//! `cargo metadata` shows values and not where they come from, so the manifests are read line by line: they are
//! ours, and written in one way.

use super::{File, Finding};

const RULE: &str = "workspace";

/// What the `[package]` table inherits.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

/// Every manifest that does not inherit something.
pub fn check(manifests: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in manifests {
        let entries = entries(text);
        let has = |table: &str, entry: &str| entries.iter().any(|(_, t, line)| *t == table && *line == entry);
        for key in INHERITED {
            if !has("package", &format!("{key}.workspace = true")) {
                findings.push(Finding::new(path, RULE, format!("[package] lacks `{key}.workspace = true`")));
            }
        }
        if !has("lints", "workspace = true") {
            findings.push(Finding::new(path, RULE, "lacks `[lints]` with `workspace = true`"));
        }
        for (number, _, line) in entries.iter().filter(|(_, table, _)| table.ends_with("dependencies")) {
            let inherits = line.contains(".workspace = true")
                || line.contains("workspace = true,")
                || line.contains("workspace = true }");
            if !inherits && line.contains('=') {
                let place = format!("{path}:{number}");
                findings.push(Finding::new(
                    place,
                    RULE,
                    format!("`{line}` does not take its version from the workspace"),
                ));
            }
        }
    }
    findings
}

/// Line number, table and text of every entry.
fn entries(text: &str) -> Vec<(usize, &str, &str)> {
    let mut table = "";
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = name;
        } else if !line.is_empty() && !line.starts_with('#') {
            entries.push((number, table, line));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n[lints]\n\
        workspace = true\n\n[dependencies]\nserde.workspace = true\ntokio = { workspace = true, features = [\"fs\"] }\n";

    fn details(text: &str) -> Vec<String> {
        check(&[file("a/Cargo.toml", text)]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_manifest_that_inherits_everything_is_no_finding() {
        assert!(details(GOOD).is_empty(), "{:?}", details(GOOD));
    }

    #[test]
    fn own_lints_own_versions_and_own_dependency_versions_are_found() {
        let findings = details(&GOOD.replace("[lints]", "[lints.clippy]"));
        assert_eq!(findings, ["a/Cargo.toml: [workspace] lacks `[lints]` with `workspace = true`"]);
        let findings = details(&GOOD.replace("version.workspace = true\ned", "version = \"1.0.0\"\ned"));
        assert_eq!(findings, ["a/Cargo.toml: [workspace] [package] lacks `version.workspace = true`"]);
        let findings = details(&GOOD.replace("serde.workspace = true", "serde = \"1\""));
        assert_eq!(
            findings,
            ["a/Cargo.toml:13: [workspace] `serde = \"1\"` does not take its version from the workspace"]
        );
    }
}
