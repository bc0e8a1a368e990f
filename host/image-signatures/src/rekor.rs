//! Rekor: the transparency log is searched for the entry of a signature that carries none. Only Rekor v1 has a search.

use std::sync::Arc;

use registry::Registries;
use serde_json::{Value, json};
use sigstore_verify::types::{PayloadBytes, SignatureContent};

use crate::candidate::{self, Candidate, LoggedEntry, Signed};
use crate::discovery::{ContentError, DiscoveryError, UnreachableError};
use crate::limits;

/// Searches the log for entries that may be the candidate's, the earliest first. `signer` is the PEM text of the signer.
pub(crate) async fn look_up(
    registries: &Registries,
    url: &str,
    candidate: &Candidate,
    signer: &str,
) -> Result<Vec<LoggedEntry>, DiscoveryError> {
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
            registry::Error::Unreachable(why) => DiscoveryError::Unreachable(Arc::new(UnreachableError::Log(why))),
            error => DiscoveryError::Content(ContentError::Log(error)),
        })?;
    Ok(candidate::found_entries(&answer).map_err(ContentError::Entries)?)
}
