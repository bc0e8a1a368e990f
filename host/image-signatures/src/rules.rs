//! The seven rules for one signature. A candidate that passes all of them becomes a [`Good`], which nothing else can make.
//!
//! `sigstore-verify` gives the verdict. This module judges beside it what the library leaves open, and both must agree. The library
//! cannot judge entries of intoto 0.0.1, nor a signature without any signing time. There this module alone gives the verdict.

use std::fmt;

use bounded::text::cut;
use jiff::Timestamp;
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::crypto::{KeyAlgorithm, Keyring, SigningScheme, VerificationKey, verify_signature};
use sigstore_verify::types::bundle::{
    MediaType, Rfc3161Timestamp, TimestampVerificationData, VerificationMaterialContent,
};
use sigstore_verify::types::{
    Artifact, Bundle, DerPublicKey, HashAlgorithm, Sha256Hash, SignatureBytes, SignatureContent, TsaAuthority,
};
use sigstore_verify::{
    Error, Policy, PublicKeyVerificationPolicy, TransparencyLogError, VerificationPolicy, Verifier, tsa,
};

use crate::candidate::{Candidate, Purpose, Signed};
use crate::certificate::{Authorities, CertificateError, CtLogs, Identity, Leaf};
use crate::identities::{Identities, NotAllowed};
use crate::limits;
use crate::log::{self, EntryError, Proven};

/// The keys and certificates of a trust root, parsed once.
pub(crate) struct TrustMaterial {
    verifier: Verifier,
    logs: Keyring,
    ct_logs: CtLogs,
    authorities: Authorities,
    timestamping: Vec<TsaAuthority>,
}

impl TrustMaterial {
    pub(crate) fn new(root: &TrustedRoot) -> Result<TrustMaterial, MaterialError> {
        Ok(TrustMaterial {
            verifier: Verifier::new(root).map_err(|error| MaterialError::Verifier(error.to_string()))?,
            logs: root.rekor_keys().map_err(|error| MaterialError::Logs(error.to_string()))?,
            ct_logs: CtLogs::new(root)?,
            authorities: Authorities::new(root)?,
            timestamping: root.tsa_authorities(),
        })
    }
}

/// Why a trust root cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// The library refuses it.
    #[error("{0}")]
    Verifier(String),
    /// A log's key cannot be used.
    #[error("{0}")]
    Logs(String),
    /// The root cannot be written.
    #[error("{0}")]
    Json(serde_json::Error),
    /// A certificate or a key of a certificate transparency log cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// The configuration's requirements of a signature.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requirements {
    pub(crate) identities: Identities,
    pub(crate) public_keys: Vec<DerPublicKey>,
    pub(crate) ignore_tlog: bool,
    pub(crate) ignore_sct: bool,
}

/// The image that signatures are judged for.
pub(crate) struct Subject<'a> {
    /// sha256 of the manifest, lowercase hex.
    pub(crate) digest: &'a str,
    /// The manifest's bytes, if the registry has it.
    pub(crate) manifest: Option<&'a [u8]>,
}

/// What one rule finds about a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFinding {
    /// The rule.
    pub rule: Rule,
    /// Whether the rule holds; `None` where it does not apply.
    pub holds: Option<bool>,
    /// The finding, for operators.
    pub text: String,
}

/// A rule for signatures. The order is the one in which findings are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The candidate has one of the forms that count, within the limits.
    Form = 1,
    /// The signed content names the image.
    Image,
    /// The signature is the signer's, over exactly the signed content.
    Signature,
    /// Every log entry is proven by its log.
    Log,
    /// The certificate's chain is valid at every signing time.
    Certificate,
    /// Every certificate timestamp verifies.
    CertificateTimestamp,
    /// The signer is allowed.
    Identity,
}

impl Rule {
    /// Every rule, in order.
    pub const ALL: [Rule; 7] = [
        Rule::Form,
        Rule::Image,
        Rule::Signature,
        Rule::Log,
        Rule::Certificate,
        Rule::CertificateTimestamp,
        Rule::Identity,
    ];

    /// The rule's number in the documentation, 1 to 7.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The rule's title.
    pub fn title(self) -> &'static str {
        match self {
            Rule::Form => "form",
            Rule::Image => "image",
            Rule::Signature => "signature",
            Rule::Log => "log",
            Rule::Certificate => "certificate",
            Rule::CertificateTimestamp => "certificate timestamp",
            Rule::Identity => "identity",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.number())
    }
}

/// Every finding about one signature or attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureReport {
    /// Where the registry has it, for operators.
    pub source: String,
    /// What it may prove; `None` for a bundle that could not be parsed.
    pub purpose: Option<Purpose>,
    /// The rules' findings, in order.
    pub findings: Vec<RuleFinding>,
}

impl SignatureReport {
    /// The report on something that is no candidate: rule 1 does not hold.
    pub(crate) fn malformed(source: String, purpose: Option<Purpose>, why: &dyn fmt::Display) -> SignatureReport {
        let mut findings = Findings(Vec::new());
        findings.reject(Rule::Form, why);
        SignatureReport { source, purpose, findings: findings.0 }
    }

    /// The number of rules that hold: how near it is to being good.
    pub(crate) fn holding(&self) -> usize {
        self.findings.iter().filter(|finding| finding.holds == Some(true)).count()
    }

    /// The first rule that does not hold.
    pub fn broken(&self) -> Option<Rule> {
        self.findings.iter().find(|finding| finding.holds == Some(false)).map(|finding| finding.rule)
    }

    /// Whether every rule holds.
    pub fn good(&self) -> bool {
        !self.findings.is_empty() && self.findings.iter().all(|finding| finding.holds != Some(false))
    }
}

impl fmt::Display for SignatureReport {
    /// Writes why it is not good.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<String> = self
            .findings
            .iter()
            .filter(|finding| finding.holds == Some(false))
            .map(|finding| format!("rule {}: {}", finding.rule, finding.text))
            .collect();
        write!(formatter, "{}: {}", self.source, reasons.join("; "))
    }
}

/// A good signature: the facts that its evidence proves, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The certificate's subject: its first name in the order DNS, email, IP, URI, other name. `None` for a public key's.
    pub subject: Option<String>,
    /// The OIDC issuer. `None` for a public key's.
    pub issuer: Option<String>,
    /// The signature in base64.
    pub value: String,
    /// The log's id, in hex.
    pub log_id: Option<String>,
    /// The log entry's global index.
    pub log_index: Option<u64>,
    /// When the log integrated the entry, in Unix seconds.
    pub integrated_time: Option<u64>,
    /// The signed entry timestamp in base64.
    pub signed_entry_timestamp: Option<String>,
}

/// A signature or attestation that passed every rule. Only [`judge`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Good {
    signature: Signature,
}

impl Good {
    /// The facts that its evidence proves.
    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }
}

/// Collects the findings of the rules.
struct Findings(Vec<RuleFinding>);

impl Findings {
    /// Adds a rule's outcome: a value and a text where the rule holds.
    fn note<T, E: fmt::Display>(&mut self, rule: Rule, outcome: Result<(T, String), E>) -> Option<T> {
        match outcome {
            Ok((value, text)) => {
                self.0.push(RuleFinding { rule, holds: Some(true), text: shortened(text) });
                Some(value)
            }
            Err(why) => {
                self.reject(rule, &why);
                None
            }
        }
    }

    fn reject(&mut self, rule: Rule, why: &dyn fmt::Display) {
        self.0.push(RuleFinding { rule, holds: Some(false), text: shortened(why.to_string()) });
    }

    fn is_rejected(&self, rule: Rule) -> bool {
        self.0.iter().any(|finding| finding.rule == rule && finding.holds == Some(false))
    }

    fn not_applied(&mut self, rule: Rule, text: &str) {
        self.0.push(RuleFinding { rule, holds: None, text: text.to_owned() });
    }
}

/// A text within [`limits::FINDING`].
fn shortened(text: String) -> String {
    match cut(&text, limits::FINDING) {
        start if start.len() < text.len() => format!("{start}…"),
        _ => text,
    }
}

/// Why a rule does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The bundle names another manifest.
    #[error("it is about another image: the bundle's message digest is sha256:{0}")]
    OtherMessage(String),
    /// The payload names another image.
    #[error("it is about another image, {0:?}")]
    OtherImage(String),
    /// The statement names other images.
    #[error("the statement is about another image: none of its {subjects} subjects is sha256:{digest}")]
    OtherSubjects {
        /// The number of subjects.
        subjects: usize,
        /// The image's digest, in hex.
        digest: String,
    },
    /// The signed manifest is gone.
    #[error("the registry does not have the manifest that is signed")]
    NoManifest,
    /// No signature.
    #[error("there is no signature")]
    NoSignature,
    /// A signature of another key, or over other bytes.
    #[error("the signature is not the certificate's over these bytes")]
    NotTheCertificates,
    /// A signature without a certificate, where only certificates count.
    #[error("it was signed with a key, not with a certificate, and public_keys names no key")]
    NoPublicKeys,
    /// A signature of none of the public keys, or over other bytes.
    #[error("the signature is of no key of public_keys over these bytes")]
    NoKeyMatches,
    /// A certificate, where only public keys count.
    #[error("it was signed with a certificate, and the configuration allows only public_keys")]
    OnlyPublicKeys,
    /// A key that cannot be used.
    #[error("{0}")]
    Key(String),
    /// No log entry.
    #[error("there is no entry of a transparency log")]
    NoEntry,
    /// A log entry that proves nothing of a signature.
    #[error("an entry of intoto 0.0.1 holds no signature, so it proves none")]
    EntryWithoutSignature,
    /// A log entry that is not proven.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A verdict of `sigstore-verify`.
    #[error("{0}")]
    Library(Box<Error>),
    /// The certificate, its chain, its timestamps or its names.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A checkpoint's log was not in use at the signing time.
    #[error("the log {} was not in use at {time}", log.to_hex())]
    LogNotInUse {
        /// The log.
        log: Sha256Hash,
        /// The signing time.
        time: Timestamp,
    },
    /// No signing time.
    #[error("no signing time is proven, by an integrated time under a SET or an RFC 3161 timestamp")]
    NoTime,
    /// A timestamp of an authority that is not in the trust root.
    #[error("the trust root has no timestamp authority for the RFC 3161 timestamp")]
    UnknownTimestampAuthority,
    /// A timestamp that does not verify.
    #[error("the RFC 3161 timestamp does not verify: {0}")]
    Timestamp(tsa::Error),
    /// A signer that is not allowed.
    #[error("{0}")]
    NotAllowed(Box<NotAllowed>),
}

/// Judges a candidate by every rule.
pub(crate) fn judge(
    candidate: &Candidate,
    source: &str,
    subject: &Subject<'_>,
    requirements: &Requirements,
    trust: &TrustMaterial,
) -> (SignatureReport, Option<Good>) {
    let mut findings =
        Findings(vec![RuleFinding { rule: Rule::Form, holds: Some(true), text: form(candidate).to_owned() }]);
    let good = rules(candidate, subject, requirements, trust, &mut findings);
    findings.0.sort_by_key(|finding| finding.rule);
    let report = SignatureReport { source: source.to_owned(), purpose: Some(candidate.purpose), findings: findings.0 };
    let good = good.filter(|_| report.good());
    (report, good)
}

/// The name of a candidate's form.
fn form(candidate: &Candidate) -> &'static str {
    match (&candidate.layer, candidate.bundle.media_type) {
        (Some(_), _) if candidate.purpose == Purpose::Signature => "a .sig layer",
        (Some(_), _) => "a .att layer",
        (None, MediaType::Bundle0_1) => "a bundle v0.1",
        (None, MediaType::Bundle0_2) => "a bundle v0.2",
        (None, _) => "a bundle v0.3",
    }
}

/// Judges rules 2 to 7; answers the signature's facts, which count only if every rule holds.
fn rules(
    candidate: &Candidate,
    subject: &Subject<'_>,
    requirements: &Requirements,
    trust: &TrustMaterial,
    findings: &mut Findings,
) -> Option<Good> {
    let now = Timestamp::now();
    findings.note(Rule::Image, image(candidate, subject).map(|text| ((), text)));
    let signer = findings.note(Rule::Signature, signer(candidate, subject, requirements))?;

    let logged = match requirements.ignore_tlog {
        true => {
            findings.not_applied(Rule::Log, "not looked at: ignore_tlog");
            Vec::new()
        }
        false => findings.note(Rule::Log, logged(candidate, subject, &signer, trust, now)).unwrap_or_default(),
    };
    match &signer {
        Signer::Key(_) => {
            const NO_CERTIFICATE: &str = "signed with a key of public_keys: there is no certificate";
            // A key needs no timestamp, but evidence that is present and wrong is never ignored.
            match candidate.timestamps().iter().find_map(|stamp| match stamped(candidate, stamp, trust) {
                Ok(_) | Err(RuleError::UnknownTimestampAuthority) => None,
                Err(why) => Some(why),
            }) {
                Some(why) => findings.reject(Rule::Certificate, &why),
                None => findings.not_applied(Rule::Certificate, NO_CERTIFICATE),
            }
            findings.not_applied(Rule::CertificateTimestamp, NO_CERTIFICATE);
            findings.not_applied(Rule::Identity, NO_CERTIFICATE);
        }
        Signer::Certificate(leaf) => {
            let issuer = match findings.is_rejected(Rule::Log) && candidate.timestamps().is_empty() {
                true => {
                    findings.not_applied(Rule::Certificate, "not judged: rule 4 gives no signing time");
                    None
                }
                false => findings.note(Rule::Certificate, times(candidate, leaf, &logged, requirements, trust, now)),
            };
            match (requirements.ignore_sct, issuer) {
                (true, _) => findings.not_applied(Rule::CertificateTimestamp, "not looked at: ignore_sct"),
                (false, None) => findings
                    .not_applied(Rule::CertificateTimestamp, "not judged: the issuer of the certificate is not proven"),
                (false, Some(issuer)) => {
                    let scts = trust.ct_logs.check(leaf, &issuer);
                    findings.note(Rule::CertificateTimestamp, scts.map(|count| ((), format!("{count} verified"))));
                }
            }
            findings.note(Rule::Identity, identity(leaf, requirements).map(|text| ((), text)));
        }
    }
    let holds = findings.0.iter().all(|finding| finding.holds != Some(false));
    if holds && let Err((rule, why)) = verdict(candidate, subject, &signer, requirements, trust) {
        findings.0.retain(|finding| finding.rule != rule);
        findings.reject(rule, &why);
    }

    let (subject, issuer) = match signer {
        Signer::Certificate(leaf) => match leaf.identity {
            Ok(Identity { subjects, issuer }) => (subjects.into_iter().next(), issuer),
            // Rule 7 does not hold.
            Err(_) => return None,
        },
        Signer::Key(_) => (None, None),
    };
    let proven = logged.into_iter().next();
    Some(Good {
        signature: Signature {
            subject,
            issuer,
            value: candidate.value.clone(),
            log_id: proven.as_ref().map(|proven| proven.log_id.to_hex()),
            log_index: proven.as_ref().and_then(|proven| proven.log_index),
            integrated_time: proven
                .as_ref()
                .and_then(|proven| proven.integrated)
                .and_then(|time| u64::try_from(time.as_second()).ok()),
            signed_entry_timestamp: proven.and_then(|proven| proven.set),
        },
    })
}

/// Rule 2: the signed content names this image.
fn image(candidate: &Candidate, subject: &Subject<'_>) -> Result<String, RuleError> {
    let this = format!("sha256:{}", subject.digest);
    match &candidate.signed {
        Signed::Manifest => match candidate.message_digest() {
            Some(digest) if digest != subject.digest => Err(RuleError::OtherMessage(digest)),
            _ => Ok("the manifest itself is signed".to_owned()),
        },
        Signed::Payload { digest, .. } if *digest == this => Ok(this),
        Signed::Payload { digest, .. } => Err(RuleError::OtherImage(digest.clone())),
        Signed::Statement { subjects, predicate_type } => {
            match subjects.iter().any(|digest| digest == subject.digest) {
                true => Ok(format!("{this}, a statement of type {predicate_type}")),
                false => Err(RuleError::OtherSubjects { subjects: subjects.len(), digest: subject.digest.to_owned() }),
            }
        }
    }
}

/// The signer: rule 3 found that the signature is the signer's.
enum Signer {
    Certificate(Box<Leaf>),
    Key(DerPublicKey),
}

impl Signer {
    fn key(&self) -> &DerPublicKey {
        match self {
            Signer::Certificate(leaf) => &leaf.key,
            Signer::Key(key) => key,
        }
    }
}

/// Rule 3: the signature over exactly these bytes is the certificate's, or of a public key of the configuration.
fn signer(
    candidate: &Candidate,
    subject: &Subject<'_>,
    requirements: &Requirements,
) -> Result<(Signer, String), RuleError> {
    let message;
    let bytes: &[u8] = match (&candidate.bundle.content, &candidate.signed) {
        (SignatureContent::DsseEnvelope(envelope), _) => {
            message = envelope.pae();
            &message
        }
        (_, Signed::Payload { bytes, .. }) => bytes,
        _ => subject.manifest.ok_or(RuleError::NoManifest)?,
    };
    let signature = candidate.signature().ok_or(RuleError::NoSignature)?;
    if let Some(certificate) = candidate.certificate() {
        let leaf = Leaf::new(certificate)?;
        let scheme = scheme(candidate, &leaf.key)?;
        verify_signature(&leaf.key, bytes, signature, scheme).map_err(|_| RuleError::NotTheCertificates)?;
        return Ok((Signer::Certificate(Box::new(leaf)), format!("{} with the certificate's key", scheme.name())));
    }
    if requirements.public_keys.is_empty() {
        return Err(RuleError::NoPublicKeys);
    }
    for key in &requirements.public_keys {
        let Ok(scheme) = scheme(candidate, key) else { continue };
        if verify_signature(key, bytes, signature, scheme).is_ok() {
            return Ok((Signer::Key(key.clone()), format!("{} with a key of public_keys", scheme.name())));
        }
    }
    Err(RuleError::NoKeyMatches)
}

/// The PEM text of the signer's certificate or key, under which the log has the signature. `None` where no entry of the log can make
/// the signature good, because rule 2, 3 or 7 does not hold.
pub(crate) fn signer_pem(candidate: &Candidate, subject: &Subject<'_>, requirements: &Requirements) -> Option<String> {
    image(candidate, subject).ok()?;
    match signer(candidate, subject, requirements).ok()?.0 {
        Signer::Certificate(leaf) => {
            identity(&leaf, requirements).ok()?;
            candidate.certificate().map(|certificate| certificate.to_pem())
        }
        Signer::Key(key) => Some(key.to_pem()),
    }
}

/// Checks that a key is of a kind that signatures can be verified with.
pub(crate) fn check_key(key: &DerPublicKey) -> Result<(), RuleError> {
    VerificationKey::from_spki(key).map(|_| ()).map_err(|error| RuleError::Key(error.to_string()))
}

/// The scheme of a candidate's signature under a key.
fn scheme(candidate: &Candidate, key: &DerPublicKey) -> Result<SigningScheme, RuleError> {
    let algorithm = KeyAlgorithm::from_spki(key).map_err(|error| RuleError::Key(error.to_string()))?;
    let hash = match (&candidate.bundle.content, &candidate.layer) {
        (SignatureContent::MessageSignature(_), Some(_)) => Some(HashAlgorithm::Sha2256),
        (SignatureContent::MessageSignature(message), None) => {
            message.message_digest.as_ref().map(|digest| digest.algorithm)
        }
        _ => None,
    };
    match hash {
        Some(hash) => algorithm.resolve_signing_scheme(hash).map_err(|error| RuleError::Key(error.to_string())),
        None => Ok(algorithm.default_signing_scheme()),
    }
}

/// Rule 4: the log entries are proven, and about this signature.
fn logged(
    candidate: &Candidate,
    subject: &Subject<'_>,
    signer: &Signer,
    trust: &TrustMaterial,
    now: Timestamp,
) -> Result<(Vec<Proven>, String), RuleError> {
    if candidate.entries().is_empty() {
        return Err(RuleError::NoEntry);
    }
    let mut proven = Vec::new();
    for entry in candidate.entries() {
        proven.push(log::prove(entry, candidate.required, &trust.logs, now)?);
    }
    match (candidate.intoto_v001, &candidate.layer) {
        (true, _) if candidate.purpose == Purpose::Signature => {
            return Err(RuleError::EntryWithoutSignature);
        }
        (true, Some(layer)) => {
            for entry in candidate.entries() {
                let body = entry.canonicalized_body.as_bytes();
                log::about_layer(body, layer, candidate.certificate(), signer.key())?;
            }
        }
        _ => match library(candidate, subject, signer, trust, Judging::Log) {
            Ok(()) => {}
            // Rule 5 gives the better reason.
            Err(Error::Timestamp(_) | Error::TransparencyLog(TransparencyLogError::IntegratedTime(_))) => {}
            Err(error) => return Err(RuleError::Library(Box::new(error))),
        },
    }
    let text = match proven.first() {
        Some(Proven { log_index: Some(index), log_id, .. }) => format!("entry {index} of log {}", log_id.to_hex()),
        Some(Proven { log_id, .. }) => format!("included in log {}", log_id.to_hex()),
        None => String::new(),
    };
    Ok((proven, text))
}

/// Rule 5: every signing time lies within the validity of the certificate and its CA, and there is at least one. Answers the key of
/// the certificate's issuer.
fn times(
    candidate: &Candidate,
    leaf: &Leaf,
    logged: &[Proven],
    requirements: &Requirements,
    trust: &TrustMaterial,
    now: Timestamp,
) -> Result<(DerPublicKey, String), RuleError> {
    let mut times: Vec<(Timestamp, &str)> =
        logged.iter().filter_map(|proven| proven.integrated).map(|time| (time, "integrated")).collect();
    for timestamp in candidate.timestamps() {
        match stamped(candidate, timestamp, trust) {
            Ok(time) => times.push((time, "timestamped")),
            // In a .sig, a timestamp of an unknown authority is ignored beside a time that is proven.
            Err(RuleError::UnknownTimestampAuthority)
                if candidate.layer.is_some() && candidate.purpose == Purpose::Signature && !times.is_empty() => {}
            Err(why) => return Err(why),
        }
    }
    if times.is_empty() && requirements.ignore_tlog {
        times.push((now, "now, for want of a signing time"));
    }
    let mut issuer = None;
    for (time, _) in &times {
        issuer = Some(trust.authorities.chain(leaf, *time)?);
        // Rule 4 compared an integrated time with its log's key. An entry that only a checkpoint proves has no other time than this.
        if let Some(Proven { log_id, .. }) = logged
            .iter()
            .find(|proven| proven.integrated.is_none() && trust.logs.key_at(&proven.log_id, *time).is_none())
        {
            return Err(RuleError::LogNotInUse { log: *log_id, time: *time });
        }
    }
    let issuer = issuer.ok_or(RuleError::NoTime)?;
    let texts: Vec<String> = times.iter().map(|(time, what)| format!("{what} {time}")).collect();
    Ok((issuer, format!("valid when signed: {}", texts.join(", "))))
}

/// Verifies an RFC 3161 timestamp; answers its time.
fn stamped(candidate: &Candidate, timestamp: &Rfc3161Timestamp, trust: &TrustMaterial) -> Result<Timestamp, RuleError> {
    // cosign stamps the whole envelope of a .att layer, and the signature of everything else.
    let signature = match (&candidate.layer, candidate.purpose) {
        (Some(layer), Purpose::Attestation) => SignatureBytes::new(layer.to_vec()),
        _ => candidate.signature().cloned().ok_or(RuleError::NoSignature)?,
    };
    let token = timestamp.signed_timestamp.as_bytes().into();
    let mut reason = RuleError::UnknownTimestampAuthority;
    for authority in &trust.timestamping {
        match tsa::verify_timestamp_for_authority(&token, &signature, authority) {
            Ok(time) => return Ok(time),
            // The library has no other sign than this text for a token of another authority.
            Err(tsa::Error::SignatureVerificationError(why)) if why.contains("does not match any trusted TSA") => {}
            Err(error) => reason = RuleError::Timestamp(error),
        }
    }
    Err(reason)
}

/// Rule 7: the configuration allows the signer.
fn identity(leaf: &Leaf, requirements: &Requirements) -> Result<String, RuleError> {
    let Identity { subjects, issuer } = leaf.identity.as_ref().map_err(CertificateError::clone)?;
    if requirements.identities.is_empty() && !requirements.public_keys.is_empty() {
        return Err(RuleError::OnlyPublicKeys);
    }
    let allowed = requirements.identities.allow(issuer.as_deref().unwrap_or_default(), subjects);
    allowed.map_err(|why| RuleError::NotAllowed(Box::new(why)))
}

/// What `sigstore-verify` judges.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judging {
    /// The log entries, whatever the certificate.
    Log,
    /// Everything that applies.
    Everything { ignore_tlog: bool },
}

/// The library's verdict on everything that it can represent; an error with the rule that it is about.
fn verdict(
    candidate: &Candidate,
    subject: &Subject<'_>,
    signer: &Signer,
    requirements: &Requirements,
    trust: &TrustMaterial,
) -> Result<(), (Rule, RuleError)> {
    let everything = Judging::Everything { ignore_tlog: requirements.ignore_tlog };
    // Without an entry and without a timestamp the library has no time to judge at. Rules 3 and 5 have judged everything.
    let untimed = requirements.ignore_tlog && (candidate.layer.is_some() || candidate.timestamps().is_empty());
    if candidate.intoto_v001 || untimed {
        return Ok(());
    }
    library(candidate, subject, signer, trust, everything).map_err(|error| {
        let rule = match &error {
            Error::SignatureInvalid(_) => Rule::Signature,
            Error::Certificate(_) | Error::Timestamp(_) => Rule::Certificate,
            Error::TransparencyLog(TransparencyLogError::IntegratedTime(_)) => Rule::Certificate,
            Error::InvalidBundle(_) | Error::UnsupportedBundle(_) | Error::Bundle(_) | Error::Types(_) => Rule::Form,
            // Under ignore_tlog no error may name the log.
            _ if requirements.ignore_tlog => Rule::Signature,
            _ => Rule::Log,
        };
        (rule, RuleError::Library(Box::new(error)))
    })
}

/// Asks the library.
fn library(
    candidate: &Candidate,
    subject: &Subject<'_>,
    signer: &Signer,
    trust: &TrustMaterial,
    judging: Judging,
) -> Result<(), Error> {
    let ignore_tlog = judging == Judging::Everything { ignore_tlog: true };
    let bundle = representable(candidate, ignore_tlog);
    let artifact: Artifact<'_> = match &candidate.signed {
        Signed::Payload { bytes, .. } => Artifact::from(bytes.as_ref()),
        Signed::Manifest => Artifact::from(subject.manifest.unwrap_or_default()),
        Signed::Statement { .. } => Artifact::from(Sha256Hash::from_hex(subject.digest)?),
    };
    let policy: Box<dyn Policy> = match signer {
        Signer::Key(key) => {
            let policy = PublicKeyVerificationPolicy::new(key.clone());
            Box::new(if ignore_tlog { policy.skip_tlog_unsafe() } else { policy })
        }
        Signer::Certificate(_) => {
            // The library verifies one certificate timestamp only. Rule 6 verifies all.
            let mut policy = VerificationPolicy::any_identity().skip_sct();
            if judging == Judging::Log {
                policy = policy.skip_certificate_chain();
            }
            // The log is not required of the library: a `.sig` has a SET and no inclusion proof, and rule 4 has proven either.
            Box::new(if ignore_tlog { policy.skip_tlog_unsafe() } else { policy })
        }
    };
    trust.verifier.verify(artifact, &bundle, &*policy).map(|_| ())
}

/// The candidate in a form that the library can judge.
fn representable(candidate: &Candidate, ignore_tlog: bool) -> Bundle {
    let mut bundle = candidate.bundle.clone();
    if candidate.layer.is_some() {
        // Rule 5 judges the timestamps of layers. A .att has them over the envelope, and a .sig may have an unknown one.
        bundle.verification_material.timestamp_verification_data = TimestampVerificationData::default();
    }
    if ignore_tlog {
        bundle.verification_material.tlog_entries.clear();
        if let VerificationMaterialContent::Certificate(_) = bundle.verification_material.content {
            bundle.media_type = MediaType::Bundle0_3;
        }
    }
    bundle
}
