//! The container engine: the WIT interface `docker`. Answers are fetched once, kept with the init process they belong to,
//! and proven afresh for each attestation.

pub mod client;
pub mod proof;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use self::proof::{ContainerId, Init, InitClaim, NotProven, Proven, Rights};
use super::Waiting;
use super::process::{Process, Processes};
pub use crate::bindings::docker_attestor::policy::docker::ProvenContainer as Container;
use crate::bindings::docker_attestor::policy::types::Fault;
use crate::limits;

/// A container engine. It is asked about one container or one image, by its whole id.
pub trait Engine: Send + Sync {
    /// The container, or `None` when the engine does not know it.
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Inspecting<'a>;

    /// The repo digests (`repository@sha256:…`) of the image with this id; none when it was never pushed or pulled.
    fn repo_digests<'a>(&'a self, image: &'a str) -> Finding<'a>;
}

/// What [`Engine::repo_digests`] answers, later.
pub type Finding<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, Fault>> + Send + 'a>>;

/// What [`Engine::inspect`] answers, later.
pub type Inspecting<'a> = Pin<Box<dyn Future<Output = Result<Option<Inspected>, Fault>> + Send + 'a>>;

/// What an engine says of a container. Nothing of it is proven.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The facts, if the container is the workload's.
    pub container: Container,
    /// `State.Pid`: the init process, 0 when none runs.
    pub pid: i32,
    /// `HostConfig.PidMode`.
    pub pid_mode: String,
    /// The uid of the engine's process.
    pub engine_uid: u32,
}

/// An engine's answer, and the init process it belongs to.
pub struct Answer {
    id: ContainerId,
    container: Arc<Container>,
    init: Init,
    rights: Rights,
}

impl Answer {
    /// Proves that the process, whose /proc/PID/cgroup is `cgroup`, is in this container.
    pub fn prove(&self, process: &dyn Process, cgroup: &[u8]) -> Result<Proven, NotProven> {
        proof::prove(self, process, cgroup, self.rights)
    }

    /// The pid of the container's init process.
    pub fn init_pid(&self) -> i32 {
        self.init.pid()
    }
}

/// What fetching a container came to.
#[derive(Clone)]
pub enum Fetched {
    /// The answer, kept from now on.
    Answer(Arc<Answer>),
    /// The engine does not know the container.
    Unknown,
    /// The container does not run.
    NotRunning,
    /// The engine's answer does not hold against this machine's processes.
    NotProven(NotProven),
}

/// The containers of one engine.
pub struct Containers {
    engine: Box<dyn Engine>,
    processes: Arc<dyn Processes>,
    /// Whether we may read other users' namespaces; see [`Rights::namespaces`].
    namespaces: bool,
    kept: Mutex<Kept>,
    /// Fetches in flight: however many ask for a container, the engine is asked once.
    flights: Mutex<HashMap<ContainerId, Arc<Flight>>>,
    /// The same for the repo digests of images.
    image_flights: Mutex<HashMap<String, Arc<ImageFlight>>>,
    calls: Semaphore,
    stranger_calls: Semaphore,
    waiting: AtomicUsize,
}

/// One fetch, and its outcome for all who wait for it.
type Flight = OnceCell<Result<Fetched, Fault>>;
type ImageFlight = OnceCell<Result<Arc<[String]>, Fault>>;

#[derive(Default)]
struct Kept {
    answers: HashMap<ContainerId, KeptAnswer>,
    /// Ids that the engine did not know, and since when.
    unknown: HashMap<ContainerId, Instant>,
    /// Users whose claim the engine did not know, and when that was.
    strangers: HashMap<u32, Instant>,
    /// The repo digests of images, and since when. An empty list is never kept.
    images: HashMap<String, (Arc<[String]>, Instant)>,
}

struct KeptAnswer {
    answer: Arc<Answer>,
    fetched: Instant,
    used: Instant,
}

impl Kept {
    /// Drops what is over: answers whose init process is gone hold descriptors.
    fn sweep(&mut self, now: Instant) {
        self.answers.retain(|_, kept| kept.answer.init.alive());
        self.unknown.retain(|_, since| now.duration_since(*since) < limits::UNKNOWN_TTL);
        self.strangers.retain(|_, since| now.duration_since(*since) < limits::STRANGER_TTL);
        self.images.retain(|_, (_, since)| now.duration_since(*since) < limits::REPO_DIGESTS_TTL);
    }

    fn keep(&mut self, answer: &Arc<Answer>, now: Instant) {
        if self.answers.len() >= limits::CONTAINERS_KEPT {
            self.sweep(now);
        }
        if self.answers.len() >= limits::CONTAINERS_KEPT {
            let oldest = self.answers.iter().min_by_key(|(_, kept)| kept.used).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| self.answers.remove(&oldest));
        }
        self.unknown.remove(&answer.id);
        self.answers.insert(answer.id.clone(), KeptAnswer { answer: Arc::clone(answer), fetched: now, used: now });
    }
}

impl Containers {
    /// The containers of `engine`, whose pids are those of `processes`.
    pub fn new(engine: Box<dyn Engine>, processes: Arc<dyn Processes>, namespaces: bool) -> Containers {
        Containers {
            engine,
            processes,
            namespaces,
            kept: Mutex::default(),
            flights: Mutex::default(),
            image_flights: Mutex::default(),
            calls: Semaphore::new(limits::ENGINE_CALLS),
            stranger_calls: Semaphore::new(limits::STRANGER_CALLS),
            waiting: AtomicUsize::new(0),
        }
    }

    /// What is known without asking the engine: an answer whose init process still lives, or that the engine did not know the id
    /// a moment ago. Does not wait.
    pub fn known(&self, id: &ContainerId) -> Option<Fetched> {
        let now = Instant::now();
        let answer = {
            let mut kept = self.kept();
            match kept.answers.get_mut(id) {
                Some(known) if now.duration_since(known.fetched) < limits::CONTAINER_TTL => {
                    known.used = now;
                    Arc::clone(&known.answer)
                }
                Some(_) => return None,
                None => {
                    let since = kept.unknown.get(id)?;
                    return (now.duration_since(*since) < limits::UNKNOWN_TTL).then_some(Fetched::Unknown);
                }
            }
        };
        answer.init.alive().then_some(Fetched::Answer(answer))
    }

    /// Asks the engine, once for all who ask at the same time. `claimant` is the uid of the process that claims the container.
    pub async fn fetch(&self, id: &ContainerId, claimant: u32) -> Result<Fetched, Fault> {
        let _waiting = self.wait()?;
        match once(&self.flights, id, || self.ask(id, claimant)).await {
            // The safety net is over, but the engine is away: what still proves is used.
            Err(fault) => match self.kept().answers.get(id) {
                Some(known) if known.answer.init.alive() => Ok(Fetched::Answer(Arc::clone(&known.answer))),
                _ => Err(fault),
            },
            outcome => outcome,
        }
    }

    /// Counts one more that waits for the engine.
    fn wait(&self) -> Result<Waiting<'_>, Fault> {
        let waiting = Waiting::new(&self.waiting);
        match waiting.before < limits::ENGINE_WAITERS {
            true => Ok(waiting),
            false => Err(Fault::Exhausted(format!(
                "{} attestations are waiting for the container engine already: is it hanging?",
                limits::ENGINE_WAITERS
            ))),
        }
    }

    /// The repo digests of an image, if the engine was asked a moment ago.
    pub fn known_repo_digests(&self, image: &str) -> Option<Arc<[String]>> {
        let kept = self.kept();
        let (digests, since) = kept.images.get(image)?;
        (since.elapsed() < limits::REPO_DIGESTS_TTL).then(|| Arc::clone(digests))
    }

    /// The repo digests of an image, asked for once for all who ask at the same time.
    pub async fn repo_digests(&self, image: &str) -> Result<Arc<[String]>, Fault> {
        let _waiting = self.wait()?;
        once(&self.image_flights, &image.to_owned(), || self.ask_repo_digests(image)).await
    }

    async fn ask_repo_digests(&self, image: &str) -> Result<Arc<[String]>, Fault> {
        if let Some(known) = self.known_repo_digests(image) {
            return Ok(known);
        }
        let digests: Arc<[String]> = {
            let _call = self.call().await?;
            Arc::from(self.engine.repo_digests(image).await?)
        };
        let mut kept = self.kept();
        if kept.images.len() >= limits::REPO_DIGESTS_KEPT {
            kept.sweep(Instant::now());
        }
        if !digests.is_empty() && kept.images.len() < limits::REPO_DIGESTS_KEPT {
            kept.images.insert(image.to_owned(), (Arc::clone(&digests), Instant::now()));
        }
        Ok(digests)
    }

    async fn call(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.calls.acquire().await.map_err(|_| Fault::Unavailable("the container engine is closed".to_owned()))
    }

    /// Drops the answers of containers that are gone, for as long as somebody has the containers. (Whether an init process lives
    /// is asked of the kernel at every use; this only gives back what is held of the dead.)
    pub async fn sweep(containers: Weak<Containers>) {
        loop {
            tokio::time::sleep(limits::CONTAINER_SWEEP).await;
            let Some(containers) = containers.upgrade() else { return };
            containers.kept().sweep(Instant::now());
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and remembers what came of it.
    async fn ask(&self, id: &ContainerId, claimant: u32) -> Result<Fetched, Fault> {
        // Another fetch may have ended between the caller's look and this flight's start.
        if let Some(known) = self.known(id) {
            return Ok(known);
        }
        let stranger = self.kept().strangers.get(&claimant).is_some_and(|since| since.elapsed() < limits::STRANGER_TTL);
        let closed = |_| Fault::Unavailable("the container engine is closed".to_owned());
        let _narrow = match stranger {
            true => Some(self.stranger_calls.acquire().await.map_err(closed)?),
            false => None,
        };
        let _call = self.call().await?;
        let outcome = self.inspect_and_find_init(id).await;
        let now = Instant::now();
        let mut kept = self.kept();
        match &outcome {
            Ok(Fetched::Answer(answer)) => kept.keep(answer, now),
            Ok(Fetched::Unknown) => {
                if kept.unknown.len() < limits::UNKNOWN_KEPT && kept.strangers.len() < limits::UNKNOWN_KEPT {
                    kept.unknown.insert(id.clone(), now);
                    kept.strangers.insert(claimant, now);
                }
            }
            Ok(Fetched::NotRunning | Fetched::NotProven(_)) | Err(_) => {}
        }
        outcome
    }

    async fn inspect_and_find_init(&self, id: &ContainerId) -> Result<Fetched, Fault> {
        for pause in [Some(20), Some(50), None] {
            let asked_at = self.processes.now();
            let Some(inspected) = self.engine.inspect(id).await? else {
                return Ok(Fetched::Unknown);
            };
            if inspected.container.id != id.as_str() {
                return Ok(Fetched::NotProven(NotProven {
                    clause: 'a',
                    seen: format!("asked for container {id}, the engine answered with another id"),
                    remedy: "look at what listens on the engine's socket",
                }));
            }
            if inspected.pid <= 0 {
                return Ok(Fetched::NotRunning);
            }
            let rights = Rights { namespaces: self.namespaces, engine_uid: inspected.engine_uid };
            let claim = InitClaim { pid: inspected.pid, pid_mode: &inspected.pid_mode, asked_at };
            match Init::find(&*self.processes, id, &claim, rights) {
                Err(not_proven) => return Ok(Fetched::NotProven(not_proven)),
                Ok(Some(init)) => {
                    let answer =
                        Arc::new(Answer { id: id.clone(), container: Arc::new(inspected.container), init, rights });
                    return Ok(Fetched::Answer(answer));
                }
                // Init started or ended while the engine was asked: ask again.
                Ok(None) => match pause {
                    Some(pause) => tokio::time::sleep(Duration::from_millis(pause)).await,
                    None => break,
                },
            }
        }
        Ok(Fetched::NotProven(NotProven {
            clause: 'c',
            seen: format!("the engine says that container {id} runs, but its init process is not there"),
            remedy: "if it does not pass, restart the container: the engine lost track of it",
        }))
    }
}

/// Does a piece of work once for all who ask for it at the same time. If the caller that does it is cancelled, the next does it.
async fn once<K, T, Work>(flights: &Mutex<HashMap<K, Arc<OnceCell<T>>>>, key: &K, work: impl FnOnce() -> Work) -> T
where
    K: Clone + Eq + std::hash::Hash,
    T: Clone,
    Work: Future<Output = T>,
{
    let lock = || flights.lock().unwrap_or_else(PoisonError::into_inner);
    let flight = Arc::clone(lock().entry(key.clone()).or_default());
    let outcome = flight.get_or_init(work).await.clone();
    let mut flights = lock();
    if flights.get(key).is_some_and(|other| Arc::ptr_eq(other, &flight)) {
        flights.remove(key);
    }
    outcome
}
