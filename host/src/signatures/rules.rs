//! The seven rules for one signature. What passes becomes a [`Good`], which nothing else can make.
//!
//! The verdict is `sigstore-verify`'s; what it leaves open is judged here beside it, and both must agree. It cannot be asked
//! about entries of intoto 0.0.1, nor where there is no signing time at all: there, what is judged here is the verdict.

use std::fmt;

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

use super::certificate::{Authorities, CtLogs, Identity, Leaf};
use super::identities::Identities;
use super::log::{self, Proven};
use super::material::{Candidate, Purpose, Signed};
use crate::sandbox::bindings::docker_attestor::policy::sigstore::Signature;

/// The trust root, taken apart once.
pub(super) struct Trust {
    verifier: Verifier,
    logs: Keyring,
    ct_logs: CtLogs,
    authorities: Authorities,
    timestamping: Vec<TsaAuthority>,
}

impl Trust {
    pub(super) fn new(root: &TrustedRoot) -> Result<Trust, String> {
        Ok(Trust {
            verifier: Verifier::new(root).map_err(|error| error.to_string())?,
            logs: root.rekor_keys().map_err(|error| error.to_string())?,
            ct_logs: CtLogs::new(root)?,
            authorities: Authorities::new(root)?,
            timestamping: root.tsa_authorities(),
        })
    }
}

/// What the configuration demands of a signature.
#[derive(Debug, Clone, Default)]
pub(super) struct Demands {
    pub(super) identities: Identities,
    pub(super) public_keys: Vec<DerPublicKey>,
    pub(super) ignore_tlog: bool,
    pub(super) ignore_sct: bool,
}

/// The image that signatures are judged for.
pub(super) struct Subject<'a> {
    /// sha256 of the manifest, lowercase hex.
    pub(super) digest: &'a str,
    /// The manifest, if the registry has it.
    pub(super) manifest: Option<&'a [u8]>,
}

/// What one rule says of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Whether it holds; none where it does not apply.
    pub holds: Option<bool>,
    /// What was found.
    pub text: String,
}

/// A rule for signatures, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// It is one of the forms that count, within the limits.
    Form = 1,
    /// What is signed names the image.
    Image,
    /// The signature is the signer's, over exactly what is signed.
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
    /// Its number, 1 to 7, under which the operator's page has it.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its title.
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

/// What was found of one signature or attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Where it is.
    pub source: String,
    /// What it may prove; none for a bundle that does not even say so.
    pub purpose: Option<Purpose>,
    /// The rules' findings, in order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Something that is no candidate: rule 1.
    pub(super) fn malformed(source: String, purpose: Option<Purpose>, why: String) -> Report {
        let mut findings = Findings(Vec::new());
        findings.note(Rule::Form, Err::<((), String), _>(why));
        Report { source, purpose, findings: findings.0 }
    }

    /// How many rules hold: how near it is to being good.
    pub(super) fn holding(&self) -> usize {
        self.findings.iter().filter(|finding| finding.holds == Some(true)).count()
    }

    /// Whether every rule holds.
    pub fn good(&self) -> bool {
        !self.findings.is_empty() && self.findings.iter().all(|finding| finding.holds != Some(false))
    }
}

impl fmt::Display for Report {
    /// Why it was passed over.
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

/// A signature or attestation that passed every rule. Only [`judge`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Good {
    signature: Signature,
}

impl Good {
    /// What the evidence covers.
    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }
}

/// Collects what the rules say.
struct Findings(Vec<Finding>);

impl Findings {
    fn note<T>(&mut self, rule: Rule, outcome: Result<(T, String), String>) -> Option<T> {
        let (value, holds, text) = match outcome {
            Ok((value, text)) => (Some(value), true, text),
            Err(text) => (None, false, text),
        };
        // Whoever can push to the registry chooses parts of this text.
        let text = cut(text);
        self.0.push(Finding { rule, holds: Some(holds), text });
        value
    }

    fn not_applied(&mut self, rule: Rule, text: &str) {
        self.0.push(Finding { rule, holds: None, text: text.to_owned() });
    }
}

/// The first bytes of a reason, as many as anybody reads.
fn cut(mut text: String) -> String {
    const LONGEST: usize = 400;
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// Judges a candidate by every rule.
pub(super) fn judge(
    candidate: &Candidate,
    source: &str,
    subject: &Subject<'_>,
    demands: &Demands,
    trust: &Trust,
) -> (Report, Option<Good>) {
    let mut findings =
        Findings(vec![Finding { rule: Rule::Form, holds: Some(true), text: form(candidate).to_owned() }]);
    let good = rules(candidate, subject, demands, trust, &mut findings);
    findings.0.sort_by_key(|finding| finding.rule);
    let report = Report { source: source.to_owned(), purpose: Some(candidate.purpose), findings: findings.0 };
    let good = good.filter(|_| report.good());
    (report, good)
}

fn form(candidate: &Candidate) -> &'static str {
    match (&candidate.layer, candidate.bundle.media_type) {
        (Some(_), _) if candidate.purpose == Purpose::Signature => "a .sig layer",
        (Some(_), _) => "a .att layer",
        (None, MediaType::Bundle0_1) => "a bundle v0.1",
        (None, MediaType::Bundle0_2) => "a bundle v0.2",
        (None, _) => "a bundle v0.3",
    }
}

fn rules(
    candidate: &Candidate,
    subject: &Subject<'_>,
    demands: &Demands,
    trust: &Trust,
    findings: &mut Findings,
) -> Option<Good> {
    let now = Timestamp::now();
    findings.note(Rule::Image, image(candidate, subject).map(|text| ((), text)));
    let signer = findings.note(Rule::Signature, signer(candidate, subject, demands))?;

    let logged = match demands.ignore_tlog {
        true => {
            findings.not_applied(Rule::Log, "not looked at: ignore_tlog");
            Vec::new()
        }
        false => findings.note(Rule::Log, logged(candidate, subject, &signer, trust, now)).unwrap_or_default(),
    };
    match &signer {
        Signer::Key(_) => {
            const NO_CERTIFICATE: &str = "signed with a key of public_keys: there is no certificate";
            // A timestamp is not needed, but evidence that is there and wrong is never passed over.
            match candidate.timestamps().iter().find_map(|stamp| match stamped(candidate, stamp, trust) {
                Err(Untimed::Wrong(why)) => Some(why),
                _ => None,
            }) {
                Some(why) => drop(findings.note(Rule::Certificate, Err::<((), String), _>(why))),
                None => findings.not_applied(Rule::Certificate, NO_CERTIFICATE),
            }
            findings.not_applied(Rule::CertificateTimestamp, NO_CERTIFICATE);
            findings.not_applied(Rule::Identity, NO_CERTIFICATE);
        }
        Signer::Certificate(leaf) => {
            let unlogged = findings.0.iter().any(|finding| finding.rule == Rule::Log && finding.holds == Some(false));
            let issuer = match unlogged && candidate.timestamps().is_empty() {
                true => {
                    findings.not_applied(Rule::Certificate, "not judged: rule 4 gives no signing time");
                    None
                }
                false => findings.note(Rule::Certificate, times(candidate, leaf, &logged, demands, trust, now)),
            };
            match (demands.ignore_sct, issuer) {
                (true, _) => findings.not_applied(Rule::CertificateTimestamp, "not looked at: ignore_sct"),
                (false, None) => findings
                    .not_applied(Rule::CertificateTimestamp, "not judged: the issuer of the certificate is not proven"),
                (false, Some(issuer)) => {
                    let scts = trust.ct_logs.check(leaf, &issuer);
                    findings.note(Rule::CertificateTimestamp, scts.map(|count| ((), format!("{count} verified"))));
                }
            }
            findings.note(Rule::Identity, identity(leaf, demands).map(|text| ((), text)));
        }
    }
    let holds = findings.0.iter().all(|finding| finding.holds != Some(false));
    if holds && let Err((rule, why)) = verdict(candidate, subject, &signer, demands, trust) {
        findings.0.retain(|finding| finding.rule != rule);
        findings.note(rule, Err::<((), String), _>(why));
    }

    let (subject, issuer) = match signer {
        Signer::Certificate(leaf) => match leaf.identity {
            Ok(Identity { subjects, issuer }) => (subjects.into_iter().next(), issuer),
            // Rule 7 has said so.
            Err(_) => return None,
        },
        Signer::Key(_) => (None, None),
    };
    let proven = logged.into_iter().next();
    Some(Good {
        signature: Signature {
            subject,
            issuer,
            value: Some(candidate.value.clone()),
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

/// Rule 2: what is signed names this image.
fn image(candidate: &Candidate, subject: &Subject<'_>) -> Result<String, String> {
    let this = format!("sha256:{}", subject.digest);
    match &candidate.signed {
        Signed::Manifest => match candidate.message_digest() {
            Some(digest) if digest != subject.digest => {
                Err(format!("it is about another image: the bundle's message digest is sha256:{digest}"))
            }
            _ => Ok("the manifest itself is signed".to_owned()),
        },
        Signed::Payload { digest, .. } if *digest == this => Ok(this),
        Signed::Payload { digest, .. } => Err(format!("it is about another image, {digest:?}")),
        Signed::Statement { subjects, predicate_type } => {
            match subjects.iter().any(|digest| digest == subject.digest) {
                true => Ok(format!("{this}, a statement of type {predicate_type}")),
                false => Err(format!(
                    "the statement is about another image: none of its {} subjects is {this}",
                    subjects.len()
                )),
            }
        }
    }
}

/// Who signed: rule 3 found that the signature is this one's.
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

/// Rule 3: the signature over exactly these bytes is the leaf's, or of a key of the configuration.
fn signer(candidate: &Candidate, subject: &Subject<'_>, demands: &Demands) -> Result<(Signer, String), String> {
    let message;
    let bytes: &[u8] = match (&candidate.bundle.content, &candidate.signed) {
        (SignatureContent::DsseEnvelope(envelope), _) => {
            message = envelope.pae();
            &message
        }
        (_, Signed::Payload { bytes, .. }) => bytes,
        _ => subject.manifest.ok_or("the registry does not have the manifest that is signed")?,
    };
    let signature = candidate.signature().ok_or("there is no signature")?;
    if let Some(certificate) = candidate.certificate() {
        let leaf = Leaf::new(certificate)?;
        let scheme = scheme(candidate, &leaf.key)?;
        verify_signature(&leaf.key, bytes, signature, scheme)
            .map_err(|_| "the signature is not the certificate's over these bytes".to_owned())?;
        return Ok((Signer::Certificate(Box::new(leaf)), format!("{} with the certificate's key", scheme.name())));
    }
    if demands.public_keys.is_empty() {
        return Err("it was signed with a key, not with a certificate, and public_keys names no key".to_owned());
    }
    for key in &demands.public_keys {
        let Ok(scheme) = scheme(candidate, key) else { continue };
        if verify_signature(key, bytes, signature, scheme).is_ok() {
            return Ok((Signer::Key(key.clone()), format!("{} with a key of public_keys", scheme.name())));
        }
    }
    Err("the signature is of no key of public_keys over these bytes".to_owned())
}

/// The PEM text of whoever signed, which is what the log knows the signature by; none when it is not worth a look there,
/// because rule 2, 3 or 7 does not hold whatever the log says.
pub(super) fn signer_pem(candidate: &Candidate, subject: &Subject<'_>, demands: &Demands) -> Option<String> {
    image(candidate, subject).ok()?;
    match signer(candidate, subject, demands).ok()?.0 {
        Signer::Certificate(leaf) => {
            identity(&leaf, demands).ok()?;
            candidate.certificate().map(|certificate| certificate.to_pem())
        }
        Signer::Key(key) => Some(key.to_pem()),
    }
}

/// Whether a key is of a kind that can be verified with.
pub(super) fn check_key(key: &DerPublicKey) -> Result<(), String> {
    VerificationKey::from_spki(key).map(|_| ()).map_err(|error| error.to_string())
}

fn scheme(candidate: &Candidate, key: &DerPublicKey) -> Result<SigningScheme, String> {
    let algorithm = KeyAlgorithm::from_spki(key).map_err(|error| error.to_string())?;
    let hash = match (&candidate.bundle.content, &candidate.layer) {
        (SignatureContent::MessageSignature(_), Some(_)) => Some(HashAlgorithm::Sha2256),
        (SignatureContent::MessageSignature(message), None) => {
            message.message_digest.as_ref().map(|digest| digest.algorithm)
        }
        _ => None,
    };
    match hash {
        Some(hash) => algorithm.resolve_signing_scheme(hash).map_err(|error| error.to_string()),
        None => Ok(algorithm.default_signing_scheme()),
    }
}

/// Rule 4: the log entries are proven, and about this signature.
fn logged(
    candidate: &Candidate,
    subject: &Subject<'_>,
    signer: &Signer,
    trust: &Trust,
    now: Timestamp,
) -> Result<(Vec<Proven>, String), String> {
    if candidate.entries().is_empty() {
        return Err("there is no entry of a transparency log".to_owned());
    }
    let mut proven = Vec::new();
    for entry in candidate.entries() {
        proven.push(log::prove(entry, candidate.required, &trust.logs, now)?);
    }
    match (candidate.intoto_v001, &candidate.layer) {
        (true, _) if candidate.purpose == Purpose::Signature => {
            return Err("an entry of intoto 0.0.1 holds no signature, so it proves none".to_owned());
        }
        (true, Some(layer)) => {
            for entry in candidate.entries() {
                let body = entry.canonicalized_body.as_bytes();
                log::about_layer(body, layer, candidate.certificate(), signer.key())?;
            }
        }
        _ => match library(candidate, subject, signer, trust, Judging::Log) {
            Ok(()) => {}
            // Rule 5 says it better.
            Err(Error::Timestamp(_) | Error::TransparencyLog(TransparencyLogError::IntegratedTime(_))) => {}
            Err(error) => return Err(error.to_string()),
        },
    }
    let text = match proven.first() {
        Some(Proven { log_index: Some(index), log_id, .. }) => format!("entry {index} of log {}", log_id.to_hex()),
        Some(Proven { log_id, .. }) => format!("included in log {}", log_id.to_hex()),
        None => String::new(),
    };
    Ok((proven, text))
}

/// Rule 5: every signing time, at least one, lies within the validity of the certificate and its CA; the issuer's key.
fn times(
    candidate: &Candidate,
    leaf: &Leaf,
    logged: &[Proven],
    demands: &Demands,
    trust: &Trust,
    now: Timestamp,
) -> Result<(DerPublicKey, String), String> {
    let mut times: Vec<(Timestamp, &str)> =
        logged.iter().filter_map(|proven| proven.integrated).map(|time| (time, "integrated")).collect();
    for timestamp in candidate.timestamps() {
        match stamped(candidate, timestamp, trust) {
            Ok(time) => times.push((time, "timestamped")),
            // Rule 5: of an authority that nobody knows, beside a time that is proven, in a .sig.
            Err(Untimed::Unknown(_))
                if candidate.layer.is_some() && candidate.purpose == Purpose::Signature && !times.is_empty() => {}
            Err(Untimed::Unknown(why) | Untimed::Wrong(why)) => return Err(why),
        }
    }
    if times.is_empty() && demands.ignore_tlog {
        times.push((now, "now, for want of a signing time"));
    }
    let mut issuer = None;
    for (time, _) in &times {
        issuer = Some(trust.authorities.chain(leaf, *time)?);
        // An integrated time is within its log's own time; what only a checkpoint proves has no other time than this.
        if let Some(Proven { log_id, .. }) = logged
            .iter()
            .find(|proven| proven.integrated.is_none() && trust.logs.key_at(&proven.log_id, *time).is_none())
        {
            return Err(format!("the log {} was not in use at {time}", log_id.to_hex()));
        }
    }
    let issuer =
        issuer.ok_or("no signing time is proven, by an integrated time under a SET or an RFC 3161 timestamp")?;
    let texts: Vec<String> = times.iter().map(|(time, what)| format!("{what} {time}")).collect();
    Ok((issuer, format!("valid when signed: {}", texts.join(", "))))
}

/// Why a timestamp gives no time.
enum Untimed {
    /// No authority of the trust root made it.
    Unknown(String),
    /// It is malformed, over something else, or of a time when its authority was not valid.
    Wrong(String),
}

/// The time in an RFC 3161 timestamp.
fn stamped(candidate: &Candidate, timestamp: &Rfc3161Timestamp, trust: &Trust) -> Result<Timestamp, Untimed> {
    // cosign stamps the whole envelope of a .att layer, and the signature of everything else.
    let signature = match (&candidate.layer, candidate.purpose) {
        (Some(layer), Purpose::Attestation) => SignatureBytes::new(layer.to_vec()),
        _ => candidate.signature().cloned().ok_or_else(|| Untimed::Wrong("there is no signature".to_owned()))?,
    };
    let token = timestamp.signed_timestamp.as_bytes().into();
    let mut reason =
        Untimed::Unknown("the trust root has no timestamp authority for the RFC 3161 timestamp".to_owned());
    for authority in &trust.timestamping {
        let text = |error: &tsa::Error| format!("the RFC 3161 timestamp does not verify: {error}");
        match tsa::verify_timestamp_for_authority(&token, &signature, authority) {
            Ok(time) => return Ok(time),
            // The library's word for a token that another authority made.
            Err(tsa::Error::SignatureVerificationError(why)) if why.contains("does not match any trusted TSA") => {}
            Err(error) => reason = Untimed::Wrong(text(&error)),
        }
    }
    Err(reason)
}

/// Rule 7: the identity is one that the configuration allows.
fn identity(leaf: &Leaf, demands: &Demands) -> Result<String, String> {
    let Identity { subjects, issuer } = leaf.identity.as_ref().map_err(String::clone)?;
    if demands.identities.is_empty() && !demands.public_keys.is_empty() {
        return Err("it was signed with a certificate, and the configuration allows only public_keys".to_owned());
    }
    demands.identities.allow(issuer.as_deref().unwrap_or_default(), subjects)
}

/// What `sigstore-verify` is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judging {
    /// The log and what is in it, whatever the certificate.
    Log,
    /// Everything that applies.
    Everything { ignore_tlog: bool },
}

/// The library's verdict on everything that it can represent, with the rule that it is about.
fn verdict(
    candidate: &Candidate,
    subject: &Subject<'_>,
    signer: &Signer,
    demands: &Demands,
    trust: &Trust,
) -> Result<(), (Rule, String)> {
    let everything = Judging::Everything { ignore_tlog: demands.ignore_tlog };
    // Without an entry and without a timestamp it has no time to judge at, and rules 3 and 5 are all there is.
    let untimed = demands.ignore_tlog && (candidate.layer.is_some() || candidate.timestamps().is_empty());
    if candidate.intoto_v001 || untimed {
        return Ok(());
    }
    library(candidate, subject, signer, trust, everything).map_err(|error| {
        let rule = match &error {
            Error::SignatureInvalid(_) => Rule::Signature,
            Error::Certificate(_) | Error::Timestamp(_) => Rule::Certificate,
            Error::TransparencyLog(TransparencyLogError::IntegratedTime(_)) => Rule::Certificate,
            Error::InvalidBundle(_) | Error::UnsupportedBundle(_) | Error::Bundle(_) | Error::Types(_) => Rule::Form,
            // Whatever it is about: never said of a log that nobody looked at.
            _ if demands.ignore_tlog => Rule::Signature,
            _ => Rule::Log,
        };
        (rule, error.to_string())
    })
}

fn library(
    candidate: &Candidate,
    subject: &Subject<'_>,
    signer: &Signer,
    trust: &Trust,
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
            // One certificate timestamp is all it knows: rule 6 is ours.
            let mut policy = VerificationPolicy::any_identity().skip_sct();
            if judging == Judging::Log {
                policy = policy.skip_certificate_chain();
            }
            // A `.sig` needs its SET and has no inclusion proof, which "verify the log" would ask for in a bundle v0.3; rule 4
            // has proven the entry either way.
            Box::new(if ignore_tlog { policy.skip_tlog_unsafe() } else { policy })
        }
    };
    trust.verifier.verify(artifact, &bundle, &*policy).map(|_| ())
}

/// The candidate as the library can judge it.
fn representable(candidate: &Candidate, ignore_tlog: bool) -> Bundle {
    let mut bundle = candidate.bundle.clone();
    if candidate.layer.is_some() {
        // Timestamps of layers are judged by rule 5: a .att has them over the envelope, a .sig may have an unknown one.
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
