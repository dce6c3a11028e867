//! Sibling modules use each other in one direction only.
//!
//! A module counts together with its submodules, and without its tests. A submodule may use its parent, and a parent its
//! submodules: they are one unit for everything beside them. A name that a module re-exports leads to where it is declared.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::code::{tokens, without_tests};
use super::{File, Finding};

const RULE: &str = "circle";

/// A path as written, without what follows the last `::`.
type Path = Vec<String>;

/// A module of one crate.
#[derive(Default)]
struct Module {
    file: String,
    /// The imports of a `use`, by their names here.
    imports: BTreeMap<String, Path>,
    /// The paths into the crate that its code names, each with its line.
    names: Vec<(Path, usize)>,
}

/// The modules of one crate by their path; the root's is empty.
type Modules = BTreeMap<Path, Module>;

/// One module that names another: from which line.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// Every circle of modules, crate by crate.
pub fn check(sources: &[File]) -> Vec<Finding> {
    let files: BTreeMap<&str, &str> =
        sources.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let is_root = |path: &&&str| ["lib.rs", "main.rs"].contains(&path.rsplit('/').next().unwrap_or(path));
    let mut findings = Vec::new();
    for root in files.keys().filter(is_root) {
        let mut modules = Modules::new();
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        read(&files, root, folder, Vec::new(), &mut modules);
        for (parent, edges) in edges(&modules) {
            findings.extend(circles(&edges).into_iter().map(|circle| described(&parent, &circle, &edges)));
        }
    }
    findings
}

/// Reads a module's file and those of its submodules, which are in `folder`.
fn read(files: &BTreeMap<&str, &str>, file: &str, folder: &str, path: Path, modules: &mut Modules) {
    let tokens = without_tests(tokens(files[file]));
    let mut module = Module { file: file.to_owned(), ..Module::default() };
    for (index, (token, line)) in tokens.iter().enumerate() {
        let next = |at: usize| tokens.get(index + at).map_or("", |(token, _)| *token);
        let is_start = index == 0 || tokens[index - 1].0 != "::";
        match *token {
            "mod" if next(2) == ";" => {
                let name = next(1);
                let places = [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")];
                if let Some(place) = places.iter().find(|place| files.contains_key(place.as_str())) {
                    let path = [path.clone(), vec![name.to_owned()]].concat();
                    read(files, place, &format!("{folder}/{name}"), path, modules);
                }
            }
            // `impl Trait + use<'a>` imports nothing.
            "use" if next(1) != "<" => {
                for (name, imported) in
                    tree(&mut tokens[index + 1..].iter().map(|(token, _)| *token).peekable())
                {
                    module.names.push((imported.clone(), *line));
                    module.imports.insert(name, imported);
                }
            }
            "crate" | "super" | "self" if is_start && next(1) == "::" => {
                let named = tokens[index..].chunks(2).take_while(|pair| pair.len() == 2 && pair[1].0 == "::");
                let mut named: Path = named.map(|pair| pair[0].0.to_owned()).collect();
                named.extend(tokens.get(index + 2 * named.len()).map(|(token, _)| (*token).to_owned()));
                module.names.push((named, *line));
            }
            _ => {}
        }
    }
    modules.insert(path, module);
}

/// What a `use` imports, each under its name here: the tokens behind `use`, or of one of its branches.
fn tree<'a>(tokens: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> Vec<(String, Path)> {
    let mut path = Path::new();
    let mut name = None;
    while let Some(token) = tokens.peek().copied() {
        match token {
            "," | "}" | ";" => break,
            "{" => {
                tokens.next();
                let mut imports = Vec::new();
                while !matches!(tokens.peek(), None | Some(&"}")) {
                    for (name, rest) in tree(tokens) {
                        imports.push((name, [path.clone(), rest].concat()));
                    }
                    tokens.next_if_eq(&",");
                }
                tokens.next();
                return imports;
            }
            "as" => {
                tokens.next();
                name = tokens.next().map(str::to_owned);
            }
            "::" => drop(tokens.next()),
            segment => {
                tokens.next();
                path.push(segment.to_owned());
            }
        }
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    match name.or_else(|| path.last().cloned()) {
        Some(name) => vec![(name, path)],
        None => Vec::new(),
    }
}

/// Which modules name which, for every module that has submodules: an edge is between the two submodules of the same
/// parent that name and named are in.
fn edges(modules: &Modules) -> BTreeMap<Path, Edges> {
    let mut edges: BTreeMap<Path, Edges> = BTreeMap::new();
    for (from, module) in modules {
        for (name, line) in &module.names {
            let Some(to) = absolute(modules, from, name).map(|path| declared(modules, path)) else {
                continue;
            };
            let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(shared), to.get(shared)) {
                let place = format!("{}:{line}", module.file);
                let named = edges.entry(from[..shared].to_vec()).or_default().entry(one.clone()).or_default();
                named.entry(other.clone()).or_insert(place);
                edges.entry(from[..shared].to_vec()).or_default().entry(other.clone()).or_default();
            }
        }
    }
    edges
}

/// A path from the root of the crate; `None` if it leads out of the crate.
fn absolute(modules: &Modules, from: &[String], name: &[String]) -> Option<Path> {
    let supers = name.iter().take_while(|segment| *segment == "super").count();
    let child = || [from, &name[..1]].concat();
    match name.first()?.as_str() {
        "crate" => Some(name[1..].to_vec()),
        "self" => Some([from, &name[1..]].concat()),
        "super" => Some([from.get(..from.len().checked_sub(supers)?)?, &name[supers..]].concat()),
        _ if modules.contains_key(&child()) => Some([from, name].concat()),
        _ => None,
    }
}

/// The module that declares what a path leads to.
fn declared(modules: &Modules, mut path: Path) -> Path {
    // A re-export may lead to another one, but not through more modules than there are.
    for _ in 0..modules.len() {
        let length =
            (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length])).unwrap_or(0);
        let (module, rest) = path.split_at(length);
        let import = rest.first().and_then(|name| modules.get(module)?.imports.get(name));
        match import.and_then(|import| absolute(modules, module, import)) {
            Some(import) => path = [import, rest[1..].to_vec()].concat(),
            None => return module.to_vec(),
        }
    }
    path
}

/// Circles that together hold every module that is in one: each the shortest from where it starts.
fn circles(edges: &Edges) -> Vec<Vec<&str>> {
    let mut known = BTreeSet::new();
    let mut circles = Vec::new();
    for start in edges.keys().map(String::as_str) {
        if known.contains(start) {
            continue;
        }
        let mut waiting = VecDeque::from([vec![start]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = waiting.pop_front() {
            let next = edges[*way.last().expect("a way starts somewhere")].keys().map(String::as_str);
            if next.clone().any(|next| next == start) {
                known.extend(way.iter().copied());
                circles.push(way);
                break;
            }
            waiting.extend(next.filter(|next| seen.insert(*next)).map(|next| [&way[..], &[next]].concat()));
        }
    }
    circles
}

fn described(parent: &[String], circle: &[&str], edges: &Edges) -> Finding {
    let next = circle.iter().cycle().skip(1);
    let mut steps = circle.iter().zip(next).map(|(one, other)| (one, other, &edges[*one][*other]));
    let (one, other, place) = steps.next().expect("a circle has modules");
    let within = if parent.is_empty() { String::new() } else { format!(" within {}", parent.join("::")) };
    let back: Vec<String> =
        steps.map(|(one, other, place)| format!("{one} uses {other} ({place})")).collect();
    let detail = format!("{one} uses {other}{within}, and is used by it: {}", back.join(", "));
    Finding::new(place, RULE, detail)
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> =
            files.iter().map(|(path, text)| file(&format!("a/src/{path}"), text)).collect();
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn modules_that_use_each_other_are_found_with_the_lines() {
        let both = [
            ("lib.rs", "mod one;\nmod two;"),
            ("one.rs", "\nuse crate::two::Two;"),
            ("two.rs", "use super::one;"),
        ];
        assert_eq!(
            findings(&both),
            ["a/src/one.rs:2: [circle] one uses two, and is used by it: two uses one (a/src/two.rs:1)"]
        );
        assert!(findings(&[both[0], both[1], ("two.rs", "use std::fmt;")]).is_empty());
        let path = ("two.rs", "fn two() { let _ = crate::one::ONE; }");
        assert_eq!(findings(&[both[0], both[1], path]).len(), 1);
    }

    #[test]
    fn a_circle_may_lead_through_others_and_through_branches() {
        let found = findings(&[
            ("main.rs", "mod api; mod args; mod lists; mod other;"),
            ("api.rs", "use crate::{other::{self, Other as O}, args::Args};"),
            ("args.rs", "use crate::lists;"),
            ("lists.rs", "use crate::{api::Api, args};"),
            ("other.rs", "pub struct Other;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("api uses args") && found[0].contains("lists uses api"), "{found:?}");
    }

    #[test]
    fn a_submodule_and_its_parent_are_one() {
        let files = [
            ("lib.rs", "mod one; pub mod two; pub use one::One; struct Root;"),
            ("one.rs", "mod part; pub use part::Part; use crate::Root; use crate::two::Two;"),
            ("one/part.rs", "use super::One; use crate::Root;"),
            ("two/mod.rs", "mod part;"),
            ("two/part.rs", "use super::super::two;"),
        ];
        assert!(findings(&files).is_empty(), "{:?}", findings(&files));
        let back =
            findings(&[files[0], files[1], files[2], files[3], ("two/part.rs", "use crate::one::One;")]);
        assert_eq!(
            back,
            ["a/src/one.rs:1: [circle] one uses two, and is used by it: two uses one (a/src/two/part.rs:1)"]
        );
    }

    #[test]
    fn a_re_export_leads_to_where_the_name_is_declared() {
        let files = [
            ("lib.rs", "mod one; mod two; pub use one::One; pub use crate::One as Uno;"),
            ("one.rs", "use crate::two::Two; pub struct One;"),
            ("two.rs", "use crate::Uno;"),
        ];
        assert_eq!(findings(&files).len(), 1);
        let within = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod one; mod two;"),
            ("a/one.rs", "use super::two::Two;"),
            ("a/two.rs", "use super::one::One;"),
        ];
        assert_eq!(
            findings(&within),
            [
                "a/src/a/one.rs:1: [circle] one uses two within a, and is used by it: two uses one (a/src/a/two.rs:1)"
            ]
        );
    }

    #[test]
    fn tests_comments_and_literals_name_nothing() {
        let files = |two: &'static str| {
            [("lib.rs", "mod one; mod two;"), ("one.rs", "use crate::two;"), ("two.rs", two)]
        };
        for two in [
            "#[cfg(test)]\nmod tests { use crate::one::One; fn a() {} }",
            "#[cfg(test)]\nuse crate::one;\nstruct Two;",
            "//! See [`crate::one::One`].\n/* crate::one */",
            "const A: &str = \"\\\" crate::one::One\"; const B: &str = r#\"\"crate::one\"#; const C: char = '\"';",
            "fn two<'a>(one: &'a str) -> (char, char) { ('\\'', '{') }",
            "fn two() -> impl Fn() + use<> { let one = 1; move || drop(one) }",
        ] {
            assert!(findings(&files(two)).is_empty(), "{two}: {:?}", findings(&files(two)));
        }
        let after = "#[cfg(test)]\nmod tests { fn a() { if true {} } }\nuse crate::one;";
        assert_eq!(findings(&files(after)).len(), 1);
    }
}
