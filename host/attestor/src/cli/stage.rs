//! A recorded node with named containers, for the tests of commands.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use containers::ContainerId;
use containers::engine::recorded::{RecordedContainer, RecordedEngine};
use containers::engine::{Engine, InspectFuture, ListFuture, ListedContainer, RepoDigestsFuture};
use containers::process::recorded::{RecordedProcess, RecordedProcesses};

use crate::machine::FixedMachine;

/// The engine of the node. Its containers have names.
struct NamedEngine {
    recorded: RecordedEngine,
    names: BTreeMap<String, String>,
}

impl Engine for NamedEngine {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        self.recorded.inspect(id)
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> RepoDigestsFuture<'a> {
        self.recorded.repo_digests(image)
    }

    fn list(&self, all: bool) -> ListFuture<'_> {
        let containers = self.recorded.0.iter().filter(|(_, container)| all || container.pid > 0);
        let listed = containers.map(|(id, container)| ListedContainer {
            id: ContainerId::new(id).unwrap(),
            name: self.names[id].clone(),
            image: container.image.clone(),
        });
        Box::pin(ready(Ok(listed.collect())))
    }
}

/// The id of the container with this number.
pub(super) fn id(number: i32) -> String {
    format!("{number:04x}").repeat(16)
}

/// The pid of the init process of the container with this number.
pub(super) fn pid(number: i32) -> i32 {
    1_000 + number
}

/// A node with the containers `svc0`, `svc1`, … of the given facts. Their init processes run, unless `State.Pid` is -1.
pub(super) fn node(containers: Vec<RecordedContainer>) -> Arc<FixedMachine> {
    let (mut processes, mut recorded, mut names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (number, mut container) in (0..).zip(containers) {
        let (id, pid) = (id(number), pid(number));
        names.insert(id.clone(), format!("svc{number}"));
        if container.pid == -1 {
            container.pid = 0;
        } else {
            container.pid = pid;
            let process = RecordedProcess {
                cgroup: vec![format!("0::/docker/{id}")],
                start_time: 1,
                pid_namespaces: vec![10 + u64::from(pid.unsigned_abs()), 1],
                nspid: vec![pid, 1],
                ..RecordedProcess::default()
            };
            processes.insert(pid, process);
        }
        recorded.insert(id, container);
    }
    Arc::new(FixedMachine {
        processes: Arc::new(RecordedProcesses { processes, now: 2, ..RecordedProcesses::default() }),
        engine: Arc::new(NamedEngine { recorded: RecordedEngine(recorded), names }),
        reads_namespaces: true,
        decision: None,
    })
}
