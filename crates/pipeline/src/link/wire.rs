//! The head of a batch as bincode 2 writes it (standard configuration). Frozen by a golden test: nodes of
//! neighbouring releases talk. Types name only types before them, so nothing here is recursive.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub(super) const VERSION: u8 = 2;
/// As [`VERSION`], with a place in its transaction for each piece: only where the task asks for it.
pub(super) const VERSION_ORDERED: u8 = 3;

/// As [`VERSION_ORDERED`], planned by a later revision than that with which the lane was opened.
pub(super) const VERSION_MARKED: u8 = 4;

/// Unique indexes of tables that the next message describes: only where the format's records name them.
pub(super) const VERSION_UNIQUE: u8 = 5;

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Head {
    pub generation: u64,
    pub seq: u64,
    pub ends_transaction: bool,
    pub committed_end_lsn: Option<u64>,
    pub snapshot: Option<String>,
    pub chunk: Option<Chunk>,
    /// Versions that the link has not carried yet; they get the next numbers.
    pub new_tables: Vec<PlannedTable>,
    /// Numbers of the tables that `changes` index.
    pub tables: Vec<u32>,
    pub transactions: Vec<Transaction>,
    pub changes: Vec<Change>,
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Chunk {
    pub name: String,
    pub open: Vec<String>,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Ordered {
    pub head: Head,
    /// Of each piece: among all of its transaction, and among those of its table.
    pub orders: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Marked {
    /// Of the revision that decides what becomes of the rows, and of the tables that are new here.
    pub revision: u64,
    /// Its shape as JSON, the first time that the link carries it.
    pub shape: Option<String>,
    /// Without orders where nobody asks for them.
    pub ordered: Ordered,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Unique {
    /// Of the next new table, and those after it.
    pub tables: Vec<Vec<UniqueIndex>>,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct UniqueIndex {
    pub name: String,
    pub columns: Vec<u32>,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Transaction {
    pub xid: u32,
    pub commit_lsn: u64,
    pub previous_commit_lsn: Option<u64>,
    pub commit_time: i64,
    pub changes_count: Option<u64>,
}

/// Old and new tuple follow the head in the order of the changes, so a length is enough.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Change {
    pub transaction: u32,
    pub table: u32,
    pub ordinal: u64,
    pub lsn: u64,
    pub operation: Operation,
    pub old: Option<Old>,
    pub new_bytes: Option<u32>,
}

#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub(super) enum Operation {
    Read,
    Insert,
    Update,
    Delete,
    Truncate,
}

#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub(super) enum Old {
    Key(u32),
    Row(u32),
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Piece {
    pub change: u32,
    pub partition: i32,
    pub part: Part,
}

#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub(super) enum Part {
    Whole,
    KeyChangeDelete,
    KeyChangeCreate,
    Enters,
    Leaves,
    Unjudged,
}

/// A table version and the pinned partitions of its topic.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct PlannedTable {
    pub partitions: i32,
    pub table: Table,
}

#[derive(Clone, Debug, Decode, Deserialize, Encode, PartialEq, Serialize)]
pub(super) struct Table {
    pub oid: u32,
    pub version: u32,
    pub schema: String,
    pub name: String,
    pub identity: Identity,
    pub types: Vec<Type>,
    pub columns: Vec<Column>,
    pub key: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Decode, Deserialize, Encode, PartialEq, Serialize)]
pub(super) enum Identity {
    Default,
    Nothing,
    Full,
    Index,
}

#[derive(Clone, Debug, Decode, Deserialize, Encode, PartialEq, Serialize)]
pub(super) struct Column {
    pub name: String,
    pub type_: u32,
    pub type_modifier: i32,
    pub not_null: bool,
    pub default: Option<String>,
    pub in_identity: bool,
}

#[derive(Clone, Debug, Decode, Deserialize, Encode, PartialEq, Serialize)]
pub(super) struct Type {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, Decode, Deserialize, Encode, PartialEq, Serialize)]
pub(super) enum Kind {
    Base,
    Array { element: u32, delimiter: u8 },
    Enum { labels: Vec<String> },
    Domain { base: u32, type_modifier: i32 },
    Composite { fields: Vec<Field> },
    Range { subtype: u32 },
    Multirange { range: u32 },
    Unknown,
}

#[derive(Clone, Debug, Decode, Deserialize, Encode, PartialEq, Serialize)]
pub(super) struct Field {
    pub name: String,
    pub type_: u32,
    pub type_modifier: i32,
}
