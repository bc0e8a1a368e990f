//! The workload as the sandbox asks it: every import becomes a [`Question`], and every answer gets the contract's form.

use containers::process::parse_cgroup;
use containers::{Claimant, Container, Proven};
use sandbox::wit::{Cgroup, CgroupMount, Engine, ProvenContainer, Verdict};
use sandbox::{Fault, FaultKind, Imports, NeedsFetch, Values};

use super::values::values;
use super::{Answer, Question, Workload};
use crate::error::fault;

impl Workload {
    /// The answer to a question in the contract's form.
    fn ask<T>(
        &mut self,
        question: Question,
        convert: impl FnOnce(&Answer) -> Option<Result<T, Fault>>,
    ) -> sandbox::ImportResult<T, Question> {
        match self.answer(&question) {
            None => Err(NeedsFetch(question)),
            Some(Err(fault)) => Ok(Err(fault.clone())),
            Some(Ok(answer)) => Ok(convert(answer).unwrap_or_else(|| {
                Err(Fault::new(FaultKind::Malformed, format!("the answer to {question:?} has another form")))
            })),
        }
    }
}

impl Imports for Workload {
    type Question = Question;
    type Claimant = Claimant;

    fn cgroups(&mut self) -> sandbox::ImportResult<Vec<Cgroup>, Question> {
        self.ask(Question::Cgroups, |answer| match answer {
            Answer::Cgroups(text) => Some(cgroups(text)),
            _ => None,
        })
    }

    fn cgroup_mounts(&mut self) -> sandbox::ImportResult<Vec<CgroupMount>, Question> {
        self.ask(Question::CgroupMounts, |answer| match answer {
            Answer::CgroupMounts(mounts) => {
                let mounts =
                    mounts.iter().map(|mount| CgroupMount { root: mount.root.clone(), fs_type: mount.fs_type.clone() });
                Some(Ok(mounts.collect()))
            }
            _ => None,
        })
    }

    fn job_object_names(&mut self) -> sandbox::ImportResult<Vec<String>, Question> {
        self.ask(Question::JobObjectNames, |answer| match answer {
            Answer::JobObjectNames(names) => Some(Ok(names.clone())),
            _ => None,
        })
    }

    fn container(&mut self, engine: Engine, id: String) -> sandbox::ImportResult<Option<ProvenContainer>, Question> {
        self.ask(Question::Container(engine, id), |answer| match answer {
            Answer::Container(container) => Some(Ok(container.as_ref().map(proven_container))),
            _ => None,
        })
    }

    fn verify(&mut self) -> sandbox::ImportResult<Verdict, Question> {
        self.ask(Question::Verify, |answer| match answer {
            Answer::Verify(decision) => Some(Ok(decision.verdict())),
            _ => None,
        })
    }

    fn answered(&self) -> usize {
        self.transcript.len()
    }

    fn claimant(&mut self) -> Claimant {
        Workload::claimant(self)
    }
}

impl Values for Workload {
    fn values(&self) -> Vec<&str> {
        self.transcript.containers().flat_map(|proven| values(proven.container(), true, true)).collect()
    }
}

/// The lines of /proc/PID/cgroup in the contract's form.
fn cgroups(text: &[u8]) -> Result<Vec<Cgroup>, Fault> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let lines = parse_cgroup(text).map_err(fault)?.into_iter().map(|line| Cgroup {
        hierarchy: lossy(line.hierarchy),
        controllers: lossy(line.controllers),
        path: lossy(line.path),
    });
    Ok(lines.collect())
}

/// The contract's form of a container. Only a proven container has one.
fn proven_container(proven: &Proven) -> ProvenContainer {
    let Container { id, labels, env, image, image_id, image_manifest_digest } = proven.container().clone();
    ProvenContainer { id, labels, env, image, image_id, image_manifest_digest }
}
