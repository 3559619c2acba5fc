//! A change → the pieces that lanes write: partition, lane, part.
//!
//! Routing depends on WAL content and plan only, so every life of the front comes to the same result.

use crate::encode::debezium::Work;
use crate::filter::{Filter, Unjudged};
use crate::partition;
use crate::plan::{Policy, TablePlan};
use crate::row::Row;
use wal::change::Old;
use wal::{Change, ChangeBatch, Datum, Operation, Tuple};

/// What one lane writes of one change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Index into the batch's changes.
    pub change: u32,
    pub lane: u8,
    pub partition: i32,
    pub part: Part,
}

/// Which part of the change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    Whole,
    /// Deletion under the old key of an UPDATE that changed it, or that changed the partition key.
    KeyChangeDelete,
    /// The row under its new key.
    KeyChangeCreate,
    /// An UPDATE after which the object's condition is true, and was not before: a creation.
    Enters,
    /// An UPDATE after which the object's condition is no longer true: a deletion.
    Leaves,
    /// What the condition asks for cannot be read. Whoever encodes it fails: nothing is left out in silence.
    Unjudged,
}

/// Buffers that [`TablePlan::route`] uses again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    key: Vec<u8>,
    other_key: Vec<u8>,
    work: Work,
}

impl TablePlan {
    /// Emits the pieces of one change, in the order in which they must be written.
    ///
    /// Operations that the object does not ask for emit nothing; TRUNCATE goes to every partition;
    /// an UPDATE of the key is a deletion and a creation, each in its key's partition. Of rows for which
    /// the object's condition is not true nothing is emitted.
    pub fn route(
        &self,
        batch: &ChangeBatch,
        change_index: u32,
        scratch: &mut Scratch,
        emit: &mut impl FnMut(Piece),
    ) {
        let Some(change) = batch.changes.get(change_index as usize) else { return };
        if !self.operations.contain(change.operation) {
            return;
        }
        let mut send = |partition: i32, part: Part| {
            emit(Piece { change: change_index, lane: self.lane(partition), partition, part });
        };
        let old = change.old.map(|old| batch.tuple(old.span()));
        let new = change.new.map(|new| batch.tuple(new));
        let part = match &self.filter {
            None => Part::Whole,
            Some(filter) => match judged(filter, change.operation, old, new) {
                Ok(Some(part)) => part,
                Ok(None) => return,
                Err(Unjudged { .. }) => return send(0, Part::Unjudged),
            },
        };
        match change.operation {
            Operation::Read | Operation::Insert => send(self.partition(new, None, scratch), part),
            Operation::Delete => send(self.partition(old, None, scratch), part),
            Operation::Update if part == Part::Enters => {
                send(self.partition(new, old, scratch), part);
            }
            Operation::Update if part == Part::Leaves => {
                send(self.partition(old, new, scratch), part);
            }
            Operation::Update => self.route_update(change, old, new, scratch, &mut send),
            Operation::Truncate => {
                (0..self.partitions()).for_each(|partition| send(partition, part));
            }
        }
    }

    fn route_update(
        &self,
        change: &Change,
        old: Option<Tuple<'_>>,
        new: Option<Tuple<'_>>,
        scratch: &mut Scratch,
        send: &mut impl FnMut(i32, Part),
    ) {
        let after = self.partition(new, old, scratch);
        let (Some(known), Some(row)) = (old, new) else { return send(after, Part::Whole) };
        let sent_other = differs(self.sent_key(), change.old, known, row);
        let split = if sent_other || self.hashes_more_than_key() {
            let before = self.partition(Some(known), Some(row), scratch);
            let mut is_split =
                || self.splits_key_changes && sent_other && self.key_changed(known, row, scratch);
            // The same key in two partitions would have no order: a row that moves does so as a
            // deletion and a creation, whatever the format.
            (before != after || is_split()).then_some(before)
        } else {
            None
        };
        match split {
            Some(before) => {
                send(before, Part::KeyChangeDelete);
                send(after, Part::KeyChangeCreate);
            }
            None => send(after, Part::Whole),
        }
    }

    /// Whether the message key changed: 1.0 and 1.00 can be two texts and one key.
    fn key_changed(&self, before: Tuple<'_>, after: Tuple<'_>, scratch: &mut Scratch) -> bool {
        let Scratch { key, other_key, work } = scratch;
        key.clear();
        other_key.clear();
        let (before, after) = (Row::new(before, Some(after)), Row::new(after, Some(before)));
        self.hashed().hashed(self.sent_key(), &before, work, key);
        self.hashed().hashed(self.sent_key(), &after, work, other_key);
        key != other_key
    }

    fn hashes_more_than_key(&self) -> bool {
        match &self.policy {
            Policy::Fixed(_) => false,
            Policy::Murmur2(columns) | Policy::Java(columns) => **columns != *self.sent_key(),
        }
    }

    /// Partition of a row; what it does not say comes from `other`.
    fn partition(
        &self,
        row: Option<Tuple<'_>>,
        other: Option<Tuple<'_>>,
        scratch: &mut Scratch,
    ) -> i32 {
        let row = Row::new(row.unwrap_or_else(|| Tuple::trusted(&[])), other);
        match &self.policy {
            Policy::Fixed(partition) => *partition,
            Policy::Murmur2(columns) => {
                scratch.key.clear();
                self.hashed().hashed(columns, &row, &mut scratch.work, &mut scratch.key);
                partition::of_murmur2(partition::murmur2(&scratch.key), self.partitions())
            }
            Policy::Java(columns) => {
                let hash = |&index: &usize| match row.value(index) {
                    Datum::Text(text) | Datum::Binary(text) => {
                        partition::java_hash(&String::from_utf8_lossy(text))
                    }
                    Datum::Null | Datum::Unchanged => 0,
                };
                let joined = columns.iter().map(hash).fold(0, std::ops::BitXor::bitxor);
                partition::of_java(joined, self.partitions())
            }
        }
    }
}

/// Which part of a change the condition wants; `None`: nothing. Where no old row was sent, nothing that the
/// condition asks for has changed: it is part of the replica identity.
fn judged(
    filter: &Filter,
    operation: Operation,
    old: Option<Tuple<'_>>,
    new: Option<Tuple<'_>>,
) -> Result<Option<Part>, Unjudged> {
    let judge = |sent: Option<Tuple<'_>>, other| match sent {
        Some(sent) => filter.judge(&Row::new(sent, other)),
        None => Ok(false),
    };
    let is_wanted = match operation {
        Operation::Truncate => true,
        Operation::Read | Operation::Insert => judge(new, None)?,
        Operation::Delete => judge(old, None)?,
        Operation::Update => match (judge(old.or(new), new)?, judge(new, old)?) {
            (false, true) => return Ok(Some(Part::Enters)),
            (true, false) => return Ok(Some(Part::Leaves)),
            (_, after) => after,
        },
    };
    Ok(is_wanted.then_some(Part::Whole))
}

/// Whether another key was sent. "Not sent" is "not changed" (design.md, server fact 18); null in a key
/// tuple means that the column is not part of it (fact 6).
fn differs(key: &[usize], old: Option<Old>, before: Tuple<'_>, after: Tuple<'_>) -> bool {
    let partial = matches!(old, Some(Old::Key(_)));
    let (before, after) = (Row::new(before, None), Row::new(after, None));
    key.iter().any(|&index| {
        let (was, is) = (before.value(index), after.value(index));
        match (was, is) {
            (Datum::Unchanged, _) | (_, Datum::Unchanged) => false,
            (Datum::Null, _) if partial => false,
            (was, is) => was != is,
        }
    })
}
