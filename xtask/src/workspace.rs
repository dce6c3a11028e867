//! The repository as cargo sees it: where it is, how cargo is called in it, and the binary it builds.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// The commit of the version before this one: what runs in production while this one is rolled out.
const PREVIOUS: &str = "67d32d2cfbb9";

/// What a build from nothing and the servers of the tests take at most, in MiB.
const DISK_MIB: u64 = 14_000;

/// The workspace this program was built from.
pub struct Workspace {
    /// What `cargo metadata` says, without dependencies of dependencies.
    pub metadata: Metadata,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// `cargo metadata` fails: a manifest does not parse, for one.
    pub fn load() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
            .no_deps()
            .exec()
            .context("reading the workspace")?;
        Ok(Self { metadata })
    }

    /// The root of the repository.
    pub fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// The `malote` binary, once [`Workspace::build`] has passed.
    pub fn binary(&self) -> PathBuf {
        self.target().join("debug").join("malote")
    }

    /// The folder of everything built.
    pub fn target(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// An error when the disk has too little room for what is built and what the servers of the tests write.
    ///
    /// # Errors
    /// There is too little room, or `df` does not say.
    pub fn ensure_disk_space(&self) -> Result<()> {
        let mut df = Command::new("df");
        let output = df.args(["--output=avail", "--block-size=1M"]).arg(self.root()).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let free: u64 =
            printed.lines().nth(1).unwrap_or_default().trim().parse().context("reading what `df` prints")?;
        // What is built already is not needed once more.
        let needed = if self.binary().is_file() { DISK_MIB / 2 } else { DISK_MIB };
        if free < needed {
            bail!(
                "{free} MiB are free on the disk of {}, and a build and the servers of the tests take up to {needed} MiB: \
                 make room, or set CARGO_TARGET_DIR and TMPDIR to folders on another disk",
                self.root().display()
            );
        }
        Ok(())
    }

    /// A cargo command at the root, by the cargo that runs this program, with the dependencies that Cargo.lock names.
    pub fn cargo(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.arg(subcommand);
        // Formatting resolves no dependencies and does not know the option.
        if subcommand != "fmt" {
            command.arg("--locked");
        }
        command.args(arguments).current_dir(self.root());
        // Variables that `cargo run` sets for this program. Build scripts that depend on them would run again each
        // time.
        for (name, _) in env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
            {
                command.env_remove(name);
            }
        }
        command
    }

    /// Every package that is built on this machine, one per line: `name v1.2.3 (source)|licence`.
    ///
    /// # Errors
    /// Cargo.lock does not match the manifests, or a package cannot be downloaded.
    pub fn tree(&self) -> Result<String> {
        self.tree_of(&["--workspace", "--edges=normal,build,dev", "--format={p}|{l}"])
    }

    /// Every package that the binary consists of or is built with, one per line: `name v1.2.3
    /// (source)|feature,feature`.
    ///
    /// # Errors
    /// As those of [`tree`](Self::tree).
    pub fn binary_features(&self) -> Result<String> {
        self.tree_of(&["--package=cli", "--edges=normal,build", "--format={p}|{f}"])
    }

    fn tree_of(&self, arguments: &[&str]) -> Result<String> {
        let arguments = [arguments, &["--prefix=none"]].concat();
        let output = self.cargo("tree", &arguments).output().context("starting `cargo tree`")?;
        if !output.status.success() {
            bail!("`cargo tree` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("reading what `cargo tree` prints")
    }

    /// Builds the binary of the version before this one, once, and returns its path. The tests of an upgrade start it
    /// beside the new one.
    ///
    /// # Errors
    /// The history does not reach that far back, or it does not compile.
    pub fn build_previous(&self) -> Result<PathBuf> {
        let folder = self.target().join("previous").join(PREVIOUS);
        let binary = folder.join("malote");
        if binary.is_file() {
            return Ok(binary);
        }
        let sources = folder.join("sources");
        std::fs::create_dir_all(&sources).context("making a folder for the previous version")?;
        let archive = folder.join("sources.tar");
        let git = ["git", "archive", "--format=tar", "-o"];
        run(Command::new(git[0]).args(&git[1..]).arg(&archive).arg(PREVIOUS).current_dir(self.root()))
            .with_context(|| {
                format!("the history has to reach commit {PREVIOUS}: fetch it with `git fetch --unshallow`")
            })?;
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&sources))?;
        // In its own folder: cargo treats two checkouts of one workspace as the same packages.
        let built = folder.join("target");
        let mut build = self.cargo("build", &["--package", "cli", "--target-dir"]);
        run(build.arg(&built).arg("--manifest-path").arg(sources.join("Cargo.toml")))?;
        std::fs::rename(built.join("debug").join("malote"), &binary)
            .context("keeping the previous binary")?;
        std::fs::remove_dir_all(&built).context("removing what was built beside the previous binary")?;
        Ok(binary)
    }

    /// Builds the `malote` binary.
    ///
    /// # Errors
    /// It does not compile.
    pub fn build(&self) -> Result<()> {
        run(&mut self.cargo("build", &["--package", "cli"]))
    }
}

/// Runs a command with its output shown as it comes; an error when it ends with another code than 0.
pub fn run(command: &mut Command) -> Result<()> {
    let line = announce(command);
    let status = command.status().with_context(|| format!("starting `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs `cargo test` like [`run`]; the error has what was printed of the tests that failed.
pub fn run_tests(command: &mut Command) -> Result<()> {
    // Backtraces would bury what failed.
    let line = announce(command.env("RUST_BACKTRACE", "0"));
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting `{line}`"))?;
    let output = BufReader::new(child.stdout.take().context("the output is piped")?);
    let failures = failures(output, io::stdout().lock()).context("passing on what the tests print")?;
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` failed ({status})\n{failures}");
    }
    Ok(())
}

/// Copies what `cargo test` prints. Returns its sections of tests that failed, one for each test program.
fn failures(output: impl BufRead, mut shown: impl Write) -> io::Result<String> {
    let mut failures = Vec::new();
    let mut is_inside = false;
    for line in output.split(b'\n') {
        let line = line?;
        is_inside = line == b"failures:" || is_inside && !line.starts_with(b"test result: ");
        if is_inside {
            failures.extend_from_slice(&line);
            failures.push(b'\n');
        }
        shown.write_all(&line)?;
        shown.write_all(b"\n")?;
    }
    Ok(String::from_utf8_lossy(&failures).into_owned())
}

/// Shows a command before it runs, by the name of its program: `cargo test`, wherever cargo is.
fn announce(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let name = words[0].rsplit('/').next().unwrap_or_default().to_owned();
    let line = [&[name], &words[1..]].concat().join(" ");
    eprintln!("    {line}");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_takes_the_dependencies_of_the_lock_file_alone() {
        let workspace = Workspace::load().unwrap();
        let arguments = |command: &Command| {
            command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let test = workspace.cargo("test", &["--workspace"]);
        assert_eq!(arguments(&test), ["test", "--locked", "--workspace"]);
        assert_eq!(arguments(&workspace.cargo("fmt", &["--all"])), ["fmt", "--all"]);
    }

    #[test]
    fn what_the_tests_print_is_shown_whole_and_what_failed_is_kept() {
        let printed = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nleft: 1\n\nfailures:\n    a\n\n\
                       test result: FAILED. 0 passed\n\ntest b ... ok\n\ntest result: ok. 1 passed\n";
        let mut shown = Vec::new();
        let kept = failures(printed.as_bytes(), &mut shown).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), printed);
        assert_eq!(kept, "failures:\n\n---- a stdout ----\nleft: 1\n\nfailures:\n    a\n\n");
    }
}
