//! One lane: encodes, produces, commits; drops what it holds already, by position.
//!
//! [`Lane`] is a state machine that is told the time. Its calls block, so [`LaneThread`] gives it a
//! thread and a queue.

use crate::batch::LaneBatch;
use crate::commit::{At, CommitBudget, OpenTransaction};
use crate::failure::Failure;
use crate::progress::Progress;
use kafka::registry::Registry;
use kafka::sink::{CommitPoint, LaneSink, Opened};
use record::encode::Encoder;
use record::schema::{Ids, Schemas};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use supervision::FailureClass;
use tracing::{debug, error};
use wal::{Lsn, Position};

/// What the thread is told. The queue's end tells it to commit and stop.
#[derive(Debug)]
pub enum Order {
    Write(LaneBatch),
    /// Everything that commits before this was written: say so durably, and end.
    Seal(Lsn),
}

/// What a lane reports.
#[derive(Debug)]
pub enum Event {
    Opened { term: i64, position: Position },
    Durable { generation: u64, seq: u64, position: Position },
    Sealed,
    Failed(Failure),
    Stopped,
}

/// Takes what a lane reports, from its thread.
pub type Report = Arc<dyn Fn(Event) + Send + Sync>;

/// Queues an order for the lane. Dropped, it tells the lane to commit what is queued and to end.
pub type Orders = Box<dyn Fn(Order) + Send + Sync>;

/// Opens the sink: fences older owners and reads the checkpoint. Called again after a dirty commit.
pub type OpenSink = Box<dyn FnMut() -> Result<(Box<dyn LaneSink>, Opened), kafka::Error> + Send>;

/// What a lane asks of the world around it: the thread's in production, a simulated one in tests.
pub trait Surroundings {
    fn now(&self) -> Instant;
    /// Microseconds since 1970.
    fn now_us(&self) -> i64;
    /// Has the registry take the schemas of a table version.
    ///
    /// # Errors
    /// When the registry cannot be asked, or refuses.
    fn register(&mut self, schemas: &Schemas) -> Result<Ids, Failure>;
    fn report(&mut self, event: Event);
}

/// An open lane.
pub struct Lane {
    sink: Box<dyn LaneSink>,
    open: OpenSink,
    /// Where the revision begins: what is not above it was another lane's business.
    floor: Position,
    encoder: Encoder,
    budget: CommitBudget,
    progress: Arc<Progress>,
    /// Highest front that was heard of; batches of older ones are refused.
    generation: u64,
    /// Last position that was given to the sink or found in the checkpoint.
    accepted: Position,
    end_lsn: Lsn,
    transaction: Option<OpenTransaction>,
    /// Generation and number of the last batch that was accepted whole.
    last: Option<(u64, u64)>,
    ends_transaction: bool,
    commit_time_us: u64,
}

impl Lane {
    /// Opens the lane and reports where it stands: not below `floor`, where its revision begins.
    ///
    /// # Errors
    /// When the sink cannot be opened.
    pub fn open(
        mut open: OpenSink,
        encoder: Encoder,
        budget: CommitBudget,
        progress: Arc<Progress>,
        floor: Position,
        around: &mut dyn Surroundings,
    ) -> Result<Self, Failure> {
        let (sink, opened) = open()?;
        let accepted = opened.position().max(floor);
        around.report(Event::Opened { term: opened.term, position: accepted });
        Ok(Self {
            sink,
            open,
            floor,
            encoder,
            budget,
            progress,
            generation: 0,
            accepted,
            end_lsn: opened.end_lsn(),
            transaction: None,
            last: None,
            ends_transaction: true,
            commit_time_us: 0,
        })
    }

    /// Encodes and produces what the lane does not hold yet; commits where that is due.
    ///
    /// # Errors
    /// Any: the lane must be given up. Its next owner learns from the checkpoint what it holds.
    pub fn write(
        &mut self,
        batch: &LaneBatch,
        around: &mut dyn Surroundings,
    ) -> Result<(), Failure> {
        if batch.generation < self.generation {
            return Ok(());
        }
        self.generation = batch.generation;
        let held = self.accepted;
        let mut change_before = None;
        for piece in batch.pieces.iter() {
            let position = batch.batch.position(&batch.batch.changes[piece.change as usize]);
            if position <= held {
                continue;
            }
            if change_before.is_some_and(|before| before != piece.change) {
                self.end_if_due(At::Change, around)?;
            }
            change_before = Some(piece.change);
            self.produce(batch, piece, around)?;
            self.accepted = position;
        }
        self.last = Some((batch.generation, batch.seq));
        self.ends_transaction = batch.ends_transaction;
        if let Some(end) = batch.batch.committed_end_lsn {
            self.end_lsn = self.end_lsn.max(end);
        }
        if self.transaction.is_none() {
            self.report(around);
            return Ok(());
        }
        self.end_if_due(At::Batch { ends_transaction: batch.ends_transaction }, around)
    }

    /// Nothing waits: commits what is open, unless the rest of its source transaction is awaited.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn idle(&mut self, around: &mut dyn Surroundings) -> Result<(), Failure> {
        self.end_if_due(At::Idle { ends_transaction: self.ends_transaction }, around)
    }

    /// The end of the revision: everything that commits before `end` was written. Commits a checkpoint
    /// that says so (delivery-protocol.md, section 8).
    ///
    /// # Errors
    /// As [`Self::write`]; also where a transaction is open, whose end never came.
    pub fn seal(&mut self, end: Lsn, around: &mut dyn Surroundings) -> Result<(), Failure> {
        if self.transaction.is_some() {
            return Err(Failure::transient("the lane cannot be sealed in a transaction"));
        }
        let position = Position::just_before(end).max(self.accepted);
        let point = CommitPoint { position, end_lsn: end, complete: true, sealed: true };
        self.sink.commit(&point)?;
        self.accepted = position;
        around.report(Event::Sealed);
        Ok(())
    }

    /// Lets the client serve its callbacks.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn poll(&mut self) -> Result<(), Failure> {
        Ok(self.sink.poll()?)
    }

    /// Whether a transaction waits for more.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    fn produce(
        &mut self,
        batch: &LaneBatch,
        piece: &record::route::Piece,
        around: &mut dyn Surroundings,
    ) -> Result<(), Failure> {
        let change = &batch.batch.changes[piece.change as usize];
        let Some(plan) = &batch.plans[change.table as usize] else { return Ok(()) };
        // A schema that is refused is known before any row of its version is written.
        if let Some(schemas) = plan.schemas().filter(|schemas| schemas.ids().is_none()) {
            schemas.taken(around.register(schemas)?);
        }
        let transaction = self.transaction.get_or_insert_with(|| OpenTransaction {
            bytes: 0,
            events: 0,
            opened_at: around.now(),
        });
        let (sink, now_us) = (&mut self.sink, around.now_us());
        self.encoder.encode(plan, &batch.batch, piece, now_us, &mut |record| {
            transaction.bytes += record.key.map_or(0, <[u8]>::len) as u64;
            transaction.bytes += record.value.map_or(0, <[u8]>::len) as u64;
            transaction.events += 1;
            sink.send(&record)
        })?;
        if let Some(gap) = record::encode::gap(plan, &batch.batch, piece) {
            let position = batch.batch.position(change);
            error!(%position, gap, "a DDL statement was not captured: its record has `gap`");
        }
        self.commit_time_us = unix_micros(batch.batch.transaction(change).commit_time);
        Ok(())
    }

    fn end_if_due(&mut self, at: At, around: &mut dyn Surroundings) -> Result<(), Failure> {
        let due = |open: &OpenTransaction| open.is_due(at, around.now(), &self.budget);
        let Some(ended) = self.transaction.take_if(|open| due(open)) else { return Ok(()) };
        let complete = match at {
            At::Change => false,
            At::Batch { ends_transaction } | At::Idle { ends_transaction } => ends_transaction,
        };
        let position = self.accepted;
        let point = CommitPoint { position, end_lsn: self.end_lsn, complete, sealed: false };
        let committed = self.sink.commit(&point)?;
        self.progress.records.fetch_add(ended.events, Relaxed);
        self.progress.commits.fetch_add(1, Relaxed);
        self.progress.durable_commit_time_us.fetch_max(self.commit_time_us, Relaxed);
        self.report(around);
        if committed.clean {
            return Ok(());
        }
        debug!("commit was slow or retried, opening the lane again before the next transaction");
        let (sink, opened) = (self.open)()?;
        let position = opened.position().max(self.floor);
        if position != self.accepted {
            return Err(Failure::checkpoint_moved(position, self.accepted));
        }
        self.sink = sink;
        Ok(())
    }

    fn report(&self, around: &mut dyn Surroundings) {
        if let Some((generation, seq)) = self.last {
            around.report(Event::Durable { generation, seq, position: self.accepted });
        }
    }
}

/// How often an idle thread serves the client's callbacks.
const IDLE_POLL: Duration = Duration::from_millis(500);
/// How often, while a transaction waits for the rest of its source transaction.
const OPEN_POLL: Duration = Duration::from_millis(2);

/// Everything the thread of a lane is made of.
pub struct LaneThread {
    pub lane: u8,
    pub open: OpenSink,
    pub encoder: Encoder,
    pub budget: CommitBudget,
    pub progress: Arc<Progress>,
    /// Where the revision begins.
    pub floor: Position,
    /// Of formats whose schemas live in one.
    pub registry: Option<Registry>,
}

/// The thread's surroundings. Says how the thread ended, whatever ended it.
struct Thread {
    report: Report,
    registry: Option<Registry>,
    ended: Option<Result<(), Failure>>,
}

impl Surroundings for Thread {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn now_us(&self) -> i64 {
        micros_now()
    }

    fn register(&mut self, schemas: &Schemas) -> Result<Ids, Failure> {
        let registry = self.registry.as_ref();
        let registry = registry.ok_or_else(|| {
            Failure::fatal("the format needs a schema registry; set `sink.registry`")
        })?;
        let key = schemas.key.as_ref().map(|it| registry.register(it)).transpose();
        let key = key.map_err(kafka::Error::from)?;
        let value = registry.register(&schemas.value).map_err(kafka::Error::from)?;
        Ok(Ids { key, value })
    }

    fn report(&mut self, event: Event) {
        (self.report)(event);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let panicked = || {
            let cause = "the lane's thread panicked; see the log line of the panic";
            Err(Failure { class: FailureClass::Transient, cause: cause.into() })
        };
        (self.report)(match self.ended.take().unwrap_or_else(panicked) {
            Ok(()) => Event::Stopped,
            Err(failure) => Event::Failed(failure),
        });
    }
}

impl LaneThread {
    /// Starts the thread. `until_ended` is dropped when it ends.
    #[must_use]
    pub fn spawn(self, report: Report, until_ended: impl Send + 'static) -> Orders {
        let (orders, queue) = std::sync::mpsc::channel();
        let name = format!("lane {}", self.lane);
        let unheard = Arc::clone(&report);
        let work = move || {
            let _until_ended = until_ended;
            self.run(&queue, report);
        };
        if let Err(error) = std::thread::Builder::new().name(name).spawn(work) {
            let cause = format!("no thread for the lane: {error}; raise the process limit");
            unheard(Event::Failed(Failure::transient(cause)));
        }
        // A thread that has ended has reported why.
        Box::new(move |order| drop(orders.send(order)))
    }

    /// Runs until the queue ends or something fails, and reports which.
    pub fn run(mut self, queue: &Receiver<Order>, report: Report) {
        let mut thread = Thread { report, registry: self.registry.take(), ended: None };
        thread.ended = Some(self.work(queue, &mut thread));
    }

    fn work(self, queue: &Receiver<Order>, thread: &mut Thread) -> Result<(), Failure> {
        let Self { lane: number, open, encoder, budget, progress, floor, .. } = self;
        let mut lane = Lane::open(open, encoder, budget, progress, floor, thread)?;
        loop {
            let order = match queue.try_recv() {
                Ok(order) => Some(order),
                Err(empty) => {
                    lane.idle(thread)?;
                    if empty == TryRecvError::Disconnected {
                        // What is still open belongs to an unfinished source transaction: the next
                        // owner's fence aborts it.
                        debug!(lane = number, "lane told to stop");
                        return Ok(());
                    }
                    wait(&mut lane, queue)?
                }
            };
            match order {
                Some(Order::Write(batch)) => lane.write(&batch, thread)?,
                Some(Order::Seal(end)) => return lane.seal(end, thread),
                None => {}
            }
        }
    }
}

/// Waits for the next order while the client is served.
fn wait(lane: &mut Lane, queue: &Receiver<Order>) -> Result<Option<Order>, Failure> {
    let patience = if lane.is_in_transaction() { OPEN_POLL } else { IDLE_POLL };
    let order = queue.recv_timeout(patience);
    lane.poll()?;
    Ok(order.ok())
}

pub(crate) fn micros_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// PostgreSQL's epoch is 2000-01-01.
pub(crate) fn unix_micros(since_2000: i64) -> u64 {
    u64::try_from(since_2000.saturating_add(946_684_800_000_000)).unwrap_or(0)
}
