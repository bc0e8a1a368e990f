//! The built-in policy, but of the environment only the variables become selectors that the
//! setting `env` names, such as `settings = { env = "TIER,REGION" }`.

use docker_attestor_policy::attest::{attest, validate};
use docker_attestor_policy::component::docker_attestor::policy::types::{Diagnostic, Fault, Settings};
use docker_attestor_policy::component::exports::docker_attestor::policy::attestor::Guest;
use docker_attestor_policy::component::{HostImports, log_panics};

/// What the component exports.
pub struct Policy;

impl Guest for Policy {
    fn validate(settings: Settings) -> Vec<Diagnostic> {
        log_panics();
        validate(&settings)
    }

    fn attest(settings: Settings) -> Result<Vec<String>, Fault> {
        log_panics();
        let mut selectors = attest(&HostImports, &settings)?;
        selectors.retain(|selector| match selector.strip_prefix("env:") {
            Some(variable) => is_named(variable, &settings.extra),
            None => true,
        });
        Ok(selectors)
    }
}

/// Whether the setting `env` names this variable, which is `NAME=value`.
fn is_named(variable: &str, settings: &[(String, String)]) -> bool {
    let name = variable.split('=').next();
    let mut named = settings.iter().filter(|(key, _)| key == "env").flat_map(|(_, names)| names.split(','));
    named.any(|other| Some(other.trim()) == name)
}

#[cfg(target_arch = "wasm32")]
docker_attestor_policy::component::export!(Policy with_types_in docker_attestor_policy::component);
