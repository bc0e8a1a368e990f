//! The clauses on Windows: job objects. The table of clauses stands in [`super`].
//!
//! The platform for Windows containers runs all processes of a container with process isolation in one job object, whose name is
//! `\\Container_` and the container's id. The process of the container manager, vmcompute.exe, holds it. Under Hyper-V isolation the
//! processes run in a virtual machine, where this machine sees neither them nor their jobs.

use super::{Clause, NotProven};
use crate::container::ContainerId;
use crate::process::{CONTAINER_JOB as JOB, JobObjects};

/// Checks that the container runs with process isolation (clause c). Under Hyper-V isolation the engine's pid is one of a virtual
/// machine, and could be the pid of any process here. Engines resolve the default when they make a container, so that an answer
/// without the word says nothing.
pub(super) fn check_isolation(id: &ContainerId, isolation: &str) -> Result<(), NotProven> {
    match isolation.eq_ignore_ascii_case("process") {
        true => Ok(()),
        false => Err(NotProven {
            clause: Clause::Init,
            seen: format!("container {id} has the isolation \"{}\", not \"process\"", isolation.escape_debug()),
            remedy: "only containers with process isolation can be attested: start it with --isolation=process",
        }),
    }
}

/// Checks that the process that the engine names as init is in the container's job (clause c).
pub(super) fn check_init(id: &ContainerId, pid: i32, objects: &JobObjects) -> Result<(), NotProven> {
    let remedy = "the engine's answer does not fit the processes of this machine: is it an engine of another machine?";
    let seen = match objects {
        JobObjects::Names(names) if holds(names, id) => return Ok(()),
        JobObjects::Names(_) => format!("process {pid} is not in the job of container {id}"),
        JobObjects::NoManager => format!("no container manager runs that could hold the job of container {id}"),
    };
    Err(NotProven { clause: Clause::Init, seen, remedy })
}

/// Checks that the container's job is among those in which the host found the claimant (clause d).
pub(super) fn check_claimant(id: &ContainerId, names: &[String]) -> Result<(), NotProven> {
    match holds(names, id) {
        true => Ok(()),
        false => Err(NotProven {
            clause: Clause::Membership,
            seen: format!("the process is not in the job of container {id}"),
            remedy: "only jobs of the container manager count: run check.ps1, or look at what the policy claims",
        }),
    }
}

/// Whether one of the names is exactly that of the container's job.
fn holds(names: &[String], id: &ContainerId) -> bool {
    names.iter().any(|name| name.strip_prefix(JOB) == Some(id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn id() -> ContainerId {
        ContainerId::new(ID).unwrap()
    }

    #[test]
    fn only_the_whole_name_of_the_containers_job_counts() {
        let job = format!("{JOB}{ID}");
        assert_eq!(check_claimant(&id(), &["\\x".to_owned(), job.clone()]), Ok(()));
        assert_eq!(check_init(&id(), 7, &JobObjects::Names(vec![job.clone()])), Ok(()));
        for name in [
            format!("{job}0"),
            job.to_uppercase(),
            format!(" {job}"),
            format!("\\x{job}"),
            job.replace('\\', "/"),
            format!("{job}\0"),
            ID.to_owned(),
            String::new(),
        ] {
            let names = [name];
            assert_eq!(check_claimant(&id(), &names).unwrap_err().clause, Clause::Membership, "{names:?}");
            let objects = JobObjects::Names(names.to_vec());
            assert_eq!(check_init(&id(), 7, &objects).unwrap_err().clause, Clause::Init, "{objects:?}");
        }
        assert_eq!(check_init(&id(), 7, &JobObjects::NoManager).unwrap_err().clause, Clause::Init);
    }

    #[test]
    fn an_answer_about_a_virtual_machine_proves_nothing() {
        for isolation in ["hyperv", "HyperV", "default", ""] {
            assert_eq!(check_isolation(&id(), isolation).unwrap_err().clause, Clause::Init);
        }
        for isolation in ["process", "Process"] {
            assert_eq!(check_isolation(&id(), isolation), Ok(()));
        }
    }
}
