//! The head of a batch as bincode 2 writes it (standard configuration). Frozen by a golden test: nodes of
//! neighbouring releases talk. Types name only types before them, so nothing here is recursive.

use bincode::{Decode, Encode};

pub(super) const VERSION: u8 = 1;
/// Allocations of a head at most. Batches hold 1 MiB of rows, of at least a byte each.
const HEAD_BYTES_MAX: usize = 256 << 20;

pub(super) fn encode(head: &Head, into: &mut Vec<u8>) -> Result<usize, String> {
    bincode::encode_into_std_write(head, into, bincode::config::standard())
        .map_err(|error| error.to_string())
}

pub(super) fn decode(bytes: &[u8]) -> Result<Head, String> {
    let limited = bincode::config::standard().with_limit::<HEAD_BYTES_MAX>();
    let (head, taken) =
        bincode::decode_from_slice(bytes, limited).map_err(|error| error.to_string())?;
    if taken != bytes.len() {
        return Err(format!("{} bytes follow its end", bytes.len() - taken));
    }
    Ok(head)
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Head {
    pub generation: u64,
    pub seq: u64,
    pub ends_transaction: bool,
    pub committed_end_lsn: Option<u64>,
    pub snapshot: Option<String>,
    /// Versions that the link has not carried yet; they get the next numbers.
    pub new_tables: Vec<Table>,
    /// Numbers of the tables that `changes` index.
    pub tables: Vec<u32>,
    pub transactions: Vec<Transaction>,
    pub changes: Vec<Change>,
    pub pieces: Vec<Piece>,
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
}

/// A table version and the pinned partitions of its topic.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Table {
    pub partitions: i32,
    pub oid: u32,
    pub version: u32,
    pub schema: String,
    pub name: String,
    pub identity: Identity,
    pub types: Vec<Type>,
    pub columns: Vec<Column>,
    pub key: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub(super) enum Identity {
    Default,
    Nothing,
    Full,
    Index,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Column {
    pub name: String,
    pub type_: u32,
    pub type_modifier: i32,
    pub not_null: bool,
    pub default: Option<String>,
    pub in_identity: bool,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Type {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
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

#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(super) struct Field {
    pub name: String,
    pub type_: u32,
    pub type_modifier: i32,
}
