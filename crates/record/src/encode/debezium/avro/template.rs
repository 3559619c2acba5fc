//! Everything of a table version's events that is the same for each row: schemas, and how each column
//! is written.

use super::super::columns::NO_NULL;
use super::super::fields::Fields;
use super::super::kind::{self, Kind};
use super::super::values::Work;
use super::schema::{self, Branches};
use super::unavailable;
use super::value::{self, Written};
use crate::encode::{RowError, ValueError, avro};
use crate::plan::TaskPlan;
use crate::row::Row;
use crate::schema::{Language, Schemas};
use config::{Fidelity, Unrepresentable};
use serde_json::Value;
use wal::{Datum, Table};

/// Prepared columns of one table version, in the order of its tuples.
#[derive(Debug)]
pub(crate) struct Template {
    columns: Box<[Column]>,
    pub(crate) schemas: Schemas,
    /// Fields `schema` and `table` of the source.
    pub(super) source_table: Box<[u8]>,
    unavailable: Box<str>,
    null_instead: bool,
    strict: bool,
}

#[derive(Debug)]
struct Column {
    /// `None`: left out of the row.
    kind: Option<Kind>,
    branches: Branches,
}

impl Template {
    pub(crate) fn new(table: &Table, key: &[usize], topic: &str, task: &TaskPlan) -> Self {
        let fields = Fields::new(table, key, task);
        let columns = table.columns.iter().zip(fields.columns()).map(|(column, field)| Column {
            kind: kind::describe(&column.type_, column.type_modifier, &task.options)
                .map(|described| described.kind),
            branches: schema::branches(&parsed(field)),
        });
        let (mut key_schema, mut value_schema) = (Vec::new(), Vec::new());
        fields.key(key, &mut key_schema);
        fields.envelope(&mut value_schema);
        let made = |connect: &[u8], of: &str| {
            (schema::convert(&parsed(connect)).to_string(), schema::full_name(&fields.name(of)))
        };
        let key_schema = (!key.is_empty()).then(|| made(&key_schema, "Key"));
        let value_schema = made(&value_schema, "Envelope");
        let mut source_table = Vec::new();
        avro::string(&table.schema, &mut source_table);
        avro::string(&table.name, &mut source_table);
        Self {
            columns: columns.collect(),
            schemas: Schemas::new(Language::Avro, task.subject, topic, key_schema, value_schema),
            source_table: source_table.into(),
            unavailable: task.options.unavailable_value.as_str().into(),
            null_instead: task.unrepresentable == Unrepresentable::Null,
            strict: task.options.compat == Fidelity::Strict,
        }
    }

    /// Writes a row as the record `Value`.
    pub(super) fn row(
        &self,
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let mut values = row.values();
        for (index, column) in self.columns.iter().enumerate() {
            let value = values.next().unwrap_or(Datum::Null);
            self.field(column, value, work, out)
                .map_err(|error| RowError { column: index, error })?;
        }
        Ok(())
    }

    /// Writes the key's columns as the record `Key`.
    pub(super) fn key(
        &self,
        key: &[usize],
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        for &index in key {
            self.field(&self.columns[index], row.value(index), work, out)
                .map_err(|error| RowError { column: index, error })?;
        }
        Ok(())
    }

    fn field(
        &self,
        column: &Column,
        value: Datum<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let Some(kind) = &column.kind else { return Ok(()) };
        let start = out.len();
        match column.branches {
            Branches::Required => {}
            Branches::NullFirst => avro::long(1, out),
            Branches::ValueFirst => avro::long(0, out),
        }
        let written = match value {
            Datum::Text(text) => value::write(kind, text, work, out),
            Datum::Null => Ok(Written::Null),
            Datum::Unchanged => unavailable::write(kind, &self.unavailable, self.strict, out),
            Datum::Binary(_) => Err(ValueError::Binary),
        };
        let written = match written {
            Err(error) if self.null_instead && error.is_of_value() => Ok(Written::Null),
            written => written,
        };
        if written? == Written::Null {
            out.truncate(start);
            match column.branches {
                Branches::Required => {
                    return Err(ValueError::OutOfRange(NO_NULL));
                }
                Branches::NullFirst => avro::long(0, out),
                Branches::ValueFirst => avro::long(1, out),
            }
        }
        Ok(())
    }
}

/// What this package has written is JSON.
fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}
