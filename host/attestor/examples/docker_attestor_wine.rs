//! The program for tests under wine. It differs from the program in one check: the container manager may run as any account, because
//! all processes under wine have the same one.

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
    let (environment, open) = (PLUGIN.environment(), ThisMachine::open_under_wine);
    match environment.is_agent() {
        true => spire_plugin::run(LOGGED, runtime(), service::serve(environment, compilation(), open)),
        false => cli::run(open),
    }
}
