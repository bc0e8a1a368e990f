//! The Docker Engine API through bollard, over connections of our own: kept alive, held to the engine's pid namespace,
//! and bounded in time and bytes. (bollard's own transports keep no connection and bound only the time to the headers.)

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bollard::errors::Error as BollardError;
use bollard::models::ContainerInspectResponse;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use bounded::text::is_sha256_hex;
use http::Uri;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::bindings::docker_attestor::policy::types::Fault;
use crate::config::{ApiVersion, Endpoint};
use crate::containers::cache::{Container, Engine, Finding, Inspected, Inspecting, Peer};
use crate::containers::process::linux::Linux;
use crate::containers::proof::ContainerId;
use crate::limits;
use crate::telemetry::metrics::Metrics;

/// One engine behind one endpoint.
pub struct Client {
    endpoint: Endpoint,
    pinned: Option<ApiVersion>,
    transport: Transport,
    /// The client with the negotiated version, and the engine it was negotiated with.
    negotiated: Mutex<Option<(Docker, Option<EngineVersion>)>>,
    metrics: Metrics,
}

impl Client {
    /// A client of the engine at `endpoint`. Does not connect: Configure must not need the engine.
    /// `version`: the API version to speak; negotiated if none, and again when the engine was upgraded.
    /// `shares_pid_namespace`: the operator declares that the engine's pids are ours (clause b).
    pub fn new(
        endpoint: Endpoint,
        version: Option<ApiVersion>,
        shares_pid_namespace: bool,
        metrics: Metrics,
    ) -> Client {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let connect = Connect { endpoint: endpoint.clone(), shares_pid_namespace, seen: Arc::clone(&seen) };
        let client =
            HyperClient::builder(TokioExecutor::new()).pool_max_idle_per_host(limits::ENGINE_CALLS).build(connect);
        Client {
            endpoint,
            pinned: version,
            transport: Transport { client, seen },
            negotiated: Mutex::default(),
            metrics,
        }
    }

    /// What a call comes to, tried again while its failure may pass; none: the engine does not know what it was asked for.
    async fn with_retries<T, Once>(&self, operation: &'static str, once: impl Fn() -> Once) -> Result<Option<T>, Fault>
    where
        Once: Future<Output = Result<Option<T>, Failure>>,
    {
        let mut pause = limits::ENGINE_BACKOFF;
        let mut tries = 1;
        loop {
            let started = Instant::now();
            let outcome = tokio::time::timeout(limits::ENGINE_TRY, once()).await;
            let failure = match outcome {
                Ok(Ok(found)) => {
                    self.metrics.engine_call(operation, if found.is_some() { "ok" } else { "unknown" }, started);
                    return Ok(found);
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Passing(format!("no whole reply within {} s", limits::ENGINE_TRY.as_secs())),
            };
            self.metrics.engine_call(operation, "error", started);
            match failure {
                Failure::Passing(_) if tries < limits::ENGINE_TRIES => {
                    tracing::debug!(engine = %self.endpoint, attempt = %tries, "container engine failed, trying again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                Failure::Passing(reason) => {
                    return Err(Fault::Unavailable(format!(
                        "container engine {}: {reason} ({tries} tries): is it running, and is docker_socket_path right?",
                        self.endpoint
                    )));
                }
                Failure::Lasting(fault) => return Err(fault),
            }
        }
    }

    /// One call with the version that was negotiated with this very engine.
    async fn call<T, Reply>(&self, call: impl Fn(Docker) -> Reply) -> Result<Option<T>, Failure>
    where
        Reply: Future<Output = Result<T, BollardError>>,
    {
        // A second time when the engine turns out to be another than the version was negotiated with.
        for again in [true, false] {
            let (docker, engine) = self.negotiated().await?;
            let reply = call(docker).await;
            let upgraded = self.pinned.is_none() && self.transport.engine() != engine;
            if upgraded && again {
                self.forget_negotiated();
                continue;
            }
            return match reply {
                Ok(reply) => Ok(Some(reply)),
                Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(self.failure(error)),
            };
        }
        Err(Failure::Passing("the engine changed its version while it was asked".to_owned()))
    }

    async fn inspect_once(&self, id: &ContainerId) -> Result<Option<Inspected>, Failure> {
        let reply = self.call(|docker| async move { docker.inspect_container(id.as_str(), None).await }).await?;
        reply
            .map(|reply| inspected(reply, self.transport.peer()))
            .transpose()
            .map_err(|what| Failure::Lasting(Fault::Malformed(format!("container engine {}: {what}", self.endpoint))))
    }

    async fn repo_digests_once(&self, image: &str) -> Result<Option<Vec<String>>, Failure> {
        let reply = self.call(|docker| async move { docker.inspect_image(image).await }).await?;
        Ok(reply.map(|image| image.repo_digests.unwrap_or_default()))
    }

    async fn negotiated(&self) -> Result<(Docker, Option<EngineVersion>), Failure> {
        let known = self.negotiated.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let version = match self.pinned {
            Some(ApiVersion { major, minor }) => {
                ClientVersion { major_version: major as usize, minor_version: minor as usize }
            }
            None => *API_DEFAULT_VERSION,
        };
        let timeout = limits::ENGINE_HEADERS.as_secs();
        let transport = self.transport.clone();
        let request = move |request| transport.clone().request(request);
        let docker = Docker::connect_with_custom_transport(request, Some("http://docker"), timeout, &version)
            .map_err(|error| self.failure(error))?;
        let docker = match self.pinned {
            Some(_) => docker,
            None => {
                let started = Instant::now();
                let negotiated = docker.negotiate_version().await.map_err(|error| self.failure(error));
                self.metrics.engine_call("version", if negotiated.is_ok() { "ok" } else { "error" }, started);
                negotiated?
            }
        };
        let version = docker.client_version();
        let docker = docker.with_request_modifier(move |request| versioned(request, &version));
        let known = (docker, self.transport.engine());
        *self.negotiated.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }

    fn forget_negotiated(&self) {
        *self.negotiated.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sorts a failure by its cause. Texts of decoding errors are never passed on: they quote values, env values too.
    fn failure(&self, error: BollardError) -> Failure {
        let endpoint = &self.endpoint;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(current) = cause {
            if let Some(refusal) = current.downcast_ref::<Refusal>() {
                return refusal.failure(endpoint);
            }
            let inner = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(refusal) = inner.and_then(|inner| inner.downcast_ref::<Refusal>()) {
                return refusal.failure(endpoint);
            }
            cause = current.source();
        }
        match error {
            BollardError::DockerResponseServerError { status_code, message } => {
                let message: String = message.chars().take(200).collect();
                let text = format!("status {status_code}: {}", message.escape_debug());
                match status_code {
                    500.. => Failure::Passing(text),
                    400 => Failure::Lasting(Fault::Malformed(format!(
                        "container engine {endpoint}: {text}: does docker_version fit this engine?"
                    ))),
                    _ => Failure::Lasting(Fault::Malformed(format!("container engine {endpoint}: {text}"))),
                }
            }
            BollardError::JsonDataError { column, .. } => Failure::Lasting(Fault::Malformed(format!(
                "container engine {endpoint}: its reply is not what the Docker Engine API describes (column {column})"
            ))),
            BollardError::JsonSerdeError { err } => Failure::Lasting(Fault::Malformed(format!(
                "container engine {endpoint}: its reply is not whole JSON (line {}, column {})",
                err.line(),
                err.column()
            ))),
            BollardError::APIVersionParseError {} => Failure::Lasting(Fault::Malformed(format!(
                "container engine {endpoint}: it names no API version: set docker_version"
            ))),
            BollardError::RequestTimeoutError => {
                Failure::Passing(format!("no reply within {} s", limits::ENGINE_HEADERS.as_secs()))
            }
            error => Failure::Passing(innermost(&error)),
        }
    }
}

impl Engine for Client {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Inspecting<'a> {
        Box::pin(self.with_retries("inspect", || self.inspect_once(id)))
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> Finding<'a> {
        Box::pin(async move {
            // It becomes a part of a URL: only a digest, never a name.
            let hex = image.strip_prefix("sha256:").unwrap_or_default();
            if !is_sha256_hex(hex) {
                let text = format!("container engine {}: the container's image id is no sha256 digest", self.endpoint);
                return Err(Fault::Malformed(text));
            }
            let found = self.with_retries("image", || self.repo_digests_once(image)).await?;
            Ok(found.unwrap_or_default())
        })
    }
}

/// The request with the API's version in its path: bollard 0.21 loses it where it joins host and path.
fn versioned(mut request: BollardRequest, version: &ClientVersion) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = format!("/v{version}{}", request.uri().path_and_query().map_or("/", |path| path.as_str()));
    parts.path_and_query = path.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

enum Failure {
    /// May pass: try again.
    Passing(String),
    /// Will not pass by itself.
    Lasting(Fault),
}

/// The last cause: the outer ones say only that an HTTP request failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn inspected(reply: ContainerInspectResponse, engine: Peer) -> Result<Inspected, &'static str> {
    let config = reply.config.ok_or("its reply has no Config")?;
    let state = reply.state.ok_or("its reply has no State")?;
    let pid = state.pid.unwrap_or(0);
    let host = reply.host_config.unwrap_or_default();
    let (pid_mode, cgroup_parent) = (host.pid_mode.unwrap_or_default(), host.cgroup_parent.unwrap_or_default());
    let mut labels: Vec<(String, String)> = config.labels.unwrap_or_default().into_iter().collect();
    labels.sort_unstable();
    Ok(Inspected {
        container: Container {
            id: reply.id.ok_or("its reply has no Id")?,
            labels,
            env: config.env.unwrap_or_default(),
            image: config.image.unwrap_or_default(),
            image_id: reply.image.filter(|id| !id.is_empty()),
            image_manifest_digest: reply.image_manifest_descriptor.and_then(|descriptor| descriptor.digest),
        },
        pid: i32::try_from(pid).map_err(|_| "its reply has a State.Pid that is no process id")?,
        pid_mode,
        cgroup_parent,
        engine,
    })
}

/// bollard's requests over our connections.
#[derive(Clone)]
struct Transport {
    client: HyperClient<Connect, http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, io::Error>>,
    seen: Arc<Mutex<Seen>>,
}

/// What connections and replies tell of the engine.
#[derive(Default)]
struct Seen {
    /// The headers of the newest reply.
    engine: Option<EngineVersion>,
    /// The newest connection's peer.
    peer: Peer,
}

/// `Server` and `Api-Version` of a reply: another pair means that the engine was upgraded.
#[derive(Clone, PartialEq, Eq)]
struct EngineVersion(Vec<u8>);

impl Transport {
    fn engine(&self) -> Option<EngineVersion> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).engine.clone()
    }

    fn peer(&self) -> Peer {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).peer.clone()
    }

    async fn request(self, request: BollardRequest) -> Result<http::Response<Incoming>, BollardError> {
        let request = request.map(|body| body.map_err(io::Error::other).boxed_unsync());
        let reply = self.client.request(request).await?;
        let mut version = Vec::new();
        for name in ["server", "api-version"] {
            version.extend_from_slice(reply.headers().get(name).map_or(&b""[..], |value| value.as_bytes()));
            version.push(0);
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).engine = Some(EngineVersion(version));
        Ok(reply)
    }
}

/// Why a connection, or a reply on it, was refused by us. Does not pass by itself.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("its process is not in our pid namespace, so that its pids are not ours")]
    OtherPidNamespace,
    #[error("its reply is larger than {} MiB", limits::ENGINE_REPLY >> 20)]
    TooLarge,
}

impl Refusal {
    fn failure(&self, endpoint: &Endpoint) -> Failure {
        Failure::Lasting(match self {
            Refusal::OtherPidNamespace => Fault::NotConfigured(format!(
                "container engine {endpoint}: {self} (clause b): run the agent in the engine's pid namespace, or, if it is a \
                 proxy in front of an engine that is in ours, set engine_shares_pid_namespace = true"
            )),
            Refusal::TooLarge => Fault::Malformed(format!("container engine {endpoint}: {self}")),
        })
    }
}

/// Opens connections to the engine.
#[derive(Clone)]
struct Connect {
    endpoint: Endpoint,
    shares_pid_namespace: bool,
    seen: Arc<Mutex<Seen>>,
}

impl Connect {
    async fn open(self) -> io::Result<TokioIo<Metered>> {
        let stream = match &self.endpoint {
            Endpoint::Unix(path) => Stream::Unix(self.unix(path).await?),
            // Accepted by the configuration only with engine_shares_pid_namespace.
            Endpoint::Tcp(address) => Stream::Tcp(TcpStream::connect(address.as_str()).await?),
        };
        Ok(TokioIo::new(Metered { stream, budget: limits::ENGINE_REPLY }))
    }

    /// Clause b: on every connection the peer must be in our pid namespace. The kernel translates its pid into ours, 0 when it
    /// has none; and a process in a namespace below ours has more than one pid.
    async fn unix(&self, path: &Path) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(path).await?;
        let credentials = stream.peer_cred()?;
        let process = match credentials.pid() {
            Some(pid) if pid > 0 => Linux::new()?.open_peer(&stream, pid)?,
            _ => None,
        };
        let ours = process.as_ref().is_some_and(|process| process.namespace_pids().is_ok_and(|pids| pids.len() == 1));
        if !ours && !self.shares_pid_namespace {
            return Err(io::Error::other(Refusal::OtherPidNamespace));
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).peer = Peer { uid: credentials.uid(), process };
        Ok(stream)
    }
}

impl tower_service::Service<Uri> for Connect {
    type Response = TokioIo<Metered>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Metered>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().open())
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection that reads at most [`limits::ENGINE_REPLY`] bytes for each request: HTTP/1.1 has one reply at a time.
struct Metered {
    stream: Stream,
    budget: usize,
}

impl Connection for Metered {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if let Poll::Ready(Ok(())) = polled {
            match self.budget.checked_sub(buffer.filled().len() - before) {
                Some(budget) => self.budget = budget,
                None => return Poll::Ready(Err(io::Error::other(Refusal::TooLarge))),
            }
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.budget = limits::ENGINE_REPLY;
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, buffer),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
