//! What the host can do for a policy: one module for each interface of the contract, and the one place through which
//! every import of a call goes, [`Workload::ask`].
//!
//! A policy is a pure function of what its imports tell it, so the sandbox never waits: where an answer needs the engine,
//! the call is abandoned, the answer fetched outside the sandbox, and the policy run again from the start with everything it
//! was told before. A hung engine thus holds no sandbox. What was told is also what an answer depends on.

use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bounded::lanes::{Full, Lanes};
use bounded::warnings::Warnings;
use containers::process::{
    CgroupMount, Credentials, Process, Processes, cgroup_mounts as parse_cgroup_mounts, parse_cgroup,
};
use containers::{
    Checked, Claim, Claimant, Clause, Container, ContainerId, Containers, Error, NotProven, Outcome, Proven,
};

use crate::limits;
use crate::sandbox::bindings::docker_attestor::policy::docker::Engine;
use crate::sandbox::bindings::docker_attestor::policy::types::Fault;
use crate::signatures::{Image, Judged, Sigstore};

/// The capabilities of one configuration.
pub struct Machine {
    /// The processes.
    pub processes: Arc<dyn Processes>,
    /// The containers of the Docker engine.
    pub docker: Arc<Containers>,
    /// Verifies images, if the configuration says so.
    pub sigstore: Option<Arc<Sigstore>>,
    /// Those who wait for a verification.
    pub verifications: Lanes<Claimant>,
    /// Log the cgroup and mountinfo lines at debug (`verbose_container_locator_logs`).
    pub verbose: bool,
    /// The names of the configured extensions: no policy may emit under them.
    pub extensions: Vec<String>,
    /// Bounds the warnings that workloads can cause.
    pub warnings: Warnings,
}

impl Machine {
    /// A machine with these processes and containers, and nothing else configured.
    pub fn new(processes: Arc<dyn Processes>, docker: Arc<Containers>) -> Machine {
        Machine {
            processes,
            docker,
            sigstore: None,
            verifications: Lanes::new(1, limits::VERIFY_WAITERS),
            verbose: false,
            extensions: Vec::new(),
            warnings: Warnings::default(),
        }
    }
}

/// A question that a policy may ask: one for each function of the contract, but `log.write`.
#[derive(Debug, Clone, PartialEq)]
pub enum Import {
    /// `process.cgroups`
    Cgroups,
    /// `process.cgroup-mounts`
    CgroupMounts,
    /// `job-objects.names`
    JobObjectNames,
    /// `docker.container`
    Container(Engine, String),
    /// `sigstore.verify`
    Verify,
    /// The grant `process` of an extension: asked by the host.
    Credentials,
}

impl Import {
    /// Bytes of memory that keeping this takes, near enough.
    pub fn bytes(&self) -> usize {
        match self {
            Import::Container(_, claim) => claim.len(),
            _ => 0,
        }
    }
}

/// What a policy was told.
#[derive(Clone, PartialEq)]
pub enum Told {
    /// `process.cgroups`: the text of /proc/PID/cgroup, every line of which can be parsed
    Cgroups(Result<Arc<[u8]>, Fault>),
    /// `process.cgroup-mounts`
    CgroupMounts(Result<Vec<CgroupMount>, Fault>),
    /// `job-objects.names`
    JobObjectNames(Result<Vec<String>, Fault>),
    /// `docker.container`
    Container(Result<Option<Proven>, Fault>),
    /// `sigstore.verify`
    Verify(Result<Judged, Fault>),
    /// The grant `process`; none when the process is gone
    Credentials(Result<Option<Credentials>, Fault>),
}

impl Hash for Told {
    /// Hashes the answers that can come first. Equal answers hash equally.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Told::Cgroups(Ok(text)) => text.hash(state),
            Told::JobObjectNames(Ok(names)) => names.hash(state),
            _ => {}
        }
    }
}

impl Told {
    /// Bytes of memory that keeping this takes, near enough.
    pub fn bytes(&self) -> usize {
        match self {
            Told::Cgroups(Ok(text)) => text.len(),
            Told::CgroupMounts(Ok(mounts)) => {
                mounts.iter().map(|mount| size_of::<CgroupMount>() + mount.root.len() + mount.fs_type.len()).sum()
            }
            Told::JobObjectNames(Ok(names)) => names.iter().map(|name| size_of::<String>() + name.len()).sum(),
            Told::Container(Ok(Some(proven))) => proven.container().bytes(),
            // Verdicts are shared with those that are cached, and have 500 signatures at most.
            _ => 0,
        }
    }

    /// The error, if the policy was told one.
    pub fn err(&self) -> Option<&Fault> {
        match self {
            Told::Cgroups(told) => told.as_ref().err(),
            Told::CgroupMounts(told) => told.as_ref().err(),
            Told::JobObjectNames(told) => told.as_ref().err(),
            Told::Container(told) => told.as_ref().err(),
            Told::Verify(told) => told.as_ref().err(),
            Told::Credentials(told) => told.as_ref().err(),
        }
    }
}

/// One question, its answer, and what `explain` says of it.
#[derive(Clone)]
pub struct Asked {
    /// What the policy asked.
    pub import: Import,
    /// What it was told.
    pub told: Told,
    /// What the host found: what was read, asked and proven.
    pub note: String,
    /// The clause that does not hold, where a claim is not proven.
    pub not_proven: Option<Clause>,
    /// How long it took.
    pub elapsed: Duration,
}

/// An answer, with what `explain` says of it.
struct Answered {
    told: Told,
    note: String,
    not_proven: Option<Clause>,
}

impl From<(Told, String)> for Answered {
    fn from((told, note): (Told, String)) -> Answered {
        Answered { told, note, not_proven: None }
    }
}

/// The image that the proven container runs, and who verifies it.
struct RunImage {
    sigstore: Arc<Sigstore>,
    id: String,
    /// The platform's manifest, where the engine names it.
    manifest: Option<String>,
    /// What the container was started from, for an engine that has no repo digest of it.
    started_as: Option<String>,
}

impl RunImage {
    /// Where the image's signatures may be: `repository@sha256:…`.
    fn places<'a>(&'a self, repo_digests: &'a [String]) -> Image<'a> {
        let repo_digests = if repo_digests.is_empty() { self.started_as.as_slice() } else { repo_digests };
        Image { repo_digests, manifest: self.manifest.as_deref() }
    }
}

/// What a container was started from, as a repo digest: Docker 29's image store forgets those of an image when a pull moves its
/// tag, whatever runs it. There an image's id is its digest in the registry; elsewhere, where the engine names no manifest, it is
/// not. What was started by its id has no name.
fn started_as(container: &Container) -> Option<String> {
    container.image_manifest_digest.as_ref()?;
    let id = container.image_id.as_deref()?;
    let name = container.image.split('@').next()?;
    let is_id = id.starts_with(name) || id.trim_start_matches("sha256:").starts_with(name);
    (!is_id).then(|| format!("{name}@{id}"))
}

/// The process of one attestation, and everything that the policy was told of it so far.
pub struct Workload {
    machine: Arc<Machine>,
    pid: i32,
    /// Opened at the first question; every read goes to this very process.
    process: Option<Option<Arc<dyn Process>>>,
    /// /proc/PID/cgroup, read once: what the policy claims from is what the proof holds against.
    cgroup: Option<Result<Arc<[u8]>, Fault>>,
    asked: Vec<Asked>,
    started: tokio::time::Instant,
}

impl Workload {
    /// The workload with this pid.
    pub fn new(machine: Arc<Machine>, pid: i32) -> Workload {
        let started = tokio::time::Instant::now();
        Workload { machine, pid, process: None, cgroup: None, asked: Vec::new(), started }
    }

    /// The names of the configured extensions.
    pub fn extensions(&self) -> &[String] {
        &self.machine.extensions
    }

    /// The pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Every question so far, in order.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Every question, in order.
    pub fn into_asked(self) -> Vec<Asked> {
        self.asked
    }

    /// The container that the policy obtained; the first, should it have obtained several.
    pub fn container(&self) -> Option<&Proven> {
        self.asked.iter().find_map(|asked| match &asked.told {
            Told::Container(Ok(Some(container))) => Some(container),
            _ => None,
        })
    }

    /// The container that extensions may know of: there is one only if the policy obtained exactly one.
    pub fn only_container(&self) -> Option<&Proven> {
        let mut obtained = self.asked.iter().filter_map(|asked| match &asked.told {
            Told::Container(Ok(Some(container))) => Some(container),
            _ => None,
        });
        let first = obtained.next()?;
        obtained.all(|other| other == first).then_some(first)
    }

    /// A workload that was recorded: what was told is told again, and to everything else it is a process that is gone.
    pub fn recorded(machine: Arc<Machine>, pid: i32, recorded: &[(Import, Told)]) -> Workload {
        let asked = recorded.iter().map(|(import, told)| Asked {
            import: import.clone(),
            told: told.clone(),
            note: "recorded".to_owned(),
            not_proven: None,
            elapsed: Duration::ZERO,
        });
        Workload { asked: asked.collect(), process: Some(None), ..Workload::new(machine, pid) }
    }

    /// Answers a question that was not recorded, without asking anybody.
    pub fn not_recorded(&mut self, import: Import) {
        let told = match &import {
            Import::Verify => Told::Verify(Err(Fault::NotConfigured("not recorded".to_owned()))),
            _ => Told::Container(Ok(None)),
        };
        self.record(import, (told, "not recorded".to_owned()).into(), Instant::now());
    }

    /// Answers a question without waiting; `None` when it takes [`Workload::fetch`] first.
    pub fn ask(&mut self, import: &Import) -> Option<&Told> {
        if let Some(known) = self.asked.iter().position(|asked| asked.import == *import) {
            return self.asked.get(known).map(|asked| &asked.told);
        }
        let started = Instant::now();
        let answered = match import {
            Import::Cgroups => self.cgroups().into(),
            Import::CgroupMounts => self.cgroup_mounts().into(),
            Import::JobObjectNames => {
                let reason = "job objects are Windows': this is a Linux host";
                (Told::JobObjectNames(Err(Fault::NotConfigured(reason.to_owned()))), reason.to_owned()).into()
            }
            Import::Container(Engine::Docker, claim) => match self.claimed(claim) {
                Ok((id, process, cgroup)) => {
                    let claim = self.claim(&id, &*process, &cgroup);
                    self.decided(&id, self.machine.docker.check_cached(&claim)?)
                }
                Err(refused) => refused,
            },
            Import::Container(engine, _) => {
                let reason = format!("{} is not configured", engine_name(engine));
                (Told::Container(Err(Fault::NotConfigured(reason.clone()))), reason).into()
            }
            Import::Verify => match self.image() {
                Ok(image) => {
                    let repo_digests = self.machine.docker.cached_repo_digests(&image.id)?;
                    let (told, note) = image.sigstore.known(image.places(&repo_digests))?;
                    (Told::Verify(told), note).into()
                }
                Err(refused) => refused.into(),
            },
            Import::Credentials => self.credentials().into(),
        };
        self.record(import.clone(), answered, started);
        self.asked.last().map(|asked| &asked.told)
    }

    /// Fetches the answer to a question that [`Workload::ask`] left open, outside the sandbox.
    pub async fn fetch(&mut self, import: Import) {
        let started = Instant::now();
        let answered = match &import {
            Import::Container(Engine::Docker, claim) => match self.claimed(claim) {
                Ok((id, process, cgroup)) => {
                    let claimant = self.claimant();
                    let claim = self.claim(&id, &*process, &cgroup);
                    match self.machine.docker.check(&claim, claimant).await {
                        Ok(checked) => self.decided(&id, checked),
                        Err(error) => {
                            let fault = Fault::from(error);
                            let note = crate::error::fault_text(&fault).to_owned();
                            (Told::Container(Err(fault)), note).into()
                        }
                    }
                }
                Err(refused) => refused,
            },
            Import::Verify => match self.image() {
                Ok(image) => match self.verify(&image).await {
                    Ok((judged, note)) => (Told::Verify(judged), note).into(),
                    Err(fault) => {
                        let note = crate::error::fault_text(&fault).to_owned();
                        (Told::Verify(Err(fault)), note).into()
                    }
                },
                Err(refused) => refused.into(),
            },
            _ => return,
        };
        self.record(import, answered, started);
    }

    /// The verdict on the image, and the note for `explain`.
    async fn verify(&mut self, image: &RunImage) -> Result<(Result<Judged, Fault>, String), Fault> {
        let (machine, claimant) = (Arc::clone(&self.machine), self.claimant());
        let full = |full: Full| Fault::Exhausted(format!("{full} for image verifications: does a registry hang?"));
        let _waiting = machine.verifications.enter(claimant).map_err(full)?;
        let repo_digests = machine.docker.repo_digests(&image.id, claimant).await?;
        Ok(image.sigstore.verify(image.places(&repo_digests), self.started + limits::VERIFY_WAIT).await)
    }

    /// What there is to verify.
    fn image(&self) -> Result<RunImage, (Told, String)> {
        let refuse = |fault: Fault| {
            let note = crate::error::fault_text(&fault).to_owned();
            (Told::Verify(Err(fault)), note)
        };
        let Some(sigstore) = &self.machine.sigstore else {
            return Err(refuse(Fault::NotConfigured("sigstore is not configured".to_owned())));
        };
        let Some(container) = self.container().map(Proven::container) else {
            return Err(refuse(Fault::Policy("a policy asks for a verdict before it has a container".to_owned())));
        };
        match &container.image_id {
            Some(id) => Ok(RunImage {
                sigstore: Arc::clone(sigstore),
                id: id.clone(),
                manifest: container.image_manifest_digest.clone(),
                started_as: started_as(container),
            }),
            None => Err(refuse(Fault::Malformed("the engine names no image id of the container".to_owned()))),
        }
    }

    fn record(&mut self, import: Import, answered: Answered, started: Instant) {
        let Answered { told, note, not_proven } = answered;
        self.asked.push(Asked { import, told, note, not_proven, elapsed: started.elapsed() });
    }

    fn process(&mut self) -> Result<Option<Arc<dyn Process>>, Fault> {
        if let Some(process) = &self.process {
            return Ok(process.clone());
        }
        let process = match self.machine.processes.open(self.pid) {
            Ok(process) => process,
            Err(error) => {
                Error::unless_gone(self.pid, "", &error)?;
                None
            }
        };
        self.process = Some(process.clone());
        Ok(process)
    }

    /// The text of a file of the process; empty when the process is gone.
    fn read(&mut self, file: &'static str, read: fn(&dyn Process) -> io::Result<Vec<u8>>) -> Result<Vec<u8>, Fault> {
        let Some(process) = self.process()? else { return Ok(Vec::new()) };
        let text = match read(&*process) {
            Ok(text) => text,
            Err(error) => {
                Error::unless_gone(self.pid, file, &error)?;
                Vec::new()
            }
        };
        if self.machine.verbose {
            for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                tracing::debug!(pid = %self.pid, file, line = %line.escape_ascii(), "container locator");
            }
        }
        Ok(text)
    }

    /// What says in whose lane this process waits, once that is asked.
    pub fn deferred_claimant(&self) -> impl FnOnce() -> Claimant + use<> {
        let (process, engine_uid) = (self.process.clone().flatten(), self.machine.docker.engine_uid());
        move || process.map_or(Claimant::User(u32::MAX), |process| Claimant::of(&*process, engine_uid))
    }

    /// In whose lane this process waits.
    pub fn claimant(&mut self) -> Claimant {
        match self.process() {
            Ok(Some(process)) => Claimant::of(&*process, self.machine.docker.engine_uid()),
            _ => Claimant::User(u32::MAX),
        }
    }

    fn cgroup(&mut self) -> Result<Arc<[u8]>, Fault> {
        if let Some(cgroup) = &self.cgroup {
            return cgroup.clone();
        }
        let cgroup = self.read("cgroup", |process| process.cgroup()).map(Arc::from);
        self.cgroup = Some(cgroup.clone());
        cgroup
    }

    fn cgroups(&mut self) -> (Told, String) {
        if self.machine.verbose {
            // Only for the operator who debugs a locator: no policy of ours reads it, and nothing depends on it.
            let _ = self.read("mountinfo", |process| process.mountinfo());
        }
        let parsed = self.cgroup().and_then(|text| {
            let lines = parse_cgroup(&text)?.len();
            Ok((text, lines))
        });
        let note = match &parsed {
            Ok((_, 0)) => format!("process {} is gone", self.pid),
            Ok((_, lines)) => format!("read /proc/{}/cgroup: {lines} lines", self.pid),
            Err(fault) => crate::error::fault_text(fault).to_owned(),
        };
        (Told::Cgroups(parsed.map(|(text, _)| text)), note)
    }

    fn cgroup_mounts(&mut self) -> (Told, String) {
        let mounts =
            self.read("mountinfo", |process| process.mountinfo()).and_then(|text| Ok(parse_cgroup_mounts(&text)?));
        let note = match &mounts {
            Ok(mounts) => format!("read /proc/{}/mountinfo: {} cgroup mounts", self.pid, mounts.len()),
            Err(fault) => crate::error::fault_text(fault).to_owned(),
        };
        (Told::CgroupMounts(mounts), note)
    }

    fn credentials(&mut self) -> (Told, String) {
        let credentials = match self.process() {
            Ok(Some(process)) => match process.credentials() {
                Ok(credentials) => Ok(Some(credentials)),
                Err(error) => Error::unless_gone(self.pid, "status", &error).map(|()| None).map_err(Fault::from),
            },
            Ok(None) => Ok(None),
            Err(fault) => Err(fault),
        };
        let note = match &credentials {
            Ok(Some(_)) => format!("read /proc/{}/status", self.pid),
            Ok(None) => format!("process {} is gone", self.pid),
            Err(fault) => crate::error::fault_text(fault).to_owned(),
        };
        (Told::Credentials(credentials), note)
    }

    /// A claim's id, and the process and its cgroups that the claim is checked with. An error is the answer already: clause a does
    /// not hold, the policy claims too much, or the process is gone or cannot be read.
    fn claimed(&mut self, claim: &str) -> Result<(ContainerId, Arc<dyn Process>, Arc<[u8]>), Answered> {
        let asked = self.asked.iter().filter(|asked| matches!(asked.import, Import::Container(..))).count();
        if asked >= limits::CONTAINERS_ASKED {
            let reason = format!("a policy may ask for {} containers", limits::CONTAINERS_ASKED);
            return Err((Told::Container(Err(Fault::Policy(reason.clone()))), reason).into());
        }
        let id = ContainerId::parse(claim).map_err(|reason| self.not_proven(&reason, "nothing was asked"))?;
        match (self.process(), self.cgroup()) {
            (Ok(Some(process)), Ok(cgroup)) if !cgroup.is_empty() => Ok((id, process, cgroup)),
            (Ok(_), Ok(_)) => Err((Told::Container(Ok(None)), format!("process {} is gone", self.pid)).into()),
            (Err(fault), _) | (_, Err(fault)) => {
                let note = crate::error::fault_text(&fault).to_owned();
                Err((Told::Container(Err(fault)), note).into())
            }
        }
    }

    fn claim<'a>(&self, id: &'a ContainerId, process: &'a dyn Process, cgroup: &'a [u8]) -> Claim<'a> {
        Claim { id, process, cgroup, since: self.started.into_std() }
    }

    /// What the policy is told of a claim, and the note for `explain`.
    fn decided(&self, id: &ContainerId, Checked { source, outcome }: Checked) -> Answered {
        let nothing = |note: &str| (Told::Container(Ok(None)), format!("{source}: {note}")).into();
        match outcome {
            Outcome::Proven { container, init_pid } => {
                let note = format!("{source}; proven against init process {init_pid}");
                (Told::Container(Ok(Some(container))), note).into()
            }
            Outcome::TooLarge(too_large) => {
                let text = format!("container {id}: {too_large}");
                (Told::Container(Err(Fault::Malformed(text.clone()))), text).into()
            }
            Outcome::Unknown => nothing("it knows no such container"),
            Outcome::NotRunning => nothing("the container does not run"),
            Outcome::NotProven(reason) => self.not_proven(&reason, &source.to_string()),
        }
    }

    fn not_proven(&self, reason: &NotProven, source: &str) -> Answered {
        let text = reason.to_string();
        self.warn(&text);
        let note = format!("{source}: {text}");
        Answered { told: Told::Container(Ok(None)), note, not_proven: Some(reason.clause) }
    }

    fn warn(&self, reason: &str) {
        if let Some(dropped) = self.machine.warnings.admit() {
            tracing::warn!(pid = %self.pid, reason, dropped = %dropped, "a claimed container was not handed out");
        }
    }
}

/// The name of an engine as an operator knows it.
pub fn engine_name(engine: &Engine) -> &'static str {
    match engine {
        Engine::Docker => "docker",
        Engine::Podman => "podman",
        Engine::RootlessPodman(_) => "rootless podman",
    }
}
