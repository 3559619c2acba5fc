//! A piece of a change → Kafka records, in the task's format.
//!
//! A format is a module with a template, prepared once per table version, and a `Render` that fills
//! it row by row; it has a line in each match of this file. What formats share: `event` says what a
//! record is about, `headers` mark it, `civil` and `clock` read the server's dates and times,
//! `number` its numbers, `bytea` its bytes, `array` its arrays; `plain` writes rows of mostly the
//! server's own texts, `avro` writes Avro.

mod array;
mod avro;
mod bytea;
mod canal;
mod civil;
mod clock;
pub(crate) mod debezium;
mod dts;
mod error;
mod event;
mod headers;
mod maxwell;
mod number;
mod plain;
mod shareplex;

pub use error::EncodeError;
pub(crate) use error::{RowError, ValueError};

use crate::Record;
use crate::plan::{TablePlan, TaskPlan};
use crate::route::Piece;
use crate::schema::{Ids, Schemas};
use config::{Format, FormatOptions, NameAdjustment};
use event::Event;
use headers::Marks;
use wal::{ChangeBatch, Table, Transaction};

/// The formats that this version writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Codec {
    DebeziumJson,
    DebeziumAvro,
    DtsAvro,
    Canal,
    Maxwell,
    SharePlex,
}

impl Codec {
    /// `None`: not written by this version.
    pub(crate) fn of(format: Format) -> Option<Self> {
        match format {
            Format::DebeziumJson => Some(Self::DebeziumJson),
            Format::DebeziumAvro => Some(Self::DebeziumAvro),
            Format::DtsAvro => Some(Self::DtsAvro),
            Format::CanalJson => Some(Self::Canal),
            Format::MaxwellJson => Some(Self::Maxwell),
            Format::SharePlexJson => Some(Self::SharePlex),
            Format::Protobuf => None,
        }
    }

    /// Whether events are Debezium's: a changed key is always a deletion and a creation, and a tombstone
    /// may follow a deletion. The others know an update of the key.
    pub(crate) fn is_debezium(self) -> bool {
        match self {
            Self::DebeziumJson | Self::DebeziumAvro => true,
            Self::DtsAvro | Self::Canal | Self::Maxwell | Self::SharePlex => false,
        }
    }

    /// The task's options as the format reads them.
    pub(crate) fn options(self, options: &FormatOptions) -> FormatOptions {
        let mut options = options.clone();
        if self == Self::DebeziumAvro {
            // Avro has no other names.
            for mode in [&mut options.schema_name_adjustment, &mut options.field_name_adjustment] {
                if *mode == NameAdjustment::None {
                    *mode = NameAdjustment::Avro;
                }
            }
        }
        options
    }

    /// Whether there is a record for TRUNCATE.
    pub(crate) fn has_truncate(self) -> bool {
        match self {
            Self::DebeziumJson
            | Self::DebeziumAvro
            | Self::DtsAvro
            | Self::Canal
            | Self::SharePlex => true,
            Self::Maxwell => false,
        }
    }
}

/// What of a table version's records is the same for each row.
#[derive(Debug)]
pub(crate) enum Template {
    DebeziumJson(debezium::Template),
    DebeziumAvro(debezium::avro::Template),
    DtsAvro(dts::Template),
    Canal(canal::Template),
    Maxwell(maxwell::Template),
    SharePlex(shareplex::Template),
}

impl Template {
    /// `key`: columns of the message key.
    pub(crate) fn new(table: &Table, key: &[usize], topic: &str, task: &TaskPlan) -> Self {
        match task.codec {
            Codec::DebeziumJson => Self::DebeziumJson(debezium::Template::new(table, key, task)),
            Codec::DebeziumAvro => {
                Self::DebeziumAvro(debezium::avro::Template::new(table, key, topic, task))
            }
            Codec::DtsAvro => Self::DtsAvro(dts::Template::new(table, key, task)),
            Codec::Canal => Self::Canal(canal::Template::new(table, key, task)),
            Codec::Maxwell => Self::Maxwell(maxwell::Template::new(table, key, task)),
            Codec::SharePlex => Self::SharePlex(shareplex::Template::new(table, task)),
        }
    }

    /// What a registry must know before the first row.
    pub(crate) fn schemas(&self) -> Option<&Schemas> {
        match self {
            Self::DebeziumAvro(template) => Some(&template.schemas),
            Self::DebeziumJson(_)
            | Self::DtsAvro(_)
            | Self::Canal(_)
            | Self::Maxwell(_)
            | Self::SharePlex(_) => None,
        }
    }
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

#[derive(Debug)]
enum FormatEncoder {
    DebeziumJson(debezium::Encoder),
    DebeziumAvro(debezium::avro::Encoder),
    DtsAvro(dts::Encoder),
    Canal(canal::Encoder),
    Maxwell(maxwell::Encoder),
    SharePlex(shareplex::Encoder),
}

impl FormatEncoder {
    fn new(task: &TaskPlan) -> Self {
        match task.codec {
            Codec::DebeziumJson => Self::DebeziumJson(debezium::Encoder::new(task)),
            Codec::DebeziumAvro => Self::DebeziumAvro(debezium::avro::Encoder::new(task)),
            Codec::DtsAvro => Self::DtsAvro(dts::Encoder::default()),
            Codec::Canal => Self::Canal(canal::Encoder::new(task)),
            Codec::Maxwell => Self::Maxwell(maxwell::Encoder::new(task)),
            Codec::SharePlex => Self::SharePlex(shareplex::Encoder::new(task)),
        }
    }

    fn begin(&mut self, transaction: &Transaction) {
        match self {
            Self::DebeziumJson(encoder) => encoder.begin(transaction),
            Self::DebeziumAvro(encoder) => encoder.begin(transaction),
            Self::DtsAvro(encoder) => encoder.begin(transaction),
            Self::Canal(encoder) => encoder.begin(transaction),
            Self::Maxwell(encoder) => encoder.begin(transaction),
            Self::SharePlex(encoder) => encoder.begin(transaction),
        }
    }

    fn tick(&mut self, now_us: i64) {
        match self {
            Self::DebeziumJson(encoder) => encoder.tick(now_us),
            Self::DebeziumAvro(encoder) => encoder.tick(now_us),
            Self::DtsAvro(encoder) => encoder.tick(now_us),
            Self::Canal(encoder) => encoder.tick(now_us),
            Self::Maxwell(encoder) => encoder.tick(now_us),
            Self::SharePlex(encoder) => encoder.tick(now_us),
        }
    }

    /// `None`: the table was planned for another format.
    fn render(
        &mut self,
        plan: &TablePlan,
        event: &Event<'_>,
        out: &mut Rendered,
    ) -> Option<Result<(), RowError>> {
        Some(match (self, &plan.template) {
            (Self::DebeziumJson(encoder), Template::DebeziumJson(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::DebeziumAvro(encoder), Template::DebeziumAvro(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::DtsAvro(encoder), Template::DtsAvro(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::Canal(encoder), Template::Canal(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::Maxwell(encoder), Template::Maxwell(template)) => {
                encoder.render(plan, template, event, out)
            }
            (Self::SharePlex(encoder), Template::SharePlex(template)) => {
                encoder.render(plan, template, event, out)
            }
            _ => return None,
        })
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
