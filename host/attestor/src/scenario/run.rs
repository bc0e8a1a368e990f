//! Runs a scenario: attests its process on its machine, in the real sandbox.

use std::sync::Arc;

use super::{Scenario, trial_workloads};
use crate::attestation::Explanation;
use crate::attestor::Attestor;
use crate::components::Runtime;
use crate::config::Configuration;
use crate::error::Error;
use crate::telemetry::metrics::Metrics;

impl Scenario {
    /// Attests the scenario's process under its own configuration.
    ///
    /// # Errors
    /// The configuration is refused.
    pub async fn run(&self, runtime: &Arc<Runtime>) -> Result<Explanation, Error> {
        self.run_with(runtime, self.configuration()?).await
    }

    /// Attests the scenario's process under another configuration.
    ///
    /// # Errors
    /// The configuration is refused.
    pub async fn run_with(&self, runtime: &Arc<Runtime>, configuration: Configuration) -> Result<Explanation, Error> {
        self.attestor(runtime, configuration).await?.explain(self.pid).await
    }

    /// An attestor of the scenario's machine under this configuration.
    ///
    /// # Errors
    /// The configuration is refused.
    pub async fn attestor(&self, runtime: &Arc<Runtime>, configuration: Configuration) -> Result<Attestor, Error> {
        let machine = Arc::new(self.machine());
        let attestor = Attestor::new(machine, Arc::clone(runtime), trial_workloads, Metrics::disabled());
        attestor.configure(configuration).await?;
        Ok(attestor)
    }
}
