//! Rule 4, the part about the log. An entry is proven by its signed entry timestamp (SET), or by its inclusion proof and checkpoint,
//! under the key of the very log that the entry names. All evidence that is present must hold.
//!
//! `sigstore-verify` checks that the entry is about the signature. This module checks that for the one kind which the library cannot
//! represent: intoto 0.0.1.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_verify::crypto::{Checkpoint, Keyring, VerificationKey, sha256};
use sigstore_verify::types::bundle::{InclusionProof, TransparencyLogEntry};
use sigstore_verify::types::{DerCertificate, DerPublicKey, KindVersion, Sha256Hash, SignatureBytes};

/// What the evidence of one entry proves. A field has a value only if it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proven {
    /// The log's id.
    pub(crate) log_id: Sha256Hash,
    /// The global index.
    pub(crate) log_index: Option<u64>,
    /// When the log integrated the entry.
    pub(crate) integrated: Option<Timestamp>,
    /// The signed entry timestamp.
    pub(crate) set: Option<String>,
}

/// Which evidence an entry must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Required {
    /// The signed entry timestamp: `.sig` and `.att` layers, bundles v0.1.
    Set,
    /// The inclusion proof: bundles from v0.2 on.
    Proof,
}

/// Why a log entry is not proven, or is about something else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A log id of another length.
    #[error("the log id is not 32 bytes long")]
    LogId,
    /// A log without a key in the trust root.
    #[error("the log {} is not in the trust root", .0.to_hex())]
    UnknownLog(Sha256Hash),
    /// The entry's form requires a SET.
    #[error("there is no signed entry timestamp (SET)")]
    NoSet,
    /// The entry's form requires an inclusion proof.
    #[error("there is no inclusion proof")]
    NoProof,
    /// An integrated time that no SET covers.
    #[error("the integrated time is not proven: there is no signed entry timestamp (SET)")]
    UnprovenTime,
    /// A SET over no time.
    #[error("the entry has no integrated time")]
    NoTime,
    /// A time that has not come.
    #[error("the integrated time {0} is in the future")]
    Future(Timestamp),
    /// The log's key was not valid when the entry was integrated.
    #[error("the log {} was not valid at {time}", log.to_hex())]
    LogNotValid {
        /// The log.
        log: Sha256Hash,
        /// The integrated time.
        time: Timestamp,
    },
    /// A SET of another log, or over another entry.
    #[error("the signed entry timestamp (SET) is not the log's over this entry, index, time and log id")]
    Set,
    /// What a SET covers cannot be written.
    #[error("{0}")]
    SetPayload(serde_json::Error),
    /// A checkpoint that cannot be parsed.
    #[error("the checkpoint is malformed: {0}")]
    MalformedCheckpoint(String),
    /// A checkpoint that the log did not sign.
    #[error("the checkpoint is not signed by the log {}", .0.to_hex())]
    CheckpointSigner(Sha256Hash),
    /// A proof for another tree.
    #[error("the proof's root hash is not the checkpoint's")]
    RootHash,
    /// A proof that does not lead to the root.
    #[error("the inclusion proof does not hold: {0}")]
    Inclusion(String),
    /// A body that cannot be parsed.
    #[error("the entry is malformed: {0}")]
    Malformed(serde_json::Error),
    /// An entry about another attestation.
    #[error("the entry is about another attestation: its content hash differs")]
    OtherAttestation,
    /// A key that is no PEM text in base64.
    #[error("the entry's key is malformed")]
    MalformedKey,
    /// A key of another kind than the signer's.
    #[error("the entry's key is not the signer's: {0}")]
    OtherKey(String),
    /// An entry about another signer.
    #[error("the entry is about another signer: its certificate or key differs")]
    OtherSigner,
}

/// Proves an entry.
pub(crate) fn prove(
    entry: &TransparencyLogEntry,
    required: Required,
    keys: &Keyring,
    now: Timestamp,
) -> Result<Proven, EntryError> {
    let id = Sha256Hash::try_from(entry.log_id.key_id.as_bytes()).map_err(|_| EntryError::LogId)?;
    let key = keys.key_started_by(&id, now).ok_or(EntryError::UnknownLog(id))?;
    match required {
        Required::Set if entry.inclusion_promise.is_none() => {
            return Err(EntryError::NoSet);
        }
        Required::Proof if entry.inclusion_proof.is_none() => return Err(EntryError::NoProof),
        _ => {}
    }
    if let Some(proof) = &entry.inclusion_proof {
        prove_inclusion(entry, proof, &id, key)?;
    }
    let second_version = entry.kind_version == KindVersion::HashedRekordV002;
    let Some(promise) = &entry.inclusion_promise else {
        return match entry.integrated_time {
            Some(_) => Err(EntryError::UnprovenTime),
            None => Ok(Proven {
                log_id: id,
                // A proof of Rekor v2 is about the global index, one of v1 about the index in its shard only.
                log_index: second_version.then(|| entry.log_index.get()),
                integrated: None,
                set: None,
            }),
        };
    };
    let integrated = entry.integrated_time.ok_or(EntryError::NoTime)?;
    if integrated > now {
        return Err(EntryError::Future(integrated));
    }
    let key = keys.key_at(&id, integrated).ok_or(EntryError::LogNotValid { log: id, time: integrated })?;
    key.verify(
        set_payload(entry, &id, integrated)?,
        &SignatureBytes::new(promise.signed_entry_timestamp.as_bytes().to_vec()),
    )
    .map_err(|_| EntryError::Set)?;
    Ok(Proven {
        log_id: id,
        log_index: Some(entry.log_index.get()),
        integrated: Some(integrated),
        set: Some(promise.signed_entry_timestamp.to_base64()),
    })
}

/// The bytes that a signed entry timestamp signs: canonical JSON (RFC 8785). That is what serde writes for these sorted fields of
/// plain text.
fn set_payload(entry: &TransparencyLogEntry, id: &Sha256Hash, integrated: Timestamp) -> Result<Vec<u8>, EntryError> {
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
    .map_err(EntryError::SetPayload)
}

/// Proves inclusion (RFC 6962) under a checkpoint that this very log signed.
fn prove_inclusion(
    entry: &TransparencyLogEntry,
    proof: &InclusionProof,
    id: &Sha256Hash,
    key: &VerificationKey,
) -> Result<(), EntryError> {
    let checkpoint = Checkpoint::from_text(proof.checkpoint.envelope())
        .map_err(|error| EntryError::MalformedCheckpoint(error.to_string()))?;
    // A checkpoint names its keys by four bytes, which several keys may share. Only the log that the entry names counts.
    let signed = checkpoint
        .signatures()
        .iter()
        .filter(|signature| id.as_bytes().starts_with(signature.key_id.as_bytes()))
        .any(|signature| key.verify(checkpoint.signed_data(), &signature.signature).is_ok());
    if !signed {
        return Err(EntryError::CheckpointSigner(*id));
    }
    if proof.root_hash != *checkpoint.root_hash() {
        return Err(EntryError::RootHash);
    }
    // Rekor v2 has one tree, whose index is the entry's. The index in the proof is not signed.
    let index = match entry.kind_version {
        KindVersion::HashedRekordV002 => entry.log_index.get(),
        _ => proof.log_index.get(),
    };
    let leaf = sigstore_merkle::hash_leaf(entry.canonicalized_body.as_bytes());
    sigstore_merkle::verify_inclusion_proof(&leaf, index, checkpoint.tree_size(), &proof.hashes, checkpoint.root_hash())
        .map_err(|error| EntryError::Inclusion(error.to_string()))
}

/// The kind and version in an entry's body.
#[derive(Deserialize)]
pub(crate) struct Kind {
    pub(crate) kind: String,
    #[serde(rename = "apiVersion")]
    pub(crate) version: String,
}

/// Checks that an intoto 0.0.1 entry is about this layer. Its content hash must be the layer's. Its certificate must be the signer's,
/// or its key where there is no certificate. Such an entry holds no signature.
pub(crate) fn about_layer(
    body: &[u8],
    layer: &[u8],
    certificate: Option<&DerCertificate>,
    key: &DerPublicKey,
) -> Result<(), EntryError> {
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
    let body: Body = serde_json::from_slice(body).map_err(EntryError::Malformed)?;
    let Hash { algorithm, value } = body.spec.content.hash;
    if algorithm != "sha256" || value != sha256(layer).to_hex() {
        return Err(EntryError::OtherAttestation);
    }
    let pem = DerPublicKey::from_base64(&body.spec.public_key)
        .ok()
        .and_then(|pem| String::from_utf8(pem.into_bytes()).ok())
        .ok_or(EntryError::MalformedKey)?;
    let same = match certificate {
        Some(certificate) => DerCertificate::from_pem(&pem).map(|logged| logged == *certificate),
        None => DerPublicKey::from_pem(&pem).map(|logged| logged == *key),
    };
    match same.map_err(|error| EntryError::OtherKey(error.to_string()))? {
        true => Ok(()),
        false => Err(EntryError::OtherSigner),
    }
}
