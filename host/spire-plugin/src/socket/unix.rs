//! The implementation as a Unix domain socket, and the directory of the socket.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, open, openat, unlinkat};
use tokio::net::UnixStream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::{Refusal, ServeError};
use crate::handshake::{self, Environment};
use crate::limits::DIRECTORY_TRIES;
use crate::plugin::Plugin;

/// The listener of a plugin's socket, a Unix domain socket.
pub use tokio::net::UnixListener as Listener;
pub(crate) use tokio::net::UnixStream as Connection;

/// The name of the network in the handshake and in the broker's offers.
pub(crate) const NETWORK: &str = "unix";
/// The name of the socket in its directory.
const SOCKET: &str = "plugin.sock";
/// The parents of the socket's directory: /run, where only root can write, or else /tmp. TMPDIR is not used, because
/// its value is meant for the agent.
pub(crate) const PARENTS: [&str; 2] = ["/run", "/tmp"];
/// Flags that open a directory itself, never the target of a link with its name.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The plugin's socket in a directory of its own, which only the plugin's user may enter. Both are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    plugin: Plugin,
    directory: PathBuf,
    /// Locks the directory while the plugin lives. Another plugin may remove a directory that is not locked.
    _alive: File,
}

impl Socket {
    /// Creates the directory, and listens there. Removes the directories of dead plugins meanwhile.
    pub(crate) fn bind(plugin: Plugin, environment: &Environment) -> Result<(Socket, Listener), ServeError> {
        let (parent, listening) = match environment.socket_dir()? {
            Some(asked) => {
                check_parent(asked)?;
                (asked, Socket::listen(plugin, asked))
            }
            None => {
                let [first, second] = PARENTS.map(Path::new);
                match Socket::listen(plugin, first) {
                    Err(_) => (second, Socket::listen(plugin, second)),
                    listening => (first, listening),
                }
            }
        };
        let listening = listening.map_err(|error| ServeError::Socket { directory: parent.to_owned(), error })?;
        let parent = parent.to_owned();
        // Runs in another thread, because any user who writes to /tmp can prolong it.
        tokio::task::spawn_blocking(move || remove_dead(&plugin, &parent));
        Ok(listening)
    }

    fn listen(plugin: Plugin, parent: &Path) -> io::Result<(Socket, Listener)> {
        let socket = Socket::create(plugin, parent)?;
        let listener = Listener::bind(socket.path())?;
        Ok((socket, listener))
    }

    fn create(plugin: Plugin, parent: &Path) -> io::Result<Socket> {
        for attempt in 0..DIRECTORY_TRIES {
            // The names are random, so that no other user can take them beforehand. mkdir never follows a link and
            // never reuses a directory.
            let agent = std::os::unix::process::parent_id();
            let name = format!("{}-{agent}-{:016x}", plugin.name, RandomState::new().hash_one(attempt));
            let directory = parent.join(name);
            match DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            if let Ok(alive) = lock(&directory) {
                return Ok(Socket { plugin, directory, _alive: alive });
            }
            // Another plugin that was cleaning up found the directory before it was locked, and removes it.
            remove(&plugin, &directory);
        }
        Err(io::Error::other("a directory of our own could not be made and locked"))
    }

    /// Whose socket it is.
    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The path of a local socket of this plugin. The directory is one that only the plugin's user may enter.
    pub(crate) fn local_path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// Writes the handshake with the path of this socket.
    pub(crate) fn announce(&self) -> io::Result<()> {
        handshake::announce(NETWORK, &self.path().display().to_string())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        remove(&self.plugin, &self.directory);
    }
}

/// Refuses a directory in which its owner or another user could rename the socket's directory and put a false one in
/// its place. A directory that cannot be examined is not refused here, because no socket can be made in it either.
fn check_parent(directory: &Path) -> Result<(), Refusal> {
    let Ok(metadata) = fs::metadata(directory) else { return Ok(()) };
    let (owner, mode, user) = (metadata.uid(), metadata.mode() & 0o7777, rustix::process::geteuid().as_raw());
    let directory = directory.to_owned();
    if owner != 0 && owner != user {
        Err(Refusal::ForeignSocketDirectory { directory, owner, user })
    } else if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        Err(Refusal::WritableSocketDirectory { directory, mode })
    } else {
        Ok(())
    }
}

/// Locks the directory as in use, and checks that it is still there.
fn lock(directory: &Path) -> io::Result<File> {
    let alive = File::from(open(directory, DIRECTORY, Mode::empty())?);
    flock(&alive, FlockOperation::NonBlockingLockExclusive)?;
    let (present, locked) = (fs::symlink_metadata(directory)?, alive.metadata()?);
    match (present.dev(), present.ino()) == (locked.dev(), locked.ino()) {
        true => Ok(alive),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The names of the sockets that may lie in a plugin's directory.
fn sockets(plugin: &Plugin) -> impl Iterator<Item = &'static str> {
    [SOCKET].into_iter().chain(plugin.local_sockets.iter().copied())
}

fn remove(plugin: &Plugin, directory: &Path) {
    for socket in sockets(plugin) {
        let _ = fs::remove_file(directory.join(socket));
    }
    let _ = fs::remove_dir(directory);
}

/// Whether a name is that of a socket's directory of this plugin: the plugin's name, the process id of the agent that
/// started it, and something random. The process id tells several agents on a host apart.
pub(crate) fn is_of(plugin: &Plugin, name: &OsStr) -> bool {
    name.to_str().and_then(|name| name.strip_prefix(plugin.name)).is_some_and(|rest| rest.starts_with('-'))
}

/// Removes the directories of plugins that were killed: those of our name and our user that are not locked. Removes
/// only the sockets and the empty directory, through the opened directory, so that a link put in its place meanwhile
/// leads nowhere.
fn remove_dead(plugin: &Plugin, parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let Ok(parent) = open(parent, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty()) else { return };
    for name in entries.flatten().map(|entry| entry.file_name()) {
        if is_of(plugin, &name)
            && let Ok(directory) = openat(&parent, &name, DIRECTORY, Mode::empty())
            && fstat(&directory).is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw())
            && flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            for socket in sockets(plugin) {
                let _ = unlinkat(&directory, socket, AtFlags::empty());
            }
            let _ = unlinkat(&parent, &name, AtFlags::REMOVEDIR);
        }
    }
}

/// The connections that a listener accepts.
pub(crate) fn accepted(listener: Listener) -> UnixListenerStream {
    UnixListenerStream::new(listener)
}

/// The address of the agent's host services: the path of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(PathBuf);

impl Address {
    /// The address of a broker's offer. Every path is one.
    pub(crate) fn parse(text: &str) -> Option<Address> {
        Some(Address(PathBuf::from(text)))
    }
}

/// Creates a channel to the agent's host services. The channel connects at the first call, and reconnects when the
/// connection is lost. It has no keepalive, because a Go server closes the connection of a client that pings too often.
pub(crate) fn dial(Address(services): &Address) -> Channel {
    let services = services.clone();
    // The endpoint's address is not used, because the connector has the path of the socket.
    Endpoint::from_static("http://host-services").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let connect = UnixStream::connect(services.clone());
        async { connect.await.map(TokioIo::new) }
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ffi::OsString;

    use super::*;

    /// A listener of a test, its address, and the folder that the test must keep.
    pub(crate) fn listen() -> (tempfile::TempDir, Listener, Address) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.sock");
        (folder, Listener::bind(&path).unwrap(), Address(path))
    }

    const PLUGIN: Plugin = Plugin::workload_attestor("test-plugin").with_local_sockets(&["status.sock"]);

    /// An environment in which `PLUGIN_UNIX_SOCKET_DIR` is this directory.
    fn environment(directory: &Path) -> Environment {
        Environment::read("WorkloadAttestor", |name| {
            (name == "PLUGIN_UNIX_SOCKET_DIR").then(|| OsString::from(directory))
        })
    }

    #[tokio::test]
    async fn a_directory_in_which_others_may_replace_the_socket_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let parent = tempfile::tempdir().unwrap();
        let environment = environment(parent.path());
        let refused = || match Socket::bind(PLUGIN, &environment) {
            Ok(_) => None,
            Err(ServeError::Refused(refused)) => Some(refused.to_string()),
            Err(error) => panic!("{error}"),
        };
        for (mode, text) in [
            (0o700, None),
            (0o755, None),
            (0o770, Some("(mode 0770): chmod go-w it")),
            (0o707, Some("(mode 0707): chmod go-w it")),
            (0o777, Some("(mode 0777): chmod go-w it")),
            (0o1777, None),
            (0o1770, None),
        ] {
            fs::set_permissions(parent.path(), fs::Permissions::from_mode(mode)).unwrap();
            let got = refused();
            assert_eq!(got.is_some(), text.is_some(), "{mode:o}: {got:?}");
            assert!(got.unwrap_or_default().contains(text.unwrap_or_default()), "{mode:o}");
        }
        // Only root can give the directory to another user.
        if chown(parent.path(), Some(65_534), None).is_ok() {
            assert!(refused().unwrap().contains("belongs to user 65534: only root or the plugin's user 0 may own it"));
        }
    }

    #[tokio::test]
    async fn dead_directories_are_removed_and_living_ones_and_others_are_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("test-plugin-1-0");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("plugin.sock"), b"").unwrap();
        fs::write(dead.join("status.sock"), b"").unwrap();
        let foreign = parent.path().join("test-plugin-2-0");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("precious"), b"").unwrap();
        let target = tempfile::tempdir().unwrap();
        fs::write(target.path().join("plugin.sock"), b"").unwrap();
        std::os::unix::fs::symlink(target.path(), parent.path().join("test-plugin-3-0")).unwrap();

        let environment = environment(parent.path());
        let (living, _listener) = Socket::bind(PLUGIN, &environment).unwrap();
        let (second, _second_listener) = Socket::bind(PLUGIN, &environment).unwrap();
        remove_dead(&PLUGIN, parent.path());
        assert!(!dead.exists());
        assert!(foreign.join("precious").exists());
        assert!(target.path().join("plugin.sock").exists());
        assert!(living.path().exists() && second.path().exists());
        assert_eq!(fs::metadata(&living.directory).unwrap().permissions().mode() & 0o777, 0o700);
        let gone = living.directory.clone();
        drop(living);
        assert!(!gone.exists());
        assert!(second.path().exists());
    }

    #[test]
    fn directories_of_another_plugin_are_not_taken_for_ours() {
        let ours = |name: &str| is_of(&PLUGIN, OsStr::new(name));
        assert!(ours("test-plugin-17-00ff00ff00ff00ff"));
        for other in ["test-plugin", "test-plugins-17-00ff", "test-17-00ff"] {
            assert!(!ours(other), "{other}");
        }
    }

    #[test]
    fn plugins_that_start_together_take_nothing_from_each_other() {
        let parent = tempfile::tempdir().unwrap();
        let start = || {
            for _ in 0..200 {
                let socket = Socket::create(PLUGIN, parent.path()).unwrap();
                remove_dead(&PLUGIN, parent.path());
                assert!(socket.directory.exists());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(start);
            }
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
