//! One version of a table: what pgoutput's Relation message says, completed from the catalog.

use crate::types::Type;
use std::sync::Arc;

/// `relreplident`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    Nothing,
    Full,
    /// REPLICA IDENTITY USING INDEX.
    Index,
}

/// One version of a table as the stream sees it. Immutable: a change makes a new version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// OID of the relation that the stream names: the root where the publication publishes through it.
    pub oid: u32,
    /// Grows by one with each Relation message of the same OID that differs from the one before.
    pub version: u32,
    pub schema: Box<str>,
    pub name: Box<str>,
    pub identity: ReplicaIdentity,
    /// In the order of the tuples.
    pub columns: Vec<Column>,
    /// Indexes into `columns`, in key order: the primary key, else the columns of the identity
    /// index. Empty: the table has neither.
    pub key: Vec<usize>,
    /// Unique indexes of whole columns and all rows, also that of the primary key, by name.
    pub unique: Vec<UniqueIndex>,
}

impl Table {
    /// The unique indexes in a table where each column is at its `place`; `None`: it is not there, and
    /// nor is its index.
    #[must_use]
    pub fn unique_at(&self, place: impl Fn(usize) -> Option<usize>) -> Vec<UniqueIndex> {
        let at = |index: &UniqueIndex| {
            let columns =
                index.columns.iter().map(|&column| place(column)).collect::<Option<_>>()?;
            Some(UniqueIndex { name: index.name.clone(), columns })
        };
        self.unique.iter().filter_map(at).collect()
    }
}

/// An index that tells rows apart. The stream says nothing of it: it is as the catalog had it when the
/// version was first read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UniqueIndex {
    pub name: Box<str>,
    /// Indexes into the table's columns, in the order of the index.
    pub columns: Vec<usize>,
}

/// A column of a table version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    pub name: Box<str>,
    pub type_: Arc<Type>,
    /// `atttypmod`; -1: none.
    pub type_modifier: i32,
    pub not_null: bool,
    /// Text of the column's value for a constant default, as the server prints values; `None`: no
    /// default, or one that is not a constant.
    pub default: Option<Box<str>>,
    /// Flag 1 of the Relation message: the column is part of the replica identity.
    pub in_identity: bool,
}
