//! The status socket, which writes one JSON document about the components in use to each connection and reads nothing.
//! Only our user may open it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use spire_plugin::{LocalListener, LocalSocket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PLUGIN;
use crate::attestor::Attestor;
use crate::components::history::Status;
use crate::limits;

/// The name of the socket, which is a local socket of the plugin.
pub(super) const SOCKET: &str = "status.sock";

/// Answers one connection after the other until its task ends.
pub(super) async fn serve(mut listener: LocalListener, attestor: Arc<Attestor>) {
    loop {
        let Ok(mut stream) = listener.accept().await else {
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

/// Finds the status sockets of running plugins that this user may ask: the user's own, and for root those of all users.
pub async fn find() -> Vec<LocalSocket> {
    PLUGIN.find_sockets(SOCKET).await
}

/// Asks all sockets at the same time, and yields their answers as they arrive. The wait for a socket depends on its
/// owner alone. If it were cut short once others have answered, a false socket that answers at once could hide a slow
/// plugin.
///
/// An answer is `Err` if no process listens, if none answers in time, or if the answer is malformed.
pub fn ask(found: Vec<LocalSocket>) -> JoinSet<(LocalSocket, io::Result<Status>)> {
    let mut permits = HashMap::new();
    let asking = found.into_iter().map(|found| {
        let permits = Arc::clone(
            permits
                .entry(found.owner.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(limits::STATUS_SOCKETS_OF_OTHERS))),
        );
        async move {
            let answer = match found.is_of_another_user() {
                false => within(limits::STATUS_ANSWER, answer(&found)).await,
                true => {
                    // The wait for a permit counts too, so that all sockets of one user together take no longer than
                    // one.
                    let with_permit = async {
                        let _permit = permits.acquire().await;
                        answer(&found).await
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
async fn answer(socket: &LocalSocket) -> io::Result<Status> {
    let mut answer = Vec::new();
    socket.connect().await?.take(limits::STATUS_BYTES).read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

async fn within(limit: Duration, answer: impl Future<Output = io::Result<Status>>) -> io::Result<Status> {
    let late = |_| {
        let text = format!("it does not answer within {} s", limit.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    timeout(limit, answer).await.map_err(late)?
}
