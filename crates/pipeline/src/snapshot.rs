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
use std::collections::{HashMap, VecDeque};
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
    pub portions: Vec<Portion>,
    /// Tables that are read later, beside the stream: only the truncate comes here.
    pub beside: Vec<Source>,
    /// Rows of an earlier, interrupted snapshot may be in the topics: a truncate comes first.
    pub again: bool,
}

/// Tables that are read from one queue.
#[derive(Debug)]
pub struct Portion {
    /// Holds these tables, and reads them alone: another connection would queue behind whoever waits to truncate one.
    /// `None`: all connections read from this queue.
    pub holder: Option<Box<SnapshotReader>>,
    pub sources: VecDeque<Source>,
}

/// A connection, and the tables that it holds or is to hold.
#[derive(Debug)]
pub struct Holder {
    pub reader: SnapshotReader,
    pub readables: Vec<Readable>,
}

impl Portion {
    /// What each holder reads; without any, what all connections read.
    #[must_use]
    pub fn of_holders(sources: Vec<Source>, holders: Vec<Holder>) -> Vec<Self> {
        if holders.is_empty() {
            return vec![Self { holder: None, sources: sources.into() }];
        }
        let mut sources: HashMap<u32, Source> =
            sources.into_iter().map(|it| (it.readable.oid, it)).collect();
        let portion = |Holder { reader, readables }: Holder| {
            let sources = readables.iter().filter_map(|it| sources.remove(&it.oid)).collect();
            Self { holder: Some(Box::new(reader)), sources }
        };
        holders.into_iter().map(portion).collect()
    }
}

/// Divides tables over at most `count` connections, so that each has about as many `rows` to read.
#[must_use]
pub fn divide<T>(mut tables: Vec<T>, count: usize, rows: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    tables.sort_by_key(|it| std::cmp::Reverse(rows(it)));
    let count = count.min(tables.len()).max(1);
    let mut parts: Vec<_> = (0..count).map(|_| (0, Vec::new())).collect();
    for table in tables {
        if let Some((sum, part)) = parts.iter_mut().min_by_key(|(sum, _)| *sum) {
            // A table costs something without rows, too.
            *sum += 1 + rows(&table);
            part.push(table);
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
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
    /// Without the portions, whose tables wait.
    rows: Rows,
    waiting: Vec<RefCell<VecDeque<Source>>>,
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
    let portions = std::mem::take(&mut rows.portions);
    let (holders, waiting): (Vec<_>, Vec<_>) =
        portions.into_iter().map(|it| (it.holder, RefCell::new(it.sources))).unzip();
    let shared =
        Rc::new(Shared { parts, rows, waiting, ordinal_next: Cell::new(0), batches: Cell::new(0) });
    let result = match &statements {
        Some(statements) => shared.state(statements).await,
        None => read_all(&shared, holders).await,
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
    holders: Vec<Option<Box<SnapshotReader>>>,
) -> Result<(), Failure> {
    shared.tell_waiting();
    shared.each_source(|source| {
        let (table, first) = (Arc::clone(&source.table), Some(Arc::clone(&source.plan)));
        shared.parts.router.do_send(TableLearned { table, plans: first.into(), inference: None });
    });
    if shared.rows.again {
        let tables = shared.tables();
        shared.send(truncates(tables, &shared.parts)).await;
    }
    let readers = shared.waiting.iter().zip(holders).flat_map(|(queue, holder)| {
        let most = if holder.is_some() { 1 } else { shared.parts.parallel };
        let count = most.min(queue.borrow().len());
        let readers = std::iter::once(holder).chain(std::iter::repeat_with(|| None));
        readers.take(count).map(move |reader| read_tables(shared, queue, reader))
    });
    future::try_join_all(readers).await?;
    Ok(())
}

/// One connection: takes table after table until none waits.
async fn read_tables(
    shared: &Rc<Shared>,
    queue: &RefCell<VecDeque<Source>>,
    mut reader: Option<Box<SnapshotReader>>,
) -> Result<(), Failure> {
    let parts = &shared.parts;
    loop {
        let Some(source) = queue.borrow_mut().pop_front() else { return Ok(()) };
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
            self.each_waiting(|source| {
                let Readable { schema, name, .. } = &source.readable;
                let table = TableProgress::waiting(schema, name, &self.parts.id, source.rows);
                tables.note(&self.name(&source.readable), table, Instant::now());
            });
        });
    }

    /// Those that wait to be read, and those that are copied beside the stream.
    fn tables(&self) -> Vec<Arc<Table>> {
        let mut tables = Vec::new();
        self.each_source(|it| tables.push(Arc::clone(&it.table)));
        tables
    }

    fn each_source(&self, mut visit: impl FnMut(&Source)) {
        self.each_waiting(&mut visit);
        self.rows.beside.iter().for_each(visit);
    }

    fn each_waiting(&self, mut visit: impl FnMut(&Source)) {
        self.waiting.iter().for_each(|queue| queue.borrow().iter().for_each(&mut visit));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_divided_by_their_rows() {
        let divided = |rows: &[u64], count| divide(rows.to_vec(), count, |it| *it);
        assert_eq!(divided(&[5, 90, 40, 60], 2), [vec![90, 5], vec![60, 40]]);
        assert_eq!(divided(&[0, 0, 0, 0], 2), [vec![0, 0], vec![0, 0]]);
        assert_eq!(divided(&[7, 8], 4), [vec![8], vec![7]]);
        assert_eq!(divided(&[], 4), [vec![0_u64; 0]]);
    }
}
