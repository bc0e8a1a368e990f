//! The trial: settings, grants and components that would fail where what is in use succeeds are refused, and what is in use stays.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use docker_attestor::attestor::Attestor;
use docker_attestor::components::load::Step;
use docker_attestor::config;
use docker_attestor::error::Error;

use crate::component::{asking, data_at, emitting, extension, policy, returning, validating_extension, with_section};
use crate::machine::{OURS, PID, PID_OF_HOST, attestor, configure, runtime, unconfigured};
use crate::reuse::{self, Machine};

/// An extension like the template: it needs `grants = ["labels"]` and the setting `label`, and answers with an error without them.
fn needing() -> Vec<u8> {
    let texts = [(64, &[1, 0, 0, 0, 0, 32, 0, 0, 8][..]), (8192, b"needs it"), (8256, b"good")];
    let data: String = texts.map(|(at, bytes)| data_at(at, bytes)).concat();
    // The offsets of the labels (an option) and of the settings (a list) in the arguments, and the text `labe` as a number.
    let derive = "
        (if (i32.eqz (i32.load8_u (local.get 0))) (then (return (i32.const 64))))
        (if (i32.eqz (i32.load offset=76 (local.get 0))) (then (return (i32.const 64))))
        (if (i32.ne (i32.load (i32.load (i32.load offset=72 (local.get 0)))) (i32.const 0x6562616c)) (then (return (i32.const 64))))
        (i32.store8 (i32.const 64) (i32.const 0))
        (call $emit (i32.const 8256) (i32.const 4)) (call $done)";
    extension(&data, derive)
}

/// A policy that claims our container and answers with an error of its own.
fn denying() -> Vec<u8> {
    // `result::err(fault::policy("denied"))`: the case of the result, the case of the fault, its text.
    let fault = [1, 0, 0, 0, 8, 0, 0, 0, 0, 32, 0, 0, 6, 0, 0, 0];
    let data = [data_at(64, &fault), data_at(8192, b"denied"), data_at(4096, OURS.as_bytes())].concat();
    policy(&data, &format!("{} (i32.const 64)", asking(OURS)))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.put("policy", &returning(OURS, &["own:good"]));
        folder
    }

    fn put(&self, name: &str, component: &[u8]) {
        std::fs::write(self.0.path().join(name), component).unwrap();
    }

    /// A configuration with the policy in the file `policy`.
    fn policy(&self) -> String {
        format!("policy {{ path = {:?} unpinned = true }}\n", self.0.path().join("policy"))
    }

    /// A configuration with the policy and with the extension in the file `x`. `more` is the rest of the extension's block.
    fn with(&self, more: &str) -> String {
        format!("{}extension \"x\" {{ path = {:?} unpinned = true {more} }}", self.policy(), self.0.path().join("x"))
    }
}

const GOOD: &str = "grants = [\"labels\"] settings = { label = \"team\" }";
const MISSPELT: &str = "grants = [\"labels\"] settings = { lable = \"team\" }";
const NOT_GRANTED: &str = "grants = [\"image\"] settings = { label = \"team\" }";

fn refusal(outcome: Result<(), Error>) -> String {
    let error = outcome.unwrap_err();
    assert!(error.is_about_configuration(), "{error}");
    error.to_string()
}

/// The last failure of the component with this number.
fn failure(attestor: &Attestor, number: usize) -> (Step, String) {
    let component = attestor.status().components.get(number).cloned().unwrap();
    assert!(component.failing);
    let failure = component.last_failure.unwrap();
    (failure.step, failure.reason)
}

#[tokio::test]
async fn settings_and_grants_that_would_fail_an_attested_workload_are_refused() {
    let folder = Folder::new();
    folder.put("x", &needing());
    let attestor = attestor(&folder.with(GOOD)).await;
    assert_eq!(attestor.attest(PID).await.unwrap(), ["own:good", "x:good"]);
    for bad in [MISSPELT, NOT_GRANTED, "settings = { label = \"team\" }", "grants = [\"labels\"]"] {
        for on_failure in ["", "on_failure = \"omit\""] {
            let text = refusal(configure(&attestor, &folder.with(&format!("{bad} {on_failure}"))).await);
            assert!(
                text.contains(
                    "x: trial: extension \"x\": needs it: a workload that was attested before (container 0123"
                ),
                "{text}"
            );
            assert_eq!(attestor.attest(PID).await.unwrap(), ["own:good", "x:good"], "{bad}");
            assert_eq!(failure(&attestor, 1).0, Step::Trial, "{bad}");
        }
    }
    configure(&attestor, &folder.with("grants = [\"labels\"] settings = { label = \"unit\" }")).await.unwrap();
    assert!(!attestor.status().components.iter().any(|component| component.failing));
}

#[tokio::test]
async fn a_component_that_answers_an_attested_workload_with_its_own_error_is_refused() {
    let folder = Folder::new();
    folder.put("x", &emitting(&["good"]));
    let attestor = attestor(&folder.with("")).await;
    assert_eq!(attestor.attest(PID).await.unwrap(), ["own:good", "x:good"]);
    folder.put("x", &needing());
    folder.put("policy", &denying());
    assert_eq!(attestor.reload().await.failed, 2);
    let (step, why) = failure(&attestor, 0);
    assert!(step == Step::Trial && why.starts_with("denied: a workload that was attested before"), "{step}: {why}");
    let (step, why) = failure(&attestor, 1);
    assert!(step == Step::Trial && why.starts_with("extension \"x\": needs it: a workload"), "{step}: {why}");
    assert_eq!(attestor.attest(PID).await.unwrap(), ["own:good", "x:good"]);
    let text = refusal(configure(&attestor, &folder.policy()).await);
    assert!(text.contains("policy: trial: denied"), "{text}");
}

#[tokio::test]
async fn a_container_that_has_ended_holds_up_no_update() {
    let folder = Folder::new();
    folder.put("x", &needing());
    let with = |more: &str| folder.with(more).replacen(&folder.policy(), "", 1);
    let machine = Machine::default();
    machine.apply(&reuse::Step::Start(1, 10));
    let attestor = reuse::attestor(&machine, &runtime()).await;
    configure(&attestor, &with(GOOD)).await.unwrap();
    assert!(attestor.attest(10).await.unwrap().contains(&"x:good".to_owned()));
    let text = refusal(configure(&attestor, &with(MISSPELT)).await);
    assert!(text.contains(&format!("(container {}) would get this error", reuse::id(1))), "{text}");
    machine.apply(&reuse::Step::Kill(10));
    configure(&attestor, &with(MISSPELT)).await.unwrap();
}

#[tokio::test]
async fn going_back_to_the_built_in_policy_ends_the_failure_of_another_one() {
    let folder = Folder::new();
    folder.put("policy", b"no component");
    let attestor = attestor("").await;
    refusal(configure(&attestor, &folder.policy()).await);
    assert!(attestor.status().components.iter().any(|component| component.failing));
    configure(&attestor, "").await.unwrap();
    assert!(!attestor.status().components.iter().any(|component| component.failing));
}

#[tokio::test]
async fn a_new_extension_may_not_deny_what_is_attested_without_it() {
    let folder = Folder::new();
    folder.put("x", &needing());
    let attestor = attestor(&folder.policy()).await;
    assert_eq!(attestor.attest(PID).await.unwrap(), ["own:good"]);
    let text = refusal(configure(&attestor, &folder.with(MISSPELT)).await);
    assert!(text.contains("trial: extension \"x\": needs it"), "{text}");
    // Left out, it denies nothing.
    configure(&attestor, &folder.with(&format!("{MISSPELT} on_failure = \"omit\""))).await.unwrap();
    assert_eq!(attestor.attest(PID).await.unwrap(), ["own:good"]);
}

#[tokio::test]
async fn what_fails_may_be_replaced_by_what_fails_in_another_way() {
    let folder = Folder::new();
    folder.put("x", &needing());
    let attestor = attestor(&folder.with(&format!("{MISSPELT} on_failure = \"omit\""))).await;
    assert_eq!(attestor.attest(PID).await.unwrap(), ["own:good"]);
    folder.put("x", &with_section(&needing(), "other", b""));
    assert_eq!(attestor.reload().await.replaced, 1);
    configure(&attestor, &folder.with(&format!("{NOT_GRANTED} on_failure = \"omit\""))).await.unwrap();
}

#[tokio::test]
async fn an_error_that_may_come_from_an_answer_that_was_not_recorded_refuses_nothing() {
    let folder = Folder::new();
    let attestor = attestor("").await;
    // The recorded process is in no container, so the new policy's claim has no recorded answer.
    attestor.attest(PID_OF_HOST).await.unwrap();
    folder.put("policy", &denying());
    configure(&attestor, &folder.policy()).await.unwrap();
    assert!(attestor.attest(PID).await.unwrap_err().to_string().contains("denied"));
}

#[tokio::test]
async fn at_the_start_an_error_is_no_refusal_and_validate_refuses_it() {
    let folder = Folder::new();
    folder.put("policy", &denying());
    folder.put("x", &needing());
    // No workload was attested, so a policy or an extension may deny for a reason. The agent must start all the same.
    let attestor = unconfigured();
    configure(&attestor, &folder.with(MISSPELT)).await.unwrap();
    assert!(attestor.attest(PID).await.is_err());

    folder.put("policy", &returning(OURS, &["own:good"]));
    let validate = async |more: &str| {
        unconfigured().validate(config::load(Some("example.org"), &folder.with(more)).unwrap()).await.map(|_| ())
    };
    validate(GOOD).await.unwrap();
    for bad in [MISSPELT, NOT_GRANTED] {
        let text = refusal(validate(bad).await);
        assert!(text.contains("x: trial: extension \"x\": needs it: a sample workload"), "{text}");
    }
}

#[tokio::test]
async fn what_a_component_needs_is_compared_before_any_workload() {
    const NEEDS: &str = "docker-attestor:needs";
    let folder = Folder::new();
    let needs = br#"{"grants": ["labels"], "settings": {"required": ["label"]}}"#;
    folder.put("x", &with_section(&emitting(&["good"]), NEEDS, needs));
    let attestor = attestor(&folder.with(GOOD)).await;
    for (bad, part) in [
        (MISSPELT, "it needs the setting \"label\"; it has no setting \"lable\": it has \"label\""),
        (NOT_GRANTED, "it needs grants = [\"labels\"], and is granted image"),
    ] {
        let text = refusal(configure(&attestor, &folder.with(bad)).await);
        assert!(text.ends_with(&format!("x: settings: {part}")), "{text}");
    }
    let more = "grants = [\"labels\", \"env\"] settings = { label = \"team\" }";
    let configuration = config::load(Some("example.org"), &folder.with(more)).unwrap();
    let notes = attestor.validate(configuration).await.unwrap();
    assert!(notes.contains(&"extension x: it does not need \"env\": take it out of grants".to_owned()), "{notes:?}");
    for malformed in [&b"{"[..], br#"{"grant": []}"#, br#"{"grants": ["cgroups"]}"#, &[b' '; 5_000]] {
        folder.put("x", &with_section(&emitting(&["good"]), NEEDS, malformed));
        let text = refusal(configure(&attestor, &folder.with(GOOD)).await);
        assert!(text.contains("x: inspect: "), "{text}");
    }
}

#[tokio::test]
async fn an_extension_that_checks_its_settings_may_answer_the_sample_with_an_error() {
    let folder = Folder::new();
    // `validate` accepts everything, `derive` answers every workload with an error.
    let text = [data_at(64, &[1, 0, 0, 0, 0, 32, 0, 0, 8]), data_at(8192, b"a reason")].concat();
    folder.put("x", &validating_extension(&text, "(i32.const 16)", "(i32.const 64)"));
    let configuration = config::load(Some("example.org"), &folder.with("")).unwrap();
    let notes = unconfigured().validate(configuration).await.unwrap();
    assert!(notes.iter().any(|note| note.starts_with("extension x: extension \"x\": a reason: a sample")), "{notes:?}");
}
