//! What sigstore's own JavaScript client signs, with its project's mocked services, is accepted: a signer that shares no code with
//! the signing test bed of our tests. It has to be installed (`just sigstore-peers` does that); where it is not, the test says so.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints a table")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image_signatures::SignatureReport;

use crate::stage::{judge_case, verdict_text};

#[test]
fn what_sigstores_javascript_client_signs_is_accepted() {
    let peers = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/peers"));
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
    if !node.is_ok_and(|status| status.success()) || !peers.join("node_modules").is_dir() {
        println!("skipped: sigstore's JavaScript client is not installed here: run `just sigstore-peers` (needs Node)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("node").arg(peers.join("mock.mjs")).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut cases: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let (mut passed, mut failed) = (0, 0);
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let outcome = judge_case(case, None);
        match outcome.as_ref().is_ok_and(SignatureReport::good) {
            true => passed += 1,
            false => failed += 1,
        }
        println!("{name:20} {}", verdict_text(&outcome));
        // Nothing else passes for it.
        fs::write(case.join("artifact"), "another artifact").unwrap();
        assert!(!judge_case(case, None).is_ok_and(|report| report.good()), "{name}: another artifact is accepted");
    }
    println!("{passed} passed, {failed} failed");
    assert!(failed == 0 && passed > 0);
}
