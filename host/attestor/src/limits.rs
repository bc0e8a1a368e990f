//! Every limit in one table, each with its reason. A limit is broken by an input, never by load alone.

use std::time::Duration;

use bounded::lanes::Bounds;

/// A whole attestation. The agent sets no deadline of its own and waits for all attestors.
pub const ATTESTATION: Duration = Duration::from_secs(10);

/// Containers that one policy call may ask for: a good policy asks for one.
pub const CONTAINERS_ASKED: usize = 8;

/// A scenario's file: an engine's reply has as many bytes at most, and a scenario holds several usual ones.
pub const SCENARIO_FILE: usize = containers::limits::ENGINE_REPLY;
/// Reading a component's file, its signature included.
pub const FILE_READ: Duration = Duration::from_secs(10);
/// A sigstore bundle beside it.
pub const BUNDLE_FILE: u64 = 1 << 20;
/// When a component that was not replaced for a reason that may pass is tried again.
pub const RETRY_REPLACE: Duration = Duration::from_secs(60);
/// Compiled components that are kept by their digest, so that going back to one takes no compiler.
pub const COMPILED_CACHED: usize = 8;
/// Bytes of all of them; the built-in policy has some 290,000.
pub const COMPILED_BYTES: usize = 8 << 20;
/// How often the files of policies and extensions are looked at; a change counts when two looks agree on it.
pub const FILE_WATCH: Duration = Duration::from_millis(500);
/// Recorded workloads that a new policy is tried on.
pub const TRIALS: usize = 16;

/// Extensions.
pub const EXTENSIONS: usize = 16;
/// Selectors of one extension.
pub const EXTENSION_SELECTORS: usize = 64;
/// Bytes of one of them, without the extension's name.
pub const EXTENSION_SELECTOR: usize = 1 << 10;

/// Answers of one policy that are kept to be used again.
pub const ANSWERS: usize = 1_024;
/// Bytes of the selectors of one kept answer.
pub const ANSWER_KEPT: usize = 256 << 10;
/// Bytes of all kept answers, with what the policy was told for them.
pub const ANSWERS_TOTAL: usize = 16 << 20;

/// Bytes of a kind of a policy's own.
pub const OWN_KIND: usize = 64;
/// Selectors of one answer. Each label and env value of a container may become one.
pub const SELECTORS: usize = containers::limits::VALUES;
/// Bytes of one selector.
pub const SELECTOR: usize = 64 << 10;
/// Bytes of all selectors of one answer: gRPC clients accept 4 MiB by default.
pub const SELECTORS_TOTAL: usize = containers::limits::VALUES_TOTAL;
/// Patterns of `container_id_cgroup_matchers`.
pub const MATCHERS: usize = 256;
/// Bytes of one of them: no cgroup path is longer.
pub const MATCHER: usize = 4 << 10;
/// Bytes of all of them. The policy compares each with each in every call: the worst take a quarter of its CPU.
pub const MATCHERS_TOTAL: usize = 8 << 10;

/// When an attestation no longer waits for the verification of its image, which goes on without it: before the attestation's
/// own time is over, from its start on.
pub const VERIFY_WAIT: Duration = Duration::from_secs(9);
/// Attestations that wait for verifications; the next is refused.
pub const VERIFY_WAITERS: Bounds = Bounds { lane: 256, total: 1_024 };
