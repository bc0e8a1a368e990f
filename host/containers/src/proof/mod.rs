//! The proof that a process is in a container.

mod cgroups;

pub use self::cgroups::{Clause, Init, InitError, NotProven, ProofContext, Proven, RunningContainer, prove};
