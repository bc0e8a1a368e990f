//! One process under attestation: the answers to a policy's questions about it. One file for each interface of the contract.
//!
//! A question is answered without waiting by [`Workload::answer`], or its answer is fetched by [`Workload::fetch`] outside the
//! sandbox. Every answer is added to the [`Transcript`], which is what an answer of the policy depends on.

pub mod decision;
mod docker;
mod imports;
mod job_objects;
mod process;
pub mod question;
mod sigstore;
pub mod transcript;
pub mod values;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bounded::lanes::Lanes;
use bounded::warnings::Warnings;
use containers::process::{Evidence, Process, Processes, System};
use containers::{Claimant, Clause, Containers};
use sandbox::wit::Engine;
use sandbox::{Fault, FaultKind, Usage};

use self::decision::SignedImages;
pub use self::question::Question;
pub use self::transcript::{Answer, Exchange, Note, Transcript};
use crate::limits;
use crate::telemetry::metrics::{Metrics, Queue};

/// What the answers of one configuration come from.
pub struct Backends {
    /// The machine's processes.
    pub processes: Arc<dyn Processes>,
    /// The containers of the Docker engine.
    pub docker: Arc<Containers>,
    /// Decides on images, if the configuration says so.
    pub sigstore: Option<Arc<SignedImages>>,
    /// The lanes of attestations that wait for a verification.
    pub verifications: Lanes<Claimant>,
    /// Log the cgroup and mountinfo lines at debug (`verbose_container_locator_logs`).
    pub verbose: bool,
    /// The names of the configured extensions. No policy may emit under them.
    pub extensions: Vec<String>,
    /// Bounds the warnings that workloads can cause.
    pub warnings: Warnings,
    /// Counts what workloads come to.
    pub metrics: Metrics,
}

impl Backends {
    /// Backends with these processes and containers, and nothing else configured.
    pub fn new(processes: Arc<dyn Processes>, docker: Arc<Containers>) -> Backends {
        Backends::with_metrics(processes, docker, Metrics::disabled())
    }

    /// The same, with metrics.
    pub fn with_metrics(processes: Arc<dyn Processes>, docker: Arc<Containers>, metrics: Metrics) -> Backends {
        let counting = metrics.clone();
        Backends {
            processes,
            docker,
            sigstore: None,
            verifications: Lanes::new(1, limits::VERIFY_WAITERS)
                .with_observer(move |full| counting.full(Queue::Verifications, full)),
            verbose: false,
            extensions: Vec::new(),
            warnings: Warnings::default(),
            metrics,
        }
    }
}

/// An answer, with its notes for the transcript.
#[derive(Clone)]
struct Found {
    answer: Result<Answer, Fault>,
    note: Note,
    not_proven: Option<Clause>,
}

impl Found {
    fn new(answer: Answer, note: impl Into<Note>) -> Found {
        Found { answer: Ok(answer), note: note.into(), not_proven: None }
    }
}

/// A fault is its own note.
impl From<Fault> for Found {
    fn from(fault: Fault) -> Found {
        Found { note: fault.text.clone().into(), answer: Err(fault), not_proven: None }
    }
}

/// The process that is attested.
#[derive(Clone)]
enum Opened {
    NotYet,
    Gone,
    /// Every read goes to this very process.
    Process(Arc<dyn Process>),
}

/// What the operating system shows of the container that the process is in, and what was read for it.
struct Read {
    evidence: Evidence,
    note: Note,
}

/// One process under attestation.
pub struct Workload {
    backends: Arc<Backends>,
    pid: i32,
    process: Opened,
    /// Read once: the proof holds against the same evidence that the policy claims from.
    evidence: Option<Result<Read, Fault>>,
    transcript: Transcript,
    /// The answer to a question that the policy has not asked yet.
    anticipated: Option<Anticipated>,
    /// What the runs of the policy used.
    usage: Usage,
    started: tokio::time::Instant,
}

/// What was fetched because a policy is likely to ask for it. It becomes a part of the transcript when the policy does.
#[derive(Clone)]
struct Anticipated {
    question: Question,
    found: Found,
    elapsed: Duration,
}

impl Workload {
    /// The workload with this pid.
    pub fn new(backends: Arc<Backends>, pid: i32) -> Workload {
        let started = tokio::time::Instant::now();
        Workload {
            backends,
            pid,
            process: Opened::NotYet,
            evidence: None,
            transcript: Transcript::default(),
            anticipated: None,
            usage: Usage::default(),
            started,
        }
    }

    /// A workload that was recorded. To every question that its transcript does not answer it is a process that is gone.
    pub fn recorded(backends: Arc<Backends>, transcript: Transcript) -> Workload {
        Workload { transcript, process: Opened::Gone, ..Workload::new(backends, i32::MAX) }
    }

    /// Counts what a run of the policy used: the fuel of all runs, and the most memory of one.
    pub fn add_usage(&mut self, Usage { fuel, memory }: Usage) {
        self.usage = Usage { fuel: self.usage.fuel + fuel, memory: self.usage.memory.max(memory) };
    }

    /// What the runs of the policy used.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The names of the configured extensions.
    pub fn extensions(&self) -> &[String] {
        &self.backends.extensions
    }

    /// Every question so far, with its answer.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Every question, with its answer.
    pub fn into_transcript(self) -> Transcript {
        self.transcript
    }

    /// Answers a question without waiting. `None`: the answer must be fetched first.
    pub fn answer(&mut self, question: &Question) -> Option<&Result<Answer, Fault>> {
        // (Found twice because a borrow that is returned on one path lasts over all of them.)
        if self.transcript.answer(question).is_some() {
            return self.transcript.answer(question);
        }
        if self.transcript.claims() < limits::CONTAINERS_ASKED
            && let Some(Anticipated { question, found, elapsed }) =
                self.anticipated.take_if(|next| next.question == *question)
        {
            return Some(self.add(question, found, elapsed));
        }
        let started = Instant::now();
        let found = match question {
            Question::Cgroups => self.cgroups(),
            Question::CgroupMounts => self.cgroup_mounts(),
            Question::JobObjectNames => self.job_object_names(),
            Question::Container(Engine::Docker, claim) => self.cached_container(claim)?,
            Question::Container(engine, _) => docker::not_configured(engine),
            Question::Verify => self.cached_decision()?,
            Question::Credentials => self.credentials(),
        };
        Some(self.add(question.clone(), found, started.elapsed()))
    }

    /// Fetches the container whose id stands in the evidence before a policy asks for it, and returns the question that is thereby
    /// answered. A policy that asks this question need not run twice. Returns `None` if not exactly one id stands there, or if the
    /// container is cached.
    pub async fn anticipate(&mut self) -> Option<Question> {
        let started = Instant::now();
        let id = self.only_id()?;
        if self.backends.docker.cached(&id).is_some() {
            return None;
        }
        let found = self.fetch_container(id.as_str()).await;
        let question = Question::Container(Engine::Docker, id.as_str().to_owned());
        self.anticipated = Some(Anticipated { question: question.clone(), found, elapsed: started.elapsed() });
        Some(question)
    }

    /// Fetches the answer to a question that [`Workload::answer`] left open.
    pub async fn fetch(&mut self, question: Question) {
        let started = Instant::now();
        let found = match &question {
            Question::Container(Engine::Docker, claim) => self.fetch_container(claim).await,
            Question::Verify => self.fetch_decision().await,
            _ => return,
        };
        self.add(question, found, started.elapsed());
    }

    /// Answers a question that was not recorded, without asking the machine.
    pub fn answer_unrecorded(&mut self, question: Question) {
        let note = "not recorded";
        let found = match &question {
            Question::Verify => Fault::new(FaultKind::NotConfigured, note).into(),
            _ => Found::new(Answer::Container(None), note),
        };
        self.add(question, found, Duration::ZERO);
    }

    /// The operating system of the process's machine.
    pub fn system(&self) -> System {
        self.backends.processes.system()
    }

    /// What the operating system shows, read once. Empty when the process is gone.
    fn evidence(&mut self) -> Result<&Read, Fault> {
        let read = match (self.evidence.take(), self.system()) {
            (Some(read), _) => read,
            (None, System::Linux) => self.cgroup_text(),
            (None, System::Windows) => self.job_objects(),
        };
        self.evidence.insert(read).as_ref().map_err(Fault::clone)
    }

    fn add(&mut self, question: Question, found: Found, elapsed: Duration) -> &Result<Answer, Fault> {
        let Found { answer, note, not_proven } = found;
        if let Some(clause) = not_proven {
            self.backends.metrics.claim_not_proven(clause);
            if let Some(dropped) = self.backends.warnings.admit() {
                tracing::warn!(pid = %self.pid, reason = %note, dropped = %dropped, "a claimed container was not handed out");
            }
        }
        self.transcript.add(Exchange { question, answer, note, not_proven, elapsed })
    }

    /// Answers whose lane this process waits in, when it is called. It may outlive the workload.
    pub fn deferred_claimant(&self) -> impl FnOnce() -> Claimant + use<> {
        let (process, engine_uid) = (self.process.clone(), self.backends.docker.engine_uid());
        move || claimant(&process, engine_uid)
    }

    /// The claimant whose lane this process waits in.
    pub fn claimant(&mut self) -> Claimant {
        // A process that cannot be opened waits with all others of its kind.
        let _ = self.process();
        claimant(&self.process, self.backends.docker.engine_uid())
    }
}

fn claimant(process: &Opened, engine_uid: u32) -> Claimant {
    match process {
        Opened::Process(process) => Claimant::of(&**process, engine_uid),
        Opened::NotYet | Opened::Gone => Claimant::User(u32::MAX),
    }
}
