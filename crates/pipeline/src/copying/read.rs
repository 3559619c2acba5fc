//! One connection that reads chunks of any table, on whichever node it is.

use super::{Described, Job, Shared, Staff};
use crate::batch::{ChunkRead, CloseWindow, MarkWindow, OpenWindow};
use crate::chunk::copy::{Key, Range, Work};
use crate::chunk::key::{key_columns, key_names, key_text};
use crate::chunk::merge::{Marked, Ticket};
use crate::chunk::throttle::Amount;
use crate::failure::Failure;
use crate::hosts::Host;
use crate::reading::{Begun, NotRead, Reader, Then};
use crate::router::Router;
use crate::task::microseconds_now;
use actix::Addr;
use postgres::Error;
use postgres::chunk::ChunkReader;
use std::cell::Cell;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};
use wal::copy::SnapshotBatch;
use wal::{ChangeBatch, Chunk, Lsn};

/// After a commit that was streamed and is not visible, or a lock that was not to be had.
const LATER: Duration = Duration::from_millis(20);
/// Between two rounds over all nodes that may read, none of which does.
const RETRY: Duration = Duration::from_secs(1);
/// Longer than it takes until a dead node is found and its work placed elsewhere: after that, it is a failure.
const NOBODY_MAX: Duration = Duration::from_secs(15);
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
    Source(NotRead),
    Other(Failure),
}

impl From<NotRead> for Failed {
    fn from(not_read: NotRead) -> Self {
        Self::Source(not_read)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Source(error.into())
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
    /// They turned out too large, and the connection is given up with the rest of them.
    is_cut: bool,
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
    reader: &'a Reader,
    index: usize,
    epoch: u64,
    /// What it has paid for, until it has read something else.
    paid: Cell<Option<Amount>>,
    /// The connection has rows on the way that nobody wants.
    is_spent: Cell<bool>,
}

/// Why a reader ends.
enum Ended {
    /// Tables are to be read by other nodes.
    Moved,
    /// Another connection to the same node goes on.
    Spent,
    /// It is gone, and what it was about is given back.
    Lost(Failure),
}

/// Counts a reader as long as it lives.
struct Post<'a>(&'a Shared);

impl<'a> Post<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.staff.open.set(shared.staff.open.get() + 1);
        Self(shared)
    }
}

impl Drop for Post<'_> {
    fn drop(&mut self) {
        let Staff { open, none_since } = &self.0.staff;
        open.set(open.get() - 1);
        if open.get() == 0 {
            none_since.set(Instant::now());
        }
    }
}

/// Reads whatever is to be read, by one connection after the other. `number`: of these readers, from 0.
pub(super) async fn read(shared: &Rc<Shared>, number: usize) -> Result<Infallible, Failure> {
    // Places that this one has tried in vain, one after the other.
    let mut tried = 0;
    loop {
        let places = shared.hosts.chunk_readers();
        let Some(place) = places.get((number + tried) % places.len().max(1)) else {
            debug!("no node may read tables now");
            shared.hosts.changed().await;
            continue;
        };
        let lost = match shared.open_reader(place).await? {
            Ok(reader) => {
                let _post = Post::new(shared);
                match work(shared, &reader, &places).await? {
                    Ended::Moved => {
                        tried = 0;
                        continue;
                    }
                    Ended::Spent => continue,
                    Ended::Lost(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        tried += 1;
        warn!(cause = %lost.cause, number, "a reader of tables is lost, another node does its work");
        if shared.has_nobody() {
            return Err(lost);
        }
        if tried % places.len() == 0 {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Until the connection is lost, or others are to read.
async fn work(shared: &Rc<Shared>, reader: &Reader, places: &[Host]) -> Result<Ended, Failure> {
    loop {
        // What happens between the look and the wait must not be missed.
        let mut changed = pin!(shared.changed.notified());
        changed.as_mut().enable();
        if shared.hosts.chunk_readers() != places {
            return Ok(Ended::Moved);
        }
        let Some((index, epoch, job)) = shared.take() else {
            tokio::select! {
                () = changed => {}
                () = shared.hosts.changed() => {}
            }
            continue;
        };
        let expected = shared.expected(index, &job);
        shared.turns.take(expected).await;
        let (paid, is_spent) = (Cell::new(Some(expected)), Cell::new(false));
        let at = At { shared, reader, index, epoch, paid, is_spent };
        let worked = at.work(&job).await;
        at.has_read(Amount::default());
        let ended = match at.follow(worked).await {
            Ok(Outcome::Done) if at.is_spent.get() => return Ok(Ended::Spent),
            Ok(Outcome::Done) => continue,
            Ok(Outcome::Again | Outcome::Later) => {
                tokio::time::sleep(LATER).await;
                None
            }
            Err(Failed::Source(NotRead { then: Then::Lost, failure })) => Some(failure),
            Err(Failed::Source(NotRead { failure, .. }) | Failed::Other(failure)) => {
                return Err(failure);
            }
        };
        shared.give_back(index, epoch, job);
        if let Some(failure) = ended {
            return Ok(Ended::Lost(failure));
        }
    }
}

impl At<'_> {
    /// What becomes of a job that has been tried.
    async fn follow(&self, worked: Result<Outcome, Failed>) -> Result<Outcome, Failed> {
        let outcome = match worked {
            Ok(Outcome::Done) => return Ok(Outcome::Done),
            Ok(outcome) => outcome,
            Err(Failed::Source(NotRead { then: Then::Later, .. })) => Outcome::Later,
            Err(Failed::Source(NotRead { then: Then::Again, .. })) => Outcome::Again,
            // The task goes on without what somebody has asked for besides.
            Err(Failed::Source(NotRead { then: Then::Refused, failure }))
                if self.shared.is_asked(self.index) =>
            {
                self.reader.end().await?;
                self.shared.give_up(self.index, &failure.cause);
                return Ok(Outcome::Done);
            }
            Err(failed) => return Err(failed),
        };
        self.reader.end().await?;
        if matches!(outcome, Outcome::Again) {
            self.shared.tables.borrow_mut()[self.index].described = None;
        }
        Ok(outcome)
    }

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
        let begun = self.reader.begin(&described.table.source).await?;
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
        let catalog = match self.reader {
            Reader::Here(reader) => reader,
            Reader::Elsewhere(_) => self.shared.catalog().await?,
        };
        let Some(table) = catalog.describe(oid, only, key_names).await? else { return gone() };
        let plans = self.shared.planner.plan(&table.table).await?;
        let Some(plan) = plans.newest().cloned() else { return gone() };
        let condition = match condition.map(|it| plan.narrowed(&it)).transpose() {
            Ok(Some(condition)) => Some(Arc::from(condition)),
            // Its rows are judged again: this only saves reading.
            Ok(None) => plan.condition().map(Arc::from),
            Err(error) => return Ok(Err(format!("the condition: {error}"))),
        };
        let row_bytes = table.row_bytes;
        let described = Described { table: Arc::new(table), plan, condition };
        let known = &mut self.shared.tables.borrow_mut()[self.index];
        known.described = Some(described.clone());
        known.row_bytes = known.row_bytes.or(row_bytes);
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
        let last = self.reader.last(&described.table.source).await?;
        self.reader.end().await?;
        let table = &described.table.source.readable;
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
            self.reader.cut(&described.table.source, range, rows).await?
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
        if rows.is_cut {
            self.is_spent.set(true);
        } else {
            self.reader.end().await?;
        }
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
        let take = |line: &[u8]| {
            batch.push(line)?;
            count += 1;
            bytes += line.len() as u64;
            is_cut = bytes_max <= bytes;
            Ok(if is_cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let (source, condition) = (&described.table.source, described.condition.as_deref());
        self.reader.rows(source, range, condition, rows_max, take).await??;
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
        Ok(Rows { upto: upto.transpose()?, batch, count, bytes, is_cut })
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

impl Shared {
    /// The inner error: somebody else may read, or this one later.
    async fn open_reader(&self, place: &Host) -> Result<Result<Reader, Failure>, Failure> {
        let opened = match place {
            Host::Here => return Ok(Ok(Reader::here(&self.settings, self.line()).await?)),
            Host::Nowhere => return Ok(Err(Failure::transient("no node may read tables"))),
            Host::Node(node) => {
                Reader::elsewhere(self.hosts.start_reader(node, self.open.clone())).await
            }
        };
        match opened {
            Ok(reader) => {
                info!(node = %place, "tables are read on another node");
                Ok(Ok(reader))
            }
            Err(NotRead { failure, .. }) => Ok(Err(failure)),
        }
    }

    /// Whether nobody has read for so long that the failure must be told.
    fn has_nobody(&self) -> bool {
        let Staff { open, none_since } = &self.staff;
        open.get() == 0 && NOBODY_MAX < none_since.get().elapsed()
    }

    /// Looks at tables.
    async fn catalog(&self) -> Result<&ChunkReader, Failed> {
        Ok(self.catalog.get_or_try_init(|| ChunkReader::open(&self.settings)).await?)
    }

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
