//! Policies and extensions from files: which bytes may run, how they are replaced, and that nothing that goes wrong on the way
//! interrupts what runs.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use docker_attestor::attestor::{Attestor, Reloaded};
use docker_attestor::capability::docker::proof::ContainerId;
use docker_attestor::capability::docker::{Container, Containers, Engine, Finding, Inspected, Inspecting};
use docker_attestor::capability::process::recorded::{Recorded, RecordedProcess};
use docker_attestor::config;
use docker_attestor::engine::component::digest;
use docker_attestor::engine::load::Step;
use docker_attestor::engine::{Sandbox, compiler};
use docker_attestor::error::Error;
use docker_attestor::status::Component;
use docker_attestor::telemetry::metrics::Metrics;
use sigstore_world::{Content, Options, Version, World};
use tempfile::TempDir;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Where a component's result is, and where its texts begin.
const OK_EMPTY: &str = "(i32.const 16)";

/// A component of a world of the contract, at some version of it, from the text of a core module.
fn encode(world: &str, version: &str, module: &str) -> Vec<u8> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/policy.wit")).unwrap();
    let text = text.replace("policy@1.0.0", &format!("policy@{version}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_str("policy.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(module.replace("@1.0.0", &format!("@{version}"))).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

const MEMORY: &str = r#"
    (memory (export "memory") 4)
    (global $top (mut i32) (i32.const 65536))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (local.get $at))"#;

/// A policy with these bodies of `validate` and `attest`.
fn policy_with(version: &str, data: &str, validate: &str, attest: &str) -> Vec<u8> {
    let module = format!(
        r#"(module {MEMORY} {data}
            (func $again (param i32) (result i32) (call $again (i32.add (local.get 0) (i32.const 1))))
            (func (export "docker-attestor:policy/attestor@1.0.0#validate")
                (param i32 i32 i32 i32 i32 i32) (result i32) {validate})
            (func (export "docker-attestor:policy/attestor@1.0.0#attest")
                (param i32 i32 i32 i32 i32 i32) (result i32) {attest}))"#
    );
    encode("policy", version, &module)
}

/// A policy that returns these selectors, whatever it is told.
fn policy(selectors: &[&str]) -> Vec<u8> {
    policy_with("1.0.0", &result(selectors), "(i32.const 8)", "(i32.const 64)")
}

/// A policy of 32 selectors that all name it.
fn tagged(tag: &str) -> Vec<u8> {
    let selectors: Vec<String> = (0..32).map(|number| format!("tag:{tag}:{number}")).collect();
    policy(&selectors.iter().map(String::as_str).collect::<Vec<_>>())
}

/// An extension with this body of `derive`; what it is told lies at its first parameter.
fn extension(data: &str, derive: &str) -> Vec<u8> {
    let module = format!(
        r#"(module {MEMORY} {data}
            (func $again (param i32) (result i32) (call $again (i32.add (local.get 0) (i32.const 1))))
            (func (export "docker-attestor:policy/deriver@1.0.0#derive") (param $told i32) (result i32) {derive}))"#
    );
    encode("extension", "1.0.0", &module)
}

/// Data for the result `ok(selectors)` at address 64.
fn result(selectors: &[&str]) -> String {
    let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let (mut list, mut data, mut at) = (Vec::new(), String::new(), 8_192);
    for selector in selectors {
        list.extend(u32::to_le_bytes(at));
        list.extend(u32::try_from(selector.len()).unwrap().to_le_bytes());
        data += &format!("(data (i32.const {at}) \"{}\")", escaped(selector.as_bytes()));
        at += u32::try_from(selector.len()).unwrap();
    }
    let mut head = vec![0, 0, 0, 0];
    head.extend(u32::to_le_bytes(131_072));
    head.extend(u32::try_from(selectors.len()).unwrap().to_le_bytes());
    format!("(data (i32.const 131072) \"{}\") (data (i32.const 64) \"{}\") {data}", escaped(&list), escaped(&head))
}

/// The component with a version of its author's, and so with other bytes.
fn versioned(component: &[u8], version: &str) -> Vec<u8> {
    let mut section = vec![7];
    section.extend_from_slice(b"version");
    section.extend_from_slice(version.as_bytes());
    let mut bytes = component.to_vec();
    bytes.extend([0, u8::try_from(section.len()).unwrap()]);
    bytes.extend(section);
    bytes
}

struct OneContainer;

impl Engine for OneContainer {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Inspecting<'a> {
        let container = Container {
            id: id.as_str().to_owned(),
            labels: vec![("name".to_owned(), "web".to_owned())],
            env: vec!["TOKEN=hunter2".to_owned()],
            image: "web:1".to_owned(),
            image_id: None,
            image_manifest_digest: None,
        };
        let known = id.as_str() == ID;
        Box::pin(std::future::ready(Ok(known.then(|| Inspected {
            container,
            pid: 100,
            pid_mode: String::new(),
            engine_uid: 0,
        }))))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> Finding<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// A machine with one container (processes 100, 101, 102 of different users) and a process outside (1), and a folder.
struct Stage {
    attestor: Arc<Attestor>,
    processes: Arc<Recorded>,
    folder: TempDir,
}

impl Stage {
    fn new() -> Stage {
        let inside = |nspid: i32, uid: u32| RecordedProcess {
            cgroup: vec![format!("0::/docker/{ID}")],
            start_time: 1,
            pid_namespaces: vec![2, 1],
            nspid: vec![100, nspid],
            uid,
            gid: uid,
            ..RecordedProcess::default()
        };
        let outside =
            RecordedProcess { cgroup: vec!["0::/".to_owned()], pid_namespaces: vec![1], ..RecordedProcess::default() };
        let processes = BTreeMap::from([(1, outside), (100, inside(1, 0)), (101, inside(2, 3)), (102, inside(3, 4))]);
        let processes = Arc::new(Recorded { processes, now: 2 });
        let attestor = Arc::new(Attestor::of(processes.clone(), Metrics::disabled()).unwrap());
        Stage { attestor, processes, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).display().to_string()
    }

    /// Replaces a file as `mv` does it.
    fn replace(&self, name: &str, bytes: &[u8]) {
        self.write("next", bytes);
        fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    async fn configure(&self, text: &str) -> Result<(), Error> {
        let containers = Containers::new(Box::new(OneContainer), self.processes.clone(), true);
        let configuration = config::load(Some("example.org"), text)?;
        self.attestor.configure_with(configuration, containers).await
    }

    async fn attest(&self, pid: i32) -> Vec<String> {
        self.attestor.attest(pid).await.unwrap()
    }

    /// What is said of the policy, or of an extension.
    fn component(&self, name: &str) -> Component {
        self.attestor.status().components.into_iter().find(|component| component.name == name).unwrap()
    }

    fn failed_step(&self, name: &str) -> Option<Step> {
        self.component(name).last_failure.map(|failure| failure.step)
    }
}

fn unpinned(path: &str) -> String {
    format!("policy {{ path = {path:?} unpinned = true }}")
}

fn pinned(path: &str, components: &[&[u8]]) -> String {
    let digests: Vec<String> = components.iter().map(|component| digest(component)).collect();
    format!("policy {{ path = {path:?} sha256 = {digests:?} }}")
}

const REPLACED: Reloaded = Reloaded { replaced: 1, failed: 0 };
const FAILED: Reloaded = Reloaded { replaced: 0, failed: 1 };
const SAME: Reloaded = Reloaded { replaced: 0, failed: 0 };

#[tokio::test]
async fn only_bytes_that_are_pinned_run() {
    let stage = Stage::new();
    let (a, b, other) = (tagged("a"), tagged("b"), tagged("other"));
    let path = stage.write("p.wasm", &a);
    stage.configure(&pinned(&path, &[&a, &b])).await.unwrap();
    assert_eq!(stage.attest(100).await[0], "tag:a:0");
    assert_eq!(stage.attestor.reload().await, SAME);

    stage.replace("p.wasm", &b);
    assert_eq!(stage.attestor.reload().await, REPLACED);
    assert_eq!(stage.attest(100).await[0], "tag:b:0");
    assert_eq!((stage.component("policy").digest, stage.component("policy").replaced), (digest(&b), 1));

    stage.replace("p.wasm", &other);
    assert_eq!(stage.attestor.reload().await, FAILED);
    assert_eq!(stage.attest(100).await[0], "tag:b:0", "what runs goes on");
    let failure = stage.component("policy").last_failure.unwrap();
    assert_eq!(failure.step, Step::Pin);
    assert!(failure.reason.contains(&digest(&other)), "{failure:?}");

    let error = stage.configure(&pinned(&path, &[&a])).await.unwrap_err();
    assert!(error.to_string().contains(&format!("policy: {path}: pin: its digest is")), "{error}");
    assert_eq!(stage.attest(100).await[0], "tag:b:0");
    for (name, reason) in [("none.wasm", "no such file"), ("", "not a regular file")] {
        let error = stage.configure(&unpinned(&stage.path(name).display().to_string())).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

fn parts(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {text})")).unwrap()
}

/// What no replacement may be: the bytes, the step that refuses them, and a part of the reason.
fn bad() -> Vec<(&'static str, Vec<u8>, Step, &'static str)> {
    let attest = |body: &str| policy_with("1.0.0", "", "(i32.const 8)", body);
    let good = tagged("good");
    let many: Vec<String> = (0..4_097).map(|number| format!("n:{number}")).collect();
    // A diagnostic of severity error, whose message is empty.
    let error = "(data (i32.const 24) \"\\40\\01\\00\\00\\01\\00\\00\\00\")";
    vec![
        ("random bytes", b"\x8a random bytes".to_vec(), Step::Inspect, "no WebAssembly component"),
        ("truncated", good[..good.len() / 2].to_vec(), Step::Inspect, "no WebAssembly component"),
        ("a core module", wat::parse_str("(module)").unwrap(), Step::Inspect, "core module"),
        (
            "a WASI import",
            wat::parse_str("(component (import \"wasi:cli/environment@0.2.0\" (instance (export \"get\" (func)))))")
                .unwrap(),
            Step::Inspect,
            "\"wasi:cli/environment@0.2.0\"",
        ),
        (
            "20,001 functions",
            parts(&format!("(core module {})", "(func)".repeat(20_001))),
            Step::Inspect,
            "20001 functions",
        ),
        ("65 modules", parts(&"(core module)".repeat(65)), Step::Inspect, "65 modules and components"),
        (
            "components in components",
            parts(&format!("{}{}", "(component ".repeat(6), ")".repeat(6))),
            Step::Inspect,
            "levels of components",
        ),
        (
            // 700 levels used up the stack of a thread, and ended the process.
            "types in types",
            [b"\0asm\x0d\0\x01\0\x07\xb4\x10\x01".to_vec(), b"\x42\x01\x01".repeat(700 - 1), b"\x42\x00".to_vec()]
                .concat(),
            Step::Inspect,
            "types of components or instances within others",
        ),
        (
            "257 imports",
            parts(&(0..257).map(|number| format!("(import \"f{number}\" (func))")).collect::<String>()),
            Step::Inspect,
            "257 imports",
        ),
        (
            "a function of 128 KiB",
            parts(&format!("(core module (func {}))", "nop ".repeat(128 << 10))),
            Step::Inspect,
            "bytes in one function",
        ),
        ("no export", wat::parse_str("(component)").unwrap(), Step::Inspect, "exports neither"),
        ("the other world", extension("", OK_EMPTY), Step::Inspect, "of the world extension"),
        (
            "another major version",
            policy_with("2.0.0", "", "(i32.const 8)", OK_EMPTY),
            Step::Inspect,
            "version 2.0.0 of the contract, this program speaks 1.0.0",
        ),
        ("settings refused", policy_with("1.0.0", error, "(i32.const 24)", OK_EMPTY), Step::Settings, ""),
        ("a trap", attest("unreachable"), Step::Trial, "trapped"),
        ("a loop", attest("(loop (br 0)) (i32.const 16)"), Step::Trial, "more CPU"),
        ("a deep recursion", attest("(call $again (i32.const 0))"), Step::Trial, "more stack"),
        ("memory", attest("(loop (drop (memory.grow (i32.const 64))) (br 0)) (i32.const 16)"), Step::Trial, ""),
        (
            "selectors without end",
            policy(&many.iter().map(String::as_str).collect::<Vec<_>>()),
            Step::Trial,
            "4097 selectors",
        ),
        (
            "a selector of 1 GiB",
            policy_with(
                "1.0.0",
                "(data (i32.const 64) \"\\00\\00\\00\\00\\80\\00\\00\\00\\01\\00\\00\\00\") \
            (data (i32.const 128) \"\\00\\00\\00\\00\\00\\00\\00\\40\")",
                "(i32.const 8)",
                "(i32.const 64)",
            ),
            Step::Trial,
            "",
        ),
        ("a false fact", policy(&["label:name:theirs"]), Step::Trial, "states no fact"),
        ("larger than a file may be", vec![0; 4 << 20 | 1], Step::Read, "larger than"),
    ]
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_replacement_never_interrupts_what_runs() {
    let stage = Arc::new(Stage::new());
    let path = stage.write("p.wasm", &tagged("a"));
    stage.configure(&unpinned(&path)).await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let (attestor, over) = (Arc::clone(&stage.attestor), Arc::clone(&ended));
    let calls = tokio::spawn(async move {
        let mut calls = 0;
        while !over.load(Ordering::Relaxed) {
            assert_eq!(attestor.attest(100).await.unwrap()[31], "tag:a:31");
            calls += 1;
            tokio::task::yield_now().await;
        }
        calls
    });
    let mut resident = 0;
    for round in 0..4 {
        for (what, bytes, step, reason) in bad() {
            stage.replace("p.wasm", &bytes);
            assert_eq!(stage.attestor.reload().await, FAILED, "{what}");
            let failure = stage.component("policy").last_failure.unwrap();
            assert_eq!(failure.step, step, "{what}: {}", failure.reason);
            assert!(failure.reason.contains(reason), "{what}: {}", failure.reason);
        }
        if round == 0 {
            resident = resident_kib();
        }
    }
    assert!(resident_kib() < resident + 64 * 1_024, "{resident} KiB became {}", resident_kib());
    ended.store(true, Ordering::Relaxed);
    assert!(calls.await.unwrap() > 0);
    stage.replace("p.wasm", &tagged("b"));
    assert_eq!(stage.attestor.reload().await, REPLACED);
    assert_eq!(stage.attest(100).await[0], "tag:b:0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_whole_from_one_policy() {
    let stage = Stage::new();
    let (a, b) = (tagged("a"), tagged("b"));
    let path = stage.write("p.wasm", &a);
    stage.configure(&pinned(&path, &[&a, &b])).await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (attestor, over) = (Arc::clone(&stage.attestor), Arc::clone(&ended));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let selectors = attestor.attest(100).await.unwrap();
                    let tag = selectors[0].split(':').nth(1).unwrap().to_owned();
                    let whole = (0..32).map(|number| format!("tag:{tag}:{number}")).collect::<Vec<_>>();
                    assert_eq!(selectors, whole);
                    // These calls wait for nothing, and the test's own file has its turn.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 0..200 {
        stage.replace("p.wasm", if round % 2 == 0 { &b } else { &a });
        assert_eq!(stage.attestor.reload().await, REPLACED);
    }
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(stage.component("policy").replaced, 200);
}

#[tokio::test]
async fn an_answer_of_the_old_policy_is_never_used_again() {
    let stage = Stage::new();
    let builtin = stage.attestor.clone();
    stage.configure("").await.unwrap();
    assert!(stage.attest(101).await.contains(&"label:name:web".to_owned()));
    assert!(builtin.explain(101).await.unwrap().reused);
    let path = stage.write("p.wasm", &tagged("a"));
    stage.configure(&unpinned(&path)).await.unwrap();
    assert_eq!(stage.attest(101).await[0], "tag:a:0");
}

#[tokio::test]
async fn every_way_of_replacing_a_file_is_seen_without_a_signal() {
    let stage = Stage::new();
    let path = stage.path("p.wasm");
    let tags: Vec<String> = ["created", "renamed", "written", "linked", "swapped", "back"].map(str::to_owned).into();
    let component = |tag: &str| tagged(tag);
    let in_use = async |tag: &str| {
        let started = Instant::now();
        while stage.attest(100).await[0] != format!("tag:{tag}:0") {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{tag} is not in use: {:?}",
                stage.component("policy")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    stage.write("p.wasm", &component(&tags[0]));
    stage.configure(&unpinned(&path.display().to_string())).await.unwrap();
    let watch = tokio::spawn(Attestor::watch(Arc::downgrade(&stage.attestor)));
    in_use("created").await;
    stage.replace("p.wasm", &component("renamed"));
    in_use("renamed").await;
    stage.write("p.wasm", &component("written"));
    in_use("written").await;
    // As Kubernetes does it: FILE -> ..data/FILE, and ..data is replaced by a rename.
    for version in ["linked", "swapped"] {
        fs::create_dir(stage.path(version)).unwrap();
        fs::write(stage.path(version).join("p.wasm"), component(version)).unwrap();
    }
    symlink("linked", stage.path("..data")).unwrap();
    symlink("..data/p.wasm", stage.path("link")).unwrap();
    fs::rename(stage.path("link"), &path).unwrap();
    in_use("linked").await;
    symlink("swapped", stage.path("..next")).unwrap();
    fs::rename(stage.path("..next"), stage.path("..data")).unwrap();
    in_use("swapped").await;
    // Gone, and back: what runs goes on meanwhile.
    fs::remove_file(&path).unwrap();
    while stage.failed_step("policy") != Some(Step::Read) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    in_use("swapped").await;
    stage.write("p.wasm", &component("back"));
    in_use("back").await;
    watch.abort();
}

#[tokio::test]
async fn a_signed_policy_is_the_signers_and_never_goes_back() {
    let stage = Stage::new();
    let world = World::new();
    let root = stage.write("root.json", world.trusted_root().to_string().as_bytes());
    let sign =
        |component: &[u8]| world.bundle(&Content::Message(component.to_vec()), Version::V03, &Options::default()).bytes;
    let put = |component: &[u8]| {
        stage.write("p.wasm.sigstore.json", &sign(component));
        stage.replace("p.wasm", component);
    };
    let configuration = |more: &str| {
        format!(
            "sigstore {{ trusted_root = {root:?} on_failure = \"omit\" }}\npolicy {{ path = {:?} bundle = {:?} \
             issuer = \"https://issuer.world.test\" {more} }}",
            stage.path("p.wasm"),
            stage.path("p.wasm.sigstore.json")
        )
    };
    let ours = configuration("identity = \"signer@world.test\"");
    put(&versioned(&tagged("two"), "1.2.0"));
    let refused = stage.configure(&configuration("identity = \"someone@world.test\"")).await.unwrap_err();
    assert!(refused.to_string().contains("signature") && refused.to_string().contains("rule 7"), "{refused}");
    stage.configure(&ours).await.unwrap();
    assert_eq!(stage.attest(100).await[0], "tag:two:0");
    assert_eq!(stage.component("policy").version.as_deref(), Some("1.2.0"));

    // Other bytes than those that are signed.
    stage.replace("p.wasm", &versioned(&tagged("forged"), "1.3.0"));
    assert_eq!((stage.attestor.reload().await, stage.failed_step("policy")), (FAILED, Some(Step::Signature)));
    // Signed, and older.
    for older in [versioned(&tagged("one"), "1.1.0"), tagged("none")] {
        put(&older);
        assert_eq!((stage.attestor.reload().await, stage.failed_step("policy")), (FAILED, Some(Step::Version)));
    }
    let refused = stage.configure(&ours).await.unwrap_err();
    assert!(refused.to_string().contains("1.2.0 ran before"), "{refused}");
    assert_eq!(stage.attest(100).await[0], "tag:two:0");
    // An attestation about the file is no signature of it.
    let newer = versioned(&tagged("three"), "1.3.0");
    let attestation = Content::attestation(&digest(&newer));
    stage.replace("p.wasm", &newer);
    let bundle = world.bundle(&attestation, Version::V03, &Options::default()).bytes;
    stage.write("p.wasm.sigstore.json", &bundle);
    assert_eq!((stage.attestor.reload().await, stage.failed_step("policy")), (FAILED, Some(Step::Signature)));
    assert!(stage.component("policy").last_failure.unwrap().reason.contains("an attestation, not a signature"));
    put(&newer);
    assert_eq!(stage.attestor.reload().await, REPLACED);
    // The operator may say that it goes back.
    put(&versioned(&tagged("one"), "1.1.0"));
    stage.configure(&configuration("identity = \"signer@world.test\" allow_older = true")).await.unwrap();
    assert_eq!(stage.attest(100).await[0], "tag:one:0");
}

/// An extension that says what it is told: `labels`, `env`, `image`, and the last digit of the uid.
fn curious() -> Vec<u8> {
    let add = |text: u32, length: u32, when: &str| {
        format!(
            "(if {when} (then
                (i32.store (local.get $entry) (i32.const {text}))
                (i32.store offset=4 (local.get $entry) (i32.const {length}))
                (local.set $entry (i32.add (local.get $entry) (i32.const 8)))))"
        )
    };
    let told = |offset: u32| format!("(i32.load8_u offset={offset} (local.get $told))");
    extension(
        r#"(data (i32.const 256) "labels") (data (i32.const 272) "env") (data (i32.const 288) "image") (data (i32.const 304) "uid:?")"#,
        &format!(
            "(local $entry i32)
             (local.set $entry (i32.const 512))
             {} {} {}
             (i32.store8 (i32.const 308) (i32.add (i32.const 48) (i32.load offset=64 (local.get $told))))
             {}
             (i32.store (i32.const 64) (i32.const 0))
             (i32.store (i32.const 68) (i32.const 512))
             (i32.store (i32.const 72) (i32.shr_u (i32.sub (local.get $entry) (i32.const 512)) (i32.const 3)))
             (i32.const 64)",
            add(256, 6, &told(0)),
            add(272, 3, &told(12)),
            add(288, 5, &told(24)),
            add(304, 5, &told(60)),
        ),
    )
}

fn extensions_of(selectors: &[String]) -> Vec<&str> {
    let builtin = ["label:", "env:", "image_id:", "image_config_digest:"];
    let own = |selector: &&String| !builtin.iter().any(|kind| selector.starts_with(kind));
    selectors.iter().filter(own).map(String::as_str).collect()
}

#[tokio::test]
async fn an_extension_sees_what_it_is_granted_and_emits_under_its_name() {
    let stage = Stage::new();
    let path = stage.write("x.wasm", &curious());
    let granted =
        |grants: &[&str]| format!("extension \"seen\" {{ path = {path:?} unpinned = true grants = {grants:?} }}");
    for (grants, expected) in [
        (&[][..], &[][..]),
        (&["labels"], &["seen:labels"]),
        (&["env"], &["seen:env"]),
        (&["image"], &["seen:image"]),
        (&["process"], &["seen:uid:3"]),
        (&["process", "image", "env", "labels"], &["seen:labels", "seen:env", "seen:image", "seen:uid:3"]),
    ] {
        stage.configure(&granted(grants)).await.unwrap();
        let selectors = stage.attest(101).await;
        assert_eq!(extensions_of(&selectors), expected, "{grants:?}");
        assert!(selectors.contains(&"label:name:web".to_owned()), "after the policy's: {selectors:?}");
        assert_eq!(stage.attest(1).await, Vec::<String>::new(), "a process in no container has none");
    }
}

#[tokio::test]
async fn two_users_of_one_container_never_get_each_others_answer() {
    let stage = Stage::new();
    let path = stage.write("x.wasm", &curious());
    stage
        .configure(&format!("extension \"seen\" {{ path = {path:?} unpinned = true grants = [\"process\"] }}"))
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(extensions_of(&stage.attest(101).await), ["seen:uid:3"]);
        assert_eq!(extensions_of(&stage.attest(102).await), ["seen:uid:4"]);
    }
    stage.attest(102).await;
    assert!(stage.attestor.explain(102).await.unwrap().reused, "the same user's answer is used again");
}

#[tokio::test]
async fn an_extension_that_fails_denies_or_is_left_out() {
    let stage = Stage::new();
    let good = stage.write("good.wasm", &curious());
    let value = |text: &str| {
        format!(
            "(data (i32.const 64) \"\\01\\00\\00\\00\\00\\01\\00\\00\\{:02x}\\00\\00\\00\") (data (i32.const 256) \"{text}\")",
            text.len()
        )
    };
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    let many = result(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let long = "x".repeat(1_025);
    // Its trial has no process 3 either: it fails only where it is told of one.
    let only_for_users = |body: &str| {
        format!(
            "(if (result i32) (i32.eq (i32.load offset=64 (local.get $told)) (i32.const 3)) (then {body}) (else {OK_EMPTY}))"
        )
    };
    for (what, data, body, reason) in [
        ("a trap", "", "unreachable".to_owned(), "trapped"),
        ("a loop", "", "(loop (br 0)) (i32.const 16)".to_owned(), "more CPU"),
        ("a recursion", "", "(call $again (i32.const 0))".to_owned(), "more stack"),
        ("memory", "", "(loop (drop (memory.grow (i32.const 64))) (br 0)) (i32.const 16)".to_owned(), ""),
        ("65 selectors", many.as_str(), "(i32.const 64)".to_owned(), "65 selectors"),
        ("a long selector", result(&[&long]).as_str(), "(i32.const 64)".to_owned(), "has 1025 bytes"),
        ("a control character", result(&["a\nb"]).as_str(), "(i32.const 64)".to_owned(), "control character"),
        ("twice", result(&["a", "a"]).as_str(), "(i32.const 64)".to_owned(), "duplicate"),
        ("its own error", value("hunter2 is bad").as_str(), "(i32.const 64)".to_owned(), "… is bad"),
    ] {
        let bad = stage.write("bad.wasm", &extension(data, &only_for_users(&body)));
        let text = |on_failure: &str| {
            format!(
                "extension \"b-good\" {{ path = {good:?} unpinned = true grants = [\"process\"] }}\n\
                 extension \"a-bad\" {{ path = {bad:?} unpinned = true grants = [\"process\", \"env\"] on_failure = \"{on_failure}\" }}"
            )
        };
        stage.configure(&text("deny")).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let error = stage.attestor.attest(101).await.unwrap_err().to_string();
        assert!(error.contains("extension \"a-bad\"") && error.contains(reason), "{what}: {error}");
        assert!(!error.contains("hunter2"), "{what}: {error}");
        assert_eq!(extensions_of(&stage.attest(102).await), ["b-good:uid:4"], "{what}: its own call only");
        stage.configure(&text("omit")).await.unwrap();
        for _ in 0..2 {
            let explained = stage.attestor.explain(101).await.unwrap();
            assert_eq!(extensions_of(&explained.outcome.unwrap()), ["b-good:uid:3"], "{what}");
            assert!(!explained.reused, "{what}: an answer with an omission is not kept");
        }
    }
}

#[tokio::test]
async fn an_extension_is_replaced_alone_and_tried_before() {
    let stage = Stage::new();
    let policy = stage.write("p.wasm", &tagged("a"));
    let path = stage.write("x.wasm", &curious());
    stage
        .configure(&format!(
            "{}\nextension \"x\" {{ path = {path:?} unpinned = true grants = [\"labels\"] }}",
            unpinned(&policy)
        ))
        .await
        .unwrap();
    assert_eq!(stage.attest(101).await.len(), 32, "a policy that obtained no container: no extension runs");
    stage
        .configure(&format!("extension \"x\" {{ path = {path:?} unpinned = true grants = [\"labels\"] }}"))
        .await
        .unwrap();
    assert_eq!(extensions_of(&stage.attest(101).await), ["x:labels"]);
    stage.replace("x.wasm", &extension("", "unreachable"));
    assert_eq!((stage.attestor.reload().await, stage.failed_step("extension x")), (FAILED, Some(Step::Trial)));
    assert_eq!(extensions_of(&stage.attest(101).await), ["x:labels"]);
    stage.replace("x.wasm", &extension(&result(&["new"]), "(i32.const 64)"));
    assert_eq!(stage.attestor.reload().await, REPLACED);
    assert_eq!(extensions_of(&stage.attest(101).await), ["x:new"]);
}

/// Files that are never made again: what was built against 1.0 must link for as long as the contract is 1.x.
fn frozen(name: &str) -> Vec<u8> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/contract/1.0")).join(name);
    if std::env::var_os("FREEZE_CONTRACT").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = if name.starts_with("policy") { tagged("frozen") } else { curious() };
        fs::write(&path, bytes).unwrap();
    }
    fs::read(path).unwrap()
}

#[tokio::test]
async fn what_was_built_against_1_0_and_newer_minors_link() {
    let stage = Stage::new();
    let path = stage.write("p.wasm", &frozen("policy.wasm"));
    let extension = stage.write("x.wasm", &frozen("extension.wasm"));
    stage
        .configure(&format!("{}\nextension \"x\" {{ path = {extension:?} unpinned = true }}", unpinned(&path)))
        .await
        .unwrap();
    assert_eq!(stage.attest(101).await[0], "tag:frozen:0");
    // A newer minor that uses nothing new.
    stage.replace("p.wasm", &policy_with("1.7.0", &result(&["tag:minor:0"]), "(i32.const 8)", "(i32.const 64)"));
    assert_eq!(stage.attestor.reload().await, REPLACED, "{:?}", stage.component("policy").last_failure);
    assert_eq!(stage.attest(101).await[0], "tag:minor:0");
}

#[tokio::test]
async fn a_function_or_an_interface_that_is_not_there_is_named() {
    let stage = Stage::new();
    let path = stage.write("p.wasm", &tagged("a"));
    stage.configure(&unpinned(&path)).await.unwrap();
    let export = "(core module $m (memory (export \"memory\") 1) (func (export \"f\")))";
    for (import, step, named) in [
        ("(import \"docker-attestor:policy/log@1.3.0\" (instance (export \"rotate\" (func))))", Step::Link, "rotate"),
        (
            "(import \"docker-attestor:policy/clock@1.3.0\" (instance (export \"now\" (func))))",
            Step::Inspect,
            "clock@1.3.0",
        ),
    ] {
        let text = format!(
            "(component {import} {export} (core instance $i (instantiate $m)) (func $f (canon lift (core func $i \"f\")))
               (instance $attestor (export \"validate\" (func $f)) (export \"attest\" (func $f)))
               (export \"docker-attestor:policy/attestor@1.3.0\" (instance $attestor)))"
        );
        stage.replace("p.wasm", &wat::parse_str(text).unwrap());
        assert_eq!(stage.attestor.reload().await, FAILED);
        let failure = stage.component("policy").last_failure.unwrap();
        assert_eq!(failure.step, step, "{failure:?}");
        assert!(failure.reason.contains(named), "{failure:?}");
    }
}

/// A component of one function with so many locals, read within so many nested loops: small, and slow to compile.
fn slow(locals: usize, loops: usize) -> Arc<[u8]> {
    let reads: String = (0..locals).map(|number| format!("(drop (local.get {number}))")).collect();
    let module = format!(
        "(core module (func (local {}) {} {reads} {}))",
        "i64 ".repeat(locals),
        "loop ".repeat(loops),
        "end ".repeat(loops)
    );
    wat::parse_str(format!("(component {module})")).unwrap().into()
}

#[tokio::test]
async fn a_component_that_would_keep_the_compiler_busy_is_given_up_by_a_process_of_its_own() {
    compiler::try_with(env!("CARGO_BIN_EXE_docker-attestor").into());
    let sandbox = Sandbox::new().unwrap();
    sandbox.compile(slow(10, 10)).await.unwrap();
    let before = resident_kib();
    for (what, locals, loops) in [("memory", 20_000, 10_000), ("time", 5_000, 5_000)] {
        let component = slow(locals, loops);
        assert!(component.len() < 128 << 10, "{what}: within every limit of size");
        let started = Instant::now();
        let error = sandbox.compile(component).await.err().unwrap();
        assert!(
            error.contains("the compiler would take more than") || error.contains("was not compiled within"),
            "{what}: {error}"
        );
        assert!(started.elapsed() < Duration::from_secs(200), "{what}: {:?}", started.elapsed());
    }
    assert!(resident_kib() < before + 256 * 1_024, "what it took was another process's");
    sandbox.compile(slow(10, 10)).await.unwrap();
}
