//! The binding to the contract in wit/: implements [`Imports`] with the component's imports, and exports the policy.

#![expect(missing_docs, reason = "the documentation of the generated code is in wit/policy.wit")]

use crate::attest::{Imports, attest, validate};
use docker_attestor::policy::docker::{self, Engine, ProvenContainer};
use docker_attestor::policy::process::{self, Cgroup};
use docker_attestor::policy::sigstore::{self, Verdict};
use docker_attestor::policy::types::{Diagnostic, Fault, Settings};
use docker_attestor::policy::{job_objects, log};

wit_bindgen::generate!({
    path: "../wit",
    world: "policy",
    additional_derives: [PartialEq],
    // For policies that use this one as a library.
    pub_export_macro: true,
});

/// The imports of the component.
pub struct HostImports;

impl Imports for HostImports {
    fn cgroups(&self) -> Result<Vec<Cgroup>, Fault> {
        process::cgroups()
    }

    fn job_object_names(&self) -> Result<Vec<String>, Fault> {
        job_objects::names()
    }

    fn container(&self, engine: Engine, id: &str) -> Result<Option<ProvenContainer>, Fault> {
        docker::container(engine, id)
    }

    fn verify(&self) -> Result<Verdict, Fault> {
        sigstore::verify()
    }
}

/// What the component exports, unless another policy uses this one as a library.
struct Policy;

impl exports::docker_attestor::policy::attestor::Guest for Policy {
    fn validate(settings: Settings) -> Vec<Diagnostic> {
        log_panics();
        validate(&settings)
    }

    fn attest(settings: Settings) -> Result<Vec<String>, Fault> {
        log_panics();
        attest(&HostImports, &settings)
    }
}

/// Logs the messages of panics, because the trap that follows a panic carries no message.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
}

#[cfg(all(target_arch = "wasm32", feature = "exports"))]
#[expect(unsafe_code, reason = "the exported functions of the component model's ABI")]
#[expect(unreachable_pub, reason = "the generated code is for other crates too")]
mod exported {
    use super::{Policy, export};

    export!(Policy with_types_in super);
}
