//! The folder of archived files, each under its hash.
//!
//! A file is there whole or not at all: it is written beside its place, synced, and renamed. The same content is kept once. Every
//! process that archives or opens files needs the same folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use event::EventId;
use tokio::task::spawn_blocking;

/// Files are archived and deleted by one at a time, with what the store says of them: see
/// [`Store::exclusive`](store::Store::exclusive).
pub(crate) const ARCHIVE: i64 = 0x6d61_6c6f_7465_0002;

/// The folder.
#[derive(Clone, Debug)]
pub struct Archive(PathBuf);

impl Archive {
    /// The files in this folder, which is made with the first.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn place(&self, sha256: &str) -> PathBuf {
        // Few entries in each folder.
        self.0.join(&sha256[..2.min(sha256.len())]).join(sha256)
    }

    /// Keeps a file, durably. Its name is its hash.
    pub(crate) async fn keep(&self, sha256: String, content: Bytes) -> io::Result<()> {
        let place = self.place(&sha256);
        spawn_blocking(move || keep(&place, &content)).await?
    }

    /// Deletes a file, if it is there.
    pub(crate) async fn remove(&self, sha256: &str) -> io::Result<()> {
        let place = self.place(sha256);
        match spawn_blocking(move || fs::remove_file(place)).await? {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The content of a file; `None` if it is not there.
    pub async fn open(&self, sha256: &str) -> io::Result<Option<Vec<u8>>> {
        let place = self.place(sha256);
        match spawn_blocking(move || fs::read(place)).await? {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn keep(place: &Path, content: &[u8]) -> io::Result<()> {
    // A file of another length is the rest of an accident.
    if fs::metadata(place).is_ok_and(|kept| kept.len() == content.len() as u64) {
        return Ok(());
    }
    let folder = place.parent().expect("a place is in a folder");
    make_folder(folder)?;
    let beside = folder.join(format!(".{}", EventId::generate()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, place)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, durably, for this user only: health data.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        make_folder(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_file_is_kept_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path().join("files"));
        let hash = "ab12".to_owned();
        assert_eq!(archive.open(&hash).await.unwrap(), None);
        for _ in 0..2 {
            archive.keep(hash.clone(), Bytes::from_static(b"%PDF-1.7")).await.unwrap();
        }
        assert_eq!(archive.open(&hash).await.unwrap().unwrap(), b"%PDF-1.7");
        let folder = folder.path().join("files/ab");
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files, [folder.join("ab12")]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&files[0])), (0o700, 0o600));
        fs::write(&files[0], "%PD").unwrap();
        archive.keep(hash.clone(), Bytes::from_static(b"%PDF-1.7")).await.unwrap();
        assert_eq!(archive.open(&hash).await.unwrap().unwrap(), b"%PDF-1.7");
    }
}
