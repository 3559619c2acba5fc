//! Everything of a table version's events that is the same for each row, as bytes.

use super::columns::Columns;
use super::fields::Fields;
use super::values::Work;
use crate::encode::RowError;
use crate::json;
use crate::plan::TaskPlan;
use crate::row::Row;
use wal::Table;

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
            let fields = Fields::new(table, key, task);
            let (mut key_head, mut value_head) =
                (b"{\"schema\":".to_vec(), b"{\"schema\":".to_vec());
            fields.key(key, &mut key_head);
            key_head.extend_from_slice(b",\"payload\":");
            fields.envelope(&mut value_head);
            value_head.extend_from_slice(b",\"payload\":{\"before\":");
            (key_head, value_head)
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
