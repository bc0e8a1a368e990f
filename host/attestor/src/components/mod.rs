//! Policies and extensions: from a file into use, and what became of them.

pub mod builtin;
pub mod candidate;
pub mod history;
pub mod load;
pub(crate) mod needs;
pub mod trial;
pub mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use sandbox::{Compilation, SetupError};

use self::load::Loader;
use crate::attestation::{Policy, Sandbox};
use crate::config::{self, Component, Configuration, Pin};
use crate::telemetry::metrics::{Metrics, Queue};

/// The name of the policy in the status, the log and errors.
pub const POLICY: &str = "policy";

/// The sandbox with the built-in policy and the compiled components. Attestors of several machines may share one.
pub struct Runtime {
    /// Runs the components.
    pub sandbox: Arc<Sandbox>,
    /// The policy inside this program.
    pub builtin: Arc<Policy>,
    /// Loads components from files.
    pub loader: Loader,
}

impl Runtime {
    /// Makes the sandbox, and links the built-in policy.
    ///
    /// # Errors
    /// The sandbox cannot be made on this machine.
    pub fn new(compilation: Compilation, metrics: Metrics) -> Result<Runtime, SetupError> {
        let sandbox = Sandbox::new(compilation)?;
        let sandbox = Arc::new(sandbox.with_queue_observer(move |full| metrics.full(Queue::Sandbox, full)));
        let builtin = Arc::new(builtin::policy(&sandbox)?);
        Ok(Runtime { builtin, loader: Loader::new(Arc::clone(&sandbox)), sandbox })
    }
}

/// The name of an extension in the status, the log and errors.
pub fn extension_name(extension: &config::Extension) -> String {
    format!("extension {}", extension.name)
}

/// The components of a configuration that come from files, by their names in the status.
pub fn in_files(configuration: &Configuration) -> impl Iterator<Item = (String, &Component)> {
    let policy = configuration.policy.iter().map(|component| (POLICY.to_owned(), component));
    let extensions = configuration.extensions.iter();
    policy.chain(extensions.map(|extension| (extension_name(extension), &extension.component)))
}

/// Every file that the components of a configuration come from.
pub fn files(configuration: &Configuration) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (_, component) in in_files(configuration) {
        files.push(component.path.clone());
        if let Pin::Signed { bundle, .. } = &component.pin {
            files.push(bundle.clone());
        }
    }
    files
}
