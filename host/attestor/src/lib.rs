//! The docker workload attestor for SPIRE: what touches the machine. See the README for what it is and how it is run.

pub mod attestation;
pub mod attestor;
pub mod cli;
pub mod components;
pub mod config;
pub mod error;
pub mod kinds;
pub mod limits;
pub mod machine;
pub mod scenario;
pub mod service;
pub mod snapshot;
pub mod telemetry;
pub mod update;
pub mod workload;

use std::io;

use sandbox::Compilation;

/// Starts the runtime of the plugin and of the command line.
///
/// # Errors
/// The operating system gives no thread or no descriptor.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        // Threads exist only while something blocks, and few are needed. But DNS lookups block there, some for long,
        // while images are verified and files are read.
        .max_blocking_threads(64)
        .enable_all()
        .build()
}

/// Where components are compiled: in another process of this same program, even if its file was replaced or deleted.
/// The program of unit tests cannot act as the compiler.
pub fn compilation() -> Compilation {
    if cfg!(test) { Compilation::in_this_process() } else { Compilation::in_own_process() }
}
