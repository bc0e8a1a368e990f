//! Local sockets: further sockets of a plugin, by name, which only its own user may open.
//!
//! They are Unix domain sockets in the directory of the plugin's own socket, and named pipes on Windows.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;
use crate::account::Account;
use crate::plugin::Plugin;

/// Listens on a local socket.
#[derive(Debug)]
pub struct LocalListener(system::Listener);

impl LocalListener {
    /// Listens on a path: of a file that does not exist yet on Unix, and of the form `\\.\pipe\NAME` on Windows. A plugin calls
    /// [`Started::listen`](crate::Started::listen) instead, and its socket is found by name.
    ///
    /// On Windows only this user may connect. On Unix the directory of the file decides that.
    ///
    /// # Errors
    /// The path is in use, or the operating system refuses it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(path: &Path) -> io::Result<LocalListener> {
        system::Listener::bind(path).map(LocalListener)
    }

    /// Waits for the next connection. The wait may be cancelled.
    ///
    /// # Errors
    /// Those of the operating system, for example a lack of file descriptors. A later call may succeed.
    pub async fn accept(&mut self) -> io::Result<LocalStream> {
        self.0.accept().await.map(LocalStream)
    }
}

/// A local socket that was found, or that a user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSocket {
    /// Where it is: a file on Unix, a pipe on Windows.
    pub path: PathBuf,
    /// The user whose plugin made it.
    pub owner: Account,
}

impl LocalSocket {
    /// A socket whose path the user named. On Unix the socket counts as the user's own.
    pub async fn at(path: PathBuf) -> LocalSocket {
        let owner = system::owner(&path).await;
        LocalSocket { path, owner }
    }

    /// Whether the socket belongs to neither the user that asks nor an account that may do everything. Such a socket may answer
    /// anything, late or never.
    pub fn is_of_another_user(&self) -> bool {
        !self.owner.is_privileged() && self.owner != Account::current()
    }

    /// Connects to the socket. The caller bounds the wait: on Windows it lasts until the plugin has accepted those that
    /// came before.
    ///
    /// # Errors
    /// Nothing listens there ([`io::ErrorKind::NotFound`], [`io::ErrorKind::ConnectionRefused`]), it may not be opened, or it has
    /// another owner by now.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(&self) -> io::Result<LocalStream> {
        system::connect(self).await.map(LocalStream)
    }
}

impl Plugin {
    /// Finds the local sockets of this name of all running plugins that this user may ask, in the order of their paths. On Unix
    /// those are the user's own, and for root those of all users. Sockets of plugins that were killed may be found too.
    /// A directory that `PLUGIN_UNIX_SOCKET_DIR` asked for is not looked into.
    ///
    /// On Windows those are the user's own, and any pipe that another user named like them, which [`LocalSocket::owner`]
    /// tells apart. A pipe whose owner is not told within a second has the owner [`Account::Unknown`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn find_sockets(&self, name: &str) -> Vec<LocalSocket> {
        let mut found = system::find(self, name).await;
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found
    }
}

/// A connection of a local socket.
#[derive(Debug)]
pub struct LocalStream(system::Stream);

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    async fn read(socket: &LocalSocket) -> String {
        let mut text = String::new();
        socket.connect().await.unwrap().read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn an_answer_arrives_whole_though_the_connection_was_closed_at_once() {
        let place = system::tests::Place::new();
        let mut listener = LocalListener::bind(&place.path("answer")).unwrap();
        let text = "0123456789".repeat(1_000);
        let answer = text.clone();
        let serving = tokio::spawn(async move {
            loop {
                // A client that asks for the owner only has left by then.
                let _ = listener.accept().await.unwrap().write_all(answer.as_bytes()).await;
            }
        });
        let socket = LocalSocket::at(place.path("answer")).await;
        for _ in 0..20 {
            assert_eq!(timeout(SOON, read(&socket)).await.unwrap(), text);
        }
        serving.abort();
    }

    #[tokio::test]
    async fn connections_that_come_together_are_all_accepted() {
        let place = system::tests::Place::new();
        let mut listener = LocalListener::bind(&place.path("many")).unwrap();
        tokio::spawn(async move {
            while let Ok(mut stream) = listener.accept().await {
                let _ = stream.write_all(b"answer").await;
            }
        });
        let socket = LocalSocket::at(place.path("many")).await;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let socket = socket.clone();
            asking.spawn(async move { read(&socket).await });
        }
        while let Some(answer) = timeout(SOON, asking.join_next()).await.unwrap() {
            assert_eq!(answer.unwrap(), "answer");
        }
    }

    #[tokio::test]
    async fn clients_that_leave_at_once_do_not_end_the_listener() {
        let place = system::tests::Place::new();
        let mut listener = LocalListener::bind(&place.path("leave")).unwrap();
        let socket = LocalSocket { path: place.path("leave"), owner: Account::current() };
        for _ in 0..10 {
            let connecting = socket.clone();
            drop(timeout(SOON, async move { connecting.connect().await.unwrap() }).await.unwrap());
            // The connection of the client that left may be told or passed over.
            let _ = timeout(Duration::from_millis(20), listener.accept()).await;
        }
        let asking = tokio::spawn(async move { read(&socket).await });
        let answering = async {
            while !asking.is_finished() {
                if let Ok(Ok(mut stream)) = timeout(Duration::from_millis(50), listener.accept()).await {
                    let _ = stream.write_all(b"answer").await;
                }
            }
        };
        timeout(SOON, answering).await.unwrap();
        assert_eq!(asking.await.unwrap(), "answer");
    }

    #[tokio::test]
    async fn a_socket_that_does_not_exist_is_not_found() {
        let place = system::tests::Place::new();
        let error = LocalSocket::at(place.path("none")).await.connect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_socket_is_ones_own_or_that_of_an_account_that_may_do_everything() {
        let of = |owner: Account| LocalSocket { path: PathBuf::new(), owner }.is_of_another_user();
        assert!(!of(Account::current()));
        assert!(!of(Account::Uid(0)) && !of(Account::Sid("S-1-5-18".to_owned())));
        assert!(of(Account::Uid(12_345_678)) && of(Account::Sid("S-1-5-21-7".to_owned())) && of(Account::Unknown));
    }
}
