//! DTS's and Canal's `id`: numbers that are unique in a task and grow in each partition.
//!
//! A lane counts its records. What it has counted to stands in its checkpoint, which is in the Kafka transaction of the
//! records: no number is given twice, and what was not committed may be counted anew. A transaction begins no lower than its
//! place in the WAL says, so that lanes, which count apart, keep step with the stream. The lowest bits tell lanes apart.

use wal::{Lsn, Transaction};

/// WAL records begin at multiples of so many bytes (`MAXALIGN`, xlogrecord.h).
const ALIGNMENT_BITS: u32 = 3;
/// So many bits count what stands at one such place: more records than this push the count ahead of the WAL.
const COUNT_BITS: u32 = 6;
/// The shortest commit record takes so many alignments.
const COMMIT_UNITS: u64 = 5;
/// So many bits say who counts.
const PLACE_BITS: u32 = 11;
/// Lanes that a stream can have.
const LANES_MAX: i64 = 64;
/// Whoever tells what is beside the rows, one for each stream, comes behind all lanes of 16 streams.
const BESIDE: i64 = 1024;
/// Counts leave no sign bit free; those of positions leave room above them.
const FLOOR_MAX: u64 = (1 << (63 - PLACE_BITS)) - (1 << 40);

/// Counts the records of one lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serial {
    place: i64,
    /// Count of the last record.
    last: u64,
}

impl Serial {
    /// Of a lane of a stream, from 1; 0: there are no several streams.
    pub(super) fn new(stream: u8, lane: u8) -> Self {
        Self { place: first_lane(stream) + i64::from(lane) % LANES_MAX, last: 0 }
    }

    /// The same, of this lane.
    pub(super) fn of_lane(self, stream: u8, lane: u8) -> Self {
        Self { last: self.last, ..Self::new(stream, lane) }
    }

    /// Count of the last record.
    pub(super) fn last(self) -> u64 {
        self.last
    }

    /// Counts on from here.
    pub(super) fn resume(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    /// The number of the next record, of a transaction that commits there.
    pub(super) fn next(&mut self, commit_lsn: Lsn) -> i64 {
        self.last = floor(commit_lsn).max(self.last.saturating_add(1));
        number(self.last, self.place)
    }

    /// Of a heartbeat, which stands between two transactions.
    pub(super) fn of_heartbeat(stream: u8, lsn: Lsn) -> i64 {
        number(floor(lsn).saturating_sub(2), beside(stream))
    }

    /// Of what is told of a transaction before and after its records: they lie between, unless a lane has more of them
    /// than fit there, or is ahead of the WAL.
    pub(super) fn of_borders(stream: u8, transaction: &Transaction) -> [i64; 2] {
        let first = floor(transaction.commit_lsn);
        [first.saturating_sub(1), first + (COMMIT_UNITS << COUNT_BITS) - 3]
            .map(|count| number(count, beside(stream)))
    }
}

fn first_lane(stream: u8) -> i64 {
    i64::from(stream.saturating_sub(1)) * LANES_MAX
}

fn beside(stream: u8) -> i64 {
    BESIDE + i64::from(stream.saturating_sub(1))
}

/// The least count of what stands there. Beyond 512 TiB of WAL it grows no more, and records are only counted.
fn floor(lsn: Lsn) -> u64 {
    let units = lsn.0 >> ALIGNMENT_BITS;
    units.saturating_mul(1 << COUNT_BITS).min(FLOOR_MAX)
}

fn number(count: u64, place: i64) -> i64 {
    (count << PLACE_BITS).cast_signed() | place
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// The end of the WAL that a count can follow.
    const LSN_MAX: u64 = 1 << 49;

    #[test]
    fn what_is_beside_the_rows_stands_where_it_belongs() {
        let transaction = |commit_lsn| Transaction {
            xid: 7,
            commit_lsn: Lsn(commit_lsn),
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        };
        // The shortest commit record is longer than 32 bytes, and the next transaction may commit right behind it.
        let [begin, commit] = Serial::of_borders(2, &transaction(1 << 24));
        let [next, _] = Serial::of_borders(2, &transaction((1 << 24) + 40));
        let mut lane = Serial::new(2, 63);
        let mut rows = (0..300).map(|_| lane.next(Lsn(1 << 24)));
        let (first, last) = (rows.next().expect("one"), rows.last().expect("more"));
        let beat = Serial::of_heartbeat(2, Lsn((1 << 24) + 40));
        let ids = [begin, first, last, commit, beat, next];
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }

    #[test]
    fn no_number_is_negative() {
        let mut serial = Serial::new(16, 63);
        let ids = [LSN_MAX - 8, u64::MAX, u64::MAX].map(|lsn| serial.next(Lsn(lsn)));
        assert!(0 < ids[0] && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }

    proptest! {
        /// Records of several lanes at places that grow for each of them, or stay as those of chunks do on a server at
        /// rest; a lane may begin again from what its checkpoint says.
        #[test]
        fn numbers_are_unique_and_grow_in_each_lane(
            records in prop::collection::vec((1..=3_u8, 0..3_u8, 0..3_u64, any::<bool>()), 0..200),
        ) {
            let mut lanes: Vec<_> = (0..9).map(|it| Serial::new(it / 3 + 1, it % 3)).collect();
            let (mut seen, mut newest) = (HashSet::new(), [0; 9]);
            let mut lsn = 4096;
            for (stream, lane, bytes, again) in records {
                lsn += 8 * bytes;
                let index = usize::from((stream - 1) * 3 + lane);
                if again {
                    let last = lanes[index].last();
                    lanes[index] = Serial::new(stream, 0).of_lane(stream, lane);
                    lanes[index].resume(last);
                }
                let id = lanes[index].next(Lsn(lsn));
                prop_assert!(seen.insert(id), "{id} twice");
                prop_assert!(newest[index] < id);
                newest[index] = id;
            }
        }
    }
}
