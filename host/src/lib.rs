//! The docker workload attestor for SPIRE: what touches the machine. See the README for what it is and how it is run.

pub mod attestor;
pub mod bindings;
pub mod capability;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod limits;
pub mod plugin;
pub mod scenario;
pub mod status;
pub mod telemetry;
