//! The interface `process`, and what the other interfaces need of the process.

use std::io;
use std::sync::Arc;

use containers::Error;
use containers::process::{Process, cgroup_mounts, parse_cgroup};
use sandbox::Fault;

use super::{Answer, Found, Opened, Workload};
use crate::error::fault;

impl Workload {
    /// Opens the process, once. `None` when it is gone.
    pub(super) fn process(&mut self) -> Result<Option<Arc<dyn Process>>, Fault> {
        if let Opened::NotYet = self.process {
            self.process = match self.backends.processes.open(self.pid) {
                Ok(Some(process)) => Opened::Process(process),
                Ok(None) => Opened::Gone,
                Err(error) => {
                    Error::unless_gone(self.pid, "", &error).map_err(fault)?;
                    Opened::Gone
                }
            };
        }
        match &self.process {
            Opened::Process(process) => Ok(Some(Arc::clone(process))),
            Opened::NotYet | Opened::Gone => Ok(None),
        }
    }

    /// The text of a file of the process. Empty when the process is gone.
    fn read(&mut self, file: &'static str, read: fn(&dyn Process) -> io::Result<Vec<u8>>) -> Result<Vec<u8>, Fault> {
        let Some(process) = self.process()? else { return Ok(Vec::new()) };
        let text = match read(&*process) {
            Ok(text) => text,
            Err(error) => {
                Error::unless_gone(self.pid, file, &error).map_err(fault)?;
                Vec::new()
            }
        };
        if self.backends.verbose {
            for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                tracing::debug!(pid = %self.pid, file, line = %line.escape_ascii(), "container locator");
            }
        }
        Ok(text)
    }

    /// The text of /proc/PID/cgroup, read once. Empty when the process is gone.
    pub(super) fn cgroup(&mut self) -> Result<Arc<[u8]>, Fault> {
        if let Some(cgroup) = &self.cgroup {
            return cgroup.clone();
        }
        let cgroup = self.read("cgroup", |process| process.cgroup()).map(Arc::from);
        self.cgroup = Some(cgroup.clone());
        cgroup
    }

    /// `process.cgroups`
    pub(super) fn cgroups(&mut self) -> Found {
        if self.backends.verbose {
            // For an operator who debugs a locator. The built-in policy does not read it, and no answer depends on it.
            let _ = self.read("mountinfo", |process| process.mountinfo());
        }
        let parsed = self.cgroup().and_then(|text| {
            let lines = parse_cgroup(&text).map_err(fault)?.len();
            Ok((text, lines))
        });
        match parsed {
            Ok((text, 0)) => Found::new(Answer::Cgroups(text), format!("process {} is gone", self.pid)),
            Ok((text, lines)) => {
                Found::new(Answer::Cgroups(text), format!("read /proc/{}/cgroup: {lines} lines", self.pid))
            }
            Err(fault) => fault.into(),
        }
    }

    /// `process.cgroup-mounts`
    pub(super) fn cgroup_mounts(&mut self) -> Found {
        let mounts = self.read("mountinfo", |process| process.mountinfo());
        match mounts.and_then(|text| cgroup_mounts(&text).map_err(fault)) {
            Ok(mounts) => {
                let note = format!("read /proc/{}/mountinfo: {} cgroup mounts", self.pid, mounts.len());
                Found::new(Answer::CgroupMounts(mounts), note)
            }
            Err(fault) => fault.into(),
        }
    }

    /// The grant `process` of an extension.
    pub(super) fn credentials(&mut self) -> Found {
        let read = |workload: &mut Workload| -> Result<_, Fault> {
            let Some(process) = workload.process()? else { return Ok(None) };
            match process.credentials() {
                Ok(credentials) => Ok(Some(credentials)),
                Err(error) => Error::unless_gone(workload.pid, "status", &error).map(|()| None).map_err(fault),
            }
        };
        match read(self) {
            Ok(credentials) => {
                let note = match credentials {
                    Some(_) => format!("read /proc/{}/status", self.pid),
                    None => format!("process {} is gone", self.pid),
                };
                Found::new(Answer::Credentials(credentials), note)
            }
            Err(fault) => fault.into(),
        }
    }
}
