//! What attestations run on, and how it is replaced: by Configure, by a changed file, by SIGHUP. Everything is made and tried
//! first, then one pointer is swapped; what fails on the way changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use bounded::file::Fingerprint;
use containers::Containers;
use containers::ProofContext;
use containers::engine::docker::DockerEngine;
use containers::process::linux;
use tokio::time::Instant;

use crate::attestation::Attestor;
use crate::attestation::extensions::Extension;
use crate::attestation::reuse::Answers;
use crate::components::history::{POLICY, Use};
use crate::components::load::{LoadError, Loaded, Step};
use crate::components::trial::Recorded;
use crate::config::{self, Component, Configuration, Pin};
use crate::error::Error;
use crate::limits;
use crate::sandbox::Policy;
use crate::sandbox::bindings::docker_attestor::policy::types::{Capabilities, Settings};
use crate::sandbox::inspect::World;
use crate::scenario::Scenario;
use crate::signatures::Sigstore;
use crate::workload::Machine;

/// What one attestation runs on.
pub(crate) struct Snapshot {
    pub(crate) policy: Arc<Policy>,
    pub(crate) extensions: Vec<Arc<Extension>>,
    pub(crate) settings: Settings,
    pub(crate) machine: Arc<Machine>,
    pub(crate) answers: Answers,
    configuration: Arc<Configuration>,
    /// Verifies signatures of components, and images if the configuration says so.
    verifier: Option<Arc<Sigstore>>,
    /// What policy and extensions were tried on: the next ones are too, however few workloads come until then.
    tried: Vec<Recorded>,
}

/// The files of policy and extensions as they were before they were read.
type Fingerprints = Vec<(PathBuf, Fingerprint)>;

/// What was last acted on.
#[derive(Default)]
pub(crate) struct Acted {
    files: Fingerprints,
    /// When the same files are acted on again: a component was not replaced for a reason that may pass.
    again: Option<Instant>,
}

impl Snapshot {
    /// An extension failed, and the selectors come without its own.
    pub(crate) fn omitted(&self, error: &Error) {
        if let Some(dropped) = self.machine.warnings.admit() {
            tracing::warn!(dropped = %dropped, "{error}: its selectors are left out");
        }
    }
}

/// What became of looking at the files again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Components that were replaced.
    pub replaced: usize,
    /// Components that were not, because a step failed.
    pub failed: usize,
}

impl Attestor {
    /// Puts a configuration to use. On an error what runs goes on. Needs neither the engine nor the network.
    pub async fn configure(&self, configuration: Configuration) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let current = self.current.load_full();
        // The kept containers belong to their engine: they stay if it does.
        let docker = match &current {
            Some(current) if same_engine(&current.configuration, &configuration) => Arc::clone(&current.machine.docker),
            _ => {
                let docker = self.engine(&configuration);
                tokio::spawn(Containers::maintain(Arc::downgrade(&docker)));
                docker
            }
        };
        let (verifier, trust) = verifier(&configuration).await?;
        // Its verdicts stay if it judges as before.
        let kept = current.as_ref().and_then(|current| current.verifier.clone());
        let (verifier, fresh) = match (verifier, kept) {
            (Some(new), Some(kept)) if kept.same(&new) => (Some(kept), None),
            (new, _) => (new.clone(), new),
        };
        let (files, snapshot, notes) = self.next(configuration, docker, verifier).await?;
        let report = &snapshot.configuration.report;
        for note in report.notes.iter().map(|note| &note.text).chain(&notes).chain(&trust) {
            tracing::info!("{note}");
        }
        for warning in &report.warnings {
            tracing::warn!("{warning}");
        }
        if !linux::may_read_namespaces() {
            tracing::warn!(
                "without CAP_SYS_PTRACE the pid namespaces of other users' processes cannot be read: that part of the proof \
                 that a process is in its container is left out"
            );
        }
        tracing::info!(policy = %snapshot.policy.digest, docker = %snapshot.configuration.docker, "configured");
        for (name, _) in components(&snapshot.configuration) {
            self.history.unchanged(&name);
        }
        self.act_on(files);
        self.put_to_use(snapshot);
        if let Some(sigstore) = fresh {
            tokio::spawn(Sigstore::refresh(Arc::downgrade(&sigstore)));
        }
        Ok(())
    }

    /// Puts a configuration to use whose engine is `docker`: a recorded one, or one of a test.
    pub async fn configure_with(&self, configuration: Configuration, docker: Containers) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let (verifier, _) = verifier(&configuration).await?;
        let (files, snapshot, _) = self.next(configuration, Arc::new(docker), verifier).await?;
        self.act_on(files);
        self.put_to_use(snapshot);
        Ok(())
    }

    /// What a configuration comes to, with its files as they were before they were read, and what is worth knowing. While another
    /// is in use, one that is refused is an attempt to replace a component like any other.
    async fn next(
        &self,
        configuration: Configuration,
        docker: Arc<Containers>,
        verifier: Option<Arc<Sigstore>>,
    ) -> Result<(Fingerprints, Snapshot, Vec<String>), Error> {
        let current = self.current.load_full();
        let recorded = self.recorded(current.as_deref(), &configuration).await;
        let files = self.fingerprints_in_time(&configuration).await.unwrap_or_default();
        match self.prepare(configuration, docker, verifier, recorded).await {
            Ok((snapshot, notes)) => Ok((files, snapshot, notes)),
            Err(Error::Component { name, error }) if current.is_some() => {
                self.history.failed(&name, &error);
                Err(Error::Component { name, error })
            }
            Err(error) => Err(error),
        }
    }

    /// Judges a configuration as [`Attestor::configure`] does, and changes nothing. Answers what is worth knowing.
    pub async fn validate(&self, configuration: Configuration) -> Result<Vec<String>, Error> {
        let docker = self.engine(&configuration);
        let (verifier, trust) = verifier(&configuration).await?;
        let recorded = self.recorded(self.current.load_full().as_deref(), &configuration).await;
        let (snapshot, mut notes) = self.prepare(configuration, docker, verifier, recorded).await?;
        notes.extend(trust);
        let report = &snapshot.configuration.report;
        notes.extend(report.warnings.iter().chain(report.notes.iter().map(|note| &note.text)).cloned());
        Ok(notes)
    }

    /// Looks at the files of policy and extensions again, and replaces what changed, each on its own. What fails is logged and
    /// kept for [`Attestor::status`], and what runs goes on.
    pub async fn reload(&self) -> Reloaded {
        let _changing = self.changing.lock().await;
        let mut reloaded = Reloaded::default();
        let Some(current) = self.current.load_full() else { return reloaded };
        let mut again = false;
        let mut not_replaced = |name: &str, error: &LoadError| {
            self.history.failed(name, error);
            again |= error.passes;
            reloaded.failed += 1;
        };
        let Some(files) = self.fingerprints_in_time(&current.configuration).await else {
            for (name, component) in components(&current.configuration) {
                not_replaced(&name, &LoadError::slow(&component.path));
            }
            self.try_again();
            return reloaded;
        };
        self.act_on(files);
        let tried = self.recorded(Some(&*current), &current.configuration).await;
        let mut policy = Arc::clone(&current.policy);
        if let Some(component) = &current.configuration.policy {
            match self.reload_policy(&current, component, &tried).await {
                Ok(Some(new)) => {
                    policy = new;
                    reloaded.replaced += 1;
                }
                Ok(None) => self.history.unchanged(POLICY),
                Err(error) => not_replaced(POLICY, &error),
            }
        }
        let mut extensions = current.extensions.clone();
        for (configured, slot) in current.configuration.extensions.iter().zip(&mut extensions) {
            match self.reload_extension(&current, configured, slot, &tried).await {
                Ok(Some(new)) => {
                    *slot = new;
                    reloaded.replaced += 1;
                }
                Ok(None) => self.history.unchanged(&extension_name(configured)),
                Err(error) => not_replaced(&extension_name(configured), &error),
            }
        }
        if again {
            self.try_again();
        }
        if reloaded.replaced > 0 {
            self.put_to_use(Snapshot {
                policy,
                extensions,
                settings: current.settings.clone(),
                machine: Arc::clone(&current.machine),
                answers: Answers::default(),
                configuration: Arc::clone(&current.configuration),
                verifier: current.verifier.clone(),
                tried,
            });
        }
        reloaded
    }

    /// Reloads when the files of policy and extensions change, for as long as somebody has the attestor. A look is one stat(2)
    /// for each file, which sees every way of replacing it, on every filesystem; a change counts when two looks agree on it.
    pub async fn watch(attestor: Weak<Attestor>) {
        let mut last = Fingerprints::new();
        loop {
            tokio::time::sleep(limits::FILE_WATCH).await;
            let Some(attestor) = attestor.upgrade() else { return };
            let Some(current) = attestor.current.load_full() else { continue };
            let files = files(&current.configuration);
            if files.is_empty() {
                continue;
            }
            // Nobody else waits where a filesystem hangs.
            let now = attestor.fingerprints(files).await;
            let due = {
                let acted = attestor.acted();
                now != acted.files || acted.again.is_some_and(|at| at <= Instant::now())
            };
            if due && now == last {
                // In a task of its own: whatever becomes of it, the next change is seen.
                let _ = tokio::spawn(async move { attestor.reload().await }).await;
            }
            last = now;
        }
    }

    fn acted(&self) -> MutexGuard<'_, Acted> {
        self.acted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act_on(&self, files: Fingerprints) {
        *self.acted() = Acted { files, again: None };
    }

    fn try_again(&self) {
        self.acted().again = Some(Instant::now() + limits::REPLACE_AGAIN);
    }

    /// The files as they are now. A filesystem that hangs holds whoever waits for this, and no more than one thread.
    async fn fingerprints(&self, files: Vec<PathBuf>) -> Fingerprints {
        let one = Arc::clone(&self.looking).acquire_owned().await;
        let looking = tokio::task::spawn_blocking(move || {
            let _one = one;
            let fingerprints = files.into_iter().map(|file| {
                let fingerprint = Fingerprint::of(&file);
                (file, fingerprint)
            });
            fingerprints.collect()
        });
        looking.await.unwrap_or_default()
    }

    /// The same, or none where a filesystem hangs.
    async fn fingerprints_in_time(&self, configuration: &Configuration) -> Option<Fingerprints> {
        tokio::time::timeout(limits::FILE_READ, self.fingerprints(files(configuration))).await.ok()
    }

    /// Everything that a configuration asks for, made and tried; also what is worth knowing.
    async fn prepare(
        &self,
        configuration: Configuration,
        docker: Arc<Containers>,
        verifier: Option<Arc<Sigstore>>,
        recorded: Vec<Recorded>,
    ) -> Result<(Snapshot, Vec<String>), Error> {
        let refused = |name: &str| {
            let name = name.to_owned();
            move |error: LoadError| Error::Component { name, error }
        };
        let sigstore = verifier.clone().filter(|_| configuration.sigstore.is_some());
        let machine = Arc::new(Machine {
            sigstore,
            verbose: configuration.verbose_container_locator_logs,
            extensions: configuration.extensions.iter().map(|extension| extension.name.clone()).collect(),
            ..Machine::new(Arc::clone(&self.processes), docker)
        });
        let settings = settings(&configuration, &machine);
        let (policy, notes) = match &configuration.policy {
            None => {
                let diagnostics = self.sandbox.validate(&self.builtin, &settings).await?;
                (Arc::clone(&self.builtin), Attestor::judged(diagnostics).map_err(Error::Configuration)?)
            }
            Some(component) => {
                let loaded = self.load_policy(component, verifier.clone()).await;
                let policy = loaded.map_err(refused(POLICY))?;
                let judged = self.judge_policy(&policy, component, &settings, &machine, &recorded).await;
                let (notes, _) = judged.map_err(refused(POLICY))?;
                (policy, notes)
            }
        };
        let mut extensions = Vec::new();
        for configured in &configuration.extensions {
            let name = extension_name(configured);
            let loaded = self.load_extension(configured, verifier.clone()).await.map_err(refused(&name))?;
            extensions.push(self.try_extension(configured, loaded, &recorded).await.map_err(refused(&name))?);
        }
        let snapshot = Snapshot {
            policy,
            extensions,
            settings,
            machine,
            answers: Answers::default(),
            configuration: Arc::new(configuration),
            verifier,
            tried: recorded,
        };
        Ok((snapshot, notes))
    }

    /// The new policy, if the file holds another one than the one that runs.
    async fn reload_policy(
        &self,
        current: &Snapshot,
        component: &Component,
        recorded: &[Recorded],
    ) -> Result<Option<Arc<Policy>>, LoadError> {
        let policy = self.load_policy(component, current.verifier.clone()).await?;
        if policy.digest == current.policy.digest {
            return Ok(None);
        }
        let (notes, other) =
            self.judge_policy(&policy, component, &current.settings, &current.machine, recorded).await?;
        for note in notes {
            tracing::info!("{note}");
        }
        tracing::info!(
            digest = %policy.digest, workloads = %recorded.len(), other_selectors = %other, "policy tried on recorded workloads"
        );
        Ok(Some(policy))
    }

    async fn reload_extension(
        &self,
        current: &Snapshot,
        configured: &config::Extension,
        running: &Extension,
        recorded: &[Recorded],
    ) -> Result<Option<Arc<Extension>>, LoadError> {
        let loaded = self.load_extension(configured, current.verifier.clone()).await?;
        if loaded.description.digest == running.description.digest {
            return Ok(None);
        }
        self.try_extension(configured, loaded, recorded).await.map(Some)
    }

    async fn load_policy(
        &self,
        component: &Component,
        verifier: Option<Arc<Sigstore>>,
    ) -> Result<Arc<Policy>, LoadError> {
        let floor = self.history.newest(&component.path);
        let loaded = self.loader.load(component, World::Policy, verifier, floor).await?;
        let policy = self.sandbox.policy(&loaded.compiled, &loaded.description);
        policy.map(Arc::new).map_err(|error| failed(component, Step::Link, format!("{error:#}")))
    }

    /// The policy's word on its settings, and a trial run; how many recorded workloads get other selectors.
    async fn judge_policy(
        &self,
        policy: &Policy,
        component: &Component,
        settings: &Settings,
        machine: &Arc<Machine>,
        recorded: &[Recorded],
    ) -> Result<(Vec<String>, usize), LoadError> {
        let diagnostics = self.sandbox.validate(policy, settings).await;
        let diagnostics = diagnostics.map_err(|error| broke(component, Step::Settings, &error))?;
        let notes = Attestor::judged(diagnostics).map_err(|error| failed(component, Step::Settings, error))?;
        let other = self.sandbox.try_policy(policy, settings, machine, recorded).await;
        Ok((notes, other.map_err(|error| broke(component, Step::Trial, &error))?))
    }

    async fn load_extension(
        &self,
        configured: &config::Extension,
        verifier: Option<Arc<Sigstore>>,
    ) -> Result<Loaded, LoadError> {
        let component = &configured.component;
        let floor = self.history.newest(&component.path);
        self.loader.load(component, World::Extension, verifier, floor).await
    }

    /// Links an extension, and a trial run.
    async fn try_extension(
        &self,
        configured: &config::Extension,
        Loaded { compiled, description }: Loaded,
        recorded: &[Recorded],
    ) -> Result<Arc<Extension>, LoadError> {
        let component = &configured.component;
        let extension = self.sandbox.extension(&compiled, description, configured);
        let extension = extension.map_err(|error| failed(component, Step::Link, format!("{error:#}")))?;
        let tried = self.sandbox.try_extension(&extension, recorded).await;
        tried.map_err(|error| broke(component, Step::Trial, &error))?;
        Ok(Arc::new(extension))
    }

    /// Workloads to try components on: what was attested last, what earlier ones were tried on, or else the one in this program;
    /// none when nothing is from a file.
    async fn recorded(&self, current: Option<&Snapshot>, configuration: &Configuration) -> Vec<Recorded> {
        let mut recorded = Vec::new();
        if let Some(current) = current {
            recorded = current.answers.recorded();
            recorded.extend(current.tried.iter().take(limits::TRIALS.saturating_sub(recorded.len())).cloned());
        }
        if !recorded.is_empty() || components(configuration).next().is_none() {
            return recorded;
        }
        let Some(scenario) = Scenario::built_in() else { return recorded };
        let mut workload = Some(scenario.workload());
        let settings = Settings {
            capabilities: Capabilities::PROCESS | Capabilities::DOCKER,
            use_new_container_locator: true,
            container_id_cgroup_matchers: Vec::new(),
            extra: Vec::new(),
        };
        match (self.sandbox.attest(&self.builtin, &settings, &mut workload).await, workload) {
            (Ok(selectors), Some(workload)) => {
                let asked = workload.into_asked().into_iter().map(|asked| (asked.import, asked.told)).collect();
                vec![Recorded { asked, selectors }]
            }
            _ => recorded,
        }
    }

    /// Swaps the one pointer. Calls in flight finish on what they started with.
    fn put_to_use(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let configuration = Arc::clone(&snapshot.configuration);
        let names: Vec<String> = configuration.extensions.iter().map(extension_name).collect();
        let mut all = vec![Use {
            name: POLICY,
            path: configuration.policy.as_ref().map(|component| &component.path),
            digest: &snapshot.policy.digest,
            version: snapshot.policy.version.as_ref(),
        }];
        let extensions = configuration.extensions.iter().zip(&names).zip(&snapshot.extensions);
        all.extend(extensions.map(|((configured, name), extension)| Use {
            name,
            path: Some(&configured.component.path),
            digest: &extension.description.digest,
            version: extension.description.version.as_ref(),
        }));
        self.current.store(Some(Arc::clone(&snapshot)));
        self.history.put_to_use(&all);
    }

    fn engine(&self, configuration: &Configuration) -> Arc<Containers> {
        let metrics = self.metrics.clone();
        let engine = DockerEngine::new(
            configuration.docker.clone(),
            configuration.docker_version,
            configuration.engine_shares_pid_namespace,
            Arc::new(move |call| metrics.engine_call(call)),
        );
        let context = ProofContext::of_process(configuration.engine_shares_pid_namespace);
        Arc::new(Containers::new(Arc::new(engine), Arc::clone(&self.processes), context))
    }
}

/// What every policy needs to know of a configuration.
fn settings(configuration: &Configuration, machine: &Machine) -> Settings {
    let mut capabilities = Capabilities::PROCESS | Capabilities::DOCKER;
    if machine.sigstore.is_some() {
        capabilities |= Capabilities::SIGSTORE;
    }
    Settings {
        capabilities,
        use_new_container_locator: configuration.use_new_container_locator,
        container_id_cgroup_matchers: configuration.container_id_cgroup_matchers.clone(),
        extra: configuration.policy.as_ref().map(|component| component.settings.clone()).unwrap_or_default(),
    }
}

/// The components in files, by their names in the status.
fn components(configuration: &Configuration) -> impl Iterator<Item = (String, &Component)> {
    let policy = configuration.policy.iter().map(|component| (POLICY.to_owned(), component));
    let extensions = configuration.extensions.iter();
    policy.chain(extensions.map(|extension| (extension_name(extension), &extension.component)))
}

fn extension_name(extension: &config::Extension) -> String {
    format!("extension {}", extension.name)
}

/// Every file that a component comes from.
fn files(configuration: &Configuration) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (_, component) in components(configuration) {
        files.push(component.path.clone());
        if let Pin::Signed { bundle, .. } = &component.pin {
            files.push(bundle.clone());
        }
    }
    files
}

fn failed(component: &Component, step: Step, reason: String) -> LoadError {
    LoadError::new(&component.path, step, &reason)
}

/// A call of it broke, or there was no sandbox for one.
fn broke(component: &Component, step: Step, error: &Error) -> LoadError {
    failed(component, step, error.to_string()).that_passes(matches!(error, Error::Exhausted(_)))
}

/// The verifier that a configuration asks for, and what is worth knowing of it.
async fn verifier(configuration: &Configuration) -> Result<(Option<Arc<Sigstore>>, Vec<String>), Error> {
    let signed = components(configuration).any(|(_, component)| matches!(component.pin, Pin::Signed { .. }));
    let options = configuration.sigstore.clone().or_else(|| signed.then(config::Sigstore::default));
    let Some(options) = options else { return Ok((None, Vec::new())) };
    // It reads files, which may be on a network's filesystem.
    let making = tokio::task::spawn_blocking(move || Sigstore::new(&options));
    let seconds = limits::FILE_READ.as_secs();
    let made = match tokio::time::timeout(limits::FILE_READ, making).await {
        Ok(made) => made.unwrap_or_else(|_| Err("sigstore: the verifier cannot be made".to_owned())),
        Err(_) => Err(format!("sigstore: the files that it names could not be read within {seconds} s")),
    };
    let (sigstore, notes) = made.map_err(Error::Configuration)?;
    Ok((Some(Arc::new(sigstore)), notes))
}

fn same_engine(one: &Configuration, other: &Configuration) -> bool {
    one.docker == other.docker
        && one.docker_version == other.docker_version
        && one.engine_shares_pid_namespace == other.engine_shares_pid_namespace
}
