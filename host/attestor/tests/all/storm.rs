//! A storm of made-up container ids does not affect the other containers of the machine.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use containers::ContainerId;
use containers::engine::recorded::{RecordedContainer, RecordedEngine};
use containers::engine::{Engine, InspectFuture, RepoDigestsFuture};
use containers::process::recorded::{RecordedProcess, RecordedProcesses};

use crate::machine::{attestor_of, configure, process};

const CONTAINERS: usize = 32;

/// An engine that takes a millisecond for each answer, and counts the ids that it does not know.
struct Slow {
    known: RecordedEngine,
    made_up: AtomicUsize,
}

impl Engine for Slow {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        Box::pin(async move {
            let answer = self.known.inspect(id).await;
            self.made_up.fetch_add(usize::from(matches!(answer, Ok(None))), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            answer
        })
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> RepoDigestsFuture<'a> {
        self.known.repo_digests(image)
    }
}

fn id(number: usize) -> ContainerId {
    ContainerId::new(&format!("{number:064x}")).unwrap()
}

/// The containers that the engine knows. They have the ids 0 to 31, and their init processes the pids 100 to 131.
fn known() -> RecordedEngine {
    let container = |number: usize| RecordedContainer {
        pid: 100 + number as i32,
        labels: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
        ..RecordedContainer::default()
    };
    RecordedEngine((0..CONTAINERS).map(|number| (id(number).to_string(), container(number))).collect())
}

/// The processes of the containers, and 5,000 others, each in a cgroup with an id of its own.
fn processes(storm: &RecordedProcess) -> Arc<RecordedProcesses> {
    let init = |number: usize| {
        process(&format!("/docker/{}", id(number)), &[100 + number as i32, 1], &[1_000 + number as u64, 1])
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

/// 5,000 processes of one claimant attest at once. In the middle of the storm, a process of each container attests for the
/// first time.
async fn storm(stormer: RecordedProcess) {
    let engine = Arc::new(Slow { known: known(), made_up: AtomicUsize::new(0) });
    let processes = processes(&stormer);
    let attestor = attestor_of(processes, engine.clone());
    configure(&attestor, "").await.unwrap();
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
    // Each of them waited for at most one turn of the storm's lane.
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
