//! The stage of the tests: a signing test bed, verifiers that trust it, and what they say of an image.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use image_signatures::{Examination, Identities, Observation, Options, SignatureReport, Verifier, verify_blob};
use sigstore_fixtures::TestBed;
use sigstore_fixtures::oci::{self, Manifest};
use sigstore_fixtures::registry::Registry;
use sigstore_trust_root::{SigstoreInstance, TrustedRoot};
use sigstore_verify::types::DerPublicKey;
use tempfile::TempDir;

/// The issuer of the test bed's certificates.
pub(crate) const ISSUER: &str = "https://issuer.world.test";

/// One identity that may sign.
pub(crate) fn allowed_only(issuer: &str, subject: &str) -> Identities {
    let allowed = BTreeMap::from([(issuer.to_owned(), vec![subject.to_owned()])]);
    Identities::new("allowed_identities", &allowed).unwrap().0
}

/// The identity that the test bed signs with unless it is told otherwise.
pub(crate) fn signer() -> Identities {
    allowed_only(ISSUER, "signer@world.test")
}

/// Only signatures: attestations are not looked at.
pub(crate) fn only_signatures() -> Options {
    Options { ignore_attestations: true, ..Options::default() }
}

/// A signing test bed, and a folder for the files that options name.
pub(crate) struct Stage {
    pub(crate) test_bed: TestBed,
    files: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let stage = Stage { test_bed: TestBed::new(), files: tempfile::tempdir().unwrap() };
        stage.write("trusted_root.json", stage.test_bed.trusted_root().to_string());
        stage.write("key.pub", stage.test_bed.key.public_pem());
        stage
    }

    /// Writes a file; answers its path.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The file of the test bed's public key.
    pub(crate) fn public_keys(&self) -> Vec<PathBuf> {
        vec![self.files.path().join("key.pub")]
    }

    /// A verifier with these options and the test bed's trust root.
    pub(crate) fn verifier(&self, options: Options) -> Arc<Verifier> {
        Arc::new(self.unobserved(options))
    }

    /// The same, and everything that it observes.
    pub(crate) fn observed_verifier(&self, options: Options) -> (Arc<Verifier>, Arc<Mutex<Vec<Observation>>>) {
        let observations = Arc::<Mutex<Vec<Observation>>>::default();
        let seen = Arc::clone(&observations);
        let observer = Arc::new(move |observation| seen.lock().unwrap().push(observation));
        (Arc::new(self.unobserved(options).with_observer(observer)), observations)
    }

    fn unobserved(&self, options: Options) -> Verifier {
        let trusted_root = Some(self.files.path().join("trusted_root.json"));
        Verifier::new(&Options { trusted_root, ..options }).unwrap().0
    }

    /// An image with one good signature, in the tag that is made for it; answers its reference.
    pub(crate) fn signed_image(&self, registry: &Registry, repository: &str) -> String {
        let signature = self.test_bed.sign_simple(&IMAGE.digest, &sigstore_fixtures::Options::default());
        registry.push_signed(&IMAGE, repository, &[signature])
    }
}

/// A tiny image.
pub(crate) static IMAGE: LazyLock<Manifest> = LazyLock::new(|| oci::image("amd64", "an image"));

/// What a report says is wrong: the rules that do not hold, with their reasons.
pub(crate) fn wrong(report: &SignatureReport) -> Vec<(u8, &str)> {
    let failing = report.findings.iter().filter(|finding| finding.holds == Some(false));
    failing.map(|finding| (finding.rule.number(), finding.text.as_str())).collect()
}

/// Every text of an examination.
pub(crate) fn texts(examination: &Examination) -> String {
    let reports = examination.reports.iter().map(|report| format!("{report}\n{report:?}\n"));
    let unreachable = examination.unreachable.iter().map(|source| format!("{source}\n{source:?}\n"));
    let outcome = examination.outcome.as_ref().err().map(|why| format!("{why}\n{why:?}\n"));
    reports.chain(unreachable).chain(outcome).collect()
}

/// A sigstore case's folder, in the layout of sigstore-conformance's `test/assets/bundle-verify`: the report on it, or why its
/// trust root cannot be used. Without files of their own cases are of the suite's own workflow, and about `artifact`.
pub(crate) fn judge_case(case: &Path, artifact: Option<&Path>) -> Result<SignatureReport, String> {
    const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/\
                            workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
    const ISSUER: &str = "https://token.actions.githubusercontent.com";
    let text = |name: &str| fs::read_to_string(case.join(name)).ok();
    let artifact = fs::read(case.join("artifact")).or_else(|error| artifact.map_or(Err(error), fs::read)).unwrap();
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
    verify_blob(&bundle, &artifact, &root, identities, keys).map_err(|error| error.to_string())
}

/// What came of a case, for people.
pub(crate) fn verdict_text(outcome: &Result<SignatureReport, String>) -> String {
    match outcome {
        Ok(report) if report.good() => "accepted".to_owned(),
        Ok(report) => {
            report.to_string().split_once(": ").map_or_else(String::new, |(_, why)| format!("rejected: {why}"))
        }
        Err(why) => format!("rejected: {why}"),
    }
}

/// The folder with material that is not part of this repository.
pub(crate) fn shared_folder() -> Option<PathBuf> {
    let named = std::env::var_os("ATTESTOR_SIGSTORE").map(PathBuf::from);
    named.or_else(|| {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/sigstore");
        beside.is_dir().then_some(beside)
    })
}
