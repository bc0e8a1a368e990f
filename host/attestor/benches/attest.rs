//! Measures the parts of an attestation: the policy's own logic, the parsers, the proof, the verdict on an image, and the
//! sandbox in comparison with the same policy as native code.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench is a test: a panic is its verdict"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use containers::engine::{Engine, InspectFuture, Inspected, Peer, RepoDigestsFuture};
use containers::process::recorded::{RecordedProcess, RecordedProcesses};
use containers::process::{Evidence, Processes as _, cgroup_mounts, parse_cgroup};
use containers::proof::{Init, ProofContext, Proven};
use containers::{Claimant, Container, ContainerId, Containers, Lookup, RunningContainer};
use criterion::{Criterion, criterion_group, criterion_main};
use docker_attestor::attestation::{Extension, Sandbox};
use docker_attestor::attestor::Attestor;
use docker_attestor::components::Runtime;
use docker_attestor::config;
use docker_attestor::machine::FixedMachine;
use docker_attestor::telemetry::metrics::Metrics;
use docker_attestor::workload::decision::{Decision, SignedImages};
use docker_attestor::workload::{Backends, Question, Workload};
use docker_attestor_policy::attest as native;
use docker_attestor_policy::component::docker_attestor::policy as wit;
use docker_attestor_policy::{locator, matcher};
use image_signatures::{Image, Verifier};
use sandbox::Compilation;
use sandbox::inspect::Description;
use sandbox::wit::{Capabilities, Settings};
use sigstore_fixtures::registry::{self, Registry};
use sigstore_fixtures::{Options, TestBed, oci};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CONTROLLERS: [&str; 9] =
    ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "name=systemd"];

fn cgroup() -> Vec<String> {
    let v1 = CONTROLLERS.iter().zip(1..).map(|(controller, number)| format!("{number}:{controller}:/docker/{ID}"));
    v1.chain([format!("0::/docker/{ID}")]).collect()
}

fn recorded() -> RecordedProcesses {
    let process = |nspid: [i32; 2]| RecordedProcess {
        cgroup: cgroup(),
        start_time: 1,
        pid_namespaces: vec![2, 1],
        nspid: nspid.to_vec(),
        ..RecordedProcess::default()
    };
    RecordedProcesses {
        processes: BTreeMap::from([(100, process([100, 1])), (101, process([101, 7]))]),
        now: 2,
        ..RecordedProcesses::default()
    }
}

struct OneContainer;

impl Engine for OneContainer {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        let inspected = Inspected {
            container: container(id.as_str()),
            pid: 100,
            pid_mode: String::new(),
            cgroup_parent: String::new(),
            isolation: String::new(),
            engine: Peer::default(),
        };
        Box::pin(std::future::ready(Ok(Some(inspected))))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        labels: (0..4)
            .map(|number| (format!("key{number}"), format!("value {number}")))
            .chain([("com.docker.compose.project".to_owned(), "shop".to_owned())])
            .collect(),
        env: (0..10).map(|number| format!("NAME{number}=value {number}")).collect(),
        image: "shop/web:1.4".to_owned(),
        image_id: Some(format!("sha256:{id}")),
        image_manifest_digest: None,
    }
}

/// The same machine for the policy as native Rust.
struct Native {
    cgroups: Vec<wit::process::Cgroup>,
    container: wit::docker::ProvenContainer,
}

impl native::Imports for Native {
    fn cgroups(&self) -> Result<Vec<wit::process::Cgroup>, wit::types::Fault> {
        Ok(self.cgroups.clone())
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

/// The container as it is cached.
async fn running() -> Arc<RunningContainer> {
    let containers = Containers::new(Arc::new(OneContainer), Arc::new(recorded()), ProofContext::ALL);
    match containers.fetch(&ContainerId::new(ID).unwrap(), Claimant::Attestor).await {
        Ok(Lookup::Running(container)) => container,
        _ => panic!("the container does not run"),
    }
}

/// The container, proven for process 101.
async fn proven() -> Proven {
    let process = recorded().open(101).unwrap().unwrap();
    running().await.prove(&*process, &Evidence::Cgroup(process.cgroup().unwrap())).unwrap().unwrap()
}

fn proof(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (processes, id) = (Arc::new(recorded()), ContainerId::new(ID).unwrap());
    let container = runtime.block_on(running());
    let process = processes.open(101).unwrap().unwrap();
    let text = Evidence::Cgroup(process.cgroup().unwrap());
    criterion.bench_function("proof: 10 hierarchies", |bencher| {
        bencher.iter(|| container.prove(&*process, black_box(&text)).is_ok());
    });
    let inspected = runtime.block_on(OneContainer.inspect(&id)).unwrap().unwrap();
    criterion.bench_function("init of a container not seen before: 10 hierarchies", |bencher| {
        bencher.iter(|| Init::find(&*processes, &id, black_box(&inspected), 2, ProofContext::ALL).unwrap().is_some());
    });
}

fn sandbox(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let processes = Arc::new(recorded());
    let docker = Arc::new(Containers::new(Arc::new(OneContainer), processes.clone(), ProofContext::ALL));
    let backends = Backends { extensions: vec!["compose".to_owned()], ..Backends::new(processes, docker) };
    let backends = Arc::new(backends);
    let settings = Settings {
        capabilities: Capabilities::PROCESS | Capabilities::DOCKER,
        use_new_container_locator: true,
        container_id_cgroup_matchers: Vec::new(),
        extra: Vec::new(),
    };
    let components = Arc::new(Runtime::new(Compilation::in_this_process(), Metrics::disabled()).unwrap());
    let Runtime { sandbox, builtin: policy, .. } = &*components;
    // The engine's answer is cached from now on, so that no call leaves the sandbox for it.
    let workload = Workload::new(Arc::clone(&backends), 101);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    runtime.block_on(policy.attest(sandbox, &settings, workload, deadline)).1.unwrap();
    let workload = || {
        let mut workload = Workload::new(Arc::clone(&backends), 101);
        workload.answer(&Question::Cgroups);
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
                let mut elapsed = Duration::ZERO;
                for _ in 0..times {
                    let workload = workload();
                    let started = Instant::now();
                    let mut instance = sandbox.instance(&policy.code, workload).await.unwrap();
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
                let mut elapsed = Duration::ZERO;
                let mut left = times;
                while left > 0 {
                    // The fuel of a store is limited, so every hundred calls get a new store.
                    let mut instance = sandbox.instance(&policy.code, workload()).await.unwrap();
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

    let machine = FixedMachine {
        processes: Arc::new(recorded()),
        engine: Arc::new(OneContainer),
        reads_namespaces: true,
        decision: None,
    };
    let attestor = Attestor::new(Arc::new(machine), components, Vec::new, Metrics::disabled());
    runtime.block_on(attestor.configure(config::load(Some("example.org"), "").unwrap())).unwrap();
    runtime.block_on(attestor.attest(101)).unwrap();
    criterion.bench_function("an answer that is used again, on a recorded machine", |bencher| {
        bencher.iter(|| runtime.block_on(attestor.attest(black_box(101))).unwrap().len());
    });
}

/// Measures one call of an extension in its fresh sandbox, which is its addition to an attestation that runs the policy.
fn extension(criterion: &mut Criterion) {
    let Some(path) = std::env::var_os("BENCH_EXTENSION") else {
        panic!("BENCH_EXTENSION names no extension: `just bench-parts` builds guest/examples/compose for it");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = format!("extension \"compose\" {{ path = {path:?} unpinned = true grants = [\"labels\"] }}");
    let configured = config::load(Some("example.org"), &text).unwrap().extensions.remove(0);
    let bytes: Arc<[u8]> = std::fs::read(path).unwrap().into();
    let sandbox = Sandbox::new(Compilation::in_this_process()).unwrap();
    let compiled = runtime.block_on(sandbox.compile(Arc::clone(&bytes))).unwrap();
    let extension = Extension {
        code: sandbox.extension(&compiled).unwrap(),
        description: Description::of(&bytes).unwrap(),
        name: configured.name,
        grants: configured.grants,
        on_failure: configured.on_failure,
        settings: configured.component.settings,
    };
    let proven = runtime.block_on(proven());
    let derived = runtime.block_on(extension.derive(&sandbox, &proven, None, || Claimant::Attestor)).0.unwrap();
    assert_eq!(derived, ["compose:project:shop"]);
    criterion.bench_function("an extension, in a fresh sandbox", |bencher| {
        bencher.iter(|| {
            let derived = extension.derive(&sandbox, black_box(&proven), None, || Claimant::Attestor);
            runtime.block_on(derived).0.unwrap().len()
        });
    });
}

/// Measures the verdict on an image that was verified before, as each attestation asks for it.
fn verdict(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let test_bed = TestBed::new();
    let files = tempfile::tempdir().unwrap();
    let root = files.path().join("trusted_root.json");
    std::fs::write(&root, test_bed.trusted_root().to_string()).unwrap();
    let options = format!("sigstore {{\nignore_attestations = true\ntrusted_root = {root:?}\n}}");
    let configuration = config::load(Some("example.org"), &options).unwrap();
    let sigstore = configuration.sigstore.unwrap();
    let verifier = Arc::new(Verifier::new(&sigstore.options).unwrap().0);
    let decides = SignedImages::new(verifier, sigstore.on_failure);
    let registry = runtime.block_on(Registry::start(registry::Options::default()));
    let digest = registry.push("shop/web", None, &oci::image("amd64", "an image"));
    registry.attach_signatures("shop/web", &digest, &[test_bed.sign_simple(&digest, &Options::default())]);
    let repo_digests = [format!("{}/shop/web@{digest}", registry.host())];
    let image = Image { repo_digests: &repo_digests, manifest: Some(&digest) };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(9);
    assert!(matches!(runtime.block_on(decides.verify(image, deadline)).0, Ok(Decision::Verified(_))));
    let asked = registry.requests().len();
    criterion.bench_function("a kept verdict", |bencher| {
        bencher.iter(|| decides.cached(black_box(image)).is_some_and(|(verdict, _)| verdict.is_ok()));
    });
    assert_eq!(registry.requests().len(), asked, "the verdict was not kept");
    // The bound on the cost for every attestation of a signed image.
    const BOUND: Duration = Duration::from_micros(50);
    let started = Instant::now();
    for _ in 0..10_000 {
        black_box(decides.cached(black_box(image)));
    }
    let each = started.elapsed() / 10_000;
    assert!(each < BOUND, "a kept verdict takes {each:?}, more than {BOUND:?}");
}

/// Measures each system call that the proof makes for a process that was not seen before, on many new processes of this machine.
#[cfg(target_os = "linux")]
fn new_process(_: &mut Criterion) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
    use rustix::io::pread;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    const PROCESSES: usize = 200;
    let proc = openat(CWD, "/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let mut children: Vec<_> =
        (0..PROCESSES).map(|_| std::process::Command::new("sleep").arg("60").spawn().unwrap()).collect();
    let calls = [
        "pidfd_open",
        "openat cgroup",
        "pread cgroup",
        "readlinkat ns/pid",
        "poll",
        "pread cgroup, again",
        "poll, again",
    ];
    let mut times = vec![Vec::new(); calls.len()];
    for child in &children {
        let pid = child.id().cast_signed();
        let mut lap = Instant::now();
        let mut record = |call: usize| {
            times[call].push(lap.elapsed());
            lap = Instant::now();
        };
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        record(0);
        let cgroup = openat(&proc, format!("{pid}/cgroup"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        record(1);
        let mut text = [0; 4096];
        pread(&cgroup, &mut text, 0).unwrap();
        record(2);
        readlinkat(&proc, format!("{pid}/ns/pid"), Vec::with_capacity(32)).unwrap();
        record(3);
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&Timespec::default())).unwrap();
        record(4);
        pread(&cgroup, &mut text, 0).unwrap();
        record(5);
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&Timespec::default())).unwrap();
        record(6);
    }
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for (call, times) in calls.iter().zip(&mut times) {
        times.sort_unstable();
        println!("a process not seen before: {call:<22} {:?}", times[PROCESSES / 2]);
    }
}

#[cfg(not(target_os = "linux"))]
fn new_process(_: &mut Criterion) {}

criterion_group!(benches, logic, new_process, proof, sandbox, extension, verdict);
criterion_main!(benches);
