//! The commands `docker-attestor policy …`, which inspect components, test them on recorded workloads, record a
//! workload, and show which components run.

mod inspect;
mod record;
mod replay;
mod status;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bounded::file;
use clap::Subcommand;
use sandbox::inspect::Description;
use sandbox::limits::COMPONENT_FILE;

use super::Failure;
use super::style::Style;
use crate::machine::OpenMachine;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print what a component says of itself: world, version, imports, digest, size
    Inspect {
        /// A policy or an extension (.wasm)
        file: PathBuf,
        /// An agent.conf or a plugin_data file: compare what the component needs with each block that names this file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Run a component on recorded workloads, and print what differs from what they expect
    Test {
        /// A policy or an extension (.wasm)
        file: PathBuf,
        /// Scenario files, or folders of them
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
    },
    /// Print which selectors change from one policy to another, on recorded workloads
    Diff {
        /// A policy (.wasm), or `built-in`
        old: PathBuf,
        /// A policy (.wasm), or `built-in`
        new: PathBuf,
        /// Scenario files, or folders of them
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
    },
    /// Write a scenario from a live workload
    Record {
        /// The process id
        #[arg(long, value_name = "N")]
        pid: i32,
        /// An agent.conf or a plugin_data file; without it the defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where to write; without it to stdout
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Write the values of the environment too, which may be secrets
        #[arg(long)]
        with_env_values: bool,
    },
    /// Print which policy and extensions run, in every plugin that this user may ask
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
            Command::Inspect { file, config } => inspect::run(file, config.as_deref(), out, style),
            Command::Test { file, scenarios } => replay::test(file, scenarios, out, style).await,
            Command::Diff { old, new, scenarios } => replay::diff(old, new, scenarios, out, style).await,
            Command::Record { pid, config, output, with_env_values } => {
                record::run(*pid, config.as_deref(), output.as_deref(), *with_env_values, out, open).await
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
