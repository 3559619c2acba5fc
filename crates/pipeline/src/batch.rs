//! What travels between the stages, and the credit that pays for it.

use crate::chunk::asked::CopyOrder;
use crate::chunk::merge::{self, Ticket};
use crate::planner::Plans;
use actix::Message;
use bytes::Bytes;
use record::plan::TablePlan;
use record::route::Piece;
use record::transaction::{Order, Summary};
use std::sync::Arc;
use supervision::Credit;
use tokio::sync::oneshot;
use wal::{ChangeBatch, Lsn, Position, Table, Visibility};

/// Whole CopyData messages of the replication connection. Reader → Decoder.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct WalBatch {
    pub bytes: Bytes,
    pub credit: Credit,
}

/// A table version and what is to be done with its rows. Decoder → Router, before its first change.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct TableLearned {
    pub table: Arc<Table>,
    pub plans: Plans,
    /// Where DDL is told from the stream.
    pub inference: Option<Inference>,
}

/// What becomes known with the first change of a table version.
#[derive(Clone, Debug)]
pub struct Inference {
    /// Of the version among those of its table that the meta lane keeps.
    pub number: u64,
    /// The first change, where an earlier life of the stream has met it.
    pub since: Option<Position>,
    /// What commits earlier is not told of.
    pub not_before: Lsn,
    /// What turned the version before into this one.
    pub statement: Option<Stated>,
}

/// A DDL statement that was not captured.
#[derive(Clone, Debug)]
pub struct Stated {
    /// The table that stands for what it changes.
    pub table: Arc<Table>,
    pub plans: Plans,
    /// Its row, as TupleData.
    pub tuple: Vec<u8>,
}

/// A revision that came by a mark, while the lanes were open.
#[derive(Debug)]
pub struct Marked {
    pub number: u64,
    /// Whoever reads batches on another node makes its plans from it.
    pub shape: config::Shape,
}

/// Another revision is about to come: hold what commits from now on, but not before `at_least`. Task → Router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HoldForMark {
    pub at_least: Lsn,
    pub answer: oneshot::Sender<Held>,
}

/// From where on changes are held, and the table versions that are known. Router → Task.
#[derive(Debug)]
pub struct Held {
    pub at: Lsn,
    pub tables: Vec<Arc<Table>>,
}

/// The mark is recorded: what commits at `at` or later goes by this revision. Task → Router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct MarkReached {
    pub at: Lsn,
    pub marked: Arc<Marked>,
    /// Of table versions that the router has told.
    pub plans: Vec<(Arc<Table>, Option<Arc<TablePlan>>)>,
}

/// Decoded changes in stream order. Decoder or snapshot → Router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Decoded {
    pub batch: ChangeBatch,
    pub credit: Credit,
}

/// The part of a batch that one lane is to write. Router → Producer.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct LaneBatch {
    /// Life of the front that routed it; a lane refuses older ones.
    pub generation: u64,
    /// Number of the batch in its generation, from 1; a lane does not see every number.
    pub seq: u64,
    pub batch: Arc<ChangeBatch>,
    /// By [`wal::Change::table`].
    pub plans: Arc<[Option<Arc<TablePlan>>]>,
    /// In stream order; pieces of one change are neighbours.
    pub pieces: Arc<[Piece]>,
    /// Of each piece, its place in its transaction; empty where nobody asks for that.
    pub orders: Arc<[Order]>,
    /// The batch ends where a source transaction ends.
    pub ends_transaction: bool,
    /// The revision by which it was planned; `None`: that with which its lane was opened.
    pub marked: Option<Arc<Marked>>,
    /// Shared by all parts: given back when the last one is durable or dropped.
    pub credit: Arc<Credit>,
}

/// A batch was split over lanes. Router → Acknowledger.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Routed {
    pub seq: u64,
    /// Bit n: lane n has a part.
    pub lanes: u64,
    /// Once it and all before it are durable, this may be confirmed to the server.
    pub confirmable: Option<Lsn>,
    /// When the last captured transaction ended that ends in this batch: microseconds since 1970.
    pub commit_time_us: Option<u64>,
    /// Source transactions that end in this batch, where consumers are told of them.
    pub transactions: Vec<Summary>,
}

/// Every part of a lane up to and including `seq` is durable. Producer → Acknowledger and Router.
#[derive(Clone, Copy, Debug, Eq, Message, PartialEq)]
#[rtype(result = "()")]
pub struct Durable {
    pub generation: u64,
    pub lane: u8,
    pub seq: u64,
    /// Last position that the lane holds.
    pub position: Position,
}

/// A lane's new owner is open: send again what is not durable. Guardian → Router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LaneReady {
    pub lane: u8,
    pub producer: actix::Recipient<LaneBatch>,
}

/// Whether a lane has an owner that is open. Guardian → Acknowledger.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LaneStanding {
    pub lane: u8,
    pub is_open: bool,
}

/// A lane was opened and its checkpoint read. Producer → Guardian.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LaneOpened {
    pub lane: u8,
    /// Life of the producer.
    pub life: u64,
    pub term: i64,
    /// Last position that the lane holds; [`Position::ZERO`] for a new lane.
    pub position: Position,
}

/// The lane's last checkpoint of its revision is durable. Producer → Guardian.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LaneSealed {
    pub lane: u8,
    /// Life of the producer.
    pub life: u64,
}

/// The lane has committed what it was given, and ended as it was told to. Producer → Guardian.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LaneStopped {
    pub lane: u8,
    /// Life of the producer.
    pub life: u64,
}

/// Every table of the snapshot was read and handed to the router. Snapshot → Guardian.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct SnapshotRead {
    pub generation: u64,
    /// Number of batches that the router got.
    pub batches: u64,
}

/// The rows of a table are noted from now on, for a chunk whose snapshot is about to be taken. Chunks → Router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct OpenWindow {
    pub ticket: Ticket,
    pub oid: u32,
    /// Columns by which its rows are told apart.
    pub key: Vec<Box<str>>,
}

/// The snapshot was taken. Chunks → Router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct MarkWindow {
    pub ticket: Ticket,
    pub snapshot: Visibility,
    /// The end of the WAL right after.
    pub high: Lsn,
    pub answer: oneshot::Sender<merge::Marked>,
}

/// The rows of a chunk, whose range is written down. Chunks → Router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChunkRead {
    pub ticket: Ticket,
    pub batch: ChangeBatch,
    pub plan: Arc<TablePlan>,
    pub credit: Credit,
    pub answer: oneshot::Sender<ChunkRouted>,
}

/// Statements that have no place in the stream, as a chunk of the newest revision. Task → Router.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tell {
    pub batch: ChangeBatch,
    /// Of each of its tables.
    pub plans: Vec<Option<Arc<TablePlan>>>,
    pub credit: Credit,
    /// The number of the batch: they are durable once it is.
    pub answer: oneshot::Sender<u64>,
}

/// What became of the rows of a chunk. Router → Chunks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChunkRouted {
    /// They are durable once batch `seq` is.
    At {
        seq: u64,
        rows: u64,
        /// The stream has told them.
        left_out: u64,
    },
    /// Read the chunk again.
    Again,
}

/// Transactions below this one may have been routed in an earlier life, and may not be visible yet.
/// Chunks → Router.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct RoutedBefore(pub u32);

/// The chunk is given up. Chunks → Router.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct CloseWindow(pub Ticket);

/// Every batch up to this one is durable in every lane. Task → Chunks.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Settled(pub u64);

/// More is to be copied: plans that were written down, and orders. Task → Chunks.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct CopyMore(pub Vec<CopyOrder>);

/// Every table is copied. Chunks → Guardian.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Copied {
    pub generation: u64,
}

/// Tables have come, or are lost. Whoever looks after tables → Guardian.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct TablesSeen {
    pub generation: u64,
    /// Why a person must decide; `None`: tables wait to be copied.
    pub lost: Option<crate::failure::Failure>,
}

/// The generation is over: end without a report. Task → Decoder, Router, Acknowledger, Snapshot.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Retire;

/// The frontier moved. Acknowledger → Guardian.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Advanced {
    pub generation: u64,
    /// Every batch up to this one is durable in every lane.
    pub seq: u64,
    /// Position that is durable in every lane and recorded in the low watermark.
    pub watermark: Lsn,
    /// The watermark is all that can be confirmed now.
    pub is_settled: bool,
}
