//! Images that were signed or attested with the public sigstore instance. A registry in this process serves them, and they
//! are judged under the public-good trust root.
//!
//! The images are not part of this repository. `ATTESTOR_SIGSTORE` names a folder that contains them in `images/`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test: a panic is the verdict"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use image_signatures::{Purpose, Rule, Verifier};
use serde::Deserialize;
use serde_json::Value;
use sigstore_fixtures::CosignSignature;
use sigstore_fixtures::oci;
use sigstore_fixtures::registry::{Options, Registry};
use sigstore_trust_root::SigstoreInstance;
use sigstore_verify::types::PayloadBytes;

use crate::stage::{PID, Stage, attestor, plain_selectors, shared_folder, wrong};

/// The folder of one image. If it is missing, the test prints that it is skipped.
fn image(name: &str) -> Option<PathBuf> {
    let folder = shared_folder().map(|folder| folder.join("images").join(name)).filter(|folder| folder.is_dir());
    if folder.is_none() {
        println!("skipped: ATTESTOR_SIGSTORE names no folder with images/{name}");
    }
    folder
}

/// `sigstore { … }` with the public-good root inside the program, regardless of this machine's environment.
fn public_good(stage: &Stage, options: &str) -> String {
    let root = SigstoreInstance::PublicGood.embedded_trusted_root().unwrap();
    let root = stage.write("public-good.json", serde_json::to_vec(&root).unwrap());
    format!("sigstore {{\ntrusted_root = {root:?}\n{options}\n}}")
}

/// Reads a signature file of containers/image: a line with its type, then a layer of a `.sig` tag as JSON.
fn signature_file(path: &Path) -> CosignSignature {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stored {
        mime_type: String,
        payload: String,
        annotations: BTreeMap<String, String>,
    }
    let bytes = fs::read(path).unwrap();
    let stored: Stored = serde_json::from_slice(bytes.strip_prefix(b"\0sigstore-json\n").unwrap()).unwrap();
    let media_type = "application/vnd.dev.cosign.simplesigning.v1+json";
    assert_eq!(stored.mime_type, media_type);
    let payload = PayloadBytes::from_base64(&stored.payload).unwrap().into_bytes();
    CosignSignature { payload, annotations: stored.annotations, media_type, entry: None }
}

/// Serves the image, and returns its repo digest.
fn serve(registry: &Registry, folder: &Path) -> String {
    let manifest = fs::read(folder.join("manifest.json")).unwrap();
    let json: Value = serde_json::from_slice(&manifest).unwrap();
    let digest = oci::digest(&manifest);
    registry.put_manifest("signed", &digest, json["mediaType"].as_str().unwrap(), manifest);
    registry.attach_signatures("signed", &digest, &[signature_file(&folder.join("signature-1"))]);
    format!("{}/signed@{digest}", registry.host())
}

const SIGNED: &str = "dir-fulcio-rekor-valid";

#[tokio::test]
async fn a_real_signature_makes_the_selectors_that_the_go_attestor_makes() {
    let Some(folder) = image(SIGNED) else { return };
    let stage = Stage::new();
    let registry = Registry::start(Options::default()).await;
    let reference = serve(&registry, &folder);
    let identity = "allowed_identities = { \"https://github.com/login/oauth\" = [\"mitr@redhat.com\"] }";
    let signature = [
        "image-signature-subject:mitr@redhat.com",
        "image-signature-issuer:https://github.com/login/oauth",
        "image-signature-value:MEQCIBszrlQdfkiSZnZtmelemGa9iePG30Rggc0w/DL0D5N/AiAMBxC2KeZYXkk80WDb+f0/MDkbFxd1N6W1hE67O7pmng==",
    ];
    let log = [
        "image-signature-log-id:c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d",
        "image-signature-log-index:11605770",
        "image-signature-integrated-time:1674247893",
        "image-signature-signed-entry-timestamp:MEUCIQCyXhl6r7bg0IreJ91cZbEp7mzAwYdTUhU+irzlQs/pDQIgCA/VPgbTLtDcnSh2P/Ci+HnmVJ1ouwGhLLzBeGyz4vo=",
    ];
    for options in [
        "require_attestations = false",
        "ignore_attestations = true",
        "require_attestations = false\nignore_sct = true",
    ] {
        let config = public_good(&stage, &format!("{identity}\n{options}"));
        let attestor = attestor(&config, vec![reference.clone()], None).await;
        let selectors = attestor.attest(PID).await.unwrap();
        let mut expected = plain_selectors(None);
        expected.push("image-signature:verified".to_owned());
        expected.extend(signature.iter().chain(&log).map(|selector| (*selector).to_owned()));
        assert_eq!(selectors, expected, "{options}");
    }
    // Years later the signature counts only because the log proves when it was made.
    for (options, reason) in [
        (format!("{identity}\nignore_tlog = true\nignore_attestations = true"), "outside the certificate's validity"),
        (identity.to_owned(), "there is no attestation"),
        (
            "ignore_attestations = true\nallowed_identities = { \"https://github.com/login/oauth\" = [\"redhat.c*\"] }"
                .to_owned(),
            "\"redhat.c*\" matches \"mitr@redhat.com\" only in part",
        ),
    ] {
        let attestor = attestor(&public_good(&stage, &options), vec![reference.clone()], None).await;
        let error = attestor.attest(PID).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_real_signature_is_nothing_under_another_trust_root() {
    let Some(folder) = image(SIGNED) else { return };
    let stage = Stage::new();
    let registry = Registry::start(Options::default()).await;
    let reference = serve(&registry, &folder);
    let examination = stage.verifier("ignore_attestations = true").examine(&reference).await.unwrap();
    assert_eq!(wrong(&examination.reports[0])[0].0, 4);
    assert!(examination.outcome.unwrap_err().to_string().contains("is not in the trust root"));
}

/// Serves an OCI layout as cosign saves it, and returns the repo digest of its image.
fn serve_layout(registry: &Registry, layout: &Path, repository: &str) -> String {
    let blobs = layout.join("blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap() {
        registry.put_blob(repository, fs::read(blob.unwrap().path()).unwrap());
    }
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let mut image = String::new();
    for descriptor in index["manifests"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (digest, media_type) = (text(&descriptor["digest"]), text(&descriptor["mediaType"]));
        let manifest = fs::read(blobs.join(digest.trim_start_matches("sha256:"))).unwrap();
        let tag = match descriptor["annotations"]["kind"].as_str() {
            Some("dev.cosignproject.cosign/atts") => oci::attestation_tag(&image),
            _ => {
                image.clone_from(&digest);
                digest
            }
        };
        registry.put_manifest(repository, &tag, &media_type, manifest);
    }
    format!("{}/{repository}@{image}", registry.host())
}

#[tokio::test]
async fn real_attestations_verify_under_either_kind_of_entry_but_sign_nothing() {
    const ISSUER: &str = "https://token.actions.githubusercontent.com";
    const BUILDER: &str = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/";
    for (version, entry) in [("v1.4.0", "entry 10957770 of log "), ("v2.1.0", "entry 174304112 of log ")] {
        let Some(layout) = image(&format!("oci-layout-attested-{version}")) else { return };
        let stage = Stage::new();
        let registry = Registry::start(Options::default()).await;
        let reference = serve_layout(&registry, &layout, "attested");
        for (subject, good) in [(format!("{BUILDER}{version}"), true), (format!("{BUILDER}v9.9.9"), false)] {
            let config = public_good(&stage, &format!("allowed_identities = {{ {ISSUER:?} = [{subject:?}] }}"));
            let options = docker_attestor::config::load(Some("example.org"), &config).unwrap().sigstore.unwrap();
            let (verifier, _) = Verifier::new(&options.options).unwrap();
            let examination = std::sync::Arc::new(verifier).examine(&reference).await.unwrap();
            let [report] = &examination.reports[..] else { panic!("{version}: {examination:?}") };
            assert_eq!((report.purpose, report.good()), (Some(Purpose::Attestation), good), "{version}: {report:?}");
            assert!(report.findings.iter().any(|finding| finding.rule == Rule::Log && finding.text.starts_with(entry)));
            if !good {
                assert!(matches!(wrong(report)[..], [(7, why)] if why.contains("is not in allowed_identities")));
            }
            // The image has an attestation, but no signature.
            assert!(examination.outcome.unwrap_err().to_string().contains("there is no signature"));
        }
        let config = public_good(&stage, "on_failure = \"omit\"");
        let attestor = attestor(&config, vec![reference], None).await;
        assert_eq!(attestor.attest(PID).await.unwrap(), plain_selectors(None));
    }
}
