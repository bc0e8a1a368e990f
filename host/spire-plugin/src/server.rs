//! A plugin as SPIRE runs it: launch, handshake, services, end. The facts of the wire are those of go-plugin and spire-plugin-sdk.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::transport::Server;

use super::goplugin::{Broker, Controller, Stdio};
use super::metrics::HostMetrics;
use super::proto::broker_server::GrpcBrokerServer;
use super::proto::controller_server::GrpcControllerServer;
use super::proto::stdio_server::GrpcStdioServer;
use super::proto::{HealthServer, InitServer};
use super::socket::{Environment, Refused, SocketDirectory};
use super::{health, init, parent, socket};

/// How long calls in flight may still take once the end has begun: the agent kills after 2 s.
const DRAIN: Duration = Duration::from_millis(1_500);
/// How long calls are still answered after SIGTERM: under systemd it comes with the agent's, before Deinit.
const GRACE: Duration = Duration::from_secs(1);
/// Calls that the agent may give up before they have been looked at; h2 closes the connection, and with it every other call,
/// beyond 20 by default. The agent gives up a workload's calls when the workload does, and it is the only client.
const CANCELLED: usize = 65_536;
/// The pause after a connection could not be accepted: file descriptors are short, and may be there again.
const ACCEPT: Duration = Duration::from_millis(100);

/// Why a plugin could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The environment asks for what is not spoken here.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No socket could be made.
    #[error("the plugin's socket cannot be made in {directory}: {error}")]
    Socket {
        /// The directory in which the socket's own directory was to be.
        directory: String,
        /// Why not.
        error: std::io::Error,
    },
    /// A signal handler, a thread or stdout failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The gRPC server failed.
    #[error("the gRPC server failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Which plugin a program is.
#[derive(Debug, Clone, Copy)]
pub struct Plugin {
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    pub(super) sockets: &'static [&'static str],
}

impl Plugin {
    /// A plugin of one of SPIRE's types, for example `WorkloadAttestor`. The type is the key and the value of go-plugin's magic
    /// cookie.
    ///
    /// `name` is the program's own name, of letters, digits and hyphens. The directories of its sockets are named after it.
    pub const fn new(kind: &'static str, name: &'static str) -> Plugin {
        Plugin { kind, name, sockets: &[] }
    }

    /// A workload attestor.
    pub const fn workload_attestor(name: &'static str) -> Plugin {
        Plugin::new("WorkloadAttestor", name)
    }

    /// The names of sockets that the plugin makes in [`Started::directory`]. They are removed with the directory.
    pub const fn with_sockets(self, sockets: &'static [&'static str]) -> Plugin {
        Plugin { sockets, ..self }
    }

    /// What go-plugin says in the environment of this process.
    pub fn environment(&self) -> Environment {
        Environment::read(self.kind, |name| std::env::var_os(name))
    }

    /// Starts the plugin as far as it goes without its services. The socket listens, and nothing is announced yet: SPIRE waits
    /// up to 60 s for [`Started::serve`].
    ///
    /// From here on SIGINT is ignored. SIGTERM and the end of the parent process stop what is served, or will be.
    ///
    /// # Errors
    /// The environment asks for what is not spoken here, or the socket or a signal handler cannot be made.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self, environment: &Environment) -> Result<Started, ServeError> {
        environment.check()?;
        // SIGINT reaches the whole group on Ctrl-C; the agent stops us in order.
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let stop = Arc::new(watch::Sender::new(false));
        let orphaned = Arc::clone(&stop);
        parent::watch(move || {
            tracing::info!("the process that started the plugin has ended: stopping");
            // Unlike `send` it counts before anything listens, too.
            orphaned.send_replace(true);
        })?;
        let (socket, listener) = socket::Socket::bind(self, environment)?;
        let terminate = Arc::clone(&stop);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupts.recv() => tracing::debug!("SIGINT ignored: the agent stops its plugins in order"),
                    _ = terminations.recv() => {
                        tracing::info!("SIGTERM: a stop is coming");
                        tokio::time::sleep(GRACE).await;
                        terminate.send_replace(true);
                    }
                }
            }
        });
        Ok(Started { socket, listener, stop })
    }

    /// Serves the plugin until SPIRE ends it. [`Plugin::start`] and [`Started::serve`] in one.
    ///
    /// # Errors
    /// Those of [`Plugin::start`], or the server failed.
    pub async fn serve(self, environment: &Environment, services: Services) -> Result<(), ServeError> {
        self.start(environment)?.serve(services).await
    }

    /// The socket directories of all plugins of this name that this user may enter, in the order of their paths. Those are the
    /// user's own; root sees everybody's. A directory that `PLUGIN_UNIX_SOCKET_DIR` asked for is not found.
    pub fn directories(&self) -> Vec<SocketDirectory> {
        socket::directories(self)
    }
}

/// A plugin whose socket listens. The socket and its directory are removed when it is dropped.
#[derive(Debug)]
pub struct Started {
    socket: socket::Socket,
    listener: UnixListener,
    stop: Arc<watch::Sender<bool>>,
}

impl Started {
    /// The directory of the socket, which only this user may enter. Sockets of the plugin's own may be made here; their names are
    /// those of [`Plugin::with_sockets`].
    pub fn directory(&self) -> &Path {
        self.socket.directory()
    }

    /// Writes the handshake to stdout, and serves until SPIRE ends the plugin. Calls in flight then have 1.5 s.
    ///
    /// # Errors
    /// Stdout is closed, or the server failed.
    pub async fn serve(self, services: Services) -> Result<(), ServeError> {
        self.socket.announce()?;
        services.serve_until(self.listener, self.stop).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// What a plugin serves, beside what go-plugin and SPIRE ask of every plugin: health, broker, stdio, controller and Init.
#[derive(Default)]
pub struct Services {
    routes: RoutesBuilder,
    names: Vec<String>,
    metrics: HostMetrics,
}

impl Services {
    /// Nothing yet.
    pub fn new() -> Services {
        Services::default()
    }

    /// Adds a gRPC service. Init names it to SPIRE. A panic in one of its calls is answered as Internal, as by [`contained`].
    pub fn with<S>(mut self, service: S) -> Services
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(Contained(service));
        self.names.push(S::NAME.to_owned());
        self
    }

    /// Sends these metrics to the agent.
    pub fn with_metrics(mut self, metrics: HostMetrics) -> Services {
        self.metrics = metrics;
        self
    }

    /// Serves on a listener until the controller is told to shut down. It is for tests inside one process: nothing is
    /// announced, and no signal or parent process is looked at.
    ///
    /// # Errors
    /// The server failed.
    pub async fn serve_on(self, listener: UnixListener) -> Result<(), ServeError> {
        self.serve_until(listener, Arc::new(watch::Sender::new(false))).await
    }

    /// Serves until `stop` says true, and then no longer than [`DRAIN`].
    async fn serve_until(mut self, listener: UnixListener, stop: Arc<watch::Sender<bool>>) -> Result<(), ServeError> {
        let (broker, host_services) = Broker::new();
        let mut stopped = stop.subscribe();
        self.routes
            .add_service(HealthServer::new(health::Health))
            .add_service(GrpcBrokerServer::new(broker))
            .add_service(GrpcStdioServer::new(Stdio))
            .add_service(GrpcControllerServer::new(Controller::new(stop)))
            .add_service(InitServer::new(init::Init { services: self.names }));
        let server = Server::builder()
            .max_concurrent_streams(None)
            .http2_max_pending_accept_reset_streams(Some(CANCELLED))
            .add_routes(self.routes.routes());
        tokio::spawn(self.metrics.send(host_services));

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
}

/// A service whose panics are answered.
#[derive(Clone)]
struct Contained<S>(S);

impl<S: NamedService> NamedService for Contained<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Contained<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = self.0.call(request);
        Box::pin(async {
            let answered = contained(async { Ok(call.await.unwrap_or_else(|never| match never {})) }).await;
            Ok(answered.unwrap_or_else(Status::into_http))
        })
    }
}

/// Answers a panic as Internal: it costs its own call and nothing else. [`Services::with`] does so for every call; a service may
/// do it earlier, to see the outcome.
///
/// What a panic may leave half done must not be used again: the call's future is dropped, and what calls share has to be swapped
/// whole or behind locks that outlive a panic.
///
/// # Errors
/// Those of the call, and [`tonic::Code::Internal`] for a panic.
pub async fn contained<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
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
    use tonic::{Code, IntoStreamingRequest as _};
    use tonic_prost::ProstCodec;

    use tonic::{Request, Response};

    use super::super::proto::attestor_server::{WorkloadAttestor, WorkloadAttestorServer};
    use super::super::proto::config_server::{Config, ConfigServer};
    use super::super::proto::*;
    use super::*;

    const MOMENT: Duration = Duration::from_millis(200);

    async fn connect(path: &Path) -> Grpc<Channel> {
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
        client.unary(Request::new(request), method, ProstCodec::<I, O>::default()).await.map(Response::into_inner)
    }

    /// Answers every process with its pid, but panics at 0.
    #[derive(Clone)]
    struct Attestor;

    #[tonic::async_trait]
    impl WorkloadAttestor for Attestor {
        async fn attest(&self, request: Request<AttestRequest>) -> Result<Response<AttestResponse>, Status> {
            let pid = request.get_ref().pid;
            assert_ne!(pid, 0, "a test's");
            Ok(Response::new(AttestResponse { selector_values: vec![format!("pid:{pid}")] }))
        }

        async fn attest_reference(
            &self,
            _: Request<AttestReferenceRequest>,
        ) -> Result<Response<AttestReferenceResponse>, Status> {
            Err(Status::unimplemented(""))
        }
    }

    #[tonic::async_trait]
    impl Config for Attestor {
        async fn configure(&self, _: Request<ConfigureRequest>) -> Result<Response<ConfigureResponse>, Status> {
            Ok(Response::new(ConfigureResponse {}))
        }

        async fn validate(&self, _: Request<ValidateRequest>) -> Result<Response<ValidateResponse>, Status> {
            Ok(Response::new(ValidateResponse { valid: true, notes: Vec::new() }))
        }
    }

    #[tokio::test]
    async fn lives_until_shutdown_and_ends_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let services = Services::new().with(WorkloadAttestorServer::new(Attestor)).with(ConfigServer::new(Attestor));
        let plugin = tokio::spawn(services.serve_on(listener));

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
        let panicked = call::<_, AttestResponse>(&mut client, attest, AttestRequest { pid: 0 }).await.unwrap_err();
        assert_eq!(panicked.code(), Code::Internal);
        let attested: AttestResponse = call(&mut client, attest, AttestRequest { pid: 7 }).await.unwrap();
        assert_eq!(attested.selector_values, ["pid:7"], "the connection outlives a panic");

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
