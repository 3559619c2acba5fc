//! Turns: the connections that read for a snapshot wait here until its throttle lets the next query begin. The limits
//! may change meanwhile. One thread: no locks.

use crate::chunk::throttle::{Amount, Limits, Throttle};
use std::cell::RefCell;
use std::pin::pin;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Shared by all that reads for one task, over all its fronts.
#[derive(Debug)]
pub struct Turns {
    throttle: RefCell<Throttle>,
    changed: Notify,
}

impl Turns {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let throttle = RefCell::new(Throttle::new(limits, Instant::now().into_std()));
        Self { throttle, changed: Notify::new() }
    }

    /// Other limits hold from now on, also for those who wait.
    pub fn set(&self, limits: Limits) {
        self.throttle.borrow_mut().set(limits, Instant::now().into_std());
        self.changed.notify_waiters();
    }

    /// What one query should read at most.
    #[must_use]
    pub fn part(&self) -> Amount {
        self.throttle.borrow().limits().part()
    }

    /// Until a query may begin that is expected to read so much. Cancel-safe: nothing is paid before.
    pub async fn take(&self, expected: Amount) {
        loop {
            // What changes between the look and the wait must not be missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let wait = self.throttle.borrow().wait(now.into_std());
            match wait {
                Some(wait) if wait.is_zero() => {
                    return self.throttle.borrow_mut().begin(expected, now.into_std());
                }
                Some(wait) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(wait) => {}
                },
                None => changed.await,
            }
        }
    }

    /// The query has read so much.
    pub fn settle(&self, expected: Amount, read: Amount) {
        self.throttle.borrow_mut().settle(expected, read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rows(rows: u64) -> Limits {
        Limits { rows, ..Limits::default() }
    }

    #[actix_rt::test]
    async fn who_waits_hears_of_other_limits() {
        tokio::time::pause();
        let turns = Turns::new(rows(1));
        let hour = Amount { rows: 3600, bytes: 0 };
        turns.take(hour).await;
        let began = Instant::now();
        let change = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            turns.set(Limits { paused: true, ..Limits::default() });
            tokio::time::sleep(Duration::from_secs(7)).await;
            turns.set(Limits::default());
        };
        tokio::join!(turns.take(hour), change);
        assert_eq!(began.elapsed().as_secs(), 12);
    }

    #[actix_rt::test]
    async fn each_has_a_turn_of_its_own() {
        tokio::time::pause();
        let (turns, began) = (Turns::new(rows(10)), Instant::now());
        let one = || turns.take(Amount { rows: 10, bytes: 0 });
        tokio::join!(one(), one(), one(), one());
        // The first of the four waits for nobody, the last one for three.
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
