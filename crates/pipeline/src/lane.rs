//! The thread of one lane: encodes, produces, commits. Blocking on purpose.
//!
//! One loop over a queue; the sink is opened first (fencing every older owner), what it already
//! holds is dropped by position, and a transaction ends by [`CommitBudget`].

use crate::batch::LaneBatch;
use crate::commit::{At, CommitBudget, OpenTransaction};
use crate::failure::Failure;
use crate::progress::Progress;
use actix::{Message, Recipient};
use kafka::sink::{CommitPoint, LaneSink, Opened};
use record::encode::Encoder;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use supervision::FailureClass;
use tracing::debug;
use wal::{Lsn, Position};

/// What the thread is told. The queue's end tells it to commit and stop.
#[derive(Debug)]
pub enum Order {
    Write(LaneBatch),
}

/// What the thread reports to its actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Event {
    Opened { term: i64, position: Position },
    Durable { generation: u64, seq: u64, position: Position },
    Failed(Failure),
    Stopped,
}

/// Opens the sink: fences older owners and reads the checkpoint. Called again after a dirty commit.
pub type OpenSink =
    Box<dyn FnMut() -> Result<(Box<dyn LaneSink>, Opened), kafka::Error> + Send>;

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
}

/// The open lane.
struct Lane {
    sink: Box<dyn LaneSink>,
    encoder: Encoder,
    budget: CommitBudget,
    progress: Arc<Progress>,
    /// Highest front that was heard of; batches of older ones are refused.
    generation: u64,
    /// Last position that was given to the sink or found in the checkpoint.
    accepted: Position,
    end_lsn: Lsn,
    transaction: Option<OpenTransaction>,
    /// Last batch that was accepted whole.
    last: Option<(u64, u64)>,
    ends_transaction: bool,
    commit_time_us: u64,
}

/// Says how the thread ended, whatever ended it.
struct Farewell {
    events: Recipient<Event>,
    ended: Option<Result<(), Failure>>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let panicked = || {
            let cause = "the lane's thread panicked; see the log line of the panic";
            Err(Failure { class: FailureClass::Transient, cause: cause.into() })
        };
        self.events.do_send(match self.ended.take().unwrap_or_else(panicked) {
            Ok(()) => Event::Stopped,
            Err(failure) => Event::Failed(failure),
        });
    }
}

impl LaneThread {
    /// Runs until the queue ends or something fails, and reports which.
    pub fn run(self, queue: &Receiver<Order>, events: Recipient<Event>) {
        let mut farewell = Farewell { events: events.clone(), ended: None };
        farewell.ended = Some(self.work(queue, &events));
    }

    fn work(self, queue: &Receiver<Order>, events: &Recipient<Event>) -> Result<(), Failure> {
        let Self { lane, mut open, encoder, budget, progress } = self;
        let (sink, opened) = open()?;
        let accepted = opened.position();
        events.do_send(Event::Opened { term: opened.term, position: accepted });
        let mut state = Lane {
            sink,
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
        };
        loop {
            match queue.try_recv() {
                Ok(Order::Write(batch)) => state.write(&batch, events, &mut open)?,
                Err(empty) => {
                    let at = At::Idle { ends_transaction: state.ends_transaction };
                    state.end_if_due(at, events, &mut open)?;
                    if empty == TryRecvError::Disconnected {
                        // What is still open belongs to an unfinished source transaction: the next
                        // owner's fence aborts it.
                        debug!(lane, "lane told to stop");
                        return Ok(());
                    }
                    if let Some(Order::Write(batch)) = state.wait(queue)? {
                        state.write(&batch, events, &mut open)?;
                    }
                }
            }
        }
    }
}

impl Lane {
    /// Waits for the next order while it serves the client.
    fn wait(&mut self, queue: &Receiver<Order>) -> Result<Option<Order>, Failure> {
        let patience = if self.transaction.is_some() { OPEN_POLL } else { IDLE_POLL };
        let order = match queue.recv_timeout(patience) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        };
        self.sink.poll()?;
        Ok(order)
    }

    /// Encodes and produces what the lane does not hold yet.
    fn write(
        &mut self,
        batch: &LaneBatch,
        events: &Recipient<Event>,
        open: &mut OpenSink,
    ) -> Result<(), Failure> {
        if batch.generation < self.generation {
            return Ok(());
        }
        self.generation = batch.generation;
        let now_us = micros_now();
        let held = self.accepted;
        let mut change_before = None;
        for piece in batch.pieces.iter() {
            let change = &batch.batch.changes[piece.change as usize];
            let position = batch.batch.position(change);
            if position <= held {
                continue;
            }
            if change_before.is_some_and(|before| before != piece.change) {
                self.end_if_due(At::Change, events, open)?;
            }
            change_before = Some(piece.change);
            let Some(plan) = &batch.plans[change.table as usize] else { continue };
            let transaction = self.transaction.get_or_insert_with(|| OpenTransaction {
                bytes: 0,
                events: 0,
                opened_at: Instant::now(),
            });
            let (sink, mut bytes, mut events_count) = (&mut self.sink, 0u64, 0u64);
            self.encoder.encode(plan, &batch.batch, piece, now_us, &mut |record| {
                bytes += record.key.map_or(0, <[u8]>::len) as u64;
                bytes += record.value.map_or(0, <[u8]>::len) as u64;
                events_count += 1;
                sink.send(&record)
            })?;
            transaction.bytes += bytes;
            transaction.events += events_count;
            self.progress.records.fetch_add(events_count, Relaxed);
            self.accepted = position;
            self.commit_time_us = unix_micros(batch.batch.transaction(change).commit_time);
        }
        self.last = Some((batch.generation, batch.seq));
        self.ends_transaction = batch.ends_transaction;
        if let Some(end) = batch.batch.committed_end_lsn {
            self.end_lsn = end;
        }
        if self.transaction.is_none() {
            self.report(events);
            return Ok(());
        }
        self.end_if_due(At::Batch { ends_transaction: batch.ends_transaction }, events, open)
    }

    fn end_if_due(
        &mut self,
        at: At,
        events: &Recipient<Event>,
        open: &mut OpenSink,
    ) -> Result<(), Failure> {
        let due = |open: OpenTransaction| open.is_due(at, Instant::now(), &self.budget);
        if !self.transaction.is_some_and(due) {
            return Ok(());
        }
        self.transaction = None;
        let complete = match at {
            At::Change => false,
            At::Batch { ends_transaction } | At::Idle { ends_transaction } => ends_transaction,
        };
        let point = CommitPoint { position: self.accepted, end_lsn: self.end_lsn, complete };
        let committed = self.sink.commit(&point)?;
        self.progress.commits.fetch_add(1, Relaxed);
        self.progress.durable_commit_time_us.fetch_max(self.commit_time_us, Relaxed);
        self.report(events);
        if committed.clean {
            return Ok(());
        }
        debug!("commit was slow or retried, opening the lane again before the next transaction");
        let (sink, opened) = open()?;
        if opened.position() != self.accepted {
            return Err(Failure::checkpoint_moved(opened.position(), self.accepted));
        }
        self.sink = sink;
        Ok(())
    }

    fn report(&self, events: &Recipient<Event>) {
        if let Some((generation, seq)) = self.last {
            events.do_send(Event::Durable { generation, seq, position: self.accepted });
        }
    }
}

fn micros_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// PostgreSQL's epoch is 2000-01-01.
fn unix_micros(since_2000: i64) -> u64 {
    u64::try_from(since_2000.saturating_add(946_684_800_000_000)).unwrap_or(0)
}
