//! Proves which container a process is in.
//!
//! A container id in a cgroup path is a claim, because a process may choose it. [`Containers::check`] asks the container engine
//! about the claimed container, finds the container's init process, and holds the claim against what the kernel says of both
//! processes. [`proof`] has the table of clauses. Only [`proof::prove`] can make a [`Proven`].
//!
//! | module | holds |
//! |---|---|
//! | [`process`] | what the operating system says about processes |
//! | [`engine`] | what a container engine says about containers |
//! | [`proof`] | the clauses, one function each |
//! | [`cache`] | the containers of one engine: asked once, kept, checked for each claim |
//! | [`claimant`] | who waits for the engine in whose lane |

pub mod cache;
pub mod claimant;
pub mod container;
pub mod engine;
mod error;
pub mod limits;
pub mod process;
pub mod proof;

pub use cache::{Checked, Claim, Containers, Lookup, Outcome, QUEUES, Source};
pub use claimant::Claimant;
pub use container::{Container, ContainerId, TooLarge};
pub use error::{EngineError, Error, ErrorKind};
pub use proof::{Clause, NotProven, ProofContext, Proven, RunningContainer};
