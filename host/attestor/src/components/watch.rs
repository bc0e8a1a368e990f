//! The files of policies and extensions, watched for changes.
//!
//! A look is one stat(2) for each file. It sees every way of replacing a file, on every filesystem.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bounded::file::Fingerprint;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::limits;

/// Files with their fingerprints.
pub type Fingerprints = Vec<(PathBuf, Fingerprint)>;

/// What was last read from the files, and when the same files are read again.
#[derive(Default)]
struct Watched {
    files: Fingerprints,
    /// Set where a component was not replaced for a reason that may pass.
    retry_at: Option<Instant>,
}

/// Remembers which files were read, and looks at them again.
pub struct Watcher {
    watched: Mutex<Watched>,
    /// One look at a time, so that a filesystem that hangs holds one thread at most.
    stat_permit: Arc<Semaphore>,
}

impl Default for Watcher {
    fn default() -> Watcher {
        Watcher { watched: Mutex::default(), stat_permit: Arc::new(Semaphore::new(1)) }
    }
}

impl Watcher {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the files as they were before they were read.
    pub fn remember(&self, files: Fingerprints) {
        *self.watched() = Watched { files, retry_at: None };
    }

    /// Makes the same files due again after a while.
    pub fn retry_after(&self, pause: Duration) {
        self.watched().retry_at = Some(Instant::now() + pause);
    }

    /// Whether the files must be read again: they changed, or a retry is due.
    pub fn is_due(&self, now: &Fingerprints) -> bool {
        let watched = self.watched();
        *now != watched.files || watched.retry_at.is_some_and(|at| at <= Instant::now())
    }

    /// The files as they are now. Waits as long as a filesystem hangs.
    pub async fn fingerprints(&self, files: Vec<PathBuf>) -> Fingerprints {
        let permit = Arc::clone(&self.stat_permit).acquire_owned().await;
        let looking = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let fingerprints = files.into_iter().map(|file| {
                let fingerprint = Fingerprint::of(&file);
                (file, fingerprint)
            });
            fingerprints.collect()
        });
        looking.await.unwrap_or_default()
    }

    /// The files as they are now. `None` where a filesystem hangs.
    pub async fn fingerprints_in_time(&self, files: Vec<PathBuf>) -> Option<Fingerprints> {
        timeout(limits::FILE_READ, self.fingerprints(files)).await.ok()
    }
}
