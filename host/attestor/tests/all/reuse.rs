//! Random machines on which containers and processes start, move, restart and end. Whatever happened, an attestor that
//! reuses answers says the same as one that has seen nothing before.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use containers::engine::{Engine, InspectFuture, Inspected, Peer, RepoDigestsFuture};
use containers::process::recorded::RecordedProcesses;
use containers::process::{Origin, PidNamespace, Process, ProcessCredentials, Processes, Stat};
use containers::{Container, ContainerId};
use docker_attestor::attestor::Attestor;
use docker_attestor::components::Runtime;
use docker_attestor::limits;
use docker_attestor::machine::FixedMachine;
use docker_attestor::scenario::trial_workloads;
use docker_attestor::telemetry::metrics::Metrics;
use proptest::prelude::*;

use crate::machine::{attestor_of, configure, process};

/// A machine whose containers and processes change.
#[derive(Default)]
struct State {
    processes: BTreeMap<i32, Arc<Live>>,
    containers: BTreeMap<String, Running>,
    /// The ids of removed containers, which never come back. The other containers exist from the beginning, at first not
    /// running.
    removed: BTreeSet<String>,
    clock: u64,
}

#[derive(Clone)]
struct Running {
    init: i32,
    namespace: u64,
    revision: u32,
}

struct Live {
    cgroup: Mutex<String>,
    namespaces: Vec<u64>,
    nspid: Vec<i32>,
    started: u64,
    alive: AtomicBool,
}

#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

impl Processes for Machine {
    fn open(&self, pid: i32) -> io::Result<Option<Arc<dyn Process>>> {
        let process = self.0.lock().unwrap().processes.get(&pid).cloned();
        Ok(process.map(|process| Arc::new(Opened(process)) as Arc<dyn Process>))
    }

    fn now(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().clock)
    }

    fn own_cgroup(&self) -> io::Result<Vec<u8>> {
        Ok(b"0::/agent".to_vec())
    }
}

/// A handle on one process, which never becomes a handle on another one.
struct Opened(Arc<Live>);

impl Opened {
    fn live(&self) -> io::Result<&Live> {
        self.0.alive.load(Ordering::Relaxed).then_some(&*self.0).ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Process for Opened {
    fn cgroup(&self) -> io::Result<Arc<[u8]>> {
        Ok(self.live()?.cgroup.lock().unwrap().clone().into_bytes().into())
    }

    fn mountinfo(&self) -> io::Result<Vec<u8>> {
        self.live().map(|_| Vec::new())
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(Stat { state: b'S', start_time: self.live()?.started })
    }

    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        Ok(PidNamespace { inode: *self.live()?.namespaces.first().unwrap() })
    }

    fn is_within(&self, namespace: &PidNamespace) -> io::Result<bool> {
        Ok(self.live()?.namespaces.contains(&namespace.inode))
    }

    fn namespace_pids(&self) -> io::Result<Vec<i32>> {
        Ok(self.live()?.nspid.clone())
    }

    fn pid_namespace_creator(&self) -> io::Result<Option<u32>> {
        Ok(None)
    }

    fn origin(&self) -> io::Result<Origin> {
        let outermost = self.0.namespaces.iter().nth_back(1);
        Ok(Origin { namespace: outermost.map(|&inode| (PidNamespace { inode }, None)), user: 0 })
    }

    fn credentials(&self) -> io::Result<ProcessCredentials> {
        Ok(ProcessCredentials { uid: 0, gid: 0 })
    }

    fn alive(&self) -> bool {
        self.live().is_ok()
    }
}

impl Engine for Machine {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        let state = self.0.lock().unwrap();
        let running = state.containers.get(id.as_str());
        let inspected = (!state.removed.contains(id.as_str())).then(|| Inspected {
            container: Container {
                id: id.as_str().to_owned(),
                // The engine describes each run of an id differently, so that an outdated answer shows.
                labels: vec![("revision".to_owned(), running.map_or(0, |running| running.revision).to_string())],
                env: vec![format!("ID={id}")],
                image: "image".to_owned(),
                image_id: None,
                image_manifest_digest: None,
            },
            pid: running.map_or(0, |running| running.init),
            pid_mode: String::new(),
            cgroup_parent: String::new(),
            isolation: String::new(),
            engine: Peer::default(),
        });
        Box::pin(std::future::ready(Ok(inspected)))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

pub(crate) fn id(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Starts or restarts a container with an init process of this pid.
    Start(u8, i32),
    /// Starts a process, in a container's cgroup and pid namespace or outside.
    Spawn(i32, u8, bool),
    /// Moves a process into a container's cgroup, into a child of that, or out of any.
    Move(i32, u8, bool),
    Kill(i32),
    Remove(u8),
    Attest(i32),
}

impl Machine {
    pub(crate) fn apply(&self, step: &Step) {
        let state = &mut *self.0.lock().unwrap();
        state.clock += 1;
        match *step {
            Step::Start(number, _) if state.removed.contains(&id(number)) => {}
            Step::Start(number, pid) => {
                // A pid belongs to one process, so the process that had it has ended.
                kill(state, pid);
                let namespace = state.clock + 100;
                if let Some(old) = state.containers.remove(&id(number)) {
                    kill(state, old.init);
                }
                spawn(state, pid, format!("0::/docker/{}", id(number)), vec![namespace, 1], vec![pid, 1]);
                let revision = u32::try_from(state.clock).unwrap();
                state.containers.insert(id(number), Running { init: pid, namespace, revision });
            }
            Step::Spawn(pid, number, inside) => {
                kill(state, pid);
                match state.containers.get(&id(number)).cloned().filter(|_| inside) {
                    Some(running) => spawn(
                        state,
                        pid,
                        format!("0::/docker/{}", id(number)),
                        vec![running.namespace, 1],
                        vec![pid, pid + 1],
                    ),
                    None => spawn(state, pid, "0::/user.slice".to_owned(), vec![1], vec![pid]),
                }
            }
            // Init's own cgroup identifies the container. It is read only once, together with the engine's answer.
            Step::Move(pid, ..) if state.containers.values().any(|running| running.init == pid) => {}
            Step::Move(pid, number, child) => {
                if let Some(process) = state.processes.get(&pid) {
                    let path = match number {
                        0 => "0::/user.slice".to_owned(),
                        number => format!("0::/docker/{}{}", id(number), if child { "/child" } else { "" }),
                    };
                    *process.cgroup.lock().unwrap() = path;
                }
            }
            Step::Kill(pid) => kill(state, pid),
            Step::Remove(number) => {
                state.removed.insert(id(number));
                if let Some(old) = state.containers.remove(&id(number)) {
                    kill(state, old.init);
                }
            }
            Step::Attest(_) => {}
        }
        state.clock += 1;
    }
}

fn spawn(state: &mut State, pid: i32, cgroup: String, namespaces: Vec<u64>, nspid: Vec<i32>) {
    let started = state.clock;
    let live = Live { cgroup: Mutex::new(cgroup), namespaces, nspid, started, alive: AtomicBool::new(true) };
    state.processes.insert(pid, Arc::new(live));
}

fn kill(state: &mut State, pid: i32) {
    state.containers.retain(|_, running| running.init != pid);
    if let Some(process) = state.processes.remove(&pid) {
        process.alive.store(false, Ordering::Relaxed);
    }
}

fn step() -> impl Strategy<Value = Step> {
    // Few pids and few containers, so that they coincide often.
    let (pid, container) = (10_i32..16, 1_u8..5);
    prop_oneof![
        2 => (container.clone(), pid.clone()).prop_map(|(container, pid)| Step::Start(container, pid)),
        2 => (pid.clone(), container.clone(), any::<bool>()).prop_map(|(pid, container, inside)| Step::Spawn(pid, container, inside)),
        2 => (pid.clone(), 0_u8..5, any::<bool>()).prop_map(|(pid, container, child)| Step::Move(pid, container, child)),
        1 => pid.clone().prop_map(Step::Kill),
        1 => container.prop_map(Step::Remove),
        6 => pid.prop_map(Step::Attest),
    ]
}

/// A new attestor of the machine, which has seen nothing before.
pub(crate) async fn attestor(machine: &Machine, runtime: &Arc<Runtime>) -> Attestor {
    let machine = FixedMachine {
        processes: Arc::new(machine.clone()),
        engine: Arc::new(machine.clone()),
        reads_namespaces: true,
        decision: None,
    };
    let attestor = Attestor::new(Arc::new(machine), Arc::clone(runtime), trial_workloads, Metrics::disabled());
    configure(&attestor, "").await.unwrap();
    attestor
}

#[test]
fn an_answer_that_is_used_again_equals_one_that_is_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reused = std::cell::Cell::new(0_usize);
    let shared = Machine::default();
    let sandbox = crate::machine::runtime();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2_048));
    runner
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            *shared.0.lock().unwrap() = State::default();
            runtime.block_on(async {
                let warm = attestor(&shared, &sandbox).await;
                for step in &steps {
                    shared.apply(step);
                    if let Step::Attest(pid) = step {
                        let again = warm.explain(*pid).await.unwrap();
                        reused.set(reused.get() + usize::from(again.reused));
                        let fresh = attestor(&shared, &sandbox).await;
                        let anew = fresh.explain(*pid).await.unwrap();
                        assert!(!anew.reused);
                        prop_assert_eq!(again.outcome.unwrap(), anew.outcome.unwrap(), "process {}", pid);
                    }
                }
                Ok(())
            })
        })
        .unwrap();
    assert!(reused.get() > 500, "only {} answers were used again: nothing is tested", reused.get());
}

/// Twice as many processes attest one after the other as answers can be cached. A full cache still keeps some of them.
#[tokio::test]
async fn more_workloads_than_answers_still_find_some_of_them() {
    let count = 2 * limits::ANSWERS as i32;
    let process = |pid: i32| process(&format!("/user.slice/{pid}"), &[pid], &[1]);
    let processes = (1..=count).map(|pid| (pid, process(pid))).collect();
    let processes = Arc::new(RecordedProcesses { processes, now: 2, ..RecordedProcesses::default() });
    let attestor = attestor_of(processes, Arc::new(Machine::default()));
    configure(&attestor, "").await.unwrap();
    let mut reused = 0;
    for round in 0..5 {
        reused = 0;
        for pid in 1..=count {
            reused += i32::from(attestor.explain(pid).await.unwrap().reused);
        }
        println!("round {round}: {reused} of {count} answers were used again");
    }
    assert!(reused > count / 4, "{reused} of {count}");
}
