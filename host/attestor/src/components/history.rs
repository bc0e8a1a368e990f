//! What is in use since when: the configuration, and the components, with what became of the last attempt to replace each. And what
//! attestations answered since then. For the log, the metrics, and
//! `docker-attestor policy status`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use jiff::{Timestamp, Unit};
use semver::Version;
use serde::{Deserialize, Serialize};

use super::POLICY;
use super::load::{LoadError, Step};
use crate::error::Error;
use crate::limits;
use crate::telemetry::metrics::Metrics;

/// The source of the built-in policy.
const BUILT_IN: &str = "built-in";

/// The status of a running plugin, as its status socket sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub program: String,
    /// The plugin's process id.
    pub pid: u32,
    /// The process id of the agent that started it.
    pub agent: u32,
    /// Whether the agent has configured it.
    pub configured: bool,
    /// The configuration in use, and the last one that was refused. A plugin of an older version does not say.
    #[serde(default)]
    pub configuration: ConfigurationStatus,
    /// What attestations answered since a configuration or a component came into use last. `None` before the first, and from a plugin of
    /// an older version.
    #[serde(default)]
    pub attestations: Option<AttestationsStatus>,
    /// The policy, and the extensions by name.
    pub components: Vec<ComponentStatus>,
}

impl Status {
    /// Whether something needs a look: the last Configure was refused, the last attempt to replace a component failed, or every
    /// attestation of a container failed so far.
    pub fn is_failing(&self) -> bool {
        self.configuration.failing
            || self.components.iter().any(|component| component.failing)
            || self.attestations.as_ref().is_some_and(AttestationsStatus::all_failed)
    }
}

/// The configuration in use, and the last one that was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// When the configuration in use was accepted.
    pub since: Option<Timestamp>,
    /// Whether the last Configure was refused.
    pub failing: bool,
    /// The last configuration that was refused, whatever came after it.
    pub last_refusal: Option<RefusedConfiguration>,
}

/// A configuration that was refused, for its keys, its values or a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedConfiguration {
    /// The time of the refusal.
    pub at: Timestamp,
    /// Why it was refused. The text that the agent got too, cut off at [`limits::STATUS_TEXT`].
    pub reason: String,
}

/// What attestations answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationsStatus {
    /// From when on attestations are counted.
    pub since: Timestamp,
    /// Attestations that answered with selectors.
    pub with_selectors: u64,
    /// Attestations that answered without one, as for a process in no container.
    pub without_selectors: u64,
    /// Attestations that failed.
    pub failed: u64,
    /// The last attestation that failed.
    pub last_failure: Option<FailedAttestation>,
}

impl AttestationsStatus {
    /// Whether attestations failed, and none answered with selectors.
    pub fn all_failed(&self) -> bool {
        self.failed > 0 && self.with_selectors == 0
    }
}

/// An attestation that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttestation {
    /// When it failed.
    pub at: Timestamp,
    /// The process.
    pub pid: i32,
    /// Why it failed. The text that the agent got too, cut off at [`limits::STATUS_TEXT`].
    pub reason: String,
}

/// Counts what attestations answer. Takes no lock, because every attestation counts.
pub struct Tally {
    since: Timestamp,
    with_selectors: AtomicU64,
    without_selectors: AtomicU64,
    failed: AtomicU64,
    last_failure: ArcSwapOption<FailedAttestation>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            since: now(),
            with_selectors: AtomicU64::new(0),
            without_selectors: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failure: ArcSwapOption::empty(),
        }
    }
}

impl Tally {
    /// Counts one attestation.
    pub fn count(&self, pid: i32, outcome: &Result<Vec<String>, Error>) {
        let counter = match outcome {
            Ok(selectors) if selectors.is_empty() => &self.without_selectors,
            Ok(_) => &self.with_selectors,
            Err(error) => {
                let failure = FailedAttestation { at: now(), pid, reason: cut(&error.to_string()) };
                self.last_failure.store(Some(Arc::new(failure)));
                &self.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn status(&self) -> AttestationsStatus {
        AttestationsStatus {
            since: self.since,
            with_selectors: self.with_selectors.load(Ordering::Relaxed),
            without_selectors: self.without_selectors.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            last_failure: self.last_failure.load().as_deref().cloned(),
        }
    }
}

/// The beginning of a text, as long as a status may hold it.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(limits::STATUS_TEXT);
    match text.get(..end) {
        Some(start) if end < text.len() => format!("{start}…"),
        _ => text.to_owned(),
    }
}

/// The status of a component that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// `policy`, or `extension NAME`.
    pub name: String,
    /// The component's file, or `built-in`.
    pub source: String,
    /// The component's digest, `sha256:…`.
    pub digest: String,
    /// The version that the component's author gave it.
    pub version: Option<String>,
    /// When the component came into use.
    pub since: Timestamp,
    /// How often the component was replaced since the plugin started.
    pub replaced: u64,
    /// Whether the last attempt to replace the component failed.
    pub failing: bool,
    /// The last attempt to replace the component that failed, whatever came after it.
    pub last_failure: Option<FailedUpdate>,
    /// When that failure was over: another component came into use, or the file held the one in use again. `None` while it is not over,
    /// and from a plugin of an older version.
    #[serde(default)]
    pub healed: Option<Timestamp>,
}

/// An attempt to replace a component that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedUpdate {
    /// The time of the attempt.
    pub at: Timestamp,
    /// The step that failed.
    pub step: Step,
    /// Why the step failed.
    pub reason: String,
}

/// The components that are in use, and those that were.
#[derive(Default)]
pub struct History {
    components: Mutex<BTreeMap<String, ComponentStatus>>,
    configuration: Mutex<ConfigurationStatus>,
    /// The newest version that was in use from each file, whatever came into use since.
    newest: Mutex<BTreeMap<PathBuf, Version>>,
    metrics: Metrics,
}

/// A component that comes into use.
pub struct Active<'a> {
    /// `policy`, or `extension NAME`.
    pub name: &'a str,
    /// The component's file. `None` for the built-in policy.
    pub path: Option<&'a PathBuf>,
    /// The component's digest, `sha256:…`.
    pub digest: &'a str,
    /// The version that the component's author gave it.
    pub version: Option<&'a Version>,
}

impl History {
    /// An empty history that reports to these metrics.
    pub fn new(metrics: Metrics) -> History {
        History { metrics, ..History::default() }
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<String, ComponentStatus>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The components in use, the policy first.
    pub fn in_use(&self) -> Vec<ComponentStatus> {
        let components = self.components();
        let policy = components.get(POLICY);
        let others = components.iter().filter(|(name, _)| *name != POLICY).map(|(_, component)| component);
        policy.into_iter().chain(others).cloned().collect()
    }

    /// The configuration in use, and the last one that was refused.
    pub fn configuration(&self) -> ConfigurationStatus {
        self.configuration.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records what became of a configuration.
    pub fn configured(&self, outcome: Result<(), &Error>) {
        let mut configuration = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        configuration.failing = outcome.is_err();
        match outcome {
            Ok(()) => configuration.since = Some(now()),
            Err(error) => {
                let refusal = RefusedConfiguration { at: now(), reason: cut(&error.to_string()) };
                configuration.last_refusal = Some(refusal);
            }
        }
    }

    /// The newest version that was in use from a file.
    pub fn newest(&self, path: &Path) -> Option<Version> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// Records that these components and no others are in use from now on.
    pub fn activate(&self, all: &[Active<'_>]) {
        let mut components = self.components();
        components.retain(|name, _| {
            let stays = all.iter().any(|used| used.name == name);
            if !stays {
                self.metrics.component_in_use(name, None);
                self.metrics.component_failing(name, false);
            }
            stays
        });
        for used in all {
            let source = used.path.map_or_else(|| BUILT_IN.to_owned(), |path| path.display().to_string());
            let before = components.get(used.name);
            if before.is_none() {
                self.metrics.declare_component(used.name, Step::ALL.into_iter().map(Step::name));
            }
            if before.is_some_and(|before| before.digest == used.digest && before.source == source) {
                continue;
            }
            let active = ComponentStatus {
                name: used.name.to_owned(),
                source,
                digest: used.digest.to_owned(),
                version: used.version.map(Version::to_string),
                since: now(),
                replaced: before.map_or(0, |before| before.replaced + 1),
                failing: false,
                last_failure: before.and_then(|before| before.last_failure.clone()),
                healed: before.and_then(|before| if before.failing { Some(now()) } else { before.healed }),
            };
            let (digest, source) = (&active.digest, &active.source);
            let version = active.version.as_deref().unwrap_or("none");
            match before {
                Some(before) => {
                    self.metrics.component_change(used.name, "replaced");
                    tracing::info!(%digest, version, %source, before = %before.digest, "{} replaced", active.name);
                }
                None => tracing::info!(%digest, version, %source, "{} in use", active.name),
            }
            self.metrics.component_in_use(used.name, Some(used.digest));
            self.metrics.component_failing(used.name, false);
            components.insert(used.name.to_owned(), active);
            if let (Some(path), Some(version)) = (used.path, used.version) {
                let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
                if newest.get(path).is_none_or(|newest| newest < version) {
                    newest.insert(path.clone(), version.clone());
                }
            }
        }
    }

    /// Records that a component's file holds the component that is in use, so that the last failure is over.
    pub fn mark_current(&self, name: &str) {
        if let Some(component) = self.components().get_mut(name) {
            if component.failing {
                component.healed = Some(now());
            }
            component.failing = false;
            self.metrics.component_failing(name, false);
        }
    }

    /// Records that a component was not replaced, and logs why.
    pub fn failed(&self, name: &str, error: &LoadError) {
        tracing::error!(step = %error.step, path = %error.path.display(), reason = %error.reason, "{name} not replaced: what runs goes on");
        self.metrics.component_change(name, error.step.name());
        if let Some(component) = self.components().get_mut(name) {
            component.failing = true;
            component.healed = None;
            self.metrics.component_failing(name, true);
            component.last_failure = Some(FailedUpdate { at: now(), step: error.step, reason: error.reason.clone() });
        }
    }
}

/// The current time in whole seconds.
fn now() -> Timestamp {
    Timestamp::now().round(Unit::Second).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses<'a>(path: &'a PathBuf, digest: &'a str, version: &'a Version) -> [Active<'a>; 1] {
        [Active { name: POLICY, path: Some(path), digest, version: Some(version) }]
    }

    #[test]
    fn a_failure_stays_until_it_is_looked_at_and_replacements_are_counted() {
        let history = History::default();
        let (path, one, two) = (PathBuf::from("/p.wasm"), Version::new(1, 0, 0), Version::new(2, 0, 0));
        history.activate(&[Active { name: POLICY, path: None, digest: "sha256:aa", version: None }]);
        history.activate(&uses(&path, "sha256:bb", &two));
        let error = LoadError::new(&path, Step::Trial, "it trapped");
        history.failed(POLICY, &error);
        history.activate(&uses(&path, "sha256:cc", &one));
        let [policy] = history.in_use().try_into().unwrap();
        assert_eq!((policy.digest.as_str(), policy.replaced, policy.source.as_str()), ("sha256:cc", 2, "/p.wasm"));
        assert_eq!(policy.last_failure.unwrap().step, Step::Trial);
        assert_eq!(history.newest(Path::new("/other.wasm")), None);
        history.activate(&[]);
        assert_eq!(history.in_use(), []);
        assert_eq!(history.newest(&path), Some(two), "the newest that ran, not the last, and though none is in use");
    }

    #[test]
    fn a_failure_is_over_when_what_runs_is_in_the_file_again_or_another_component_runs() {
        let history = History::default();
        let (path, one) = (PathBuf::from("/p.wasm"), Version::new(1, 0, 0));
        let policy = || -> ComponentStatus {
            let [policy] = history.in_use().try_into().unwrap();
            policy
        };
        history.activate(&uses(&path, "sha256:aa", &one));
        history.mark_current(POLICY);
        assert_eq!(policy().healed, None, "there was no failure");
        let error = LoadError::new(&path, Step::Trial, "it trapped");
        history.failed(POLICY, &error);
        assert_eq!((policy().failing, policy().healed), (true, None));
        history.mark_current(POLICY);
        assert!(!policy().failing && policy().healed.is_some() && policy().last_failure.is_some());
        history.failed(POLICY, &error);
        assert_eq!((policy().failing, policy().healed), (true, None), "it failed again");
        history.activate(&uses(&path, "sha256:bb", &one));
        assert!(!policy().failing && policy().healed.is_some());
    }

    #[test]
    fn a_refused_configuration_is_kept_with_a_bounded_reason_and_ends_with_an_accepted_one() {
        let history = History::default();
        assert_eq!(history.configuration(), ConfigurationStatus::default());
        history.configured(Ok(()));
        history.configured(Err(&Error::Configuration("ä".repeat(limits::STATUS_TEXT))));
        let refused = history.configuration();
        let reason = refused.last_refusal.clone().unwrap().reason;
        assert!(refused.failing && refused.since.is_some());
        assert!(reason.ends_with("ä…") && reason.len() <= limits::STATUS_TEXT + '…'.len_utf8(), "{}", reason.len());
        history.configured(Ok(()));
        let accepted = history.configuration();
        assert!(!accepted.failing && accepted.last_refusal == refused.last_refusal);
    }

    #[test]
    fn attestations_are_counted_by_their_answers_and_the_last_failure_is_kept() {
        let tally = Tally::default();
        tally.count(1, &Ok(Vec::new()));
        assert!(!tally.status().all_failed(), "a process in no container is no failure");
        tally.count(2, &Err(Error::NotConfigured));
        tally.count(3, &Err(Error::InvalidPid(3)));
        let status = tally.status();
        assert_eq!((status.with_selectors, status.without_selectors, status.failed), (0, 1, 2));
        assert!(status.all_failed() && status.last_failure.is_some_and(|failure| failure.pid == 3));
        tally.count(4, &Ok(vec!["label:a:b".to_owned()]));
        assert!(!tally.status().all_failed());
    }

    #[test]
    fn the_answer_of_an_older_plugin_is_read() {
        let older = r#"{"program": "0.1.0", "pid": 7, "agent": 6, "configured": true, "components": [{"name": "policy",
            "source": "built-in", "digest": "sha256:aa", "version": null, "since": "2026-01-01T00:00:00Z", "replaced": 0,
            "failing": false, "last_failure": null}]}"#;
        let status: Status = serde_json::from_str(older).unwrap();
        assert!(!status.is_failing() && status.attestations.is_none());
        assert_eq!(status.configuration, ConfigurationStatus::default());
    }
}
