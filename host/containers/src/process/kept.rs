//! The open files of processes that were attested before. With them the next proof opens nothing.
//!
//! A descriptor of /proc/PID/cgroup shows the present cgroups of the process that it was opened for, at each read from its
//! beginning. `tests/kernel.rs` shows these facts on the kernel that runs.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use rustix::process::{Resource, getrlimit};

use super::Process;
use super::linux::{LinuxProcess, read_at_start};
use crate::limits;

/// How many processes are kept open with this limit of descriptors: they take an eighth of it.
pub fn processes_kept(descriptors: u64) -> u64 {
    (descriptors / 8 / limits::PROCESS_DESCRIPTORS).min(limits::PROCESSES_KEPT)
}

/// The processes that were seen before, by pid. The one that was used least recently goes first.
#[derive(Debug)]
pub(super) struct KeptProcesses(Cache<i32, Arc<LinuxProcess>>);

impl KeptProcesses {
    /// As many processes as an eighth of the descriptors that we may have allows, and [`limits::PROCESSES_KEPT`] at most.
    pub(super) fn new() -> KeptProcesses {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let cache = Cache::builder().max_capacity(processes_kept(descriptors)).eviction_policy(EvictionPolicy::lru());
        KeptProcesses(cache.build())
    }

    /// The process with this pid. Its pidfd shows that it lives, so that no other process can have the pid.
    pub(super) fn get(&self, pid: i32) -> Option<Arc<LinuxProcess>> {
        self.0.get(&pid).filter(|process| process.alive())
    }

    pub(super) fn insert(&self, pid: i32, process: Arc<LinuxProcess>) {
        self.0.insert(pid, process);
    }

    /// Closes the files of processes that have exited.
    pub(super) fn sweep(&self) {
        for (pid, process) in &self.0 {
            if !process.alive() {
                self.0.invalidate(&*pid);
            }
        }
        self.0.run_pending_tasks();
    }
}

/// The files of a process that are kept open, and what was read of them last.
#[derive(Debug, Default)]
pub(super) struct KeptFiles {
    cgroup: OnceLock<OwnedFd>,
    statm: OnceLock<OwnedFd>,
    last: Mutex<Option<CgroupText>>,
}

/// The text of /proc/PID/cgroup.
#[derive(Debug, Clone)]
pub(super) struct CgroupText {
    pub(super) text: Arc<[u8]>,
    /// Whether this may be the text of a leader that has exited while its threads live. In the v1 hierarchies an exiting task
    /// shows `/`, and in v2 the cgroup in which it was.
    pub(super) may_be_exited: bool,
}

impl CgroupText {
    pub(super) fn new(text: &[u8]) -> CgroupText {
        let mut v1 = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"0:"));
        CgroupText { text: text.into(), may_be_exited: v1.all(|line| line.ends_with(b":/")) }
    }
}

impl KeptFiles {
    /// Reads /proc/PID/cgroup, which `open` opens if it is not open yet. A text that is the same as before is not copied.
    pub(super) fn cgroup(&self, open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<CgroupText> {
        let read = |text: &[u8]| {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            match &*last {
                Some(same) if *same.text == *text => same.clone(),
                _ if text.len() > limits::CGROUP_TEXT_KEPT => CgroupText::new(text),
                _ => last.insert(CgroupText::new(text)).clone(),
            }
        };
        match self.cgroup.get() {
            Some(file) => read_at_start(file, read),
            None => {
                let file = open()?;
                let read = read_at_start(&file, read)?;
                if read.text.len() <= limits::CGROUP_TEXT_KEPT {
                    let _ = self.cgroup.set(file);
                }
                Ok(read)
            }
        }
    }

    /// Whether the leader has exited: /proc/PID/statm, which `open` opens if it is not open yet, shows that it has no memory.
    /// A thread of the kernel has none either.
    pub(super) fn has_no_memory(&self, open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<bool> {
        let file = match self.statm.get() {
            Some(file) => file,
            None => {
                let opened = open()?;
                self.statm.get_or_init(|| opened)
            }
        };
        read_at_start(file, |text| text.iter().all(|byte| b"0 \n".contains(byte)))
    }
}
