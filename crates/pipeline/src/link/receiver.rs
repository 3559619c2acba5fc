//! Frames → a lane's batches. Nothing that came from outside is used before it was checked.

use super::frame::Joiner;
use super::{LinkError, message, wire};
use crate::batch::LaneBatch;
use crate::hosts::OpenLane;
use crate::planner::Pins;
use bytes::Bytes;
use record::plan::{TablePlan, TaskPlan};
use record::route::{Part, Piece};
use record::transaction::Order;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use supervision::Credit;
use wal::change::{Old, Span, Transaction};
use wal::table::{ReplicaIdentity, UniqueIndex};
use wal::types::{Field, Kind, Type};
use wal::{Change, ChangeBatch, Chunk, Column, Lsn, Operation, Table, Tuple};

/// Revisions that one link carries: one for each change of the spec while the task runs.
const REVISIONS_MAX: usize = 1_000;

/// The receiving end of one link.
#[derive(Debug)]
pub struct Receiver {
    lane: u8,
    /// Lanes of the revision.
    routed: u8,
    /// Of the spec with which the lane was opened.
    spec: Arc<config::Task>,
    server_version: u32,
    plan: TaskPlan,
    /// Of later revisions, by their numbers.
    marked: HashMap<u64, TaskPlan>,
    /// Learns the partitions of topics that come later.
    pins: Pins,
    joiner: Joiner,
    /// Whether a batch may say where its records stand in their transactions.
    places: bool,
    /// Whether a batch may be of a later revision.
    marks: bool,
    generation: u64,
    /// By their numbers on this link.
    tables: Vec<Arc<TablePlan>>,
    /// Of the tables that the next message describes.
    unique: VecDeque<Vec<wire::UniqueIndex>>,
}

impl Receiver {
    /// For a lane, whose rows become what `plan` says, which was made of its spec.
    #[must_use]
    pub fn new(open: &OpenLane, plan: TaskPlan) -> Self {
        let &OpenLane { lane, routed, server_version, .. } = open;
        Self {
            lane,
            routed,
            spec: Arc::clone(&open.spec),
            server_version,
            plan,
            marked: HashMap::new(),
            pins: open.pins.clone(),
            joiner: Joiner::default(),
            places: true,
            marks: true,
            generation: 0,
            tables: Vec::new(),
            unique: VecDeque::new(),
        }
    }

    /// For a link whose protocol has no places of records in their transactions.
    #[must_use]
    pub fn without_places(self) -> Self {
        Self { places: false, ..self }
    }

    /// For a link whose protocol has no revision marks.
    #[must_use]
    pub fn without_marks(self) -> Self {
        Self { marks: false, ..self }
    }

    /// Takes a frame in; a batch, once its last one has come. Its credit stays where it came from.
    ///
    /// # Errors
    /// When anything in it is not as it must be: the link must be opened again.
    pub fn take(&mut self, frame: Bytes) -> Result<Option<LaneBatch>, LinkError> {
        let Some(message) = self.joiner.join(frame)? else { return Ok(None) };
        match message.first() {
            Some(&wire::VERSION_ORDERED) if self.places => {
                let (ordered, tuples) = message::read(wire::VERSION_ORDERED, &message)?;
                self.ordered(ordered, None, tuples).map(Some)
            }
            Some(&wire::VERSION_UNIQUE) => {
                let (unique, rest) = message::read(wire::VERSION_UNIQUE, &message)?;
                let wire::Unique { tables } = unique;
                if !rest.is_empty() || !self.unique.is_empty() {
                    return Err(LinkError::Inconsistent("unique indexes are of no table"));
                }
                self.unique = tables.into();
                Ok(None)
            }
            Some(&wire::VERSION_MARKED) if self.marks => {
                let (marked, tuples) = message::read(wire::VERSION_MARKED, &message)?;
                let wire::Marked { revision, shape, ordered } = marked;
                if let Some(shape) = shape {
                    let plan = self.revision(&shape)?;
                    self.marked.insert(revision, plan);
                }
                if ordered.orders.is_empty() {
                    return self.batch(ordered.head, Some(revision), tuples).map(Some);
                }
                self.ordered(ordered, Some(revision), tuples).map(Some)
            }
            _ => {
                let (head, tuples) = message::read(wire::VERSION, &message)?;
                self.batch(head, None, tuples).map(Some)
            }
        }
    }

    /// What a later revision says of rows. Masks are where the router is, and so is their key.
    fn revision(&self, shape: &str) -> Result<TaskPlan, LinkError> {
        if REVISIONS_MAX <= self.marked.len() {
            return Err(LinkError::Inconsistent("more revisions came than a link carries"));
        }
        let malformed = |cause: String| LinkError::Malformed(format!("its revision: {cause}"));
        let shape = serde_json::from_str(shape).map_err(|error| malformed(error.to_string()))?;
        let spec = self.spec.shaped(&shape);
        let plan = TaskPlan::new(&spec, &spec.source.database);
        Ok(plan.map_err(|error| malformed(error.to_string()))?.of_server(self.server_version))
    }

    fn ordered(
        &mut self,
        ordered: wire::Ordered,
        revision: Option<u64>,
        tuples: Bytes,
    ) -> Result<LaneBatch, LinkError> {
        let wire::Ordered { head, orders } = ordered;
        if orders.len() != head.pieces.len() {
            return Err(LinkError::Inconsistent("not every piece has a place in its transaction"));
        }
        let order = |(total, collection)| Order { total, collection };
        let orders = orders.into_iter().map(order).collect();
        Ok(LaneBatch { orders, ..self.batch(head, revision, tuples)? })
    }

    fn batch(
        &mut self,
        head: wire::Head,
        revision: Option<u64>,
        bytes: Bytes,
    ) -> Result<LaneBatch, LinkError> {
        if self.generation != head.generation {
            self.generation = head.generation;
            self.tables.clear();
        }
        for table in head.new_tables {
            let unique = self.unique.pop_front().unwrap_or_default();
            let plan = self.planned(table, unique, revision)?;
            self.tables.push(plan);
        }
        if !self.unique.is_empty() {
            return Err(LinkError::Inconsistent("unique indexes are of no table"));
        }
        let plan = |&number: &u32| self.tables.get(number as usize).cloned();
        let plans: Option<Vec<_>> = head.tables.iter().map(plan).collect();
        let plans = plans.ok_or(LinkError::Inconsistent("a table was never described"))?;
        let columns: Vec<_> = plans.iter().map(|plan| plan.table().columns.len()).collect();
        let changes = changes(&head.changes, &columns, head.transactions.len(), &bytes)?;
        let piece = |piece: &wire::Piece| {
            let change = changes.get(piece.change as usize);
            let change = change.ok_or(LinkError::Inconsistent("a piece is of no change"))?;
            let plan = &plans[change.table as usize];
            if !(0..plan.partitions()).contains(&piece.partition)
                || plan.lane(piece.partition) != self.lane
            {
                return Err(LinkError::Inconsistent("a piece is not of this lane"));
            }
            Ok(Piece {
                change: piece.change,
                lane: self.lane,
                partition: piece.partition,
                part: match piece.part {
                    wire::Part::Whole => Part::Whole,
                    wire::Part::KeyChangeDelete => Part::KeyChangeDelete,
                    wire::Part::KeyChangeCreate => Part::KeyChangeCreate,
                    wire::Part::Enters => Part::Enters,
                    wire::Part::Leaves => Part::Leaves,
                    wire::Part::Unjudged => Part::Unjudged,
                },
            })
        };
        let pieces: Vec<_> = head.pieces.iter().map(piece).collect::<Result<_, _>>()?;
        let batch = ChangeBatch {
            bytes,
            changes,
            transactions: head.transactions.iter().map(transaction_in).collect(),
            tables: plans.iter().map(|plan| Arc::clone(plan.table())).collect(),
            committed_end_lsn: head.committed_end_lsn.map(Lsn),
            ends_transaction: head.ends_transaction,
            idle_until: None,
            messages: Vec::new(),
            snapshot: head.snapshot.map(Arc::from),
            chunk: head.chunk.map(|it| Arc::new(Chunk { name: it.name, open: it.open })),
        };
        Ok(LaneBatch {
            generation: head.generation,
            seq: head.seq,
            batch: Arc::new(batch),
            plans: plans.into_iter().map(Some).collect(),
            pieces: pieces.into(),
            orders: Arc::default(),
            ends_transaction: head.ends_transaction,
            // Its plans are made.
            marked: None,
            credit: Arc::new(Credit::none()),
        })
    }

    fn planned(
        &self,
        new: wire::PlannedTable,
        unique: Vec<wire::UniqueIndex>,
        revision: Option<u64>,
    ) -> Result<Arc<TablePlan>, LinkError> {
        let task = match revision {
            None => &self.plan,
            Some(revision) => self
                .marked
                .get(&revision)
                .ok_or(LinkError::Inconsistent("a revision was never described"))?,
        };
        let wire::PlannedTable { partitions, table } = new;
        let table = table_in(table)?;
        let unique = unique_in(unique, table.columns.len())?;
        let table = Arc::new(Table { unique, ..table });
        let refused = |cause: String| LinkError::Plan {
            schema: table.schema.clone(),
            table: table.name.clone(),
            cause,
        };
        let chosen = task.choose(&table).map_err(|error| refused(error.to_string()))?;
        let object = chosen
            .map(|it| it.object)
            .ok_or_else(|| refused("no object of the spec selects it".into()))?;
        let plan = TablePlan::new(Arc::clone(&table), task, object, partitions, self.routed)
            .map_err(|error| refused(error.to_string()))?;
        self.pins.extend([(plan.topic().to_owned(), partitions)]);
        Ok(Arc::new(plan))
    }
}

/// The changes, whose tuples lie one after the other in `bytes` and fill it. `columns`: of each table.
pub(super) fn changes(
    changes: &[wire::Change],
    columns: &[usize],
    transactions: usize,
    bytes: &[u8],
) -> Result<Vec<Change>, LinkError> {
    let mut start = 0_u32;
    let mut span = |length: u32, columns: usize| {
        let end = start.checked_add(length);
        let end = end.ok_or(LinkError::Inconsistent("tuples are longer than they can be"))?;
        let span = Span { start, end };
        let tuple = bytes
            .get(start as usize..end as usize)
            .and_then(|tuple| Tuple::check(tuple).ok().filter(|(_, taken)| *taken == tuple.len()));
        // A tuple of an older version of the table can be shorter, never longer.
        let whole = tuple.is_some_and(|(tuple, _)| tuple.len() <= columns);
        start = end;
        if whole { Ok(span) } else { Err(LinkError::Inconsistent("a tuple is none")) }
    };
    let mut all = Vec::with_capacity(changes.len());
    for change in changes {
        let columns = columns.get(change.table as usize);
        let columns = *columns.ok_or(LinkError::Inconsistent("a change is of no table"))?;
        if transactions <= change.transaction as usize {
            return Err(LinkError::Inconsistent("a change is of no transaction"));
        }
        let old = match change.old {
            Some(wire::Old::Key(length)) => Some(Old::Key(span(length, columns)?)),
            Some(wire::Old::Row(length)) => Some(Old::Row(span(length, columns)?)),
            None => None,
        };
        let new = change.new_bytes.map(|length| span(length, columns)).transpose()?;
        all.push(Change {
            transaction: change.transaction,
            table: change.table,
            ordinal: change.ordinal,
            lsn: Lsn(change.lsn),
            operation: match change.operation {
                wire::Operation::Read => Operation::Read,
                wire::Operation::Insert => Operation::Insert,
                wire::Operation::Update => Operation::Update,
                wire::Operation::Delete => Operation::Delete,
                wire::Operation::Truncate => Operation::Truncate,
            },
            old,
            new,
        });
    }
    if start as usize != bytes.len() {
        return Err(LinkError::Inconsistent("bytes follow the last tuple"));
    }
    Ok(all)
}

pub(super) fn transaction_in(transaction: &wire::Transaction) -> Transaction {
    Transaction {
        xid: transaction.xid,
        commit_lsn: Lsn(transaction.commit_lsn),
        previous_commit_lsn: transaction.previous_commit_lsn.map(Lsn),
        commit_time: transaction.commit_time,
        changes_count: transaction.changes_count,
    }
}

pub(super) fn table_in(table: wire::Table) -> Result<Table, LinkError> {
    let mut types: Vec<Arc<Type>> = Vec::with_capacity(table.types.len());
    for type_ in table.types {
        let made = type_in(type_, &types)?;
        types.push(Arc::new(made));
    }
    let column = |column: wire::Column| {
        Ok(Column {
            name: column.name.into(),
            type_: before(&types, column.type_)?,
            type_modifier: column.type_modifier,
            not_null: column.not_null,
            default: column.default.map(Into::into),
            in_identity: column.in_identity,
        })
    };
    let columns: Vec<_> = table.columns.into_iter().map(column).collect::<Result<_, _>>()?;
    let key: Vec<_> = table.key.iter().map(|&index| index as usize).collect();
    if key.iter().any(|&index| columns.len() <= index) {
        return Err(LinkError::Inconsistent("a key column is no column"));
    }
    Ok(Table {
        oid: table.oid,
        version: table.version,
        schema: table.schema.into(),
        name: table.name.into(),
        identity: identity_in(table.identity),
        columns,
        key,
        unique: Vec::new(),
    })
}

fn unique_in(
    indexes: Vec<wire::UniqueIndex>,
    columns: usize,
) -> Result<Vec<UniqueIndex>, LinkError> {
    let index = |index: wire::UniqueIndex| {
        let of: Vec<_> = index.columns.iter().map(|&column| column as usize).collect();
        if of.iter().any(|&column| columns <= column) {
            return Err(LinkError::Inconsistent("a column of a unique index is no column"));
        }
        Ok(UniqueIndex { name: index.name.into(), columns: of })
    };
    indexes.into_iter().map(index).collect()
}

pub(super) fn identity_in(identity: wire::Identity) -> ReplicaIdentity {
    match identity {
        wire::Identity::Default => ReplicaIdentity::Default,
        wire::Identity::Nothing => ReplicaIdentity::Nothing,
        wire::Identity::Full => ReplicaIdentity::Full,
        wire::Identity::Index => ReplicaIdentity::Index,
    }
}

/// A type names only types before it: none can contain itself.
fn before(types: &[Arc<Type>], number: u32) -> Result<Arc<Type>, LinkError> {
    let found = types.get(number as usize).cloned();
    found.ok_or(LinkError::Inconsistent("a type is named before it is described"))
}

fn type_in(type_: wire::Type, types: &[Arc<Type>]) -> Result<Type, LinkError> {
    let kind = match type_.kind {
        wire::Kind::Base => Kind::Base,
        wire::Kind::Array { element, delimiter } => {
            Kind::Array { element: before(types, element)?, delimiter }
        }
        wire::Kind::Enum { labels } => {
            Kind::Enum { labels: labels.into_iter().map(Into::into).collect() }
        }
        wire::Kind::Domain { base, type_modifier } => {
            Kind::Domain { base: before(types, base)?, type_modifier }
        }
        wire::Kind::Composite { fields } => {
            let field = |field: wire::Field| {
                let type_ = before(types, field.type_)?;
                Ok(Field { name: field.name.into(), type_, type_modifier: field.type_modifier })
            };
            Kind::Composite { fields: fields.into_iter().map(field).collect::<Result<_, _>>()? }
        }
        wire::Kind::Range { subtype } => Kind::Range { subtype: before(types, subtype)? },
        wire::Kind::Multirange { range } => Kind::Multirange { range: before(types, range)? },
        wire::Kind::Unknown => Kind::Unknown,
    };
    Ok(Type { oid: type_.oid, schema: type_.schema.into(), name: type_.name.into(), kind })
}
