//! Key, envelope, tombstone and headers of one piece.

use super::template::{RowError, Template};
use super::values::Work;
use crate::Record;
use crate::encode::EncodeError;
use crate::json;
use crate::plan::{TablePlan, TaskPlan};
use crate::route::{Part, Piece, tuple};
use std::io::Write as _;
use wal::change::Old;
use wal::{Change, ChangeBatch, Operation, Transaction, Tuple};

/// Microseconds from 1970 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// Encodes pieces of any table of one task.
#[derive(Debug)]
pub(crate) struct Encoder {
    task: Box<str>,
    headers: bool,
    tombstones: bool,
    /// From `"source"` up to the value of its `ts_ms`.
    source_head: Box<[u8]>,
    /// From `"db"` up to the value of `sequence`.
    source_db: Box<[u8]>,
    transaction: TransactionBytes,
    clock: ClockBytes,
    work: Work,
    key: Vec<u8>,
    other_key: Vec<u8>,
    value: Vec<u8>,
    seq: Vec<u8>,
}

/// What all events of a transaction share, written once.
#[derive(Debug, Default)]
struct TransactionBytes {
    of: Option<(Transaction, bool)>,
    /// `ts_ms` to the first half of `sequence`.
    head: Vec<u8>,
    /// Rest of `sequence` to `ts_ns`.
    middle: Vec<u8>,
    /// `txId`, up to the value of `lsn`.
    tail: Vec<u8>,
    /// Header `distributary.lsn`.
    lsn: Vec<u8>,
    timestamp_ms: i64,
}

/// The members that tell when the event was handled.
#[derive(Debug, Default)]
struct ClockBytes {
    now_us: Option<i64>,
    bytes: Vec<u8>,
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
        let mut source_head = b",\"source\":{\"version\":\"".to_vec();
        source_head.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
        source_head.extend_from_slice(b"\",\"connector\":\"postgresql\",\"name\":");
        json::str(&task.prefix, &mut source_head);
        source_head.extend_from_slice(b",\"ts_ms\":");
        let mut source_db = b",\"db\":".to_vec();
        json::str(&task.database, &mut source_db);
        source_db.extend_from_slice(b",\"sequence\":\"[");
        Self {
            task: task.task.clone(),
            headers: task.headers,
            tombstones: task.options.tombstones,
            source_head: source_head.into(),
            source_db: source_db.into(),
            transaction: TransactionBytes::default(),
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
        // Rows of a snapshot, and the truncates that announce one that begins again.
        let snapshot = transaction.xid == 0;
        self.transaction.prepare(transaction, snapshot, &self.source_db);
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
        out.extend_from_slice(&self.source_head);
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
        snapshot: bool,
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
            let lsn = self.transaction.lsn.as_slice();
            // A snapshot is known by the place where it stands in the stream.
            let last = if snapshot {
                ("distributary.snapshot", lsn)
            } else {
                ("distributary.seq", self.seq.as_slice())
            };
            let own =
                [("distributary.task", self.task.as_bytes()), ("distributary.lsn", lsn), last];
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

impl TransactionBytes {
    fn prepare(&mut self, transaction: &Transaction, snapshot: bool, source_db: &[u8]) {
        if self.of == Some((*transaction, snapshot)) {
            return;
        }
        self.of = Some((*transaction, snapshot));
        let us = transaction.commit_time.saturating_add(EPOCH_US);
        self.timestamp_ms = us.div_euclid(1000);
        let Self { head, middle, tail, lsn, timestamp_ms, .. } = self;
        head.clear();
        json::integer(*timestamp_ms, head);
        head.extend_from_slice(if snapshot {
            b",\"snapshot\":\"true\"".as_slice()
        } else {
            b",\"snapshot\":\"false\""
        });
        head.extend_from_slice(source_db);
        match transaction.previous_commit_lsn {
            Some(previous) => {
                head.extend_from_slice(b"\\\"");
                json::integer(previous.0, head);
                head.extend_from_slice(b"\\\"");
            }
            None => head.extend_from_slice(b"null"),
        }
        head.extend_from_slice(b",\\\"");
        middle.clear();
        middle.extend_from_slice(b"\\\"]\",\"ts_us\":");
        json::integer(us, middle);
        middle.extend_from_slice(b",\"ts_ns\":");
        json::integer(us.saturating_mul(1000), middle);
        middle.push(b',');
        tail.clear();
        match transaction.xid {
            0 => tail.extend_from_slice(b"null"),
            xid => json::integer(xid, tail),
        }
        tail.extend_from_slice(b",\"lsn\":");
        lsn.clear();
        // Writing to a vector cannot fail.
        let _ = write!(lsn, "{}", transaction.commit_lsn);
    }
}

impl ClockBytes {
    fn prepare(&mut self, now_us: i64) {
        if self.now_us == Some(now_us) {
            return;
        }
        self.now_us = Some(now_us);
        let out = &mut self.bytes;
        out.clear();
        out.extend_from_slice(b"\",\"ts_ms\":");
        json::integer(now_us.div_euclid(1000), out);
        out.extend_from_slice(b",\"ts_us\":");
        json::integer(now_us, out);
        out.extend_from_slice(b",\"ts_ns\":");
        json::integer(now_us.saturating_mul(1000), out);
    }
}
