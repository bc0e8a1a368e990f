//! Watches the process that started the plugin, so that the plugin stops when that process ends, whichever client it
//! is.
//!
//! `PR_SET_PDEATHSIG` is no substitute. Its signal is sent when the thread that started the plugin ends, while the
//! parent process may live on (prctl(2)).

use std::io;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

use crate::limits::PARENT_POLL;

/// Calls `ended` when the parent process has ended. The parent may be process 1, which is usual in a container.
pub(crate) fn watch(ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let Some(parent) = getppid() else {
        tracing::debug!("the parent process is in another pid namespace: it is not watched");
        return Ok(());
    };
    // A thread, because tokio's AsyncFd can only be made with unsafe code since 1.54.
    let wait = move || {
        wait_for(parent);
        ended();
    };
    thread::Builder::new().name("parent".to_owned()).spawn(wait).map(drop)
}

/// The id of the process that started this one; 0 if that process is in another pid namespace. An orphan gets the id of
/// the process that the kernel gave it as its parent.
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// Returns when `parent` is no longer the parent. The kernel gives an orphan another parent at once.
fn wait_for(parent: Pid) {
    let waited = pidfd_open(parent, PidfdFlags::empty()).and_then(|pidfd| {
        // The process is still the parent after its pidfd was opened, so its id was not reused before.
        match getppid() == Some(parent) {
            true => retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)),
            false => Ok(0),
        }
    });
    if let Err(error) = waited {
        tracing::debug!("the parent process has no pidfd ({error}): getppid is asked every second instead");
    }
    while getppid() == Some(parent) {
        thread::sleep(PARENT_POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_that_is_no_longer_the_parent_is_not_waited_for() {
        wait_for(rustix::process::getpid());
    }

    #[test]
    fn a_parent_that_lives_is_waited_for() {
        let (send, ended) = mpsc::channel();
        watch(move || send.send(()).unwrap()).unwrap();
        assert_eq!(ended.recv_timeout(Duration::from_millis(200)), Err(mpsc::RecvTimeoutError::Timeout));
    }
}
