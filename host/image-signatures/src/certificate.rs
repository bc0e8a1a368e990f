//! Rules 5 and 6. The signing certificate chains to a CA of the trust root at every signing time. Its certificate timestamps (SCTs)
//! are of logs of the trust root.

use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::crypto::{Keyring, SigningScheme, WEBPKI_VERIFICATION_ALGS};
use sigstore_verify::types::{DerCertificate, DerPublicKey, Sha256Hash, SignatureBytes, TimeRange};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Any, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Tag};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SignedCertificateTimestampList, SubjectAltName};

use crate::limits;

/// Fulcio's issuer, as a UTF8String, and its older form, as bare text
/// (<https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md>).
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const ISSUER_RAW: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
/// Fulcio's other name, whose value is a UTF8String.
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
/// The list of embedded certificate timestamps (RFC 6962, 3.3).
const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
/// Code signing (RFC 5280, section 4.2.1.12): the identifier, and its bytes after tag and length.
const CODE_SIGNING_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// A signing certificate.
pub(crate) struct Leaf {
    certificate: Certificate,
    der: DerCertificate,
    /// The certificate's key.
    pub(crate) key: DerPublicKey,
    /// The signer that the certificate names, or why that cannot be said.
    pub(crate) identity: Result<Identity, CertificateError>,
}

/// The signer that a certificate names.
pub(crate) struct Identity {
    /// Every subject alternative name, in the order DNS, email, IP, URI, other name.
    pub(crate) subjects: Vec<String>,
    /// The OIDC issuer.
    pub(crate) issuer: Option<String>,
}

/// What is wrong with a signing certificate, its chain or its certificate timestamps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A certificate that cannot be parsed.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// A part of a certificate that cannot be parsed.
    #[error("the certificate's {0} is malformed")]
    MalformedPart(&'static str),
    /// A key that cannot be parsed.
    #[error("the certificate's key is malformed: {0}")]
    MalformedKey(x509_cert::der::Error),
    /// A certificate authority's key that cannot be parsed.
    #[error("the CA's key is malformed: {0}")]
    MalformedAuthorityKey(x509_cert::der::Error),
    /// A certificate of the trust root that cannot be parsed.
    #[error("a CA certificate of the trust root is malformed: {0}")]
    MalformedAuthority(String),
    /// The keys of the trust root's logs cannot be used.
    #[error("{0}")]
    CtKeys(String),
    /// A signing time outside the certificate's validity.
    #[error("{time} is outside the certificate's validity, {validity}")]
    Validity {
        /// The signing time.
        time: Timestamp,
        /// The validity.
        validity: Span,
    },
    /// A signing time outside the root's validity.
    #[error("{time} is outside the validity of the CA's root certificate, {validity}")]
    RootValidity {
        /// The signing time.
        time: Timestamp,
        /// The validity.
        validity: Span,
    },
    /// A signing time outside an intermediate's validity.
    #[error("{0} is outside the validity of the CA's intermediate certificate")]
    IntermediateValidity(Timestamp),
    /// A signing time that webpki cannot represent.
    #[error("{0} is before 1970")]
    Before1970(Timestamp),
    /// A certificate for another purpose.
    #[error("the certificate is not for code signing (extended key usage)")]
    Usage,
    /// A trust root without certificate authorities.
    #[error("the trust root has no certificate authority")]
    NoAuthority,
    /// A certificate authority that was not in use at the signing time.
    #[error("at {0} the trust root's certificate authority was not in use")]
    AuthorityNotInUse(Timestamp),
    /// No path leads to a certificate authority.
    #[error("the certificate does not chain to a CA of the trust root for code signing at {time}: {error:?}")]
    Chain {
        /// The signing time.
        time: Timestamp,
        /// What webpki says.
        error: webpki::Error,
    },
    /// A list of SCTs that cannot be parsed.
    #[error("the list of SCTs is malformed")]
    MalformedScts,
    /// A certificate without an SCT.
    #[error("the certificate has no certificate timestamp (SCT)")]
    NoSct,
    /// More SCTs than are verified.
    #[error("the certificate has more than {0} SCTs")]
    TooManyScts(usize),
    /// An SCT that does not verify.
    #[error("certificate timestamp (SCT) {number} of {count} {why}")]
    Sct {
        /// The SCT's place in the list, from 1.
        number: usize,
        /// The SCTs in the list.
        count: usize,
        /// What is wrong with it.
        why: SctError,
    },
    /// A subject alternative name with a control character.
    #[error("the certificate's subject alternative name has a control character")]
    ControlCharacter,
    /// One extension twice.
    #[error("the certificate names its issuer twice")]
    TwoIssuerExtensions,
    /// Extensions that disagree.
    #[error("the certificate names two issuers, {0:?} and {1:?}")]
    TwoIssuers(String, String),
}

/// What is wrong with one certificate timestamp. The text completes a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SctError {
    /// It cannot be parsed.
    #[error("is malformed")]
    Malformed,
    /// Its signature's algorithm is none that logs use.
    #[error("has an unsupported signature algorithm")]
    Algorithm,
    /// Its time cannot be represented.
    #[error("has a time out of range")]
    Time,
    /// Its log is not in the trust root.
    #[error("is of the log {}, which the trust root does not have at {time}", log.to_hex())]
    UnknownLog {
        /// The log.
        log: Sha256Hash,
        /// The SCT's time.
        time: Timestamp,
    },
    /// What it signs does not fit its length field.
    #[error("is too large")]
    TooLarge,
    /// Its signature is not the log's, or not over this certificate.
    #[error("is not the log's over this certificate")]
    Signature,
}

/// A validity: two times, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first time.
    pub since: Timestamp,
    /// The last time.
    pub until: Timestamp,
}

impl std::fmt::Display for Span {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} to {}", self.since, self.until)
    }
}

fn key_of(certificate: &Certificate) -> Result<DerPublicKey, CertificateError> {
    let der = certificate.tbs_certificate.subject_public_key_info.to_der();
    der.map(DerPublicKey::new).map_err(CertificateError::MalformedKey)
}

impl Leaf {
    /// Parses a signing certificate.
    pub(crate) fn new(der: &DerCertificate) -> Result<Leaf, CertificateError> {
        let certificate = Certificate::from_der(der.as_bytes()).map_err(malformed)?;
        let identity = subjects(&certificate)
            .and_then(|subjects| issuer(&certificate).map(|issuer| Identity { subjects, issuer }));
        Ok(Leaf { key: key_of(&certificate)?, der: der.clone(), identity, certificate })
    }

    /// Whether its extended key usage has code signing.
    fn signs_code(&self) -> Result<bool, CertificateError> {
        let usage: Option<(bool, ExtendedKeyUsage)> = self
            .certificate
            .tbs_certificate
            .get()
            .map_err(|_| CertificateError::MalformedPart("extended key usage"))?;
        Ok(usage.is_some_and(|(_, usage)| usage.0.contains(&CODE_SIGNING_OID)))
    }

    /// Checks that the certificate is valid at a time.
    fn valid_at(&self, time: Timestamp) -> Result<(), CertificateError> {
        valid_at(&self.certificate, time).map_err(|validity| CertificateError::Validity { time, validity })
    }
}

/// The certificate authorities of a trust root.
pub(crate) struct Authorities(Vec<Authority>);

struct Authority {
    root: CertificateDer<'static>,
    root_certificate: Certificate,
    intermediates: Vec<CertificateDer<'static>>,
    window: Option<TimeRange>,
}

impl Authorities {
    /// The CAs of `root`. The last certificate of each chain is its trust anchor.
    pub(crate) fn new(root: &TrustedRoot) -> Result<Authorities, CertificateError> {
        let mut authorities = Vec::new();
        for authority in &root.certificate_authorities {
            let Some((root, intermediates)) = authority.cert_chain.certificates.split_last() else { continue };
            authorities.push(Authority {
                root: CertificateDer::from(root.raw_bytes.as_bytes().to_vec()),
                root_certificate: Certificate::from_der(root.raw_bytes.as_bytes())
                    .map_err(|error| CertificateError::MalformedAuthority(error.to_string()))?,
                intermediates: intermediates
                    .iter()
                    .map(|certificate| CertificateDer::from(certificate.raw_bytes.as_bytes().to_vec()))
                    .collect(),
                window: authority.valid_for,
            });
        }
        Ok(Authorities(authorities))
    }

    /// Checks that the certificate chains to a CA for code signing with everything valid at `time`; answers the key of its direct issuer.
    /// Only the trust root's own intermediates count: one that came with the signature may have been taken out of the trust root.
    pub(crate) fn chain(&self, leaf: &Leaf, time: Timestamp) -> Result<DerPublicKey, CertificateError> {
        leaf.valid_at(time)?;
        if !leaf.signs_code()? {
            return Err(CertificateError::Usage);
        }
        let mut reason = CertificateError::NoAuthority;
        // Of several reasons the one of the authority with the issuer's name says most.
        let mut named = false;
        for authority in &self.0 {
            match authority.chain(leaf, time) {
                Ok(issuer) => return Ok(issuer),
                Err(why) if !named => {
                    named = authority.may_have_issued(leaf);
                    reason = why;
                }
                Err(_) => {}
            }
        }
        Err(reason)
    }
}

impl Authority {
    /// Whether a certificate of the authority has the name of the leaf's issuer.
    fn may_have_issued(&self, leaf: &Leaf) -> bool {
        let issuer = &leaf.certificate.tbs_certificate.issuer;
        let names = |der: &CertificateDer<'_>| {
            Certificate::from_der(der).is_ok_and(|certificate| certificate.tbs_certificate.subject == *issuer)
        };
        self.intermediates.iter().chain([&self.root]).any(names)
    }

    fn chain(&self, leaf: &Leaf, time: Timestamp) -> Result<DerPublicKey, CertificateError> {
        if self.window.is_some_and(|window| !window.contains(time)) {
            return Err(CertificateError::AuthorityNotInUse(time));
        }
        valid_at(&self.root_certificate, time).map_err(|validity| CertificateError::RootValidity { time, validity })?;
        let seconds = u64::try_from(time.as_second()).map_err(|_| CertificateError::Before1970(time))?;
        let anchor = webpki::anchor_from_trusted_cert(&self.root)
            .map_err(|error| CertificateError::MalformedAuthority(error.to_string()))?;
        let der = CertificateDer::from(leaf.der.as_bytes());
        let end_entity = EndEntityCert::try_from(&der).map_err(malformed)?;
        let anchors = [anchor];
        let path = end_entity
            .verify_for_usage(
                WEBPKI_VERIFICATION_ALGS,
                &anchors,
                &self.intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                // A CA without the extension may issue for every usage (RFC 5280, section 4.2.1.12). The leaf has been checked.
                KeyUsage::required_if_present(CODE_SIGNING),
                None,
                None,
            )
            .map_err(|error| match error {
                // The validity of the leaf and the root was checked before.
                webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
                    CertificateError::IntermediateValidity(time)
                }
                error => CertificateError::Chain { time, error },
            })?;
        let issuer = match path.intermediate_certificates().next() {
            Some(issuer) => issuer.subject_public_key_info().as_ref().to_vec(),
            // An anchor's key comes without its outer SEQUENCE.
            None => Any::new(Tag::Sequence, path.anchor().subject_public_key_info.as_ref())
                .and_then(|any| any.to_der())
                .map_err(CertificateError::MalformedAuthorityKey)?,
        };
        Ok(DerPublicKey::new(issuer))
    }
}

fn malformed(error: impl std::fmt::Display) -> CertificateError {
    CertificateError::Malformed(error.to_string())
}

/// Checks that `time` is in a certificate's validity; the error is the validity.
fn valid_at(certificate: &Certificate, time: Timestamp) -> Result<(), Span> {
    let validity = certificate.tbs_certificate.validity;
    let since = Timestamp::try_from(validity.not_before.to_system_time()).unwrap_or(Timestamp::MAX);
    // "No well-defined expiration date" (RFC 5280, section 4.1.2.5) is later than the last time that jiff can represent.
    let until = Timestamp::try_from(validity.not_after.to_system_time()).unwrap_or(Timestamp::MAX);
    match since <= time && time <= until {
        true => Ok(()),
        false => Err(Span { since, until }),
    }
}

/// The certificate transparency logs of a trust root, by signature scheme.
pub(crate) struct CtLogs(Vec<(u16, Keyring)>);

impl CtLogs {
    pub(crate) fn new(root: &TrustedRoot) -> Result<CtLogs, CertificateError> {
        // SignatureAndHashAlgorithm (RFC 5246, 7.4.1.4.1).
        [
            (0x0403, SigningScheme::EcdsaP256Sha256),
            (0x0503, SigningScheme::EcdsaP384Sha384),
            (0x0401, SigningScheme::RsaPkcs1Sha256),
            (0x0501, SigningScheme::RsaPkcs1Sha384),
            (0x0601, SigningScheme::RsaPkcs1Sha512),
        ]
        .into_iter()
        .map(|(code, scheme)| root.ctfe_keys(scheme).map(|keys| (code, keys)))
        .collect::<Result<_, _>>()
        .map(CtLogs)
        .map_err(|error| CertificateError::CtKeys(error.to_string()))
    }

    /// Checks that every embedded certificate timestamp verifies and that there is at least one; answers their number.
    pub(crate) fn check(&self, leaf: &Leaf, issuer: &DerPublicKey) -> Result<usize, CertificateError> {
        let list: Option<(bool, SignedCertificateTimestampList)> =
            leaf.certificate.tbs_certificate.get().map_err(|_| CertificateError::MalformedScts)?;
        let (_, list) = list.ok_or(CertificateError::NoSct)?;
        let scts = list.parse_timestamps().map_err(|_| CertificateError::MalformedScts)?;
        if scts.is_empty() {
            return Err(CertificateError::NoSct);
        }
        if scts.len() > limits::SCTS {
            return Err(CertificateError::TooManyScts(limits::SCTS));
        }
        let precertificate = precertificate(&leaf.certificate)?;
        for (number, sct) in scts.iter().enumerate() {
            let wrong = |why| CertificateError::Sct { number: number + 1, count: scts.len(), why };
            let sct = sct.parse_timestamp().map_err(|_| wrong(SctError::Malformed))?;
            let algorithm = (sct.signature.algorithm.hash as u16) << 8 | sct.signature.algorithm.signature as u16;
            let keys = self.0.iter().find_map(|(code, keys)| (*code == algorithm).then_some(keys));
            let keys = keys.ok_or(wrong(SctError::Algorithm))?;
            let issued = i64::try_from(sct.timestamp).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
            let issued = issued.ok_or(wrong(SctError::Time))?;
            let id = Sha256Hash::new(sct.log_id.key_id);
            let key = keys.key_at(&id, issued);
            let key = key.ok_or(wrong(SctError::UnknownLog { log: id, time: issued }))?;
            let signed = signed_data(sct.timestamp, issuer, &precertificate, sct.extensions.as_slice())
                .ok_or(wrong(SctError::TooLarge))?;
            let signature = SignatureBytes::new(sct.signature.signature.as_slice().to_vec());
            key.verify(signed, &signature).map_err(|_| wrong(SctError::Signature))?;
        }
        Ok(scts.len())
    }
}

/// The precertificate that a log signed: the certificate without its list of timestamps (RFC 6962, section 3.2).
fn precertificate(certificate: &Certificate) -> Result<Vec<u8>, CertificateError> {
    let mut precertificate = certificate.tbs_certificate.clone();
    if let Some(extensions) = &mut precertificate.extensions {
        extensions.retain(|extension| extension.extn_id != SCT_LIST);
    }
    precertificate.to_der().map_err(malformed)
}

/// The bytes that a timestamp's signature covers (RFC 6962, section 3.2); `None` when a length does not fit its field.
fn signed_data(timestamp: u64, issuer: &DerPublicKey, precertificate: &[u8], extensions: &[u8]) -> Option<Vec<u8>> {
    let mut data = vec![0, 0]; // v1, certificate_timestamp
    data.extend(timestamp.to_be_bytes());
    data.extend([0, 1]); // precert_entry
    data.extend(sigstore_verify::crypto::sha256(issuer.as_bytes()).as_slice());
    let length = u32::try_from(precertificate.len()).ok().filter(|length| *length < 1 << 24)?;
    data.extend(length.to_be_bytes().into_iter().skip(1));
    data.extend(precertificate);
    data.extend(u16::try_from(extensions.len()).ok()?.to_be_bytes());
    data.extend(extensions);
    Some(data)
}

/// Every subject alternative name that counts, in the order in which one of them becomes the signature's subject.
fn subjects(certificate: &Certificate) -> Result<Vec<String>, CertificateError> {
    let malformed = |_| CertificateError::MalformedPart("subject alternative name");
    let names: Option<(bool, SubjectAltName)> = certificate.tbs_certificate.get().map_err(malformed)?;
    let Some((_, names)) = names else { return Ok(Vec::new()) };
    let mut subjects: Vec<(u8, String)> = Vec::new();
    for name in &names.0 {
        subjects.push(match name {
            GeneralName::DnsName(name) => (0, name.to_string()),
            GeneralName::Rfc822Name(name) => (1, name.to_string()),
            GeneralName::IpAddress(bytes) => (2, ip_address(bytes.as_bytes())?),
            GeneralName::UniformResourceIdentifier(name) => (3, name.to_string()),
            GeneralName::OtherName(name) if name.type_id == OTHER_NAME => {
                let text = name.value.decode_as::<Utf8StringRef<'_>>().map_err(malformed)?;
                (4, text.as_str().to_owned())
            }
            _ => continue,
        });
    }
    if subjects.iter().any(|(_, subject)| subject.contains(char::is_control)) {
        return Err(CertificateError::ControlCharacter);
    }
    subjects.sort_by_key(|(order, _)| *order);
    subjects.retain(|(_, subject)| !subject.is_empty());
    Ok(subjects.into_iter().map(|(_, subject)| subject).collect())
}

fn ip_address(bytes: &[u8]) -> Result<String, CertificateError> {
    let four = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from));
    address.map(|address| address.to_string()).map_err(|_| CertificateError::MalformedPart("IP address"))
}

/// The OIDC issuer, of which Fulcio has two extensions.
fn issuer(certificate: &Certificate) -> Result<Option<String>, CertificateError> {
    let malformed = || CertificateError::MalformedPart("issuer extension");
    let mut found = [None, None];
    for extension in certificate.tbs_certificate.extensions.iter().flatten() {
        let bytes = extension.extn_value.as_bytes();
        let (place, text) = match extension.extn_id {
            ISSUER => (0, Utf8StringRef::from_der(bytes).map_err(|_| malformed())?.as_str()),
            ISSUER_RAW => (1, std::str::from_utf8(bytes).map_err(|_| malformed())?),
            _ => continue,
        };
        if let Some(place) = found.get_mut(place) {
            if place.is_some() {
                return Err(CertificateError::TwoIssuerExtensions);
            }
            if text.contains(char::is_control) {
                return Err(malformed());
            }
            *place = Some(text.to_owned());
        }
    }
    match found {
        [Some(one), Some(other)] if one != other => Err(CertificateError::TwoIssuers(one, other)),
        [one, other] => Ok(one.or(other).filter(|issuer| !issuer.is_empty())),
    }
}
