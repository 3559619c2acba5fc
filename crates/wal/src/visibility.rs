//! What a snapshot sees of the transactions of the stream.
//!
//! Source: PostgreSQL, "System Information Functions", `pg_snapshot` and its components; the same text is
//! what `txid_current_snapshot()` gives before 13.

use std::fmt;
use std::str::FromStr;

/// Transactions in progress that a snapshot may name: far above what a server can run.
const IN_PROGRESS_MAX: usize = 1 << 20;
/// Ids of the stream have 32 bits and wrap around.
const EPOCH: u64 = 1 << 32;

/// A snapshot: which transactions were over when it was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Visibility {
    /// All below are over.
    xmin: u64,
    /// All from here on are not.
    xmax: u64,
    /// Between the two, those that are not over; sorted.
    in_progress: Vec<u64>,
}

/// The text is not what `pg_current_snapshot()` gives.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no snapshot of the form xmin:xmax:xip,xip…; report it with the server's version")]
pub struct InvalidSnapshot(String);

impl Visibility {
    /// Whether the snapshot shows what this committed transaction has done. `xid` is that of pgoutput's
    /// Begin: 32 bits of the transaction's own id, never a subtransaction's.
    #[must_use]
    pub fn sees(&self, xid: u32) -> bool {
        let xid = self.widen(xid);
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// Whether every transaction below `xid` is over.
    #[must_use]
    pub fn is_past(&self, xid: u32) -> bool {
        self.widen(xid) <= self.xmin
    }

    /// The full id that is nearest to the snapshot: the server keeps those in use within 2^31 of it.
    fn widen(&self, xid: u32) -> u64 {
        let near = (self.xmax & !(EPOCH - 1)) | u64::from(xid);
        if self.xmax + EPOCH / 2 < near {
            near.saturating_sub(EPOCH)
        } else if near + EPOCH / 2 < self.xmax {
            near + EPOCH
        } else {
            near
        }
    }
}

/// As the server writes it.
impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        let mut comma = "";
        for xid in &self.in_progress {
            write!(f, "{comma}{xid}")?;
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for Visibility {
    type Err = InvalidSnapshot;

    fn from_str(text: &str) -> Result<Self, InvalidSnapshot> {
        // Long lists are cut in the message.
        let wrong = || InvalidSnapshot(text.chars().take(80).collect());
        let number = |part: &str| part.parse::<u64>().ok().filter(|it| *it < u64::MAX / 2);
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().ok_or_else(wrong);
        let xmin = number(next()?).ok_or_else(wrong)?;
        let xmax = number(next()?).ok_or_else(wrong)?;
        let list = next()?;
        let mut in_progress = Vec::new();
        for part in list.split(',').filter(|_| !list.is_empty()) {
            let xid = number(part).filter(|it| (xmin..xmax).contains(it)).ok_or_else(wrong)?;
            if IN_PROGRESS_MAX <= in_progress.len() {
                return Err(wrong());
            }
            in_progress.push(xid);
        }
        if xmax < xmin {
            return Err(wrong());
        }
        in_progress.sort_unstable();
        Ok(Self { xmin, xmax, in_progress })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(text: &str) -> Visibility {
        text.parse().expect("a snapshot")
    }

    #[test]
    fn what_is_over_is_seen() {
        let snapshot = snapshot("10:20:14,10");
        for (xid, seen) in [(9, true), (10, false), (11, true), (14, false), (19, true)] {
            assert_eq!(snapshot.sees(xid), seen, "{xid}");
        }
        assert!(!snapshot.sees(20) && !snapshot.sees(21));
        assert!(snapshot.is_past(10) && !snapshot.is_past(11));
    }

    #[test]
    fn ids_wrap_around() {
        let below = snapshot("12884901880:12884901885:");
        assert!(below.sees(u32::MAX - 9) && !below.sees(u32::MAX) && !below.sees(3));
        let above = snapshot("12884901890:12884901895:12884901891");
        assert!(above.sees(u32::MAX) && above.sees(1) && above.sees(2) && !above.sees(3));
        assert!(above.sees(4) && !above.sees(7));
        let young = snapshot("3:5:");
        assert!(young.sees(2) && !young.sees(5), "the first epoch has nothing before it");
    }

    #[test]
    fn a_snapshot_is_written_as_the_server_writes_it() {
        for text in ["10:20:10,14", "3:5:", "12884901890:12884901895:12884901891"] {
            assert_eq!(snapshot(text).to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "1", "1:2", "2:1:", "1:2:x", "1:2:,", "1:3:3", "5:9:4", "1:2:3:4", "-1:2:"]
        {
            assert!(text.parse::<Visibility>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in ".{0,60}") {
            let _ = text.parse::<Visibility>();
        }

        #[test]
        fn every_id_near_the_snapshot_is_judged_by_its_full_value(
            xmin in 0u64..1 << 34, width in 0u64..40, back in 0u64..1 << 30
        ) {
            let snapshot = snapshot(&format!("{xmin}:{}:", xmin + width));
            let sees = |xid: u64| snapshot.sees((xid & (EPOCH - 1)) as u32);
            prop_assert!(!sees(xmin + width));
            prop_assert!(!sees(xmin + width + back));
            if let Some(before) = xmin.checked_sub(1 + back) {
                prop_assert!(sees(before));
            }
        }
    }
}
