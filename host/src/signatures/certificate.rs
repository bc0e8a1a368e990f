//! Rules 5 and 6: the signing certificate chains to a CA of the trust root at every signing time, and its certificate
//! timestamps are of a log of the trust root.

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

/// Fulcio's issuer, as a UTF8String, and its older form, as bare text
/// (<https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md>).
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const ISSUER_RAW: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
/// Fulcio's text inside an other name.
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
/// The list of embedded certificate timestamps (RFC 6962, 3.3).
const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
/// Code signing (RFC 5280, 4.2.1.12), and the same as the bytes after tag and length.
const CODE_SIGNING_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// Certificate timestamps in one certificate.
const SCTS: usize = 16;

/// A signing certificate.
pub(super) struct Leaf {
    certificate: Certificate,
    der: DerCertificate,
    /// Its key.
    pub(super) key: DerPublicKey,
    /// Whom it names, or why that cannot be said.
    pub(super) identity: Result<Identity, String>,
}

/// Whom a certificate names.
pub(super) struct Identity {
    /// Every subject alternative name, in the order DNS, email, IP, URI, other name.
    pub(super) subjects: Vec<String>,
    /// The OIDC issuer.
    pub(super) issuer: Option<String>,
}

fn key_of(certificate: &Certificate) -> Result<DerPublicKey, String> {
    let der = certificate.tbs_certificate.subject_public_key_info.to_der();
    der.map(DerPublicKey::new).map_err(|error| format!("the certificate's key is malformed: {error}"))
}

impl Leaf {
    /// Parses a signing certificate.
    pub(super) fn new(der: &DerCertificate) -> Result<Leaf, String> {
        let certificate =
            Certificate::from_der(der.as_bytes()).map_err(|error| format!("the certificate is malformed: {error}"))?;
        let identity = subjects(&certificate)
            .and_then(|subjects| issuer(&certificate).map(|issuer| Identity { subjects, issuer }));
        Ok(Leaf { key: key_of(&certificate)?, der: der.clone(), identity, certificate })
    }

    /// Whether its extended key usage has code signing.
    fn signs_code(&self) -> Result<bool, String> {
        let usage: Option<(bool, ExtendedKeyUsage)> = self
            .certificate
            .tbs_certificate
            .get()
            .map_err(|_| "the certificate's extended key usage is malformed".to_owned())?;
        Ok(usage.is_some_and(|(_, usage)| usage.0.contains(&CODE_SIGNING_OID)))
    }

    /// Whether the certificate is valid at a time.
    fn valid_at(&self, time: Timestamp) -> Result<(), String> {
        valid_at(&self.certificate, time)
            .map_err(|span| format!("{time} is outside the certificate's validity, {span}"))
    }
}

/// The certificate authorities of a trust root.
pub(super) struct Authorities(Vec<Authority>);

struct Authority {
    root: CertificateDer<'static>,
    root_certificate: Certificate,
    intermediates: Vec<CertificateDer<'static>>,
    window: Option<TimeRange>,
}

impl Authorities {
    /// The CAs of `root`: of each chain the last certificate is what is trusted.
    pub(super) fn new(root: &TrustedRoot) -> Result<Authorities, String> {
        let mut authorities = Vec::new();
        for authority in &root.certificate_authorities {
            let Some((root, intermediates)) = authority.cert_chain.certificates.split_last() else { continue };
            authorities.push(Authority {
                root: CertificateDer::from(root.raw_bytes.as_bytes().to_vec()),
                root_certificate: Certificate::from_der(root.raw_bytes.as_bytes())
                    .map_err(|error| format!("a CA certificate of the trust root is malformed: {error}"))?,
                intermediates: intermediates
                    .iter()
                    .map(|certificate| CertificateDer::from(certificate.raw_bytes.as_bytes().to_vec()))
                    .collect(),
                window: authority.valid_for,
            });
        }
        Ok(Authorities(authorities))
    }

    /// Whether the certificate chains to a CA for code signing with everything valid at `time`; the key of its direct issuer.
    /// Only the trust root's own intermediates count: one that came with the signature may have been taken out of it.
    pub(super) fn chain(&self, leaf: &Leaf, time: Timestamp) -> Result<DerPublicKey, String> {
        leaf.valid_at(time)?;
        if !leaf.signs_code()? {
            return Err("the certificate is not for code signing (extended key usage)".to_owned());
        }
        let mut reason = "the trust root has no certificate authority".to_owned();
        // Of several reasons the one of the authority that bears the issuer's name says most.
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

    fn chain(&self, leaf: &Leaf, time: Timestamp) -> Result<DerPublicKey, String> {
        if self.window.is_some_and(|window| !window.contains(time)) {
            return Err(format!("at {time} the trust root's certificate authority was not in use"));
        }
        valid_at(&self.root_certificate, time)
            .map_err(|span| format!("{time} is outside the validity of the CA's root certificate, {span}"))?;
        let seconds = u64::try_from(time.as_second()).map_err(|_| format!("{time} is before 1970"))?;
        let anchor = webpki::anchor_from_trusted_cert(&self.root)
            .map_err(|error| format!("a CA certificate of the trust root is malformed: {error}"))?;
        let der = CertificateDer::from(leaf.der.as_bytes());
        let end_entity =
            EndEntityCert::try_from(&der).map_err(|error| format!("the certificate is malformed: {error}"))?;
        let anchors = [anchor];
        let path = end_entity
            .verify_for_usage(
                WEBPKI_VERIFICATION_ALGS,
                &anchors,
                &self.intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                // A CA without the extension may issue for every usage (RFC 5280, 4.2.1.12); the leaf has been looked at.
                KeyUsage::required_if_present(CODE_SIGNING),
                None,
                None,
            )
            .map_err(|error| match error {
                // Of the leaf and the root that was asked before.
                webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
                    format!("{time} is outside the validity of the CA's intermediate certificate")
                }
                error => format!(
                    "the certificate does not chain to a CA of the trust root for code signing at {time}: {error:?}"
                ),
            })?;
        let issuer = match path.intermediate_certificates().next() {
            Some(issuer) => issuer.subject_public_key_info().as_ref().to_vec(),
            // An anchor's key comes without its outer SEQUENCE.
            None => Any::new(Tag::Sequence, path.anchor().subject_public_key_info.as_ref())
                .and_then(|any| any.to_der())
                .map_err(|error| format!("the CA's key is malformed: {error}"))?,
        };
        Ok(DerPublicKey::new(issuer))
    }
}

/// The validity as text, when `time` is outside it.
fn valid_at(certificate: &Certificate, time: Timestamp) -> Result<(), String> {
    let validity = certificate.tbs_certificate.validity;
    let since = Timestamp::try_from(validity.not_before.to_system_time()).unwrap_or(Timestamp::MAX);
    // "No well-defined expiration date" (RFC 5280, 4.1.2.5) is later than the last time that can be represented.
    let until = Timestamp::try_from(validity.not_after.to_system_time()).unwrap_or(Timestamp::MAX);
    match since <= time && time <= until {
        true => Ok(()),
        false => Err(format!("{since} to {until}")),
    }
}

/// The certificate transparency logs of a trust root, by signature scheme.
pub(super) struct CtLogs(Vec<(u16, Keyring)>);

impl CtLogs {
    pub(super) fn new(root: &TrustedRoot) -> Result<CtLogs, String> {
        // SignatureAndHashAlgorithm (RFC 5246, 7.4.1.4.1).
        [
            (0x0403, SigningScheme::EcdsaP256Sha256),
            (0x0503, SigningScheme::EcdsaP384Sha384),
            (0x0401, SigningScheme::RsaPkcs1Sha256),
            (0x0501, SigningScheme::RsaPkcs1Sha384),
            (0x0601, SigningScheme::RsaPkcs1Sha512),
        ]
        .into_iter()
        .map(|(code, scheme)| root.ctfe_keys(scheme).map(|keys| (code, keys)).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()
        .map(CtLogs)
    }

    /// Every embedded certificate timestamp verifies, and there is at least one; how many there are.
    pub(super) fn check(&self, leaf: &Leaf, issuer: &DerPublicKey) -> Result<usize, String> {
        let list: Option<(bool, SignedCertificateTimestampList)> =
            leaf.certificate.tbs_certificate.get().map_err(|_| "the list of SCTs is malformed".to_owned())?;
        let none = || "the certificate has no certificate timestamp (SCT)".to_owned();
        let (_, list) = list.ok_or_else(none)?;
        let scts = list.parse_timestamps().map_err(|_| "the list of SCTs is malformed".to_owned())?;
        if scts.is_empty() {
            return Err(none());
        }
        if scts.len() > SCTS {
            return Err(format!("the certificate has more than {SCTS} SCTs"));
        }
        let precertificate = precertificate(&leaf.certificate)?;
        for (number, sct) in scts.iter().enumerate() {
            let which = format!("certificate timestamp (SCT) {} of {}", number + 1, scts.len());
            let sct = sct.parse_timestamp().map_err(|_| format!("{which} is malformed"))?;
            let algorithm = (sct.signature.algorithm.hash as u16) << 8 | sct.signature.algorithm.signature as u16;
            let keys = self.0.iter().find_map(|(code, keys)| (*code == algorithm).then_some(keys));
            let keys = keys.ok_or_else(|| format!("{which} has an unsupported signature algorithm"))?;
            let issued = i64::try_from(sct.timestamp).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
            let issued = issued.ok_or_else(|| format!("{which} has a time out of range"))?;
            let id = Sha256Hash::new(sct.log_id.key_id);
            let key = keys.key_at(&id, issued).ok_or_else(|| {
                format!("{which} is of the log {}, which the trust root does not have at {issued}", id.to_hex())
            })?;
            let signed = signed_data(sct.timestamp, issuer, &precertificate, sct.extensions.as_slice())
                .ok_or_else(|| format!("{which} is too large"))?;
            let signature = SignatureBytes::new(sct.signature.signature.as_slice().to_vec());
            key.verify(signed, &signature).map_err(|_| format!("{which} is not the log's over this certificate"))?;
        }
        Ok(scts.len())
    }
}

/// The certificate that a log signed: without the list of timestamps (RFC 6962, 3.2).
fn precertificate(certificate: &Certificate) -> Result<Vec<u8>, String> {
    let mut precertificate = certificate.tbs_certificate.clone();
    if let Some(extensions) = &mut precertificate.extensions {
        extensions.retain(|extension| extension.extn_id != SCT_LIST);
    }
    precertificate.to_der().map_err(|error| format!("the certificate is malformed: {error}"))
}

/// What a timestamp's signature covers (RFC 6962, 3.2); none when a length does not fit.
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

fn subjects(certificate: &Certificate) -> Result<Vec<String>, String> {
    let malformed = |_| "the certificate's subject alternative name is malformed".to_owned();
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
        return Err("the certificate's subject alternative name has a control character".to_owned());
    }
    subjects.sort_by_key(|(order, _)| *order);
    subjects.retain(|(_, subject)| !subject.is_empty());
    Ok(subjects.into_iter().map(|(_, subject)| subject).collect())
}

fn ip_address(bytes: &[u8]) -> Result<String, String> {
    let four = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from));
    address.map(|address| address.to_string()).map_err(|_| "the certificate's IP address is malformed".to_owned())
}

fn issuer(certificate: &Certificate) -> Result<Option<String>, String> {
    let malformed = || "the certificate's issuer extension is malformed".to_owned();
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
                return Err("the certificate names its issuer twice".to_owned());
            }
            if text.contains(char::is_control) {
                return Err(malformed());
            }
            *place = Some(text.to_owned());
        }
    }
    match found {
        [Some(one), Some(other)] if one != other => {
            Err(format!("the certificate names two issuers, {one:?} and {other:?}"))
        }
        [one, other] => Ok(one.or(other).filter(|issuer| !issuer.is_empty())),
    }
}
