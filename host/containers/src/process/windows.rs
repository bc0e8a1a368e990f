//! The processes of a Windows machine. Each is held by a handle: Windows gives the pid of a process to no other one while a handle of
//! the process is open.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::windows::io::OwnedHandle;
use std::sync::{Arc, OnceLock};

use windows_sys::Win32::System::Threading::{
    PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
};

use super::jobs::{ContainerJobs, Member};
use super::{CONTAINER_JOB, JobObjects, ManagerAccount, Origin, PidNamespace, Process, Processes, System, win32};

/// The operating system of this file.
pub(super) const SYSTEM: System = System::Windows;

/// The processes of this machine.
pub struct Windows {
    jobs: Arc<ContainerJobs>,
}

impl Windows {
    /// The processes of this machine, and its container manager. Turns SeDebugPrivilege off for this process, except for the moments
    /// in which the privilege is needed.
    pub fn new(manager: ManagerAccount) -> Windows {
        Windows { jobs: Arc::new(ContainerJobs::new(manager)) }
    }
}

impl Processes for Windows {
    fn system(&self) -> System {
        System::Windows
    }

    fn open(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        let Some(pid) = u32::try_from(pid).ok().filter(|pid| *pid > 0) else { return Ok(None) };
        let access = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
        let opened = self.jobs.open(pid, access).map_err(|error| denied("PROCESS_QUERY_LIMITED_INFORMATION", error))?;
        // A process that has ended keeps its pid while somebody holds a handle of it.
        let Some(handle) = opened.filter(win32::is_running) else { return Ok(None) };
        Ok(Some(Arc::new(WindowsProcess { pid, handle, jobs: Arc::clone(&self.jobs), found: OnceLock::new() })))
    }
}

struct WindowsProcess {
    pid: u32,
    handle: OwnedHandle,
    jobs: Arc<ContainerJobs>,
    /// The jobs that it was found in. A process never leaves a job.
    found: OnceLock<JobObjects>,
}

impl WindowsProcess {
    fn job_objects_with(&self, process: &OwnedHandle) -> io::Result<JobObjects> {
        self.jobs.of(&Member { process, created: win32::creation_time(&self.handle)? })
    }
}

impl Process for WindowsProcess {
    fn job_objects(&self) -> io::Result<JobObjects> {
        if let Some(found) = self.found.get().filter(|_| self.alive()) {
            return Ok(found.clone());
        }
        let objects = match self.job_objects_with(&self.handle) {
            // Wine asks for more rights than Windows does. The handle of this process keeps the pid from being used again.
            Err(error) if win32::is_denied(&error) => {
                let access = PROCESS_QUERY_INFORMATION;
                let opened =
                    self.jobs.open(self.pid, access).map_err(|error| denied("PROCESS_QUERY_INFORMATION", error))?;
                self.job_objects_with(&opened.ok_or(io::ErrorKind::NotFound)?)
            }
            objects => objects,
        };
        // The jobs of a process that ended meanwhile say nothing.
        match self.alive() {
            true => objects.map(|objects| self.found.get_or_init(|| objects).clone()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn origin(&self) -> io::Result<Origin> {
        let names = match self.job_objects()? {
            JobObjects::Names(names) => names,
            JobObjects::NoManager => Vec::new(),
        };
        // The account of a process in a container does not matter, and its token may be closed to us.
        if let Some(name) = names.iter().find(|name| name.starts_with(CONTAINER_JOB)) {
            return Ok(Origin { namespace: Some((PidNamespace { inode: number_of(name) }, None)), user: u32::MAX });
        }
        let account = win32::account(&self.handle)?;
        Ok(Origin { namespace: None, user: account.user.relative_id().unwrap_or(u32::MAX) })
    }

    fn alive(&self) -> bool {
        win32::is_running(&self.handle)
    }
}

/// A number that stands for a job's name. Equal names have equal numbers.
fn number_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Says which right is missing.
fn denied(right: &str, error: io::Error) -> io::Error {
    match win32::is_denied(&error) {
        false => error,
        true => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{right} is denied: run the agent as LocalSystem, or as an administrator with SeDebugPrivilege"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_reads_as_gone() {
        let windows = Windows::new(ManagerAccount::Any);
        let mut child = std::process::Command::new("cmd.exe")
            .args(["/c", "set /p line="])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        let process = windows.open(pid).unwrap().unwrap();
        assert!(process.alive());
        assert_eq!(process.job_objects().unwrap(), JobObjects::NoManager);
        assert_eq!(process.origin().unwrap().namespace, None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.alive());
        assert_eq!(process.job_objects().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(windows.open(pid).unwrap().is_none(), "the child's handle still holds the pid");
        for none in [0, -1, i32::MIN, 0x7fff_fffc] {
            assert!(windows.open(none).unwrap().is_none());
        }
    }

    #[test]
    fn what_linux_alone_has_is_unsupported() {
        let windows = Windows::new(ManagerAccount::Any);
        let own = windows.open(std::process::id().cast_signed()).unwrap().unwrap();
        assert_eq!(own.cgroup().unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(own.credentials().unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
