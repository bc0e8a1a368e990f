//! The status socket: tells who connects what is in use, as one JSON document, and hears nothing. It lies beside the plugin's
//! socket, in a directory that only our user may enter.

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

/// The name of the socket, beside that of the plugin.
pub(super) const SOCKET: &str = "status.sock";
/// One answer, on either side.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the socket of another user is waited for. Anybody can make one in /tmp that accepts and says nothing; a plugin
/// answers within a millisecond.
const ANSWER_OF_OTHERS: Duration = Duration::from_millis(500);
/// Sockets of one other user that are asked at the same time: each takes a file descriptor, and one user's thousands must not
/// keep the plugins of the rest from being asked.
const OTHERS: usize = 8;
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

impl Found {
    /// Whether it belongs to neither root nor the user that asks.
    pub fn is_others(&self) -> bool {
        self.owner != 0 && self.owner != rustix::process::geteuid().as_raw()
    }
}

/// The status sockets of running plugins that this user may open: its own; root sees everybody's.
pub fn find() -> Vec<Found> {
    PLUGIN
        .directories()
        .into_iter()
        .map(|directory| Found { path: directory.path.join(SOCKET), owner: directory.owner })
        .collect()
}

/// Asks all of them at the same time, and hands out their answers as they come. How long a socket is waited for depends on its owner
/// alone: were it cut short once others have answered, a false socket that answers at once could hide a slow plugin.
///
/// An answer is an error where no process listens, or answers in time, or the answer is malformed.
pub fn ask(found: Vec<Found>) -> JoinSet<(Found, io::Result<Status>)> {
    let mut turns = HashMap::new();
    let asking = found.into_iter().map(|found| {
        let turns = Arc::clone(turns.entry(found.owner).or_insert_with(|| Arc::new(Semaphore::new(OTHERS))));
        async move {
            let answer = match found.is_others() {
                false => within(ANSWER, answer(&found.path)).await,
                true => {
                    // The wait for a turn counts too, so that all of them together take no longer than one.
                    let in_turn = async {
                        let _turn = turns.acquire().await;
                        answer(&found.path).await
                    };
                    within(ANSWER_OF_OTHERS, in_turn).await
                }
            };
            (found, answer)
        }
    });
    asking.collect()
}

/// What the plugin behind a status socket answers. Anybody may have made that socket.
async fn answer(path: &Path) -> io::Result<Status> {
    let mut answer = Vec::new();
    UnixStream::connect(path).await?.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

async fn within(patience: Duration, answer: impl Future<Output = io::Result<Status>>) -> io::Result<Status> {
    let late = |_| {
        let text = format!("it does not answer within {} s", patience.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    timeout(patience, answer).await.map_err(late)?
}
