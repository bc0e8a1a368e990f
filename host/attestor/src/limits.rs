//! Every limit in one table, each with its reason. Only an input can break a limit, never load alone.

use std::time::Duration;

use bounded::lanes::Bounds;

/// The time for a whole attestation. The agent sets no deadline of its own and waits for all attestors.
pub const ATTESTATION: Duration = Duration::from_secs(10);

/// How long the engine is waited for before a policy has asked for it. A process that needs no engine must not wait long for one.
pub const ANTICIPATION: Duration = Duration::from_secs(1);
/// How long after a configuration its work in the background is over: the engine's connections are open.
pub const START: Duration = Duration::from_millis(200);

/// Containers that one policy call may ask for. A good policy asks for one.
pub const CONTAINERS_ASKED: usize = 8;

/// Bytes of a scenario's file. It may be as large as an engine's longest reply, and so holds several usual ones.
pub const SCENARIO_FILE: usize = containers::limits::ENGINE_REPLY;
/// The time for reading a component's file, including its signature.
pub const FILE_READ: Duration = Duration::from_secs(10);
/// Bytes of a component's sigstore bundle, which lies in a file beside it.
pub const BUNDLE_FILE: u64 = 1 << 20;
/// The time after which a component whose replacement failed transiently is tried again.
pub const RETRY_REPLACE: Duration = Duration::from_secs(60);
/// Compiled components that are cached by their digest, so that going back to one needs no compilation.
pub const COMPILED_CACHED: usize = 8;
/// Bytes of all cached compiled components. The built-in policy has some 290,000.
pub const COMPILED_BYTES: usize = 8 << 20;
/// How often the files of policies and extensions are checked. A change counts when two checks in a row agree on it.
pub const FILE_WATCH: Duration = Duration::from_millis(500);
/// Recorded workloads on which a new policy is tried.
pub const TRIALS: usize = 16;

/// Extensions of one configuration.
pub const EXTENSIONS: usize = 16;
/// Selectors of one extension.
pub const EXTENSION_SELECTORS: usize = 64;
/// Bytes of one selector of an extension, without the extension's name.
pub const EXTENSION_SELECTOR: usize = 1 << 10;

/// Answers of one policy that are cached for reuse.
pub const ANSWERS: usize = 1_024;
/// Bytes of the selectors of one cached answer.
pub const ANSWER_KEPT: usize = 256 << 10;
/// Bytes of all cached answers, including the transcripts that led to them.
pub const ANSWERS_TOTAL: usize = 16 << 20;

/// Bytes of the name of a selector kind that a policy defines itself.
pub const OWN_KIND: usize = 64;
/// Selectors of one answer. Each label and env value of a container may become one.
pub const SELECTORS: usize = containers::limits::VALUES;
/// Bytes of one selector.
pub const SELECTOR: usize = 64 << 10;
/// Bytes of all selectors of one answer: gRPC clients accept 4 MiB by default.
pub const SELECTORS_TOTAL: usize = containers::limits::VALUES_TOTAL;
/// Patterns of `container_id_cgroup_matchers`.
pub const MATCHERS: usize = 256;
/// Bytes of one pattern. No cgroup path is longer.
pub const MATCHER: usize = 4 << 10;
/// Bytes of all patterns. The policy compares each pattern with each other one in every call, and the worst such
/// patterns take a quarter of its CPU limit.
pub const MATCHERS_TOTAL: usize = 8 << 10;

/// The time, from the start of an attestation, after which it no longer waits for the verification of its image. The
/// limit is shorter than the attestation's own, and the verification continues without it.
pub const VERIFY_WAIT: Duration = Duration::from_secs(9);
/// Attestations that may wait for verifications. The next one is refused.
pub const VERIFY_WAITERS: Bounds = Bounds { lane: 256, total: 1_024 };

/// Bytes of a configuration file that the command line reads, as of the agent's requests.
pub const CONFIG_FILE: u64 = 1 << 20;
/// Bytes of a file of registration entries that the command line reads. An entry takes some 600 as `spire-server entry show` prints it.
pub const ENTRIES_FILE: u64 = 128 << 20;
/// Registration entries of one file.
pub const ENTRIES: usize = 200_000;
/// Bytes of an agent's log that the command line reads.
pub const LOG_FILE: u64 = 1 << 30;
/// Bytes of one line of it. The longest has the selectors of two attestors, escaped twice.
pub const LOG_LINE: usize = 8 << 20;
/// Workloads with different selectors that are compared. A host runs some hundred.
pub const COMPARED: usize = 16_384;
/// Bytes of the selectors of all workloads that are compared.
pub const COMPARED_BYTES: usize = 256 << 20;
/// Bytes of the program that an agent.conf names. The program itself has some 40 MB.
pub const PROGRAM_FILE: u64 = 256 << 20;
/// Bytes that agent and plugin should be able to take: the cached containers and answers, the files that are kept open, and the agent.
pub const AGENT_MEMORY: u64 = 256 << 20;
/// Tasks that agent and plugin should be able to have: some 70 threads of the plugin, two of the compiler, and those of the agent.
pub const AGENT_TASKS: u64 = 128;
/// How long before its end a part of the trust root is warned of.
pub const TRUST_ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Containers whose images' registries are looked for when registries are asked whether they can be reached.
pub const CONTAINERS_LOOKED_AT: usize = 64;
/// Registries that are asked whether they can be reached.
pub const REGISTRIES_ASKED: usize = 16;
/// Bytes of a unix socket's path, without the final NUL (unix(7)).
pub const SOCKET_PATH: usize = 107;
/// Characters of the name of a Windows pipe (CreateNamedPipe).
pub const PIPE_NAME: usize = 256;
/// Errors of one configuration that are shown, and so that are located. A person reads no more.
pub const PROBLEMS: usize = 100;
/// Bytes of the text of an error of the configuration. A value that is quoted in it may have a mebibyte.
pub const PROBLEM_TEXT: usize = 2 << 10;
/// Repeated keys that are named in warnings. A text may repeat thousands of keys.
pub const REPEATED_KEYS: usize = 32;
/// Bytes that are shown of a key's path.
pub const KEY_PATH: usize = 256;
/// Digests in one pin.
pub const PIN_DIGESTS: usize = 64;
/// Settings of one component.
pub const COMPONENT_SETTINGS: usize = 256;
/// Bytes of one setting of a component.
pub const COMPONENT_SETTING: usize = 4_096;
/// Bytes of an extension's name.
pub const EXTENSION_NAME: usize = 64;
/// Values in one list of `sigstore { … }`.
pub const SIGSTORE_LIST: usize = 1_024;
/// The longest `sigstore.cache.ttl`. Within it a revoked signature goes on counting.
pub const VERDICT_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The largest `sigstore.cache.max_entries`. A verdict takes some KiB.
pub const VERDICTS_MAX: usize = 100_000;

/// Bytes of a Configure or Validate request: the default of Go's gRPC servers.
pub const REQUEST: usize = 4 << 20;
/// Time for one answer of the status socket, both to write it and to read it.
pub const STATUS_ANSWER: Duration = Duration::from_secs(2);
/// Time for the answer of another user's status socket. Any user can make a socket in /tmp that accepts and never answers, while a
/// plugin answers within a millisecond.
pub const STATUS_ANSWER_OF_OTHERS: Duration = Duration::from_millis(500);
/// Status sockets of one other user that are asked at the same time. Each takes a file descriptor, and the thousands of sockets of
/// one user must not keep the plugins of other users from being asked.
pub const STATUS_SOCKETS_OF_OTHERS: usize = 8;
/// Bytes of one answer of the status socket.
pub const STATUS_BYTES: u64 = 1 << 20;
/// Bytes of an error in an answer of the status socket: a refused configuration may name thousands of keys.
pub const STATUS_TEXT: usize = 4 << 10;
/// The pause after accepting a connection failed.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
