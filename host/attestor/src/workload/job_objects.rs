//! The interface `job-objects`, which exists on Windows only.

use containers::Error;
use containers::process::{Evidence, JobObjects, System};
use sandbox::{Fault, FaultKind};

use super::{Answer, Found, Note, Read, Workload};
use crate::error::fault;

impl Workload {
    /// The names of the container manager's job objects that the process is in. Empty when the process is gone.
    pub(super) fn job_objects(&mut self) -> Result<Read, Fault> {
        let pid = self.pid;
        let gone = || (Vec::new(), Note::ProcessGone(pid));
        let (names, note) = match self.process()? {
            None => gone(),
            Some(process) => match process.job_objects() {
                Ok(JobObjects::Names(names)) => {
                    let note = format!("process {pid} is in {} of the container manager's jobs", names.len());
                    (names, note.into())
                }
                Ok(JobObjects::NoManager) => {
                    (Vec::new(), "no container manager (vmcompute.exe of the system account) runs here".into())
                }
                Err(error) => {
                    Error::unless_gone(self.system(), pid, "", &error).map_err(fault)?;
                    gone()
                }
            },
        };
        Ok(Read { evidence: Evidence::JobObjects(names.into()), note })
    }

    /// `job-objects.names`
    pub(super) fn job_object_names(&mut self) -> Found {
        if self.system() != System::Windows {
            return not_of_linux();
        }
        match self.evidence() {
            Ok(Read { evidence: Evidence::JobObjects(names), note }) => {
                Found::new(Answer::JobObjectNames(names.to_vec()), note.clone())
            }
            Ok(_) => not_of_linux(),
            Err(fault) => fault.into(),
        }
    }
}

fn not_of_linux() -> Found {
    Fault::new(FaultKind::NotConfigured, "job objects exist on Windows only; this is a Linux host").into()
}
