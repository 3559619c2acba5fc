//! Bytes of a logical replication stream → row changes with a position. Pure: no I/O, no clock, no runtime.
//!
//! * [`lsn`], [`position`]: where a change stands in the stream.
//! * [`mod@tuple`]: one row as the server sent it; [`copy`] makes the same bytes from `COPY … TO STDOUT`.
//! * [`types`], [`table`]: what a column is, from the catalog.
//! * [`binary`]: values in binary form as the text that the server would have sent.
//! * [`message`]: the messages of the `pgoutput` plug-in; [`frame`]: what carries them.
//! * [`relation`]: versions of a relation and their differences.
//! * [`statement`]: DDL statements as rows.
//! * [`streamed`]: transactions that are sent while they are in progress, made ordinary ones.
//! * [`decoder`]: messages → [`change::ChangeBatch`]; [`spool`] holds them until their transaction has ended.
//! * [`visibility`]: which transactions of the stream a snapshot sees.

pub mod binary;
pub mod change;
pub mod copy;
pub mod decoder;
pub mod frame;
pub mod lsn;
pub mod message;
pub mod position;
pub mod relation;
pub mod spool;
pub mod statement;
pub mod streamed;
pub mod table;
pub mod tuple;
pub mod types;
pub mod visibility;

pub use change::{Change, ChangeBatch, Chunk, LogicalMessage, Operation, Transaction};
pub use lsn::Lsn;
pub use position::Position;
pub use table::{Column, Table};
pub use tuple::{Datum, Tuple};
pub use visibility::Visibility;
