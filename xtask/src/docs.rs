//! References generated from the code, so that they cannot disagree with it.
//!
//! Each is what one command of the `malote` binary prints; the JSON Schemas of the domain events and the pages about senders are a
//! file each. In docker-compose.yml only the consumers are generated. Promises the same bytes on every machine: the commands run
//! without a configuration file and without `MALOTE__` variables. Knows the commands and no content.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::compose;
use crate::tidy::dependencies::{domains, packages};
use crate::workspace::Workspace;

/// A generated file, relative to the root, and the arguments of `malote` that print it.
struct Reference {
    file: &'static str,
    arguments: &'static [&'static str],
}

/// The services of the containers; only a part of it is generated.
const COMPOSE: &str = "docker-compose.yml";

/// The folder of the JSON Schemas; it has nothing else.
const SCHEMAS: &str = "docs/schemas";

/// The folder of the pages about senders; it has nothing else.
const PAGES: &str = "docs/providers";

/// The ending of a page in each language, and the language.
const LANGUAGES: [(&str, &str); 2] = [("md", "en"), ("pt-BR.md", "pt")];

/// Every file that a command prints, but the schemas and the pages.
const REFERENCES: [Reference; 5] = [
    Reference {
        file: "deploy/rabbitmq/definitions.json",
        arguments: &["topology", "show", "--format", "definitions"],
    },
    Reference { file: "docs/topics.md", arguments: &["topology", "show", "--format", "markdown"] },
    Reference { file: "docs/openapi.json", arguments: &["openapi"] },
    Reference { file: "docs/configuration.toml", arguments: &["config", "show", "--default"] },
    Reference { file: "docs/cli.md", arguments: &["help-markdown"] },
];

/// Writes every reference, or with `check` compares it with what is there.
///
/// # Errors
/// A command fails or, with `check`, a file differs; every one is named.
pub fn generate(workspace: &Workspace, check: bool) -> Result<()> {
    let mut printed = BTreeMap::new();
    let mut errors = Vec::new();
    for Reference { file, arguments } in &REFERENCES {
        match print(workspace, arguments) {
            Ok(text) => drop(printed.insert((*file).to_owned(), text)),
            Err(error) => errors.push(format!("{file}: {error:#}")),
        }
    }
    let services = fs::read_to_string(workspace.root().join(COMPOSE)).context("reading it");
    let packages = packages(&workspace.metadata);
    let domains = domains(&packages).into_iter();
    match services.and_then(|text| compose::with_consumers(&text, domains)) {
        Ok(text) => drop(printed.insert(COMPOSE.to_owned(), text.into_bytes())),
        Err(error) => errors.push(format!("{COMPOSE}: {error:#}")),
    }
    let mut stale = Vec::new();
    for (folder, found) in
        [(SCHEMAS, schemas(workspace, &mut printed)), (PAGES, pages(workspace, &mut printed))]
    {
        match found {
            Ok(files) => stale.extend(files),
            Err(error) => errors.push(format!("{folder}: {error:#}")),
        }
    }
    for file in stale {
        if check {
            errors.push(format!("{file}: there is no such type or sender; run `cargo xtask docs`"));
        } else {
            fs::remove_file(workspace.root().join(&file)).with_context(|| format!("removing {file}"))?;
            eprintln!("  removed {file}");
        }
    }
    let count = printed.len();
    for (file, text) in printed {
        let path = workspace.root().join(&file);
        let current = fs::read(&path).ok();
        if current.as_ref() == Some(&text) {
            continue;
        }
        if check {
            errors.push(format!("{file}: {}; run `cargo xtask docs`", difference(current.as_deref(), &text)));
            continue;
        }
        fs::create_dir_all(path.parent().expect("every file is in a folder")).context("making a folder")?;
        fs::write(&path, text).with_context(|| format!("writing {file}"))?;
        eprintln!("    wrote {file}");
    }
    if !errors.is_empty() {
        bail!("{} of {count} references\n  {}", errors.len(), errors.join("\n  "));
    }
    Ok(())
}

/// Adds the schema of each type, and returns the files of types that are gone.
fn schemas(workspace: &Workspace, printed: &mut BTreeMap<String, Vec<u8>>) -> Result<Vec<String>> {
    for name in String::from_utf8(print(workspace, &["schemas"])?)?.lines() {
        printed.insert(format!("{SCHEMAS}/{name}.json"), print(workspace, &["schemas", name])?);
    }
    stale(workspace, SCHEMAS, printed)
}

/// Adds the page of each sender in every language, and returns the files of senders that are gone.
fn pages(workspace: &Workspace, printed: &mut BTreeMap<String, Vec<u8>>) -> Result<Vec<String>> {
    for name in String::from_utf8(print(workspace, &["provider-pages"])?)?.lines() {
        for (ending, language) in LANGUAGES {
            let page = print(workspace, &["provider-pages", name, "--language", language])?;
            printed.insert(format!("{PAGES}/{name}.{ending}"), page);
        }
    }
    stale(workspace, PAGES, printed)
}

/// The files of a folder that are not printed.
fn stale(workspace: &Workspace, folder: &str, printed: &BTreeMap<String, Vec<u8>>) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(workspace.root().join(folder)) else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in entries {
        files.push(format!("{folder}/{}", entry?.file_name().display()));
    }
    files.retain(|file| !printed.contains_key(file));
    Ok(files)
}

/// What `malote <arguments>` prints, started where no configuration lies.
fn print(workspace: &Workspace, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new(workspace.binary());
    command.args(arguments).current_dir(workspace.target()).stdin(Stdio::null());
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("MALOTE__") {
            command.env_remove(variable);
        }
    }
    let output = command.output().with_context(|| format!("starting {}", workspace.binary().display()))?;
    if !output.status.success() || output.stdout.is_empty() {
        let trouble = String::from_utf8_lossy(&output.stderr);
        bail!("`malote {}` failed ({}): {}", arguments.join(" "), output.status, trouble.trim());
    }
    Ok(output.stdout)
}

/// Where a file differs first.
fn difference(current: Option<&[u8]>, generated: &[u8]) -> String {
    let Some(current) = current else { return "does not exist".to_owned() };
    let (current, generated) = (String::from_utf8_lossy(current), String::from_utf8_lossy(generated));
    let same = current.lines().zip(generated.lines()).take_while(|(a, b)| a == b).count();
    format!("differs from line {}", same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_its_first_line() {
        assert_eq!(difference(Some(b"a\nb\n"), b"a\nc\n"), "differs from line 2");
        assert_eq!(difference(Some(b"a\n"), b"a\nb\n"), "differs from line 2");
        assert_eq!(difference(None, b"a\n"), "does not exist");
    }
}
