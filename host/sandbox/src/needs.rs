//! What a component needs of its configuration, as its own custom section says.
//!
//! `just extension` writes the section from the file `needs.json`:
//!
//! ```json
//! { "grants": ["labels"], "settings": { "required": ["label"], "optional": ["prefix"] } }
//! ```
//!
//! A part that is absent is not compared. The section is a help for operators and no protection, because the component wrote it.

use serde::Deserialize;

/// The name of the custom section.
pub const SECTION: &str = "docker-attestor:needs";

/// What a component needs of its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// The facts about a workload that an extension needs. A policy has no grants.
    pub grants: Option<Vec<Grant>>,
    /// The keys of the component's settings.
    pub settings: Option<SettingKeys>,
}

/// A fact about a workload that an extension may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// The container's labels.
    Labels,
    /// The container's environment variables.
    Env,
    /// The facts about the image.
    Image,
    /// The process's effective uid and gid.
    Process,
}

impl Grant {
    /// Every grant.
    pub const ALL: [Grant; 4] = [Grant::Labels, Grant::Env, Grant::Image, Grant::Process];

    /// The name in a configuration and in the section.
    pub fn name(self) -> &'static str {
        match self {
            Grant::Labels => "labels",
            Grant::Env => "env",
            Grant::Image => "image",
            Grant::Process => "process",
        }
    }
}

/// The keys of a component's settings. It has no others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettingKeys {
    /// Those that must be there.
    pub required: Vec<String>,
    /// Those that may be there.
    pub optional: Vec<String>,
}

impl SettingKeys {
    /// All keys, those that must be there first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.required.iter().chain(&self.optional).map(String::as_str)
    }
}

impl Needs {
    /// Reads the content of the custom section.
    ///
    /// # Errors
    /// The content is not of the form above.
    pub fn parse(section: &[u8]) -> Result<Needs, serde_json::Error> {
        serde_json::from_slice(section)
    }
}
