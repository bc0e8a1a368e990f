//! What doctor checks on Windows alone.

use std::path::Path;

use containers::ProofContext;
use containers::process::Processes;

use super::{Finding, judge_proof};

/// Judges the rights and limits of a plugin, or of this process. Windows has neither capabilities nor the limits that are checked on
/// Linux.
pub(super) fn judge_process(_: Option<u32>, _: bool, declared: bool) -> Vec<Finding> {
    vec![judge_proof(ProofContext { reads_namespaces: true, declared })]
}

/// Judges whether the job objects of a process can be read: those of this one.
pub(super) fn judge_processes(processes: &dyn Processes) -> Vec<Finding> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let read = processes.open(own).and_then(|process| process.map(|process| process.job_objects()).transpose());
    vec![match read {
        Ok(_) => Finding::good("processes", "the job objects of processes can be read"),
        Err(error) => Finding::bad("processes", error.to_string(), "run this, and the agent, as LocalSystem"),
    }]
}

/// Windows has no unix sockets, and its configuration names none.
pub(super) fn judge_socket(path: &Path) -> Finding {
    Finding::skipped("socket", format!("{} is a unix socket", path.display()))
}
