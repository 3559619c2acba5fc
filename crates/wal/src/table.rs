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
