//! A policy that is ready to run.

use std::sync::atomic::{AtomicBool, Ordering};

use sandbox::wit::Settings;
use sandbox::{CallError, RunError};
use semver::Version;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Sandbox, truth};
use crate::error::Error;
use crate::limits;
use crate::workload::{Question, Workload};

/// A policy, linked, and what its component says of itself.
pub struct Policy {
    /// The linked component.
    pub code: sandbox::LinkedPolicy<Workload>,
    /// The digest of the component, `sha256:…`.
    pub digest: String,
    /// The version that the component's author gave it.
    pub version: Option<Version>,
    /// Whether the policy, when it last ran for a process whose evidence names a single container, asked for that container.
    claims_only_id: AtomicBool,
}

/// What one run of a policy came to.
pub enum PolicyRun {
    /// The policy's answer: checked selectors, or the error of the attestation.
    Answered(Result<Vec<String>, Error>),
    /// The policy asked a question whose answer must be fetched. Then it runs again.
    NeedsFetch(Question),
}

impl Policy {
    /// A policy that has not run yet.
    pub fn new(code: sandbox::LinkedPolicy<Workload>, digest: String, version: Option<Version>) -> Policy {
        Policy { code, digest, version, claims_only_id: AtomicBool::new(true) }
    }

    /// An error that names this policy.
    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::Policy { digest: self.digest.clone(), reason: reason.to_string() }
    }

    /// The error of a call that failed.
    pub fn failed(&self, error: CallError) -> Error {
        Error::of_call(error, |reason| self.error(reason))
    }

    /// Runs the policy once. Gives the workload back, which knows what was asked.
    pub async fn run(&self, sandbox: &Sandbox, settings: &Settings, workload: Workload) -> (Workload, PolicyRun) {
        let sandbox::Run { imports: mut workload, usage, outcome } =
            sandbox.attest(&self.code, settings, workload).await;
        workload.add_usage(usage);
        let run = match outcome {
            Err(RunError::NeedsFetch(question)) => PolicyRun::NeedsFetch(question),
            Err(RunError::Failed(error)) => PolicyRun::Answered(Err(self.failed(error))),
            Ok(Err(fault)) => PolicyRun::Answered(Err(Error::Fault(fault))),
            Ok(Ok(selectors)) => {
                let checked = truth::check(&selectors, workload.transcript(), workload.extensions());
                PolicyRun::Answered(checked.map(|()| selectors).map_err(|untrue| self.error(untrue)))
            }
        };
        (workload, run)
    }

    /// Runs the policy as often as its questions need a fetch. The workload comes back unless the time was over
    /// in the sandbox, or while the call waited for one.
    ///
    /// The container that the policy is likely to ask for is fetched first, so that most policies run once.
    pub async fn attest(
        &self,
        sandbox: &Sandbox,
        settings: &Settings,
        mut workload: Workload,
        deadline: Instant,
    ) -> (Option<Workload>, Result<Vec<String>, Error>) {
        let mut anticipated = None;
        if self.claims_only_id.load(Ordering::Relaxed) {
            match timeout(limits::ANTICIPATION, workload.anticipate()).await {
                Ok(question) => anticipated = question,
                // The engine is slow. From now on only a policy that asks for a container waits for the engine.
                Err(_) => self.claims_only_id.store(false, Ordering::Relaxed),
            }
        }
        loop {
            let run = match timeout_at(deadline, self.run(sandbox, settings, workload)).await {
                Err(_) => return (None, Err(late())),
                Ok((back, run)) => {
                    workload = back;
                    run
                }
            };
            match run {
                PolicyRun::Answered(outcome) => {
                    if anticipated.is_some_and(|question| workload.transcript().answer(&question).is_none()) {
                        self.claims_only_id.store(false, Ordering::Relaxed);
                    }
                    return (Some(workload), outcome);
                }
                PolicyRun::NeedsFetch(question) => {
                    if workload.is_for_only_id(&question) {
                        self.claims_only_id.store(true, Ordering::Relaxed);
                    }
                    if timeout_at(deadline, workload.fetch(question)).await.is_err() {
                        return (Some(workload), Err(late()));
                    }
                }
            }
        }
    }
}

/// The error of an attestation that took too long.
pub(super) fn late() -> Error {
    Error::Deadline(limits::ATTESTATION.as_secs())
}
