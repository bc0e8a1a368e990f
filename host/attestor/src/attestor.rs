//! The attestor: answers attestations, and is configured. One configuration and one policy at a time; calls in flight finish on what
//! they started with.

use std::sync::{Arc, Weak};

use crate::attestation::Explanation;
use crate::components::history::Status;
use crate::components::watch::Fingerprints;
use crate::components::{Runtime, files};
use crate::config::Configuration;
use crate::error::Error;
use crate::limits;
use crate::machine::Machine;
use crate::telemetry::metrics::Metrics;
use crate::update::{Reloaded, TrialWorkloads, Updater};

/// Answers attestations. Shared by all requests.
pub struct Attestor {
    updater: Updater,
    metrics: Metrics,
}

impl Attestor {
    /// An attestor of a machine, not configured yet. `trial_workloads` are what components are tried on before any workload was
    /// attested.
    pub fn new(
        machine: Arc<dyn Machine>,
        runtime: Arc<Runtime>,
        trial_workloads: TrialWorkloads,
        metrics: Metrics,
    ) -> Attestor {
        Attestor { updater: Updater::new(machine, runtime, trial_workloads, metrics.clone()), metrics }
    }

    /// Attests a process, and returns its selectors without the `docker:` prefix. Empty when the process is not ours. Cancelled by dropping.
    ///
    /// # Errors
    /// The attestation failed: no selector is known.
    pub async fn attest(&self, pid: i32) -> Result<Vec<String>, Error> {
        self.explain(pid).await?.outcome
    }

    /// Attests a process, and tells how the answer came about.
    ///
    /// # Errors
    /// There was no attestation: the pid is none, or the attestor is not configured.
    pub async fn explain(&self, pid: i32) -> Result<Explanation, Error> {
        if pid <= 0 {
            return Err(Error::InvalidPid(pid));
        }
        let current = self.updater.current().ok_or(Error::NotConfigured)?;
        let explanation = current.basis.attest(pid).await;
        current.tally.count(pid, &explanation.outcome);
        if let Err(error @ (Error::Policy { .. } | Error::Extension { .. })) = &explanation.outcome {
            self.metrics.sandbox_trap();
            tracing::error!(pid = %pid, "{error}");
        }
        Ok(explanation)
    }

    /// Attests a process as [`Attestor::explain`] does, and uses no earlier answer.
    ///
    /// # Errors
    /// There was no attestation: the attestor is not configured.
    pub async fn explain_anew(&self, pid: i32) -> Result<Explanation, Error> {
        let current = self.updater.current().ok_or(Error::NotConfigured)?;
        Ok(current.basis.attest_anew(pid).await)
    }

    /// What an attestation waits for on the network, while that takes time. Empty when it waits for nothing.
    pub fn progress(&self) -> String {
        let current = self.updater.current();
        let sigstore = current.as_ref().and_then(|current| current.basis.backends.sigstore.as_ref());
        sigstore.map_or_else(String::new, |sigstore| sigstore.progress())
    }

    /// What is in use.
    pub fn status(&self) -> Status {
        let current = self.updater.current();
        Status {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            agent: spire_plugin::parent_id(),
            configured: current.is_some(),
            configuration: self.updater.configuration(),
            attestations: current.map(|current| current.tally.status()),
            components: self.updater.components(),
        }
    }

    /// See [`Updater::configure`].
    ///
    /// # Errors
    /// The configuration is refused. The one in use stays.
    pub async fn configure(&self, configuration: Configuration) -> Result<(), Error> {
        self.updater.configure(configuration).await
    }

    /// Records a configuration that was refused before it came to [`Attestor::configure`], which records its own.
    pub fn refused(&self, error: &Error) {
        self.updater.refused(error);
    }

    /// See [`Updater::validate`].
    ///
    /// # Errors
    /// The configuration would be refused.
    pub async fn validate(&self, configuration: Configuration) -> Result<Vec<String>, Error> {
        self.updater.validate(configuration).await
    }

    /// See [`Updater::reload`].
    pub async fn reload(&self) -> Reloaded {
        self.updater.reload().await
    }

    /// Reloads when the files of policy and extensions change, until the attestor is dropped. A change counts when two looks agree
    /// on it.
    pub async fn watch(attestor: Weak<Attestor>) {
        let mut last = Fingerprints::new();
        loop {
            tokio::time::sleep(limits::FILE_WATCH).await;
            let Some(attestor) = attestor.upgrade() else { return };
            let Some(current) = attestor.updater.current() else { continue };
            let files = files(&current.configuration);
            if files.is_empty() {
                continue;
            }
            // Only this task waits where a filesystem hangs.
            let now = attestor.updater.watcher.fingerprints(files).await;
            if now == last && attestor.updater.watcher.is_due(&now) {
                // In a task of its own, so that the next change is seen whatever becomes of this reload.
                let _ = tokio::spawn(async move { attestor.reload().await }).await;
            }
            last = now;
        }
    }
}
