//! Rule 1: what a registry holds becomes a candidate, parsed strictly: a `.sig` layer, a `.att` layer, or a sigstore bundle.

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

use super::log::{Kind, Required};

/// The predicate of a statement that is cosign's signature of an image.
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"];
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What a simple signing payload says that it is.
const SIMPLE_SIGNING: &str = "cosign container image signature";
/// Log entries, and timestamps, of one signature.
const EVIDENCE: usize = 16;
/// Bytes of a certificate, as webpki has it; of a timestamp's token too. Decoding DER may take the square of its size.
const DER: usize = 64 << 10;
/// Certificates in a bundle's chain.
const CHAIN: usize = 8;
/// Bytes of a checkpoint, and signatures under it: each is tried over the whole.
const CHECKPOINT: usize = 16 << 10;
const CHECKPOINT_SIGNATURES: usize = 32;
/// Bytes of a log entry's body: it holds a certificate and hashes, never what is signed.
const BODY: usize = 256 << 10;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// What a candidate may prove of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// That somebody signed it.
    Signature,
    /// Something else about it.
    Attestation,
}

/// Something that may be a signature or an attestation. Nothing of it is verified.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) purpose: Purpose,
    pub(super) signed: Signed,
    /// The evidence in the form that `sigstore-verify` judges. A `.sig` or `.att` layer has become a bundle v0.1.
    pub(super) bundle: Bundle,
    /// What every log entry must bring.
    pub(super) required: Required,
    /// A layer of a `.sig` or `.att` tag, whole: what is looked up in the log, and what a `.att` timestamp is over.
    pub(super) layer: Option<Bytes>,
    /// The entry is an intoto 0.0.1, which the bundle does not represent.
    pub(super) intoto_v001: bool,
    /// The signature as the image's annotation has it.
    pub(super) value: String,
}

/// What is signed.
#[derive(Clone)]
pub(super) enum Signed {
    /// A simple signing payload, and the digest in it.
    Payload { bytes: Bytes, digest: String },
    /// An in-toto statement about these sha256 digests (hex).
    Statement { subjects: Vec<String>, predicate_type: String },
    /// The image's manifest itself.
    Manifest,
}

impl Candidate {
    pub(super) fn certificate(&self) -> Option<&DerCertificate> {
        self.bundle.signing_certificate()
    }

    /// The sha256 of what is signed, by a bundle's own word.
    pub(super) fn message_digest(&self) -> Option<String> {
        let SignatureContent::MessageSignature(message) = &self.bundle.content else { return None };
        let digest = message.message_digest.as_ref().filter(|digest| digest.algorithm == HashAlgorithm::Sha2256)?;
        Some(digest.digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(super) fn entries(&self) -> &[TransparencyLogEntry] {
        &self.bundle.verification_material.tlog_entries
    }

    pub(super) fn timestamps(&self) -> &[Rfc3161Timestamp] {
        &self.bundle.verification_material.timestamp_verification_data.rfc3161_timestamps
    }

    pub(super) fn signature(&self) -> Option<&SignatureBytes> {
        match &self.bundle.content {
            SignatureContent::MessageSignature(message) => Some(&message.signature),
            SignatureContent::DsseEnvelope(envelope) => Some(&envelope.signature.sig),
            _ => None,
        }
    }
}

/// A `.sig` layer.
pub(super) fn simple_signature(layer: Bytes, annotations: &BTreeMap<String, String>) -> Result<Candidate, String> {
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
    let payload: Payload =
        serde_json::from_slice(&layer).map_err(|error| format!("the simple signing payload is malformed: {error}"))?;
    if payload.critical.r#type != SIMPLE_SIGNING {
        return Err(format!("the payload's type is {:?}, not {SIMPLE_SIGNING:?}", payload.critical.r#type));
    }
    let value = annotations.get(SIGNATURE).ok_or_else(|| format!("the annotation {SIGNATURE} is missing"))?;
    // `base64 | cosign attach signature` leaves line breaks, which Go's decoder passes over.
    let value: String = value.chars().filter(|&char| char != '\n' && char != '\r').collect();
    let signature = SignatureBytes::new(base64(SIGNATURE, &value)?);
    let digest = DigestBytes::new(sigstore_verify::crypto::sha256(&layer).as_slice().to_vec());
    let message =
        MessageSignature::new(signature).with_message_digest(MessageDigest::new(HashAlgorithm::Sha2256, digest));
    let signed = Signed::Payload { bytes: layer.clone(), digest: payload.critical.image.docker_manifest_digest };
    layered(Purpose::Signature, signed, SignatureContent::MessageSignature(message), layer, annotations, value)
}

/// A `.att` layer.
pub(super) fn simple_attestation(layer: Bytes, annotations: &BTreeMap<String, String>) -> Result<Candidate, String> {
    let envelope: DsseEnvelope =
        serde_json::from_slice(&layer).map_err(|error| format!("the DSSE envelope is malformed: {error}"))?;
    let (signed, purpose) = statement(&envelope)?;
    if purpose == Purpose::Signature {
        return Err(format!("a statement of type {SIGNATURE_PREDICATE} is a signature, which no .att layer holds"));
    }
    let value = envelope.signature.sig.to_base64();
    layered(purpose, signed, SignatureContent::DsseEnvelope(envelope), layer, annotations, value)
}

/// A sigstore bundle.
pub(super) fn bundle(text: &[u8]) -> Result<Candidate, String> {
    let text = std::str::from_utf8(text).map_err(|_| "the bundle is malformed: not UTF-8".to_owned())?;
    let bundle = Bundle::from_json(text).map_err(|error| format!("the bundle is malformed: {error}"))?;
    bounded(&bundle)?;
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
    candidate.value = candidate.signature().ok_or("the bundle has no signature")?.to_base64();
    Ok(candidate)
}

/// What the form allows, and what would take the verifier more work than any signature needs.
fn bounded(bundle: &Bundle) -> Result<(), String> {
    let material = &bundle.verification_material;
    let chain: Vec<&DerCertificate> = match &material.content {
        VerificationMaterialContent::X509CertificateChain { .. } if bundle.media_type == MediaType::Bundle0_3 => {
            return Err("a bundle v0.3 holds one certificate, and this one a chain".to_owned());
        }
        VerificationMaterialContent::X509CertificateChain { certificates } => {
            certificates.iter().map(|certificate| &certificate.raw_bytes).collect()
        }
        _ => bundle.signing_certificate().into_iter().collect(),
    };
    let stamps = &material.timestamp_verification_data.rfc3161_timestamps;
    if chain.len() > CHAIN || stamps.len() > EVIDENCE || material.tlog_entries.len() > EVIDENCE {
        return Err(format!("the bundle has more than {CHAIN} certificates, or {EVIDENCE} log entries or timestamps"));
    }
    let longest = chain.iter().map(|certificate| certificate.as_bytes().len());
    let longest = longest.chain(stamps.iter().map(|stamp| stamp.signed_timestamp.as_bytes().len())).max();
    if longest.is_some_and(|length| length > DER) {
        return Err(format!("a certificate or a timestamp of the bundle has more than {DER} bytes"));
    }
    for entry in &material.tlog_entries {
        checkpoint(entry.inclusion_proof.as_ref().map_or("", |proof| proof.checkpoint.envelope()))?;
        let (kind, version) = entry_kind(entry.canonicalized_body.as_bytes())?;
        let labelled = (entry.kind_version.kind(), entry.kind_version.version());
        if labelled != (kind.as_str(), version.as_str()) {
            return Err(format!(
                "a log entry of kind {kind:?} {version:?} is labelled {:?} {:?}",
                labelled.0, labelled.1
            ));
        }
    }
    Ok(())
}

fn checkpoint(envelope: &str) -> Result<(), String> {
    let signatures = envelope.lines().filter(|line| line.starts_with('\u{2014}')).count();
    match envelope.len() > CHECKPOINT || signatures > CHECKPOINT_SIGNATURES {
        true => Err(format!("a checkpoint has more than {CHECKPOINT} bytes or {CHECKPOINT_SIGNATURES} signatures")),
        false => Ok(()),
    }
}

/// Kind and version in a log entry's body.
fn entry_kind(body: &[u8]) -> Result<(String, String), String> {
    if body.len() > BODY {
        return Err(format!("a log entry has more than {BODY} bytes"));
    }
    let Kind { kind, version } =
        serde_json::from_slice(body).map_err(|error| format!("the log entry is malformed: {error}"))?;
    Ok((kind, version))
}

fn statement(envelope: &DsseEnvelope) -> Result<(Signed, Purpose), String> {
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
        return Err(format!("the envelope's payload is {:?}, not {PAYLOAD_TYPE}", envelope.payload_type));
    }
    let statement: Statement = serde_json::from_slice(envelope.payload.as_bytes())
        .map_err(|error| format!("the in-toto statement is malformed: {error}"))?;
    if !STATEMENT_TYPES.contains(&statement.statement_type.as_str()) {
        return Err(format!(
            "the statement's type is {:?}, not an in-toto statement v0.1 or v1",
            statement.statement_type
        ));
    }
    let subjects = statement.subject.into_iter().filter_map(|mut subject| subject.digest.remove("sha256")).collect();
    let purpose = match statement.predicate_type == SIGNATURE_PREDICATE {
        true => Purpose::Signature,
        false => Purpose::Attestation,
    };
    Ok((Signed::Statement { subjects, predicate_type: statement.predicate_type }, purpose))
}

/// The candidate of a layer and its annotations.
fn layered(
    purpose: Purpose,
    signed: Signed,
    content: SignatureContent,
    layer: Bytes,
    annotations: &BTreeMap<String, String>,
    value: String,
) -> Result<Candidate, String> {
    let certificate = match annotations.get(CERTIFICATE).filter(|pem| !pem.is_empty()) {
        // PEM takes four characters for three bytes, and line breaks.
        Some(pem) if pem.len() > 2 * DER => {
            return Err(format!("the annotation {CERTIFICATE} has more than {} bytes", 2 * DER));
        }
        Some(pem) => VerificationMaterialContent::Certificate(CertificateContent::new(
            DerCertificate::from_pem(pem)
                .map_err(|error| format!("the annotation {CERTIFICATE} is malformed: {error}"))?,
        )),
        None => VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("")),
    };
    let mut material = VerificationMaterial::new(certificate);
    let mut intoto_v001 = false;
    if let Some(text) = annotations.get(BUNDLE).filter(|text| !text.is_empty()) {
        let entry = annotated_entry(text).map_err(|why| format!("the annotation {BUNDLE} is malformed: {why}"))?;
        intoto_v001 = entry.1;
        material = material.with_tlog_entries(vec![entry.0]);
    }
    if let Some(text) = annotations.get(TIMESTAMP).filter(|text| !text.is_empty()) {
        #[derive(Deserialize)]
        struct Token {
            #[serde(rename = "SignedRFC3161Timestamp")]
            token: String,
        }
        if text.len() > 2 * DER {
            return Err(format!("the annotation {TIMESTAMP} has more than {} bytes", 2 * DER));
        }
        let token: Token =
            serde_json::from_str(text).map_err(|error| format!("the annotation {TIMESTAMP} is malformed: {error}"))?;
        let token = TimestampToken::new(base64(TIMESTAMP, &token.token)?);
        material = material
            .with_timestamp_verification_data(TimestampVerificationData::new(vec![Rfc3161Timestamp::new(token)]));
    }
    let bundle = Bundle::new(MediaType::Bundle0_1, material, content);
    Ok(Candidate { purpose, signed, bundle, required: Required::Set, layer: Some(layer), intoto_v001, value })
}

/// The entry in cosign's annotation, and whether it is an intoto 0.0.1.
fn annotated_entry(text: &str) -> Result<(TransparencyLogEntry, bool), String> {
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
    let Annotation { signed_entry_timestamp, payload } =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    entry(&payload.body, payload.integrated_time, payload.log_index, &payload.log_id, &signed_entry_timestamp)
}

/// An entry of Rekor v1 from its parts, and whether it is an intoto 0.0.1.
fn entry(body: &str, time: i64, index: u64, log: &str, set: &str) -> Result<(TransparencyLogEntry, bool), String> {
    let body = base64("body", body)?;
    let (kind, version) = entry_kind(&body)?;
    let (version, intoto_v001) = match (kind.as_str(), version.as_str()) {
        ("hashedrekord", "0.0.1") => (KindVersion::HashedRekordV001, false),
        ("dsse", "0.0.1") => (KindVersion::DsseV001, false),
        ("intoto", "0.0.2") => (KindVersion::IntotoV002, false),
        ("intoto", "0.0.1") => (KindVersion::IntotoV002, true),
        (kind, version) => return Err(format!("a log entry of kind {kind:?} {version:?} is not supported")),
    };
    let id = hex(log).ok_or("the log id is not 64 lowercase hex digits")?;
    let index = LogIndex::new(index).map_err(|error| error.to_string())?;
    let time = jiff::Timestamp::from_second(time).ok().filter(|time| *time > jiff::Timestamp::UNIX_EPOCH);
    let time = time.ok_or("the integrated time is out of range")?;
    let mut entry =
        TransparencyLogEntry::new(index, LogId::new(LogKeyId::new(id)), version, CanonicalizedBody::new(body))
            .with_integrated_time(time);
    // What is not there rule 4 misses.
    if !set.is_empty() {
        let promise = SignedTimestamp::new(base64("SignedEntryTimestamp", set)?);
        entry = entry.with_inclusion_promise(InclusionPromise::new(promise));
    }
    Ok((entry, intoto_v001))
}

/// The entries in an answer of Rekor v1's search, the earliest first; each with whether it is an intoto 0.0.1.
pub(super) fn found_entries(answer: &[u8]) -> Result<Vec<(TransparencyLogEntry, bool)>, String> {
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
    let malformed = |error: &dyn std::fmt::Display| format!("the log's answer is malformed: {error}");
    let answer: Vec<BTreeMap<String, Found>> = serde_json::from_slice(answer).map_err(|error| malformed(&error))?;
    let mut found: Vec<Found> = answer.into_iter().flat_map(BTreeMap::into_values).collect();
    found.sort_by_key(|found| found.integrated_time);
    found.truncate(EVIDENCE);
    let mut entries = Vec::new();
    for found in found {
        let Verification { signed_entry_timestamp, inclusion_proof } = found.verification;
        let (mut entry, intoto_v001) =
            entry(&found.body, found.integrated_time, found.log_index, &found.log_id, &signed_entry_timestamp)?;
        if let Some(proof) = inclusion_proof {
            checkpoint(&proof.checkpoint)?;
            // The same proof as a bundle has it, through the library's own checks of its form.
            let json = serde_json::json!({
                "logIndex": proof.log_index.to_string(),
                "treeSize": proof.tree_size.to_string(),
                "rootHash": hex_to_base64(&proof.root_hash)?,
                "hashes": proof.hashes.iter().map(|hash| hex_to_base64(hash)).collect::<Result<Vec<_>, _>>()?,
                "checkpoint": { "envelope": proof.checkpoint },
            });
            let proof: InclusionProof = serde_json::from_value(json).map_err(|error| malformed(&error))?;
            entry = entry.with_inclusion_proof(proof);
        }
        entries.push((entry, intoto_v001));
    }
    Ok(entries)
}

fn hex_to_base64(text: &str) -> Result<String, String> {
    hex(text)
        .map(|bytes| SignatureBytes::new(bytes).to_base64())
        .ok_or_else(|| "a hash is not 64 lowercase hex digits".to_owned())
}

/// The 32 bytes of 64 lowercase hex digits.
fn hex(text: &str) -> Option<Vec<u8>> {
    is_sha256_hex(text).then(|| DigestBytes::from_hex(text).ok()).flatten().map(DigestBytes::into_bytes)
}

/// Standard base64 in its one canonical form.
fn base64(what: &str, text: &str) -> Result<Vec<u8>, String> {
    SignatureBytes::from_base64(text)
        .ok()
        .filter(|bytes| !bytes.is_empty() && bytes.to_base64() == text)
        .map(SignatureBytes::into_bytes)
        .ok_or_else(|| format!("{what} is not standard base64"))
}
