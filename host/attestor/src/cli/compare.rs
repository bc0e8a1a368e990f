//! The command `docker-attestor compare`: which registration entries match with docker-attestor, and which do not.
//!
//! The workloads come from one of two inputs. The agent's log has the selectors of the built-in attestor beside those of docker-attestor,
//! which runs under a second name. So the log shows what matches today and what would match after the switch. The lines of `attest --all`
//! have the selectors of docker-attestor only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bounded::text::{cut, printable};
use serde::Serialize;

use super::agent_log::{self, Event};
use super::attest::ContainerLine;
use super::entries::{self, DOCKER, Difference, Entry, Holders};
use super::input::{Input, Line};
use super::style::Style;
use super::{Failure, Output};
use crate::limits;

/// Failures of a plugin that wait for their process's line.
const FAILURES: usize = 1_024;
/// Bytes that are kept of a plugin's error.
const ERROR: usize = 512;

/// What is compared, as the command line says it.
pub(super) struct Inputs<'a> {
    /// The agent's log, or the lines of `attest --all`.
    pub(super) seen: &'a Path,
    /// What `spire-server entry show -output json` printed.
    pub(super) entries: &'a Path,
    /// The name of docker-attestor in the agent's log.
    pub(super) plugin: &'a str,
}

pub(super) fn run(
    inputs: &Inputs<'_>,
    output: Output,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let stdin = Path::new("-");
    if inputs.seen == stdin && inputs.entries == stdin {
        return Err(Failure::Usage("only one of the two inputs can be standard input".to_owned()));
    }
    let entries = entries::read(inputs.entries)?;
    let seen = Seen::read(Input::open(inputs.seen, limits::LOG_FILE)?, inputs.plugin)?;
    let comparison = Comparison::of(&entries, &seen);
    match output {
        Output::Json => {
            let text = serde_json::to_string(&comparison).map_err(|error| Failure::Usage(error.to_string()))?;
            writeln!(out, "{text}")?;
        }
        Output::Text => comparison.print(inputs.plugin, out, style)?,
    }
    Ok(if comparison.differing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the workloads come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    /// The agent's log.
    AgentLog,
    /// The lines of `attest --all`.
    AttestAll,
}

/// A workload with its selectors, `TYPE:VALUE`.
struct Workload {
    name: String,
    selectors: Selectors,
    /// docker-attestor's error.
    error: Option<String>,
}

/// The selectors of a workload.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Selectors {
    /// With the built-in attestor. Empty where it was not asked.
    before: BTreeSet<String>,
    /// With docker-attestor.
    after: BTreeSet<String>,
    /// Whether docker-attestor failed, so that `after` has the selectors of other attestors only.
    failed: bool,
}

impl Selectors {
    /// The side that an entry does not match.
    fn compared(&self, change: Change) -> &BTreeSet<String> {
        match change {
            Change::New => &self.before,
            Change::Lost | Change::Failed | Change::Near => &self.after,
        }
    }

    fn bytes(&self) -> usize {
        let text = |selector: &String| size_of::<String>() + selector.len();
        self.before.iter().chain(&self.after).map(text).sum()
    }
}

/// The workloads of the input.
struct Seen {
    source: Source,
    workloads: Vec<Workload>,
    /// The containers without selectors, each with the reason.
    failed: Vec<String>,
    /// How often the built-in attestor failed, so that it is not known what it says.
    unknown: usize,
    /// Lines that are too long or have another form.
    unreadable: usize,
}

impl Seen {
    fn read(mut input: Input, plugin: &str) -> Result<Seen, Failure> {
        let source = Source::AgentLog;
        let mut seen = Seen { source, workloads: Vec::new(), failed: Vec::new(), unknown: 0, unreadable: 0 };
        let mut log = Log::new(plugin);
        let (mut bytes, mut number, mut is_first) = (0, 0, true);
        while let Some(line) = input.line(limits::LOG_LINE)? {
            number += 1;
            let line = match line {
                Line::Text(line) if line.trim().is_empty() => continue,
                Line::Text(line) => line,
                Line::TooLong => {
                    seen.unreadable += 1;
                    continue;
                }
            };
            let container = || serde_json::from_str::<ContainerLine>(&line).ok();
            if std::mem::take(&mut is_first) && container().is_some() {
                seen.source = Source::AttestAll;
            }
            let about = |why: &str| Failure::Usage(format!("{}: line {number}: {why}", input.name));
            match seen.source {
                Source::AttestAll => {
                    let container = container().ok_or_else(|| about("it is not what `attest --all` prints"))?;
                    bytes += seen.add(container);
                }
                Source::AgentLog => match agent_log::event(&line) {
                    Ok(event) => event.into_iter().for_each(|event| log.add(event)),
                    Err(agent_log::Unreadable) => seen.unreadable += 1,
                },
            }
            let count = seen.workloads.len() + seen.failed.len() + log.attested.len();
            if count > limits::COMPARED || bytes + log.bytes > limits::COMPARED_BYTES {
                let (count, bytes) = (limits::COMPARED, limits::COMPARED_BYTES >> 20);
                return Err(about(&format!(
                    "{count} workloads with {bytes} MiB of selectors may be: give it in parts"
                )));
            }
        }
        if seen.source == Source::AgentLog {
            log.check(&input.name)?;
            seen.unknown = log.unknown;
            let workload = |(selectors, process): (Selectors, Process)| {
                let name = |pid: i32| format!("process {pid}");
                let name = process.pid.map_or_else(|| "a workload without a pid".to_owned(), name);
                Workload { name, selectors, error: process.error }
            };
            seen.workloads = log.attested.into_iter().map(workload).collect();
        }
        Ok(seen)
    }

    /// Whether docker-attestor failed for the workload with this number.
    fn has_failed(&self, number: usize) -> bool {
        self.workloads.get(number).is_some_and(|workload| workload.selectors.failed)
    }

    /// Adds a container, and returns its size.
    fn add(&mut self, line: ContainerLine) -> usize {
        let name = line.to_string();
        let Some(selectors) = line.selectors else {
            self.failed.push(format!("{name}: {}", line.error.unwrap_or_default()));
            return self.failed.last().map_or(0, String::len);
        };
        let after = selectors.iter().map(|selector| [DOCKER, selector].concat()).collect();
        let selectors = Selectors { before: BTreeSet::new(), after, failed: false };
        let bytes = selectors.bytes();
        self.workloads.push(Workload { name, selectors, error: None });
        bytes
    }
}

/// What the agent's log says of workloads in containers.
struct Log<'a> {
    plugin: &'a str,
    /// What the selectors of docker-attestor begin with.
    prefix: String,
    /// The first process of each pair of answers.
    attested: BTreeMap<Selectors, Process>,
    /// Bytes of their selectors.
    bytes: usize,
    /// The errors of docker-attestor, whose processes' lines have not come yet.
    failures: HashMap<Option<i32>, String>,
    /// The processes for which the built-in attestor failed, and whose lines have not come yet.
    unanswered: BTreeSet<Option<i32>>,
    unknown: usize,
    /// Whether a selector of the built-in attestor was seen.
    saw_built_in: bool,
    /// Whether a selector or an error of docker-attestor was seen.
    saw_ours: bool,
}

struct Process {
    pid: Option<i32>,
    error: Option<String>,
}

impl<'a> Log<'a> {
    fn new(plugin: &'a str) -> Log<'a> {
        Log {
            plugin,
            prefix: format!("{plugin}:"),
            attested: BTreeMap::new(),
            bytes: 0,
            failures: HashMap::new(),
            unanswered: BTreeSet::new(),
            unknown: 0,
            saw_built_in: false,
            saw_ours: false,
        }
    }

    /// Adds a line.
    fn add(&mut self, event: Event) {
        match event {
            // The agent was started anew: what it said before is history.
            Event::Loaded { plugin } if plugin == self.plugin => *self = Log::new(self.plugin),
            Event::Failed { pid, plugin, error } if plugin == self.plugin => {
                self.saw_ours = true;
                if self.failures.len() < FAILURES {
                    self.failures.insert(pid, cut(&error, ERROR).to_owned());
                }
            }
            Event::Failed { pid, plugin, .. } if [&plugin, ":"].concat() == DOCKER => {
                if self.unanswered.len() < FAILURES {
                    self.unanswered.insert(pid);
                }
            }
            Event::Attested { pid, selectors } => self.attested(pid, selectors),
            Event::Loaded { .. } | Event::Failed { .. } => {}
        }
    }

    fn attested(&mut self, pid: Option<i32>, selectors: Vec<String>) {
        let error = self.failures.remove(&pid);
        let mut sides = Selectors { before: BTreeSet::new(), after: BTreeSet::new(), failed: error.is_some() };
        let (mut built_in, mut ours) = (false, false);
        for selector in selectors {
            if selector.starts_with(DOCKER) {
                built_in = true;
                sides.before.insert(selector);
            } else if let Some(value) = selector.strip_prefix(&self.prefix) {
                ours = true;
                sides.after.insert([DOCKER, value].concat());
            } else {
                sides.before.insert(selector.clone());
                sides.after.insert(selector);
            }
        }
        self.saw_built_in |= built_in;
        self.saw_ours |= ours;
        if self.unanswered.remove(&pid) {
            self.unknown += 1;
            return;
        }
        // A process in no container has no selector of either, and matches as before.
        if !(built_in || ours) || self.attested.contains_key(&sides) {
            return;
        }
        self.bytes += sides.bytes();
        self.attested.insert(sides, Process { pid, error });
    }

    /// # Errors
    /// The log does not have both attestors.
    fn check(&self, name: &str) -> Result<(), Failure> {
        let plugin = self.plugin;
        let why = match (self.saw_built_in, self.saw_ours) {
            (true, true) => return Ok(()),
            (false, false) => {
                "it has neither selectors of containers nor lines of `attest --all`: is the agent's log_level \"DEBUG\", and did a \
                 container's process ask for an SVID?"
                    .to_owned()
            }
            (true, false) => format!(
                "it has no answer of the plugin {plugin}: is it in agent.conf, as WorkloadAttestor \"{plugin}\"? Another name: --plugin"
            ),
            (false, true) => {
                format!("it has no selector of the built-in attestor beside those of {plugin}: is it in agent.conf?")
            }
        };
        Err(Failure::Usage(format!("{name}: {why}")))
    }
}

/// How the entries match.
#[derive(Serialize)]
struct Comparison {
    source: Source,
    /// The number of different workloads.
    workloads: usize,
    entries: usize,
    /// Entries that match the same workloads as before, or with `attest --all` at least one container.
    matching: usize,
    /// Entries that match otherwise than before, or with `attest --all` nearly match a container.
    differing: Vec<Finding>,
    /// Entries that match no workload of the input.
    not_seen: usize,
    /// Entries without a selector of docker, for which nothing changes.
    without_docker: usize,
    /// Entries whose selectors of other attestors could not be compared.
    in_part: usize,
    /// The containers without selectors, each with the reason.
    failed: Vec<String>,
    /// How often the built-in attestor failed, so that there was nothing to compare with.
    unknown: usize,
    /// Lines that were not read.
    unreadable_lines: usize,
}

/// An entry that matches otherwise than before, for one of its workloads.
#[derive(Serialize)]
struct Finding {
    entry: String,
    spiffe_id: String,
    change: Change,
    workload: String,
    /// The number of further workloads with the same change.
    more: usize,
    /// Each selector of the entry that the workload does not have, unless docker-attestor failed. Values of env are left out.
    differences: Vec<String>,
    /// docker-attestor's error.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Change {
    /// The entry matches with the built-in attestor, and not with docker-attestor.
    Lost,
    /// The entry matches with the built-in attestor, and docker-attestor failed.
    Failed,
    /// The entry matches with docker-attestor, and not with the built-in attestor.
    New,
    /// No container has all selectors of the entry, but one has all of them in another spelling or release.
    Near,
}

impl Comparison {
    fn of(entries: &[Entry], seen: &Seen) -> Comparison {
        let side = |side: fn(&Selectors) -> &BTreeSet<String>| {
            Holders::new(seen.workloads.iter().map(move |workload| side(&workload.selectors)))
        };
        let (before, after) = (side(|selectors| &selectors.before), side(|selectors| &selectors.after));
        let mut comparison = Comparison {
            source: seen.source,
            workloads: seen.workloads.len(),
            entries: entries.len(),
            matching: 0,
            differing: Vec::new(),
            not_seen: 0,
            without_docker: 0,
            in_part: 0,
            failed: seen.failed.clone(),
            unknown: seen.unknown,
            unreadable_lines: seen.unreadable,
        };
        for entry in entries {
            let docker: Vec<&str> = entry.docker_selectors().collect();
            if docker.is_empty() {
                comparison.without_docker += 1;
                continue;
            }
            let (is_matching, changes): (bool, Vec<(Change, Vec<usize>)>) = match seen.source {
                Source::AgentLog => {
                    let all: Vec<&str> = entry.selectors.iter().map(String::as_str).collect();
                    let (before, after) = (before.of_all(&all), after.of_all(&all));
                    let (failed, lost) =
                        before.difference(&after).copied().partition(|&number| seen.has_failed(number));
                    let new = after.difference(&before).copied().collect();
                    let changes = [(Change::Lost, lost), (Change::Failed, failed), (Change::New, new)];
                    (!before.is_empty(), changes.to_vec())
                }
                Source::AttestAll => {
                    comparison.in_part += usize::from(entry.others() > 0);
                    let is_matching = !after.of_all(&docker).is_empty();
                    let near = if is_matching { BTreeSet::new() } else { after.near(&docker) };
                    (is_matching, vec![(Change::Near, near.into_iter().collect())])
                }
            };
            let before = comparison.differing.len();
            for (change, workloads) in changes {
                comparison.differing.extend(Finding::of(entry, change, &workloads, seen));
            }
            match (comparison.differing.len() > before, is_matching) {
                (true, _) => {}
                (false, true) => comparison.matching += 1,
                (false, false) => comparison.not_seen += 1,
            }
        }
        comparison
    }

    /// The number of entries with a finding. One entry may be lost to one workload and new to another.
    fn differing_entries(&self) -> usize {
        self.differing.iter().map(|finding| &finding.entry).collect::<BTreeSet<_>>().len()
    }

    fn print(&self, plugin: &str, out: &mut impl Write, style: Style) -> std::io::Result<()> {
        for Finding { entry, spiffe_id, change, workload, more, differences, error } in &self.differing {
            let (title, what) = match change {
                Change::Lost => ("lost", format!("matches with docker, and not with {plugin}")),
                Change::Failed => ("failed", format!("matches with docker, and {plugin} failed")),
                Change::New => ("new", format!("matches with {plugin}, and not with docker")),
                Change::Near => ("near", "does not match, but nearly".to_owned()),
            };
            let entry = printable(&format!("{spiffe_id} (entry {entry})"));
            writeln!(out, "{}  {}", style.bad(title), style.bold(&entry))?;
            let more = if *more > 0 { format!(", and {more} more") } else { String::new() };
            writeln!(out, "  {}{more}: {what}", printable(workload))?;
            for difference in differences {
                writeln!(out, "    {difference}")?;
            }
            if let Some(error) = error {
                writeln!(out, "    {}", printable(error))?;
            }
        }
        for failed in &self.failed {
            writeln!(out, "{}  {}", style.bad("not compared"), printable(failed))?;
        }
        if !self.differing.is_empty() || !self.failed.is_empty() {
            writeln!(out)?;
        }
        let (matching, differing) = (self.matching, self.differing_entries());
        let (workloads, as_before) = match self.source {
            Source::AgentLog => ("workloads", "match as before"),
            Source::AttestAll => ("containers", "match"),
        };
        let does = if differing == 1 { "does" } else { "do" };
        let summary = format!(
            "{} entries, {} {workloads}: {matching} {as_before}, {differing} {does} not",
            self.entries, self.workloads
        );
        writeln!(out, "{}", if differing == 0 { style.good(&summary) } else { style.bold(&summary) })?;
        let notes = [
            ("entries that match nothing here, because their workloads run elsewhere or did not ask", self.not_seen),
            ("entries without a docker selector, for which nothing changes", self.without_docker),
            ("entries with selectors of other attestors, which were not compared", self.in_part),
            ("failures of docker itself, which leave nothing to compare with", self.unknown),
            ("lines that are too long or broken", self.unreadable_lines),
        ];
        for (note, count) in notes.iter().filter(|(_, count)| *count > 0) {
            writeln!(out, "{}", style.dim(&format!("{note}: {count}")))?;
        }
        Ok(())
    }
}

impl Finding {
    /// The change of one entry for these workloads. `None` if there are none.
    fn of(entry: &Entry, change: Change, workloads: &[usize], seen: &Seen) -> Option<Finding> {
        let lacks = |workload: &&Workload| {
            let has = workload.selectors.compared(change);
            entry.docker_selectors().filter(|selector| !has.contains(*selector)).count()
        };
        let workloads = workloads.iter().filter_map(|&number| seen.workloads.get(number));
        // The workload that lacks the fewest stands for the others.
        let nearest = workloads.clone().min_by_key(lacks)?;
        let has = nearest.selectors.compared(change);
        let missing = entry.docker_selectors().filter(|selector| !has.contains(*selector));
        Some(Finding {
            entry: entry.id.clone(),
            spiffe_id: entry.spiffe_id.clone(),
            change,
            workload: nearest.name.clone(),
            more: workloads.count() - 1,
            differences: match change {
                Change::Failed => Vec::new(),
                _ => missing.map(|wanted| Difference::of(wanted, has).to_string()).collect(),
            },
            error: nearest.error.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use containers::engine::recorded::RecordedContainer;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::attest;
    use crate::cli::stage::{node, pid};

    const PLUGIN: &str = "docker_shadow";

    /// What `attest --all` prints on a node with 50 containers.
    async fn attested() -> String {
        let container = |number: usize| RecordedContainer {
            labels: [("app".to_owned(), format!("app{number}")), ("tier".to_owned(), "web".to_owned())].into(),
            env: vec!["MODE=live".to_owned(), "TOKEN=hunter2".to_owned()],
            image: format!("shop/app{number}:1.0"),
            image_id: Some(format!("sha256:{number:064x}")),
            ..RecordedContainer::default()
        };
        let mut out = Vec::new();
        attest::all(node((0..50).map(container).collect()), None, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    /// An entry for each container, of which five do not fit.
    fn entries() -> Value {
        let selectors = |number: usize| {
            let digest = format!("image_config_digest:sha256:{number:064x}");
            let label = format!("label:app:app{number}");
            match number {
                7 => vec!["label:app:App7".to_owned(), digest],
                11 => vec![label, format!("image_config_digest:sha256:{:064x}", 4_711)],
                19 => vec!["image_id:registry.example.org/shop/app19:0.9".to_owned()],
                23 => vec![label, "env:mode=live".to_owned(), "env:TOKEN=hunter2".to_owned()],
                42 => vec![label, digest, "label:Tier:web".to_owned()],
                _ => vec![label, digest],
            }
        };
        let entry = |number: usize| {
            let docker = selectors(number).into_iter().map(|value| json!({"type": "docker", "value": value}));
            let others = [json!({"type": "unix", "value": "uid:0"})];
            json!({
                "id": format!("e{number}"),
                "spiffe_id": {"trust_domain": "example.org", "path": format!("/app{number}")},
                "parent_id": {"trust_domain": "example.org", "path": "/agent"},
                "selectors": docker.chain(others).collect::<Vec<_>>(),
                "expires_at": "0",
                "revision_number": "12",
            })
        };
        json!({"entries": (0..50).map(entry).collect::<Vec<_>>(), "next_page_token": ""})
    }

    /// The log of an agent in which the built-in attestor gives each process what its entry wants, and docker-attestor gives it what
    /// `attested` says. For one process docker-attestor fails.
    fn agents_log(attested: &str, entries: &Value, format: Output) -> String {
        let line = |level: &str, msg: &str, fields: Vec<(&str, Value)>| match format {
            Output::Json => {
                let mut line = json!({"level": level, "msg": msg, "time": "2026-11-28T13:00:00Z"});
                for (key, value) in fields {
                    line[key] = value;
                }
                format!("{line}\n")
            }
            // Go's %v of the selectors, quoted by logrus as Go's %q does. The texts here need no other escapes.
            Output::Text => {
                let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
                let mut line = format!("time=\"2026-11-28T13:00:00Z\" level={level} msg={}", quoted(msg));
                for (key, value) in fields {
                    let text = match &value {
                        Value::Array(selectors) => {
                            let one =
                                |selector: &Value| format!("type:{}  value:{}", selector["type"], selector["value"]);
                            quoted(&format!("[{}]", selectors.iter().map(one).collect::<Vec<_>>().join(" ")))
                        }
                        Value::String(text) => quoted(text),
                        other => other.to_string(),
                    };
                    line.push_str(&format!(" {key}={text}"));
                }
                line + "\n"
            }
        };
        let mut log = line("info", "Plugin loaded", vec![("plugin_name", json!(PLUGIN))]);
        for (number, container) in attested.lines().enumerate() {
            let container: Value = serde_json::from_str(container).unwrap();
            let pid = pid(i32::try_from(number).unwrap());
            let typed = |kind: &str, value: &Value| json!({"type": kind, "value": value});
            let mut selectors = entries["entries"][number]["selectors"].as_array().unwrap().clone();
            let mut failure = String::new();
            if number == 42 {
                let error = json!("rpc error: code = Unavailable desc = container engine");
                let fields = vec![("error", error), ("pid", json!(pid))];
                failure = line("error", "workload attestor \"docker_shadow\" failed", fields);
            } else {
                selectors.extend(container["selectors"].as_array().unwrap().iter().map(|value| typed(PLUGIN, value)));
            }
            let fields = vec![("pid", json!(pid)), ("selectors", json!(selectors))];
            // Each process asks more than once.
            for _ in 0..3 {
                log += &failure;
                log += &line("debug", "PID attested to have selectors", fields.clone());
            }
        }
        log
    }

    fn compared(seen: &str, entries: &Value) -> Result<Comparison, Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), entries.to_string()).unwrap();
        let entries = entries::read(file.path())?;
        let seen = Seen::read(Input::of("seen", Cursor::new(seen.to_owned()), limits::LOG_FILE), PLUGIN)?;
        Ok(Comparison::of(&entries, &seen))
    }

    /// The comparison as it is printed, and as JSON.
    fn printed(comparison: &Comparison) -> String {
        let mut out = Vec::new();
        comparison.print(PLUGIN, &mut out, Style::plain()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!serde_json::to_string(comparison).unwrap().contains("hunter2"));
        text
    }

    #[tokio::test]
    async fn of_fifty_entries_the_five_that_no_container_matches_are_found_each_with_the_selector_that_differs() {
        let comparison = compared(&attested().await, &entries()).unwrap();
        let text = printed(&comparison);
        let differing: Vec<&str> = comparison.differing.iter().map(|finding| &*finding.entry).collect();
        assert_eq!(differing, ["e7", "e11", "e19", "e23", "e42"]);
        for difference in [
            "near  spiffe://example.org/app7 (entry e7)\n  container svc7 (000700070007): does not match, but nearly\n    \
             docker:label:app:App7 in the entry, docker:label:app:app7 here\n",
            "in the entry, docker:image_config_digest:sha256:000000000000000000000000000000000000000000000000000000000000000b here\n",
            "docker:image_id:registry.example.org/shop/app19:0.9 in the entry, docker:image_id:shop/app19:1.0 here\n",
            "docker:env:mode=… in the entry, docker:env:MODE=… here\n",
            "docker:label:Tier:web in the entry, docker:label:tier:web here\n",
            "\n50 entries, 50 containers: 45 match, 5 do not\nentries with selectors of other attestors, which were not compared: 50\n",
        ] {
            assert!(text.contains(difference), "{difference}: {text}");
        }
    }

    #[tokio::test]
    async fn of_fifty_entries_the_five_that_would_be_lost_are_found_in_the_agents_log_of_either_form() {
        let (attested, entries) = (attested().await, entries());
        for format in [Output::Text, Output::Json] {
            let log = agents_log(&attested, &entries, format);
            let comparison = compared(&log, &entries).unwrap();
            let text = printed(&comparison);
            let lost: Vec<&str> = comparison.differing.iter().map(|finding| &*finding.entry).collect();
            assert_eq!(lost, ["e7", "e11", "e19", "e23", "e42"]);
            for difference in [
                "lost  spiffe://example.org/app7 (entry e7)\n  process 1007: matches with docker, and not with docker_shadow\n    \
                 docker:label:app:App7 in the entry, docker:label:app:app7 here\n",
                "docker:env:mode=… in the entry, docker:env:MODE=… here\n",
                "failed  spiffe://example.org/app42 (entry e42)\n  process 1042: matches with docker, and docker_shadow failed\n    \
                 rpc error: code = Unavailable desc = container engine\n",
                "\n50 entries, 50 workloads: 45 match as before, 5 do not\n",
            ] {
                assert!(text.contains(difference), "{difference}: {text}");
            }
        }
    }

    /// A line of the agent's log in its JSON form.
    fn line(pid: i32, selectors: &[(&str, &str)]) -> String {
        let selectors: Vec<Value> =
            selectors.iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
        format!("{}\n", json!({"msg": "PID attested to have selectors", "pid": pid, "selectors": selectors}))
    }

    fn entry(id: &str, selectors: &[(&str, &str)]) -> Value {
        let selectors: Vec<Value> =
            selectors.iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
        json!({"id": id, "spiffe_id": {"trust_domain": "example.org", "path": ""}, "selectors": selectors})
    }

    #[test]
    fn selectors_of_other_attestors_decide_as_in_the_agent_and_new_matches_are_found() {
        let log = [
            line(1, &[("unix", "uid:0"), ("docker", "label:a:1"), (PLUGIN, "label:a:1"), (PLUGIN, "label:b:2")]),
            // The same container under another user.
            line(2, &[("unix", "uid:7"), ("docker", "label:a:1"), (PLUGIN, "label:a:1"), (PLUGIN, "label:b:2")]),
            // A process in no container.
            line(3, &[("unix", "uid:9")]),
        ];
        let entries = json!({"entries": [
            entry("same", &[("docker", "label:a:1"), ("unix", "uid:0")]),
            entry("another user", &[("docker", "label:a:1"), ("unix", "uid:1")]),
            entry("new", &[("docker", "label:b:2"), ("unix", "uid:7")]),
            entry("no docker", &[("unix", "uid:9")]),
            entry("the shadow's own type", &[(PLUGIN, "label:a:1")]),
        ]});
        let comparison = compared(&log.concat(), &entries).unwrap();
        assert_eq!((comparison.matching, comparison.not_seen, comparison.without_docker), (1, 1, 2));
        assert_eq!(comparison.workloads, 2);
        let [finding] = &*comparison.differing else { panic!("{}", printed(&comparison)) };
        assert_eq!((&*finding.entry, finding.change, &*finding.workload), ("new", Change::New, "process 2"));
        assert_eq!(finding.differences, ["docker:label:b:2 in the entry, nothing like it here"]);
    }

    #[test]
    fn a_failure_of_the_built_in_attestor_proves_nothing_and_a_new_start_of_the_agent_counts() {
        let failed = json!({"msg": "workload attestor \"docker\" failed", "pid": 1, "error": "x"});
        let loaded = json!({"msg": "Plugin loaded", "plugin_name": PLUGIN});
        let both = line(1, &[("docker", "label:a:1"), (PLUGIN, "label:a:1")]);
        let log = [
            // Without the second plugin at first.
            line(1, &[("docker", "label:a:1")]),
            format!("{loaded}\n{failed}\n"),
            line(1, &[(PLUGIN, "label:a:1")]),
            both,
        ];
        let entries = json!({"entries": [entry("e", &[("docker", "label:a:1")])]});
        let comparison = compared(&log.concat(), &entries).unwrap();
        assert_eq!((comparison.matching, comparison.unknown, comparison.differing.len()), (1, 1, 0));
        assert!(printed(&comparison).contains("failures of docker itself, which leave nothing to compare with: 1\n"));
    }

    #[test]
    fn a_failure_of_docker_attestor_hides_no_loss() {
        let failed = json!({"msg": format!("workload attestor \"{PLUGIN}\" failed"), "pid": 1, "error": "x"});
        let alone = |pid: i32| line(pid, &[("docker", "label:a:1")]);
        let log = [format!("{failed}\n"), alone(1), alone(2)];
        let entries = json!({"entries": [entry("e", &[("docker", "label:a:1")])]});
        let comparison = compared(&log.concat(), &entries).unwrap();
        let found: Vec<_> =
            comparison.differing.iter().map(|finding| (finding.change, &*finding.workload, &finding.error)).collect();
        assert_eq!(found, [(Change::Lost, "process 2", &None), (Change::Failed, "process 1", &Some("x".to_owned()))]);
        assert!(printed(&comparison).contains("1 entries, 2 workloads: 0 match as before, 1 does not"));
    }

    #[test]
    fn an_input_that_shows_one_side_only_is_an_error_that_says_what_to_do() {
        let entries = json!({"entries": []});
        for (seen, part) in [
            ("nothing\n".to_owned(), "is the agent's log_level \"DEBUG\""),
            (line(1, &[("docker", "label:a:1")]), "no answer of the plugin docker_shadow"),
            (line(1, &[(PLUGIN, "label:a:1")]), "no selector of the built-in attestor"),
            (
                "{\"id\":\"\",\"name\":\"\",\"image\":\"\"}\n{}\n".to_owned(),
                "line 2: it is not what `attest --all` prints",
            ),
        ] {
            let failure = compared(&seen, &entries).map(|_| ()).unwrap_err();
            assert!(failure.to_string().contains(part), "{failure}");
            assert_eq!(failure.exit_code(), ExitCode::from(2));
        }
        let both = Inputs { seen: Path::new("-"), entries: Path::new("-"), plugin: PLUGIN };
        let failure = run(&both, Output::Text, &mut Vec::new(), Style::plain()).unwrap_err();
        assert!(failure.to_string().contains("only one"), "{failure}");
    }

    #[test]
    fn more_workloads_than_can_be_compared_are_refused() {
        let log: String = (0..=limits::COMPARED)
            .map(|number| line(1, &[("docker", &format!("label:a:{number}")), (PLUGIN, "label:a:1")]))
            .collect();
        let failure = compared(&log, &json!({"entries": []})).map(|_| ()).unwrap_err();
        assert!(failure.to_string().contains("line 16385: 16384 workloads"), "{failure}");
    }
}
