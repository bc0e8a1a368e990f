//! The Docker Engine API, through bollard over connections of our own (see [`super::connection`]).

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bollard::errors::Error as BollardError;
use bollard::models::{ContainerInspectResponse, ContainerSummary, SystemInfo};
use bollard::query_parameters::ListContainersOptions;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use bounded::single_flight::SingleFlight;
use bounded::text::is_sha256_hex;
use http::Uri;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connection::{EngineVersion, Refusal, Transport};
use super::{
    ApiVersion, ConnectFuture, DescribeFuture, Endpoint, Engine, EngineCall, EngineDescription, InspectFuture,
    Inspected, ListFuture, ListedContainer, Observer, Peer, RepoDigestsFuture,
};
use crate::container::{Container, ContainerId};
use crate::error::{EngineError, Error};
use crate::limits;

/// A Docker engine behind one endpoint.
pub struct DockerEngine {
    endpoint: Endpoint,
    pinned: Option<ApiVersion>,
    transport: Transport,
    /// The client with the negotiated version, and the engine that the version was negotiated with.
    negotiated: Mutex<Option<Negotiated>>,
    /// One negotiation for all callers that need one.
    negotiations: SingleFlight<(), Result<Negotiated, CallFailure>>,
    observer: Observer,
}

/// A client that speaks the version which was negotiated with an engine, and that engine.
type Negotiated = (Docker, Option<EngineVersion>);

/// Why one try failed.
#[derive(Clone)]
enum CallFailure {
    /// Another try may succeed.
    Transient(String),
    /// Every try would fail the same way.
    Permanent(EngineError),
}

impl DockerEngine {
    /// A client of the engine at `endpoint`. It connects with the first call, since a configuration must not need the engine.
    ///
    /// `version` is the API version to speak. With `None` it is negotiated, and negotiated again after the engine was upgraded.
    /// With `shares_pid_namespace` the operator declares that the engine's pids are ours (clause b of the proof).
    pub fn new(
        endpoint: Endpoint,
        version: Option<ApiVersion>,
        shares_pid_namespace: bool,
        observer: Observer,
    ) -> DockerEngine {
        let transport = Transport::new(endpoint.clone(), shares_pid_namespace);
        DockerEngine {
            endpoint,
            pinned: version,
            transport,
            negotiated: Mutex::default(),
            negotiations: SingleFlight::default(),
            observer,
        }
    }

    /// Calls until an answer comes, a failure is permanent, or the tries are used up. `None`: the engine does not know what it was
    /// asked for.
    async fn with_retries<T, Once>(&self, operation: &'static str, once: impl Fn() -> Once) -> Result<Option<T>, Error>
    where
        Once: Future<Output = Result<Option<T>, CallFailure>>,
    {
        let mut pause = limits::ENGINE_BACKOFF;
        let mut tries = 1;
        loop {
            let started = Instant::now();
            let outcome = timeout(limits::ENGINE_TRY, once()).await;
            let failure = match outcome {
                Ok(Ok(found)) => {
                    self.observe(operation, if found.is_some() { "ok" } else { "unknown" }, started);
                    return Ok(found);
                }
                Ok(Err(failure)) => failure,
                Err(_) => CallFailure::Transient(format!("no whole reply within {} s", limits::ENGINE_TRY.as_secs())),
            };
            self.observe(operation, "error", started);
            match failure {
                CallFailure::Transient(_) if tries < limits::ENGINE_TRIES => {
                    tracing::debug!(engine = %self.endpoint, attempt = %tries, "container engine failed, trying again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                CallFailure::Transient(reason) => return Err(self.error(EngineError::Unreachable { reason, tries })),
                CallFailure::Permanent(error) => return Err(self.error(error)),
            }
        }
    }

    fn observe(&self, operation: &'static str, outcome: &'static str, started: Instant) {
        (self.observer)(EngineCall { operation, outcome, started });
    }

    fn error(&self, error: EngineError) -> Error {
        Error::Engine { endpoint: self.endpoint.to_string(), error }
    }

    /// One call, in the API version that was negotiated with the engine that answers it.
    async fn call<T, Reply>(&self, call: impl Fn(Docker) -> Reply) -> Result<Option<T>, CallFailure>
    where
        Reply: Future<Output = Result<T, BollardError>>,
    {
        // A second time, in case another engine answers than the version was negotiated with.
        for may_negotiate in [true, false] {
            let (docker, engine) = self.negotiated().await?;
            let reply = call(docker).await;
            let upgraded = self.pinned.is_none() && self.transport.engine_version() != engine;
            if upgraded && may_negotiate {
                self.forget_negotiated();
                continue;
            }
            return match reply {
                Ok(reply) => Ok(Some(reply)),
                Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(failure(error)),
            };
        }
        Err(CallFailure::Transient("the engine changed its version while it was asked".to_owned()))
    }

    async fn inspect_once(&self, id: &ContainerId) -> Result<Option<Inspected>, CallFailure> {
        let reply = self.call(|docker| async move { docker.inspect_container(id.as_str(), None).await }).await?;
        reply.map(|reply| inspected(reply, self.transport.peer())).transpose().map_err(CallFailure::Permanent)
    }

    async fn repo_digests_once(&self, image: &str) -> Result<Option<Vec<String>>, CallFailure> {
        let reply = self.call(|docker| async move { docker.inspect_image(image).await }).await?;
        Ok(reply.map(|image| image.repo_digests.unwrap_or_default()))
    }

    async fn list_once(&self, all: bool) -> Result<Option<Vec<ListedContainer>>, CallFailure> {
        let options = ListContainersOptions { all, ..ListContainersOptions::default() };
        let reply = self.call(|docker| {
            let options = Some(options.clone());
            async move { docker.list_containers(options).await }
        });
        reply.await?.map(listed).transpose().map_err(CallFailure::Permanent)
    }

    async fn describe_once(&self) -> Result<Option<EngineDescription>, CallFailure> {
        let reply = self.call(|docker| async move { docker.info().await.map(|info| (info, docker.client_version())) });
        let Some((info, spoken)) = reply.await? else { return Ok(None) };
        let spoken = self.pinned.or_else(|| ApiVersion::parse(&spoken.to_string()));
        let api = self.transport.engine_version().map(|engine| engine.api).zip(spoken);
        Ok(Some(EngineDescription { api, engine: self.transport.peer(), ..described(info) }))
    }

    async fn negotiated(&self) -> Result<Negotiated, CallFailure> {
        match self.last_negotiated() {
            Some(negotiated) => Ok(negotiated),
            None => self.negotiations.run(&(), || self.negotiate()).await,
        }
    }

    fn last_negotiated(&self) -> Option<Negotiated> {
        self.negotiated.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds the highest version that both sides speak. Every reply of an engine names the engine's, so that only the first call asks
    /// for it: with a ping, since dockerd starts another program to answer `/version`.
    async fn negotiate(&self) -> Result<Negotiated, CallFailure> {
        // Another caller may have ended meanwhile.
        if let Some(negotiated) = self.last_negotiated() {
            return Ok(negotiated);
        }
        let version = match self.pinned {
            Some(pinned) => client_version(pinned),
            None => {
                if self.transport.engine_version().is_none() {
                    let started = Instant::now();
                    let answered = self.client(API_DEFAULT_VERSION)?.ping().await.map_err(failure);
                    self.observe("version", if answered.is_ok() { "ok" } else { "error" }, started);
                    answered?;
                }
                let engine =
                    self.transport.engine_version().ok_or(CallFailure::Permanent(EngineError::NoApiVersion))?;
                let (engine, ours) = (client_version(engine.api), *API_DEFAULT_VERSION);
                if engine < ours { engine } else { ours }
            }
        };
        let docker = self.client(&version)?.with_request_modifier(move |request| versioned(request, &version));
        let negotiated = (docker, self.transport.engine_version());
        *self.negotiated.lock().unwrap_or_else(PoisonError::into_inner) = Some(negotiated.clone());
        Ok(negotiated)
    }

    fn client(&self, version: &ClientVersion) -> Result<Docker, CallFailure> {
        let transport = self.transport.clone();
        let request = move |request| transport.clone().request(request);
        let seconds = limits::ENGINE_HEADERS.as_secs();
        Docker::connect_with_custom_transport(request, Some("http://docker"), seconds, version).map_err(failure)
    }

    fn forget_negotiated(&self) {
        *self.negotiated.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Engine for DockerEngine {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        Box::pin(self.with_retries("inspect", || self.inspect_once(id)))
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(async move {
            // The id becomes a part of a URL, so only a digest may pass, never a name.
            let hex = image.strip_prefix("sha256:").unwrap_or_default();
            if !is_sha256_hex(hex) {
                return Err(self.error(EngineError::ImageId));
            }
            let found = self.with_retries("image", || self.repo_digests_once(image)).await?;
            Ok(found.unwrap_or_default())
        })
    }

    fn list(&self, all: bool) -> ListFuture<'_> {
        Box::pin(async move {
            let found = self.with_retries("list", || self.list_once(all)).await?;
            Ok(found.unwrap_or_default())
        })
    }

    fn describe(&self) -> DescribeFuture<'_> {
        Box::pin(async move {
            let found = self.with_retries("describe", || self.describe_once()).await?;
            found.ok_or_else(|| self.error(EngineError::IncompleteReply("no description of the engine")))
        })
    }

    /// Finds the version to speak, and opens as many connections as there may be calls. Pings at the same time need one connection each.
    fn connect(&self) -> ConnectFuture<'_> {
        Box::pin(async move {
            let Ok(Ok((docker, _))) = timeout(limits::ENGINE_TRY, self.negotiated()).await else { return false };
            let mut pings = JoinSet::new();
            for _ in 0..limits::ENGINE_CALLS {
                let docker = docker.clone();
                pings.spawn(async move { matches!(timeout(limits::ENGINE_TRY, docker.ping()).await, Ok(Ok(_))) });
            }
            let mut answered = 0;
            while let Some(ping) = pings.join_next().await {
                answered += usize::from(matches!(ping, Ok(true)));
            }
            answered == limits::ENGINE_CALLS
        })
    }
}

/// Sorts a failure by its cause. The texts of decoding errors are never passed on: they quote values, env values too.
fn failure(error: BollardError) -> CallFailure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        let inner = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<Refusal>());
        if let Some(refusal) = current.downcast_ref::<Refusal>().or(inner) {
            return CallFailure::Permanent(refusal.0.clone());
        }
        cause = current.source();
    }
    match error {
        BollardError::DockerResponseServerError { status_code, message } => {
            let message: String = message.chars().take(200).collect();
            let status = EngineError::Status { code: status_code, message: message.escape_debug().to_string() };
            match status_code {
                500.. => CallFailure::Transient(status.to_string()),
                _ => CallFailure::Permanent(status),
            }
        }
        BollardError::JsonDataError { column, .. } => CallFailure::Permanent(EngineError::UnexpectedJson { column }),
        BollardError::JsonSerdeError { err } => {
            CallFailure::Permanent(EngineError::MalformedJson { line: err.line(), column: err.column() })
        }
        BollardError::APIVersionParseError {} => CallFailure::Permanent(EngineError::NoApiVersion),
        BollardError::RequestTimeoutError => {
            CallFailure::Transient(format!("no reply within {} s", limits::ENGINE_HEADERS.as_secs()))
        }
        error => CallFailure::Transient(innermost(&error)),
    }
}

fn client_version(ApiVersion { major, minor }: ApiVersion) -> ClientVersion {
    ClientVersion { major_version: major.into(), minor_version: minor.into() }
}

/// Puts the API's version into the request's path: bollard 0.21 loses it where it joins host and path.
fn versioned(mut request: BollardRequest, version: &ClientVersion) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = format!("/v{version}{}", request.uri().path_and_query().map_or("/", |path| path.as_str()));
    parts.path_and_query = path.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// The last cause of an error. The outer ones say only that an HTTP request failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn listed(reply: Vec<ContainerSummary>) -> Result<Vec<ListedContainer>, EngineError> {
    if reply.len() > limits::CONTAINERS_LISTED {
        return Err(EngineError::TooManyContainers(reply.len()));
    }
    let one = |summary: ContainerSummary| {
        let id = summary.id.as_deref().and_then(ContainerId::new);
        // Names of links to the container have a second slash.
        let names = summary.names.unwrap_or_default();
        let name = names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'));
        Ok(ListedContainer {
            id: id.ok_or(EngineError::IncompleteReply("a container without a whole Id"))?,
            name: name.unwrap_or_default().to_owned(),
            image: summary.image.unwrap_or_default(),
        })
    };
    reply.into_iter().map(one).collect()
}

fn described(reply: SystemInfo) -> EngineDescription {
    EngineDescription {
        version: reply.server_version.unwrap_or_default(),
        cgroup_driver: reply.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
        ..EngineDescription::default()
    }
}

fn inspected(reply: ContainerInspectResponse, engine: Peer) -> Result<Inspected, EngineError> {
    let missing = EngineError::IncompleteReply;
    let config = reply.config.ok_or(missing("no Config"))?;
    let state = reply.state.ok_or(missing("no State"))?;
    let pid = state.pid.unwrap_or(0);
    let host = reply.host_config.unwrap_or_default();
    let (pid_mode, cgroup_parent) = (host.pid_mode.unwrap_or_default(), host.cgroup_parent.unwrap_or_default());
    let mut labels: Vec<(String, String)> = config.labels.unwrap_or_default().into_iter().collect();
    labels.sort_unstable();
    Ok(Inspected {
        container: Container {
            id: reply.id.ok_or(missing("no Id"))?,
            labels,
            env: config.env.unwrap_or_default(),
            image: config.image.unwrap_or_default(),
            image_id: reply.image.filter(|id| !id.is_empty()),
            image_manifest_digest: reply.image_manifest_descriptor.and_then(|descriptor| descriptor.digest),
        },
        pid: i32::try_from(pid).map_err(|_| missing("a State.Pid that is no process id"))?,
        pid_mode,
        cgroup_parent,
        isolation: host.isolation.map(|isolation| isolation.to_string()).unwrap_or_default(),
        engine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(id: &str, names: &[&str]) -> ContainerSummary {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        ContainerSummary { id: Some(id.to_owned()), names: Some(names), ..ContainerSummary::default() }
    }

    #[test]
    fn a_listed_container_has_the_name_that_is_no_link() {
        let id = "0123456789abcdef".repeat(4);
        let [container] = &*listed(vec![summary(&id, &["/other/alias", "/web"])]).unwrap() else { panic!("one") };
        assert_eq!((container.id.as_str(), &*container.name, &*container.image), (&*id, "web", ""));
    }

    #[test]
    fn a_list_with_an_id_that_is_none_or_with_too_many_containers_is_an_error() {
        for id in ["", "0123", "../images/json"] {
            assert_eq!(
                listed(vec![summary(id, &[])]),
                Err(EngineError::IncompleteReply("a container without a whole Id"))
            );
        }
        let id = "0".repeat(64);
        let many = vec![summary(&id, &[]); limits::CONTAINERS_LISTED + 1];
        assert_eq!(listed(many), Err(EngineError::TooManyContainers(16_385)));
    }

    #[test]
    fn an_engine_describes_its_version_and_its_cgroup_driver() {
        for (reply, version, driver) in [
            // Docker 20.10 on Linux, without what is not used.
            (
                r#"{"CgroupDriver": "cgroupfs", "CgroupVersion": "1", "ServerVersion": "20.10.24+dfsg1", "OSType": "linux",
                "SecurityOptions": ["name=seccomp,profile=default"], "Isolation": ""}"#,
                "20.10.24+dfsg1",
                "cgroupfs",
            ),
            (r#"{"CgroupDriver": "systemd", "CgroupVersion": "2", "ServerVersion": "28.2.2"}"#, "28.2.2", "systemd"),
            (r#"{"CgroupDriver": "none", "ServerVersion": "28.2.2"}"#, "28.2.2", "none"),
            (r#"{"ServerVersion": "28.2.2", "OSType": "windows", "Isolation": "process"}"#, "28.2.2", ""),
            ("{}", "", ""),
        ] {
            let described = described(serde_json::from_str(reply).unwrap());
            assert_eq!((&*described.version, &*described.cgroup_driver), (version, driver), "{reply}");
        }
    }
}
