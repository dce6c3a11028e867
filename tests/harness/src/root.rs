//! Where the servers' programs are: on the machine itself, or in the root folder of another Debian release.
//!
//! Promises that servers of another release leave the machine as it is: the release is unpacked into a folder of its own,
//! only the servers run inside (`chroot`), and `/proc` is mounted for each of them in a mount namespace that ends with it.
//! Knows neither RabbitMQ nor PostgreSQL.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The variable with the root folder that the servers run in; not set, they run on the machine itself.
pub const ROOT: &str = "MALOTE_TEST_ROOT";

/// What a release needs to be unpacked: a program in `PATH` and its Debian package.
pub const DEBOOTSTRAP: (&str, &str) = ("debootstrap", "debootstrap");

/// A Debian release whose servers are tested beside the machine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian 13: RabbitMQ 4.0 and PostgreSQL 17.
    Trixie,
    /// Debian unstable: the newest of both.
    Sid,
}

impl Release {
    /// The releases, oldest first.
    pub const ALL: [Self; 2] = [Self::Trixie, Self::Sid];

    /// Debian's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// Unpacks the release with both servers into `<parent>/<name>`, and returns that root. One that was unpacked before
    /// is taken as it is: delete the folder to get newer servers.
    ///
    /// # Errors
    /// This user may not, or the packages cannot be had; the message has the end of debootstrap's log.
    pub fn unpack(self, parent: &Path) -> Result<Root> {
        let folder = parent.join(self.name());
        let complete = folder.join("unpacked");
        if complete.is_file() {
            return Ok(Root(Some(folder)));
        }
        ensure!(
            effective_user()? == 0,
            "the servers of Debian {} run in a folder of their own, which only root can set up: run this as root",
            self.name()
        );
        // What an interrupted run left is not whole.
        if folder.exists() {
            fs::remove_dir_all(&folder).context("removing what an interrupted debootstrap left")?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let output = Command::new(DEBOOTSTRAP.0)
            .args(["--variant=minbase", "--include=rabbitmq-server,postgresql", self.name()])
            .arg(&folder)
            .stdin(Stdio::null())
            .output()
            .context("starting debootstrap (Debian package debootstrap)")?;
        if !output.status.success() {
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            let end: Vec<_> = printed.lines().rev().take(15).collect();
            bail!(
                "debootstrap of {} failed:\n{}",
                self.name(),
                end.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        fs::write(folder.join("etc/hosts"), "127.0.0.1 localhost\n").context("writing etc/hosts")?;
        // The downloaded packages are unpacked, and take half of the room.
        let _ = fs::remove_dir_all(folder.join("var/cache/apt/archives"));
        fs::write(&complete, "").context("marking the folder as complete")?;
        Ok(Root(Some(folder)))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whom a program runs as when the test runs as root.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The file system that the servers' programs see: the machine's, or that of an unpacked [`Release`].
#[derive(Clone, Debug)]
pub struct Root(Option<PathBuf>);

/// What becomes the program, so that the process started is the program itself: a name space of its own with `/proc` in
/// the root `$1`, the user `$2`, the working folder `$3`.
const ENTER: &str = r#"mount -t proc proc "$1/proc" && root=$1 user=$2 folder=$3 && shift 3 &&
    exec chroot --userspec="$user" "$root" env --chdir="$folder" "$@""#;

impl Root {
    /// The machine itself.
    pub const MACHINE: Self = Self(None);

    /// The root that the environment names, else the machine itself.
    pub fn from_env() -> Self {
        Self(env::var_os(ROOT).map(PathBuf::from))
    }

    /// The variable for the processes that are to use this root; none for the machine itself.
    pub fn environment(&self) -> Option<(&'static str, PathBuf)> {
        self.0.clone().map(|folder| (ROOT, folder))
    }

    /// A program of this root, to be run in `folder` (a path of this process).
    pub(crate) fn command(&self, program: &Path, folder: &Path, user: Option<User>) -> Command {
        let Some(root) = &self.0 else {
            let mut command = Command::new(program);
            command.current_dir(folder);
            if let Some(User { uid, gid }) = user {
                command.uid(uid).gid(gid);
            }
            return command;
        };
        let User { uid, gid } = user.unwrap_or(User { uid: 0, gid: 0 });
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "enter"]);
        command.arg(root).arg(format!("{uid}:{gid}")).arg(self.inside(folder)).arg(program);
        command
    }

    /// A file of this root, as this process names it.
    pub(crate) fn outside(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        match &self.0 {
            None => inside.to_owned(),
            Some(root) => root.join(inside.strip_prefix("/").unwrap_or(inside)),
        }
    }

    /// A file that this process names, as the servers name it.
    pub(crate) fn inside(&self, outside: &Path) -> PathBuf {
        match self.0.as_ref().and_then(|root| outside.strip_prefix(root).ok()) {
            None => outside.to_owned(),
            Some(inside) => Path::new("/").join(inside),
        }
    }

    /// Makes an empty folder for the data of one server, for its user only. The caller removes it.
    pub(crate) fn folder(&self, prefix: &str) -> Result<PathBuf> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(prefix).permissions(fs::Permissions::from_mode(0o700));
        let folder = match &self.0 {
            None => builder.tempdir(),
            Some(root) => builder.tempdir_in(root.join("tmp")),
        };
        Ok(folder.context("a folder")?.keep())
    }

    /// Where `PATH` leads for this program: on the machine as the environment says, in a root as Debian has it.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        let path = match &self.0 {
            None => env::var_os("PATH")?,
            Some(_) => "/usr/sbin:/usr/bin".into(),
        };
        env::split_paths(&path).map(|folder| folder.join(name)).find(|file| self.outside(file).is_file())
    }

    /// Whether this is the machine itself.
    pub(crate) fn is_machine(&self) -> bool {
        self.0.is_none()
    }
}

/// The user this process acts as: the owner of what it makes.
fn effective_user() -> Result<u32> {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().context("a folder")?;
    Ok(fs::metadata(folder.path()).context("the folder")?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_two_names_in_a_root_and_one_on_the_machine() {
        let root = Root(Some("/srv/sid".into()));
        assert_eq!(root.outside("/usr/bin/psql"), Path::new("/srv/sid/usr/bin/psql"));
        assert_eq!(root.inside(Path::new("/srv/sid/tmp/node")), Path::new("/tmp/node"));
        let machine = Root::MACHINE;
        assert_eq!(machine.outside("/usr/bin/psql"), Path::new("/usr/bin/psql"));
        assert_eq!(machine.inside(Path::new("/tmp/node")), Path::new("/tmp/node"));
    }

    #[test]
    fn an_unpacked_release_is_taken_as_it_is_and_what_has_no_mark_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("sid");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("unpacked"), "").unwrap();
        assert_eq!(Release::Sid.unpack(parent.path()).unwrap().0, Some(folder.clone()));
        // No network is asked: what lies where the folder belongs cannot be removed as a folder.
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "a file").unwrap();
        assert!(Release::Sid.unpack(parent.path()).is_err());
    }
}
