//! The configuration: what the agent sends, what was written in it, what it means.

mod components;
mod raw;
mod report;
mod sigstore;
mod validated;

use std::fmt;

use hcl1::{Document, Value};

pub use self::components::{Component, Extension, Grants, Pin};
use self::raw::Raw;
pub use self::report::{Note, Report, Section};
pub use self::sigstore::{OnFailure, Sigstore};
pub use self::validated::Configuration;
use crate::error::Error;

/// Why a configuration is refused: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// One line each; holds keys and positions, never the value of a secret.
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

/// Reads `plugin_data` as the agent sends it. `trust_domain` is the one of the request.
pub fn load(trust_domain: Option<&str>, text: &str) -> Result<Configuration, Invalid> {
    let trust_domain = validated::trust_domain(trust_domain);
    let loaded = hcl1::parse(text).map_err(Invalid::from).and_then(|document| load_document(&document));
    match (trust_domain, loaded) {
        (Ok(()), loaded) => loaded,
        (Err(error), Ok(_)) => Err(Invalid { errors: vec![error] }),
        (Err(error), Err(invalid)) => Err(Invalid { errors: [vec![error], invalid.errors].concat() }),
    }
}

fn load_document(document: &Document) -> Result<Configuration, Invalid> {
    let (raw, warnings) = Raw::decode(&Value::from(document))?;
    validated::validate(raw, &warnings)
}

/// A file that an operator has: an agent's configuration, or a plugin's.
#[derive(Debug, Clone)]
pub struct File {
    /// Which of the two it is.
    pub form: Form,
    /// The trust domain, if the file names one.
    pub trust_domain: Option<String>,
    data: Data,
}

/// The two forms of [`File`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An agent.conf with the plugin `WorkloadAttestor "docker"`.
    AgentConf,
    /// What stands in its `plugin_data`.
    PluginData,
}

#[derive(Debug, Clone)]
enum Data {
    Here(Document),
    /// `plugin_data_file`.
    Elsewhere(String),
}

impl File {
    /// Finds out which form the text has, and the plugin's data in it.
    pub fn parse(text: &str) -> Result<File, Invalid> {
        let document = hcl1::parse(text)?;
        let is_agent_conf = document
            .items
            .iter()
            .filter_map(|item| item.keys.first())
            .any(|key| matches!(&*key.name, "agent" | "plugins"));
        if !is_agent_conf {
            return Ok(File { form: Form::PluginData, trust_domain: None, data: Data::Here(document) });
        }
        let conf = raw::AgentConf::decode(&Value::from(&document))?;
        let missing = || Invalid {
            errors: vec![
                "this agent.conf has no plugin WorkloadAttestor \"docker\": add it below plugins { … }".to_owned(),
            ],
        };
        let plugin = conf.plugin.ok_or_else(missing)?;
        let data = match plugin.data_file {
            Some(path) => Data::Elsewhere(path),
            None => Data::Here(plugin.data.unwrap_or_default()),
        };
        Ok(File { form: Form::AgentConf, trust_domain: conf.trust_domain, data })
    }

    /// The file that the plugin's data is in, if it is not in this one (`plugin_data_file`).
    pub fn elsewhere(&self) -> Option<&str> {
        match &self.data {
            Data::Elsewhere(path) => Some(path),
            Data::Here(_) => None,
        }
    }

    /// This file with the plugin's data of another one.
    pub fn with_data_of(self, elsewhere: File) -> File {
        File { data: elsewhere.data, ..self }
    }

    /// What the plugin's data means.
    pub fn load(&self) -> Result<Configuration, Invalid> {
        match &self.data {
            Data::Here(document) => load_document(document),
            Data::Elsewhere(path) => {
                Err(Invalid { errors: vec![format!("the plugin's data is in {path} (plugin_data_file)")] })
            }
        }
    }
}
