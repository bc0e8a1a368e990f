//! Loading and replacing policies and extensions: which bytes may run, what triggers a replacement, and that the old and the
//! new are never mixed.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "in a test a panic is the verdict"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use docker_attestor::attestor::Attestor;
use docker_attestor::components::history::ComponentStatus;
use docker_attestor::components::load::Step;
use docker_attestor::config;
use docker_attestor::error::Error;
use docker_attestor::update::Reloaded;
use sandbox::inspect::digest;
use sigstore_fixtures::{Content, Identity, Options, San, TestBed, Version};

use crate::component::{data_at, emitting, extension, policy, policy_that_validates, returning, with_section};
use crate::machine::{OURS, PID, PID_BELOW, attestor, configure, unconfigured};

const NOTHING: Reloaded = Reloaded { replaced: 0, failed: 0 };
const REPLACED: Reloaded = Reloaded { replaced: 1, failed: 0 };
const FAILED: Reloaded = Reloaded { replaced: 0, failed: 1 };

/// A folder with files that a configuration names.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a file by a rename, as deployments do.
    fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        std::fs::write(self.path("next"), content).unwrap();
        std::fs::rename(self.path("next"), self.path(name)).unwrap();
        self.path(name)
    }
}

/// A policy that returns one selector of its own.
fn own(value: &str) -> Vec<u8> {
    returning(OURS, &[&format!("own:{value}")])
}

fn unpinned(path: &Path) -> String {
    format!("policy {{ path = {path:?} unpinned = true }}")
}

async fn selectors(attestor: &Attestor) -> Vec<String> {
    attestor.attest(PID).await.unwrap()
}

fn used(attestor: &Attestor, number: usize) -> ComponentStatus {
    attestor.status().components[number].clone()
}

/// The step at which the last attempt to replace a component failed, and the reason.
fn failure(attestor: &Attestor, number: usize) -> (Step, String) {
    let failure = used(attestor, number).last_failure.unwrap();
    (failure.step, failure.reason)
}

#[tokio::test]
async fn a_changed_file_runs_when_its_digest_is_listed() {
    let folder = Folder::new();
    let [one, two, three] = ["one", "two", "three"].map(own);
    let path = folder.put("policy.wasm", &one);
    let attestor =
        attestor(&format!("policy {{ path = {path:?} sha256 = [{:?}, {:?}] }}", digest(&one), &digest(&two)[7..]))
            .await;
    assert_eq!(selectors(&attestor).await, ["own:one"]);
    assert_eq!(attestor.reload().await, NOTHING, "the file is the same");
    folder.put("policy.wasm", &two);
    assert_eq!(selectors(&attestor).await, ["own:one"], "nobody looked yet");
    assert_eq!(attestor.reload().await, REPLACED);
    assert_eq!(selectors(&attestor).await, ["own:two"]);
    folder.put("policy.wasm", &three);
    assert_eq!(attestor.reload().await, FAILED);
    let (step, why) = failure(&attestor, 0);
    assert!(step == Step::Pin && why.contains(&digest(&three)) && why.contains(&digest(&one)), "{step}: {why}");
    assert_eq!(selectors(&attestor).await, ["own:two"]);
    folder.put("policy.wasm", &one);
    assert_eq!(attestor.reload().await, REPLACED, "a pin has no order");
    assert_eq!(selectors(&attestor).await, ["own:one"]);

    // One digest is allowed. Whatever else is put into the file, the policy stays in use.
    configure(&attestor, &format!("policy {{ path = {path:?} sha256 = {:?} }}", digest(&one))).await.unwrap();
    folder.put("policy.wasm", &two);
    assert_eq!(attestor.reload().await, FAILED);
    assert_eq!(selectors(&attestor).await, ["own:one"]);
}

#[tokio::test]
async fn what_is_neither_pinned_nor_signed_is_refused_unless_that_is_said() {
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &own("one"));
    let attestor = unconfigured();
    let error = configure(&attestor, &format!("policy {{ path = {path:?} }}")).await.unwrap_err();
    assert!(error.to_string().contains("neither pinned nor signed"), "{error}");
    let notes = attestor.validate(config::load(Some("example.org"), &unpinned(&path)).unwrap()).await.unwrap();
    assert!(notes.iter().any(|note| note.contains("unpinned: whoever can write to")), "{notes:?}");
    assert!(!attestor.status().configured, "to validate is not to configure");
    configure(&attestor, &unpinned(&path)).await.unwrap();
    assert_eq!(selectors(&attestor).await, ["own:one"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_refused_by_path_and_reason() {
    let folder = Folder::new();
    let attestor = attestor(&unpinned(&folder.put("policy.wasm", &own("one")))).await;
    std::fs::create_dir(folder.path("directory")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.path("fifo")).status().unwrap().success());
    symlink("nowhere", folder.path("dangling")).unwrap();
    symlink("circle", folder.path("circle")).unwrap();
    folder.put("large", &vec![0; (4 << 20) + 1]);
    for (name, reason) in [
        ("none", "no such file"),
        ("directory", "not a regular file"),
        ("fifo", "not a regular file"),
        ("dangling", "no such file"),
        ("circle", "cannot be read"),
        ("large", "larger than 4194304 bytes"),
    ] {
        let path = folder.path(name);
        let error = configure(&attestor, &unpinned(&path)).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        let text = error.to_string();
        assert!(text.starts_with(&format!("policy: {}: read: ", path.display())) && text.contains(reason), "{text}");
        // The same problems where a good file was before.
        std::fs::remove_file(folder.path("policy.wasm")).unwrap();
        symlink(&path, folder.path("policy.wasm")).unwrap();
        assert_eq!(attestor.reload().await, FAILED, "{name}");
        let (step, why) = failure(&attestor, 0);
        assert!(step == Step::Read && why.contains(reason), "{name}: {step}: {why}");
        assert_eq!(selectors(&attestor).await, ["own:one"], "{name}");
    }
}

static TEST_BED: LazyLock<TestBed> = LazyLock::new(TestBed::new);

/// A configuration whose policy must be signed. If it has a `sigstore` block, images are verified too, if the policy asks
/// for that.
fn signed(folder: &Folder, more: &str) -> String {
    TEST_BED.save(&folder.path("world"));
    format!(
        "sigstore {{ trusted_root = {:?} }}\n\
         policy {{ path = {:?} bundle = {:?} identity = \"signer@world.test\" issuer = \"https://issuer.world.test\" {more} }}",
        folder.path("world/trusted_root.json"),
        folder.path("policy.wasm"),
        folder.path("policy.sigstore.json"),
    )
}

/// The bundle that `cosign sign-blob --bundle` makes.
fn bundle(file: &[u8], options: &Options) -> Vec<u8> {
    TEST_BED.bundle(&Content::Message(file.to_vec()), Version::V03, options).bytes
}

fn put_signed(folder: &Folder, component: &[u8]) {
    folder.put("policy.wasm", component);
    folder.put("policy.sigstore.json", &bundle(component, &Options::default()));
}

#[tokio::test]
async fn a_signed_policy_runs_when_the_right_one_signed_these_very_bytes() {
    let folder = Folder::new();
    let (one, two) = (own("one"), own("two"));
    put_signed(&folder, &one);
    let attestor = attestor(&signed(&folder, "")).await;
    assert_eq!(selectors(&attestor).await, ["own:one"]);
    folder.put("policy.wasm", &two);
    let by = |subject: &str, issuer: &str| Options {
        identity: Identity::new(San::Email(subject.to_owned()), issuer),
        ..Options::default()
    };
    let statement = TEST_BED.bundle(&Content::attestation(&digest(&two)), Version::V03, &Options::default()).bytes;
    let foreign = TestBed::new().bundle(&Content::Message(two.clone()), Version::V03, &Options::default()).bytes;
    for (name, signature, reason) in [
        ("the old one's signature", bundle(&one, &Options::default()), "no good signature"),
        ("another signer", bundle(&two, &by("mallory@world.test", "https://issuer.world.test")), "mallory@world.test"),
        ("another issuer", bundle(&two, &by("signer@world.test", "https://issuer.test")), "https://issuer.test"),
        ("an attestation of the file", statement, "the bundle holds an attestation, not a signature"),
        ("another sigstore", foreign, "no good signature"),
        ("not in the log", bundle(&two, &Options::timestamp_only()), "no good signature"),
        ("the test bed's key", bundle(&two, &Options::default().with_key()), "no good signature"),
        ("no bundle", b"{}".to_vec(), "no good signature"),
        ("a huge bundle", vec![b' '; (1 << 20) + 1], "larger than 1048576 bytes"),
    ] {
        folder.put("policy.sigstore.json", &signature);
        assert_eq!(attestor.reload().await, FAILED, "{name}");
        let (step, why) = failure(&attestor, 0);
        assert!(step == Step::Signature && why.contains("policy.sigstore.json"), "{name}: {step}: {why}");
        assert!(reason == "no good signature" || why.contains(reason), "{name}: {why}");
        assert_eq!(selectors(&attestor).await, ["own:one"], "{name}");
    }
    std::fs::remove_file(folder.path("policy.sigstore.json")).unwrap();
    assert_eq!(attestor.reload().await, FAILED);
    assert!(failure(&attestor, 0).1.contains("policy.sigstore.json: no such file"));
    folder.put("policy.sigstore.json", &bundle(&two, &Options::rekor_v2()));
    assert_eq!(attestor.reload().await, REPLACED);
    assert_eq!(selectors(&attestor).await, ["own:two"]);
}

#[tokio::test]
async fn a_signed_policy_never_goes_back_unless_that_is_allowed() {
    let version = |version: &str, value: &str| with_section(&own(value), "version", version.as_bytes());
    let folder = Folder::new();
    let offer = async |attestor: &Attestor, component: &[u8]| {
        put_signed(&folder, component);
        attestor.reload().await
    };
    put_signed(&folder, &version("1.9.0", "first"));
    let attestor = attestor(&signed(&folder, "")).await;
    assert_eq!(used(&attestor, 0).version.as_deref(), Some("1.9.0"));
    assert_eq!(offer(&attestor, &version("1.10.0", "up")).await, REPLACED);
    assert_eq!(offer(&attestor, &version("1.10.0", "equal")).await, REPLACED);
    for (older, said) in [
        (version("1.9.0", "first"), "its version is 1.9.0, and 1.10.0 ran before"),
        (version("1.10.0-rc.1", "before"), "its version is 1.10.0-rc.1"),
        (own("none"), "it says no version"),
        (version("newest", "odd"), "it says no version"),
    ] {
        assert_eq!(offer(&attestor, &older).await, FAILED, "{said}");
        let (step, why) = failure(&attestor, 0);
        assert!(step == Step::Version && why.contains(said) && why.contains("allow_older"), "{step}: {why}");
        assert_eq!(selectors(&attestor).await, ["own:equal"]);
        // Configure refuses it as well.
        let error = configure(&attestor, &signed(&folder, "")).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(offer(&attestor, &version("2.0.0", "major")).await, REPLACED);
    put_signed(&folder, &version("1.0.0", "old"));
    configure(&attestor, &signed(&folder, "allow_older = true")).await.unwrap();
    assert_eq!(selectors(&attestor).await, ["own:old"]);
    // The highest version that ran is still remembered.
    let error = configure(&attestor, &signed(&folder, "")).await.unwrap_err();
    assert!(error.to_string().contains("2.0.0 ran before"), "{error}");
}

#[tokio::test]
async fn a_configuration_whose_policy_fails_changes_nothing_and_says_where() {
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &own("one"));
    let attestor = attestor(&unpinned(&path)).await;
    let before = used(&attestor, 0);
    for (component, step, reason) in [
        (b"\0asm".to_vec(), "inspect", "no WebAssembly component"),
        (policy("", "(unreachable)"), "trial", "unreachable"),
        (emitting(&["a"]), "inspect", "of the world extension"),
    ] {
        let bad = folder.put("bad.wasm", &component);
        let error = configure(&attestor, &unpinned(&bad)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("policy: {}: {step}: ", bad.display())) && text.contains(reason), "{text}");
        assert_eq!(selectors(&attestor).await, ["own:one"]);
        let after = used(&attestor, 0);
        let failure = after.last_failure.clone().unwrap();
        assert!(failure.step.name() == step && failure.reason.contains(reason), "{failure:?}");
        assert!(after.failing);
        assert_eq!(ComponentStatus { last_failure: None, failing: false, ..after }, before);
    }
    // A failing extension also refuses the policy beside it.
    let good = folder.put("good.wasm", &own("two"));
    let bad = folder.put("x.wasm", &extension("", "(unreachable)"));
    let both = format!("{}\nextension \"x\" {{ path = {bad:?} unpinned = true }}", unpinned(&good));
    let error = configure(&attestor, &both).await.unwrap_err();
    assert!(error.to_string().starts_with("extension x: "), "{error}");
    assert_eq!(selectors(&attestor).await, ["own:one"]);
}

#[tokio::test]
async fn the_status_tells_what_runs_since_when_and_what_failed_last() {
    let folder = Folder::new();
    let attestor = unconfigured();
    assert_eq!(attestor.reload().await, NOTHING, "nothing is configured");
    configure(&attestor, "").await.unwrap();
    let policy = used(&attestor, 0);
    assert_eq!((policy.name.as_str(), policy.source.as_str()), ("policy", "built-in"));
    assert_eq!((policy.replaced, policy.last_failure), (0, None));

    let component = with_section(&own("one"), "version", b"1.2.3");
    let path = folder.put("policy.wasm", &component);
    let extension = folder.put("x.wasm", &emitting(&["a"]));
    let both = format!("{}\nextension \"x\" {{ path = {extension:?} unpinned = true }}", unpinned(&path));
    configure(&attestor, &both).await.unwrap();
    let status = attestor.status();
    let names: Vec<&str> = status.components.iter().map(|component| component.name.as_str()).collect();
    assert_eq!(names, ["policy", "extension x"]);
    let first = status.components[0].clone();
    assert_eq!((first.source, first.digest), (path.display().to_string(), digest(&component)));
    assert_eq!((first.version.as_deref(), first.replaced, first.last_failure), (Some("1.2.3"), 1, None));

    std::fs::write(&path, "nothing").unwrap();
    assert_eq!(attestor.reload().await, FAILED);
    let failed = used(&attestor, 0);
    assert_eq!((&failed.digest, failed.since), (&digest(&component), first.since));
    assert!(failed.failing);
    assert_eq!(failed.last_failure.as_ref().unwrap().step, Step::Inspect);
    folder.put("policy.wasm", &own("two"));
    assert_eq!(attestor.reload().await, REPLACED);
    let third = used(&attestor, 0);
    assert_eq!((third.digest, third.version, third.replaced), (digest(&own("two")), None, 2));
    assert!(!third.failing);
    assert_eq!(third.last_failure, failed.last_failure, "a failure stays to be looked at");
    assert_eq!(used(&attestor, 1), status.components[1], "nothing became of the extension");

    configure(&attestor, "").await.unwrap();
    assert_eq!(attestor.status().components.len(), 1);
    assert_eq!(used(&attestor, 0).source, "built-in");
}

#[tokio::test]
async fn an_extension_is_replaced_alone() {
    let folder = Folder::new();
    let policy = folder.put("policy.wasm", &own("one"));
    let [x, y] = ["x", "y"].map(|name| folder.put(&format!("{name}.wasm"), &emitting(&["one"])));
    let attestor = attestor(&format!(
        "{}\nextension \"x\" {{ path = {x:?} unpinned = true }}\nextension \"y\" {{ path = {y:?} unpinned = true }}",
        unpinned(&policy)
    ))
    .await;
    assert_eq!(selectors(&attestor).await, ["own:one", "x:one", "y:one"]);
    assert!(attestor.explain(PID).await.unwrap().reused);
    folder.put("x.wasm", &emitting(&["two"]));
    assert_eq!(attestor.reload().await, REPLACED);
    assert_eq!(selectors(&attestor).await, ["own:one", "x:two", "y:one"]);
    // A failing component does not affect the replacement of the others.
    folder.put("x.wasm", &extension("", "(unreachable)"));
    folder.put("y.wasm", &emitting(&["two"]));
    folder.put("policy.wasm", &own("two"));
    assert_eq!(attestor.reload().await, Reloaded { replaced: 2, failed: 1 });
    assert_eq!(selectors(&attestor).await, ["own:two", "x:two", "y:two"]);
    assert_eq!(failure(&attestor, 1).0, Step::Trial);
    // The same file is not tried again for ever: its content is activated, or refused for good.
    folder.put("x.wasm", &emitting(&["two"]));
    assert_eq!(attestor.reload().await, NOTHING);
}

#[tokio::test]
async fn an_answer_ends_with_the_policy_that_gave_it() {
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &own("one"));
    let attestor = attestor(&unpinned(&path)).await;
    for value in ["one", "two", "three"] {
        folder.put("policy.wasm", &own(value));
        attestor.reload().await;
        let first = attestor.explain(PID).await.unwrap();
        let again = attestor.explain(PID).await.unwrap();
        assert!(!first.reused && again.reused, "{value}");
        for explanation in [first, again] {
            assert_eq!(explanation.outcome.unwrap(), [format!("own:{value}")]);
            assert_eq!(explanation.policy.digest, digest(&own(value)));
        }
    }
}

/// A policy that asks for the cgroups. If `traps`, it traps when the path of the first is as long as that of [`PID_BELOW`].
fn asks_for_cgroups(value: &str, traps: bool) -> Vec<u8> {
    let length = "/docker/".len() + OURS.len() + "/below".len();
    let selector = format!("own:{value}");
    let list = [8192, selector.len()].map(|number| number.to_le_bytes()[..4].to_vec()).concat();
    let result = [256_u32, 1].map(u32::to_le_bytes).concat();
    let data = [data_at(68, &result), data_at(256, &list), data_at(8192, selector.as_bytes())].concat();
    let then = if traps { "(unreachable)" } else { "" };
    let path = "(call $cgroups (i32.const 1024)) (i32.load offset=20 (i32.load (i32.const 1028)))";
    policy(&data, &format!("(if (i32.eq {path} (i32.const {length})) (then {then})) (i32.const 64)"))
}

#[tokio::test]
async fn a_policy_is_tried_on_what_was_attested_before() {
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &asks_for_cgroups("one", false));
    let attestor = attestor(&unpinned(&path)).await;
    // Such a workload is not recorded yet, so the trial finds nothing.
    folder.put("policy.wasm", &asks_for_cgroups("two", true));
    assert_eq!(attestor.reload().await, REPLACED);
    assert!(matches!(attestor.attest(PID_BELOW).await, Err(Error::Policy { .. })));

    folder.put("policy.wasm", &asks_for_cgroups("three", false));
    assert_eq!(attestor.reload().await, REPLACED);
    assert_eq!(attestor.attest(PID_BELOW).await.unwrap(), ["own:three"]);
    folder.put("policy.wasm", &asks_for_cgroups("four", true));
    assert_eq!(attestor.reload().await, FAILED);
    let (step, why) = failure(&attestor, 0);
    assert!(step == Step::Trial && why.contains("unreachable"), "{step}: {why}");
    // Neither a replacement nor a configuration discards the recorded workload.
    folder.put("policy.wasm", &asks_for_cgroups("five", false));
    assert_eq!(attestor.reload().await, REPLACED);
    folder.put("policy.wasm", &asks_for_cgroups("four", true));
    assert_eq!(attestor.reload().await, FAILED);
    let error = configure(&attestor, &unpinned(&path)).await.unwrap_err();
    assert!(error.to_string().contains(": trial: "), "{error}");
    assert_eq!(attestor.attest(PID_BELOW).await.unwrap(), ["own:five"]);
}

/// Returns the value of the first setting. If there is a second one, `error` or `warning`, `validate` reports its value as
/// such.
fn obedient() -> Vec<u8> {
    policy_that_validates(
        &[data_at(72, &[1]), data_at(600, &[0, 2, 0, 0, 1]), data_at(68, &[0, 1])].concat(),
        "(if (i32.lt_u (local.get 5) (i32.const 2)) (then (return (i32.const 16))))
        ;; `error` is a letter shorter than `warning`, and comes first in the enum
        (i32.store8 (i32.const 512) (i32.ne (i32.load offset=20 (local.get 4)) (i32.const 5)))
        (i32.store (i32.const 516) (i32.load offset=24 (local.get 4)))
        (i32.store (i32.const 520) (i32.load offset=28 (local.get 4)))
        (i32.const 600)",
        "(if (i32.eqz (local.get 5)) (then (return (i32.const 16))))
        (i32.store (i32.const 256) (i32.load offset=8 (local.get 4)))
        (i32.store (i32.const 260) (i32.load offset=12 (local.get 4)))
        (i32.const 64)",
    )
}

#[tokio::test]
async fn settings_reach_the_policy_which_may_refuse_them() {
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &obedient());
    let with = |settings: &str| format!("policy {{ path = {path:?} unpinned = true settings = {{ {settings} }} }}");
    let attestor = attestor(&with("a = \"own:first\"")).await;
    assert_eq!(selectors(&attestor).await, ["own:first"]);
    configure(&attestor, &with("a = \"own:second\"")).await.unwrap();
    assert_eq!(selectors(&attestor).await, ["own:second"]);
    // The settings also apply to the policy that comes next.
    folder.put("policy.wasm", &with_section(&obedient(), "other", b""));
    assert_eq!(attestor.reload().await, REPLACED);
    assert_eq!(selectors(&attestor).await, ["own:second"]);

    let refused = with("a = \"own:third\" error = \"not with me\"");
    let error = configure(&attestor, &refused).await.unwrap_err();
    assert!(error.to_string().ends_with("policy.wasm: settings: not with me"), "{error}");
    let warned = with("a = \"own:third\" warning = \"if you must\"");
    let notes = attestor.validate(config::load(Some("example.org"), &warned).unwrap()).await.unwrap();
    assert!(notes.contains(&"if you must".to_owned()), "{notes:?}");
    assert_eq!(selectors(&attestor).await, ["own:second"], "nothing was put to use");
    configure(&attestor, &warned).await.unwrap();
    assert_eq!(selectors(&attestor).await, ["own:third"]);
}

/// Waits until the attestor answers this, with a generous timeout.
async fn until(attestor: &Attestor, expected: &[&str], what: &str) {
    let started = Instant::now();
    loop {
        let got = selectors(attestor).await;
        if got == expected {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{what}: {got:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a replacement has failed at this step.
async fn until_failed(attestor: &Attestor, step: Step) {
    let started = Instant::now();
    while used(attestor, 0).last_failure.is_none_or(|failure| failure.step != step) {
        assert!(started.elapsed() < Duration::from_secs(20), "it did not fail at {step}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_way_of_replacing_a_file_is_seen() {
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &own("one"));
    let attestor = attestor(&unpinned(&path)).await;
    let watching = tokio::spawn(Attestor::watch(Arc::downgrade(&attestor)));
    folder.put("policy.wasm", &own("two"));
    until(&attestor, &["own:two"], "renamed over").await;
    std::fs::write(&path, own("three")).unwrap();
    until(&attestor, &["own:three"], "written in place").await;

    std::fs::remove_file(&path).unwrap();
    until_failed(&attestor, Step::Read).await;
    assert_eq!(selectors(&attestor).await, ["own:three"], "what runs goes on without its file");
    folder.put("policy.wasm", &own("four"));
    until(&attestor, &["own:four"], "removed and brought back").await;

    // Kubernetes mounts files like this: policy.wasm -> ..data/policy.wasm, ..data -> ..VERSION, and ..data is replaced by a
    // rename.
    for version in ["five", "six"] {
        let directory = folder.path(&format!("..{version}"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("policy.wasm"), own(version)).unwrap();
        symlink(directory.file_name().unwrap(), folder.path("..data_tmp")).unwrap();
        std::fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
        if version == "five" {
            symlink("..data/policy.wasm", folder.path("link")).unwrap();
            std::fs::rename(folder.path("link"), &path).unwrap();
        }
        until(&attestor, &[&format!("own:{version}")], "a symbolic link swapped").await;
    }
    // The watch ends when the attestor is dropped.
    drop(attestor);
    tokio::time::timeout(Duration::from_secs(20), watching).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_that_keeps_changing_is_left_until_it_is_quiet() {
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &own("0"));
    let attestor = attestor(&unpinned(&path)).await;
    tokio::spawn(Attestor::watch(Arc::downgrade(&attestor)));
    // The file is written in place and in halves, so most checks see a malformed component.
    for number in 1..=30 {
        let component = own(&number.to_string());
        std::fs::write(&path, &component[..component.len() / 2]).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        std::fs::write(&path, &component).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    until(&attestor, &["own:30"], "the last one").await;
    let policy = used(&attestor, 0);
    assert!(policy.replaced <= 5, "30 changes made {} swaps", policy.replaced);
}

#[tokio::test]
async fn a_signed_file_and_its_bundle_may_be_replaced_one_after_the_other() {
    let folder = Folder::new();
    put_signed(&folder, &own("one"));
    let attestor = attestor(&signed(&folder, "")).await;
    tokio::spawn(Attestor::watch(Arc::downgrade(&attestor)));
    folder.put("policy.wasm", &own("two"));
    until_failed(&attestor, Step::Signature).await;
    assert_eq!(selectors(&attestor).await, ["own:one"]);
    folder.put("policy.sigstore.json", &bundle(&own("two"), &Options::default()));
    until(&attestor, &["own:two"], "the bundle after the file").await;
    folder.put("policy.sigstore.json", &bundle(&own("three"), &Options::default()));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    folder.put("policy.wasm", &own("three"));
    until(&attestor, &["own:three"], "the file after the bundle").await;
}

#[tokio::test]
async fn a_configuration_with_another_file_is_watched_from_then_on() {
    let folder = Folder::new();
    let (first, second) = (folder.put("first.wasm", &own("one")), folder.put("second.wasm", &own("two")));
    let attestor = attestor(&unpinned(&first)).await;
    tokio::spawn(Attestor::watch(Arc::downgrade(&attestor)));
    configure(&attestor, &unpinned(&second)).await.unwrap();
    folder.put("first.wasm", &own("not mine"));
    folder.put("second.wasm", &own("three"));
    until(&attestor, &["own:three"], "the second file").await;
}

/// Every answer comes entirely from one policy, while policies are swapped as fast as possible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_two_policies_are_never_mixed() {
    const SELECTORS: usize = 200;
    let policies: Vec<Vec<u8>> = (0..3)
        .map(|policy| {
            let selectors: Vec<String> = (0..SELECTORS).map(|number| format!("own:{policy}-{number}")).collect();
            returning(OURS, &selectors.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &policies[0]);
    let attestor = attestor(&unpinned(&path)).await;
    let (done, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let (attestor, done, answers) = (Arc::clone(&attestor), Arc::clone(&done), Arc::clone(&answers));
            tokio::spawn(async move {
                let mut seen = BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    let pid = if caller % 2 == 0 { PID } else { PID_BELOW };
                    let selectors = attestor.attest(pid).await.unwrap();
                    let policy = selectors[0].strip_prefix("own:").unwrap().split('-').next().unwrap().to_owned();
                    let of_one = (0..SELECTORS).map(|number| format!("own:{policy}-{number}"));
                    assert!(selectors.into_iter().eq(of_one), "mixed");
                    seen.insert(policy);
                    answers.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                seen
            })
        })
        .collect();
    let started = Instant::now();
    let mut swaps = 0;
    while started.elapsed() < Duration::from_secs(3) || swaps < 30 {
        swaps += 1;
        folder.put("policy.wasm", &policies[swaps % 3]);
        assert_eq!(attestor.reload().await, REPLACED);
        // The new policy answers now.
        assert!(selectors(&attestor).await[0].starts_with(&format!("own:{}-", swaps % 3)));
    }
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        assert_eq!(caller.await.unwrap().len(), 3, "a caller did not see all policies: nothing is tested");
    }
    println!("{swaps} swaps, {} whole answers", answers.load(Ordering::Relaxed));
}

#[tokio::test]
async fn the_status_shows_a_refused_configuration_and_attestations_that_all_fail() {
    let folder = Folder::new();
    let path = folder.put("policy.wasm", &own("one"));
    let attestor = unconfigured();
    assert!(attestor.status().attestations.is_none() && !attestor.status().is_failing());
    configure(&attestor, &unpinned(&path)).await.unwrap();
    assert_eq!(selectors(&attestor).await, ["own:one"]);
    let error = configure(&attestor, &unpinned(&folder.path("none"))).await.unwrap_err();
    let status = attestor.status();
    let refusal = status.configuration.last_refusal.clone().unwrap();
    assert!(status.is_failing() && status.configuration.since.is_some());
    assert_eq!(refusal.reason, error.to_string());
    let attestations = status.attestations.unwrap();
    assert_eq!((attestations.with_selectors, attestations.failed), (1, 0), "what was in use stays");

    attestor.refused(&Error::Configuration("unknown configurations detected: a".to_owned()));
    let refusal = attestor.status().configuration.last_refusal.unwrap();
    assert_eq!(refusal.reason, "unknown configurations detected: a", "refused for a key, not for a component");

    configure(&attestor, &unpinned(&path)).await.unwrap();
    let status = attestor.status();
    assert!(!status.is_failing() && status.configuration.last_refusal == Some(refusal));
    attestor.attest(PID).await.unwrap();
    assert_eq!(attestor.status().attestations.unwrap().with_selectors, 1, "counted since the configuration");
}
