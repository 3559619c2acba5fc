//! What must hold after every step, each under its own name. Looks only at what is new since the last look.

use super::PARTITIONS;
use super::broker::{Broker, Said, Seen};
use super::copying::has;
use super::postgres::{Act, Key, Rows, Server};
use std::collections::{BTreeMap, BTreeSet};
use wal::Position;

/// A row as a consumer has put it together. `None`: it was never told.
type Told = (u32, Option<u32>);

/// What has been looked at, and what a consumer has made of it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Commits by lane.
    commits: Vec<usize>,
    partitions: Vec<Partition>,
    /// Rows of chunks: plan, files of the table when its reading began, key.
    read: BTreeSet<(String, String, Key)>,
}

#[derive(Clone, Debug, Default)]
struct Partition {
    /// Records looked at, and those of the stream among them.
    shown: usize,
    streamed: usize,
    /// The last record of the stream.
    last: Option<(Position, u64)>,
    rows: BTreeMap<Key, Told>,
    /// By key, where its state was committed, and whether it is gone.
    newest: BTreeMap<Key, (Position, bool)>,
    truncated: Option<Position>,
}

impl Watch {
    /// After every step. `files`: of each chunk, those of its table.
    pub(crate) fn check(
        &mut self,
        broker: &Broker,
        server: &Server,
        files: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        self.commits.resize(broker.lanes.len(), 0);
        self.partitions.resize(broker.partitions.len(), Partition::default());
        for (lane, log) in broker.lanes.iter().enumerate() {
            if 0 < log.uncovered {
                return Err(format!("I2: lane {lane} shows records without a checkpoint"));
            }
            for commit in &log.commits[self.commits[lane]..] {
                let snap = &commit.checkpoint.snap;
                let lacks =
                    |it: &&Option<String>| it.as_ref().is_none_or(|name| !snap.contains(name));
                if let Some(chunk) = commit.chunks.iter().find(lacks) {
                    return Err(format!("C4: lane {lane} shows rows of {chunk:?} without a mark"));
                }
            }
            self.commits[lane] = log.commits.len();
        }
        for (number, shown) in broker.partitions.iter().enumerate() {
            let from = std::mem::replace(&mut self.partitions[number].shown, shown.len());
            for seen in &shown[from..] {
                let looked = match seen.said {
                    Said::Read(row) => {
                        self.a_row_is_read_once(seen, broker, files)?;
                        self.partitions[number].take(seen, server.committed(row.version))
                    }
                    Said::Put { .. } | Said::Deleted | Said::Truncated => {
                        self.partitions[number].the_stream_goes_on(seen)?;
                        self.partitions[number].take(seen, seen.at.0)
                    }
                };
                looked.map_err(|error| format!("{error}, in partition {number}: {seen:?}"))?;
            }
        }
        Ok(())
    }

    /// Each row of what a plan has read of one table file, once; and only of ranges that were written down.
    fn a_row_is_read_once(
        &mut self,
        seen: &Seen,
        broker: &Broker,
        files: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let (Some(chunk), Some(key)) = (&seen.chunk, seen.key) else {
            return Err(format!("C4: a row of no chunk: {seen:?}"));
        };
        let files = files.get(chunk).cloned().unwrap_or_default();
        let ranges = broker.meta.ranges.get(chunk).map_or(&[][..], Vec::as_slice);
        // Once the table is rewritten nothing of it is read again.
        let may_come_again = files == broker.meta.plan.1.files;
        if may_come_again && !ranges.iter().any(|range| has(range, key)) {
            return Err(format!("C5: row {key} of {chunk} is shown, written down is {ranges:?}"));
        }
        let plan = chunk.rsplit_once('/').map_or("", |it| it.0).to_owned();
        if !self.read.insert((plan, files, key)) {
            return Err(format!("C3: row {key} is read twice, last in {chunk}"));
        }
        Ok(())
    }

    /// At the end: a consumer has the rows of the server, and every record of the stream is there.
    pub(crate) fn shows(&mut self, server: &Server) -> Result<(), String> {
        let rows: BTreeMap<Key, Told> =
            self.partitions.iter().flat_map(|it| it.rows.clone()).collect();
        let expected: &Rows = server.rows();
        let expected: BTreeMap<Key, Told> =
            expected.iter().map(|(key, row)| (*key, (row.version, Some(row.text)))).collect();
        if rows != expected {
            return Err(format!("C6: consumers have {rows:?}, the server {expected:?}"));
        }
        let streamed: usize = self.partitions.iter().map(|it| it.streamed).sum();
        let records = server.wal.iter().flat_map(|it| &it.acts).map(records).sum::<usize>();
        if streamed != records {
            return Err(format!("I3: {streamed} records of the stream in place of {records}"));
        }
        Ok(())
    }
}

/// Records that an act is told by.
fn records(act: &Act) -> usize {
    match act {
        Act::Insert(..) | Act::Delete(_) | Act::Update { old: None, .. } => 1,
        Act::Update { old: Some(_), .. } => 2,
        Act::Truncate => usize::try_from(PARTITIONS).expect("few"),
    }
}

impl Partition {
    fn the_stream_goes_on(&mut self, seen: &Seen) -> Result<(), String> {
        if self.last.is_some_and(|last| seen.at <= last) {
            return Err(format!("I3: {:?} follows {:?}", seen.at, self.last));
        }
        self.last = Some(seen.at);
        self.streamed += 1;
        Ok(())
    }

    /// A consumer takes a record whose state was committed `at`.
    fn take(&mut self, seen: &Seen, at: Position) -> Result<(), String> {
        let Some(key) = seen.key else {
            self.rows.clear();
            self.newest.values_mut().for_each(|it| *it = (at.max(it.0), true));
            self.truncated = Some(at);
            return Ok(());
        };
        let truncated = self.truncated.map(|it| (it, true));
        let (newest, is_gone) =
            self.newest.get(&key).copied().or(truncated).unwrap_or((Position::ZERO, false));
        if at < newest {
            let name =
                if is_gone { "C2: a row that is gone comes back" } else { "C1: an older state" };
            return Err(format!("{name}, {at} after {newest}"));
        }
        self.newest.insert(key, (at, matches!(seen.said, Said::Deleted)));
        match seen.said {
            Said::Read(row) => drop(self.rows.insert(key, (row.version, Some(row.text)))),
            Said::Put { version, text } => {
                let before = self.rows.get(&key).and_then(|it| it.1);
                self.rows.insert(key, (version, text.or(before)));
            }
            Said::Deleted | Said::Truncated => drop(self.rows.remove(&key)),
        }
        Ok(())
    }
}
