//! Watches the process that started the plugin, so that the plugin stops when that process ends.
//!
//! Windows keeps the id of the process that started another one, and uses the id again once that process has ended. So
//! a process with this id is the parent only if it is older than its child.

use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr::null_mut;
use std::thread;

use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessBasicInformation};
use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, FILETIME, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessTimes, INFINITE, OpenProcess, PROCESS_BASIC_INFORMATION,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, WaitForSingleObject,
};

/// Calls `ended` when the parent process has ended, at once if it has already.
pub(crate) fn watch(ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
    match parent_id() {
        0 => {
            tracing::debug!("the system does not tell the parent process: it is not watched");
            Ok(())
        }
        id => watch_process(id, ended),
    }
}

/// Calls `ended` when the process that had this id when this process started has ended.
fn watch_process(id: u32, ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let parent = match open_older(id) {
        Ok(Some(parent)) => parent,
        Ok(None) => {
            ended();
            return Ok(());
        }
        Err(error) => {
            tracing::debug!("the parent process cannot be opened ({error}): it is not watched");
            return Ok(());
        }
    };
    let wait = move || {
        if wait_for(&parent) {
            ended();
        }
    };
    thread::Builder::new().name("parent".to_owned()).spawn(wait).map(drop)
}

/// The id of the process that started this one. That process may have ended, and another one may have its id by now; 0
/// if the system does not tell.
#[expect(unsafe_code, reason = "std has no parent process on Windows")]
pub fn parent_id() -> u32 {
    let mut information = PROCESS_BASIC_INFORMATION::default();
    let length = size_of::<PROCESS_BASIC_INFORMATION>();
    // SAFETY: `information` is a buffer of the length that is passed, of the type that this class of information has.
    let status = unsafe {
        NtQueryInformationProcess(
            GetCurrentProcess(),
            ProcessBasicInformation,
            (&raw mut information).cast(),
            u32::try_from(length).unwrap_or_default(),
            null_mut(),
        )
    };
    match status {
        0.. => u32::try_from(information.InheritedFromUniqueProcessId).unwrap_or_default(),
        _ => 0,
    }
}

/// Opens a process to wait for it. `None` if no process has the id, or one that is younger than this process.
#[expect(unsafe_code, reason = "std opens no process by its id")]
fn open_older(id: u32) -> io::Result<Option<OwnedHandle>> {
    // SAFETY: the call has no pointers.
    let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION, 0, id) };
    if process.is_null() {
        let error = io::Error::last_os_error();
        return match error.raw_os_error().and_then(|code| u32::try_from(code).ok()) {
            Some(ERROR_INVALID_PARAMETER) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the handle was opened here, and nothing else closes it.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    // SAFETY: the call has no pointers. The handle that it returns stands for this process and needs no closing.
    let this = unsafe { GetCurrentProcess() };
    Ok((started(process.as_raw_handle())? <= started(this)?).then_some(process))
}

/// The time at which a process was started, in units of 100 ns.
#[expect(unsafe_code, reason = "std does not tell when a process was started")]
fn started(process: HANDLE) -> io::Result<u64> {
    let [mut started, mut exit, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the four pointers are to variables of this function, and `process` is open while its caller holds it.
    let told = unsafe { GetProcessTimes(process, &raw mut started, &raw mut exit, &raw mut kernel, &raw mut user) };
    match told {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(u64::from(started.dwHighDateTime) << 32 | u64::from(started.dwLowDateTime)),
    }
}

/// Returns when the process has ended, and then true. False if it cannot be waited for.
#[expect(unsafe_code, reason = "std waits for child processes only")]
fn wait_for(process: &OwnedHandle) -> bool {
    // SAFETY: the handle is open while it is borrowed.
    unsafe { WaitForSingleObject(process.as_raw_handle(), INFINITE) == WAIT_OBJECT_0 }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(10);

    /// A receiver of the end of a process.
    fn watched(id: u32) -> mpsc::Receiver<()> {
        let (send, ended) = mpsc::channel();
        watch_process(id, move || send.send(()).unwrap()).unwrap();
        ended
    }

    /// A process that ends when its input does.
    fn process() -> std::process::Child {
        Command::new("cmd").args(["/c", "more"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn the_id_is_that_of_the_process_that_started_this_one() {
        // Runs this test once more, in a child process that knows its parent.
        const PARENT: &str = "SPIRE_PLUGIN_TEST_PARENT";
        if let Ok(parent) = std::env::var(PARENT) {
            assert_eq!(parent_id().to_string(), parent);
            return;
        }
        let test = "parent::windows::tests::the_id_is_that_of_the_process_that_started_this_one";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args([test, "--exact"]).env(PARENT, std::process::id().to_string()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn a_parent_that_lives_is_waited_for() {
        assert_eq!(watched(std::process::id()).recv_timeout(MOMENT), Err(mpsc::RecvTimeoutError::Timeout));
    }

    #[test]
    fn a_process_that_is_younger_than_this_one_is_not_the_parent() {
        thread::sleep(MOMENT);
        let mut process = process();
        watched(process.id()).recv_timeout(MOMENT).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[test]
    fn a_parent_that_is_gone_ends_the_plugin_at_once() {
        // Ids of processes are multiples of four.
        watched(0xffff_fff0).recv_timeout(MOMENT).unwrap();
    }

    #[test]
    #[expect(unsafe_code, reason = "opens the process as `open_older` does, whatever its age")]
    fn the_end_of_a_process_is_told() {
        let mut process = process();
        // SAFETY: the call has no pointers, and the handle is closed by its owner only.
        let opened = unsafe { OwnedHandle::from_raw_handle(OpenProcess(PROCESS_SYNCHRONIZE, 0, process.id())) };
        let (send, ended) = mpsc::channel();
        thread::Builder::new().spawn(move || send.send(wait_for(&opened)).unwrap()).unwrap();
        assert_eq!(ended.recv_timeout(MOMENT), Err(mpsc::RecvTimeoutError::Timeout));
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(ended.recv_timeout(LONG), Ok(true));
    }
}
