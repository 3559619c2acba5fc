//! Which rows of a chunk may still be emitted, and when.
//!
//! A window is opened before the snapshot of its chunk is taken, so that nothing routed since can be missed.
//! A commit is streamed before snapshots can see it: what was routed before the window was opened must be
//! seen by the snapshot, else the chunk is read again.

use super::key::{RowKey, Touch, key_columns, row_key, touches};
use std::collections::{BTreeMap, HashSet, VecDeque};
use wal::{ChangeBatch, Lsn, Visibility};

/// Transactions and their tables that are remembered from before a window.
const RECENT_MAX: usize = 1 << 16;
/// Keys that one window may remember; with more, its chunk is read again.
const TOUCHED_BYTES_MAX: usize = 16 << 20;
/// What a key takes beside its bytes.
const KEY_OVERHEAD: usize = 48;

/// Name of a window.
pub type Ticket = u64;

/// The stream as chunks see it, and the chunks that wait for their place in it.
#[derive(Clone, Debug, Default)]
pub struct Merge {
    recent: Recent,
    windows: BTreeMap<Ticket, Window>,
    /// What commits before this is routed.
    place: Lsn,
    /// The last batch ended inside a transaction.
    in_transaction: bool,
}

/// What a snapshot was found to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Marked {
    /// The chunk can be merged.
    Clean,
    /// Something that the stream has told already is not seen: take another snapshot, a little later.
    Dirty,
}

/// What becomes of the rows of a chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The stream has not come far enough.
    Wait,
    /// Those left stand at `place`; the others are told by the stream.
    Emit { place: Lsn, left_out: u64 },
    /// Read the chunk again.
    Again,
}

/// Transactions whose changes were routed, by table.
#[derive(Clone, Debug, Default)]
struct Recent {
    entries: VecDeque<(u32, u32)>,
    /// One that was dropped; older ones are below it or were seen.
    forgotten: Option<u32>,
}

#[derive(Clone, Debug)]
struct Window {
    oid: u32,
    key: Vec<Box<str>>,
    /// Transactions that had touched the table before.
    before: Vec<u32>,
    /// One that was forgotten before, see [`Recent`]. Snapshots are marked as their answers come: a later one says nothing
    /// of what an earlier one sees.
    forgotten: Option<u32>,
    /// What they say before the snapshot is known, with their transaction.
    early: Vec<(u32, Touch)>,
    snapshot: Option<(Visibility, Lsn)>,
    touched: HashSet<RowKey>,
    partly: HashSet<RowKey>,
    truncated: bool,
    again: bool,
    bytes: usize,
}

impl Merge {
    /// Transactions below `xid` may have been routed in an earlier life, and may not be visible yet: no snapshot
    /// is clean before all of them are over.
    pub fn routed_before(&mut self, xid: u32) {
        self.recent.forget(xid);
    }

    /// A batch of the stream was routed.
    pub fn route(&mut self, batch: &ChangeBatch) {
        for change in &batch.changes {
            let (xid, oid) = (batch.transaction(change).xid, batch.table(change).oid);
            self.recent.note(xid, oid);
            for window in self.windows.values_mut().filter(|it| it.oid == oid) {
                let Window { key, .. } = window;
                let key = std::mem::take(key);
                touches(batch, change, &key, &mut |touch| window.note(xid, touch));
                window.key = key;
            }
        }
        self.place =
            self.place.max(batch.committed_end_lsn.max(batch.idle_until).unwrap_or_default());
        self.in_transaction = !batch.ends_transaction;
    }

    /// Begins to note what happens to the rows of a table. The snapshot must be taken after this.
    pub fn open(&mut self, ticket: Ticket, oid: u32, key: Vec<Box<str>>) {
        let before = self.recent.of(oid);
        let window = Window {
            oid,
            key,
            before,
            forgotten: self.recent.forgotten,
            early: Vec::new(),
            snapshot: None,
            touched: HashSet::new(),
            partly: HashSet::new(),
            truncated: false,
            again: false,
            bytes: 0,
        };
        self.windows.insert(ticket, window);
    }

    /// The snapshot that was taken, and the end of the WAL right after.
    pub fn mark(&mut self, ticket: Ticket, snapshot: Visibility, high: Lsn) -> Marked {
        self.recent.seen_by(&snapshot);
        let Some(window) = self.windows.get_mut(&ticket) else { return Marked::Dirty };
        if window.forgotten.is_some_and(|xid| is_unsure(xid, &snapshot))
            || window.before.iter().any(|&xid| !snapshot.sees(xid))
        {
            self.windows.remove(&ticket);
            return Marked::Dirty;
        }
        window.before = Vec::new();
        window.snapshot = Some((snapshot, high));
        window.bytes = 0;
        for (xid, touch) in std::mem::take(&mut window.early) {
            window.note(xid, touch);
        }
        Marked::Clean
    }

    /// Leaves in `rows` what may still be said, once its place has come. The window is closed then.
    pub fn emit(&mut self, ticket: Ticket, rows: &mut ChangeBatch) -> Verdict {
        let Some(window) = self.windows.get(&ticket) else { return Verdict::Again };
        let Some((_, high)) = &window.snapshot else { return Verdict::Again };
        if !window.again && (self.in_transaction || self.place < *high) {
            return Verdict::Wait;
        }
        let verdict = window.leave(rows, self.place);
        self.windows.remove(&ticket);
        verdict
    }

    /// The chunk is given up.
    pub fn close(&mut self, ticket: Ticket) {
        self.windows.remove(&ticket);
    }

    /// Windows that are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.windows.len()
    }
}

impl Recent {
    fn note(&mut self, xid: u32, oid: u32) {
        if self.entries.back() == Some(&(xid, oid)) {
            return;
        }
        if self.entries.len() == RECENT_MAX
            && let Some((xid, _)) = self.entries.pop_front()
        {
            self.forget(xid);
        }
        self.entries.push_back((xid, oid));
    }

    fn forget(&mut self, xid: u32) {
        // Ids wrap around: the later of two is less than half a turn ahead.
        let is_later = |before: u32| xid.wrapping_sub(before) < 1 << 31;
        if self.forgotten.is_none_or(is_later) {
            self.forgotten = Some(xid);
        }
    }

    fn of(&self, oid: u32) -> Vec<u32> {
        self.entries.iter().filter(|it| it.1 == oid).map(|it| it.0).collect()
    }

    /// What one snapshot sees, every later one sees.
    fn seen_by(&mut self, snapshot: &Visibility) {
        self.entries.retain(|&(xid, _)| !snapshot.sees(xid));
        self.forgotten = self.forgotten.filter(|&xid| is_unsure(xid, snapshot));
    }
}

/// Whether one that was forgotten, or one before it, may be invisible.
fn is_unsure(forgotten: u32, snapshot: &Visibility) -> bool {
    !snapshot.is_past(forgotten.wrapping_add(1))
}

impl Window {
    fn note(&mut self, xid: u32, touch: Touch) {
        if self.again {
            return;
        }
        self.bytes += KEY_OVERHEAD
            + match &touch {
                Touch::Row(key) | Touch::Part(key) => key.len(),
                Touch::Table | Touch::Unknown => 0,
            };
        match &self.snapshot {
            None => self.early.push((xid, touch)),
            Some((snapshot, _)) if snapshot.sees(xid) => {}
            Some(_) => match touch {
                Touch::Row(key) => drop(self.touched.insert(key)),
                Touch::Part(key) => drop(self.partly.insert(key)),
                Touch::Table => self.truncated = true,
                Touch::Unknown => self.again = true,
            },
        }
        if TOUCHED_BYTES_MAX < self.bytes {
            self.again = true;
            (self.early, self.touched, self.partly) = (Vec::new(), HashSet::new(), HashSet::new());
        }
    }

    fn leave(&self, rows: &mut ChangeBatch, place: Lsn) -> Verdict {
        let count = rows.changes.len();
        if self.again {
            return Verdict::Again;
        }
        if self.truncated {
            rows.changes.clear();
        } else if !self.touched.is_empty() || !self.partly.is_empty() {
            let mut again = false;
            let mut changes = std::mem::take(&mut rows.changes);
            changes.retain(|change| {
                let columns = key_columns(rows.table(change));
                let key = change.new.zip(columns);
                let key = key.and_then(|(new, columns)| row_key(rows.tuple(new), None, columns));
                // The stream has told only what has changed of it: the rest must be read.
                again |= key.as_ref().is_none_or(|key| self.partly.contains(key));
                key.is_some_and(|key| !self.touched.contains(&key))
            });
            rows.changes = changes;
            if again {
                return Verdict::Again;
            }
        }
        for transaction in &mut rows.transactions {
            transaction.commit_lsn = place;
        }
        for change in &mut rows.changes {
            change.lsn = place;
        }
        Verdict::Emit { place, left_out: (count - rows.changes.len()) as u64 }
    }
}
