//! The container engine: the WIT interface `docker`. Answers are fetched once, kept with the init process they belong to,
//! and proven afresh for each attestation.

pub mod client;
pub mod proof;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};

use self::proof::{ContainerId, Init, InitClaim, NotProven, Proven, Rights};
use super::process::{Process, Processes};
pub use crate::bindings::docker_attestor::policy::docker::ProvenContainer as Container;
use crate::bindings::docker_attestor::policy::types::Fault;
use crate::limits;

/// A container engine. The only thing it is asked is one container, by its whole id.
pub trait Engine: Send + Sync {
    /// The container, or `None` when the engine does not know it.
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Inspecting<'a>;
}

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
    /// The engine does not know the container, or it does not run.
    Unknown(&'static str),
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
    calls: Semaphore,
    waiting: AtomicUsize,
}

/// One fetch, and its outcome for all who wait for it.
type Flight = OnceCell<Result<Fetched, Fault>>;

#[derive(Default)]
struct Kept {
    answers: HashMap<ContainerId, (Arc<Answer>, u64)>,
    /// Counts uses: the answer with the smallest was used the longest ago.
    clock: u64,
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
            calls: Semaphore::new(limits::ENGINE_CALLS),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A kept answer whose init process still lives. Does not wait.
    pub fn kept(&self, id: &ContainerId) -> Option<Arc<Answer>> {
        let answer = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.clock += 1;
            let now = kept.clock;
            let (answer, used) = kept.answers.get_mut(id)?;
            *used = now;
            Arc::clone(answer)
        };
        if answer.init.alive() {
            return Some(answer);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.answers.get(id).is_some_and(|(other, _)| Arc::ptr_eq(other, &answer)) {
            kept.answers.remove(id);
        }
        None
    }

    /// Asks the engine, once for all who ask at the same time.
    pub async fn fetch(&self, id: &ContainerId) -> Result<Fetched, Fault> {
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= limits::ENGINE_WAITERS {
            return Err(Fault::Exhausted(format!(
                "{} attestations are waiting for the container engine already: is it hanging?",
                limits::ENGINE_WAITERS
            )));
        }
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(flights.entry(id.clone()).or_default())
        };
        // If the caller that asks the engine is cancelled, the next waiter asks.
        let outcome = flight.get_or_init(|| self.ask(id)).await.clone();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(id).is_some_and(|other| Arc::ptr_eq(other, &flight)) {
            flights.remove(id);
        }
        outcome
    }

    async fn ask(&self, id: &ContainerId) -> Result<Fetched, Fault> {
        let Ok(_call) = self.calls.acquire().await else { return Ok(Fetched::Unknown("the engine is closed")) };
        for pause in [Some(20), Some(50), None] {
            let asked_at = self.processes.now();
            let Some(inspected) = self.engine.inspect(id).await? else {
                return Ok(Fetched::Unknown("the engine knows no such container"));
            };
            if inspected.container.id != id.as_str() {
                return Ok(Fetched::NotProven(NotProven {
                    clause: 'a',
                    seen: format!("asked for container {id}, the engine answered with another id"),
                    remedy: "look at what listens on the engine's socket",
                }));
            }
            if inspected.pid <= 0 {
                return Ok(Fetched::Unknown("the container does not run"));
            }
            let rights = Rights { namespaces: self.namespaces, engine_uid: inspected.engine_uid };
            let claim = InitClaim { pid: inspected.pid, pid_mode: &inspected.pid_mode, asked_at };
            match Init::find(&*self.processes, id, &claim, rights) {
                Err(not_proven) => return Ok(Fetched::NotProven(not_proven)),
                Ok(Some(init)) => {
                    let answer =
                        Arc::new(Answer { id: id.clone(), container: Arc::new(inspected.container), init, rights });
                    self.keep(&answer);
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

    fn keep(&self, answer: &Arc<Answer>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.answers.len() >= limits::CONTAINERS_KEPT {
            let oldest = kept.answers.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                kept.answers.remove(&oldest);
            }
        }
        kept.clock += 1;
        let now = kept.clock;
        kept.answers.insert(answer.id.clone(), (Arc::clone(answer), now));
    }
}

/// Counts a waiter for as long as it waits, also when it is cancelled.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Waiting<'a> {
        Waiting { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
