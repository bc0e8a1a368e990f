//! The decision on an image: what a policy is told of the verification, by `on_failure`.

use std::sync::Arc;

use bounded::text::cut;
use bounded::warnings::Warnings;
use image_signatures::{Image, Signature, Verification, Verified, Verifier};

use sandbox::limits::GUEST_TEXT;
use sandbox::{Fault, FaultKind, wit};

use crate::config::OnFailure;

/// Bytes of a failure's text. The text goes through the policy, whose own texts are bounded.
const LONGEST: usize = GUEST_TEXT - 512;

/// The note about a recorded verdict.
const RECORDED: &str = "the scenario's verdict";

/// What a policy is told of an image whose verification is no reason to fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// `skipped_images` lists the image.
    Skipped,
    /// The image did not verify, and `on_failure` is "omit".
    Omitted,
    /// The image verified.
    Verified(Arc<Verified>),
}

impl Decision {
    /// The contract's form.
    pub fn verdict(&self) -> wit::Verdict {
        match self {
            Decision::Skipped => wit::Verdict::Skipped,
            Decision::Omitted => wit::Verdict::Omitted,
            Decision::Verified(verified) => wit::Verdict::Verified(wit::Verified {
                attestations: verified.attestations(),
                signatures: verified.signatures().iter().map(signature).collect(),
            }),
        }
    }
}

/// The contract's form of a signature.
fn signature(signature: &Signature) -> wit::Signature {
    let Signature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp } =
        signature.clone();
    let value = Some(value);
    wit::Signature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp }
}

/// Decides on images: a verifier, and what becomes of an image that does not verify.
pub struct SignedImages {
    source: Source,
    on_failure: OnFailure,
    /// Bounds the warnings of images whose selectors are omitted.
    warnings: Warnings,
}

/// Where verdicts come from.
enum Source {
    Verifier(Arc<Verifier>),
    /// The one verdict of a recorded machine.
    Recorded(Result<Decision, Fault>),
}

impl SignedImages {
    /// Decides by the answers of a verifier.
    pub fn new(verifier: Arc<Verifier>, on_failure: OnFailure) -> SignedImages {
        SignedImages { source: Source::Verifier(verifier), on_failure, warnings: Warnings::default() }
    }

    /// Answers with the verdict of a recorded machine, whatever the image is.
    pub fn recorded(decision: Result<Decision, Fault>) -> SignedImages {
        let source = Source::Recorded(decision);
        SignedImages { source, on_failure: OnFailure::Deny, warnings: Warnings::default() }
    }

    /// What a verification is waiting for, in words; empty while none is running.
    pub fn progress(&self) -> String {
        match &self.source {
            Source::Verifier(verifier) => verifier.progress(),
            Source::Recorded(_) => String::new(),
        }
    }

    /// The decision on an image and the note for `explain`, if that takes no network.
    pub fn cached(&self, image: Image<'_>) -> Option<(Result<Decision, Fault>, String)> {
        match &self.source {
            Source::Verifier(verifier) => Some(self.decide(&verifier.cached(image)?)),
            Source::Recorded(decision) => Some((decision.clone(), RECORDED.to_owned())),
        }
    }

    /// The decision on an image and the note for `explain`. A registry that hangs is waited for until `deadline`.
    pub async fn verify(&self, image: Image<'_>, deadline: tokio::time::Instant) -> (Result<Decision, Fault>, String) {
        match &self.source {
            Source::Verifier(verifier) => self.decide(&verifier.verify(image, deadline).await),
            Source::Recorded(decision) => (decision.clone(), RECORDED.to_owned()),
        }
    }

    fn decide(&self, verification: &Verification) -> (Result<Decision, Fault>, String) {
        let text = verification.to_string();
        let kind = match verification {
            Verification::Skipped(_) => return (Ok(Decision::Skipped), text),
            Verification::Verified { verified, .. } => return (Ok(Decision::Verified(Arc::clone(verified))), text),
            Verification::Failed(_) => FaultKind::Unverified,
            Verification::Unreachable(_) => FaultKind::Unavailable,
        };
        let text = match cut(&text, LONGEST) {
            start if start.len() < text.len() => format!("{start}…; `docker-attestor verify` lists all"),
            _ => text,
        };
        match self.on_failure {
            OnFailure::Deny => (Err(Fault::new(kind, text.clone())), text),
            OnFailure::Omit => {
                if let Some(dropped) = self.warnings.admit() {
                    tracing::warn!(reason = %text, dropped = %dropped, "an image is not verified: its sigstore selectors are left out");
                }
                (Ok(Decision::Omitted), format!("omitted: {text}"))
            }
        }
    }
}
