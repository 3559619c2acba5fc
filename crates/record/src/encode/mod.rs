//! A piece of a change → Kafka records, in the task's format.
//!
//! A format is a module with a template, prepared once per table version, and a `Render` that fills
//! it row by row; it has a line in each match of `codec`. What formats share: `event` says what a
//! record is about, `headers` mark it, `civil` and `clock` read the server's dates and times,
//! `number` its numbers, `bytea` its bytes, `array` its arrays; `plain` writes rows of mostly the
//! server's own texts, `avro` writes Avro and `protobuf` Protobuf.

mod array;
mod avro;
mod bytea;
mod canal;
pub(crate) mod civil;
pub(crate) mod clock;
mod codec;
pub(crate) mod connect;
pub(crate) mod debezium;
pub(crate) mod dts;
mod error;
pub(crate) mod event;
mod headers;
pub(crate) mod heartbeat;
mod letter;
mod maxwell;
mod number;
mod plain;
mod protobuf;
mod serial;
mod shareplex;
mod statement;

pub(crate) use codec::{Codec, Template};
pub(crate) use debezium::protobuf::{Message, numbers};
pub use error::EncodeError;
pub(crate) use error::{RowError, ValueError};
pub(crate) use event::commit_us;
pub use letter::{Cause, Letter};

use crate::Record;
use crate::plan::{TablePlan, TaskPlan};
use crate::route::{Part, Piece};
use crate::row::Row;
use crate::schema::{Ids, Schemas};
use crate::transaction::Order;
use crate::transform::Transformed;
use codec::FormatEncoder;
use debezium::Work;
use event::{Event, Projected};
use headers::Marks;
use serial::Serial;
use wal::{Change, ChangeBatch, Transaction};

/// Why a DDL statement was not captured, of which only a mark came: the gap is written, and somebody must
/// be told. `None`: the piece is of no such statement.
#[must_use]
pub fn gap(plan: &TablePlan, batch: &ChangeBatch, piece: &Piece) -> Option<String> {
    if !plan.is_statement() {
        return None;
    }
    let mut projected = Projected::default();
    let rows = projected.tuples(plan, batch, piece)?;
    let event = Event::of(plan, batch, piece, rows, false)?;
    statement::Statement::of(&event).gap
}

pub use statement::DtsDdl;

/// What DTS makes of a captured DDL statement by itself (`compat.dts_ddl`); `None`: the change is of none.
#[must_use]
pub fn dts_ddl(batch: &ChangeBatch, change: &Change) -> Option<DtsDdl> {
    let is_captured = wal::statement::is_captured(batch.table(change));
    let row = change.new.filter(|_| is_captured).map(|span| batch.tuple(span))?;
    Some(DtsDdl::of(row.iter().nth(wal::statement::CONTENT)))
}

/// What a format does for its records.
pub(crate) trait Render {
    type Template;

    /// The next events are of this transaction.
    fn begin(&mut self, transaction: &Transaction);

    /// The next events are handled at this moment: microseconds since 1970.
    fn tick(&mut self, now_us: i64);

    /// Writes an event to `out`, where nothing stands but the frames of formats that have them. Where the
    /// value stays empty, there is no record.
    fn render(
        &mut self,
        plan: &TablePlan,
        template: &Self::Template,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Result<(), RowError>;
}

/// A buffer that a giant has grown is not kept for the rows after it.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// Empties a buffer.
fn emptied(buffer: &mut Vec<u8>) {
    if BUFFER_BYTES_MAX < buffer.capacity() {
        *buffer = Vec::new();
    }
    buffer.clear();
}

/// Key, value and header of a record, in buffers that are used again and again.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    pub(crate) value: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// False: the key is null.
    pub(crate) keyed: bool,
    /// Values of records that follow, with the same key.
    pub(crate) further: Vec<Vec<u8>>,
    /// Name of a header of the format, whose value is `header`.
    pub(crate) header_name: Option<&'static str>,
    pub(crate) header: Vec<u8>,
}

impl Rendered {
    fn clear(&mut self) {
        emptied(&mut self.value);
        emptied(&mut self.key);
        self.keyed = false;
        self.further.clear();
        self.header_name = None;
        emptied(&mut self.header);
    }

    /// Gives back what a giant has taken.
    fn clear_giant(&mut self) {
        if BUFFER_BYTES_MAX < self.value.capacity() {
            self.clear();
        }
    }

    /// Begins key and value with the ids of their schemas.
    fn frame(&mut self, schemas: &Schemas, ids: Ids) {
        schemas.frame(ids, &mut self.value, &mut self.key);
    }
}

/// Encodes for one lane. Holds the buffers that its records borrow.
#[derive(Debug)]
pub struct Encoder {
    tombstones: bool,
    marks: Marks,
    transaction: Option<Transaction>,
    order: Option<Order>,
    stream: u8,
    /// `None`: records have no numbers.
    serial: Option<Serial>,
    now_us: Option<i64>,
    projected: Projected,
    transformed: Transformed,
    rendered: Rendered,
    work: Work,
    format: FormatEncoder,
}

impl Encoder {
    /// An encoder for the task's format.
    #[must_use]
    pub fn new(task: &TaskPlan) -> Self {
        Self {
            tombstones: task.codec.is_debezium() && task.options.tombstones,
            marks: Marks::new(&task.life, task.headers),
            transaction: None,
            order: None,
            stream: task.stream,
            serial: task.codec.has_ids().then(|| Serial::new(task.stream, 0)),
            now_us: None,
            projected: Projected::default(),
            transformed: Transformed::default(),
            rendered: Rendered::default(),
            work: Work::default(),
            format: FormatEncoder::new(task),
        }
    }

    /// The same, of this lane of its stream: each counts its records apart.
    #[must_use]
    pub fn of_lane(mut self, lane: u8) -> Self {
        self.serial = self.serial.map(|serial| serial.of_lane(self.stream, lane));
        self
    }

    /// Goes on counting where a lane was, by its checkpoint ([`Self::counted`]).
    pub fn count_from(&mut self, counted: u64) {
        if let Some(serial) = &mut self.serial {
            serial.resume(counted);
        }
    }

    /// How far the records of the lane are counted, for its next life; 0 where they have no numbers.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.serial.map_or(0, Serial::last)
    }

    /// The next piece has this place in its transaction; `None`: nobody asks for it.
    pub fn place(&mut self, order: Option<Order>) {
        self.order = order;
    }

    /// Hands the records of one piece to `sink`, in the order in which they must be written.
    /// `now_us`: microseconds since 1970, for members such as Debezium's `ts_us`.
    ///
    /// # Errors
    /// When a value cannot be written in the format, or `sink` refuses a record; records before it
    /// were handed over.
    pub fn encode<E>(
        &mut self,
        plan: &TablePlan,
        batch: &ChangeBatch,
        piece: &Piece,
        now_us: i64,
        sink: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), EncodeError<E>> {
        if piece.part == Part::Unjudged {
            return Err(EncodeError::unjudged(plan));
        }
        let no_such_change = || EncodeError::NoSuchChange { change: piece.change };
        let rows = self.projected.tuples(plan, batch, piece).ok_or_else(no_such_change)?;
        let kept = event::transformed(plan, batch, piece, rows, &mut self.transformed);
        let kept = kept.map_err(|failed| EncodeError::transform(plan, &failed))?;
        let Some((piece, rows)) = &kept else { return Ok(()) };
        let event = Event::of(plan, batch, piece, *rows, self.tombstones);
        let event = event.ok_or_else(no_such_change)?;
        let lsn = event.transaction.commit_lsn;
        let id = self.serial.as_mut().map_or(0, |serial| serial.next(lsn));
        let event = Event { order: self.order, id, ..event };
        begin(&mut self.transaction, event.transaction, &mut self.marks, &mut self.format);
        if self.now_us != Some(now_us) {
            self.now_us = Some(now_us);
            self.format.tick(now_us);
        }
        self.rendered.clear();
        if let Some(schemas) = plan.schemas() {
            let ids = schemas.ids().ok_or_else(|| EncodeError::unregistered(plan))?;
            self.rendered.frame(schemas, ids);
        }
        self.format
            .render(plan, &event, &mut self.rendered)
            .ok_or_else(|| EncodeError::other_format(plan))?
            .map_err(|error| EncodeError::value(plan, error))?;
        let Rendered { value, key, keyed, further, header_name, header } = &self.rendered;
        if value.is_empty() {
            return Ok(());
        }
        let own = header_name.map(|name| (name, header.as_slice()));
        let record = Record {
            topic: plan.topic(),
            partition: piece.partition,
            key: keyed.then_some(key.as_slice()),
            value: Some(value),
            headers: &[],
            timestamp_ms: event::commit_us(event.transaction).div_euclid(1000),
        };
        let first = event.part.or((!further.is_empty()).then_some(0));
        let further = further.iter().map(|value| Some(value.as_slice()));
        let tombstone = event.tombstone.then_some(None);
        let values = std::iter::once(record.value).chain(further).chain(tombstone);
        for (number, value) in (0..).zip(values) {
            self.marks.number(event.change.ordinal, first.map(|first| first + number));
            let (headers, count) = self.marks.of(&event, batch, own);
            let headers = &headers[..count];
            sink(Record { value, headers, ..record }).map_err(EncodeError::Sink)?;
        }
        self.rendered.clear_giant();
        Ok(())
    }

    /// Hands a dead letter to `sink` in place of the records of a piece: its row as it came, but for columns
    /// that are left out, renamed or added, whatever the format. Its headers are there also where the task wants none.
    ///
    /// # Errors
    /// When the batch does not have the change, or `sink` refuses the record.
    pub fn letter<E>(
        &mut self,
        plan: &TablePlan,
        batch: &ChangeBatch,
        piece: &Piece,
        letter: &Letter<'_>,
        sink: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), EncodeError<E>> {
        let no_such_change = || EncodeError::NoSuchChange { change: piece.change };
        let rows = self.projected.tuples(plan, batch, piece).ok_or_else(no_such_change)?;
        let event = Event::of(plan, batch, piece, rows, self.tombstones);
        let event = event.ok_or_else(no_such_change)?;
        begin(&mut self.transaction, event.transaction, &mut self.marks, &mut self.format);
        self.rendered.clear();
        self.marks.number(event.change.ordinal, event.part);
        let table = plan.table();
        let name = format!("{}.{}", table.schema, table.name);
        let mut headers = self.marks.all(&event, batch).to_vec();
        let mark = headers.last().copied().unwrap_or_default();
        let mark_name = mark.0.rsplit('.').next().unwrap_or_default();
        let mark = (mark_name, std::str::from_utf8(mark.1).unwrap_or_default());
        letter::write(plan, &event, piece, letter, mark, &mut self.rendered.value);
        let key = event.key.filter(|_| !plan.key().is_empty());
        if let Some(row) = key {
            write_key(plan, &row, &mut self.work, &mut self.rendered.key);
        }
        headers.extend([
            ("distributary.dead-letter", letter.cause.word().as_bytes()),
            ("distributary.topic", plan.topic().as_bytes()),
            ("distributary.table", name.as_bytes()),
        ]);
        let record = Record {
            topic: letter.topic,
            partition: letter.partition,
            key: key.map(|_| self.rendered.key.as_slice()),
            value: Some(&self.rendered.value),
            headers: &headers,
            timestamp_ms: event::commit_us(event.transaction).div_euclid(1000),
        };
        sink(record).map_err(EncodeError::Sink)?;
        self.rendered.clear_giant();
        Ok(())
    }
}

/// What follows belongs to `next`.
fn begin(
    current: &mut Option<Transaction>,
    next: &Transaction,
    marks: &mut Marks,
    format: &mut FormatEncoder,
) {
    if current.as_ref() != Some(next) {
        *current = Some(*next);
        marks.begin(next);
        format.begin(next);
    }
}

/// The key as what is hashed for the partition: JSON without a schema.
fn write_key(plan: &TablePlan, row: &Row<'_>, work: &mut Work, out: &mut Vec<u8>) {
    plan.columns.hashed(plan.key(), row, work, out);
}
