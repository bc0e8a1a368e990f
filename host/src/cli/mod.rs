//! The command line: what a person who starts the program gets.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 the answer is bad news (an attestation failed, a
//! configuration is invalid), 2 it could not be asked (usage, files).

mod attest;
mod explain;
mod log;
mod style;
mod validate;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use self::style::Style;
use crate::attestor::{Attestor, Explanation};
use crate::config;
use crate::engine::BUILTIN_DIGEST;
use crate::error::Error;
use crate::plugin::{self, Environment};
use crate::scenario::Scenario;
use crate::telemetry::hclog;
use crate::telemetry::metrics::Metrics;

/// The contract that this program speaks.
const CONTRACT: &str = "docker-attestor:policy@1.0.0";
/// Bytes of a configuration file.
const CONFIG_FILE: u64 = 1 << 20;

/// The docker workload attestor for SPIRE.
///
/// spire-agent starts this program as a plugin (plugin_cmd). Started by a person it shows what the plugin would answer.
#[derive(Debug, Parser)]
#[command(name = "docker-attestor", version, long_version = long_version(), after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log everything to stderr, not only warnings
    #[arg(long, global = true)]
    verbose: bool,
}

const EXIT_CODES: &str =
    "Exit codes: 0 fine; 1 the attestation failed or the configuration is invalid; 2 usage, or a file cannot be read.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the selectors of a process, and an entry that matches it
    Attest {
        #[command(flatten)]
        target: Target,
        /// How to print
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print each step of an attestation: what was read, claimed, asked and proven
    Explain {
        #[command(flatten)]
        target: Target,
    },
    /// Check an agent.conf or a plugin_data file
    Validate {
        /// The file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Which process, on which machine, under which configuration.
#[derive(Debug, Args)]
struct Target {
    /// The process id
    #[arg(long, value_name = "N", required_unless_present = "scenario", allow_negative_numbers = true)]
    pid: Option<i32>,
    /// An agent.conf or a plugin_data file; without it the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A recorded machine instead of this one (fixtures/scenarios)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pid", "config"])]
    scenario: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn long_version() -> &'static str {
    concat!(
        env!("CARGO_PKG_VERSION"),
        "\npolicy ",
        env!("BUILTIN_POLICY_DIGEST"),
        "\ncontract docker-attestor:policy@1.0.0"
    )
}

/// Runs as what the environment says: a plugin, or a command line tool.
pub fn run() -> ExitCode {
    let environment = Environment::of_process();
    if environment.is_agent() {
        return serve(environment);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    log::install(cli.verbose);
    let mut stdout = io::stdout().lock();
    let style = Style::of_stdout();
    let outcome = match runtime() {
        Ok(runtime) => runtime.block_on(cli.command.run(&mut stdout, style)),
        Err(error) => Err(Failure::Usage(format!("the runtime cannot be started: {error}"))),
    };
    let outcome = outcome.and_then(|code| stdout.flush().map(|()| code).map_err(Failure::from));
    match outcome {
        Ok(code) => code,
        // Whoever reads us has read enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "docker-attestor: {failure}");
            ExitCode::from(match failure {
                Failure::Attestation(_) => 1,
                _ => 2,
            })
        }
    }
}

fn serve(environment: Environment) -> ExitCode {
    hclog::install();
    let served = match runtime() {
        Ok(runtime) => {
            let served = runtime.block_on(plugin::serve(environment));
            runtime.shutdown_background();
            served
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = &served {
        tracing::error!("{error}");
    }
    hclog::flush();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .max_blocking_threads(4)
        .enable_all()
        .build()
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{0} ({code})", code = crate::error::code_name(.0.code()))]
    Attestation(#[from] Error),
    #[error("stdout: {0}")]
    Output(#[from] io::Error),
}

impl Command {
    async fn run(&self, out: &mut impl Write, style: Style) -> Result<ExitCode, Failure> {
        match self {
            Command::Attest { target, output } => attest::run(target, *output, out, style).await,
            Command::Explain { target } => explain::run(target, out, style).await,
            Command::Validate { config } => validate::run(config, out, style).await,
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

/// An attestation, and on which machine it was made.
struct Attested {
    /// "process 42", "process 42 of the recorded machine FILE"
    subject: String,
    pid: i32,
    trust_domain: Option<String>,
    explanation: Explanation,
}

impl Target {
    async fn attest(&self) -> Result<Attested, Failure> {
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
                trust_domain: None,
                explanation: scenario.run().await?,
            });
        }
        let pid = self.pid.unwrap_or_default();
        let (configuration, trust_domain) = match &self.config {
            None => (config::load(Some("example.org"), "").map_err(Error::from)?, None),
            Some(path) => {
                let file = read_config(path)?;
                (file.load().map_err(Error::from)?, file.trust_domain)
            }
        };
        let attestor = Attestor::new(Metrics::disabled())
            .map_err(|error| Failure::Usage(format!("the sandbox cannot be made: {error}")))?;
        attestor.configure(configuration).await?;
        let explanation = attestor.explain(pid).await?;
        Ok(Attested { subject: format!("process {pid}"), pid, trust_domain, explanation })
    }
}

/// Reads an agent.conf or a plugin_data file, and what `plugin_data_file` names.
fn read_config(path: &std::path::Path) -> Result<config::File, Failure> {
    let parse = |text: &str| config::File::parse(text).map_err(|invalid| Failure::from(Error::from(invalid)));
    let file = parse(&read(path)?)?;
    let Some(elsewhere) = file.elsewhere() else { return Ok(file) };
    let elsewhere = parse(&read(elsewhere.as_ref())?)?;
    Ok(file.with_data_of(elsewhere))
}

fn read(path: &std::path::Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let failed = |error: io::Error| Failure::Usage(format!("{} cannot be read: {error}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path).map_err(failed)?.take(CONFIG_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    match text.len() as u64 > CONFIG_FILE {
        true => Err(Failure::Usage(format!("{} is larger than {CONFIG_FILE} bytes", path.display()))),
        false => Ok(text),
    }
}

/// What is shown of the program itself.
fn provenance() -> String {
    format!("docker-attestor {} (policy {BUILTIN_DIGEST}, contract {CONTRACT})", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(parse(&["validate"]).is_err());
        assert!(parse(&[]).is_err());
    }

    #[tokio::test]
    async fn completions_and_the_manual_page_name_the_commands() {
        for command in [Command::Completions { shell: clap_complete::Shell::Bash }, Command::Man] {
            let mut out = Vec::new();
            command.run(&mut out, Style::plain()).await.unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("attest") && text.contains("explain") && text.contains("validate"));
        }
    }
}
