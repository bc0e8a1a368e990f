use std::collections::BTreeMap;
use std::sync::Arc;

use containers::EngineError;
use containers::engine::recorded::{RecordedContainer, RecordedEngine};
use containers::engine::{ApiVersion, Peer};
use containers::process::recorded::RecordedProcess;
use image_signatures::TrustPart;

use super::Judgement::{Bad, Good, Skipped, Warning};
use super::*;

fn endpoint() -> Endpoint {
    Endpoint::Tcp("docker.example:2375".to_owned())
}

fn described(pids: Vec<i32>, driver: &str) -> EngineDescription {
    let process = RecordedProcess { nspid: pids, ..RecordedProcess::default() };
    EngineDescription {
        version: "28.2.2".to_owned(),
        api: ApiVersion::parse("1.50").zip(ApiVersion::parse("1.41")),
        cgroup_driver: driver.to_owned(),
        engine: Peer { uid: 0, process: Some(Arc::new(process)) },
    }
}

fn judgements(findings: &[Finding]) -> Vec<(&str, Judgement)> {
    findings.iter().map(|finding| (finding.check, finding.judgement)).collect()
}

#[test]
fn an_engine_is_judged_by_its_pid_namespace_and_its_cgroups() {
    let engine = |pids, driver, declared| judge_engine(&endpoint(), Ok(&described(pids, driver)), declared);
    let found = engine(vec![7], "systemd", false);
    assert_eq!(judgements(&found), [("engine", Good), ("pid namespace", Good), ("cgroup driver", Good)]);
    assert!(found[0].seen.ends_with("version 28.2.2, API 1.50, 1.41 spoken"), "{found:?}");
    assert!(found[1].seen.contains("is in ours"), "{found:?}");
    assert_eq!(judgements(&engine(vec![7], "systemd", true))[1].1, Warning, "declared without need");
    assert_eq!(judgements(&engine(vec![7, 1], "systemd", true))[1].1, Warning, "declared");
    assert_eq!(judgements(&engine(vec![7], "none", false))[2].1, Bad);
    assert_eq!(engine(vec![7], "", false).len(), 2, "Windows has no cgroups");
}

#[test]
fn an_engine_that_cannot_be_asked_is_bad_and_clause_b_is_named() {
    let of = |error| {
        let error = ContainersError::Engine { endpoint: endpoint().to_string(), error };
        judge_engine(&endpoint(), Err(&error), false)
    };
    let found = of(EngineError::Unreachable { reason: "connection refused".to_owned(), tries: 3 });
    assert_eq!(judgements(&found), [("engine", Bad)]);
    let found = of(EngineError::OtherPidNamespace);
    assert_eq!(judgements(&found), [("pid namespace", Bad)]);
    assert!(found[0].seen.contains("clause b"), "{found:?}");
}

#[test]
fn the_exit_code_is_that_of_the_worst_line_and_never_the_one_of_no_answer() {
    let of = |judgement| Finding { check: "x", judgement, seen: String::new(), remedy: None };
    for (judgements, code) in
        [(&[][..], 0), (&[Good, Skipped], 0), (&[Good, Warning, Skipped], 1), (&[Bad, Warning, Good], 3)]
    {
        let findings: Vec<Finding> = judgements.iter().copied().map(of).collect();
        assert_eq!(exit_code(&findings), ExitCode::from(code), "{judgements:?}");
    }
}

#[test]
fn each_line_says_what_was_seen_and_what_to_do_and_no_control_character() {
    let findings = [Finding::good("engine", "a\u{1b}[2Jb"), Finding::bad("socket", "none", "start it").of("plugin 7")];
    let mut out = Vec::new();
    print(&findings, &mut out, Style::plain()).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("bad      socket         plugin 7: none\n"), "{text}");
    assert!(text.contains("-> start it\n") && text.ends_with("1 good, 0 warnings, 1 bad, 0 skipped\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

fn plugin(json: &str) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let whole = format!(r#"{{"program": "{own}", "pid": 7, "agent": 6, {json}}}"#);
    judge_plugin(&serde_json::from_str(&whole).unwrap())
}

#[test]
fn a_running_plugin_shows_its_refused_configuration_and_its_failures() {
    let fine = plugin(r#""configured": true, "components": []"#);
    assert_eq!(judgements(&fine), [("plugin", Good)], "an answer of an older plugin is fine too");
    assert_eq!(judgements(&plugin(r#""configured": false, "components": []"#)), [("plugin", Bad)]);
    let refusal = r#""last_refusal": {"at": "2026-01-02T03:04:05Z", "reason": "unknown key a"}"#;
    let refused = |failing| {
        plugin(&format!(
            r#""configured": true, "components": [],
            "configuration": {{"since": "2026-01-01T00:00:00Z", "failing": {failing}, {refusal}}}"#
        ))
    };
    let found = refused(true);
    assert_eq!(judgements(&found), [("plugin", Good), ("last Configure", Bad)]);
    assert!(found[1].seen.contains("unknown key a; the one of 2026-01-01T00:00:00Z stays in use"), "{found:?}");
    assert_eq!(judgements(&refused(false)), [("plugin", Good)], "a refusal that is over");
    let counted = |with_selectors| {
        plugin(&format!(
            r#""configured": true, "components": [], "attestations": {{"since": "2026-01-01T00:00:00Z",
            "with_selectors": {with_selectors}, "without_selectors": 4, "failed": 3,
            "last_failure": {{"at": "2026-01-02T03:04:05Z", "pid": 9, "reason": "extension team: no"}}}}"#
        ))
    };
    assert_eq!(judgements(&counted(0)), [("plugin", Good), ("attestations", Bad)]);
    assert_eq!(judgements(&counted(1)), [("plugin", Good)]);
}

#[test]
fn a_part_of_the_trust_root_is_warned_of_before_it_ends() {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let part = |total, good, until: Option<&str>| TrustPart {
        name: "Rekor keys",
        source: "here".to_owned(),
        total,
        good,
        until: until.map(|until| until.parse().unwrap()),
    };
    for (part, expected) in [
        (part(2, 1, None), Some(Good)),
        (part(2, 1, Some("2027-01-01T00:00:00Z")), Some(Good)),
        (part(2, 1, Some("2026-06-20T00:00:00Z")), Some(Warning)),
        (part(2, 0, None), Some(Warning)),
        (part(0, 0, None), None),
    ] {
        let described = TrustDescription { parts: vec![part], warnings: Vec::new(), refreshed: true };
        let found = judge_trust(Ok(&described), &Options::default(), now);
        assert_eq!(found.first().map(|finding| finding.judgement), expected.or(Some(Good)), "{found:?}");
        assert_eq!(found.len(), 1 + usize::from(expected.is_some()), "{found:?}");
    }
}

#[test]
fn what_the_proof_leaves_out_is_named() {
    let of = |reads_namespaces, declared| judge_proof(ProofContext { reads_namespaces, declared });
    assert_eq!(of(true, false).judgement, Good);
    let found = of(false, true);
    assert!(
        found.judgement == Warning && found.seen.contains("clause b") && found.seen.contains("clause f"),
        "{found:?}"
    );
}

#[tokio::test]
async fn the_registries_of_running_images_are_found_each_once() {
    let digest = format!("@sha256:{}", "a".repeat(64));
    let container = |image: &str, registry: &str| RecordedContainer {
        pid: 7,
        image_id: Some(format!("sha256:{}", image.repeat(64))),
        repo_digests: vec![format!("{registry}/app{digest}"), "nonsense".to_owned()],
        ..RecordedContainer::default()
    };
    let engine = RecordedEngine(BTreeMap::from([
        ("1".repeat(64), container("b", "registry.example:5000")),
        ("2".repeat(64), container("b", "registry.example:5000")),
        ("3".repeat(64), container("c", "other.example")),
    ]));
    let found: Vec<String> = registries_of_containers(&engine).await.into_iter().collect();
    assert_eq!(found, ["other.example", "registry.example:5000"]);
}
