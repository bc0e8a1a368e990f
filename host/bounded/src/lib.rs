//! Bounds on inputs for the other crates: on texts, files, queues, warnings, and work that many callers ask for at
//! once.

pub mod file;
pub mod lanes;
pub mod single_flight;
pub mod text;
pub mod warnings;
