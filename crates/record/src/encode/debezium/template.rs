//! Everything of a table version's events that is the same for each row, as bytes.

use super::kind::{self, Kind};
use super::schema::{self, FieldOf};
use super::values::{self, Work};
use crate::encode::ValueError;
use crate::json;
use crate::plan::TaskPlan;
use crate::route::datum;
use config::Unrepresentable;
use wal::{Column, Datum, Table, Tuple};

/// Prepared bytes of one table version.
#[derive(Debug)]
pub(crate) struct Template {
    /// In the order of the tuples.
    columns: Vec<ColumnTemplate>,
    key: Vec<usize>,
    pub(super) key_open: Box<[u8]>,
    pub(super) key_close: &'static [u8],
    /// Up to the value of `before`.
    pub(super) value_open: Box<[u8]>,
    /// After the last member of the envelope.
    pub(super) value_close: &'static [u8],
    /// Members `schema` and `table` of the source, up to the value of `txId`.
    pub(super) source_table: Box<[u8]>,
    unavailable: Box<str>,
    null_instead: bool,
    strict: bool,
}

#[derive(Debug)]
struct ColumnTemplate {
    /// `,"name":`; the first one of a row has `{` in place of the comma.
    member: Box<[u8]>,
    /// `None`: left out of the row.
    kind: Option<Kind>,
}

/// A value of a column could not be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowError {
    pub(crate) column: usize,
    pub(crate) error: ValueError,
}

impl Template {
    pub(crate) fn new(table: &Table, key: Vec<usize>, task: &TaskPlan) -> Self {
        let describe =
            |column: &Column| kind::describe(&column.type_, column.type_modifier, &task.options);
        let described: Vec<_> = table.columns.iter().map(describe).collect();
        let mut fields = Vec::with_capacity(described.len());
        let mut columns = Vec::with_capacity(described.len());
        let first = described.iter().position(Option::is_some);
        for (index, (column, described)) in table.columns.iter().zip(described).enumerate() {
            let mut member = vec![if first == Some(index) { b'{' } else { b',' }];
            json::str(&column.name, &mut member);
            member.push(b':');
            let mut field = Vec::new();
            let kind = described.map(|described| {
                let default = default(column, &described.kind);
                let optional = !column.not_null && !key.contains(&index);
                let name = Some(&*column.name);
                let of = FieldOf { optional, default: default.as_deref(), name };
                described.schema.write(of, &mut field);
                described.kind
            });
            fields.push(field);
            columns.push(ColumnTemplate { member: member.into(), kind });
        }
        let mut source_table = b"\"schema\":".to_vec();
        json::str(&table.schema, &mut source_table);
        source_table.extend_from_slice(b",\"table\":");
        json::str(&table.name, &mut source_table);
        source_table.extend_from_slice(b",\"txId\":");
        let schemas = task.options.schemas;
        let (key_open, value_open) = if schemas {
            let of_key = key.iter().map(|&index| fields[index].as_slice());
            (key_head(table, task, of_key), value_head(table, task, &fields))
        } else {
            (Vec::new(), b"{\"before\":".to_vec())
        };
        Self {
            columns,
            key,
            key_open: key_open.into(),
            key_close: if schemas { b"}" } else { b"" },
            value_open: value_open.into(),
            value_close: if schemas { b"}}" } else { b"}" },
            source_table: source_table.into(),
            unavailable: task.options.unavailable_value.as_str().into(),
            null_instead: task.unrepresentable == Unrepresentable::Null,
            strict: task.options.compat == config::Fidelity::Strict,
        }
    }

    pub(crate) fn key(&self) -> &[usize] {
        &self.key
    }

    /// Writes the columns of a row as a JSON object. Values that were not sent come from `other`.
    pub(super) fn row(
        &self,
        row: Tuple<'_>,
        other: Option<Tuple<'_>>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let mut data = row.iter();
        let start = out.len();
        for (index, column) in self.columns.iter().enumerate() {
            let sent = data.next().unwrap_or(Datum::Null);
            let Some(kind) = &column.kind else { continue };
            let value = match sent {
                Datum::Unchanged => datum(row, other, index),
                Datum::Null | Datum::Text(_) | Datum::Binary(_) => sent,
            };
            out.extend_from_slice(&column.member);
            self.value(kind, value, work, out)
                .map_err(|error| RowError { column: index, error })?;
        }
        out.extend_from_slice(if out.len() == start { b"{}" } else { b"}" });
        Ok(())
    }

    /// Writes the key, with its schema if the task wants it.
    pub(super) fn key_of(
        &self,
        row: Tuple<'_>,
        other: Option<Tuple<'_>>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        out.extend_from_slice(&self.key_open);
        self.object(&self.key, row, other, work, out)?;
        out.extend_from_slice(self.key_close);
        Ok(())
    }

    fn object(
        &self,
        columns: &[usize],
        row: Tuple<'_>,
        other: Option<Tuple<'_>>,
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
            self.value(kind, datum(row, other, index), work, out)
                .map_err(|error| RowError { column: index, error })?;
        }
        out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
        Ok(())
    }

    /// Writes what is hashed for the partition: the columns as schemaless JSON. A value that cannot
    /// be written counts with its bytes; the encoder will name it.
    pub(crate) fn hashed(
        &self,
        columns: &[usize],
        row: Tuple<'_>,
        other: Option<Tuple<'_>>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) {
        if self.object(columns, row, other, work, out).is_err() {
            out.clear();
            for &index in columns {
                if let Datum::Text(bytes) | Datum::Binary(bytes) = datum(row, other, index) {
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

/// The column's constant default as JSON; one that cannot be rendered is left out.
fn default(column: &Column, kind: &Kind) -> Option<Vec<u8>> {
    let text = column.default.as_deref()?;
    let mut out = Vec::new();
    values::write(kind, text.as_bytes(), &mut Work::default(), &mut out).ok()?;
    Some(out)
}

fn key_head<'a>(table: &Table, task: &TaskPlan, fields: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let name = schema::struct_name(&task.prefix, &table.schema, &table.name, "Key");
    let mut head = b"{\"schema\":".to_vec();
    schema::key(&joined(fields), &name, &mut head);
    head.extend_from_slice(b",\"payload\":");
    head
}

fn value_head(table: &Table, task: &TaskPlan, fields: &[Vec<u8>]) -> Vec<u8> {
    let name = |kind| schema::struct_name(&task.prefix, &table.schema, &table.name, kind);
    let fields = joined(fields.iter().map(Vec::as_slice));
    let mut head = b"{\"schema\":".to_vec();
    schema::envelope(&fields, &name("Value"), &name("Envelope"), &mut head);
    head.extend_from_slice(b",\"payload\":{\"before\":");
    head
}

/// Columns that are left out of the row have no field.
fn joined<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    fields.filter(|field| !field.is_empty()).collect::<Vec<_>>().join(&b',')
}
