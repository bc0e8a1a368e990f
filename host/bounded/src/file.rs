//! Reads files that a configuration names. They must be regular files, and are read whole and bounded in bytes.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;

/// Why a file was not read. The text does not name the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// No file has this name.
    #[error("no such file")]
    Missing,
    /// A directory, a FIFO or pipe, a device or a socket.
    #[error("not a regular file")]
    NotRegular,
    /// The file has more bytes than the limit.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// The operating system refuses to open or read the file.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> FileError {
        match error.kind() {
            ErrorKind::NotFound => FileError::Missing,
            _ => FileError::Unreadable(error),
        }
    }
}

/// Reads a regular file of at most `limit` bytes. Follows symbolic links, because Kubernetes builds its mounts from
/// them.
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    // Other files may never end.
    let file = system::open_regular(path)?.ok_or(FileError::NotRegular)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        true => Ok(bytes),
        false => Err(FileError::TooLarge(limit)),
    }
}

/// Writes a new file that only its owner may read (mode 0600; on Windows as its folder says). An existing file is left alone.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    system::create_private(path)?.write_all(bytes)
}

/// The fingerprint of a file: it changes when the file is written, replaced by a rename, or reached through another
/// symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Option<[i64; 7]>);

impl Fingerprint {
    /// Takes the fingerprint of the file now. A missing file has a fingerprint, too, which differs from that of any
    /// file.
    pub fn of(path: &Path) -> Fingerprint {
        Fingerprint(system::identity(path).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_within_the_limit_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"four").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"four");
        assert_eq!(read(&file, 3).unwrap_err().to_string(), "larger than 3 bytes");
        assert_eq!(read(&folder.path().join("none"), 4).unwrap_err().to_string(), "no such file");
        assert_eq!(read(&folder.path().join("none/file"), 4).unwrap_err().to_string(), "no such file");
        assert_eq!(read(folder.path(), 4).unwrap_err().to_string(), "not a regular file");
    }

    #[test]
    fn a_fingerprint_changes_when_a_file_is_created_written_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.wasm");
        let mut last = Fingerprint::of(&path);
        let mut changed = |what: &str| {
            let now = Fingerprint::of(&path);
            assert_ne!(now, last, "{what}");
            assert_eq!(now, Fingerprint::of(&path), "{what}");
            last = now;
        };
        std::fs::write(&path, b"1").unwrap();
        changed("created");
        std::fs::write(&path, b"12").unwrap();
        changed("written");
        std::fs::write(folder.path().join("next"), b"34").unwrap();
        std::fs::rename(folder.path().join("next"), &path).unwrap();
        changed("renamed over");
        std::fs::remove_file(&path).unwrap();
        changed("removed");
        std::fs::create_dir(&path).unwrap();
        changed("a directory now");
    }
}
