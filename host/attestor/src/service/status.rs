//! The status socket, which writes one JSON document about the components in use to each connection and reads nothing.
//! The socket lies beside the plugin's own, in a directory that only our user may enter.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PLUGIN;
use crate::attestor::Attestor;
use crate::components::history::Status;
use crate::limits;

/// The name of the socket, which lies beside that of the plugin.
pub(super) const SOCKET: &str = "status.sock";

/// Answers one connection after the other until its task ends.
pub(super) async fn serve(listener: UnixListener, attestor: Arc<Attestor>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(mut answer) = serde_json::to_vec(&attestor.status()) else { continue };
        answer.push(b'\n');
        // A client that does not read delays the others by `limits::STATUS_ANSWER` at most. An answer usually fits into the socket's
        // buffer.
        let _ = timeout(limits::STATUS_ANSWER, stream.write_all(&answer)).await;
    }
}

/// The status socket of a running plugin, and its owner.
pub struct Found {
    /// The socket.
    pub path: PathBuf,
    /// The uid of the socket's owner.
    pub owner: u32,
}

impl Found {
    /// Whether the socket belongs to neither root nor the user that asks.
    pub fn is_others(&self) -> bool {
        self.owner != 0 && self.owner != rustix::process::geteuid().as_raw()
    }
}

/// Finds the status sockets of running plugins that this user may open: the user's own, and for root those of all
/// users.
pub fn find() -> Vec<Found> {
    PLUGIN
        .directories()
        .into_iter()
        .map(|directory| Found { path: directory.path.join(SOCKET), owner: directory.owner })
        .collect()
}

/// Asks all sockets at the same time, and yields their answers as they arrive. The wait for a socket depends on its
/// owner alone. If it were cut short once others have answered, a false socket that answers at once could hide a slow
/// plugin.
///
/// An answer is `Err` if no process listens, if none answers in time, or if the answer is malformed.
pub fn ask(found: Vec<Found>) -> JoinSet<(Found, io::Result<Status>)> {
    let mut permits = HashMap::new();
    let asking = found.into_iter().map(|found| {
        let permits = Arc::clone(
            permits.entry(found.owner).or_insert_with(|| Arc::new(Semaphore::new(limits::STATUS_SOCKETS_OF_OTHERS))),
        );
        async move {
            let answer = match found.is_others() {
                false => within(limits::STATUS_ANSWER, answer(&found.path)).await,
                true => {
                    // The wait for a permit counts too, so that all sockets of one user together take no longer than
                    // one.
                    let with_permit = async {
                        let _permit = permits.acquire().await;
                        answer(&found.path).await
                    };
                    within(limits::STATUS_ANSWER_OF_OTHERS, with_permit).await
                }
            };
            (found, answer)
        }
    });
    asking.collect()
}

/// Reads the answer of a status socket. Any user may have made that socket.
async fn answer(path: &Path) -> io::Result<Status> {
    let mut answer = Vec::new();
    UnixStream::connect(path).await?.take(limits::STATUS_BYTES).read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

async fn within(limit: Duration, answer: impl Future<Output = io::Result<Status>>) -> io::Result<Status> {
    let late = |_| {
        let text = format!("it does not answer within {} s", limit.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    timeout(limit, answer).await.map_err(late)?
}
