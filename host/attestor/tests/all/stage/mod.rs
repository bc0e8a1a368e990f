//! The common parts of the tests of image verification: a signing test bed, verifiers that trust it, and their findings
//! about an image.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
#![allow(dead_code, reason = "no test file uses all of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use containers::engine::{Engine, InspectFuture, Inspected, Peer, RepoDigestsFuture};
use containers::process::recorded::RecordedProcesses;
use containers::{Container, ContainerId};
use docker_attestor::attestor::Attestor;
use docker_attestor::config;
use image_signatures::{SignatureReport, Verifier};
use sigstore_fixtures::oci::{self, Manifest};
use sigstore_fixtures::registry::Registry;
use sigstore_fixtures::{Options, TestBed};
use tempfile::TempDir;

use crate::machine::{attestor_of, configure, process};

/// The identity with which the test bed signs by default.
pub(crate) const SIGNER: &str = r#"allowed_identities = { "https://issuer.world.test" = ["signer@world.test"] }"#;

/// A signing test bed, and a folder for the files that configurations name.
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

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.files.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `plugin_data` with the test bed's trust root and these options of `sigstore { … }`.
    pub(crate) fn config(&self, options: &str) -> String {
        let root = self.files.path().join("trusted_root.json");
        format!("sigstore {{\ntrusted_root = \"{}\"\n{options}\n}}", root.display())
    }

    /// `public_keys` with the test bed's key.
    pub(crate) fn public_keys(&self) -> String {
        format!("public_keys = [\"{}\"]", self.files.path().join("key.pub").display())
    }

    /// A verifier with these options of `sigstore { … }`.
    pub(crate) fn verifier(&self, options: &str) -> Arc<Verifier> {
        let configuration = config::load(Some("example.org"), &self.config(options)).unwrap();
        let (verifier, _) = Verifier::new(&configuration.sigstore.unwrap().options).unwrap();
        Arc::new(verifier)
    }

    /// Makes an image with one good signature in its `.sig` tag, and returns the image's reference.
    pub(crate) fn signed_image(&self, registry: &Registry, repository: &str) -> String {
        let signature = self.test_bed.sign_simple(&IMAGE.digest, &Options::default());
        registry.push_signed(&IMAGE, repository, &[signature])
    }
}

/// A tiny image.
pub(crate) static IMAGE: LazyLock<Manifest> = LazyLock::new(|| oci::image("amd64", "an image"));

/// The folder with material that is not part of this repository.
pub(crate) fn shared_folder() -> Option<PathBuf> {
    let named = std::env::var_os("ATTESTOR_SIGSTORE").map(PathBuf::from);
    named.or_else(|| {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/sigstore");
        beside.is_dir().then_some(beside)
    })
}

/// The rules that do not hold in a report, with their reasons.
pub(crate) fn wrong(report: &SignatureReport) -> Vec<(u8, &str)> {
    let failing = report.findings.iter().filter(|finding| finding.holds == Some(false));
    failing.map(|finding| (finding.rule.number(), finding.text.as_str())).collect()
}

/// The process that [`attestor`] can attest.
pub(crate) const PID: i32 = 101;

/// An attestor of a recorded machine with one container, whose image has these repo digests and this manifest.
pub(crate) async fn attestor(plugin_data: &str, repo_digests: Vec<String>, manifest: Option<String>) -> Attestor {
    let id = "0123456789abcdef".repeat(4);
    let process = |nspid: [i32; 2]| process(&format!("/docker/{id}"), &nspid, &[2, 1]);
    let processes = BTreeMap::from([(100, process([100, 1])), (PID, process([PID, 7]))]);
    let processes = Arc::new(RecordedProcesses { processes, now: 2, ..RecordedProcesses::default() });
    let engine = OneContainer { repo_digests, manifest };
    let attestor = attestor_of(processes, Arc::new(engine));
    configure(&attestor, plugin_data).await.unwrap();
    attestor
}

struct OneContainer {
    repo_digests: Vec<String>,
    manifest: Option<String>,
}

impl Engine for OneContainer {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        let container = Container {
            id: id.as_str().to_owned(),
            labels: vec![("app".to_owned(), "web".to_owned())],
            env: vec!["MODE=production".to_owned()],
            image: "shop/web:1.4".to_owned(),
            image_id: Some("sha256:feed".to_owned()),
            image_manifest_digest: self.manifest.clone(),
        };
        let inspected = Inspected {
            container,
            pid: 100,
            pid_mode: String::new(),
            cgroup_parent: String::new(),
            isolation: String::new(),
            engine: Peer::default(),
        };
        Box::pin(std::future::ready(Ok(Some(inspected))))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::ready(Ok(self.repo_digests.clone())))
    }
}

/// The selectors of that container without those of sigstore.
pub(crate) fn plain_selectors(manifest: Option<&str>) -> Vec<String> {
    let plain = ["label:app:web", "env:MODE=production", "image_id:shop/web:1.4", "image_config_digest:sha256:feed"];
    let manifest = manifest.map(|digest| format!("image_manifest_digest:{digest}"));
    plain.map(str::to_owned).into_iter().chain(manifest).collect()
}
