//! Proves which container a process is in.

pub mod cache;
pub mod claimant;
pub mod engine;
pub mod process;
pub mod proof;
