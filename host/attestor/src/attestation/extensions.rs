//! Extensions: components of other teams that add selectors of their own. Each gets what it is granted of a proven container, in a
//! sandbox of its own, and emits under its own name only.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bounded::text::is_invisible;
use containers::{Claimant, Container, Proven};
use sandbox::inspect::Description;
use sandbox::wit::{Credentials, Granted, Image};
use sandbox::{Caller, Derivation, Usage};
use tokio::task::JoinSet;

use super::Sandbox;
use crate::config::{Grants, OnFailure};
use crate::error::Error;
use crate::limits;
use crate::workload::values::GrantedValues;
use crate::workload::{Answer, Question, Workload};

/// An extension that is linked and configured.
pub struct Extension {
    /// The linked component.
    pub code: sandbox::LinkedExtension,
    /// What its component says of itself.
    pub description: Description,
    /// Its name: its selectors begin with it.
    pub name: String,
    /// What it is told of a workload.
    pub grants: Grants,
    /// What becomes of an attestation whose extension fails.
    pub on_failure: OnFailure,
    /// Its settings.
    pub settings: Vec<(String, String)>,
}

/// What became of one extension.
pub struct Derived {
    /// The extension's name.
    pub name: String,
    /// The digest of its component.
    pub digest: String,
    /// The number of selectors that it added, or why it added none.
    pub outcome: Result<usize, Error>,
    /// How long it took.
    pub elapsed: Duration,
    /// What the call used.
    pub usage: Usage,
}

impl Extension {
    /// What the extension may know of a workload in this container. `credentials` are there if it is granted them.
    pub fn granted(&self, container: &Container, credentials: Option<Credentials>) -> Granted {
        let Grants { labels, env, image, process } = self.grants;
        Granted {
            labels: labels.then(|| container.labels.clone()),
            env: env.then(|| container.env.clone()),
            image: image.then(|| Image {
                name: container.image.clone(),
                id: container.image_id.clone(),
                manifest_digest: container.image_manifest_digest.clone(),
            }),
            process: credentials.filter(|_| process),
        }
    }

    /// An error that names this extension.
    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::Extension {
            name: self.name.clone(),
            digest: self.description.digest.clone(),
            reason: reason.to_string(),
        }
    }

    /// The extension's selectors for a process in `container`, under its name, and what the call used. `claimant` says in whose lane
    /// the call waits for a sandbox. The error is that the extension failed, returned a selector that it may not, or answered with an
    /// error of its own.
    pub async fn derive(
        &self,
        sandbox: &Sandbox,
        container: &Proven,
        credentials: Option<Credentials>,
        claimant: impl FnOnce() -> Claimant,
    ) -> (Result<Vec<String>, Error>, Usage) {
        let granted = self.granted(container.container(), credentials);
        let Grants { labels, env, .. } = self.grants;
        let told = Arc::new(GrantedValues { container: container.clone(), labels, env });
        let caller = Caller { name: self.name.clone(), told, claimant };
        let Derivation { outcome, usage } = sandbox.derive(&self.code, &self.settings, &granted, caller).await;
        let selectors = match outcome {
            Ok(Ok(derived)) => self.named(&derived).map_err(|why| self.error(why)),
            Ok(Err(reason)) => Err(Error::Refused { name: self.name.clone(), reason }),
            Err(error) => Err(Error::of_call(error, |reason| self.error(reason))),
        };
        (selectors, usage)
    }

    /// The derived selectors under the extension's name, checked for size and shape.
    fn named(&self, derived: &[String]) -> Result<Vec<String>, Malformed> {
        if derived.len() > limits::EXTENSION_SELECTORS {
            return Err(Malformed::TooMany(derived.len()));
        }
        let mut seen = HashSet::new();
        for (index, text) in derived.iter().enumerate() {
            let number = index + 1;
            if text.is_empty() || text.len() > limits::EXTENSION_SELECTOR {
                return Err(Malformed::Length { number, bytes: text.len() });
            }
            if text.chars().any(is_invisible) {
                return Err(Malformed::Invisible(number));
            }
            if !seen.insert(text) {
                return Err(Malformed::Duplicate(number));
            }
        }
        Ok(derived.iter().map(|text| [&self.name, ":", text].concat()).collect())
    }
}

/// Why the selectors of an extension are refused. Selectors are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Malformed {
    #[error("it returned {0} selectors, more than {most}", most = limits::EXTENSION_SELECTORS)]
    TooMany(usize),
    #[error("its selector {number} has {bytes} bytes: 1 to {} may be", limits::EXTENSION_SELECTOR)]
    Length { number: usize, bytes: usize },
    #[error("its selector {0} has a control or format character")]
    Invisible(usize),
    #[error("its selector {0} is a duplicate")]
    Duplicate(usize),
}

/// What all extensions of a configuration came to.
pub(super) struct Extended {
    /// The policy's selectors and the extensions'.
    pub(super) selectors: Vec<String>,
    /// Whether every extension answered, so that the answer may be used again.
    pub(super) complete: bool,
}

/// Adds the selectors of the extensions to the policy's, for a workload in exactly one proven container. The extensions run at the
/// same time. `omitted` gets the names and errors of extensions whose selectors are left out.
pub(super) async fn extend(
    sandbox: &Arc<Sandbox>,
    extensions: &[Arc<Extension>],
    workload: &mut Workload,
    mut selectors: Vec<String>,
    derived: &mut Vec<Derived>,
    omitted: impl Fn(&str, &Error),
) -> Result<Extended, Error> {
    if extensions.is_empty() || workload.transcript().only_container().is_none() {
        return Ok(Extended { selectors, complete: true });
    }
    let mut credentials = None;
    if extensions.iter().any(|extension| extension.grants.process) {
        match workload.answer(&Question::Credentials) {
            Some(Ok(Answer::Credentials(Some(found)))) => {
                credentials = Some(Credentials { uid: found.uid, gid: found.gid });
            }
            Some(Err(fault)) => return Err(Error::Fault(fault.clone())),
            // The process is gone, so that nothing waits for the answer.
            _ => return Ok(Extended { selectors: Vec::new(), complete: true }),
        }
    }
    let Some(container) = workload.transcript().only_container().cloned() else {
        return Ok(Extended { selectors, complete: true });
    };
    let mut complete = true;
    let mut failed = None;
    for (extension, Ran { outcome, usage, elapsed }) in
        extensions.iter().zip(run(sandbox, extensions, workload, &container, credentials).await)
    {
        let added = match outcome {
            Ok(more) => {
                selectors.extend_from_slice(&more);
                Ok(more.len())
            }
            Err(error) => {
                complete = false;
                match extension.on_failure {
                    OnFailure::Deny => failed = failed.or(Some(error.clone())),
                    OnFailure::Omit => omitted(&extension.name, &error),
                }
                Err(error)
            }
        };
        let (name, digest) = (extension.name.clone(), extension.description.digest.clone());
        derived.push(Derived { name, digest, outcome: added, elapsed, usage });
    }
    match failed {
        Some(failed) => Err(failed),
        None => Ok(Extended { selectors, complete }),
    }
}

/// The outcome of running one extension.
struct Ran {
    outcome: Result<Vec<String>, Error>,
    usage: Usage,
    elapsed: Duration,
}

/// Runs the extensions. The outcomes are in the extensions' order.
async fn run(
    sandbox: &Arc<Sandbox>,
    extensions: &[Arc<Extension>],
    workload: &Workload,
    container: &Proven,
    credentials: Option<Credentials>,
) -> Vec<Ran> {
    let one = |extension: Arc<Extension>| {
        let (sandbox, container, claimant) = (Arc::clone(sandbox), container.clone(), workload.deferred_claimant());
        async move {
            let started = Instant::now();
            let (outcome, usage) = extension.derive(&sandbox, &container, credentials, claimant).await;
            Ran { outcome, usage, elapsed: started.elapsed() }
        }
    };
    if let [extension] = extensions {
        return vec![one(Arc::clone(extension)).await];
    }
    let mut running = JoinSet::new();
    for (number, extension) in extensions.iter().enumerate() {
        let outcome = one(Arc::clone(extension));
        running.spawn(async move { (number, outcome.await) });
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
