//! The port of a lane: what its thread may ask, in both delivery modes.

use crate::Error;
use crate::checkpoint::Checkpoint;
use record::Record;
use wal::{Lsn, Position};

/// Where the lane stands after the records sent so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommitPoint {
    /// Last change that was sent.
    pub position: Position,
    /// End of the newest source transaction that was sent completely.
    pub end_lsn: Lsn,
    /// Whether `position` ends a source transaction.
    pub complete: bool,
    /// The last one of its revision (delivery-protocol.md, section 8).
    pub sealed: bool,
    /// How far the lane's records are counted, in formats that number them.
    pub counted: u64,
}

/// Records and checkpoint are durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed {
    /// `false`: open again before the next record (delivery-protocol.md, C4).
    pub clean: bool,
    pub txn_seq: u64,
}

/// What opening found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opened {
    /// Offset of this owner's fence; grows with every owner.
    pub term: i64,
    /// `None`: nothing was ever committed.
    pub checkpoint: Option<Checkpoint>,
}

impl Opened {
    /// Last change that the lane holds. What is not above it is already in Kafka.
    #[must_use]
    pub fn position(&self) -> Position {
        self.checkpoint.as_ref().map_or(Position::ZERO, |it| it.pos)
    }

    /// Chunks of snapshots that the lane holds.
    #[must_use]
    pub fn chunks(&self) -> Vec<String> {
        self.checkpoint.as_ref().map(|it| it.snap.clone()).unwrap_or_default()
    }

    /// How far the lane's records were counted.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |it| it.counted)
    }

    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        self.checkpoint.as_ref().map_or(Lsn::ZERO, |it| it.end_lsn)
    }
}

/// An open lane. All calls block the lane's own thread. After an error every call fails: drop it and
/// open the lane again, which tells what became of the transaction.
pub trait LaneSink: Send {
    /// Queues a record; begins a transaction where none is open. Waits when the client's queue is full.
    ///
    /// # Errors
    /// Any: the lane must be opened again.
    fn send(&mut self, record: &Record<'_>) -> Result<(), Error>;

    /// Serves the client's callbacks without waiting; tells of failures early.
    ///
    /// # Errors
    /// Any: the lane must be opened again.
    fn poll(&mut self) -> Result<(), Error>;

    /// Records sent and not yet acknowledged by the brokers.
    fn pending(&self) -> u64;

    /// Chunks of snapshots that this checkpoint and the next ones name ([`Checkpoint::snap`]).
    fn note_chunks(&mut self, chunks: &[String]);

    /// Makes everything sent so far durable, with its position.
    ///
    /// # Errors
    /// Any: the outcome is unknown, and opening again tells it.
    fn commit(&mut self, point: &CommitPoint) -> Result<Committed, Error>;

    /// Nothing more will be written: says so to the next owner where it would have to wait for that.
    fn close(&mut self) {}
}
