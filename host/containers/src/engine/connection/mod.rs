//! Connections to an engine. They are kept alive, held to clause b of the proof, and bounded in bytes. (bollard's own transports
//! keep no connection and bound only the time to the headers.)

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bollard::BollardRequest;
use bollard::errors::Error as BollardError;
use http::Uri;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[cfg(target_os = "linux")]
use self::linux as system;
#[cfg(windows)]
use self::windows as system;
use super::{ApiVersion, Endpoint, Peer};
use crate::error::EngineError;
use crate::limits;

/// Sends bollard's requests over our connections. All clones share the connections.
#[derive(Clone)]
pub(super) struct Transport {
    client: HyperClient<Connect, http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, io::Error>>,
    observed: Arc<Mutex<Observed>>,
}

/// What connections and replies tell about the engine.
#[derive(Default)]
struct Observed {
    /// From the headers of the newest reply.
    version: Option<EngineVersion>,
    /// The peer of the newest connection.
    peer: Peer,
}

/// The headers `Server` and `Api-Version` of a reply. Another pair means that the engine was upgraded.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct EngineVersion {
    server: Vec<u8>,
    /// The highest version of the API that the engine speaks.
    pub(super) api: ApiVersion,
}

impl Transport {
    pub(super) fn new(endpoint: Endpoint, shares_pid_namespace: bool) -> Transport {
        let observed = Arc::new(Mutex::new(Observed::default()));
        let peers = system::Peers::new();
        // A firewall may drop an idle TCP connection without a reset.
        let idle = matches!(endpoint, Endpoint::Tcp(_)).then_some(limits::ENGINE_TCP_IDLE);
        let connect = Connect { endpoint, shares_pid_namespace, peers, observed: Arc::clone(&observed) };
        // Local connections stay open between calls, however long. One that the engine closed is not used again.
        let client = HyperClient::builder(TokioExecutor::new())
            .pool_max_idle_per_host(limits::ENGINE_CALLS)
            .pool_idle_timeout(idle)
            .build(connect);
        Transport { client, observed }
    }

    /// The version of the engine that sent the newest reply.
    pub(super) fn engine_version(&self) -> Option<EngineVersion> {
        lock(&self.observed).version.clone()
    }

    /// The engine's process.
    pub(super) fn peer(&self) -> Peer {
        lock(&self.observed).peer.clone()
    }

    pub(super) async fn request(self, request: BollardRequest) -> Result<http::Response<Incoming>, BollardError> {
        let request = request.map(|body| body.map_err(io::Error::other).boxed_unsync());
        let reply = self.client.request(request).await?;
        let header = |name: &str| reply.headers().get(name).map_or(&b""[..], |value| value.as_bytes());
        // Every reply of an engine has the header. One without it comes from something before the engine, such as a proxy.
        if let Some(api) = std::str::from_utf8(header("api-version")).ok().and_then(ApiVersion::parse) {
            lock(&self.observed).version = Some(EngineVersion { server: header("server").to_vec(), api });
        }
        Ok(reply)
    }
}

fn lock(observed: &Mutex<Observed>) -> MutexGuard<'_, Observed> {
    observed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a connection or a reply was refused by this module. Another try would be refused too.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub(super) struct Refusal(pub(super) EngineError);

impl From<EngineError> for io::Error {
    fn from(error: EngineError) -> io::Error {
        io::Error::other(Refusal(error))
    }
}

/// Opens connections to the engine.
#[derive(Clone)]
struct Connect {
    endpoint: Endpoint,
    shares_pid_namespace: bool,
    peers: system::Peers,
    observed: Arc<Mutex<Observed>>,
}

impl Connect {
    async fn open(self) -> io::Result<TokioIo<Metered>> {
        let stream = match &self.endpoint {
            // The configuration accepts TCP only with engine_shares_pid_namespace.
            Endpoint::Tcp(address) => Stream::Tcp(TcpStream::connect(address.as_str()).await?),
            Endpoint::Unix(_) | Endpoint::NamedPipe(_) => {
                let (stream, peer) = self.peers.connect(&self.endpoint, self.shares_pid_namespace).await?;
                lock(&self.observed).peer = peer;
                Stream::Local(stream)
            }
        };
        Ok(TokioIo::new(Metered { stream, budget: limits::ENGINE_REPLY }))
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
    /// A unix socket, or a named pipe.
    Local(system::Stream),
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
            Stream::Local(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if let Poll::Ready(Ok(())) = polled {
            match self.budget.checked_sub(buffer.filled().len() - before) {
                Some(budget) => self.budget = budget,
                None => return Poll::Ready(Err(EngineError::ReplyTooLarge.into())),
            }
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.budget = limits::ENGINE_REPLY;
        match &mut self.stream {
            Stream::Local(stream) => Pin::new(stream).poll_write(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, buffer),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Local(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Local(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
