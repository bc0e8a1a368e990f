//! Connections over named pipes.

use std::io;
use std::time::Duration;

use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};
use windows_sys::Win32::Foundation::ERROR_PIPE_BUSY;
use windows_sys::Win32::System::Threading::PROCESS_QUERY_LIMITED_INFORMATION;

use super::super::{Endpoint, Peer};
use crate::error::EngineError;
use crate::limits;
use crate::process::account::{Account, Sid};
use crate::process::win32;

pub(super) type Stream = NamedPipeClient;

/// How often a pipe is tried whose instances are all in use. The whole call has its own limit.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// The processes among which the engine's must be: any of this machine.
#[derive(Clone)]
pub(super) struct Peers;

impl Peers {
    pub(super) fn new() -> Peers {
        Peers
    }

    /// Connects to the engine, and checks clause b: the pipe, and the process that serves it, belong to LocalSystem or to an
    /// administrator. Anybody may make a pipe with the engine's name while the engine does not run. The server's process id alone would
    /// not do: that process may have ended, and another one may have its id. The pipe keeps its owner.
    pub(super) async fn connect(&self, endpoint: &Endpoint, declared: bool) -> io::Result<(Stream, Peer)> {
        let Endpoint::NamedPipe(path) = endpoint else { return Err(EngineError::OtherSystem.into()) };
        let opening = async {
            loop {
                // The server may learn who we are, and may not act as us (tokio's default).
                match ClientOptions::new().open(path) {
                    Err(error) if error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_PIPE_BUSY) => {
                        tokio::time::sleep(BUSY_PAUSE).await;
                    }
                    opened => return opened.map_err(|error| denied("the right to open its pipe", error)),
                }
            }
        };
        let pipe = tokio::time::timeout(limits::ENGINE_HEADERS, opening).await.map_err(io::Error::from)??;
        if !declared {
            check_server(&pipe)?;
        }
        Ok((pipe, Peer::default()))
    }
}

fn check_server(pipe: &NamedPipeClient) -> io::Result<()> {
    let pid = win32::server_of_pipe(pipe)?;
    let untrusted = |account: String| io::Error::from(EngineError::UntrustedPipe { pid, account });
    let opened = win32::open_process(pid, PROCESS_QUERY_LIMITED_INFORMATION)
        .map_err(|error| denied("PROCESS_QUERY_LIMITED_INFORMATION of its process", error))?;
    let Some(server) = opened else { return Err(untrusted("(the process has ended)".to_owned())) };
    let account = win32::account(&server).map_err(|error| denied("TOKEN_QUERY of its process", error))?;
    let owner = win32::owner(pipe).map_err(|error| denied("READ_CONTROL of its pipe", error))?;
    untrusted_account(&account, &owner).map_or(Ok(()), |sid| Err(untrusted(sid.to_string())))
}

/// Names the right that is missing. Another try would be denied too.
fn denied(right: &'static str, error: io::Error) -> io::Error {
    match win32::is_denied(&error) {
        true => EngineError::Denied(right).into(),
        false => error,
    }
}

/// The account because of which a pipe is not the engine's: that of its server, or its owner.
fn untrusted_account<'a>(server: &'a Account, owner: &'a Sid) -> Option<&'a Sid> {
    let owned = owner.is_local_system() || owner.is_administrators() || *owner == server.user;
    match (server.is_privileged(), owned) {
        (false, _) => Some(&server.user),
        (true, false) => Some(owner),
        (true, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
    use windows_sys::Win32::Security::Authorization::{
        ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
    };
    use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;

    use super::*;

    fn sid(authority: u8, numbers: &[u32]) -> Sid {
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Sid::new(&[&[1, numbers.len() as u8 / 4, 0, 0, 0, 0, 0, authority][..], &numbers].concat())
    }

    #[test]
    fn a_pipe_that_an_ordinary_account_made_or_serves_is_not_the_engines() {
        let (system, administrators) = (sid(5, &[18]), sid(5, &[32, 544]));
        let (alice, mallory) = (sid(5, &[21, 1, 2, 3, 1001]), sid(5, &[21, 1, 2, 3, 1002]));
        let service = Account { user: system.clone(), groups: Vec::new() };
        let elevated = Account { user: alice.clone(), groups: vec![(administrators.clone(), 0x0f)] };
        let ordinary = Account { user: mallory.clone(), groups: Vec::new() };
        for (server, owner) in
            [(&service, &system), (&service, &administrators), (&elevated, &administrators), (&elevated, &alice)]
        {
            assert_eq!(untrusted_account(server, owner), None);
        }
        assert_eq!(untrusted_account(&ordinary, &mallory), Some(&mallory));
        assert_eq!(untrusted_account(&ordinary, &system), Some(&mallory));
        // The process that made the pipe has ended, and its id is that of a service now.
        assert_eq!(untrusted_account(&service, &mallory), Some(&mallory));
        assert_eq!(untrusted_account(&elevated, &mallory), Some(&mallory));
    }

    /// An instance of a pipe that belongs to the group of administrators. (Windows gives a pipe an owner, and wine does not.)
    #[expect(unsafe_code, reason = "tokio takes security attributes as a pointer")]
    fn instance(path: &str, first: bool) -> NamedPipeServer {
        let text: Vec<u16> = "O:BAD:P(A;;GA;;;BA)(A;;GA;;;WD)\0".encode_utf16().collect();
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: the text ends with a NUL, and the descriptor that is made is freed with the process.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                std::ptr::null_mut(),
            )
        };
        assert!(made != 0);
        let mut attributes = SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: descriptor,
            bInheritHandle: 0,
        };
        let attributes = (&raw mut attributes).cast();
        // SAFETY: the attributes outlive the call.
        unsafe { ServerOptions::new().first_pipe_instance(first).create_with_security_attributes_raw(path, attributes) }
            .unwrap()
    }

    async fn connect(endpoint: &Endpoint, declared: bool) -> io::Result<(Stream, Peer)> {
        Peers::new().connect(endpoint, declared).await
    }

    /// Under wine this process has the rights of an administrator.
    #[tokio::test]
    async fn the_pipe_of_an_administrator_is_connected_to_and_a_busy_one_is_waited_for() {
        let path = format!(r"\\.\pipe\containers-test-{}", std::process::id());
        let endpoint = Endpoint::NamedPipe(path.clone());
        assert_eq!(connect(&endpoint, false).await.err().unwrap().kind(), io::ErrorKind::NotFound);
        let server = instance(&path, true);
        let (_first, _) = connect(&endpoint, false).await.unwrap();
        server.connect().await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(200), connect(&endpoint, false)).await;
        assert!(second.is_err(), "all instances are in use");
        let _next = instance(&path, false);
        connect(&endpoint, false).await.unwrap();
        let unix = Endpoint::Unix("/var/run/docker.sock".into());
        assert!(connect(&unix, true).await.err().unwrap().to_string().contains("unix sockets exist on Linux only"));
    }
}
