//! Everything of a table version's events that is the same for each row: how each column is written, and
//! the schemas that say so.

use super::super::adjust;
use super::super::values::Work;
use super::form::{self, Form};
use super::message::{Field, Message, Side};
use super::value;
use crate::encode::{RowError, ValueError, protobuf};
use crate::plan::TaskPlan;
use crate::row::Row;
use crate::schema::{Schemas, Settled};
use config::Unrepresentable;
use wal::{Datum, Table};

/// Prepared columns of one table version, in the order of its tuples.
#[derive(Debug)]
pub(crate) struct Template {
    columns: Box<[Form]>,
    pub(crate) schemas: Schemas,
    /// Fields `schema` and `table` of the source.
    pub(super) source_table: Box<[u8]>,
    unavailable: Box<str>,
    null_instead: bool,
}

/// Fields of `Source`.
const SCHEMA: u32 = 10;
const TABLE: u32 = 11;

impl Template {
    pub(crate) fn new(table: &Table, key: &[usize], topic: &str, task: &TaskPlan) -> Self {
        let options = &task.options;
        let described: Vec<_> =
            table.columns.iter().map(|column| form::describe(column, options)).collect();
        let field = |index: usize| {
            let (column, described) = (&table.columns[index].name, &described[index]);
            let name = adjust::field_name(column, options.field_name_adjustment);
            Field::new(&name, column, &described.form, described.semantic)
        };
        // The table belongs to it: no reader of several tables could tell their messages apart.
        let package = format!("{}.{}.{}", task.prefix, table.schema, table.name);
        let package = package_name(&adjust::schema_name(&package, options.schema_name_adjustment));
        let message = |side: Side, columns: &[usize]| {
            let fields = columns.iter().map(|&index| field(index)).collect();
            let forms = columns.iter().map(|&index| &described[index].form);
            Message::new(&package, side, fields, forms)
        };
        let all: Vec<_> = (0..table.columns.len()).collect();
        let key = (!key.is_empty()).then(|| message(Side::Key, key));
        let value = message(Side::Envelope, &all);
        let mut source_table = Vec::new();
        protobuf::bytes(SCHEMA, table.schema.as_bytes(), &mut source_table);
        protobuf::bytes(TABLE, table.name.as_bytes(), &mut source_table);
        Self {
            schemas: Schemas::numbered(task.subject, topic, key, value),
            columns: described.into_iter().map(|described| described.form).collect(),
            source_table: source_table.into(),
            unavailable: options.unavailable_value.as_str().into(),
            null_instead: task.unrepresentable == Unrepresentable::Null,
        }
    }

    /// What the registry has taken.
    ///
    /// # Errors
    /// Where it was not asked yet: a fault of the lane, which `Encoder::encode` finds before.
    pub(super) fn settled(&self) -> Result<&Settled, RowError> {
        let error = ValueError::OutOfRange("the registry was not asked");
        self.schemas.settled().ok_or(RowError { column: 0, error })
    }

    /// Writes the fields of a row.
    pub(super) fn row(
        &self,
        numbers: &[u32],
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let fields = self.columns.iter().zip(numbers).enumerate().zip(row.values());
        for ((column, (form, &number)), value) in fields {
            self.field(form, number, value, work, out)
                .map_err(|error| RowError { column, error })?;
        }
        Ok(())
    }

    /// Writes the fields of the key's columns.
    pub(super) fn key(
        &self,
        numbers: &[u32],
        key: &[usize],
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        for (&column, &number) in key.iter().zip(numbers) {
            self.field(&self.columns[column], number, row.value(column), work, out)
                .map_err(|error| RowError { column, error })?;
        }
        Ok(())
    }

    fn field(
        &self,
        form: &Form,
        number: u32,
        value: Datum<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let start = out.len();
        let written = match value {
            Datum::Text(text) => value::write(form, number, text, work, out),
            Datum::Null => Ok(()),
            Datum::Unchanged => value::unavailable(form, number, &self.unavailable, out),
            Datum::Binary(_) => Err(ValueError::Binary),
        };
        match written {
            Err(error) if self.null_instead && error.is_of_value() => {
                out.truncate(start);
                Ok(())
            }
            written => written,
        }
    }
}

/// A name of a package: no part of it may be empty or begin with a digit.
fn package_name(name: &str) -> String {
    let part = |part: &str| {
        let is_word = part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        format!("{}{part}", if is_word { "" } else { "_" })
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}
