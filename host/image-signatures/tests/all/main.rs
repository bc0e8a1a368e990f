//! The verifier against registries, logs and a signing world in this process.

mod stage;

mod cache;
mod conformance;
mod forgeries;
mod peers;
mod registries;
