//! The PEM files that cosign's variables name, made into the arrays of a trusted_root.json.

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use jiff::Timestamp;
use rustls_pki_types::pem::Error::Base64Decode;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use sigstore_verify::crypto::{KeyAlgorithm, SigningScheme, WEBPKI_VERIFICATION_ALGS, sha256, validate_raw_public_key};
use sigstore_verify::types::{DerCertificate, DerPublicKey};
use x509_cert::Certificate;
use x509_cert::der::asn1::Uint;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::limits::TRUST_OBJECTS;

/// id-kp-timeStamping (RFC 3161 section 2.3).
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
/// The label of keys in another form than ours.
const PKCS1: &str = "RSA PUBLIC KEY";

/// Why a PEM file of trust material cannot be used. What a file holds is never repeated, since it may be a private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// A section with another label.
    #[error("holds a {found}: only PEM of {expected} belongs here")]
    OtherLabel {
        /// The label, if it can be one.
        found: String,
        /// The label that belongs there.
        expected: &'static str,
    },
    /// Keys in PKCS#1 form.
    #[error("holds a {PKCS1}: write it as PUBLIC KEY, with `openssl rsa -RSAPublicKey_in -in FILE -pubout`")]
    Pkcs1,
    /// More sections than are read.
    #[error("holds more than {TRUST_OBJECTS} of {0}")]
    TooMany(&'static str),
    /// No section.
    #[error("holds no PEM of {0}")]
    Empty(&'static str),
    /// A section that is no base64.
    #[error("malformed PEM: no base64 ({0})")]
    Base64(String),
    /// Lines that are no PEM.
    #[error("malformed PEM: BEGIN and END must stand on lines of their own")]
    Lines,
    /// Sections that the parser skips.
    #[error("malformed PEM: {read} of {present} sections can be read")]
    Unreadable {
        /// The sections that were parsed.
        read: usize,
        /// The sections that begin.
        present: usize,
    },
    /// A certificate that cannot be parsed.
    #[error("{certificate}: malformed: {why}")]
    MalformedCertificate {
        /// The certificate's place in the file, and its subject if it is known.
        certificate: String,
        /// What the parser says.
        why: x509_cert::der::Error,
    },
    /// A certificate that is no authority's among authorities.
    #[error("{0} is no certificate authority's (basicConstraints): only roots and intermediates belong here")]
    NoAuthority(String),
    /// A certificate that is neither an authority's nor for timestamps.
    #[error("{0} is not for timestamps (extended key usage timeStamping)")]
    NotForTimestamps(String),
    /// Authorities without a certificate that signs timestamps.
    #[error("holds no timestamp authority's own certificate: write it with its intermediates and root")]
    NoTimestampAuthority,
    /// Certificates that could be combined in too many ways.
    #[error("its certificates make more than {TRUST_OBJECTS} paths to a root")]
    TooManyPaths,
    /// A certificate without a path to a root.
    #[error(
        "{certificate}: no path leads from it to a root in the file: add its issuer ({issuer:?}) and all above it; they must be \
         valid at the same time, and signed with algorithms that sigstore has"
    )]
    NoPath {
        /// The certificate.
        certificate: String,
        /// Its issuer's name.
        issuer: String,
    },
    /// A key that cannot be used.
    #[error("key {number}: {why}")]
    Key {
        /// The key's place in the file, from 1.
        number: usize,
        /// Why.
        why: KeyError,
    },
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key that cannot be parsed.
    #[error("malformed: {0}")]
    Malformed(x509_cert::der::Error),
    /// An RSA key that cannot be parsed.
    #[error("malformed RSA key: {0}")]
    MalformedRsa(x509_cert::der::Error),
    /// An RSA key without its modulus.
    #[error("malformed RSA key: no modulus")]
    NoModulus,
    /// A key with more or fewer bytes than its kind has.
    #[error("malformed {kind} key: {found} bytes, not {expected}")]
    Length {
        /// The kind.
        kind: &'static str,
        /// The bytes of the key.
        found: usize,
        /// The bytes that such a key has.
        expected: usize,
    },
    /// A key of a kind that does not count here.
    #[error("{what}: take one of {kinds}")]
    Unsupported {
        /// The kind, and that it is not supported.
        what: String,
        /// The kinds that count.
        kinds: String,
    },
    /// A key that the library refuses.
    #[error("{0}")]
    Refused(String),
}

/// `certificateAuthorities` of certificate authorities in any order. Each is an authority with its path up to a root: one that
/// has two (a root that was renewed with its key) is two.
///
/// # Errors
/// As [`certificates`] and [`paths`], and a certificate that is no authority's.
pub(super) fn authorities(text: &str) -> Result<Value, PemError> {
    let all = certificates(text)?;
    if let Some(other) = all.iter().find(|certificate| !certificate.authority) {
        return Err(PemError::NoAuthority(other.to_string()));
    }
    let authorities = paths(&all)?;
    let authorities = authorities
        .iter()
        .map(|path| json!({ "uri": "", "certChain": chain(&path.certificates), "validFor": path.validity() }));
    Ok(Value::Array(authorities.collect()))
}

/// `timestampAuthorities` of timestamp authorities' own certificates, their intermediates and roots, in any order.
///
/// # Errors
/// As [`certificates`] and [`paths`], and a certificate that is neither a certificate authority's nor for timestamps.
pub(super) fn timestamp_authorities(text: &str) -> Result<Value, PemError> {
    let all = certificates(text)?;
    for certificate in all.iter().filter(|certificate| !certificate.authority) {
        if !certificate.signs_timestamps()? {
            return Err(PemError::NotForTimestamps(certificate.to_string()));
        }
    }
    let paths = paths(&all)?;
    let own = paths.iter().filter(|path| path.certificates.first().is_some_and(|lowest| !lowest.authority));
    let authorities: Vec<Value> =
        own.map(|path| json!({ "certChain": chain(&path.certificates), "validFor": path.validity() })).collect();
    match authorities.is_empty() {
        true => Err(PemError::NoTimestampAuthority),
        false => Ok(Value::Array(authorities)),
    }
}

/// `tlogs` or `ctlogs` of public keys, whose log id is the hash of the key (RFC 6962 section 3.2).
///
/// # Errors
/// No key, a malformed one, one that is there twice, and one of a kind that is not in `kinds`.
pub(super) fn logs(text: &str, kinds: &[&str]) -> Result<Value, PemError> {
    if labels(text).contains(&PKCS1) {
        return Err(PemError::Pkcs1);
    }
    let keys: Vec<SubjectPublicKeyInfoDer<'_>> = sections(text, "PUBLIC KEY")?;
    let logs: Result<Vec<Value>, PemError> = keys
        .iter()
        .enumerate()
        .map(|(index, der)| {
            let key = DerPublicKey::from_bytes(der);
            let details = key_details(&key, kinds).map_err(|why| PemError::Key { number: index + 1, why })?;
            Ok(json!({
                "baseUrl": "",
                "hashAlgorithm": "SHA2_256",
                "publicKey": { "rawBytes": key.to_base64(), "keyDetails": details },
                "logId": { "keyId": sha256(der.as_ref()).to_base64() },
            }))
        })
        .collect();
    Ok(Value::Array(logs?))
}

/// The name that protobuf-specs has for the kind of a key.
fn key_details(key: &DerPublicKey, kinds: &[&str]) -> Result<&'static str, KeyError> {
    let unsupported = |what: String| KeyError::Unsupported { what, kinds: kinds.join(", ") };
    let read = SubjectPublicKeyInfoOwned::from_der(key.as_bytes()).map_err(KeyError::Malformed)?;
    let algorithm = KeyAlgorithm::from_spki(key).map_err(|error| unsupported(error.to_string()))?;
    let bits = read.subject_public_key.raw_bytes();
    let (kind, scheme, details, length) = match algorithm {
        KeyAlgorithm::EcdsaP256 => ("P-256", SigningScheme::EcdsaP256Sha256, "PKIX_ECDSA_P256_SHA_256", 65),
        KeyAlgorithm::EcdsaP384 => ("P-384", SigningScheme::EcdsaP384Sha384, "PKIX_ECDSA_P384_SHA_384", 97),
        KeyAlgorithm::Ed25519 => ("Ed25519", SigningScheme::Ed25519, "PKIX_ED25519", 32),
        KeyAlgorithm::Rsa => {
            let details = match rsa_bits(&read)? {
                2048 => "PKIX_RSA_PKCS1V15_2048_SHA256",
                3072 => "PKIX_RSA_PKCS1V15_3072_SHA256",
                4096 => "PKIX_RSA_PKCS1V15_4096_SHA256",
                bits => {
                    return Err(unsupported(format!(
                        "RSA of {bits} bits is not supported, only of 2048, 3072 and 4096"
                    )));
                }
            };
            ("RSA", SigningScheme::RsaPkcs1Sha256, details, bits.len())
        }
        other => return Err(unsupported(format!("{other:?} is not supported"))),
    };
    if !kinds.contains(&kind) {
        return Err(unsupported(format!("{kind} is not supported here")));
    }
    // The library checks the first byte of a point only.
    if bits.len() != length {
        return Err(KeyError::Length { kind, found: bits.len(), expected: length });
    }
    validate_raw_public_key(scheme, bits).map_err(|error| KeyError::Refused(super::chain(&error)))?;
    Ok(details)
}

/// Bits of an RSA key's modulus (RFC 8017 appendix A.1.1).
fn rsa_bits(key: &SubjectPublicKeyInfoOwned) -> Result<usize, KeyError> {
    let integers: Vec<Uint> = Vec::from_der(key.subject_public_key.raw_bytes()).map_err(KeyError::MalformedRsa)?;
    let Some(modulus) = integers.first().map(Uint::as_bytes) else {
        return Err(KeyError::NoModulus);
    };
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    Ok(modulus.len().saturating_mul(8).saturating_sub(usize::try_from(unused).unwrap_or(0)))
}

/// A certificate of a file.
struct Read {
    der: DerCertificate,
    parsed: Certificate,
    /// The certificate's place in the file, from 1.
    number: usize,
    /// Whether it may issue others (RFC 5280 section 4.2.1.9).
    authority: bool,
}

impl std::fmt::Display for Read {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "certificate {} ({:?})", self.number, self.parsed.tbs_certificate.subject.to_string())
    }
}

impl Read {
    fn new(der: &CertificateDer<'_>, number: usize) -> Result<Read, PemError> {
        let malformed = |why| PemError::MalformedCertificate { certificate: format!("certificate {number}"), why };
        let parsed = Certificate::from_der(der).map_err(malformed)?;
        let constraints: Option<(bool, BasicConstraints)> = parsed.tbs_certificate.get().map_err(malformed)?;
        let authority = constraints.is_some_and(|(_, constraints)| constraints.ca);
        Ok(Read { der: DerCertificate::from_bytes(der), parsed, number, authority })
    }

    fn is_root(&self) -> bool {
        self.authority && self.parsed.tbs_certificate.subject == self.parsed.tbs_certificate.issuer
    }

    fn signs_timestamps(&self) -> Result<bool, PemError> {
        let usage: Option<(bool, ExtendedKeyUsage)> = self
            .parsed
            .tbs_certificate
            .get()
            .map_err(|why| PemError::MalformedCertificate { certificate: self.to_string(), why })?;
        Ok(usage.is_some_and(|(_, usage)| usage.0.iter().any(|oid| oid.to_string() == TIME_STAMPING)))
    }

    /// Whether another certificate issued this one, by name and by signature, with the algorithms that chains are verified with.
    /// Sigstore's own roots have one name and several keys.
    fn is_issued_by(&self, issuer: &Read) -> bool {
        let issuer = &issuer.parsed.tbs_certificate;
        let key = &issuer.subject_public_key_info;
        let (Ok(signed), Some(signature), Some(public)) =
            (self.parsed.tbs_certificate.to_der(), self.parsed.signature.as_bytes(), key.subject_public_key.as_bytes())
        else {
            return false;
        };
        self.parsed.tbs_certificate.issuer == issuer.subject
            && WEBPKI_VERIFICATION_ALGS.iter().any(|algorithm| {
                is(&key.algorithm, algorithm.public_key_alg_id())
                    && is(&self.parsed.signature_algorithm, algorithm.signature_alg_id())
                    && algorithm.verify_signature(public, &signed, signature).is_ok()
            })
    }

    fn valid(&self) -> RangeInclusive<Timestamp> {
        // 99991231235959Z means no end (RFC 5280 section 4.1.2.5), and is a day later than the last time that jiff can represent.
        let time = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        };
        let validity = &self.parsed.tbs_certificate.validity;
        time(validity.not_before)..=time(validity.not_after)
    }
}

/// Whether an algorithm is the same as one of `webpki`, which has it without tag and length (a byte each: they are short).
fn is(algorithm: &AlgorithmIdentifierOwned, other: AlgorithmIdentifier) -> bool {
    algorithm.to_der().is_ok_and(|der| der.get(2..) == Some(other.as_ref()))
}

/// Parses the certificates of a file, each once.
fn certificates(text: &str) -> Result<Vec<Read>, PemError> {
    let mut all: Vec<Read> = Vec::new();
    let found: Vec<CertificateDer<'_>> = sections(text, "CERTIFICATE")?;
    for (index, der) in found.iter().enumerate() {
        if !all.iter().any(|other| other.der.as_bytes() == der.as_ref()) {
            all.push(Read::new(der, index.saturating_add(1))?);
        }
    }
    Ok(all)
}

/// A certificate, its issuer, and so on up to a root.
#[derive(Clone)]
struct Path<'a> {
    certificates: Vec<&'a Read>,
    /// When all of them are valid. Path validation ignores a trust anchor's own validity (RFC 5280 section 6).
    valid: RangeInclusive<Timestamp>,
}

impl Path<'_> {
    fn validity(&self) -> Value {
        json!({ "start": self.valid.start().to_string(), "end": self.valid.end().to_string() })
    }
}

/// Every path that is valid at some time, from each of the certificates up to a root. Self-issued authorities are roots.
///
/// # Errors
/// A certificate without a path, and more than [`TRUST_OBJECTS`] paths.
fn paths(all: &[Read]) -> Result<Vec<Path<'_>>, PemError> {
    let (roots, others): (Vec<&Read>, Vec<&Read>) = all.iter().partition(|certificate| certificate.is_root());
    let mut paths: Vec<Path<'_>> =
        roots.iter().map(|root| Path { certificates: vec![root], valid: root.valid() }).collect();
    paths.retain(|path| !path.valid.is_empty());
    // From the roots down, so that issuers in a circle are never walked.
    let mut done = 0;
    while let Some(path) = paths.get(done).cloned() {
        done = done.saturating_add(1);
        let Some(issuer) = path.certificates.first().filter(|issuer| issuer.authority) else { continue };
        for issued in &others {
            let above = path.certificates.iter().any(|certificate| certificate.number == issued.number);
            let own = issued.valid();
            let valid = *own.start().max(path.valid.start())..=*own.end().min(path.valid.end());
            if !above && !valid.is_empty() && issued.is_issued_by(issuer) {
                let certificates = [&[*issued], path.certificates.as_slice()].concat();
                paths.push(Path { certificates, valid });
            }
        }
        if paths.len() > TRUST_OBJECTS {
            return Err(PemError::TooManyPaths);
        }
    }
    let has_path = |certificate: &Read| {
        paths.iter().any(|path| path.certificates.first().is_some_and(|lowest| lowest.number == certificate.number))
    };
    match all.iter().find(|certificate| !has_path(certificate)) {
        None => Ok(paths),
        Some(certificate) => Err(PemError::NoPath {
            certificate: certificate.to_string(),
            issuer: certificate.parsed.tbs_certificate.issuer.to_string(),
        }),
    }
}

fn chain(path: &[&Read]) -> Value {
    let certificates: Vec<Value> =
        path.iter().map(|certificate| json!({ "rawBytes": certificate.der.to_base64() })).collect();
    json!({ "certificates": certificates })
}

/// Parses all sections of a PEM file (RFC 7468), which must have this label.
fn sections<T: PemObject>(text: &str, label: &'static str) -> Result<Vec<T>, PemError> {
    let labels = labels(text);
    if let Some(other) = labels.iter().find(|other| **other != label) {
        return Err(PemError::OtherLabel { found: (*other).to_owned(), expected: label });
    }
    if labels.len() > TRUST_OBJECTS {
        return Err(PemError::TooMany(label));
    }
    let found: Result<Vec<T>, _> = T::pem_slice_iter(text.as_bytes()).collect();
    // The parser's own text would repeat what it read.
    let found = found.map_err(|error| match error {
        Base64Decode(what) => PemError::Base64(what),
        _ => PemError::Lines,
    })?;
    match (labels.len(), found.len()) {
        (0, 0) => Err(PemError::Empty(label)),
        (present, read) if present == read => Ok(found),
        (present, read) => Err(PemError::Unreadable { read, present }),
    }
}

/// The labels of the sections that begin in a PEM file, whether or not they are well formed.
fn labels(text: &str) -> Vec<&str> {
    text.split(['\n', '\r']).filter_map(label).collect()
}

/// The label of a line. Text that cannot be a label is not repeated, since it may be a private key that lost its line ends.
fn label(line: &str) -> Option<&str> {
    let label = line.trim().strip_prefix("-----BEGIN")?.split('-').next()?.trim();
    let plausible = label.len() <= 40 && label.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' '));
    Some(if plausible { label } else { "section of another kind" })
}
