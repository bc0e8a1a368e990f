//! The transparency log, asked for the entry of a signature that carries none (Rekor v1: v2 has no search).

use serde_json::{Value, json};
use sigstore_verify::types::bundle::TransparencyLogEntry;
use sigstore_verify::types::{PayloadBytes, SignatureContent};

use super::material::{self, Candidate, Signed};
use super::registry::{Registries, RegistryError};
use crate::limits;

/// The entries that may be the candidate's, the earliest first; each with whether it is an intoto 0.0.1.
pub(super) async fn look_up(
    registries: &Registries,
    url: &str,
    candidate: &Candidate,
    signer: &str,
) -> Result<Vec<(TransparencyLogEntry, bool)>, RegistryError> {
    let base64 = |bytes: &[u8]| PayloadBytes::from_bytes(bytes).to_base64();
    let proposed: Vec<Value> = match (&candidate.bundle.content, &candidate.signed, &candidate.layer) {
        (SignatureContent::MessageSignature(_), Signed::Payload { bytes, .. }, _) => vec![json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": sigstore_verify::crypto::sha256(bytes).to_hex() } },
                "signature": { "content": candidate.value, "publicKey": { "content": base64(signer.as_bytes()) } },
            },
        })],
        (SignatureContent::DsseEnvelope(_), _, Some(layer)) => {
            let envelope = String::from_utf8_lossy(layer);
            vec![
                json!({
                    "apiVersion": "0.0.1",
                    "kind": "dsse",
                    "spec": { "proposedContent": { "envelope": envelope, "verifiers": [base64(signer.as_bytes())] } },
                }),
                json!({
                    "apiVersion": "0.0.1",
                    "kind": "intoto",
                    "spec": { "content": { "envelope": envelope }, "publicKey": base64(signer.as_bytes()) },
                }),
            ]
        }
        _ => return Ok(Vec::new()),
    };
    let body = json!({ "entries": proposed }).to_string();
    let answer = registries
        .post_json(&format!("{url}/api/v1/log/entries/retrieve"), body, limits::LOG_ANSWER)
        .await
        .map_err(|error| match error {
            RegistryError::Unavailable(why) => RegistryError::Unavailable(format!("the log (rekor_url): {why}")),
            RegistryError::Content(why) => RegistryError::Content(format!("the log (rekor_url): {why}")),
        })?;
    material::found_entries(&answer).map_err(RegistryError::Content)
}
