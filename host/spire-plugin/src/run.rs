//! The `main` function of a plugin.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use crate::hclog;

/// Runs a plugin from the start of its log to its exit code, for a program that needs more than
/// [`Plugin::run`](crate::Plugin::run).
///
/// The events of `crates` are logged from now on, the program's own crate first. `plugin` is the future that runs until
/// SPIRE ends the plugin, and it usually ends with [`Started::serve`](crate::Started::serve). Its error is logged. At
/// the end, work that still blocks a thread of the runtime is not waited for.
pub fn run<E: Display>(
    crates: &'static [&'static str],
    runtime: io::Result<Runtime>,
    plugin: impl Future<Output = Result<(), E>>,
) -> ExitCode {
    hclog::install(crates);
    let code = match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(plugin);
            runtime.shutdown_background();
            match served {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            tracing::error!("the runtime cannot be started: {error}");
            ExitCode::FAILURE
        }
    };
    hclog::flush();
    code
}
