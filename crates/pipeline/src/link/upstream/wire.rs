//! The heads of messages before the router as bincode 2 writes them. Frozen by a golden test.

use crate::link::wire::{Change, Identity, Table, Transaction};
use bincode::{Decode, Encode};

pub(super) const VERSION: u8 = 1;

/// From a reader or a decoder.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) enum Up {
    /// Whole CopyData messages follow.
    Wal(Told),
    Describe(Relation),
    /// The tuples of the changes follow.
    Changes(Changes),
}

/// To a decoder.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) enum Down {
    Table(Table),
}

#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub(super) struct Told {
    pub credit: u32,
    pub server_end: u64,
    pub wal_bytes: u64,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Changes {
    pub told: Told,
    pub ends_transaction: bool,
    pub committed_end_lsn: Option<u64>,
    pub idle_until: Option<u64>,
    /// The tables that `changes` index.
    pub tables: Vec<Version>,
    pub transactions: Vec<Transaction>,
    pub changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub(super) struct Version {
    pub oid: u32,
    pub version: u32,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Relation {
    pub oid: u32,
    pub version: u32,
    pub schema: String,
    pub name: String,
    pub identity: Identity,
    pub columns: Vec<RelationColumn>,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct RelationColumn {
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
    pub in_identity: bool,
}
