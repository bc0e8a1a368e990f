//! The attestor: one configuration and one policy at a time, replaced by swapping one pointer. Calls in flight finish on what
//! they started with; nothing waits for anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::bindings::docker_attestor::policy::types::{Capabilities, Settings, Severity};
use crate::capability::docker::Containers;
use crate::capability::docker::client::Client;
use crate::capability::process::Processes;
use crate::capability::process::linux::{self, Linux};
use crate::capability::sigstore::Sigstore;
use crate::capability::{Asked, Machine, Warnings, Workload};
use crate::config::Configuration;
use crate::engine::answers::Answers;
use crate::engine::{self, Policy, Sandbox};
pub use crate::error::Error;
use crate::limits;
use crate::telemetry::metrics::Metrics;

/// Answers attestations. Shared by all requests.
pub struct Attestor {
    sandbox: Sandbox,
    builtin: Arc<Policy>,
    processes: Arc<dyn Processes>,
    current: ArcSwapOption<Snapshot>,
    metrics: Metrics,
}

/// What one attestation runs on.
struct Snapshot {
    policy: Arc<Policy>,
    settings: Settings,
    machine: Arc<Machine>,
    configuration: Configuration,
    answers: Answers,
}

/// An attestation with everything that led to it.
pub struct Explanation {
    /// The answer.
    pub outcome: Result<Vec<String>, Error>,
    /// Every question of the policy, in order.
    pub asked: Vec<Asked>,
    /// The digest of the policy that decided.
    pub policy: String,
    /// An earlier answer was used again: all that led to it still holds.
    pub reused: bool,
    /// The whole time.
    pub elapsed: Duration,
}

/// One attestation, whatever came of it.
struct Run {
    outcome: Result<Vec<String>, Error>,
    /// None when the call was given up in the sandbox.
    workload: Option<Workload>,
    policy: Arc<Policy>,
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
        Ok(Attestor { sandbox, builtin, processes, current: ArcSwapOption::empty(), metrics })
    }

    /// Puts a configuration to use. On an error what runs goes on. Needs neither the engine nor the network.
    pub async fn configure(&self, configuration: Configuration) -> Result<(), Error> {
        let current = self.current.load_full();
        // The kept containers belong to their engine: they stay if it does.
        let docker = match &current {
            Some(current) if same_engine(&current.configuration, &configuration) => Arc::clone(&current.machine.docker),
            _ => {
                let docker = self.engine(&configuration);
                tokio::spawn(Containers::sweep(Arc::downgrade(&docker)));
                docker
            }
        };
        let (sigstore, trust) = verifier(&configuration).await?;
        // Its verdicts stay if it judges as before.
        let kept = current.as_ref().and_then(|current| current.machine.sigstore.clone());
        let (sigstore, fresh) = match (sigstore, kept) {
            (Some(new), Some(kept)) if kept.same(&new) => (Some(kept), None),
            (new, _) => (new.clone(), new),
        };
        let snapshot = self.snapshot(configuration, docker, sigstore);
        let notes = self.judge(&snapshot).await?;
        for note in snapshot.configuration.notes.iter().chain(&notes).chain(&trust) {
            tracing::info!("{note}");
        }
        if !linux::may_read_namespaces() {
            tracing::warn!(
                "without CAP_SYS_PTRACE the pid namespaces of other users' processes cannot be read: that part of the proof \
                 that a process is in its container is left out"
            );
        }
        tracing::info!(policy = %snapshot.policy.digest, docker = %snapshot.configuration.docker, "configured");
        self.current.store(Some(Arc::new(snapshot)));
        if let Some(sigstore) = fresh {
            tokio::spawn(Sigstore::refresh(Arc::downgrade(&sigstore)));
        }
        Ok(())
    }

    /// Puts a configuration to use whose engine is `docker`: a recorded one, or one of a test.
    pub async fn configure_with(&self, configuration: Configuration, docker: Containers) -> Result<(), Error> {
        let (sigstore, _) = verifier(&configuration).await?;
        let snapshot = self.snapshot(configuration, Arc::new(docker), sigstore);
        self.judge(&snapshot).await?;
        self.current.store(Some(Arc::new(snapshot)));
        Ok(())
    }

    /// Judges a configuration as [`Attestor::configure`] does, and changes nothing. Answers what is worth knowing.
    pub async fn validate(&self, configuration: Configuration) -> Result<Vec<String>, Error> {
        let docker = self.engine(&configuration);
        let (sigstore, trust) = verifier(&configuration).await?;
        let snapshot = self.snapshot(configuration, docker, sigstore);
        let mut notes = self.judge(&snapshot).await?;
        notes.extend(trust);
        notes.extend(snapshot.configuration.notes);
        Ok(notes)
    }

    /// The selectors of a process, without the `docker:` prefix; none when it is not ours. Cancelled by dropping.
    pub async fn attest(&self, pid: i32) -> Result<Vec<String>, Error> {
        self.run(pid).await?.outcome
    }

    /// Attests, and tells how the answer came about.
    pub async fn explain(&self, pid: i32) -> Result<Explanation, Error> {
        let started = Instant::now();
        let Run { outcome, workload, policy, reused } = self.run(pid).await?;
        let asked = workload.map_or_else(Vec::new, Workload::into_asked);
        Ok(Explanation { outcome, asked, policy: policy.digest.clone(), reused, elapsed: started.elapsed() })
    }

    /// What the network is asked for, while that takes time.
    pub fn doing(&self) -> String {
        let current = self.current.load();
        let sigstore = current.as_ref().and_then(|current| current.machine.sigstore.as_ref());
        sigstore.map_or_else(String::new, |sigstore| sigstore.doing())
    }

    async fn run(&self, pid: i32) -> Result<Run, Error> {
        if pid <= 0 {
            return Err(Error::InvalidPid(pid));
        }
        let current = self.current.load_full().ok_or(Error::NotConfigured)?;
        let mut workload = Workload::new(Arc::clone(&current.machine), pid);
        if let Some(selectors) = current.answers.reuse(&mut workload) {
            let policy = Arc::clone(&current.policy);
            return Ok(Run { outcome: Ok(selectors), workload: Some(workload), policy, reused: true });
        }
        // In a box of its own: the future of the way that every call takes stays small.
        Ok(Box::pin(self.run_policy(&current, workload)).await)
    }

    async fn run_policy(&self, current: &Snapshot, workload: Workload) -> Run {
        let policy = Arc::clone(&current.policy);
        let pid = workload.pid();
        let mut workload = Some(workload);
        let call = self.sandbox.attest(&policy, &current.settings, &mut workload);
        let outcome = match tokio::time::timeout(limits::ATTESTATION, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Deadline(limits::ATTESTATION.as_secs())),
        };
        match (&outcome, &workload) {
            (Ok(selectors), Some(workload)) => current.answers.keep(workload, selectors),
            (Err(error @ Error::Policy { .. }), _) => {
                self.metrics.sandbox_trap();
                tracing::error!(pid = %pid, "{error}");
            }
            _ => {}
        }
        Run { outcome, workload, policy, reused: false }
    }

    fn engine(&self, configuration: &Configuration) -> Arc<Containers> {
        let client = Client::new(
            configuration.docker.clone(),
            configuration.docker_version,
            configuration.engine_shares_pid_namespace,
            self.metrics.clone(),
        );
        Arc::new(Containers::new(Box::new(client), Arc::clone(&self.processes), linux::may_read_namespaces()))
    }

    fn snapshot(
        &self,
        configuration: Configuration,
        docker: Arc<Containers>,
        sigstore: Option<Arc<Sigstore>>,
    ) -> Snapshot {
        let mut capabilities = Capabilities::PROCESS | Capabilities::DOCKER;
        if sigstore.is_some() {
            capabilities |= Capabilities::SIGSTORE;
        }
        let settings = Settings {
            capabilities,
            use_new_container_locator: configuration.use_new_container_locator,
            container_id_cgroup_matchers: configuration.container_id_cgroup_matchers.clone(),
            extra: Vec::new(),
        };
        let machine = Machine {
            processes: Arc::clone(&self.processes),
            docker,
            sigstore,
            verbose: configuration.verbose_container_locator_logs,
            extensions: Vec::new(),
            warnings: Warnings::default(),
        };
        Snapshot {
            policy: Arc::clone(&self.builtin),
            settings,
            machine: Arc::new(machine),
            configuration,
            answers: Answers::default(),
        }
    }

    /// The policy's own word on the settings: its errors refuse them, its warnings are notes.
    async fn judge(&self, snapshot: &Snapshot) -> Result<Vec<String>, Error> {
        let diagnostics = self.sandbox.validate(&snapshot.policy, &snapshot.settings).await?;
        let (errors, warnings): (Vec<_>, Vec<_>) =
            diagnostics.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
        match errors.is_empty() {
            true => Ok(warnings.into_iter().map(|diagnostic| diagnostic.message).collect()),
            false => {
                let messages: Vec<String> = errors.into_iter().map(|diagnostic| diagnostic.message).collect();
                Err(Error::Configuration(messages.join("; ")))
            }
        }
    }
}

/// The verifier that a configuration asks for, and what is worth knowing of it.
async fn verifier(configuration: &Configuration) -> Result<(Option<Arc<Sigstore>>, Vec<String>), Error> {
    let Some(options) = configuration.sigstore.clone() else { return Ok((None, Vec::new())) };
    // It reads files, which may be on a network's filesystem.
    let made = tokio::task::spawn_blocking(move || Sigstore::new(&options)).await;
    let made = made.unwrap_or_else(|_| Err("sigstore: the verifier cannot be made".to_owned()));
    let (sigstore, notes) = made.map_err(Error::Configuration)?;
    Ok((Some(Arc::new(sigstore)), notes))
}

fn same_engine(one: &Configuration, other: &Configuration) -> bool {
    one.docker == other.docker
        && one.docker_version == other.docker_version
        && one.engine_shares_pid_namespace == other.engine_shares_pid_namespace
}
