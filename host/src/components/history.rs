//! What is in use: which policy and which extensions, since when, and what became of the last attempt to replace each. For the
//! log, the metrics, and `docker-attestor policy status`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{Timestamp, Unit};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::components::load::{LoadError, Step};
use crate::telemetry::metrics::Metrics;

/// The name under which the policy is reported; extensions have their own.
pub const POLICY: &str = "policy";
/// Where the built-in policy is.
const BUILT_IN: &str = "built-in";

/// A running plugin, as it tells who asks on its status socket.
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
    pub components: Vec<Component>,
}

/// A component that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// `policy`, or `extension NAME`.
    pub name: String,
    /// Its file, or `built-in`.
    pub source: String,
    /// `sha256:…`
    pub digest: String,
    /// What its author calls its version.
    pub version: Option<String>,
    /// When it was put to use.
    pub since: Timestamp,
    /// How often it was replaced since the plugin started.
    pub replaced: u64,
    /// Whether the last attempt to replace it failed.
    pub failing: bool,
    /// The last attempt to replace it that failed, whatever came after.
    pub last_failure: Option<Failure>,
}

/// An attempt to replace a component that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// At which step.
    pub step: Step,
    /// Why.
    pub reason: String,
}

/// What became of the components so far.
#[derive(Default)]
pub struct History {
    components: Mutex<BTreeMap<String, Component>>,
    /// The newest version that ran from each file, whatever else ran since.
    newest: Mutex<BTreeMap<PathBuf, Version>>,
    metrics: Metrics,
}

/// What is put to use.
pub struct Use<'a> {
    /// `policy`, or `extension NAME`.
    pub name: &'a str,
    /// Its file; none for the built-in policy.
    pub path: Option<&'a PathBuf>,
    /// `sha256:…`
    pub digest: &'a str,
    /// What its author calls its version.
    pub version: Option<&'a Version>,
}

impl History {
    /// A history that is told in metrics too.
    pub fn new(metrics: Metrics) -> History {
        History { metrics, ..History::default() }
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<String, Component>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The components in use, the policy first.
    pub fn in_use(&self) -> Vec<Component> {
        let components = self.components();
        let policy = components.get(POLICY);
        let others = components.iter().filter(|(name, _)| *name != POLICY).map(|(_, component)| component);
        policy.into_iter().chain(others).cloned().collect()
    }

    /// The newest version that ran from a file.
    pub fn newest(&self, path: &Path) -> Option<Version> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// These and no others are in use from now on.
    pub fn put_to_use(&self, all: &[Use<'_>]) {
        let mut components = self.components();
        components.retain(|name, component| {
            let stays = all.iter().any(|used| used.name == name);
            if !stays {
                self.metrics.component_in_use(component, false);
            }
            stays
        });
        for used in all {
            let source = used.path.map_or_else(|| BUILT_IN.to_owned(), |path| path.display().to_string());
            let known = components.get(used.name);
            if known.is_some_and(|now| now.digest == used.digest && now.source == source) {
                continue;
            }
            let now = Component {
                name: used.name.to_owned(),
                source,
                digest: used.digest.to_owned(),
                version: used.version.map(Version::to_string),
                since: moment(),
                replaced: known.map_or(0, |now| now.replaced + 1),
                failing: false,
                last_failure: known.and_then(|now| now.last_failure.clone()),
            };
            let (digest, version, source) = (&now.digest, now.version.as_deref().unwrap_or("none"), &now.source);
            match known {
                Some(before) => {
                    self.metrics.component_in_use(before, false);
                    self.metrics.component_change(used.name, "replaced");
                    tracing::info!(%digest, version, %source, before = %before.digest, "{} replaced", now.name);
                }
                None => tracing::info!(%digest, version, %source, "{} in use", now.name),
            }
            self.metrics.component_in_use(&now, true);
            components.insert(used.name.to_owned(), now);
            if let (Some(path), Some(version)) = (used.path, used.version) {
                let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
                if newest.get(path).is_none_or(|newest| newest < version) {
                    newest.insert(path.clone(), version.clone());
                }
            }
        }
    }

    /// What a component's file holds is in use already: an operator brought it back.
    pub fn unchanged(&self, name: &str) {
        if let Some(component) = self.components().get_mut(name) {
            component.failing = false;
        }
    }

    /// A component was not replaced.
    pub fn failed(&self, name: &str, error: &LoadError) {
        tracing::error!(step = %error.step, path = %error.path.display(), reason = %error.reason, "{name} not replaced: what runs goes on");
        self.metrics.component_change(name, error.step.name());
        if let Some(component) = self.components().get_mut(name) {
            component.failing = true;
            component.last_failure = Some(Failure { at: moment(), step: error.step, reason: error.reason.clone() });
        }
    }
}

/// Now, in whole seconds.
fn moment() -> Timestamp {
    Timestamp::now().round(Unit::Second).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses<'a>(path: &'a PathBuf, digest: &'a str, version: &'a Version) -> [Use<'a>; 1] {
        [Use { name: POLICY, path: Some(path), digest, version: Some(version) }]
    }

    #[test]
    fn a_failure_stays_until_it_is_looked_at_and_replacements_are_counted() {
        let history = History::default();
        let (path, one, two) = (PathBuf::from("/p.wasm"), Version::new(1, 0, 0), Version::new(2, 0, 0));
        history.put_to_use(&[Use { name: POLICY, path: None, digest: "sha256:aa", version: None }]);
        history.put_to_use(&uses(&path, "sha256:bb", &two));
        let error = LoadError::new(&path, Step::Trial, "it trapped");
        history.failed(POLICY, &error);
        history.put_to_use(&uses(&path, "sha256:cc", &one));
        let [policy] = history.in_use().try_into().unwrap();
        assert_eq!((policy.digest.as_str(), policy.replaced, policy.source.as_str()), ("sha256:cc", 2, "/p.wasm"));
        assert_eq!(policy.last_failure.unwrap().step, Step::Trial);
        assert_eq!(history.newest(Path::new("/other.wasm")), None);
        history.put_to_use(&[]);
        assert_eq!(history.in_use(), []);
        assert_eq!(history.newest(&path), Some(two), "the newest that ran, not the last, and though none is in use");
    }
}
