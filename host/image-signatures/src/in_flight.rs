//! Work in flight: one task for each key, however many callers wait for it.
//!
//! This is not `bounded::single_flight`, where a caller does the work itself and the next begins anew if it gives up. A verification
//! takes up to a minute and its callers wait for seconds, so it goes on without them. Its number is bounded instead.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The tasks in flight, by key.
pub(crate) struct InFlight<K, T> {
    tasks: Arc<Mutex<HashMap<K, Pending<T>>>>,
    limit: usize,
}

/// The outcome of a task, once there is one.
pub(crate) type Pending<T> = watch::Receiver<Option<T>>;

/// What joining comes to.
pub(crate) enum Joined<T> {
    /// The work was done already.
    Done(T),
    /// The task, new or in flight.
    Pending(Pending<T>),
    /// As many tasks as may be are in flight.
    Busy,
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Send + Sync + 'static> InFlight<K, T> {
    /// At most `limit` tasks at the same time.
    pub(crate) fn new(limit: usize) -> InFlight<K, T> {
        InFlight { tasks: Arc::default(), limit }
    }

    /// Joins the task for `key`, or starts one. `done` answers without a task: it is asked while no task can end, since a task that
    /// has just ended left its outcome there before it was removed.
    pub(crate) fn join<Work: Future<Output = T> + Send + 'static>(
        &self,
        key: &K,
        done: impl FnOnce() -> Option<T>,
        work: impl FnOnce() -> Work,
    ) -> Joined<T> {
        let mut tasks = lock(&self.tasks);
        if let Some(outcome) = done() {
            return Joined::Done(outcome);
        }
        if let Some(task) = tasks.get(key) {
            return Joined::Pending(task.clone());
        }
        if tasks.len() >= self.limit {
            return Joined::Busy;
        }
        let (sender, pending) = watch::channel(None);
        tasks.insert(key.clone(), pending.clone());
        let entry = RemoveOnDrop { tasks: Arc::clone(&self.tasks), key: key.clone() };
        let work = work();
        tokio::spawn(async move {
            let outcome = work.await;
            drop(entry);
            sender.send_replace(Some(outcome));
        });
        Joined::Pending(pending)
    }
}

fn lock<K, T>(tasks: &Mutex<HashMap<K, Pending<T>>>) -> MutexGuard<'_, HashMap<K, Pending<T>>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes a task when it ends, also when it panics.
struct RemoveOnDrop<K: Eq + Hash, T> {
    tasks: Arc<Mutex<HashMap<K, Pending<T>>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for RemoveOnDrop<K, T> {
    fn drop(&mut self) {
        lock(&self.tasks).remove(&self.key);
    }
}
