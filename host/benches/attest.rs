//! What an attestation is made of: the policy's own logic, the parsers, the proof, and the sandbox beside its native twin.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench is a test: a panic is its verdict")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use docker_attestor::attestor::Attestor;
use docker_attestor::bindings::docker_attestor::policy::types::{Capabilities, Settings};
use docker_attestor::capability::docker::proof::ContainerId;
use docker_attestor::capability::docker::{Container, Containers, Engine, Fetched, Finding, Inspected, Inspecting};
use docker_attestor::capability::process::recorded::{Recorded, RecordedProcess};
use docker_attestor::capability::process::{Processes as _, cgroup_mounts, parse_cgroup};
use docker_attestor::capability::{Import, Machine, Warnings, Workload};
use docker_attestor::config;
use docker_attestor::engine::Sandbox;
use docker_attestor::telemetry::metrics::Metrics;
use docker_attestor_policy::attest as native;
use docker_attestor_policy::component::docker_attestor::policy as wit;
use docker_attestor_policy::{locator, matcher};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CONTROLLERS: [&str; 9] =
    ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "name=systemd"];

fn cgroup() -> Vec<String> {
    let v1 = CONTROLLERS.iter().zip(1..).map(|(controller, number)| format!("{number}:{controller}:/docker/{ID}"));
    v1.chain([format!("0::/docker/{ID}")]).collect()
}

fn recorded() -> Recorded {
    let process = |nspid: [i32; 2]| RecordedProcess {
        cgroup: cgroup(),
        start_time: 1,
        pid_namespaces: vec![2, 1],
        nspid: nspid.to_vec(),
        ..RecordedProcess::default()
    };
    Recorded { processes: BTreeMap::from([(100, process([100, 1])), (101, process([101, 7]))]), now: 2 }
}

struct OneContainer;

impl Engine for OneContainer {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Inspecting<'a> {
        let inspected =
            Inspected { container: container(id.as_str()), pid: 100, pid_mode: String::new(), engine_uid: 0 };
        Box::pin(std::future::ready(Ok(Some(inspected))))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> Finding<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        labels: (0..5).map(|number| (format!("key{number}"), format!("value {number}"))).collect(),
        env: (0..10).map(|number| format!("NAME{number}=value {number}")).collect(),
        image: "shop/web:1.4".to_owned(),
        image_id: Some(format!("sha256:{id}")),
        image_manifest_digest: None,
    }
}

/// The same machine for the policy as plain Rust.
struct Native {
    cgroups: Vec<wit::process::Cgroup>,
    container: wit::docker::ProvenContainer,
}

impl native::Machine for Native {
    fn cgroups(&self) -> Result<Vec<wit::process::Cgroup>, wit::types::Fault> {
        Ok(self.cgroups.clone())
    }

    fn cgroup_mounts(&self) -> Result<Vec<wit::process::CgroupMount>, wit::types::Fault> {
        Ok(Vec::new())
    }

    fn job_object_names(&self) -> Result<Vec<String>, wit::types::Fault> {
        Ok(Vec::new())
    }

    fn container(
        &self,
        _: wit::docker::Engine,
        _: &str,
    ) -> Result<Option<wit::docker::ProvenContainer>, wit::types::Fault> {
        Ok(Some(self.container.clone()))
    }

    fn verify(&self) -> Result<wit::sigstore::Verdict, wit::types::Fault> {
        Ok(wit::sigstore::Verdict::Skipped)
    }
}

fn logic(criterion: &mut Criterion) {
    let patterns: Vec<String> = ["/docker/<id>", "/my.slice/*/<id>/*", "/x/*/<id>"].map(str::to_owned).to_vec();
    let matchers = matcher::Matchers::new(&patterns).unwrap();
    let paths: Vec<String> = (0..10).map(|_| format!("/docker/{ID}")).collect();
    criterion.bench_function("matcher: 10 paths, 3 patterns", |bencher| {
        bencher.iter(|| paths.iter().filter_map(|path| matchers.find(black_box(path))).count());
    });
    criterion.bench_function("locator: 10 paths", |bencher| {
        bencher.iter(|| locator::claim(black_box(&paths).iter().map(String::as_str)).unwrap());
    });
    let text = cgroup().join("\n");
    criterion.bench_function("parse cgroup: 10 lines", |bencher| {
        bencher.iter(|| parse_cgroup(black_box(text.as_bytes())).unwrap().len());
    });
    let mountinfo = "35 25 0:13 / /sys/fs/cgroup/x ro,nosuid master:9 - cgroup none rw\n".repeat(40);
    criterion.bench_function("parse mountinfo: 40 lines", |bencher| {
        bencher.iter(|| cgroup_mounts(black_box(mountinfo.as_bytes())).unwrap().len());
    });
    let hcl = "docker_socket_path = \"unix:///run/docker.sock\"\nuse_new_container_locator = false\n\
               container_id_cgroup_matchers = [\"/docker/<id>\", \"/my.slice/*/<id>/*\"]\n";
    criterion.bench_function("configuration: 4 lines of HCL", |bencher| {
        bencher.iter(|| config::load(Some("example.org"), black_box(hcl)).unwrap());
    });
}

fn proof(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let processes = Arc::new(recorded());
    let containers = Containers::new(Box::new(OneContainer), processes.clone(), true);
    let fetched = runtime.block_on(containers.fetch(&ContainerId::new(ID).unwrap(), 0)).unwrap();
    let Fetched::Answer(answer) = fetched else { panic!("no answer") };
    let process = processes.open(101).unwrap().unwrap();
    let text = process.cgroup().unwrap();
    criterion.bench_function("proof: 10 hierarchies", |bencher| {
        bencher.iter(|| answer.prove(&*process, black_box(&text)).is_ok());
    });
}

fn sandbox(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let processes = Arc::new(recorded());
    let docker = Arc::new(Containers::new(Box::new(OneContainer), processes.clone(), true));
    let machine = Arc::new(Machine {
        processes,
        docker,
        sigstore: None,
        verbose: false,
        extensions: vec!["compose".to_owned()],
        warnings: Warnings::default(),
    });
    let settings = Settings {
        capabilities: Capabilities::PROCESS | Capabilities::DOCKER,
        use_new_container_locator: true,
        container_id_cgroup_matchers: Vec::new(),
        extra: Vec::new(),
    };
    let sandbox = Sandbox::new().unwrap();
    let policy = sandbox.builtin().unwrap();
    // The engine's answer is kept from here on: no call leaves the sandbox for it.
    let mut warm = Some(Workload::new(Arc::clone(&machine), 101));
    runtime.block_on(sandbox.attest(&policy, &settings, &mut warm)).unwrap();
    let workload = || {
        let mut workload = Workload::new(Arc::clone(&machine), 101);
        workload.ask(&Import::Cgroups);
        workload
    };

    let mut group = criterion.benchmark_group("policy");
    group.bench_function("natively", |bencher| {
        let native_settings = wit::types::Settings {
            capabilities: wit::types::Capabilities::PROCESS | wit::types::Capabilities::DOCKER,
            use_new_container_locator: true,
            container_id_cgroup_matchers: Vec::new(),
            extra: Vec::new(),
        };
        let cgroups = (0..10)
            .map(|_| wit::process::Cgroup {
                hierarchy: "1".to_owned(),
                controllers: "cpu".to_owned(),
                path: format!("/docker/{ID}"),
            })
            .collect();
        let facts = container(ID);
        let machine = Native {
            cgroups,
            container: wit::docker::ProvenContainer {
                id: facts.id,
                labels: facts.labels,
                env: facts.env,
                image: facts.image,
                image_id: facts.image_id,
                image_manifest_digest: None,
            },
        };
        bencher.iter(|| native::attest(&machine, black_box(&native_settings)).unwrap().len());
    });
    group.bench_function("in a fresh sandbox", |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let mut elapsed = std::time::Duration::ZERO;
                for _ in 0..times {
                    let workload = workload();
                    let started = Instant::now();
                    let mut instance = sandbox.instance(&policy, Some(workload)).await.unwrap();
                    black_box(instance.attest(&settings).await.unwrap().unwrap().len());
                    drop(instance);
                    elapsed += started.elapsed();
                }
                elapsed
            })
        });
    });
    group.bench_function("in a sandbox that is used again", |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let mut elapsed = std::time::Duration::ZERO;
                let mut left = times;
                while left > 0 {
                    // A call may use so much fuel: a new store every hundred calls.
                    let mut instance = sandbox.instance(&policy, Some(workload())).await.unwrap();
                    let started = Instant::now();
                    for _ in 0..left.min(100) {
                        black_box(instance.attest(&settings).await.unwrap().unwrap().len());
                    }
                    elapsed += started.elapsed();
                    left -= left.min(100);
                }
                elapsed
            })
        });
    });
    group.finish();

    let attestor = Attestor::of(Arc::new(recorded()), Metrics::disabled()).unwrap();
    let containers = Containers::new(Box::new(OneContainer), Arc::new(recorded()), true);
    runtime.block_on(attestor.configure_with(config::load(Some("example.org"), "").unwrap(), containers)).unwrap();
    runtime.block_on(attestor.attest(101)).unwrap();
    criterion.bench_function("an answer that is used again, on a recorded machine", |bencher| {
        bencher.iter(|| runtime.block_on(attestor.attest(black_box(101))).unwrap().len());
    });
}

criterion_group!(benches, logic, proof, sandbox);
criterion_main!(benches);
