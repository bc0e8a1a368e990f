//! Extensions: components of other teams that add selectors of their own. Each gets what it is granted of a proven container,
//! in a sandbox of its own, and emits under its own name only.

use std::collections::HashSet;

use bounded::text::is_invisible;
use containers::Claimant;
use containers::Container;
use containers::Proven;
use wasmtime::component::Component;

use crate::config::{Grants, OnFailure};
use crate::error::Error;
use crate::limits;
use crate::sandbox::bindings::extension::ExtensionPre;
pub use crate::sandbox::bindings::extension::exports::docker_attestor::policy::deriver::{
    Credentials, Image, Workload,
};
use crate::sandbox::call::Call;
use crate::sandbox::inspect::Description;
use crate::sandbox::{Sandbox, broken, run};

/// An extension that is compiled, linked and configured.
pub struct Extension {
    pre: ExtensionPre<Call>,
    /// What its component says of itself.
    pub description: Description,
    /// Its selectors begin with this name.
    pub name: String,
    /// What it is told of a workload.
    pub grants: Grants,
    /// What becomes of an attestation whose extension fails.
    pub on_failure: OnFailure,
    settings: Vec<(String, String)>,
}

impl Extension {
    /// What it may know of a workload in this container. `credentials` are there if it is granted them.
    pub fn granted(&self, container: &Container, credentials: Option<Credentials>) -> Workload {
        let Grants { labels, env, image, process } = self.grants;
        Workload {
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

    /// Its selectors, held to size and shape, under its name.
    fn named(&self, derived: Vec<String>) -> Result<Vec<String>, String> {
        if derived.len() > limits::EXTENSION_SELECTORS {
            let most = limits::EXTENSION_SELECTORS;
            return Err(format!("it returned {} selectors, more than {most}", derived.len()));
        }
        let mut seen = HashSet::new();
        for (index, text) in derived.iter().enumerate() {
            let number = index + 1;
            if text.is_empty() || text.len() > limits::EXTENSION_SELECTOR {
                let most = limits::EXTENSION_SELECTOR;
                return Err(format!("its selector {number} has {} bytes: 1 to {most} may be", text.len()));
            }
            if text.chars().any(is_invisible) {
                return Err(format!("its selector {number} has a control or format character"));
            }
            if !seen.insert(text) {
                return Err(format!("its selector {number} is a duplicate"));
            }
        }
        Ok(derived.iter().map(|text| [&self.name, ":", text].concat()).collect())
    }
}

impl Sandbox {
    /// Links a compiled component as an extension.
    ///
    /// # Errors
    /// A function that it imports is not there, or it does not export what its world says.
    pub fn extension(
        &self,
        component: &Component,
        description: Description,
        configured: &crate::config::Extension,
    ) -> wasmtime::Result<Extension> {
        Ok(Extension {
            pre: ExtensionPre::new(self.extensions.instantiate_pre(component)?)?,
            description,
            name: configured.name.clone(),
            grants: configured.grants,
            on_failure: configured.on_failure,
            settings: configured.component.settings.clone(),
        })
    }

    /// Runs an extension for a workload in `container`, of which it knows `granted`. The selectors have its name. `claimant` says
    /// in whose lane the call waits for a sandbox.
    ///
    /// # Errors
    /// It trapped, broke a limit, returned what no selector may be, or an error of its own.
    pub async fn derive(
        &self,
        extension: &Extension,
        container: &Proven,
        granted: &Workload,
        claimant: impl FnOnce() -> Claimant,
    ) -> Result<Vec<String>, Error> {
        let _slot = self.slot(claimant).await?;
        let Grants { labels, env, .. } = extension.grants;
        let mut store = self.store(Call::of_extension(extension.name.clone(), container.clone(), labels, env))?;
        let outcome = run(async {
            let instance = extension.pre.instantiate_async(&mut store).await?;
            instance.docker_attestor_policy_deriver().call_derive(&mut store, granted, &extension.settings).await
        })
        .await;
        match outcome {
            Ok(Ok(derived)) => extension.named(derived).map_err(|why| extension.error(why)),
            Ok(Err(text)) if text.len() > limits::GUEST_TEXT => {
                Err(extension.error(format_args!("its error text is longer than {} bytes", limits::GUEST_TEXT)))
            }
            Ok(Err(text)) => {
                Err(Error::Refused { name: extension.name.clone(), reason: store.data_mut().without_values(&text) })
            }
            Err(error) => Err(extension.error(broken(&error, &store))),
        }
    }
}
