//! The two kinds of files that an operator may have: an agent.conf that contains the plugin, and a file with the
//! plugin's `plugin_data` alone.

use std::path::Path;
use std::sync::Arc;

use containers::process::System;
use hcl1::{Decode, Document, Findings, Item, Key, Literal, Node, Position, Value};

use super::raw::Plugin;
use super::report::{Invalid, Problem, Report};
use super::suggestion::closest;
use super::validated;
use super::{Configuration, Visible};
use crate::limits::PROBLEMS;

/// The plugin's type in an agent.conf. The agent does not fold its case.
const TYPE: &str = "WorkloadAttestor";

/// An operator's configuration file.
#[derive(Debug, Clone)]
pub struct ConfigurationFile {
    /// The trust domain, if the file names one.
    pub trust_domain: Option<String>,
    /// The plugin of an agent.conf. `None` in a file with `plugin_data` alone.
    pub plugin: Option<AgentPlugin>,
    /// Where the plugin's data is. `None` if the file does not say it, and an error says why.
    pub data: Option<Data>,
    /// What the agent would not start with, or not do as written.
    pub errors: Vec<Problem>,
    /// Possible mistakes in the agent's own keys.
    pub warnings: Vec<Problem>,
    /// Which parts of the text may be shown.
    pub visible: Visible,
}

/// Where the plugin's data is.
#[derive(Debug, Clone)]
pub enum Data {
    /// In this file.
    Here(Document),
    /// In the file that `plugin_data_file` names, and where it is named.
    Elsewhere(String, Option<Position>),
}

/// The agent's own keys of the plugin, as written. An empty text is what the agent takes for a missing key.
#[derive(Debug, Clone)]
pub struct AgentPlugin {
    /// The plugin's name, `docker` for most.
    pub name: String,
    /// The program that the agent starts.
    pub plugin_cmd: String,
    /// The SHA-256 of that program, in hexadecimal.
    pub plugin_checksum: String,
    block: Document,
    position: Option<Position>,
}

impl AgentPlugin {
    /// Where the key is written, or else the plugin.
    pub fn position_of(&self, key: &str) -> Option<Position> {
        self.block.position_of(&[key]).or(self.position)
    }
}

impl ConfigurationFile {
    /// Determines which kind of file the text is, and finds the data of the plugin with this name in it.
    ///
    /// # Errors
    /// If the text cannot be parsed. Everything else that is wrong is in the answer.
    pub fn parse(text: &str, plugin: &str) -> Result<ConfigurationFile, Invalid> {
        let document = hcl1::parse(text)?;
        let visible = Visible::of(&document);
        let is_agent_conf = document
            .items
            .iter()
            .filter_map(|item| item.keys.first())
            .any(|key| key.name.eq_ignore_ascii_case("agent") || key.name.eq_ignore_ascii_case("plugins"));
        if !is_agent_conf {
            return Ok(ConfigurationFile {
                trust_domain: None,
                plugin: None,
                data: Some(Data::Here(document)),
                errors: Vec::new(),
                warnings: Vec::new(),
                visible,
            });
        }
        let mut report = Report::default();
        let trust_domain = trust_domain(&document, &mut report);
        check_blocks(&document, &mut report);
        let found = find_plugin(&document, plugin, &mut report);
        let (plugin, data) = match found {
            Some((plugin, data)) => (Some(plugin), data),
            None => (None, None),
        };
        let Report { errors, warnings, .. } = report;
        Ok(ConfigurationFile { trust_domain, plugin, data, errors, warnings, visible })
    }

    /// Whether the file is an agent.conf, even one without the plugin.
    pub fn is_agent_conf(&self) -> bool {
        self.plugin.is_some() || self.data.is_none()
    }
}

/// Validates the plugin's data.
///
/// # Errors
/// Everything that is wrong.
pub fn load(data: &Document) -> Result<Configuration, Invalid> {
    validated::validate(System::THIS, data)
}

fn trust_domain(document: &Document, report: &mut Report) -> Option<String> {
    let mut found = None;
    for Entry { rest, value, .. } in entries(&document.items, &["agent", "trust_domain"]) {
        match value {
            Node::Literal(Literal::String(text) | Literal::Number(text), _) if rest.is_empty() => {
                found = Some(text.clone());
            }
            other => report.errors.push(Problem::new("agent.trust_domain: expected a string", Some(other.position()))),
        }
    }
    found
}

/// The agent reads the first `plugins { … }` only. In JSON the objects are joined.
fn check_blocks(document: &Document, report: &mut Report) {
    let blocks = document.items.iter().filter_map(|item| match item.keys.as_slice() {
        [key] if key.name.eq_ignore_ascii_case("plugins") => Some(key.position),
        _ => None,
    });
    for position in blocks.skip(1) {
        let text = "plugins is written twice: the agent reads the first one only";
        report.errors.push(Problem::new(text, Some(position)).with_help("put all plugins into one plugins { … }"));
    }
}

fn find_plugin(document: &Document, name: &str, report: &mut Report) -> Option<(AgentPlugin, Option<Data>)> {
    let found = entries(&document.items, &["plugins", TYPE, name]);
    let Some(first) = found.first() else {
        report.errors.push(no_plugin(document, name));
        return None;
    };
    let position = Some(first.key.position);
    // The keys of nested JSON objects are shared by the items that they are made into.
    for [one, other] in found.array_windows() {
        if !Arc::ptr_eq(&one.key.name, &other.key.name) {
            let text = format!("{TYPE} {name:?} is written twice: the agent does not start with that");
            report.errors.push(Problem::new(text, Some(other.key.position)).with_help("write one of them"));
        }
    }
    let mut block = Document::default();
    for Entry { rest, value, .. } in &found {
        match (rest, value) {
            ([], Node::Object(items, _)) => block.items.extend(items.iter().cloned()),
            ([], other) => {
                let text = format!("{TYPE} {name:?}: expected an object {{ … }}");
                report.errors.push(Problem::new(text, Some(other.position())));
            }
            (rest, value) => block.items.push(Item { keys: rest.to_vec(), value: (*value).clone() }),
        }
    }
    let (raw, data) = agent_keys(&block, report);
    let Plugin { plugin_cmd, plugin_checksum, .. } = raw;
    let plugin = AgentPlugin { name: name.to_owned(), plugin_cmd, plugin_checksum, block, position };
    Some((plugin, data))
}

/// Checks the agent's own keys of the plugin, and finds the plugin's data.
fn agent_keys(block: &Document, report: &mut Report) -> (Plugin, Option<Data>) {
    let mut plugin = Plugin::default();
    let mut findings = Findings::default();
    let decoded = plugin.decode("", &Value::from(block), &mut findings);
    findings.keep(decoded);
    report.errors.extend(findings.errors().iter().map(Problem::from));
    for key in findings.unknown().take(PROBLEMS) {
        let help = Problem::suggestion(key)
            .unwrap_or_else(|| "the keys of the plugin itself stand in plugin_data { … }".to_owned());
        report.errors.push(Problem::unknown_key(key).with_help(format!("the agent ignores it: {help}")));
    }
    for key in findings.repeated() {
        report.errors.push(Problem::new(format!("{} {key}", key.path), Some(key.last)).with_help("write it once"));
    }
    if let Some((_, position)) = plugin.plugin_data.0.get(1) {
        let text = "plugin_data is written twice: the agent sends the first one only";
        report.errors.push(Problem::new(text, Some(*position)).with_help("put all keys into one plugin_data { … }"));
    }
    let file = block.position_of(&["plugin_data_file"]);
    for (key, path) in
        [("plugin_cmd", Some(&plugin.plugin_cmd)), ("plugin_data_file", plugin.plugin_data_file.as_ref())]
    {
        if path.is_some_and(|path| !path.is_empty() && Path::new(path).is_relative()) {
            let text = format!("{key} is a relative path: the agent looks for it in the folder that the agent runs in");
            report.warnings.push(Problem::new(text, block.position_of(&[key])).with_help("write an absolute path"));
        }
    }
    if plugin.enabled == Some(false) {
        let text = "enabled = false: the agent does not start this plugin";
        report.warnings.push(Problem::new(text, block.position_of(&["enabled"])));
    }
    let data = match (plugin.plugin_data.0.first(), &plugin.plugin_data_file) {
        (Some(_), Some(_)) => {
            let text = "plugin_data_file beside plugin_data: the agent does not start with both";
            report.errors.push(Problem::new(text, file).with_help("remove one of them"));
            None
        }
        (None, Some(path)) => Some(Data::Elsewhere(path.clone(), file)),
        (Some((data, _)), None) => Some(Data::Here(data.clone())),
        // The agent sends an empty text.
        (None, None) if findings.errors().is_empty() => Some(Data::Here(Document::default())),
        (None, None) => None,
    };
    (plugin, data)
}

fn no_plugin(document: &Document, name: &str) -> Problem {
    let plugins = entries(&document.items, &["plugins"]);
    let position = plugins.first().map(|entry| entry.key.position);
    let text = format!("this agent.conf has no plugin {TYPE} {name:?}");
    let attestors: Vec<&str> = names(&document.items, &["plugins", TYPE]);
    let types = names(&document.items, &["plugins"]);
    let help = match (closest(TYPE, types.iter().copied().filter(|other| *other != TYPE)), attestors.as_slice()) {
        (Some(other), []) => format!("did you mean {TYPE} instead of {other}?"),
        (_, []) => format!("add {TYPE} {name:?} {{ … }} below plugins {{ … }}"),
        (_, attestors) => {
            let names: Vec<String> = attestors.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
            format!("it has {TYPE} {}: name one with --plugin", names.join(", "))
        }
    };
    Problem::new(text, position).with_help(help)
}

/// Names of plugins that are shown.
const SHOWN: usize = 16;

/// What is written below some keys.
struct Entry<'a> {
    /// The last one of these keys.
    key: &'a Key,
    /// The keys after them.
    rest: &'a [Key],
    value: &'a Node,
}

/// Everything that is written at a path of keys. The agent matches its own keys regardless of case, and the types and
/// names of plugins as they are written.
fn entries<'a>(items: &'a [Item], path: &[&str]) -> Vec<Entry<'a>> {
    let Some((first, others)) = path.split_first() else { return Vec::new() };
    let own = ["agent", "trust_domain", "plugins"].contains(first);
    let same = |key: &Key| if own { key.name.eq_ignore_ascii_case(first) } else { &*key.name == *first };
    let mut found = Vec::new();
    for Item { keys, value } in items {
        let Some((key, rest)) = keys.split_first().filter(|(key, _)| same(key)) else { continue };
        found.extend(below(Entry { key, rest, value }, others));
    }
    found
}

/// Everything that is written at a path of keys below the entry.
fn below<'a>(entry: Entry<'a>, path: &[&str]) -> Vec<Entry<'a>> {
    let Some((first, others)) = path.split_first() else { return vec![entry] };
    match (entry.rest.split_first(), entry.value) {
        (Some((key, rest)), value) if &*key.name == *first => below(Entry { key, rest, value }, others),
        (None, Node::Object(items, _)) => entries(items, path),
        _ => Vec::new(),
    }
}

/// The keys directly below a path, each once.
fn names<'a>(items: &'a [Item], path: &[&str]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for Entry { rest, value, .. } in entries(items, path) {
        let below: Vec<&Key> = match (rest.first(), value) {
            (Some(key), _) => vec![key],
            (None, Node::Object(items, _)) => items.iter().filter_map(|item| item.keys.first()).collect(),
            (None, _) => Vec::new(),
        };
        names.extend(below.into_iter().map(|key| &*key.name));
    }
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use containers::engine::ApiVersion;

    use super::*;

    fn parse(text: &str) -> ConfigurationFile {
        ConfigurationFile::parse(text, "docker").unwrap()
    }

    fn version(file: &ConfigurationFile) -> Option<ApiVersion> {
        let Some(Data::Here(data)) = &file.data else { panic!("{:?} {:?}", file.data, file.errors) };
        load(data).unwrap().docker_version
    }

    /// The errors about the text, each with its line and column.
    fn errors(text: &str) -> Vec<String> {
        let at = |problem: Problem| {
            let position = problem.position.map(|at| format!("{}:{} ", at.line, at.column)).unwrap_or_default();
            format!("{position}{}", problem.headline())
                + &problem.help.map(|help| format!(" ({help})")).unwrap_or_default()
        };
        parse(text).errors.into_iter().map(at).collect()
    }

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
                }
                WorkloadAttestor "docker_shadow" { plugin_data { docker_version = "1.41" } }
            }
        "#;
        let file = parse(conf);
        assert_eq!((file.errors.len(), file.trust_domain.as_deref()), (0, Some("example.org")));
        assert_eq!(file.plugin.as_ref().unwrap().plugin_cmd, "/opt/docker-attestor");
        assert_eq!(version(&file), Some(ApiVersion { major: 1, minor: 40 }));
        let shadow = ConfigurationFile::parse(conf, "docker_shadow").unwrap();
        assert_eq!(version(&shadow), Some(ApiVersion { major: 1, minor: 41 }));

        for json in [
            r#"{"agent": {"trust_domain": "example.org"}, "plugins": {"WorkloadAttestor": [{"docker": {"plugin_data": {"docker_version": "1.40"}}}]}}"#,
            r#"{"Agent": {"Trust_Domain": "example.org"}, "plugins": {"WorkloadAttestor": {"docker": {"plugin_cmd": "/x", "plugin_data": {"docker_version": "1.40"}}}}}"#,
        ] {
            let file = parse(json);
            assert_eq!((version(&file), file.errors.len()), (Some(ApiVersion { major: 1, minor: 40 }), 0), "{json}");
            assert_eq!(file.trust_domain.as_deref(), Some("example.org"));
        }
        let elsewhere = parse("plugins { WorkloadAttestor \"docker\" { plugin_data_file = \"/etc/x.hcl\" } }");
        assert!(matches!(elsewhere.data, Some(Data::Elsewhere(path, Some(_))) if path == "/etc/x.hcl"));
        assert!(!parse("docker_version = \"1.40\"").is_agent_conf());
    }

    #[test]
    fn what_the_agent_does_not_do_as_written_is_an_error() {
        let docker = |keys: &str| format!("plugins {{ WorkloadAttestor \"docker\" {{\n{keys}\n}} }}");
        for (text, error) in [
            (
                docker("plugin_checksm = \"x\""),
                "2:1 unknown key plugin_checksm (the agent ignores it: did you mean plugin_checksum?)",
            ),
            (
                docker("docker_version = \"1.41\""),
                "2:1 unknown key docker_version (the agent ignores it: the keys of the plugin itself stand in plugin_data { … })",
            ),
            (
                docker("plugin_cmd = \"/a\"\nPlugin_Cmd = \"/b\""),
                "3:14 plugin_cmd is written twice (line 2 and line 3): the last one counts (write it once)",
            ),
            (
                docker("plugin_args = [\"/a\"]\nplugin_args = []"),
                "3:15 plugin_args is written twice (line 2 and line 3): the lists are joined (write it once)",
            ),
            (docker("plugin_data {}\nplugin_data { a = 1 }"), "3:1 plugin_data is written twice: the agent sends the first"),
            (docker("plugin_data {}\nplugin_data_file = \"\""), "3:20 plugin_data_file beside plugin_data"),
            (docker("plugin_cmd = true"), "2:14 plugin_cmd: expected a string"),
            (docker("plugin_args = \"x\""), "2:15 plugin_args: expected a list"),
            (docker("plugin_data = \"x\""), "2:15 plugin_data: expected an object"),
            (docker("enabled = \"true\""), "2:11 enabled: expected true or false, without quotes"),
            (
                "plugins {\nWorkloadAttestor \"docker\" {}\nWorkloadAttestor \"docker\" {} }".to_owned(),
                "3:18 WorkloadAttestor \"docker\" is written twice: the agent does not start",
            ),
            (
                "{\"plugins\": {\"WorkloadAttestor\": [{\"docker\": {\"plugin_cmd\": \"x\"}},\n{\"docker\": {\"plugin_cmd\": \"x\"}}]}}".to_owned(),
                "2:2 WorkloadAttestor \"docker\" is written twice",
            ),
            (
                "plugins { WorkloadAttestor \"docker\" {} }\nplugins {}".to_owned(),
                "2:1 plugins is written twice: the agent reads the first one only (put all",
            ),
            ("agent { trust_domain = true }".to_owned(), "1:24 agent.trust_domain: expected a string"),
            ("agent {}".to_owned(), "this agent.conf has no plugin WorkloadAttestor \"docker\" (add WorkloadAttestor"),
            (
                "plugins { WorkloadAttestor \"Docker\" {}\nWorkloadAttestor \"unix\" {} }".to_owned(),
                "1:1 this agent.conf has no plugin WorkloadAttestor \"docker\" (it has WorkloadAttestor \"Docker\", \"unix\": name one with --plugin)",
            ),
            ("plugins { WorkloadAtestor \"docker\" {} }".to_owned(), "(did you mean WorkloadAttestor instead of WorkloadAtestor?)"),
        ] {
            let errors = errors(&text);
            assert!(errors.iter().any(|got| got.contains(error)), "{text}: {errors:#?}");
        }
    }

    #[test]
    fn a_plugin_that_is_not_started_and_a_relative_path_are_warned_of() {
        let file = parse("plugins { WorkloadAttestor \"docker\" { plugin_cmd = \"bin/x\" enabled = false } }");
        let texts: Vec<&str> = file.warnings.iter().map(|warning| warning.text.as_str()).collect();
        assert_eq!((texts.len(), file.errors.len()), (2, 0));
        assert!(
            texts[0].starts_with("plugin_cmd is a relative path") && texts[1].contains("does not start"),
            "{texts:?}"
        );
    }
}
