//! A piece of a change → Kafka records, in the task's format.
//!
//! A format is a module with a template, prepared once per table version, and a `Render` that fills
//! it row by row; it has a line in each match of `codec`. What formats share: `event` says what a
//! record is about, `headers` mark it, `civil` and `clock` read the server's dates and times,
//! `number` its numbers, `bytea` its bytes, `array` its arrays; `plain` writes rows of mostly the
//! server's own texts, `avro` writes Avro.

mod array;
mod avro;
mod bytea;
mod canal;
mod civil;
mod clock;
mod codec;
pub(crate) mod debezium;
mod dts;
mod error;
mod event;
mod headers;
mod maxwell;
mod number;
mod plain;
mod shareplex;
mod statement;

pub(crate) use codec::{Codec, Template};
pub use error::EncodeError;
pub(crate) use error::{RowError, ValueError};

use crate::Record;
use crate::plan::{TablePlan, TaskPlan};
use crate::route::Piece;
use crate::schema::{Ids, Schemas};
use codec::FormatEncoder;
use event::Event;
use headers::Marks;
use wal::{ChangeBatch, Transaction};

/// Why a DDL statement was not captured, of which only a mark came: the gap is written, and somebody must
/// be told. `None`: the piece is of no such statement.
#[must_use]
pub fn gap(plan: &TablePlan, batch: &ChangeBatch, piece: &Piece) -> Option<String> {
    let event = Event::of(plan, batch, piece, false).filter(|_| plan.is_statement())?;
    statement::Statement::of(&event).gap
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

/// Key, value and header of a record, in buffers that are used again and again.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    pub(crate) value: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// False: the key is null.
    pub(crate) keyed: bool,
    /// Name of a header of the format, whose value is `header`.
    pub(crate) header_name: Option<&'static str>,
    pub(crate) header: Vec<u8>,
}

impl Rendered {
    fn clear(&mut self) {
        self.value.clear();
        self.key.clear();
        self.keyed = false;
        self.header_name = None;
        self.header.clear();
    }

    /// Begins key, value and header with the ids of their schemas.
    fn frame(&mut self, schemas: &Schemas, ids: Ids) {
        schemas.value.language.frame(ids.value, &mut self.value);
        if let (Some(key), Some(id)) = (&schemas.key, ids.key) {
            key.language.frame(id, &mut self.key);
            key.language.frame(id, &mut self.header);
        }
    }
}

/// Encodes for one lane. Holds the buffers that its records borrow.
#[derive(Debug)]
pub struct Encoder {
    tombstones: bool,
    marks: Marks,
    transaction: Option<Transaction>,
    now_us: Option<i64>,
    rendered: Rendered,
    format: FormatEncoder,
}

impl Encoder {
    /// An encoder for the task's format.
    #[must_use]
    pub fn new(task: &TaskPlan) -> Self {
        Self {
            tombstones: task.codec.is_debezium() && task.options.tombstones,
            marks: Marks::new(&task.task, task.headers),
            transaction: None,
            now_us: None,
            rendered: Rendered::default(),
            format: FormatEncoder::new(task),
        }
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
        let event = Event::of(plan, batch, piece, self.tombstones)
            .ok_or(EncodeError::NoSuchChange { change: piece.change })?;
        if self.transaction.as_ref() != Some(event.transaction) {
            self.transaction = Some(*event.transaction);
            self.marks.begin(event.transaction);
            self.format.begin(event.transaction);
        }
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
        let Rendered { value, key, keyed, header_name, header } = &self.rendered;
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
        let parts = [Some(event.part), event.tombstone.then(|| event.part.map(|part| part + 1))];
        for (part, value) in parts.into_iter().flatten().zip([record.value, None]) {
            self.marks.number(event.change.ordinal, part);
            let (headers, count) = self.marks.of(&event, batch, own);
            let headers = &headers[..count];
            sink(Record { value, headers, ..record }).map_err(EncodeError::Sink)?;
        }
        Ok(())
    }
}
