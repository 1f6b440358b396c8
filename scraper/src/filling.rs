//! What the lanes of a destination are filling: a request each, and how their number changes.
//!
//! Locks are taken in one order, destination by destination and lane by lane, so nobody waits in a circle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::queue::LANES_MAX;

/// A thing of type `T` for each lane.
#[derive(Debug)]
pub(crate) struct Filling<T> {
    /// Places for as many as there can be; a thing stays where it is, so that it can be lent out while their number changes.
    places: Box<[OnceLock<Box<Mutex<T>>>]>,
    count: AtomicUsize,
}

impl<T: Default> Filling<T> {
    pub(crate) fn new(lanes: usize) -> Self {
        let places = (0..LANES_MAX).map(|_| OnceLock::new()).collect();
        Self { places, count: AtomicUsize::new(lanes.clamp(1, LANES_MAX)) }
    }

    /// How many lanes there are. It changes only while nobody holds any of them.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// One lane, or all of them; `choose` says which, given how many there are.
    pub(crate) fn lock(&self, choose: impl Fn(usize) -> std::ops::Range<usize>) -> Vec<MutexGuard<'_, T>> {
        loop {
            let count = self.count();
            let held: Vec<_> = choose(count).filter_map(|lane| self.place(lane)).collect();
            // Their number does not change while one of them is held; it may have before.
            if self.count() == count {
                return held;
            }
        }
    }

    /// Calls `change` while nobody holds a lane; what it gives is their number from then on.
    pub(crate) fn change<E>(
        &self,
        change: impl FnOnce(&mut [MutexGuard<'_, T>]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let mut held = self.lock(|count| 0..count);
        let count = change(&mut held)?;
        self.count.store(count.clamp(1, LANES_MAX), Ordering::Release);
        Ok(())
    }

    fn place(&self, lane: usize) -> Option<MutexGuard<'_, T>> {
        let place = self.places.get(lane)?.get_or_init(Box::default);
        // What is filled is whole between pushes, whatever panicked elsewhere.
        Some(place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nobody_fills_a_lane_that_is_no_more() {
        let filling = Arc::new(Filling::<Vec<usize>>::new(8));
        let threads: Vec<_> = (0..4_usize)
            .map(|thread| {
                let filling = Arc::clone(&filling);
                std::thread::spawn(move || {
                    for round in 0..2_000_usize {
                        let key = thread * 1_000 + round;
                        if key.is_multiple_of(7) {
                            let mut all = filling.lock(|count| 0..count);
                            let lane = key % all.len();
                            all[lane].push(key);
                        } else {
                            filling.lock(|count| key % count..key % count + 1)[0].push(key);
                        }
                    }
                })
            })
            .collect();
        let mut moved = 0;
        for round in 0..200 {
            let lanes = [3, 8, 5, 1][round % 4];
            let changed: Result<(), ()> = filling.change(|held| {
                for (lane, keys) in held.iter_mut().enumerate() {
                    moved += keys.len();
                    assert!(keys.drain(..).all(|key| key % held_count(round) == lane));
                }
                Ok(lanes)
            });
            changed.unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let left: usize = filling.lock(|_| 0..LANES_MAX).iter().map(|keys| keys.len()).sum();
        assert_eq!(moved + left, 8_000, "nothing was filled into a lane that nobody looks at");
        assert_eq!(filling.lock(|count| 0..count).iter().map(|keys| keys.len()).sum::<usize>(), left);
    }

    /// How many lanes there were before this change.
    fn held_count(round: usize) -> usize {
        if round == 0 { 8 } else { [3, 8, 5, 1][(round - 1) % 4] }
    }
}
