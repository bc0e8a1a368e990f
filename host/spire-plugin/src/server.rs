//! A plugin as SPIRE runs it: launch, handshake, services, end. Details of the protocol are those of go-plugin and
//! spire-plugin-sdk.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::error::ServeError;
use crate::goplugin::{Broker, Controller, Stdio};
use crate::handshake::Environment;
use crate::limits::DRAIN;
use crate::local::LocalListener;
use crate::metrics::HostMetrics;
use crate::plugin::Plugin;
use crate::proto::goplugin::grpc_broker_server::GrpcBrokerServer;
use crate::proto::goplugin::grpc_controller_server::GrpcControllerServer;
use crate::proto::goplugin::grpc_stdio_server::GrpcStdioServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::init::init_server::InitServer;
use crate::routes::Routes;
use crate::socket::{self, Listener, Socket};
use crate::{connection, health, init, parent, run, signals, stdio};

impl Plugin {
    /// Reads go-plugin's variables from the environment of this process.
    pub fn environment(&self) -> Environment {
        Environment::read(self.kind, |name| std::env::var_os(name))
    }

    /// Runs the program as the plugin, and is all that its `main` has to do. A person who starts the program is told
    /// that it is a plugin.
    ///
    /// `crates` are those whose events are logged, the program's own first ([`hclog::install`](crate::hclog::install)).
    pub fn run(self, crates: &'static [&'static str], services: Services) -> ExitCode {
        let environment = self.environment();
        if !environment.is_agent() {
            let Plugin { kind, name, .. } = self;
            let _ = writeln!(io::stderr(), "{name} is a SPIRE plugin ({kind}): SPIRE starts it, as plugin_cmd");
            return ExitCode::FAILURE;
        }
        run(crates, tokio::runtime::Runtime::new(), async { self.start(&environment)?.serve(services).await })
    }

    /// Starts the plugin without its services. The socket listens, but the handshake is not written yet. SPIRE waits up
    /// to 60 s for it, that is, for [`Started::serve`].
    ///
    /// From now on SIGINT is ignored. SIGTERM and the end of the parent process stop the plugin, even before it serves.
    /// All other signals are left to the program. On Windows, Ctrl-C and Ctrl-Break are ignored, and a closed console or a
    /// shutdown of the system stop the plugin.
    ///
    /// # Errors
    /// If the environment asks for something that is not supported, or the socket or a signal handler cannot be
    /// created.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self, environment: &Environment) -> Result<Started, ServeError> {
        environment.check()?;
        stdio::keep_from_children();
        let stop = Arc::new(watch::Sender::new(false));
        // `send_replace` stores the value even if there is no receiver yet, unlike `send`.
        let terminated = Arc::clone(&stop);
        signals::watch(move || {
            terminated.send_replace(true);
        })
        .map_err(ServeError::Signals)?;
        let orphaned = Arc::clone(&stop);
        parent::watch(move || {
            tracing::info!("the process that started the plugin has ended: stopping");
            orphaned.send_replace(true);
        })
        .map_err(ServeError::Parent)?;
        let (socket, listener) = Socket::bind(self, environment)?;
        Ok(Started { socket, listener, stop, announced: false })
    }
}

/// A plugin whose socket listens. The socket and its directory are removed when it is dropped.
#[derive(Debug)]
pub struct Started {
    socket: Socket,
    listener: Listener,
    stop: Arc<watch::Sender<bool>>,
    /// Whether the handshake is written.
    announced: bool,
}

impl Started {
    /// Listens on a local socket, which only this user may open. [`Plugin::find_sockets`] finds it by its name, which
    /// must be one of [`Plugin::with_local_sockets`].
    ///
    /// # Errors
    /// The name is not one of those, or the operating system refuses the socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen(&self, name: &str) -> io::Result<LocalListener> {
        if !self.socket.plugin().local_sockets.contains(&name) {
            let text = format!("{name} is not one of the plugin's local sockets: name it in with_local_sockets");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        LocalListener::bind(&self.socket.local_path(name))
    }

    /// Writes the handshake to stdout, before [`Started::serve`] would. SPIRE then connects while the program makes its services.
    /// Its calls wait for them.
    ///
    /// # Errors
    /// If stdout is closed.
    pub fn announce(&mut self) -> Result<(), ServeError> {
        self.announced = true;
        self.socket.announce().map_err(ServeError::Handshake)
    }

    /// Writes the handshake to stdout, unless [`Started::announce`] did, and serves until SPIRE ends the plugin. Calls in flight then
    /// have 1.5 s to finish.
    ///
    /// # Errors
    /// If stdout is closed.
    pub async fn serve(mut self, services: Services) -> Result<(), ServeError> {
        if !self.announced {
            self.announce()?;
        }
        services.serve_until(self.listener, self.stop).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The services of a plugin, in addition to those that go-plugin and SPIRE require of every plugin: health, broker,
/// stdio, controller and Init.
#[derive(Default)]
pub struct Services {
    routes: Routes,
    names: Vec<String>,
    metrics: HostMetrics,
}

impl Services {
    /// Creates an empty set of services.
    pub fn new() -> Services {
        Services::default()
    }

    /// Adds a gRPC service, which Init names to SPIRE. A panic in a call of the service is answered with Internal
    /// ([`contained`](crate::contained)). A panic in a stream that the service returned closes the connection.
    ///
    /// A call runs in the task of its connection until it first waits, so that a quick answer costs no switch of tasks. A call that
    /// computes for long begins with [`tokio::task::yield_now`].
    ///
    /// # Panics
    /// If the same service was added before.
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
        self.routes.add(service);
        self.names.push(S::NAME.to_owned());
        self
    }

    /// The full names of the services, as Init names them to SPIRE.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Sends these metrics to the agent.
    pub fn with_metrics(mut self, metrics: HostMetrics) -> Services {
        self.metrics = metrics;
        self
    }

    /// Serves on a listener until the controller's Shutdown is called. Meant for tests inside one process: no handshake
    /// is written, and neither signals nor the parent process are watched.
    pub async fn serve_on(self, listener: Listener) {
        self.serve_until(listener, Arc::new(watch::Sender::new(false))).await;
    }

    /// Serves until `stop` becomes true, and then no longer than [`DRAIN`].
    async fn serve_until(mut self, listener: Listener, stop: Arc<watch::Sender<bool>>) {
        let (broker, host_services) = Broker::new();
        let mut stopped = stop.subscribe();
        self.routes.add(HealthServer::new(health::Health));
        self.routes.add(GrpcBrokerServer::new(broker));
        self.routes.add(GrpcStdioServer::new(Stdio));
        self.routes.add(GrpcControllerServer::new(Controller::new(Arc::clone(&stop))));
        self.routes.add(InitServer::new(init::Init { services: self.names }));
        tokio::spawn(self.metrics.send(host_services));
        let mut connections = JoinSet::new();
        {
            let mut accepted = pin!(socket::connections(listener));
            loop {
                tokio::select! {
                    connection = accepted.next() => match connection {
                        Some(Ok(connection)) => {
                            connections.spawn(connection::serve(connection, self.routes.clone(), stop.subscribe()));
                        }
                        Some(Err(_)) => {}
                        None => break,
                    },
                    Some(_) = connections.join_next() => {}
                    _ = stopped.wait_for(|&stop| stop) => break,
                }
            }
        }
        // Streams that the agent keeps open must not delay the end.
        let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use tokio::time::timeout;
    use tokio_stream::pending;
    use tonic::client::Grpc;
    use tonic::codegen::http::uri::PathAndQuery;
    use tonic::transport::Channel;
    use tonic::{Code, IntoStreamingRequest as _, Request, Response, Status};
    use tonic_prost::ProstCodec;

    use super::*;
    use crate::proto::goplugin::ConnInfo;
    use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};
    use crate::proto::init::{InitRequest, InitResponse};
    use crate::proto::*;
    use crate::socket::tests::listen;
    use crate::socket::{Address, dial};

    const MOMENT: Duration = Duration::from_millis(200);
    const ATTEST: &str = "/spire.plugin.agent.workloadattestor.v1.WorkloadAttestor/Attest";

    async fn connect(address: &Address) -> Grpc<Channel> {
        let mut client = Grpc::new(dial(address));
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

    /// Answers each process with its pid and the task that the call ran in, but panics at 0. The call for 1 waits for a moment, and
    /// that for 2 has no end.
    #[derive(Clone)]
    struct Attestor;

    #[tonic::async_trait]
    impl WorkloadAttestor for Attestor {
        async fn attest(&self, request: Request<AttestRequest>) -> Result<Response<AttestResponse>, Status> {
            let pid = request.get_ref().pid;
            match pid {
                0 => panic!("a test's"),
                1 => tokio::task::yield_now().await,
                2 => std::future::pending().await,
                _ => {}
            }
            let selector_values = vec![format!("pid:{pid}"), format!("task:{}", tokio::task::id())];
            Ok(Response::new(AttestResponse { selector_values }))
        }
    }

    #[tonic::async_trait]
    impl Config for Attestor {}

    #[tokio::test]
    async fn lives_until_shutdown_and_ends_in_order() {
        let (_place, listener, address) = listen();
        let services = Services::new().with(WorkloadAttestorServer::new(Attestor)).with(ConfigServer::new(Attestor));
        let plugin = tokio::spawn(services.serve_on(listener));

        // A connection that opens and closes changes nothing.
        for _ in 0..2 {
            let mut client = connect(&address).await;
            let mut names: InitResponse =
                call(&mut client, "/spire.service.private.init.v1.Init/Init", InitRequest::default()).await.unwrap();
            names.plugin_service_names.sort();
            let expected =
                ["spire.plugin.agent.workloadattestor.v1.WorkloadAttestor", "spire.service.common.config.v1.Config"];
            assert_eq!(names.plugin_service_names, expected);
        }

        let mut client = connect(&address).await;
        let health = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let check = "/grpc.health.v1.Health/Check";
        let healthy: HealthCheckResponse = call(&mut client, check, health("plugin")).await.unwrap();
        assert_eq!(healthy.status, 1);
        let unknown = call::<_, HealthCheckResponse>(&mut client, check, health("other")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        let panicked = call::<_, AttestResponse>(&mut client, ATTEST, AttestRequest { pid: 0 }).await.unwrap_err();
        assert_eq!(panicked.code(), Code::Internal);
        let attested: AttestResponse = call(&mut client, ATTEST, AttestRequest { pid: 7 }).await.unwrap();
        assert_eq!(attested.selector_values.first().unwrap(), "pid:7", "the connection outlives a panic");
        let configure = "/spire.service.common.config.v1.Config/Configure";
        let configured = call::<_, ConfigureResponse>(&mut client, configure, ConfigureRequest::default()).await;
        assert_eq!(configured.unwrap_err().code(), Code::Unimplemented, "what is not implemented says so");

        client.ready().await.unwrap();
        let broker = PathAndQuery::from_static("/plugin.GRPCBroker/StartStream");
        let offers = pending::<ConnInfo>().into_streaming_request();
        let mut broker =
            client.streaming(offers, broker, ProstCodec::<ConnInfo, ConnInfo>::default()).await.unwrap().into_inner();
        assert!(timeout(MOMENT, broker.message()).await.is_err(), "the broker's stream has ended");

        // The answer arrives while the broker's stream is open, and the stream delays the end no longer than `DRAIN`.
        timeout(MOMENT, call::<(), ()>(&mut client, "/plugin.GRPCController/Shutdown", ())).await.unwrap().unwrap();
        timeout(DRAIN + MOMENT, plugin).await.unwrap().unwrap();
    }

    #[tokio::test]
    #[cfg_attr(windows, ignore = "over TCP under wine each message arrives later than its headers")]
    async fn a_call_that_need_not_wait_is_answered_in_the_task_of_its_connection() {
        let (_place, listener, address) = listen();
        tokio::spawn(Services::new().with(WorkloadAttestorServer::new(Attestor)).serve_on(listener));
        let mut client = connect(&address).await;
        let mut endless = client.clone();
        let endless =
            tokio::spawn(
                async move { call::<_, AttestResponse>(&mut endless, ATTEST, AttestRequest { pid: 2 }).await },
            );
        let (mut ready, mut waited) = (HashSet::new(), HashSet::new());
        for _ in 0..20 {
            for (pid, tasks) in [(7, &mut ready), (1, &mut waited)] {
                let answer: AttestResponse = call(&mut client, ATTEST, AttestRequest { pid }).await.unwrap();
                tasks.insert(answer.selector_values.get(1).unwrap().clone());
            }
        }
        // A message that arrives later than its headers is waited for, too.
        assert!(ready.len() < 20, "the task of the connection: {ready:?}");
        assert_eq!(waited.len(), 20, "a task for each call that waits");
        assert!(!endless.is_finished());
    }

    #[tokio::test]
    async fn an_unknown_service_or_method_is_unimplemented() {
        let (_place, listener, address) = listen();
        tokio::spawn(Services::new().with(WorkloadAttestorServer::new(Attestor)).serve_on(listener));
        let mut client = connect(&address).await;
        for method in ["/spire.agent.Other/Attest", "/spire.plugin.agent.workloadattestor.v1.WorkloadAttestor/Other"] {
            let refused = call::<_, AttestResponse>(&mut client, method, AttestRequest { pid: 7 }).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unimplemented, "{method}");
        }
    }
}
