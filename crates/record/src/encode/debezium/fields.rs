//! The Connect schemas of one table version: key and envelope.

use super::adjust;
use super::kind::{self, Kind};
use super::schema::{self, FieldOf};
use super::values::{self, Work};
use crate::plan::TaskPlan;
use config::NameAdjustment;
use wal::table::ReplicaIdentity;
use wal::{Column, Table};

/// The schema of each column, as JSON, and the names of the structs that hold them.
#[derive(Debug)]
pub(super) struct Fields {
    /// In the order of the tuples; empty: left out of the row.
    columns: Vec<Vec<u8>>,
    /// `<prefix>.<schema>.<table>`.
    name: String,
    adjustment: NameAdjustment,
}

impl Fields {
    /// `key`: the columns of the message key.
    pub(super) fn new(table: &Table, key: &[usize], task: &TaskPlan) -> Self {
        let field = |(index, column): (usize, &Column)| {
            let mut field = Vec::new();
            if let Some(described) =
                kind::describe(&column.type_, column.type_modifier, &task.options)
            {
                let default = default(column, &described.kind);
                let optional = may_be_null(table, key, index);
                let name = adjust::field_name(&column.name, task.options.field_name_adjustment);
                let of = FieldOf { optional, default: default.as_deref(), name: Some(&name) };
                described.schema.write(of, &mut field);
            }
            field
        };
        Self {
            columns: table.columns.iter().enumerate().map(field).collect(),
            name: format!("{}.{}.{}", task.prefix, table.schema, table.name),
            adjustment: task.options.schema_name_adjustment,
        }
    }

    /// One for each column; empty: left out of the row.
    pub(super) fn columns(&self) -> &[Vec<u8>] {
        &self.columns
    }

    /// Name of one of the structs: `Key`, `Value`, `Envelope`.
    pub(super) fn name(&self, of: &str) -> String {
        adjust::schema_name(&format!("{}.{of}", self.name), self.adjustment).into_owned()
    }

    /// Writes the schema of the key.
    pub(super) fn key(&self, key: &[usize], out: &mut Vec<u8>) {
        let of_key = key.iter().map(|&index| self.columns[index].as_slice());
        schema::key(&joined(of_key), &self.name("Key"), out);
    }

    /// Writes the schema of the value.
    pub(super) fn envelope(&self, out: &mut Vec<u8>) {
        let fields = joined(self.columns.iter().map(Vec::as_slice));
        schema::envelope(&fields, &self.name("Value"), &self.name("Envelope"), out);
    }
}

/// Whether a column may be null. An old row that is a key alone has null for every other column, also where none may
/// be stored: Debezium has an empty text, 0 or the like there, which nobody could tell from a value.
pub(super) fn may_be_null(table: &Table, key: &[usize], index: usize) -> bool {
    let is_whole = table.identity == ReplicaIdentity::Full;
    let is_stored_null = table.columns.get(index).is_none_or(|column| !column.not_null);
    !key.contains(&index) && (is_stored_null || !is_whole)
}

/// The column's constant default as JSON; one that cannot be rendered is left out.
fn default(column: &Column, kind: &Kind) -> Option<Vec<u8>> {
    let text = column.default.as_deref()?;
    let mut out = Vec::new();
    values::write(kind, text.as_bytes(), &mut Work::default(), &mut out).ok()?;
    Some(out)
}

/// Columns that are left out of the row have no field.
fn joined<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    fields.filter(|field| !field.is_empty()).collect::<Vec<_>>().join(&b',')
}
