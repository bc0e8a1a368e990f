//! The components in use: since when, and what became of the last attempt to replace each. For the log, the metrics, and
//! `docker-attestor policy status`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{Timestamp, Unit};
use semver::Version;
use serde::{Deserialize, Serialize};

use super::POLICY;
use super::load::{LoadError, Step};
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
    /// The policy, and the extensions by name.
    pub components: Vec<ComponentStatus>,
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
}
