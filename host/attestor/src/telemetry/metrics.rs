//! The plugin's metrics.
//!
//! | key | kind | labels | meaning |
//! |---|---|---|---|
//! | `docker_attestor.attestations` | counter | `status` (gRPC code) | attestations by outcome |
//! | `docker_attestor.attestation_seconds` | sample | `status` | how long an attestation took |
//! | `docker_attestor.sandbox_traps` | counter | | policy calls that trapped, broke a limit or returned something untrue |
//! | `docker_attestor.engine_calls` | counter | `operation`, `outcome` | calls of the container engine |
//! | `docker_attestor.engine_call_seconds` | sample | `operation`, `outcome` | how long a call took |
//! | `docker_attestor.component_changes` | counter | `component`, `outcome` | attempts to replace a component: `replaced`, or the step that failed |
//! | `docker_attestor.component_in_use` | gauge | `component`, `digest`, `version`, `since` | 1 for the component in use, 0 for its predecessors |

use std::time::Instant;

use spire_plugin::metrics::HostMetrics;
use tonic::Code;

use crate::error::code_name;

/// The first part of every key.
const PREFIX: &str = "docker_attestor";

/// Records the plugin's metrics. Cheap to clone; all clones record to the same place.
#[derive(Clone, Default)]
pub struct Metrics(HostMetrics);

impl Metrics {
    /// Creates metrics that reach the agent while the plugin is served.
    pub fn new() -> Metrics {
        Metrics(HostMetrics::new(PREFIX))
    }

    /// Creates metrics that are discarded, for the command line.
    pub fn disabled() -> Metrics {
        Metrics(HostMetrics::disabled())
    }

    /// The sender of these metrics to the agent.
    pub fn host_metrics(&self) -> HostMetrics {
        self.0.clone()
    }

    /// Records an attestation that was answered.
    pub fn attestation(&self, code: Code, started: Instant) {
        let labels = vec![("status", code_name(code).into())];
        self.0.count_timed("attestations", "attestation_seconds", labels, started);
    }

    /// Records a policy call that trapped, broke a limit, or returned something untrue.
    pub fn sandbox_trap(&self) {
        self.0.count("sandbox_traps", Vec::new());
    }

    /// Records a call of the container engine.
    pub fn engine_call(&self, operation: &'static str, outcome: &'static str, started: Instant) {
        let labels = vec![("operation", operation.into()), ("outcome", outcome.into())];
        self.0.count_timed("engine_calls", "engine_call_seconds", labels, started);
    }

    /// Records an attempt to replace a component. `outcome` is `replaced` or the step that failed.
    pub fn component_change(&self, name: &str, outcome: &'static str) {
        let labels = vec![("component", name.to_owned().into()), ("outcome", outcome.into())];
        self.0.count("component_changes", labels);
    }

    /// Records that a component is in use from now on, or no longer.
    pub fn component_in_use(&self, name: &str, digest: &str, version: &str, since: &str, in_use: bool) {
        let labels = [("component", name), ("digest", digest), ("version", version), ("since", since)];
        let labels = labels.into_iter().map(|(name, value)| (name, value.to_owned().into())).collect();
        self.0.set_gauge("component_in_use", if in_use { 1.0 } else { 0.0 }, labels);
    }
}
