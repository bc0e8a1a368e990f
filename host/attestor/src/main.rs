//! Picks what this process is: the compiler of the sandbox, the plugin of the agent that started it, or a command line tool.

use std::process::ExitCode;

use docker_attestor::machine::ThisMachine;
use docker_attestor::service::{self, PLUGIN};
use docker_attestor::telemetry::LOGGED;
use docker_attestor::{cli, compilation, runtime};
use sandbox::compiler;

fn main() -> ExitCode {
    if let Some(code) = compiler::run(std::env::args_os()) {
        return code;
    }
    let environment = PLUGIN.environment();
    match environment.is_agent() {
        true => spire_plugin::run(LOGGED, runtime(), service::serve(environment, compilation(), ThisMachine::open)),
        false => cli::run(ThisMachine::open),
    }
}
