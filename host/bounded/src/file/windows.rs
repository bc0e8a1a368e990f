//! How files are opened and told apart on Windows.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_ATTRIBUTE_DIRECTORY, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_READ_ATTRIBUTES, FILE_TYPE_DISK, FileBasicInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
    GetFileType, SECURITY_ANONYMOUS,
};

/// Opens a regular file for reading; `None` if it is a directory, a device or a pipe. Does not wait: Windows opens each
/// of them at once, or refuses to. The server of a pipe can do nothing with this process's rights meanwhile.
pub(super) fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let file = options().read(true).open(path)?;
    if !is_on_disk(&file) {
        return Ok(None);
    }
    let directory = information(&file)?.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY != 0;
    Ok((!directory).then_some(file))
}

/// Creates a file. Who may read it is up to its folder.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// The fields that change when a file is written, replaced, or reached through another symbolic link.
pub(super) fn identity(path: &Path) -> io::Result<[i64; 7]> {
    let file = options().access_mode(FILE_READ_ATTRIBUTES).open(path)?;
    if !is_on_disk(&file) {
        // A device or a pipe is never read, and never changes.
        return Ok([0; 7]);
    }
    let (file, times) = (information(&file)?, times(&file)?);
    Ok([
        file.dwVolumeSerialNumber.into(),
        joined(file.nFileIndexHigh, file.nFileIndexLow),
        joined(file.nFileSizeHigh, file.nFileSizeLow),
        file.dwFileAttributes.into(),
        times.CreationTime,
        times.LastWriteTime,
        times.ChangeTime,
    ])
}

/// How every file is opened. Without `FILE_FLAG_BACKUP_SEMANTICS` a directory could not be told from a file that may not be read.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(FILE_FLAG_BACKUP_SEMANTICS).security_qos_flags(SECURITY_ANONYMOUS);
    options
}

fn joined(high: u32, low: u32) -> i64 {
    i64::from(high) << 32 | i64::from(low)
}

/// Whether it is a file or a directory of a disk, and no device and no pipe.
#[expect(unsafe_code, reason = "std does not tell a device from a file")]
fn is_on_disk(file: &File) -> bool {
    // SAFETY: the handle is open while `file` is borrowed.
    unsafe { GetFileType(file.as_raw_handle()) == FILE_TYPE_DISK }
}

#[expect(unsafe_code, reason = "std tells the index of a file on nightly only")]
fn information(file: &File) -> io::Result<BY_HANDLE_FILE_INFORMATION> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open while `file` is borrowed, and `information` is a variable of this function.
    match unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut information) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(information),
    }
}

/// The times of a file. Unlike the others, the time of its last change (`ChangeTime`) is not one that usual programs set.
#[expect(unsafe_code, reason = "std does not tell the time of a change")]
fn times(file: &File) -> io::Result<FILE_BASIC_INFO> {
    let mut times = FILE_BASIC_INFO::default();
    let size = u32::try_from(size_of::<FILE_BASIC_INFO>()).unwrap_or_default();
    // SAFETY: the handle is open while `file` is borrowed, and `times` is a buffer of the size that is passed.
    let told =
        unsafe { GetFileInformationByHandleEx(file.as_raw_handle(), FileBasicInfo, (&raw mut times).cast(), size) };
    match told {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(times),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::super::{FileError, Fingerprint, read};

    #[test]
    fn a_device_is_not_read() {
        let started = Instant::now();
        for name in ["NUL", "nul", r"\\.\NUL", r"C:\NUL"] {
            let error = read(Path::new(name), 4).unwrap_err();
            assert!(matches!(error, FileError::NotRegular), "{name}: {error}");
        }
        for name in ["COM1", r"\\.\COM1", "CON", r"\\.\pipe\", r"\\.\pipe\docker-attestor-no-such-pipe", "AUX", "PRN"] {
            assert!(read(Path::new(name), 4).is_err(), "{name}");
            let _ = Fingerprint::of(Path::new(name));
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_pipe_is_not_read_and_not_waited_for() {
        let path = format!(r"\\.\pipe\docker-attestor-test-{}", std::process::id());
        let server = tokio::net::windows::named_pipe::ServerOptions::new().max_instances(1).create(&path).unwrap();
        let started = Instant::now();
        assert!(matches!(read(Path::new(&path), 4), Err(FileError::NotRegular)));
        // Its only instance is taken from here on.
        let _client = std::fs::File::open(&path);
        assert!(read(Path::new(&path), 4).is_err());
        assert_eq!(Fingerprint::of(Path::new(&path)), Fingerprint::of(Path::new(&path)));
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        drop(server);
    }

    #[test]
    fn a_file_that_was_replaced_by_one_with_the_same_times_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("policy.wasm"), folder.path().join("next"));
        std::fs::write(&path, b"1").unwrap();
        let before = Fingerprint::of(&path);
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&next, b"2").unwrap();
        std::fs::File::options().write(true).open(&next).unwrap().set_modified(modified).unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified);
        assert_ne!(Fingerprint::of(&path), before);
    }
}
