//! The sigstore project's conformance cases: every bundle judged by the rules that judge an image's signatures.
//!
//! The cases are not part of this repository: `ATTESTOR_SIGSTORE` names a folder whose `bundles/` has them, in the layout of
//! sigstore-conformance's `test/assets/bundle-verify`.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a test that prints a table")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use docker_attestor::capability::sigstore::{Identities, Report, verify_blob};
use sigstore_trust_root::{SigstoreInstance, TrustedRoot};
use sigstore_verify::types::DerPublicKey;

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/\
                        extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("ATTESTOR_SIGSTORE").map(PathBuf::from);
    named.or_else(|| {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/sigstore");
        beside.is_dir().then_some(beside)
    })
}

/// The report on one case, or why its trust root cannot be used.
fn judge(case: &Path, bundles: &Path) -> Result<Report, String> {
    let text = |name: &str| fs::read_to_string(case.join(name)).ok();
    let artifact = fs::read(case.join("artifact")).or_else(|_| fs::read(bundles.join("a.txt"))).unwrap();
    let root = match text("trusted_root.json") {
        Some(json) => TrustedRoot::from_json(&json).map_err(|error| error.to_string())?,
        None => SigstoreInstance::PublicGood.embedded_trusted_root().unwrap(),
    };
    let key = text("key.pub").map(|pem| DerPublicKey::from_pem(&pem)).transpose();
    let keys: Vec<DerPublicKey> = key.map_err(|error| format!("key.pub: {error}"))?.into_iter().collect();
    let identities = match keys.is_empty() {
        true => {
            let identity = text("identity").map_or(IDENTITY.to_owned(), |text| text.trim().to_owned());
            let issuer = text("issuer").map_or(ISSUER.to_owned(), |text| text.trim().to_owned());
            Identities::new("identity", &BTreeMap::from([(issuer, vec![identity])])).unwrap().0
        }
        false => Identities::default(),
    };
    let bundle = fs::read(case.join("bundle.sigstore.json")).unwrap();
    verify_blob(&bundle, &artifact, &root, identities, keys)
}

#[test]
fn every_case_is_accepted_or_rejected_as_its_name_says() {
    let Some(folder) = folder() else {
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
        let outcome = judge(case, &bundles);
        let accepted = outcome.as_ref().is_ok_and(Report::good);
        let as_named = accepted != name.ends_with("_fail");
        if as_named {
            passed += 1
        } else {
            failed += 1
        }
        let verdict = match &outcome {
            Ok(report) if report.good() => "accepted".to_owned(),
            Ok(report) => {
                report.to_string().split_once(": ").map_or_else(String::new, |(_, why)| format!("rejected: {why}"))
            }
            Err(why) => format!("rejected: {why}"),
        };
        println!("{} {name:62} {verdict}", if as_named { "ok  " } else { "FAIL" });
    }
    println!("{passed} passed, {failed} failed");
    assert!(passed > 0, "no case in {}", bundles.display());
    assert_eq!(failed, 0);
}
