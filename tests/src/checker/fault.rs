//! What the checker finds.

use crate::reader::Record;
use std::collections::BTreeMap;
use std::fmt;

/// Kinds of faults.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A record is not what the format says.
    Unreadable,
    /// The same (task, lsn, seq) twice.
    Doubled,
    /// A record stands before an older one in its partition.
    OutOfOrder,
    /// A number in a transaction never came.
    OrdinalMissing,
    /// A TRUNCATE did not come in every partition.
    TruncateIncomplete,
    /// A delete without its tombstone, or a tombstone without its delete.
    Tombstone,
    /// A key change without one of its halves.
    KeyChangeHalf,
    /// A row that was there was inserted again.
    InsertedTwice,
    /// An update or delete of a row that was not there.
    RowUnknown,
    /// The row before a change is not the one that was there.
    BeforeDiffers,
    /// The server has the row; the topics do not.
    Missing,
    /// The topics have a row that the server does not have.
    Phantom,
    /// The row is another one.
    Altered,
    /// A lane's checkpoint, or the low watermark, is not what must follow the one before.
    Checkpoint,
}

/// One fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub kind: Kind,
    pub text: String,
}

/// Everything that one check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Records that were looked at.
    pub records: usize,
    /// Rows that were compared.
    pub rows: usize,
    /// Snapshots that were begun, as far as they left records.
    pub snapshots: usize,
    /// Rows that were read again, though they were there and no change had come since.
    pub read_again: usize,
    pub faults: Vec<Fault>,
}

impl Report {
    pub(super) fn add(&mut self, kind: Kind, record: &Record, text: impl fmt::Display) {
        let Record { topic, partition, offset, .. } = record;
        self.faults.push(Fault { kind, text: format!("{topic}[{partition}]@{offset}: {text}") });
    }

    pub(super) fn add_row(&mut self, kind: Kind, text: String) {
        self.faults.push(Fault { kind, text });
    }

    /// Number of faults of each kind.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for fault in &self.faults {
            *kinds.entry(fault.kind).or_default() += 1;
        }
        kinds
    }

    /// # Panics
    /// When there are faults, with their numbers and the first of each kind.
    #[track_caller]
    pub fn assert_clean(&self) {
        const SHOWN: usize = 4;
        if self.faults.is_empty() {
            return;
        }
        let kinds = self.kinds();
        let mut text =
            format!("{} faults in {} records: {kinds:?}", self.faults.len(), self.records);
        for kind in kinds.keys() {
            let of_kind = self.faults.iter().filter(|fault| fault.kind == *kind);
            for fault in of_kind.take(SHOWN) {
                let shown: String = fault.text.chars().take(1500).collect();
                text.push_str(&format!("\n{kind:?}: {shown}"));
            }
        }
        panic!("{text}");
    }
}
