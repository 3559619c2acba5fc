//! Whether bytes come so fast that waiting for more is worth it. Pure: it is told the time.
//!
//! The server writes each message to the socket on its own, so a client that keeps up would read rows one by
//! one, and each read costs what follows it: a batch through every stage and, with links, a frame.

use std::time::{Duration, Instant};

/// From this rate on, gathering pays: bytes in a millisecond. A thousand small transactions a second stay
/// below it.
const BYTES_PER_MS: usize = 512;
/// So many bytes may come at once before it counts as a rate.
const BURST_BYTES: usize = 16 << 10;
/// A pause of this many milliseconds ends it, however much came before.
const PAUSE_MS: usize = 8;

/// A bucket that each read fills and time empties.
#[derive(Debug, Default)]
pub(super) struct Pace {
    level: usize,
    /// When `level` was right.
    at: Option<Instant>,
}

impl Pace {
    /// So many bytes have come now.
    pub(super) fn came(&mut self, bytes: usize, now: Instant) {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let since_us = usize::try_from(since.as_micros()).unwrap_or(usize::MAX);
        let drained = since_us.saturating_mul(BYTES_PER_MS) / 1000;
        let level = self.level.saturating_sub(drained).saturating_add(bytes);
        self.level = level.min(BURST_BYTES + PAUSE_MS * BYTES_PER_MS);
        self.at = Some(now);
    }

    /// Whether bytes have been coming fast up to now.
    pub(super) fn is_fast(&self) -> bool {
        BURST_BYTES <= self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is fast after each read of `bytes` every `every`.
    fn fast(
        pace: &mut Pace,
        from: Instant,
        bytes: usize,
        every: Duration,
        times: u32,
    ) -> Vec<bool> {
        let read = |number| {
            pace.came(bytes, from + every * number);
            pace.is_fast()
        };
        (1..=times).map(read).collect()
    }

    #[test]
    fn lone_transactions_are_never_fast() {
        let mut pace = Pace::default();
        let every = Duration::from_millis(2);
        assert!(!fast(&mut pace, Instant::now(), 500, every, 5_000).contains(&true));
    }

    #[test]
    fn a_backlog_is_fast_after_a_burst_and_no_longer_after_a_pause() {
        let mut pace = Pace::default();
        let (begun, every) = (Instant::now(), Duration::from_micros(20));
        let seen = fast(&mut pace, begun, 700, every, 1_000);
        let slow = seen.iter().filter(|fast| !**fast).count();
        assert!((20..50).contains(&slow), "{slow} reads before it was fast");
        assert!(seen.ends_with(&[true; 900]));
        pace.came(50, begun + every * 1_000 + Duration::from_millis(9));
        assert!(!pace.is_fast(), "the first row after a pause");
    }

    #[test]
    fn what_piled_up_while_nobody_read_is_fast() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        pace.came(500, begun);
        pace.came(64 << 10, begun + Duration::from_secs(1));
        assert!(pace.is_fast());
    }

    #[test]
    fn it_is_slow_before_the_first_byte() {
        assert!(!Pace::default().is_fast());
    }
}
