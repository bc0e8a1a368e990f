//! A policy that is ready to run.

use sandbox::wit::Settings;
use sandbox::{CallError, RunError};
use semver::Version;
use tokio::time::{Instant, timeout_at};

use super::{Sandbox, truth};
use crate::error::Error;
use crate::limits;
use crate::workload::{Question, Workload};

/// A policy, linked, and what its component says of itself.
pub struct Policy {
    /// The linked component.
    pub code: sandbox::Policy<Workload>,
    /// The digest of the component, `sha256:…`.
    pub digest: String,
    /// The version that the component's author gave it.
    pub version: Option<Version>,
}

/// What one run of a policy came to.
pub enum Step {
    /// The policy's answer: checked selectors, or the error of the attestation.
    Done(Result<Vec<String>, Error>),
    /// The policy asked a question whose answer must be fetched. Then it runs again.
    Fetch(Question),
}

impl Policy {
    /// An error that names this policy.
    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::Policy { digest: self.digest.clone(), reason: reason.to_string() }
    }

    /// The error of a call that failed.
    pub fn failed(&self, error: CallError) -> Error {
        Error::of_call(error, |reason| self.error(reason))
    }

    /// Runs the policy once. Gives the workload back, which knows what was asked.
    pub async fn run(&self, sandbox: &Sandbox, settings: &Settings, workload: Workload) -> (Workload, Step) {
        let sandbox::Run { imports: workload, outcome } = sandbox.attest(&self.code, settings, workload).await;
        let step = match outcome {
            Err(RunError::NeedsFetch(question)) => Step::Fetch(question),
            Err(RunError::Failed(error)) => Step::Done(Err(self.failed(error))),
            Ok(Err(fault)) => Step::Done(Err(Error::Fault(fault))),
            Ok(Ok(selectors)) => {
                let checked = truth::check(&selectors, workload.transcript(), workload.extensions());
                Step::Done(checked.map(|()| selectors).map_err(|untrue| self.error(untrue)))
            }
        };
        (workload, step)
    }

    /// Runs the policy as often as its questions need a fetch. The workload comes back unless the time was over in the sandbox.
    pub async fn attest(
        &self,
        sandbox: &Sandbox,
        settings: &Settings,
        mut workload: Workload,
        deadline: Instant,
    ) -> (Option<Workload>, Result<Vec<String>, Error>) {
        loop {
            let step = match timeout_at(deadline, self.run(sandbox, settings, workload)).await {
                Err(_) => return (None, Err(late())),
                Ok((back, step)) => {
                    workload = back;
                    step
                }
            };
            match step {
                Step::Done(outcome) => return (Some(workload), outcome),
                Step::Fetch(question) => {
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
