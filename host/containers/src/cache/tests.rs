//! Tests of what the cache holds, for how long, and what replaces it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::EngineError;
use crate::engine::{InspectFuture, Inspected, Peer, RepoDigestsFuture};
use crate::process::Evidence;
use crate::process::recorded::{RecordedProcess, RecordedProcesses};

/// The engine's next answers, by container id.
type Answers = Arc<Mutex<BTreeMap<String, Result<Option<Inspected>, Error>>>>;

struct Scripted {
    answers: Answers,
    calls: Arc<AtomicUsize>,
}

impl Engine for Scripted {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers.lock().unwrap().get(id.as_str()).cloned();
        Box::pin(std::future::ready(answer.unwrap_or(Ok(None))))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

const CLAIMANT: Claimant = Claimant::User(1);

fn id(number: usize) -> ContainerId {
    ContainerId::new(&format!("{number:064x}")).unwrap()
}

/// Init processes have the pids from 100 on, and the other processes of their containers those from 10,000 on. Process
/// 99 is a second init of container 0, in another pid namespace.
fn processes(count: usize) -> RecordedProcesses {
    let process = |number: usize, namespace: u64, nspid: [i32; 2]| RecordedProcess {
        cgroup: vec![format!("0::/docker/{}", id(number))],
        start_time: 1,
        pid_namespaces: vec![namespace, 1],
        nspid: nspid.to_vec(),
        ..RecordedProcess::default()
    };
    let mut processes = BTreeMap::from([(99, process(0, 2, [99, 1]))]);
    for number in 0..count {
        let (init, other, namespace) = (100 + number as i32, 10_000 + number as i32, 10 + number as u64);
        processes.insert(init, process(number, namespace, [init, 1]));
        processes.insert(other, process(number, namespace, [other, 7]));
    }
    RecordedProcesses { processes, now: 2, ..RecordedProcesses::default() }
}

fn inspected(number: usize, pid: i32, label_bytes: usize) -> Inspected {
    Inspected {
        container: Container {
            id: id(number).to_string(),
            labels: vec![("a".to_owned(), "x".repeat(label_bytes))],
            env: Vec::new(),
            image: String::new(),
            image_id: None,
            image_manifest_digest: None,
        },
        pid,
        pid_mode: String::new(),
        cgroup_parent: String::new(),
        isolation: String::new(),
        engine: Peer::default(),
    }
}

/// The error of an engine that is unreachable.
fn unreachable(reason: &str) -> Error {
    let error = EngineError::Unreachable { reason: reason.to_owned(), tries: 3 };
    Error::Engine { endpoint: "unix:///engine".to_owned(), error }
}

struct Machine {
    containers: Arc<Containers>,
    processes: Arc<RecordedProcesses>,
    answers: Answers,
    calls: Arc<AtomicUsize>,
}

impl Machine {
    /// A machine with `count` containers, each with a label of `label_bytes` bytes.
    fn new(count: usize, label_bytes: usize) -> Machine {
        let (answers, calls): (Answers, Arc<AtomicUsize>) = Default::default();
        for number in 0..count {
            let answer = Ok(Some(inspected(number, 100 + number as i32, label_bytes)));
            answers.lock().unwrap().insert(id(number).to_string(), answer);
        }
        let processes = Arc::new(processes(count));
        let engine = Scripted { answers: Arc::clone(&answers), calls: Arc::clone(&calls) };
        let containers = Containers::new(Arc::new(engine), processes.clone(), ProofContext::ALL);
        Machine { containers: Arc::new(containers), processes, answers, calls }
    }

    fn says(&self, number: usize, answer: Result<Option<Inspected>, Error>) {
        self.answers.lock().unwrap().insert(id(number).to_string(), answer);
    }

    /// The outcome of a process's claim to be in container 0, asked as an attestation asks.
    async fn check(&self, pid: i32) -> Outcome {
        let process = self.processes.open(pid).unwrap().unwrap();
        let evidence = Evidence::Cgroup(process.cgroup().unwrap());
        let claim = Claim { id: id(0), process, evidence, since: Instant::now() };
        match self.containers.check_cached(&claim) {
            Some(checked) => checked.outcome,
            None => self.containers.check(&claim, CLAIMANT).await.unwrap().outcome,
        }
    }

    /// Whether a process is proven to be in container 0.
    async fn obtains(&self, pid: i32) -> bool {
        matches!(self.check(pid).await, Outcome::Proven { .. })
    }

    fn init_pid(&self, number: usize) -> Option<i32> {
        self.containers.cache().running.get(&id(number)).map(|cached| cached.container.init.pid())
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_claim_that_fails_against_a_cached_container_asks_the_engine_again() {
    let machine = Machine::new(1, 1);
    // The engine lost track of the container: it names another process.
    machine.says(0, Ok(Some(inspected(0, 99, 1))));
    assert!(machine.obtains(99).await);
    // The engine has recovered. The real process is not in the pid namespace of the cached container.
    machine.says(0, Ok(Some(inspected(0, 100, 1))));
    assert!(machine.obtains(10_000).await, "the real container's process");
    assert_eq!(machine.init_pid(0), Some(100));
    assert!(!machine.obtains(99).await, "the earlier proof no longer holds");
    // The engine is not asked again where its answer is fresh, but each later attestation may ask again.
    assert_eq!(machine.calls(), 3);
}

#[tokio::test]
async fn what_the_engine_says_again_replaces_the_cached_container_and_an_error_does_not() {
    let away = unreachable("away");
    let another = Inspected { pid_mode: "host".to_owned(), ..inspected(0, 10_000, 1) };
    for (answer, cached) in [
        (Ok(None), None),
        (Ok(Some(inspected(0, 0, 1))), None),
        (Ok(Some(inspected(0, 9, 1))), None),
        // Process 10,000 is not pid 1 of its namespace (clause c).
        (Ok(Some(inspected(0, 10_000, 1))), None),
        (Ok(Some(another)), Some(10_000)),
        (Err(away), Some(100)),
    ] {
        let machine = Machine::new(1, 1);
        assert!(machine.obtains(10_000).await);
        machine.says(0, answer);
        // Process 99 is not in the pid namespace of the cached init: clause f fails, and the engine is asked.
        assert!(!machine.obtains(99).await);
        assert!(machine.calls() > 1, "the engine was not asked again");
        assert_eq!(machine.init_pid(0), cached);
    }
}

#[tokio::test]
async fn a_container_that_is_used_is_asked_for_again_once_a_minute_and_nobody_waits_for_it() {
    let machine = Machine::new(2, 1);
    machine.says(0, Ok(Some(inspected(0, 99, 1))));
    assert!(machine.obtains(99).await);
    machine.containers.fetch(&id(1), CLAIMANT).await.unwrap();
    let maintained = tokio::spawn(Containers::maintain(Arc::downgrade(&machine.containers)));
    let minute_ago = Instant::now().checked_sub(limits::CONTAINER_REASK).unwrap();
    for cached in machine.containers.cache().running.values_mut() {
        cached.asked = minute_ago;
    }
    machine.says(0, Ok(Some(inspected(0, 100, 1))));
    // The attacker's process alone never fails a clause. Its next use is answered from the cache, and is the last that
    // succeeds.
    assert!(machine.obtains(99).await);
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if machine.init_pid(0) == Some(100) {
            break;
        }
    }
    assert_eq!(machine.init_pid(0), Some(100));
    assert!(!machine.obtains(99).await);
    // Container 1 was not used, so it was not asked for. The calls are two first lookups, one after the use, one for the failed claim.
    assert_eq!(machine.calls(), 4);
    maintained.abort();
}

#[tokio::test]
async fn one_container_that_the_engine_cannot_describe_keeps_no_other_from_being_asked_for_again() {
    let machine = Machine::new(20, 1);
    for number in 0..20 {
        machine.containers.fetch(&id(number), CLAIMANT).await.unwrap();
    }
    let minute_ago = Instant::now().checked_sub(limits::CONTAINER_REASK).unwrap();
    for cached in machine.containers.cache().running.values_mut() {
        (cached.asked, cached.used) = (minute_ago, true);
    }
    machine.says(7, Err(unreachable("its lock hangs")));
    let maintained = tokio::spawn(Containers::maintain(Arc::downgrade(&machine.containers)));
    machine.containers.due.notify_one();
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if machine.calls() == 40 {
            break;
        }
    }
    maintained.abort();
    assert_eq!(machine.calls(), 40);
    assert!(machine.containers.cache().running.values().all(|cached| cached.asked > minute_ago));
}

#[tokio::test]
async fn a_reply_that_was_long_on_its_way_replaces_nothing_newer() {
    let machine = Machine::new(1, 1);
    let before = Instant::now();
    let newer = machine.containers.fetch(&id(0), CLAIMANT).await.unwrap();
    for older in [Lookup::Unknown, Lookup::NotRunning] {
        machine.containers.cache().keep(&id(0), &older, before, CLAIMANT);
        assert_eq!(machine.init_pid(0), Some(100));
    }
    machine.containers.cache().keep(&id(0), &newer, Instant::now(), CLAIMANT);
    assert_eq!(machine.init_pid(0), Some(100));
}

#[tokio::test]
async fn no_lookup_evicts_a_container_that_lives() {
    let machine = Machine::new(limits::CONTAINERS_CACHED + 1, 1);
    for number in 0..=limits::CONTAINERS_CACHED {
        let lookup = machine.containers.fetch(&id(number), CLAIMANT).await.unwrap();
        assert!(matches!(lookup, Lookup::Running(_)), "the one that is not cached is found too");
    }
    assert!((0..limits::CONTAINERS_CACHED).all(|number| machine.containers.cached(&id(number)).is_some()));
    assert!(machine.containers.cached(&id(limits::CONTAINERS_CACHED)).is_none());
}

#[tokio::test]
async fn cached_containers_are_bounded_in_bytes() {
    let machine = Machine::new(80, limits::VALUES_TOTAL - 100);
    for number in 0..80 {
        machine.containers.fetch(&id(number), CLAIMANT).await.unwrap();
    }
    let cache = machine.containers.cache();
    assert!((60..64).contains(&cache.running.len()), "{}", cache.running.len());
    assert!(cache.bytes <= limits::CONTAINERS_CACHED_BYTES);
}

#[tokio::test]
async fn a_container_that_fits_no_answer_is_refused_by_name_and_count_and_holds_nothing() {
    let machine = Machine::new(1, 1);
    let many = |labels: usize, bytes: usize| {
        let mut inspected = inspected(0, 100, 1);
        inspected.container.labels = (0..labels).map(|key| (key.to_string(), String::new())).collect();
        inspected.container.env = vec!["E".repeat(bytes)];
        inspected
    };
    for (inspected, named) in [
        (many(limits::VALUES, 1), "it has 4096 labels and 1 env values"),
        (many(1, limits::VALUES_TOTAL), "it has 1 labels and 1 env values of 1048577 bytes"),
    ] {
        machine.says(0, Ok(Some(inspected)));
        machine.containers.cache().remove(&id(0));
        let calls = machine.calls();
        for pid in [10_000, 100, 10_000] {
            let Outcome::TooLarge(too_large) = machine.check(pid).await else { panic!("process {pid} obtained it") };
            let text = too_large.to_string();
            assert!(text.contains(named), "{text}");
        }
        assert_eq!(machine.calls(), calls + 1, "the refusal is cached");
        assert!(machine.containers.cache().bytes < 1_000);
        assert!(!machine.obtains(99).await, "only a process in the container is told of the refusal");
    }
    machine.says(0, Ok(Some(many(limits::VALUES - 1, 1))));
    machine.containers.cache().remove(&id(0));
    assert!(machine.obtains(10_000).await);
}
