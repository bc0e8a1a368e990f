//! Every limit in one table, each with its reason. A limit is broken by an input, never by load alone.

use std::time::Duration;

use bounded::lanes::Bounds;

/// A whole attestation. The agent sets no deadline of its own and waits for all attestors.
pub const ATTESTATION: Duration = Duration::from_secs(10);

/// One file of /proc. The kernel bounds none of them: mountinfo grows with the mounts that a workload makes.
pub const PROC_FILE: usize = 1 << 20;

/// Connecting to the engine and reading the headers of its reply, one try.
pub const ENGINE_HEADERS: Duration = Duration::from_secs(2);
/// One whole try, the body included.
pub const ENGINE_TRY: Duration = Duration::from_secs(4);
/// Tries for a fault that passes.
pub const ENGINE_TRIES: u32 = 3;
/// The pause before the second try; doubles.
pub const ENGINE_BACKOFF: Duration = Duration::from_millis(100);
/// One reply of the engine: the inspect of a container with 500 env values is some 50 KiB.
pub const ENGINE_REPLY: usize = 8 << 20;
/// Calls that one engine is asked at the same time; the rest wait outside the sandbox.
pub const ENGINE_CALLS: usize = 16;
/// Attestations that wait for one engine at the same time. A container that storms with made-up ids fills its own lane.
pub const ENGINE_WAITERS: Bounds = Bounds { lane: 256, total: 1_024 };
/// Bytes of a container id that a policy claims: a component of a cgroup's path has 255 at most (NAME_MAX).
pub const CLAIM: usize = 255;
/// Containers that one policy call may ask for: a good policy asks for one.
pub const CONTAINERS_ASKED: usize = 8;
/// How often the engine is asked again for a cached container that is used: an engine that lost track of an init process may
/// have described another one, whose claims never fail.
pub const CONTAINER_REASK: Duration = Duration::from_secs(60);
/// Calls at the same time that ask again. One, since each failed claim of somebody's process may cause one.
pub const REASKS: usize = 1;
/// Attestations that wait for such a call; for the next the cached answer decides.
pub const REASK_WAITERS: Bounds = Bounds { lane: 16, total: 128 };
/// How often answers whose init process is gone are dropped, with the descriptors that they hold.
pub const CONTAINER_SWEEP: Duration = Duration::from_secs(5);
/// How long an id that the engine did not know is not asked for again: an engine knows a container before its cgroup is made.
pub const UNKNOWN_TTL: Duration = Duration::from_secs(5);
/// Unknown ids that are cached, and claimants of them; in a full table the oldest goes.
pub const UNKNOWN_CACHED: usize = 4_096;
/// How long a claimant whose claim the engine did not know has one call of the engine at a time.
pub const THROTTLED_TTL: Duration = Duration::from_secs(10);
/// Containers that are cached. Each holds two file descriptors.
pub const CONTAINERS_CACHED: usize = 1_024;
/// Bytes of all of them. One has [`SELECTORS_TOTAL`] of labels and env values at most, usually some 5 KiB.
pub const CONTAINERS_CACHED_BYTES: usize = 64 << 20;

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
/// Selectors of one answer.
pub const SELECTORS: usize = 4_096;
/// Bytes of one selector.
pub const SELECTOR: usize = 64 << 10;
/// Bytes of all selectors of one answer: gRPC clients accept 4 MiB by default.
pub const SELECTORS_TOTAL: usize = 1 << 20;
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

/// How long an image's repo digests are kept: a push or a pull changes them.
pub const REPO_DIGESTS_TTL: Duration = Duration::from_secs(60);
/// Images whose repo digests are kept.
pub const REPO_DIGESTS_KEPT: usize = 1_024;
/// When an attestation no longer waits for the verification of its image, which goes on without it: before the attestation's
/// own time is over, from its start on.
pub const VERIFY_WAIT: Duration = Duration::from_secs(9);
/// Attestations that wait for verifications; the next is refused.
pub const VERIFY_WAITERS: Bounds = Bounds { lane: 256, total: 1_024 };
