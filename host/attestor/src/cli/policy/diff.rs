//! The command `docker-attestor policy diff`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bounded::text::printable;

use super::super::style::Style;
use super::super::{Failure, Output, print_pretty, sandbox_runtime};
use super::replay::{Candidate, difference, print_below, scenarios};

/// A workload whose answer differs.
#[derive(serde::Serialize)]
struct Changed {
    scenario: String,
    description: String,
    before: Vec<String>,
    after: Vec<String>,
}

#[derive(serde::Serialize)]
struct Report {
    workloads: usize,
    changed: Vec<Changed>,
}

pub(super) async fn run(
    old: &Path,
    new: &Path,
    paths: &[PathBuf],
    output: Output,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let (old, new) = (Candidate::of(old)?, Candidate::of(new)?);
    if old.world != new.world {
        return Err(Failure::Usage(format!("the one is of the world {}, the other of {}", old.world, new.world)));
    }
    let runtime = sandbox_runtime()?;
    let mut report = Report { workloads: 0, changed: Vec::new() };
    for source in scenarios(paths)? {
        let scenario = source.scenario.map_err(|error| Failure::Usage(error.to_string()))?;
        let before = old.run(&runtime, &scenario).await.answer();
        let after = new.run(&runtime, &scenario).await.answer();
        report.workloads += 1;
        if before != after {
            let (scenario, description) = (source.path.display().to_string(), scenario.description);
            report.changed.push(Changed { scenario, description, before, after });
        }
    }
    match output {
        Output::Json => {
            print_pretty(&report, out)?;
        }
        Output::Text => {
            for Changed { scenario, description, before, after } in &report.changed {
                writeln!(out, "{}: {}", style.bold(&printable(scenario)), printable(description))?;
                print_below(&difference(before, after), out, style)?;
            }
            writeln!(out, "{} of {} workloads get other selectors", report.changed.len(), report.workloads)?;
        }
    }
    Ok(if report.changed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
