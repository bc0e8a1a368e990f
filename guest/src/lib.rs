//! The default policy of docker-attestor. Decides which container a process claims to be in, and which selectors follow.
//! The policy does nothing but decide. Its logic is plain Rust, which runs in the sandbox, and natively in its tests.

pub mod attest;
pub mod component;
#[cfg(target_arch = "wasm32")]
mod heap;
pub mod locator;
pub mod matcher;
mod selectors;
