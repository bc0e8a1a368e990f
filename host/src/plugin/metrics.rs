//! The metrics, sent to the agent's metrics host service, which adds them to its own.
//!
//! | key | kind | labels | meaning |
//! |---|---|---|---|
//! | `docker_attestor.attestations` | counter | `status` (gRPC code) | attestations by outcome |
//! | `docker_attestor.attestation_seconds` | sample | `status` | how long an attestation took |
//! | `docker_attestor.sandbox_traps` | counter | | policy calls that trapped, broke a limit or lied |
//! | `docker_attestor.engine_calls` | counter | `operation`, `outcome` | calls of the container engine |
//! | `docker_attestor.engine_call_seconds` | sample | `operation`, `outcome` | how long they took |
//! | `docker_attestor.component_changes` | counter | `component`, `outcome` | `replaced`, or the step at which that failed |
//! | `docker_attestor.component_in_use` | gauge | `component`, `digest`, `version`, `since` | 1 for what is in use, 0 for what was |
//!
//! Recording never waits: counters are summed and samples kept in a bounded buffer until a task of its own sends them. An agent
//! without the service, or one that hangs, costs samples, and what was counted is sent when it answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::error::code_name;
use crate::status::Component;

use self::proto::metrics_client::MetricsClient;
use self::proto::{AddSampleRequest, IncrCounterRequest, Label, SetGaugeRequest};

#[expect(unreachable_pub, unused_qualifications, clippy::allow_attributes_without_reason, reason = "generated code")]
mod proto {
    tonic::include_proto!("spire.hostservice.common.metrics.v1");
}

/// How often what was recorded is sent.
const INTERVAL: Duration = Duration::from_secs(1);
/// One call of the service.
const CALL: Duration = Duration::from_secs(2);
/// The longest pause after a failure.
const BACKOFF: Duration = Duration::from_secs(60);
/// Samples kept for one series between two sendings; the rest only count.
const SAMPLES: usize = 64;

/// Gauges that wait to be sent; of more the first are sent.
const GAUGES: usize = 256;

/// Records. Cheap to clone; all clones record to the same place.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Mutex<BTreeMap<Series, Recorded>>>>);

/// The name and labels of a series.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    counter: &'static str,
    sample: Option<&'static str>,
    labels: Labels,
}

type Labels = Vec<(&'static str, Cow<'static, str>)>;

#[derive(Default)]
struct Recorded {
    count: u32,
    seconds: Vec<f32>,
    /// A gauge, and its value: then nothing is counted.
    gauge: Option<f32>,
}

impl Metrics {
    /// Metrics that [`Metrics::send`] sends.
    pub fn new() -> Metrics {
        Metrics(Some(Arc::default()))
    }

    /// Metrics that go nowhere: the command line's.
    pub fn disabled() -> Metrics {
        Metrics(None)
    }

    /// An attestation was answered.
    pub fn attestation(&self, code: Code, started: Instant) {
        let labels = vec![("status", code_name(code).into())];
        self.record("attestations", Some("attestation_seconds"), labels, started);
    }

    /// A policy trapped, broke a limit, or lied.
    pub fn sandbox_trap(&self) {
        self.record("sandbox_traps", None, Vec::new(), Instant::now());
    }

    /// The container engine was called.
    pub fn engine_call(&self, operation: &'static str, outcome: &'static str, started: Instant) {
        let labels = vec![("operation", operation.into()), ("outcome", outcome.into())];
        self.record("engine_calls", Some("engine_call_seconds"), labels, started);
    }

    /// A component was replaced, or not: then `outcome` is the step that failed.
    pub fn component_change(&self, name: &str, outcome: &'static str) {
        let labels = vec![("component", name.to_owned().into()), ("outcome", outcome.into())];
        self.record("component_changes", None, labels, Instant::now());
    }

    /// A component is in use from now on, or no longer.
    pub fn component_in_use(&self, component: &Component, in_use: bool) {
        let Some(series) = &self.0 else { return };
        let labels = [
            ("component", component.name.clone()),
            ("digest", component.digest.clone()),
            ("version", component.version.clone().unwrap_or_default()),
            ("since", component.since.to_string()),
        ];
        let labels = labels.into_iter().map(|(name, value)| (name, value.into())).collect();
        let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Series { counter: "component_in_use", sample: None, labels };
        let gauges = series.values().filter(|recorded| recorded.gauge.is_some()).count();
        if gauges < GAUGES || series.contains_key(&key) {
            series.entry(key).or_default().gauge = Some(if in_use { 1.0 } else { 0.0 });
        }
    }

    fn record(&self, counter: &'static str, sample: Option<&'static str>, labels: Labels, started: Instant) {
        let Some(series) = &self.0 else { return };
        let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = series.entry(Series { counter, sample, labels }).or_default();
        recorded.count = recorded.count.saturating_add(1);
        if sample.is_some() && recorded.seconds.len() < SAMPLES {
            recorded.seconds.push(started.elapsed().as_secs_f32());
        }
    }

    /// Keeps the counts of what could not be sent for the next time.
    fn keep(&self, unsent: BTreeMap<Series, Recorded>) {
        let Some(series) = &self.0 else { return };
        let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
        for (unsent, Recorded { count, gauge, .. }) in unsent {
            let recorded = series.entry(unsent).or_default();
            recorded.count = recorded.count.saturating_add(count);
            recorded.gauge = recorded.gauge.or(gauge);
        }
    }

    /// Sends what is recorded to the host services, once the broker knows their socket. Ends with its task.
    pub async fn send(self, mut services: watch::Receiver<Option<PathBuf>>) {
        let Some(recorded) = &self.0 else { return };
        let mut connected: Option<(PathBuf, MetricsClient<Channel>)> = None;
        let mut pause = INTERVAL;
        loop {
            tokio::time::sleep(pause).await;
            let Some(services) = services.borrow_and_update().clone() else { continue };
            let client = match connected.take() {
                Some((known, client)) if known == services => client,
                // Dialled at the first call, and again by itself when the connection is lost. No keepalive: a Go server
                // punishes pings.
                _ => MetricsClient::new(dial(&services)),
            };
            let mut batch = std::mem::take(&mut *recorded.lock().unwrap_or_else(PoisonError::into_inner));
            pause = match send_batch(client.clone(), &mut batch).await {
                Ok(()) => INTERVAL,
                Err(status) => {
                    self.keep(batch);
                    tracing::debug!(reason = %status.message(), "the agent's metrics service does not answer");
                    (pause * 2).min(BACKOFF)
                }
            };
            connected = Some((services, client));
        }
    }
}

/// Sends, and takes what was sent out of `batch`.
async fn send_batch(mut client: MetricsClient<Channel>, batch: &mut BTreeMap<Series, Recorded>) -> Result<(), Status> {
    let late = |_| Status::deadline_exceeded("no answer in time");
    while let Some(entry) = batch.first_entry() {
        let labels: Vec<Label> = entry
            .key()
            .labels
            .iter()
            .map(|(name, value)| Label { name: (*name).to_owned(), value: value.to_string() })
            .collect();
        if let Some(val) = entry.get().gauge {
            let gauge = SetGaugeRequest { key: key(entry.key().counter), val, labels };
            match tokio::time::timeout(CALL, client.set_gauge(gauge)).await {
                // An agent that refuses gauges has the rest.
                Ok(Err(status)) if status.code() == Code::Unavailable => return Err(status),
                _ => drop(entry.remove()),
            }
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "the service counts in floats")]
        let counter =
            IncrCounterRequest { key: key(entry.key().counter), val: entry.get().count as f32, labels: labels.clone() };
        let sent = tokio::time::timeout(CALL, client.incr_counter(counter)).await;
        if let Ok(Err(status)) = sent {
            return Err(status);
        }
        // Sent, or perhaps: what may have arrived late is not sent twice.
        let (series, recorded) = entry.remove_entry();
        sent.map_err(late)??;
        if let Some(sample) = series.sample {
            for val in recorded.seconds {
                let sample = AddSampleRequest { key: key(sample), val, labels: labels.clone() };
                tokio::time::timeout(CALL, client.add_sample(sample)).await.map_err(late)??;
            }
        }
    }
    Ok(())
}

fn key(name: &str) -> Vec<String> {
    vec!["docker_attestor".to_owned(), name.to_owned()]
}

fn dial(services: &Path) -> Channel {
    let services = services.to_owned();
    // The address of the endpoint is not used: the connector knows where to go.
    Endpoint::from_static("http://host-services").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let connect = UnixStream::connect(services.clone());
        async { connect.await.map(TokioIo::new) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_could_not_be_sent_are_kept_and_samples_are_bounded() {
        let metrics = Metrics::new();
        for _ in 0..100 {
            metrics.attestation(Code::Ok, Instant::now());
        }
        let recorded = metrics.0.as_ref().unwrap();
        let unsent = std::mem::take(&mut *recorded.lock().unwrap());
        metrics.attestation(Code::Ok, Instant::now());
        metrics.keep(unsent);
        let recorded = recorded.lock().unwrap();
        let recorded = recorded.values().map(|recorded| (recorded.count, recorded.seconds.len())).collect::<Vec<_>>();
        assert_eq!(recorded, [(101, 1)]);
    }

    #[test]
    fn a_component_that_is_told_already_is_told_of_whatever_else_waits() {
        let metrics = Metrics::new();
        let component = |number: usize| Component {
            name: format!("extension {number}"),
            source: String::new(),
            digest: String::new(),
            version: None,
            since: jiff::Timestamp::UNIX_EPOCH,
            replaced: 0,
            failing: false,
            last_failure: None,
        };
        for number in 0..2 * GAUGES {
            metrics.engine_call("inspect", "ok", Instant::now());
            metrics.component_in_use(&component(number), true);
        }
        metrics.component_in_use(&component(0), false);
        let recorded = metrics.0.as_ref().unwrap().lock().unwrap();
        let gauges: Vec<f32> = recorded.values().filter_map(|recorded| recorded.gauge).collect();
        assert_eq!(gauges.len(), GAUGES, "bounded");
        assert_eq!(gauges.iter().filter(|&&gauge| gauge == 0.0).count(), 1);
    }
}
