//! The plugin's metrics.
//!
//! [`METRICS`] declares each of them. The operator's page says what each means, and the alerts and the dashboard in
//! `host/monitoring` use no other. No label holds a digest, a version of a component or a time, because the agent keeps each series
//! until it ends. Labels are from closed sets, or are the names of extensions in the configuration.
//!
//! An answer that is reused costs the counter one atomic addition. Everything else is counted where an attestation waits or computes
//! anyway.

use std::borrow::Cow;
use std::time::Instant;

use bounded::lanes::Full;
use containers::Clause;
use image_signatures::{Observation, Rule};
use sandbox::inspect::CONTRACT;
use spire_plugin::metrics::{Counter, HostMetrics, Label};
use tonic::Code;

use crate::error::code_name;

/// The first part of every key.
pub const PREFIX: &str = "docker_attestor";

/// A metric, as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The key's second part. In Prometheus the name is `spire_agent_docker_attestor_` and this.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The names of the labels. The agent may add labels of its own.
    pub labels: &'static [&'static str],
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// Seconds. Prometheus shows quantiles, and the series `_sum` and `_count`.
    Sample,
    /// A value that is set.
    Gauge,
}

const ATTESTATIONS: Metric = counter("attestations", &["status"]);
const ATTESTATION_SECONDS: Metric = Metric { kind: Kind::Sample, ..counter("attestation_seconds", &["status"]) };
const ANSWERS: Metric = counter("answers", &["source"]);
const CLAIMS_NOT_PROVEN: Metric = counter("claims_not_proven", &["clause"]);
const IMAGE_VERDICTS: Metric = counter("image_verdicts", &["outcome", "rule"]);
const EXTENSIONS_OMITTED: Metric = counter("extensions_omitted", &["extension"]);
const SANDBOX_TRAPS: Metric = counter("sandbox_traps", &[]);
const QUEUE_REFUSALS: Metric = counter("queue_refusals", &["queue", "bound"]);
const ENGINE_CALLS: Metric = counter("engine_calls", &["operation", "outcome"]);
const ENGINE_CALL_SECONDS: Metric =
    Metric { kind: Kind::Sample, ..counter("engine_call_seconds", &["operation", "outcome"]) };
const CONFIGURATIONS: Metric = counter("configurations", &["outcome"]);
const CONFIGURATION_REFUSED: Metric = gauge("configuration_refused", &[]);
const COMPONENT_CHANGES: Metric = counter("component_changes", &["component", "outcome"]);
const COMPONENT_FAILING: Metric = gauge("component_failing", &["component"]);
const COMPONENT_DIGEST: Metric = gauge("component_digest", &["component"]);
const BUILD_INFO: Metric = gauge("build_info", &["version", "contract"]);

/// Every metric of the plugin.
pub const METRICS: &[Metric] = &[
    ATTESTATIONS,
    ATTESTATION_SECONDS,
    ANSWERS,
    CLAIMS_NOT_PROVEN,
    IMAGE_VERDICTS,
    EXTENSIONS_OMITTED,
    SANDBOX_TRAPS,
    QUEUE_REFUSALS,
    ENGINE_CALLS,
    ENGINE_CALL_SECONDS,
    CONFIGURATIONS,
    CONFIGURATION_REFUSED,
    COMPONENT_CHANGES,
    COMPONENT_FAILING,
    COMPONENT_DIGEST,
    BUILD_INFO,
];

const fn counter(name: &'static str, labels: &'static [&'static str]) -> Metric {
    Metric { name, kind: Kind::Counter, labels }
}

const fn gauge(name: &'static str, labels: &'static [&'static str]) -> Metric {
    Metric { name, kind: Kind::Gauge, labels }
}

impl Metric {
    /// The labels with these values, in the order in which they are declared.
    fn with<const COUNT: usize>(&self, values: [Cow<'static, str>; COUNT]) -> Vec<Label> {
        debug_assert_eq!(self.labels.len(), COUNT, "{}", self.name);
        self.labels.iter().copied().zip(values).collect()
    }
}

/// The codes of attestations that are declared before there is one.
const EXPECTED_CODES: [Code; 7] = [
    Code::Ok,
    Code::FailedPrecondition,
    Code::Unavailable,
    Code::DeadlineExceeded,
    Code::ResourceExhausted,
    Code::PermissionDenied,
    Code::Internal,
];

/// A queue of callers that is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Calls that wait for a sandbox.
    Sandbox,
    /// Attestations that wait for the verification of an image.
    Verifications,
    /// Images that are verified.
    Images,
}

impl Queue {
    fn name(self) -> &'static str {
        match self {
            Queue::Sandbox => "sandbox",
            Queue::Verifications => "verifications",
            Queue::Images => "images",
        }
    }
}

/// Records the plugin's metrics. Cheap to clone; all clones record to the same place.
#[derive(Clone, Default)]
pub struct Metrics {
    host: HostMetrics,
    answers_reused: Counter,
    answers_made: Counter,
}

impl Metrics {
    /// Creates metrics that reach the agent while the plugin is served. Counters with labels from closed sets stand at 0 from the
    /// start, so that an alert sees the first increase.
    pub fn new() -> Metrics {
        let host = HostMetrics::new(PREFIX);
        let declare = |metric: Metric, labels: Vec<Label>| host.declare(metric.name, labels);
        for code in EXPECTED_CODES {
            declare(ATTESTATIONS, ATTESTATIONS.with([code_name(code).into()]));
        }
        for clause in Clause::ALL {
            declare(CLAIMS_NOT_PROVEN, CLAIMS_NOT_PROVEN.with([clause.letter().into()]));
        }
        let failed = Rule::ALL.into_iter().map(Some).chain([None]).map(Observation::Failed);
        for verdict in failed.chain([Observation::Verified, Observation::Unreachable, Observation::Expired]) {
            if let Some((outcome, rule)) = verdict_labels(verdict) {
                declare(IMAGE_VERDICTS, IMAGE_VERDICTS.with([outcome.into(), rule.into()]));
            }
        }
        declare(SANDBOX_TRAPS, SANDBOX_TRAPS.with([]));
        let queues = [Queue::Sandbox, Queue::Verifications, Queue::Images].map(Queue::name);
        for queue in containers::QUEUES.into_iter().chain(queues) {
            for bound in [Full::Lane(0), Full::Total(0)] {
                declare(QUEUE_REFUSALS, QUEUE_REFUSALS.with([queue.into(), bound_name(bound).into()]));
            }
        }
        for outcome in ["accepted", "refused"] {
            declare(CONFIGURATIONS, CONFIGURATIONS.with([outcome.into()]));
        }
        let build = [env!("CARGO_PKG_VERSION").into(), format!("{}.{}", CONTRACT.major, CONTRACT.minor).into()];
        host.set_gauge(BUILD_INFO.name, 1.0, BUILD_INFO.with(build));
        let answers = |source: &'static str| host.counter(ANSWERS.name, ANSWERS.with([source.into()]));
        Metrics { answers_reused: answers("reused"), answers_made: answers("made"), host: host.clone() }
    }

    /// Creates metrics that are discarded, for the command line.
    pub fn disabled() -> Metrics {
        Metrics::default()
    }

    /// The sender of these metrics to the agent.
    pub fn host_metrics(&self) -> HostMetrics {
        self.host.clone()
    }

    /// Records an attestation that was answered.
    pub fn attestation(&self, code: Code, started: Instant) {
        let labels = ATTESTATIONS.with([code_name(code).into()]);
        self.host.count_timed(ATTESTATIONS.name, ATTESTATION_SECONDS.name, labels, started);
    }

    /// Records an attestation for which an earlier answer was used again.
    pub fn answer_reused(&self) {
        self.answers_reused.increment();
    }

    /// Records an attestation for which the policy ran.
    pub fn answer_made(&self) {
        self.answers_made.increment();
    }

    /// Records a claim to be in a container that is not proven.
    pub fn claim_not_proven(&self, clause: Clause) {
        self.host.count(CLAIMS_NOT_PROVEN.name, CLAIMS_NOT_PROVEN.with([clause.letter().into()]));
    }

    /// Records what a verifier of images observed.
    pub fn image(&self, observation: Observation) {
        match verdict_labels(observation) {
            Some((outcome, rule)) => {
                self.host.count(IMAGE_VERDICTS.name, IMAGE_VERDICTS.with([outcome.into(), rule.into()]));
            }
            None => self.full(Queue::Images, Full::Total(0)),
        }
    }

    /// Records an extension that failed, so that its selectors were left out.
    pub fn extension_omitted(&self, name: &str) {
        self.host.count(EXTENSIONS_OMITTED.name, EXTENSIONS_OMITTED.with([name.to_owned().into()]));
    }

    /// Declares that the selectors of this extension may be left out.
    pub fn may_be_omitted(&self, name: &str) {
        self.host.declare(EXTENSIONS_OMITTED.name, EXTENSIONS_OMITTED.with([name.to_owned().into()]));
    }

    /// Records a policy call that trapped, broke a limit, or returned something untrue.
    pub fn sandbox_trap(&self) {
        self.host.count(SANDBOX_TRAPS.name, SANDBOX_TRAPS.with([]));
    }

    /// Records a caller that a full queue refused.
    pub fn full(&self, queue: Queue, full: Full) {
        self.queue_refusal(queue.name(), full);
    }

    /// Records a caller that a full queue of the containers refused. `queue` is one of [`containers::QUEUES`].
    pub fn engine_full(&self, queue: &'static str, full: Full) {
        self.queue_refusal(queue, full);
    }

    fn queue_refusal(&self, queue: &'static str, full: Full) {
        self.host.count(QUEUE_REFUSALS.name, QUEUE_REFUSALS.with([queue.into(), bound_name(full).into()]));
    }

    /// Records a call of the container engine.
    pub fn engine_call(&self, operation: &'static str, outcome: &'static str, started: Instant) {
        let labels = ENGINE_CALLS.with([operation.into(), outcome.into()]);
        self.host.count_timed(ENGINE_CALLS.name, ENGINE_CALL_SECONDS.name, labels, started);
    }

    /// Records a configuration of the agent that was accepted or refused.
    pub fn configuration(&self, accepted: bool) {
        let outcome = if accepted { "accepted" } else { "refused" };
        self.host.count(CONFIGURATIONS.name, CONFIGURATIONS.with([outcome.into()]));
        let refused = if accepted { 0.0 } else { 1.0 };
        self.host.set_gauge(CONFIGURATION_REFUSED.name, refused, CONFIGURATION_REFUSED.with([]));
    }

    /// Declares that a component may be replaced, and that one of these steps may fail.
    pub fn declare_component(&self, component: &str, steps: impl Iterator<Item = &'static str>) {
        for outcome in steps.chain(["replaced"]) {
            let labels = COMPONENT_CHANGES.with([component.to_owned().into(), outcome.into()]);
            self.host.declare(COMPONENT_CHANGES.name, labels);
        }
    }

    /// Records an attempt to replace a component. `outcome` is `replaced` or the step that failed.
    pub fn component_change(&self, component: &str, outcome: &'static str) {
        let labels = COMPONENT_CHANGES.with([component.to_owned().into(), outcome.into()]);
        self.host.count(COMPONENT_CHANGES.name, labels);
    }

    /// Records whether the last attempt to replace a component failed.
    pub fn component_failing(&self, component: &str, failing: bool) {
        let labels = COMPONENT_FAILING.with([component.to_owned().into()]);
        self.host.set_gauge(COMPONENT_FAILING.name, if failing { 1.0 } else { 0.0 }, labels);
    }

    /// Records that the component with this digest (`sha256:…`) is in use. `None`: the component is no longer configured.
    pub fn component_in_use(&self, component: &str, digest: Option<&str>) {
        let labels = COMPONENT_DIGEST.with([component.to_owned().into()]);
        self.host.set_gauge(COMPONENT_DIGEST.name, digest.map_or(0.0, digest_value), labels);
    }
}

/// The labels `outcome` and `rule` of a verdict. `None` if there is no verdict.
fn verdict_labels(observation: Observation) -> Option<(&'static str, &'static str)> {
    match observation {
        Observation::Verified => Some(("verified", "none")),
        Observation::Failed(rule) => Some(("failed", rule.map_or("none", Rule::title))),
        Observation::Unreachable => Some(("unreachable", "none")),
        Observation::Expired => Some(("expired", "none")),
        Observation::Full => None,
    }
}

fn bound_name(full: Full) -> &'static str {
    match full {
        Full::Lane(_) => "lane",
        Full::Total(_) => "total",
    }
}

/// The first six hex digits of a digest as a number, so that nodes with different components can be told apart without a series for
/// each digest. The agent takes a float of 32 bits, which holds integers up to 2^24 exactly.
fn digest_value(digest: &str) -> f32 {
    let hex = digest.strip_prefix("sha256:").and_then(|hex| hex.get(..6));
    let value = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    let value = value as f32;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_that_differ_at_the_start_have_different_values() {
        assert_eq!(digest_value("sha256:ffffff00"), 16_777_215.0);
        assert_eq!(digest_value("sha256:fffffe00"), 16_777_214.0);
        assert_eq!(digest_value("sha256:00000aff"), 10.0);
        for malformed in ["", "sha256:", "sha256:ff", "sha256:+fffff", "sha512:ffffff00"] {
            assert!(digest_value(malformed) < 16_777_216.0, "{malformed}");
        }
    }

    #[test]
    fn every_metric_has_a_name_of_its_own() {
        for (number, metric) in METRICS.iter().enumerate() {
            assert!(METRICS.iter().skip(number + 1).all(|other| other.name != metric.name), "{}", metric.name);
        }
    }

    #[test]
    fn no_label_makes_a_series_for_each_digest_version_or_time() {
        for metric in METRICS {
            for label in metric.labels {
                assert!(!["digest", "since", "time", "image", "container", "pid"].contains(label), "{}", metric.name);
            }
        }
    }
}
