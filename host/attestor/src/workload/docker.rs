//! The interface `docker`: claims to be in a container, and their proof.

use containers::process::Evidence;
use containers::{Checked, Claim, Clause, ContainerId, NotProven, Outcome};
use sandbox::wit::Engine;
use sandbox::{Fault, FaultKind};

use super::question::{Question, engine_name};
use super::{Answer, Found, Note, Workload};
use crate::error::fault;
use crate::limits;

/// The answer for an engine that the configuration does not name.
pub(super) fn not_configured(engine: &Engine) -> Found {
    Fault::new(FaultKind::NotConfigured, format!("{} is not configured", engine_name(engine))).into()
}

impl Workload {
    /// `docker.container` from the cache. `None`: the engine must be asked.
    pub(super) fn cached_container(&mut self, id: &str) -> Option<Found> {
        let claim = match self.claim(id) {
            Ok(claim) => claim,
            Err(found) => return Some(found),
        };
        let checked = self.backends.docker.check_cached(&claim)?;
        Some(Workload::container(&claim.id, checked))
    }

    /// `docker.container`, for which the engine is asked if need be.
    pub(super) async fn fetch_container(&mut self, id: &str) -> Found {
        let claim = match self.claim(id) {
            Ok(claim) => claim,
            Err(found) => return found,
        };
        let claimant = self.claimant();
        match self.backends.docker.check(&claim, claimant).await {
            Ok(checked) => Workload::container(&claim.id, checked),
            Err(error) => {
                if error.is_clause_b() {
                    self.backends.metrics.claim_not_proven(Clause::Engine);
                }
                fault(error).into()
            }
        }
    }

    /// The container id that stands in the evidence, if it is the only one there and not Podman's.
    pub(super) fn only_id(&mut self) -> Option<ContainerId> {
        let Evidence::Cgroup(text) = &self.evidence().ok()?.evidence else { return None };
        let words = text.split(|byte| !byte.is_ascii_alphanumeric());
        let mut ids = words.clone().filter_map(|word| ContainerId::new(std::str::from_utf8(word).ok()?));
        let id = ids.next()?;
        let only = ids.all(|other| other == id) && !words.into_iter().any(|word| word == b"libpod");
        only.then_some(id)
    }

    /// Whether this is the question for the container whose id stands alone in the evidence.
    pub fn is_for_only_id(&mut self, question: &Question) -> bool {
        matches!(question, Question::Container(Engine::Docker, id) if self.only_id().is_some_and(|only| only.as_str() == id))
    }

    /// The claim to be in the container with this id. An `Err` is the answer already: clause a does not hold, the policy claims too
    /// much, or the process is gone or cannot be read.
    fn claim(&mut self, id: &str) -> Result<Claim, Found> {
        if self.transcript.claims() >= limits::CONTAINERS_ASKED {
            let text = format!("a policy may ask for {} containers", limits::CONTAINERS_ASKED);
            return Err(Fault::new(FaultKind::Policy, text).into());
        }
        let id = ContainerId::parse(id).map_err(|reason| Workload::not_proven(&reason, "nothing was asked"))?;
        let since = self.started.into_std();
        match (self.process()?, self.evidence()?.evidence.clone()) {
            (Some(process), evidence) if !evidence.is_of_no_process() => Ok(Claim { id, process, evidence, since }),
            _ => Err(Found::new(Answer::Container(None), Note::ProcessGone(self.pid))),
        }
    }

    fn container(id: &ContainerId, Checked { source, outcome }: Checked) -> Found {
        let nothing = |note: &str| Found::new(Answer::Container(None), format!("{source}: {note}"));
        match outcome {
            Outcome::Proven { container, init_pid } => {
                Found::new(Answer::Container(Some(container)), Note::Proven { source, init_pid })
            }
            Outcome::TooLarge(too_large) => {
                Fault::new(FaultKind::Malformed, format!("container {id}: {too_large}")).into()
            }
            Outcome::Unknown => nothing("it knows no such container"),
            Outcome::NotRunning => nothing("the container does not run"),
            Outcome::NotProven(reason) => Workload::not_proven(&reason, &source.to_string()),
        }
    }

    fn not_proven(reason: &NotProven, source: &str) -> Found {
        let note = format!("{source}: {reason}").into();
        Found { answer: Ok(Answer::Container(None)), note, not_proven: Some(reason.clause) }
    }
}
