//! A piece of a change → Kafka records, in the task's format.

pub(crate) mod debezium;

use crate::Record;
use crate::plan::{TablePlan, TaskPlan};
use crate::route::Piece;
use wal::ChangeBatch;

/// Encodes for one lane. Holds the buffers that its records borrow.
#[derive(Debug)]
pub struct Encoder {
    debezium: debezium::Encoder,
}

/// A piece could not be encoded, or the sink refused it.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError<E> {
    #[error(
        "{table}, column `{column}`: the text is not UTF-8; mend the row, or use a database whose \
         encoding is not SQL_ASCII"
    )]
    NotUtf8 { table: Box<str>, column: Box<str> },
    #[error(
        "{table}, column `{column}`: the server sent a text that is no value of its type; check that \
         nothing changes the settings of the replication session"
    )]
    Malformed { table: Box<str>, column: Box<str> },
    #[error(
        "{table}, column `{column}`: a value does not fit the format: {limit}; choose another mode \
         under `sink.format_options`, or set `sink.unrepresentable: null`"
    )]
    Unrepresentable { table: Box<str>, column: Box<str>, limit: &'static str },
    #[error(
        "{table}, column `{column}`: the value came in binary form, which this version does not \
         render; set `source.wire: text`"
    )]
    Binary { table: Box<str>, column: Box<str> },
    #[error("piece names change {change}, which its batch does not have: a fault of the router")]
    NoSuchChange { change: u32 },
    #[error("{0}")]
    Sink(E),
}

/// What is wrong with a value. Never the value itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ValueError {
    NotUtf8,
    Malformed,
    OutOfRange(&'static str),
    Binary,
}

impl From<crate::json::NotUtf8> for ValueError {
    fn from(_: crate::json::NotUtf8) -> Self {
        Self::NotUtf8
    }
}

impl<E> EncodeError<E> {
    fn value(plan: &TablePlan, column: usize, error: ValueError) -> Self {
        let table = plan.table();
        let column = table.columns.get(column).map_or("?", |column| &column.name).into();
        let table = format!("{}.{}", table.schema, table.name).into();
        match error {
            ValueError::NotUtf8 => Self::NotUtf8 { table, column },
            ValueError::Malformed => Self::Malformed { table, column },
            ValueError::OutOfRange(limit) => Self::Unrepresentable { table, column, limit },
            ValueError::Binary => Self::Binary { table, column },
        }
    }
}

impl Encoder {
    /// An encoder for the task's format.
    #[must_use]
    pub fn new(task: &TaskPlan) -> Self {
        Self { debezium: debezium::Encoder::new(task) }
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
        self.debezium.encode(plan, batch, piece, now_us, sink)
    }
}
