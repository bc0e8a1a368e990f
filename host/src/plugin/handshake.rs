//! How go-plugin starts us: what the environment says, the socket, and the one line on stdout.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

use super::ServeError;

/// The magic cookie, key and value: the plugin's type.
const COOKIE: &str = "WorkloadAttestor";
/// The plugin protocol's version that SPIRE speaks.
const PROTOCOL: &str = "1";
/// The beginning of our directories' names.
const PREFIX: &str = "docker-attestor-";

/// What go-plugin says in the environment.
#[derive(Debug, Default, Clone)]
pub struct Environment {
    /// `WorkloadAttestor`: the cookie.
    pub cookie: Option<OsString>,
    /// `PLUGIN_PROTOCOL_VERSIONS`: what the client speaks, separated by commas.
    pub protocol_versions: Option<OsString>,
    /// `PLUGIN_UNIX_SOCKET_DIR`: where the socket is to lie.
    pub socket_dir: Option<OsString>,
    /// `PLUGIN_MULTIPLEX_GRPC`
    pub multiplex: Option<OsString>,
    /// `PLUGIN_CLIENT_CERT`
    pub client_cert: Option<OsString>,
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
    /// AutoMTLS.
    #[error("PLUGIN_CLIENT_CERT is set: this plugin does not speak AutoMTLS; SPIRE does not ask for it")]
    AutoMtls,
}

impl Environment {
    /// The process's own.
    pub fn of_process() -> Environment {
        Environment {
            cookie: std::env::var_os(COOKIE),
            protocol_versions: std::env::var_os("PLUGIN_PROTOCOL_VERSIONS"),
            socket_dir: std::env::var_os("PLUGIN_UNIX_SOCKET_DIR"),
            multiplex: std::env::var_os("PLUGIN_MULTIPLEX_GRPC"),
            client_cert: std::env::var_os("PLUGIN_CLIENT_CERT"),
        }
    }

    /// Whether an agent started us, and not a person.
    pub fn is_agent(&self) -> bool {
        self.cookie.as_deref().is_some_and(|value| value == COOKIE)
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
pub(super) struct Socket {
    directory: PathBuf,
    /// Held for as long as we live: who finds the directory without a lock on it may remove it.
    _alive: File,
}

impl Socket {
    /// Makes the directory, cleans up what dead plugins left beside it, and listens.
    pub(super) fn bind(environment: &Environment) -> Result<(Socket, UnixListener), ServeError> {
        // The agent's TMPDIR is not ours to trust: other users may be able to write there.
        let parent =
            environment.socket_dir.as_deref().filter(|dir| !dir.is_empty()).map_or(Path::new("/tmp"), Path::new);
        let failed = |error| ServeError::Socket { directory: parent.display().to_string(), error };
        remove_dead(parent);
        let socket = Socket::create(parent).map_err(failed)?;
        let listener = UnixListener::bind(socket.path()).map_err(failed)?;
        Ok((socket, listener))
    }

    fn create(parent: &Path) -> io::Result<Socket> {
        // Taken names, by whomever, are passed over: mkdir never follows a link and never reuses.
        for number in 0..100 {
            let directory = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => {
                    let alive = File::open(&directory)?;
                    flock(&alive, FlockOperation::NonBlockingLockExclusive)?;
                    return Ok(Socket { directory, _alive: alive });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "every name for the socket's directory is taken"))
    }

    fn path(&self) -> PathBuf {
        self.directory.join("plugin.sock")
    }

    /// The handshake: the one line that ever goes to stdout.
    pub(super) fn announce(&self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "1|1|unix|{}|grpc", self.path().display())?;
        stdout.flush()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

fn remove(directory: &Path) {
    let _ = fs::remove_file(directory.join("plugin.sock"));
    let _ = fs::remove_dir(directory);
}

/// Removes directories of plugins that were killed: of our name, of our user, and locked by nobody. Only the socket and the
/// empty directory are ever removed.
fn remove_dead(parent: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let directory = entry.path();
        let ours = fs::symlink_metadata(&directory)
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw());
        if ours
            && let Ok(file) = File::open(&directory)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            remove(&directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(change: impl FnOnce(&mut Environment)) -> Environment {
        let mut environment = Environment { cookie: Some(COOKIE.into()), ..Environment::default() };
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
    }

    #[tokio::test]
    async fn dead_directories_are_removed_and_living_ones_and_others_are_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("docker-attestor-1-0");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("plugin.sock"), b"").unwrap();
        let foreign = parent.path().join("docker-attestor-2-0");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("precious"), b"").unwrap();
        let target = tempfile::tempdir().unwrap();
        fs::write(target.path().join("plugin.sock"), b"").unwrap();
        std::os::unix::fs::symlink(target.path(), parent.path().join("docker-attestor-3-0")).unwrap();

        let environment = environment(|environment| environment.socket_dir = Some(parent.path().into()));
        let (living, _listener) = Socket::bind(&environment).unwrap();
        let (second, _second_listener) = Socket::bind(&environment).unwrap();
        assert!(!dead.exists());
        assert!(foreign.join("precious").exists());
        assert!(target.path().join("plugin.sock").exists());
        assert!(living.path().exists() && second.path().exists());
        assert_eq!(fs::metadata(&living.directory).unwrap().permissions().mode() & 0o777, 0o700);
        let gone = living.directory.clone();
        drop(living);
        assert!(!gone.exists());
    }
}
