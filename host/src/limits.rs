//! Every limit in one table, each with its reason. A limit is broken by an input, never by load alone.

use std::time::Duration;

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
/// Attestations that wait for one engine at the same time: a hung engine must not fill the whole queue.
pub const ENGINE_WAITERS: usize = 512;
/// Containers that one policy call may ask for: a good policy asks for one.
pub const CONTAINERS_ASKED: usize = 8;
/// How long an answer is kept although its init process lives: a safety net, nothing of it changes while init lives.
pub const CONTAINER_TTL: Duration = Duration::from_secs(600);
/// How often answers whose init process is gone are dropped, with the descriptors that they hold.
pub const CONTAINER_SWEEP: Duration = Duration::from_secs(5);
/// How long an id that the engine did not know is not asked for again: an engine knows a container before its cgroup is made.
pub const UNKNOWN_TTL: Duration = Duration::from_secs(5);
/// Unknown ids that are remembered.
pub const UNKNOWN_KEPT: usize = 4_096;
/// Calls of the engine at the same time for users whose last claim it did not know: a storm of made-up ids has these, everybody
/// else has the rest.
pub const STRANGER_CALLS: usize = 1;
/// How long a user stays one of those.
pub const STRANGER_TTL: Duration = Duration::from_secs(10);
/// Containers whose answer is kept. Each holds two file descriptors.
pub const CONTAINERS_KEPT: usize = 1_024;

/// CPU of one policy call in units of wasmtime's fuel (about one a wasm instruction): about 100 ms.
pub const FUEL: u64 = 200_000_000;
/// Fuel after which a policy call lets other tasks run: about 1 ms.
pub const FUEL_YIELD: u64 = 2_000_000;
/// Wall time of one policy call. The sandbox does no I/O, so only a loaded machine comes near it.
pub const SANDBOX_WALL: Duration = Duration::from_secs(2);
/// Linear memory of one policy call.
pub const GUEST_MEMORY: usize = 16 << 20;
/// Stack of one policy call.
pub const GUEST_STACK: usize = 512 << 10;
/// What one call between policy and host may hand over in bytes: the selectors' limit, and lists of them.
pub const GUEST_TO_HOST: usize = 2 << 20;
/// A component's file.
pub const COMPONENT_FILE: usize = 4 << 20;
/// Sandboxes that exist at the same time.
pub const SANDBOXES: u32 = 64;
/// Calls that wait for a sandbox; the next is refused.
pub const SANDBOX_WAITERS: usize = 1_024;

/// Answers of one policy that are kept to be used again.
pub const ANSWERS: usize = 1_024;
/// Bytes of the selectors of one kept answer.
pub const ANSWER_KEPT: usize = 256 << 10;
/// Bytes of the selectors of all kept answers.
pub const ANSWERS_TOTAL: usize = 4 << 20;

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
/// Calls of imports that one policy call may make: the host's work for them is not counted as fuel.
pub const GUEST_CALLS: usize = 1_024;
/// Lines that one policy call may log.
pub const GUEST_LOG_LINES: usize = 64;
/// Bytes of one line that a policy logs.
pub const GUEST_LOG_LINE: usize = 1 << 10;
