//! The messages of the output plug-in `pgoutput`, protocol versions 1 to 4, borrowed from the bytes.
//!
//! Source: PostgreSQL, "Logical Replication Message Formats". LSNs, times and names of fields are
//! the ones of that page; times are microseconds since 2000-01-01 00:00 UTC.

mod parse;

use crate::table::ReplicaIdentity;
use crate::tuple::TupleError;
use crate::{Lsn, Tuple};

/// `proto_version`, which decides what messages can come and what they hold.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    #[default]
    V1,
    /// Streaming of large transactions (PostgreSQL 14).
    V2,
    /// Two-phase commit (PostgreSQL 15).
    V3,
    /// Parallel streaming (PostgreSQL 16).
    V4,
}

/// What the bytes of a message do not say themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Context {
    pub protocol: Protocol,
    /// Between StreamStart and StreamStop, where messages carry a transaction id.
    pub in_stream: bool,
}

/// The bytes are no message of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("message is empty")]
    Empty,
    #[error("unknown message tag {tag:#04x}")]
    UnknownTag { tag: u8 },
    #[error("message tag {tag:#04x} is not part of the requested protocol version")]
    LaterProtocol { tag: u8 },
    #[error("message ends inside `{field}`")]
    Short { field: &'static str },
    #[error("`{field}` is not UTF-8")]
    NotText { field: &'static str },
    #[error("`{field}` has the unknown value {value:#04x}")]
    UnknownValue { field: &'static str, value: u8 },
    #[error("`{field}`: {error}")]
    Tuple { field: &'static str, error: TupleError },
    #[error("{bytes} bytes follow the end of the message")]
    Trailing { bytes: usize },
}

/// A message of the plug-in. `xid` of a change is there inside a stream only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'a> {
    /// `B`.
    Begin(Begin),
    /// `M`.
    Logical(Logical<'a>),
    /// `C`.
    Commit(Commit),
    /// `O`.
    Origin(Origin<'a>),
    /// `R`.
    Relation(Relation<'a>),
    /// `Y`.
    Type(Type<'a>),
    /// `I`.
    Insert(Insert<'a>),
    /// `U`.
    Update(Update<'a>),
    /// `D`.
    Delete(Delete<'a>),
    /// `T`.
    Truncate(Truncate<'a>),
    /// `S`.
    StreamStart(StreamStart),
    /// `E`.
    StreamStop,
    /// `c`.
    StreamCommit(StreamCommit),
    /// `A`.
    StreamAbort(StreamAbort),
    /// `b`.
    BeginPrepare(BeginPrepare<'a>),
    /// `P`.
    Prepare(Prepare<'a>),
    /// `K`.
    CommitPrepared(CommitPrepared<'a>),
    /// `r`.
    RollbackPrepared(RollbackPrepared<'a>),
    /// `p`.
    StreamPrepare(Prepare<'a>),
}

/// Start of a transaction, which is sent whole after its commit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Begin {
    /// LSN of the commit record.
    pub final_lsn: Lsn,
    pub commit_time: i64,
    pub xid: u32,
}

/// End of a transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Commit {
    /// LSN of the commit record.
    pub commit_lsn: Lsn,
    /// First byte behind it: what is confirmed to the server.
    pub end_lsn: Lsn,
    pub commit_time: i64,
}

/// The transaction was replicated from elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin<'a> {
    pub commit_lsn: Lsn,
    pub name: &'a str,
}

/// From `pg_logical_emit_message`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Logical<'a> {
    pub xid: Option<u32>,
    /// Sent with its transaction, and not at all if that aborts.
    pub transactional: bool,
    pub lsn: Lsn,
    pub prefix: &'a str,
    pub content: &'a [u8],
}

/// Description of a relation, sent before its first change and again after it may have changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Relation<'a> {
    pub xid: Option<u32>,
    pub oid: u32,
    /// Empty for `pg_catalog`.
    pub schema: &'a str,
    pub name: &'a str,
    pub identity: ReplicaIdentity,
    pub columns: Columns<'a>,
}

/// The columns of a [`Relation`], checked, read as they are asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Columns<'a> {
    count: u16,
    data: &'a [u8],
}

/// A column of a [`Relation`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Column<'a> {
    /// Flag 1: part of the replica identity.
    pub in_identity: bool,
    pub name: &'a str,
    pub type_oid: u32,
    /// `atttypmod`; -1: none.
    pub type_modifier: i32,
}

/// Name of a type that is not built in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Type<'a> {
    pub xid: Option<u32>,
    pub oid: u32,
    /// Empty for `pg_catalog`.
    pub schema: &'a str,
    pub name: &'a str,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Insert<'a> {
    pub xid: Option<u32>,
    pub oid: u32,
    pub new: Tuple<'a>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Update<'a> {
    pub xid: Option<u32>,
    pub oid: u32,
    /// Missing when the identity did not change and is not FULL.
    pub old: Option<OldTuple<'a>>,
    pub new: Tuple<'a>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delete<'a> {
    pub xid: Option<u32>,
    pub oid: u32,
    pub old: OldTuple<'a>,
}

/// The old tuple of an UPDATE or DELETE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OldTuple<'a> {
    /// `K`: identity columns only.
    Key(Tuple<'a>),
    /// `O`: the whole row.
    Row(Tuple<'a>),
}

/// One TRUNCATE, of one or many relations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Truncate<'a> {
    pub xid: Option<u32>,
    pub cascade: bool,
    pub restart_identity: bool,
    pub relations: Oids<'a>,
}

/// OIDs in the order of the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Oids<'a>(&'a [[u8; 4]]);

/// A piece of a transaction in progress begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamStart {
    pub xid: u32,
    pub first_segment: bool,
}

/// A transaction that was streamed has committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamCommit {
    pub xid: u32,
    pub commit: Commit,
}

/// A transaction that was streamed, or one of its subtransactions, was rolled back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamAbort {
    pub xid: u32,
    /// Equals `xid` for the whole transaction.
    pub subtransaction: u32,
    /// LSN and time, in version 4 with `streaming = parallel`.
    pub abort: Option<(Lsn, i64)>,
}

/// Start of a transaction that is sent at PREPARE TRANSACTION.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BeginPrepare<'a> {
    pub prepare_lsn: Lsn,
    pub end_lsn: Lsn,
    pub prepare_time: i64,
    pub xid: u32,
    pub gid: &'a str,
}

/// PREPARE TRANSACTION, also of a transaction that was streamed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prepare<'a> {
    pub prepare_lsn: Lsn,
    pub end_lsn: Lsn,
    pub prepare_time: i64,
    pub xid: u32,
    pub gid: &'a str,
}

/// COMMIT PREPARED.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommitPrepared<'a> {
    pub commit: Commit,
    pub xid: u32,
    pub gid: &'a str,
}

/// ROLLBACK PREPARED.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RollbackPrepared<'a> {
    pub prepare_end_lsn: Lsn,
    pub rollback_end_lsn: Lsn,
    pub prepare_time: i64,
    pub rollback_time: i64,
    pub xid: u32,
    pub gid: &'a str,
}

impl<'a> OldTuple<'a> {
    #[must_use]
    pub fn tuple(self) -> Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Row(tuple) => tuple,
        }
    }
}

impl<'a> Oids<'a> {
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

impl Columns<'_> {
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
