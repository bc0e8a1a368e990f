//! What the other crates bound their inputs with: texts, files, queues, warnings and work that many ask for.

#![forbid(unsafe_code)]

pub mod file;
pub mod lanes;
pub mod single_flight;
pub mod text;
pub mod warnings;
