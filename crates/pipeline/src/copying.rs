//! Copying: reads tables chunk by chunk while the stream runs.
//!
//! In:    rows of `COPY`, over several connections; [`Settled`] and [`CopyMore`] from the task.
//! Out:   windows and [`crate::batch::ChunkRead`] to the router; what is read, to the meta lane; [`Copied`] to the guardian.
//! Holds: one connection per reader; rows of chunks, paid for by a budget of their own: the stream must
//!        always be able to reach their place.
//! Never: emits a chunk whose range is not written down (delivery-protocol.md, section 9).

pub mod asked;
mod read;

use crate::batch::{ChunkRouted, Copied, CopyMore, Retire, RoutedBefore, Settled};
use crate::chunk::asked::CopyOrder;
use crate::chunk::copy::{Copy, Record, VERSION, Work};
use crate::chunk::merge::Ticket;
use crate::failure::Failure;
use crate::hosts::Hosts;
use crate::meta::Meta;
use crate::planner::Planner;
use crate::progress::{Progress, TableProgress};
use crate::reading::{Line, OpenReader};
use crate::router::Router;
use crate::turns::Turns;
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient,
    WrapFuture,
};
use futures_util::future;
use kafka::meta::{MetaRecord, MetaState};
use postgres::Session;
use postgres::chunk::{ChunkReader, ChunkTable};
use postgres::settings::Settings;
use record::plan::TablePlan;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use supervision::{Budget, Lifeline};
use tokio::sync::{Notify, OnceCell, watch};
use tracing::{info, warn};

/// Chunks that may not be durable in every lane, of all tables: the checkpoints name them.
const OPEN_MAX: usize = 256;
/// Rows of chunks at most, in bytes. A larger chunk passes alone.
const BUDGET_BYTES_MAX: u64 = 64 << 20;

/// Everything that copying is made of.
pub struct Parts {
    pub generation: u64,
    pub settings: Settings,
    /// What readers on other nodes need to know.
    pub open: OpenReader,
    pub hosts: Rc<dyn Hosts>,
    /// What the meta lane holds; its plans are what is to be copied.
    pub state: Rc<RefCell<MetaState>>,
    pub meta: Meta,
    pub planner: Rc<Planner>,
    /// What the task captures by, and its publication.
    pub source: asked::Captured,
    /// What was asked for and may not be begun.
    pub orders: Vec<CopyOrder>,
    pub snapshot: config::Snapshot,
    pub turns: Rc<Turns>,
    pub router: Addr<Router>,
    pub guardian: Recipient<Copied>,
    pub progress: Arc<Progress>,
    pub lifeline: Lifeline,
}

/// The stage beside the stream. Lives as long as its generation, or until everything is copied.
pub struct Copying {
    shared: Rc<Shared>,
    lifeline: Option<Lifeline>,
}

/// What the readers share. One thread: no locks.
struct Shared {
    generation: u64,
    settings: Settings,
    open: OpenReader,
    hosts: Rc<dyn Hosts>,
    staff: Staff,
    /// Looks at tables for those who read elsewhere.
    catalog: OnceCell<ChunkReader>,
    state: Rc<RefCell<MetaState>>,
    meta: Meta,
    planner: Rc<Planner>,
    source: asked::Captured,
    /// What was asked for and may not be begun.
    orders: RefCell<Vec<CopyOrder>>,
    snapshot: config::Snapshot,
    router: Addr<Router>,
    guardian: Recipient<Copied>,
    progress: Arc<Progress>,
    budget: Budget,
    turns: Rc<Turns>,
    tables: RefCell<Vec<Table>>,
    /// Tables at the beginning of these that are done.
    over: Cell<usize>,
    /// By the number of their batch: table, epoch and number of chunks that are not known to be durable.
    emitted: RefCell<BTreeMap<u64, (usize, u64, u64)>>,
    ticket: Cell<Ticket>,
    /// Something may be taken, or is settled, or more is wanted.
    changed: Notify,
    /// How often orders and plans were to be looked at, and how often that is done.
    wanted: Cell<u64>,
    looked: Cell<u64>,
    saver: Saver,
}

/// One table.
struct Table {
    /// In the meta lane.
    name: String,
    /// Id of its snapshot, in the header of each row.
    snapshot: Arc<str>,
    oid: u32,
    only: bool,
    copy: Copy,
    /// Somebody looks for its last key.
    beginning: bool,
    described: Option<Described>,
    /// Bytes of a row, as far as known.
    row_bytes: Option<u64>,
}

#[derive(Clone)]
struct Described {
    table: Arc<ChunkTable>,
    plan: Arc<TablePlan>,
    /// Of the rows that an order asks for, as SQL.
    condition: Option<Arc<str>>,
}

/// How many connections read, and since when there was none.
struct Staff {
    open: Cell<usize>,
    none_since: Cell<Instant>,
}

/// Writes down what is read, for all readers at once.
struct Saver {
    /// Changes so far, and how many of them are written down.
    version: Cell<u64>,
    saved: watch::Sender<u64>,
    dirty: RefCell<BTreeSet<usize>>,
    wake: Notify,
    /// Chunks that are open by what is written down.
    open: RefCell<BTreeMap<usize, Vec<u64>>>,
}

/// What a reader is to do.
#[derive(Clone, Debug)]
enum Job {
    /// Find the last key.
    Begin,
    Work(Work),
}

impl Saver {
    fn note_open(&self, index: usize, numbers: Vec<u64>) {
        let mut open = self.open.borrow_mut();
        // Most tables have none, and every chunk names all that are open.
        if numbers.is_empty() {
            open.remove(&index);
        } else {
            open.insert(index, numbers);
        }
    }
}

impl Copying {
    /// Begins when it starts.
    ///
    /// # Errors
    /// When what was written down cannot be read.
    pub fn new(parts: Parts) -> Result<Self, Failure> {
        let Parts { generation, settings, state, meta, planner, snapshot, turns, .. } = parts;
        let Parts { router, guardian, progress, lifeline, source, orders, open, hosts, .. } = parts;
        let bytes_max = u64::from(snapshot.parallel).max(1) * 2 * snapshot.chunk_bytes.0;
        let bytes_max = bytes_max.clamp(1 << 20, BUDGET_BYTES_MAX);
        let shared = Shared {
            generation,
            settings,
            open,
            hosts,
            staff: Staff { open: Cell::new(0), none_since: Cell::new(Instant::now()) },
            catalog: OnceCell::new(),
            state,
            meta,
            planner,
            source,
            orders: RefCell::new(orders),
            snapshot,
            router,
            guardian,
            progress,
            budget: Budget::new(u32::try_from(bytes_max).unwrap_or(u32::MAX)),
            turns,
            tables: RefCell::default(),
            over: Cell::new(0),
            emitted: RefCell::new(BTreeMap::new()),
            ticket: Cell::new(0),
            changed: Notify::new(),
            wanted: Cell::new(1),
            looked: Cell::new(0),
            saver: Saver {
                version: Cell::new(0),
                saved: watch::channel(0).0,
                dirty: RefCell::new(BTreeSet::new()),
                wake: Notify::new(),
                open: RefCell::default(),
            },
        };
        shared.take_in()?;
        Ok(Self { shared: Rc::new(shared), lifeline: Some(lifeline) })
    }
}

/// What the meta lane holds of a table that is copied.
pub(crate) fn written(record: &Record) -> Result<String, Failure> {
    serde_json::to_string(record)
        .map_err(|error| Failure::fatal(format!("writing down a copy: {error}")))
}

fn table(name: &str, json: &str) -> Result<Table, Failure> {
    let unreadable = |why: String| {
        Failure::fatal(format!(
            "what the meta lane holds of the copy of `{name}` cannot be read: {why}; use the newest \
             release, or begin again with --reseed"
        ))
    };
    let record: Record =
        serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))?;
    if VERSION < record.v {
        return Err(unreadable(format!("its layout has version {}", record.v)));
    }
    let (snapshot, oid) = name.rsplit_once('/').ok_or_else(|| unreadable("its name".into()))?;
    let oid = oid.parse().map_err(|_| unreadable("its name".into()))?;
    Ok(Table {
        name: name.into(),
        snapshot: snapshot.into(),
        oid,
        only: record.only,
        copy: Copy::restored(record),
        beginning: false,
        described: None,
        row_bytes: None,
    })
}

impl Actor for Copying {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (shared, Some(mut lifeline)) = (Rc::clone(&self.shared), self.lifeline.take()) else {
            return;
        };
        let run = async move {
            match run(&shared).await {
                Ok(()) => {
                    lifeline.release();
                    shared.guardian.do_send(Copied { generation: shared.generation });
                }
                Err(failure) => lifeline.pull(failure.class, failure.cause),
            }
        };
        ctx.spawn(run.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl Handler<Settled> for Copying {
    type Result = ();

    fn handle(&mut self, Settled(seq): Settled, _: &mut Context<Self>) {
        self.shared.settle(seq);
    }
}

impl Handler<CopyMore> for Copying {
    type Result = ();

    fn handle(&mut self, CopyMore(orders): CopyMore, _: &mut Context<Self>) {
        self.shared.orders.replace(orders);
        self.shared.wanted.set(self.shared.wanted.get() + 1);
        self.shared.changed.notify_waiters();
    }
}

impl Handler<Retire> for Copying {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        // Stopping drops the readers; what the lifeline then says comes from an old generation.
        ctx.stop();
    }
}

async fn run(shared: &Rc<Shared>) -> Result<(), Failure> {
    let session = Session::connect(&shared.settings).await?;
    session.server().line().is(shared.line())?;
    if let Some(xid) = ChunkReader::given_out(&session).await? {
        info!("commits wait for standbys: chunks wait for the transactions that are open now");
        shared.router.do_send(RoutedBefore(xid));
    }
    drop(session);
    loop {
        info!(tables = shared.left(), "copying beside the stream");
        let parallel = usize::from(shared.snapshot.parallel).max(1);
        let readers = future::try_join_all((0..parallel).map(|number| read::read(shared, number)));
        tokio::select! {
            () = shared.over() => {}
            Err(failure) = readers => return Err(failure),
            Err(failure) = shared.save() => return Err(failure),
            Err(failure) = shared.take_up() => return Err(failure),
        }
        shared.finish().await?;
        // What comes after this look is dealt with by whoever hears that all is copied.
        if shared.is_done() {
            info!(rows = shared.progress.snapshot_rows.load(Relaxed), "everything is copied");
            return Ok(());
        }
    }
}

impl Shared {
    /// Something to do for a reader; the epoch of the table with it.
    fn take(&self) -> Option<(usize, u64, Job)> {
        if OPEN_MAX <= self.emitted.borrow().len() {
            return None;
        }
        let mut tables = self.tables.borrow_mut();
        // One of ten thousand tables is not looked for from the first one on.
        let over = tables.iter().skip(self.over.get()).take_while(|it| it.copy.is_done()).count();
        self.over.set(self.over.get() + over);
        for (index, table) in tables.iter_mut().enumerate().skip(self.over.get()) {
            if table.copy.is_done() {
                continue;
            }
            if table.copy.files().is_empty() {
                if !std::mem::replace(&mut table.beginning, true) {
                    return Some((index, table.copy.epoch(), Job::Begin));
                }
            } else if let Some(work) = table.copy.take() {
                return Some((index, table.copy.epoch(), Job::Work(work)));
            }
        }
        None
    }

    /// What the front streams.
    fn line(&self) -> Line {
        self.open.line
    }

    fn give_back(&self, index: usize, epoch: u64, job: Job) {
        let table = &mut self.tables.borrow_mut()[index];
        if table.copy.epoch() == epoch {
            match job {
                Job::Begin => table.beginning = false,
                Job::Work(work) => table.copy.give_back(work),
            }
        }
        self.changed.notify_waiters();
    }

    fn is_done(&self) -> bool {
        let tables = self.tables.borrow();
        let is_over = tables.iter().skip(self.over.get()).all(|it| it.copy.is_done());
        is_over && self.looked.get() == self.wanted.get()
    }

    /// Tables that are not done.
    fn left(&self) -> usize {
        self.tables.borrow().iter().filter(|it| !it.copy.is_done()).count()
    }

    /// Takes in the plans that the meta lane holds and that are not here.
    fn take_in(&self) -> Result<(), Failure> {
        let mut tables = self.tables.borrow_mut();
        let known: BTreeSet<String> = tables.iter().map(|it| it.name.clone()).collect();
        for (name, json) in &self.state.borrow().plans {
            if known.contains(name) {
                continue;
            }
            let table = table(name, json)?;
            self.saver.note_open(tables.len(), table.copy.open().collect());
            self.tell(&table);
            tables.push(table);
        }
        let mine = || tables.iter().map(|it| it.copy.progress()).filter(|it| !it.done);
        let Progress { snapshot_rows, snapshot_bytes, snapshot_rows_estimated, .. } =
            &*self.progress;
        snapshot_rows.store(mine().map(|it| it.rows).sum(), Relaxed);
        snapshot_bytes.store(mine().map(|it| it.bytes).sum(), Relaxed);
        snapshot_rows_estimated.store(mine().map(|it| it.estimate).sum(), Relaxed);
        Ok(())
    }

    fn tell(&self, table: &Table) {
        let told = TableProgress::of(table.copy.progress(), &table.snapshot);
        self.progress.tables(|it| it.note(&table.name, told, Instant::now()));
    }

    /// Nothing rests on the plans of the first snapshot any more. What was asked for stays, so that it is known to
    /// be done.
    async fn finish(&self) -> Result<(), Failure> {
        // What was about to be written down is written here.
        self.saver.dirty.borrow_mut().clear();
        self.saver.open.borrow_mut().clear();
        let done = |table: &Table| {
            let json = table.copy.asked().map(|_| written(&table.copy.record())).transpose()?;
            Ok((table.name.clone(), json))
        };
        let done: Vec<(String, Option<String>)> = {
            let tables = self.tables.borrow();
            let is_over = tables.iter().filter(|it| it.copy.is_done());
            is_over.map(done).collect::<Result<_, Failure>>()?
        };
        let record = |(name, json): &(String, Option<String>)| MetaRecord::Plan {
            name: name.clone(),
            json: json.clone(),
        };
        self.meta.write(done.iter().map(record).collect()).await?;
        let mut state = self.state.borrow_mut();
        for (name, json) in done {
            match json {
                Some(json) => drop(state.plans.insert(name, json)),
                None => drop(state.plans.remove(&name)),
            }
        }
        Ok(())
    }

    /// Changes a table, and has it written down. Gives what [`Self::saved`] waits for.
    fn change<T>(&self, index: usize, what: impl FnOnce(&mut Table) -> T) -> (T, u64) {
        let changed = {
            let table = &mut self.tables.borrow_mut()[index];
            let changed = what(table);
            self.tell(table);
            changed
        };
        self.over.set(self.over.get().min(index));
        let version = self.saver.version.get() + 1;
        self.saver.version.set(version);
        self.saver.dirty.borrow_mut().insert(index);
        self.saver.wake.notify_one();
        self.changed.notify_waiters();
        (changed, version)
    }

    /// Until a change is written down.
    async fn saved(&self, version: u64) {
        let mut saved = self.saver.saved.subscribe();
        // The sender lives as long as this.
        let _ = saved.wait_for(|saved| version <= *saved).await;
    }

    /// Writes down what has changed, one transaction at a time for all that has gathered meanwhile.
    async fn save(&self) -> Result<Infallible, Failure> {
        loop {
            self.saver.wake.notified().await;
            let version = self.saver.version.get();
            let dirty = std::mem::take(&mut *self.saver.dirty.borrow_mut());
            let mut records = Vec::with_capacity(dirty.len());
            let mut open = Vec::with_capacity(dirty.len());
            for &index in &dirty {
                let tables = self.tables.borrow();
                let table = &tables[index];
                records.push((table.name.clone(), written(&table.copy.record())?));
                open.push((index, table.copy.open().collect::<Vec<u64>>()));
            }
            let record = |(name, json): &(String, String)| MetaRecord::Plan {
                name: name.clone(),
                json: Some(json.clone()),
            };
            if !records.is_empty() {
                self.meta.write(records.iter().map(record).collect()).await?;
            }
            open.into_iter().for_each(|(index, open)| self.saver.note_open(index, open));
            self.state.borrow_mut().plans.extend(records);
            self.saver.saved.send_replace(version);
        }
    }

    /// Chunks that may have to be written again by what is written down.
    fn open(&self) -> Vec<String> {
        let tables = self.tables.borrow();
        let open = self.saver.open.borrow();
        let names = |(&index, numbers): (&usize, &Vec<u64>)| {
            let name = &tables[index].name;
            numbers.iter().map(|number| format!("{name}/{number}")).collect::<Vec<_>>()
        };
        open.iter().flat_map(names).collect()
    }

    /// The rows of a chunk are on their way, or must be read again.
    fn routed(&self, index: usize, epoch: u64, number: u64, routed: ChunkRouted) {
        match routed {
            ChunkRouted::At { seq, rows, left_out } => {
                tracing::debug!(seq, rows, left_out, number, "chunk has found its place");
                self.emitted.borrow_mut().insert(seq, (index, epoch, number));
            }
            ChunkRouted::Again => {
                let table = &mut self.tables.borrow_mut()[index];
                if table.copy.epoch() == epoch {
                    table.copy.redo(number);
                }
            }
        }
        self.changed.notify_waiters();
    }

    /// Every batch up to `seq` is durable in every lane.
    fn settle(&self, seq: u64) {
        let mut emitted = self.emitted.borrow_mut();
        let later = emitted.split_off(&(seq + 1));
        for (index, epoch, number) in std::mem::replace(&mut *emitted, later).into_values() {
            self.change(index, |table| {
                if table.copy.epoch() == epoch {
                    table.copy.settled(number);
                }
            });
        }
    }

    /// The table cannot be copied any more.
    fn give_up(&self, index: usize, why: &str) {
        let (name, _) = self.change(index, |table| {
            table.copy.give_up(why);
            table.name.clone()
        });
        warn!(table = name, why, "table is not copied any further");
    }
}
