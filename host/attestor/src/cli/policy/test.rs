//! The command `docker-attestor policy test`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bounded::text::printable;
use clap::ValueEnum;
use sandbox::Usage;
use sandbox::limits::{FUEL, GUEST_MEMORY};

use super::super::style::Style;
use super::super::{Failure, print_pretty, sandbox_runtime};
use super::junit;
use super::replay::{Candidate, Replay, Source, difference, print_below, scenarios};
use crate::error::{Error, code_name};
use crate::scenario::{Expect, Scenario};

/// How `policy test` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// For a person
    Text,
    /// One JSON object
    Json,
    /// JUnit XML, as test reports of CI systems
    Junit,
}

/// What a user wants of `policy test`.
pub(super) struct Wish<'a> {
    pub(super) file: &'a Path,
    pub(super) scenarios: &'a [PathBuf],
    /// Only scenarios whose file name contains this text.
    pub(super) only: Option<&'a str>,
    /// Write what the component answers into the scenarios that fail.
    pub(super) accept: bool,
    pub(super) format: Format,
}

/// What came of one scenario.
#[derive(serde::Serialize)]
pub(super) struct TestCase {
    /// The scenario's file.
    pub(super) scenario: String,
    pub(super) description: String,
    pub(super) passed: bool,
    /// The failing scenario was rewritten, so that it expects what the component answers.
    pub(super) accepted: bool,
    /// Why it failed, or what was accepted.
    pub(super) difference: Vec<String>,
    /// What was logged as a warning or an error.
    pub(super) warnings: Vec<String>,
    /// What the component used. Absent if it did not run.
    pub(super) cost: Option<Cost>,
}

impl TestCase {
    /// Whether the scenario fails the run.
    pub(super) fn failed(&self) -> bool {
        !self.passed && !self.accepted
    }
}

/// What a component used for one scenario.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Cost {
    pub(super) microseconds: u128,
    /// The part of the fuel that a call may use, in percent.
    pub(super) fuel_percent: f64,
    /// Bytes of linear memory.
    pub(super) memory: usize,
    /// The part of the memory that a call may use, in percent.
    pub(super) memory_percent: f64,
}

impl Cost {
    pub(super) fn new(Usage { fuel, memory }: Usage, elapsed: Duration) -> Cost {
        let percent = |part: u64, whole: u64| (part.saturating_mul(10_000) / whole.max(1)) as f64 / 100.0;
        Cost {
            microseconds: elapsed.as_micros(),
            fuel_percent: percent(fuel, FUEL),
            memory,
            memory_percent: percent(memory as u64, GUEST_MEMORY as u64),
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cost { microseconds, fuel_percent, memory, .. } = self;
        write!(formatter, "{microseconds} µs, {fuel_percent} % of the fuel, {} KiB", memory >> 10)
    }
}

pub(super) async fn run(wish: &Wish<'_>, out: &mut impl Write, style: Style) -> Result<ExitCode, Failure> {
    let candidate = Candidate::of(wish.file)?;
    let runtime = sandbox_runtime()?;
    let mut sources = scenarios(wish.scenarios)?;
    sources.retain(|source| {
        let name = source.path.file_name().unwrap_or_default().to_string_lossy();
        wish.only.is_none_or(|only| name.contains(only))
    });
    if sources.is_empty() {
        return Err(Failure::Usage(format!("no scenario's file name contains {:?}", wish.only.unwrap_or_default())));
    }
    let mut cases = Vec::new();
    for source in sources {
        let case = match &source.scenario {
            Ok(scenario) => judged(&source, scenario, &candidate.run(&runtime, scenario).await, &candidate, wish)?,
            Err(unreadable) => TestCase {
                scenario: source.path.display().to_string(),
                description: String::new(),
                passed: false,
                accepted: false,
                difference: vec![unreadable.to_string()],
                warnings: Vec::new(),
                cost: None,
            },
        };
        if wish.format == Format::Text {
            print(&case, out, style)?;
        }
        cases.push(case);
    }
    let failed = cases.iter().filter(|case| case.failed()).count();
    match wish.format {
        Format::Text => {
            let accepted = cases.iter().filter(|case| case.accepted).count();
            let accepted = if accepted == 0 { String::new() } else { format!(", {accepted} accepted") };
            let passed = cases.iter().filter(|case| case.passed).count();
            writeln!(out, "{passed} passed, {failed} failed{accepted}")?;
        }
        Format::Json => {
            let component = wish.file.display().to_string();
            let report = serde_json::json!({ "component": component, "failed": failed, "scenarios": cases });
            print_pretty(&report, out)?;
        }
        Format::Junit => junit::write(&wish.file.display().to_string(), &cases, out)?,
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of running the component on a scenario that could be read.
fn judged(
    source: &Source,
    scenario: &Scenario,
    replay: &Replay,
    candidate: &Candidate,
    wish: &Wish<'_>,
) -> Result<TestCase, Failure> {
    let verdict = scenario.expect.judge(&replay.outcome);
    let difference = match &verdict {
        Ok(()) => Vec::new(),
        Err(why) => match (&scenario.expect, outcome(replay)) {
            (Expect::Selectors(expected), Ok(got)) => difference(expected, got),
            (Expect::Selectors(_), Err(error)) => vec![format!("{}: {error}", code_name(error.code()))],
            _ => vec![why.to_string()],
        },
    };
    let accepted = verdict.is_err() && wish.accept;
    if accepted {
        let changed = Scenario { expect: Expect::of(&replay.outcome), ..scenario.clone() };
        changed.write(&source.path).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    Ok(TestCase {
        scenario: source.path.display().to_string(),
        description: scenario.description.clone(),
        passed: verdict.is_ok(),
        accepted,
        difference,
        warnings: replay.warnings.clone(),
        cost: replay.outcome.as_ref().ok().and_then(|explanation| candidate.cost(explanation)),
    })
}

fn outcome(replay: &Replay) -> Result<&[String], &Error> {
    replay.outcome.as_ref().and_then(|explanation| explanation.outcome.as_deref())
}

fn print(case: &TestCase, out: &mut impl Write, style: Style) -> Result<(), Failure> {
    let scenario = printable(&case.scenario);
    match (case.passed, case.accepted) {
        (true, _) => {
            let cost = case.cost.map_or_else(String::new, |cost| format!("  {cost}"));
            writeln!(out, "{}   {scenario}{}", style.good("ok"), style.dim(&cost))?;
        }
        (false, true) => writeln!(out, "{} {scenario}: {}", style.bold("new "), printable(&case.description))?,
        (false, false) => writeln!(out, "{} {scenario}: {}", style.bad("FAIL"), printable(&case.description))?,
    }
    print_below(&case.difference, out, style)?;
    for warning in &case.warnings {
        writeln!(out, "     {}", style.dim(&printable(warning)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

    fn scenario(name: &str) -> Scenario {
        Scenario::read(&Path::new(FIXTURES).join("scenarios").join(name)).unwrap()
    }

    async fn test(
        component: &str,
        folder: &Path,
        only: Option<&str>,
        accept: bool,
        format: Format,
    ) -> (String, ExitCode) {
        let (file, scenarios) = (Path::new(FIXTURES).join(component), [folder.to_owned()]);
        let wish = Wish { file: &file, scenarios: &scenarios, only, accept, format };
        let mut out = Vec::new();
        let code = run(&wish, &mut out, Style::plain()).await.unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[tokio::test]
    async fn a_trap_and_a_scenario_that_does_not_fit_fail_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("a-broken.json"), "{").unwrap();
        let mut two = scenario("v2-systemd.json");
        two.expect = Expect::Selectors(vec!["tag:frozen:0".to_owned()]);
        two.write(&path.join("b.json")).unwrap();
        two.expect = Expect::Error { code: "Internal".to_owned(), contains: "trapped".to_owned() };
        two.write(&path.join("c.json")).unwrap();
        let (out, code) = test("contract/1.0/policy.wasm", path, None, false, Format::Text).await;
        assert_eq!(code, ExitCode::FAILURE);
        assert!(out.contains("a-broken.json") && out.ends_with("0 passed, 3 failed\n"), "{out}");
        let (out, code) = test("components/traps.wasm", path, Some("c.json"), false, Format::Text).await;
        assert!(out.contains("FAIL") && out.contains("trial: ") && code == ExitCode::FAILURE, "{out}");
        assert!(out.ends_with("0 passed, 1 failed\n"), "{out}");
    }

    #[tokio::test]
    async fn an_accepted_answer_is_what_the_scenario_expects_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.json");
        scenario("v2-systemd.json").write(&file).unwrap();
        let policy = "contract/1.0/policy.wasm";
        let (out, code) = test(policy, folder.path(), None, true, Format::Text).await;
        assert!(out.contains("new  ") && out.contains("+ tag:frozen:0"), "{out}");
        assert!(out.ends_with("0 passed, 0 failed, 1 accepted\n") && code == ExitCode::SUCCESS, "{out}");
        let (out, code) = test(policy, folder.path(), None, false, Format::Text).await;
        assert!(out.ends_with("1 passed, 0 failed\n") && code == ExitCode::SUCCESS, "{out}");
        assert!(out.contains("% of the fuel"), "{out}");
        // Nothing but the expectation changed.
        let accepted = Scenario { expect: Expect::Selectors(Vec::new()), ..Scenario::read(&file).unwrap() };
        let before = Scenario { expect: Expect::Selectors(Vec::new()), ..scenario("v2-systemd.json") };
        assert_eq!(accepted.to_json().unwrap(), before.to_json().unwrap());
    }

    #[tokio::test]
    async fn warnings_stand_with_their_scenario() {
        let folder = tempfile::tempdir().unwrap();
        // The claimed container is not proven, and the host warns of that.
        let name = "host-process-in-a-containers-cgroup.json";
        scenario(name).write(&folder.path().join("unproven.json")).unwrap();
        scenario("v2-systemd.json").write(&folder.path().join("proven.json")).unwrap();
        for format in [Format::Text, Format::Json, Format::Junit] {
            let scenarios = [folder.path().to_owned()];
            let wish = Wish { file: Path::new("built-in"), scenarios: &scenarios, only: None, accept: false, format };
            let mut out = Vec::new();
            assert_eq!(run(&wish, &mut out, Style::plain()).await.unwrap(), ExitCode::SUCCESS);
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out.matches("a claimed container was not handed out").count(), 1, "{out}");
            let (before, after) = (out.find("unproven.json").unwrap(), out.find("was not handed out").unwrap());
            assert!(before < after, "{out}");
        }
    }

    #[tokio::test]
    async fn what_no_scenario_is_named_is_a_usage_error() {
        let scenarios = [Path::new(FIXTURES).join("scenarios")];
        let wish = Wish {
            file: Path::new("built-in"),
            scenarios: &scenarios,
            only: Some("nonesuch"),
            accept: false,
            format: Format::Text,
        };
        let failure = run(&wish, &mut Vec::new(), Style::plain()).await.unwrap_err();
        assert!(failure.to_string().contains("no scenario's file name contains \"nonesuch\""), "{failure}");
    }
}
