//! The trial of what is about to be put to use: recorded workloads, before any real one. A policy that traps, breaks a limit or
//! states no facts fails it; another answer is told, not refused.

use std::sync::Arc;

use containers::Claimant;
use containers::Proven;

use crate::attestation::extensions::{Credentials, Extension};
use crate::error::Error;
use crate::sandbox::bindings::docker_attestor::policy::types::Settings;
use crate::sandbox::{Outcome, Policy, Sandbox, checked};
use crate::workload::{Import, Machine, Told, Workload};

/// A workload that was attested: what the policy was told, and the selectors.
#[derive(Clone)]
pub struct Recorded {
    /// Every question, and its answer.
    pub asked: Vec<(Import, Told)>,
    /// The policy's selectors.
    pub selectors: Vec<String>,
}

/// The container that a workload was proven to be in.
pub(crate) fn proven(asked: &[(Import, Told)]) -> Option<&Proven> {
    asked.iter().find_map(|(_, told)| match told {
        Told::Container(Ok(Some(container))) => Some(container),
        _ => None,
    })
}

/// The pid of recorded workloads, which nobody is asked about.
const NOBODY: i32 = i32::MAX;

impl Sandbox {
    /// Tries a policy on recorded workloads; how many get other selectors than they had.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn try_policy(
        &self,
        policy: &Policy,
        settings: &Settings,
        machine: &Arc<Machine>,
        recorded: &[Recorded],
    ) -> Result<usize, Error> {
        let mut other = 0;
        for recorded in recorded {
            let workload = Workload::recorded(Arc::clone(machine), NOBODY, &recorded.asked);
            match self.replay(policy, settings, workload).await {
                Ok(selectors) if recorded.selectors == selectors => {}
                // Or it answers with an error of its own.
                Ok(_) | Err(Error::Fault(_)) => other += 1,
                // It broke, or there was no sandbox for it and it was not tried.
                Err(error) => return Err(error),
            }
        }
        Ok(other)
    }

    async fn replay(&self, policy: &Policy, settings: &Settings, workload: Workload) -> Result<Vec<String>, Error> {
        let mut workload = Some(workload);
        loop {
            match self.attest_once(policy, settings, &mut workload).await? {
                Outcome::Answer(answer) => return checked(policy, answer, workload.as_ref()),
                Outcome::Open(import) => match &mut workload {
                    Some(workload) => workload.not_recorded(import),
                    None => return Err(policy.error("it asked about a workload where there is none")),
                },
            }
        }
    }

    /// Tries an extension on the containers of recorded workloads.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn try_extension(&self, extension: &Extension, recorded: &[Recorded]) -> Result<(), Error> {
        for container in recorded.iter().filter_map(|recorded| proven(&recorded.asked)) {
            let granted = extension.granted(container.container(), Some(Credentials { uid: 0, gid: 0 }));
            match self.derive(extension, container, &granted, || Claimant::Attestor).await {
                // Selectors, or an error of its own: both are answers.
                Ok(_) | Err(Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
