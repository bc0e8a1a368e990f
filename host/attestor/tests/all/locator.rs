//! Compares the container locator, in the real sandbox, with recorded answers of the Go attestor: for every process in the
//! folder that `ATTESTOR_VECTORS` names.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use containers::engine::recorded::RecordedEngine;
use containers::process::recorded::{RecordedProcess, RecordedProcesses};
use docker_attestor::attestation::Explanation;
use docker_attestor::error::Error;
use docker_attestor::workload::Question;
use sandbox::{Fault, FaultKind};
use serde_json::Value;

use crate::machine::{attestor_of, configure};

#[tokio::test]
async fn claims_agree_with_the_recorded_answers() {
    let folder = std::env::var_os("ATTESTOR_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")), PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("locator.json")) else {
        println!("skipped: no recorded processes here (set ATTESTOR_VECTORS)");
        return;
    };
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert!(!cases.is_empty(), "the folder holds no processes");
    let processes: BTreeMap<i32, RecordedProcess> = (1..).zip(cases.iter().map(process)).collect();
    let processes = Arc::new(RecordedProcesses { processes, now: 1, ..RecordedProcesses::default() });
    let attestor = attestor_of(processes, Arc::new(RecordedEngine::default()));
    configure(&attestor, "").await.unwrap();

    let mut failed = 0;
    for (pid, case) in (1..).zip(&cases) {
        let (expected, got) = (expected(&case["claim"]), claimed(&attestor.explain(pid).await.unwrap()));
        if got != expected {
            failed += 1;
            println!("process {}: expected {expected:?}, got {got:?}", pid - 1);
        }
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    assert_eq!(failed, 0);
}

fn process(case: &Value) -> RecordedProcess {
    // Lines are joined with newlines later, which restores the recorded text.
    let lines = |name: &str| case[name].as_str().unwrap().split('\n').map(str::to_owned).collect();
    RecordedProcess {
        cgroup: lines("cgroup"),
        mountinfo: lines("mountinfo"),
        start_time: 0,
        pid_namespaces: vec![1],
        nspid: vec![1],
        ..RecordedProcess::default()
    }
}

/// The expected id, an empty text for none, or the kind of error.
fn expected(claim: &Value) -> Result<String, String> {
    match claim["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(claim["id"].as_str().unwrap_or_default().to_owned()),
    }
}

fn claimed(explanation: &Explanation) -> Result<String, String> {
    match &explanation.outcome {
        Err(Error::Fault(Fault { kind: FaultKind::Workload, .. })) => Err("conflict".to_owned()),
        Err(Error::Fault(Fault { kind: FaultKind::Malformed, text })) if text.contains("/cgroup") => {
            Err("cgroup".to_owned())
        }
        Err(other) => Err(other.to_string()),
        Ok(_) => Ok(explanation
            .transcript
            .exchanges()
            .iter()
            .find_map(|exchange| match &exchange.question {
                Question::Container(_, id) => Some(id.clone()),
                _ => None,
            })
            .unwrap_or_default()),
    }
}
