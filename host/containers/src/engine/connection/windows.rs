//! Connections over named pipes.

use std::io;
use std::time::Duration;

use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;
use windows_sys::Win32::System::Threading::PROCESS_QUERY_LIMITED_INFORMATION;

use super::super::{Endpoint, Peer};
use crate::error::EngineError;
use crate::process::win32;

pub(super) type Stream = NamedPipeClient;

/// How often a pipe is tried whose instances are all in use. The whole call has its own limit.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Connects to the engine, and checks clause b: the pipe, and the process that serves it, belong to LocalSystem or to an
/// administrator. Anybody may make a pipe with the engine's name while the engine does not run. The server's process id alone would
/// not do, because the process that made the pipe may have ended and left its id to another one: the pipe keeps its owner.
pub(super) async fn connect(endpoint: &Endpoint, declared: bool) -> io::Result<(Stream, Peer)> {
    let Endpoint::NamedPipe(path) = endpoint else { return Err(EngineError::OtherSystem.into()) };
    let pipe = loop {
        // The server may learn who we are, and may not act as us (tokio's default).
        match ClientOptions::new().open(path) {
            Err(error) if error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_PIPE_BUSY) => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            opened => break opened?,
        }
    };
    if !declared {
        check_server(&pipe)?;
    }
    Ok((pipe, Peer::default()))
}

fn check_server(pipe: &NamedPipeClient) -> io::Result<()> {
    let pid = win32::server_of_pipe(pipe)?;
    let untrusted = |account: String| io::Error::from(EngineError::UntrustedPipe { pid, account });
    let Some(server) = win32::open_process(pid, PROCESS_QUERY_LIMITED_INFORMATION)? else {
        return Err(untrusted("(the process has ended)".to_owned()));
    };
    let account = win32::account(&server)?;
    if !account.is_privileged() {
        return Err(untrusted(account.user.to_string()));
    }
    let owner = win32::owner(pipe)?;
    match owner.is_local_system() || owner.is_administrators() || owner == account.user {
        true => Ok(()),
        false => Err(untrusted(owner.to_string())),
    }
}
