//! Rows whose values are the server's own texts, but for a few types: what Canal, Maxwell and SharePlex
//! JSON share.
//!
//! [`rendering`] decides for a type under a format's [`Style`], [`mod@write`] writes a value, [`columns`] a
//! row, and [`type_name`] names a type as PostgreSQL does.

mod columns;
mod rendering;
mod type_name;
mod write;

pub(super) use columns::Columns;
pub(super) use rendering::{Moments, Style};
pub(super) use type_name::format_type;
pub(super) use write::write_date_time;

use super::Rendered;
use super::RowError;
use super::debezium::Work;
use crate::plan::TablePlan;
use crate::row::Row;
use config::MessageKey;

/// Writes the key columns as the record's key, where the task asks for it (`message_key: columns`).
pub(super) fn key(
    plan: &TablePlan,
    columns: &Columns,
    mode: MessageKey,
    row: Option<&Row<'_>>,
    work: &mut Work,
    out: &mut Rendered,
) -> Result<(), RowError> {
    let (MessageKey::Columns, Some(row)) = (mode, row) else { return Ok(()) };
    out.keyed = true;
    columns.some(plan.key(), row, work, &mut out.key)
}
