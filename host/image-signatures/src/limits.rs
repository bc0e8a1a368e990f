//! Every limit in one table, each with its reason.

use std::time::Duration;

/// Repo digests of an image that are verified. An engine lists one for each name under which it pulled the image.
pub(crate) const REPO_DIGESTS: usize = 16;
/// Signatures of an image in one place: layers of a manifest, or referrers. Whoever can push can put any number there.
pub(crate) const SIGNATURES: usize = 1_000;
/// Bytes of a `.sig` layer. A simple signing payload has some 250.
pub(crate) const SIGNATURE_LAYER: usize = 1 << 20;
/// Bytes of a `.att` layer or a bundle. A statement may hold the whole bill of materials of an image.
pub(crate) const ATTESTATION_LAYER: usize = 32 << 20;
/// Bytes of signatures and attestations that are fetched for one image. Whoever can push could make them endless.
pub(crate) const VERIFICATION_BYTES: usize = 128 << 20;
/// Good signatures of an image in a verdict. Each makes seven selectors: more would be more than an answer may have.
pub(crate) const GOOD_SIGNATURES: usize = 500;

/// Log entries, or timestamps, of one signature. cosign makes one.
pub(crate) const EVIDENCE: usize = 16;
/// Bytes of a certificate, as webpki has it, or of a timestamp's token. Decoding DER may take the square of its size.
pub(crate) const DER: usize = 64 << 10;
/// Certificates in a bundle's chain. Fulcio's chain has three.
pub(crate) const CHAIN: usize = 8;
/// Certificate timestamps in one certificate. Fulcio embeds one.
pub(crate) const SCTS: usize = 16;
/// Bytes of a checkpoint. A checkpoint has some 300.
pub(crate) const CHECKPOINT: usize = 16 << 10;
/// Signatures under a checkpoint. Each is tried over the whole checkpoint.
pub(crate) const CHECKPOINT_SIGNATURES: usize = 32;
/// Bytes of a log entry's body. It holds a certificate and hashes, never the signed bytes.
pub(crate) const ENTRY_BODY: usize = 256 << 10;
/// Bytes that a compiled expression of an identity may take. Repetitions can make it exponential.
pub(crate) const COMPILED_EXPRESSION: usize = 1 << 20;
/// Bytes of a finding's text. Whoever can push chooses parts of it.
pub(crate) const FINDING: usize = 400;
/// Signatures whose reasons are told when none is good. More would hide the reasons.
pub(crate) const REASONS: usize = 8;

/// Threads that judge signatures at the same time. Judging is CPU work that a stranger can cause.
pub(crate) const JUDGING: usize = 2;
/// Log entries that are looked up in one verification. Each signature without an entry costs one.
pub(crate) const LOG_LOOKUPS: usize = 16;
/// Bytes of the log's answer to a search. A log entry may hold an attestation.
pub(crate) const LOG_ANSWER: usize = 8 << 20;

/// One verification, with everything that it fetches. Callers give up earlier and find its verdict later.
pub(crate) const VERIFICATION: Duration = Duration::from_secs(60);
/// Verifications in flight. Each holds a task and its place in a queue.
pub(crate) const VERIFICATIONS: usize = 256;
/// Verifications of one registry's images at the same time. A registry that hangs leaves the others alone.
pub(crate) const VERIFICATIONS_OF_REGISTRY: usize = 4;
/// How long a bad verdict is cached. A signature that is pushed a moment later is found soon.
pub(crate) const BAD_VERDICT: Duration = Duration::from_secs(30);
/// How long an expired good verdict serves while the registry or the log is unreachable.
pub(crate) const STALE_VERDICT: Duration = Duration::from_secs(24 * 3_600);

/// Bytes of a file of trust material. The public-good trusted_root.json has some 7 KiB.
pub(crate) const TRUST_FILE: u64 = 1 << 20;
/// Keys or certificates in one file, and paths of certificates. Each certificate is compared with each.
pub(crate) const TRUST_OBJECTS: usize = 64;
/// How often the trust root is refreshed over TUF, as cosign's clients do.
pub(crate) const TRUST_REFRESH: Duration = Duration::from_secs(24 * 3_600);
/// The pause after a refresh that failed.
pub(crate) const TRUST_REFRESH_RETRY: Duration = Duration::from_secs(3_600);
/// One refresh: some six small files of one host.
pub(crate) const TRUST_REFRESH_TIME: Duration = Duration::from_secs(30);
