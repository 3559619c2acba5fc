//! Everything of a table version's events that is the same for each row, as bytes.

use super::adjust;
use super::columns::Columns;
use super::kind::{self, Kind};
use super::schema::{self, FieldOf};
use super::values::{self, Work};
use crate::encode::RowError;
use crate::json;
use crate::plan::TaskPlan;
use crate::row::Row;
use wal::{Column, Table};

/// Prepared bytes of one table version.
#[derive(Debug)]
pub(crate) struct Template {
    key_open: Box<[u8]>,
    key_close: &'static [u8],
    /// Up to the value of `before`.
    pub(super) value_open: Box<[u8]>,
    /// After the last member of the envelope.
    pub(super) value_close: &'static [u8],
    /// Members `schema` and `table` of the source, up to the value of `txId`.
    pub(super) source_table: Box<[u8]>,
}

impl Template {
    pub(crate) fn new(table: &Table, key: &[usize], task: &TaskPlan) -> Self {
        let mut source_table = b"\"schema\":".to_vec();
        json::str(&table.schema, &mut source_table);
        source_table.extend_from_slice(b",\"table\":");
        json::str(&table.name, &mut source_table);
        source_table.extend_from_slice(b",\"txId\":");
        let schemas = task.options.schemas;
        let (key_open, value_open) = if schemas {
            let fields = fields(table, key, task);
            let of_key = key.iter().map(|&index| fields[index].as_slice());
            (key_head(table, task, of_key), value_head(table, task, &fields))
        } else {
            (Vec::new(), b"{\"before\":".to_vec())
        };
        Self {
            key_open: key_open.into(),
            key_close: if schemas { b"}" } else { b"" },
            value_open: value_open.into(),
            value_close: if schemas { b"}}" } else { b"}" },
            source_table: source_table.into(),
        }
    }

    /// Writes the key, with its schema if the task wants it.
    pub(super) fn key(
        &self,
        columns: &Columns,
        key: &[usize],
        row: &Row<'_>,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        out.extend_from_slice(&self.key_open);
        columns.object(key, row, work, out)?;
        out.extend_from_slice(self.key_close);
        Ok(())
    }
}

/// The schema of each column; empty for one that is left out of the row.
fn fields(table: &Table, key: &[usize], task: &TaskPlan) -> Vec<Vec<u8>> {
    let field = |(index, column): (usize, &Column)| {
        let mut field = Vec::new();
        if let Some(described) = kind::describe(&column.type_, column.type_modifier, &task.options)
        {
            let default = default(column, &described.kind);
            let optional = !column.not_null && !key.contains(&index);
            let name = adjust::field_name(&column.name, task.options.field_name_adjustment);
            let of = FieldOf { optional, default: default.as_deref(), name: Some(&name) };
            described.schema.write(of, &mut field);
        }
        field
    };
    table.columns.iter().enumerate().map(field).collect()
}

/// The column's constant default as JSON; one that cannot be rendered is left out.
fn default(column: &Column, kind: &Kind) -> Option<Vec<u8>> {
    let text = column.default.as_deref()?;
    let mut out = Vec::new();
    values::write(kind, text.as_bytes(), &mut Work::default(), &mut out).ok()?;
    Some(out)
}

fn struct_name(table: &Table, task: &TaskPlan, kind: &str) -> String {
    let name = schema::struct_name(&task.prefix, &table.schema, &table.name, kind);
    adjust::schema_name(&name, task.options.schema_name_adjustment).into_owned()
}

fn key_head<'a>(table: &Table, task: &TaskPlan, fields: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let name = struct_name(table, task, "Key");
    let mut head = b"{\"schema\":".to_vec();
    schema::key(&joined(fields), &name, &mut head);
    head.extend_from_slice(b",\"payload\":");
    head
}

fn value_head(table: &Table, task: &TaskPlan, fields: &[Vec<u8>]) -> Vec<u8> {
    let name = |kind| struct_name(table, task, kind);
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
