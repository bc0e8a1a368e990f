//! The attestor: one configuration and one policy at a time, replaced by swapping one pointer. Calls in flight finish on what
//! they started with; nothing waits for anything.

mod replace;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use self::replace::Reloaded;
use self::replace::{Acted, Snapshot};
use crate::bindings::docker_attestor::policy::types::{Diagnostic, Fault, Severity};
use crate::capability::claimant::Claimant;
use crate::capability::docker::proof::Proven;
use crate::capability::process::Processes;
use crate::capability::process::linux::Linux;
use crate::capability::{Asked, Import, Told, Workload};
use crate::config::OnFailure;
use crate::engine::extension::{Credentials, Extension};
use crate::engine::load::Loader;
use crate::engine::{self, Policy, Sandbox};
pub use crate::error::Error;
use crate::limits;
use crate::status::{History, Status};
use crate::telemetry::metrics::Metrics;

/// Answers attestations. Shared by all requests.
pub struct Attestor {
    sandbox: Arc<Sandbox>,
    builtin: Arc<Policy>,
    loader: Arc<Loader>,
    processes: Arc<dyn Processes>,
    current: ArcSwapOption<Snapshot>,
    /// One change at a time. No attestation ever takes it.
    changing: tokio::sync::Mutex<()>,
    history: History,
    acted: Mutex<Acted>,
    /// One look at files at a time.
    looking: Arc<Semaphore>,
    metrics: Metrics,
}

/// An attestation with everything that led to it.
pub struct Explanation {
    /// The answer.
    pub outcome: Result<Vec<String>, Error>,
    /// Every question of the policy, in order.
    pub asked: Vec<Asked>,
    /// The digest of the policy that decided.
    pub policy: String,
    /// What each extension added, in order.
    pub derived: Vec<Derived>,
    /// An earlier answer was used again: all that led to it still holds.
    pub reused: bool,
    /// The whole time.
    pub elapsed: Duration,
}

impl Explanation {
    /// Whether the container engine could not be asked.
    pub fn is_engine_unreachable(&self) -> bool {
        let unreachable = |asked: &Asked| matches!(asked.told, Told::Container(Err(Fault::Unavailable(_))));
        self.asked.iter().any(unreachable)
    }
}

/// What became of one extension.
pub struct Derived {
    /// Its name.
    pub name: String,
    /// The digest of its component.
    pub digest: String,
    /// How many selectors it added, or why none.
    pub outcome: Result<usize, Error>,
    /// How long it took.
    pub elapsed: Duration,
}

/// One attestation, whatever came of it.
struct Run {
    outcome: Result<Vec<String>, Error>,
    /// None when the call was given up in the sandbox.
    workload: Option<Workload>,
    policy: Arc<Policy>,
    derived: Vec<Derived>,
    reused: bool,
}

impl Attestor {
    /// An attestor of this machine, not configured yet.
    pub fn new(metrics: Metrics) -> wasmtime::Result<Attestor> {
        Attestor::of(Arc::new(Linux::new()?), metrics)
    }

    /// An attestor of the machine that `processes` shows.
    pub fn of(processes: Arc<dyn Processes>, metrics: Metrics) -> wasmtime::Result<Attestor> {
        let (sandbox, builtin) = engine::with_builtin()?;
        let sandbox = Arc::new(sandbox);
        let loader = Arc::new(Loader::new(Arc::clone(&sandbox)));
        Ok(Attestor::with(sandbox, builtin, loader, processes, metrics))
    }

    /// An attestor of another machine with the same sandbox, and what was compiled for it.
    #[must_use]
    pub fn beside(&self, processes: Arc<dyn Processes>) -> Attestor {
        let (sandbox, builtin, loader) =
            (Arc::clone(&self.sandbox), Arc::clone(&self.builtin), Arc::clone(&self.loader));
        Attestor::with(sandbox, builtin, loader, processes, Metrics::disabled())
    }

    fn with(
        sandbox: Arc<Sandbox>,
        builtin: Arc<Policy>,
        loader: Arc<Loader>,
        processes: Arc<dyn Processes>,
        metrics: Metrics,
    ) -> Attestor {
        Attestor {
            sandbox,
            builtin,
            loader,
            processes,
            current: ArcSwapOption::empty(),
            changing: tokio::sync::Mutex::default(),
            history: History::new(metrics.clone()),
            acted: Mutex::default(),
            looking: Arc::new(Semaphore::new(1)),
            metrics,
        }
    }

    /// What is in use.
    pub fn status(&self) -> Status {
        Status {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            agent: std::os::unix::process::parent_id(),
            configured: self.current.load().is_some(),
            components: self.history.in_use(),
        }
    }

    /// The selectors of a process, without the `docker:` prefix; none when it is not ours. Cancelled by dropping.
    pub async fn attest(&self, pid: i32) -> Result<Vec<String>, Error> {
        self.run(pid).await?.outcome
    }

    /// Attests, and tells how the answer came about.
    pub async fn explain(&self, pid: i32) -> Result<Explanation, Error> {
        let started = Instant::now();
        let Run { outcome, workload, policy, derived, reused } = self.run(pid).await?;
        let asked = workload.map_or_else(Vec::new, Workload::into_asked);
        Ok(Explanation { outcome, asked, policy: policy.digest.clone(), derived, reused, elapsed: started.elapsed() })
    }

    /// What the network is asked for, while that takes time.
    pub fn doing(&self) -> String {
        let current = self.current.load();
        let sigstore = current.as_ref().and_then(|current| current.machine.sigstore.as_ref());
        sigstore.map_or_else(String::new, |sigstore| sigstore.progress())
    }

    async fn run(&self, pid: i32) -> Result<Run, Error> {
        if pid <= 0 {
            return Err(Error::InvalidPid(pid));
        }
        let current = self.current.load_full().ok_or(Error::NotConfigured)?;
        let mut workload = Workload::new(Arc::clone(&current.machine), pid);
        if let Some(selectors) = current.answers.reuse(&mut workload) {
            let policy = Arc::clone(&current.policy);
            return Ok(Run {
                outcome: Ok(selectors),
                workload: Some(workload),
                policy,
                derived: Vec::new(),
                reused: true,
            });
        }
        // In a box of its own: the future of the way that every call takes stays small.
        Ok(Box::pin(self.run_policy(&current, workload)).await)
    }

    async fn run_policy(&self, current: &Snapshot, workload: Workload) -> Run {
        let policy = Arc::clone(&current.policy);
        let pid = workload.pid();
        let mut workload = Some(workload);
        let mut derived = Vec::new();
        let call = async {
            let selectors = self.sandbox.attest(&policy, &current.settings, &mut workload).await?;
            let of_policy = selectors.len();
            let Some(workload) = &mut workload else { return Ok((selectors, of_policy, true)) };
            let (selectors, whole) = self.extend(current, workload, selectors, &mut derived).await?;
            Ok((selectors, of_policy, whole))
        };
        let outcome = match tokio::time::timeout(limits::ATTESTATION, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Deadline(limits::ATTESTATION.as_secs())),
        };
        match (&outcome, &workload) {
            (Ok((selectors, of_policy, true)), Some(workload)) => {
                current.answers.keep(workload, selectors, *of_policy);
            }
            (Err(error @ (Error::Policy { .. } | Error::Extension { .. })), _) => {
                self.metrics.sandbox_trap();
                tracing::error!(pid = %pid, "{error}");
            }
            _ => {}
        }
        Run { outcome: outcome.map(|(selectors, ..)| selectors), workload, policy, derived, reused: false }
    }

    /// Runs the extensions, all at the same time, for a workload in exactly one proven container. Also whether all of them answered.
    async fn extend(
        &self,
        current: &Snapshot,
        workload: &mut Workload,
        mut selectors: Vec<String>,
        derived: &mut Vec<Derived>,
    ) -> Result<(Vec<String>, bool), Error> {
        let extensions = &current.extensions;
        if extensions.is_empty() || workload.only_container().is_none() {
            return Ok((selectors, true));
        }
        let mut credentials = None;
        if extensions.iter().any(|extension| extension.grants.process) {
            match workload.ask(&Import::Credentials) {
                Some(Told::Credentials(Ok(Some(found)))) => {
                    credentials = Some(Credentials { uid: found.uid, gid: found.gid });
                }
                Some(Told::Credentials(Err(fault))) => return Err(Error::Fault(fault.clone())),
                // The process is gone: nobody waits for the answer.
                _ => return Ok((Vec::new(), true)),
            }
        }
        let Some(container) = workload.only_container().cloned() else { return Ok((selectors, true)) };
        let mut outcomes = match extensions.as_slice() {
            [one] => vec![(0, derive(&self.sandbox, one, &container, credentials, workload.deferred_claimant()).await)],
            several => {
                let mut running = JoinSet::new();
                for (number, extension) in several.iter().enumerate() {
                    let (sandbox, extension) = (Arc::clone(&self.sandbox), Arc::clone(extension));
                    let (container, claimant) = (container.clone(), workload.deferred_claimant());
                    running.spawn(async move {
                        (number, derive(&sandbox, &extension, &container, credentials, claimant).await)
                    });
                }
                running.join_all().await
            }
        };
        outcomes.sort_by_key(|(number, _)| *number);
        let mut whole = true;
        let mut failed = None;
        for (number, (outcome, elapsed)) in outcomes {
            let Some(extension) = extensions.get(number) else { continue };
            let added = match outcome {
                Ok(more) => {
                    selectors.extend_from_slice(&more);
                    Ok(more.len())
                }
                Err(error) => {
                    whole = false;
                    match extension.on_failure {
                        OnFailure::Deny => failed = failed.or(Some(error.clone())),
                        OnFailure::Omit => current.omitted(&error),
                    }
                    Err(error)
                }
            };
            let (name, digest) = (extension.name.clone(), extension.description.digest.clone());
            derived.push(Derived { name, digest, outcome: added, elapsed });
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        let total: usize = selectors.iter().map(String::len).sum();
        if selectors.len() > limits::SELECTORS || total > limits::SELECTORS_TOTAL {
            return Err(Error::Fault(Fault::Malformed(format!(
                "policy and extensions together made {} selectors of {total} bytes: at most {} of {} may be",
                selectors.len(),
                limits::SELECTORS,
                limits::SELECTORS_TOTAL
            ))));
        }
        Ok((selectors, whole))
    }

    /// The policy's own word on the settings: its errors refuse them, its warnings are notes.
    fn judged(diagnostics: Vec<Diagnostic>) -> Result<Vec<String>, String> {
        let (errors, warnings): (Vec<_>, Vec<_>) =
            diagnostics.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
        match errors.is_empty() {
            true => Ok(warnings.into_iter().map(|diagnostic| diagnostic.message).collect()),
            false => {
                let messages: Vec<String> = errors.into_iter().map(|diagnostic| diagnostic.message).collect();
                Err(messages.join("; "))
            }
        }
    }
}

type Timed = (Result<Vec<String>, Error>, Duration);

/// One extension's selectors for a process in a container, and how long they took.
async fn derive(
    sandbox: &Sandbox,
    extension: &Extension,
    container: &Proven,
    credentials: Option<Credentials>,
    claimant: impl FnOnce() -> Claimant,
) -> Timed {
    let started = Instant::now();
    let granted = extension.granted(container.container(), credentials);
    let outcome = sandbox.derive(extension, container, &granted, claimant).await;
    (outcome, started.elapsed())
}
