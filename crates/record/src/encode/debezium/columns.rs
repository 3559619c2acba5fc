//! The columns of a table version as schemaless JSON: Debezium's rows and keys, and what is hashed for
//! the partition whatever the format.

use super::adjust;
use super::fields;
use super::kind::{self, Beyond, Kind};
use super::values::{self, Work};
use crate::encode::{RowError, ValueError};
use crate::json;
use crate::plan::TaskPlan;
use crate::row::Row;
use config::{FormatOptions, Unrepresentable};
use wal::{Datum, Table};

/// Prepared columns of one table version, in the order of its tuples.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    unavailable: Box<str>,
    null_instead: bool,
    beyond: Beyond,
}

#[derive(Debug)]
struct Column {
    /// `,"name":`; the first one of a row has `{` in place of the comma.
    member: Box<[u8]>,
    /// `None`: left out of the row.
    kind: Option<Kind>,
    /// How it is hashed, where no schema is beside it; `None`: as it is written.
    hashed: Option<Kind>,
    /// The schema beside it says that it is never null.
    is_required: bool,
}

/// Why null is refused.
pub(super) const NO_NULL: &str = "null stands for it, and the column has none";

impl Columns {
    /// `key`: the columns of the message key.
    pub(crate) fn new(table: &Table, key: &[usize], task: &TaskPlan) -> Self {
        let schemas = task.options.schemas;
        let bare = FormatOptions { schemas: false, ..task.options.clone() };
        let mut first = true;
        let column = |(index, column): (usize, &wal::Column)| {
            let kind = |options| {
                let described = kind::describe(&column.type_, column.type_modifier, options);
                described.map(|described| described.kind)
            };
            let (kind, hashed) = (kind(&task.options), schemas.then(|| kind(&bare)).flatten());
            let mut member = vec![b','];
            if kind.is_some() && std::mem::take(&mut first) {
                member[0] = b'{';
            }
            let name = adjust::field_name(&column.name, task.options.field_name_adjustment);
            json::str(&name, &mut member);
            member.push(b':');
            let is_required = schemas && !fields::may_be_null(table, key, index);
            Column { member: member.into(), kind, hashed, is_required }
        };
        Self {
            columns: table.columns.iter().enumerate().map(column).collect(),
            unavailable: task.options.unavailable_value.as_str().into(),
            null_instead: task.unrepresentable == Unrepresentable::Null,
            beyond: Beyond::of(&task.options),
        }
    }

    /// Writes a row as a JSON object.
    pub(super) fn row(
        &self,
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let mut values = row.values();
        let start = out.len();
        for (index, column) in self.columns.iter().enumerate() {
            let value = values.next().unwrap_or(Datum::Null);
            let Some(kind) = &column.kind else { continue };
            out.extend_from_slice(&column.member);
            self.field(column, kind, value, work, out)
                .map_err(|error| RowError { column: index, error })?;
        }
        out.extend_from_slice(if out.len() == start { b"{}" } else { b"}" });
        Ok(())
    }

    /// Writes some columns of a row as a JSON object.
    pub(crate) fn object(
        &self,
        columns: &[usize],
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        self.members(columns, out, |column, index, out| {
            let Some(kind) = &column.kind else { return Ok(()) };
            self.field(column, kind, row.value(index), work, out)
        })
    }

    /// Writes what `write` writes for each of some columns that are in the row as a JSON object.
    fn members(
        &self,
        columns: &[usize],
        out: &mut Vec<u8>,
        mut write: impl FnMut(&Column, usize, &mut Vec<u8>) -> Result<(), ValueError>,
    ) -> Result<(), RowError> {
        let mut before = b'{';
        for &index in columns {
            let column = &self.columns[index];
            if column.kind.is_none() {
                continue;
            }
            out.push(before);
            before = b',';
            out.extend_from_slice(&column.member[1..]);
            write(column, index, out).map_err(|error| RowError { column: index, error })?;
        }
        out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
        Ok(())
    }

    /// Writes what is hashed for the partition: the same with and without schemas. A value that cannot be written
    /// counts with its bytes; the encoder will name it.
    pub(crate) fn hashed(
        &self,
        columns: &[usize],
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) {
        let beyond = match self.beyond {
            Beyond::Refused => Beyond::Text,
            beyond @ (Beyond::Strict | Beyond::Text) => beyond,
        };
        let written = self.members(columns, out, |column, index, out| {
            let kind = column.hashed.as_ref().or(column.kind.as_ref());
            let Some(kind) = kind else { return Ok(()) };
            self.value(kind, row.value(index), beyond, work, out)
        });
        if written.is_err() {
            out.clear();
            for &index in columns {
                if let Datum::Text(bytes) | Datum::Binary(bytes) = row.value(index) {
                    out.extend_from_slice(bytes);
                }
            }
        }
    }

    /// Writes a value as the schema beside it says.
    fn field(
        &self,
        column: &Column,
        kind: &Kind,
        value: Datum<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let start = out.len();
        self.value(kind, value, self.beyond, work, out)?;
        // A text has quotes.
        if column.is_required && out[start..] == *b"null" {
            return Err(ValueError::OutOfRange(NO_NULL));
        }
        Ok(())
    }

    fn value(
        &self,
        kind: &Kind,
        value: Datum<'_>,
        beyond: Beyond,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let start = out.len();
        let written = match value {
            Datum::Text(text) => values::write(kind, text, work, out),
            Datum::Null => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            Datum::Unchanged => values::unavailable(kind, &self.unavailable, beyond, out),
            Datum::Binary(_) => Err(ValueError::Binary),
        };
        match written {
            Err(error) if self.null_instead && error.is_of_value() => {
                out.truncate(start);
                out.extend_from_slice(b"null");
                Ok(())
            }
            written => written,
        }
    }
}
