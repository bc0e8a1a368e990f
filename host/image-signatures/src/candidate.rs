//! Rule 1: candidates. A `.sig` layer, a `.att` layer or a sigstore bundle is parsed strictly, within limits.

use std::collections::BTreeMap;

use bounded::text::is_sha256_hex;
use bytes::Bytes;
use serde::Deserialize;
use sigstore_verify::types::bundle::{
    CertificateContent, InclusionPromise, InclusionProof, LogId, MediaType, MessageDigest, MessageSignature,
    PublicKeyIdentifier, Rfc3161Timestamp, TimestampVerificationData, TransparencyLogEntry, VerificationMaterial,
    VerificationMaterialContent,
};
use sigstore_verify::types::{
    Bundle, CanonicalizedBody, DerCertificate, DigestBytes, DsseEnvelope, HashAlgorithm, KindVersion, LogIndex,
    LogKeyId, SignatureBytes, SignatureContent, SignedTimestamp, TimestampToken,
};

use crate::limits;
use crate::log::{Kind, Required};

/// The predicate type of a statement that is cosign's signature of an image.
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"];
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type in a simple signing payload.
const SIMPLE_SIGNING: &str = "cosign container image signature";

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// What a candidate may prove of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A signature of the image.
    Signature,
    /// Another statement about the image.
    Attestation,
}

/// A possible signature or attestation: parsed, and nothing of it verified.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) purpose: Purpose,
    pub(crate) signed: Signed,
    /// The evidence in the form that `sigstore-verify` judges. A `.sig` or `.att` layer has become a bundle v0.1.
    pub(crate) bundle: Bundle,
    /// The evidence that every log entry must have.
    pub(crate) required: Required,
    /// The whole layer of a `.sig` or `.att` tag. The log is searched with it, and a `.att` timestamp is over it.
    pub(crate) layer: Option<Bytes>,
    /// The entry is an intoto 0.0.1, which a bundle cannot represent.
    pub(crate) intoto_v001: bool,
    /// The signature in base64: the annotation's text, or the standard form.
    pub(crate) value: String,
}

/// The subject of a candidate's signature.
#[derive(Clone)]
pub(crate) enum Signed {
    /// A simple signing payload, with the digest in it.
    Payload { bytes: Bytes, digest: String },
    /// An in-toto statement about these sha256 digests (hex).
    Statement { subjects: Vec<String>, predicate_type: String },
    /// The image's manifest itself.
    Manifest,
}

impl Candidate {
    pub(crate) fn certificate(&self) -> Option<&DerCertificate> {
        self.bundle.signing_certificate()
    }

    /// The SHA-256 of the signed bytes, as the bundle itself states it.
    pub(crate) fn message_digest(&self) -> Option<String> {
        let SignatureContent::MessageSignature(message) = &self.bundle.content else { return None };
        let digest = message.message_digest.as_ref().filter(|digest| digest.algorithm == HashAlgorithm::Sha2256)?;
        Some(digest.digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(crate) fn entries(&self) -> &[TransparencyLogEntry] {
        &self.bundle.verification_material.tlog_entries
    }

    pub(crate) fn timestamps(&self) -> &[Rfc3161Timestamp] {
        &self.bundle.verification_material.timestamp_verification_data.rfc3161_timestamps
    }

    pub(crate) fn signature(&self) -> Option<&SignatureBytes> {
        match &self.bundle.content {
            SignatureContent::MessageSignature(message) => Some(&message.signature),
            SignatureContent::DsseEnvelope(envelope) => Some(&envelope.signature.sig),
            _ => None,
        }
    }
}

/// Why something is no candidate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// A `.sig` layer that cannot be parsed.
    #[error("the simple signing payload is malformed: {0}")]
    Payload(serde_json::Error),
    /// A `.sig` layer for another purpose.
    #[error("the payload's type is {0:?}, not {SIMPLE_SIGNING:?}")]
    PayloadType(String),
    /// A `.sig` layer without its signature.
    #[error("the annotation {SIGNATURE} is missing")]
    NoSignatureAnnotation,
    /// An annotation over its limit.
    #[error("the annotation {name} has more than {limit} bytes")]
    AnnotationTooLong {
        /// The annotation.
        name: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// An annotation that cannot be parsed.
    #[error("the annotation {name} is malformed: {why}")]
    Annotation {
        /// The annotation.
        name: &'static str,
        /// Why.
        why: Box<CandidateError>,
    },
    /// Text that cannot be parsed.
    #[error("{0}")]
    Json(serde_json::Error),
    /// A certificate that cannot be parsed.
    #[error("{0}")]
    Certificate(String),
    /// Text that is not base64 in its canonical form.
    #[error("{0} is not standard base64")]
    Base64(&'static str),
    /// An envelope that cannot be parsed.
    #[error("the DSSE envelope is malformed: {0}")]
    Envelope(serde_json::Error),
    /// An envelope with another payload than a statement.
    #[error("the envelope's payload is {0:?}, not {PAYLOAD_TYPE}")]
    EnvelopeType(String),
    /// A statement that cannot be parsed.
    #[error("the in-toto statement is malformed: {0}")]
    Statement(serde_json::Error),
    /// A statement of another version.
    #[error("the statement's type is {0:?}, not an in-toto statement v0.1 or v1")]
    StatementType(String),
    /// A signature among attestations.
    #[error("a statement of type {SIGNATURE_PREDICATE} is a signature, which no .att layer holds")]
    SignatureInAttestation,
    /// A bundle that is not UTF-8.
    #[error("the bundle is malformed: not UTF-8")]
    BundleNotUtf8,
    /// A bundle that cannot be parsed.
    #[error("the bundle is malformed: {0}")]
    Bundle(String),
    /// A bundle of an older version in a registry.
    #[error("the bundle is older than v0.3, which no image has (cosign too passes it over)")]
    OldBundle,
    /// A bundle without a signature.
    #[error("the bundle has no signature")]
    NoSignature,
    /// A bundle v0.3 with a chain.
    #[error("a bundle v0.3 holds one certificate, and this one a chain")]
    Chain,
    /// A bundle with more evidence than is judged.
    #[error(
        "the bundle has more than {} certificates, or {} log entries or timestamps",
        limits::CHAIN,
        limits::EVIDENCE
    )]
    TooMuchEvidence,
    /// A certificate or a timestamp over its limit.
    #[error("a certificate or a timestamp of the bundle has more than {} bytes", limits::DER)]
    DerTooLong,
    /// A log entry whose label is not what its body says.
    #[error("a log entry of kind {kind:?} {version:?} is labelled {labelled_kind:?} {labelled_version:?}")]
    MislabelledEntry {
        /// The kind in the body.
        kind: String,
        /// The version in the body.
        version: String,
        /// The kind in the bundle.
        labelled_kind: String,
        /// The version in the bundle.
        labelled_version: String,
    },
    /// A checkpoint over its limits.
    #[error("a checkpoint has more than {} bytes or {} signatures", limits::CHECKPOINT, limits::CHECKPOINT_SIGNATURES)]
    CheckpointTooLong,
    /// A log entry's body over its limit.
    #[error("a log entry has more than {} bytes", limits::ENTRY_BODY)]
    EntryTooLong,
    /// A log entry that cannot be parsed.
    #[error("the log entry is malformed: {0}")]
    Entry(serde_json::Error),
    /// A log entry of another kind or version.
    #[error("a log entry of kind {kind:?} {version:?} is not supported")]
    UnsupportedEntry {
        /// The kind.
        kind: String,
        /// The version.
        version: String,
    },
    /// A log id that is no SHA-256 digest.
    #[error("the log id is not 64 lowercase hex digits")]
    LogId,
    /// A log index that cannot be represented.
    #[error("{0}")]
    LogIndex(String),
    /// An integrated time that cannot be represented.
    #[error("the integrated time is out of range")]
    IntegratedTime,
    /// A search result of the log that cannot be parsed.
    #[error("the log's answer is malformed: {0}")]
    LogAnswer(serde_json::Error),
    /// A hash in an inclusion proof that is no SHA-256 digest.
    #[error("a hash is not 64 lowercase hex digits")]
    Hash,
}

/// Parses a `.sig` layer.
pub(crate) fn simple_signature(
    layer: Bytes,
    annotations: &BTreeMap<String, String>,
) -> Result<Candidate, CandidateError> {
    #[derive(Deserialize)]
    struct Payload {
        critical: Critical,
    }
    #[derive(Deserialize)]
    struct Critical {
        image: Image,
        r#type: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Image {
        docker_manifest_digest: String,
    }
    let payload: Payload = serde_json::from_slice(&layer).map_err(CandidateError::Payload)?;
    if payload.critical.r#type != SIMPLE_SIGNING {
        return Err(CandidateError::PayloadType(payload.critical.r#type));
    }
    let value = annotations.get(SIGNATURE).ok_or(CandidateError::NoSignatureAnnotation)?;
    // `base64 | cosign attach signature` leaves line breaks, which Go's decoder skips.
    let value: String = value.chars().filter(|&char| char != '\n' && char != '\r').collect();
    let signature = SignatureBytes::new(base64(SIGNATURE, &value)?);
    let digest = DigestBytes::new(sigstore_verify::crypto::sha256(&layer).as_slice().to_vec());
    let message =
        MessageSignature::new(signature).with_message_digest(MessageDigest::new(HashAlgorithm::Sha2256, digest));
    let signed = Signed::Payload { bytes: layer.clone(), digest: payload.critical.image.docker_manifest_digest };
    layered(Purpose::Signature, signed, SignatureContent::MessageSignature(message), layer, annotations, value)
}

/// Parses a `.att` layer.
pub(crate) fn simple_attestation(
    layer: Bytes,
    annotations: &BTreeMap<String, String>,
) -> Result<Candidate, CandidateError> {
    let envelope: DsseEnvelope = serde_json::from_slice(&layer).map_err(CandidateError::Envelope)?;
    let (signed, purpose) = statement(&envelope)?;
    if purpose == Purpose::Signature {
        return Err(CandidateError::SignatureInAttestation);
    }
    let value = envelope.signature.sig.to_base64();
    layered(purpose, signed, SignatureContent::DsseEnvelope(envelope), layer, annotations, value)
}

/// Parses a sigstore bundle.
pub(crate) fn bundle(text: &[u8]) -> Result<Candidate, CandidateError> {
    let text = std::str::from_utf8(text).map_err(|_| CandidateError::BundleNotUtf8)?;
    let bundle = Bundle::from_json(text).map_err(|error| CandidateError::Bundle(error.to_string()))?;
    check(&bundle)?;
    let (signed, purpose) = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => statement(envelope)?,
        _ => (Signed::Manifest, Purpose::Signature),
    };
    let required = match bundle.media_type {
        MediaType::Bundle0_1 => Required::Set,
        _ => Required::Proof,
    };
    let mut candidate =
        Candidate { purpose, signed, bundle, required, layer: None, intoto_v001: false, value: String::new() };
    candidate.value = candidate.signature().ok_or(CandidateError::NoSignature)?.to_base64();
    Ok(candidate)
}

/// Checks a bundle's form, and that judging it takes no more work than a signature needs.
fn check(bundle: &Bundle) -> Result<(), CandidateError> {
    let material = &bundle.verification_material;
    let chain: Vec<&DerCertificate> = match &material.content {
        VerificationMaterialContent::X509CertificateChain { .. } if bundle.media_type == MediaType::Bundle0_3 => {
            return Err(CandidateError::Chain);
        }
        VerificationMaterialContent::X509CertificateChain { certificates } => {
            certificates.iter().map(|certificate| &certificate.raw_bytes).collect()
        }
        _ => bundle.signing_certificate().into_iter().collect(),
    };
    let stamps = &material.timestamp_verification_data.rfc3161_timestamps;
    let evidence = stamps.len().max(material.tlog_entries.len());
    if chain.len() > limits::CHAIN || evidence > limits::EVIDENCE {
        return Err(CandidateError::TooMuchEvidence);
    }
    let longest = chain.iter().map(|certificate| certificate.as_bytes().len());
    let longest = longest.chain(stamps.iter().map(|stamp| stamp.signed_timestamp.as_bytes().len())).max();
    if longest.is_some_and(|length| length > limits::DER) {
        return Err(CandidateError::DerTooLong);
    }
    for entry in &material.tlog_entries {
        checkpoint(entry.inclusion_proof.as_ref().map_or("", |proof| proof.checkpoint.envelope()))?;
        let (kind, version) = entry_kind(entry.canonicalized_body.as_bytes())?;
        let labelled = (entry.kind_version.kind(), entry.kind_version.version());
        if labelled != (kind.as_str(), version.as_str()) {
            let (labelled_kind, labelled_version) = (labelled.0.to_owned(), labelled.1.to_owned());
            return Err(CandidateError::MislabelledEntry { kind, version, labelled_kind, labelled_version });
        }
    }
    Ok(())
}

/// Checks a checkpoint against its limits.
fn checkpoint(envelope: &str) -> Result<(), CandidateError> {
    let signatures = envelope.lines().filter(|line| line.starts_with('\u{2014}')).count();
    match envelope.len() > limits::CHECKPOINT || signatures > limits::CHECKPOINT_SIGNATURES {
        true => Err(CandidateError::CheckpointTooLong),
        false => Ok(()),
    }
}

/// The kind and version in a log entry's body.
fn entry_kind(body: &[u8]) -> Result<(String, String), CandidateError> {
    if body.len() > limits::ENTRY_BODY {
        return Err(CandidateError::EntryTooLong);
    }
    let Kind { kind, version } = serde_json::from_slice(body).map_err(CandidateError::Entry)?;
    Ok((kind, version))
}

/// Parses the statement in an envelope, and tells its purpose by its predicate type.
fn statement(envelope: &DsseEnvelope) -> Result<(Signed, Purpose), CandidateError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        #[serde(rename = "_type")]
        statement_type: String,
        subject: Vec<Subject>,
        predicate_type: String,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: BTreeMap<String, String>,
    }
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(CandidateError::EnvelopeType(envelope.payload_type.clone()));
    }
    let statement: Statement =
        serde_json::from_slice(envelope.payload.as_bytes()).map_err(CandidateError::Statement)?;
    if !STATEMENT_TYPES.contains(&statement.statement_type.as_str()) {
        return Err(CandidateError::StatementType(statement.statement_type));
    }
    let subjects = statement.subject.into_iter().filter_map(|mut subject| subject.digest.remove("sha256")).collect();
    let purpose = match statement.predicate_type == SIGNATURE_PREDICATE {
        true => Purpose::Signature,
        false => Purpose::Attestation,
    };
    Ok((Signed::Statement { subjects, predicate_type: statement.predicate_type }, purpose))
}

/// Makes the candidate of a layer and its annotations.
fn layered(
    purpose: Purpose,
    signed: Signed,
    content: SignatureContent,
    layer: Bytes,
    annotations: &BTreeMap<String, String>,
    value: String,
) -> Result<Candidate, CandidateError> {
    let annotation = |name, why: CandidateError| CandidateError::Annotation { name, why: Box::new(why) };
    // PEM and base64 take four characters for three bytes, and line breaks.
    let limit = 2 * limits::DER;
    let certificate = match annotations.get(CERTIFICATE).filter(|pem| !pem.is_empty()) {
        Some(pem) if pem.len() > limit => {
            return Err(CandidateError::AnnotationTooLong { name: CERTIFICATE, limit });
        }
        Some(pem) => VerificationMaterialContent::Certificate(CertificateContent::new(
            DerCertificate::from_pem(pem)
                .map_err(|error| annotation(CERTIFICATE, CandidateError::Certificate(error.to_string())))?,
        )),
        None => VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("")),
    };
    let mut material = VerificationMaterial::new(certificate);
    let mut intoto_v001 = false;
    if let Some(text) = annotations.get(BUNDLE).filter(|text| !text.is_empty()) {
        let entry = annotated_entry(text).map_err(|why| annotation(BUNDLE, why))?;
        intoto_v001 = entry.intoto_v001;
        material = material.with_tlog_entries(vec![entry.entry]);
    }
    if let Some(text) = annotations.get(TIMESTAMP).filter(|text| !text.is_empty()) {
        #[derive(Deserialize)]
        struct Token {
            #[serde(rename = "SignedRFC3161Timestamp")]
            token: String,
        }
        if text.len() > limit {
            return Err(CandidateError::AnnotationTooLong { name: TIMESTAMP, limit });
        }
        let token: Token =
            serde_json::from_str(text).map_err(|error| annotation(TIMESTAMP, CandidateError::Json(error)))?;
        let token = TimestampToken::new(base64(TIMESTAMP, &token.token)?);
        material = material
            .with_timestamp_verification_data(TimestampVerificationData::new(vec![Rfc3161Timestamp::new(token)]));
    }
    let bundle = Bundle::new(MediaType::Bundle0_1, material, content);
    Ok(Candidate { purpose, signed, bundle, required: Required::Set, layer: Some(layer), intoto_v001, value })
}

/// Parses the entry in cosign's annotation.
fn annotated_entry(text: &str) -> Result<LoggedEntry, CandidateError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Annotation {
        signed_entry_timestamp: String,
        payload: Payload,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload {
        body: String,
        integrated_time: i64,
        log_index: u64,
        #[serde(rename = "logID")]
        log_id: String,
    }
    let Annotation { signed_entry_timestamp, payload } = serde_json::from_str(text).map_err(CandidateError::Json)?;
    entry(&payload.body, payload.integrated_time, payload.log_index, &payload.log_id, &signed_entry_timestamp)
}

/// An entry of Rekor v1.
pub(crate) struct LoggedEntry {
    pub(crate) entry: TransparencyLogEntry,
    /// The entry is an intoto 0.0.1, which the library represents as 0.0.2.
    pub(crate) intoto_v001: bool,
}

/// Makes an entry of Rekor v1 from its parts.
fn entry(body: &str, time: i64, index: u64, log: &str, set: &str) -> Result<LoggedEntry, CandidateError> {
    let body = base64("body", body)?;
    let (kind, version) = entry_kind(&body)?;
    let (version, intoto_v001) = match (kind.as_str(), version.as_str()) {
        ("hashedrekord", "0.0.1") => (KindVersion::HashedRekordV001, false),
        ("dsse", "0.0.1") => (KindVersion::DsseV001, false),
        ("intoto", "0.0.2") => (KindVersion::IntotoV002, false),
        ("intoto", "0.0.1") => (KindVersion::IntotoV002, true),
        _ => return Err(CandidateError::UnsupportedEntry { kind, version }),
    };
    let id = hex(log).ok_or(CandidateError::LogId)?;
    let index = LogIndex::new(index).map_err(|error| CandidateError::LogIndex(error.to_string()))?;
    let time = jiff::Timestamp::from_second(time).ok().filter(|time| *time > jiff::Timestamp::UNIX_EPOCH);
    let time = time.ok_or(CandidateError::IntegratedTime)?;
    let mut entry =
        TransparencyLogEntry::new(index, LogId::new(LogKeyId::new(id)), version, CanonicalizedBody::new(body))
            .with_integrated_time(time);
    // Rule 4 rejects an entry whose SET is missing.
    if !set.is_empty() {
        let promise = SignedTimestamp::new(base64("SignedEntryTimestamp", set)?);
        entry = entry.with_inclusion_promise(InclusionPromise::new(promise));
    }
    Ok(LoggedEntry { entry, intoto_v001 })
}

/// Parses the entries in a search result of Rekor v1, the earliest first.
pub(crate) fn found_entries(answer: &[u8]) -> Result<Vec<LoggedEntry>, CandidateError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Found {
        body: String,
        integrated_time: i64,
        log_index: u64,
        #[serde(rename = "logID")]
        log_id: String,
        verification: Verification,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Verification {
        signed_entry_timestamp: String,
        inclusion_proof: Option<Proof>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Proof {
        checkpoint: String,
        hashes: Vec<String>,
        log_index: u64,
        root_hash: String,
        tree_size: u64,
    }
    let answer: Vec<BTreeMap<String, Found>> = serde_json::from_slice(answer).map_err(CandidateError::LogAnswer)?;
    let mut found: Vec<Found> = answer.into_iter().flat_map(BTreeMap::into_values).collect();
    found.sort_by_key(|found| found.integrated_time);
    found.truncate(limits::EVIDENCE);
    let mut entries = Vec::new();
    for found in found {
        let Verification { signed_entry_timestamp, inclusion_proof } = found.verification;
        let mut logged =
            entry(&found.body, found.integrated_time, found.log_index, &found.log_id, &signed_entry_timestamp)?;
        if let Some(proof) = inclusion_proof {
            checkpoint(&proof.checkpoint)?;
            // The proof in a bundle's form, so that the library checks it.
            let json = serde_json::json!({
                "logIndex": proof.log_index.to_string(),
                "treeSize": proof.tree_size.to_string(),
                "rootHash": hex_to_base64(&proof.root_hash)?,
                "hashes": proof.hashes.iter().map(|hash| hex_to_base64(hash)).collect::<Result<Vec<_>, _>>()?,
                "checkpoint": { "envelope": proof.checkpoint },
            });
            let proof: InclusionProof = serde_json::from_value(json).map_err(CandidateError::LogAnswer)?;
            logged.entry = logged.entry.with_inclusion_proof(proof);
        }
        entries.push(logged);
    }
    Ok(entries)
}

fn hex_to_base64(text: &str) -> Result<String, CandidateError> {
    hex(text).map(|bytes| SignatureBytes::new(bytes).to_base64()).ok_or(CandidateError::Hash)
}

/// The 32 bytes of 64 lowercase hex digits.
fn hex(text: &str) -> Option<Vec<u8>> {
    is_sha256_hex(text).then(|| DigestBytes::from_hex(text).ok()).flatten().map(DigestBytes::into_bytes)
}

/// Decodes standard base64 in its one canonical form.
fn base64(what: &'static str, text: &str) -> Result<Vec<u8>, CandidateError> {
    SignatureBytes::from_base64(text)
        .ok()
        .filter(|bytes| !bytes.is_empty() && bytes.to_base64() == text)
        .map(SignatureBytes::into_bytes)
        .ok_or(CandidateError::Base64(what))
}
