//! Records that are about no row: BEGIN, COMMIT and HEARTBEAT (formats/dts-avro.md, section 8).

use super::stamp::position;
use crate::encode::avro;
use crate::encode::event::commit_us;
use crate::encode::serial::Serial;
use crate::transaction::Summary;
use wal::Lsn;

/// Symbols of the enum `Operation`.
mod operation {
    pub(super) const BEGIN: i64 = 4;
    pub(super) const COMMIT: i64 = 5;
    pub(super) const HEARTBEAT: i64 = 8;
}

struct Control<'a> {
    id: i64,
    ms: i64,
    lsn: Lsn,
    safe: Lsn,
    /// Empty: none.
    txid: &'a str,
    operation: i64,
    tag: (&'a str, &'a str),
}

impl Control<'_> {
    fn write(&self, source: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // The layout's version.
        avro::long(0, &mut out);
        avro::long(self.id, &mut out);
        avro::long(self.ms.div_euclid(1000), &mut out);
        position(self.lsn, &mut out);
        position(self.safe, &mut out);
        avro::string(self.txid, &mut out);
        out.extend_from_slice(source);
        avro::long(self.operation, &mut out);
        // No object, no time stamps. One tag: readers drop what is as short as a filler.
        avro::long(0, &mut out);
        avro::long(0, &mut out);
        avro::long(1, &mut out);
        avro::string(self.tag.0, &mut out);
        avro::string(self.tag.1, &mut out);
        avro::long(0, &mut out);
        // No fields and no images.
        out.extend_from_slice(&[0; 3]);
        avro::long(self.ms, &mut out);
        out
    }
}

/// Everything up to `lsn` can be seen. `source`: as in the rows; `stream`: of the task, from 1.
pub(crate) fn heartbeat(source: &[u8], stream: u8, lsn: Lsn, now_us: i64) -> Vec<u8> {
    let (ms, id) = (now_us.div_euclid(1000), Serial::of_heartbeat(stream, lsn));
    let (operation, tag) = (operation::HEARTBEAT, ("heartbeat", "true"));
    Control { id, ms, lsn, safe: lsn, txid: "", operation, tag }.write(source)
}

/// BEGIN and COMMIT of a transaction. The tag `records` of both says how many records lie between.
pub(crate) fn borders(source: &[u8], stream: u8, summary: &Summary) -> [Vec<u8>; 2] {
    let transaction = &summary.transaction;
    let [begin, commit] = Serial::of_borders(stream, transaction);
    let mut digits = itoa::Buffer::new();
    let mut records = itoa::Buffer::new();
    let (txid, records) = (digits.format(transaction.xid), records.format(summary.records));
    let (first, last) = (summary.first_lsn, transaction.commit_lsn);
    let before = transaction.previous_commit_lsn.unwrap_or(first);
    let ms = commit_us(transaction).div_euclid(1000);
    let tag = ("records", records);
    let control = |id, lsn, safe, operation| {
        Control { id, ms, lsn, safe, txid, operation, tag }.write(source)
    };
    [
        control(begin, first, before, operation::BEGIN),
        control(commit, last, last, operation::COMMIT),
    ]
}
