//! What a container engine says about containers. Nothing of it is proven.

pub mod connection;
pub mod docker;
pub mod recorded;
pub mod recording;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use crate::container::{Container, ContainerId};
use crate::error::Error;
use crate::process::Process;

/// A container engine. An attestation asks it about one container or one image, by its whole id.
pub trait Engine: Send + Sync {
    /// The container, or `None` when the engine does not know it.
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a>;

    /// The repo digests (`repository@sha256:…`) of the image with this id. Empty when it was never pushed or pulled.
    fn repo_digests<'a>(&'a self, image: &'a str) -> RepoDigestsFuture<'a>;

    /// The containers that run, or with `all` every container that the engine knows, at most [`crate::limits::CONTAINERS_LISTED`]. Only
    /// the command line asks for it. By default an engine lists none.
    fn list(&self, _all: bool) -> ListFuture<'_> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// What the engine says of itself. Only the command line asks for it. By default an engine says nothing.
    fn describe(&self) -> DescribeFuture<'_> {
        Box::pin(std::future::ready(Ok(EngineDescription::default())))
    }

    /// Opens the connections that many calls at once need. `false`: the engine does not answer yet.
    fn connect(&self) -> ConnectFuture<'_> {
        Box::pin(std::future::ready(true))
    }
}

/// The future of [`Engine::connect`].
pub type ConnectFuture<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// The future of [`Engine::describe`].
pub type DescribeFuture<'a> = Pin<Box<dyn Future<Output = Result<EngineDescription, Error>> + Send + 'a>>;

/// The future of [`Engine::list`].
pub type ListFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<ListedContainer>, Error>> + Send + 'a>>;

/// The future of [`Engine::inspect`].
pub type InspectFuture<'a> = Pin<Box<dyn Future<Output = Result<Option<Inspected>, Error>> + Send + 'a>>;

/// The future of [`Engine::repo_digests`].
pub type RepoDigestsFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, Error>> + Send + 'a>>;

/// What an engine says of a container.
#[derive(Clone)]
pub struct Inspected {
    /// The facts, if the container is the workload's.
    pub container: Container,
    /// `State.Pid`: the pid of the init process, 0 when the container does not run.
    pub pid: i32,
    /// `HostConfig.PidMode`.
    pub pid_mode: String,
    /// `HostConfig.CgroupParent`.
    pub cgroup_parent: String,
    /// `HostConfig.Isolation`: how a container of Windows is isolated, `process` or `hyperv`. Empty on Linux.
    pub isolation: String,
    /// The engine's process.
    pub engine: Peer,
}

/// A container as an engine lists it: what a person calls it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContainer {
    /// The container's id.
    pub id: ContainerId,
    /// The name, as `docker ps` prints it. Empty if the engine does not say.
    pub name: String,
    /// The image as the container's creator named it. Empty if the engine does not say.
    pub image: String,
}

/// An engine as it describes itself. A text is empty if the engine does not say.
#[derive(Clone, Default)]
pub struct EngineDescription {
    /// The version of the engine's program, such as `28.2.2`.
    pub version: String,
    /// The highest version of the API that the engine speaks, and the one that is spoken with it.
    pub api: Option<(ApiVersion, ApiVersion)>,
    /// Which program makes the containers' cgroups: `systemd`, `cgroupfs`, or `none` if containers get no cgroup of their own. Empty on
    /// Windows.
    pub cgroup_driver: String,
    /// The engine's process.
    pub engine: Peer,
}

/// The process at the other end of the engine's socket.
#[derive(Clone, Default)]
pub struct Peer {
    /// Its effective uid. On Windows 0, because the pipe's server is checked when it is connected to.
    pub uid: u32,
    /// The process, held by a pidfd. `None` where the kernel shows no process of ours: over TCP, after the process ended, or on
    /// Windows.
    pub process: Option<Arc<dyn Process>>,
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The absolute path of a unix socket.
    Unix(PathBuf),
    /// The path of a named pipe of Windows on this machine, such as `\\.\pipe\docker_engine`.
    NamedPipe(String),
    /// `host:port`, plain http.
    Tcp(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Endpoint::NamedPipe(path) => write!(formatter, "npipe://{}", path.replace('\\', "/")),
            Endpoint::Tcp(address) => write!(formatter, "tcp://{address}"),
        }
    }
}

/// A version of the Docker Engine API, such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// 1
    pub major: u16,
    /// 41
    pub minor: u16,
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl ApiVersion {
    /// Parses two numbers with a dot between them. `None` for anything else.
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let number = |text: &str| match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u16>().ok(),
            false => None,
        };
        let (major, minor) = text.split_once('.')?;
        Some(ApiVersion { major: number(major)?, minor: number(minor)? })
    }
}

/// One call of an engine that has ended, for an observer.
#[derive(Debug, Clone, Copy)]
pub struct EngineCall {
    /// `version`, `inspect`, `image`, `list` or `describe`.
    pub operation: &'static str,
    /// `ok`, `unknown` or `error`.
    pub outcome: &'static str,
    /// When the call began.
    pub started: Instant,
}

/// Gets every call of an engine when the call has ended.
pub type Observer = Arc<dyn Fn(EngineCall) + Send + Sync>;
