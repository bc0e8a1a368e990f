//! The plugin as spire-agent runs it: launch, handshake, services, end. The facts of the wire are those of go-plugin and
//! spire-plugin-sdk.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::transport::Server;

use super::goplugin::{Broker, Controller, Stdio};
use super::handshake::{Environment, Refused};
use super::services::broker_server::GrpcBrokerServer;
use super::services::controller_server::GrpcControllerServer;
use super::services::stdio_server::GrpcStdioServer;
use super::services::{ConfigServer, HealthServer, InitServer, WorkloadAttestorServer};
use super::{attest, config, handshake, health, init, parent, status};
use crate::attestor::Attestor;
use crate::telemetry::metrics::Metrics;

/// How long calls in flight may still take once the end has begun: the agent kills after 2 s.
const DRAIN: Duration = Duration::from_millis(1_500);
/// How long calls are still answered after SIGTERM: under systemd it comes with the agent's, before Deinit.
const GRACE: Duration = Duration::from_secs(1);
/// A request's bytes, as Go's gRPC servers accept them by default.
const REQUEST: usize = 4 << 20;
/// Calls that the agent may give up before they have been looked at; h2 closes the connection, and with it every other call,
/// beyond 20 by default. The agent gives up a workload's calls when the workload does, and it is the only client.
const CANCELLED: usize = 65_536;
/// The pause after a connection could not be accepted: file descriptors are short, and may be there again.
const ACCEPT: Duration = Duration::from_millis(100);

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
    raise_descriptor_limit();
    // SIGINT reaches the whole group on Ctrl-C; the agent stops us in order.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    let stop = Arc::new(watch::Sender::new(false));
    let orphaned = Arc::clone(&stop);
    parent::watch(move || {
        tracing::info!("the process that started the plugin has ended: stopping");
        // Unlike `send` it counts before anything listens, too.
        orphaned.send_replace(true);
    })?;
    let (socket, listener) = handshake::Socket::bind(&environment)?;

    let metrics = Metrics::new();
    let attestor = Arc::new(Attestor::new(metrics.clone()).map_err(ServeError::Sandbox)?);
    match socket.status() {
        Ok(listener) => drop(tokio::spawn(status::serve(listener, Arc::clone(&attestor)))),
        Err(error) => tracing::warn!("there is no status socket, `policy status` will not find this plugin: {error}"),
    }
    tokio::spawn(Attestor::watch(Arc::downgrade(&attestor)));
    let terminate = Arc::clone(&stop);
    // On its own: a compilation must not hold up a stop. Signals that come meanwhile are one.
    let hangup = Arc::new(Notify::new());
    tokio::spawn(reload(Arc::clone(&attestor), Arc::clone(&hangup)));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangups.recv() => hangup.notify_one(),
                _ = interrupts.recv() => tracing::debug!("SIGINT ignored: the agent stops its plugins in order"),
                _ = terminations.recv() => {
                    tracing::info!("SIGTERM: a stop is coming");
                    tokio::time::sleep(GRACE).await;
                    let _ = terminate.send(true);
                }
            }
        }
    });

    socket.announce()?;
    run(listener, attestor, metrics, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Takes as many file descriptors as we may have. A process that waits to be attested holds one, a cached container two, and
/// systemd's soft limit of 1,024 is for programs that use select(2).
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of file descriptors cannot be raised: {error}");
    }
}

/// Reloads whenever it is told to.
async fn reload(attestor: Arc<Attestor>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let attestor = Arc::clone(&attestor);
        // In a task of its own: whatever becomes of it, the next signal is heard.
        if let Ok(outcome) = tokio::spawn(async move { attestor.reload().await }).await {
            tracing::info!(
                replaced = %outcome.replaced, failed = %outcome.failed, "SIGHUP: looked at policy and extensions again"
            );
        }
    }
}

/// Serves until `stop` says true, and then no longer than [`DRAIN`].
async fn run(
    listener: UnixListener,
    attestor: Arc<Attestor>,
    metrics: Metrics,
    stop: Arc<watch::Sender<bool>>,
) -> Result<(), ServeError> {
    let (broker, host_services) = Broker::new();
    let mut stopped = stop.subscribe();
    let server = Server::builder()
        .max_concurrent_streams(None)
        .http2_max_pending_accept_reset_streams(Some(CANCELLED))
        .add_service(HealthServer::new(health::Health))
        .add_service(GrpcBrokerServer::new(broker))
        .add_service(GrpcStdioServer::new(Stdio))
        .add_service(GrpcControllerServer::new(Controller::new(stop)))
        .add_service(InitServer::new(init::Init))
        .add_service(ConfigServer::new(config::Config::new(Arc::clone(&attestor))).max_decoding_message_size(REQUEST))
        .add_service(WorkloadAttestorServer::new(attest::WorkloadAttestor::new(attestor, metrics.clone())));
    tokio::spawn(metrics.host_metrics().send(host_services));

    let accepted = UnixListenerStream::new(listener).then(async |accepted| {
        if let Err(error) = &accepted {
            tracing::warn!("a connection cannot be accepted: {error}");
            tokio::time::sleep(ACCEPT).await;
        }
        accepted
    });
    let mut ended = stopped.clone();
    let serving = server.serve_with_incoming_shutdown(accepted, async move {
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
    Ok(())
}

/// Answers a panic as Internal: it costs its own call and nothing else. What a panic may leave half done is not used again:
/// the call's future is dropped, and what calls share is swapped whole or behind locks that outlive a panic.
pub(super) async fn contained<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let mut call = pin!(call);
    std::future::poll_fn(|context| {
        std::panic::catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))).unwrap_or_else(|_| {
            Poll::Ready(Err(Status::internal("the plugin panicked: its log says where; please report it")))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::net::UnixStream;
    use tokio::time::timeout;
    use tokio_stream::pending;
    use tonic::client::Grpc;
    use tonic::codegen::http::uri::PathAndQuery;
    use tonic::transport::{Channel, Endpoint};
    use tonic::{Code, IntoStreamingRequest as _, Request};
    use tonic_prost::ProstCodec;

    use super::super::services::{AttestRequest, AttestResponse, ConnInfo, HealthCheckRequest, HealthCheckResponse};
    use super::super::services::{InitRequest, InitResponse};
    use super::*;

    const MOMENT: Duration = Duration::from_millis(200);

    async fn connect(path: &std::path::Path) -> Grpc<Channel> {
        let path = path.to_owned();
        let connect = tower::service_fn(move |_| {
            let connected = UnixStream::connect(path.clone());
            async { connected.await.map(TokioIo::new) }
        });
        let mut client =
            Grpc::new(Endpoint::from_static("http://plugin").connect_with_connector(connect).await.unwrap());
        client.ready().await.unwrap();
        client
    }

    async fn call<I, O>(client: &mut Grpc<Channel>, method: &'static str, request: I) -> Result<O, Status>
    where
        I: prost::Message + Send + 'static,
        O: prost::Message + Default + Send + 'static,
    {
        client.ready().await.unwrap();
        let method = PathAndQuery::from_static(method);
        client
            .unary(Request::new(request), method, ProstCodec::<I, O>::default())
            .await
            .map(tonic::Response::into_inner)
    }

    #[tokio::test]
    async fn lives_until_shutdown_and_ends_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let attestor = Arc::new(Attestor::new(Metrics::disabled()).unwrap());
        let plugin = tokio::spawn(run(listener, attestor, Metrics::disabled(), Arc::new(watch::Sender::new(false))));

        // A connection that comes and goes changes nothing.
        for _ in 0..2 {
            let mut client = connect(&path).await;
            let mut names: InitResponse =
                call(&mut client, "/spire.service.private.init.v1.Init/Init", InitRequest::default()).await.unwrap();
            names.plugin_service_names.sort();
            let expected =
                ["spire.plugin.agent.workloadattestor.v1.WorkloadAttestor", "spire.service.common.config.v1.Config"];
            assert_eq!(names.plugin_service_names, expected);
        }

        let mut client = connect(&path).await;
        let health = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let check = "/grpc.health.v1.Health/Check";
        let healthy: HealthCheckResponse = call(&mut client, check, health("plugin")).await.unwrap();
        assert_eq!(healthy.status, 1);
        let unknown = call::<_, HealthCheckResponse>(&mut client, check, health("other")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        let attest = "/spire.plugin.agent.workloadattestor.v1.WorkloadAttestor/Attest";
        let invalid = call::<_, AttestResponse>(&mut client, attest, AttestRequest { pid: -1 }).await.unwrap_err();
        assert_eq!(
            (invalid.code(), invalid.message()),
            (Code::InvalidArgument, "pid -1 is not a process id: it must be 1 or more")
        );

        client.ready().await.unwrap();
        let broker = PathAndQuery::from_static("/plugin.GRPCBroker/StartStream");
        let offers = pending::<ConnInfo>().into_streaming_request();
        let mut broker =
            client.streaming(offers, broker, ProstCodec::<ConnInfo, ConnInfo>::default()).await.unwrap().into_inner();
        assert!(timeout(MOMENT, broker.message()).await.is_err(), "the broker's stream has ended");

        // The answer comes while the broker's stream is open, and the stream holds the end up no longer than the drain.
        timeout(MOMENT, call::<(), ()>(&mut client, "/plugin.GRPCController/Shutdown", ())).await.unwrap().unwrap();
        timeout(DRAIN + MOMENT, plugin).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_answered() {
        let panics = async {
            tokio::task::yield_now().await;
            panic!("a test's")
        };
        assert_eq!(contained::<()>(panics).await.unwrap_err().code(), Code::Internal);
        assert_eq!(contained(async { Ok(1) }).await.unwrap(), 1);
    }
}
