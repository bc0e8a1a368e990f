//! The stage of the tests of image verification: a signing world, verifiers that trust it, and what they say of an image.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use docker_attestor::capability::sigstore::{Examination, Report, Sigstore};
use docker_attestor::config;
use sigstore_world::oci::{self, Manifest};
use sigstore_world::registry::Registry;
use sigstore_world::{Options, World};
use tempfile::TempDir;

/// The identity that the world signs with unless it is told otherwise.
pub(crate) const SIGNER: &str = r#"allowed_identities = { "https://issuer.world.test" = ["signer@world.test"] }"#;

/// A signing world, and a folder for the files that configurations name.
pub(crate) struct Stage {
    pub(crate) world: World,
    files: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let stage = Stage { world: World::new(), files: tempfile::tempdir().unwrap() };
        stage.write("trusted_root.json", stage.world.trusted_root().to_string());
        stage.write("key.pub", stage.world.key.public_pem());
        stage
    }

    /// Writes a file; answers its path.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `plugin_data` with the world's trust root and these options of `sigstore { … }`.
    pub(crate) fn config(&self, options: &str) -> String {
        let root = self.files.path().join("trusted_root.json");
        format!("sigstore {{\ntrusted_root = \"{}\"\n{options}\n}}", root.display())
    }

    /// `public_keys` with the world's key.
    pub(crate) fn public_keys(&self) -> String {
        format!("public_keys = [\"{}\"]", self.files.path().join("key.pub").display())
    }

    /// A verifier with these options of `sigstore { … }`.
    pub(crate) fn verifier(&self, options: &str) -> Arc<Sigstore> {
        let configuration = config::load(Some("example.org"), &self.config(options)).unwrap();
        let (sigstore, _) = Sigstore::new(&configuration.sigstore.unwrap()).unwrap();
        Arc::new(sigstore)
    }

    /// An image with one good signature, in the tag that is made for it; answers its reference.
    pub(crate) fn signed_image(&self, registry: &Registry, repository: &str) -> String {
        let digest = registry.push(repository, None, &IMAGE);
        registry.attach_signatures(repository, &digest, &[self.world.sign_simple(&digest, &Options::default())]);
        format!("{}/{repository}@{digest}", registry.host())
    }
}

/// A tiny image.
pub(crate) static IMAGE: LazyLock<Manifest> = LazyLock::new(|| oci::image("amd64", "an image"));

/// What a report says is wrong: the rules that do not hold, with their reasons.
pub(crate) fn wrong(report: &Report) -> Vec<(u8, &str)> {
    let failing = report.findings.iter().filter(|finding| finding.holds == Some(false));
    failing.map(|finding| (finding.rule, finding.text.as_str())).collect()
}

/// Every text of an examination.
pub(crate) fn texts(examination: &Examination) -> String {
    let reports = examination.reports.iter().map(|report| format!("{report}\n{report:?}\n"));
    let outcome = examination.outcome.as_ref().err();
    reports.chain(examination.away.iter().chain(outcome).map(|text| format!("{text}\n"))).collect()
}

/// The folder with material that is not part of this repository.
pub(crate) fn shared_folder() -> Option<PathBuf> {
    let named = std::env::var_os("ATTESTOR_SIGSTORE").map(PathBuf::from);
    named.or_else(|| {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/sigstore");
        beside.is_dir().then_some(beside)
    })
}
