//! What a policy can ask, as the program implements it.

use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use crate::fault::{Fault, FaultKind};
use crate::wit::{Cgroup, CgroupMount, Engine, ProvenContainer, Verdict};

/// The answer to one question of a policy: a value or a fault that the policy gets to see, or [`NeedsFetch`].
pub type ImportResult<T, Q> = Result<Result<T, Fault>, NeedsFetch<Q>>;

/// The escape from a call: its answer must be fetched outside the sandbox. The call ends, and the policy is run again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the answer to {0:?} is fetched outside the sandbox")]
pub struct NeedsFetch<Q: fmt::Debug>(pub Q);

/// What a policy can ask about the one process that is attested: one function for each import of the contract, but `log.write`.
/// No function waits.
pub trait Imports: Values {
    /// A question whose answer must be fetched.
    type Question: fmt::Debug + Send + Sync + 'static;
    /// Whose call it is. Calls of one claimant wait for a sandbox behind one another.
    type Claimant: Clone + Eq + Hash + Send;

    /// `process.cgroups`
    fn cgroups(&mut self) -> ImportResult<Vec<Cgroup>, Self::Question>;
    /// `process.cgroup-mounts`
    fn cgroup_mounts(&mut self) -> ImportResult<Vec<CgroupMount>, Self::Question>;
    /// `job-objects.names`
    fn job_object_names(&mut self) -> ImportResult<Vec<String>, Self::Question>;
    /// `docker.container`
    fn container(&mut self, engine: Engine, id: String) -> ImportResult<Option<ProvenContainer>, Self::Question>;
    /// `sigstore.verify`
    fn verify(&mut self) -> ImportResult<Verdict, Self::Question>;

    /// The number of questions that were answered so far: each new one is compared with all of them, which the call pays for.
    fn answered(&self) -> usize;
    /// Whose call this is. Asked only where the call must wait for a sandbox.
    fn claimant(&mut self) -> Self::Claimant;
}

/// Values that a component was told and that must not reach a log through it: those of env and labels.
pub trait Values: Send + Sync + 'static {
    /// The values.
    fn values(&self) -> Vec<&str>;
}

/// The imports of a call without a workload: an extension's, or the validation of a policy's settings.
pub(crate) struct NoWorkload {
    /// The values that an extension is told.
    pub(crate) told: Option<Arc<dyn Values>>,
}

impl NoWorkload {
    fn refuse<T>() -> ImportResult<T, Infallible> {
        Ok(Err(Fault::new(FaultKind::NotConfigured, "there is no workload while settings are validated")))
    }
}

impl Values for NoWorkload {
    fn values(&self) -> Vec<&str> {
        self.told.as_ref().map_or_else(Vec::new, |told| told.values())
    }
}

impl Imports for NoWorkload {
    type Question = Infallible;
    type Claimant = ();

    fn cgroups(&mut self) -> ImportResult<Vec<Cgroup>, Infallible> {
        NoWorkload::refuse()
    }

    fn cgroup_mounts(&mut self) -> ImportResult<Vec<CgroupMount>, Infallible> {
        NoWorkload::refuse()
    }

    fn job_object_names(&mut self) -> ImportResult<Vec<String>, Infallible> {
        NoWorkload::refuse()
    }

    fn container(&mut self, _: Engine, _: String) -> ImportResult<Option<ProvenContainer>, Infallible> {
        NoWorkload::refuse()
    }

    fn verify(&mut self) -> ImportResult<Verdict, Infallible> {
        NoWorkload::refuse()
    }

    fn answered(&self) -> usize {
        0
    }

    fn claimant(&mut self) {}
}
