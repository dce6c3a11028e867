//! Where the servers' programs are, and how they get onto a Debian machine that lacks them.
//!
//! Promises to touch a machine only where something is missing, and to say what to install where it may not.
//! It refuses to know any other package manager: elsewhere the programs have to be in `PATH`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The folder of RabbitMQ's own scripts (`rabbitmq-server`, `rabbitmqctl`), beside which `rabbitmq-env` lies; the
/// wrappers that Debian puts into `PATH` under the same names do not have that neighbour.
///
/// # Errors
/// RabbitMQ is not installed; the message says how to install it.
pub fn rabbitmq_scripts() -> Result<PathBuf> {
    let is_complete =
        |folder: &Path| folder.join("rabbitmq-server").is_file() && folder.join("rabbitmq-env").is_file();
    newest("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin")
        .filter(|folder| is_complete(folder))
        .or_else(|| {
            let found = in_path("rabbitmq-server")?.canonicalize().ok()?;
            found.parent().filter(|folder| is_complete(folder)).map(Path::to_owned)
        })
        .filter(|_| in_path("epmd").is_some())
        .context("RabbitMQ is missing: install it with `apt-get install rabbitmq-server`")
}

/// The folder of PostgreSQL's programs (`initdb`, `postgres`, `psql`): the highest installed version.
///
/// # Errors
/// PostgreSQL is not installed; the message says how to install it.
pub fn postgres_binaries() -> Result<PathBuf> {
    let is_complete =
        |folder: &Path| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    newest("/usr/lib/postgresql", "", "bin")
        .filter(|folder| is_complete(folder))
        .or_else(|| {
            let found = in_path("initdb")?.canonicalize().ok()?;
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
    rabbitmq_scripts()?;
    postgres_binaries()?;
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if rabbitmq_scripts().is_err() {
        missing.push("rabbitmq-server");
    }
    if postgres_binaries().is_err() {
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
fn newest(parent: &str, prefix: &str, child: &str) -> Option<PathBuf> {
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
        let parent = folder.path().to_str().unwrap();
        assert_eq!(newest(parent, "server-", "bin"), Some(folder.path().join("server-10.1.1/bin")));
        assert_eq!(newest(parent, "", "bin"), Some(folder.path().join("15/bin")));
        assert_eq!(newest("/nowhere", "", "bin"), None);
    }
}
