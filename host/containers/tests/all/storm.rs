//! A claimant that storms the engine with made-up ids waits behind itself.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bounded::lanes::Full;
use containers::engine::recorded::{RecordedContainer, RecordedEngine};
use containers::engine::{Engine, InspectFuture, RepoDigestsFuture};
use containers::process::recorded::{RecordedProcess, RecordedProcesses};
use containers::{Claimant, ContainerId, Containers, Lookup, ProofContext, limits};

const STORMER: Claimant = Claimant::User(1_000);
const NEIGHBOUR: Claimant = Claimant::User(2_000);

const CONTAINERS: usize = 32;

/// An engine that needs a millisecond for each answer, and counts.
struct Slow {
    known: RecordedEngine,
    calls: AtomicUsize,
    made_up: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Engine for Slow {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        Box::pin(async move {
            let answer = self.known.inspect(id).await;
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.made_up.fetch_add(usize::from(matches!(answer, Ok(None))), Ordering::Relaxed);
            let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_at_once.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            answer
        })
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> RepoDigestsFuture<'a> {
        self.known.repo_digests(image)
    }
}

impl Slow {
    fn new() -> Arc<Slow> {
        let zero = || AtomicUsize::new(0);
        Arc::new(Slow { known: known(), calls: zero(), made_up: zero(), at_once: zero(), most_at_once: zero() })
    }
}

fn id(number: usize) -> ContainerId {
    ContainerId::new(&format!("{number:064x}")).unwrap()
}

/// What the engine knows: the containers with the ids 0 to 31, whose init processes have the pids 100 to 131.
fn known() -> RecordedEngine {
    let container = |number: usize| RecordedContainer {
        pid: 100 + number as i32,
        labels: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
        ..RecordedContainer::default()
    };
    RecordedEngine((0..CONTAINERS).map(|number| (id(number).to_string(), container(number))).collect())
}

/// The init processes of the containers.
fn processes() -> Arc<RecordedProcesses> {
    let init = |number: usize| RecordedProcess {
        cgroup: vec![format!("0::/docker/{}", id(number))],
        start_time: 1,
        pid_namespaces: vec![1_000 + number as u64, 1],
        nspid: vec![100 + number as i32, 1],
        ..RecordedProcess::default()
    };
    let processes = (0..CONTAINERS).map(|number| (100 + number as i32, init(number))).collect();
    Arc::new(RecordedProcesses { processes, now: 2, ..RecordedProcesses::default() })
}

fn containers(engine: &Arc<Slow>) -> Containers {
    Containers::new(engine.clone(), processes(), ProofContext::ALL)
}

#[tokio::test]
async fn a_claimant_of_made_up_ids_has_one_call_at_a_time_however_many_are_cached() {
    let engine = Slow::new();
    let containers = Arc::new(containers(&engine));
    // The caches of unknown ids and of their claimants are full.
    let fill = (0..limits::UNKNOWN_CACHED + 100).map(|number| {
        let containers = Arc::clone(&containers);
        tokio::spawn(
            async move { containers.fetch(&id(10_000 + number), Claimant::User(10_000 + number as u32)).await },
        )
    });
    for filled in fill.collect::<Vec<_>>() {
        assert!(matches!(filled.await.unwrap().unwrap(), Lookup::Unknown));
    }
    assert!(matches!(containers.fetch(&id(1_000), STORMER).await.unwrap(), Lookup::Unknown));
    engine.most_at_once.store(0, Ordering::Relaxed);
    let storm: Vec<_> = (1_001..1_201)
        .map(|number| {
            let containers = Arc::clone(&containers);
            tokio::spawn(async move { containers.fetch(&id(number), STORMER).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(matches!(containers.fetch(&id(0), NEIGHBOUR).await.unwrap(), Lookup::Running(_)));
    for made_up in storm {
        assert!(matches!(made_up.await.unwrap().unwrap(), Lookup::Unknown));
    }
    assert!(engine.most_at_once.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn nobody_waits_in_the_lane_of_a_claimant_that_claims_the_same_container() {
    let engine = Slow::new();
    let containers = Arc::new(containers(&engine));
    assert!(matches!(containers.fetch(&id(1_000), STORMER).await.unwrap(), Lookup::Unknown));
    let claimed = |number: usize| {
        let containers = Arc::clone(&containers);
        tokio::spawn(async move { containers.fetch(&id(number), STORMER).await })
    };
    // The storm's last claim is the neighbour's container: it waits behind 200 of its own.
    let storm: Vec<_> = (1_001..1_201).chain([0]).map(claimed).collect();
    tokio::task::yield_now().await;
    let before = engine.made_up.load(Ordering::Relaxed);
    assert!(matches!(containers.fetch(&id(0), NEIGHBOUR).await.unwrap(), Lookup::Running(_)));
    assert!(engine.made_up.load(Ordering::Relaxed) - before < 10);
    for made_up in storm {
        made_up.abort();
    }
}

#[tokio::test]
async fn a_caller_that_a_full_lane_refuses_is_observed_with_the_queues_name() {
    let engine = Slow::new();
    let refusals = Arc::<Mutex<Vec<(&str, Full)>>>::default();
    let seen = Arc::clone(&refusals);
    let containers =
        containers(&engine).with_queue_observer(move |queue, full| seen.lock().unwrap().push((queue, full)));
    let containers = Arc::new(containers);
    let lane = limits::ENGINE_WAITERS.lane;
    let storm: Vec<_> = (1_000..1_000 + lane + 1)
        .map(|number| {
            let containers = Arc::clone(&containers);
            tokio::spawn(async move { containers.fetch(&id(number), STORMER).await.is_err() })
        })
        .collect();
    let mut refused = 0;
    for claimed in storm {
        refused += usize::from(claimed.await.unwrap());
    }
    assert_eq!(refused, 1);
    assert_eq!(*refusals.lock().unwrap(), [("engine", Full::Lane(lane))]);
}

#[tokio::test]
async fn one_made_up_id_is_asked_for_once_in_a_while() {
    let engine = Slow::new();
    let containers = containers(&engine);
    containers.fetch(&id(1_000), STORMER).await.unwrap();
    for _ in 0..100 {
        assert!(matches!(containers.cached(&id(1_000)), Some(Lookup::Unknown)));
    }
    assert_eq!(engine.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_call_also_when_the_first_gives_up() {
    let engine = Slow::new();
    let containers = Arc::new(containers(&engine));
    let ask = || {
        let containers = Arc::clone(&containers);
        tokio::spawn(async move { containers.fetch(&id(0), NEIGHBOUR).await })
    };
    let first = ask();
    while engine.calls.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..64).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    first.abort();
    for other in others {
        assert!(matches!(other.await.unwrap().unwrap(), Lookup::Running(_)));
    }
    // The first one's, which was given up, and the one that all the others waited for.
    assert!(engine.calls.load(Ordering::Relaxed) <= 2);
}
