//! The limits of this crate, each with its reason.

use std::time::Duration;

use bounded::lanes::Bounds;

/// Bytes of one file of /proc. The kernel bounds none of them: mountinfo grows with the mounts that a workload makes.
pub const PROC_FILE: usize = 1 << 20;
/// How far up a chain of pid namespaces is followed. The kernel nests at most 32 (pid_namespaces(7)).
pub const NAMESPACE_DEPTH: usize = 33;

/// Processes that were attested and whose files are kept open. The kernel charges some 4.4 KiB for each file to the agent's cgroup.
pub const PROCESSES_KEPT: u64 = 1_024;
/// Descriptors of such a process: its pidfd, its cgroup and, without a v1 hierarchy that names it, its statm.
pub const PROCESS_DESCRIPTORS: u64 = 3;
/// Bytes of a cgroup text that is kept to compare others with. With ten hierarchies one has some 1,000. The file of a longer one is not
/// kept open, because the kernel keeps a buffer of its size.
pub const CGROUP_TEXT_KEPT: usize = 4 << 10;

/// Jobs of the container manager that are looked at: one for each container with process isolation.
pub const JOBS: usize = 4_096;
/// Jobs that one process may be in. Windows nests jobs, and the container manager makes one for a container.
pub const JOBS_OF_PROCESS: usize = 16;
/// Bytes of a job's name: that of a container has 75. The rest of a longer one is cut off, and what is left names no container.
pub const JOB_NAME: usize = 128;
/// How long a reading of the container manager's handles is used. Each takes milliseconds.
pub const JOB_SCAN_TTL: Duration = Duration::from_secs(10);
/// Readings for one answer: containers that start or stop meanwhile change the handles.
pub const JOB_SCANS: usize = 4;
/// How much older than such a reading a process must be. A process gets its job before it runs, but after it was created.
pub const JOB_SCAN_MARGIN: Duration = Duration::from_millis(500);
/// Bytes of the table of a process's handles that are tried first: 1,600 handles.
pub const HANDLE_TABLE_FIRST: usize = 64 << 10;
/// Bytes of such a table: 1.6 million handles.
pub const HANDLE_TABLE: usize = 64 << 20;
/// UTF-16 units of a path (MAX_PATH does not bound it, but UNICODE_STRING does).
pub const WINDOWS_PATH: usize = 32 << 10;
/// Bytes of the user or the groups in a token. A token has 1,024 groups at most.
pub const TOKEN: usize = 128 << 10;

/// Time for connecting to the engine and reading the headers of its reply, for one try.
pub const ENGINE_HEADERS: Duration = Duration::from_secs(2);
/// Time for one whole try, the body included.
pub const ENGINE_TRY: Duration = Duration::from_secs(4);
/// Tries of one call while its failure is transient.
pub const ENGINE_TRIES: u32 = 3;
/// The pause before the second try. It doubles.
pub const ENGINE_BACKOFF: Duration = Duration::from_millis(100);
/// Bytes of one reply of the engine: the inspect of a container with 500 env values is some 50 KiB.
pub const ENGINE_REPLY: usize = 8 << 20;
/// Calls that one engine is asked at the same time, and connections that are kept to it. The rest wait. From 8 on, more hardly make
/// an engine on two cores faster: 200 inspects take 43, 24, 19, 15 and 14 ms over 1, 2, 4, 8 and 16 connections.
pub const ENGINE_CALLS: usize = 16;
/// Containers of one list, which the command line asks for. A host runs some hundred, and [`ENGINE_REPLY`] bounds the list too.
pub const CONTAINERS_LISTED: usize = 16_384;
/// How long a connection over TCP is kept without a call.
pub const ENGINE_TCP_IDLE: Duration = Duration::from_secs(60);
/// How long after a failure the connections are opened again.
pub const ENGINE_CONNECT_PAUSE: Duration = Duration::from_secs(5);
/// Callers that wait for one engine at the same time. A container that storms with made-up ids fills its own lane.
pub const ENGINE_WAITERS: Bounds = Bounds { lane: 256, total: 1_024 };

/// How often the engine is asked again for a cached container that is used. An engine that lost track of an init process may
/// have described another process, and that one's claims never fail.
pub const CONTAINER_REASK: Duration = Duration::from_secs(60);
/// Calls at the same time that ask again. One, because each failed claim of a process may cause one.
pub const REASKS: usize = 1;
/// Callers that wait for such a call. For the next caller the cached answer decides.
pub const REASK_WAITERS: Bounds = Bounds { lane: 16, total: 128 };
/// How often cached containers are dropped whose init process is gone: each holds file descriptors.
pub const CONTAINER_SWEEP: Duration = Duration::from_secs(5);
/// How long an id that the engine did not know is not asked for again. An engine knows a container before it makes its cgroup.
pub const UNKNOWN_TTL: Duration = Duration::from_secs(5);
/// Unknown ids that are cached, and claimants of them. In a full table the oldest entry is dropped.
pub const UNKNOWN_CACHED: usize = 4_096;
/// How long a claimant whose claim the engine did not know has one call of the engine at a time.
pub const THROTTLED_TTL: Duration = Duration::from_secs(10);
/// Containers that are cached. Each holds a pidfd of its init process.
pub const CONTAINERS_CACHED: usize = 1_024;
/// Bytes of all cached containers. One has [`VALUES_TOTAL`] at most, usually some 5 KiB.
pub const CONTAINERS_CACHED_BYTES: usize = 64 << 20;

/// Labels and env values of one container: each becomes a selector, and an answer may have so many.
pub const VALUES: usize = 4_096;
/// Bytes of all of them: gRPC clients accept 4 MiB by default.
pub const VALUES_TOTAL: usize = 1 << 20;

/// How long the repo digests of an image are cached: a push or a pull changes them.
pub const REPO_DIGESTS_TTL: Duration = Duration::from_secs(60);
/// Images whose repo digests are cached.
pub const REPO_DIGESTS_CACHED: usize = 1_024;
