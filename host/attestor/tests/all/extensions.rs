//! Extensions: the facts that each receives, the selectors that it adds, and the outcome of an attestation when one fails.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use docker_attestor::attestor::Attestor;
use docker_attestor::error::Error;
use sandbox::inspect::digest;
use tonic::Code;

use crate::component::{asking, data_at, emitting, extension, policy, returning};
use crate::machine::{OURS, PID, PID_BELOW, PID_OF_HOST, PID_OF_USER, PID_WITHIN, WITHIN, attestor};

/// A machine whose policy is in a file, with extensions.
struct Setup {
    folder: tempfile::TempDir,
    plugin_data: String,
}

impl Setup {
    fn new(policy: &[u8]) -> Setup {
        let mut setup = Setup { folder: tempfile::tempdir().unwrap(), plugin_data: String::new() };
        let path = setup.put("policy.wasm", policy);
        writeln!(setup.plugin_data, "policy {{ path = {path:?} unpinned = true }}").unwrap();
        setup
    }

    fn put(&self, name: &str, component: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, component).unwrap();
        path
    }

    /// Adds an extension. `more` is the rest of its block.
    fn extension(mut self, name: &str, component: &[u8], more: &str) -> Setup {
        let path = self.put(&format!("{name}.wasm"), component);
        writeln!(self.plugin_data, "extension {name:?} {{ path = {path:?} unpinned = true {more} }}").unwrap();
        self
    }

    async fn attestor(&self) -> Arc<Attestor> {
        attestor(&self.plugin_data).await
    }
}

/// A policy that asks for our container, and so obtains it if the process is in it.
fn obtaining() -> Vec<u8> {
    returning(OURS, &["own:good"])
}

/// The offsets of the arguments of `derive` from their address, by the canonical ABI: the case of an option, then its value.
const LABELS: usize = 0;
const ENV: usize = 12;
const IMAGE: usize = 24;
const PROCESS: usize = 60;
const SETTINGS: usize = 72;

/// Emits the facts that it receives: the first label's value, the first variable, the image's name, uid and gid, and every
/// setting's value. For a fact that it does not receive, it emits that.
fn telling() -> Vec<u8> {
    let decimal = "
        (func $number (param $letter i32) (param $number i32) (local $at i32) (local $end i32)
            (local.set $end (i32.add (call $allocate (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 16)))
            (local.set $at (local.get $end))
            (loop $next
                (local.set $at (i32.sub (local.get $at) (i32.const 1)))
                (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
                (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
                (br_if $next (local.get $number)))
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (i32.store8 (local.get $at) (local.get $letter))
            (call $emit (local.get $at) (i32.sub (local.get $end) (local.get $at))))";
    let told = |option: usize, then: &str, or: usize, length: usize| {
        format!(
            "(if (i32.load8_u offset={option} (local.get 0))
                (then {then})
                (else (call $emit (i32.const {or}) (i32.const {length}))))"
        )
    };
    // A text whose address lies at `offset` from what `of` points to.
    let text = |of: &str, offset: usize| {
        format!("(call $emit (i32.load offset={offset} {of}) (i32.load offset={} {of}))", offset + 4)
    };
    let first = |list: usize| format!("(i32.load offset={list} (local.get 0))");
    let numbers = format!(
        "(call $number (i32.const 117) (i32.load offset={} (local.get 0)))
        (call $number (i32.const 103) (i32.load offset={} (local.get 0)))",
        PROCESS + 4,
        PROCESS + 8
    );
    let data = [(8192, "no labels"), (8256, "no env"), (8320, "no image"), (8384, "no process")];
    let data: String = data.map(|(at, text)| data_at(at, text.as_bytes())).concat();
    let derive = [
        told(LABELS, &text(&first(LABELS + 4), 8), 8192, 9),
        told(ENV, &text(&first(ENV + 4), 0), 8256, 6),
        told(IMAGE, &text("(local.get 0)", IMAGE + 4), 8320, 8),
        told(PROCESS, &numbers, 8384, 10),
    ]
    .concat();
    let settings = format!(
        "(local $setting i32) (local $left i32)
        {derive}
        (local.set $setting (i32.load offset={SETTINGS} (local.get 0)))
        (local.set $left (i32.load offset={} (local.get 0)))
        (block $end (loop $next
            (br_if $end (i32.eqz (local.get $left)))
            {}
            (local.set $setting (i32.add (local.get $setting) (i32.const 16)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br $next)))
        (call $done)",
        SETTINGS + 4,
        text("(local.get $setting)", 8)
    );
    extension(&format!("{data} {decimal}"), &settings)
}

#[tokio::test]
async fn an_extension_is_told_what_it_is_granted_and_nothing_else() {
    const NOTHING: [&str; 4] = ["no labels", "no env", "no image", "no process"];
    for (grants, told) in [
        ("", NOTHING.to_vec()),
        ("grants = []", NOTHING.to_vec()),
        ("grants = [\"labels\"]", ["ours", "no env", "no image", "no process"].to_vec()),
        ("grants = [\"env\"]", ["no labels", "NAME=ours", "no image", "no process"].to_vec()),
        ("grants = [\"image\"]", ["no labels", "no env", "ours:1", "no process"].to_vec()),
        ("grants = [\"process\"]", ["no labels", "no env", "no image", "u0", "g0"].to_vec()),
        (
            "grants = [\"process\", \"image\", \"env\", \"labels\"]",
            ["ours", "NAME=ours", "ours:1", "u0", "g0"].to_vec(),
        ),
    ] {
        let attestor = Setup::new(&obtaining()).extension("x", &telling(), grants).attestor().await;
        let expected: Vec<String> = told.iter().map(|text| format!("x:{text}")).collect();
        assert_eq!(attestor.attest(PID).await.unwrap()[1..], expected, "{grants}");
    }
}

#[tokio::test]
async fn every_process_of_a_container_has_the_selectors_of_its_own_user() {
    let attestor = Setup::new(&obtaining()).extension("x", &telling(), "grants = [\"process\"]").attestor().await;
    // A cached answer may be reused for the same process, never for the other one.
    for pid in [PID, PID, PID_OF_USER, PID_OF_USER, PID, PID_OF_USER, PID] {
        let ids = if pid == PID { ["x:u0", "x:g0"] } else { ["x:u1000", "x:g2000"] };
        assert_eq!(attestor.attest(pid).await.unwrap()[4..], ids, "process {pid}");
    }
    assert!(attestor.explain(PID).await.unwrap().reused);
    assert!(!attestor.explain(PID_OF_USER).await.unwrap().reused);
    // If no component asks for the user, one answer serves both processes.
    let attestor = Setup::new(&obtaining()).extension("x", &telling(), "grants = [\"labels\"]").attestor().await;
    attestor.attest(PID).await.unwrap();
    assert!(attestor.explain(PID_OF_USER).await.unwrap().reused);
}

#[tokio::test]
async fn settings_are_an_extensions_own_and_sorted() {
    let attestor = Setup::new(&obtaining())
        .extension("x", &telling(), "settings = { b = \"second\" a = \"first\" c = \"third\" }")
        .extension("y", &telling(), "settings = { a = \"other\" }")
        .attestor()
        .await;
    let selectors = attestor.attest(PID).await.unwrap();
    assert_eq!(selectors[5..8], ["x:first", "x:second", "x:third"]);
    assert_eq!(selectors[12..], ["y:other"]);
}

#[tokio::test]
async fn selectors_come_in_the_order_of_names_and_of_each_extension() {
    let attestor = Setup::new(&obtaining())
        .extension("c", &emitting(&["2", "1", "3"]), "")
        .extension("a", &emitting(&["z", "y"]), "")
        .extension("b.1", &emitting(&[]), "")
        .extension("b", &emitting(&["label:name:theirs"]), "")
        .attestor()
        .await;
    let expected = ["own:good", "a:z", "a:y", "b:label:name:theirs", "c:2", "c:1", "c:3"];
    let explanation = attestor.explain(PID).await.unwrap();
    assert_eq!(explanation.outcome.unwrap(), expected);
    let derived: Vec<_> = explanation
        .derived
        .iter()
        .map(|derived| (derived.name.as_str(), derived.outcome.as_ref().copied().unwrap()))
        .collect();
    assert_eq!(derived, [("a", 2), ("b", 1), ("b.1", 0), ("c", 3)]);
    assert_eq!(explanation.derived[3].digest, digest(&emitting(&["2", "1", "3"])));
    for _ in 0..3 {
        assert_eq!(attestor.attest(PID).await.unwrap(), expected);
    }
    assert!(attestor.explain(PID).await.unwrap().reused);
}

/// Uses about a third of its CPU limit.
fn slow() -> Vec<u8> {
    let text = "(local $left i32) (local.set $left (i32.const 12000000))
        (loop $next (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    extension("", &format!("{text} (call $done)"))
}

#[tokio::test]
async fn extensions_run_at_the_same_time() {
    let mut setup = Setup::new(&obtaining());
    for name in ["a", "b", "c", "d"] {
        setup = setup.extension(name, &slow(), "");
    }
    let attestor = setup.attestor().await;
    let explanation = attestor.explain(PID).await.unwrap();
    assert_eq!(explanation.outcome.unwrap(), ["own:good"]);
    // This holds on one core too. Each extension yields now and then, so each takes about as long as all together.
    let each: f64 = explanation.derived.iter().map(|derived| derived.elapsed.as_secs_f64()).sum();
    let all = explanation.elapsed.as_secs_f64();
    assert!(each > 2.0 * all, "each {each:.3} s in all, together {all:.3} s");
}

/// Works for the recorded workload of its trial, and misbehaves for ours, whose first label has a value of four letters.
fn failing_for_ours(then: &str) -> Vec<u8> {
    let label = format!("(i32.load offset=12 (i32.load offset={} (local.get 0)))", LABELS + 4);
    extension("", &format!("(if (i32.eq {label} (i32.const 4)) (then {then})) (call $done)"))
}

/// Fails with an error text that holds the container's first variable and the label.
fn refusing(more: &str) -> Vec<u8> {
    let env = format!("(i32.load offset={} (local.get 0))", ENV + 4);
    extension(
        "",
        &format!(
            "{more}
            (i32.store (i32.const 64) (i32.const 1))
            (i32.store (i32.const 68) (i32.load {env}))
            (i32.store (i32.const 72) (i32.load offset=4 {env}))
            (i32.const 64)"
        ),
    )
}

const LABELS_AND_ENV: &str = "grants = [\"labels\", \"env\"]";

#[tokio::test]
async fn an_extension_that_fails_denies_the_attestation_unless_it_may_be_left_out() {
    for (component, code, reason) in [
        (failing_for_ours("(unreachable)"), Code::Internal, "unreachable"),
        (failing_for_ours("(loop $again (br $again))"), Code::Internal, "more CPU than a call may"),
        (failing_for_ours("(call $emit (i32.const 0) (i32.const 0))"), Code::Internal, "selector 1 has 0 bytes"),
        (refusing(""), Code::FailedPrecondition, "NAME=…"),
    ] {
        let with = |on_failure: &str| {
            Setup::new(&obtaining())
                .extension("w", &emitting(&["before"]), "")
                .extension("x", &component, &format!("{LABELS_AND_ENV} {on_failure}"))
                .extension("y", &emitting(&["after"]), "")
        };
        for on_failure in ["", "on_failure = \"deny\""] {
            let attestor = with(on_failure).attestor().await;
            let error = attestor.attest(PID).await.unwrap_err();
            let text = error.to_string();
            assert!(error.code() == code && text.starts_with("extension \"x\"") && text.contains(reason), "{text}");
            assert_eq!(text.contains(&digest(&component)), code == Code::Internal, "{text}");
            assert!(!text.contains("ours"), "{text}");
        }
        let attestor = with("on_failure = \"omit\"").attestor().await;
        for _ in 0..2 {
            let explanation = attestor.explain(PID).await.unwrap();
            assert_eq!(explanation.outcome.unwrap(), ["own:good", "w:before", "y:after"]);
            assert!(!explanation.reused, "an answer that lacks something was remembered");
            assert!(explanation.derived.iter().any(|derived| derived.name == "x" && derived.outcome.is_err()));
        }
    }
}

#[tokio::test]
async fn of_several_that_fail_the_first_by_name_is_told() {
    let attestor = Setup::new(&obtaining())
        .extension("c", &refusing(""), LABELS_AND_ENV)
        .extension("b", &failing_for_ours("(unreachable)"), LABELS_AND_ENV)
        .extension("a", &emitting(&["good"]), "")
        .attestor()
        .await;
    for _ in 0..3 {
        let error = attestor.attest(PID).await.unwrap_err();
        assert!(error.to_string().starts_with("extension \"b\""), "{error}");
    }
}

#[tokio::test]
async fn an_extension_runs_for_a_process_in_one_proven_container_only() {
    let both = [data_at(4096, OURS.as_bytes()), data_at(5120, WITHIN.as_bytes())].concat();
    let selector =
        [data_at(68, &[0, 1, 0, 0, 1]), data_at(256, &[0, 32, 0, 0, 8]), data_at(8192, b"own:good")].concat();
    let ask = asking(OURS);
    let other = ask.replace("4096", "5120").replace("4224", "5248");
    let of_both = policy(&[both, selector].concat(), &format!("{ask} {other} (i32.const 64)"));
    let setup = Setup::new(&of_both).extension("x", &emitting(&["a"]), "");
    let attestor = setup.attestor().await;
    for (pid, expected) in [
        (PID, &["own:good", "x:a"][..]),
        (PID_BELOW, &["own:good", "x:a"]),
        // The process is in a container within ours. The policy obtained both containers, so an extension could not tell
        // about which one it speaks.
        (PID_WITHIN, &["own:good"]),
        (PID_OF_HOST, &["own:good"]),
        // There is no process with this pid.
        (999, &["own:good"]),
    ] {
        let explanation = attestor.explain(pid).await.unwrap();
        assert_eq!(explanation.outcome.unwrap(), expected, "process {pid}");
        // A reused answer already has the selectors of the extensions.
        let ran = if explanation.reused { 0 } else { expected.len() - 1 };
        assert_eq!(explanation.derived.len(), ran, "process {pid}");
    }
    // The built-in policy behaves the same.
    let plugin_data = setup.plugin_data.split_once('\n').unwrap().1;
    let attestor = crate::machine::attestor(plugin_data).await;
    assert_eq!(attestor.attest(PID_OF_HOST).await.unwrap(), [""; 0]);
    let selectors = attestor.attest(PID).await.unwrap();
    assert!(selectors.contains(&"label:name:ours".to_owned()) && selectors.ends_with(&["x:a".to_owned()]));
}

#[tokio::test]
async fn policy_and_extensions_together_keep_the_limits_of_an_answer() {
    // 4,096 selectors of eight letters each, from 65,536 on: `own:` and the number in four letters.
    let many = "(local $n i32) (local $at i32) (drop (memory.grow (i32.const 10)))
        (loop $next
            (local.set $at (i32.add (i32.const 65536) (i32.mul (local.get $n) (i32.const 8))))
            (i32.store (local.get $at) (i32.const 0x3a6e776f))
            (i32.store8 offset=4 (local.get $at) (i32.add (i32.const 97) (i32.and (local.get $n) (i32.const 15))))
            (i32.store8 offset=5 (local.get $at) (i32.add (i32.const 97) (i32.and (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 15))))
            (i32.store8 offset=6 (local.get $at) (i32.add (i32.const 97) (i32.shr_u (local.get $n) (i32.const 8))))
            (i32.store8 offset=7 (local.get $at) (i32.const 97))
            (i32.store (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 8))) (local.get $at))
            (i32.store offset=4 (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 8))) (i32.const 8))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $n) (i32.const 4096))))
        (i32.store (i32.const 68) (i32.const 131072)) (i32.store (i32.const 72) (i32.const 4096))";
    // 16 selectors, the longest of 65,536 bytes: the same text, each one a byte shorter.
    let long = "(local $n i32) (drop (memory.grow (i32.const 10)))
        (memory.fill (i32.const 65536) (i32.const 120) (i32.const 65536))
        (i32.store (i32.const 65536) (i32.const 0x3a6e776f))
        (loop $next
            (i32.store (i32.add (i32.const 1024) (i32.mul (local.get $n) (i32.const 8))) (i32.const 65536))
            (i32.store offset=4 (i32.add (i32.const 1024) (i32.mul (local.get $n) (i32.const 8)))
                (i32.sub (i32.const 65536) (local.get $n)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $n) (i32.const 16))))
        (i32.store (i32.const 68) (i32.const 1024)) (i32.store (i32.const 72) (i32.const 16))";
    for (returns, count, added) in [(many, 4_096, "a".to_owned()), (long, 16, "x".repeat(1_000))] {
        let body = format!("{returns} {} (i32.const 64)", asking(OURS));
        let whole = policy(&data_at(4096, OURS.as_bytes()), &body);
        let setup = Setup::new(&whole).extension("x", &emitting(&[]), "");
        let attestor = setup.attestor().await;
        assert_eq!(attestor.attest(PID).await.unwrap().len(), count);
        setup.put("x.wasm", &emitting(&[&added]));
        assert_eq!(attestor.reload().await.replaced, 1);
        let error = attestor.attest(PID).await.unwrap_err();
        let together = format!("policy and extensions together made {} selectors", count + 1);
        assert!(matches!(&error, Error::Fault(_)) && error.to_string().contains(&together), "{error}");
    }
}
