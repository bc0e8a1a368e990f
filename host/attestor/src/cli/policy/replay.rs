//! Components on recorded workloads, for the commands `docker-attestor policy test`, `diff` and `bench`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bounded::text::printable;
use sandbox::inspect::World;

use super::super::style::Style;
use super::super::{Failure, log};
use super::describe;
use super::test::Cost;
use crate::attestation::Explanation;
use crate::components::Runtime;
use crate::config::{Component, Configuration, Pin};
use crate::error::{Error, code_name};
use crate::scenario::{Scenario, Unreadable};

/// The name of the built-in policy on the command line.
const BUILT_IN: &str = "built-in";

/// A component under test, which replaces the one in a scenario's configuration.
pub(super) struct Candidate {
    pub(super) world: World,
    /// The component's file, and its digest. `None` for the built-in policy.
    file: Option<(PathBuf, String)>,
}

/// What came of running a component on a scenario.
pub(super) struct Replay {
    /// The attestation, or why the configuration is refused.
    pub(super) outcome: Result<Explanation, Error>,
    /// The lines that were logged as warnings or errors.
    pub(super) warnings: Vec<String>,
}

impl Replay {
    /// The answer in the form in which answers are compared.
    pub(super) fn answer(&self) -> Vec<String> {
        match self.outcome.as_ref().map_err(answer_of).and_then(|it| it.outcome.as_ref().map_err(answer_of)) {
            Ok(selectors) => selectors.clone(),
            Err(error) => vec![error],
        }
    }
}

/// An error without what names a component's file or digest. Two components that answer with the same error answer equally.
fn answer_of(error: &Error) -> String {
    let text = match error {
        Error::Component { reason, .. } | Error::Policy { reason, .. } | Error::Extension { reason, .. } => {
            reason.clone()
        }
        error => error.to_string(),
    };
    format!("error {}: {text}", code_name(error.code()))
}

impl Candidate {
    pub(super) fn of(path: &Path) -> Result<Candidate, Failure> {
        if path.as_os_str() == OsStr::new(BUILT_IN) {
            return Ok(Candidate { world: World::Policy, file: None });
        }
        let about = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
        let description = describe(path)?;
        let (world, _) = description.world().map_err(|why| about(why.to_string()))?;
        let path = std::path::absolute(path).map_err(|error| about(error.to_string()))?;
        Ok(Candidate { world, file: Some((path, description.digest)) })
    }

    /// Returns the scenario's configuration with this component as its policy, or as the file of its one extension.
    ///
    /// # Errors
    /// The configuration is refused, or the scenario does not fit the component.
    pub(super) fn configuration(&self, scenario: &Scenario) -> Result<Configuration, Error> {
        let mut configuration = scenario.configuration()?;
        // The file and the pin that the text names are replaced, so warnings about the text would mislead.
        configuration.report.warnings.clear();
        let replaced = |settings| {
            let (path, digest) = self.file.clone()?;
            Some(Component { path, pin: Pin::Digests(vec![digest]), settings })
        };
        match self.world {
            World::Policy => {
                let settings = configuration.policy.take().map(|policy| policy.settings).unwrap_or_default();
                configuration.policy = replaced(settings);
            }
            World::Extension => match configuration.extensions.as_mut_slice() {
                [extension] => {
                    if let Some(component) = replaced(extension.component.settings.clone()) {
                        extension.component = component;
                    }
                }
                other => {
                    return Err(Error::Configuration(format!(
                        "its config has {} extensions: to test one it must have exactly one, such as extension \"NAME\" {{ path = \
                         \"/anywhere\" unpinned = true grants = [\"labels\"] }}",
                        other.len()
                    )));
                }
            },
        }
        Ok(configuration)
    }

    /// What this component used in an attestation. `None` if it did not run.
    pub(super) fn cost(&self, explanation: &Explanation) -> Option<Cost> {
        match self.world {
            World::Policy => Some(Cost::new(explanation.usage, explanation.elapsed)),
            World::Extension => explanation.derived.first().map(|derived| Cost::new(derived.usage, derived.elapsed)),
        }
    }

    /// Runs the scenario with this component.
    pub(super) async fn run(&self, runtime: &Arc<Runtime>, scenario: &Scenario) -> Replay {
        let run = async { scenario.run_with(runtime, self.configuration(scenario)?).await };
        let (outcome, warnings) = log::captured(run).await;
        Replay { outcome, warnings }
    }
}

/// A scenario of the command line.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) scenario: Result<Scenario, Unreadable>,
}

/// Reads the scenarios of files and folders, in order.
pub(super) fn scenarios(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let about = |error: std::io::Error| Failure::Usage(format!("{}: {error}", path.display()));
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(about)? {
            let file = entry.map_err(about)?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(Failure::Usage(format!("{}: no scenario (*.json) in this folder", path.display())));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files.into_iter().map(|path| Source { scenario: Scenario::read(&path), path }).collect())
}

/// The selectors that are missing (`- …`) and those that were added (`+ …`).
pub(super) fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let (old, new): (HashSet<&String>, HashSet<&String>) = (before.iter().collect(), after.iter().collect());
    if old == new {
        return vec!["the same selectors in another order".to_owned()];
    }
    let gone = before.iter().filter(|selector| !new.contains(selector)).map(|selector| format!("- {selector}"));
    let added = after.iter().filter(|selector| !old.contains(selector)).map(|selector| format!("+ {selector}"));
    gone.chain(added).collect()
}

/// Prints lines of [`difference`], or other lines about a scenario, below it.
pub(super) fn print_below(lines: &[String], out: &mut impl Write, style: Style) -> std::io::Result<()> {
    for line in lines {
        let text = printable(line);
        let text = match line.as_bytes() {
            [b'-', ..] => style.bad(&text),
            [b'+', ..] => style.good(&text),
            _ => text,
        };
        writeln!(out, "     {text}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_without_what_names_the_component() {
        let of_file = Error::Component {
            name: "policy".to_owned(),
            path: "/p.wasm".into(),
            step: "settings",
            reason: "ambiguous".to_owned(),
        };
        assert_eq!(answer_of(&of_file), answer_of(&Error::Configuration("ambiguous".to_owned())));
        let trapped = |digest: &str, reason: &str| {
            answer_of(&Error::Policy { digest: digest.to_owned(), reason: reason.to_owned() })
        };
        assert_eq!(trapped("sha256:aa", "it trapped"), trapped("sha256:bb", "it trapped"));
        assert_ne!(trapped("sha256:aa", "it trapped"), trapped("sha256:aa", "it used more CPU than a call may"));
    }
}
