//! The commands `docker-attestor policy test` and `policy diff`, which run components on recorded workloads.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bounded::text::printable;
use sandbox::inspect::World;

use super::super::style::Style;
use super::super::{Failure, sandbox_runtime};
use super::describe;
use crate::attestation::Explanation;
use crate::components::Runtime;
use crate::config::{Component, Configuration, Pin};
use crate::error::{Error, code_name};
use crate::scenario::{Expect, Scenario};

/// The name of the built-in policy in `diff`.
const BUILT_IN: &str = "built-in";

/// A component under test, which replaces the one in a scenario's configuration.
struct Candidate {
    world: World,
    /// `None` for the built-in policy.
    path: Option<PathBuf>,
}

impl Candidate {
    fn of(path: &Path) -> Result<Candidate, Failure> {
        if path.as_os_str() == OsStr::new(BUILT_IN) {
            return Ok(Candidate { world: World::Policy, path: None });
        }
        let about = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
        let (world, _) = describe(path)?.world().map_err(|why| about(why.to_string()))?;
        let path = std::path::absolute(path).map_err(|error| about(error.to_string()))?;
        Ok(Candidate { world, path: Some(path) })
    }

    /// Returns the configuration with this component as its policy, or as the file of its one extension.
    fn apply_to(&self, mut configuration: Configuration) -> Result<Configuration, Failure> {
        let unpinned = |component: &mut Component, path: &Path| {
            component.path = path.to_owned();
            component.pin = Pin::Unpinned;
        };
        match (&self.path, self.world) {
            (None, _) => configuration.policy = None,
            (Some(path), World::Policy) => {
                let policy = configuration.policy.get_or_insert(Component {
                    path: PathBuf::new(),
                    pin: Pin::Unpinned,
                    settings: Vec::new(),
                });
                unpinned(policy, path);
            }
            (Some(path), World::Extension) => match configuration.extensions.as_mut_slice() {
                [extension] => unpinned(&mut extension.component, path),
                other => {
                    return Err(Failure::Usage(format!(
                        "its config has {} extensions: to test one it must have exactly one, such as extension \"NAME\" {{ path = \
                         \"/anywhere\" unpinned = true grants = [\"labels\"] }}",
                        other.len()
                    )));
                }
            },
        }
        Ok(configuration)
    }

    /// Runs the scenario with this component.
    async fn run(&self, runtime: &Arc<Runtime>, scenario: &Scenario) -> Result<Result<Explanation, Error>, Failure> {
        let configuration = match scenario.configuration() {
            Ok(configuration) => self.apply_to(configuration)?,
            Err(refused) => return Ok(Err(refused.into())),
        };
        match scenario.run_with(runtime, configuration).await {
            // The component itself cannot be used, so the failure is not that of the scenario.
            Err(error) if error.is_about_configuration() && !matches!(scenario.expect, Expect::Error { .. }) => {
                Err(Failure::Usage(error.to_string()))
            }
            outcome => Ok(outcome),
        }
    }
}

/// Reads the scenarios of files and folders, in order.
fn scenarios(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Scenario)>, Failure> {
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
    let read = |path: PathBuf| {
        let scenario = Scenario::read(&path).map_err(|error| Failure::Usage(error.to_string()))?;
        Ok((path, scenario))
    };
    files.into_iter().map(read).collect()
}

pub(super) async fn test(
    file: &Path,
    paths: &[PathBuf],
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let candidate = Candidate::of(file)?;
    let runtime = sandbox_runtime()?;
    let (mut passed, mut failed) = (0, 0);
    for (path, scenario) in scenarios(paths)? {
        let shown = printable(&path.display().to_string());
        let outcome = candidate.run(&runtime, &scenario).await;
        let outcome = outcome.map_err(|failure| Failure::Usage(format!("{}: {failure}", path.display())))?;
        match scenario.expect.judge(&outcome) {
            Ok(()) => {
                passed += 1;
                writeln!(out, "{}   {shown}", style.good("ok"))?;
            }
            Err(why) => {
                failed += 1;
                writeln!(out, "{} {shown}: {}", style.bad("FAIL"), printable(&scenario.description))?;
                match (&scenario.expect, outcome.map(|explanation| explanation.outcome)) {
                    (Expect::Selectors(expected), Ok(Ok(got))) => difference(expected, &got, out, style)?,
                    (Expect::Selectors(_), Ok(Err(error))) => {
                        let text = format!("{}: {error}", code_name(error.code()));
                        writeln!(out, "     {}", style.bad(&printable(&text)))?;
                    }
                    _ => writeln!(out, "     {}", printable(&why.to_string()))?,
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn diff(
    old: &Path,
    new: &Path,
    paths: &[PathBuf],
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let (old, new) = (Candidate::of(old)?, Candidate::of(new)?);
    if old.world != new.world {
        return Err(Failure::Usage(format!("the one is of the world {}, the other of {}", old.world, new.world)));
    }
    let runtime = sandbox_runtime()?;
    let (mut same, mut changed) = (0, 0);
    for (path, scenario) in scenarios(paths)? {
        let answer = async |candidate: &Candidate| {
            let outcome = candidate.run(&runtime, &scenario).await;
            let outcome = outcome.map_err(|failure| Failure::Usage(format!("{}: {failure}", path.display())))?;
            Ok::<_, Failure>(match outcome.and_then(|explanation| explanation.outcome) {
                Ok(selectors) => selectors,
                Err(error) => vec![format!("error {}: {error}", code_name(error.code()))],
            })
        };
        let (before, after) = (answer(&old).await?, answer(&new).await?);
        if before == after {
            same += 1;
            continue;
        }
        changed += 1;
        writeln!(out, "{}: {}", style.bold(&printable(&path.display().to_string())), printable(&scenario.description))?;
        difference(&before, &after, out, style)?;
    }
    writeln!(out, "{changed} of {} workloads get other selectors", same + changed)?;
    Ok(if changed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the selectors that are missing and those that were added.
fn difference(before: &[String], after: &[String], out: &mut impl Write, style: Style) -> std::io::Result<()> {
    let (old, new): (HashSet<&String>, HashSet<&String>) = (before.iter().collect(), after.iter().collect());
    for gone in before.iter().filter(|selector| !new.contains(selector)) {
        writeln!(out, "     {}", style.bad(&format!("- {}", printable(gone))))?;
    }
    for added in after.iter().filter(|selector| !old.contains(selector)) {
        writeln!(out, "     {}", style.good(&format!("+ {}", printable(added))))?;
    }
    if old == new {
        writeln!(out, "     the same selectors in another order")?;
    }
    Ok(())
}
