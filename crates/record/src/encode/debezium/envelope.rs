//! Key, envelope, tombstone and headers of one piece.

use super::stamp::{ClockBytes, TransactionBytes};
use super::template::{RowError, Template};
use super::values::Work;
use crate::Record;
use crate::encode::EncodeError;
use crate::json;
use crate::plan::{TablePlan, TaskPlan};
use crate::route::{Part, Piece, tuple};
use wal::change::Old;
use wal::{Change, ChangeBatch, Operation, Tuple};

/// Encodes pieces of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    task: Box<str>,
    headers: bool,
    tombstones: bool,
    transaction: TransactionBytes,
    clock: ClockBytes,
    work: Work,
    key: Vec<u8>,
    other_key: Vec<u8>,
    value: Vec<u8>,
    seq: Vec<u8>,
}

/// The rows and the word of one event.
#[derive(Clone, Copy)]
struct Event<'a> {
    op: u8,
    before: Option<Tuple<'a>>,
    after: Option<Tuple<'a>>,
    /// Fills what `after` does not say.
    fill: Option<Tuple<'a>>,
    /// Row of the key and what fills it; `None`: null key.
    key: Option<(Tuple<'a>, Option<Tuple<'a>>)>,
    /// Header that names the other key of a key change.
    other_key: Option<(&'static str, Tuple<'a>, Option<Tuple<'a>>)>,
    /// A tombstone follows.
    tombstone: bool,
    /// Number of the first record among those of its change.
    part: Option<i32>,
}

impl Encoder {
    pub(crate) fn new(task: &TaskPlan) -> Self {
        Self {
            task: task.task.clone(),
            headers: task.headers,
            tombstones: task.options.tombstones,
            transaction: TransactionBytes::new(&task.prefix, &task.database),
            clock: ClockBytes::default(),
            work: Work::default(),
            key: Vec::new(),
            other_key: Vec::new(),
            value: Vec::new(),
            seq: Vec::new(),
        }
    }

    pub(crate) fn encode<E>(
        &mut self,
        plan: &TablePlan,
        batch: &ChangeBatch,
        piece: &Piece,
        now_us: i64,
        sink: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), EncodeError<E>> {
        let Some(change) = batch.changes.get(piece.change as usize) else {
            return Err(EncodeError::NoSuchChange { change: piece.change });
        };
        let Some(transaction) = batch.transactions.get(change.transaction as usize) else {
            return Err(EncodeError::NoSuchChange { change: piece.change });
        };
        self.transaction.prepare(transaction);
        self.clock.prepare(now_us);
        let event = self.event(plan, batch, change, piece);
        self.render(&plan.template, &event, change)
            .map_err(|RowError { column, error }| EncodeError::value(plan, column, error))?;
        let record = |key, value| Record {
            topic: plan.topic(),
            partition: piece.partition,
            key,
            value,
            headers: &[],
            timestamp_ms: self.transaction.timestamp_ms,
        };
        let key = event.key.map(|_| self.key.as_slice());
        // Rows of a snapshot, and the truncates that announce one that begins again.
        let snapshot = (transaction.xid == 0).then(|| match &batch.snapshot {
            Some(id) => id.as_bytes(),
            // One without a name is known by its place in the stream.
            None => self.transaction.lsn.as_slice(),
        });
        seq(&mut self.seq, change.ordinal, event.part);
        self.send(&event, snapshot, record(key, Some(&self.value)), sink)?;
        if event.tombstone {
            seq(&mut self.seq, change.ordinal, event.part.map(|part| part + 1));
            self.send(&event, snapshot, record(key, None), sink)?;
        }
        Ok(())
    }

    /// What one piece says.
    fn event<'a>(
        &self,
        plan: &TablePlan,
        batch: &'a ChangeBatch,
        change: &Change,
        piece: &Piece,
    ) -> Event<'a> {
        let new = tuple(batch, change.new);
        let old = tuple(batch, change.old.map(Old::span));
        let keyed = !plan.key().is_empty();
        let key = |row: Option<Tuple<'a>>, fill| row.filter(|_| keyed).map(|row| (row, fill));
        let inserted = |op| Event {
            op,
            before: None,
            after: new,
            fill: old,
            key: key(new, old),
            other_key: None,
            tombstone: false,
            part: None,
        };
        let deleted = Event {
            op: b'd',
            before: old,
            after: None,
            fill: new,
            key: key(old, new),
            other_key: None,
            tombstone: self.tombstones,
            part: self.tombstones.then_some(0),
        };
        match (change.operation, piece.part) {
            (Operation::Read, _) => inserted(b'r'),
            (Operation::Insert, _) => inserted(b'c'),
            (Operation::Update, Part::Whole) => {
                let logged = matches!(change.old, Some(Old::Row(_)));
                Event { before: old.filter(|_| logged), ..inserted(b'u') }
            }
            (Operation::Update, Part::KeyChangeDelete) => {
                let new_key = key(new, old).map(|(row, fill)| ("__debezium.newkey", row, fill));
                Event { other_key: new_key, part: Some(0), ..deleted }
            }
            (Operation::Update, Part::KeyChangeCreate) => {
                let old_key = key(old, new).map(|(row, fill)| ("__debezium.oldkey", row, fill));
                Event { other_key: old_key, part: Some(2), ..inserted(b'c') }
            }
            (Operation::Delete, _) => deleted,
            (Operation::Truncate, _) => {
                let several = 1 < plan.partitions();
                Event { part: several.then_some(piece.partition), ..inserted(b't') }
            }
        }
    }

    /// Fills the buffers of key, other key and value.
    fn render(
        &mut self,
        template: &Template,
        event: &Event<'_>,
        change: &Change,
    ) -> Result<(), RowError> {
        let work = &mut self.work;
        self.key.clear();
        if let Some((row, fill)) = event.key {
            template.key_of(row, fill, work, &mut self.key)?;
        }
        self.other_key.clear();
        if let Some((_, row, fill)) = event.other_key {
            template.key_of(row, fill, work, &mut self.other_key)?;
        }
        let out = &mut self.value;
        out.clear();
        out.extend_from_slice(&template.value_open);
        match event.before {
            Some(row) => template.row(row, event.fill, work, out)?,
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"after\":");
        match event.after {
            Some(row) => template.row(row, event.fill, work, out)?,
            None => out.extend_from_slice(b"null"),
        }
        let mut number = itoa::Buffer::new();
        let lsn = number.format(change.lsn.0).as_bytes();
        out.extend_from_slice(&self.transaction.head);
        out.extend_from_slice(lsn);
        out.extend_from_slice(&self.transaction.middle);
        out.extend_from_slice(&template.source_table);
        out.extend_from_slice(&self.transaction.tail);
        out.extend_from_slice(lsn);
        out.extend_from_slice(b",\"xmin\":null},\"transaction\":null,\"op\":\"");
        out.push(event.op);
        out.extend_from_slice(&self.clock.bytes);
        out.extend_from_slice(template.value_close);
        Ok(())
    }

    /// Adds the headers and hands the record over.
    fn send<E>(
        &self,
        event: &Event<'_>,
        snapshot: Option<&[u8]>,
        record: Record<'_>,
        sink: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), EncodeError<E>> {
        let mut headers: [(&str, &[u8]); 4] = [("", &[]); 4];
        let mut count = 0;
        if let Some((name, ..)) = event.other_key {
            headers[count] = (name, &self.other_key);
            count += 1;
        }
        if self.headers {
            let last = match snapshot {
                Some(id) => ("distributary.snapshot", id),
                None => ("distributary.seq", self.seq.as_slice()),
            };
            let own = [
                ("distributary.task", self.task.as_bytes()),
                ("distributary.lsn", self.transaction.lsn.as_slice()),
                last,
            ];
            headers[count..count + own.len()].copy_from_slice(&own);
            count += own.len();
        }
        sink(Record { headers: &headers[..count], ..record }).map_err(EncodeError::Sink)
    }
}

/// Writes `ordinal` or `ordinal.part`.
fn seq(out: &mut Vec<u8>, ordinal: u64, part: Option<i32>) {
    out.clear();
    json::integer(ordinal, out);
    if let Some(part) = part {
        out.push(b'.');
        json::integer(part, out);
    }
}
