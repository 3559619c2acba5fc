//! The columns of a table version as schemaless JSON: Debezium's rows and keys, and what is hashed for
//! the partition whatever the format.

use super::adjust;
use super::kind::{self, Kind};
use super::values::{self, Work};
use crate::encode::{RowError, ValueError};
use crate::json;
use crate::plan::TaskPlan;
use crate::row::Row;
use config::Unrepresentable;
use wal::{Datum, Table};

/// Prepared columns of one table version, in the order of its tuples.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    unavailable: Box<str>,
    null_instead: bool,
    strict: bool,
}

#[derive(Debug)]
struct Column {
    /// `,"name":`; the first one of a row has `{` in place of the comma.
    member: Box<[u8]>,
    /// `None`: left out of the row.
    kind: Option<Kind>,
}

impl Columns {
    pub(crate) fn new(table: &Table, task: &TaskPlan) -> Self {
        let mut first = true;
        let column = |column: &wal::Column| {
            let described = kind::describe(&column.type_, column.type_modifier, &task.options);
            let kind = described.map(|described| described.kind);
            let mut member = vec![b','];
            if kind.is_some() && std::mem::take(&mut first) {
                member[0] = b'{';
            }
            let name = adjust::field_name(&column.name, task.options.field_name_adjustment);
            json::str(&name, &mut member);
            member.push(b':');
            Column { member: member.into(), kind }
        };
        Self {
            columns: table.columns.iter().map(column).collect(),
            unavailable: task.options.unavailable_value.as_str().into(),
            null_instead: task.unrepresentable == Unrepresentable::Null,
            strict: task.options.compat == config::Fidelity::Strict,
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
            self.value(kind, value, work, out)
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
        let mut before = b'{';
        for &index in columns {
            let column = &self.columns[index];
            let Some(kind) = &column.kind else { continue };
            out.push(before);
            before = b',';
            out.extend_from_slice(&column.member[1..]);
            self.value(kind, row.value(index), work, out)
                .map_err(|error| RowError { column: index, error })?;
        }
        out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
        Ok(())
    }

    /// Writes what is hashed for the partition. A value that cannot be written counts with its bytes;
    /// the encoder will name it.
    pub(crate) fn hashed(
        &self,
        columns: &[usize],
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) {
        if self.object(columns, row, work, out).is_err() {
            out.clear();
            for &index in columns {
                if let Datum::Text(bytes) | Datum::Binary(bytes) = row.value(index) {
                    out.extend_from_slice(bytes);
                }
            }
        }
    }

    fn value(
        &self,
        kind: &Kind,
        value: Datum<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let text = match value {
            Datum::Text(text) => text,
            Datum::Null => {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            Datum::Unchanged => {
                values::unavailable(kind, &self.unavailable, self.strict, out);
                return Ok(());
            }
            Datum::Binary(_) => return Err(ValueError::Binary),
        };
        let start = out.len();
        match values::write(kind, text, work, out) {
            Err(ValueError::OutOfRange(_)) if self.null_instead => {
                out.truncate(start);
                out.extend_from_slice(b"null");
                Ok(())
            }
            result => result,
        }
    }
}
