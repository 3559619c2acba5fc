//! What the clients of one task hold in their queues, in one process. The library bounds each client alone: as
//! many times as there are lanes, and by bytes of keys and values only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// What all clients of a task may hold together.
pub(crate) const QUEUES_BYTES_MAX: u64 = 32 << 20;
/// What a record costs the library beside its key and value, most of it for its headers.
pub(crate) const RECORD_BYTES: u64 = 700;
/// What a client takes and gives back at a time, so that records cost no shared access. Each has one for
/// itself: none waits for another one for ever.
const PORTION_BYTES: u64 = 64 << 10;

/// The account of one task. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    free: Arc<AtomicU64>,
}

/// The part of one client. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    queues: Queues,
    /// Taken from the account, beside the portion of its own.
    taken: u64,
}

impl Queues {
    fn new(bytes: u64) -> Self {
        Self { free: Arc::new(AtomicU64::new(bytes)) }
    }

    /// The account of a task; whoever asks for the same name shares it. Lanes of other nodes' tasks are opened
    /// one by one, each with settings of its own.
    pub(crate) fn of_task(name: &str) -> Self {
        static TASKS: LazyLock<Mutex<HashMap<String, Weak<AtomicU64>>>> =
            LazyLock::new(Mutex::default);
        let mut tasks = TASKS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = tasks.get(name).and_then(Weak::upgrade) {
            return Self { free };
        }
        tasks.retain(|_, free| 0 < free.strong_count());
        let queues = Self::new(QUEUES_BYTES_MAX);
        tasks.insert(name.to_owned(), Arc::downgrade(&queues.free));
        queues
    }

    /// The part of a new client.
    pub(crate) fn share(&self) -> Share {
        Share { queues: self.clone(), taken: 0 }
    }
}

impl Share {
    /// What the client may hold now.
    pub(crate) fn bytes(&self) -> u64 {
        PORTION_BYTES + self.taken
    }

    /// Takes what is missing to so many bytes, in whole portions. `false`: it is not free.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let missing = bytes.saturating_sub(self.bytes()).next_multiple_of(PORTION_BYTES);
        let take = |free: u64| free.checked_sub(missing);
        let taken = self.queues.free.fetch_update(Relaxed, Relaxed, take).is_ok();
        self.taken += if taken { missing } else { 0 };
        taken
    }

    /// Gives back what is not needed for so many bytes.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let needed = bytes.saturating_sub(PORTION_BYTES).next_multiple_of(PORTION_BYTES);
        let unused = self.taken.saturating_sub(needed);
        self.taken -= unused;
        self.queues.free.fetch_add(unused, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_one_account_and_each_has_a_portion_of_its_own() {
        let queues = Queues::new(4 * PORTION_BYTES);
        let (mut one, mut other) = (queues.share(), queues.share());
        assert!(one.grow(5 * PORTION_BYTES));
        assert_eq!(one.bytes(), 5 * PORTION_BYTES);
        assert!(other.grow(PORTION_BYTES) && !other.grow(PORTION_BYTES + 1));
        one.shrink(3 * PORTION_BYTES - 1);
        assert!(other.grow(3 * PORTION_BYTES) && !other.grow(3 * PORTION_BYTES + 1));
        drop((one, other));
        assert_eq!(queues.free.load(Relaxed), 4 * PORTION_BYTES);
    }

    #[test]
    fn an_account_belongs_to_a_task_for_as_long_as_somebody_has_it() {
        let first = Queues::of_task("a test's own");
        let mut share = first.share();
        assert!(share.grow(QUEUES_BYTES_MAX / 2));
        drop(first);
        assert!(!Queues::of_task("a test's own").share().grow(QUEUES_BYTES_MAX));
        assert!(Queues::of_task("another one").share().grow(QUEUES_BYTES_MAX));
        drop(share);
        assert!(Queues::of_task("a test's own").share().grow(QUEUES_BYTES_MAX));
    }
}
