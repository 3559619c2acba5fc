//! What the stage tests share: a table, batches of it, probes for what a stage sends.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod broker;

use actix::dev::ToEnvelope;
use actix::{Actor, Context, Handler, Message, Recipient};
use pipeline::Failure;
use pipeline::batch::LaneBatch;
use pipeline::lane::{Event, Surroundings};
use record::plan::{TablePlan, TaskPlan};
use record::route::{Piece, Scratch};
use record::schema::{Schemas, Settled};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use supervision::Credit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wal::change::{Change, Operation, Span, Transaction};
use wal::table::ReplicaIdentity;
use wal::types::{Type, oid};
use wal::{ChangeBatch, Column, Lsn, Table};

/// The lane's surroundings: simulated time, reports kept for the scheduler.
pub(crate) struct SimulatedTime {
    pub(crate) now: Instant,
    pub(crate) reports: VecDeque<Event>,
}

impl SimulatedTime {
    pub(crate) fn new(now: Instant) -> Self {
        Self { now, reports: VecDeque::new() }
    }
}

impl Surroundings for SimulatedTime {
    fn now(&self) -> Instant {
        self.now
    }

    fn now_us(&self) -> i64 {
        0
    }

    fn register(&mut self, _: &Schemas) -> Result<Settled, Failure> {
        unreachable!("the format of the simulation has no schemas")
    }

    fn record_bytes_max(&mut self, _: &str) -> Result<u64, Failure> {
        Ok(u64::MAX)
    }

    fn report(&mut self, event: Event) {
        self.reports.push_back(event);
    }
}

/// `public.orders(id int4 primary key)`.
pub(crate) fn table() -> Arc<Table> {
    let column = Column {
        name: "id".into(),
        type_: Arc::new(Type::builtin(oid::INT4, "int4")),
        type_modifier: -1,
        not_null: true,
        default: None,
        in_identity: true,
    };
    Arc::new(Table {
        oid: 7,
        version: 1,
        schema: "public".into(),
        name: "orders".into(),
        identity: ReplicaIdentity::Full,
        columns: vec![column],
        key: vec![0],
        unique: Vec::new(),
    })
}

pub(crate) fn spec() -> config::Task {
    let object = config::Object { table: "public.*".into(), ..config::Object::default() };
    config::Task { task: "shop".into(), objects: vec![object], ..config::Task::default() }
}

pub(crate) fn task_plan() -> TaskPlan {
    TaskPlan::new(&spec(), "appdb").expect("a plan")
}

/// One partition: everything goes to the one lane that owns it, or to lane 0 of one.
pub(crate) fn table_plan(partitions: i32, lanes: u8) -> Arc<TablePlan> {
    Arc::new(TablePlan::new(table(), &task_plan(), 0, partitions, lanes).expect("a plan"))
}

/// Inserts of one transaction: ids from `ordinals`, whose numbers they also have.
pub(crate) fn inserts(commit_lsn: u64, ordinals: std::ops::Range<u64>, ends: bool) -> ChangeBatch {
    let mut bytes = Vec::new();
    let mut changes = Vec::new();
    for ordinal in ordinals {
        let start = u32::try_from(bytes.len()).expect("small");
        let text = ordinal.to_string();
        bytes.extend_from_slice(&1u16.to_be_bytes());
        bytes.push(b't');
        bytes.extend_from_slice(&u32::try_from(text.len()).expect("small").to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
        let end = u32::try_from(bytes.len()).expect("small");
        changes.push(Change {
            transaction: 0,
            table: 0,
            ordinal,
            lsn: Lsn(commit_lsn),
            operation: Operation::Insert,
            old: None,
            new: Some(Span { start, end }),
        });
    }
    ChangeBatch {
        bytes: bytes.into(),
        changes,
        transactions: vec![Transaction {
            xid: 1,
            commit_lsn: Lsn(commit_lsn),
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        }],
        tables: vec![table()],
        committed_end_lsn: ends.then_some(Lsn(commit_lsn + 8)),
        ends_transaction: ends,
        ..ChangeBatch::default()
    }
}

/// The part of a batch that lane 0 of one writes.
pub(crate) fn lane_batch(seq: u64, batch: ChangeBatch) -> LaneBatch {
    let plan = table_plan(1, 1);
    let (mut pieces, mut scratch): (Vec<Piece>, _) = (Vec::new(), Scratch::default());
    for index in 0..u32::try_from(batch.changes.len()).expect("small") {
        plan.route(&batch, index, &mut scratch, &mut |piece| pieces.push(piece));
    }
    LaneBatch {
        generation: 1,
        seq,
        ends_transaction: batch.ends_transaction,
        batch: Arc::new(batch),
        plans: [Some(plan)].into(),
        pieces: pieces.into(),
        orders: Arc::default(),
        marked: None,
        credit: Arc::new(Credit::none()),
    }
}

/// Remembers what it got.
pub(crate) struct Probe<M>(UnboundedSender<M>);

impl<M: Message<Result = ()> + Send + Unpin + 'static> Probe<M> {
    pub(crate) fn start_probe() -> (Recipient<M>, UnboundedReceiver<M>)
    where
        Context<Self>: ToEnvelope<Self, M>,
    {
        let (sender, received) = unbounded_channel();
        (Self(sender).start().recipient(), received)
    }
}

impl<M: Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Probe<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Context<Self>) {
        let _ = self.0.send(message);
    }
}

/// The batch as the rows of a chunk that was read beside the stream.
pub(crate) fn chunk(batch: ChangeBatch) -> ChangeBatch {
    let name = "1/7/1".to_owned();
    let chunk = wal::Chunk { open: vec![name.clone()], name };
    ChangeBatch { chunk: Some(Arc::new(chunk)), ..batch }
}
