//! Rule 4, the part that is about the log: an entry is proven by its signed entry timestamp, or by its inclusion proof and
//! checkpoint, each under the key of the very log that the entry names. All evidence that is there must hold.
//!
//! That the entry is about the signature is checked by `sigstore-verify`, and here for the one kind that it cannot represent
//! (intoto 0.0.1).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_verify::crypto::{Checkpoint, Keyring, VerificationKey, sha256};
use sigstore_verify::types::bundle::{InclusionProof, TransparencyLogEntry};
use sigstore_verify::types::{DerCertificate, DerPublicKey, KindVersion, Sha256Hash, SignatureBytes};

/// What the evidence of one entry proves. A field is there only if it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proven {
    /// The log's id.
    pub(super) log_id: Sha256Hash,
    /// The global index.
    pub(super) log_index: Option<u64>,
    /// When the log integrated the entry.
    pub(super) integrated: Option<Timestamp>,
    /// The signed entry timestamp.
    pub(super) set: Option<String>,
}

/// Which evidence an entry must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Required {
    /// The signed entry timestamp: `.sig` and `.att` layers, bundles v0.1.
    Set,
    /// The inclusion proof: bundles from v0.2 on.
    Proof,
}

/// Proves an entry.
pub(super) fn prove(
    entry: &TransparencyLogEntry,
    required: Required,
    keys: &Keyring,
    now: Timestamp,
) -> Result<Proven, String> {
    let id = Sha256Hash::try_from(entry.log_id.key_id.as_bytes())
        .map_err(|_| "the log id is not 32 bytes long".to_owned())?;
    let key =
        keys.key_started_by(&id, now).ok_or_else(|| format!("the log {} is not in the trust root", id.to_hex()))?;
    match required {
        Required::Set if entry.inclusion_promise.is_none() => {
            return Err("there is no signed entry timestamp (SET)".to_owned());
        }
        Required::Proof if entry.inclusion_proof.is_none() => return Err("there is no inclusion proof".to_owned()),
        _ => {}
    }
    if let Some(proof) = &entry.inclusion_proof {
        prove_inclusion(entry, proof, &id, key)?;
    }
    let second_version = entry.kind_version == KindVersion::HashedRekordV002;
    let Some(promise) = &entry.inclusion_promise else {
        return match entry.integrated_time {
            Some(_) => Err("the integrated time is not proven: there is no signed entry timestamp (SET)".to_owned()),
            None => Ok(Proven {
                log_id: id,
                // The proof of Rekor v2 holds for the global index, that of v1 only for the one in its shard.
                log_index: second_version.then(|| entry.log_index.get()),
                integrated: None,
                set: None,
            }),
        };
    };
    let integrated = entry.integrated_time.ok_or_else(|| "the entry has no integrated time".to_owned())?;
    if integrated > now {
        return Err(format!("the integrated time {integrated} is in the future"));
    }
    let key =
        keys.key_at(&id, integrated).ok_or_else(|| format!("the log {} was not valid at {integrated}", id.to_hex()))?;
    key.verify(
        set_payload(entry, &id, integrated)?,
        &SignatureBytes::new(promise.signed_entry_timestamp.as_bytes().to_vec()),
    )
    .map_err(|_| {
        "the signed entry timestamp (SET) is not the log's over this entry, index, time and log id".to_owned()
    })?;
    Ok(Proven {
        log_id: id,
        log_index: Some(entry.log_index.get()),
        integrated: Some(integrated),
        set: Some(promise.signed_entry_timestamp.to_base64()),
    })
}

/// What a signed entry timestamp signs: canonical JSON (RFC 8785), which is what serde writes of these sorted fields of plain text.
fn set_payload(entry: &TransparencyLogEntry, id: &Sha256Hash, integrated: Timestamp) -> Result<Vec<u8>, String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload {
        body: String,
        integrated_time: i64,
        #[serde(rename = "logID")]
        log_id: String,
        log_index: i64,
    }
    serde_json::to_vec(&Payload {
        body: entry.canonicalized_body.to_base64(),
        integrated_time: integrated.as_second(),
        log_id: id.to_hex(),
        log_index: entry.log_index.as_i64(),
    })
    .map_err(|error| error.to_string())
}

/// RFC 6962 inclusion, under a checkpoint that this very log signed.
fn prove_inclusion(
    entry: &TransparencyLogEntry,
    proof: &InclusionProof,
    id: &Sha256Hash,
    key: &VerificationKey,
) -> Result<(), String> {
    let checkpoint = Checkpoint::from_text(proof.checkpoint.envelope())
        .map_err(|error| format!("the checkpoint is malformed: {error}"))?;
    // A checkpoint names its keys by four bytes, which others may share: only the log that the entry names counts.
    let signed = checkpoint
        .signatures()
        .iter()
        .filter(|signature| id.as_bytes().starts_with(signature.key_id.as_bytes()))
        .any(|signature| key.verify(checkpoint.signed_data(), &signature.signature).is_ok());
    if !signed {
        return Err(format!("the checkpoint is not signed by the log {}", id.to_hex()));
    }
    if proof.root_hash != *checkpoint.root_hash() {
        return Err("the proof's root hash is not the checkpoint's".to_owned());
    }
    // Rekor v2 has one tree, whose index is the entry's; what the proof repeats of it is not signed.
    let index = match entry.kind_version {
        KindVersion::HashedRekordV002 => entry.log_index.get(),
        _ => proof.log_index.get(),
    };
    let leaf = sigstore_merkle::hash_leaf(entry.canonicalized_body.as_bytes());
    sigstore_merkle::verify_inclusion_proof(&leaf, index, checkpoint.tree_size(), &proof.hashes, checkpoint.root_hash())
        .map_err(|error| format!("the inclusion proof does not hold: {error}"))
}

/// What an entry's body says that it is: its kind and version.
#[derive(Deserialize)]
pub(super) struct Kind {
    pub(super) kind: String,
    #[serde(rename = "apiVersion")]
    pub(super) version: String,
}

/// An intoto 0.0.1 entry is about this layer: its content hash is the layer's, and its certificate the signer's, or its key, when
/// there is no certificate. It holds no signature.
pub(super) fn about_layer(
    body: &[u8],
    layer: &[u8],
    certificate: Option<&DerCertificate>,
    key: &DerPublicKey,
) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Body {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        content: Content,
        public_key: String,
    }
    #[derive(Deserialize)]
    struct Content {
        hash: Hash,
    }
    #[derive(Deserialize)]
    struct Hash {
        algorithm: String,
        value: String,
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("the entry is malformed: {error}"))?;
    let Hash { algorithm, value } = body.spec.content.hash;
    if algorithm != "sha256" || value != sha256(layer).to_hex() {
        return Err("the entry is about another attestation: its content hash differs".to_owned());
    }
    let pem = DerPublicKey::from_base64(&body.spec.public_key)
        .ok()
        .and_then(|pem| String::from_utf8(pem.into_bytes()).ok())
        .ok_or_else(|| "the entry's key is malformed".to_owned())?;
    let same = match certificate {
        Some(certificate) => DerCertificate::from_pem(&pem).map(|logged| logged == *certificate),
        None => DerPublicKey::from_pem(&pem).map(|logged| logged == *key),
    };
    match same.map_err(|error| format!("the entry's key is not the signer's: {error}"))? {
        true => Ok(()),
        false => Err("the entry is about another signer: its certificate or key differs".to_owned()),
    }
}
