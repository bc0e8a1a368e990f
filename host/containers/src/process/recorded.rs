//! Processes of a recorded machine, which scenarios replay.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JobObjects, Origin, PidNamespace, Process, ProcessCredentials, Processes, Stat, System};

/// The processes of a recorded machine.
#[derive(Debug, Clone, Default)]
pub struct RecordedProcesses {
    /// The operating system.
    pub system: System,
    /// The processes by pid.
    pub processes: BTreeMap<i32, RecordedProcess>,
    /// The time at which the engine is asked, in clock ticks since boot.
    pub now: u64,
    /// Lines of the attestor's own /proc/self/cgroup.
    pub own_cgroup: Vec<String>,
}

/// One recorded process.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordedProcess {
    /// Lines of /proc/PID/cgroup.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cgroup: Vec<String>,
    /// Lines of /proc/PID/mountinfo.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mountinfo: Vec<String>,
    /// When the process started, in clock ticks since boot.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start_time: u64,
    /// The inodes of the process's pid namespace and of that namespace's ancestors, the innermost first.
    #[serde(default = "host_namespace")]
    pub pid_namespaces: Vec<u64>,
    /// `NSpid` of /proc/PID/status.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nspid: Vec<i32>,
    /// The owner of the user namespace that owns the process's pid namespace; `None` for the host's own user namespace.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pid_namespace_creator: Option<u32>,
    /// The effective uid.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: u32,
    /// The effective gid.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gid: u32,
    /// The names of the container manager's job objects that the process is in (Windows).
    #[serde(default, skip_serializing_if = "is_default")]
    pub job_objects: Vec<String>,
    /// The reads that the kernel refuses: `cgroup`, `mountinfo`, `pid_namespace`, `job_objects`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub denied: Vec<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn host_namespace() -> Vec<u64> {
    vec![1]
}

impl Processes for RecordedProcesses {
    fn system(&self) -> System {
        self.system
    }

    fn open(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        Ok(self.processes.get(&pid).map(|process| Arc::new(process.clone()) as Arc<dyn Process>))
    }

    fn now(&self) -> io::Result<u64> {
        Ok(self.now)
    }

    fn own_cgroup(&self) -> io::Result<Vec<u8>> {
        Ok(self.own_cgroup.join("\n").into_bytes())
    }
}

impl RecordedProcess {
    fn read(&self, name: &str) -> io::Result<()> {
        match self.denied.iter().any(|denied| denied == name) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        }
    }
}

impl Process for RecordedProcess {
    fn cgroup(&self) -> io::Result<Arc<[u8]>> {
        self.read("cgroup")?;
        Ok(self.cgroup.join("\n").into_bytes().into())
    }

    fn mountinfo(&self) -> io::Result<Vec<u8>> {
        self.read("mountinfo")?;
        Ok(self.mountinfo.join("\n").into_bytes())
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(Stat { state: b'S', start_time: self.start_time })
    }

    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        self.read("pid_namespace")?;
        let inode = self.pid_namespaces.first().copied().ok_or(io::ErrorKind::InvalidData)?;
        Ok(PidNamespace { inode })
    }

    fn is_within(&self, namespace: &PidNamespace) -> io::Result<bool> {
        self.read("pid_namespace")?;
        Ok(self.pid_namespaces.contains(&namespace.inode))
    }

    fn namespace_pids(&self) -> io::Result<Vec<i32>> {
        Ok(self.nspid.clone())
    }

    fn pid_namespace_creator(&self) -> io::Result<Option<u32>> {
        self.read("pid_namespace")?;
        Ok(self.pid_namespace_creator)
    }

    fn origin(&self) -> io::Result<Origin> {
        self.read("pid_namespace")?;
        // The last namespace is the machine's own.
        let outermost = self.pid_namespaces.iter().nth_back(1);
        let namespace = outermost.map(|&inode| (PidNamespace { inode }, self.pid_namespace_creator));
        Ok(Origin { namespace, user: self.uid })
    }

    fn credentials(&self) -> io::Result<ProcessCredentials> {
        Ok(ProcessCredentials { uid: self.uid, gid: self.gid })
    }

    fn job_objects(&self) -> io::Result<JobObjects> {
        self.read("job_objects")?;
        Ok(JobObjects::Names(self.job_objects.clone()))
    }

    fn alive(&self) -> bool {
        true
    }
}
