//! The configuration, in three steps: the text that the agent sends, the keys written in it, and the values that they
//! mean.

pub mod agent_conf;
mod components;
mod raw;
mod report;
mod signatures;
mod suggestion;
mod validated;
mod visible;

use containers::process::System;

pub use self::components::{Component, Extension, Grants, Pin};
pub use self::report::{Invalid, Note, Problem, Report, Section};
pub use self::signatures::{OnFailure, Sigstore};
pub use self::validated::Configuration;
pub use self::visible::{Visible, is_key, looks_like_key};
use crate::error::Error;

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        Error::Configuration(invalid.to_string())
    }
}

/// Parses and validates `plugin_data` as the agent of this machine sends it. `trust_domain` is that of the request.
///
/// # Errors
/// Everything that is wrong.
pub fn load(trust_domain: Option<&str>, text: &str) -> Result<Configuration, Invalid> {
    load_for(System::THIS, trust_domain, text)
}

/// Parses and validates `plugin_data` for a machine with this operating system.
///
/// # Errors
/// Everything that is wrong.
pub fn load_for(system: System, trust_domain: Option<&str>, text: &str) -> Result<Configuration, Invalid> {
    let trust_domain = validated::trust_domain(trust_domain);
    let loaded = hcl1::parse(text).map_err(Invalid::from).and_then(|document| validated::validate(system, &document));
    let Err(error) = trust_domain else { return loaded };
    let error = Problem::new(error.to_string(), None);
    Err(Invalid { errors: [vec![error], loaded.map_or_else(|invalid| invalid.errors, |_| Vec::new())].concat() })
}
