//! Who signed an image, by seven rules.
//!
//! A [`Verifier`] is made of [`Options`]. It takes an [`Image`] apart into targets, discovers what registries hold about them, parses
//! that strictly into candidates, judges each candidate by seven [`Rule`]s, and caches the verdicts. Its answer is a
//! [`Verification`]. Only the rules can make a [`Verified`].

#![forbid(unsafe_code)]

mod candidate;
mod certificate;
mod discovery;
mod examination;
mod identities;
mod in_flight;
mod limits;
mod log;
mod options;
mod progress;
mod rekor;
mod rules;
mod target;
mod trust;
mod verification;
mod verifier;

pub use self::candidate::{CandidateError, Purpose};
pub use self::certificate::{CertificateError, SctError, Span};
pub use self::discovery::{ContentError, ManifestError, UnreachableError};
pub use self::examination::Examination;
pub use self::identities::{ExpressionError, Identities, IdentityError, IdentityNote, NotAllowed, PartialMatch};
pub use self::log::EntryError;
pub use self::options::Options;
pub use self::rules::{MaterialError, Rule, RuleError, RuleFinding, Signature, SignatureReport};
pub use self::target::{Image, TargetError};
pub use self::trust::{
    CacheError, EnvironmentError, KeyError, MetadataError, MirrorError, PemError, ReadError, RefreshError,
    RefreshFailure, RemoteError, RootError, SourceError, TrustDescription, TrustError, TrustPart, describe_trust,
};
pub use self::verification::{
    NoVerdict, Observation, Observer, Reason, Shortfall, UnreachableSource, Unverified, Verification, Verified,
};
pub use self::verifier::{ExamineError, FileSignatureError, SetupError, Verifier, verify_blob};
