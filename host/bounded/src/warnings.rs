//! A rate limit for warnings that workloads can cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Limits the warnings that workloads can cause to ten in ten seconds.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Option<(Instant, u32)>>);

impl Warnings {
    const WINDOW: Duration = Duration::from_secs(10);
    const ADMITTED: u32 = 10;

    /// Returns `Some` if one more warning may be logged now, with the number of warnings dropped in the previous
    /// window.
    pub fn admit(&self) -> Option<u32> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *window {
            Some((since, count)) if since.elapsed() < Self::WINDOW => {
                *count += 1;
                (*count <= Self::ADMITTED).then_some(0)
            }
            other => {
                let dropped = other.map_or(0, |(_, count)| count.saturating_sub(Self::ADMITTED));
                *other = Some((Instant::now(), 1));
                Some(dropped)
            }
        }
    }
}
