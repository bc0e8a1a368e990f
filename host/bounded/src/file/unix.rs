//! How files are opened and told apart on Unix.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Opens a regular file for reading; `None` if it is another file. Does not wait: opening a FIFO would otherwise wait for a writer.
pub(super) fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = open(path, flags, Mode::empty()).map(File::from)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Creates a file that only its owner may read and write.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(open(path, flags, Mode::RUSR | Mode::WUSR).map(File::from)?)
}

/// The fields that change when a file is written, replaced, or reached through another symbolic link.
pub(super) fn identity(path: &Path) -> io::Result<[i64; 7]> {
    let metadata = std::fs::metadata(path)?;
    Ok([
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.size().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::{FileError, Fingerprint, create, read};

    #[test]
    fn links_are_followed_and_a_fifo_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), b"four").unwrap();
        symlink("file", folder.path().join("link")).unwrap();
        assert_eq!(read(&folder.path().join("link"), 4).unwrap(), b"four");
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(matches!(read(&fifo, 4), Err(FileError::NotRegular)));
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_an_existing_one_is_left_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        create(&path, b"four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(create(&path, b"more").unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        symlink("target", folder.path().join("link")).unwrap();
        assert!(create(&folder.path().join("link"), b"more").is_err());
        assert!(!folder.path().join("target").exists());
        assert_eq!(read(&path, 4).unwrap(), b"four");
    }

    #[test]
    fn a_fingerprint_changes_with_every_way_of_replacing_a_file() {
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
        std::fs::write(folder.path().join("next"), b"2").unwrap();
        std::fs::rename(folder.path().join("next"), &path).unwrap();
        changed("renamed over");
        // Kubernetes replaces files like this: FILE links to ..data/FILE, and ..data is replaced by a rename.
        for version in ["v1", "v2"] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
            std::fs::write(folder.path().join(version).join("policy.wasm"), b"2").unwrap();
        }
        symlink("v1", folder.path().join("..data")).unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink("..data/policy.wasm", &path).unwrap();
        changed("a link now");
        symlink("v2", folder.path().join("..next")).unwrap();
        std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
        changed("a link on the way was replaced");
        std::fs::remove_file(&path).unwrap();
        changed("removed");
    }
}
