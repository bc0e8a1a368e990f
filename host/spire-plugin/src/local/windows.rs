//! The implementation with named pipes.
//!
//! Any user may create a pipe of any name that is free. So a tool asks for the owner of a pipe before it takes an
//! answer. It opens the pipe such that the server learns nothing of the tool's rights.

use std::ffi::OsStr;
use std::io;
use std::mem::size_of;
use std::os::windows::io::AsRawHandle as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::ptr::null_mut;
use std::task::{Context, Poll};
use std::{fs, mem};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use windows_sys::Win32::Foundation::{ERROR_NO_DATA, ERROR_PIPE_BUSY};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{OWNER_SECURITY_INFORMATION, SECURITY_ATTRIBUTES};
use windows_sys::Win32::Storage::FileSystem::SECURITY_ANONYMOUS;

use super::LocalSocket;
use crate::account::Account;
use crate::account::windows::{Allocated, current_sid, text};
use crate::limits::{PIPE_BUFFER, PIPE_OWNER, PIPE_PAUSE, PIPES};
use crate::plugin::Plugin;

/// The folder of all pipes of this machine.
const PIPES_FOLDER: &str = r"\\.\pipe\";

/// The listener: the instance of the pipe that the next client connects to.
#[derive(Debug)]
pub(super) struct Listener {
    path: PathBuf,
    next: NamedPipeServer,
}

impl Listener {
    pub(super) fn bind(path: &Path) -> io::Result<Listener> {
        check(path)?;
        Ok(Listener { next: instance(path, true)?, path: path.to_owned() })
    }

    pub(super) async fn accept(&mut self) -> io::Result<Stream> {
        loop {
            match self.next.connect().await {
                Ok(()) => break,
                // The client left before it was accepted, and the instance is free for another one.
                Err(error) if error.raw_os_error().is_some_and(|code| code.cast_unsigned() == ERROR_NO_DATA) => {
                    self.next.disconnect()?;
                }
                Err(error) => return Err(error),
            }
        }
        let next = instance(&self.path, false)?;
        Ok(Stream::Server(mem::replace(&mut self.next, next)))
    }
}

/// Creates an instance of the pipe, which only this user may open and which no client on another machine reaches.
/// The first one fails if the pipe exists, since somebody else would then answer in our place.
#[expect(unsafe_code, reason = "tokio takes a security descriptor as a pointer")]
fn instance(path: &Path, first: bool) -> io::Result<NamedPipeServer> {
    let descriptor = only_this_user()?;
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or_default(),
        lpSecurityDescriptor: descriptor.0,
        bInheritHandle: 0,
    };
    let mut options = ServerOptions::new();
    options
        .first_pipe_instance(first)
        .reject_remote_clients(true)
        .in_buffer_size(PIPE_BUFFER)
        .out_buffer_size(PIPE_BUFFER);
    // SAFETY: the attributes are of the type that is expected. They and their descriptor live until the call returns.
    unsafe { options.create_with_security_attributes_raw(path, (&raw mut attributes).cast()) }
}

/// A security descriptor in memory of the system. This user owns it and may do everything. Other users may do
/// nothing. It inherits nothing (`P`).
#[expect(unsafe_code, reason = "std makes no security descriptors")]
fn only_this_user() -> io::Result<Allocated> {
    let sid = current_sid()?;
    let text: Vec<u16> = format!("O:{sid}D:P(A;;FA;;;{sid})\0").encode_utf16().collect();
    let mut descriptor = null_mut();
    // SAFETY: the text ends with a zero, and `descriptor` is a variable of this function.
    let made = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            null_mut(),
        )
    };
    match made {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(Allocated(descriptor)),
    }
}

/// Refuses a path that is not that of a pipe on this machine.
fn check(path: &Path) -> io::Result<()> {
    let name = path.to_str().and_then(|path| path.strip_prefix(PIPES_FOLDER));
    match name.is_some_and(|name| !name.is_empty() && !name.contains(char::is_control)) {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, r"it is not the path of a pipe: write \\.\pipe\NAME")),
    }
}

/// Opens a pipe. The server can neither act as this user nor see who it is. Waits while all instances of the pipe are
/// taken.
async fn open(path: &Path) -> io::Result<NamedPipeClient> {
    check(path)?;
    loop {
        match ClientOptions::new().security_qos_flags(SECURITY_ANONYMOUS).open(path) {
            Err(error) if error.raw_os_error().is_some_and(|code| code.cast_unsigned() == ERROR_PIPE_BUSY) => {
                sleep(PIPE_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// The account that owns a pipe that was opened. Without a privilege of administrators no user can make a pipe that
/// another account owns. (The id of the server's process would say less: that process may have ended, and another one
/// may have its id by now.)
#[expect(unsafe_code, reason = "std does not tell the owner of a pipe")]
fn owner_of(pipe: &NamedPipeClient) -> io::Result<Account> {
    let (mut owner, mut descriptor) = (null_mut(), null_mut());
    // SAFETY: the handle is open while `pipe` is borrowed, and the other pointers are null or to variables of this function.
    let error = unsafe {
        GetSecurityInfo(
            pipe.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut descriptor,
        )
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error.cast_signed()));
    }
    let _descriptor = Allocated(descriptor);
    // SAFETY: the SID lies in the descriptor, which is freed after it was read.
    unsafe { text(owner) }.map(Account::Sid)
}

/// The owner of a pipe. The error is that of opening it, and a pipe that cannot be opened in time has an unknown owner.
async fn ask_owner(path: &Path) -> io::Result<Account> {
    match timeout(PIPE_OWNER, open(path)).await {
        Ok(opened) => Ok(owner_of(&opened?).unwrap_or(Account::Unknown)),
        Err(_) => Ok(Account::Unknown),
    }
}

pub(super) async fn owner(path: &Path) -> Account {
    ask_owner(path).await.unwrap_or(Account::Unknown)
}

pub(super) async fn connect(socket: &LocalSocket) -> io::Result<Stream> {
    let pipe = open(&socket.path).await?;
    let owner = owner_of(&pipe)?;
    if owner != socket.owner {
        let text = format!("the pipe belongs to {owner}, and belonged to {} before", socket.owner);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(Stream::Client(pipe))
}

/// Finds pipes with the names of local sockets, and asks for their owners. Those that this user may not open are left out.
pub(super) async fn find(plugin: &Plugin, name: &str) -> Vec<LocalSocket> {
    let names = fs::read_dir(PIPES_FOLDER).into_iter().flatten().flatten().map(|entry| entry.file_name());
    find_among(plugin, name, names).await
}

/// Finds pipes among these names.
async fn find_among(plugin: &Plugin, name: &str, names: impl Iterator<Item: AsRef<OsStr>>) -> Vec<LocalSocket> {
    let mut asking = JoinSet::new();
    for pipe in names.filter(|pipe| is_of(plugin, name, pipe.as_ref())).take(PIPES) {
        let path = Path::new(PIPES_FOLDER).join(pipe.as_ref());
        asking.spawn(async move { ask_owner(&path).await.map(|owner| LocalSocket { path, owner }) });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

/// Whether a pipe's name is that of a local socket of this plugin: the plugin's name, the id of the agent's process,
/// something random, and the socket's name.
fn is_of(plugin: &Plugin, socket: &str, pipe: &OsStr) -> bool {
    let between = || {
        let rest = pipe.to_str()?.strip_prefix(plugin.name)?.strip_prefix('-')?;
        rest.strip_suffix(socket)?.strip_suffix('-')?.split_once('-')
    };
    between().is_some_and(|(agent, random)| {
        let digits = !agent.is_empty() && agent.bytes().all(|byte| byte.is_ascii_digit());
        digits && random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// A connection, of the side that listens or of the one that connects.
#[derive(Debug)]
pub(super) enum Stream {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Server(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Stream::Client(pipe) => Pin::new(pipe).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Server(pipe) => Pin::new(pipe).poll_write(context, bytes),
            Stream::Client(pipe) => Pin::new(pipe).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Server(pipe) => Pin::new(pipe).poll_flush(context),
            Stream::Client(pipe) => Pin::new(pipe).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Server(pipe) => Pin::new(pipe).poll_shutdown(context),
            Stream::Client(pipe) => Pin::new(pipe).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::hash::{BuildHasher as _, RandomState};
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    const PLUGIN: Plugin = Plugin::workload_attestor("test-plugin").with_local_sockets(&["status.sock"]);

    /// A place for sockets of a test.
    pub(in super::super) struct Place(u64);

    impl Place {
        pub(in super::super) fn new() -> Place {
            Place(RandomState::new().hash_one(0))
        }

        pub(in super::super) fn path(&self, name: &str) -> PathBuf {
            PathBuf::from(format!(r"\\.\pipe\spire-plugin-test-{:016x}-{name}", self.0))
        }
    }

    fn of_plugin(number: u64) -> String {
        format!("test-plugin-7-{number:016x}-status.sock")
    }

    #[test]
    fn names_of_other_pipes_are_not_taken_for_ours() {
        let ours = |pipe: &str| is_of(&PLUGIN, "status.sock", OsStr::new(pipe));
        assert!(ours("test-plugin-17-00ff00ff00ff00ff-status.sock"));
        for other in [
            "test-plugin-17-00ff00ff00ff00ff",
            "test-plugin-17-00ff00ff00ff00ff-other.sock",
            "test-plugins-17-00ff00ff00ff00ff-status.sock",
            "test-plugin--00ff00ff00ff00ff-status.sock",
            "test-plugin-x-00ff00ff00ff00ff-status.sock",
            "test-plugin-17-00ff-status.sock",
            "test-plugin-17-00ff00ff00ff00fg-status.sock",
            "test-plugin-17-status.sock",
            "test-plugin-status.sock",
            "",
        ] {
            assert!(!ours(other), "{other}");
        }
    }

    #[tokio::test]
    async fn pipes_are_found_with_their_owner_and_those_that_do_not_exist_are_left_out() {
        let number = RandomState::new().hash_one(1);
        let path = Path::new(PIPES_FOLDER).join(of_plugin(number));
        let _listener = Listener::bind(&path).unwrap();
        let names = [of_plugin(number), of_plugin(number ^ 1), "other".to_owned()];
        let found = find_among(&PLUGIN, "status.sock", names.iter()).await;
        assert_eq!(found, [LocalSocket { path, owner: Account::current() }]);
    }

    #[tokio::test]
    async fn a_pipe_that_is_always_busy_has_an_unknown_owner_and_delays_the_search_by_a_second() {
        let number = RandomState::new().hash_one(2);
        let path = Path::new(PIPES_FOLDER).join(of_plugin(number));
        let _server = ServerOptions::new().max_instances(1).create(&path).unwrap();
        let _client = ClientOptions::new().open(&path).unwrap();
        let started = std::time::Instant::now();
        let found = find_among(&PLUGIN, "status.sock", [of_plugin(number)].iter()).await;
        assert!(started.elapsed() < PIPE_OWNER + Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(found, [LocalSocket { path: path.clone(), owner: Account::Unknown }]);
        assert!(timeout(Duration::from_millis(100), found[0].connect()).await.is_err(), "it waits for its turn");
    }

    #[tokio::test]
    async fn a_pipe_that_changed_its_owner_is_not_asked() {
        let place = Place::new();
        let _listener = Listener::bind(&place.path("pipe")).unwrap();
        let socket = LocalSocket { path: place.path("pipe"), owner: Account::Sid("S-1-5-18".to_owned()) };
        let error = socket.connect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("and belonged to S-1-5-18 before"), "{error}");
    }

    #[tokio::test]
    #[ignore = "wine 8 ignores FILE_FLAG_FIRST_PIPE_INSTANCE"]
    async fn a_name_that_is_taken_is_not_shared() {
        let place = Place::new();
        let _taken = ServerOptions::new().create(place.path("taken")).unwrap();
        assert!(Listener::bind(&place.path("taken")).is_err());
    }

    #[tokio::test]
    async fn what_is_not_a_pipe_of_this_machine_is_refused() {
        for path in [r"C:\file", r"\\server\pipe\x", r"\\.\pipe\", r"\\.\COM1", "NUL", ""] {
            let socket = LocalSocket { path: PathBuf::from(path), owner: Account::current() };
            assert_eq!(socket.connect().await.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
            assert_eq!(Listener::bind(Path::new(path)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }

    #[tokio::test]
    async fn only_this_user_is_in_the_access_list_of_a_pipe() {
        let place = Place::new();
        let _listener = Listener::bind(&place.path("pipe")).unwrap();
        let client = open(&place.path("pipe")).await.unwrap();
        assert_eq!(access_list(&client), format!("D:P(A;;FA;;;{})", current_sid().unwrap()));
    }

    /// The access list of a pipe, as text.
    #[expect(unsafe_code, reason = "std does not tell it")]
    fn access_list(pipe: &NamedPipeClient) -> String {
        use windows_sys::Win32::Security::Authorization::ConvertSecurityDescriptorToStringSecurityDescriptorW;
        use windows_sys::Win32::Security::DACL_SECURITY_INFORMATION;
        let (mut descriptor, mut units, mut length) = (null_mut(), null_mut(), 0);
        // SAFETY: the handle is open, and the other pointers are null or to variables of this function.
        let error = unsafe {
            GetSecurityInfo(
                pipe.as_raw_handle(),
                SE_KERNEL_OBJECT,
                DACL_SECURITY_INFORMATION,
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
                &raw mut descriptor,
            )
        };
        assert_eq!(error, 0);
        let descriptor = Allocated(descriptor);
        // SAFETY: the descriptor is alive, and the other pointers are to variables of this function.
        let converted = unsafe {
            ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor.0,
                SDDL_REVISION_1,
                DACL_SECURITY_INFORMATION,
                &raw mut units,
                &raw mut length,
            )
        };
        assert_ne!(converted, 0);
        let units_owner = Allocated(units.cast());
        // SAFETY: the system wrote that many units there.
        let text = unsafe { std::slice::from_raw_parts(units_owner.0.cast::<u16>(), length as usize) };
        String::from_utf16_lossy(text).trim_end_matches('\0').to_owned()
    }

    #[tokio::test]
    async fn a_client_sees_the_end_of_a_stream() {
        let place = Place::new();
        let mut listener = Listener::bind(&place.path("end")).unwrap();
        let socket = LocalSocket::at(place.path("end")).await;
        let (stream, accepted) = tokio::join!(socket.connect(), async {
            let first = listener.accept().await;
            drop(first);
            timeout(Duration::from_millis(500), listener.accept()).await
        });
        drop(accepted);
        let mut text = String::new();
        stream.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "");
    }
}
