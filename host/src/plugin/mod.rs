//! The plugin as spire-agent runs it: launch, handshake, services, end. The facts of the wire are those of go-plugin and
//! spire-plugin-sdk.

mod attest;
mod config;
mod goplugin;
mod handshake;
mod health;
mod init;
mod services;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use self::goplugin::{Broker, Controller, Stdio};
pub use self::handshake::{Environment, Refused};
use self::services::broker_server::GrpcBrokerServer;
use self::services::controller_server::GrpcControllerServer;
use self::services::stdio_server::GrpcStdioServer;
use self::services::{ConfigServer, HealthServer, InitServer, WorkloadAttestorServer};
use crate::attestor::Attestor;
use crate::telemetry::metrics::Metrics;

/// How long calls in flight may still take once the end has begun: the agent kills after 2 s.
const DRAIN: Duration = Duration::from_millis(1_500);
/// How long calls are still answered after SIGTERM: under systemd it comes with the agent's, before Deinit.
const GRACE: Duration = Duration::from_secs(1);
/// A request's bytes, as Go's gRPC servers accept them by default.
const REQUEST: usize = 4 << 20;

/// Why the plugin could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The environment asks for what we do not speak.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No socket could be made.
    #[error("the plugin's socket cannot be made in {directory}: {error}")]
    Socket {
        /// Where.
        directory: String,
        /// Why.
        error: std::io::Error,
    },
    /// The sandbox cannot be made.
    #[error("the sandbox cannot be made: {0}")]
    Sandbox(wasmtime::Error),
    /// A signal handler or stdout failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The gRPC server failed.
    #[error("the gRPC server failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Serves until the agent ends us.
pub async fn serve(environment: Environment) -> Result<(), ServeError> {
    environment.check()?;
    // SIGINT reaches the whole group on Ctrl-C; the agent stops us in order.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let (socket, listener) = handshake::Socket::bind(&environment)?;

    let metrics = Metrics::new();
    let attestor = Arc::new(Attestor::new(metrics.clone()).map_err(ServeError::Sandbox)?);
    let (broker, host_services) = Broker::new();
    let (stop, mut stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    let server = Server::builder()
        .max_concurrent_streams(None)
        .add_service(HealthServer::new(health::Health))
        .add_service(GrpcBrokerServer::new(broker))
        .add_service(GrpcStdioServer::new(Stdio))
        .add_service(GrpcControllerServer::new(Controller::new(Arc::clone(&stop))))
        .add_service(InitServer::new(init::Init))
        .add_service(ConfigServer::new(config::Config::new(Arc::clone(&attestor))).max_decoding_message_size(REQUEST))
        .add_service(WorkloadAttestorServer::new(attest::WorkloadAttestor::new(attestor, metrics.clone())));
    tokio::spawn(metrics.send(host_services));

    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupts.recv() => tracing::debug!("SIGINT ignored: the agent stops its plugins in order"),
                _ = terminations.recv() => {
                    tracing::info!("SIGTERM: a stop is coming");
                    tokio::time::sleep(GRACE).await;
                    let _ = stop.send(true);
                }
            }
        }
    });

    socket.announce()?;
    let mut ended = stopped.clone();
    let serving = server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
        let _ = ended.wait_for(|&stop| stop).await;
    });
    tokio::select! {
        served = serving => served?,
        // Streams that the agent keeps open must not keep us.
        () = async {
            let _ = stopped.wait_for(|&stop| stop).await;
            tokio::time::sleep(DRAIN).await;
        } => {}
    }
    tracing::info!("stopped");
    Ok(())
}
