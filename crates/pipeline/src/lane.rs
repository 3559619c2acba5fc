//! One lane: encodes, produces, commits; drops what it holds already, by position.
//!
//! [`Lane`] is a state machine that is told the time. Its calls block, so [`LaneThread`] gives it a
//! thread and a queue.

use crate::batch::LaneBatch;
use crate::commit::{At, CommitBudget, OpenTransaction, Tempo};
use crate::failure::Failure;
use crate::misfit::{Misfits, Refused, Told};
use crate::progress::Progress;
use config::Oversize;
use kafka::limits::Limits;
use kafka::registry::Registry;
use kafka::sink::{CommitPoint, LaneSink, Opened};
use record::Record;
use record::encode::{Cause, EncodeError, Encoder, Letter};
use record::plan::TablePlan;
use record::route::Piece;
use record::schema::{Schemas, Settled};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use supervision::FailureClass;
use tracing::{debug, error, warn};
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
    fn register(&mut self, schemas: &Schemas) -> Result<Settled, Failure>;
    /// The largest record that a topic takes, in bytes.
    ///
    /// # Errors
    /// When the brokers cannot be asked.
    fn record_bytes_max(&mut self, topic: &str) -> Result<u64, Failure>;
    fn report(&mut self, event: Event);
}

/// An open lane.
pub struct Lane {
    number: u8,
    sink: Box<dyn LaneSink>,
    open: OpenSink,
    /// Where the revision begins: what is not above it was another lane's business.
    floor: Position,
    encoder: Encoder,
    misfits: Misfits,
    budget: CommitBudget,
    progress: Arc<Progress>,
    /// Highest front that was heard of; batches of older ones are refused.
    generation: u64,
    /// Last position that was given to the sink or found in the checkpoint.
    accepted: Position,
    end_lsn: Lsn,
    transaction: Option<OpenTransaction>,
    tempo: Tempo,
    /// Generation and number of the last batch that was accepted whole.
    last: Option<(u64, u64)>,
    ends_transaction: bool,
    commit_time_us: u64,
    /// Chunks of snapshots that the lane holds, as far as it may be asked to write them again.
    chunks: Vec<String>,
    /// Dead letters of the open transaction.
    dead_letters: u64,
    /// DDL statements that were not captured, of the open transaction.
    ddl_gaps: u64,
    told: Told,
}

/// A look at the clock for each row would show among what a row costs.
const PIECES_PER_LOOK: usize = 64;
/// No topic refuses smaller records: they need not be measured.
const MEASURED_BYTES_MIN: u64 = 1024;

impl Lane {
    /// Opens the lane and reports where it stands: not below `floor`, where its revision begins.
    ///
    /// # Errors
    /// When the sink cannot be opened.
    pub fn open(
        mut open: OpenSink,
        mut encoder: Encoder,
        budget: CommitBudget,
        progress: Arc<Progress>,
        floor: Position,
        around: &mut dyn Surroundings,
    ) -> Result<Self, Failure> {
        let (sink, opened) = open()?;
        let accepted = opened.position().max(floor);
        encoder.count_from(opened.counted());
        around.report(Event::Opened { term: opened.term, position: accepted });
        Ok(Self {
            number: 0,
            sink,
            open,
            floor,
            encoder,
            misfits: Misfits::default(),
            budget,
            progress,
            generation: 0,
            accepted,
            end_lsn: opened.end_lsn(),
            transaction: None,
            tempo: Tempo::default(),
            last: None,
            ends_transaction: true,
            commit_time_us: 0,
            chunks: opened.chunks(),
            dead_letters: 0,
            ddl_gaps: 0,
            told: Told::default(),
        })
    }

    /// The same, with other policies than to fail.
    #[must_use]
    pub fn with_misfits(self, misfits: Misfits) -> Self {
        Self { misfits, ..self }
    }

    /// By which number its figures are told, and its records are counted.
    #[must_use]
    pub fn numbered(self, number: u8) -> Self {
        Self { number, encoder: self.encoder.of_lane(number), ..self }
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
        if let Some(chunk) = &batch.batch.chunk {
            return self.write_chunk(batch, chunk, around);
        }
        let held = self.accepted;
        let mut before = None;
        for (index, piece) in batch.pieces.iter().enumerate() {
            let position = batch.batch.position(&batch.batch.changes[piece.change as usize]);
            if position <= held {
                continue;
            }
            // An inferred statement shares the position of the change that it was told from.
            if before.is_some_and(|before| before != position) && self.may_be_due(index) {
                self.end_if_due(At::Change, around)?;
            }
            before = Some(position);
            self.encoder.place(batch.orders.get(index).copied());
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

    /// A chunk stands where the stream is now and moves no position: what the lane holds of it, it knows
    /// by the chunk's name. All its rows are in one transaction.
    fn write_chunk(
        &mut self,
        batch: &LaneBatch,
        chunk: &wal::Chunk,
        around: &mut dyn Surroundings,
    ) -> Result<(), Failure> {
        if !self.chunks.contains(&chunk.name) {
            // How late the stream is, a chunk does not tell.
            let commit_time_us = self.commit_time_us;
            for piece in batch.pieces.iter() {
                self.produce(batch, piece, around)?;
            }
            self.commit_time_us = commit_time_us;
            self.chunks.retain(|it| chunk.open.contains(it));
            self.chunks.push(chunk.name.clone());
            self.sink.note_chunks(&self.chunks);
        }
        self.last = Some((batch.generation, batch.seq));
        if self.transaction.is_none() {
            self.report(around);
            return Ok(());
        }
        // It may stand between two parts of a source transaction.
        let ends_transaction = batch.ends_transaction && self.ends_transaction;
        self.end_if_due(At::Batch { ends_transaction }, around)
    }

    /// Nothing waits: commits what is open, unless the rest of its source transaction is awaited.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn idle(&mut self, around: &mut dyn Surroundings) -> Result<(), Failure> {
        self.end_if_due(At::Idle { ends_transaction: self.ends_transaction }, around)
    }

    /// How long to wait for more before [`Self::idle`]; `None`: not at all.
    #[must_use]
    pub fn patience(&self, around: &dyn Surroundings) -> Option<Duration> {
        let open = self.transaction.as_ref()?;
        self.tempo.patience(open, around.now(), &self.budget_now(around))
    }

    /// Whether to look at the clock within a batch, before its piece `index`.
    fn may_be_due(&self, index: usize) -> bool {
        let is_full = |open: &OpenTransaction| open.is_full(&self.budget);
        index.is_multiple_of(PIECES_PER_LOOK) || self.transaction.as_ref().is_some_and(is_full)
    }

    /// The budget for the age of what the lane writes.
    fn budget_now(&self, around: &dyn Surroundings) -> CommitBudget {
        let now_us = u64::try_from(around.now_us()).unwrap_or_default();
        // A lane that has written nothing is not behind.
        let written_us = Some(self.commit_time_us).filter(|&it| it != 0).unwrap_or(now_us);
        self.budget.behind(Duration::from_micros(now_us.saturating_sub(written_us)))
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
        let counted = self.encoder.counted();
        let point = CommitPoint { position, end_lsn: end, complete: true, sealed: true, counted };
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
        self.sink.poll().map_err(|error| self.refused(error))
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
        self.commit_time_us = unix_micros(batch.batch.transaction(change).commit_time);
        // A schema that is refused is known before any row of its version is written.
        if let Some(reason) = self.schemas_refused(plan, around)? {
            return self.set_aside(batch, piece, Cause::SchemaRefused, &reason, around);
        }
        let transaction = self.transaction.get_or_insert_with(|| OpenTransaction {
            bytes: 0,
            events: 0,
            opened_at: around.now(),
        });
        let (sink, misfits, now_us) = (&mut self.sink, &self.misfits, around.now_us());
        let encoded = self.encoder.encode(plan, &batch.batch, piece, now_us, &mut |record| {
            put(sink.as_mut(), misfits, misfits.oversize, transaction, &record, around)
        });
        let error = match encoded {
            Ok(()) => {
                if let Some(gap) = record::encode::gap(plan, &batch.batch, piece) {
                    self.ddl_gaps += 1;
                    let position = batch.batch.position(change);
                    error!(%position, gap, "a DDL statement was not captured: its record has `gap`");
                }
                return Ok(());
            }
            Err(error) => error,
        };
        match self.misfits.cause(&error) {
            Some(cause) => self.set_aside(batch, piece, cause, &error.to_string(), around),
            None => Err(self.failure(error)),
        }
    }

    /// Why the registry does not take the schemas of a table version, where its rows go elsewhere then.
    fn schemas_refused(
        &self,
        plan: &TablePlan,
        around: &mut dyn Surroundings,
    ) -> Result<Option<String>, Failure> {
        let Some(schemas) = plan.schemas().filter(|schemas| schemas.ids().is_none()) else {
            return Ok(None);
        };
        if let Some(reason) = schemas.refusal() {
            return Ok(Some(reason.to_owned()));
        }
        match around.register(schemas) {
            Ok(ids) => schemas.taken(ids),
            Err(failure)
                if failure.class == FailureClass::Poison && self.misfits.set_aside_schemas =>
            {
                schemas.refused(&failure.cause);
                return Ok(Some(failure.cause));
            }
            Err(failure) => return Err(failure),
        }
        Ok(None)
    }

    /// Writes a piece to the dead-letter topic, in the transaction of its lane. What is too large for that
    /// topic, too, is cut.
    fn set_aside(
        &mut self,
        batch: &LaneBatch,
        piece: &Piece,
        cause: Cause,
        reason: &str,
        around: &mut dyn Surroundings,
    ) -> Result<(), Failure> {
        let change = &batch.batch.changes[piece.change as usize];
        let Some(plan) = &batch.plans[change.table as usize] else { return Ok(()) };
        let Some((topic, partition)) = &self.misfits.letters else {
            return Err(Failure { class: FailureClass::Poison, cause: reason.into() });
        };
        let letter = Letter { topic, partition: *partition, cause, reason };
        let transaction = self.transaction.get_or_insert_with(|| OpenTransaction {
            bytes: 0,
            events: 0,
            opened_at: around.now(),
        });
        let (sink, misfits) = (&mut self.sink, &self.misfits);
        let written = self.encoder.letter(plan, &batch.batch, piece, &letter, &mut |record| {
            put(sink.as_mut(), misfits, Oversize::Chunk, transaction, &record, around)
        });
        written.map_err(|error| self.failure(error))?;
        self.dead_letters += 1;
        if let Some(changes) = self.told.one(around.now()) {
            let (cause, table) = (cause.word(), plan.table());
            let (schema, table) = (&table.schema, &table.name);
            let position = batch.batch.position(change);
            warn!(%schema, %table, %position, cause, reason, changes, "set aside in the dead-letter topic");
        }
        Ok(())
    }

    fn failure(&self, error: EncodeError<Refused>) -> Failure {
        let (cause, is_of_value) = (error.to_string(), error.is_of_value());
        let EncodeError::Sink(refused) = error else {
            let class = if is_of_value { FailureClass::Poison } else { FailureClass::Transient };
            return Failure { class, cause };
        };
        match refused {
            Refused::Sink(error) => self.refused(error),
            Refused::Limit(failure) => failure,
            Refused::Oversize { .. } | Refused::NotCut { .. } => {
                Failure { class: FailureClass::Poison, cause }
            }
        }
    }

    /// What an error of the sink means. A topic whose limit was lowered while the lane wrote is measured anew
    /// by its next life.
    fn refused(&self, error: kafka::Error) -> Failure {
        let is_measured = |topic: &str| {
            let letters = self.misfits.letters.as_ref().is_some_and(|(name, _)| **name == *topic);
            letters || self.misfits.oversize != Oversize::Fail
        };
        if let kafka::Error::RecordTooLarge { topic, .. } = &error
            && is_measured(topic)
        {
            return Failure::transient(error.to_string());
        }
        Failure::from(error)
    }

    fn end_if_due(&mut self, at: At, around: &mut dyn Surroundings) -> Result<(), Failure> {
        let budget = self.budget_now(around);
        let due = |open: &OpenTransaction| open.is_due(at, around.now(), &budget);
        let Some(ended) = self.transaction.take_if(|open| due(open)) else { return Ok(()) };
        let complete = match at {
            At::Change => false,
            At::Batch { ends_transaction } | At::Idle { ends_transaction } => ends_transaction,
        };
        let position = self.accepted;
        let (end_lsn, counted) = (self.end_lsn, self.encoder.counted());
        let point = CommitPoint { position, end_lsn, complete, sealed: false, counted };
        let committed = self.sink.commit(&point).map_err(|error| self.refused(error))?;
        self.tempo.ended(&ended, around.now());
        self.progress.records.fetch_add(ended.events, Relaxed);
        let dead_letters = std::mem::take(&mut self.dead_letters);
        self.progress.dead_letters.fetch_add(dead_letters, Relaxed);
        let ddl_gaps = std::mem::take(&mut self.ddl_gaps);
        self.progress.ddl_gaps.fetch_add(ddl_gaps, Relaxed);
        self.progress.committed(self.number, ended.events);
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

/// Hands a record over; measures it first where a policy says what becomes of one that is too large.
fn put(
    sink: &mut dyn LaneSink,
    misfits: &Misfits,
    oversize: Oversize,
    transaction: &mut OpenTransaction,
    record: &Record<'_>,
    around: &mut dyn Surroundings,
) -> Result<(), Refused> {
    let mut send = |record: Record<'_>| {
        transaction.bytes += record.key.map_or(0, <[u8]>::len) as u64;
        transaction.bytes += record.value.map_or(0, <[u8]>::len) as u64;
        transaction.events += 1;
        sink.send(&record).map_err(Refused::Sink)
    };
    let bytes = record.bytes();
    if oversize == Oversize::Fail || !misfits.are_measured() || bytes < MEASURED_BYTES_MIN {
        return send(*record);
    }
    let bytes_max = around.record_bytes_max(record.topic).map_err(Refused::Limit)?;
    match oversize {
        Oversize::DeadLetter if bytes_max < bytes => {
            Err(Refused::Oversize { topic: record.topic.into(), bytes, bytes_max })
        }
        Oversize::DeadLetter | Oversize::Fail => send(*record),
        Oversize::Chunk => record::chunk::cut(record, bytes_max, &mut send)
            .unwrap_or_else(|| Err(Refused::NotCut { topic: record.topic.into(), bytes_max })),
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
    pub misfits: Misfits,
    pub budget: CommitBudget,
    pub progress: Arc<Progress>,
    /// Where the revision begins.
    pub floor: Position,
    /// How large records may be.
    pub limits: Option<Limits>,
    /// Of formats whose schemas live in one.
    pub registry: Option<Registry>,
}

/// The thread's surroundings. Says how the thread ended, whatever ended it.
struct Thread {
    report: Report,
    registry: Option<Registry>,
    limits: Option<Limits>,
    ended: Option<Result<(), Failure>>,
}

impl Surroundings for Thread {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn now_us(&self) -> i64 {
        micros_now()
    }

    fn register(&mut self, schemas: &Schemas) -> Result<Settled, Failure> {
        let registry = self.registry.as_ref();
        let registry = registry.ok_or_else(|| {
            Failure::fatal("the format needs a schema registry; set `sink.registry`")
        })?;
        let key = schemas.key.as_ref().map(|it| registry.settle(it)).transpose();
        let key = key.map_err(kafka::Error::from)?;
        let value = registry.settle(&schemas.value).map_err(kafka::Error::from)?;
        Ok(Settled { key, value })
    }

    fn record_bytes_max(&mut self, topic: &str) -> Result<u64, Failure> {
        let Some(limits) = &mut self.limits else { return Ok(u64::MAX) };
        Ok(limits.record_bytes_max(topic)?)
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
        let (registry, limits) = (self.registry.take(), self.limits.take());
        let mut thread = Thread { report, registry, limits, ended: None };
        thread.ended = Some(self.work(queue, &mut thread));
    }

    fn work(self, queue: &Receiver<Order>, thread: &mut Thread) -> Result<(), Failure> {
        let Self { lane: number, open, encoder, misfits, budget, progress, floor, .. } = self;
        let lane = Lane::open(open, encoder, budget, progress, floor, thread)?;
        let mut lane = lane.with_misfits(misfits).numbered(number);
        loop {
            let order = match queue.try_recv() {
                Ok(order) => Some(order),
                Err(TryRecvError::Disconnected) => {
                    lane.idle(thread)?;
                    // What is still open belongs to an unfinished source transaction: the next
                    // owner's fence aborts it.
                    debug!(lane = number, "lane told to stop");
                    lane.sink.close();
                    return Ok(());
                }
                Err(TryRecvError::Empty) => wait(&mut lane, queue, thread)?,
            };
            match order {
                Some(Order::Write(batch)) => lane.write(&batch, thread)?,
                Some(Order::Seal(end)) => {
                    lane.idle(thread)?;
                    lane.seal(end, thread)?;
                    lane.sink.close();
                    return Ok(());
                }
                None => {}
            }
        }
    }
}

/// Waits for the next order while the client is served. What is open is committed before, unless more is
/// likely to come within a moment: then the queue fills without a look at it, since what the client gets
/// together goes to the broker in one request, and each request costs both more than a row does.
fn wait(
    lane: &mut Lane,
    queue: &Receiver<Order>,
    thread: &mut Thread,
) -> Result<Option<Order>, Failure> {
    while let Some(patience) = lane.patience(thread) {
        std::thread::sleep(patience.min(lane.budget.gather()));
        match queue.try_recv() {
            Ok(order) => return Ok(Some(order)),
            Err(TryRecvError::Empty) => {}
            // Told once more by the next look.
            Err(TryRecvError::Disconnected) => return Ok(None),
        }
    }
    lane.idle(thread)?;
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
