//! The way of one attestation: an answer that still holds, or the policy and then the extensions.

pub mod extensions;
pub mod policy;
pub mod reuse;
pub mod truth;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::wit::Settings;
use sandbox::{Fault, FaultKind, Usage};
use tokio::time::timeout_at;

pub use self::extensions::{Derived, Extension};
pub use self::policy::Policy;
use self::reuse::Answers;
use crate::error::Error;
use crate::limits;
use crate::workload::{Backends, Exchange, Question, Transcript, Workload};

/// The sandbox, in which policies ask about workloads.
pub type Sandbox = sandbox::Sandbox<Workload>;

/// What attestations run on. It never changes: another configuration or component makes another one.
pub struct Basis {
    /// Runs the components.
    pub sandbox: Arc<Sandbox>,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The extensions, sorted by name.
    pub extensions: Vec<Arc<Extension>>,
    /// What the policy needs to know of the configuration.
    pub settings: Settings,
    /// What the answers to the policy's questions come from.
    pub backends: Arc<Backends>,
    /// The answers that may be used again.
    pub answers: Answers,
}

/// An attestation with everything that led to it.
pub struct Explanation {
    /// The selectors, without the `docker:` prefix.
    pub outcome: Result<Vec<String>, Error>,
    /// Every question of the policy, with its answer.
    pub transcript: Transcript,
    /// The policy that decided.
    pub policy: Arc<Policy>,
    /// What each extension added, in order.
    pub derived: Vec<Derived>,
    /// Whether an earlier answer was used again.
    pub reused: bool,
    /// How long the attestation took.
    pub elapsed: Duration,
    /// What the policy used: nothing, if an earlier answer was used again.
    pub usage: Usage,
}

impl Explanation {
    /// Whether the container engine could not be asked.
    pub fn is_engine_unreachable(&self) -> bool {
        let unreachable = |exchange: &Exchange| {
            matches!(exchange.question, Question::Container(..))
                && matches!(&exchange.answer, Err(fault) if fault.kind == FaultKind::Unavailable)
        };
        self.transcript.exchanges().iter().any(unreachable)
    }
}

impl Basis {
    /// Attests a process: the selectors, without the `docker:` prefix, and what led to them. Cancelled by dropping.
    pub async fn attest(&self, pid: i32) -> Explanation {
        let started = Instant::now();
        let mut workload = Workload::new(Arc::clone(&self.backends), pid);
        let explanation = match self.answers.reuse(&mut workload) {
            Some(selectors) => Explanation {
                outcome: Ok(selectors),
                transcript: workload.into_transcript(),
                policy: Arc::clone(&self.policy),
                derived: Vec::new(),
                reused: true,
                elapsed: Duration::ZERO,
                usage: Usage::default(),
            },
            None => {
                // A policy computes for a while. The connection's task answers other calls meanwhile.
                tokio::task::yield_now().await;
                // Boxed so that the future of the common path stays small.
                Box::pin(self.run(workload)).await
            }
        };
        match explanation.reused {
            true => self.backends.metrics.answer_reused(),
            false => self.backends.metrics.answer_made(),
        }
        Explanation { elapsed: started.elapsed(), ..explanation }
    }

    /// Attests a process without the answers that may be used again, to measure what the components need.
    pub async fn attest_anew(&self, pid: i32) -> Explanation {
        let started = Instant::now();
        let explanation = self.run(Workload::new(Arc::clone(&self.backends), pid)).await;
        Explanation { elapsed: started.elapsed(), ..explanation }
    }

    /// Runs the policy and the extensions, and keeps an answer that may be used again.
    async fn run(&self, workload: Workload) -> Explanation {
        let deadline = tokio::time::Instant::now() + limits::ATTESTATION;
        let (mut workload, outcome) = self.policy.attest(&self.sandbox, &self.settings, workload, deadline).await;
        let mut derived = Vec::new();
        let outcome = match (outcome, &mut workload) {
            (Ok(selectors), Some(workload)) => {
                let of_policy = selectors.len();
                let omitted = |name: &str, error: &Error| self.record_omitted(name, error);
                let extending =
                    extensions::extend(&self.sandbox, &self.extensions, workload, selectors, &mut derived, omitted);
                match timeout_at(deadline, extending).await {
                    Err(_) => Err(policy::late()),
                    Ok(extended) => extended.and_then(|extended| {
                        let selectors = within_limits(extended.selectors)?;
                        if extended.complete {
                            self.answers.keep(workload, &selectors, of_policy);
                        }
                        Ok(selectors)
                    }),
                }
            }
            (outcome, _) => outcome,
        };
        Explanation {
            outcome,
            usage: workload.as_ref().map(Workload::usage).unwrap_or_default(),
            transcript: workload.map_or_else(Transcript::default, Workload::into_transcript),
            policy: Arc::clone(&self.policy),
            derived,
            reused: false,
            elapsed: Duration::ZERO,
        }
    }

    /// An extension failed, and the selectors come without its own.
    fn record_omitted(&self, name: &str, error: &Error) {
        self.backends.metrics.extension_omitted(name);
        if let Some(dropped) = self.backends.warnings.admit() {
            tracing::warn!(dropped = %dropped, "{error}: its selectors are left out");
        }
    }
}

/// The selectors of policy and extensions, if they are not too many together.
fn within_limits(selectors: Vec<String>) -> Result<Vec<String>, Error> {
    let total: usize = selectors.iter().map(String::len).sum();
    if selectors.len() > limits::SELECTORS || total > limits::SELECTORS_TOTAL {
        let text = format!(
            "policy and extensions together made {} selectors of {total} bytes: at most {} of {} may be",
            selectors.len(),
            limits::SELECTORS,
            limits::SELECTORS_TOTAL
        );
        return Err(Error::Fault(Fault::new(FaultKind::Malformed, text)));
    }
    Ok(selectors)
}
