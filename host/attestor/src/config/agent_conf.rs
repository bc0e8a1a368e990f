//! The two kinds of files that an operator may have: an agent.conf that contains the plugin, and a file with the
//! plugin's `plugin_data` alone.

use containers::process::System;
use hcl1::{Document, Value};

use super::raw::AgentConf;
use super::{Configuration, Invalid, load_document};

/// An operator's configuration file.
#[derive(Debug, Clone)]
pub struct ConfigurationFile {
    /// Which of the two kinds it is.
    pub kind: FileKind,
    /// The trust domain, if the file names one.
    pub trust_domain: Option<String>,
    data: Data,
}

/// The two kinds of [`ConfigurationFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// An agent.conf with the plugin `WorkloadAttestor "docker"`.
    AgentConf,
    /// The content of the plugin's `plugin_data` alone.
    PluginData,
}

#[derive(Debug, Clone)]
enum Data {
    Here(Document),
    /// The data is in the file that `plugin_data_file` names.
    Elsewhere(String),
}

impl ConfigurationFile {
    /// Determines which kind of file the text is, and finds the plugin's data in it.
    pub fn parse(text: &str) -> Result<ConfigurationFile, Invalid> {
        let document = hcl1::parse(text)?;
        let is_agent_conf = document
            .items
            .iter()
            .filter_map(|item| item.keys.first())
            .any(|key| matches!(&*key.name, "agent" | "plugins"));
        if !is_agent_conf {
            return Ok(ConfigurationFile {
                kind: FileKind::PluginData,
                trust_domain: None,
                data: Data::Here(document),
            });
        }
        let conf = AgentConf::decode(&Value::from(&document))?;
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
        Ok(ConfigurationFile { kind: FileKind::AgentConf, trust_domain: conf.trust_domain, data })
    }

    /// The path of the file that holds the plugin's data, if that is another file than this one (`plugin_data_file`).
    pub fn elsewhere(&self) -> Option<&str> {
        match &self.data {
            Data::Elsewhere(path) => Some(path),
            Data::Here(_) => None,
        }
    }

    /// Combines this file with the plugin's data of another one.
    pub fn with_data_of(self, elsewhere: ConfigurationFile) -> ConfigurationFile {
        ConfigurationFile { data: elsewhere.data, ..self }
    }

    /// Validates the plugin's data.
    pub fn load(&self) -> Result<Configuration, Invalid> {
        match &self.data {
            Data::Here(document) => load_document(System::THIS, document),
            Data::Elsewhere(path) => {
                Err(Invalid { errors: vec![format!("the plugin's data is in {path} (plugin_data_file)")] })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use containers::engine::ApiVersion;

    use super::*;

    #[test]
    fn an_agent_conf_is_told_from_plugin_data() {
        let conf = r#"
            agent { trust_domain = "example.org" data_dir = "./x" }
            plugins {
                KeyManager "memory" { plugin_data {} }
                WorkloadAttestor "unix" { plugin_data {} }
                WorkloadAttestor "docker" {
                    plugin_cmd = "/opt/docker-attestor"
                    plugin_data { docker_version = "1.40" }
                    plugin_data { docker_version = "1.41" }
                }
            }
        "#;
        let file = ConfigurationFile::parse(conf).unwrap();
        assert_eq!(
            (file.kind, file.trust_domain.as_deref(), file.elsewhere()),
            (FileKind::AgentConf, Some("example.org"), None)
        );
        assert_eq!(file.load().unwrap().docker_version, Some(ApiVersion { major: 1, minor: 40 }));

        let json = r#"{"agent": {"trust_domain": "example.org"}, "plugins": {"WorkloadAttestor": [{"docker": {"plugin_data": {"docker_version": "1.40"}}}]}}"#;
        assert_eq!(
            ConfigurationFile::parse(json).unwrap().load().unwrap().docker_version,
            Some(ApiVersion { major: 1, minor: 40 })
        );

        let elsewhere = "plugins { WorkloadAttestor \"docker\" { plugin_data_file = \"/etc/x.hcl\" } }";
        assert_eq!(ConfigurationFile::parse(elsewhere).unwrap().elsewhere(), Some("/etc/x.hcl"));
        assert!(
            ConfigurationFile::parse("plugins { WorkloadAttestor \"unix\" {} }")
                .unwrap_err()
                .to_string()
                .contains("no plugin")
        );
        assert_eq!(ConfigurationFile::parse("docker_version = \"1.40\"").unwrap().kind, FileKind::PluginData);
    }
}
