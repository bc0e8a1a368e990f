//! Every limit in one table, each with its reason.

use std::time::Duration;

/// A `.sig` layer.
pub(crate) const SIGNATURE_LAYER: usize = 1 << 20;
/// A `.att` layer or a bundle: a statement may hold the whole bill of materials of an image.
pub(crate) const ATTESTATION_LAYER: usize = 32 << 20;
/// Signatures of an image in one place: layers of a manifest, or referrers.
pub(crate) const SIGNATURES: usize = 1_000;
/// Bytes of signatures and attestations that are fetched for one image.
pub(crate) const VERIFICATION_BYTES: usize = 128 << 20;
/// Good signatures of an image that become selectors, seven each: more would be more selectors than an answer may have.
pub(crate) const GOOD_SIGNATURES: usize = 500;
/// Threads that judge signatures at the same time.
pub(crate) const JUDGING: usize = 2;
/// Log entries that are asked for in one verification.
pub(crate) const LOG_QUESTIONS: usize = 16;
/// The log's answer to a search.
pub(crate) const LOG_ANSWER: usize = 8 << 20;
/// Repo digests of an image that are tried.
pub(crate) const REPO_DIGESTS: usize = 16;
/// One verification, with everything it fetches.
pub(crate) const VERIFICATION: Duration = Duration::from_secs(60);
/// Verifications at the same time, and of one registry: one that hangs leaves the others alone.
pub(crate) const VERIFICATIONS: usize = 256;
/// Verifications of one registry's images at the same time.
pub(crate) const VERIFICATIONS_OF_REGISTRY: usize = 4;
/// How long a bad verdict lives: what is pushed a moment later is found soon.
pub(crate) const BAD_VERDICT: Duration = Duration::from_secs(30);
/// How long a good verdict past its time serves while the registry or the log is away.
pub(crate) const STALE_VERDICT: Duration = Duration::from_secs(24 * 3_600);
/// How often the trust root is refreshed over TUF, as cosign's clients do.
pub(crate) const TRUST_REFRESH: Duration = Duration::from_secs(24 * 3_600);
/// When it is tried again after it failed.
pub(crate) const TRUST_REFRESH_AGAIN: Duration = Duration::from_secs(3_600);
/// A file of trust material.
pub(crate) const TRUST_FILE: u64 = 1 << 20;
