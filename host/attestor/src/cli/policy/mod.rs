//! The commands `docker-attestor policy …`, which inspect components, test them on recorded workloads, record a
//! workload, and show which components run.

mod bench;
mod diff;
mod inspect;
mod junit;
mod record;
mod replay;
mod status;
mod test;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bounded::file;
use clap::Subcommand;
use sandbox::inspect::Description;
use sandbox::limits::COMPONENT_FILE;

use super::config::ConfigFile;
use super::style::Style;
use super::{Failure, ProcessName, print_pretty};
use crate::machine::OpenMachine;
use crate::scenario::Scenario;

const INSPECT_EXIT_CODES: &str = "Exit codes: 0 it may run, and each block has what it needs; 1 it may not, or a block does not fit; 2 no answer: \
    wrong usage, or a file cannot be read or is no component.";
const TEST_EXIT_CODES: &str = "Exit codes: 0 every scenario passed or was accepted; 1 some failed; 2 no answer: wrong usage, or the component cannot \
    be read.";
const RUN_EXIT_CODES: &str =
    "Exit codes: 0 measured; 1 a configuration is refused; 2 no answer: wrong usage, or a file cannot be read.";
const DIFF_EXIT_CODES: &str =
    "Exit codes: 0 the same answers; 1 some differ; 2 no answer: wrong usage, or a file cannot be read.";
const RECORD_EXIT_CODES: &str = "Exit codes: 0 recorded; 1 the attestation failed, the process or container is not there, or the configuration is \
    invalid; 2 no answer: wrong usage, or a file cannot be read or is there already.";
const STATUS_EXIT_CODES: &str = "Exit codes: 0 all is well; 1 a configuration or a component is refused at present, or no attestation has \
    succeeded; 2 no answer: wrong usage, no plugin runs, or a socket does not answer.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print what a component says of itself: world, version, imports, digest, size
    #[command(after_help = INSPECT_EXIT_CODES)]
    Inspect {
        /// A policy or an extension (.wasm)
        file: PathBuf,
        /// An agent.conf or a plugin_data file: compare what the component needs with each block that names this file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The plugin's name in the agent.conf, if it is not called docker
        #[arg(long, value_name = "NAME", requires = "config")]
        plugin: Option<String>,
        /// How to print
        #[arg(long, value_enum, default_value = "text")]
        output: super::Output,
    },
    /// Run a component on recorded workloads, and print what differs from what they expect
    #[command(after_help = TEST_EXIT_CODES)]
    Test {
        /// A policy or an extension (.wasm)
        file: PathBuf,
        /// Scenario files, or folders of them
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
        /// Run only scenarios whose file name contains this text
        #[arg(long, value_name = "TEXT")]
        run: Option<String>,
        /// Rewrite the scenarios that fail, so that they expect what the component answers
        #[arg(long)]
        accept: bool,
        /// How to print
        #[arg(long, value_enum, default_value = "text")]
        output: test::Format,
    },
    /// Measure what a component needs for recorded workloads: time, fuel and memory, in a fresh sandbox each time
    #[command(after_help = RUN_EXIT_CODES)]
    Bench {
        /// A policy or an extension (.wasm), or `built-in`
        file: PathBuf,
        /// Scenario files, or folders of them
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
        /// How often each workload is attested
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        runs: u32,
        /// How to print
        #[arg(long, value_enum, default_value = "text")]
        output: super::Output,
    },
    /// Print which selectors change from one policy to another, on recorded workloads
    #[command(after_help = DIFF_EXIT_CODES)]
    Diff {
        /// A policy (.wasm), or `built-in`
        old: PathBuf,
        /// A policy (.wasm), or `built-in`
        new: PathBuf,
        /// Scenario files, or folders of them
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
        /// How to print
        #[arg(long, value_enum, default_value = "text")]
        output: super::Output,
    },
    /// Write a scenario from a live workload
    #[command(after_help = RECORD_EXIT_CODES)]
    Record {
        #[command(flatten)]
        process: ProcessName,
        /// An agent.conf or a plugin_data file; without it the defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The plugin's name in the agent.conf, if it is not called docker
        #[arg(long, value_name = "NAME", requires = "config")]
        plugin: Option<String>,
        /// Where to write; without it to stdout
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Write the values of the environment too, which may be secrets
        #[arg(long)]
        with_env_values: bool,
    },
    /// Print the JSON schema of scenarios, for editors
    #[command(after_help = super::PRINT_EXIT_CODES)]
    Schema,
    /// Print which policy and extensions run, in every plugin that this user may ask
    #[command(after_help = STATUS_EXIT_CODES)]
    Status {
        /// One plugin's status socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// The form of the answer
        #[arg(long, value_enum, default_value = "text")]
        output: super::Output,
    },
}

impl Command {
    pub(super) async fn run(&self, out: &mut impl Write, style: Style, open: OpenMachine) -> Result<ExitCode, Failure> {
        match self {
            Command::Inspect { file, config, plugin, output } => {
                let config = ConfigFile::read_if_named(config.as_deref(), plugin.as_deref())?;
                inspect::run(file, config, *output, out, style)
            }
            Command::Test { file, scenarios, run, accept, output } => {
                let only = run.as_deref();
                let wish = test::Wish { file, scenarios, only, accept: *accept, format: *output };
                test::run(&wish, out, style).await
            }
            Command::Bench { file, scenarios, runs, output } => {
                bench::run(file, scenarios, *runs as usize, *output, out).await
            }
            Command::Diff { old, new, scenarios, output } => diff::run(old, new, scenarios, *output, out, style).await,
            Command::Record { process, config, plugin, output, with_env_values } => {
                let config = ConfigFile::read_if_named(config.as_deref(), plugin.as_deref())?;
                record::run(process, config, output.as_deref(), *with_env_values, out, open).await
            }
            Command::Schema => {
                print_pretty(&Scenario::schema(), out)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Status { socket, output } => status::run(socket.as_deref(), *output, out, style).await,
        }
    }
}

/// Reads and describes a component's file.
fn describe(path: &Path) -> Result<Description, Failure> {
    let about = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let bytes = file::read(path, COMPONENT_FILE as u64).map_err(|why| about(why.to_string()))?;
    Description::of(&bytes).map_err(|why| about(why.to_string()))
}
