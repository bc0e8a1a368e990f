//! The command `docker-attestor doctor`, which judges what an attestation rests on.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use bounded::text::printable;
use containers::engine::{Endpoint, Engine, EngineDescription};
use containers::{Error as ContainersError, ProofContext};
use image_signatures::{Options, SetupError, TrustDescription, TrustError, Verifier, describe_trust};
use jiff::Timestamp;
use registry::Reference;
use serde::Serialize;

#[cfg(target_os = "linux")]
use self::linux as system;
#[cfg(windows)]
use self::windows as system;
use super::config::ConfigFile;
use super::style::Style;
use super::{Failure, Output, configured, this_machine};
use crate::components::history::Status;
use crate::components::in_files;
use crate::config::{Configuration, Pin};
use crate::limits;
use crate::machine::{Machine, OpenMachine};
use crate::service::status::{ask, find};

/// How good something is. The worst decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Judgement {
    /// It was not looked at.
    Skipped,
    /// It is as it should be.
    Good,
    /// The plugin works, but proves less or may fail later.
    Warning,
    /// The plugin does not work.
    Bad,
}

impl Judgement {
    fn name(self) -> &'static str {
        match self {
            Judgement::Skipped => "skipped",
            Judgement::Good => "good",
            Judgement::Warning => "warning",
            Judgement::Bad => "bad",
        }
    }
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    judgement: Judgement,
    /// What was seen.
    seen: String,
    /// What to do. `None` if nothing is to be done.
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, seen: impl Into<String>) -> Finding {
        Finding { check, judgement: Judgement::Good, seen: seen.into(), remedy: None }
    }

    fn skipped(check: &'static str, why: impl Into<String>) -> Finding {
        Finding { check, judgement: Judgement::Skipped, seen: why.into(), remedy: None }
    }

    fn warning(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, judgement: Judgement::Warning, seen: seen.into(), remedy: Some(remedy.into()) }
    }

    fn bad(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, judgement: Judgement::Bad, seen: seen.into(), remedy: Some(remedy.into()) }
    }

    /// The same, with the process that it is about.
    fn of(self, subject: &str) -> Finding {
        Finding { seen: format!("{subject}: {}", self.seen), ..self }
    }
}

pub(super) async fn run(
    config: Option<ConfigFile>,
    network: bool,
    output: Output,
    out: &mut impl Write,
    style: Style,
    open: OpenMachine,
) -> Result<ExitCode, Failure> {
    let findings = examine(config, network, open).await?;
    match output {
        Output::Text => print(&findings, out, style)?,
        Output::Json => {
            writeln!(out, "{}", serde_json::to_string(&findings).map_err(std::io::Error::from)?)?;
        }
    }
    Ok(exit_code(&findings))
}

fn exit_code(findings: &[Finding]) -> ExitCode {
    match findings.iter().map(|finding| finding.judgement).max() {
        Some(Judgement::Warning) => ExitCode::FAILURE,
        // 2 means in every command that there is no answer.
        Some(Judgement::Bad) => ExitCode::from(3),
        Some(Judgement::Good | Judgement::Skipped) | None => ExitCode::SUCCESS,
    }
}

fn print(findings: &[Finding], out: &mut impl Write, style: Style) -> std::io::Result<()> {
    for Finding { check, judgement, seen, remedy } in findings {
        let name = format!("{:7}", judgement.name());
        let name = match judgement {
            Judgement::Skipped => style.dim(&name),
            Judgement::Good => style.good(&name),
            Judgement::Warning => style.warning(&name),
            Judgement::Bad => style.bad(&name),
        };
        writeln!(out, "{name}  {check:13}  {}", printable(seen))?;
        if let Some(remedy) = remedy {
            writeln!(out, "{:24}-> {}", "", printable(remedy))?;
        }
    }
    let count = |judgement| findings.iter().filter(|finding| finding.judgement == judgement).count();
    let [good, warning, bad, skipped] =
        [Judgement::Good, Judgement::Warning, Judgement::Bad, Judgement::Skipped].map(count);
    let warnings = if warning == 1 { "warning" } else { "warnings" };
    writeln!(out, "{good} good, {warning} {warnings}, {bad} bad, {skipped} skipped")
}

async fn examine(mut config: Option<ConfigFile>, network: bool, open: OpenMachine) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let configuration = match configured(&mut config) {
        Ok(configuration) => {
            findings.push(match &config {
                Some(config) => {
                    let seen = format!("{}: every key is valid (`validate` tries components too)", config.name());
                    Finding::good("configuration", seen)
                }
                None => Finding::skipped("configuration", "the defaults, because no --config names a file"),
            });
            Some(configuration)
        }
        Err(failure @ Failure::Configuration { .. }) => {
            let remedy = "run `docker-attestor validate`; what needs a configuration is skipped here";
            findings.push(Finding::bad("configuration", failure.to_string(), remedy));
            None
        }
        Err(failure) => return Err(failure),
    };
    let plugins = running_plugins().await;
    findings.extend(plugins.iter().flat_map(judge_plugin));
    if plugins.is_empty() {
        let seen = "none runs that this user may ask: the rights and limits below are those of this command";
        findings.push(Finding::skipped("plugin", seen));
    }
    let from_files = configuration.as_ref().is_some_and(|configuration| in_files(configuration).next().is_some());
    let declared = configuration.as_ref().is_some_and(|configuration| configuration.engine_shares_pid_namespace);
    let pids: Vec<Option<u32>> =
        if plugins.is_empty() { vec![None] } else { plugins.iter().map(|plugin| Some(plugin.pid)).collect() };
    for pid in pids {
        let judged = system::judge_process(pid, from_files, declared);
        let subject = pid.map(|pid| format!("plugin {pid}"));
        findings.extend(judged.into_iter().map(|finding| match &subject {
            Some(subject) => finding.of(subject),
            None => finding,
        }));
    }
    let machine = match this_machine(open) {
        Ok(machine) => {
            findings.extend(system::judge_processes(&*machine.processes()));
            Some(machine)
        }
        Err(failure) => {
            findings.push(Finding::bad(
                "processes",
                failure.to_string(),
                "run this, and the agent, with the host's /proc",
            ));
            None
        }
    };
    let (Some(configuration), Some(machine)) = (&configuration, &machine) else {
        return Ok(findings);
    };
    let engine = examine_engine(&**machine, configuration, &mut findings).await;
    examine_signatures(configuration, &*engine, network, &mut findings).await;
    Ok(findings)
}

/// The plugins that run and whose answer can be believed: those of this user, and those of root.
async fn running_plugins() -> Vec<Status> {
    let sockets = find().await.into_iter().filter(|socket| !socket.is_of_another_user()).collect();
    let mut asking = ask(sockets);
    let mut plugins = Vec::new();
    while let Some(asked) = asking.join_next().await {
        if let Ok((_, Ok(status))) = asked {
            plugins.push(status);
        }
    }
    plugins.sort_by_key(|plugin| plugin.pid);
    plugins
}

/// Judges what a running plugin says of itself.
fn judge_plugin(plugin: &Status) -> Vec<Finding> {
    let name = format!("plugin {} of agent {}, version {}", plugin.pid, plugin.agent, plugin.program);
    let own = env!("CARGO_PKG_VERSION");
    let mut findings = vec![match (plugin.configured, plugin.program == own) {
        (false, _) => {
            Finding::bad("plugin", format!("{name}, is not configured"), "look for the reason in the agent's log")
        }
        (true, false) => Finding::warning(
            "plugin",
            format!("{name}, while this program has version {own}"),
            "restart the agent, which then starts the new program",
        ),
        (true, true) => Finding::good("plugin", name),
    }];
    if let (true, Some(refusal)) = (plugin.configuration.failing, &plugin.configuration.last_refusal) {
        let stays = match plugin.configuration.since {
            Some(since) => format!("; the one of {since} stays in use"),
            None => String::new(),
        };
        let seen = format!("refused on {}: {}{stays}", refusal.at, refusal.reason);
        let remedy = "correct it, and try `docker-attestor validate` before the agent reloads it";
        findings.push(Finding::bad("last Configure", seen, remedy));
    }
    for component in plugin.components.iter().filter(|component| component.failing) {
        let seen = match &component.last_failure {
            Some(failure) => format!("{} not replaced, at step {}: {}", component.name, failure.step, failure.reason),
            None => format!("{} not replaced", component.name),
        };
        let remedy = "put a good file in its place, or the file that runs; see `docker-attestor policy status`";
        findings.push(Finding::bad("component", seen, remedy));
    }
    if let Some(attestations) = plugin.attestations.as_ref().filter(|attestations| attestations.all_failed()) {
        let reason = attestations.last_failure.as_ref().map_or("", |failure| &failure.reason);
        let seen = format!("all {} of a container failed since {}: {reason}", attestations.failed, attestations.since);
        let remedy = "run `docker-attestor explain --pid N` for one of the processes";
        findings.push(Finding::bad("attestations", seen, remedy));
    }
    findings
}

async fn examine_engine(
    machine: &dyn Machine,
    configuration: &Configuration,
    findings: &mut Vec<Finding>,
) -> std::sync::Arc<dyn Engine> {
    if let Endpoint::Unix(path) = &configuration.docker {
        findings.push(system::judge_socket(path));
    }
    let engine = machine.engine(configuration, std::sync::Arc::new(|_| {}));
    let described = engine.describe().await;
    findings.extend(judge_engine(&configuration.docker, described.as_ref(), configuration.engine_shares_pid_namespace));
    engine
}

/// Judges what an engine says of itself, and clause b.
fn judge_engine(
    endpoint: &Endpoint,
    described: Result<&EngineDescription, &ContainersError>,
    declared: bool,
) -> Vec<Finding> {
    let EngineDescription { version, api, cgroup_driver, engine } = match described {
        Ok(described) => described,
        Err(error) if error.is_clause_b() => {
            return vec![Finding::bad("pid namespace", error.to_string(), "do as it says: nothing is attested before")];
        }
        Err(error) => {
            let remedy =
                format!("see that the engine runs, and that docker_socket_path ({endpoint}) is its own socket");
            return vec![Finding::bad("engine", error.to_string(), remedy)];
        }
    };
    let version: String = version.chars().take(80).collect();
    let api = api.map_or_else(String::new, |(highest, spoken)| format!(", API {highest}, {spoken} spoken"));
    let mut findings = vec![Finding::good("engine", format!("{endpoint}: version {version}{api}"))];
    let ours =
        engine.process.as_ref().is_some_and(|process| process.namespace_pids().is_ok_and(|pids| pids.len() == 1));
    findings.push(match (ours, declared) {
        (true, false) => Finding::good("pid namespace", "the engine's process is in ours (clause b)"),
        (true, true) => Finding::warning(
            "pid namespace",
            "the engine's process is in ours, and clause b is declared all the same",
            "remove engine_shares_pid_namespace, unless a proxy is in front of the engine",
        ),
        (false, true) => Finding::warning(
            "pid namespace",
            "it cannot be seen whether the engine's process ids are ours: engine_shares_pid_namespace declares it (clause b)",
            "let the plugin talk to the engine's own socket, in the engine's pid namespace",
        ),
        // Each connection is held to clause b. On Windows, which has no pid namespaces, this is all.
        (false, false) => Finding::good("pid namespace", "clause b held when the engine was connected to"),
    });
    match cgroup_driver.as_str() {
        "" => {}
        "none" => findings.push(Finding::bad(
            "cgroup driver",
            "none: containers have no cgroup of their own, so that no process is found to be in one",
            "give the engine a cgroup driver: for rootless Docker, cgroup v2 with delegation",
        )),
        driver => findings.push(Finding::good("cgroup driver", driver.chars().take(80).collect::<String>())),
    }
    findings
}

async fn examine_signatures(
    configuration: &Configuration,
    engine: &dyn Engine,
    network: bool,
    findings: &mut Vec<Finding>,
) {
    let signed = in_files(configuration).any(|(_, component)| matches!(component.pin, Pin::Signed { .. }));
    let options = configuration.sigstore.as_ref().map(|sigstore| sigstore.options.clone());
    let Some(options) = options.or_else(|| signed.then(Options::default)) else {
        findings.push(Finding::skipped("signatures", "no signature is verified: there is no sigstore { … }"));
        return;
    };
    let now = Timestamp::now();
    findings.extend(judge_trust(describe_trust(options.trusted_root.as_deref(), now).as_ref(), &options, now));
    if !network {
        findings.push(Finding::skipped("registries", "not asked, because --network is not given"));
        return;
    }
    let verifier = match Verifier::new(&options) {
        Ok((verifier, _)) => verifier,
        Err(SetupError::Trust(_)) => {
            findings.push(Finding::skipped("registries", "not asked, because the trust root cannot be used"));
            return;
        }
        Err(error) => {
            let remedy = "correct sigstore { … }, or the file that it names";
            findings.push(Finding::bad("registries", error.to_string(), remedy));
            return;
        }
    };
    let mut registries: BTreeSet<String> = options.registry_credentials.keys().cloned().collect();
    registries.extend(options.insecure_registries.iter().cloned());
    registries.extend(registries_of_containers(engine).await);
    if registries.is_empty() {
        findings.push(Finding::skipped("registries", "neither the configuration nor a running container names one"));
    }
    let left = registries.len().saturating_sub(limits::REGISTRIES_ASKED);
    for registry in registries.into_iter().take(limits::REGISTRIES_ASKED) {
        findings.push(judge_reach("registry", &registry, verifier.ping_registry(&registry).await));
    }
    if left > 0 {
        findings.push(Finding::skipped("registries", format!("{left} more were not asked")));
    }
    if !options.ignore_tlog {
        findings.push(judge_reach("log", &options.rekor_url, verifier.ping_log().await));
    }
}

fn judge_reach(check: &'static str, host: &str, reached: Result<(), registry::Error>) -> Finding {
    match reached {
        Ok(()) => Finding::good(check, format!("{host} answers")),
        // Verdicts that were made before serve for a while.
        Err(error) => Finding::warning(
            check,
            error.to_string(),
            "see that this machine may connect to it (HTTPS_PROXY, NO_PROXY, sigstore.registry_ca)",
        ),
    }
}

/// The registries of the images that run.
async fn registries_of_containers(engine: &dyn Engine) -> BTreeSet<String> {
    let (mut images, mut registries) = (BTreeSet::new(), BTreeSet::new());
    for container in engine.list(false).await.unwrap_or_default().iter().take(limits::CONTAINERS_LOOKED_AT) {
        let inspected = engine.inspect(&container.id).await.ok().flatten();
        let Some(image) = inspected.and_then(|inspected| inspected.container.image_id) else { continue };
        if !images.insert(image.clone()) {
            continue;
        }
        for digest in engine.repo_digests(&image).await.unwrap_or_default() {
            if let Ok(reference) = digest.parse::<Reference>() {
                registries.insert(reference.repository.host().to_owned());
            }
        }
    }
    registries
}

/// Judges the trust root by its ends. A part without keys is no fault: an instance of sigstore may have no timestamp authority.
fn judge_trust(described: Result<&TrustDescription, &TrustError>, options: &Options, now: Timestamp) -> Vec<Finding> {
    const CHECK: &str = "trust root";
    const REMEDY: &str = "run `cosign initialize` again, or name a newer trusted_root.json";
    let TrustDescription { parts, warnings, refreshed } = match described {
        Ok(described) => described,
        Err(error) => return vec![Finding::bad(CHECK, error.to_string(), "correct or replace that file")],
    };
    let mut findings: Vec<Finding> =
        warnings.iter().map(|warning| Finding::warning(CHECK, warning.clone(), REMEDY)).collect();
    for part in parts.iter().filter(|part| part.total > 0) {
        let (name, source) = (part.name, &part.source);
        let soon = |until: Timestamp| until < now.saturating_add(limits::TRUST_ENDS_SOON).unwrap_or(Timestamp::MAX);
        findings.push(match part.until {
            _ if part.good == 0 => Finding::warning(
                CHECK,
                format!("{name}: all {} have ended, so that no newer signature verifies ({source})", part.total),
                REMEDY,
            ),
            Some(until) if soon(until) => {
                Finding::warning(CHECK, format!("{name}: the last ends on {until} ({source})"), REMEDY)
            }
            Some(until) => Finding::good(CHECK, format!("{name}: {} good, until {until} ({source})", part.good)),
            None => Finding::good(CHECK, format!("{name}: {} good, without an end ({source})", part.good)),
        });
    }
    let written = options.trusted_root.as_deref().and_then(|path| path.metadata().ok()?.modified().ok());
    let age = match (written.and_then(|written| Timestamp::try_from(written).ok()), refreshed) {
        (Some(written), _) => {
            let days = now.duration_since(written).as_hours() / 24;
            format!("the file is {days} days old, and is not refreshed")
        }
        (None, true) => "the plugin refreshes it once a day".to_owned(),
        (None, false) => "it is not refreshed".to_owned(),
    };
    findings.push(Finding::good(CHECK, age));
    findings
}

/// Judges what of the proof is left out.
fn judge_proof(context: ProofContext) -> Finding {
    match context.left_out().as_slice() {
        [] => Finding::good("proof", "every clause is checked"),
        left_out => Finding::warning(
            "proof",
            format!("left out: {}", left_out.join("; ")),
            "see \"What is proven, and what is not\" on the operator's page",
        ),
    }
}

#[cfg(test)]
mod tests;
