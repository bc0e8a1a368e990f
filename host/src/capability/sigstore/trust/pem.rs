//! What the variables of cosign name: PEM files, made into the arrays of a trusted_root.json.

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use sigstore_verify::crypto::{KeyAlgorithm, SigningScheme, VerificationKey, sha256, validate_raw_public_key};
use sigstore_verify::types::{DerCertificate, DerPublicKey, SignatureBytes};
use x509_cert::Certificate;
use x509_cert::der::asn1::Uint;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{self, Decode, Encode as _};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

/// Keys or certificates of one file: each is compared with each.
const OBJECTS: usize = 64;
/// id-kp-timeStamping (RFC 3161 section 2.3).
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";

/// `certificateAuthorities` of certificate authorities in any order: self-issued ones are roots, others intermediates.
/// Every path of issuers is an authority, from the authority that issued no other of the file up to its root.
///
/// # Errors
/// No certificate, one that is no authority's, and one without its issuer.
pub(super) fn authorities(text: &str) -> Result<Value, String> {
    let all = certificates(text)?;
    let mut issuers = vec![false; all.len()];
    let mut paths = Vec::new();
    for (index, certificate) in all.iter().enumerate() {
        if !certificate.is_authority()? {
            return Err(format!(
                "{certificate} is no certificate authority's (basicConstraints): only roots and intermediates belong here"
            ));
        }
        let mut path = vec![certificate];
        let mut last = index;
        while let Some(issued) = all.get(last).filter(|issued| !issued.is_self_issued()) {
            let issuer = issuer(issued, &all)?;
            if path.len() > all.len() {
                return Err(format!("{certificate}: its issuers are a circle: the root is missing"));
            }
            path.extend(all.get(issuer));
            if let Some(mark) = issuers.get_mut(issuer) {
                *mark = true;
            }
            last = issuer;
        }
        paths.push(path);
    }
    let authorities: Result<Vec<Value>, String> = paths
        .iter()
        .zip(issuers)
        .filter(|(_, issuer)| !issuer)
        .map(|(path, _)| Ok(json!({ "uri": "", "certChain": chain(path), "validFor": validity(path)? })))
        .collect();
    Ok(Value::Array(authorities?))
}

/// `timestampAuthorities` of one chain: the certificate of the timestamp authority, intermediates, root.
///
/// # Errors
/// Any other order, and a first certificate that signs no timestamps.
pub(super) fn timestamp_authority(text: &str) -> Result<Value, String> {
    const ORDER: &str = "write the timestamp authority's certificate, its intermediates, and the root, in this order";
    let all = certificates(text)?;
    for (index, certificate) in all.iter().enumerate() {
        let leaf = index == 0;
        if leaf == certificate.is_authority()? {
            let what = if leaf { "is a certificate authority's" } else { "is no certificate authority's" };
            return Err(format!("{certificate} {what}: {ORDER}"));
        }
        if leaf && !certificate.signs_timestamps()? {
            return Err(format!("{certificate} is not for timestamps (extended key usage timeStamping): {ORDER}"));
        }
        match all.get(index.saturating_add(1)) {
            None if certificate.is_self_issued() => {}
            None => return Err(format!("{certificate} is last and no root: {ORDER}")),
            Some(issuer) if certificate.is_signed_by(issuer)? => {}
            Some(issuer) => return Err(format!("{certificate} was not issued by {issuer}: {ORDER}")),
        }
    }
    let path: Vec<&Read> = all.iter().collect();
    Ok(json!([{ "certChain": chain(&path), "validFor": validity(&path)? }]))
}

/// `tlogs` or `ctlogs` of public keys, whose log id is the hash of the key (RFC 6962 section 3.2).
///
/// # Errors
/// No key, a malformed one, one that is there twice, and one of a kind that is not in `kinds`.
pub(super) fn logs(text: &str, kinds: &[&str]) -> Result<Value, String> {
    const PKCS1: &str = "RSA PUBLIC KEY";
    if labels(text).contains(&PKCS1) {
        return Err(format!(
            "holds a {PKCS1}: write it as PUBLIC KEY, with `openssl rsa -RSAPublicKey_in -in FILE -pubout`"
        ));
    }
    let keys: Vec<SubjectPublicKeyInfoDer<'_>> = sections(text, "PUBLIC KEY")?;
    let logs: Result<Vec<Value>, String> = keys
        .iter()
        .enumerate()
        .map(|(index, der)| {
            let key = DerPublicKey::from_bytes(der);
            let details = key_details(&key, kinds).map_err(|reason| format!("key {}: {reason}", index + 1))?;
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
fn key_details(key: &DerPublicKey, kinds: &[&str]) -> Result<&'static str, String> {
    let unsupported = |what: &str| format!("{what}: take one of {}", kinds.join(", "));
    let read = SubjectPublicKeyInfoOwned::from_der(key.as_bytes()).map_err(|error| format!("malformed: {error}"))?;
    let algorithm = KeyAlgorithm::from_spki(key).map_err(|error| unsupported(&error.to_string()))?;
    let (kind, scheme, details) = match algorithm {
        KeyAlgorithm::EcdsaP256 => ("P-256", SigningScheme::EcdsaP256Sha256, "PKIX_ECDSA_P256_SHA_256"),
        KeyAlgorithm::EcdsaP384 => ("P-384", SigningScheme::EcdsaP384Sha384, "PKIX_ECDSA_P384_SHA_384"),
        KeyAlgorithm::Ed25519 => ("Ed25519", SigningScheme::Ed25519, "PKIX_ED25519"),
        KeyAlgorithm::Rsa => {
            let details = match rsa_bits(&read)? {
                2048 => "PKIX_RSA_PKCS1V15_2048_SHA256",
                3072 => "PKIX_RSA_PKCS1V15_3072_SHA256",
                4096 => "PKIX_RSA_PKCS1V15_4096_SHA256",
                bits => {
                    return Err(unsupported(&format!(
                        "RSA of {bits} bits is not supported, only of 2048, 3072 and 4096"
                    )));
                }
            };
            ("RSA", SigningScheme::RsaPkcs1Sha256, details)
        }
        other => return Err(unsupported(&format!("{other:?} is not supported"))),
    };
    if !kinds.contains(&kind) {
        return Err(unsupported(&format!("{kind} is not supported here")));
    }
    validate_raw_public_key(scheme, read.subject_public_key.raw_bytes()).map_err(|error| super::chain(&error))?;
    Ok(details)
}

/// Bits of an RSA key's modulus (RFC 8017 appendix A.1.1).
fn rsa_bits(key: &SubjectPublicKeyInfoOwned) -> Result<usize, String> {
    let integers: Vec<Uint> =
        Vec::from_der(key.subject_public_key.raw_bytes()).map_err(|error| format!("malformed RSA key: {error}"))?;
    let Some(modulus) = integers.first().map(Uint::as_bytes) else {
        return Err("malformed RSA key: no modulus".to_owned());
    };
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    Ok(modulus.len().saturating_mul(8).saturating_sub(usize::try_from(unused).unwrap_or(0)))
}

/// A certificate of a file.
struct Read {
    der: DerCertificate,
    parsed: Certificate,
    /// Its place in the file, from 1.
    number: usize,
}

impl std::fmt::Display for Read {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "certificate {} ({:?})", self.number, self.parsed.tbs_certificate.subject.to_string())
    }
}

impl Read {
    fn is_self_issued(&self) -> bool {
        self.parsed.tbs_certificate.subject == self.parsed.tbs_certificate.issuer
    }

    fn is_authority(&self) -> Result<bool, String> {
        let constraints: Option<(bool, BasicConstraints)> = self.extension()?;
        Ok(constraints.is_some_and(|(_, constraints)| constraints.ca))
    }

    fn signs_timestamps(&self) -> Result<bool, String> {
        let usage: Option<(bool, ExtendedKeyUsage)> = self.extension()?;
        Ok(usage.is_some_and(|(_, usage)| usage.0.iter().any(|oid| oid.to_string() == TIME_STAMPING)))
    }

    fn extension<'a, T: Decode<'a> + AssociatedOid>(&'a self) -> Result<Option<(bool, T)>, String> {
        self.parsed
            .tbs_certificate
            .get::<T>()
            .map_err(|error| format!("{self}: malformed extension {}: {error}", T::OID))
    }

    /// By name and by signature: sigstore's own roots have one name and several keys.
    fn is_signed_by(&self, issuer: &Read) -> Result<bool, String> {
        if self.parsed.tbs_certificate.issuer != issuer.parsed.tbs_certificate.subject {
            return Ok(false);
        }
        let malformed = |error: der::Error| format!("{self}: malformed: {error}");
        let key = issuer.parsed.tbs_certificate.subject_public_key_info.to_der().map_err(malformed)?;
        let key = DerPublicKey::new(key);
        let algorithm = KeyAlgorithm::from_spki(&key).map_err(|error| format!("{issuer}: {error}"))?;
        let oid = self.parsed.signature_algorithm.oid.to_string();
        // RFC 5758 section 3.2, RFC 8017 appendix A.2.4, RFC 8410 section 3.
        let scheme = match (algorithm, oid.as_str()) {
            (KeyAlgorithm::EcdsaP256, "1.2.840.10045.4.3.2") => SigningScheme::EcdsaP256Sha256,
            (KeyAlgorithm::EcdsaP256, "1.2.840.10045.4.3.3") => SigningScheme::EcdsaP256Sha384,
            (KeyAlgorithm::EcdsaP384, "1.2.840.10045.4.3.2") => SigningScheme::EcdsaP384Sha256,
            (KeyAlgorithm::EcdsaP384, "1.2.840.10045.4.3.3") => SigningScheme::EcdsaP384Sha384,
            (KeyAlgorithm::Rsa, "1.2.840.113549.1.1.11") => SigningScheme::RsaPkcs1Sha256,
            (KeyAlgorithm::Rsa, "1.2.840.113549.1.1.12") => SigningScheme::RsaPkcs1Sha384,
            (KeyAlgorithm::Rsa, "1.2.840.113549.1.1.13") => SigningScheme::RsaPkcs1Sha512,
            (KeyAlgorithm::Ed25519, "1.3.101.112") => SigningScheme::Ed25519,
            (key, _) => return Err(format!("{self}: signature algorithm {oid} of {key:?} is not supported")),
        };
        let key = VerificationKey::from_spki_with_scheme(&key, scheme).map_err(|error| format!("{issuer}: {error}"))?;
        let signed = self.parsed.tbs_certificate.to_der().map_err(malformed)?;
        Ok(key.verify(&signed, &SignatureBytes::from_bytes(self.parsed.signature.raw_bytes())).is_ok())
    }
}

/// Where the issuer of a certificate is.
fn issuer(issued: &Read, all: &[Read]) -> Result<usize, String> {
    for (index, candidate) in all.iter().enumerate() {
        if issued.is_signed_by(candidate)? {
            return Ok(index);
        }
    }
    let issuer = issued.parsed.tbs_certificate.issuer.to_string();
    Err(format!("{issued}: its issuer ({issuer:?}) is not in the file: add the certificates up to the root"))
}

fn certificates(text: &str) -> Result<Vec<Read>, String> {
    let mut all: Vec<Read> = Vec::new();
    let found: Vec<CertificateDer<'_>> = sections(text, "CERTIFICATE")?;
    for (index, der) in found.iter().enumerate() {
        let number = index.saturating_add(1);
        let parsed = Certificate::from_der(der).map_err(|error| format!("certificate {number}: malformed: {error}"))?;
        if !all.iter().any(|other| other.der.as_bytes() == der.as_ref()) {
            all.push(Read { der: DerCertificate::from_bytes(der), parsed, number });
        }
    }
    Ok(all)
}

fn chain(path: &[&Read]) -> Value {
    let certificates: Vec<Value> =
        path.iter().map(|certificate| json!({ "rawBytes": certificate.der.to_base64() })).collect();
    json!({ "certificates": certificates })
}

/// When all certificates of a path are valid: a trust anchor's own validity is looked at by nobody (RFC 5280 section 6).
fn validity(path: &[&Read]) -> Result<Value, String> {
    let time = |certificate: &Read, time: x509_cert::time::Time| {
        i64::try_from(time.to_unix_duration().as_secs())
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or_else(|| format!("{certificate}: its validity is out of range"))
    };
    let mut start = Timestamp::MIN;
    let mut end = Timestamp::MAX;
    for certificate in path {
        let validity = &certificate.parsed.tbs_certificate.validity;
        start = start.max(time(certificate, validity.not_before)?);
        end = end.min(time(certificate, validity.not_after)?);
    }
    match start <= end {
        true => Ok(json!({ "start": start.to_string(), "end": end.to_string() })),
        false => {
            let all: Vec<String> = path.iter().map(ToString::to_string).collect();
            Err(format!("{} are never valid at the same time", all.join(", ")))
        }
    }
}

/// All sections of a PEM file (RFC 7468), which must have this label.
fn sections<T: PemObject>(text: &str, label: &str) -> Result<Vec<T>, String> {
    let labels = labels(text);
    if let Some(other) = labels.iter().find(|other| **other != label) {
        return Err(format!("holds a {other}: only PEM of {label} belongs here"));
    }
    if labels.len() > OBJECTS {
        return Err(format!("holds more than {OBJECTS} of {label}"));
    }
    let found: Result<Vec<T>, _> = T::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|error| format!("malformed PEM: {error}"))?;
    match (labels.len(), found.len()) {
        (0, 0) => Err(format!("holds no PEM of {label}")),
        (there, read) if there == read => Ok(found),
        (there, read) => Err(format!("malformed PEM: {read} of {there} sections can be read")),
    }
}

/// The labels of what begins in a PEM file, whether or not it is well formed.
fn labels(text: &str) -> Vec<&str> {
    let label = |line| str::strip_prefix(str::trim(line), "-----BEGIN");
    text.lines().filter_map(label).map(|label| label.trim_end_matches('-').trim()).collect()
}
