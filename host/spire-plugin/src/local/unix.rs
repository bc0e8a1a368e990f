//! The implementation with Unix domain sockets, which lie in the directory of the plugin's own socket.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tokio::net::UnixListener;
pub(super) use tokio::net::UnixStream as Stream;

use super::LocalSocket;
use crate::account::Account;
use crate::plugin::Plugin;
use crate::socket::unix::{PARENTS, is_of};

/// The listener.
#[derive(Debug)]
pub(super) struct Listener(UnixListener);

impl Listener {
    pub(super) fn bind(path: &Path) -> io::Result<Listener> {
        UnixListener::bind(path).map(Listener)
    }

    pub(super) async fn accept(&mut self) -> io::Result<Stream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }
}

/// A socket that a user named counts as the user's own.
pub(super) async fn owner(_: &Path) -> Account {
    Account::current()
}

pub(super) async fn connect(socket: &LocalSocket) -> io::Result<Stream> {
    Stream::connect(&socket.path).await
}

/// Finds sockets in the directories of all plugins of this name that this user may enter.
pub(super) async fn find(plugin: &Plugin, name: &str) -> Vec<LocalSocket> {
    let directories = PARENTS.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
    let me = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for directory in directories {
        // Examines the directory itself, never the target of a link with its name.
        let Ok(metadata) = fs::symlink_metadata(&directory) else { continue };
        let ours = directory.file_name().is_some_and(|name| is_of(plugin, name)) && metadata.is_dir();
        if ours && (metadata.uid() == me || me == 0) {
            found.push(LocalSocket { path: directory.join(name), owner: Account::Uid(metadata.uid()) });
        }
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    /// A place for sockets of a test.
    pub(in super::super) struct Place(tempfile::TempDir);

    impl Place {
        pub(in super::super) fn new() -> Place {
            Place(tempfile::tempdir().unwrap())
        }

        pub(in super::super) fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }
    }
}
