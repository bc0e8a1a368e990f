//! The trial of a component before it is used: it runs on recorded workloads.
//!
//! A component fails the trial if it traps, breaks a limit or states what is not a fact. It also fails if it answers with an error of
//! its own where what is in use succeeds. Other selectors than before are reported, not refused.

use std::sync::Arc;

use containers::{Claimant, ContainerId, Lookup, Proven};
use sandbox::wit::{Credentials, Settings};

use crate::attestation::policy::PolicyRun;
use crate::attestation::reuse::RecordedWorkload;
use crate::attestation::{Extension, Policy, Sandbox};
use crate::config::OnFailure;
use crate::error::Error;
use crate::workload::{Backends, Transcript, Workload};

/// What components are tried with.
pub struct Trial<'a> {
    /// What a policy needs to know of the configuration.
    pub settings: &'a Settings,
    /// The backends of the configuration. A trial asks them nothing.
    pub backends: &'a Arc<Backends>,
    /// The workloads.
    pub recorded: &'a [RecordedWorkload],
    /// The extensions in use, which the candidates are compared with.
    pub extensions: &'a [Arc<Extension>],
}

impl Trial<'_> {
    /// The name of a workload that was attested and still runs, as far as is known without asking the engine. A container that has
    /// ended must hold up no update.
    fn running(&self, recorded: &RecordedWorkload) -> Option<String> {
        let name = match recorded.container() {
            None => "a process in no container".to_owned(),
            Some(container) => {
                let id = ContainerId::new(&container.container().id)?;
                let runs = matches!(self.backends.docker.cached(&id), Some(Lookup::Running(_)));
                runs.then(|| format!("container {id}"))?
            }
        };
        recorded.attested.then_some(name)
    }
}

/// Why a component fails its trial.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The component failed, stated what is not a fact, or found no free sandbox.
    #[error("{0}")]
    Failed(Error),
    /// The component answers a workload with an error of its own, and what is in use gives the workload selectors.
    #[error(
        "{error}: a workload that was attested before ({workload}) would get this error. Correct the settings, the grants or the \
         component. If the error is meant, stop this workload, or restart the agent to use it"
    )]
    Denies {
        /// The component's error.
        error: Error,
        /// The workload, for operators.
        workload: String,
    },
}

impl TrialError {
    /// Whether another try may succeed, because there was no sandbox for this one.
    pub fn retryable(&self) -> bool {
        matches!(self, TrialError::Failed(Error::Exhausted(_)))
    }
}

/// Tries a policy on the recorded workloads. Returns the number of workloads that get other selectors than they had.
///
/// # Errors
/// The policy fails its trial.
pub(crate) async fn try_policy(sandbox: &Sandbox, policy: &Policy, trial: &Trial<'_>) -> Result<usize, TrialError> {
    let mut changed = 0;
    for recorded in trial.recorded {
        let Replay { answer, complete } = replay(sandbox, policy, trial, recorded).await;
        match answer {
            Ok(selectors) if recorded.selectors == selectors => {}
            Ok(_) => changed += 1,
            Err(error @ Error::Fault(_)) => match trial.running(recorded) {
                Some(workload) if complete => return Err(TrialError::Denies { error, workload }),
                // The error may come from an answer that was not recorded, or nobody would get it.
                _ => changed += 1,
            },
            Err(error) => return Err(TrialError::Failed(error)),
        }
    }
    Ok(changed)
}

/// A policy's answer for a recorded workload.
struct Replay {
    answer: Result<Vec<String>, Error>,
    /// Whether every question of the policy had a recorded answer.
    complete: bool,
}

async fn replay(sandbox: &Sandbox, policy: &Policy, trial: &Trial<'_>, recorded: &RecordedWorkload) -> Replay {
    let exchanges = recorded.exchanges.iter().map(|(question, answer)| (question, answer));
    let transcript = Transcript::recorded(exchanges);
    let questions = transcript.exchanges().len();
    let mut workload = Workload::recorded(Arc::clone(trial.backends), transcript);
    loop {
        let (back, run) = policy.run(sandbox, trial.settings, workload).await;
        workload = back;
        match run {
            PolicyRun::Answered(answer) => {
                return Replay { answer, complete: workload.transcript().exchanges().len() == questions };
            }
            PolicyRun::NeedsFetch(question) => workload.answer_unrecorded(question),
        }
    }
}

/// Tries an extension on the containers of the recorded workloads. Returns the error of its own that it answers every sample with,
/// if there are samples and it does.
///
/// # Errors
/// The extension fails its trial.
pub(super) async fn try_extension(
    sandbox: &Sandbox,
    extension: &Extension,
    trial: &Trial<'_>,
) -> Result<Option<Error>, TrialError> {
    let derive = async |extension: &Extension, container: &Proven| {
        let root = Some(Credentials { uid: 0, gid: 0 });
        extension.derive(sandbox, container, root, || Claimant::Attestor).await.0
    };
    let in_use = trial.extensions.iter().find(|in_use| in_use.name == extension.name);
    let (mut succeeds, mut refused) = (false, None);
    for recorded in trial.recorded {
        let Some(container) = recorded.container() else { continue };
        match derive(extension, container).await {
            Ok(_) => succeeds = true,
            Err(error @ Error::Refused { .. }) if !recorded.attested => refused = Some(error),
            Err(error @ Error::Refused { .. }) => {
                let Some(workload) = trial.running(recorded) else { continue };
                let succeeded = match in_use {
                    Some(in_use) => derive(in_use, container).await.is_ok(),
                    // The workload was attested without the extension. It still would be if the error left it out.
                    None => extension.on_failure == OnFailure::Deny,
                };
                if succeeded {
                    return Err(TrialError::Denies { error, workload });
                }
            }
            Err(error) => return Err(TrialError::Failed(error)),
        }
    }
    Ok(refused.filter(|_| !succeeds))
}
