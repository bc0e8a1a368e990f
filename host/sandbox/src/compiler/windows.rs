//! How Windows bounds and schedules the compiler's process: through a job object.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::ptr::null;
use std::sync::Arc;

use tokio::process::{Child, Command};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_NAME_NORMALIZED, FILE_SHARE_DELETE, FILE_SHARE_READ, GetFinalPathNameByHandleW, VOLUME_NAME_DOS,
    VOLUME_NAME_GUID,
};
use windows_sys::Win32::System::Diagnostics::Debug::{SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOB_OBJECT_LIMIT_PRIORITY_CLASS,
    JOB_OBJECT_LIMIT_PROCESS_MEMORY, JOB_OBJECT_LIMIT_PROCESS_TIME, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::{BELOW_NORMAL_PRIORITY_CLASS, DETACHED_PROCESS, IDLE_PRIORITY_CLASS};

use crate::limits;

/// UTF-16 units of a path, the longest that Windows knows.
const PATH_UNITS: usize = 32 << 10;
/// Units of a job's time in one second: 100 ns each.
const TIME_UNITS: u64 = 10_000_000;
/// The exit code of a process that an administrator ended, as Task Manager and taskkill do.
const ENDED_BY_ADMINISTRATOR: i32 = 1;

/// The file of the program that runs, opened when the program began.
#[derive(Debug, Clone)]
pub(super) struct ThisProgram(Result<Arc<File>, Arc<io::Error>>);

/// A process runs one program only.
impl PartialEq for ThisProgram {
    fn eq(&self, _: &ThisProgram) -> bool {
        true
    }
}

impl Eq for ThisProgram {}

impl ThisProgram {
    /// Opens the file such that it may be renamed, but not written to.
    pub(super) fn new() -> ThisProgram {
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE).open(std::env::current_exe()?)
        };
        ThisProgram(open().map(Arc::new).map_err(Arc::new))
    }

    /// The path that the file has now. Windows neither deletes nor overwrites the file of a running program, but an installer
    /// may rename it and put another program in its place.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        let file = self.0.as_ref().map_err(|error| io::Error::new(error.kind(), Arc::clone(error)))?;
        // Not every volume has a letter.
        path_of(file, VOLUME_NAME_DOS).or_else(|_| path_of(file, VOLUME_NAME_GUID))
    }
}

/// The path of an open file, with the name of its volume in this form.
#[expect(unsafe_code, reason = "std does not tell the path of an open file")]
fn path_of(file: &File, volume: u32) -> io::Result<PathBuf> {
    let mut path = vec![0; PATH_UNITS];
    let size = u32::try_from(path.len()).unwrap_or_default();
    // SAFETY: the handle is open while `file` is borrowed, and `path` is a buffer of the size that is passed.
    let length = unsafe {
        GetFinalPathNameByHandleW(file.as_raw_handle(), path.as_mut_ptr(), size, FILE_NAME_NORMALIZED | volume)
    };
    match usize::try_from(length).ok().filter(|length| *length > 0).and_then(|length| path.get(..length)) {
        Some(path) => Ok(OsString::from_wide(path).into()),
        None => Err(io::Error::last_os_error()),
    }
}

/// Gives the process no console, which would start another process for it, and the one variable that parts of the system need.
pub(super) fn prepare(command: &mut Command) {
    const SYSTEM_ROOT: &str = "SystemRoot";
    command.creation_flags(DETACHED_PROCESS);
    if let Some(root) = std::env::var_os(SYSTEM_ROOT) {
        command.env(SYSTEM_ROOT, root);
    }
}

/// The bounds of the compiler's process: the job that it is in. The process is killed when they are dropped, or when this process
/// ends, whichever way.
pub(super) struct Bounds {
    _job: OwnedHandle,
}

impl Bounds {
    /// Puts the process into a job of its own.
    pub(super) fn of(child: &Child, idle: bool) -> io::Result<Bounds> {
        let bound = || {
            let process = child.raw_handle().ok_or_else(|| io::Error::other("the process has ended"))?;
            let job = job(idle)?;
            assign(&job, process)?;
            Ok(Bounds { _job: job })
        };
        bound().map_err(|error: io::Error| {
            io::Error::new(error.kind(), format!("it cannot be put into a job object that bounds it: {error}"))
        })
    }
}

/// A job with the bounds of the compiler: one process, its CPU time, its memory and its priority.
#[expect(unsafe_code, reason = "std has no job objects")]
fn job(idle: bool) -> io::Result<OwnedHandle> {
    // SAFETY: both pointers may be null: the job has no name, and its handle is not inherited.
    let job = unsafe { CreateJobObjectW(null(), null()) };
    if job.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was made here, and nothing else closes it.
    let job = unsafe { OwnedHandle::from_raw_handle(job) };
    let mut bounds = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    let basic = &mut bounds.BasicLimitInformation;
    basic.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        | JOB_OBJECT_LIMIT_ACTIVE_PROCESS
        | JOB_OBJECT_LIMIT_PROCESS_TIME
        | JOB_OBJECT_LIMIT_PROCESS_MEMORY
        | JOB_OBJECT_LIMIT_PRIORITY_CLASS
        // A crash shows no window, and does not wait for a user.
        | JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION;
    basic.ActiveProcessLimit = 1;
    basic.PerProcessUserTimeLimit = (limits::COMPILER_CPU * TIME_UNITS).cast_signed();
    basic.PriorityClass = if idle { IDLE_PRIORITY_CLASS } else { BELOW_NORMAL_PRIORITY_CLASS };
    bounds.ProcessMemoryLimit = usize::try_from(limits::COMPILER_MEMORY).unwrap_or(usize::MAX);
    let size = u32::try_from(size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>()).unwrap_or_default();
    // SAFETY: `bounds` is of the type of this class of information, and of the size that is passed.
    let set = unsafe {
        SetInformationJobObject(
            job.as_raw_handle(),
            JobObjectExtendedLimitInformation,
            (&raw const bounds).cast(),
            size,
        )
    };
    match set {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(job),
    }
}

#[expect(unsafe_code, reason = "std has no job objects")]
fn assign(job: &OwnedHandle, process: RawHandle) -> io::Result<()> {
    // SAFETY: both handles are open: the job's is borrowed, and the process's is that of a child that its caller borrows.
    match unsafe { AssignProcessToJobObject(job.as_raw_handle(), process) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether a process was ended from outside. Windows does not tell, but such a process has this exit code and no output.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    status.code() == Some(ENDED_BY_ADMINISTRATOR)
}

/// Lets a crash of this process show no window. The job bounds the rest.
#[expect(unsafe_code, reason = "std does not set how the system treats a crash")]
pub(super) fn confine(_: bool) -> io::Result<()> {
    // SAFETY: the call has no pointers.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::time::timeout;
    use windows_sys::Win32::System::JobObjects::{IsProcessInJob, QueryInformationJobObject};

    use super::*;

    /// A process that ends when its input does.
    fn process() -> Child {
        let mut command = Command::new("cmd");
        command.args(["/c", "more"]).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        prepare(&mut command);
        command.spawn().unwrap()
    }

    #[expect(unsafe_code, reason = "std has no job objects")]
    fn is_in(child: &Child, job: &OwnedHandle) -> bool {
        let mut is = 0;
        // SAFETY: both handles are open, and `is` is a variable of this function.
        let told = unsafe { IsProcessInJob(child.raw_handle().unwrap(), job.as_raw_handle(), &raw mut is) };
        assert_ne!(told, 0);
        is != 0
    }

    #[tokio::test]
    async fn the_process_is_in_the_job_and_ends_with_it() {
        for idle in [true, false] {
            let mut child = process();
            // Taken, because `wait` closes it otherwise.
            let stdin = child.stdin.take();
            let bounds = Bounds::of(&child, idle).unwrap();
            assert!(is_in(&child, &bounds._job));
            assert!(timeout(Duration::from_millis(100), child.wait()).await.is_err(), "it waits for its input");
            drop(bounds);
            timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
            drop(stdin);
        }
    }

    #[tokio::test]
    async fn a_process_that_has_ended_gets_no_bounds_and_an_error_that_says_so() {
        let mut child = process();
        child.kill().await.unwrap();
        let error = Bounds::of(&child, true).err().unwrap().to_string();
        assert!(error.starts_with("it cannot be put into a job object that bounds it: "), "{error}");
    }

    #[test]
    #[ignore = "wine 8 does not tell the limits of a job"]
    #[expect(unsafe_code, reason = "std has no job objects")]
    fn a_job_has_the_limits_of_the_table() {
        let job = job(true).unwrap();
        let mut bounds = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        let size = u32::try_from(size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>()).unwrap();
        // SAFETY: `bounds` is of the type of this class of information, and of the size that is passed.
        let told = unsafe {
            QueryInformationJobObject(
                job.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw mut bounds).cast(),
                size,
                std::ptr::null_mut(),
            )
        };
        assert_ne!(told, 0);
        assert_eq!(bounds.BasicLimitInformation.ActiveProcessLimit, 1);
        assert_eq!(bounds.BasicLimitInformation.PerProcessUserTimeLimit, 100_000_000);
        assert_eq!(bounds.ProcessMemoryLimit, 1 << 30);
    }

    #[test]
    fn this_program_is_found_by_its_file() {
        let program = ThisProgram::new();
        let path = program.path().unwrap();
        assert_eq!(path.file_name(), std::env::current_exe().unwrap().file_name());
        assert!(path.is_file());
    }

    #[test]
    #[ignore = "wine 8 tells the name under which a file was opened"]
    fn a_file_that_was_renamed_is_found_by_its_new_name() {
        let folder = std::env::temp_dir().join(format!("sandbox-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (old, new) = (folder.join("old.exe"), folder.join("new.exe"));
        std::fs::write(&old, b"program").unwrap();
        let mut options = OpenOptions::new();
        let file = options.read(true).share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE).open(&old).unwrap();
        std::fs::rename(&old, &new).unwrap();
        std::fs::write(&old, b"another").unwrap();
        let path = ThisProgram(Ok(Arc::new(file))).path().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"program");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
