//! The sigstore project's conformance cases: every bundle judged by the rules that judge an image's signatures.
//!
//! The cases are not part of this repository: `ATTESTOR_SIGSTORE` names a folder whose `bundles/` has them, in the layout of
//! sigstore-conformance's `test/assets/bundle-verify`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints a table")]

use std::fs;
use std::path::PathBuf;

use docker_attestor::signatures::Report;

use crate::stage::{judge_case, shared_folder, verdict_text};

#[test]
fn every_case_is_accepted_or_rejected_as_its_name_says() {
    let Some(folder) = shared_folder() else {
        println!("skipped: ATTESTOR_SIGSTORE names no folder with sigstore's conformance cases");
        return;
    };
    let bundles = folder.join("bundles");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(&bundles).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    let (mut passed, mut failed) = (0, 0);
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let outcome = judge_case(case, Some(&bundles.join("a.txt")));
        let accepted = outcome.as_ref().is_ok_and(Report::good);
        let as_named = accepted != name.ends_with("_fail");
        if as_named {
            passed += 1
        } else {
            failed += 1
        }
        let verdict = verdict_text(&outcome);
        println!("{} {name:62} {verdict}", if as_named { "ok  " } else { "FAIL" });
    }
    println!("{passed} passed, {failed} failed");
    assert!(passed > 0, "no case in {}", bundles.display());
    assert_eq!(failed, 0);
}
