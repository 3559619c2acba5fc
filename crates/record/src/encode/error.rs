//! Why a piece could not be encoded.

use crate::plan::TablePlan;
use crate::transform::Failed;

/// A piece could not be encoded, or the sink refused it.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError<E> {
    #[error(
        "{table}, column `{column}`: the text is not UTF-8; mend the row, say by `source.sql_ascii` \
         how it is encoded, or set `sink.unrepresentable: null` or `dead-letter`"
    )]
    NotUtf8 { table: Box<str>, column: Box<str> },
    #[error(
        "{table}, column `{column}`: the server sent a text that is no value of its type; check that \
         nothing changes the settings of the replication session"
    )]
    Malformed { table: Box<str>, column: Box<str> },
    #[error(
        "{table}, column `{column}`: a value does not fit the format: {limit}; choose another mode \
         under `sink.format_options`, or set `sink.unrepresentable: null` or `dead-letter`"
    )]
    Unrepresentable { table: Box<str>, column: Box<str>, limit: &'static str },
    #[error(
        "{table}, column `{column}`: the value came in binary form, which this version does not \
         render; set `source.wire: text`"
    )]
    Binary { table: Box<str>, column: Box<str> },
    #[error(
        "the registry has not taken the schemas of {table} before its first row: a fault of the lane"
    )]
    Unregistered { table: Box<str> },
    #[error(
        "{table}: `where` of its object asks for a value that the server did not send, or that is none of \
         its column's type; set the table's REPLICA IDENTITY to FULL, and check that nothing changes the \
         settings of the replication session"
    )]
    Unjudged { table: Box<str> },
    #[error(
        "{table}: `transform` of its object failed: {cause}; set `sink.unrepresentable: dead-letter` \
         (a corrected expression holds for what commits after it is applied)"
    )]
    Transform { table: Box<str>, cause: Box<str> },
    #[error("piece names change {change}, which its batch does not have: a fault of the router")]
    NoSuchChange { change: u32 },
    #[error("{table} was planned for another format than the lane writes: a fault of the planner")]
    OtherFormat { table: Box<str> },
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

impl ValueError {
    /// Whether the value is to blame, so that `sink.unrepresentable` says what becomes of it: not where the server was
    /// asked for a form that nobody reads.
    pub(crate) fn is_of_value(self) -> bool {
        match self {
            Self::NotUtf8 | Self::Malformed | Self::OutOfRange(_) => true,
            Self::Binary => false,
        }
    }
}

/// A value of a column could not be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowError {
    pub(crate) column: usize,
    pub(crate) error: ValueError,
}

impl From<crate::json::NotUtf8> for ValueError {
    fn from(_: crate::json::NotUtf8) -> Self {
        Self::NotUtf8
    }
}

fn table_name(plan: &TablePlan) -> Box<str> {
    let table = plan.table();
    format!("{}.{}", table.schema, table.name).into()
}

impl<E> EncodeError<E> {
    /// Whether a value is what cannot be written or judged: the same row fails again.
    #[must_use]
    pub fn is_of_value(&self) -> bool {
        match self {
            Self::NotUtf8 { .. }
            | Self::Malformed { .. }
            | Self::Unrepresentable { .. }
            | Self::Unjudged { .. }
            | Self::Transform { .. }
            | Self::Binary { .. } => true,
            Self::Unregistered { .. }
            | Self::NoSuchChange { .. }
            | Self::OtherFormat { .. }
            | Self::Sink(_) => false,
        }
    }

    pub(super) fn unregistered(plan: &TablePlan) -> Self {
        Self::Unregistered { table: table_name(plan) }
    }

    pub(super) fn unjudged(plan: &TablePlan) -> Self {
        Self::Unjudged { table: table_name(plan) }
    }

    pub(super) fn transform(plan: &TablePlan, failed: &Failed) -> Self {
        Self::Transform { table: table_name(plan), cause: failed.to_string().into() }
    }

    pub(super) fn other_format(plan: &TablePlan) -> Self {
        Self::OtherFormat { table: table_name(plan) }
    }

    pub(super) fn value(plan: &TablePlan, RowError { column, error }: RowError) -> Self {
        let columns = &plan.view().columns;
        let column = columns.get(column).map_or("?", |column| &column.name).into();
        let table = table_name(plan);
        match error {
            ValueError::NotUtf8 => Self::NotUtf8 { table, column },
            ValueError::Malformed => Self::Malformed { table, column },
            ValueError::OutOfRange(limit) => Self::Unrepresentable { table, column, limit },
            ValueError::Binary => Self::Binary { table, column },
        }
    }
}
