//! A storm of made-up container ids: it costs the engine one call at a time, and nobody else anything.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use docker_attestor::capability::docker::proof::ContainerId;
use docker_attestor::capability::docker::{Container, Containers, Engine, Fetched, Finding, Inspected, Inspecting};
use docker_attestor::capability::process::recorded::{Recorded, RecordedProcess};

const STORMER: u32 = 1_000;
const NEIGHBOUR: u32 = 2_000;

/// Knows one container, takes its time, and counts.
#[derive(Default)]
struct Slow {
    calls: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

fn id(number: usize) -> ContainerId {
    ContainerId::new(&format!("{number:064x}")).unwrap()
}

struct Shared(Arc<Slow>);

impl Engine for Shared {
    fn inspect<'a>(&'a self, asked: &'a ContainerId) -> Inspecting<'a> {
        Box::pin(async move {
            self.0.calls.fetch_add(1, Ordering::Relaxed);
            let now = self.0.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.0.most_at_once.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.0.at_once.fetch_sub(1, Ordering::Relaxed);
            let container = Container {
                id: asked.as_str().to_owned(),
                labels: Vec::new(),
                env: Vec::new(),
                image: String::new(),
                image_id: None,
                image_manifest_digest: None,
            };
            let known = *asked == id(0);
            Ok(known.then(|| Inspected { container, pid: 100, pid_mode: String::new(), engine_uid: 0 }))
        })
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> Finding<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

fn containers(engine: &Arc<Slow>) -> Arc<Containers> {
    let init = RecordedProcess {
        cgroup: vec![format!("0::/docker/{}", id(0))],
        start_time: 1,
        pid_namespaces: vec![2, 1],
        nspid: vec![100, 1],
        ..RecordedProcess::default()
    };
    let processes = Arc::new(Recorded { processes: BTreeMap::from([(100, init)]), now: 2 });
    Arc::new(Containers::new(Box::new(Shared(Arc::clone(engine))), processes, true))
}

#[tokio::test]
async fn a_storm_of_made_up_ids_leaves_the_engine_to_the_others() {
    let engine = Arc::new(Slow::default());
    let containers = containers(&engine);
    // The first claim that the engine does not know makes its user a stranger.
    assert!(matches!(containers.fetch(&id(1), STORMER).await.unwrap(), Fetched::Unknown));
    let storm: Vec<_> = (2..202)
        .map(|number| {
            let containers = Arc::clone(&containers);
            tokio::spawn(async move { containers.fetch(&id(number), STORMER).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    // 200 made-up ids wait, one at a time takes 1 s; the neighbour's container takes one call.
    let neighbour = tokio::time::timeout(Duration::from_millis(300), containers.fetch(&id(0), NEIGHBOUR)).await;
    assert!(matches!(neighbour.unwrap().unwrap(), Fetched::Answer(_)));
    assert!(engine.most_at_once.load(Ordering::Relaxed) <= 2);
    for made_up in storm {
        made_up.abort();
    }
}

#[tokio::test]
async fn one_made_up_id_is_asked_for_once_in_a_while() {
    let engine = Arc::new(Slow::default());
    let containers = containers(&engine);
    containers.fetch(&id(1), STORMER).await.unwrap();
    for _ in 0..100 {
        assert!(matches!(containers.known(&id(1)), Some(Fetched::Unknown)));
    }
    assert_eq!(engine.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_call_also_when_the_first_gives_up() {
    let engine = Arc::new(Slow::default());
    let containers = containers(&engine);
    let wanted = id(0);
    let first = tokio::time::timeout(Duration::from_millis(1), containers.fetch(&wanted, NEIGHBOUR));
    let others = (0..64).map(|_| {
        let containers = Arc::clone(&containers);
        tokio::spawn(async move { containers.fetch(&id(0), NEIGHBOUR).await })
    });
    let others: Vec<_> = others.collect();
    assert!(first.await.is_err());
    for other in others {
        assert!(matches!(other.await.unwrap().unwrap(), Fetched::Answer(_)));
    }
    // The first one's, which was given up, and the one that all the others waited for.
    assert!(engine.calls.load(Ordering::Relaxed) <= 2);
}
