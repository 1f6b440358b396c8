//! The objects of one watch, and who wants to hear when they change.
//!
//! Nothing is ever taken away because of a failure or a partial list: an object leaves when the API server says that it
//! is deleted, or when a whole list came without it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// Objects by key (`NAMESPACE/NAME`, or `NAME`).
#[derive(Debug)]
pub(crate) struct Store<S> {
    inner: Mutex<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    objects: HashMap<Arc<str>, Entry<S>>,
    /// Counts the lists that were begun.
    round: u32,
    synced: bool,
    failure: Option<String>,
    subscribers: Vec<Weak<Subscriber>>,
}

#[derive(Debug)]
struct Entry<S> {
    object: Arc<S>,
    /// The list or watch after it in which the object was told last.
    round: u32,
}

/// How an object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is new.
    Added,
    /// It is another than before, in what is kept of it.
    Changed,
    /// It is the same.
    Unchanged,
}

/// Gathers the keys of changed objects until somebody looks. However often an object changes, its key is there once.
#[derive(Debug)]
pub(crate) struct Subscriber {
    changed: Mutex<HashSet<Arc<str>>>,
    wake: Arc<Notify>,
}

impl Subscriber {
    /// Takes at most `max` keys.
    pub(crate) fn take(&self, max: usize) -> Vec<Arc<str>> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.len() <= max {
            // The memory of a large list goes, too.
            return std::mem::take(&mut *changed).into_iter().collect();
        }
        let taken: Vec<Arc<str>> = changed.iter().take(max).cloned().collect();
        for key in &taken {
            changed.remove(key);
        }
        taken
    }

    /// Whether no key waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<S: PartialEq> Store<S> {
    /// Empty and not synced.
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                objects: HashMap::new(),
                round: 0,
                synced: false,
                failure: None,
                subscribers: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody who hears of every change from now on, and first of every object that is there. `wake` is notified of
    /// changes of objects and of the state.
    pub(crate) fn subscribe(&self, wake: &Arc<Notify>) -> Arc<Subscriber> {
        let mut inner = self.lock();
        let changed = Mutex::new(inner.objects.keys().cloned().collect());
        let subscriber = Arc::new(Subscriber { changed, wake: Arc::clone(wake) });
        inner.subscribers.retain(|known| known.strong_count() > 0);
        inner.subscribers.push(Arc::downgrade(&subscriber));
        wake.notify_one();
        subscriber
    }

    /// The object of this key.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<S>> {
        self.lock().objects.get(key).map(|entry| Arc::clone(&entry.object))
    }

    /// Whether a whole list has come, and what went wrong since.
    pub(crate) fn state(&self) -> (bool, Option<String>) {
        let inner = self.lock();
        (inner.synced, inner.failure.clone())
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().objects.len()
    }

    /// A list begins. Objects that are not told before [`Store::finish_list`] will go then.
    pub(crate) fn begin_list(&self) {
        self.lock().round += 1;
    }

    /// The list was told to its end. Returns how many objects were not in it and are gone.
    pub(crate) fn finish_list(&self) -> usize {
        let mut inner = self.lock();
        let round = inner.round;
        let mut gone = Vec::new();
        inner.objects.retain(|key, entry| {
            let stays = entry.round == round;
            if !stays {
                gone.push(Arc::clone(key));
            }
            stays
        });
        for key in &gone {
            inner.tell(key);
        }
        inner.synced = true;
        inner.failure = None;
        inner.wake();
        gone.len()
    }

    /// An object is as follows.
    pub(crate) fn apply(&self, key: impl Into<Arc<str>>, object: S) -> Applied {
        let key = key.into();
        let mut inner = self.lock();
        let round = inner.round;
        let applied = match inner.objects.get_mut(&*key) {
            Some(entry) => {
                entry.round = round;
                if *entry.object == object {
                    return Applied::Unchanged;
                }
                // The key is the new object's own, and there once.
                inner.objects.remove(&*key);
                Applied::Changed
            }
            None => Applied::Added,
        };
        inner.objects.insert(Arc::clone(&key), Entry { object: Arc::new(object), round });
        inner.tell(&key);
        applied
    }

    /// An object is deleted.
    pub(crate) fn remove(&self, key: &str) {
        let mut inner = self.lock();
        if inner.objects.remove(key).is_some() {
            inner.tell(key);
        }
    }

    /// Something went wrong; the objects stay.
    pub(crate) fn fail(&self, failure: String) {
        let mut inner = self.lock();
        if inner.failure.as_ref() != Some(&failure) {
            inner.failure = Some(failure);
            inner.wake();
        }
    }

    /// It goes well again.
    pub(crate) fn recover(&self) {
        let mut inner = self.lock();
        if inner.failure.take().is_some() {
            inner.wake();
        }
    }
}

impl<S> Inner<S> {
    fn tell(&self, key: &str) {
        let known = self.objects.get_key_value(key).map(|(key, _)| Arc::clone(key));
        let key = known.unwrap_or_else(|| Arc::from(key));
        for subscriber in self.subscribers.iter().filter_map(Weak::upgrade) {
            let mut changed = subscriber.changed.lock().unwrap_or_else(PoisonError::into_inner);
            changed.insert(Arc::clone(&key));
            drop(changed);
            subscriber.wake.notify_one();
        }
    }

    fn wake(&self) {
        for subscriber in self.subscribers.iter().filter_map(Weak::upgrade) {
            subscriber.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(subscriber: &Subscriber) -> Vec<String> {
        let mut keys: Vec<String> = subscriber.take(usize::MAX).iter().map(|key| key.to_string()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn a_partial_list_takes_nothing_away_and_a_whole_one_what_it_lacks() {
        let store = Store::new();
        store.begin_list();
        store.apply("a", 1);
        store.apply("b", 2);
        assert!(!store.state().0);
        store.finish_list();
        store.begin_list();
        store.apply("b", 3);
        assert_eq!((store.get("a").as_deref(), store.get("b").as_deref()), (Some(&1), Some(&3)));
        // This list broke off; the next one begins anew.
        store.begin_list();
        store.apply("a", 1);
        assert_eq!(store.finish_list(), 1);
        assert_eq!((store.get("a").as_deref(), store.get("b")), (Some(&1), None));
    }

    #[test]
    fn subscribers_hear_of_each_change_once() {
        let store = Store::new();
        store.apply("a", 1);
        let wake = Arc::new(Notify::new());
        let subscriber = store.subscribe(&wake);
        assert_eq!(keys(&subscriber), ["a"], "what is there already");
        store.apply("a", 1);
        assert!(subscriber.is_empty(), "nothing changed");
        store.apply("a", 2);
        store.apply("a", 3);
        store.apply("b", 1);
        store.remove("b");
        assert_eq!(keys(&subscriber), ["a", "b"]);
        store.remove("c");
        assert!(subscriber.is_empty());
    }

    #[test]
    fn a_failure_takes_nothing_away_and_ends_with_the_next_success() {
        let store = Store::new();
        store.apply("a", 1);
        store.finish_list();
        store.fail("down".to_owned());
        assert_eq!((store.len(), store.state().0), (1, true));
        assert_eq!(store.state().1.unwrap(), "down");
        store.recover();
        assert_eq!(store.state(), (true, None));
    }
}
