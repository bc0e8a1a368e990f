//! The plugin as spire-agent runs it: the gRPC services and the status socket.

mod attest;
mod config;
mod process;
pub mod status;

use std::sync::Arc;

use sandbox::{Compilation, SetupError};
use spire_plugin::proto::{ConfigServer, WorkloadAttestorServer};
use spire_plugin::{Environment, Plugin, Services};

use self::process::{ReloadRequests, raise_descriptor_limit};
use crate::attestor::Attestor;
use crate::components::Runtime;
use crate::limits;
use crate::machine::OpenMachine;
use crate::scenario::trial_workloads;
use crate::telemetry::metrics::Metrics;

/// The description of this program as a SPIRE plugin.
pub const PLUGIN: Plugin = Plugin::workload_attestor("docker-attestor").with_local_sockets(&[status::SOCKET]);

/// Why the plugin could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The plugin's socket or server failed, or the agent asks for a protocol that is not supported.
    #[error(transparent)]
    Plugin(#[from] spire_plugin::ServeError),
    /// The sandbox cannot be created.
    #[error(transparent)]
    Sandbox(#[from] SetupError),
    /// /proc cannot be read.
    #[error("the processes cannot be read: {0}")]
    Processes(std::io::Error),
    /// The handler of SIGHUP cannot be set.
    #[error("the handler of SIGHUP cannot be set: {0}")]
    Signal(std::io::Error),
}

/// Serves until the agent ends the plugin. `compilation` says where components are compiled, and `open` opens this machine.
pub async fn serve(environment: Environment, compilation: Compilation, open: OpenMachine) -> Result<(), ServeError> {
    raise_descriptor_limit();
    let requests = ReloadRequests::new().map_err(ServeError::Signal)?;
    let mut started = PLUGIN.start(&environment)?;
    // The agent connects while the sandbox is made.
    started.announce()?;
    let metrics = Metrics::new();
    let machine = Arc::new(open().map_err(ServeError::Processes)?);
    let runtime = Arc::new(Runtime::new(compilation, metrics.clone())?);
    let attestor = Arc::new(Attestor::new(machine, runtime, trial_workloads, metrics.clone()));
    match started.listen(status::SOCKET) {
        Ok(listener) => drop(tokio::spawn(status::serve(listener, Arc::clone(&attestor)))),
        Err(error) => tracing::warn!("there is no status socket, `policy status` will not find this plugin: {error}"),
    }
    tokio::spawn(Attestor::watch(Arc::downgrade(&attestor)));
    tokio::spawn(reload(Arc::clone(&attestor), requests));
    Ok(started.serve(services(attestor, metrics)).await?)
}

/// The gRPC services that the agent calls.
fn services(attestor: Arc<Attestor>, metrics: Metrics) -> Services {
    let config = config::Config::new(Arc::clone(&attestor), metrics.clone());
    Services::new()
        .with_metrics(metrics.host_metrics())
        .with(WorkloadAttestorServer::new(attest::WorkloadAttestor::new(attestor, metrics)))
        .with(ConfigServer::new(config).max_decoding_message_size(limits::REQUEST))
}

/// Reloads at every SIGHUP. Signals that arrive during a reload count as one.
async fn reload(attestor: Arc<Attestor>, mut requests: ReloadRequests) {
    while requests.next().await.is_some() {
        let attestor = Arc::clone(&attestor);
        // Runs in a task of its own, so that a panic does not end the handling of signals.
        if let Ok(outcome) = tokio::spawn(async move { attestor.reload().await }).await {
            tracing::info!(
                replaced = %outcome.replaced, failed = %outcome.failed, "SIGHUP: looked at policy and extensions again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    mod unix;
    #[cfg(windows)]
    mod windows;

    use spire_plugin::proto::{AttestRequest, WorkloadAttestorClient};
    use tonic::Code;

    #[cfg(unix)]
    use self::unix as system;
    #[cfg(windows)]
    use self::windows as system;
    use super::*;
    use crate::machine::ThisMachine;

    #[tokio::test]
    async fn serves_exactly_two_services_and_says_what_is_wrong() {
        let (place, listener) = system::listen().await;
        let machine = Arc::new(ThisMachine::open().unwrap());
        let runtime = Arc::new(Runtime::new(Compilation::in_this_process(), Metrics::disabled()).unwrap());
        let attestor = Arc::new(Attestor::new(machine, runtime, trial_workloads, Metrics::disabled()));
        let services = services(attestor, Metrics::disabled());
        let expected =
            ["spire.plugin.agent.workloadattestor.v1.WorkloadAttestor", "spire.service.common.config.v1.Config"];
        assert_eq!(services.names(), expected, "the services that Init announces");
        tokio::spawn(services.serve_on(listener));
        let channel = system::connect(&place).await;
        let invalid = WorkloadAttestorClient::new(channel).attest(AttestRequest { pid: -1 }).await.unwrap_err();
        assert_eq!(
            (invalid.code(), invalid.message()),
            (Code::InvalidArgument, "pid -1 is not a process id: it must be 1 or more")
        );
    }
}
