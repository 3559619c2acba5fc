//! Numbers of records that grow with the stream and are the same whenever it is read again: DTS's and Canal's
//! `id`. They need no counter that is kept anywhere; gaps are allowed.

use super::event::Event;
use wal::{Lsn, Transaction};

/// WAL records begin at multiples of so many bytes (`MAXALIGN`, xlogrecord.h).
const ALIGNMENT_BITS: u32 = 3;
/// So many bits of a number count the records of one transaction.
const ORDINAL_BITS: u32 = 17;

/// The shortest commit record takes so many alignments.
const COMMIT_UNITS: i64 = 5;

/// The numbers of one transaction's records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Serial {
    is_snapshot: bool,
    base: i64,
}

impl Serial {
    pub(super) fn of(transaction: &Transaction) -> Self {
        // Transaction 0: rows of a snapshot.
        Self { is_snapshot: transaction.xid == 0, base: base(transaction.commit_lsn) }
    }

    /// Of a heartbeat, which stands between two transactions.
    pub(super) fn of_heartbeat(lsn: Lsn) -> i64 {
        base(lsn).saturating_sub(2)
    }

    /// Of what is told of a transaction before and after its records: the numbers of its neighbours' records are
    /// further away.
    pub(super) fn of_borders(transaction: &Transaction) -> [i64; 2] {
        let base = base(transaction.commit_lsn);
        [base.saturating_sub(1), base.saturating_add((COMMIT_UNITS << ORDINAL_BITS) - 3)]
    }

    pub(super) fn of_event(self, event: &Event<'_>) -> i64 {
        self.number(event.change.ordinal, event.ends_change)
    }

    /// Rows of the snapshot count from 1. Up to 512 TiB of WAL two changes have different numbers, unless they
    /// are of a transaction of more than 327,678 changes and of one that commits just behind it.
    fn number(self, ordinal: u64, ends_change: bool) -> i64 {
        if self.is_snapshot {
            return ordinal.cast_signed().saturating_add(1);
        }
        let within = ordinal.cast_signed().saturating_mul(2);
        self.base.saturating_add(within).saturating_add(i64::from(ends_change))
    }
}

fn base(lsn: Lsn) -> i64 {
    (lsn.0 >> ALIGNMENT_BITS << ORDINAL_BITS).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(xid: u32, commit_lsn: u64) -> Transaction {
        Transaction {
            xid,
            commit_lsn: Lsn(commit_lsn),
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        }
    }

    fn serial(xid: u32, commit_lsn: u64) -> Serial {
        Serial::of(&transaction(xid, commit_lsn))
    }

    fn borders(commit_lsn: u64) -> [i64; 2] {
        Serial::of_borders(&transaction(7, commit_lsn))
    }

    #[test]
    fn ids_grow_with_the_stream() {
        let ids = [
            serial(0, 4096).number(0, false),
            serial(0, 4096).number(9_000_000, false),
            Serial::of_heartbeat(Lsn(1 << 24)),
            borders(1 << 24)[0],
            serial(7, 1 << 24).number(0, false),
            serial(7, 1 << 24).number(0, true),
            serial(7, 1 << 24).number(1, false),
            serial(7, 1 << 24).number(327_677, true),
            borders(1 << 24)[1],
            // The shortest commit record is longer than 32 bytes.
            Serial::of_heartbeat(Lsn((1 << 24) + 40)),
            borders((1 << 24) + 40)[0],
            serial(8, (1 << 24) + 40).number(0, false),
            serial(9, (1 << 49) - 8).number(0, false),
        ];
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }
}
