//! The answers of a verifier: what came of an image, and why.

use std::fmt;
use std::sync::Arc;

use crate::discovery::{ContentError, ManifestError, UnreachableError};
use crate::limits;
use crate::rules::{Good, Rule, Signature, SignatureReport};
use crate::target::{Target, TargetError};

/// What came of verifying an image. `Display` is for operators.
#[derive(Debug)]
pub enum Verification {
    /// `skipped_images` lists the image, under this name.
    Skipped(String),
    /// The image verified.
    Verified {
        /// Its good signatures.
        verified: Arc<Verified>,
        /// The repo digest that they are of.
        target: String,
        /// The verdict was cached.
        cached: bool,
    },
    /// Every reason why no repo digest of the image verifies; empty when it has none.
    Failed(Vec<Reason>),
    /// A registry or the log is unreachable, so there is no verdict: every reason.
    Unreachable(Vec<Reason>),
}

impl fmt::Display for Verification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verification::Skipped(name) => write!(formatter, "skipped_images has {name}: not verified"),
            Verification::Verified { target, cached: true, .. } => write!(formatter, "{target}: a cached verdict"),
            Verification::Verified { target, cached: false, .. } => write!(formatter, "{target}: verified"),
            Verification::Failed(reasons) if reasons.is_empty() => formatter.write_str(
                "the image has no repo digest: it was built or loaded on this host, or removed meanwhile, and no registry is known \
                 to hold signatures of it: push it and pull it",
            ),
            Verification::Failed(reasons) => {
                write!(formatter, "no signature of the image verifies: {}", joined(reasons))
            }
            Verification::Unreachable(reasons) => {
                write!(formatter, "the image's signatures could not be verified: {}", joined(reasons))
            }
        }
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Why one repo digest of an image does not verify.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A repo digest, or the platform's manifest, is no target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is no good signature.
    #[error("{target}: {why}")]
    Unverified {
        /// The repo digest.
        target: String,
        /// Why.
        why: Arc<Unverified>,
    },
    /// There is no verdict.
    #[error("{target}: {why}")]
    NoVerdict {
        /// The repo digest.
        target: String,
        /// Why.
        why: Arc<NoVerdict>,
    },
}

/// What a verifier tells its observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A target was examined and verified.
    Verified,
    /// A target was examined and does not verify. The rule is that of [`Unverified::rule`].
    Failed(Option<Rule>),
    /// A registry or the log was unreachable, or too slow. There is no verdict.
    Unreachable,
    /// The same, but an earlier good verdict is used, which has expired.
    Expired,
    /// As many targets as may be were in examination, so that one more was refused.
    Full,
}

/// Told of each verdict that is made, and of each refusal. A cached verdict is not told of.
pub type Observer = Arc<dyn Fn(Observation) + Send + Sync>;

/// The verdict on one target.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Verified(Arc<Verified>),
    Failed(Arc<Unverified>),
    Unreachable(Arc<NoVerdict>),
}

/// Why a manifest is not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unverified {
    /// The registry answers something else than the manifest.
    #[error(transparent)]
    Content(ContentError),
    /// The manifest cannot be parsed.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The registry is unreachable.
    #[error("the registry is unreachable")]
    Unreachable,
    /// The registry has no manifest with this digest.
    #[error("the registry does not have this manifest")]
    NoManifest,
    /// The image is an index of other platforms.
    #[error("the index does not list {0}, which the container runs")]
    NotListed(registry::Digest),
    /// The image is another manifest than the container's.
    #[error("it is neither {0}, which the container runs, nor an index of it")]
    OtherManifest(registry::Digest),
    /// No signature is good.
    #[error("{0}")]
    NoSignature(Shortfall),
    /// No attestation is good, and one is required.
    #[error("{0} (require_attestations = false would let it pass)")]
    NoAttestation(Shortfall),
}

impl Unverified {
    /// The rule that the nearest to a good signature breaks. `None` if there is no signature, or if the manifest is the reason.
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Unverified::NoSignature(shortfall) | Unverified::NoAttestation(shortfall) => shortfall.rule,
            _ => None,
        }
    }
}

/// Why nothing of one purpose is good.
#[derive(Debug)]
pub struct Shortfall {
    /// `signature` or `attestation`.
    what: &'static str,
    /// The first rule that does not hold for what is nearest to good.
    rule: Option<Rule>,
    /// The reports on what is not good, the nearest to good first.
    reasons: Vec<String>,
    /// The reports that were left out.
    more: usize,
}

impl Shortfall {
    pub(crate) fn new(what: &'static str, mut reports: Vec<&SignatureReport>) -> Shortfall {
        // Nobody can hide what is nearest to good behind junk.
        reports.sort_by_key(|report| std::cmp::Reverse(report.holding()));
        let reasons: Vec<String> = reports.iter().take(limits::REASONS).map(ToString::to_string).collect();
        let rule = reports.first().and_then(|report| report.broken());
        Shortfall { what, rule, more: reports.len() - reasons.len(), reasons }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortfall { what, reasons, more, .. } = self;
        if reasons.is_empty() {
            return write!(formatter, "there is no {what}");
        }
        write!(formatter, "no {what} is good: {}", reasons.join("; "))?;
        match more {
            0 => Ok(()),
            more => write!(formatter, "; and {more} more"),
        }
    }
}

/// Why there is no verdict on a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoVerdict {
    /// A registry or the log is unreachable.
    #[error("{}", joined(.0))]
    Sources(Vec<UnreachableSource>),
    /// The bound on verifications in flight is reached.
    #[error("too many images are being verified at the same time")]
    Busy,
    /// The caller's time is over before the verification's.
    #[error("not verified in {0:.1} s, which goes on: ask again")]
    Ongoing(f32),
    /// The verification's time is over.
    #[error("not verified within {0} s")]
    Timeout(u64),
    /// The verification broke.
    #[error("the verification was given up")]
    GivenUp,
}

/// A source of signatures that could not be reached.
#[derive(Debug, Clone)]
pub struct UnreachableSource {
    /// The source, for operators; `None` for the image's own manifest.
    pub source: Option<String>,
    /// Why.
    pub why: Arc<UnreachableError>,
}

impl fmt::Display for UnreachableSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(formatter, "{source}: {}", self.why),
            None => self.why.fmt(formatter),
        }
    }
}

/// The good signatures of an image. Only the rules can make one.
#[derive(Debug, PartialEq)]
pub struct Verified {
    attestations: bool,
    signatures: Vec<Signature>,
}

impl Verified {
    /// There must be at least one of `signatures`.
    pub(crate) fn new(signatures: &[Good], attestations: bool) -> Verified {
        let mut unique: Vec<Signature> = Vec::new();
        for signature in signatures.iter().map(Good::signature) {
            if !unique.contains(signature) && unique.len() < limits::GOOD_SIGNATURES {
                unique.push(signature.clone());
            }
        }
        Verified { attestations, signatures: unique }
    }

    /// A verdict of another machine that was recorded. Nothing is verified. `None` without a signature.
    pub fn recorded(signatures: Vec<Signature>, attestations: bool) -> Option<Verified> {
        (!signatures.is_empty()).then_some(Verified { attestations, signatures })
    }

    /// Whether an attestation verified too.
    pub fn attestations(&self) -> bool {
        self.attestations
    }

    /// The signatures in the registry's order, each once. There is at least one.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
}

impl Verdict {
    /// The reason that a target with this verdict gives; `None` where it verified.
    pub(crate) fn reason(&self, target: &Target) -> Option<Reason> {
        let target = target.to_string();
        match self {
            Verdict::Verified(_) => None,
            Verdict::Failed(why) => Some(Reason::Unverified { target, why: Arc::clone(why) }),
            Verdict::Unreachable(why) => Some(Reason::NoVerdict { target, why: Arc::clone(why) }),
        }
    }
}
