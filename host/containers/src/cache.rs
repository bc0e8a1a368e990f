//! The containers of one engine. The engine is asked once for each container, its answer is kept together with the init process
//! that the answer belongs to, and every claim is proven afresh against it.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bounded::lanes::{Full, Lanes};
use bounded::single_flight::SingleFlight;
use tokio::sync::Notify;

use crate::claimant::Claimant;
use crate::container::{Container, ContainerId, TooLarge};
use crate::engine::Engine;
use crate::error::Error;
use crate::limits;
use crate::process::{Evidence, Process, Processes};
use crate::proof::{Clause, Init, InitError, NotProven, ProofContext, Proven, RunningContainer};

/// What is known of a container id.
#[derive(Clone)]
pub enum Lookup {
    /// The container runs.
    Running(Arc<RunningContainer>),
    /// The engine does not know the container.
    Unknown,
    /// The container does not run.
    NotRunning,
    /// The engine's answer does not agree with this machine's processes.
    NotProven(NotProven),
}

/// A process that claims to be in a container.
#[derive(Clone)]
pub struct Claim {
    /// The container.
    pub id: ContainerId,
    /// The process.
    pub process: Arc<dyn Process>,
    /// What the operating system showed of the process, which the claim came from.
    pub evidence: Evidence,
    /// When the attestation began. An answer of the engine that is older may be out of date.
    pub since: Instant,
}

/// What became of a claim.
pub struct Checked {
    /// Where the engine's answer came from.
    pub source: Source,
    /// What the claim came to.
    pub outcome: Outcome,
}

/// Where the engine's answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The answer was cached.
    Cached,
    /// The engine was asked.
    Asked,
    /// The answer was cached, the claim failed against it, and the engine was asked again.
    AskedAgain,
    /// The same, but the engine could not be asked again.
    CouldNotAskAgain,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Source::Cached => "the engine's answer was cached",
            Source::Asked => "the engine was asked",
            Source::AskedAgain => "the engine was asked again",
            Source::CouldNotAskAgain => "the engine's answer was cached, and the engine could not be asked again",
        })
    }
}

/// What a claim came to.
pub enum Outcome {
    /// The process is in the container.
    Proven {
        /// The container.
        container: Proven,
        /// The pid of the container's init process.
        init_pid: i32,
    },
    /// The process is in the container, but the container has more than an answer may hold.
    TooLarge(TooLarge),
    /// The engine does not know the container.
    Unknown,
    /// The container does not run.
    NotRunning,
    /// A clause does not hold.
    NotProven(NotProven),
}

impl Lookup {
    fn judge(&self, claim: &Claim) -> Outcome {
        match self {
            Lookup::Unknown => Outcome::Unknown,
            Lookup::NotRunning => Outcome::NotRunning,
            Lookup::NotProven(reason) => Outcome::NotProven(reason.clone()),
            Lookup::Running(running) => match running.prove(&*claim.process, &claim.evidence) {
                Ok(Ok(container)) => Outcome::Proven { container, init_pid: running.init.pid() },
                Ok(Err(too_large)) => Outcome::TooLarge(too_large),
                Err(reason) => Outcome::NotProven(reason),
            },
        }
    }

    /// The container, if the claim's failure may mean that the cached answer is out of date: the answer is older than the
    /// attestation, and the claim failed in how the process relates to the container's init process.
    fn doubtful(&self, outcome: &Outcome, claim: &Claim) -> Option<&Arc<RunningContainer>> {
        match (self, outcome) {
            (Lookup::Running(running), Outcome::NotProven(reason))
                if matches!(reason.clause, Clause::Membership | Clause::PidNamespace)
                    && running.fetched < claim.since =>
            {
                Some(running)
            }
            _ => None,
        }
    }
}

/// The names of the queues of [`Containers`]: of calls that wait for the engine, and of calls that ask it again for what is cached.
pub const QUEUES: [&str; 2] = ["engine", "engine again"];

/// The containers of one engine.
pub struct Containers {
    engine: Arc<dyn Engine>,
    processes: Arc<dyn Processes>,
    context: ProofContext,
    cache: Mutex<Cache>,
    /// Lookups in flight: the engine is asked once for all processes of a claimant that claim the same container. (Not once for all
    /// claimants, because no claimant may wait in the lane of another.)
    lookups: SingleFlight<(ContainerId, Claimant), Result<Lookup, Error>>,
    /// The same for the repo digests of images.
    images: SingleFlight<String, Result<Arc<[String]>, Error>>,
    calls: Lanes<Claimant>,
    /// Calls that ask again for what is in the cache.
    reasks: Lanes<Claimant>,
    /// Notified when a cached container is used that is due to be asked for again.
    due: Notify,
    /// The uid of the engine's process, as it was seen last.
    engine_uid: AtomicU32,
}

#[derive(Default)]
struct Cache {
    running: HashMap<ContainerId, CachedContainer>,
    /// The bytes of all of them.
    bytes: usize,
    /// Ids that the engine did not know, and when it said so.
    unknown: HashMap<ContainerId, Instant>,
    /// Claimants whose last claim the engine did not know, and when it said so.
    throttled: HashMap<Claimant, Instant>,
    /// The repo digests of images, and when they were fetched. An empty list is never cached.
    images: HashMap<String, (Arc<[String]>, Instant)>,
    /// When expired entries were last dropped.
    swept: Option<Instant>,
}

struct CachedContainer {
    container: Arc<RunningContainer>,
    /// When the engine was last asked, whether or not it answered.
    asked: Instant,
    /// Whether the container was used since then.
    used: bool,
}

impl Cache {
    fn is_sweep_due(&self, now: Instant) -> bool {
        self.swept.is_none_or(|swept| now.duration_since(swept) >= limits::CONTAINER_SWEEP)
    }

    /// Drops expired entries, and containers whose init process has ended.
    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        self.running.retain(|_, cached| cached.container.init.alive());
        self.bytes = self.running.values().map(|cached| cached.container.bytes()).sum();
        self.unknown.retain(|_, since| now.duration_since(*since) < limits::UNKNOWN_TTL);
        self.throttled.retain(|_, since| now.duration_since(*since) < limits::THROTTLED_TTL);
        self.images.retain(|_, (_, since)| now.duration_since(*since) < limits::REPO_DIGESTS_TTL);
    }

    /// Replaces what was cached of an id by what the engine says now; `fetched` is when the engine was asked. A container that
    /// lives is never evicted for another one: where the cache is full, the engine is asked for the new one each time.
    fn keep(&mut self, id: &ContainerId, lookup: &Lookup, fetched: Instant, claimant: Claimant) {
        let now = Instant::now();
        if self.running.get(id).is_some_and(|cached| cached.container.fetched > fetched) {
            // A reply that was long on its way is older than the one that is cached.
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

/// Inserts a key with its time. A full table drops its oldest key.
fn insert_bounded<K: Clone + Eq + Hash>(table: &mut HashMap<K, Instant>, key: K, now: Instant) {
    if table.len() >= limits::UNKNOWN_CACHED && !table.contains_key(&key) {
        let oldest = table.iter().min_by_key(|(_, since)| **since).map(|(key, _)| key.clone());
        oldest.and_then(|oldest| table.remove(&oldest));
    }
    table.insert(key, now);
}

impl Containers {
    /// The containers of `engine`, whose pids are those of `processes`.
    pub fn new(engine: Arc<dyn Engine>, processes: Arc<dyn Processes>, context: ProofContext) -> Containers {
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

    /// The same containers, with an observer that is told of each caller that a full queue refuses. It gets the queue's name, which is
    /// one of [`QUEUES`].
    pub fn with_queue_observer(
        self,
        observer: impl Fn(&'static str, Full) + Clone + Send + Sync + 'static,
    ) -> Containers {
        let [calls, reasks] = QUEUES;
        let again = observer.clone();
        Containers {
            calls: self.calls.with_observer(move |full| observer(calls, full)),
            reasks: self.reasks.with_observer(move |full| again(reasks, full)),
            ..self
        }
    }

    /// The uid of the engine's process, as it was seen last. Root before that.
    pub fn engine_uid(&self) -> u32 {
        self.engine_uid.load(Ordering::Relaxed)
    }

    /// Checks a claim against what is cached, without waiting. `None`: the engine must be asked, which [`Containers::check`] does.
    pub fn check_cached(&self, claim: &Claim) -> Option<Checked> {
        let cached = self.cached(&claim.id)?;
        let outcome = cached.judge(claim);
        match cached.doubtful(&outcome, claim) {
            Some(_) => None,
            None => Some(Checked { source: Source::Cached, outcome }),
        }
    }

    /// Checks a claim. Asks the engine for a container that is not cached, and asks again where a claim fails against a cached
    /// container. `claimant` says in which lane the call waits for the engine.
    ///
    /// # Errors
    /// The engine cannot be asked, or the processes cannot be read. Nothing is proven then.
    pub async fn check(&self, claim: &Claim, claimant: Claimant) -> Result<Checked, Error> {
        let (lookup, source) = match self.cached(&claim.id) {
            None => (self.fetch(&claim.id, claimant).await?, Source::Asked),
            Some(cached) => {
                let outcome = cached.judge(claim);
                match cached.doubtful(&outcome, claim) {
                    None => return Ok(Checked { source: Source::Cached, outcome }),
                    Some(doubtful) => match self.reask(doubtful, claimant).await {
                        Ok(lookup) => (lookup, Source::AskedAgain),
                        Err(_) => return Ok(Checked { source: Source::CouldNotAskAgain, outcome }),
                    },
                }
            }
        };
        let outcome = lookup.judge(claim);
        Ok(Checked { source, outcome })
    }

    /// What is known without asking the engine: a container whose init process still lives, or that the engine did not know the id
    /// a moment ago.
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
    ///
    /// # Errors
    /// The engine cannot be asked, or the processes cannot be read.
    pub async fn fetch(&self, id: &ContainerId, claimant: Claimant) -> Result<Lookup, Error> {
        let place = self.calls.enter(claimant)?;
        self.lookups
            .run(&(id.clone(), claimant), || async {
                let throttled = || {
                    let cache = self.cache();
                    cache.throttled.get(&claimant).is_some_and(|since| since.elapsed() < limits::THROTTLED_TTL)
                };
                let _turn = place.turn(throttled).await;
                // The fetch of another claimant may have ended meanwhile.
                match self.cached(id) {
                    Some(cached) => Ok(cached),
                    None => self.ask(id, claimant).await,
                }
            })
            .await
    }

    /// Asks the engine again for a container that is cached. What the engine says replaces the cached container at once.
    ///
    /// # Errors
    /// The engine cannot be asked, or too many callers ask already. What is cached stays.
    async fn reask(&self, doubtful: &RunningContainer, claimant: Claimant) -> Result<Lookup, Error> {
        let place = self.reasks.enter(claimant)?;
        let _turn = place.turn(|| false).await;
        // Another caller may have asked since.
        let cached = self.cache().running.get(&doubtful.id).map(|cached| Arc::clone(&cached.container));
        match cached.filter(|cached| cached.fetched > doubtful.fetched && cached.init.alive()) {
            Some(newer) => Ok(Lookup::Running(newer)),
            None => self.ask(&doubtful.id, claimant).await,
        }
    }

    /// The repo digests of an image, if they were fetched a moment ago.
    pub fn cached_repo_digests(&self, image: &str) -> Option<Arc<[String]>> {
        let cache = self.cache();
        let (digests, since) = cache.images.get(image)?;
        (since.elapsed() < limits::REPO_DIGESTS_TTL).then(|| Arc::clone(digests))
    }

    /// The repo digests of an image, fetched once for all callers that ask at the same time.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub async fn repo_digests(&self, image: &str, claimant: Claimant) -> Result<Arc<[String]>, Error> {
        let _waiting = self.calls.enter(claimant)?;
        self.images.run(&image.to_owned(), || self.ask_repo_digests(image)).await
    }

    async fn ask_repo_digests(&self, image: &str) -> Result<Arc<[String]>, Error> {
        if let Some(cached) = self.cached_repo_digests(image) {
            return Ok(cached);
        }
        let digests: Arc<[String]> = {
            // In the attestor's own lane, since several claimants may wait for the same answer.
            let place = self.calls.enter(Claimant::Attestor)?;
            let _turn = place.turn(|| false).await;
            Arc::from(self.engine.repo_digests(image).await?)
        };
        let mut cache = self.cache();
        if cache.images.len() >= limits::REPO_DIGESTS_CACHED {
            cache.sweep(Instant::now());
        }
        if !digests.is_empty() && cache.images.len() < limits::REPO_DIGESTS_CACHED {
            cache.images.insert(image.to_owned(), (Arc::clone(&digests), Instant::now()));
        }
        Ok(digests)
    }

    /// Keeps the cache true until the containers are dropped. Drops containers that are gone, and asks the engine again, once a
    /// minute, for those that are used. (Every use asks the kernel whether the init process lives. This asks whether the engine
    /// still says the same, because a wrong answer that no claim contradicts would stay for ever.)
    pub async fn maintain(containers: Weak<Containers>) {
        let mut closed = Instant::now();
        loop {
            let Some(this) = containers.upgrade() else { return };
            let _ = tokio::time::timeout(limits::CONTAINER_SWEEP, this.due.notified()).await;
            let now = Instant::now();
            if now.duration_since(closed) >= limits::CONTAINER_SWEEP {
                closed = now;
                this.processes.sweep();
            }
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
                // The engine is unreachable. (The failure of one container is no reason to skip the others.)
                if failed == 3 {
                    tokio::time::sleep(limits::CONTAINER_SWEEP).await;
                    break;
                }
            }
        }
    }

    /// Opens connections to the engine before the first call needs them. Tries again until the engine answers, or the containers are
    /// dropped.
    pub async fn connect(containers: Weak<Containers>) {
        while let Some(this) = containers.upgrade() {
            if this.engine.connect().await {
                return;
            }
            drop(this);
            tokio::time::sleep(limits::ENGINE_CONNECT_PAUSE).await;
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the engine, and caches its answer.
    async fn ask(&self, id: &ContainerId, claimant: Claimant) -> Result<Lookup, Error> {
        let fetched = Instant::now();
        let lookup = self.inspect_and_find_init(id, fetched).await?;
        self.cache().keep(id, &lookup, fetched, claimant);
        Ok(lookup)
    }

    /// `fetched` is when this began.
    async fn inspect_and_find_init(&self, id: &ContainerId, fetched: Instant) -> Result<Lookup, Error> {
        for pause in [Some(20), Some(50), None] {
            let asked_at = self.processes.now().map_err(|error| Error::processes(&error))?;
            let Some(inspected) = self.engine.inspect(id).await? else {
                return Ok(Lookup::Unknown);
            };
            if inspected.container.id != id.as_str() {
                return Ok(Lookup::NotProven(NotProven {
                    clause: Clause::Id,
                    seen: format!("asked for container {id}, the engine answered with another id"),
                    remedy: "look at what listens where the engine should",
                }));
            }
            if inspected.pid <= 0 {
                return Ok(Lookup::NotRunning);
            }
            self.engine_uid.store(inspected.engine.uid, Ordering::Relaxed);
            match Init::find(&*self.processes, id, &inspected, asked_at, self.context) {
                Err(InitError::NotProven(not_proven)) => return Ok(Lookup::NotProven(not_proven)),
                Err(error @ InitError::Unreadable(_)) => return Err(Error::processes(&error)),
                Ok(Some(init)) => {
                    let container = self.shared(id, inspected.container);
                    let context = self.context;
                    let running = RunningContainer { id: id.clone(), container, init, context, fetched };
                    return Ok(Lookup::Running(Arc::new(running)));
                }
                // The init process started or ended while the engine was asked: ask again.
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

    /// The facts, shared with the cached ones if they are equal. Answers that are used again compare them by address first.
    fn shared(&self, id: &ContainerId, container: Container) -> Result<Arc<Container>, TooLarge> {
        TooLarge::check(&container)?;
        let cached = self.cache().running.get(id).and_then(|cached| cached.container.container.clone().ok());
        Ok(cached.filter(|cached| **cached == container).unwrap_or_else(|| Arc::new(container)))
    }
}
