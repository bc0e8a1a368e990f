//! The interface `process`, and what the other interfaces need of the process.

use std::io;
use std::sync::Arc;

use containers::Error;
use containers::process::{Evidence, Process, System, cgroup_lines, cgroup_mounts};
use sandbox::{Fault, FaultKind};

use super::{Answer, Found, Note, Opened, Read, Workload};
use crate::error::fault;

impl Workload {
    /// Opens the process, once. `None` when it is gone.
    pub(super) fn process(&mut self) -> Result<Option<Arc<dyn Process>>, Fault> {
        if let Opened::NotYet = self.process {
            self.process = match self.backends.processes.open(self.pid) {
                Ok(Some(process)) => Opened::Process(process),
                Ok(None) => Opened::Gone,
                Err(error) => {
                    Error::unless_gone(self.system(), self.pid, "", &error).map_err(fault)?;
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
    fn read<Text>(&mut self, file: &'static str, read: fn(&dyn Process) -> io::Result<Text>) -> Result<Text, Fault>
    where
        Text: AsRef<[u8]> + for<'a> From<&'a [u8]>,
    {
        let gone = || Text::from(&[]);
        let Some(process) = self.process()? else { return Ok(gone()) };
        let text = match read(&*process) {
            Ok(text) => text,
            Err(error) => {
                Error::unless_gone(self.system(), self.pid, file, &error).map_err(fault)?;
                gone()
            }
        };
        if self.backends.verbose {
            for line in text.as_ref().split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                tracing::debug!(pid = %self.pid, file, line = %line.escape_ascii(), "container locator");
            }
        }
        Ok(text)
    }

    /// The text of /proc/PID/cgroup. Empty when the process is gone.
    pub(super) fn cgroup_text(&mut self) -> Result<Read, Fault> {
        if self.backends.verbose {
            // For an operator who debugs a locator. The built-in policy does not read it, and no answer depends on it.
            let _ = self.read("mountinfo", |process| process.mountinfo());
        }
        let text = self.read("cgroup", |process| process.cgroup())?;
        let lines = cgroup_lines(&text).try_fold(0, |lines, line| line.map(|_| lines + 1)).map_err(fault)?;
        let note = match lines {
            0 => Note::ProcessGone(self.pid),
            lines => Note::CgroupsRead { pid: self.pid, lines },
        };
        Ok(Read { evidence: Evidence::Cgroup(text), note })
    }

    /// `process.cgroups`
    pub(super) fn cgroups(&mut self) -> Found {
        if self.system() != System::Linux {
            return not_of_windows("cgroups");
        }
        match self.evidence() {
            Ok(Read { evidence: Evidence::Cgroup(text), note }) => {
                Found::new(Answer::Cgroups(Arc::clone(text)), note.clone())
            }
            Ok(_) => not_of_windows("cgroups"),
            Err(fault) => fault.into(),
        }
    }

    /// `process.cgroup-mounts`
    pub(super) fn cgroup_mounts(&mut self) -> Found {
        if self.system() != System::Linux {
            return not_of_windows("cgroup mounts");
        }
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
        if self.system() != System::Linux {
            return not_of_windows("uid and gid");
        }
        let read = |workload: &mut Workload| -> Result<_, Fault> {
            let Some(process) = workload.process()? else { return Ok(None) };
            match process.credentials() {
                Ok(credentials) => Ok(Some(credentials)),
                Err(error) => {
                    Error::unless_gone(workload.system(), workload.pid, "status", &error).map(|()| None).map_err(fault)
                }
            }
        };
        match read(self) {
            Ok(credentials) => {
                let note = match credentials {
                    Some(_) => format!("read /proc/{}/status", self.pid).into(),
                    None => Note::ProcessGone(self.pid),
                };
                Found::new(Answer::Credentials(credentials), note)
            }
            Err(fault) => fault.into(),
        }
    }
}

fn not_of_windows(what: &str) -> Found {
    Fault::new(FaultKind::NotConfigured, format!("{what} exist on Linux only; this is a Windows host")).into()
}
