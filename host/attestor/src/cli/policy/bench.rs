//! The command `docker-attestor policy bench`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bounded::text::printable;

use super::super::{Failure, Output, print_pretty, sandbox_runtime};
use super::replay::{Candidate, scenarios};
use super::test::Cost;

/// What a component used for one scenario, over several runs.
#[derive(serde::Serialize)]
struct Measured {
    scenario: String,
    runs: usize,
    /// The median run.
    p50: Cost,
    /// The time that 95 % of the runs needed at most, in microseconds.
    p95_microseconds: u128,
}

pub(super) async fn run(
    file: &Path,
    paths: &[PathBuf],
    runs: usize,
    output: Output,
    out: &mut impl Write,
) -> Result<ExitCode, Failure> {
    let candidate = Candidate::of(file)?;
    let runtime = sandbox_runtime()?;
    let mut all = Vec::new();
    for source in scenarios(paths)? {
        let scenario = source.scenario.map_err(|error| Failure::Usage(error.to_string()))?;
        let attestor = scenario.attestor(&runtime, candidate.configuration(&scenario)?).await?;
        let mut costs = Vec::new();
        for _ in 0..runs {
            costs.extend(candidate.cost(&attestor.explain_anew(scenario.pid).await?));
        }
        costs.sort_by_key(|cost| cost.microseconds);
        let at = |percent: usize| costs.get((costs.len() * percent / 100).min(costs.len().saturating_sub(1)));
        if let (Some(p50), Some(p95)) = (at(50), at(95)) {
            all.push(Measured {
                scenario: source.path.display().to_string(),
                runs: costs.len(),
                p50: *p50,
                p95_microseconds: p95.microseconds,
            });
        }
    }
    match output {
        Output::Json => {
            print_pretty(&all, out)?;
        }
        Output::Text => {
            for Measured { scenario, p50, p95_microseconds, .. } in &all {
                writeln!(out, "{}: p50 {p50}, p95 {p95_microseconds} µs", printable(scenario))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_scenario_has_its_cost() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let scenarios = [fixtures.join("scenarios/v1-systemd.json")];
        let mut out = Vec::new();
        run(Path::new("built-in"), &scenarios, 3, Output::Json, &mut out).await.unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(report[0]["runs"], 3);
        let cost = &report[0]["p50"];
        assert!(cost["fuel_percent"].as_f64().unwrap() > 0.0 && cost["memory"].as_u64().unwrap() >= 65_536, "{report}");
        let mut out = Vec::new();
        run(Path::new("built-in"), &scenarios, 3, Output::Text, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("v1-systemd.json: p50 ") && text.contains(" µs"), "{text}");
    }
}
