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
