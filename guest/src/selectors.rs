//! Makes selectors from facts, always in the same order and without duplicates.

use std::collections::BTreeSet;

use crate::component::docker_attestor::policy::docker::ProvenContainer;
use crate::component::docker_attestor::policy::sigstore::{Signature, Verdict};

/// The selectors of a container: its labels by key, its environment in order, and its image.
pub(crate) fn of_container(container: ProvenContainer) -> Vec<String> {
    let ProvenContainer { labels, env, image, image_id, image_manifest_digest, .. } = container;
    let mut selectors = Vec::with_capacity(labels.len() + env.len() + 3);
    selectors.extend(labels.iter().map(|(key, value)| ["label:", key, ":", value].concat()));
    selectors.extend(env.iter().map(|variable| ["env:", variable].concat()));
    if !image.is_empty() {
        selectors.push(["image_id:", &image].concat());
    }
    selectors.extend(image_id.map(|id| ["image_config_digest:", &id].concat()));
    selectors.extend(image_manifest_digest.map(|digest| ["image_manifest_digest:", &digest].concat()));
    without_duplicates(&mut selectors);
    selectors
}

/// Adds the selectors of a verified image after those of its container. Each of them is covered by evidence.
pub(crate) fn of_verdict(verdict: Verdict, selectors: &mut Vec<String>) {
    let Verdict::Verified(verified) = verdict else { return };
    selectors.push("image-signature:verified".to_owned());
    if verified.attestations {
        selectors.push("image-attestations:verified".to_owned());
    }
    for signature in verified.signatures {
        let Signature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp } =
            signature;
        for (kind, value) in [
            ("subject", subject),
            ("issuer", issuer),
            ("value", value),
            ("log-id", log_id),
            ("log-index", log_index.map(|index| index.to_string())),
            ("integrated-time", integrated_time.map(|time| time.to_string())),
            ("signed-entry-timestamp", signed_entry_timestamp),
        ] {
            selectors.extend(value.map(|value| ["image-signature-", kind, ":", &value].concat()));
        }
    }
    without_duplicates(selectors);
}

/// Keeps the first of equal selectors. Compares by order and not by hash, because the sandbox has no random numbers, so that
/// anyone who chooses labels could choose them with equal hashes.
fn without_duplicates(selectors: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let first: Vec<bool> = selectors.iter().map(|selector| seen.insert(selector.as_str())).collect();
    let mut first = first.into_iter();
    selectors.retain(|_| first.next().unwrap_or(true));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::docker_attestor::policy::sigstore::Verified;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn the_order_is_labels_env_image_and_nothing_comes_twice() {
        let container = ProvenContainer {
            id: String::new(),
            labels: vec![("a".to_owned(), "1".to_owned()), ("b:c".to_owned(), String::new())],
            env: strings(&["Z=1", "A=2", "Z=1", "bare"]),
            image: "web:1".to_owned(),
            image_id: Some("sha256:aa".to_owned()),
            image_manifest_digest: Some("sha256:bb".to_owned()),
        };
        let expected = [
            "label:a:1",
            "label:b:c:",
            "env:Z=1",
            "env:A=2",
            "env:bare",
            "image_id:web:1",
            "image_config_digest:sha256:aa",
            "image_manifest_digest:sha256:bb",
        ];
        assert_eq!(of_container(container), expected);
    }

    #[test]
    fn a_signature_makes_the_selectors_that_its_evidence_covers() {
        let whole = Signature {
            subject: Some("s@example.org".to_owned()),
            issuer: Some("https://issuer".to_owned()),
            value: Some("MEQ=".to_owned()),
            log_id: Some("c0".to_owned()),
            log_index: Some(7),
            integrated_time: Some(1_674_247_893),
            signed_entry_timestamp: Some("MEU=".to_owned()),
        };
        let by_key = Signature {
            subject: None,
            issuer: None,
            value: Some("MEY=".to_owned()),
            log_id: None,
            log_index: None,
            integrated_time: None,
            signed_entry_timestamp: None,
        };
        let mut selectors = strings(&["image_id:web:1"]);
        let signatures = vec![whole.clone(), by_key, whole];
        of_verdict(Verdict::Verified(Verified { attestations: true, signatures }), &mut selectors);
        let expected = [
            "image_id:web:1",
            "image-signature:verified",
            "image-attestations:verified",
            "image-signature-subject:s@example.org",
            "image-signature-issuer:https://issuer",
            "image-signature-value:MEQ=",
            "image-signature-log-id:c0",
            "image-signature-log-index:7",
            "image-signature-integrated-time:1674247893",
            "image-signature-signed-entry-timestamp:MEU=",
            "image-signature-value:MEY=",
        ];
        assert_eq!(selectors, expected);
    }

    #[test]
    fn without_a_verification_there_is_no_signature_selector() {
        for verdict in [Verdict::Skipped, Verdict::Omitted] {
            let mut selectors = Vec::new();
            of_verdict(verdict, &mut selectors);
            assert!(selectors.is_empty());
        }
    }
}
