//! The default policy of docker-attestor: which container a process claims to be in, and which selectors follow. What runs in
//! the sandbox decides and does nothing else; the logic is plain Rust and runs natively in its tests.

pub mod attest;
pub mod component;
pub mod locator;
pub mod matcher;
mod selectors;
