//! Attestation of workloads with images: the selectors of a verified image, the outcome for one that does not verify, and
//! how long an answer is reused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: a panic is the verdict")]

use std::sync::Arc;
use std::time::Duration;

use docker_attestor::config::OnFailure;
use docker_attestor::workload::decision::{Decision, SignedImages};
use image_signatures::Image;
use sandbox::limits::GUEST_TEXT;
use sandbox::{Fault as PolicyFault, FaultKind};
use serde_json::json;
use sigstore_fixtures::Options as Signing;
use sigstore_fixtures::oci;
use sigstore_fixtures::registry::{Fault, Options, Registry};
use tonic::Code;

use crate::stage::{IMAGE, PID, SIGNER, Stage, attestor, plain_selectors};

const SIGNATURES: &str = "ignore_attestations = true";
/// Options for verdicts that expire soon, but not between two steps of a test on a busy machine.
const BRIEF: &str = "ignore_attestations = true\ncache { ttl = \"2s\" }";

async fn registry() -> Registry {
    Registry::start(Options::default()).await
}

/// Waits a little longer than [`BRIEF`] keeps a verdict.
async fn a_verdicts_life() {
    tokio::time::sleep(Duration::from_millis(2_050)).await;
}

#[tokio::test]
async fn on_failure_omit_leaves_out_and_never_passes() {
    let stage = Stage::new();
    let registry = registry().await;
    let unsigned = registry.push_signed(&IMAGE, "unsigned", &[]);
    let signed = stage.signed_image(&registry, "signed");
    let decides = SignedImages::new(stage.verifier(SIGNATURES), OnFailure::Omit);
    let decide = async |reference: &str| {
        let repo_digests = [reference.to_owned()];
        let image = Image { repo_digests: &repo_digests, manifest: None };
        decides.verify(image, tokio::time::Instant::now() + Duration::from_secs(9)).await
    };
    let (decision, note) = decide(&unsigned).await;
    assert!(
        decision == Ok(Decision::Omitted) && note.starts_with("omitted: no signature of the image verifies"),
        "{note}"
    );
    registry.fault("/v2/", Fault::Dropped);
    let (decision, note) = decide(&signed).await;
    assert!(decision == Ok(Decision::Omitted) && note.contains("could not be verified"), "{note}");
    registry.clear_faults();
    assert!(matches!(decide(&signed).await.0, Ok(Decision::Verified(_))));
}

/// The texts of a policy are bounded, and so are the texts that it receives.
#[tokio::test]
async fn on_failure_deny_tells_a_policy_no_more_than_it_may_repeat() {
    let repo_digests: Vec<String> = (0..16).map(|number| format!("{}:{number}", "a".repeat(400))).collect();
    let image = Image { repo_digests: &repo_digests, manifest: None };
    let verifier = Stage::new().verifier(SIGNATURES);
    let whole = verifier.cached(image).unwrap().to_string();
    let (decision, note) = SignedImages::new(verifier, OnFailure::Deny).cached(image).unwrap();
    assert!(note.len() < GUEST_TEXT && whole.len() > GUEST_TEXT && note.ends_with("lists all"));
    assert_eq!(decision, Err(PolicyFault { kind: FaultKind::Unverified, text: note }));
}

#[tokio::test]
async fn a_verified_image_makes_its_selectors_in_order_and_the_answer_is_used_again() {
    let stage = Stage::new();
    let registry = registry().await;
    let signature = stage.test_bed.sign_simple(&IMAGE.digest, &Signing::default());
    let value = signature.annotations["dev.cosignproject.cosign/signature"].clone();
    let entry = signature.entry.clone().unwrap();
    let reference = registry.push_signed(&IMAGE, "app", &[signature]);
    let attestation =
        stage.test_bed.attest_simple(&IMAGE.digest, "https://world.test/p", &json!({}), &Signing::default());
    registry.attach_attestations("app", &IMAGE.digest, &[attestation]);
    let manifest = Some(IMAGE.digest.clone());
    let config = stage.config(&format!("{SIGNER}\ncache {{ ttl = \"2s\" }}"));
    let attestor = attestor(&config, vec![reference.clone()], manifest.clone()).await;

    let mut expected = plain_selectors(manifest.as_deref());
    expected.extend(
        [
            "image-signature:verified",
            "image-attestations:verified",
            "image-signature-subject:signer@world.test",
            "image-signature-issuer:https://issuer.world.test",
            &format!("image-signature-value:{value}"),
            &format!("image-signature-log-id:{}", entry.log_id_hex()),
            &format!("image-signature-log-index:{}", entry.log_index),
            &format!("image-signature-integrated-time:{}", entry.integrated_time.unwrap()),
            &format!("image-signature-signed-entry-timestamp:{}", entry.set_base64().unwrap()),
        ]
        .map(str::to_owned),
    );
    let attest = async |reused: bool, asked: bool| {
        registry.clear_requests();
        let explanation = attestor.explain(PID).await.unwrap();
        assert_eq!(explanation.reused, reused);
        assert_eq!(!registry.requests().is_empty(), asked);
        explanation.outcome
    };
    assert_eq!(attest(false, true).await.unwrap(), expected);
    assert_eq!(attest(true, false).await.unwrap(), expected);
    // The verdict has expired, and so has the answer that depends on it.
    a_verdicts_life().await;
    assert_eq!(attest(false, true).await.unwrap(), expected);
    assert_eq!(attest(true, false).await.unwrap(), expected);
    a_verdicts_life().await;
    registry.fault("/v2/", Fault::Dropped);
    assert_eq!(attest(false, true).await.unwrap(), expected, "the registry is away, and the verdict of before serves");
    assert_eq!(attest(true, false).await.unwrap(), expected);
}

#[tokio::test]
async fn an_image_that_does_not_verify_has_no_answer_and_an_earlier_one_is_not_used() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    let attestor = attestor(&stage.config(BRIEF), vec![reference], None).await;
    assert!(attestor.attest(PID).await.unwrap().contains(&"image-signature:verified".to_owned()));
    a_verdicts_life().await;
    registry.remove("app", &oci::signature_tag(&IMAGE.digest));
    for _ in 0..2 {
        let explanation = attestor.explain(PID).await.unwrap();
        let error = explanation.outcome.unwrap_err();
        assert!(!explanation.reused && error.code() == Code::PermissionDenied, "{error}");
        assert!(error.to_string().contains("there is no signature"), "{error}");
    }
    a_verdicts_life().await;
    registry.fault("/v2/", Fault::Status(503));
    assert_eq!(attestor.attest(PID).await.unwrap_err().code(), Code::Unavailable);
    registry.clear_faults();
    stage.signed_image(&registry, "app");
    assert!(attestor.attest(PID).await.unwrap().contains(&"image-signature:verified".to_owned()));
}

#[tokio::test]
async fn an_omitted_or_skipped_image_makes_the_containers_selectors_alone() {
    let stage = Stage::new();
    let registry = registry().await;
    let unsigned = registry.push_signed(&IMAGE, "app", &[]);
    let skipped = format!("skipped_images = [{unsigned:?}]");
    for (options, repo_digests) in [
        ("on_failure = \"omit\"", vec![unsigned.clone()]),
        ("on_failure = \"omit\"", Vec::new()),
        (&skipped, vec![unsigned.clone()]),
    ] {
        let attestor = attestor(&stage.config(options), repo_digests, None).await;
        assert_eq!(attestor.attest(PID).await.unwrap(), plain_selectors(None), "{options}");
    }
    let attestor = attestor(&stage.config(""), Vec::new(), None).await;
    let error = attestor.attest(PID).await.unwrap_err();
    assert!(error.code() == Code::PermissionDenied && error.to_string().contains("no repo digest"), "{error}");
}

/// 400 attestations of one container while its registry hangs. Those beyond the bound of its lane are refused at once, with
/// the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_storms_while_its_registry_hangs_fills_its_own_lane() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    registry.fault("/v2/", Fault::HangBeforeHeaders);
    let attestor = Arc::new(attestor(&stage.config(BRIEF), vec![reference], None).await);
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let attestor = Arc::clone(&attestor);
        storm.spawn(async move { attestor.attest(PID).await.unwrap_err() });
    }
    for _ in 0..400 - docker_attestor::limits::VERIFY_WAITERS.lane {
        let error = storm.join_next().await.unwrap().unwrap();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
        let text = error.to_string();
        assert!(text.contains("of the same container or user are waiting"), "{text}");
    }
    storm.abort_all();
}
