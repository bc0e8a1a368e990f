//! docker-attestor: a plugin when the agent starts it, a command line tool when a person does.

use std::process::ExitCode;

fn main() -> ExitCode {
    docker_attestor::cli::run()
}
