//! A component on its way into use: loaded, linked, tried.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use containers::Claimant;
use image_signatures::Verifier;
use sandbox::CallError;
use sandbox::inspect::World;
use sandbox::wit::{Diagnostic, Severity};
use semver::Version;

use super::Runtime;
use super::load::{LoadError, Loaded, Step};
use super::needs;
use super::trial::{self, Trial, TrialError};
use crate::attestation::{Extension, Policy};
use crate::config::{self, Component};
use crate::error::Error;

/// A component that was loaded from a file and that may come into use.
pub struct Candidate<'a> {
    runtime: &'a Runtime,
    path: PathBuf,
    loaded: Loaded,
}

/// A policy that passed its trial.
pub struct AcceptedPolicy {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The warnings of the policy's `validate`.
    pub notes: Vec<String>,
    /// The number of recorded workloads that get other selectors than before.
    pub changed: usize,
}

/// An extension that passed its trial.
pub struct AcceptedExtension {
    /// The extension.
    pub extension: Arc<Extension>,
    /// The warnings of the extension's `validate`, and grants that it does not need.
    pub notes: Vec<String>,
    /// Why the extension probably fails for every workload: it answers the sample with an error of its own.
    pub suspicion: Option<LoadError>,
}

impl<'a> Candidate<'a> {
    /// Loads a component. `verifier` judges its signature, `floor` is the newest version that was in use.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub async fn load(
        runtime: &'a Runtime,
        component: &Component,
        world: World,
        verifier: Option<Arc<Verifier>>,
        floor: Option<Version>,
    ) -> Result<Candidate<'a>, LoadError> {
        let loaded = runtime.loader.load(component, world, verifier, floor).await?;
        Ok(Candidate { runtime, path: component.path.clone(), loaded })
    }

    /// The digest of the component, `sha256:…`.
    pub fn digest(&self) -> &str {
        &self.loaded.description.digest
    }

    /// Links the component as a policy, asks it to validate the settings, and tries it on the recorded workloads.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub async fn into_policy(self, trial: &Trial<'_>) -> Result<AcceptedPolicy, LoadError> {
        let Candidate { runtime, path, loaded: Loaded { compiled, description } } = self;
        if let Some(needs) = &description.needs {
            needs::compare_settings(needs, &trial.settings.extra)
                .map_err(|why| LoadError::new(&path, Step::Settings, &why))?;
        }
        let code = runtime.sandbox.policy(&compiled);
        let code = code.map_err(|error| LoadError::new(&path, Step::Link, &error.to_string()))?;
        let policy = Policy::new(code, description.digest, description.version);
        let notes = validate(runtime, &policy, trial).await.map_err(|invalid| match invalid {
            SettingsError::Refused(errors) => LoadError::new(&path, Step::Settings, &errors),
            SettingsError::Failed(error) => broke(&path, Step::Settings, &policy.failed(error)),
        })?;
        let changed = trial::try_policy(&runtime.sandbox, &policy, trial).await;
        let changed = changed.map_err(|error| failed_trial(&path, &error))?;
        Ok(AcceptedPolicy { policy: Arc::new(policy), notes, changed })
    }

    /// Compares what the extension needs with its block, links it, asks it to validate its settings if it can, and tries it on the
    /// containers of the recorded workloads.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub async fn into_extension(
        self,
        configured: &config::Extension,
        trial: &Trial<'_>,
    ) -> Result<AcceptedExtension, LoadError> {
        let Candidate { runtime, path, loaded: Loaded { compiled, description } } = self;
        let refused = |why: &str| LoadError::new(&path, Step::Settings, why);
        let mut notes = Vec::new();
        if let Some(needs) = &description.needs {
            notes = needs::compare(needs, configured).map_err(|why| refused(&why))?;
        }
        let code = runtime.sandbox.extension(&compiled);
        let code = code.map_err(|error| LoadError::new(&path, Step::Link, &error.to_string()))?;
        let extension = Extension {
            code,
            description,
            name: configured.name.clone(),
            grants: configured.grants,
            on_failure: configured.on_failure,
            settings: configured.component.settings.clone(),
        };
        let settings = &extension.settings;
        let validated =
            runtime.sandbox.validate_extension(&extension.code, &extension.name, settings, Claimant::Attestor).await;
        match validated
            .map_err(|error| broke(&path, Step::Settings, &Error::of_call(error, |why| extension.error(why))))?
        {
            Some(Ok(warnings)) => notes.extend(warnings),
            Some(Err(errors)) if errors.is_empty() => {
                return Err(refused("it refuses its settings and does not say why"));
            }
            Some(Err(errors)) => return Err(refused(&errors.join("; "))),
            None => {}
        }
        let tried = trial::try_extension(&runtime.sandbox, &extension, trial).await;
        let on_sample = tried.map_err(|error| failed_trial(&path, &error))?.map(|error| {
            format!(
                "{error}: a sample workload, which has exactly what the grants name, gets this error. Correct the settings or the grants"
            )
        });
        let suspicion = match on_sample {
            // The extension has said that its settings are right.
            Some(why) if extension.code.validates() => {
                notes.push(why);
                None
            }
            why => why.map(|why| LoadError::new(&path, Step::Trial, &why)),
        };
        let notes = notes.iter().map(|note| format!("extension {}: {note}", extension.name)).collect();
        Ok(AcceptedExtension { extension: Arc::new(extension), notes, suspicion })
    }
}

/// Why settings are not accepted.
pub enum SettingsError {
    /// The policy's errors.
    Refused(String),
    /// The policy failed.
    Failed(CallError),
}

/// Asks a policy to validate its settings. Errors refuse the settings, warnings are returned.
///
/// # Errors
/// The policy's errors, or that it failed.
pub async fn validate(runtime: &Runtime, policy: &Policy, trial: &Trial<'_>) -> Result<Vec<String>, SettingsError> {
    let diagnostics = runtime.sandbox.validate(&policy.code, trial.settings, Claimant::Attestor).await;
    let diagnostics = diagnostics.map_err(SettingsError::Failed)?;
    let is_error = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Error;
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.into_iter().partition(is_error);
    let messages = |diagnostics: Vec<Diagnostic>| diagnostics.into_iter().map(|diagnostic| diagnostic.message);
    match errors.is_empty() {
        true => Ok(messages(warnings).collect()),
        false => Err(SettingsError::Refused(messages(errors).collect::<Vec<_>>().join("; "))),
    }
}

fn failed_trial(path: &Path, error: &TrialError) -> LoadError {
    LoadError::new(path, Step::Trial, &error.to_string()).retryable(error.retryable())
}

/// The error of a call that failed. Another try may succeed where there was no sandbox for the call.
fn broke(path: &Path, step: Step, error: &Error) -> LoadError {
    LoadError::new(path, step, &error.to_string()).retryable(matches!(error, Error::Exhausted(_)))
}
