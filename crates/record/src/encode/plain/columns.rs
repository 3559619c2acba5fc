//! The columns of a table version, prepared for writing rows.

use super::rendering::{Rendering, Style};
use super::write;
use crate::encode::debezium::Work;
use crate::encode::{RowError, ValueError};
use crate::json;
use crate::row::Row;
use wal::{Datum, Table};

/// Prepared columns, in the order of the tuples.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    null_instead: bool,
}

#[derive(Debug)]
struct Column {
    /// `"name":`.
    member: Box<[u8]>,
    rendering: Rendering,
}

impl Columns {
    /// `null_instead`: a value that the format cannot carry is null, as the task says.
    pub(crate) fn new(table: &Table, style: &Style, null_instead: bool) -> Self {
        let column = |column: &wal::Column| {
            let mut member = Vec::new();
            json::str(&column.name, &mut member);
            member.push(b':');
            Column { member: member.into(), rendering: style.rendering(&column.type_) }
        };
        Self { columns: table.columns.iter().map(column).collect(), null_instead }
    }

    /// Writes what is known of a row as a JSON object: what was not logged is left out.
    pub(crate) fn row(
        &self,
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        self.object(row.known_values().enumerate(), work, out)
    }

    /// Writes the columns of `row` whose values are not those of `other`, as far as both are known.
    pub(crate) fn changed(
        &self,
        row: &Row<'_>,
        other: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let pairs = row.known_values().zip(other.known_values()).enumerate();
        let changed = pairs.filter_map(|(index, (value, other))| {
            (other != Datum::Unchanged && value != other).then_some((index, value))
        });
        self.object(changed, work, out)
    }

    /// Writes these columns of a row.
    pub(crate) fn some(
        &self,
        columns: &[usize],
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        self.object(columns.iter().map(|&index| (index, row.value(index))), work, out)
    }

    /// Writes the value of one column; null where it is not known.
    pub(crate) fn value(
        &self,
        index: usize,
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let Some(column) = self.columns.get(index) else { return Ok(()) };
        let value = match row.value(index) {
            Datum::Unchanged => Datum::Null,
            known @ (Datum::Null | Datum::Text(_) | Datum::Binary(_)) => known,
        };
        self.write(column, value, work, out).map_err(|error| RowError { column: index, error })
    }

    fn object<'a>(
        &self,
        values: impl Iterator<Item = (usize, Datum<'a>)>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let mut before = b'{';
        for (index, value) in values {
            let Some(column) = self.columns.get(index) else { break };
            if value == Datum::Unchanged {
                continue;
            }
            out.push(before);
            before = b',';
            out.extend_from_slice(&column.member);
            self.write(column, value, work, out)
                .map_err(|error| RowError { column: index, error })?;
        }
        out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
        Ok(())
    }

    fn write(
        &self,
        column: &Column,
        value: Datum<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let text = match value {
            Datum::Text(text) => text,
            Datum::Null | Datum::Unchanged => {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            Datum::Binary(_) => return Err(ValueError::Binary),
        };
        let start = out.len();
        match write::value(&column.rendering, text, work, out) {
            Err(error) if self.null_instead && error.is_of_value() => {
                out.truncate(start);
                out.extend_from_slice(b"null");
                Ok(())
            }
            result => result,
        }
    }
}
