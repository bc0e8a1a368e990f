//! Hostile policies in the real sandbox. Each is contained and reported with its own reason, and does not affect the next
//! call.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::sync::Arc;

use docker_attestor::attestation::{Policy, Sandbox, truth};
use docker_attestor::components::builtin;
use docker_attestor::error::Error;
use docker_attestor::workload::{Backends, Workload};
use sandbox::limits;

use crate::component::{asking, asking_at, data_at, encode, policy, returning};
use crate::machine::{
    OTHERS, OURS, PID, PID_WITHIN, WITHIN, answer, attestor, configure, containers, policy_of, processes, sandbox,
};

fn workload() -> Workload {
    let backends =
        Backends { extensions: vec!["compose".to_owned()], ..Backends::new(processes(), Arc::new(containers())) };
    Workload::new(Arc::new(backends), PID)
}

async fn attest(sandbox: &Sandbox, policy: &Policy) -> Result<Vec<String>, Error> {
    answer(sandbox, policy, workload()).await
}

async fn attest_component(component: &[u8]) -> Result<Vec<String>, Error> {
    let sandbox = sandbox();
    let policy = policy_of(&sandbox, component).await.unwrap();
    attest(&sandbox, &policy).await
}

#[tokio::test]
async fn a_policy_that_breaks_a_limit_fails_its_own_call_only() {
    let sandbox = sandbox();
    let good = builtin::policy(&sandbox).unwrap();
    let spin = policy("", "(loop $again (br $again)) (unreachable)");
    let hog = policy("", "(loop $again (drop (memory.grow (i32.const 64))) (br $again)) (unreachable)");
    let trap = policy("", "(unreachable)");
    let recurse = policy(
        "(func $deeper (param i64) (result i64) (i64.add (call $deeper (local.get 0)) (i64.const 1)))",
        "(drop (call $deeper (i64.const 1))) (unreachable)",
    );
    let outside = policy("", "(i32.const -4)");
    let log =
        policy("", "(loop $again (call $log (i32.const 1) (i32.const 0) (i32.const 1024)) (br $again)) (i32.const 64)");
    for (name, component, reason) in [
        ("spin", spin, "more CPU than a call may"),
        ("hog", hog, "memory"),
        ("trap", trap, "unreachable"),
        ("recurse", recurse, "more stack than a call may"),
        ("outside", outside, "contract"),
        ("log for ever", log, "called the host more than"),
    ] {
        let policy = policy_of(&sandbox, &component).await.unwrap();
        let error = attest(&sandbox, &policy).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Policy { .. }) && text.contains(&policy.digest), "{name}: {text}");
        assert!(text.contains(reason), "{name}: {text}");
        assert_eq!(error.code(), tonic::Code::Internal, "{name}");
        let selectors = attest(&sandbox, &good).await.unwrap();
        assert!(selectors.contains(&"label:name:ours".to_owned()), "after {name}: {selectors:?}");
    }
}

#[tokio::test]
async fn a_million_selectors_never_reach_the_host() {
    // 1,000,000 entries that all point to the same 64 KiB. Copying them would take 64 GB.
    let fill = "(memory.grow (i32.const 200)) (drop)
        (loop $next
            (i32.store (i32.add (i32.const 65536) (i32.mul (local.get 6) (i32.const 8))) (i32.const 0))
            (i32.store (i32.add (i32.const 65540) (i32.mul (local.get 6) (i32.const 8))) (i32.const 65536))
            (local.set 6 (i32.add (local.get 6) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get 6) (i32.const 1000000))))
        (i32.store (i32.const 64) (i32.const 0))
        (i32.store (i32.const 68) (i32.const 65536))
        (i32.store (i32.const 72) (i32.const 1000000))
        (i32.const 64)";
    let error = attest_component(&policy("", &format!("(local i32) {fill}"))).await.unwrap_err();
    assert!(matches!(error, Error::Policy { .. }), "{error}");
    let many: Vec<String> = (0..4097).map(|number| format!("own:{number}")).collect();
    // 4,097 small selectors are within what may be passed to the host, but more than may be returned.
    let error = truth::check(&many, workload().transcript(), &[]).unwrap_err();
    assert!(error.to_string().contains("returned 4097 selectors"), "{error}");
}

#[tokio::test]
async fn facts_of_the_proven_container_may_be_stated() {
    let facts =
        ["label:name:ours", "label:role:admin:a\nb", "env:NAME=ours", "env:LINES=a\nb", "image_id:ours:1", "own:kind"];
    assert_eq!(attest_component(&returning(OURS, &facts)).await.unwrap(), facts);
}

#[tokio::test]
async fn a_policy_cannot_lie_about_facts() {
    for (claim, selector) in [
        // The policy never claimed a container.
        ("", "label:name:ours"),
        // The policy claims another workload's container, and emits the facts of that container.
        (OTHERS, "label:name:theirs"),
        (OTHERS, "image_config_digest:sha256:theirs"),
        // The policy obtains a proven container, and emits the facts of another one.
        (OURS, "label:name:theirs"),
        (OURS, "label:name:ours2"),
        (OURS, "label:name"),
        (OURS, "label:role:admi:n:a\nb"),
        (OURS, "env:NAME=theirs"),
        (OURS, "image_id:theirs:1"),
        (OURS, "image_id:"),
        (OURS, "image_config_digest:sha256:theirs"),
        (OURS, "image_manifest_digest:sha256:ours"),
        // The policy emits signatures that were not verified.
        (OURS, "image-signature:verified"),
        (OURS, "image-attestations:verified"),
        (OURS, "image-signature-subject:somebody@example.org"),
        (OURS, "image-signature-made-up:x"),
    ] {
        let error = attest_component(&returning(claim, &[selector])).await.unwrap_err();
        assert!(error.to_string().contains("states no fact"), "{selector}: {error}");
    }
}

/// The expected reason for each hostile policy of fixtures/policies.
#[tokio::test]
async fn the_hostile_policies_of_the_fixtures_are_refused_each_for_its_reason() {
    let reasons = BTreeMap::from([
        ("claims-anothers-container", "selector 1 of the built-in kind \"label\" states no fact"),
        ("emits-anothers-labels", "selector 2 of the built-in kind \"label\" states no fact"),
        ("emits-an-unverified-signature", "\"image-signature\" states no fact"),
        ("imitates-an-extension", "looks like an extension's name"),
    ]);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/policies");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let reason = reasons.get(name.as_str()).expect(&name);
        let error = attest_component(&encode(&std::fs::read_to_string(&path).unwrap(), "policy")).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{name}: {error}");
        seen += 1;
    }
    assert_eq!(seen, reasons.len());
}

/// With ENCODE_FIXTURES=1 this test writes them.
#[test]
fn the_components_of_the_fixtures_are_what_their_sources_make() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/components");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let source = entry.unwrap().path();
        if source.extension().is_none_or(|extension| extension != "wat") {
            continue;
        }
        let text = std::fs::read_to_string(&source).unwrap();
        let world = if text.contains("deriver@") { "extension" } else { "policy" };
        let made = if text.contains("(component") { wat::parse_str(&text).unwrap() } else { encode(&text, world) };
        let component = source.with_extension("wasm");
        if std::env::var_os("ENCODE_FIXTURES").is_some() {
            std::fs::write(&component, &made).unwrap();
        }
        let same = std::fs::read(&component).unwrap() == made;
        assert!(same, "{}: make it with ENCODE_FIXTURES=1", component.display());
        seen += 1;
    }
    assert!(seen > 0);
}

#[tokio::test]
async fn an_own_kind_cannot_look_like_a_built_in_one_and_has_a_form() {
    for (selector, reason) in [
        ("Label:name:theirs", "a-z"),
        ("la-bel:x:y", "looks like"),
        ("image-id:x", "looks like"),
        ("imageid:x", "looks like"),
        ("image_config-digest:x", "looks like"),
        ("image_signature:verified", "looks like"),
        ("imagesignature-subject:x", "looks like"),
        ("image.attestations:verified", "looks like"),
        ("l\u{0430}bel:x", "a-z"),
        (" label:x", "a-z"),
        ("own", "KIND:VALUE"),
        (":x", "KIND:VALUE"),
        ("", "KIND:VALUE"),
        (&format!("{}:x", "k".repeat(65)), "more than 64 bytes"),
        ("own:a\nb", "control or format character"),
        ("own:a\0b", "control or format character"),
        ("own:\u{1b}[31m", "control or format character"),
        ("own:a\u{202e}b", "control or format character"),
        ("own:\u{200b}", "control or format character"),
        ("own:a\u{2028}b", "control or format character"),
        ("own:a\u{2029}b", "control or format character"),
        ("own:", "empty value"),
        ("docker:x", "type of all selectors"),
        ("doc-ker:x", "type of all selectors"),
    ] {
        let error = attest_component(&returning("", &[selector])).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{selector:?}: {error}");
    }
    let error = attest_component(&returning("", &["own:a", "own:a"])).await.unwrap_err();
    assert!(error.to_string().contains("duplicate"), "{error}");
}

#[tokio::test]
async fn a_policys_own_error_holds_no_value_that_it_was_told() {
    // err(policy(…)), which is the ninth case of the fault.
    let text = "NAME is ours, TOKEN is secret-token";
    let number = |number: usize| number.to_le_bytes()[..4].to_vec();
    let fault = [number(1), number(8), number(8192), number(text.len())].concat();
    let data = [data_at(64, &fault), data_at(4096, OURS.as_bytes()), data_at(8192, text.as_bytes())].concat();
    for (claim, expected) in [(OURS, "NAME is …, TOKEN is …"), ("", text)] {
        let error = attest_component(&policy(&data, &format!("{} (i32.const 64)", asking(claim)))).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.code()), (expected, tonic::Code::FailedPrecondition));
    }
}

/// A process in two containers may have a policy that obtains both.
#[tokio::test]
async fn no_value_of_any_container_that_a_policy_obtained_is_in_its_error() {
    let text = "NAME is ours and within";
    let number = |number: usize| number.to_le_bytes()[..4].to_vec();
    let fault = [number(1), number(8), number(12_288), number(text.len())].concat();
    let data = [
        data_at(64, &fault),
        data_at(4096, OURS.as_bytes()),
        data_at(8192, WITHIN.as_bytes()),
        data_at(12_288, text.as_bytes()),
    ];
    let both = format!("{} {} (i32.const 64)", asking_at(4096, OURS), asking_at(8192, WITHIN));
    let sandbox = sandbox();
    let policy = policy_of(&sandbox, &policy(&data.concat(), &both)).await.unwrap();
    let backends = Arc::new(Backends::new(processes(), Arc::new(containers())));
    let error = answer(&sandbox, &policy, Workload::new(backends, PID_WITHIN)).await.unwrap_err();
    assert_eq!(error.to_string(), "NAME is … and …");
}

#[tokio::test]
async fn a_claim_that_is_no_whole_id_never_reaches_the_engine() {
    for claim in [
        "../x",
        "0123456789ab",
        "web",
        &OURS.to_uppercase(),
        &format!("{OURS}0"),
        &OURS[1..],
        &format!("{}/", &OURS[1..]),
    ] {
        let error = attest_component(&returning(claim, &["label:name:ours"])).await.unwrap_err();
        assert!(error.to_string().contains("states no fact"), "{claim}: {error}");
    }
}

#[tokio::test]
async fn a_component_with_another_import_or_without_the_export_is_refused_by_name() {
    let sandbox = sandbox();
    for (text, name) in [
        (
            "(component (import \"wasi:cli/environment@0.2.0\" (instance (export \"get\" (func)))))",
            "wasi:cli/environment",
        ),
        ("(component)", "docker-attestor:policy/attestor"),
    ] {
        let error = policy_of(&sandbox, &wat::parse_str(text).unwrap()).await.err().expect(text);
        assert!(error.contains(name), "{error}");
    }
    for bytes in [&b""[..], b"random bytes", b"\0asm\x01\0\0\0"] {
        assert!(policy_of(&sandbox, bytes).await.is_err());
    }
    let large = vec![0; limits::COMPONENT_FILE + 1];
    assert!(policy_of(&sandbox, &large).await.err().unwrap().contains("bytes: at most"));
}

/// Their cost is measured in `components::builtin`.
#[tokio::test]
async fn the_most_matchers_that_may_be_configured_attest() {
    for unit in ["/", "/*", "/a", "/*/a"] {
        for number in [2, 64, 256] {
            let length = 8_192 / number;
            let filled = |end: String| unit.repeat((length - end.len()) / unit.len()) + &end;
            let mut matchers: Vec<String> = (1..number).map(|index| filled(format!("/<id>/{index:03}"))).collect();
            matchers.push("/docker/<id>".to_owned());
            let text = format!("use_new_container_locator = false\ncontainer_id_cgroup_matchers = {matchers:?}");
            let selectors = attestor(&text).await.attest(PID).await.unwrap();
            assert!(selectors.contains(&"label:name:ours".to_owned()), "{number} of {unit}: {selectors:?}");
        }
    }
}

#[tokio::test]
async fn an_ambiguity_of_many_long_matchers_is_named() {
    let same: Vec<String> =
        (0..8).map(|index| format!("/{}/<id>/{}", "a".repeat(1_000), ["*", "b"][index % 2])).collect();
    let text = format!("use_new_container_locator = false\ncontainer_id_cgroup_matchers = {same:?}");
    let attestor = attestor("").await;
    let error = configure(&attestor, &text).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.to_string().contains("patterns must not be ambiguous"), "{error}");
}
