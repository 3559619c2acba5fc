//! Record headers by which an event is known (interface.md, "Record headers").

use super::event::Event;
use crate::json;
use std::io::Write as _;
use wal::{ChangeBatch, Transaction};

/// The headers of a record are at most so many: ours, and one that the format adds.
const HEADERS_MAX: usize = 4;

/// What [`Marks::of`] gives.
pub(super) type Headers<'a> = ([(&'a str, &'a [u8]); HEADERS_MAX], usize);

/// Writes `distributary.task`, `.lsn`, and `.seq` or `.snapshot`.
#[derive(Debug)]
pub(super) struct Marks {
    task: Box<str>,
    /// `sink.headers`.
    wanted: bool,
    lsn: Vec<u8>,
    seq: Vec<u8>,
}

impl Marks {
    pub(super) fn new(task: &str, wanted: bool) -> Self {
        Self { task: task.into(), wanted, lsn: Vec::new(), seq: Vec::new() }
    }

    /// The next events are of this transaction.
    pub(super) fn begin(&mut self, transaction: &Transaction) {
        self.lsn.clear();
        // Writing to a vector cannot fail.
        let _ = write!(self.lsn, "{}", transaction.commit_lsn);
    }

    /// The next record is the one with this number among those of its change.
    pub(super) fn number(&mut self, ordinal: u64, part: Option<i32>) {
        self.seq.clear();
        json::integer(ordinal, &mut self.seq);
        if let Some(part) = part {
            self.seq.push(b'.');
            json::integer(part, &mut self.seq);
        }
    }

    /// The headers of the record, the format's own one first.
    pub(super) fn of<'a>(
        &'a self,
        event: &Event<'_>,
        batch: &'a ChangeBatch,
        own: Option<(&'static str, &'a [u8])>,
    ) -> Headers<'a> {
        let mut headers: [(&str, &[u8]); HEADERS_MAX] = [("", &[]); HEADERS_MAX];
        let mut count = 0;
        if let Some(own) = own {
            headers[count] = own;
            count += 1;
        }
        if self.wanted {
            let ours = self.all(event, batch);
            headers[count..count + ours.len()].copy_from_slice(&ours);
            count += ours.len();
        }
        (headers, count)
    }

    /// Ours, wanted or not; the one that differs most comes last.
    pub(super) fn all<'a>(
        &'a self,
        event: &Event<'_>,
        batch: &'a ChangeBatch,
    ) -> [(&'a str, &'a [u8]); 3] {
        // Rows of a snapshot, and the truncates that announce one that begins again.
        let last = match (event.transaction.xid, &batch.snapshot) {
            (0, Some(id)) => ("distributary.snapshot", id.as_bytes()),
            // One without a name is known by its place in the stream.
            (0, None) => ("distributary.snapshot", self.lsn.as_slice()),
            _ => ("distributary.seq", self.seq.as_slice()),
        };
        [("distributary.task", self.task.as_bytes()), ("distributary.lsn", &self.lsn), last]
    }
}
