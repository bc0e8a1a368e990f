//! The limits of this crate, each with its reason.

use std::time::Duration;

use bounded::lanes::Bounds;

/// CPU of one call in units of wasmtime's fuel, which is about one for each wasm instruction: about 100 ms.
pub const FUEL: u64 = 200_000_000;
/// Work of the host for one call, in the same units: about 25 ms. A container with all that an answer may hold is handed over in
/// some 2 ms. An answer is charged when it has been copied, so that the last one may exceed the limit by as much.
pub const HOST_WORK: u64 = 50_000_000;
/// Fuel after which a call lets other tasks run: about 1 ms.
pub const FUEL_YIELD: u64 = 2_000_000;
/// Wall time of one call. The sandbox does no I/O, so only a loaded machine comes near it.
pub const SANDBOX_WALL: Duration = Duration::from_secs(2);
/// Bytes of linear memory of one call.
pub const GUEST_MEMORY: usize = 16 << 20;
/// Elements of one table of one call.
pub const GUEST_TABLE: usize = 10_000;
/// Bytes of stack of one call.
pub const GUEST_STACK: usize = 512 << 10;
/// Bytes that one call between component and host may hand over: the selectors of an answer, and the lists that they are in.
pub const GUEST_TO_HOST: usize = 2 << 20;
/// Calls of imports that one call may make.
pub const GUEST_CALLS: usize = 1_024;
/// Bytes of an error or a diagnostic in a component's own words.
pub const GUEST_TEXT: usize = 4 << 10;
/// Diagnostics that a policy's `validate` may answer.
pub const DIAGNOSTICS: usize = 64;
/// Lines that one call may log.
pub const GUEST_LOG_LINES: usize = 64;
/// Bytes of one line that a component logs.
pub const GUEST_LOG_LINE: usize = 1 << 10;
/// Bytes of a container id that a policy claims: a component of a cgroup's path has 255 at most (NAME_MAX).
pub const CLAIM: usize = 255;
/// Sandboxes that exist at the same time.
pub const SANDBOXES: u32 = 64;
/// Calls that wait for a sandbox.
pub const SANDBOX_WAITERS: Bounds = Bounds { lane: 256, total: 1_024 };

/// Bytes of a component.
pub const COMPONENT_FILE: usize = 4 << 20;
/// Bytes of code in one component: Cranelift takes about 1.2 s for each MiB.
pub const COMPONENT_CODE: usize = 3 << 20;
/// Bytes of one function: the compiler's work for a function may grow faster than its size.
pub const COMPONENT_FUNCTION: usize = 128 << 10;
/// Functions of one component. The built-in policy has some 300.
pub const COMPONENT_FUNCTIONS: u32 = 20_000;
/// Modules and components in one component.
pub const COMPONENT_PARTS: u32 = 64;
/// How deep components may nest. Components of wit-component nest once.
pub const COMPONENT_DEPTH: u32 = 4;
/// Bytes of the version that a component's author gave it.
pub const COMPONENT_VERSION: usize = 128;
/// Bytes of what a component says that it needs of its configuration.
pub const COMPONENT_NEEDS: usize = 4 << 10;
/// Imports and exports of one component.
pub const COMPONENT_NAMES: usize = 256;

/// CPU seconds of the compiler for one component. The largest component of a usual program takes about 5 s.
pub const COMPILER_CPU: u64 = 10;
/// Bytes of address space of the compiler's process.
pub const COMPILER_MEMORY: u64 = 1 << 30;
/// Bytes of stack of the compiler.
pub const COMPILER_STACK: usize = 8 << 20;
/// Bytes of a compiled component.
pub const COMPILED_IMAGE: usize = 64 << 20;
/// How long the compiler's process runs at a time while it has only idle processors.
pub const COMPILER_RUNS: Duration = Duration::from_micros(300);
/// How long the compiler's process rests between.
pub const COMPILER_RESTS: Duration = Duration::from_micros(500);
/// How long a compilation may take on idle processors.
pub const COMPILATION_IDLE: Duration = Duration::from_secs(5);
/// How long a compilation may take after that. Long, because calls have priority and a loaded machine leaves little.
pub const COMPILATION: Duration = Duration::from_secs(120);
