//! The job objects of the container manager, and which of them a process is in.
//!
//! The platform for Windows containers runs the processes of each container in a job object. The container manager, vmcompute.exe,
//! holds a handle of each. So the manager's handles are read, and each job among them is asked about the process. Any process may give
//! a job a container's name, but no ordinary process can put that job among the manager's handles.
//!
//! Reading the handles of a process takes milliseconds, so that a scan is used again for some seconds. A handle of a job is never
//! kept: it would keep the container's processes alive after the manager has closed its own. What a scan found is a list of handle
//! values and names, and both are verified when they are used.

use std::collections::HashSet;
use std::io;
use std::os::windows::io::OwnedHandle;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bounded::text::cut;
use windows_sys::Win32::System::Threading::{
    PROCESS_DUP_HANDLE, PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
};

use super::win32::{self, DebugPrivilege};
use super::{JobObjects, ManagerAccount};
use crate::limits;

/// The program of the container manager.
const MANAGER: &str = "vmcompute.exe";
/// The seconds from 1601, where the times of Windows begin, to 1970.
const FROM_1601: u64 = 11_644_473_600;

/// The job objects of this machine's container manager.
pub(super) struct ContainerJobs {
    account: ManagerAccount,
    privilege: DebugPrivilege,
    scan: Mutex<Option<Arc<Scan>>>,
}

/// What one reading of the manager's handles found.
struct Scan {
    managers: Vec<Manager>,
    /// When it began.
    at: Instant,
    /// The same in units of 100 ns since 1601, as processes have their creation times.
    began: u64,
}

struct Manager {
    process: OwnedHandle,
    jobs: Vec<Job>,
}

struct Job {
    /// The value of the manager's handle.
    handle: usize,
    name: String,
}

/// The process that is looked for.
pub(super) struct Member<'a> {
    /// Its handle, with the right to ask in which jobs it is.
    pub(super) process: &'a OwnedHandle,
    /// When it was created, in units of 100 ns since 1601.
    pub(super) created: u64,
}

impl ContainerJobs {
    pub(super) fn new(account: ManagerAccount) -> ContainerJobs {
        ContainerJobs { account, privilege: DebugPrivilege::off(), scan: Mutex::default() }
    }

    /// Opens a process, if need be with the privilege to open those of other accounts. `None` if no process has the pid.
    pub(super) fn open(&self, pid: u32, access: u32) -> io::Result<Option<OwnedHandle>> {
        match win32::open_process(pid, access) {
            Err(error) if win32::is_denied(&error) => self.privilege.with(|| win32::open_process(pid, access)),
            opened => opened,
        }
    }

    /// The manager's jobs that the process is in.
    pub(super) fn of(&self, member: &Member<'_>) -> io::Result<JobObjects> {
        let mut created = Some(member.created);
        for _ in 0..limits::JOB_SCANS {
            match self.scan_since(Instant::now(), created)?.jobs_of(member)? {
                Some(objects) => return Ok(objects),
                // A handle changed since it was read.
                None => created = None,
            }
        }
        let text = "the handles of the container manager change faster than they can be read: try again";
        Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
    }

    /// A scan that began at `since` or later, or one of the last seconds that has seen all jobs of a process that was `created` then.
    /// Callers that come during a scan wait for it.
    fn scan_since(&self, since: Instant, created: Option<u64>) -> io::Result<Arc<Scan>> {
        let mut last = self.scan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scan) = &*last
            && (scan.at >= since || created.is_some_and(|created| scan.counts_for(created)))
        {
            return Ok(Arc::clone(scan));
        }
        let scan = Arc::new(self.privilege.with(|| Scan::run(self.account))?);
        *last = Some(Arc::clone(&scan));
        Ok(scan)
    }
}

impl Scan {
    fn run(account: ManagerAccount) -> io::Result<Scan> {
        let (at, began) = (Instant::now(), now());
        let program = PathBuf::from(win32::system_directory()?).join(MANAGER);
        let (mut managers, mut denied) = (Vec::new(), None);
        for pid in win32::pids_of_program(MANAGER)? {
            match Manager::open(pid, &program, account) {
                Ok(Some(manager)) => managers.push(manager),
                Ok(None) => {
                    tracing::debug!(pid = %pid, "a vmcompute.exe that is not the container manager is passed over")
                }
                Err(error) => denied = Some(error),
            }
        }
        // A process that only has the manager's name may deny us everything: that is no reason to refuse the manager.
        if let (true, Some(error)) = (managers.is_empty(), denied) {
            return Err(error);
        }
        let managers = outermost(managers);
        let jobs: usize = managers.iter().map(|manager| manager.jobs.len()).sum();
        tracing::debug!(managers = %managers.len(), jobs = %jobs, "the container manager's jobs were read");
        Ok(Scan { managers, at, began })
    }

    /// Whether the scan has seen every job that a process of this age can be in. A process is put into its container's job after it
    /// was created and before it runs. (A clock that was set back meanwhile may let a scan count that it should not, for some seconds.
    /// The process then gets no selectors.)
    fn counts_for(&self, created: u64) -> bool {
        let old_enough = u64::try_from(limits::JOB_SCAN_MARGIN.as_nanos() / 100).unwrap_or(u64::MAX);
        self.at.elapsed() < limits::JOB_SCAN_TTL
            && created.saturating_add(old_enough) < self.began
            && self.managers.iter().all(|manager| win32::is_running(&manager.process))
    }

    /// The jobs that the process is in. `None` if the manager's handles are no longer those that were read.
    fn jobs_of(&self, member: &Member<'_>) -> io::Result<Option<JobObjects>> {
        if self.managers.is_empty() {
            return Ok(Some(JobObjects::NoManager));
        }
        let mut names: Vec<String> = Vec::new();
        for manager in &self.managers {
            for job in &manager.jobs {
                let Some(handle) = win32::duplicate_job(&manager.process, job.handle)? else { return Ok(None) };
                if name_of(&handle)? != job.name {
                    return Ok(None);
                }
                if win32::is_in_job(member.process, &handle)? && !names.contains(&job.name) {
                    names.push(job.name.clone());
                }
                if names.len() > limits::JOBS_OF_PROCESS {
                    let text =
                        format!("it is in more than {} of the container manager's jobs", limits::JOBS_OF_PROCESS);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(Some(JobObjects::Names(names)))
    }
}

impl Manager {
    /// Opens a process that may be the container manager, and reads its jobs. `None` if another program only has its name. Such a
    /// program may deny us anything, which is no error then.
    fn open(pid: u32, program: &Path, account: ManagerAccount) -> io::Result<Option<Manager>> {
        // The first handle keeps the pid from being used again before the second one is there.
        let access = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
        let explain = |right: &'static str| move |error: io::Error| denied(pid, right, error);
        let Some(candidate) = win32::open_process(pid, access).map_err(explain("PROCESS_QUERY_LIMITED_INFORMATION"))?
        else {
            return Ok(None);
        };
        if !win32::image_path(&candidate).is_ok_and(|image| image.eq_ignore_ascii_case(program.as_os_str())) {
            return Ok(None);
        }
        let trusted = match account {
            ManagerAccount::LocalSystem => {
                win32::account(&candidate).map_err(explain("TOKEN_QUERY"))?.user.is_local_system()
            }
            ManagerAccount::Any => true,
        };
        if !trusted || !win32::is_running(&candidate) {
            return Ok(None);
        }
        let access = access | PROCESS_QUERY_INFORMATION | PROCESS_DUP_HANDLE;
        let rights = explain("PROCESS_DUP_HANDLE or PROCESS_QUERY_INFORMATION");
        let Some(process) = win32::open_process(pid, access).map_err(rights)? else { return Ok(None) };
        let mut jobs = Vec::new();
        for handle in win32::handle_values(&process, pid)? {
            let job = win32::duplicate_job(&process, handle).map_err(explain("JOB_OBJECT_QUERY of one of its jobs"))?;
            let Some(name) = job.as_ref().map(name_of).transpose()?.filter(|name| !name.is_empty()) else { continue };
            if jobs.len() == limits::JOBS {
                let text =
                    format!("the container manager ({MANAGER}, process {pid}) has more than {} jobs", limits::JOBS);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            jobs.push(Job { handle, name });
        }
        Ok(Some(Manager { process, jobs }))
    }

    /// Whether this process runs in a job that the other one holds. The accounts in a container are the host's in name, so that a
    /// container may run a program like the container manager's. It runs in a job of the real one then.
    fn is_inside(&self, other: &Manager) -> io::Result<bool> {
        for job in &other.jobs {
            if let Some(job) = win32::duplicate_job(&other.process, job.handle)?
                && win32::is_in_job(&self.process, &job)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The managers that are in no job of another one. A manager whose jobs refuse to be asked is dropped, and not the one that they were
/// asked about.
fn outermost(managers: Vec<Manager>) -> Vec<Manager> {
    let mut dropped = HashSet::new();
    for (index, manager) in managers.iter().enumerate() {
        for (other_index, other) in managers.iter().enumerate().filter(|(other_index, _)| *other_index != index) {
            match manager.is_inside(other) {
                Ok(true) => dropped.insert(index),
                Ok(false) => continue,
                Err(_) => dropped.insert(other_index),
            };
        }
    }
    managers.into_iter().enumerate().filter(|(index, _)| !dropped.contains(index)).map(|(_, manager)| manager).collect()
}

/// Says which right is missing.
fn denied(pid: u32, right: &str, error: io::Error) -> io::Error {
    match win32::is_denied(&error) {
        false => error,
        true => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "the container manager ({MANAGER}, process {pid}) may not be read ({right} is denied): run the agent as \
                 LocalSystem, or as an administrator with SeDebugPrivilege"
            ),
        ),
    }
}

/// The name of a job, cut where no container's job has so long a one.
fn name_of(job: &OwnedHandle) -> io::Result<String> {
    let name = win32::name_of_job(job)?;
    Ok(cut(&name, limits::JOB_NAME).to_owned())
}

/// The time in units of 100 ns since 1601.
fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let since_1601 = since_1970 + Duration::from_secs(FROM_1601);
    u64::try_from(since_1601.as_nanos() / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(unsafe_code, reason = "a test makes the jobs that the container manager would make")]

    use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _};
    use std::process::{Child, Command, Stdio};

    use windows_sys::Win32::System::JobObjects::{AssignProcessToJobObject, CreateJobObjectW};

    use super::*;

    const ACCESS: u32 = PROCESS_QUERY_INFORMATION | PROCESS_SYNCHRONIZE;

    /// A job that this process holds, as the container manager would.
    fn job(name: &str) -> OwnedHandle {
        let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
        // SAFETY: the name ends with a NUL, and the handle that is made has no other owner.
        unsafe { OwnedHandle::from_raw_handle(CreateJobObjectW(std::ptr::null(), name.as_ptr())) }
    }

    fn assign(job: &OwnedHandle, child: &Child) {
        // SAFETY: both handles are open.
        assert!(unsafe { AssignProcessToJobObject(job.as_raw_handle(), child.as_raw_handle()) } != 0);
    }

    /// A process that waits for a line on its stdin.
    fn child() -> Child {
        let mut waits = Command::new("cmd.exe");
        waits.args(["/c", "set /p line="]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    fn own_program() -> PathBuf {
        let own = win32::open_process(std::process::id(), ACCESS).unwrap().unwrap();
        PathBuf::from(win32::image_path(&own).unwrap())
    }

    /// A reading of this process's handles, as if it were the container manager.
    fn scan() -> Scan {
        let (at, began) = (Instant::now(), now());
        let manager = Manager::open(std::process::id(), &own_program(), ManagerAccount::Any).unwrap().unwrap();
        Scan { managers: vec![manager], at, began }
    }

    fn names(scan: &Scan, child: &Child) -> Option<Vec<String>> {
        let process = win32::open_process(child.id(), ACCESS).unwrap().unwrap();
        let member = Member { process: &process, created: win32::creation_time(&process).unwrap() };
        match scan.jobs_of(&member).unwrap()? {
            JobObjects::Names(names) => Some(names),
            JobObjects::NoManager => panic!("a manager was given"),
        }
    }

    /// The names by a reading that still holds when it is used: other tests open and close jobs meanwhile.
    fn names_now(child: &Child) -> Vec<String> {
        std::iter::repeat_with(|| names(&scan(), child)).flatten().next().unwrap()
    }

    #[test]
    fn a_process_is_found_in_the_jobs_that_the_manager_holds() {
        let (one, other) = (job("containers-test-one"), job("containers-test-other"));
        let (mut inside, mut outside) = (child(), child());
        assign(&one, &inside);
        let found = names_now(&inside);
        assert!(found.len() == 1 && found[0].ends_with(r"\containers-test-one"), "{found:?}");
        assert!(names_now(&outside).is_empty());
        assign(&other, &inside);
        assert_eq!(names_now(&inside).len(), 2, "in both jobs");
        // A handle that was closed since: the reading says nothing any more, and another one does.
        let earlier = scan();
        drop(other);
        assert_eq!(names(&earlier, &outside), None);
        assert_eq!(names_now(&inside).len(), 1);
        inside.kill().unwrap();
        outside.kill().unwrap();
    }

    #[test]
    fn only_the_program_of_windows_as_local_system_is_the_manager() {
        let own = std::process::id();
        assert!(Manager::open(own, &own_program(), ManagerAccount::Any).unwrap().is_some());
        let upper = PathBuf::from(own_program().to_str().unwrap().to_uppercase());
        assert!(Manager::open(own, &upper, ManagerAccount::Any).unwrap().is_some(), "paths have no case");
        let other = own_program().with_file_name("vmcompute.exe");
        assert!(Manager::open(own, &other, ManagerAccount::Any).unwrap().is_none(), "another program");
        assert!(Manager::open(own, &own_program(), ManagerAccount::LocalSystem).unwrap().is_none(), "another account");
    }

    /// Two processes with the manager's name, one of which runs in a job of the other.
    #[test]
    fn a_manager_in_a_job_of_another_one_is_none() {
        let held = job("containers-test-outermost");
        let mut inner = child();
        assign(&held, &inner);
        let process = win32::open_process(inner.id(), ACCESS).unwrap().unwrap();
        let managers = || {
            let outer = Manager::open(std::process::id(), &own_program(), ManagerAccount::Any).unwrap().unwrap();
            let inner = win32::open_process(inner.id(), ACCESS).unwrap().unwrap();
            [outer, Manager { process: inner, jobs: Vec::new() }]
        };
        let own = win32::creation_time(&win32::open_process(std::process::id(), ACCESS).unwrap().unwrap()).unwrap();
        let [outer, contained] = managers();
        for managers in [vec![outer, contained], managers().into_iter().rev().collect()] {
            let left = outermost(managers);
            assert_eq!(left.len(), 1);
            assert_eq!(win32::creation_time(&left[0].process).unwrap(), own, "the outer one is left");
        }
        drop(process);
        inner.kill().unwrap();
    }

    #[test]
    fn no_handle_is_left_open() {
        let _job = job("containers-test-handles");
        let mut child = child();
        let open = || {
            let own = win32::open_process(std::process::id(), ACCESS).unwrap().unwrap();
            win32::handle_values(&own, std::process::id()).unwrap().len()
        };
        let scan = scan();
        names(&scan, &child);
        let before = open();
        for _ in 0..200 {
            names(&scan, &child);
            drop(self::scan());
        }
        // Other tests open and close some meanwhile.
        assert!(open() < before + 100, "{before} handles before, {} afterwards", open());
        child.kill().unwrap();
    }

    #[test]
    fn a_reading_counts_for_some_seconds_and_for_processes_that_are_older() {
        let scan = scan();
        let second = 10_000_000;
        assert!(scan.counts_for(scan.began - second));
        assert!(!scan.counts_for(scan.began) && !scan.counts_for(scan.began + second));
        let old = Instant::now().checked_sub(limits::JOB_SCAN_TTL);
        let expired = Scan { at: old.unwrap_or(scan.at), ..self::scan() };
        assert_eq!(old.is_some(), !expired.counts_for(scan.began - second));
    }

    #[test]
    fn a_machine_without_a_container_manager_has_no_containers() {
        let jobs = ContainerJobs::new(ManagerAccount::LocalSystem);
        let process = win32::open_process(std::process::id(), ACCESS).unwrap().unwrap();
        let member = Member { process: &process, created: 0 };
        assert_eq!(jobs.of(&member).unwrap(), JobObjects::NoManager);
    }

    /// Windows gives the pid of a process to no other one while a handle of the process is open.
    #[test]
    fn the_pid_of_a_process_that_is_held_is_not_used_again() {
        let mut held = child();
        let process = win32::open_process(held.id(), ACCESS).unwrap().unwrap();
        held.kill().unwrap();
        held.wait().unwrap();
        let pid = held.id();
        drop(held);
        for _ in 0..50 {
            let mut next = child();
            assert_ne!(next.id(), pid);
            next.kill().unwrap();
            next.wait().unwrap();
        }
        assert!(!win32::is_running(&process));
    }
}
