//! The command line, for a person who starts the program.
//!
//! Results go to stdout, everything else to stderr. Exit code 0 means success. Exit code 1 means a negative answer (an
//! attestation failed, a configuration is invalid). Exit code 2 means that there is no answer (wrong usage, unreadable
//! files).

mod agent_log;
mod attest;
mod compare;
mod config;
mod container;
mod diagnostics;
mod doctor;
mod entries;
mod explain;
mod input;
mod log;
mod policy;
mod program;
#[cfg(test)]
mod stage;
mod style;
mod suggestion;
mod validate;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bounded::text::printable;
use clap::{ArgGroup, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use containers::engine::Engine;
use containers::{ContainerId, Error as ContainersError, ErrorKind};

use self::config::ConfigFile;
use self::container::FoundContainer;
use self::diagnostics::Source;
use self::style::Style;
use crate::attestation::Explanation;
use crate::attestor::Attestor;
use crate::components::Runtime;
use crate::config::Configuration;
use crate::error::Error;
use crate::machine::{Machine, OpenMachine};
use crate::scenario::{Scenario, trial_workloads};
use crate::telemetry::metrics::Metrics;
use crate::workload::Transcript;

/// The version of the contract that this program implements.
const CONTRACT: &str = "docker-attestor:policy@1.1.0";
/// What `--version` prints after the name.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (policy ",
    env!("BUILTIN_POLICY_DIGEST"),
    ", contract docker-attestor:policy@1.1.0)"
);
/// The placeholder for the trust domain if no agent.conf names one.
const PLACEHOLDER: &str = "example.org";
/// How often a waiting user is told about the progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// The docker workload attestor for SPIRE.
///
/// spire-agent starts this program as a plugin (plugin_cmd). Started by a person it shows what the plugin would answer.
#[derive(Debug, Parser)]
#[command(name = "docker-attestor", version, long_version = VERSION, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log everything to stderr, not only warnings
    #[arg(long, global = true)]
    verbose: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 yes; 1 no; 2 no answer, because of wrong usage or a file that cannot be read. Each command's help says more.";
const ATTEST_EXIT_CODES: &str = "Exit codes: 0 attested, with or without selectors; 1 the attestation failed, the process or container is not \
    there, or the configuration is invalid; 2 no answer: wrong usage, or a file cannot be read.";
const VALIDATE_EXIT_CODES: &str = "Exit codes: 0 valid; 1 invalid; 2 no answer: wrong usage, or a file cannot be read.";
const VERIFY_EXIT_CODES: &str = "Exit codes: 0 verified; 1 not verified, or the configuration is invalid; 2 no answer: wrong usage, a file cannot be \
    read, or a registry or log is unreachable.";
/// Of commands that answer no question.
const PRINT_EXIT_CODES: &str = "Exit codes: 0 printed; 2 no answer: wrong usage, or stdout cannot be written.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the selectors of a process, and an entry that matches it
    ///
    /// Values of the environment are selectors too and are printed, also with --all. They may be secrets: keep the output as you keep those.
    #[command(after_help = ATTEST_EXIT_CODES)]
    Attest {
        #[command(flatten)]
        target: Target,
        /// Every running container: one JSON object a line, with id, name, image, pid, and selectors or error. Exit code 1 if one has
        /// an error
        #[arg(long, group = PROCESS)]
        all: bool,
        /// How to print
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print each step of an attestation: what was read, claimed, asked and proven
    #[command(after_help = ATTEST_EXIT_CODES)]
    Explain {
        #[command(flatten)]
        target: Target,
        /// Rank registration entries by the selectors that the process lacks: what `spire-server entry show -output json` printed, `-`
        /// for standard input
        #[arg(long, value_name = "FILE")]
        entries: Option<PathBuf>,
        /// How to print
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Find the registration entries that would match otherwise than with the built-in attestor
    ///
    /// Run docker-attestor beside the built-in attestor under a second name, as WorkloadAttestor "docker_shadow" in agent.conf with
    /// log_level = "DEBUG". The agent's log then has the selectors of both for each process. Without that, the lines of `attest --all` show
    /// which entries match the containers that run here.
    ///
    /// Values of the environment are not printed.
    #[command(after_help = COMPARE_EXIT_CODES)]
    Compare {
        /// The agent's log, or what `attest --all` printed; `-` for standard input
        seen: PathBuf,
        /// The entries: what `spire-server entry show -output json` printed, `-` for standard input
        #[arg(long, value_name = "FILE")]
        entries: PathBuf,
        /// The name of docker-attestor in agent.conf, beside the built-in attestor's, which is docker
        #[arg(long, value_name = "NAME", default_value = "docker_shadow")]
        plugin: String,
        /// How to print
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Check an agent.conf or a plugin_data file, and the program that the agent.conf names
    #[command(after_help = VALIDATE_EXIT_CODES)]
    Validate {
        /// The file; - for standard input
        #[arg(value_name = "FILE", required_unless_present = "config", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// The same as FILE
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The plugin's name in the agent.conf, if it is not called docker
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
        /// How to print
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Check the machine, the engine and the plugin that runs, and say what to do
    ///
    /// Run it as the agent's user and in the agent's environment. It judges the rights and limits of the plugins that run and that this
    /// user may ask, or of itself if none runs.
    #[command(after_help = DOCTOR_EXIT_CODES)]
    Doctor {
        /// An agent.conf or a plugin_data file; without it the defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The plugin's name in the agent.conf, if it is not called docker
        #[arg(long, value_name = "NAME", requires = "config")]
        plugin: Option<String>,
        /// Ask registries and the log whether they can be reached. Without it nothing but the engine is contacted
        #[arg(long)]
        network: bool,
        /// How to print
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Verify an image's signatures, and print what each rule says of each
    #[command(after_help = VERIFY_EXIT_CODES)]
    Verify {
        /// REPOSITORY@sha256:…, as the engine prints it
        image: String,
        /// An agent.conf or a plugin_data file with sigstore { … }; without it sigstore's defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The plugin's name in the agent.conf, if it is not called docker
        #[arg(long, value_name = "NAME", requires = "config")]
        plugin: Option<String>,
        /// How to print
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Look at policies and extensions, test them on recorded workloads, and see which run
    #[command(subcommand, after_help = EXIT_CODES)]
    Policy(policy::Command),
    /// Print a shell's completions
    #[command(after_help = PRINT_EXIT_CODES)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = PRINT_EXIT_CODES)]
    Man,
}

const COMPARE_EXIT_CODES: &str = "Exit codes: 0 every entry that matches anything here matches as before; 1 some do not; 2 no answer: wrong \
    usage, or a file cannot be read.";

const DOCTOR_EXIT_CODES: &str = "Exit codes: 0 all good or skipped; 1 a warning; 2 no answer: wrong usage, or a file cannot be read; 3 something \
    is bad.";

/// The group of the arguments that say which process is meant.
const PROCESS: &str = "process";

/// The process to attest, its machine and its configuration.
#[derive(Debug, Args)]
struct Target {
    #[command(flatten)]
    process: ProcessName,
    /// An agent.conf or a plugin_data file; without it the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The plugin's name in the agent.conf, if it is not called docker
    #[arg(long, value_name = "NAME", requires = "config")]
    plugin: Option<String>,
    /// A recorded machine instead of this one (fixtures/scenarios)
    #[arg(long, value_name = "FILE", group = PROCESS, conflicts_with = "config")]
    scenario: Option<PathBuf>,
}

/// A process of this machine, as a person names it.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new(PROCESS).required(true))]
struct ProcessName {
    /// The process id
    #[arg(long, value_name = "N", group = PROCESS, allow_negative_numbers = true)]
    pid: Option<i32>,
    /// The init process of a running container, by the container's name, its id, or the beginning of its id
    #[arg(long, value_name = "NAME|ID", group = PROCESS)]
    container: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the command that the command line names, and returns the exit code. `open` opens this machine.
pub fn run(open: OpenMachine) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    log::install(cli.verbose);
    let mut stdout = Stdout(io::stdout().lock());
    let style = Style::of_stdout();
    let outcome = match crate::runtime() {
        Ok(runtime) => runtime.block_on(cli.command.run(&mut stdout, style, open)),
        Err(error) => Err(Failure::Usage(format!("the runtime cannot be started: {error}"))),
    };
    let outcome = outcome.and_then(|code| stdout.flush().map(|()| code).map_err(Failure::from));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            let _ = failure.print(&mut io::stderr());
            failure.exit_code()
        }
    }
}

/// Stdout whose reader may close it early. Output after that is dropped, and the exit code remains that of the answer.
struct Stdout<W>(W);

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

/// Why a command ends without an answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    /// The process or the container that was named is not there.
    #[error("{0}")]
    NotThere(String),
    /// The configuration is refused. The sources say why.
    #[error("{}", .0.iter().filter(|source| !source.errors.is_empty()).map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Configuration(Vec<Source>),
    #[error("{0} ({code})", code = crate::error::code_name(.0.code()))]
    Attestation(#[from] Error),
    /// The container engine is unreachable.
    #[error("{0} ({code})", code = crate::error::code_name(.0.code()))]
    Unreachable(Error),
    #[error("stdout: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if let Failure::Configuration(sources) = self {
            writeln!(out, "docker-attestor: the configuration is invalid")?;
            return sources.iter().try_for_each(|source| source.print(out, Style::plain()));
        }
        writeln!(out, "docker-attestor: {}", printable(&self.to_string()))?;
        match self {
            Failure::Unreachable(_) => writeln!(out, "{ADVICE}"),
            _ => Ok(()),
        }
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Attestation(_) | Failure::Unreachable(_) | Failure::NotThere(_) | Failure::Configuration(_) => 1,
            Failure::Usage(_) | Failure::Output(_) => 2,
        })
    }
}

/// Advice to the user, in addition to the error's own text, if the engine is unreachable.
const ADVICE: &str = "If the engine runs and its socket refuses this user: run this as root.";

impl Command {
    async fn run(&self, out: &mut impl Write, style: Style, open: OpenMachine) -> Result<ExitCode, Failure> {
        match self {
            Command::Attest { target, all: true, .. } => {
                attest::all(this_machine(open)?, target.config_file()?, out).await
            }
            Command::Attest { target, output, .. } => attest::run(target.attest(open).await?, *output, out, style),
            Command::Explain { target, entries, output } => {
                let entries = entries.as_deref().map(entries::read).transpose()?;
                let attested = target.attest(open).await?;
                match output {
                    Output::Text => explain::run(attested, entries.as_deref(), out, style),
                    Output::Json => explain::print_json(&attested, entries.as_deref(), out),
                }
            }
            Command::Compare { seen, entries, plugin, output } => {
                compare::run(&compare::Inputs { seen, entries, plugin }, *output, out, style)
            }
            Command::Validate { file, config, plugin, output } => {
                let path = file.as_ref().or(config.as_ref()).cloned().unwrap_or_default();
                validate::run(&path, plugin.as_deref(), *output, out, style, open).await
            }
            Command::Verify { image, config, plugin, output } => {
                let config = ConfigFile::read_if_named(config.as_deref(), plugin.as_deref())?;
                verify::run(image, config, *output, out, style).await
            }
            Command::Doctor { config, plugin, network, output } => {
                let config = ConfigFile::read_if_named(config.as_deref(), plugin.as_deref())?;
                doctor::run(config, *network, *output, out, style, open).await
            }
            Command::Policy(command) => command.run(out, style, open).await,
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut Cli::command(), "docker-attestor", &mut script);
                out.write_all(&script)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Man => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page)?;
                out.write_all(&page)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// An attestation, and the machine on which it was made.
struct Attested {
    /// Either "process 42" or "process 42 of the recorded machine FILE (DESCRIPTION)".
    subject: String,
    pid: i32,
    /// The file of the recorded machine.
    recorded: Option<PathBuf>,
    trust_domain: Option<String>,
    explanation: Explanation,
}

impl Target {
    async fn attest(&self, open: OpenMachine) -> Result<Attested, Failure> {
        if let Some(path) = &self.scenario {
            let scenario = Scenario::read(path).map_err(|error| Failure::Usage(error.to_string()))?;
            return Ok(Attested {
                subject: format!(
                    "process {} of the recorded machine {} ({})",
                    scenario.pid,
                    path.display(),
                    scenario.description
                ),
                pid: scenario.pid,
                recorded: Some(path.clone()),
                trust_domain: None,
                explanation: scenario.run(&sandbox_runtime()?).await?,
            });
        }
        attest_on(this_machine(open)?, &self.process, self.config_file()?).await
    }

    fn config_file(&self) -> Result<Option<ConfigFile>, Failure> {
        ConfigFile::read_if_named(self.config.as_deref(), self.plugin.as_deref())
    }
}

/// Attests a process of this machine under a configuration file.
async fn attest_on(
    machine: Arc<dyn Machine>,
    process: &ProcessName,
    mut config: Option<ConfigFile>,
) -> Result<Attested, Failure> {
    let configuration = configured(&mut config)?;
    let trust_domain = config.as_ref().and_then(|config| config.trust_domain.clone());
    let found = process.find(&*machine.engine(&configuration, Arc::new(|_| {}))).await?;
    let pid = found.pid;
    let processes = machine.processes();
    let attestor = attestor_of(machine)?;
    configure(&attestor, configuration, config).await?;
    let explanation = waiting(attestor.explain(pid), || attestor.progress()).await?;
    // For the agent a process that has ended is a success without selectors. A person named it, and must know.
    if explanation.outcome.as_ref().is_ok_and(Vec::is_empty) && matches!(processes.open(pid), Ok(None)) {
        return Err(gone(pid));
    }
    found.check(&explanation)?;
    Ok(Attested { subject: found.subject, pid, recorded: None, trust_domain, explanation })
}

/// The process that a person named.
struct FoundProcess {
    pid: i32,
    /// How the process is called.
    subject: String,
    /// The container that was named, if the process was named by it.
    container: Option<ContainerId>,
}

impl FoundProcess {
    /// Checks that the attested process is in the container that was named.
    fn check(&self, explanation: &Explanation) -> Result<(), Failure> {
        match self.container.as_ref().and_then(|named| other_container(&explanation.transcript, named)) {
            Some(other) => Err(Failure::NotThere(format!("{} is in container {other} now: try again", self.subject))),
            None => Ok(()),
        }
    }
}

/// The container that the attested process is in, if it is another one than `named`. That container may have ended before the
/// attestation, and another process may have its init's pid.
fn other_container<'a>(transcript: &'a Transcript, named: &ContainerId) -> Option<&'a str> {
    let proven = transcript.container()?;
    Some(&*proven.container().id).filter(|proven| *proven != named.as_str())
}

impl ProcessName {
    async fn find(&self, engine: &dyn Engine) -> Result<FoundProcess, Failure> {
        match &self.container {
            None => {
                let pid = self.pid.ok_or_else(|| gone(0))?;
                Ok(FoundProcess { pid, subject: format!("process {pid}"), container: None })
            }
            Some(wanted) => {
                let FoundContainer { id, title, init } = container::find_init(engine, wanted).await?;
                let subject = format!("process {init}, the init process of {title}");
                Ok(FoundProcess { pid: init, subject, container: Some(id) })
            }
        }
    }
}

fn gone(pid: i32) -> Failure {
    Failure::NotThere(format!("process {pid} does not exist, or has ended"))
}

/// Takes the configuration of a file. Without a file the defaults.
fn configured(file: &mut Option<ConfigFile>) -> Result<Configuration, Failure> {
    match file {
        None => Ok(crate::config::load(Some(PLACEHOLDER), "").map_err(Error::from)?),
        Some(file) => file.accept(),
    }
}

/// Configures an attestor. Errors name the file that the configuration is from.
async fn configure(attestor: &Attestor, configuration: Configuration, file: Option<ConfigFile>) -> Result<(), Failure> {
    attestor.configure(configuration).await.map_err(|error| match file {
        Some(file) if error.is_about_configuration() => file.refused(&error),
        _ => Failure::from(error),
    })
}

/// The failure for an engine that could not be asked.
fn engine_failure(error: ContainersError) -> Failure {
    let is_unreachable = error.kind() == ErrorKind::Unavailable;
    let error = Error::from(crate::error::fault(error));
    if is_unreachable { Failure::Unreachable(error) } else { Failure::Attestation(error) }
}

/// Prints an answer for programs, over several lines.
fn print_pretty(answer: &impl serde::Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)
}

/// Creates the sandbox, with the compiler in a process of its own.
fn sandbox_runtime() -> Result<Arc<Runtime>, Failure> {
    let runtime = Runtime::new(crate::compilation(), Metrics::disabled());
    runtime.map(Arc::new).map_err(|error| Failure::Usage(error.to_string()))
}

/// Opens the machine that the program runs on.
fn this_machine(open: OpenMachine) -> Result<Arc<dyn Machine>, Failure> {
    match open() {
        Ok(machine) => Ok(Arc::new(machine)),
        Err(error) => Err(Failure::Usage(format!("the processes cannot be read: {error}"))),
    }
}

/// Creates an attestor of a machine, without a configuration yet.
fn attestor_of(machine: Arc<dyn Machine>) -> Result<Attestor, Failure> {
    Ok(Attestor::new(machine, sandbox_runtime()?, trial_workloads, Metrics::disabled()))
}

/// Creates an attestor of the machine that the program runs on, without a configuration yet.
fn attestor_of_this_machine(open: OpenMachine) -> Result<Attestor, Failure> {
    attestor_of(this_machine(open)?)
}

/// Waits for `work`, and prints its progress on stderr once a second.
async fn waiting<T>(work: impl Future<Output = T>, progress: impl Fn() -> String) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(PROGRESS, &mut work).await {
            Ok(done) => return done,
            Err(_) => {
                let progress = progress();
                let progress = if progress.is_empty() { "waiting for the answer" } else { &progress };
                let _ = writeln!(io::stderr(), "… {}", printable(progress));
            }
        }
    }
}

/// The version of the program and the digest of the policy that decided.
fn provenance(policy: &str) -> String {
    format!("docker-attestor {} (policy {policy}, contract {CONTRACT})", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ThisMachine;

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_process_or_a_recording_is_needed_and_not_both() {
        let parse = |arguments: &[&str]| Cli::try_parse_from([&["docker-attestor"], arguments].concat());
        assert!(parse(&["attest", "--pid", "1"]).is_ok());
        assert!(parse(&["attest", "--pid", "-1"]).is_ok());
        assert!(parse(&["explain", "--scenario", "x.json"]).is_ok());
        assert!(parse(&["attest"]).is_err());
        assert!(parse(&["attest", "--pid", "1", "--scenario", "x.json"]).is_err());
        assert!(parse(&["attest", "--pid", "x"]).is_err());
        assert!(parse(&["attest", "--all"]).is_ok());
        assert!(parse(&["attest", "--all", "--config", "x"]).is_ok());
        assert!(parse(&["attest", "--all", "--pid", "1"]).is_err());
        assert!(parse(&["attest", "--all", "--output", "json"]).is_ok());
        assert!(parse(&["attest", "--scenario", "x.json", "--config", "x"]).is_err());
        for command in [&["attest"][..], &["explain"], &["policy", "record"]] {
            assert!(parse(&[command, &["--container", "web"]].concat()).is_ok());
            assert!(parse(&[command, &["--container", "web", "--pid", "1"]].concat()).is_err());
            assert!(parse(command).is_err());
        }
        assert!(parse(&["explain", "--all"]).is_err());
        assert!(parse(&["validate"]).is_err());
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn every_commands_help_says_its_exit_codes() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.starts_with("Exit codes: 0 ") && help.contains("; 2 no answer"),
                "{}: {help:?}",
                command.get_name()
            );
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    /// What programs read is JSON, for every command that prints an answer.
    #[test]
    fn every_command_has_an_output_for_programs() {
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_some() {
                return command.get_subcommands().for_each(check);
            }
            // What these print is for a program already.
            if matches!(command.get_name(), "record" | "schema" | "completions" | "man") {
                return;
            }
            let output = command.get_arguments().find(|argument| argument.get_long() == Some("output"));
            let values = output.map(|output| output.get_possible_values()).unwrap_or_default();
            assert!(values.iter().any(|value| value.get_name() == "json"), "{}", command.get_name());
        }
        check(&Cli::command());
    }

    /// The output of a command line, and its exit code or failure.
    async fn run_with(arguments: &[&str]) -> (String, Result<ExitCode, Failure>) {
        let cli = Cli::try_parse_from([&["docker-attestor"], arguments].concat()).unwrap();
        let mut out = Vec::new();
        let outcome = cli.command.run(&mut out, Style::plain(), ThisMachine::open).await;
        (String::from_utf8(out).unwrap(), outcome)
    }

    fn scenario(name: &str) -> String {
        format!("{}/../../fixtures/scenarios/{name}.json", env!("CARGO_MANIFEST_DIR"))
    }

    #[tokio::test]
    async fn attest_prints_every_selector_and_an_entry_without_env() {
        let (out, outcome) = run_with(&["attest", "--scenario", &scenario("v2-systemd")]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS);
        assert!(out.contains("of the recorded machine ") && out.contains("v2-systemd.json"), "{out}");
        assert!(out.contains("\ndocker:label:app:web\n") && out.contains("\ndocker:env:MODE=live\n"), "{out}");
        assert!(out.contains("example.org, PARENT and WORKLOAD are placeholders"), "{out}");
        let entry = out.lines().find(|line| line.starts_with("spire-server")).unwrap();
        assert!(entry.starts_with("spire-server entry create -parentID spiffe://example.org/spire/agent/"), "{out}");
        assert!(entry.contains("-selector docker:label:app:web") && !entry.contains("docker:env:"), "{entry}");
        let changing =
            "\nthese change with a deployment: docker:image_id:shop/web:1.4, docker:image_config_digest:sha256:9c0b";
        assert!(out.contains(changing) && !entry.contains("image_"), "{out}");
    }

    #[tokio::test]
    async fn json_has_the_exact_selectors_and_says_what_is_recorded() {
        let path = scenario("odd-labels");
        let (out, outcome) = run_with(&["attest", "--output", "json", "--scenario", &path]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS);
        let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
        let text = answer["selectors"].as_array().unwrap();
        assert!(text.contains(&"label:lines:1\n2".into()), "{out}");
        assert_eq!(answer["pid"], 4242);
        assert_eq!(answer["policy"], crate::components::builtin::DIGEST);
        assert_eq!(answer["recorded"], path);
    }

    #[tokio::test]
    async fn without_a_container_attest_points_at_explain() {
        let (out, outcome) = run_with(&["attest", "--scenario", &scenario("no-container")]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS);
        assert!(out.contains("no selectors") && out.contains("docker-attestor explain"), "{out}");
        assert!(!out.contains("spire-server"), "{out}");
    }

    #[tokio::test]
    async fn explain_names_labels_and_env_and_keeps_their_values() {
        let (out, outcome) = run_with(&["explain", "--scenario", &scenario("v2-systemd")]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS);
        for part in [
            "1. process.cgroups",
            "2. docker.container",
            "proven against init process 4200",
            "answer 6 selectors",
            ": 6 facts  ",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
        assert!(out.contains("     label app\n") && out.contains("     env MODE\n"), "{out}");
        assert!(!out.contains("live") && !out.contains("/usr/bin") && !out.contains("shop\n"), "{out}");
        assert!(out.contains(&provenance(crate::components::builtin::DIGEST)), "{out}");
    }

    #[tokio::test]
    async fn an_attestation_that_fails_says_its_code_and_exits_1() {
        let path = scenario("engine-away");
        let (out, outcome) = run_with(&["explain", "--scenario", &path]).await;
        assert_eq!(outcome.unwrap(), ExitCode::FAILURE);
        assert!(out.contains("answer UNAVAILABLE container engine") && out.contains("run this as root"), "{out}");
        let (out, outcome) = run_with(&["attest", "--scenario", &path]).await;
        let failure = outcome.unwrap_err();
        assert!(out.is_empty() && failure.to_string().ends_with("(UNAVAILABLE)"), "{failure}");
        assert_eq!(failure.exit_code(), ExitCode::from(1));
    }

    #[tokio::test]
    async fn a_pid_that_does_not_exist_is_an_error_for_a_person() {
        // No system of today has a pid as high (proc_sys_kernel(5): 2^22 at most).
        for command in ["attest", "explain"] {
            let (out, outcome) = run_with(&[command, "--pid", "2147483647"]).await;
            let failure = outcome.unwrap_err();
            assert_eq!(failure.to_string(), "process 2147483647 does not exist, or has ended");
            assert_eq!(failure.exit_code(), ExitCode::from(1));
            assert!(out.is_empty(), "{out}");
        }
        let (out, outcome) = run_with(&["attest", "--pid", &std::process::id().to_string()]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS, "{out}");
    }

    #[tokio::test]
    async fn for_the_agent_a_pid_that_does_not_exist_has_no_selectors() {
        let attestor = attestor_of_this_machine(ThisMachine::open).unwrap();
        attestor.configure(crate::config::load(Some(PLACEHOLDER), "").unwrap()).await.unwrap();
        assert_eq!(attestor.attest(i32::MAX).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn explain_ranks_entries_and_shows_the_selector_that_differs() {
        let entry = |id: &str, selectors: &[(&str, &str)]| {
            let selectors: Vec<_> =
                selectors.iter().map(|(kind, value)| serde_json::json!({"type": kind, "value": value})).collect();
            serde_json::json!({"id": id, "selectors": selectors,
                "spiffe_id": {"trust_domain": "example.org", "path": format!("/{id}")}})
        };
        let entries = serde_json::json!({"entries": [
            entry("far", &[("docker", "label:app:api"), ("docker", "label:tier:back")]),
            entry("near", &[("docker", "label:app:Web"), ("docker", "image_id:shop/web:1.4"), ("unix", "uid:0")]),
            entry("good", &[("docker", "label:app:web")]),
            entry("other", &[("k8s", "ns:a")]),
        ]});
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), entries.to_string()).unwrap();
        let path = file.path().display().to_string();
        let (out, outcome) = run_with(&["explain", "--scenario", &scenario("v2-systemd"), "--entries", &path]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS);
        let ranking = "entries 4 in the file, matching: 1
  matches  spiffe://example.org/good (entry good)
  lacks 1 of 2  spiffe://example.org/near (entry near)
    docker:label:app:Web in the entry, docker:label:app:web here
    a selector of unix was not compared
  lacks 2 of 2  spiffe://example.org/far (entry far)
    docker:label:app:api in the entry, docker:label:app:web here
    docker:label:tier:back in the entry, nothing like it here
  1 without a selector of docker
";
        assert!(out.ends_with(ranking), "{out}");
    }

    fn component(name: &str) -> String {
        format!("{}/../../fixtures/contract/1.0/{name}.wasm", env!("CARGO_MANIFEST_DIR"))
    }

    #[tokio::test]
    async fn a_component_is_inspected_by_what_it_says_of_itself() {
        let (out, outcome) = run_with(&["policy", "inspect", &component("policy")]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS);
        for part in ["policy, contract docker-attestor:policy@1.0.0", "policy/attestor@1.0.0", "may run: pin it"] {
            assert!(out.contains(part), "{part}: {out}");
        }
        let (out, outcome) = run_with(&["policy", "inspect", &component("extension")]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS);
        assert!(out.contains("extension, contract"), "{out}");
        let (_, outcome) = run_with(&["policy", "inspect", &scenario("v2-systemd")]).await;
        assert!(outcome.unwrap_err().to_string().contains("no WebAssembly component"));
    }

    #[tokio::test]
    async fn a_policy_is_tested_on_recorded_workloads_and_compared_with_another() {
        let path = scenario("v2-systemd");
        let (out, outcome) = run_with(&["policy", "test", &component("policy"), &path]).await;
        assert_eq!(outcome.unwrap(), ExitCode::FAILURE);
        for part in ["FAIL", "- label:app:web", "+ tag:frozen:0", "0 passed, 1 failed"] {
            assert!(out.contains(part), "{part}: {out}");
        }
        let (out, outcome) = run_with(&["policy", "diff", "built-in", &component("policy"), &path]).await;
        assert_eq!(outcome.unwrap(), ExitCode::FAILURE);
        assert!(out.contains("+ tag:frozen:31") && out.contains("1 of 1 workloads get other selectors"), "{out}");
        let (out, outcome) = run_with(&["policy", "diff", "built-in", "built-in", &path]).await;
        assert_eq!(outcome.unwrap(), ExitCode::SUCCESS);
        assert_eq!(out, "0 of 1 workloads get other selectors\n");
        let (out, outcome) = run_with(&["policy", "test", &component("extension"), &path]).await;
        assert_eq!(outcome.unwrap(), ExitCode::FAILURE);
        assert!(out.contains("it must have exactly one") && out.contains("0 passed, 1 failed"), "{out}");
        let (_, outcome) = run_with(&["policy", "diff", "built-in", &component("extension"), &path]).await;
        assert!(outcome.unwrap_err().to_string().contains("of the world policy, the other of extension"));
    }

    #[tokio::test]
    async fn a_configuration_that_is_refused_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nonsense = 1").unwrap();
        let path = file.path().display().to_string();
        let (_, outcome) = run_with(&["attest", "--pid", "1", "--config", &path]).await;
        let failure = outcome.unwrap_err();
        assert_eq!(failure.to_string(), format!("{path}: unknown configurations detected: nonsense"));
        assert_eq!(failure.exit_code(), ExitCode::from(1));
    }

    #[tokio::test]
    async fn a_reader_that_leaves_changes_no_exit_code() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a = [").unwrap();
        let command =
            Command::Validate { file: Some(file.path().to_owned()), config: None, plugin: None, output: Output::Text };
        let mut out = Stdout(Closed);
        assert_eq!(command.run(&mut out, Style::plain(), ThisMachine::open).await.unwrap(), ExitCode::FAILURE);
        out.flush().unwrap();
    }

    #[test]
    fn the_version_names_the_policy_and_the_contract_on_one_line() {
        let version = Cli::command().render_long_version();
        assert_eq!(version.trim_end(), provenance(crate::components::builtin::DIGEST));
    }

    #[tokio::test]
    async fn completions_and_the_manual_page_name_the_commands() {
        for command in [Command::Completions { shell: clap_complete::Shell::Bash }, Command::Man] {
            let mut out = Vec::new();
            command.run(&mut out, Style::plain(), ThisMachine::open).await.unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("attest") && text.contains("explain") && text.contains("validate"));
        }
    }
}
