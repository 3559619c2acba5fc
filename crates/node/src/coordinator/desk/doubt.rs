//! Orders whose transaction was lost before its outcome was known. Pure.
//!
//! The control topic says what became of them: it has one partition, and whoever takes the lead next writes a fence that
//! comes after all that was committed before. What was not read before that fence was never written, so it can be
//! carried out by the next leader as if it had just been asked for.

use crate::state::Term;
use std::time::{Duration, Instant};

/// How long the next fence may take; then whoever asked is told that nobody knows.
const DOUBT_MAX: Duration = Duration::from_secs(5);

/// Orders in doubt, each with who waits for it.
#[derive(Debug)]
pub(super) struct Doubts<T>(Vec<Doubt<T>>);

#[derive(Debug)]
struct Doubt<T> {
    term: Term,
    /// Key and value of the transaction's last record.
    last: (String, Option<Vec<u8>>),
    since: Instant,
    waits: T,
}

impl<T> Default for Doubts<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Doubts<T> {
    /// A transaction of `term`, whose last record is `last`, was lost.
    pub(super) fn add(
        &mut self,
        term: Term,
        last: (String, Option<Vec<u8>>),
        since: Instant,
        waits: T,
    ) {
        self.0.push(Doubt { term, last, since, waits });
    }

    /// A record was read. Those whose it is were carried out.
    pub(super) fn read(&mut self, key: &str, value: Option<&[u8]>) -> Vec<T> {
        self.take(|it| it.last.0 == key && it.last.1.as_deref() == value)
    }

    /// A fence was read. Those that are left from before it were not carried out, and never will be.
    pub(super) fn fenced(&mut self, term: Term) -> Vec<T> {
        self.take(|it| it.term < term)
    }

    /// Those of which nobody will know in time.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<T> {
        self.take(|it| DOUBT_MAX <= now.saturating_duration_since(it.since))
    }

    fn take(&mut self, is: impl Fn(&Doubt<T>) -> bool) -> Vec<T> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(is);
        self.0 = left;
        let taken: Vec<Doubt<T>> = taken;
        taken.into_iter().map(|it| it.waits).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubts() -> (Doubts<u8>, Instant) {
        let (mut doubts, now) = (Doubts::default(), Instant::now());
        doubts.add(7, ("task/shop".into(), Some(b"seven".to_vec())), now, 1);
        (doubts, now)
    }

    #[test]
    fn what_is_read_before_the_next_fence_was_done() {
        let (mut doubts, _) = doubts();
        assert!(doubts.read("task/shop", Some(b"six")).is_empty());
        assert!(doubts.read("task/shop", None).is_empty());
        assert_eq!(doubts.read("task/shop", Some(b"seven")), [1]);
        assert!(doubts.fenced(9).is_empty());
    }

    #[test]
    fn what_is_not_read_before_the_next_fence_was_not_done() {
        let (mut doubts, now) = doubts();
        assert!(doubts.fenced(7).is_empty(), "the fence of its own leader");
        assert_eq!(doubts.fenced(9), [1]);
        assert!(doubts.read("task/shop", Some(b"seven")).is_empty());
        assert!(doubts.expired(now + DOUBT_MAX).is_empty());
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (mut doubts, now) = doubts();
        assert!(doubts.expired(now).is_empty());
        assert_eq!(doubts.expired(now + DOUBT_MAX), [1]);
    }
}
