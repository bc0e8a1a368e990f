//! Connections over unix sockets.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::UnixStream;

use super::super::{Endpoint, Peer};
use crate::error::EngineError;
use crate::process::linux::Linux;

pub(super) type Stream = UnixStream;

/// The processes among which the engine's must be. /proc is opened with the first connection.
#[derive(Clone)]
pub(super) struct Peers(Arc<OnceLock<Linux>>);

impl Peers {
    pub(super) fn new() -> Peers {
        Peers(Arc::default())
    }

    /// Connects to the engine, and checks clause b: on every connection the peer must be in our pid namespace. The kernel translates
    /// the peer's pid into ours, and answers 0 when it has none there. A process in a namespace below ours has more than one pid.
    pub(super) async fn connect(&self, endpoint: &Endpoint, shares_pid_namespace: bool) -> io::Result<(Stream, Peer)> {
        let Endpoint::Unix(path) = endpoint else { return Err(EngineError::OtherSystem.into()) };
        let stream = UnixStream::connect(path).await?;
        let credentials = stream.peer_cred()?;
        let process = match credentials.pid() {
            Some(pid) if pid > 0 => self.processes()?.open_peer(&stream, pid)?,
            _ => None,
        };
        let ours = process.as_ref().is_some_and(|process| process.namespace_pids().is_ok_and(|pids| pids.len() == 1));
        if !ours && !shares_pid_namespace {
            return Err(EngineError::OtherPidNamespace.into());
        }
        Ok((stream, Peer { uid: credentials.uid(), process }))
    }

    fn processes(&self) -> io::Result<&Linux> {
        match self.0.get() {
            Some(opened) => Ok(opened),
            None => {
                let opened = Linux::new()?;
                Ok(self.0.get_or_init(|| opened))
            }
        }
    }
}
