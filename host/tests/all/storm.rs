//! A storm of made-up container ids: it costs the engine one call at a time, and nobody else anything.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use containers::engine::{Engine, InspectFuture, Inspected, Peer, RepoDigestsFuture};
use containers::process::recorded::{RecordedProcess, RecordedProcesses};
use containers::{Claimant, Container, ContainerId, Containers, Lookup, ProofContext};
use docker_attestor::attestor::Attestor;
use docker_attestor::config;
use docker_attestor::telemetry::metrics::Metrics;

const STORMER: Claimant = Claimant::User(1_000);
const NEIGHBOUR: Claimant = Claimant::User(2_000);

/// Containers with the ids 0 to 31 run; their init processes have the pids 100 to 131.
const CONTAINERS: usize = 32;

/// Knows them, takes its time, and counts.
#[derive(Default)]
struct Slow {
    calls: AtomicUsize,
    made_up: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

fn id(number: usize) -> ContainerId {
    ContainerId::new(&format!("{number:064x}")).unwrap()
}

struct Shared(Arc<Slow>);

impl Engine for Shared {
    fn inspect<'a>(&'a self, asked: &'a ContainerId) -> InspectFuture<'a> {
        Box::pin(async move {
            let known = (0..CONTAINERS).find(|&number| *asked == id(number));
            self.0.calls.fetch_add(1, Ordering::Relaxed);
            self.0.made_up.fetch_add(usize::from(known.is_none()), Ordering::Relaxed);
            let now = self.0.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.0.most_at_once.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.0.at_once.fetch_sub(1, Ordering::Relaxed);
            let container = Container {
                id: asked.as_str().to_owned(),
                labels: vec![("a".to_owned(), "1".to_owned())],
                env: Vec::new(),
                image: String::new(),
                image_id: None,
                image_manifest_digest: None,
            };
            Ok(known.map(|number| Inspected {
                container,
                pid: 100 + number as i32,
                pid_mode: String::new(),
                cgroup_parent: String::new(),
                engine: Peer::default(),
            }))
        })
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// The processes of the containers, and 5,000 that are elsewhere, each in a cgroup with an id of its own.
fn processes(storm: &RecordedProcess) -> Arc<RecordedProcesses> {
    let init = |number: usize| RecordedProcess {
        cgroup: vec![format!("0::/docker/{}", id(number))],
        start_time: 1,
        pid_namespaces: vec![1_000 + number as u64, 1],
        nspid: vec![100 + number as i32, 1],
        ..RecordedProcess::default()
    };
    let made_up = |number: usize| RecordedProcess {
        cgroup: vec![format!("0::/storm/{}", id(1_000 + number))],
        start_time: 1,
        ..storm.clone()
    };
    let processes = (0..CONTAINERS).map(|number| (100 + number as i32, init(number)));
    let storm = (0..5_000).map(|number| (10_000 + number as i32, made_up(number)));
    Arc::new(RecordedProcesses {
        processes: processes.chain(storm).collect::<BTreeMap<_, _>>(),
        now: 2,
        ..RecordedProcesses::default()
    })
}

fn containers(engine: &Arc<Slow>, processes: Arc<RecordedProcesses>) -> Containers {
    Containers::new(Arc::new(Shared(Arc::clone(engine))), processes, ProofContext::ALL)
}

/// 5,000 processes of somebody attest at once, and in the middle of it one of each container that was not seen before.
async fn storm(stormer: RecordedProcess) {
    let engine = Arc::new(Slow::default());
    let processes = processes(&stormer);
    let attestor = Attestor::of(processes.clone(), Metrics::disabled()).unwrap();
    let configuration = config::load(Some("example.org"), "").unwrap();
    attestor.configure_with(configuration, containers(&engine, processes)).await.unwrap();
    let attestor = Arc::new(attestor);
    let attest = |pid: i32| {
        let attestor = Arc::clone(&attestor);
        tokio::spawn(async move { attestor.attest(pid).await })
    };
    let storm: Vec<_> = (10_000..15_000).map(attest).collect();
    while engine.made_up.load(Ordering::Relaxed) < 10 {
        tokio::task::yield_now().await;
    }
    let before = engine.made_up.load(Ordering::Relaxed);
    let neighbours: Vec<_> = (0..CONTAINERS as i32).map(|number| attest(100 + number)).collect();
    for neighbour in neighbours {
        assert_eq!(neighbour.await.unwrap().unwrap(), ["label:a:1"]);
    }
    // Each waited for one turn of the storm's lane at most.
    let meanwhile = engine.made_up.load(Ordering::Relaxed) - before;
    assert!(meanwhile <= 2 * CONTAINERS, "{meanwhile} made-up ids went before {CONTAINERS} containers");
    let mut refused = 0;
    for made_up in storm {
        match made_up.await.unwrap() {
            Ok(selectors) => assert_eq!(selectors, Vec::<String>::new()),
            Err(error) => {
                assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "nobody had to wait: nothing is tested");
}

#[tokio::test]
async fn a_container_that_storms_costs_the_others_nothing() {
    let root = RecordedProcess { pid_namespaces: vec![5, 1], nspid: vec![1, 1], ..RecordedProcess::default() };
    storm(root).await;
}

#[tokio::test]
async fn a_user_that_storms_costs_the_others_nothing() {
    storm(RecordedProcess { pid_namespaces: vec![1], uid: 1_000, ..RecordedProcess::default() }).await;
}

#[tokio::test]
async fn a_claimant_of_made_up_ids_has_one_call_at_a_time_however_many_are_cached() {
    let engine = Arc::new(Slow::default());
    let containers = Arc::new(containers(&engine, processes(&RecordedProcess::default())));
    // The caches of unknown ids and of their claimants are full.
    let fill = (0..containers::limits::UNKNOWN_CACHED + 100).map(|number| {
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
    let engine = Arc::new(Slow::default());
    let containers = Arc::new(containers(&engine, processes(&RecordedProcess::default())));
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
async fn one_made_up_id_is_asked_for_once_in_a_while() {
    let engine = Arc::new(Slow::default());
    let containers = containers(&engine, processes(&RecordedProcess::default()));
    containers.fetch(&id(1_000), STORMER).await.unwrap();
    for _ in 0..100 {
        assert!(matches!(containers.cached(&id(1_000)), Some(Lookup::Unknown)));
    }
    assert_eq!(engine.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_call_also_when_the_first_gives_up() {
    let engine = Arc::new(Slow::default());
    let containers = Arc::new(containers(&engine, processes(&RecordedProcess::default())));
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
