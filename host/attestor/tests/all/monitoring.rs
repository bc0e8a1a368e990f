//! The alerts, the dashboard and the operator's page name the metrics that the program declares, and no others.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test: a panic is the verdict")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use docker_attestor::telemetry::metrics::{Kind, METRICS, PREFIX};
use serde_json::Value;

/// What the agent puts before the keys of plugins, as its ServiceName (spiffe/spire, pkg/agent/agent.go). Key parts are joined by `_`
/// (hashicorp/go-metrics, prometheus/prometheus.go).
const AGENT: &str = "spire_agent_";

/// The agent's own metric in the alerts: its calls of a workload attestor (spiffe/spire, pkg/common/telemetry/agent/workloadapi).
const OF_THE_AGENT: (&str, &[&str]) = ("spire_agent_workload_api_workload_attestor", &["attestor", "status"]);

/// The labels that Prometheus gives to whatever it scrapes.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The labels of the metric that Prometheus shows under this name. `None` if there is no such metric.
fn labels(name: &str) -> Option<Vec<&'static str>> {
    if name == OF_THE_AGENT.0 {
        return Some(OF_THE_AGENT.1.to_vec());
    }
    let metric = METRICS.iter().find(|metric| {
        let shown = format!("{AGENT}{PREFIX}_{}", metric.name);
        let suffixes: &[&str] = if metric.kind == Kind::Sample { &["_sum", "_count"] } else { &[""] };
        suffixes.iter().any(|suffix| format!("{shown}{suffix}") == name)
    });
    metric.map(|metric| metric.labels.to_vec())
}

/// Every metric in a PromQL expression, with the labels that the expression selects by.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (start, _) in expression.match_indices(AGENT) {
        let rest = expression.get(start..).unwrap();
        let end = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let matchers = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let labels = matchers.split(", ").filter_map(|matcher| Some(matcher.split(['=', '!']).next()?.to_owned()));
        found.push((name.to_owned(), labels.filter(|label| !label.is_empty()).collect()));
    }
    found
}

/// The labels after each `by (`.
fn grouped(expression: &str) -> BTreeSet<String> {
    let lists = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(", ").map(str::to_owned)).collect()
}

/// Fails if an expression has a metric or a label that nothing sends. Returns the metrics' names.
fn check(expression: &str) -> BTreeSet<String> {
    let mut known: BTreeSet<&str> = OF_PROMETHEUS.into();
    let mut names = BTreeSet::new();
    for (name, selected) in selectors(expression) {
        let labels = labels(&name).unwrap_or_else(|| panic!("no such metric: {name}"));
        known.extend(&labels);
        for label in selected {
            assert!(
                labels.contains(&label.as_str()) || OF_PROMETHEUS.contains(&label.as_str()),
                "{name} has no label {label}"
            );
        }
        names.insert(name);
    }
    assert!(!names.is_empty(), "no metric in {expression}");
    for label in grouped(expression) {
        assert!(known.contains(label.as_str()), "nothing has the label {label}: {expression}");
    }
    names
}

/// The expressions of the alerts. The file is YAML; an expression is one line, or the lines below `expr: |`.
fn alert_expressions() -> Vec<String> {
    let file = read("monitoring/alerts.yaml");
    let alerts = file.split("- alert: ").skip(1);
    alerts
        .map(|alert| {
            let expression = alert.split("expr: ").nth(1).unwrap();
            expression.split("\n        for: ").next().unwrap().split("\n        labels:").next().unwrap().to_owned()
        })
        .collect()
}

/// The expressions of the dashboard's panels.
fn panel_expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_alerts_are_about_metrics_and_labels_that_exist() {
    let expressions = alert_expressions();
    assert_eq!(expressions.len(), 5);
    for expression in expressions {
        check(&expression);
    }
}

#[test]
fn the_dashboard_shows_each_metric_and_no_other() {
    let mut shown = BTreeSet::new();
    for expression in panel_expressions() {
        shown.append(&mut check(&expression));
        // The dashboard's variables choose the nodes.
        for part in expression.split(AGENT).skip(1) {
            assert!(part.contains("{job=~\"$job\", instance=~\"$instance\""), "{expression}");
        }
    }
    for metric in METRICS {
        let name = format!("{AGENT}{PREFIX}_{}", metric.name);
        assert!(shown.iter().any(|shown| shown.starts_with(&name)), "{name} is on no panel");
    }
}

#[test]
fn the_operators_page_has_each_metric_with_its_labels() {
    let page = read("OPERATING.md");
    let table: Vec<&str> = page.lines().filter(|line| line.starts_with(&format!("| `{PREFIX}."))).collect();
    assert_eq!(table.len(), METRICS.len());
    for (metric, line) in METRICS.iter().zip(table) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Sample => "sample",
            Kind::Gauge => "gauge",
        };
        assert_eq!(cells.first().copied(), Some(format!("| `{PREFIX}.{}`", metric.name).as_str()));
        assert_eq!(cells.get(1).copied(), Some(kind), "{line}");
        for label in metric.labels {
            assert!(cells.get(2).is_some_and(|cell| cell.contains(&format!("`{label}`"))), "{label}: {line}");
        }
    }
}
