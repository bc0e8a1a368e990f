//! Every limit in one table, each with its reason. A limit is broken by an input, never by load alone.

use std::time::Duration;

use bounded::lanes::Bounds;

/// A whole attestation. The agent sets no deadline of its own and waits for all attestors.
pub const ATTESTATION: Duration = Duration::from_secs(10);

/// Bytes of a container id that a policy claims: a component of a cgroup's path has 255 at most (NAME_MAX).
pub const CLAIM: usize = 255;
/// Containers that one policy call may ask for: a good policy asks for one.
pub const CONTAINERS_ASKED: usize = 8;

/// CPU of one policy call in units of wasmtime's fuel (about one a wasm instruction): about 100 ms.
pub const FUEL: u64 = 200_000_000;
/// What the host may do for one policy call, in the same units: about 25 ms. A container with all that an answer may hold is
/// handed over in some 2 ms.
pub const HOST_WORK: u64 = 50_000_000;
/// Fuel after which a policy call lets other tasks run: about 1 ms.
pub const FUEL_YIELD: u64 = 2_000_000;
/// Wall time of one policy call. The sandbox does no I/O, so only a loaded machine comes near it.
pub const SANDBOX_WALL: Duration = Duration::from_secs(2);
/// Linear memory of one policy call.
pub const GUEST_MEMORY: usize = 16 << 20;
/// Elements of one table of one policy call.
pub const GUEST_TABLE: usize = 10_000;
/// Stack of one policy call.
pub const GUEST_STACK: usize = 512 << 10;
/// What one call between policy and host may hand over in bytes: the selectors' limit, and lists of them.
pub const GUEST_TO_HOST: usize = 2 << 20;
/// A scenario's file: an engine's reply has as many bytes at most, and a scenario holds several usual ones.
pub const SCENARIO_FILE: usize = containers::limits::ENGINE_REPLY;
/// A component's file.
pub const COMPONENT_FILE: usize = 4 << 20;
/// Reading a component's file, its signature included.
pub const FILE_READ: Duration = Duration::from_secs(10);
/// A sigstore bundle beside it.
pub const BUNDLE_FILE: u64 = 1 << 20;
/// Bytes of code in one component: Cranelift takes about 1.2 s for each MiB.
pub const COMPONENT_CODE: usize = 3 << 20;
/// Bytes of one function: what the compiler does to one may grow faster than its size.
pub const COMPONENT_FUNCTION: usize = 128 << 10;
/// Functions of one component. The built-in policy has some 300.
pub const COMPONENT_FUNCTIONS: u32 = 20_000;
/// Modules and components in one component, and how deep they may nest: what wit-component makes nests once.
pub const COMPONENT_PARTS: u32 = 64;
/// How deep components may nest.
pub const COMPONENT_DEPTH: u32 = 4;
/// Bytes of what the author of a component calls its version.
pub const COMPONENT_VERSION: usize = 128;
/// Imports and exports of one component.
pub const COMPONENT_NAMES: usize = 256;
/// CPU seconds that the compiler may take for one component. The largest component of a usual program takes about 5 s.
pub const COMPILER_CPU: u64 = 10;
/// Bytes of address space that it may have.
pub const COMPILER_MEMORY: u64 = 1 << 30;
/// Bytes of its stack.
pub const COMPILER_STACK: usize = 8 << 20;
/// Bytes of what it makes of one component.
pub const COMPILED_IMAGE: usize = 64 << 20;
/// How long it runs at a time where it has only what nobody else wants of the processors.
pub const COMPILER_RUNS: Duration = Duration::from_micros(300);
/// How long it rests then.
pub const COMPILER_RESTS: Duration = Duration::from_micros(500);
/// How long it may take so.
pub const COMPILATION_IDLE: Duration = Duration::from_secs(5);
/// How long it is waited for after that: long, since calls go first and a loaded machine leaves little.
pub const COMPILATION: Duration = Duration::from_secs(120);
/// When a component that was not replaced for a reason that may pass is tried again.
pub const REPLACE_AGAIN: Duration = Duration::from_secs(60);
/// Compiled components that are kept by their digest, so that going back to one takes no compiler.
pub const COMPILED_KEPT: usize = 8;
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
/// Sandboxes that exist at the same time.
pub const SANDBOXES: u32 = 64;
/// Calls that wait for a sandbox.
pub const SANDBOX_WAITERS: Bounds = Bounds { lane: 256, total: 1_024 };

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
/// Bytes of an error or a diagnostic that a policy chose.
pub const GUEST_TEXT: usize = 4 << 10;
/// Diagnostics that a policy's `validate` may answer.
pub const DIAGNOSTICS: usize = 64;
/// Patterns of `container_id_cgroup_matchers`.
pub const MATCHERS: usize = 256;
/// Bytes of one of them: no cgroup path is longer.
pub const MATCHER: usize = 4 << 10;
/// Bytes of all of them. The policy compares each with each in every call: the worst take a quarter of its CPU.
pub const MATCHERS_TOTAL: usize = 8 << 10;
/// Calls of imports that one policy call may make.
pub const GUEST_CALLS: usize = 1_024;
/// Lines that one policy call may log.
pub const GUEST_LOG_LINES: usize = 64;
/// Bytes of one line that a policy logs.
pub const GUEST_LOG_LINE: usize = 1 << 10;

/// Connecting to a registry or the log.
pub const REGISTRY_CONNECT: Duration = Duration::from_secs(2);
/// One request of a registry or the log, to the end of its body.
pub const REGISTRY_REQUEST: Duration = Duration::from_secs(5);
/// Redirects that one request follows.
pub const REDIRECTS: usize = 5;
/// A manifest (the distribution specification asks registries for 4 MiB at least), or a page of referrers.
pub const MANIFEST: usize = 8 << 20;
/// A `.sig` layer.
pub const SIGNATURE_LAYER: usize = 1 << 20;
/// A `.att` layer or a bundle: a statement may hold the whole bill of materials of an image.
pub const ATTESTATION_LAYER: usize = 32 << 20;
/// Signatures of an image in one place: layers of a manifest, or referrers.
pub const SIGNATURES: usize = 1_000;
/// Bytes of signatures and attestations that are fetched for one image.
pub const VERIFICATION_BYTES: usize = 128 << 20;
/// Good signatures of an image that become selectors, seven each: more would be more selectors than an answer may have.
pub const GOOD_SIGNATURES: usize = 500;
/// Threads that judge signatures at the same time.
pub const JUDGING: usize = 2;
/// Log entries that are asked for in one verification.
pub const LOG_QUESTIONS: usize = 16;
/// Pages of referrers.
pub const REFERRERS_PAGES: usize = 32;
/// The body of an error that a registry answers; nobody reads it.
pub const REGISTRY_ERROR: usize = 64 << 10;
/// A token service's answer.
pub const TOKEN_ANSWER: usize = 64 << 10;
/// How long a token or a login is used at most before it is asked for again.
pub const TOKEN: Duration = Duration::from_secs(3_600);
/// Tokens that are kept, one for each repository.
pub const TOKENS: usize = 1_024;
/// A file of logins.
pub const LOGIN_FILE: u64 = 1 << 20;
/// One call of a credential helper.
pub const HELPER: Duration = Duration::from_secs(5);
/// How long a credential helper that has ended is listened to while something that it started holds its output open.
pub const HELPER_REST: Duration = Duration::from_millis(100);
/// Bytes that a credential helper may print.
pub const HELPER_OUTPUT: u64 = 64 << 10;
/// The log's answer to a search.
pub const LOG_ANSWER: usize = 8 << 20;

/// Repo digests of an image that are tried.
pub const REPO_DIGESTS: usize = 16;
/// When an attestation no longer waits for the verification of its image, which goes on without it: before the attestation's
/// own time is over, from its start on.
pub const VERIFY_WAIT: Duration = Duration::from_secs(9);
/// Attestations that wait for verifications; the next is refused.
pub const VERIFY_WAITERS: Bounds = Bounds { lane: 256, total: 1_024 };
/// One verification, with everything it fetches.
pub const VERIFICATION: Duration = Duration::from_secs(60);
/// Verifications at the same time, and of one registry: one that hangs leaves the others alone.
pub const VERIFICATIONS: usize = 256;
/// Verifications of one registry's images at the same time.
pub const VERIFICATIONS_OF_REGISTRY: usize = 4;
/// How long a bad verdict lives: what is pushed a moment later is found soon.
pub const BAD_VERDICT: Duration = Duration::from_secs(30);
/// How long a good verdict past its time serves while the registry or the log is away.
pub const STALE_VERDICT: Duration = Duration::from_secs(24 * 3_600);
/// How often the trust root is refreshed over TUF, as cosign's clients do.
pub const TRUST_REFRESH: Duration = Duration::from_secs(24 * 3_600);
/// When it is tried again after it failed.
pub const TRUST_REFRESH_AGAIN: Duration = Duration::from_secs(3_600);
/// A file of trust material.
pub const TRUST_FILE: u64 = 1 << 20;
