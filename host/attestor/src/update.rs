//! How what is in use is replaced: by Configure, by a changed file, by SIGHUP. One pipeline: load, link and try everything first,
//! then swap one pointer. A step that fails changes nothing.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use containers::engine::EngineCall;
use containers::process::System;
use containers::{Containers, ProofContext};
use image_signatures::{Options, Verifier};
use sandbox::inspect::World;
use sandbox::wit::{Capabilities, Settings};
use tokio::time::timeout;

use crate::attestation::reuse::{Answers, RecordedWorkload};
use crate::attestation::{Basis, Extension, Policy};
use crate::components::candidate::{AcceptedExtension, AcceptedPolicy, Candidate, SettingsError, validate};
use crate::components::history::{Active, ComponentStatus, ConfigurationStatus, History, Tally};
use crate::components::load::LoadError;
use crate::components::trial::{self, Trial};
use crate::components::watch::Watcher;
use crate::components::{POLICY, Runtime, extension_name, files, in_files};
use crate::config::{self, Component, Configuration, Pin};
use crate::error::Error;
use crate::limits;
use crate::machine::Machine;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use crate::workload::decision::SignedImages;
use crate::workload::{Backends, Workload};

/// Workloads to try components on before any workload was attested.
pub type TrialWorkloads = fn() -> Vec<Workload>;

/// What became of looking at the files again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The number of components that were replaced.
    pub replaced: usize,
    /// The number of components that were not replaced because a step failed.
    pub failed: usize,
}

/// Holds what is in use, and replaces it.
pub struct Updater {
    machine: Arc<dyn Machine>,
    runtime: Arc<Runtime>,
    trial_workloads: TrialWorkloads,
    metrics: Metrics,
    current: ArcSwapOption<Snapshot>,
    /// One update at a time. No attestation ever takes it.
    update_lock: tokio::sync::Mutex<()>,
    history: History,
    /// The files of the components.
    pub watcher: Watcher,
}

/// A snapshot that was built, and findings about its parts.
struct Built {
    snapshot: Snapshot,
    /// Notes about the verifier, the policy and the extensions.
    notes: Vec<String>,
    /// The extensions that probably fail for every workload. They are used all the same, because an error may be meant.
    suspicions: Vec<Refusal>,
}

/// Why no snapshot can be built.
enum Refusal {
    /// A component of the configuration.
    Component { name: String, error: LoadError },
    /// Anything else.
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Other(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Component { name, error: LoadError { path, step, reason, .. } } => {
                Error::Component { name, path, step: step.name(), reason }
            }
            Refusal::Other(error) => error,
        }
    }
}

impl Updater {
    /// Nothing is in use yet.
    pub fn new(
        machine: Arc<dyn Machine>,
        runtime: Arc<Runtime>,
        trial_workloads: TrialWorkloads,
        metrics: Metrics,
    ) -> Updater {
        Updater {
            machine,
            runtime,
            trial_workloads,
            current: ArcSwapOption::empty(),
            update_lock: tokio::sync::Mutex::default(),
            history: History::new(metrics.clone()),
            watcher: Watcher::default(),
            metrics,
        }
    }

    /// What is in use.
    pub fn current(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// The components in use, the policy first.
    pub fn components(&self) -> Vec<ComponentStatus> {
        self.history.in_use()
    }

    /// The configuration in use, and the last one that was refused.
    pub fn configuration(&self) -> ConfigurationStatus {
        self.history.configuration()
    }

    /// Records a configuration that was refused for its text.
    pub fn refused(&self, error: &Error) {
        self.history.configured(Err(error));
    }

    /// Replaces the configuration. Needs neither the engine nor the network.
    ///
    /// # Errors
    /// The configuration is refused. The one in use stays.
    pub async fn configure(&self, configuration: Configuration) -> Result<(), Error> {
        let _updating = self.update_lock.lock().await;
        let outcome = self.replace_configuration(configuration).await;
        self.history.configured(outcome.as_ref().copied());
        outcome
    }

    async fn replace_configuration(&self, configuration: Configuration) -> Result<(), Error> {
        let current = self.current();
        // Taken before the files are read, so that the watcher sees a change meanwhile.
        let files = self.watcher.fingerprints_in_time(files(&configuration)).await.unwrap_or_default();
        let Built { snapshot, notes, suspicions } = match self.build(configuration, current.as_deref()).await {
            Ok(built) => built,
            Err(refusal) => {
                // While a configuration is in use, a refused one is an attempt to replace a component like any other.
                if let (Refusal::Component { name, error }, Some(_)) = (&refusal, &current) {
                    self.history.failed(name, error);
                }
                return Err(refusal.into());
            }
        };
        log_report(&snapshot.configuration, &notes);
        for suspicion in suspicions {
            tracing::warn!("{}", Error::from(suspicion));
        }
        if !self.machine.reads_namespaces() {
            tracing::warn!(
                "without CAP_SYS_PTRACE the pid namespaces of other users' processes cannot be read: that part of the proof \
                 that a process is in its container is left out"
            );
        }
        tracing::info!(
            policy = %snapshot.basis.policy.digest, docker = %snapshot.configuration.docker, "configured"
        );
        // The policy may be the built-in one, which is in no file.
        self.history.mark_current(POLICY);
        for extension in &snapshot.configuration.extensions {
            self.history.mark_current(&extension_name(extension));
        }
        self.watcher.remember(files);
        let (docker, verifier) = (Arc::clone(&snapshot.basis.backends.docker), snapshot.verifier.clone());
        self.activate(snapshot);
        let before = current.as_deref();
        if before.is_none_or(|before| !Arc::ptr_eq(&before.basis.backends.docker, &docker)) {
            tokio::spawn(Containers::maintain(Arc::downgrade(&docker)));
            tokio::spawn(Containers::connect(Arc::downgrade(&docker)));
        }
        if let Some(verifier) = verifier
            && before.and_then(|before| before.verifier.as_ref()).is_none_or(|kept| !Arc::ptr_eq(kept, &verifier))
        {
            tokio::spawn(Verifier::refresh(Arc::downgrade(&verifier)));
        }
        Ok(())
    }

    /// Judges a configuration as [`Updater::configure`] does, and changes nothing. Returns warnings and notes.
    ///
    /// # Errors
    /// The configuration would be refused, or an extension probably fails for every workload.
    pub async fn validate(&self, configuration: Configuration) -> Result<Vec<String>, Error> {
        let current = self.current();
        let Built { snapshot, mut notes, suspicions } = self.build(configuration, current.as_deref()).await?;
        if let Some(suspicion) = suspicions.into_iter().next() {
            return Err(suspicion.into());
        }
        let report = &snapshot.configuration.report;
        notes.extend(report.warnings.iter().map(ToString::to_string));
        notes.extend(report.notes.iter().map(|note| note.text.clone()));
        Ok(notes)
    }

    /// Looks at the files of policy and extensions again, and replaces what changed, each component on its own. A failure is logged
    /// and kept for the status, and the component in use stays.
    pub async fn reload(&self) -> Reloaded {
        let _updating = self.update_lock.lock().await;
        let mut reloaded = Reloaded::default();
        let Some(current) = self.current() else { return reloaded };
        let configuration = &current.configuration;
        let mut retry = false;
        let mut not_replaced = |name: &str, error: &LoadError| {
            self.history.failed(name, error);
            retry |= error.retryable;
            reloaded.failed += 1;
        };
        let Some(files) = self.watcher.fingerprints_in_time(files(configuration)).await else {
            for (name, component) in in_files(configuration) {
                not_replaced(&name, &LoadError::slow(&component.path));
            }
            self.watcher.retry_after(limits::RETRY_REPLACE);
            return reloaded;
        };
        self.watcher.remember(files);
        let recorded = self.recorded(Some(&current), configuration).await;
        let trial = Trial {
            settings: &current.basis.settings,
            backends: &current.basis.backends,
            recorded: &recorded,
            extensions: &current.basis.extensions,
        };
        let verifier = current.verifier.as_ref();
        let mut policy = Arc::clone(&current.basis.policy);
        if let Some(component) = &configuration.policy {
            match self.reload_policy(component, &policy, verifier, &trial).await {
                Ok(Some(AcceptedPolicy { policy: new, notes, changed })) => {
                    notes.iter().for_each(|note| tracing::info!("{note}"));
                    tracing::info!(
                        digest = %new.digest, workloads = %recorded.len(), other_selectors = %changed,
                        "policy tried on recorded workloads"
                    );
                    policy = new;
                    reloaded.replaced += 1;
                }
                Ok(None) => self.history.mark_current(POLICY),
                Err(error) => not_replaced(POLICY, &error),
            }
        }
        let mut extensions = current.basis.extensions.clone();
        for (configured, slot) in configuration.extensions.iter().zip(&mut extensions) {
            let name = extension_name(configured);
            match self.reload_extension(configured, slot, verifier, &trial).await {
                Ok(Some(AcceptedExtension { extension, notes, suspicion })) => {
                    notes.iter().for_each(|note| tracing::info!("{note}"));
                    if let Some(suspicion) = suspicion {
                        tracing::warn!("{name}: {suspicion}");
                    }
                    *slot = extension;
                    reloaded.replaced += 1;
                }
                Ok(None) => self.history.mark_current(&name),
                Err(error) => not_replaced(&name, &error),
            }
        }
        if retry {
            self.watcher.retry_after(limits::RETRY_REPLACE);
        }
        if reloaded.replaced > 0 {
            self.activate(Snapshot {
                basis: Basis {
                    sandbox: Arc::clone(&current.basis.sandbox),
                    policy,
                    extensions,
                    settings: current.basis.settings.clone(),
                    backends: Arc::clone(&current.basis.backends),
                    answers: Answers::default(),
                },
                configuration: Arc::clone(configuration),
                verifier: current.verifier.clone(),
                tried: recorded,
                tally: Tally::default(),
            });
        }
        reloaded
    }

    /// Loads, links and tries everything that a configuration asks for. The containers stay cached if their engine stays, and the
    /// verdicts if the verifier judges as before.
    async fn build(&self, configuration: Configuration, current: Option<&Snapshot>) -> Result<Built, Refusal> {
        let docker = match current {
            Some(current) if same_engine(&current.configuration, &configuration) => {
                Arc::clone(&current.basis.backends.docker)
            }
            _ => self.containers(&configuration),
        };
        let recorded_decision = self.machine.recorded_decision();
        let (verifier, trust) = make_verifier(&configuration, recorded_decision.is_none(), &self.metrics).await?;
        let verifier = match (verifier, current.and_then(|current| current.verifier.clone())) {
            (Some(new), Some(kept)) if kept.judges_like(&new) => Some(kept),
            (new, _) => new,
        };
        let recorded = self.recorded(current, &configuration).await;
        let decides =
            |(verifier, sigstore): (_, &config::Sigstore)| Arc::new(SignedImages::new(verifier, sigstore.on_failure));
        let recorded_decision = recorded_decision.map(|decision| Arc::new(SignedImages::recorded(decision)));
        let backends = Arc::new(Backends {
            sigstore: recorded_decision.or_else(|| verifier.clone().zip(configuration.sigstore.as_ref()).map(decides)),
            verbose: configuration.verbose_container_locator_logs,
            extensions: configuration.extensions.iter().map(|extension| extension.name.clone()).collect(),
            ..Backends::with_metrics(self.machine.processes(), docker, self.metrics.clone())
        });
        let settings = settings(&configuration, &backends);
        let trial = Trial {
            settings: &settings,
            backends: &backends,
            recorded: &recorded,
            extensions: current.map_or(&[], |current| &current.basis.extensions),
        };
        let refused = |name: &str| {
            let name = name.to_owned();
            move |error: LoadError| Refusal::Component { name, error }
        };
        let (policy, mut notes) = match &configuration.policy {
            None => {
                let builtin = &self.runtime.builtin;
                let notes = validate(&self.runtime, builtin, &trial).await.map_err(|invalid| match invalid {
                    SettingsError::Refused(errors) => Error::Configuration(errors),
                    SettingsError::Failed(error) => builtin.failed(error),
                })?;
                let tried = trial::try_policy(&self.runtime.sandbox, builtin, &trial).await;
                tried.map_err(|error| Error::Configuration(format!("the built-in policy: trial: {error}")))?;
                (Arc::clone(builtin), notes)
            }
            Some(component) => {
                let accepted =
                    async { self.load(component, World::Policy, verifier.as_ref()).await?.into_policy(&trial).await };
                let AcceptedPolicy { policy, notes, changed: _ } = accepted.await.map_err(refused(POLICY))?;
                (policy, notes)
            }
        };
        let (mut extensions, mut suspicions) = (Vec::new(), Vec::new());
        for configured in &configuration.extensions {
            let name = extension_name(configured);
            let accepted = async {
                let candidate = self.load(&configured.component, World::Extension, verifier.as_ref()).await?;
                candidate.into_extension(configured, &trial).await
            };
            let AcceptedExtension { extension, notes: more, suspicion } = accepted.await.map_err(refused(&name))?;
            extensions.push(extension);
            notes.extend(more);
            suspicions.extend(suspicion.map(refused(&name)));
        }
        notes.extend(trust);
        let basis = Basis {
            sandbox: Arc::clone(&self.runtime.sandbox),
            policy,
            extensions,
            settings,
            backends,
            answers: Answers::default(),
        };
        let snapshot = Snapshot {
            basis,
            configuration: Arc::new(configuration),
            verifier,
            tried: recorded,
            tally: Tally::default(),
        };
        Ok(Built { snapshot, notes, suspicions })
    }

    async fn load(
        &self,
        component: &Component,
        world: World,
        verifier: Option<&Arc<Verifier>>,
    ) -> Result<Candidate<'_>, LoadError> {
        let floor = self.history.newest(&component.path);
        Candidate::load(&self.runtime, component, world, verifier.cloned(), floor).await
    }

    /// Loads and tries the policy in a file. `None`: the file holds the running one.
    async fn reload_policy(
        &self,
        component: &Component,
        running: &Policy,
        verifier: Option<&Arc<Verifier>>,
        trial: &Trial<'_>,
    ) -> Result<Option<AcceptedPolicy>, LoadError> {
        let candidate = self.load(component, World::Policy, verifier).await?;
        if candidate.digest() == running.digest {
            return Ok(None);
        }
        candidate.into_policy(trial).await.map(Some)
    }

    /// Loads and tries the extension in a file. `None`: the file holds the running one.
    async fn reload_extension(
        &self,
        configured: &config::Extension,
        running: &Extension,
        verifier: Option<&Arc<Verifier>>,
        trial: &Trial<'_>,
    ) -> Result<Option<AcceptedExtension>, LoadError> {
        let candidate = self.load(&configured.component, World::Extension, verifier).await?;
        if candidate.digest() == running.description.digest {
            return Ok(None);
        }
        candidate.into_extension(configured, trial).await.map(Some)
    }

    /// Workloads to try components on: those that were attested last, those that earlier components were tried on, or else the
    /// trial workloads. None when no component is from a file.
    async fn recorded(&self, current: Option<&Snapshot>, configuration: &Configuration) -> Vec<RecordedWorkload> {
        let recorded = current.map_or_else(Vec::new, Snapshot::recorded);
        if !recorded.is_empty() || in_files(configuration).next().is_none() {
            return recorded;
        }
        let mut recorded = Vec::new();
        for workload in (self.trial_workloads)() {
            let settings = Settings {
                capabilities: capabilities(workload.system()),
                use_new_container_locator: true,
                container_id_cgroup_matchers: Vec::new(),
                extra: Vec::new(),
            };
            let Runtime { sandbox, builtin, .. } = &*self.runtime;
            let deadline = tokio::time::Instant::now() + limits::ATTESTATION;
            if let (Some(workload), Ok(selectors)) = builtin.attest(sandbox, &settings, workload, deadline).await {
                let exchanges = workload.transcript().exchanges().iter();
                let exchanges =
                    exchanges.filter_map(|exchange| Some((exchange.question.clone(), exchange.answer.clone().ok()?)));
                recorded.push(RecordedWorkload { exchanges: exchanges.collect(), selectors, attested: false });
            }
        }
        recorded
    }

    /// Swaps the one pointer. Calls in flight finish on what they started with.
    fn activate(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let configuration = &snapshot.configuration;
        let names: Vec<String> = configuration.extensions.iter().map(extension_name).collect();
        let mut all = vec![Active {
            name: POLICY,
            path: configuration.policy.as_ref().map(|component| &component.path),
            digest: &snapshot.basis.policy.digest,
            version: snapshot.basis.policy.version.as_ref(),
        }];
        configuration.extensions.iter().for_each(|extension| self.metrics.may_be_omitted(&extension.name));
        let extensions = configuration.extensions.iter().zip(&names).zip(&snapshot.basis.extensions);
        all.extend(extensions.map(|((configured, name), extension)| Active {
            name,
            path: Some(&configured.component.path),
            digest: &extension.description.digest,
            version: extension.description.version.as_ref(),
        }));
        self.current.store(Some(Arc::clone(&snapshot)));
        self.history.activate(&all);
    }

    fn containers(&self, configuration: &Configuration) -> Arc<Containers> {
        let metrics = self.metrics.clone();
        let observer = Arc::new(move |EngineCall { operation, outcome, started }| {
            metrics.engine_call(operation, outcome, started)
        });
        let engine = self.machine.engine(configuration, observer);
        let context = ProofContext {
            reads_namespaces: self.machine.reads_namespaces(),
            declared: configuration.engine_shares_pid_namespace,
        };
        let metrics = self.metrics.clone();
        let containers = Containers::new(engine, self.machine.processes(), context);
        Arc::new(containers.with_queue_observer(move |queue, full| metrics.engine_full(queue, full)))
    }
}

fn log_report(configuration: &Configuration, notes: &[String]) {
    let report = &configuration.report;
    for note in report.notes.iter().map(|note| &note.text).chain(notes) {
        tracing::info!("{note}");
    }
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
}

/// What a policy can ask of every configuration.
fn capabilities(system: System) -> Capabilities {
    Capabilities::DOCKER
        | match system {
            System::Linux => Capabilities::PROCESS,
            System::Windows => Capabilities::JOB_OBJECTS,
        }
}

/// What a policy needs to know of a configuration.
fn settings(configuration: &Configuration, backends: &Backends) -> Settings {
    let mut capabilities = capabilities(backends.processes.system());
    if backends.sigstore.is_some() {
        capabilities |= Capabilities::SIGSTORE;
    }
    Settings {
        capabilities,
        use_new_container_locator: configuration.use_new_container_locator,
        container_id_cgroup_matchers: configuration.container_id_cgroup_matchers.clone(),
        extra: configuration.policy.as_ref().map(|component| component.settings.clone()).unwrap_or_default(),
    }
}

/// The verifier that a configuration asks for, and notes about it. It verifies signed components, and images if `of_images`.
async fn make_verifier(
    configuration: &Configuration,
    of_images: bool,
    metrics: &Metrics,
) -> Result<(Option<Arc<Verifier>>, Vec<String>), Error> {
    let signed = in_files(configuration).any(|(_, component)| matches!(component.pin, Pin::Signed { .. }));
    let options = configuration.sigstore.as_ref().filter(|_| of_images || signed).map(|it| it.options.clone());
    let options = options.or_else(|| signed.then(Options::default));
    let Some(options) = options else { return Ok((None, Vec::new())) };
    // It reads files, which may be on a network's filesystem.
    let making = tokio::task::spawn_blocking(move || Verifier::new(&options));
    let seconds = limits::FILE_READ.as_secs();
    let made = match timeout(limits::FILE_READ, making).await {
        Ok(Ok(made)) => made.map_err(|why| format!("sigstore: {why}")),
        Ok(Err(_)) => Err("sigstore: the verifier cannot be made".to_owned()),
        Err(_) => Err(format!("sigstore: the files that it names could not be read within {seconds} s")),
    };
    let (verifier, notes) = made.map_err(Error::Configuration)?;
    let notes = notes.into_iter().map(|note| format!("sigstore: {note}")).collect();
    let metrics = metrics.clone();
    let verifier = verifier.with_observer(Arc::new(move |observation| metrics.image(observation)));
    Ok((Some(Arc::new(verifier)), notes))
}

fn same_engine(one: &Configuration, other: &Configuration) -> bool {
    one.docker == other.docker
        && one.docker_version == other.docker_version
        && one.engine_shares_pid_namespace == other.engine_shares_pid_namespace
}
