//! Who signed an image, by seven rules.
//!
//! A [`Verifier`] is made of [`Options`]. It takes an [`Image`] apart into manifests, discovers what registries hold about them,
//! parses that strictly into candidates, judges each candidate by seven [`Rule`]s, and caches the verdicts. Its answer is a
//! [`Verification`]: only the rules make a [`Verified`].

#![forbid(unsafe_code)]

mod candidate;
mod certificate;
mod discovery;
mod identities;
mod limits;
mod log;
mod options;
mod rekor;
mod rules;
mod trust;
mod verifier;

pub use self::candidate::Purpose;
pub use self::identities::Identities;
pub use self::options::Options;
pub use self::rules::{Finding, Report, Rule};
pub use self::verifier::{Examination, Image, Signature, Verification, Verified, Verifier, verify_blob};
