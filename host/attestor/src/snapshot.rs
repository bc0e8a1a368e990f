//! What is in use at one moment: what attestations run on, and what the next update needs to know of it.

use std::sync::Arc;

use image_signatures::Verifier;

use crate::attestation::Basis;
use crate::attestation::reuse::RecordedWorkload;
use crate::components::history::Tally;
use crate::config::Configuration;
use crate::limits;

/// What is in use at one moment. An update makes another one and swaps a pointer.
pub struct Snapshot {
    /// What attestations run on.
    pub basis: Basis,
    /// The configuration.
    pub configuration: Arc<Configuration>,
    /// Verifies signatures of components, and of images if the configuration says so.
    pub verifier: Option<Arc<Verifier>>,
    /// The workloads that policy and extensions were tried on. The next ones are tried on them too, however few workloads come until
    /// then.
    pub tried: Vec<RecordedWorkload>,
    /// What attestations on it answered.
    pub tally: Tally,
}

impl Snapshot {
    /// Workloads that were attested, the latest first: to try other components on.
    pub fn recorded(&self) -> Vec<RecordedWorkload> {
        let mut recorded = self.basis.answers.recorded();
        recorded.extend(self.tried.iter().take(limits::TRIALS.saturating_sub(recorded.len())).cloned());
        recorded
    }
}
