//! Processes of a live machine whose reads are recorded, for a scenario.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::recorded::RecordedProcess;
use super::{JobObjects, Origin, PidNamespace, Process, ProcessCredentials, Processes, Stat, System};

/// Forwards every read to another [`Processes`] and records its result.
pub struct RecordingProcesses {
    inner: Arc<dyn Processes>,
    read: Arc<Mutex<BTreeMap<i32, RecordedProcess>>>,
    own_cgroup: Mutex<Vec<String>>,
}

impl RecordingProcesses {
    /// A recorder that has recorded nothing yet.
    pub fn new(inner: Arc<dyn Processes>) -> RecordingProcesses {
        RecordingProcesses { inner, read: Arc::default(), own_cgroup: Mutex::default() }
    }

    /// The lines of the attestor's own /proc/self/cgroup, if it was read.
    pub fn own_cgroup(&self) -> Vec<String> {
        self.own_cgroup.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was read so far, by pid.
    pub fn recorded(&self) -> BTreeMap<i32, RecordedProcess> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record(&self, pid: i32, process: Option<Arc<dyn Process>>) -> Option<Arc<dyn Process>> {
        let process = process?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).entry(pid).or_default();
        Some(Arc::new(RecordingProcess { inner: process, pid, read: Arc::clone(&self.read) }))
    }
}

impl Processes for RecordingProcesses {
    fn system(&self) -> System {
        self.inner.system()
    }

    fn open(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        Ok(self.record(pid, self.inner.open(pid)?))
    }

    fn open_to_keep(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        Ok(self.record(pid, self.inner.open_to_keep(pid)?))
    }

    fn sweep(&self) {
        self.inner.sweep();
    }

    fn now(&self) -> io::Result<u64> {
        self.inner.now()
    }

    fn own_cgroup(&self) -> io::Result<Vec<u8>> {
        let text = self.inner.own_cgroup()?;
        *self.own_cgroup.lock().unwrap_or_else(PoisonError::into_inner) = lines(&text);
        Ok(text)
    }
}

struct RecordingProcess {
    inner: Arc<dyn Process>,
    pid: i32,
    read: Arc<Mutex<BTreeMap<i32, RecordedProcess>>>,
}

impl RecordingProcess {
    /// Records what was read, or that the kernel refused the read.
    fn note<T>(&self, name: &str, read: io::Result<T>, write: impl FnOnce(&mut RecordedProcess, &T)) -> io::Result<T> {
        let mut all = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let process = all.entry(self.pid).or_default();
        match &read {
            Ok(value) => write(process, value),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                if !process.denied.iter().any(|denied| denied == name) {
                    process.denied.push(name.to_owned());
                }
            }
            Err(_) => {}
        }
        read
    }
}

fn lines(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).lines().map(str::to_owned).collect()
}

fn add(namespaces: &mut Vec<u64>, inode: u64) {
    if !namespaces.contains(&inode) {
        namespaces.push(inode);
    }
}

impl Process for RecordingProcess {
    fn cgroup(&self) -> io::Result<Arc<[u8]>> {
        self.note("cgroup", self.inner.cgroup(), |process, text| process.cgroup = lines(text))
    }

    fn mountinfo(&self) -> io::Result<Vec<u8>> {
        self.note("mountinfo", self.inner.mountinfo(), |process, text| process.mountinfo = lines(text))
    }

    fn stat(&self) -> io::Result<Stat> {
        self.note("stat", self.inner.stat(), |process, stat| process.start_time = stat.start_time)
    }

    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        // The process's own namespace stands first, and the ancestors that were asked about follow.
        self.note("pid_namespace", self.inner.pid_namespace(), |process, own| {
            process.pid_namespaces.retain(|inode| *inode != own.inode);
            process.pid_namespaces.insert(0, own.inode);
        })
    }

    fn is_within(&self, namespace: &PidNamespace) -> io::Result<bool> {
        self.pid_namespace()?;
        self.note("pid_namespace", self.inner.is_within(namespace), |process, within| {
            if *within {
                add(&mut process.pid_namespaces, namespace.inode);
            }
        })
    }

    fn namespace_pids(&self) -> io::Result<Vec<i32>> {
        self.note("status", self.inner.namespace_pids(), |process, pids| process.nspid.clone_from(pids))
    }

    fn pid_namespace_creator(&self) -> io::Result<Option<u32>> {
        self.note("pid_namespace", self.inner.pid_namespace_creator(), |process, creator| {
            process.pid_namespace_creator = *creator;
        })
    }

    fn origin(&self) -> io::Result<Origin> {
        // Not recorded, because the origin only chooses the lane that a call waits in, and a scenario has one call.
        self.inner.origin()
    }

    fn credentials(&self) -> io::Result<ProcessCredentials> {
        self.note("status", self.inner.credentials(), |process, credentials| {
            (process.uid, process.gid) = (credentials.uid, credentials.gid);
        })
    }

    fn job_objects(&self) -> io::Result<JobObjects> {
        self.note("job_objects", self.inner.job_objects(), |process, objects| match objects {
            JobObjects::NoManager => process.job_objects.clear(),
            JobObjects::Names(names) => process.job_objects.clone_from(names),
        })
    }

    fn alive(&self) -> bool {
        self.inner.alive()
    }
}
