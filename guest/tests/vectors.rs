//! Compares the matchers with recorded answers of the Go attestor: every set in the folder that `ATTESTOR_VECTORS` names.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::path::PathBuf;

use docker_attestor_policy::matcher::{Matchers, Unusable};
use serde_json::Value;

#[test]
fn matchers_agree_with_the_recorded_answers() {
    let folder = std::env::var_os("ATTESTOR_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")), PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("matchers.json")) else {
        println!("skipped: no recorded matchers here (set ATTESTOR_VECTORS)");
        return;
    };
    let sets: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert!(!sets.is_empty(), "the folder holds no sets");
    let mut failed = 0;
    for (number, set) in sets.iter().enumerate() {
        if let Err(difference) = judge(set) {
            failed += 1;
            println!("set {number} {}: {difference}", set["patterns"]);
        }
    }
    println!("{} passed, {failed} failed", sets.len() - failed);
    assert_eq!(failed, 0);
}

fn judge(set: &Value) -> Result<(), String> {
    let patterns: Vec<String> = serde_json::from_value(set["patterns"].clone()).unwrap();
    let matchers = match (Matchers::new(&patterns), set["error"].as_str()) {
        (Err(Unusable::Ambiguous(_)), Some("ambiguous"))
        | (Err(Unusable::IdTokenCount(_)), Some("id-token-count"))
        | (Err(Unusable::NoPatterns), Some("no-patterns")) => return Ok(()),
        (Ok(matchers), None) => matchers,
        (got, expected) => return Err(format!("expected {expected:?}, got {got:?}")),
    };
    for case in set["matches"].as_array().unwrap() {
        let path = case["path"].as_str().unwrap();
        let expected = case["found"].as_bool().unwrap().then(|| case["id"].as_str().unwrap());
        let got = matchers.find(path);
        if got != expected {
            return Err(format!("{path:?}: expected {expected:?}, got {got:?}"));
        }
    }
    Ok(())
}
