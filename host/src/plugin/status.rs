//! The status socket: tells who connects what is in use, as one JSON document, and hears nothing. It lies beside the plugin's
//! socket, in a directory that only our user may enter.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::handshake::{PARENTS, PREFIX, STATUS};
use crate::attestor::Attestor;
use crate::status::Status;

/// One answer, on either side.
const ANSWER: Duration = Duration::from_secs(2);
/// Bytes of one answer.
const LONGEST: u64 = 1 << 20;
/// The pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers one connection after the other, for as long as its task lives.
pub(super) async fn serve(listener: UnixListener, attestor: Arc<Attestor>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(mut answer) = serde_json::to_vec(&attestor.status()) else { continue };
        answer.push(b'\n');
        // Who does not read waits for itself: what is answered usually fits into the socket's buffer.
        let _ = timeout(ANSWER, stream.write_all(&answer)).await;
    }
}

/// A running plugin's status socket, and whose it is.
pub struct Found {
    /// The socket.
    pub path: PathBuf,
    /// The uid of its user.
    pub owner: u32,
}

/// The status sockets of running plugins that this user may open: its own; root sees everybody's.
pub fn find() -> Vec<Found> {
    let me = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in PARENTS.iter().flat_map(fs::read_dir).flatten().flatten() {
        let path = entry.path();
        // The directory itself, never what a link of its name leads to.
        let Ok(directory) = fs::symlink_metadata(&path) else { continue };
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX) && directory.is_dir();
        if ours && (directory.uid() == me || me == 0) {
            found.push(Found { path: path.join(STATUS), owner: directory.uid() });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// What the plugin behind a status socket answers. Anybody may have made that socket.
///
/// # Errors
/// Nobody listens there or answers in time, or the answer is malformed.
pub async fn ask(path: &Path) -> io::Result<Status> {
    let asking = async {
        let mut answer = Vec::new();
        UnixStream::connect(path).await?.take(LONGEST).read_to_end(&mut answer).await?;
        Ok(serde_json::from_slice(&answer)?)
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("it does not answer within {} s", ANSWER.as_secs()));
    timeout(ANSWER, asking).await.map_err(late)?
}
