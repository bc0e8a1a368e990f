//! The container engine: the WIT interface `docker`. A container is asked for once, kept with the init process that the
//! engine's answer belongs to, and proven afresh for each attestation.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bounded::lanes::{Full, Lanes};
use bounded::single_flight::SingleFlight;
use tokio::sync::Notify;

use super::process::{Process, Processes};
use super::proof::{Clause, ContainerId, Init, InitError, NotProven, ProofContext, Proven};
pub use crate::bindings::docker_attestor::policy::docker::ProvenContainer as Container;
use crate::bindings::docker_attestor::policy::types::Fault;
use crate::containers::claimant::Claimant;
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
#[derive(Clone)]
pub struct Inspected {
    /// The facts, if the container is the workload's.
    pub container: Container,
    /// `State.Pid`: the init process, 0 when none runs.
    pub pid: i32,
    /// `HostConfig.PidMode`.
    pub pid_mode: String,
    /// `HostConfig.CgroupParent`.
    pub cgroup_parent: String,
    /// The engine's process.
    pub engine: Peer,
}

/// The process at the other end of the engine's socket.
#[derive(Clone, Default)]
pub struct Peer {
    /// Its effective uid.
    pub uid: u32,
    /// The process, held by a pidfd; `None` where the kernel shows none of ours: TCP, or a process that ended.
    pub process: Option<Arc<dyn Process>>,
}

/// A container that runs, as the engine described it, and the init process that the description belongs to.
pub struct RunningContainer {
    pub(super) id: ContainerId,
    pub(super) container: Result<Arc<Container>, TooLarge>,
    pub(super) init: Init,
    pub(super) context: ProofContext,
    pub(super) fetched: Instant,
}

impl RunningContainer {
    /// Proves that the process, whose /proc/PID/cgroup is `cgroup`, is in this container.
    pub fn prove(&self, process: &dyn Process, cgroup: &[u8]) -> Result<Result<Proven, TooLarge>, NotProven> {
        super::proof::prove(self, process, cgroup)
    }

    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The pid of the container's init process.
    pub fn init_pid(&self) -> i32 {
        self.init.pid()
    }

    /// When the engine was asked.
    pub fn fetched(&self) -> Instant {
        self.fetched
    }

    /// Bytes that it holds.
    fn bytes(&self) -> usize {
        self.container.as_ref().map_or(0, |container| bytes(container))
    }
}

/// A container with more labels and env values than the selectors of an answer may be. None of them reaches a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has {labels} labels and {env} env values of {bytes} bytes in all: an answer may have {} selectors of {} bytes in all; \
     start it with fewer",
    limits::SELECTORS,
    limits::SELECTORS_TOTAL
)]
pub struct TooLarge {
    /// How many labels.
    pub labels: usize,
    /// How many env values.
    pub env: usize,
    /// Bytes of both.
    pub bytes: usize,
}

impl TooLarge {
    /// Counts what may reach a policy.
    fn check(container: &Container) -> Result<(), TooLarge> {
        let Container { labels, env, .. } = container;
        let of_labels: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        let of_env: usize = env.iter().map(String::len).sum();
        let counted = TooLarge { labels: labels.len(), env: env.len(), bytes: of_labels + of_env };
        match counted.labels + counted.env > limits::SELECTORS || counted.bytes > limits::SELECTORS_TOTAL {
            true => Err(counted),
            false => Ok(()),
        }
    }
}

/// Bytes of memory that the facts of a container take, near enough.
pub fn bytes(container: &Container) -> usize {
    let Container { id, labels, env, image, image_id, image_manifest_digest } = container;
    let text = |text: &String| size_of::<String>() + text.capacity();
    text(id)
        + labels.iter().map(|(key, value)| text(key) + text(value)).sum::<usize>()
        + env.iter().map(text).sum::<usize>()
        + text(image)
        + image_id.as_ref().map_or(0, text)
        + image_manifest_digest.as_ref().map_or(0, text)
}

/// What is known of a container id.
#[derive(Clone)]
pub enum Lookup {
    /// The container runs.
    Running(Arc<RunningContainer>),
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
    context: ProofContext,
    cache: Mutex<Cache>,
    /// Fetches in flight: the engine is asked once for all processes of a claimant that claim the same container. (Not for all
    /// claimants: one must never wait in the lane of another.)
    lookups: SingleFlight<(ContainerId, Claimant), Result<Lookup, Fault>>,
    /// The same for the repo digests of images.
    images: SingleFlight<String, Result<Arc<[String]>, Fault>>,
    calls: Lanes<Claimant>,
    /// Calls that ask again for what is in the cache.
    reasks: Lanes<Claimant>,
    /// Told when an answer is used that is due to be asked for again.
    due: Notify,
    /// The user of the engine's process, as it was seen last.
    engine_uid: AtomicU32,
}

#[derive(Default)]
struct Cache {
    running: HashMap<ContainerId, CachedContainer>,
    /// Bytes that all of them hold.
    bytes: usize,
    /// Ids that the engine did not know, and when it said so.
    unknown: HashMap<ContainerId, Instant>,
    /// Claimants whose last claim the engine did not know, and when it said so.
    throttled: HashMap<Claimant, Instant>,
    /// The repo digests of images, and since when. An empty list is never kept.
    images: HashMap<String, (Arc<[String]>, Instant)>,
    /// When expired entries were last dropped.
    swept: Option<Instant>,
}

struct CachedContainer {
    container: Arc<RunningContainer>,
    /// When the engine was last asked, also where it did not answer.
    asked: Instant,
    /// Whether it was used since then.
    used: bool,
}

impl Cache {
    fn is_sweep_due(&self, now: Instant) -> bool {
        self.swept.is_none_or(|swept| now.duration_since(swept) >= limits::CONTAINER_SWEEP)
    }

    /// Drops expired entries, and containers whose init process has ended: they hold descriptors.
    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        self.running.retain(|_, cached| cached.container.init.alive());
        self.bytes = self.running.values().map(|cached| cached.container.bytes()).sum();
        self.unknown.retain(|_, since| now.duration_since(*since) < limits::UNKNOWN_TTL);
        self.throttled.retain(|_, since| now.duration_since(*since) < limits::THROTTLED_TTL);
        self.images.retain(|_, (_, since)| now.duration_since(*since) < limits::REPO_DIGESTS_TTL);
    }

    /// Keeps what the engine said of an id, and drops what it said before; `fetched` is when it was asked. An answer that lives is
    /// never evicted for another id's: where the cache is full, the new one is asked for each time.
    fn keep(&mut self, id: &ContainerId, lookup: &Lookup, fetched: Instant, claimant: Claimant) {
        let now = Instant::now();
        if self.running.get(id).is_some_and(|cached| cached.container.fetched > fetched) {
            // A reply that was long on its way says less than what came after it.
            return;
        }
        match lookup {
            Lookup::Running(container) => {
                self.remove(id);
                let fits = |cache: &Cache| {
                    cache.running.len() < limits::CONTAINERS_CACHED
                        && cache.bytes + container.bytes() <= limits::CONTAINERS_CACHED_BYTES
                };
                if !fits(self) && self.is_sweep_due(now) {
                    self.sweep(now);
                }
                if fits(self) {
                    self.bytes += container.bytes();
                    let cached = CachedContainer { container: Arc::clone(container), asked: now, used: false };
                    self.running.insert(id.clone(), cached);
                }
            }
            Lookup::Unknown => {
                self.remove(id);
                insert_bounded(&mut self.unknown, id.clone(), now);
                if claimant != Claimant::Attestor {
                    insert_bounded(&mut self.throttled, claimant, now);
                }
            }
            Lookup::NotRunning | Lookup::NotProven(_) => self.remove(id),
        }
    }

    fn remove(&mut self, id: &ContainerId) {
        if let Some(removed) = self.running.remove(id) {
            self.bytes -= removed.container.bytes();
        }
        self.unknown.remove(id);
    }
}

/// Inserts a key with its time; in a full table the oldest goes.
fn insert_bounded<K: Clone + Eq + Hash>(table: &mut HashMap<K, Instant>, key: K, now: Instant) {
    if table.len() >= limits::UNKNOWN_CACHED && !table.contains_key(&key) {
        let oldest = table.iter().min_by_key(|(_, since)| **since).map(|(key, _)| key.clone());
        oldest.and_then(|oldest| table.remove(&oldest));
    }
    table.insert(key, now);
}

impl Containers {
    /// The containers of `engine`, whose pids are those of `processes`.
    pub fn new(engine: Box<dyn Engine>, processes: Arc<dyn Processes>, context: ProofContext) -> Containers {
        Containers {
            engine,
            processes,
            context,
            cache: Mutex::default(),
            lookups: SingleFlight::default(),
            images: SingleFlight::default(),
            calls: Lanes::new(limits::ENGINE_CALLS, limits::ENGINE_WAITERS),
            reasks: Lanes::new(limits::REASKS, limits::REASK_WAITERS),
            due: Notify::new(),
            engine_uid: AtomicU32::new(0),
        }
    }

    /// The user of the engine's process, as it was seen last; root before.
    pub fn engine_uid(&self) -> u32 {
        self.engine_uid.load(Ordering::Relaxed)
    }

    /// What is known without asking the engine: a container whose init process still lives, or that the engine did not know the
    /// id a moment ago. Does not wait.
    pub fn cached(&self, id: &ContainerId) -> Option<Lookup> {
        let now = Instant::now();
        let container = {
            let mut cache = self.cache();
            let Some(cached) = cache.running.get_mut(id) else {
                let since = cache.unknown.get(id)?;
                return (now.duration_since(*since) < limits::UNKNOWN_TTL).then_some(Lookup::Unknown);
            };
            cached.used = true;
            if now.duration_since(cached.asked) >= limits::CONTAINER_REASK {
                self.due.notify_one();
            }
            Arc::clone(&cached.container)
        };
        container.init.alive().then_some(Lookup::Running(container))
    }

    /// Asks the engine, once for all processes of the claimant that ask at the same time.
    pub async fn fetch(&self, id: &ContainerId, claimant: Claimant) -> Result<Lookup, Fault> {
        let place = self.calls.enter(claimant).map_err(waiting)?;
        self.lookups
            .run(&(id.clone(), claimant), || async {
                let throttled = || {
                    let cache = self.cache();
                    cache.throttled.get(&claimant).is_some_and(|since| since.elapsed() < limits::THROTTLED_TTL)
                };
                let _turn = place.turn(throttled).await;
                // Another claimant's fetch may have ended meanwhile.
                match self.cached(id) {
                    Some(known) => Ok(known),
                    None => self.ask(id, claimant).await,
                }
            })
            .await
    }

    /// Asks the engine again for a container that is in the cache, past the cache: a claimant could not be proven to be in it, or a
    /// minute is over. What the engine says is kept at once.
    ///
    /// # Errors
    /// The engine's, or too many ask already. What is in the cache stays.
    pub async fn reask(&self, doubtful: &RunningContainer, claimant: Claimant) -> Result<Lookup, Fault> {
        let place = self.reasks.enter(claimant).map_err(waiting)?;
        let _turn = place.turn(|| false).await;
        // Another caller may have asked since.
        let cached = self.cache().running.get(&doubtful.id).map(|cached| Arc::clone(&cached.container));
        match cached.filter(|cached| cached.fetched > doubtful.fetched && cached.init.alive()) {
            Some(newer) => Ok(Lookup::Running(newer)),
            None => self.ask(&doubtful.id, claimant).await,
        }
    }

    /// The repo digests of an image, if the engine was asked a moment ago.
    pub fn cached_repo_digests(&self, image: &str) -> Option<Arc<[String]>> {
        let cache = self.cache();
        let (digests, since) = cache.images.get(image)?;
        (since.elapsed() < limits::REPO_DIGESTS_TTL).then(|| Arc::clone(digests))
    }

    /// The repo digests of an image, asked for once for all who ask at the same time.
    pub async fn repo_digests(&self, image: &str, claimant: Claimant) -> Result<Arc<[String]>, Fault> {
        let _waiting = self.calls.enter(claimant).map_err(waiting)?;
        self.images.run(&image.to_owned(), || self.ask_repo_digests(image)).await
    }

    async fn ask_repo_digests(&self, image: &str) -> Result<Arc<[String]>, Fault> {
        if let Some(cached) = self.cached_repo_digests(image) {
            return Ok(cached);
        }
        let digests: Arc<[String]> = {
            // In no claimant's lane: others wait for the same answer.
            let place = self.calls.enter(Claimant::Attestor).map_err(waiting)?;
            let _turn = place.turn(|| false).await;
            Arc::from(self.engine.repo_digests(image).await?)
        };
        let mut cache = self.cache();
        if cache.images.len() >= limits::REPO_DIGESTS_KEPT {
            cache.sweep(Instant::now());
        }
        if !digests.is_empty() && cache.images.len() < limits::REPO_DIGESTS_KEPT {
            cache.images.insert(image.to_owned(), (Arc::clone(&digests), Instant::now()));
        }
        Ok(digests)
    }

    /// Keeps the cache true for as long as somebody has the containers: drops containers that are gone, and asks again, once a
    /// minute, for those that are used. (Whether an init process lives is asked of the kernel at every use. What this asks is
    /// whether the engine still says the same: a wrong answer that is never doubted would stay.)
    pub async fn maintain(containers: Weak<Containers>) {
        loop {
            let Some(this) = containers.upgrade() else { return };
            let _ = tokio::time::timeout(limits::CONTAINER_SWEEP, this.due.notified()).await;
            let now = Instant::now();
            let due: Vec<Arc<RunningContainer>> = {
                let mut cache = this.cache();
                if cache.is_sweep_due(now) {
                    cache.sweep(now);
                }
                let is_due = |cached: &&CachedContainer| {
                    cached.used && now.duration_since(cached.asked) >= limits::CONTAINER_REASK
                };
                cache.running.values().filter(is_due).map(|cached| Arc::clone(&cached.container)).collect()
            };
            let mut failed = 0;
            for container in due {
                if let Some(cached) = this.cache().running.get_mut(&container.id) {
                    (cached.used, cached.asked) = (false, Instant::now());
                }
                match this.reask(&container, Claimant::Attestor).await {
                    Ok(lookup) => {
                        failed = 0;
                        if let Lookup::NotProven(reason) = lookup {
                            tracing::warn!("{reason}: this was proven before");
                        }
                    }
                    Err(_) => failed += 1,
                }
                // The engine is unreachable. (One container's failure is no reason to leave the others.)
                if failed == 3 {
                    tokio::time::sleep(limits::CONTAINER_SWEEP).await;
                    break;
                }
            }
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and keeps what the engine says.
    async fn ask(&self, id: &ContainerId, claimant: Claimant) -> Result<Lookup, Fault> {
        let fetched = Instant::now();
        let lookup = self.inspect_and_find_init(id, fetched).await?;
        self.cache().keep(id, &lookup, fetched, claimant);
        Ok(lookup)
    }

    /// `fetched` is when this began.
    async fn inspect_and_find_init(&self, id: &ContainerId, fetched: Instant) -> Result<Lookup, Fault> {
        for pause in [Some(20), Some(50), None] {
            let asked_at = self.processes.now().map_err(|error| unreadable(&error))?;
            let Some(inspected) = self.engine.inspect(id).await? else {
                return Ok(Lookup::Unknown);
            };
            if inspected.container.id != id.as_str() {
                return Ok(Lookup::NotProven(NotProven {
                    clause: Clause::Id,
                    seen: format!("asked for container {id}, the engine answered with another id"),
                    remedy: "look at what listens on the engine's socket",
                }));
            }
            if inspected.pid <= 0 {
                return Ok(Lookup::NotRunning);
            }
            self.engine_uid.store(inspected.engine.uid, Ordering::Relaxed);
            match Init::find(&*self.processes, id, &inspected, asked_at, self.context) {
                Err(InitError::NotProven(not_proven)) => return Ok(Lookup::NotProven(not_proven)),
                Err(error @ InitError::Unreadable(_)) => return Err(unreadable(&error)),
                Ok(Some(init)) => {
                    let container = self.shared(id, inspected.container);
                    let context = self.context;
                    let running = RunningContainer { id: id.clone(), container, init, context, fetched };
                    return Ok(Lookup::Running(Arc::new(running)));
                }
                // Init started or ended while the engine was asked: ask again.
                Ok(None) => match pause {
                    Some(pause) => tokio::time::sleep(Duration::from_millis(pause)).await,
                    None => break,
                },
            }
        }
        Ok(Lookup::NotProven(NotProven {
            clause: Clause::Init,
            seen: format!("the engine says that container {id} runs, but its init process is not there"),
            remedy: "if it does not pass, restart the container: the engine lost track of it",
        }))
    }

    /// The facts, shared with the cached ones if they are equal: answers that are used again compare them by address first.
    fn shared(&self, id: &ContainerId, container: Container) -> Result<Arc<Container>, TooLarge> {
        TooLarge::check(&container)?;
        let cached = self.cache().running.get(id).and_then(|cached| cached.container.container.clone().ok());
        Ok(cached.filter(|cached| **cached == container).unwrap_or_else(|| Arc::new(container)))
    }
}

/// The fault for processes that could not be read: transient, and no proof of anything.
fn unreadable(error: &dyn std::error::Error) -> Fault {
    Fault::Unavailable(format!("this machine's processes: {error}"))
}

fn waiting(full: Full) -> Fault {
    Fault::Exhausted(format!("{full} for the container engine: is it hanging?"))
}
