//! A bounded queue for a resource that only a few callers may use at a time. Callers wait in lanes, which are served in
//! turn.
//!
//! A lane belongs to one claimant, and a caller must not be able to choose its claimant. A claimant that calls a
//! thousand times at once thus delays only itself. Every other claimant waits for at most one turn of each lane.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// How many callers may wait.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The callers in one lane.
    pub lane: usize,
    /// The callers in all lanes together. A lane with less than its share of them still admits callers.
    pub total: usize,
}

/// Why a caller is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The caller's own lane is full.
    #[error("{0} calls of the same container or user are waiting already")]
    Lane(usize),
    /// All lanes together are full, and the caller's lane has its share.
    #[error("{0} calls are waiting already")]
    Total(usize),
}

/// The permits, and the lanes of the callers that wait for one.
#[derive(Debug)]
pub struct Lanes<K> {
    permits: Semaphore,
    bounds: Bounds,
    queue: Mutex<Queue<K>>,
    observer: Observer,
}

/// Told of each caller that is refused.
struct Observer(Box<dyn Fn(Full) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Observer")
    }
}

/// The waiting callers.
#[derive(Debug)]
struct Queue<K> {
    lanes: HashMap<K, Lane>,
    /// The number of callers in all lanes.
    waiting: usize,
}

/// The waiting callers of one claimant. Only one of them at a time queues for a permit, so that the queue for permits
/// has at most one caller of each lane.
#[derive(Debug)]
struct Lane {
    head: Arc<Semaphore>,
    waiting: usize,
}

/// A caller's place in a lane. The place is given back when it is dropped, also if the caller gives up.
#[derive(Debug)]
pub struct Place<'a, K: Eq + Hash> {
    lanes: &'a Lanes<K>,
    claimant: K,
    /// The lane's semaphore, which the caller that queues for a permit holds.
    head: Arc<Semaphore>,
}

/// The permit of a caller. The permit is given back when this is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    _permit: Option<SemaphorePermit<'a>>,
    /// Held by a throttled caller, so that its lane has one turn at a time.
    _head: Option<OwnedSemaphorePermit>,
}

impl<K: Clone + Eq + Hash> Lanes<K> {
    /// Creates lanes for `permits` callers at the same time.
    pub fn new(permits: usize, bounds: Bounds) -> Lanes<K> {
        let queue = Mutex::new(Queue { lanes: HashMap::new(), waiting: 0 });
        Lanes { permits: Semaphore::new(permits), bounds, queue, observer: Observer(Box::new(|_| ())) }
    }

    /// The same lanes, with an observer that is told of each caller that is refused.
    pub fn with_observer(self, observer: impl Fn(Full) + Send + Sync + 'static) -> Lanes<K> {
        Lanes { observer: Observer(Box::new(observer)), ..self }
    }

    /// Takes a permit if one is free and no caller waits.
    pub fn try_turn(&self) -> Option<Turn<'_>> {
        self.permits.try_acquire().ok().map(|permit| Turn { _permit: Some(permit), _head: None })
    }

    /// Admits a caller to the lane of its claimant, and counts the caller there until the place is dropped.
    ///
    /// # Errors
    /// [`Full`] if the lane is full, or if all lanes together are full and this lane has its share.
    pub fn enter(&self, claimant: K) -> Result<Place<'_, K>, Full> {
        self.admit(claimant).inspect_err(|full| self.observer.0(*full))
    }

    fn admit(&self, claimant: K) -> Result<Place<'_, K>, Full> {
        let mut queue = self.queue();
        let in_lane = queue.lanes.get(&claimant).map_or(0, |lane| lane.waiting);
        if in_lane >= self.bounds.lane {
            return Err(Full::Lane(in_lane));
        }
        let in_all = queue.waiting;
        let share = self.bounds.total / (queue.lanes.len() + usize::from(in_lane == 0));
        if in_all >= self.bounds.total && in_lane >= share.max(1) {
            return Err(Full::Total(in_all));
        }
        // Beyond twice the total only one caller of each lane may wait, however many lanes there are.
        if in_all >= 2 * self.bounds.total && in_lane > 0 {
            return Err(Full::Total(in_all));
        }
        queue.waiting += 1;
        let empty = || Lane { head: Arc::new(Semaphore::new(1)), waiting: 0 };
        let lane = queue.lanes.entry(claimant.clone()).or_insert_with(empty);
        lane.waiting += 1;
        Ok(Place { lanes: self, claimant, head: Arc::clone(&lane.head) })
    }
}

impl<K> Lanes<K> {
    fn queue(&self) -> MutexGuard<'_, Queue<K>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a, K: Eq + Hash> Place<'a, K> {
    /// Waits for a permit. `throttled` is asked once the permit is there. If it returns `true`, the next caller of this
    /// lane waits until this turn is over.
    pub async fn turn(&self, throttled: impl FnOnce() -> bool) -> Turn<'a> {
        // `Err` would mean that the semaphore is closed, which never happens.
        let head = Arc::clone(&self.head).acquire_owned().await.ok();
        let permit = self.lanes.permits.acquire().await.ok();
        Turn { _permit: permit, _head: head.filter(|_| throttled()) }
    }
}

impl<K: Eq + Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut queue = self.lanes.queue();
        queue.waiting -= 1;
        if let Some(lane) = queue.lanes.get_mut(&self.claimant) {
            lane.waiting -= 1;
            if lane.waiting == 0 {
                queue.lanes.remove(&self.claimant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds { lane: 100, total: 150 };

    /// Starts a caller that enters a lane, appends its uid to `order` when its turn comes, and uses the turn for a
    /// moment.
    fn call(lanes: &Arc<Lanes<u32>>, order: &Arc<Mutex<Vec<u32>>>, uid: u32) -> tokio::task::JoinHandle<()> {
        let (lanes, order) = (Arc::clone(lanes), Arc::clone(order));
        tokio::spawn(async move {
            let place = lanes.enter(uid).unwrap();
            let _turn = place.turn(|| false).await;
            order.lock().unwrap().push(uid);
            tokio::time::sleep(Duration::from_millis(1)).await;
        })
    }

    #[tokio::test]
    async fn lanes_are_served_in_turn() {
        let (lanes, order) = (Arc::new(Lanes::<u32>::new(1, BOUNDS)), Arc::default());
        let mut calls: Vec<_> = (0..100).map(|_| call(&lanes, &order, 1)).collect();
        tokio::task::yield_now().await;
        calls.extend([call(&lanes, &order, 2), call(&lanes, &order, 3), call(&lanes, &order, 2)]);
        for call in calls {
            call.await.unwrap();
        }
        let order = order.lock().unwrap();
        let last = |uid: u32| order.iter().rposition(|&turn| turn == uid).unwrap();
        // The short lanes wait for one turn of the long lane before each of their own, and for the turn that ran when
        // they came.
        assert!(last(3) <= 4 && last(2) <= 7, "{order:?}");
        let queue = lanes.queue();
        assert!(queue.lanes.is_empty() && queue.waiting == 0);
    }

    #[tokio::test]
    async fn a_full_lane_is_nobody_elses_and_a_full_queue_admits_the_share_of_each_lane() {
        let lanes = Lanes::<u32>::new(1, BOUNDS);
        let mut places: Vec<_> = (0..100).map(|_| lanes.enter(1).unwrap()).collect();
        assert_eq!(lanes.enter(1).unwrap_err(), Full::Lane(100));
        places.extend((0..75).map(|_| lanes.enter(2).unwrap()));
        assert_eq!(lanes.enter(2).unwrap_err(), Full::Total(175));
        places.extend((0..50).map(|_| lanes.enter(3).unwrap()));
        assert_eq!(lanes.enter(3).unwrap_err(), Full::Total(225));
        places.push(lanes.enter(4).unwrap());
        assert_eq!(lanes.enter(2).unwrap_err(), Full::Total(226));
        places.clear();
        assert!(lanes.enter(1).is_ok());
    }

    #[test]
    fn each_refusal_is_observed_and_nothing_else() {
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&refusals);
        let lanes = Lanes::<u32>::new(1, Bounds { lane: 1, total: 1 });
        let lanes = lanes.with_observer(move |full| seen.lock().unwrap().push(full));
        let _place = lanes.enter(1).unwrap();
        assert_eq!(*refusals.lock().unwrap(), []);
        assert!(lanes.enter(1).is_err());
        assert_eq!(*refusals.lock().unwrap(), [Full::Lane(1)]);
    }

    #[tokio::test]
    async fn who_gives_up_gives_back_its_place_and_its_turn() {
        let lanes = Lanes::<u32>::new(1, BOUNDS);
        let held = lanes.try_turn().unwrap();
        let place = lanes.enter(1).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(5), place.turn(|| false)).await.is_err());
        drop((place, held));
        let place = lanes.enter(1).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(5), place.turn(|| false)).await.is_ok());
    }

    #[tokio::test]
    async fn a_throttled_lane_has_one_turn_at_a_time() {
        let lanes = Lanes::<u32>::new(4, BOUNDS);
        let (one, two, other) = (lanes.enter(1).unwrap(), lanes.enter(1).unwrap(), lanes.enter(2).unwrap());
        let first = one.turn(|| true).await;
        assert!(tokio::time::timeout(Duration::from_millis(5), two.turn(|| true)).await.is_err());
        assert!(tokio::time::timeout(Duration::from_millis(5), other.turn(|| false)).await.is_ok());
        drop(first);
        two.turn(|| true).await;
    }
}
