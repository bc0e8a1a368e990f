//! The configuration, in three steps: the text that the agent sends, the keys written in it, and the values that they
//! mean.

pub mod agent_conf;
mod components;
mod raw;
mod report;
mod signatures;
mod validated;

use std::fmt;

use containers::process::System;
use hcl1::{Document, Value};

pub use self::components::{Component, Extension, Grants, Pin};
use self::raw::Raw;
pub use self::report::{Note, Report, Section};
pub use self::signatures::{OnFailure, Sigstore};
pub use self::validated::Configuration;
use crate::error::Error;

/// Why a configuration is refused: all its errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// One line for each error. A line holds keys and positions, never the value of a secret.
    pub errors: Vec<String>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.errors.join("; "))
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        Error::Configuration(invalid.to_string())
    }
}

impl From<hcl1::Error> for Invalid {
    fn from(error: hcl1::Error) -> Invalid {
        Invalid { errors: vec![format!("unable to decode configuration: {error}")] }
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
    let loaded = hcl1::parse(text).map_err(Invalid::from).and_then(|document| load_document(system, &document));
    match (trust_domain, loaded) {
        (Ok(()), loaded) => loaded,
        (Err(error), Ok(_)) => Err(Invalid { errors: vec![error.to_string()] }),
        (Err(error), Err(invalid)) => Err(Invalid { errors: [vec![error.to_string()], invalid.errors].concat() }),
    }
}

fn load_document(system: System, document: &Document) -> Result<Configuration, Invalid> {
    let (raw, warnings) = Raw::decode(system, &Value::from(document))?;
    validated::validate(system, raw, &warnings)
}
