//! Work that is done once for all callers that ask for it at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// The pieces of work in progress, by key.
#[derive(Debug)]
pub struct SingleFlight<K, T> {
    in_flight: Mutex<HashMap<K, Arc<OnceCell<T>>>>,
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> SingleFlight<K, T> {
        SingleFlight { in_flight: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, T: Clone> SingleFlight<K, T> {
    /// Does the work, or waits for the caller that already does it. If that caller is cancelled, the next one does the
    /// work.
    pub async fn run<Work>(&self, key: &K, work: impl FnOnce() -> Work) -> T
    where
        Work: Future<Output = T>,
    {
        let cell = Arc::clone(self.in_flight().entry(key.clone()).or_default());
        let caller = Caller { flights: self, key, cell };
        caller.cell.get_or_init(work).await.clone()
    }
}

impl<K, T> SingleFlight<K, T> {
    fn in_flight(&self) -> MutexGuard<'_, HashMap<K, Arc<OnceCell<T>>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller. The last one to leave removes the entry, even if all callers gave up.
struct Caller<'a, K: Eq + Hash, T> {
    flights: &'a SingleFlight<K, T>,
    key: &'a K,
    cell: Arc<OnceCell<T>>,
}

impl<K: Eq + Hash, T> Drop for Caller<'_, K, T> {
    fn drop(&mut self) {
        let mut in_flight = self.flights.in_flight();
        let own = in_flight.get(self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // A count of two means the entry and this caller, so no other caller waits. Finished work is removed at once,
        // because callers that come later need a fresh result.
        if own && (self.cell.initialized() || Arc::strong_count(&self.cell) == 2) {
            in_flight.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind() {
        let flights = SingleFlight::<u8, u8>::default();
        for _ in 0..3 {
            let hanging = flights.run(&1, std::future::pending);
            let other = flights.run(&1, std::future::pending);
            let both = async { tokio::join!(hanging, other) };
            assert!(tokio::time::timeout(Duration::from_millis(1), both).await.is_err());
            assert!(flights.in_flight().is_empty());
        }
        assert_eq!(flights.run(&1, || async { 2 }).await, 2);
        assert!(flights.in_flight().is_empty());
    }

    #[tokio::test]
    async fn the_next_does_the_work_of_one_that_gave_up() {
        let flights = SingleFlight::<u8, u8>::default();
        let first = tokio::time::timeout(Duration::from_millis(1), flights.run(&1, std::future::pending));
        let second = flights.run(&1, || async { 2 });
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_err());
        assert_eq!(second, 2);
    }
}
