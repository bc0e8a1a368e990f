//! How go-plugin starts us: what the environment says, the socket, and the one line on stdout.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, open, openat, unlinkat};
use tokio::net::UnixListener;

use crate::server::{Plugin, ServeError};

/// The plugin protocol's version that SPIRE speaks.
const PROTOCOL: &str = "1";
/// The socket's name in its directory.
const SOCKET: &str = "plugin.sock";
/// Where the directory is made, the first that can be: /run, where only root can write, else /tmp. Not TMPDIR, which is the
/// agent's.
const PARENTS: [&str; 2] = ["/run", "/tmp"];
/// A directory itself, never what a link of its name leads to.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What go-plugin says in the environment.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The plugin's type, which is the magic cookie's value.
    kind: &'static str,
    /// The magic cookie: the variable that is named like the plugin's type.
    cookie: Option<OsString>,
    /// `PLUGIN_PROTOCOL_VERSIONS`: what the client speaks, separated by commas.
    protocol_versions: Option<OsString>,
    /// `PLUGIN_UNIX_SOCKET_DIR`: where the socket is to lie.
    socket_dir: Option<OsString>,
    /// `PLUGIN_MULTIPLEX_GRPC`
    multiplex: Option<OsString>,
    /// `PLUGIN_CLIENT_CERT`
    client_cert: Option<OsString>,
}

/// What the client asks for and we do not speak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Another protocol version.
    #[error("PLUGIN_PROTOCOL_VERSIONS is {0:?}: this plugin speaks version 1 only")]
    Protocol(String),
    /// Broker multiplexing.
    #[error("PLUGIN_MULTIPLEX_GRPC is set: this plugin does not multiplex its broker; SPIRE does not ask for it")]
    Multiplex,
    /// A directory that the handshake cannot name.
    #[error("PLUGIN_UNIX_SOCKET_DIR is {0:?}: it must be UTF-8 without control characters and without \"|\"")]
    SocketDirectory(OsString),
    /// A directory in which others may put a socket of theirs in place of ours.
    #[error("PLUGIN_UNIX_SOCKET_DIR is {directory:?}, {why}")]
    UnsafeSocketDirectory {
        /// The directory.
        directory: OsString,
        /// Who may do so, and what to change.
        why: String,
    },
    /// AutoMTLS.
    #[error("PLUGIN_CLIENT_CERT is set: this plugin does not speak AutoMTLS; SPIRE does not ask for it")]
    AutoMtls,
}

impl Environment {
    /// Reads the variables that concern a plugin of this type. `variable` is [`std::env::var_os`], or a test's map.
    pub fn read(kind: &'static str, variable: impl Fn(&str) -> Option<OsString>) -> Environment {
        Environment {
            kind,
            cookie: variable(kind),
            protocol_versions: variable("PLUGIN_PROTOCOL_VERSIONS"),
            socket_dir: variable("PLUGIN_UNIX_SOCKET_DIR"),
            multiplex: variable("PLUGIN_MULTIPLEX_GRPC"),
            client_cert: variable("PLUGIN_CLIENT_CERT"),
        }
    }

    /// Whether SPIRE started the program, and not a person.
    pub fn is_agent(&self) -> bool {
        self.cookie.as_deref().is_some_and(|value| value == self.kind)
    }

    /// Refuses what we do not speak, rather than pretend.
    pub fn check(&self) -> Result<(), Refused> {
        let set = |value: &Option<OsString>| value.as_deref().is_some_and(|value| !value.is_empty());
        if let Some(versions) = &self.protocol_versions {
            let versions = versions.to_string_lossy();
            if !versions.is_empty() && !versions.split(',').any(|version| version.trim() == PROTOCOL) {
                return Err(Refused::Protocol(versions.chars().take(100).collect()));
            }
        }
        if let Some(directory) = &self.socket_dir
            && directory
                .to_str()
                .is_none_or(|directory| directory.contains(|char: char| char.is_control() || char == '|'))
        {
            return Err(Refused::SocketDirectory(directory.clone()));
        }
        let multiplex = self.multiplex.as_deref().is_some_and(|value| value != "false" && value != "0");
        match (multiplex && set(&self.multiplex), set(&self.client_cert)) {
            (true, _) => Err(Refused::Multiplex),
            (_, true) => Err(Refused::AutoMtls),
            _ => Ok(()),
        }
    }
}

/// The plugin's socket in a directory of its own, which only our user may enter; removed when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    plugin: Plugin,
    directory: PathBuf,
    /// Held for as long as we live: who finds the directory without a lock on it may remove it.
    _alive: File,
}

impl Socket {
    /// Makes the directory, and listens there. What dead plugins left beside it is cleaned up meanwhile.
    pub(crate) fn bind(plugin: Plugin, environment: &Environment) -> Result<(Socket, UnixListener), ServeError> {
        let asked = environment.socket_dir.as_deref().filter(|directory| !directory.is_empty()).map(Path::new);
        if let Some(asked) = asked {
            check_parent(asked)?;
        }
        let parents = asked.map_or_else(|| PARENTS.map(Path::new).to_vec(), |asked| vec![asked]);
        let mut failed = None;
        for parent in parents {
            match Socket::listen(plugin, parent) {
                Ok(listening) => {
                    let parent = parent.to_owned();
                    // Not here: whoever writes to /tmp decides how long this takes.
                    tokio::task::spawn_blocking(move || remove_dead(&plugin, &parent));
                    return Ok(listening);
                }
                Err(error) => failed = Some(ServeError::Socket { directory: parent.display().to_string(), error }),
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()))
    }

    fn listen(plugin: Plugin, parent: &Path) -> io::Result<(Socket, UnixListener)> {
        let socket = Socket::create(plugin, parent)?;
        let listener = UnixListener::bind(socket.path())?;
        Ok((socket, listener))
    }

    fn create(plugin: Plugin, parent: &Path) -> io::Result<Socket> {
        for attempt in 0..16 {
            // Names that nobody can take beforehand. mkdir never follows a link and never reuses.
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
            // Another plugin, which is cleaning up, found it before it was locked, and removes it.
            remove(&plugin, &directory);
        }
        Err(io::Error::other("a directory of our own could not be made and locked"))
    }

    /// The directory, where the plugin may put sockets of its own.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// The handshake: the one line that ever goes to stdout.
    pub(crate) fn announce(&self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "1|1|unix|{}|grpc", self.path().display())?;
        stdout.flush()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        remove(&self.plugin, &self.directory);
    }
}

/// Refuses a directory whose owner, or anybody else, may rename our directory and put a false one in its place. What cannot be
/// looked at is not refused here: nothing can be made in it.
fn check_parent(directory: &Path) -> Result<(), Refused> {
    let Ok(metadata) = fs::metadata(directory) else { return Ok(()) };
    let (owner, mode, me) = (metadata.uid(), metadata.mode(), rustix::process::geteuid().as_raw());
    let why = if owner != 0 && owner != me {
        format!(
            "which belongs to user {owner}: only root or the plugin's user {me} may own it; chown it, or name another"
        )
    } else if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        format!(
            "which others may write to (mode {:04o}): chmod go-w it, set its sticky bit, or name another",
            mode & 0o7777
        )
    } else {
        return Ok(());
    };
    Err(Refused::UnsafeSocketDirectory { directory: directory.into(), why })
}

/// Says that the directory is in use, and makes sure that it is still there.
fn lock(directory: &Path) -> io::Result<File> {
    let alive = File::from(open(directory, DIRECTORY, Mode::empty())?);
    flock(&alive, FlockOperation::NonBlockingLockExclusive)?;
    let (there, locked) = (fs::symlink_metadata(directory)?, alive.metadata()?);
    match (there.dev(), there.ino()) == (locked.dev(), locked.ino()) {
        true => Ok(alive),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The names of the sockets that may lie in a plugin's directory.
fn sockets(plugin: &Plugin) -> impl Iterator<Item = &'static str> {
    [SOCKET].into_iter().chain(plugin.sockets.iter().copied())
}

fn remove(plugin: &Plugin, directory: &Path) {
    for socket in sockets(plugin) {
        let _ = fs::remove_file(directory.join(socket));
    }
    let _ = fs::remove_dir(directory);
}

/// Whether a directory's name is that of a socket's directory: the plugin's name, then the process id of the agent that started
/// it, which tells several agents on a host apart, then something random.
fn is_of(plugin: &Plugin, name: &OsStr) -> bool {
    name.to_str().and_then(|name| name.strip_prefix(plugin.name)?.strip_prefix('-')?.split_once('-')).is_some_and(
        |(agent, random)| {
            agent.bytes().all(|byte| byte.is_ascii_digit()) && random.bytes().all(|byte| byte.is_ascii_hexdigit())
        },
    )
}

/// Removes directories of plugins that were killed: of our name, of our user, and locked by nobody. Only the sockets and the
/// empty directory are ever removed, through the opened directory: a link put in its place meanwhile leads nowhere.
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

/// The directory of a plugin's socket, which may be a running plugin's or a killed one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// The uid of the user whose plugin made it.
    pub owner: u32,
}

/// The socket directories of all plugins of this name that this user may enter, in the order of their paths. Those are the
/// user's own; root sees everybody's. A directory that `PLUGIN_UNIX_SOCKET_DIR` asked for is not found.
pub(crate) fn directories(plugin: &Plugin) -> Vec<SocketDirectory> {
    let me = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in PARENTS.iter().flat_map(fs::read_dir).flatten().flatten() {
        let path = entry.path();
        // The directory itself, never what a link of its name leads to.
        let Ok(directory) = fs::symlink_metadata(&path) else { continue };
        let ours = is_of(plugin, &entry.file_name()) && directory.is_dir();
        if ours && (directory.uid() == me || me == 0) {
            found.push(SocketDirectory { path, owner: directory.uid() });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: Plugin = Plugin::workload_attestor("test-plugin").with_sockets(&["status.sock"]);

    fn environment(change: impl FnOnce(&mut Environment)) -> Environment {
        let mut environment = Environment::read(PLUGIN.kind, |_| None);
        environment.cookie = Some(PLUGIN.kind.into());
        change(&mut environment);
        environment
    }

    #[test]
    fn only_the_cookie_makes_it_a_plugin() {
        assert!(environment(|_| {}).is_agent());
        assert!(!environment(|environment| environment.cookie = None).is_agent());
        assert!(!environment(|environment| environment.cookie = Some("NodeAttestor".into())).is_agent());
    }

    #[test]
    fn what_is_not_spoken_is_refused_by_name() {
        assert_eq!(environment(|environment| environment.protocol_versions = Some("2,1".into())).check(), Ok(()));
        let other = environment(|environment| environment.protocol_versions = Some("2,11".into()));
        assert_eq!(other.check(), Err(Refused::Protocol("2,11".to_owned())));
        assert_eq!(
            environment(|environment| environment.multiplex = Some("true".into())).check(),
            Err(Refused::Multiplex)
        );
        assert_eq!(environment(|environment| environment.multiplex = Some("false".into())).check(), Ok(()));
        assert_eq!(
            environment(|environment| environment.client_cert = Some("x".into())).check(),
            Err(Refused::AutoMtls)
        );
        for directory in ["/a\n1|1|unix|/b", "/a|b"] {
            let asked = environment(|environment| environment.socket_dir = Some(directory.into()));
            assert_eq!(asked.check(), Err(Refused::SocketDirectory(directory.into())));
        }
    }

    #[tokio::test]
    async fn a_directory_in_which_others_may_replace_the_socket_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let parent = tempfile::tempdir().unwrap();
        let environment = environment(|environment| environment.socket_dir = Some(parent.path().into()));
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
        // Only root can give it away.
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

        let environment = environment(|environment| environment.socket_dir = Some(parent.path().into()));
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
        for other in ["test-plugin", "test-plugin-17", "test-plugin-too-17-00ff", "test-17-00ff", "test-plugin-17-tmp"]
        {
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
