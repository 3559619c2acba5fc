//! What the records of a transaction share: times, its id, the position to resume from.

use crate::encode::avro;
use crate::encode::event::commit_us;
use wal::{Lsn, Transaction};

/// WAL records begin at multiples of so many bytes (`MAXALIGN`, xlogrecord.h).
const ALIGNMENT_BITS: u32 = 3;
/// So many bits of an id count the records of one transaction.
const ORDINAL_BITS: u32 = 17;

/// Prepared when the first change of a transaction comes.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    /// `sourceTimestamp`.
    pub(super) seconds: Vec<u8>,
    /// `sourceTxid`.
    pub(super) txid: Vec<u8>,
    /// `bornTimestamp`.
    pub(super) born: Vec<u8>,
    resume: Option<Lsn>,
    is_snapshot: bool,
    base: i64,
}

impl Stamp {
    pub(super) fn prepare(&mut self, transaction: &Transaction) {
        let millis = commit_us(transaction).div_euclid(1000);
        let Self { seconds, txid, born, .. } = self;
        seconds.clear();
        avro::long(millis.div_euclid(1000), seconds);
        born.clear();
        avro::long(millis, born);
        txid.clear();
        // Transaction 0: rows of a snapshot.
        match transaction.xid {
            0 => avro::string("", txid),
            xid => avro::string(itoa::Buffer::new().format(xid), txid),
        }
        self.resume = transaction.previous_commit_lsn;
        self.is_snapshot = transaction.xid == 0;
        let place = transaction.commit_lsn.0 >> ALIGNMENT_BITS << ORDINAL_BITS;
        self.base = place.cast_signed();
    }

    /// `id`: grows with the stream, and is the same whenever the stream is read again. Rows of the
    /// snapshot count from 1. Up to 512 TiB of WAL two changes have different ids, unless they are of
    /// a transaction of more than 327,680 changes and of one that commits just behind it.
    pub(super) fn id(&self, ordinal: u64, ends_change: bool) -> i64 {
        if self.is_snapshot {
            return ordinal.cast_signed().saturating_add(1);
        }
        let within = ordinal.cast_signed().saturating_mul(2);
        self.base.saturating_add(within).saturating_add(i64::from(ends_change))
    }

    /// `safeSourcePosition`: the end of the transaction before; where that is not known, as right
    /// after the start and in a snapshot, the change's own place.
    pub(super) fn resume(&self, change: Lsn) -> Lsn {
        self.resume.unwrap_or(change)
    }
}

/// Writes an LSN as `string`, in the form of `pg_lsn`.
pub(super) fn position(lsn: Lsn, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    // From the right: eight digits at most on each side of the slash.
    let mut text = [0; 17];
    let mut start = text.len();
    let [high, low] = [lsn.0 >> 32, lsn.0 & 0xFFFF_FFFF];
    for (index, mut half) in [low, high].into_iter().enumerate() {
        if index == 1 {
            start -= 1;
            text[start] = b'/';
        }
        loop {
            start -= 1;
            text[start] = DIGITS[(half & 0xF) as usize];
            half >>= 4;
            if half == 0 {
                break;
            }
        }
    }
    avro::bytes(&text[start..], out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_printed_as_the_server_does() {
        for lsn in [0, 1, 0x1A2_B3C8, 0x1_0000_0000, 0x16_B374_D848, u64::MAX].map(Lsn) {
            let mut out = Vec::new();
            position(lsn, &mut out);
            assert_eq!(std::str::from_utf8(&out[1..]), Ok(lsn.to_string().as_str()));
            assert_eq!(usize::from(out[0]), 2 * (out.len() - 1));
        }
    }

    fn stamp(xid: u32, commit_lsn: u64) -> Stamp {
        let mut stamp = Stamp::default();
        stamp.prepare(&Transaction {
            xid,
            commit_lsn: Lsn(commit_lsn),
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        });
        stamp
    }

    #[test]
    fn ids_grow_with_the_stream() {
        let ids = [
            stamp(0, 4096).id(0, false),
            stamp(0, 4096).id(9_000_000, false),
            stamp(7, 1 << 24).id(0, false),
            stamp(7, 1 << 24).id(0, true),
            stamp(7, 1 << 24).id(1, false),
            // The shortest commit record is longer than 32 bytes.
            stamp(7, 1 << 24).id(327_679, true),
            stamp(8, (1 << 24) + 40).id(0, false),
            stamp(9, (1 << 49) - 8).id(0, false),
        ];
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }
}
