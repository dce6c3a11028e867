//! The files of an installation: whether the user that runs malote can read and write each of them.
//!
//! That user is the owner of the folder. Another user, such as root, may have other permissions: then owner and mode
//! decide instead of an attempt.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Findings;
use crate::config::Config;
use crate::installation;

/// The size of a trial write to a disk: that of a small write-ahead log.
const PROBE_BYTES: usize = 256 * 1024;

/// The databases with their purpose, and the files that SQLite keeps beside them.
fn databases(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let mut databases = Vec::new();
    if config.is_embedded() {
        databases.push(("the embedded broker", installation::broker_file(config)));
    } else if config.ingress.spool.limit_bytes > 0 {
        databases.push(("the spool", installation::spool_file(config)));
    }
    databases.extend(installation::store_file(config).map(|file| ("the store", file)));
    databases
}

/// Checks every file of a database, and folders outside the data directory.
pub(super) fn check(config: &Config, findings: &mut Findings) {
    for (what, file) in databases(config).into_iter().filter(|(_, file)| file.exists()) {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let Ok(metadata) = fs::metadata(folder) else { continue };
        let mut refused = Vec::new();
        for suffix in ["", "-wal", "-shm"] {
            let mut name = file.clone().into_os_string();
            name.push(suffix);
            refused.extend(refusal(Path::new(&name), metadata.uid()));
        }
        match refused.is_empty() {
            true => findings.good(format!("{what} can be read and written: {}", file.display())),
            false => refused.into_iter().for_each(|(text, fix)| findings.bad(text, fix)),
        }
        if folder != config.data.dir {
            check_folder(folder, findings);
        }
    }
}

/// Why the user that runs malote cannot use a file, and the remedy.
fn refusal(file: &Path, owner: u32) -> Option<(String, String)> {
    let metadata = fs::metadata(file).ok()?;
    let (mode, uid) = (metadata.mode() & 0o777, metadata.uid());
    let shown = file.display();
    let fix = format!("chown {owner} {shown} && chmod 600 {shown}");
    if is_decided_by_mode(owner) {
        return match (uid == owner, mode & 0o600 == 0o600) {
            (true, true) => None,
            (true, false) => Some((
                format!(
                    "{shown} has mode {mode:03o}: user {owner}, who owns its folder and runs malote, cannot write it"
                ),
                fix,
            )),
            (false, _) => Some((
                format!(
                    "{shown} belongs to user {uid}: user {owner}, who owns its folder and runs malote, cannot write it"
                ),
                fix,
            )),
        };
    }
    let error = fs::OpenOptions::new().read(true).write(true).open(file).err()?;
    Some((format!("{shown} cannot be written by user {} (mode {mode:03o}): {error}", me()), fix))
}

/// Whether owner and mode are more reliable for the owner of a folder than an attempt of this process.
fn is_decided_by_mode(owner: u32) -> bool {
    me() == 0 && owner != 0
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// SQLite creates and removes files beside a database, so its folder must be writable, on a disk with free space.
pub(super) fn check_folder(folder: &Path, findings: &mut Findings) {
    let Ok(metadata) = fs::metadata(folder) else { return };
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    let shown = folder.display();
    if is_decided_by_mode(owner) && mode & 0o300 != 0o300 {
        let text = format!(
            "{shown} has mode {mode:03o}: user {owner}, who owns it and runs malote, can make no file there"
        );
        return findings.bad(text, format!("chmod 700 {shown}"));
    }
    let written = tempfile::tempfile_in(folder).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_all()
    });
    match written {
        Ok(()) => findings.good(format!("{shown} is writable")),
        Err(error) => findings.bad(
            format!("{shown} is not writable: {error}"),
            "make room, give it to the user that runs malote, or set data.dir",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_file_that_its_user_cannot_write_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db-shm");
        fs::write(&file, "x").unwrap();
        let owner = fs::metadata(folder.path()).unwrap().uid();
        assert_eq!(refusal(&file, owner), None);
        assert_eq!(refusal(&folder.path().join("missing"), owner), None);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        // Root can write whatever the mode is; for the owner of the folder the mode decides.
        let user = if me() == 0 { 65_534 } else { owner };
        if me() == 0 {
            chown(&file, Some(user), None).unwrap();
        }
        let (text, fix) = refusal(&file, user).unwrap();
        assert!(text.contains("store.db-shm") && text.contains("mode 400"), "{text}");
        assert!(fix.contains("chmod 600"), "{fix}");
        if me() == 0 {
            let (text, _) = refusal(&file, 1).unwrap();
            assert!(text.contains("belongs to user 65534"), "{text}");
        }
    }
}
