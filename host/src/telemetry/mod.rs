//! What an operator sees of the running plugin: its log and its metrics.

pub mod hclog;
pub mod metrics;
