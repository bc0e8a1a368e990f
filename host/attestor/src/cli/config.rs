//! Reads the configuration files that a person names.

use std::io::{self, Read};
use std::path::Path;

use bounded::file;
use hcl1::{Document, Position};

use super::Failure;
use super::diagnostics::Source;
use crate::components::POLICY;
use crate::config::agent_conf::{AgentPlugin, ConfigurationFile, Data, load};
use crate::config::{Configuration, Invalid, Problem};
use crate::error::Error;
use crate::limits::CONFIG_FILE;

/// The name of the plugin in an agent.conf, if the command line names none.
const PLUGIN: &str = "docker";
/// The path that stands for standard input, and how messages call it.
const STDIN: (&str, &str) = ("-", "<stdin>");

/// A configuration file, and all that is wrong with it.
pub(super) struct ConfigFile {
    /// The trust domain, if the file names one.
    pub(super) trust_domain: Option<String>,
    /// Whether the file is an agent.conf.
    pub(super) is_agent_conf: bool,
    /// The agent's own keys of the plugin.
    pub(super) plugin: Option<AgentPlugin>,
    /// The plugin's data as a tree.
    data: Document,
    /// The configuration. `None` if the plugin's data is refused.
    pub(super) configuration: Option<Configuration>,
    /// The file, and then the one that `plugin_data_file` names. The plugin's data is in the last one.
    pub(super) sources: Vec<Source>,
}

impl ConfigFile {
    /// Reads the file that the command line names, if it names one.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub(super) fn read_if_named(path: Option<&Path>, plugin: Option<&str>) -> Result<Option<ConfigFile>, Failure> {
        path.map(|path| ConfigFile::read(path, plugin)).transpose()
    }

    /// Reads an agent.conf or a plugin_data file, `-` for standard input, and the file that `plugin_data_file` names.
    /// `plugin` is the plugin's name in an agent.conf.
    ///
    /// # Errors
    /// If a file cannot be read. Mistakes in the content of a file are in the returned sources.
    pub(super) fn read(path: &Path, plugin: Option<&str>) -> Result<ConfigFile, Failure> {
        let (name, bytes) = match path.to_str() == Some(STDIN.0) {
            true => (STDIN.1.to_owned(), bytes_of(STDIN.1, io::stdin().lock())?),
            false => {
                let name = path.display().to_string();
                let opened = std::fs::File::open(path).map_err(|error| unreadable(&name, &error))?;
                let bytes = bytes_of(&name, opened)?;
                (name, bytes)
            }
        };
        let (source, file) = parse(name, bytes, plugin.unwrap_or(PLUGIN));
        let mut config = ConfigFile {
            trust_domain: None,
            is_agent_conf: false,
            plugin: None,
            data: Document::default(),
            configuration: None,
            sources: vec![source],
        };
        let Some(file) = file else { return Ok(config) };
        config.is_agent_conf = file.is_agent_conf();
        if plugin.is_some() && !config.is_agent_conf {
            let text = format!("--plugin: {} holds the data of one plugin alone: leave --plugin out", path.display());
            return Err(Failure::Usage(text));
        }
        config.trust_domain = file.trust_domain;
        config.plugin = file.plugin;
        match file.data {
            Some(Data::Here(data)) => config.load(data),
            Some(Data::Elsewhere(path, position)) => config.load_elsewhere(&path, position),
            None => {}
        }
        Ok(config)
    }

    fn load_elsewhere(&mut self, path: &str, position: Option<Position>) {
        let bytes = match file::read(Path::new(path), CONFIG_FILE) {
            Ok(bytes) => bytes,
            Err(why) => {
                let text = format!("plugin_data_file: {path:?}: {why}");
                self.add(0, Problem::new(text, position));
                return;
            }
        };
        let (mut source, file) = parse(path.to_owned(), bytes, PLUGIN);
        let Some(file) = file else { return self.sources.push(source) };
        match file.data {
            Some(Data::Here(data)) if file.plugin.is_none() => {
                self.sources.push(source);
                self.load(data);
            }
            _ => {
                let text = "this is an agent.conf: plugin_data_file names a file with the plugin's data alone";
                source.errors = vec![Problem::new(text, None)];
                self.sources.push(source);
            }
        }
    }

    fn load(&mut self, data: Document) {
        match load(&data) {
            Ok(mut configuration) => {
                let warnings = std::mem::take(&mut configuration.report.warnings);
                self.sources.iter_mut().last().into_iter().for_each(|source| source.warnings.extend(warnings.clone()));
                self.configuration = Some(configuration);
            }
            Err(Invalid { errors }) => {
                self.sources.iter_mut().last().into_iter().for_each(|source| source.errors.extend(errors.clone()));
            }
        }
        self.data = data;
    }

    fn add(&mut self, source: usize, error: Problem) {
        if let Some(source) = self.sources.get_mut(source) {
            source.errors.push(error);
        }
    }

    /// The plugin's data as a tree.
    pub(super) fn data(&self) -> &Document {
        &self.data
    }

    /// The file's name for messages.
    pub(super) fn name(&self) -> &str {
        self.sources.first().map_or("", |source| &source.name)
    }

    /// The number of errors.
    pub(super) fn errors(&self) -> usize {
        self.sources.iter().map(|source| source.errors.len()).sum()
    }

    /// Takes the configuration.
    ///
    /// # Errors
    /// If anything in the files is wrong.
    pub(super) fn accept(&mut self) -> Result<Configuration, Failure> {
        match (self.errors(), self.configuration.take()) {
            (0, Some(configuration)) => Ok(configuration),
            _ => Err(Failure::Configuration(std::mem::take(&mut self.sources))),
        }
    }

    /// Adds why the configuration is refused although each of its values is valid. `error` names the component at fault, if
    /// there is one.
    pub(super) fn refuse(&mut self, error: &Error) {
        let position = match error {
            Error::Component { name, .. } if name == POLICY => self.data.position_of(&[POLICY, "path"]),
            Error::Component { name, .. } => match name.strip_prefix("extension ") {
                Some(extension) => self.data.position_of(&["extension", extension, "path"]),
                None => None,
            },
            _ => None,
        };
        let last = self.sources.len().saturating_sub(1);
        self.add(last, Problem::new(error.to_string(), position));
    }

    /// The failure of a command whose configuration is refused.
    pub(super) fn refused(mut self, error: &Error) -> Failure {
        self.refuse(error);
        Failure::Configuration(self.sources)
    }
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::Usage(format!("{name} cannot be read: {error}"))
}

fn bytes_of(name: &str, reader: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    reader.take(CONFIG_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    match bytes.len() as u64 > CONFIG_FILE {
        true => Err(Failure::Usage(format!("{name} is larger than {CONFIG_FILE} bytes"))),
        false => Ok(bytes),
    }
}

/// Parses a file. The returned source holds the mistakes in the file.
fn parse(name: String, bytes: Vec<u8>, plugin: &str) -> (Source, Option<ConfigurationFile>) {
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let problem = Problem::new("the text is not UTF-8 from here on", Some(Position { line, column }));
            return (Source { errors: vec![problem], ..Source::new(name, before) }, None);
        }
    };
    match ConfigurationFile::parse(&text, plugin) {
        Ok(mut file) => {
            let source = Source {
                visible: std::mem::take(&mut file.visible),
                errors: std::mem::take(&mut file.errors),
                warnings: std::mem::take(&mut file.warnings),
                ..Source::new(name, text)
            };
            (source, Some(file))
        }
        Err(Invalid { errors }) => (Source { errors, ..Source::new(name, text) }, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::style::Style;
    use super::*;

    /// Everything that is shown about a text.
    fn shown(text: &str) -> String {
        let (mut source, file) = parse("f".to_owned(), text.as_bytes().to_vec(), PLUGIN);
        if let Some(Data::Here(data)) = file.and_then(|file| file.data)
            && let Err(Invalid { errors }) = load(&data)
        {
            source.errors.extend(errors);
        }
        let mut out = Vec::new();
        source.print(&mut out, Style::plain()).unwrap();
        String::from_utf8(out).unwrap() + &source.to_string()
    }

    const SECRETS: &str = r#"
        agent { trust_domain = "example.org" join_token = "hunter2" }
        plugins {
            UpstreamAuthority "vault" { plugin_data { token = "hunter2" path = ["hunter2"] } }
            WorkloadAttestor "docker" {
                plugin_args = ["--password", "hunter2"]  # password: hunter2
                plugin_data {
                    docker_version = "v1"
                    sigstore {
                        registry_credentials = { "u:hunter2@r" = { username = "hunter2", password = "hunter2", x = 1 } }
                        rekor_url = "https://u:hunter2@rekor" ignore_tlog = 7
                    }
                    policy { path = "p" settings = { token = "hunter2", note = "${
                        hunter2 }" } }
                    extension "a" { setings { token = <<END
hunter2
END
                    } }
                }
            }
        }"#;

    #[test]
    fn no_secret_is_shown_with_its_line() {
        let json = r#"{"agent": {"join_token": "hunter2"}, "plugins": {"WorkloadAttestor": {"docker": {"plugin_args": ["hunter2"],
            "plugin_data": {"docker_version": true, "sigstore": {"registry_credentials": {"u:hunter2@r": {"password": "hunter2", "x": 1}},
            "rekor_url": "https://u:hunter2@r"}, "policy": {"settings": {"k": {"a": "hunter2"}}, "sha256": 1}}}}}}"#;
        for text in [SECRETS, json] {
            let all = shown(text);
            assert!(all.contains("docker_version") && all.lines().count() > 12, "{all}");
            // As it is, cut anywhere, and with any one character missing. Without its @ a host has no password.
            for (offset, char) in text.char_indices().filter(|(_, char)| *char != '@') {
                let (before, from) = text.split_at(offset);
                for broken in [before.to_owned(), format!("{before}{}", from.get(char.len_utf8()..).unwrap())] {
                    let shown = shown(&broken);
                    assert!(!shown.contains("hunter2") && !shown.contains("unter"), "at {offset}:\n{shown}");
                }
            }
        }
    }

    #[test]
    fn a_password_without_quotes_or_sign_is_not_shown() {
        for text in [
            "sigstore { registry_credentials { r { username = u password = hunter2 } } }",
            "sigstore { registry_credentials { r { password hunter2 } } }",
            "password =\nhunter2",
            "password hunter2",
            "password = 'hunter2'",
            "password: hunter2",
            "hunter2",
            "password = \"hunter2",
            "password = <<hunter2",
            "password = <<E\nhunter2\n",
            "{\"password\": hunter2}",
        ] {
            let shown = shown(text);
            assert!(!shown.contains("hunter2") && shown.contains("error"), "{text}: {shown}");
        }
    }

    #[test]
    fn a_misspelt_key_in_a_text_that_cannot_be_parsed_is_shown() {
        assert!(shown("dokcer_version = [").contains("dokcer_version = ["));
    }
}
