//! The engine is asked for a container before the policy asks, where the policy is likely to ask.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use containers::engine::{Engine, InspectFuture, RepoDigestsFuture};
use containers::process::recorded::RecordedProcesses;
use containers::{ContainerId, Containers, ProofContext};
use docker_attestor::attestation::policy::PolicyRun;
use docker_attestor::attestation::{Policy, Sandbox};
use docker_attestor::limits;
use docker_attestor::workload::{Backends, Question, Workload};
use sandbox::wit;

use crate::component::returning;
use crate::machine::{
    KnowsAll, OTHERS, OURS, PID, PID_OF_HOST, PID_WITHIN, policy_of, process, processes, runtime, sandbox, settings,
};

/// An engine that counts how often it was asked for a container.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Engine for Counting {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        self.0.fetch_add(1, Ordering::Relaxed);
        KnowsAll.inspect(id)
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> RepoDigestsFuture<'a> {
        KnowsAll.repo_digests(image)
    }
}

fn backends() -> (Arc<Counting>, Arc<Backends>) {
    let engine = Arc::new(Counting::default());
    let docker = Containers::new(engine.clone(), processes(), ProofContext::ALL);
    (engine, Arc::new(Backends::new(processes(), Arc::new(docker))))
}

fn container(id: &str) -> Question {
    Question::Container(wit::Engine::Docker, id.to_owned())
}

async fn attest(sandbox: &Sandbox, policy: &Policy, workload: Workload) -> (Workload, Vec<String>) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let (workload, outcome) = policy.attest(sandbox, &settings(), workload, deadline).await;
    (workload.unwrap(), outcome.unwrap())
}

#[tokio::test]
async fn the_built_in_policy_runs_once_for_a_container_not_seen_before() {
    let runtime = runtime();
    let (engine, backends) = backends();
    let mut workload = Workload::new(Arc::clone(&backends), PID);
    assert_eq!(workload.anticipate().await, Some(container(OURS)));
    assert!(workload.transcript().answer(&container(OURS)).is_none(), "not before the policy asks");
    let (workload, run) = runtime.builtin.run(&runtime.sandbox, &settings(), workload).await;
    let PolicyRun::Answered(Ok(selectors)) = run else { panic!("the policy must run twice, or failed") };
    assert!(selectors.contains(&"label:name:ours".to_owned()), "{selectors:?}");
    let asked = workload.transcript().exchanges().iter().find(|exchange| exchange.question == container(OURS)).unwrap();
    assert_eq!(asked.note.to_string(), "the engine was asked; proven against init process 100");
    assert_eq!(engine.0.load(Ordering::Relaxed), 1);

    let mut again = Workload::new(backends, PID);
    assert_eq!(again.anticipate().await, None, "the container is known");
    assert_eq!(engine.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn nothing_is_anticipated_where_no_id_or_more_than_one_stands() {
    let (engine, backends) = backends();
    for pid in [PID_OF_HOST, PID_WITHIN] {
        assert_eq!(Workload::new(Arc::clone(&backends), pid).anticipate().await, None);
    }
    assert_eq!(engine.0.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_no_id_of_docker_is_not_asked_for() {
    for cgroup in [
        format!("/machine.slice/libpod-{OURS}.scope"),
        format!("/docker/x{OURS}"),
        format!("/docker/{OURS}0"),
        format!("/docker/{}", OURS.to_uppercase()),
    ] {
        let processes = BTreeMap::from([(PID, process(&cgroup, &[PID, 7], &[2, 1]))]);
        let processes = Arc::new(RecordedProcesses { processes, now: 2, ..RecordedProcesses::default() });
        let engine = Arc::new(Counting::default());
        let docker = Containers::new(engine.clone(), processes.clone(), ProofContext::ALL);
        let backends = Arc::new(Backends::new(processes, Arc::new(docker)));
        assert_eq!(Workload::new(backends, PID).anticipate().await, None, "{cgroup}");
        assert_eq!(engine.0.load(Ordering::Relaxed), 0, "{cgroup}");
    }
}

/// An engine that never answers.
struct Hanging;

impl Engine for Hanging {
    fn inspect<'a>(&'a self, _: &'a ContainerId) -> InspectFuture<'a> {
        Box::pin(std::future::pending())
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_policy_that_needs_no_engine_answers_while_the_engine_hangs() {
    let sandbox = sandbox();
    let policy = policy_of(&sandbox, &returning("", &["tag:a"])).await.unwrap();
    let docker = Containers::new(Arc::new(Hanging), processes(), ProofContext::ALL);
    let backends = Arc::new(Backends::new(processes(), Arc::new(docker)));
    for (pid, most) in [(PID, Duration::from_secs(5)), (200, limits::ANTICIPATION)] {
        let started = Instant::now();
        assert_eq!(attest(&sandbox, &policy, Workload::new(Arc::clone(&backends), pid)).await.1, ["tag:a"]);
        assert!(started.elapsed() < most, "process {pid}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_container_that_the_policy_does_not_ask_for_is_no_part_of_the_answer() {
    let sandbox = sandbox();
    let policy = policy_of(&sandbox, &returning("", &["tag:a"])).await.unwrap();
    let (engine, backends) = backends();
    for pid in [PID, 200] {
        let (workload, selectors) = attest(&sandbox, &policy, Workload::new(Arc::clone(&backends), pid)).await;
        assert_eq!(selectors, ["tag:a"]);
        assert!(workload.transcript().is_empty());
    }
    assert_eq!(engine.0.load(Ordering::Relaxed), 1, "after one run that did not ask, nothing is anticipated");
}

#[tokio::test]
async fn a_policy_that_asks_again_is_anticipated_again() {
    let sandbox = sandbox();
    let policy = policy_of(&sandbox, &returning(OURS, &[])).await.unwrap();
    let (_, others) = backends();
    // It asks for another container than the one that stands there, and then for the one that does.
    attest(&sandbox, &policy, Workload::new(others, 200)).await;
    let (engine, ours) = backends();
    attest(&sandbox, &policy, Workload::new(ours, PID)).await;
    assert_eq!(engine.0.load(Ordering::Relaxed), 1);
    let (engine, others) = backends();
    let (workload, _) = attest(&sandbox, &policy, Workload::new(others, 200)).await;
    assert!(workload.transcript().answer(&container(OTHERS)).is_none());
    assert_eq!(engine.0.load(Ordering::Relaxed), 2, "for the anticipated container, and for the one that it claims");
}
