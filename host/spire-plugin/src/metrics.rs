//! Metrics for the agent's metrics host service, which adds them to its own.
//!
//! Recording never waits. Counters are summed and samples kept in a bounded buffer until a separate task sends them. If
//! the agent has no such service or hangs, samples are lost, and the counts are sent once it answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::limits::{METRICS_BACKOFF, METRICS_CALL, METRICS_GAUGES, METRICS_INTERVAL, METRICS_SAMPLES, METRICS_SERIES};
use crate::proto::host::metrics_client::MetricsClient;
use crate::proto::host::{self, AddSampleRequest, IncrCounterRequest, SetGaugeRequest};
use crate::socket::{self, Address};

/// The name and the value of a label.
pub type Label = (&'static str, Cow<'static, str>);

/// Records metrics, and sends them to the agent's metrics host service. Cheap to clone: all clones record to the same place.
///
/// The agent adds no plugin's name to a key. Each key therefore begins with the prefix that is passed to
/// [`HostMetrics::new`].
#[derive(Clone, Default)]
pub struct HostMetrics(Option<Arc<Recorder>>);

/// A counter whose labels are known beforehand. Counting is one atomic addition, without a lock and without an allocation. Cheap to
/// clone: all clones count the same.
#[derive(Clone, Default)]
pub struct Counter(Option<Arc<AtomicU64>>);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        if let Some(counted) = &self.0 {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Recorder {
    /// The first part of every key.
    prefix: &'static str,
    series: Mutex<BTreeMap<Series, Recorded>>,
    /// The counters that were made, with what they counted since the last batch.
    counters: Mutex<Vec<(Series, Arc<AtomicU64>)>>,
}

/// The name and labels of a series.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    /// The name of the counter or the gauge.
    name: &'static str,
    /// The name of the sample that is recorded with a counter.
    sample: Option<&'static str>,
    labels: Vec<Label>,
}

#[derive(Default)]
struct Recorded {
    count: u32,
    seconds: Vec<f32>,
    /// The value of a gauge. The count is then 0.
    gauge: Option<f32>,
}

impl Recorder {
    fn series(&self) -> MutexGuard<'_, BTreeMap<Series, Recorded>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything that was recorded since the last call.
    fn take(&self) -> BTreeMap<Series, Recorded> {
        let mut batch = std::mem::take(&mut *self.series());
        for (series, counted) in self.counters.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let counted = u32::try_from(counted.swap(0, Ordering::Relaxed)).unwrap_or(u32::MAX);
            if counted > 0 {
                let recorded = batch.entry(series.clone()).or_default();
                recorded.count = recorded.count.saturating_add(counted);
            }
        }
        batch
    }

    fn key(&self, name: &str) -> Vec<String> {
        vec![self.prefix.to_owned(), name.to_owned()]
    }
}

impl HostMetrics {
    /// Creates metrics that a plugin sends while it is served. Every key is `prefix`, then the metric's own name.
    pub fn new(prefix: &'static str) -> HostMetrics {
        HostMetrics(Some(Arc::new(Recorder { prefix, series: Mutex::default(), counters: Mutex::default() })))
    }

    /// Creates metrics that are discarded, for a program that is not served as a plugin.
    pub fn disabled() -> HostMetrics {
        HostMetrics(None)
    }

    /// Tells the agent of a counter with these labels before there is anything to count, so that it stands at 0. Prometheus cannot see
    /// an increase from nothing to 1.
    pub fn declare(&self, counter: &'static str, labels: Vec<Label>) {
        let Some(recorder) = &self.0 else { return };
        let mut series = recorder.series();
        if series.len() < METRICS_SERIES {
            series.entry(Series { name: counter, sample: None, labels }).or_default();
        }
    }

    /// Declares a counter, and makes the handle that counts for it.
    pub fn counter(&self, counter: &'static str, labels: Vec<Label>) -> Counter {
        let Some(recorder) = &self.0 else { return Counter(None) };
        self.declare(counter, labels.clone());
        let mut counters = recorder.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= METRICS_SERIES {
            return Counter(None);
        }
        let counted = Arc::new(AtomicU64::new(0));
        counters.push((Series { name: counter, sample: None, labels }, Arc::clone(&counted)));
        Counter(Some(counted))
    }

    /// Adds one to a counter.
    pub fn count(&self, counter: &'static str, labels: Vec<Label>) {
        self.record(Series { name: counter, sample: None, labels }, None);
    }

    /// Adds one to a counter, and the seconds since `started` to a sample with the same labels.
    pub fn count_timed(&self, counter: &'static str, sample: &'static str, labels: Vec<Label>, started: Instant) {
        self.record(Series { name: counter, sample: Some(sample), labels }, Some(started));
    }

    /// Sets a gauge.
    pub fn set_gauge(&self, gauge: &'static str, value: f32, labels: Vec<Label>) {
        let Some(recorder) = &self.0 else { return };
        let mut series = recorder.series();
        let key = Series { name: gauge, sample: None, labels };
        let gauges = series.values().filter(|recorded| recorded.gauge.is_some()).count();
        if (gauges < METRICS_GAUGES && series.len() < METRICS_SERIES) || series.contains_key(&key) {
            series.entry(key).or_default().gauge = Some(value);
        }
    }

    fn record(&self, key: Series, started: Option<Instant>) {
        let Some(recorder) = &self.0 else { return };
        let mut series = recorder.series();
        if series.len() >= METRICS_SERIES && !series.contains_key(&key) {
            return;
        }
        let recorded = series.entry(key).or_default();
        recorded.count = recorded.count.saturating_add(1);
        if let Some(started) = started
            && recorded.seconds.len() < METRICS_SAMPLES
        {
            recorded.seconds.push(started.elapsed().as_secs_f32());
        }
    }

    /// Keeps the counts and gauges that could not be sent for the next attempt.
    fn keep(&self, unsent: BTreeMap<Series, Recorded>) {
        let Some(recorder) = &self.0 else { return };
        let mut series = recorder.series();
        for (unsent, Recorded { count, gauge, .. }) in unsent {
            if series.len() >= METRICS_SERIES && !series.contains_key(&unsent) {
                continue;
            }
            let recorded = series.entry(unsent).or_default();
            recorded.count = recorded.count.saturating_add(count);
            recorded.gauge = recorded.gauge.or(gauge);
        }
    }

    /// Sends the recorded metrics to the host services, once the broker knows their address. Returns only if metrics are disabled.
    pub(crate) async fn send(self, mut services: watch::Receiver<Option<Address>>) {
        let Some(recorder) = &self.0 else { return };
        let mut connected: Option<(Address, MetricsClient<Channel>)> = None;
        let mut pause = METRICS_INTERVAL;
        loop {
            tokio::time::sleep(pause).await;
            let Some(services) = services.borrow_and_update().clone() else { continue };
            let client = match connected.take() {
                Some((dialled, client)) if dialled == services => client,
                _ => MetricsClient::new(socket::dial(&services)),
            };
            let mut batch = recorder.take();
            pause = match send_batch(recorder, client.clone(), &mut batch).await {
                Ok(()) => METRICS_INTERVAL,
                Err(status) => {
                    self.keep(batch);
                    tracing::debug!(reason = %status.message(), "the agent's metrics service does not answer");
                    (pause * 2).min(METRICS_BACKOFF)
                }
            };
            connected = Some((services, client));
        }
    }
}

/// Sends the series in `batch`, and removes those that were sent.
async fn send_batch(
    recorder: &Recorder,
    mut client: MetricsClient<Channel>,
    batch: &mut BTreeMap<Series, Recorded>,
) -> Result<(), Status> {
    let late = |_| Status::deadline_exceeded("no answer in time");
    while let Some(entry) = batch.first_entry() {
        let labels: Vec<host::Label> = entry
            .key()
            .labels
            .iter()
            .map(|(name, value)| host::Label { name: (*name).to_owned(), value: value.to_string() })
            .collect();
        if let Some(val) = entry.get().gauge {
            let gauge = SetGaugeRequest { key: recorder.key(entry.key().name), val, labels };
            match tokio::time::timeout(METRICS_CALL, client.set_gauge(gauge)).await {
                // If the agent refuses a gauge, the remaining series are still sent.
                Ok(Err(status)) if status.code() == Code::Unavailable => return Err(status),
                _ => drop(entry.remove()),
            }
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "the service counts in floats")]
        let counter = IncrCounterRequest {
            key: recorder.key(entry.key().name),
            val: entry.get().count as f32,
            labels: labels.clone(),
        };
        let sent = tokio::time::timeout(METRICS_CALL, client.incr_counter(counter)).await;
        if let Ok(Err(status)) = sent {
            return Err(status);
        }
        // Sent, or perhaps sent: a counter that may have arrived despite a timeout is not sent twice.
        let (series, recorded) = entry.remove_entry();
        sent.map_err(late)??;
        if let Some(sample) = series.sample {
            for val in recorded.seconds {
                let sample = AddSampleRequest { key: recorder.key(sample), val, labels: labels.clone() };
                tokio::time::timeout(METRICS_CALL, client.add_sample(sample)).await.map_err(late)??;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(metrics: &HostMetrics) {
        metrics.count_timed("attestations", "attestation_seconds", vec![("status", "OK".into())], Instant::now());
    }

    #[test]
    fn counts_that_could_not_be_sent_are_kept_and_samples_are_bounded() {
        let metrics = HostMetrics::new("test");
        for _ in 0..100 {
            count(&metrics);
        }
        let recorder = metrics.0.as_ref().unwrap();
        let unsent = std::mem::take(&mut *recorder.series());
        assert!(unsent.values().all(|recorded| recorded.seconds.len() == METRICS_SAMPLES));
        count(&metrics);
        metrics.keep(unsent);
        let recorded = recorder.series();
        let recorded = recorded.values().map(|recorded| (recorded.count, recorded.seconds.len())).collect::<Vec<_>>();
        assert_eq!(recorded, [(101, 1)]);
    }

    #[test]
    fn a_counter_stands_at_0_before_it_counts_and_each_batch_has_what_is_new() {
        let metrics = HostMetrics::new("test");
        let labels = vec![("outcome", "reused".into())];
        let counter = metrics.counter("answers", labels.clone());
        metrics.declare("refusals", Vec::new());
        let counts = || {
            let batch = metrics.0.as_ref().unwrap().take();
            batch.into_iter().map(|(series, recorded)| (series.name, recorded.count)).collect::<Vec<_>>()
        };
        assert_eq!(counts(), [("answers", 0), ("refusals", 0)], "both are declared");
        assert_eq!(counts(), [], "once");
        counter.increment();
        counter.clone().increment();
        metrics.count("answers", labels);
        assert_eq!(counts(), [("answers", 3)]);
        assert_eq!(counts(), []);
        HostMetrics::disabled().counter("answers", Vec::new()).increment();
    }

    #[test]
    fn a_gauge_that_waits_is_changed_whatever_else_waits() {
        let metrics = HostMetrics::new("test");
        let labels = |number: usize| vec![("component", format!("extension {number}").into())];
        for number in 0..2 * METRICS_GAUGES {
            count(&metrics);
            metrics.set_gauge("component_in_use", 1.0, labels(number));
        }
        metrics.set_gauge("component_in_use", 0.0, labels(0));
        let recorded = metrics.0.as_ref().unwrap().series();
        let gauges: Vec<f32> = recorded.values().filter_map(|recorded| recorded.gauge).collect();
        assert_eq!(gauges.len(), METRICS_GAUGES, "bounded");
        assert_eq!(gauges.iter().filter(|&&gauge| gauge == 0.0).count(), 1);
    }

    #[test]
    fn series_are_bounded_and_those_that_wait_go_on_counting() {
        let metrics = HostMetrics::new("test");
        let labels = |number: usize| vec![("caller", number.to_string().into())];
        for number in 0..2 * METRICS_SERIES {
            metrics.count("calls", labels(number));
        }
        metrics.count("calls", labels(0));
        metrics.set_gauge("gauge", 1.0, Vec::new());
        let unsent = std::mem::take(&mut *metrics.0.as_ref().unwrap().series());
        assert_eq!(unsent.len(), METRICS_SERIES);
        assert_eq!(unsent.values().map(|recorded| recorded.count).max(), Some(2));
        for number in 0..METRICS_SERIES {
            metrics.count("other_calls", labels(number));
        }
        metrics.keep(unsent);
        assert_eq!(metrics.0.as_ref().unwrap().series().len(), METRICS_SERIES);
    }
}
