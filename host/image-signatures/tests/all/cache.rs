//! Verdicts: what an image comes to under each option, exactly which facts, how long a verdict is kept, and what serves while a
//! registry is away.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test: a panic is the verdict")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use image_signatures::{Identities, Image, Observation, Options as Settings, Rule, Signature, Verification, Verifier};
use registry::Credentials;
use serde_json::json;
use sigstore_fixtures::oci::{self, ArtifactType};
use sigstore_fixtures::registry::{Fault, Options, Registry};
use sigstore_fixtures::{Content, CosignSignature, Forgery, Identity, Log, Options as Signing, San, Version};

use crate::stage::{IMAGE, ISSUER, Stage, allowed_only, only_signatures, signer, wrong};

/// Verdicts that end soon, but not between two steps of a test on a busy machine.
fn brief() -> Settings {
    Settings { ttl: Duration::from_secs(2), ..only_signatures() }
}

async fn registry() -> Registry {
    Registry::start(Options::default()).await
}

/// A little longer than [`brief`] keeps a verdict.
async fn a_verdicts_life() {
    tokio::time::sleep(Duration::from_millis(2_050)).await;
}

async fn verify_image(verifier: &Arc<Verifier>, image: Image<'_>) -> Verification {
    verifier.verify(image, tokio::time::Instant::now() + Duration::from_secs(9)).await
}

async fn verify(verifier: &Arc<Verifier>, references: &[&str]) -> Verification {
    let repo_digests: Vec<String> = references.iter().map(|reference| (*reference).to_owned()).collect();
    verify_image(verifier, Image { repo_digests: &repo_digests, manifest: None }).await
}

/// The signatures' facts of an image that must verify.
async fn facts(verifier: &Arc<Verifier>, reference: &str) -> Vec<Signature> {
    match verify(verifier, &[reference]).await {
        Verification::Verified { verified, .. } => verified.signatures().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Why an image that must not verify does not.
async fn failure(verifier: &Arc<Verifier>, references: &[&str]) -> String {
    match verify(verifier, references).await {
        failed @ Verification::Failed(_) => failed.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn away(verifier: &Arc<Verifier>, references: &[&str]) -> String {
    match verify(verifier, references).await {
        unreachable @ Verification::Unreachable(_) => unreachable.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_are_one_verification() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    let verifier = stage.verifier(only_signatures());
    let asking: Vec<_> = (0..64)
        .map(|_| {
            let (verifier, reference) = (Arc::clone(&verifier), reference.clone());
            tokio::spawn(async move { verify(&verifier, &[&reference]).await })
        })
        .collect();
    for asked in asking {
        assert!(matches!(asked.await.unwrap(), Verification::Verified { .. }));
    }
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for request in registry.requests() {
        *asked.entry(request.path).or_default() += 1;
    }
    assert!(asked.len() >= 4 && asked.values().all(|count| *count == 1), "{asked:?}");
}

#[tokio::test]
async fn who_gives_up_leaves_a_verdict_for_the_next() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    let verifier = stage.verifier(only_signatures());
    // Half a verification: the registry hangs once, and the caller has no time.
    registry.fault_times("/v2/app/referrers/", 1, Fault::HangBeforeHeaders);
    let image = [reference.clone()];
    let image = Image { repo_digests: &image, manifest: None };
    let hurried = verifier.verify(image, tokio::time::Instant::now() + Duration::from_millis(300)).await;
    assert!(
        matches!(&hurried, Verification::Unreachable(_)) && hurried.to_string().contains("which goes on: ask again"),
        "{hurried:?}"
    );
    assert_eq!(facts(&verifier, &reference).await.len(), 1);
    assert_eq!(registry.count("/v2/app/referrers/"), 1, "the verification began again");
}

#[tokio::test]
async fn each_verdict_is_observed_once_with_the_rule_that_does_not_hold() {
    let stage = Stage::new();
    let registry = registry().await;
    let good = stage.signed_image(&registry, "good");
    let unsigned = registry.push_signed(&IMAGE, "unsigned", &[]);
    let (verifier, observations) = stage.observed_verifier(brief());
    let observed = || std::mem::take(&mut *observations.lock().unwrap());
    facts(&verifier, &good).await;
    assert_eq!(observed(), [Observation::Verified]);
    facts(&verifier, &good).await;
    assert_eq!(observed(), [], "the verdict was cached");
    failure(&verifier, &[&unsigned]).await;
    assert_eq!(observed(), [Observation::Failed(None)]);
    registry.fault("/v2/", Fault::Status(503));
    away(&verifier, &[&unsigned.replace("unsigned", "never-seen")]).await;
    assert_eq!(observed(), [Observation::Unreachable]);
    a_verdicts_life().await;
    facts(&verifier, &good).await;
    assert_eq!(observed(), [Observation::Expired]);

    let stage = Stage::new();
    let registry = Registry::start(Options::default()).await;
    let foreign = stage.signed_image(&registry, "foreign");
    let identities = allowed_only("https://other.example", "other@example.org");
    let (strict, observations) = stage.observed_verifier(Settings { identities, ..only_signatures() });
    failure(&strict, &[&foreign]).await;
    assert_eq!(*observations.lock().unwrap(), [Observation::Failed(Some(Rule::Identity))]);
}

#[tokio::test]
async fn a_cached_verdict_costs_no_request() {
    let stage = Stage::new();
    let registry = registry().await;
    let good = stage.signed_image(&registry, "good");
    let bad = registry.push_signed(&IMAGE, "bad", &[]);
    let verifier = stage.verifier(only_signatures());
    let cached = |reference: &str| {
        let repo_digests = [reference.to_owned()];
        verifier.cached(Image { repo_digests: &repo_digests, manifest: None })
    };
    assert!(cached(&good).is_none() && cached(&bad).is_none());
    let (verdict, reason) = (facts(&verifier, &good).await, failure(&verifier, &[&bad]).await);
    registry.clear_requests();
    assert_eq!(cached(&good).unwrap().to_string(), format!("{good}: a cached verdict"));
    assert_eq!(cached(&bad).unwrap().to_string(), reason);
    assert_eq!(facts(&verifier, &good).await, verdict);
    failure(&verifier, &[&bad]).await;
    // A cached good verdict is enough, whatever else is not known yet.
    let other = registry.push_signed(&IMAGE, "other", &[]);
    assert_eq!(verify(&verifier, &[&other, &good]).await.to_string(), format!("{good}: a cached verdict"));
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn a_verdict_ends_with_its_time() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = registry.push_signed(&IMAGE, "app", &[]);
    let verifier = stage.verifier(brief());
    failure(&verifier, &[&reference]).await;
    stage.signed_image(&registry, "app");
    failure(&verifier, &[&reference]).await;
    a_verdicts_life().await;
    assert_eq!(facts(&verifier, &reference).await.len(), 1, "what was pushed meanwhile is found");
    registry.remove("app", &oci::signature_tag(&IMAGE.digest));
    assert_eq!(facts(&verifier, &reference).await.len(), 1);
    a_verdicts_life().await;
    assert!(failure(&verifier, &[&reference]).await.contains("there is no signature"));
}

#[tokio::test]
async fn a_good_verdict_past_its_time_serves_while_the_registry_is_away() {
    let stage = Stage::new();
    for fault in [Fault::Dropped, Fault::Status(503), Fault::Status(403)] {
        let registry = registry().await;
        let reference = stage.signed_image(&registry, "app");
        let verifier = stage.verifier(brief());
        let verdict = facts(&verifier, &reference).await;
        a_verdicts_life().await;
        registry.fault("/v2/", fault);
        registry.clear_requests();
        assert_eq!(facts(&verifier, &reference).await, verdict);
        assert!(!registry.requests().is_empty(), "it is asked first");
        registry.clear_requests();
        assert_eq!(facts(&verifier, &reference).await, verdict);
        assert!(registry.requests().is_empty(), "and then left alone for a while");
        // Of an image that was never verified there is nothing to serve.
        assert!(away(&verifier, &[&reference.replace("/app@", "/other@")]).await.contains("/other@"));
    }
}

#[tokio::test]
async fn a_verification_that_failed_ends_what_was_good_before() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    let verifier = stage.verifier(brief());
    facts(&verifier, &reference).await;
    a_verdicts_life().await;
    let tag = oci::signature_tag(&IMAGE.digest);
    registry.remove("app", &tag);
    failure(&verifier, &[&reference]).await;
    registry.fault("/v2/", Fault::Dropped);
    failure(&verifier, &[&reference]).await;
    a_verdicts_life().await;
    assert!(away(&verifier, &[&reference]).await.contains("127.0.0.1"), "the verdict of before came back");
    registry.clear_faults();
    stage.signed_image(&registry, "app");
    assert_eq!(facts(&verifier, &reference).await.len(), 1);
}

#[tokio::test]
async fn what_was_seen_whole_serves_while_only_a_part_can_be_seen() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = stage.signed_image(&registry, "app");
    let bundle = stage.test_bed.bundle(&Content::cosign_sign(&IMAGE.digest), Version::V03, &Signing::default()).bytes;
    registry.attach_bundle("app", &IMAGE.digest, &bundle, ArtifactType::Bundle);
    let verifier = stage.verifier(brief());
    let both = facts(&verifier, &reference).await;
    assert_eq!(both.len(), 2);
    a_verdicts_life().await;
    registry.fault("/v2/app/referrers/", Fault::Status(503));
    assert_eq!(facts(&verifier, &reference).await, both);
    // Who has not seen the whole makes do with the part, for a short time.
    let newcomer = stage.verifier(brief());
    assert_eq!(facts(&newcomer, &reference).await, both[1..]);
    registry.clear_faults();
    a_verdicts_life().await;
    assert_eq!(facts(&newcomer, &reference).await, both);
}

#[tokio::test]
async fn a_good_verdict_past_its_time_serves_while_the_log_is_away() {
    let stage = Stage::new();
    let (registry, rekor) = (registry().await, registry().await);
    let signature = stage.test_bed.sign_simple(&IMAGE.digest, &Signing { set: false, ..Signing::default() });
    rekor.put_log_entry(signature.entry.as_ref().unwrap());
    let reference = registry.push_signed(&IMAGE, "app", &[signature]);
    let verifier = stage.verifier(Settings { rekor_url: rekor.url(), ..brief() });
    let verdict = facts(&verifier, &reference).await;
    a_verdicts_life().await;
    rekor.fault("/api/", Fault::Dropped);
    assert_eq!(facts(&verifier, &reference).await, verdict);
}

#[tokio::test]
async fn a_skipped_image_is_named_whole_or_by_its_digest() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = registry.push_signed(&IMAGE, "app", &[]);
    let (repository, digest) = reference.split_once('@').unwrap();
    let verdict = async |skipped: &str, manifest: Option<&str>| {
        let verifier = stage.verifier(Settings { skipped_images: vec![skipped.to_owned()], ..Settings::default() });
        let repo_digests = [reference.clone()];
        verify_image(&verifier, Image { repo_digests: &repo_digests, manifest }).await
    };
    let platform = oci::image("arm64", "an image").digest;
    for (skipped, manifest) in
        [(reference.as_str(), None), (digest, None), (platform.as_str(), Some(platform.as_str()))]
    {
        let verdict = verdict(skipped, manifest).await;
        assert!(matches!(&verdict, Verification::Skipped(name) if name == skipped), "{verdict}");
    }
    assert!(registry.requests().is_empty(), "a skipped image is not verified");
    for other in [
        repository,
        digest.trim_start_matches("sha256:"),
        &reference.replace("/app@", "/ap@"),
        &format!("x{reference}"),
        "*",
        &platform,
    ] {
        assert!(matches!(verdict(other, None).await, Verification::Failed(_)), "{other}");
    }
}

#[tokio::test]
async fn an_image_of_no_registry_fails_and_says_so() {
    let verifier = Stage::new().verifier(only_signatures());
    assert!(
        failure(&verifier, &[]).await.starts_with("the image has no repo digest: it was built or loaded on this host")
    );
    let malformed = failure(&verifier, &["app:1.4", "app@sha512:00"]).await;
    assert!(malformed.contains("\"app:1.4\" names no digest") && malformed.contains("\"sha512:00\" is no digest"));
}

#[tokio::test]
async fn of_several_digests_the_first_that_verifies_counts() {
    let stage = Stage::new();
    let registry = registry().await;
    let good = stage.signed_image(&registry, "good");
    let also_good = stage.signed_image(&registry, "also-good");
    let bad = registry.push_signed(&IMAGE, "bad", &[]);
    let away_one = stage.signed_image(&registry, "away");
    registry.fault("/v2/away/", Fault::Dropped);
    let verdict = async |references: &[&str]| verify(&stage.verifier(only_signatures()), references).await;

    for (references, first) in [
        (&[good.as_str(), &also_good][..], &good),
        (&[&also_good, &good], &also_good),
        (&[&bad, &good], &good),
        (&[&away_one, &good], &good),
        (&["app:1.4", &good], &good),
    ] {
        registry.clear_requests();
        let verdict = verdict(references).await;
        assert!(matches!(verdict, Verification::Verified { .. }), "{references:?}");
        assert_eq!(verdict.to_string(), format!("{first}: verified"));
        if references[0] == first {
            assert_eq!(registry.count("/v2/also-good/") == 0, first == &good, "the search went on");
        }
    }
    let both = verdict(&[&bad, "app:1.4"]).await;
    let note = both.to_string();
    assert!(matches!(both, Verification::Failed(_)) && note.contains(&bad) && note.contains("app:1.4"));
    // While one cannot be asked there is no verdict.
    let both = verdict(&[&bad, &away_one]).await;
    let note = both.to_string();
    assert!(matches!(both, Verification::Unreachable(_)) && note.contains(&bad) && note.contains(&away_one));

    // Whoever can tag an image on this host cannot make the search endless.
    let mut many: Vec<String> = (0..16).map(|number| bad.replace("/bad@", &format!("/bad-{number}@"))).collect();
    many.push(good.clone());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let of_many = verdict(&many).await;
    let note = of_many.to_string();
    assert!(matches!(of_many, Verification::Failed(_)));
    assert!(note.contains("of 17 repo digests the first 16"), "{note}");
    assert!(matches!(verdict(&many[1..]).await, Verification::Verified { .. }));
}

#[tokio::test]
async fn the_signature_of_an_index_counts_for_the_manifests_that_it_lists() {
    let stage = Stage::new();
    let registry = registry().await;
    let (amd64, arm64) = (oci::image("amd64", "an image"), oci::image("arm64", "an image"));
    let stranger = oci::image("amd64", "another image");
    let index = oci::index(&[&amd64, &arm64]);
    for manifest in [&amd64, &arm64, &stranger, &index] {
        for repository in ["index-signed", "platform-signed"] {
            registry.push(repository, None, manifest);
        }
    }
    let sign = |repository: &str, digest: &str| {
        registry.attach_signatures(repository, digest, &[stage.test_bed.sign_simple(digest, &Signing::default())]);
    };
    sign("index-signed", &index.digest);
    sign("platform-signed", &amd64.digest);
    let verifier = stage.verifier(only_signatures());
    let verdict = async |repository: &str, digest: &str, manifest: Option<&str>| {
        let repo_digests = [format!("{}/{repository}@{digest}", registry.host())];
        verify_image(&verifier, Image { repo_digests: &repo_digests, manifest }).await
    };
    let verified = |verdict: &Verification| matches!(verdict, Verification::Verified { .. });

    for platform in [&amd64, &arm64] {
        assert!(verified(&verdict("index-signed", &index.digest, Some(&platform.digest)).await));
    }
    // The engine names no manifest: the index is all that is known.
    assert!(verified(&verdict("index-signed", &index.digest, None).await));
    let refused = verdict("index-signed", &index.digest, Some(&stranger.digest)).await;
    assert!(matches!(refused, Verification::Failed(_)));
    let why = refused.to_string();
    assert!(
        why.contains(&format!("the index does not list {}", stranger.digest)) && why.contains("there is no signature")
    );
    // No index at all.
    let refused = verdict("platform-signed", &amd64.digest, Some(&arm64.digest)).await;
    let why = refused.to_string();
    assert!(matches!(refused, Verification::Failed(_)) && why.contains("nor an index of it"), "{why}");

    // The platform's own manifest, in the same repository, when the index is not signed.
    let good = verdict("platform-signed", &index.digest, Some(&amd64.digest)).await;
    assert!(verified(&good) && good.to_string().contains(&amd64.digest), "{good}");
    assert!(!verified(&verdict("platform-signed", &index.digest, Some(&arm64.digest)).await));
    // A manifest that is none is no reason to look at the index alone.
    let none = verdict("index-signed", &index.digest, Some("sha256:none")).await;
    assert!(none.to_string().contains("the platform's manifest"));
}

/// An image without a good attestation passes.
fn optional() -> Settings {
    Settings { require_attestations: false, ..Settings::default() }
}

#[tokio::test]
async fn attestations_are_required_or_optional_or_ignored() {
    let stage = Stage::new();
    let registry = registry().await;
    let attest = |repository: &str, forgery| {
        let reference = stage.signed_image(&registry, repository);
        let options = Signing { forgery, ..Signing::default() };
        let attestation = stage.test_bed.attest_simple(&IMAGE.digest, "https://world.test/p", &json!({}), &options);
        registry.attach_attestations(repository, &IMAGE.digest, &[attestation]);
        reference
    };
    let good = attest("good", None);
    let bad = attest("bad", Some(Forgery::SignatureOfAnotherKey));
    let none = stage.signed_image(&registry, "none");
    for (options, expected) in [
        (Settings::default(), [Ok(true), Err("no attestation is good: "), Err("there is no attestation")]),
        (optional(), [Ok(true), Ok(false), Ok(false)]),
        (Settings { require_attestations: false, ..only_signatures() }, [Ok(false), Ok(false), Ok(false)]),
        (only_signatures(), [Ok(false), Ok(false), Ok(false)]),
    ] {
        for (reference, expected) in [&good, &bad, &none].into_iter().zip(expected) {
            registry.clear_requests();
            let verdict = verify(&stage.verifier(options.clone()), &[reference]).await;
            match (&verdict, expected) {
                (Verification::Verified { verified, .. }, Ok(attested)) => {
                    assert_eq!(verified.attestations(), attested, "{options:?}: {reference}");
                }
                (failed @ Verification::Failed(_), Err(reason)) => {
                    let why = failed.to_string();
                    assert!(why.contains(reason) && why.contains("require_attestations = false would"), "{why}");
                }
                _ => panic!("{options:?}: {reference}: {verdict:?}"),
            }
            let asked = registry.requests().iter().any(|request| request.path.ends_with(".att"));
            assert_eq!(asked, !options.ignore_attestations, "{options:?}");
        }
    }
}

#[tokio::test]
async fn an_attestation_alone_is_no_signature() {
    let stage = Stage::new();
    let registry = registry().await;
    let reference = registry.push_signed(&IMAGE, "app", &[]);
    let attestation =
        stage.test_bed.attest_simple(&IMAGE.digest, "https://world.test/p", &json!({}), &Signing::default());
    registry.attach_attestations("app", &IMAGE.digest, &[attestation]);
    let bundle = stage.test_bed.bundle(&Content::attestation(&IMAGE.digest), Version::V03, &Signing::default()).bytes;
    registry.attach_bundle("app", &IMAGE.digest, &bundle, ArtifactType::Bundle);
    for options in [Settings::default(), optional(), only_signatures()] {
        assert!(failure(&stage.verifier(options), &[&reference]).await.contains("there is no signature"));
    }
}

#[tokio::test]
async fn without_the_log_nothing_is_said_of_it() {
    let stage = Stage::new();
    let registry = registry().await;
    let verifier = stage.verifier(Settings { ignore_tlog: true, rekor_url: registry.url(), ..only_signatures() });
    for (number, options) in [
        Signing::default(),
        Signing::default().forged(Forgery::SetAltered),
        Signing::default().forged(Forgery::ForeignLogEntry),
        Signing { set: false, ..Signing::default() },
        Signing::timestamp_only(),
    ]
    .into_iter()
    .enumerate()
    {
        let signature = stage.test_bed.sign_simple(&IMAGE.digest, &options);
        let value = signature.annotations["dev.cosignproject.cosign/signature"].clone();
        let reference = registry.push_signed(&IMAGE, &format!("app-{number}"), &[signature]);
        assert_eq!(facts(&verifier, &reference).await, [unlogged(value)], "{options:?}");
    }
    assert_eq!(registry.count("/api/"), 0, "the log was asked");
    // An hour ago the certificate was good, and it is now that counts.
    let old = Signing { time: sigstore_fixtures::now() - 3_600, ..Signing::default() };
    let reference = registry.push_signed(&IMAGE, "old", &[stage.test_bed.sign_simple(&IMAGE.digest, &old)]);
    assert!(failure(&verifier, &[&reference]).await.contains("is outside the certificate's validity"));
    // Unless a timestamp says otherwise.
    let stamped = Signing { timestamp: true, ..old };
    let reference = registry.push_signed(&IMAGE, "stamped", &[stage.test_bed.sign_simple(&IMAGE.digest, &stamped)]);
    assert_eq!(facts(&verifier, &reference).await.len(), 1);
}

/// The facts of a signature of the test bed's usual signer that no log covers.
fn unlogged(value: String) -> Signature {
    Signature {
        subject: Some("signer@world.test".to_owned()),
        issuer: Some("https://issuer.world.test".to_owned()),
        value,
        log_id: None,
        log_index: None,
        integrated_time: None,
        signed_entry_timestamp: None,
    }
}

#[tokio::test]
async fn without_certificate_timestamps_a_certificate_counts_all_the_same() {
    let stage = Stage::new();
    let registry = registry().await;
    for forgery in [Forgery::NoSct, Forgery::SctOfAnotherLog, Forgery::SctAltered, Forgery::SecondSctBad] {
        let signature = stage.test_bed.sign_simple(&IMAGE.digest, &Signing::default().forged(forgery));
        let reference = registry.push_signed(&IMAGE, forgery.name(), &[signature]);
        assert_eq!(
            facts(&stage.verifier(Settings { ignore_sct: true, ..only_signatures() }), &reference).await.len(),
            1
        );
        assert!(failure(&stage.verifier(only_signatures()), &[&reference]).await.contains("rule 6: "));
    }
}

#[tokio::test]
async fn keys_and_identities_count_as_the_configuration_names_them() {
    let stage = Stage::new();
    let registry = registry().await;
    let signed = |repository: &str, options: &Signing| {
        registry.push_signed(&IMAGE, repository, &[stage.test_bed.sign_simple(&IMAGE.digest, options)])
    };
    let by_key = signed("key", &Signing::default().with_key());
    let by_signer = signed("signer", &Signing::default());
    let email = San::Email("stranger@world.test".to_owned());
    let identity = Identity::new(email, "https://issuer.world.test");
    let by_stranger = signed("stranger", &Signing { identity, ..Signing::default() });
    let key = stage.public_keys();
    let other =
        vec![stage.write("other.pub", sigstore_fixtures::Key::new(sigstore_fixtures::Curve::P384).public_pem())];
    let both = [vec![stage.write("again.pub", stage.test_bed.key.public_pem())], other.clone()].concat();
    let only_keys = "the configuration allows only public_keys";
    let unlisted = "is not in allowed_identities";
    let no_key = "public_keys names no key";
    let wrong_key = "the signature is of no key of public_keys";
    let (anybody, somebody) = (Identities::default, signer);
    for (public_keys, identities, [key_signed, signer, stranger]) in [
        (Vec::new(), anybody(), [Some(no_key), None, None]),
        (Vec::new(), somebody(), [Some(no_key), None, Some(unlisted)]),
        (key.clone(), anybody(), [None, Some(only_keys), Some(only_keys)]),
        (key, somebody(), [None, None, Some(unlisted)]),
        (other.clone(), anybody(), [Some(wrong_key), Some(only_keys), Some(only_keys)]),
        (other, somebody(), [Some(wrong_key), None, Some(unlisted)]),
        (both, anybody(), [None, Some(only_keys), Some(only_keys)]),
    ] {
        let options = Settings { public_keys, identities, ..only_signatures() };
        let verifier = stage.verifier(options.clone());
        for (reference, refused) in [(&by_key, key_signed), (&by_signer, signer), (&by_stranger, stranger)] {
            match refused {
                Some(reason) => {
                    let why = failure(&verifier, &[reference]).await;
                    assert!(why.contains(reason), "{options:?}: {reference}: {why}");
                }
                None => {
                    let facts = facts(&verifier, reference).await;
                    assert_eq!(facts[0].subject.is_none() && facts[0].issuer.is_none(), reference == &by_key);
                    assert!(facts[0].log_id.is_some());
                }
            }
        }
    }
}

#[tokio::test]
async fn every_good_signature_counts_in_order_and_no_bad_one() {
    let stage = Stage::new();
    let registry = registry().await;
    let sign = |forgery| stage.test_bed.sign_simple(&IMAGE.digest, &Signing { forgery, ..Signing::default() });
    let signatures = [
        sign(Some(Forgery::SetAltered)),
        sign(None),
        sign(Some(Forgery::SignatureOfAnotherKey)),
        sign(None),
        sign(Some(Forgery::CopiedFromAnotherImage)),
    ];
    let value = |signature: &CosignSignature| signature.annotations["dev.cosignproject.cosign/signature"].clone();
    let reference = registry.push_signed(&IMAGE, "app", &signatures);
    // Once more the same.
    registry.attach_signatures("app", &IMAGE.digest, &signatures[1..2]);
    let verifier = stage.verifier(only_signatures());
    let values: Vec<String> = facts(&verifier, &reference).await.into_iter().map(|signature| signature.value).collect();
    assert_eq!(values, [value(&signatures[1]), value(&signatures[3])]);
    let examination = verifier.examine(&reference).await.unwrap();
    let broken: Vec<Option<u8>> =
        examination.reports.iter().map(|report| wrong(report).first().map(|(rule, _)| *rule)).collect();
    assert_eq!(broken, [Some(4), None, Some(3), None, Some(2)]);
    // When none is good, every reason is given.
    let bad = [signatures[0].clone(), signatures[2].clone(), signatures[4].clone()];
    let why = failure(&verifier, &[&registry.push_signed(&IMAGE, "bad", &bad)]).await;
    assert!(["rule 4: ", "rule 3: ", "rule 2: "].iter().all(|rule| why.contains(rule)), "{why}");
}

#[tokio::test]
async fn the_facts_are_what_the_evidence_covers_and_nothing_else() {
    let stage = Stage::new();
    let registry = registry().await;
    let verifier = stage.verifier(only_signatures());
    let signature = stage.test_bed.sign_simple(&IMAGE.digest, &Signing::default());
    let value = signature.annotations["dev.cosignproject.cosign/signature"].clone();
    let entry = signature.entry.clone().unwrap();
    let log_id = entry.log_id_hex();
    let reference = registry.push_signed(&IMAGE, "sig", &[signature]);
    let whole = Signature {
        log_id: Some(log_id.clone()),
        log_index: Some(entry.log_index),
        integrated_time: entry.integrated_time.map(i64::cast_unsigned),
        signed_entry_timestamp: entry.set_base64(),
        ..unlogged(value)
    };
    assert_eq!(facts(&verifier, &reference).await, [whole]);
    assert!(log_id.len() == 64 && log_id == hex::encode(stage.test_bed.rekor.id()));

    for (name, options) in [
        ("v1", Signing::default()),
        ("v1-stamped", Signing { timestamp: true, ..Signing::default() }),
        ("v1-proof", Signing::proof_only()),
        ("v2", Signing::rekor_v2()),
    ] {
        for content in [Content::cosign_sign(&IMAGE.digest), Content::Message(IMAGE.bytes.clone())] {
            let repository = format!("{name}-{}", matches!(content, Content::Message(_)));
            let reference = registry.push_signed(&IMAGE, &repository, &[]);
            let bundle = stage.test_bed.bundle(&content, Version::V03, &options);
            registry.attach_bundle(&repository, &IMAGE.digest, &bundle.bytes, ArtifactType::Bundle);
            let json = bundle.json();
            let value = json["dsseEnvelope"]["signatures"][0]["sig"].as_str();
            let value = value.or(json["messageSignature"]["signature"].as_str()).unwrap().to_owned();
            let entry = bundle.entry.unwrap();
            let promised = options.log == Log::RekorV1 && options.set;
            let expected = Signature {
                log_id: Some(entry.log_id_hex()),
                // The proof of Rekor v1 is about the index in its tree alone.
                log_index: (promised || options.log == Log::RekorV2).then_some(entry.log_index),
                integrated_time: promised.then(|| entry.integrated_time.unwrap().cast_unsigned()),
                signed_entry_timestamp: promised.then(|| entry.set_base64().unwrap()),
                ..unlogged(value)
            };
            assert_eq!(facts(&verifier, &reference).await, [expected], "{repository}");
        }
    }
}

#[tokio::test]
async fn the_subject_is_the_first_name_in_the_go_attestors_order_and_any_name_may_be_allowed() {
    let stage = Stage::new();
    let registry = registry().await;
    let names = [
        San::OtherName("other".to_owned()),
        San::Uri("https://uri.world.test".to_owned()),
        San::Ip("192.0.2.7".parse().unwrap()),
        San::DirectoryName("nobody".to_owned()),
        San::Email("email@world.test".to_owned()),
        San::Dns("dns.world.test".to_owned()),
    ];
    let order = ["dns.world.test", "email@world.test", "192.0.2.7", "https://uri.world.test", "other"];
    // Without the first, the next is the first.
    for (number, first) in order.into_iter().enumerate() {
        let subjects = names.iter().filter(|name| !order[..number].contains(&name.text().as_str())).cloned().collect();
        let identity = Identity { subjects, ..Identity::default() };
        let signature = stage.test_bed.sign_simple(&IMAGE.digest, &Signing { identity, ..Signing::default() });
        let reference = registry.push_signed(&IMAGE, &format!("app-{number}"), &[signature]);
        for allowed in &order[number..] {
            let options = Settings { identities: allowed_only(ISSUER, allowed), ..only_signatures() };
            let facts = facts(&stage.verifier(options), &reference).await;
            assert_eq!(facts[0].subject.as_deref(), Some(first), "{allowed}");
        }
    }
    // Certificates of before extension .8, and those of after .1.
    for (number, (issuer, issuer_v1)) in
        [(Some("https://issuer.world.test"), None), (None, Some("https://issuer.world.test"))].into_iter().enumerate()
    {
        let [issuer, issuer_v1] = [issuer, issuer_v1].map(|issuer| issuer.map(str::to_owned));
        let identity = Identity { issuer, issuer_v1, ..Identity::default() };
        let signature = stage.test_bed.sign_simple(&IMAGE.digest, &Signing { identity, ..Signing::default() });
        let reference = registry.push_signed(&IMAGE, &format!("issuer-{number}"), &[signature]);
        let facts = facts(&stage.verifier(Settings { identities: signer(), ..only_signatures() }), &reference).await;
        assert_eq!(facts[0].issuer.as_deref(), Some("https://issuer.world.test"));
    }
}

#[tokio::test]
async fn what_could_judge_otherwise_is_another_verifier() {
    let stage = Stage::new();
    let with_key = || Settings { public_keys: stage.public_keys(), ..Settings::default() };
    let verifier = stage.verifier(with_key());
    assert!(verifier.judges_like(&stage.verifier(with_key())));
    let credentials = |password: &str| {
        let pair = Credentials { username: "u".to_owned(), password: password.to_owned() };
        Settings { registry_credentials: [("r.test".to_owned(), pair)].into(), ..with_key() }
    };
    let mut verifiers = vec![verifier];
    for options in [
        Settings { identities: signer(), ..with_key() },
        Settings { ignore_attestations: true, ..with_key() },
        Settings { ignore_sct: true, ..with_key() },
        credentials("1"),
        credentials("2"),
    ] {
        verifiers.push(stage.verifier(options));
    }
    // The same names, and other content.
    stage.write("key.pub", Stage::new().test_bed.key.public_pem());
    verifiers.push(stage.verifier(with_key()));
    stage.write("trusted_root.json", Stage::new().test_bed.trusted_root().to_string());
    verifiers.push(stage.verifier(with_key()));
    for (number, one) in verifiers.iter().enumerate() {
        for other in &verifiers[number + 1..] {
            assert!(!one.judges_like(other));
        }
    }
}
