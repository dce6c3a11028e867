//! Where the servers' programs are, and how they get onto a Debian machine that lacks them.
//!
//! Promises to touch a machine only where something is missing, and to say what to install where it may not.
//! It refuses to know any other package manager: elsewhere the programs have to be in `PATH`.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::root::Root;

/// The folder, as the root has it, of RabbitMQ's own scripts (`rabbitmq-server`, `rabbitmqctl`), beside which `rabbitmq-env` lies; the
/// wrappers that Debian puts into `PATH` under the same names do not have that neighbour.
///
/// # Errors
/// RabbitMQ is not installed; the message says how to install it.
pub(crate) fn rabbitmq_scripts(root: &Root) -> Result<PathBuf> {
    let is_complete = |folder: &Path| {
        ["rabbitmq-server", "rabbitmq-env"].iter().all(|name| root.outside(folder.join(name)).is_file())
    };
    newest(&root.outside("/usr/lib/rabbitmq/lib"), "rabbitmq_server-", "sbin")
        .map(|folder| root.inside(&folder))
        .filter(|folder| is_complete(folder))
        .or_else(|| {
            let found = root.program("rabbitmq-server").filter(|_| root.is_machine())?.canonicalize().ok()?;
            found.parent().filter(|folder| is_complete(folder)).map(Path::to_owned)
        })
        .filter(|_| root.program("epmd").is_some())
        .context("RabbitMQ is missing: install it with `apt-get install rabbitmq-server`")
}

/// The folder, as the root has it, of PostgreSQL's programs (`initdb`, `postgres`, `psql`): the
/// highest installed version.
///
/// # Errors
/// PostgreSQL is not installed; the message says how to install it.
pub(crate) fn postgres_binaries(root: &Root) -> Result<PathBuf> {
    let is_complete = |folder: &Path| {
        ["initdb", "postgres", "psql"].iter().all(|name| root.outside(folder.join(name)).is_file())
    };
    newest(&root.outside("/usr/lib/postgresql"), "", "bin")
        .map(|folder| root.inside(&folder))
        .filter(|folder| is_complete(folder))
        .or_else(|| {
            let found = root.program("initdb").filter(|_| root.is_machine())?.canonicalize().ok()?;
            found.parent().filter(|folder| is_complete(folder)).map(Path::to_owned)
        })
        .context("PostgreSQL is missing: install it with `apt-get install postgresql`")
}

/// Installs those of the Debian packages `rabbitmq-server` and `postgresql` whose programs are missing, and of `others`
/// (a program in `PATH` and its package), as root or through `sudo` where that asks no password. Does nothing when all are
/// there.
///
/// # Errors
/// Something is missing and cannot be installed; the message is the command to run by hand.
pub fn ensure_installed(others: &[(&str, &'static str)]) -> Result<()> {
    let mut missing = missing();
    missing
        .extend(others.iter().filter(|(program, _)| in_path(program).is_none()).map(|(_, package)| *package));
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let by_hand =
        format!("install them by hand: sudo apt-get update && sudo apt-get install --yes {packages}");
    let mut prefix = Vec::new();
    if !succeeds(Command::new("sh").args(["-c", r#"[ "$(id -u)" = 0 ]"#])) {
        if !succeeds(Command::new("sudo").args(["-n", "true"])) {
            bail!("the packages {packages} are missing, and this user may not install them; {by_hand}");
        }
        prefix.extend(["sudo", "-n"]);
    }
    // A fresh machine's list of packages may be empty, so it is always brought up to date first.
    for arguments in
        [vec!["update"], [vec!["install", "--yes", "--no-install-recommends"], missing.clone()].concat()]
    {
        let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
        let line = [&prefix[..], &apt[..], &arguments[..]].concat();
        let status = Command::new(line[0]).args(&line[1..]).stdin(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            bail!("`{}` failed; {by_hand}", line.join(" "));
        }
    }
    rabbitmq_scripts(&Root::MACHINE)?;
    postgres_binaries(&Root::MACHINE)?;
    Ok(())
}

/// The versions of the servers in this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of RabbitMQ, such as `4.3.6`.
    pub rabbitmq: String,
    /// Of PostgreSQL, such as `18.1`.
    pub postgres: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RabbitMQ {} and PostgreSQL {}", self.rabbitmq, self.postgres)
    }
}

/// Asks which servers a root has.
///
/// # Errors
/// One of them is not installed there, or does not tell.
pub fn versions(root: &Root) -> Result<Versions> {
    let scripts = rabbitmq_scripts(root)?;
    let folder = scripts.parent().and_then(Path::file_name).context("a folder named after its version")?;
    let rabbitmq = folder.to_string_lossy().rsplit('-').next().unwrap_or_default().to_owned();
    let postgres = postgres_binaries(root)?.join("postgres");
    let output = root.command(&postgres, Path::new("/"), None).arg("--version").output();
    // `postgres (PostgreSQL) 18.1 (Debian 18.1-2)`
    let text =
        String::from_utf8_lossy(&output.context("asking PostgreSQL for its version")?.stdout).into_owned();
    let postgres =
        text.split(' ').nth(2).with_context(|| format!("no version in {text:?}"))?.trim().to_owned();
    Ok(Versions { rabbitmq, postgres })
}

fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if rabbitmq_scripts(&Root::MACHINE).is_err() {
        missing.push("rabbitmq-server");
    }
    if postgres_binaries(&Root::MACHINE).is_err() {
        missing.push("postgresql");
    }
    missing
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// `<parent>/<prefix><version>/<child>` of the highest version, compared number by number.
fn newest(parent: &Path, prefix: &str, child: &str) -> Option<PathBuf> {
    let version = |entry: fs::DirEntry| -> Option<(Vec<u32>, PathBuf)> {
        let name = entry.file_name().into_string().ok()?;
        let numbers = name.strip_prefix(prefix)?.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some((numbers, entry.path().join(child)))
    };
    fs::read_dir(parent).ok()?.flatten().filter_map(version).max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_is_compared_by_number_and_other_folders_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["server-9.2", "server-10.1", "server-10.1.1", "server-old", "15"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let parent = folder.path();
        assert_eq!(newest(parent, "server-", "bin"), Some(folder.path().join("server-10.1.1/bin")));
        assert_eq!(newest(parent, "", "bin"), Some(folder.path().join("15/bin")));
        assert_eq!(newest(Path::new("/nowhere"), "", "bin"), None);
    }
}
