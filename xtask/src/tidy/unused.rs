//! Dependencies that a manifest names and the code does not.
//!
//! A text search: a dependency is used where the code says `name::` or `use name`, comments apart, calls one of
//! [`MACROS`], or lists it for a macro ([`LIST`]). False uses are a local module of the same name, and a path inside a string. The search cannot see a
//! dependency that is there only for its features. Unit tests are told apart by `#[cfg(test)]` before a `mod … {`, and
//! take the rest of the file.

use cargo_metadata::{DependencyKind, Metadata, TargetKind};

use super::sources::split_comment;
use super::{File, Finding};

const RULE: &str = "unused";

/// Macros of ours whose expansion names a dependency of the calling crate, and that dependency.
const MACROS: [(&str, &str); 2] = [("law_tests!", "tokio"), ("fresh_sqlite!", "tempfile")];

/// What stands before the crates that a macro is called with.
const LIST: &str = "$with! {";

/// A workspace member and what its manifest names.
pub struct Package {
    name: String,
    /// Its folder, relative to the root.
    folder: String,
    /// Files and folders of its test programs and benchmarks, relative to the root.
    tests: Vec<String>,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    /// As the code writes it, before `-` becomes `_`: the new name of a renamed one.
    name: String,
    kind: DependencyKind,
    features: Vec<String>,
}

/// The members of the workspace.
pub fn packages(metadata: &Metadata) -> Vec<Package> {
    let relative = |path: &cargo_metadata::camino::Utf8Path| {
        path.strip_prefix(&metadata.workspace_root).unwrap_or(path).to_string()
    };
    let package = |package: &cargo_metadata::Package| {
        let folder = relative(package.manifest_path.parent().expect("a manifest is in a folder"));
        let tests = package.targets.iter().filter(|target| {
            target.kind.iter().any(|kind| matches!(kind, TargetKind::Test | TargetKind::Bench))
        });
        // `tests/suite/main.rs` is a folder of tests; a file beside others is one alone.
        let tests = tests.map(|target| match target.src_path.file_name() {
            Some("main.rs") => relative(target.src_path.parent().expect("a source is in a folder")) + "/",
            _ => relative(&target.src_path),
        });
        let dependencies = package.dependencies.iter().map(|dependency| Dependency {
            name: dependency.rename.clone().unwrap_or_else(|| dependency.name.clone()),
            kind: dependency.kind,
            features: dependency.features.clone(),
        });
        Package {
            name: package.name.to_string(),
            tests: tests.collect(),
            dependencies: dependencies.collect(),
            folder,
        }
    };
    metadata.workspace_packages().into_iter().map(package).collect()
}

/// Every dependency that the code of its crate does not name, and every one of the root manifest that no crate has.
pub fn check(packages: &[Package], sources: &[File], shared: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let code = Code::in_package(package, packages, sources);
        let manifest = format!("{}/Cargo.toml", package.folder);
        for dependency in &package.dependencies {
            let Dependency { name, kind, features } = dependency;
            let detail = match kind {
                DependencyKind::Development => {
                    let normal = package.dependencies.iter().find(|other| {
                        other.kind == DependencyKind::Normal
                            && other.name == *name
                            && features.iter().all(|feature| other.features.contains(feature))
                    });
                    if normal.is_some() {
                        format!("{name} is in [dependencies] already: remove it from [dev-dependencies]")
                    } else if uses(&code.tests, name) || uses(&code.normal, name) {
                        continue;
                    } else {
                        format!("nothing in {} names {name}: remove it from [dev-dependencies]", package.name)
                    }
                }
                DependencyKind::Build if uses(&code.build, name) => continue,
                DependencyKind::Build => {
                    format!("build.rs does not name {name}: remove it from [build-dependencies]")
                }
                _ if uses(&code.normal, name) => continue,
                _ if uses(&code.tests, name) => {
                    format!("only tests of {} name {name}: move it to [dev-dependencies]", package.name)
                }
                _ => format!("nothing in {} names {name}: remove it from [dependencies]", package.name),
            };
            findings.push(Finding::new(&*manifest, RULE, detail));
        }
    }
    for name in shared {
        let has = |package: &Package| package.dependencies.iter().any(|dependency| dependency.name == *name);
        if !packages.iter().any(has) {
            let detail = format!("no crate depends on {name}: remove it from [workspace.dependencies]");
            findings.push(Finding::new("Cargo.toml", RULE, detail));
        }
    }
    findings
}

/// The names in `[workspace.dependencies]`.
///
/// # Errors
/// The manifest does not parse.
pub fn shared(manifest: &str) -> Result<Vec<String>, toml::de::Error> {
    let manifest: toml::Table = toml::from_str(manifest)?;
    let table = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let names = table.and_then(toml::Value::as_table).map(|table| table.keys().cloned().collect());
    Ok(names.unwrap_or_default())
}

/// What a package consists of.
#[derive(Default)]
struct Code<'a> {
    normal: Vec<&'a str>,
    tests: Vec<&'a str>,
    build: Vec<&'a str>,
}

impl<'a> Code<'a> {
    /// The sources in a package's folder, by what they are compiled for.
    fn in_package(package: &Package, packages: &[Package], sources: &'a [File]) -> Self {
        let mut code = Self::default();
        // A package may lie in the folder of another.
        let depth = |path: &str| {
            let holds = |package: &&Package| path.starts_with(&format!("{}/", package.folder));
            packages.iter().filter(holds).map(|package| package.folder.len()).max()
        };
        for File { path, text } in sources {
            let Some(inside) = path.strip_prefix(&format!("{}/", package.folder)) else { continue };
            if depth(path) != Some(package.folder.len()) {
                continue;
            }
            let in_tests = package.tests.iter().any(|tests| path.starts_with(tests.as_str()))
                || inside.split('/').any(|part| part == "tests" || part == "tests.rs");
            if inside == "build.rs" {
                code.build.push(text);
            } else if in_tests {
                code.tests.push(text);
            } else {
                let (normal, tests) = text.split_at(start_of_tests(text));
                code.normal.push(normal);
                code.tests.push(tests);
            }
        }
        code
    }
}

/// Where the unit tests of a file begin.
fn start_of_tests(text: &str) -> usize {
    const MARK: &str = "#[cfg(test)]\n";
    let module = |at: &usize| {
        let line = text[at + MARK.len()..].lines().next().unwrap_or_default();
        line.contains("mod ") && line.ends_with('{')
    };
    text.match_indices(MARK).map(|(at, _)| at).find(module).unwrap_or(text.len())
}

/// Whether some code names a dependency.
fn uses(code: &[&str], dependency: &str) -> bool {
    let called = |text: &&str| MACROS.iter().any(|(call, named)| *named == dependency && text.contains(call));
    if code.iter().any(called) {
        return true;
    }
    let name = dependency.replace('-', "_");
    code.iter().flat_map(|text| text.lines()).any(|line| {
        let (line, _) = split_comment(line);
        let list = line.trim_start().strip_prefix(LIST).unwrap_or_default();
        if list.split_whitespace().any(|word| word == name) {
            return true;
        }
        line.match_indices(&name).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + name.len()..]);
            // `crate::name::`, `self.name` and `other_name::` are something else's.
            let own =
                before.chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '.'));
            let root = before.strip_suffix("::").is_none_or(|path| {
                path.chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '>'))
            });
            let imported = ["use ", "extern crate "].iter().any(|keyword| before.ends_with(keyword))
                && after.starts_with([';', ' ']);
            own && root && (after.starts_with("::") || imported)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    /// A package in `crates/<name>` with a test program, and one more package inside its folder.
    fn packages(name: &str, dependencies: &[(&str, DependencyKind, &[&str])]) -> Vec<Package> {
        let dependencies = dependencies.iter().map(|(name, kind, features)| Dependency {
            name: (*name).to_owned(),
            kind: *kind,
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        });
        let folder = format!("crates/{name}");
        let tests = vec![format!("{folder}/suite/")];
        let inner = Package {
            name: "inner".to_owned(),
            folder: format!("{folder}/inner"),
            tests: Vec::new(),
            dependencies: Vec::new(),
        };
        vec![Package { name: name.to_owned(), folder, tests, dependencies: dependencies.collect() }, inner]
    }

    fn findings(dependency: (&str, DependencyKind, &[&str]), files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| file(path, text)).collect();
        let findings = check(&packages("a", &[dependency]), &sources, &[]);
        findings.into_iter().map(|finding| finding.detail).collect()
    }

    const NORMAL: (&str, DependencyKind, &[&str]) = ("some-crate", DependencyKind::Normal, &[]);

    #[test]
    fn a_dependency_that_a_path_or_an_import_names_is_used() {
        for code in [
            "use some_crate::Thing;",
            "use some_crate as other;",
            "pub use some_crate;",
            "let a = some_crate::thing();",
            "let a = ::some_crate::thing();",
            "#[some_crate::main]",
        ] {
            assert_eq!(findings(NORMAL, &[("crates/a/src/lib.rs", code)]), [""; 0], "{code}");
        }
    }

    #[test]
    fn a_comment_another_crate_a_module_and_a_field_are_no_use() {
        for code in [
            "// some_crate::thing()",
            "let a = b; // use some_crate;",
            "let a = not_some_crate::thing();",
            "let a = crate::some_crate::thing();",
            "let a = self.some_crate::<u8>();",
            "let some_crate = 1;",
        ] {
            let expected = ["nothing in a names some-crate: remove it from [dependencies]"];
            assert_eq!(findings(NORMAL, &[("crates/a/src/lib.rs", code)]), expected, "{code}");
        }
        let elsewhere = [
            ("crates/b/src/lib.rs", "use some_crate::A;"),
            ("crates/a/inner/src/lib.rs", "use some_crate::A;"),
        ];
        assert_eq!(findings(NORMAL, &elsewhere).len(), 1);
    }

    #[test]
    fn a_macro_that_names_a_dependency_is_a_use() {
        let development = ("tempfile", DependencyKind::Development, &[] as &[&str]);
        assert_eq!(
            findings(development, &[("crates/a/src/lib.rs", "laws!(store::fresh_sqlite!());")]),
            [""; 0]
        );
        assert_eq!(findings(development, &[("crates/a/src/lib.rs", "store::law_tests! {}")]).len(), 1);
    }

    #[test]
    fn a_dependency_that_only_tests_name_belongs_to_them() {
        let unit = "fn a() {}\n#[cfg(test)]\nmod tests {\n    use some_crate::A;\n}\n";
        for (path, text) in [
            ("crates/a/src/lib.rs", unit),
            ("crates/a/src/tests.rs", "use some_crate::A;"),
            ("crates/a/src/tests/more.rs", "use some_crate::A;"),
            ("crates/a/suite/main.rs", "use some_crate::A;"),
        ] {
            let expected = ["only tests of a name some-crate: move it to [dev-dependencies]"];
            assert_eq!(findings(NORMAL, &[(path, text)]), expected, "{path}");
            let development = ("some-crate", DependencyKind::Development, &[] as &[&str]);
            assert_eq!(findings(development, &[(path, text)]), [""; 0], "{path}");
        }
        let item = "#[cfg(test)]\nfn b() {}\nuse some_crate::A;\n";
        assert_eq!(findings(NORMAL, &[("crates/a/src/lib.rs", item)]), [""; 0]);
    }

    #[test]
    fn a_build_dependency_is_named_by_the_build_script() {
        let build = ("some-crate", DependencyKind::Build, &[] as &[&str]);
        assert_eq!(findings(build, &[("crates/a/build.rs", "use some_crate::A;")]), [""; 0]);
        assert_eq!(
            findings(build, &[("crates/a/src/lib.rs", "use some_crate::A;")]),
            ["build.rs does not name some-crate: remove it from [build-dependencies]"]
        );
    }

    #[test]
    fn a_development_dependency_that_adds_nothing_to_the_normal_one_is_found() {
        let sources = [file("crates/a/src/lib.rs", "use some_crate::A;")];
        let both = |features: &'static [&'static str]| {
            let development = ("some-crate", DependencyKind::Development, features);
            check(
                &packages("a", &[("some-crate", DependencyKind::Normal, &["x"]), development]),
                &sources,
                &[],
            )
            .len()
        };
        assert_eq!((both(&[]), both(&["x"]), both(&["y"])), (1, 1, 0));
    }

    #[test]
    fn a_shared_version_that_no_crate_takes_is_found() {
        let shared =
            shared("[workspace.dependencies]\nsome-crate = \"1\"\nother = { version = \"1\" }\n").unwrap();
        let sources = [file("crates/a/src/lib.rs", "use some_crate::A;")];
        let findings = check(&packages("a", &[NORMAL]), &sources, &shared);
        assert_eq!(
            findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["Cargo.toml: [unused] no crate depends on other: remove it from [workspace.dependencies]"]
        );
    }
}
