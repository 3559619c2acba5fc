//! DDL statements in the stream: rows of tables that stand for what a statement changes.
//!
//! Event triggers write a statement as a logical message, or as a row of a helper table where the server
//! sends no messages (before 14). Both have the same three columns in the form of TupleData, so a statement
//! is a change like any other: it has an ordinal, a lane, and is written once.

use crate::message;
use crate::relation::{ColumnDescription, RelationDescription};
use crate::table::ReplicaIdentity;
use crate::types::{Type, oid};
use crate::{Column, Datum, Table, Tuple};
use std::collections::HashMap;
use std::sync::Arc;

/// OID of the tables that stand for statements: no relation has it.
pub const OID: u32 = 0;

/// Name of the helper table, in the schema of the task's helper objects.
pub const TABLE: &str = "ddl";

/// A number of the row; what is changed: a JSON array of `[schema, table]`, where the table is null if the
/// statement changes something else of the schema; and all that is known of it, as JSON.
pub const COLUMNS: [&str; 3] = ["id", "changed", "content"];
/// Place of `changed`.
const CHANGED: usize = 1;
/// Place of `content`.
pub const CONTENT: usize = 2;

/// Longer lists of what is changed count as "anything".
const CHANGED_BYTES_MAX: usize = 64 << 10;
/// So many different ones are remembered.
pub const KNOWN_MAX: u32 = 256;

/// Prefix of the messages of a task whose helper objects are in `schema`.
#[must_use]
pub fn prefix(schema: &str) -> String {
    format!("{schema}.{TABLE}")
}

/// The table that a description of a statement stands for; `None`: it is one of the catalog's.
#[must_use]
pub fn table(description: &RelationDescription) -> Option<Table> {
    if description.oid != OID {
        return None;
    }
    let text = Arc::new(Type::builtin(oid::TEXT, "text"));
    let column = |name: &str| Column {
        name: name.into(),
        type_: Arc::clone(&text),
        type_modifier: -1,
        not_null: false,
        default: None,
        in_identity: false,
    };
    Some(Table {
        oid: OID,
        version: description.version,
        schema: description.schema.clone(),
        name: description.name.clone(),
        identity: ReplicaIdentity::Nothing,
        columns: COLUMNS.into_iter().map(column).collect(),
        key: Vec::new(),
        unique: Vec::new(),
    })
}

/// The table that stands for statements that were not captured, but told from the stream. `number`: another for each in
/// one life of the stream. The decoder numbers those that were captured from 1, these count down.
#[must_use]
pub fn inferred(changed: &str, number: u32) -> Option<Table> {
    table(&describe(changed.as_bytes(), u32::MAX - number))
}

/// Whether it is such a table.
#[must_use]
pub fn is_inferred(table: &Table) -> bool {
    table.oid == OID && u32::MAX / 2 < table.version
}

/// Whether it stands for statements that were captured: of what surrounds others nothing is known.
#[must_use]
pub fn is_captured(table: &Table) -> bool {
    table.oid == OID && !is_inferred(table)
}

/// A row of such a table, as TupleData.
#[must_use]
pub fn tuple(changed: &[u8], content: &[u8]) -> Vec<u8> {
    // Int16 number of columns; the first is null.
    let mut tuple = vec![0, 3, b'n'];
    for text in [changed, content] {
        tuple.push(b't');
        tuple.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        tuple.extend_from_slice(text);
    }
    tuple
}

/// What a statement changes; `None`: the row is no statement.
pub(crate) fn changed(tuple: Tuple<'_>) -> Option<&[u8]> {
    match tuple.iter().nth(CHANGED) {
        Some(Datum::Text(text)) if tuple.len() == COLUMNS.len() => {
            Some(if text.len() <= CHANGED_BYTES_MAX { text } else { b"[]" })
        }
        _ => None,
    }
}

/// What the decoder knows of statements, by what they change.
#[derive(Debug)]
pub(crate) struct Statements<K> {
    schema: Box<str>,
    pub(crate) prefix: Box<str>,
    /// The helper table, once the stream has described it.
    pub(crate) table: Option<u32>,
    pub(crate) known: HashMap<Box<[u8]>, K>,
    /// Of the last new one.
    version: u32,
}

impl<K> Statements<K> {
    pub(crate) fn new(schema: Box<str>) -> Self {
        Self {
            prefix: prefix(&schema).into(),
            schema,
            table: None,
            known: HashMap::new(),
            version: 0,
        }
    }

    /// Whether they are written to this relation.
    pub(crate) fn are_in(&self, relation: &message::Relation<'_>) -> bool {
        *self.schema == *relation.schema && relation.name == TABLE
    }

    /// What is known of those that change this; `first` makes it.
    pub(crate) fn of(
        &mut self,
        changed: &[u8],
        first: impl FnOnce(RelationDescription) -> K,
    ) -> &mut K {
        if !self.known.contains_key(changed) {
            if KNOWN_MAX as usize <= self.known.len() {
                self.known.clear();
            }
            self.version = self.version.wrapping_add(1);
        }
        let version = self.version;
        self.known.entry(changed.into()).or_insert_with(|| first(describe(changed, version)))
    }
}

fn describe(changed: &[u8], version: u32) -> RelationDescription {
    let column = |name: &str| ColumnDescription {
        name: name.into(),
        type_oid: oid::TEXT,
        type_modifier: -1,
        in_identity: false,
    };
    RelationDescription {
        oid: OID,
        version,
        schema: "".into(),
        name: String::from_utf8_lossy(changed).into(),
        identity: ReplicaIdentity::Nothing,
        columns: COLUMNS.into_iter().map(column).collect(),
        differences: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_statement_is_read_as_it_was_written() {
        let bytes = tuple(b"[]", b"{}");
        let (row, taken) = Tuple::check(&bytes).expect("TupleData");
        assert_eq!(taken, bytes.len());
        assert_eq!(changed(row), Some(b"[]".as_slice()));
        let content = row.iter().nth(CONTENT);
        assert_eq!(content, Some(Datum::Text(b"{}")));
        assert!(inferred("[]", 1).is_some_and(|it| is_inferred(&it)));
        assert!(table(&describe(b"[]", 1)).is_some_and(|it| !is_inferred(&it)));
    }
}
