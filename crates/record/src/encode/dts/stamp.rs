//! What the records of a transaction share: times, its id, the position to resume from.

use crate::encode::avro;
use crate::encode::event::commit_us;
use wal::{Lsn, Transaction};

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
}
