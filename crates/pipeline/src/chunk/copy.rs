//! Which parts of a table are read, being read, and durable.
//!
//! A table is cut into segments, for several connections; a segment is read chunk by chunk in the order of
//! the key, which is the server's own: nothing here compares keys. What a chunk holds is decided by reading
//! it, and is written down before its rows are emitted ([`Copy::record`]): after a crash the same range is
//! read again under the same number, and lanes that hold that number leave it out.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Version of [`Record`].
pub const VERSION: u32 = 1;

/// The key of a row as text, one for each column, as the server prints and reads it.
pub type Key = Vec<Box<str>>;

/// Rows after `after`, or from the first, up to and including `upto`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Range {
    pub after: Option<Key>,
    pub upto: Key,
}

/// The durable state of a table that is copied.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    pub v: u32,
    pub schema: String,
    pub table: String,
    /// Without what inherits from it.
    pub only: bool,
    /// Columns of the key, in its order.
    pub key: Vec<Box<str>>,
    /// Files of the table and its partitions when reading began: others mean that it was rewritten. Empty:
    /// reading has not begun.
    pub files: String,
    /// What is not cut yet.
    pub tail: Option<Range>,
    /// What is cut and not read.
    pub segments: Vec<Range>,
    /// Read, and maybe not durable in every lane.
    pub chunks: BTreeMap<u64, Range>,
    /// Of the next chunk; numbers are used once in the life of the snapshot.
    pub next: u64,
    /// Read so far, what was read again included.
    pub rows: u64,
    pub bytes: u64,
    pub done: bool,
    /// The server's estimate of its rows when it was asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimate: u64,
    /// Number of the order that asked for it; `None`: it is a part of the task's first snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
    /// Only these rows, as the order has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Why it is not copied, or not any further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Record {
    /// Of a table that is to be copied.
    #[must_use]
    pub fn waiting(schema: &str, table: &str, only: bool) -> Self {
        Self {
            v: VERSION,
            schema: schema.into(),
            table: table.into(),
            only,
            key: Vec::new(),
            files: String::new(),
            tail: None,
            segments: Vec::new(),
            chunks: BTreeMap::new(),
            next: 1,
            rows: 0,
            bytes: 0,
            done: false,
            estimate: 0,
            asked: None,
            condition: None,
            refused: None,
        }
    }

    /// Of what an order asked for and cannot be copied.
    #[must_use]
    pub fn refused(self, why: String) -> Self {
        Self { done: true, refused: Some(why), ..self }
    }
}

/// What a connection is to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Work {
    /// Find where a segment of this may end, and say so by [`Copy::cut`].
    Cut(Range),
    /// Read the next chunk of it, and say how far it goes by [`Copy::read`].
    Read(Range),
    /// A crash has left open whether it is durable: read the whole of it under its number.
    Redo(u64, Range),
}

/// A table that is being copied.
#[derive(Clone, Debug)]
pub struct Copy {
    record: Record,
    /// Taken by a connection; belongs to what is not read.
    taken: Vec<Range>,
    cutting: bool,
    redo: VecDeque<u64>,
    /// Times that it was begun: what belongs to an older one does not count.
    epoch: u64,
}

impl Copy {
    /// Goes on where a crash has left it.
    #[must_use]
    pub fn restored(record: Record) -> Self {
        let redo = record.chunks.keys().copied().collect();
        Self { record, taken: Vec::new(), cutting: false, redo, epoch: 0 }
    }

    /// What is to be durable before the next rows are emitted.
    #[must_use]
    pub fn record(&self) -> Record {
        let mut record = self.record.clone();
        record.segments.extend(self.taken.iter().cloned());
        record
    }

    /// How far it is: as [`Self::record`], without a copy and without what is taken by connections.
    #[must_use]
    pub fn progress(&self) -> &Record {
        &self.record
    }

    /// Something to do for a connection that has nothing. `None`: nothing now; others may be busy.
    pub fn take(&mut self) -> Option<Work> {
        if let Some(number) = self.redo.pop_front() {
            let range = self.record.chunks.get(&number)?;
            return Some(Work::Redo(number, range.clone()));
        }
        if let Some(range) = self.record.segments.pop() {
            self.taken.push(range.clone());
            return Some(Work::Read(range));
        }
        let tail = self.record.tail.clone().filter(|_| !self.cutting)?;
        self.cutting = true;
        Some(Work::Cut(tail))
    }

    /// The tail is cut after `at`; `None`: what is left is one segment. It waits to be taken.
    pub fn cut(&mut self, at: Option<Key>) {
        self.cutting = false;
        let Some(tail) = self.record.tail.take() else { return };
        let Some(at) = at.filter(|at| *at != tail.upto) else {
            self.record.segments.push(tail);
            return;
        };
        self.record.segments.push(Range { after: tail.after, upto: at.clone() });
        self.record.tail = Some(Range { after: Some(at), upto: tail.upto });
    }

    /// A chunk of a segment that was taken was read up to and including `upto`; `None`: to the segment's end.
    /// The rest waits to be taken. Gives the chunk's number.
    pub fn read(&mut self, range: &Range, upto: Option<Key>, rows: u64, bytes: u64) -> u64 {
        self.taken.retain(|it| it != range);
        let number = self.record.next;
        self.record.next += 1;
        let upto = upto.unwrap_or_else(|| range.upto.clone());
        if upto != range.upto {
            let rest = Range { after: Some(upto.clone()), upto: range.upto.clone() };
            self.record.segments.push(rest);
        }
        self.record.chunks.insert(number, Range { after: range.after.clone(), upto });
        self.record.rows += rows;
        self.record.bytes += bytes;
        number
    }

    /// A task could not be done: somebody else may take it.
    pub fn give_back(&mut self, task: Work) {
        match task {
            Work::Cut(_) => self.cutting = false,
            Work::Read(range) => {
                self.taken.retain(|it| *it != range);
                self.record.segments.push(range);
            }
            Work::Redo(number, _) => self.redo.push_front(number),
        }
    }

    /// A chunk is durable in every lane.
    pub fn settled(&mut self, number: u64) {
        self.record.chunks.remove(&number);
        let Record { tail, segments, chunks, .. } = &self.record;
        self.record.done =
            tail.is_none() && segments.is_empty() && self.taken.is_empty() && chunks.is_empty();
    }

    /// Reading begins, or begins again because the table was rewritten or has another key now: everything is
    /// read, under new numbers. `last`: the last key; `None`: the table is empty.
    pub fn begin(&mut self, key: Vec<Box<str>>, files: String, last: Option<Key>) {
        let done = last.is_none();
        let tail = last.map(|upto| Range { after: None, upto });
        let (segments, chunks) = (Vec::new(), BTreeMap::new());
        let record = self.record.clone();
        self.record = Record { key, files, tail, segments, chunks, done, ..record };
        self.taken.clear();
        self.redo.clear();
        self.cutting = false;
        self.epoch += 1;
    }

    /// There is nothing to copy any more: the table is gone, not selected, or cannot be read as it was asked for.
    pub fn give_up(&mut self, why: &str) {
        self.begin(Vec::new(), String::new(), None);
        self.record.refused = Some(why.into());
    }

    /// The rows of a chunk could not be merged: it is read again, under its number.
    pub fn redo(&mut self, number: u64) {
        if self.record.chunks.contains_key(&number) {
            self.redo.push_back(number);
        }
    }

    /// Numbers of the chunks that may not be durable in every lane.
    pub fn open(&self) -> impl Iterator<Item = u64> {
        self.record.chunks.keys().copied()
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Only these rows are wanted.
    #[must_use]
    pub fn condition(&self) -> Option<&str> {
        self.record.condition.as_deref()
    }

    /// Number of the order that asked for it.
    #[must_use]
    pub fn asked(&self) -> Option<u64> {
        self.record.asked
    }

    /// Files of the table when reading began; empty: it has not.
    #[must_use]
    pub fn files(&self) -> &str {
        &self.record.files
    }

    /// Columns of the key.
    #[must_use]
    pub fn key(&self) -> &[Box<str>] {
        &self.record.key
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        self.record.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Keys are numbers here; the server of the test compares them.
    fn key(number: u32) -> Key {
        vec![number.to_string().into()]
    }

    fn number(key: &Key) -> u32 {
        key.concat().parse().expect("a number")
    }

    fn rows(range: &Range) -> impl Iterator<Item = u32> {
        range.after.as_ref().map_or(1, |it| number(it) + 1)..=number(&range.upto)
    }

    fn copy(last: u32) -> Copy {
        let mut copy = Copy::restored(Record::waiting("public", "t", true));
        copy.begin(vec!["id".into()], "1".into(), (last != 0).then(|| key(last)));
        copy
    }

    #[test]
    fn an_empty_table_is_done_at_once() {
        assert!(copy(0).is_done());
        assert_eq!(copy(0).take(), None);
    }

    #[test]
    fn connections_read_segments_side_by_side() {
        let mut copy = copy(100);
        let Some(Work::Cut(tail)) = copy.take() else { panic!("nothing is cut yet") };
        assert_eq!(tail, Range { after: None, upto: key(100) });
        assert_eq!(copy.take(), None, "one cuts at a time");
        copy.cut(Some(key(60)));
        let first = Range { after: None, upto: key(60) };
        assert_eq!(copy.take(), Some(Work::Read(first.clone())));
        assert!(matches!(copy.take(), Some(Work::Cut(_))));
        copy.cut(None);
        assert_eq!(copy.read(&first, Some(key(10)), 10, 100), 1);
        let rest = Range { after: Some(key(10)), upto: key(60) };
        assert_eq!(copy.take(), Some(Work::Read(rest)));
        assert_eq!(copy.take(), Some(Work::Read(Range { after: Some(key(60)), upto: key(100) })));
        assert_eq!(copy.take(), None);
    }

    #[test]
    fn a_chunk_is_read_again_whole_and_under_its_number() {
        let mut copy = copy(10);
        copy.take();
        copy.cut(None);
        let Some(Work::Read(range)) = copy.take() else { panic!("a segment") };
        let number = copy.read(&range, Some(key(4)), 4, 40);
        let mut again = Copy::restored(copy.record());
        let chunk = Range { after: None, upto: key(4) };
        assert_eq!(again.take(), Some(Work::Redo(number, chunk.clone())));
        again.give_back(Work::Redo(number, chunk.clone()));
        assert_eq!(again.take(), Some(Work::Redo(number, chunk)));
        let rest = Range { after: Some(key(4)), upto: key(10) };
        assert_eq!(again.take(), Some(Work::Read(rest)));
    }

    #[test]
    fn a_table_that_was_rewritten_begins_again_under_new_numbers() {
        let mut copy = copy(10);
        copy.take();
        copy.cut(None);
        let Some(Work::Read(range)) = copy.take() else { panic!("a segment") };
        copy.read(&range, None, 10, 100);
        copy.begin(vec!["id".into()], "2".into(), Some(key(12)));
        assert!(!copy.is_done() && copy.open().next().is_none());
        assert_eq!((copy.record().next, copy.record().rows), (2, 10));
        copy.settled(1);
        assert!(!copy.is_done(), "what was read of the old file settles nothing");
    }

    /// Frozen: a later release goes on with what this one has begun.
    #[test]
    fn the_bytes_of_a_record_do_not_change() {
        let mut copy = copy(9);
        copy.take();
        copy.cut(Some(key(5)));
        let Some(Work::Read(range)) = copy.take() else { panic!("a segment") };
        copy.read(&range, Some(key(2)), 2, 20);
        let json = serde_json::to_string(&copy.record()).expect("JSON");
        let golden = concat!(
            r#"{"v":1,"schema":"public","table":"t","only":true,"key":["id"],"files":"1","#,
            r#""tail":{"after":["5"],"upto":["9"]},"segments":[{"after":["2"],"upto":["5"]}],"#,
            r#""chunks":{"1":{"after":null,"upto":["2"]}},"next":2,"rows":2,"bytes":20,"#,
            r#""done":false}"#
        );
        assert_eq!(json, golden);
        assert_eq!(serde_json::from_str::<Record>(golden).expect("reads"), copy.record());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Take,
        /// Finish the task of one connection: cut or read so many rows.
        Finish(usize, u32),
        GiveBack(usize),
        Settle,
        /// Only what was written down is left; `true`: the newest chunk had been emitted by no lane.
        Crash,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Take),
            6 => (0usize..4, 1u32..20).prop_map(|(which, count)| Step::Finish(which, count)),
            1 => (0usize..4).prop_map(Step::GiveBack),
            2 => Just(Step::Settle),
            1 => Just(Step::Crash),
        ]
    }

    proptest! {
        /// Every row is emitted; a number always means the same rows; no row has two numbers.
        #[test]
        fn nothing_is_left_out_and_nothing_is_read_twice(
            last in 0u32..120, steps in prop::collection::vec(step(), 0..150)
        ) {
            let mut copy = copy(last);
            let mut durable = copy.record();
            let mut busy: Vec<Work> = Vec::new();
            let mut emitted: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            let mut steps = steps.into_iter();
            for _ in 0..2000 {
                if copy.is_done() {
                    break;
                }
                // After the random steps the copy is driven to its end.
                let step = steps.next().unwrap_or(match busy.len() {
                    0 => Step::Take,
                    _ => Step::Finish(0, 7),
                });
                match step {
                    Step::Take => match copy.take() {
                        Some(task) => busy.push(task),
                        None if busy.is_empty() => {
                            let open: Vec<u64> = copy.open().collect();
                            open.into_iter().for_each(|number| copy.settled(number));
                        }
                        None => {}
                    },
                    Step::Finish(which, count) if which < busy.len() => match busy.remove(which) {
                        Work::Cut(tail) => copy.cut(rows(&tail).nth(count as usize).map(key)),
                        Work::Read(range) => {
                            let upto = rows(&range).nth(count as usize - 1);
                            let upto = upto.filter(|it| *it != number(&range.upto)).map(key);
                            let chunk = Range {
                                after: range.after.clone(),
                                upto: upto.clone().unwrap_or_else(|| range.upto.clone()),
                            };
                            let number = copy.read(&range, upto, 0, 0);
                            durable = copy.record();
                            prop_assert!(emitted.insert(number, rows(&chunk).collect()).is_none());
                        }
                        Work::Redo(number, range) => {
                            prop_assert_eq!(&emitted[&number], &rows(&range).collect::<Vec<_>>());
                        }
                    },
                    Step::GiveBack(which) if which < busy.len() => {
                        let task = busy.remove(which);
                        copy.give_back(task);
                    }
                    Step::Settle => {
                        let oldest = copy.open().next();
                        if let Some(number) = oldest {
                            copy.settled(number);
                            durable = copy.record();
                        }
                    }
                    Step::Crash => {
                        busy.clear();
                        copy = Copy::restored(durable.clone());
                    }
                    Step::Finish(..) | Step::GiveBack(_) => {}
                }
            }
            prop_assert!(copy.is_done());
            let all: Vec<u32> = emitted.values().flatten().copied().collect();
            prop_assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
            prop_assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), (1..=last).collect());
        }
    }
}
