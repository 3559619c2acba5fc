//! One connection that reads chunks of any table.

use super::{Described, Job, Shared};
use crate::batch::{ChunkRead, CloseWindow, MarkWindow, OpenWindow};
use crate::chunk::copy::{Key, Range, Work};
use crate::chunk::key::{key_columns, key_names, key_text};
use crate::chunk::merge::{Marked, Ticket};
use crate::chunk::throttle::Amount;
use crate::failure::Failure;
use crate::router::Router;
use crate::task::microseconds_now;
use actix::Addr;
use futures_util::StreamExt;
use postgres::Error;
use postgres::chunk::{Begun, Between, ChunkReader};
use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{debug, info};
use wal::copy::SnapshotBatch;
use wal::{ChangeBatch, Chunk, Lsn};

/// After a commit that was streamed and is not visible, or a lock that was not to be had.
const LATER: Duration = Duration::from_millis(20);
/// Chunks of a segment: what one connection reads before others may take the rest.
const SEGMENT_CHUNKS: u64 = 16;
/// A chunk is cut where its rows turn out to be so many times larger than was thought.
const OVERSIZE: u64 = 2;

/// What became of a job.
enum Outcome {
    Done,
    /// Try again: what was known of the table is old.
    Again,
    /// Try again: it could not be done now.
    Later,
}

/// Errors of the source decide what is tried again.
enum Failed {
    Source(Error),
    Other(Failure),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Source(error)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// Rows of a chunk.
struct Rows {
    batch: ChangeBatch,
    count: u64,
    bytes: u64,
    /// Key of the last row, where more may follow.
    upto: Option<Key>,
}

/// Notes what happens to the rows of a table; closed by drop unless the chunk was handed on.
struct Window {
    router: Addr<Router>,
    ticket: Ticket,
    is_open: bool,
}

impl Drop for Window {
    fn drop(&mut self) {
        if self.is_open {
            self.router.do_send(CloseWindow(self.ticket));
        }
    }
}

/// What a job is about.
struct At<'a> {
    shared: &'a Rc<Shared>,
    reader: &'a ChunkReader,
    index: usize,
    epoch: u64,
    /// What it has paid for, until it has read something else.
    paid: Cell<Option<Amount>>,
}

/// Reads whatever is to be read.
pub(super) async fn read(shared: &Rc<Shared>) -> Result<Infallible, Failure> {
    let reader = ChunkReader::open(&shared.settings).await?;
    loop {
        // What happens between the look and the wait must not be missed.
        let mut changed = pin!(shared.changed.notified());
        changed.as_mut().enable();
        let Some((index, epoch, job)) = shared.take() else {
            changed.await;
            continue;
        };
        let expected = shared.expected(index, &job);
        shared.turns.take(expected).await;
        let at = At { shared, reader: &reader, index, epoch, paid: Cell::new(Some(expected)) };
        let worked = at.work(&job).await;
        at.has_read(Amount::default());
        let outcome = match worked {
            Ok(outcome) => outcome,
            // Somebody alters the table, or has just done so.
            Err(Failed::Source(Error::LockTimeout { .. })) => Outcome::Later,
            Err(Failed::Source(Error::TableMissing { .. } | Error::TableRewritten { .. })) => {
                Outcome::Again
            }
            // The task goes on without what somebody has asked for besides.
            Err(Failed::Source(
                error @ (Error::Unsupported { .. } | Error::NotAuthorized { .. }),
            )) if shared.is_asked(index) => {
                reader.end().await?;
                shared.give_up(index, &error.to_string());
                Outcome::Done
            }
            Err(Failed::Source(error)) => return Err(error.into()),
            Err(Failed::Other(failure)) => return Err(failure),
        };
        if matches!(outcome, Outcome::Done) {
            continue;
        }
        reader.end().await?;
        if matches!(outcome, Outcome::Again) {
            shared.tables.borrow_mut()[index].described = None;
        }
        tokio::time::sleep(LATER).await;
        shared.give_back(index, epoch, job);
    }
}

impl At<'_> {
    /// The first one counts.
    fn has_read(&self, read: Amount) {
        if let Some(expected) = self.paid.take() {
            self.shared.turns.settle(expected, read);
        }
    }

    async fn work(&self, job: &Job) -> Result<Outcome, Failed> {
        let described = match self.describe().await? {
            Ok(described) => described,
            Err(why) => {
                self.shared.give_up(self.index, &why);
                return Ok(Outcome::Done);
            }
        };
        let window = self.open(&described);
        let begun = self.reader.begin(&described.table).await?;
        if begun.shape != described.table.shape {
            return Ok(Outcome::Again);
        }
        let key = key_names(&described.table.table).unwrap_or_default();
        let (is_old, is_other) = {
            let copy = &self.shared.tables.borrow()[self.index].copy;
            (copy.epoch() != self.epoch, copy.files() != begun.files || *copy.key() != *key)
        };
        if is_old {
            self.reader.end().await?;
            return Ok(Outcome::Done);
        }
        if is_other {
            return self.begin(&described, begun, key).await;
        }
        match job {
            Job::Begin => Ok(Outcome::Again),
            Job::Work(Work::Cut(range)) => self.cut(&described, range).await,
            Job::Work(Work::Read(range)) => {
                let limit = self.shared.rows_max(self.index);
                match self.chunk(&window, &described, begun, range, Some(limit)).await? {
                    Some(rows) => self.emit_new(&described, range, rows, window).await,
                    None => Ok(Outcome::Later),
                }
            }
            Job::Work(Work::Redo(number, range)) => {
                match self.chunk(&window, &described, begun, range, None).await? {
                    Some(rows) => self.emit(&described, *number, rows, window).await,
                    None => Ok(Outcome::Later),
                }
            }
        }
    }

    /// The table as it is now, or why it cannot be copied.
    async fn describe(&self) -> Result<Result<Described, String>, Failed> {
        let (oid, only, described, condition) = {
            let table = &self.shared.tables.borrow()[self.index];
            let condition = table.copy.condition().map(str::to_owned);
            (table.oid, table.only, table.described.clone(), condition)
        };
        if let Some(described) = described {
            return Ok(Ok(described));
        }
        let gone = || Ok(Err("it is gone, or not selected any more".to_owned()));
        let Some(table) = self.reader.describe(oid, only, key_names).await? else { return gone() };
        let plans = self.shared.planner.plan(&table.table).await?;
        let Some(plan) = plans.newest().cloned() else { return gone() };
        let condition = match condition.map(|it| plan.narrowed(&it)).transpose() {
            Ok(condition) => condition.map(Arc::from),
            Err(error) => return Ok(Err(format!("the condition: {error}"))),
        };
        let described = Described { table: Arc::new(table), plan, condition };
        self.shared.tables.borrow_mut()[self.index].described = Some(described.clone());
        Ok(Ok(described))
    }

    fn open(&self, described: &Described) -> Window {
        let (table, router) = (&described.table.table, &self.shared.router);
        let ticket = self.shared.ticket.get();
        self.shared.ticket.set(ticket + 1);
        let key = key_names(table).unwrap_or_default();
        router.do_send(OpenWindow { ticket, oid: table.oid, key });
        Window { router: router.clone(), ticket, is_open: true }
    }

    /// Reading begins, or begins again.
    async fn begin(
        &self,
        described: &Described,
        begun: Begun,
        key: Vec<Box<str>>,
    ) -> Result<Outcome, Failed> {
        let last = self.reader.last(&described.table).await?;
        self.reader.end().await?;
        let table = &described.table.readable;
        let ((), version) = self.shared.change(self.index, |it| {
            // Another connection may have found out, too.
            if it.copy.epoch() != self.epoch {
                return;
            }
            let again = !it.copy.files().is_empty();
            info!(schema = table.schema, table = table.name, again, "table is copied");
            it.beginning = false;
            it.copy.begin(key, begun.files, last);
        });
        self.shared.saved(version).await;
        Ok(Outcome::Done)
    }

    async fn cut(&self, described: &Described, range: &Range) -> Result<Outcome, Failed> {
        let rows = self.shared.chunk_rows(self.index) * SEGMENT_CHUNKS;
        // One connection has nobody to share with. A condition may leave so little that a whole table is read for
        // one chunk: its snapshot must not grow old.
        let at = if self.shared.snapshot.parallel <= 1 && described.condition.is_none() {
            None
        } else {
            self.reader.cut(&described.table, between(range), rows).await?
        };
        self.reader.end().await?;
        self.shared.change(self.index, |table| {
            if table.copy.epoch() == self.epoch {
                table.copy.cut(at);
            }
        });
        Ok(Outcome::Done)
    }

    /// Reads the rows of a chunk. `None`: the snapshot does not see what the stream has told.
    async fn chunk(
        &self,
        window: &Window,
        described: &Described,
        begun: Begun,
        range: &Range,
        rows_max: Option<u64>,
    ) -> Result<Option<Rows>, Failed> {
        let (answer, marked) = oneshot::channel();
        let Begun { visibility: snapshot, high, .. } = begun;
        let ticket = window.ticket;
        self.shared.router.do_send(MarkWindow { ticket, snapshot, high, answer });
        let ended = |_| Failure::transient("the router has ended");
        if marked.await.map_err(ended)? == Marked::Dirty {
            debug!("a commit was streamed before it is visible, the chunk is read a little later");
            return Ok(None);
        }
        let rows = self.collect(described, range, rows_max).await?;
        self.reader.end().await?;
        self.has_read(Amount { rows: rows.count, bytes: rows.bytes });
        Ok(Some(rows))
    }

    async fn collect(
        &self,
        described: &Described,
        range: &Range,
        rows_max: Option<u64>,
    ) -> Result<Rows, Failed> {
        let table = &described.table.table;
        let mut batch = SnapshotBatch::new(Arc::clone(table), Lsn::ZERO, microseconds_now(), 0);
        let (mut count, mut bytes, mut is_cut) = (0, 0, false);
        // A range that was read before is read whole.
        let bytes_max = OVERSIZE * self.shared.bytes_max();
        let bytes_max = rows_max.map_or(u64::MAX, |_| bytes_max);
        let condition = described.condition.as_deref();
        let lines = self.reader.rows(&described.table, between(range), condition, rows_max).await?;
        let mut lines = pin!(lines);
        while let Some(data) = lines.next().await {
            for line in data?.split_inclusive(|&byte| byte == b'\n') {
                // What was asked for has to be taken from the connection all the same.
                if !is_cut {
                    batch.push(line).map_err(Failure::from)?;
                    count += 1;
                    bytes += line.len() as u64;
                    is_cut = bytes_max <= bytes;
                }
            }
        }
        let batch = batch.take();
        let is_whole = !is_cut && rows_max.is_none_or(|rows_max| count < rows_max);
        let last = batch.changes.last().and_then(|last| last.new).filter(|_| !is_whole);
        let columns = key_columns(table).unwrap_or_default();
        let no_text = || {
            Failure::fatal(format!(
                "a key of {}.{} is not UTF-8; set `snapshot.beside_stream: never`, then run with \
                 --reseed",
                table.schema, table.name
            ))
        };
        let upto = last.map(|last| key_text(batch.tuple(last), columns).ok_or_else(no_text));
        Ok(Rows { upto: upto.transpose()?, batch, count, bytes })
    }

    /// Writes the range down, then hands the rows to the router.
    async fn emit_new(
        &self,
        described: &Described,
        range: &Range,
        mut rows: Rows,
        window: Window,
    ) -> Result<Outcome, Failed> {
        let upto = rows.upto.take();
        let (number, version) = self.shared.change(self.index, |table| {
            if table.copy.epoch() != self.epoch {
                return None;
            }
            if let Some(bytes) = rows.bytes.checked_div(rows.count) {
                table.row_bytes = Some(bytes.max(1));
            }
            let number = table.copy.read(range, upto, rows.count, rows.bytes);
            if rows.count == 0 {
                table.copy.settled(number);
                return None;
            }
            Some(number)
        });
        let Some(number) = number else { return Ok(Outcome::Done) };
        self.shared.progress.snapshot_rows.fetch_add(rows.count, Relaxed);
        self.shared.progress.snapshot_bytes.fetch_add(rows.bytes, Relaxed);
        self.shared.saved(version).await;
        self.emit(described, number, rows, window).await
    }

    async fn emit(
        &self,
        described: &Described,
        number: u64,
        rows: Rows,
        mut window: Window,
    ) -> Result<Outcome, Failed> {
        let shared = Rc::clone(self.shared);
        let (index, epoch) = (self.index, self.epoch);
        let credit = shared.budget.take(rows.batch.bytes.len()).await;
        let (name, snapshot) = {
            let table = &shared.tables.borrow()[index];
            (format!("{}/{number}", table.name), Arc::clone(&table.snapshot))
        };
        let chunk = Arc::new(Chunk { name, open: shared.open() });
        let batch = ChangeBatch { snapshot: Some(snapshot), chunk: Some(chunk), ..rows.batch };
        let (answer, routed) = oneshot::channel();
        let plan = Arc::clone(&described.plan);
        window.is_open = false;
        shared.router.do_send(ChunkRead { ticket: window.ticket, batch, plan, credit, answer });
        actix_rt::spawn(async move {
            // Without an answer the router has ended, and its generation with it.
            if let Ok(routed) = routed.await {
                shared.routed(index, epoch, number, routed);
            }
        });
        Ok(Outcome::Done)
    }
}

fn between(range: &Range) -> Between<'_> {
    Between { after: range.after.as_deref(), upto: &range.upto }
}

impl Shared {
    fn is_asked(&self, index: usize) -> bool {
        self.tables.borrow()[index].copy.asked().is_some()
    }

    /// Rows of a chunk of a table, by the spec.
    fn chunk_rows(&self, index: usize) -> u64 {
        self.rows_within(index, u64::from(self.snapshot.chunk_rows), self.snapshot.chunk_bytes.0)
    }

    /// Rows of the next chunk of a table.
    fn rows_max(&self, index: usize) -> u64 {
        let rows = u64::from(self.snapshot.chunk_rows).min(self.turns.part().rows);
        self.rows_within(index, rows, self.bytes_max())
    }

    fn rows_within(&self, index: usize, rows: u64, bytes: u64) -> u64 {
        let row_bytes = self.tables.borrow()[index].row_bytes;
        row_bytes.map_or(rows, |row_bytes| rows.min(bytes / row_bytes)).max(1)
    }

    /// Bytes of the next chunk.
    fn bytes_max(&self) -> u64 {
        self.snapshot.chunk_bytes.0.min(self.turns.part().bytes)
    }

    /// What a job will read, as far as that is known before.
    fn expected(&self, index: usize, job: &Job) -> Amount {
        match job {
            Job::Begin | Job::Work(Work::Cut(_)) => Amount::default(),
            Job::Work(Work::Read(_) | Work::Redo(..)) => {
                let rows = self.rows_max(index);
                let row_bytes = self.tables.borrow()[index].row_bytes.unwrap_or_default();
                Amount { rows, bytes: rows.saturating_mul(row_bytes) }
            }
        }
    }
}
