//! The trial of a component before it is used: it runs on recorded workloads. A component that traps, breaks a limit or states what
//! is not a fact fails the trial. Another answer than before is reported, not refused.

use std::sync::Arc;

use containers::Claimant;
use sandbox::wit::{Credentials, Settings};

use crate::attestation::policy::PolicyRun;
use crate::attestation::reuse::RecordedWorkload;
use crate::attestation::{Extension, Policy, Sandbox};
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
}

/// Tries a policy on the recorded workloads. Returns the number of workloads that get other selectors than they had.
///
/// # Errors
/// The policy failed, or stated what is not a fact.
pub(super) async fn try_policy(sandbox: &Sandbox, policy: &Policy, trial: &Trial<'_>) -> Result<usize, Error> {
    let mut changed = 0;
    for recorded in trial.recorded {
        match replay(sandbox, policy, trial, recorded).await {
            Ok(selectors) if recorded.selectors == selectors => {}
            // Other selectors, or an error of the policy's own.
            Ok(_) | Err(Error::Fault(_)) => changed += 1,
            // The policy failed, or there was no sandbox for it and it was not tried.
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

async fn replay(
    sandbox: &Sandbox,
    policy: &Policy,
    trial: &Trial<'_>,
    recorded: &RecordedWorkload,
) -> Result<Vec<String>, Error> {
    let exchanges = recorded.exchanges.iter().map(|(question, answer)| (question, answer));
    let mut workload = Workload::recorded(Arc::clone(trial.backends), Transcript::recorded(exchanges));
    loop {
        let (back, run) = policy.run(sandbox, trial.settings, workload).await;
        workload = back;
        match run {
            PolicyRun::Answered(outcome) => return outcome,
            PolicyRun::NeedsFetch(question) => workload.answer_unrecorded(question),
        }
    }
}

/// Tries an extension on the containers of the recorded workloads.
///
/// # Errors
/// The extension failed, or returned a selector that it may not.
pub(super) async fn try_extension(sandbox: &Sandbox, extension: &Extension, trial: &Trial<'_>) -> Result<(), Error> {
    for container in trial.recorded.iter().filter_map(RecordedWorkload::container) {
        let root = Some(Credentials { uid: 0, gid: 0 });
        match extension.derive(sandbox, container, root, || Claimant::Attestor).await {
            // Selectors, or an error of the extension's own: both are answers.
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
