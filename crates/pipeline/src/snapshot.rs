//! Snapshot: reads the tables as they were when the slot was made, before the stream begins.
//!
//! In:    rows of `COPY`, over several connections that share the slot's exported snapshot.
//! Out:   [`TableLearned`] and [`Decoded`] to the router; [`SnapshotRead`] to the guardian.
//! Holds: one connection per reader; per reader one batch that is not yet paid for.
//! Never: renders a value; sends two batches with the same ordinals.

use crate::batch::{Decoded, Retire, SnapshotRead, Stated, TableLearned};
use crate::chunk::throttle::Amount;
use crate::failure::Failure;
use crate::progress::{Progress, TableProgress};
use crate::router::Router;
use crate::turns::Turns;
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient,
    WrapFuture,
};
use futures_util::{StreamExt, future};
use postgres::settings::Settings;
use postgres::snapshot::{Readable, SnapshotReader};
use record::plan::TablePlan;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use supervision::{Budget, Lifeline};
use tracing::{debug, info};
use wal::change::Span;
use wal::change::{Operation, Transaction};
use wal::copy::SnapshotBatch;
use wal::{Change, ChangeBatch, Chunk, Lsn, Table};

/// Rows are handed on in batches of about this size.
const BATCH_BYTES: usize = 256 << 10;

/// A table that is to be read.
#[derive(Debug)]
pub struct Source {
    pub table: Arc<Table>,
    pub plan: Arc<TablePlan>,
    pub readable: Readable,
    /// Rows that it is expected to have, the server's estimate.
    pub rows: u64,
}

/// What is handed on.
#[derive(Debug)]
pub enum Work {
    Rows(Rows),
    Statements(Statements),
}

/// What tables hold.
#[derive(Debug, Default)]
pub struct Rows {
    /// Name of the exported snapshot.
    pub exported: String,
    pub sources: Vec<Source>,
    /// Tables that are read later, beside the stream: only the truncate comes here.
    pub beside: Vec<Source>,
    /// Rows of an earlier, interrupted snapshot may be in the topics: a truncate comes first.
    pub again: bool,
    /// Holds all tables, and then reads them alone: others would queue behind who waits for it.
    pub holder: Option<Box<SnapshotReader>>,
}

/// Statements that have no place in the stream. All of them are one chunk, which a lane that holds it leaves out when they
/// come again.
#[derive(Debug)]
pub struct Statements {
    pub stated: Vec<Stated>,
    pub chunk: Arc<Chunk>,
}

/// Everything a snapshot is made of.
pub struct Parts {
    pub generation: u64,
    pub settings: Settings,
    /// Goes into the header of each row.
    pub id: Arc<str>,
    /// Commit LSN of the rows' positions: below every transaction of the stream.
    pub lsn: Lsn,
    /// When the snapshot was taken, microseconds since 2000-01-01 00:00 UTC.
    pub time: i64,
    /// Connections that read at the same time.
    pub parallel: usize,
    /// How fast it may go.
    pub turns: Rc<Turns>,
    pub budget: Budget,
    pub router: Addr<Router>,
    pub guardian: Recipient<SnapshotRead>,
    pub progress: Arc<Progress>,
    pub lifeline: Lifeline,
}

/// The stage before the stream. Lives as long as its generation.
pub struct Snapshot {
    begin: Option<(Parts, Work)>,
}

/// What the readers share. One thread: no locks.
struct Shared {
    parts: Parts,
    /// Without the sources, which wait.
    rows: Rows,
    waiting: RefCell<VecDeque<Source>>,
    ordinal_next: Cell<u64>,
    batches: Cell<u64>,
}

impl Snapshot {
    /// A snapshot that begins to read when it starts.
    #[must_use]
    pub fn new(parts: Parts, work: Work) -> Self {
        Self { begin: Some((parts, work)) }
    }
}

impl Actor for Snapshot {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some((parts, work)) = self.begin.take() else { return };
        ctx.spawn(run(parts, work).into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl Handler<Retire> for Snapshot {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        // Stopping drops the readers; what the lifeline then says comes from an old generation.
        ctx.stop();
    }
}

async fn run(parts: Parts, work: Work) {
    let (mut rows, statements) = match work {
        Work::Rows(rows) => (rows, None),
        Work::Statements(statements) => (Rows::default(), Some(statements)),
    };
    let sources = std::mem::take(&mut rows.sources);
    let holder = rows.holder.take();
    let parallel = if holder.is_some() { 1 } else { parts.parallel.min(sources.len()).max(1) };
    let shared = Rc::new(Shared {
        parts,
        rows,
        waiting: RefCell::new(sources.into()),
        ordinal_next: Cell::new(0),
        batches: Cell::new(0),
    });
    let result = match &statements {
        Some(statements) => shared.state(statements).await,
        None => read_all(&shared, parallel, holder).await,
    };
    let Ok(shared) = Rc::try_unwrap(shared) else { return };
    let Shared { mut parts, batches, .. } = shared;
    match result {
        Ok(()) => {
            let (generation, batches) = (parts.generation, batches.get());
            parts.guardian.do_send(SnapshotRead { generation, batches });
            parts.lifeline.release();
        }
        Err(failure) => parts.lifeline.pull(failure.class, failure.cause),
    }
}

async fn read_all(
    shared: &Rc<Shared>,
    parallel: usize,
    holder: Option<Box<SnapshotReader>>,
) -> Result<(), Failure> {
    shared.tell_waiting();
    for source in shared.waiting.borrow().iter().chain(&shared.rows.beside) {
        let (table, first) = (Arc::clone(&source.table), Some(Arc::clone(&source.plan)));
        shared.parts.router.do_send(TableLearned { table, plans: first.into(), inference: None });
    }
    if shared.rows.again {
        let tables = shared.tables();
        shared.send(truncates(tables, &shared.parts)).await;
    }
    let readers = std::iter::once(holder).chain(std::iter::repeat_with(|| None)).take(parallel);
    future::try_join_all(readers.map(|reader| read_tables(shared, reader))).await?;
    Ok(())
}

/// One connection: takes table after table until none waits.
async fn read_tables(
    shared: &Rc<Shared>,
    mut reader: Option<Box<SnapshotReader>>,
) -> Result<(), Failure> {
    let parts = &shared.parts;
    loop {
        let Some(source) = shared.waiting.borrow_mut().pop_front() else { return Ok(()) };
        let reader = match &mut reader {
            Some(reader) => reader,
            none @ None => {
                let opened = SnapshotReader::open(&parts.settings, &shared.rows.exported).await?;
                none.insert(Box::new(opened))
            }
        };
        read_table(shared, reader, &source).await?;
    }
}

async fn read_table(
    shared: &Shared,
    reader: &mut SnapshotReader,
    source: &Source,
) -> Result<(), Failure> {
    let Parts { lsn, time, progress, .. } = &shared.parts;
    let Source { table, readable, .. } = source;
    let name = shared.name(readable);
    debug!(schema = %table.schema, table = %table.name, "reading table");
    let mut batch = SnapshotBatch::new(Arc::clone(table), *lsn, *time, 0);
    let (mut rows, mut told, mut bytes, mut sent) = (0u64, 0, 0, 0);
    let mut lines = pin!(reader.read(table, readable, source.plan.condition()).await?);
    while let Some(data) = lines.next().await {
        for line in data?.split_inclusive(|&byte| byte == b'\n') {
            batch.push(line)?;
            rows += 1;
            bytes += line.len() as u64;
            let part = shared.parts.turns.part();
            if part.rows <= rows - sent || part.bytes <= batch.bytes_len() as u64 {
                sent = rows;
                shared.send(batch.take()).await;
            }
        }
        if BATCH_BYTES <= batch.bytes_len() {
            progress.snapshot_bytes.fetch_add(bytes, Relaxed);
            progress.tables(|it| it.add(&name, rows - told, bytes, Instant::now()));
            (told, bytes, sent) = (rows, 0, rows);
            shared.send(batch.take()).await;
        }
    }
    if !batch.is_empty() {
        shared.send(batch.take()).await;
    }
    progress.snapshot_bytes.fetch_add(bytes, Relaxed);
    progress.tables(|it| {
        it.add(&name, rows - told, bytes, Instant::now());
        it.done(&name);
    });
    info!(schema = %table.schema, table = %table.name, rows, "table read");
    Ok(())
}

impl Shared {
    /// Of a table, as plans of the meta lane are named.
    fn name(&self, readable: &Readable) -> String {
        format!("{}/{}", self.parts.id, readable.oid)
    }

    /// What was told of an older snapshot does not count any more.
    fn tell_waiting(&self) {
        self.parts.progress.tables(|tables| {
            tables.clear();
            for source in &*self.waiting.borrow() {
                let Readable { schema, name, .. } = &source.readable;
                let table = TableProgress::waiting(schema, name, &self.parts.id, source.rows);
                tables.note(&self.name(&source.readable), table, Instant::now());
            }
        });
    }

    /// Those that wait to be read, and those that are copied beside the stream.
    fn tables(&self) -> Vec<Arc<Table>> {
        let waiting = self.waiting.borrow();
        waiting.iter().chain(&self.rows.beside).map(|it| Arc::clone(&it.table)).collect()
    }

    /// Hands statements on.
    async fn state(&self, statements: &Statements) -> Result<(), Failure> {
        for Stated { table, plans, .. } in &statements.stated {
            let (table, plans) = (Arc::clone(table), plans.clone());
            self.parts.router.do_send(TableLearned { table, plans, inference: None });
        }
        let batch = statements.batch(&self.parts.id, self.parts.lsn, self.parts.time)?;
        let credit = self.parts.budget.take(batch.bytes.len()).await;
        self.batches.set(self.batches.get() + 1);
        self.parts.router.do_send(Decoded { batch, credit });
        Ok(())
    }

    /// Pays for the batch, numbers its changes and hands it on.
    async fn send(&self, mut batch: ChangeBatch) {
        let (rows, bytes) = (batch.changes.len() as u64, batch.bytes.len() as u64);
        self.parts.turns.take(Amount { rows, bytes }).await;
        let credit = self.parts.budget.take(batch.bytes.len()).await;
        let first = self.ordinal_next.get();
        for (ordinal, change) in (first..).zip(&mut batch.changes) {
            change.ordinal = ordinal;
        }
        self.ordinal_next.set(first + rows);
        self.batches.set(self.batches.get() + 1);
        batch.snapshot = Some(Arc::clone(&self.parts.id));
        self.parts.progress.snapshot_rows.fetch_add(rows, Relaxed);
        self.parts.router.do_send(Decoded { batch, credit });
    }
}

impl Statements {
    /// One insert into the table that each stands for, as of `lsn` and `time`; `id`: of the snapshot.
    pub(crate) fn batch(&self, id: &Arc<str>, lsn: Lsn, time: i64) -> Result<ChangeBatch, Failure> {
        let Self { stated, chunk } = self;
        let too_many = |_| Failure::fatal("the definitions of all tables together are above 4 GiB");
        let (mut bytes, mut changes) = (Vec::new(), Vec::with_capacity(stated.len()));
        for (table, Stated { tuple, .. }) in (0..).zip(stated) {
            let start = u32::try_from(bytes.len()).map_err(too_many)?;
            bytes.extend_from_slice(tuple);
            let end = u32::try_from(bytes.len()).map_err(too_many)?;
            let new = Some(Span { start, end });
            let ordinal = u64::from(table);
            changes.push(Change {
                new,
                operation: Operation::Insert,
                ..change(table, ordinal, lsn)
            });
        }
        Ok(ChangeBatch {
            bytes: bytes.into(),
            changes,
            transactions: vec![transaction(lsn, time)],
            tables: stated.iter().map(|it| Arc::clone(&it.table)).collect(),
            snapshot: Some(Arc::clone(id)),
            chunk: Some(Arc::clone(chunk)),
            ends_transaction: true,
            ..ChangeBatch::default()
        })
    }
}

fn transaction(commit_lsn: Lsn, commit_time: i64) -> Transaction {
    Transaction { xid: 0, commit_lsn, previous_commit_lsn: None, commit_time, changes_count: None }
}

fn change(table: u32, ordinal: u64, lsn: Lsn) -> Change {
    Change {
        transaction: 0,
        table,
        ordinal,
        lsn,
        operation: Operation::Truncate,
        old: None,
        new: None,
    }
}

/// One TRUNCATE per table: what an interrupted snapshot has left does not count.
fn truncates(tables: Vec<Arc<Table>>, parts: &Parts) -> ChangeBatch {
    let truncate = |table| change(table, 0, parts.lsn);
    ChangeBatch {
        changes: (0..u32::try_from(tables.len()).unwrap_or(u32::MAX)).map(truncate).collect(),
        transactions: vec![transaction(parts.lsn, parts.time)],
        tables,
        ends_transaction: true,
        ..ChangeBatch::default()
    }
}
