//! A lane's part of a batch → frames.

use super::frame::Splitter;
use super::{LinkError, message, wire};
use crate::batch::LaneBatch;
use bytes::Bytes;
use record::plan::TablePlan;
use record::route::Part;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use wal::change::{Old, Span, Transaction};
use wal::table::ReplicaIdentity;
use wal::types::{Kind, Type};
use wal::{Change, Operation, Table};

/// The sending end of one link. Lives as long as the link.
#[derive(Debug, Default)]
pub struct Sender {
    splitter: Splitter,
    generation: u64,
    /// Table versions of the generation that the other end knows, and their numbers there.
    known: HashMap<(u32, u32), (u32, Arc<TablePlan>)>,
    tables_count: u32,
    /// Revisions whose shape the other end knows.
    revisions: HashSet<u64>,
    /// The other end reads no batch of a later revision.
    unmarked: bool,
    without_unique: bool,
}

type Headed = (wire::Head, Vec<Vec<wire::UniqueIndex>>, Vec<Span>);

/// Numbers what is used of a list in the order of its first use.
struct Renumbered<T> {
    new_of_old: Vec<Option<u32>>,
    used: Vec<T>,
}

impl<T> Renumbered<T> {
    fn of(count: usize) -> Self {
        Self { new_of_old: vec![None; count], used: Vec::new() }
    }

    fn number(
        &mut self,
        old: u32,
        make: impl FnOnce() -> Result<T, LinkError>,
    ) -> Result<u32, LinkError> {
        let slot = self.new_of_old.get_mut(old as usize);
        let slot = slot.ok_or(LinkError::Inconsistent("an index leads nowhere"))?;
        if let Some(new) = *slot {
            return Ok(new);
        }
        let new = count(self.used.len());
        self.used.push(make()?);
        *slot = Some(new);
        Ok(new)
    }
}

impl Sender {
    /// For a link whose protocol has no revision marks.
    #[must_use]
    pub fn without_marks(self) -> Self {
        Self { unmarked: true, ..self }
    }

    /// For a link whose protocol has no unique indexes.
    #[must_use]
    pub fn without_unique(self) -> Self {
        Self { without_unique: true, ..self }
    }

    /// The frames of a batch, in order. Only what the lane writes is in them.
    ///
    /// # Errors
    /// When the batch fits no message; [`LinkError::Marked`] where the other end could not read it.
    pub fn frames(&mut self, batch: &LaneBatch) -> Result<Vec<Bytes>, LinkError> {
        if self.unmarked && batch.marked.is_some() {
            return Err(LinkError::Marked);
        }
        let (head, unique, tuples) = self.head(batch)?;
        let unique = self.unique(unique)?;
        let tuple_bytes: usize = tuples.iter().map(|it| (it.end - it.start) as usize).sum();
        let bytes = tuple_bytes + 32 * head.changes.len() + 256;
        let parts = tuples.into_iter().map(|it| batch.batch.slice(it));
        let orders = batch.orders.iter().map(|it| (it.total, it.collection)).collect();
        let message = if let Some(marked) = &batch.marked {
            let is_new = self.revisions.insert(marked.number);
            let shape = is_new.then(|| serde_json::to_string(&marked.shape)).transpose();
            let shape = shape.map_err(|error| LinkError::Malformed(error.to_string()))?;
            let ordered = wire::Ordered { head, orders };
            let marked = wire::Marked { revision: marked.number, shape, ordered };
            message::write(wire::VERSION_MARKED, &marked, bytes, parts)?
        } else if batch.orders.is_empty() {
            message::write(wire::VERSION, &head, bytes, parts)?
        } else {
            let ordered = wire::Ordered { head, orders };
            message::write(wire::VERSION_ORDERED, &ordered, bytes, parts)?
        };
        let messages = unique.iter().chain([&message]);
        Ok(messages.flat_map(|message| self.splitter.split(message)).collect())
    }

    /// What the other end must know of new tables before it plans them.
    fn unique(&self, tables: Vec<Vec<wire::UniqueIndex>>) -> Result<Option<Bytes>, LinkError> {
        if self.without_unique || tables.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        message::write(wire::VERSION_UNIQUE, &wire::Unique { tables }, 0, []).map(Some)
    }

    /// The head, the unique indexes of its new tables, and the tuples that follow it.
    fn head(&mut self, part: &LaneBatch) -> Result<Headed, LinkError> {
        if self.generation != part.generation {
            self.generation = part.generation;
            self.known.clear();
            self.tables_count = 0;
        }
        let batch = &part.batch;
        let (mut new_tables, mut unique) = (Vec::new(), Vec::new());
        let mut tables = Renumbered::of(batch.tables.len());
        let mut transactions = Renumbered::of(batch.transactions.len());
        let mut changes = Renumbered::of(batch.changes.len());
        let mut pieces = Vec::with_capacity(part.pieces.len());
        let mut tuples = Vec::with_capacity(part.pieces.len());
        for piece in part.pieces.iter() {
            let change = changes.number(piece.change, || {
                let change = &batch.changes[piece.change as usize];
                let plan = part.plans.get(change.table as usize).cloned().flatten();
                let plan = plan.ok_or(LinkError::Inconsistent("a piece is of no planned table"))?;
                let table = tables.number(change.table, || {
                    let known = new_tables.len();
                    let number = self.number(Arc::clone(&plan), &mut new_tables)?;
                    if known < new_tables.len() {
                        unique.push(unique_out(&plan));
                    }
                    Ok(number)
                })?;
                let transaction = transactions.number(change.transaction, || {
                    Ok(transaction_out(&batch.transactions[change.transaction as usize]))
                })?;
                tuples.extend(change.old.map(Old::span).into_iter().chain(change.new));
                Ok(change_out(change, transaction, table))
            })?;
            pieces.push(wire::Piece {
                change,
                partition: piece.partition,
                part: match piece.part {
                    Part::Whole => wire::Part::Whole,
                    Part::KeyChangeDelete => wire::Part::KeyChangeDelete,
                    Part::KeyChangeCreate => wire::Part::KeyChangeCreate,
                    Part::Enters => wire::Part::Enters,
                    Part::Leaves => wire::Part::Leaves,
                    Part::Unjudged => wire::Part::Unjudged,
                },
            });
        }
        let head = wire::Head {
            generation: part.generation,
            seq: part.seq,
            ends_transaction: part.ends_transaction,
            committed_end_lsn: batch.committed_end_lsn.map(|lsn| lsn.0),
            snapshot: batch.snapshot.as_deref().map(str::to_owned),
            chunk: batch
                .chunk
                .as_deref()
                .map(|it| wire::Chunk { name: it.name.clone(), open: it.open.clone() }),
            new_tables,
            tables: tables.used,
            transactions: transactions.used,
            changes: changes.used,
            pieces,
        };
        Ok((head, unique, tuples))
    }

    /// The table version's number on this link; one that it has not carried yet joins `new`.
    fn number(
        &mut self,
        plan: Arc<TablePlan>,
        new: &mut Vec<wire::PlannedTable>,
    ) -> Result<u32, LinkError> {
        let version = (plan.table().oid, plan.table().version);
        match self.known.get(&version) {
            Some((number, known)) if Arc::ptr_eq(known, &plan) => Ok(*number),
            Some(_) | None => {
                let number = self.tables_count;
                self.tables_count += 1;
                let table = table_out(plan.table())?;
                new.push(wire::PlannedTable { partitions: plan.partitions(), table });
                self.known.insert(version, (number, plan));
                Ok(number)
            }
        }
    }
}

/// The indexes that the table's records name.
fn unique_out(plan: &TablePlan) -> Vec<wire::UniqueIndex> {
    let index = |index: &wal::table::UniqueIndex| wire::UniqueIndex {
        name: index.name.to_string(),
        columns: index.columns.iter().map(|&column| count(column)).collect(),
    };
    let named = plan.table().unique.iter().filter(|_| plan.names_unique_indexes());
    named.map(index).collect()
}

pub(super) fn transaction_out(transaction: &Transaction) -> wire::Transaction {
    wire::Transaction {
        xid: transaction.xid,
        commit_lsn: transaction.commit_lsn.0,
        previous_commit_lsn: transaction.previous_commit_lsn.map(|lsn| lsn.0),
        commit_time: transaction.commit_time,
        changes_count: transaction.changes_count,
    }
}

pub(super) fn change_out(change: &Change, transaction: u32, table: u32) -> wire::Change {
    let bytes = |span: Span| span.end - span.start;
    wire::Change {
        transaction,
        table,
        ordinal: change.ordinal,
        lsn: change.lsn.0,
        operation: match change.operation {
            Operation::Read => wire::Operation::Read,
            Operation::Insert => wire::Operation::Insert,
            Operation::Update => wire::Operation::Update,
            Operation::Delete => wire::Operation::Delete,
            Operation::Truncate => wire::Operation::Truncate,
        },
        old: change.old.map(|old| match old {
            Old::Key(span) => wire::Old::Key(bytes(span)),
            Old::Row(span) => wire::Old::Row(bytes(span)),
        }),
        new_bytes: change.new.map(bytes),
    }
}

pub(super) fn table_out(table: &Table) -> Result<wire::Table, LinkError> {
    let mut types = Types::default();
    let column = |column: &wal::Column| wire::Column {
        name: column.name.to_string(),
        type_: types.number(&column.type_),
        type_modifier: column.type_modifier,
        not_null: column.not_null,
        default: column.default.as_deref().map(str::to_owned),
        in_identity: column.in_identity,
    };
    let columns = table.columns.iter().map(column).collect();
    let key = table.key.iter().map(|&index| u32::try_from(index)).collect::<Result<_, _>>();
    Ok(wire::Table {
        oid: table.oid,
        version: table.version,
        schema: table.schema.to_string(),
        name: table.name.to_string(),
        identity: identity_out(table.identity),
        types: types.all,
        columns,
        key: key.map_err(|_| LinkError::Inconsistent("a key column has no number"))?,
    })
}

pub(super) fn identity_out(identity: ReplicaIdentity) -> wire::Identity {
    match identity {
        ReplicaIdentity::Default => wire::Identity::Default,
        ReplicaIdentity::Nothing => wire::Identity::Nothing,
        ReplicaIdentity::Full => wire::Identity::Full,
        ReplicaIdentity::Index => wire::Identity::Index,
    }
}

/// Types by number, each after those it names. Types are shared, so their addresses tell them apart.
#[derive(Default)]
struct Types {
    all: Vec<wire::Type>,
    seen: Vec<(Arc<Type>, u32)>,
}

impl Types {
    fn number(&mut self, type_: &Arc<Type>) -> u32 {
        if let Some((_, number)) = self.seen.iter().find(|(seen, _)| Arc::ptr_eq(seen, type_)) {
            return *number;
        }
        let kind = match &type_.kind {
            Kind::Base => wire::Kind::Base,
            Kind::Array { element, delimiter } => {
                wire::Kind::Array { element: self.number(element), delimiter: *delimiter }
            }
            Kind::Enum { labels } => {
                wire::Kind::Enum { labels: labels.iter().map(ToString::to_string).collect() }
            }
            Kind::Domain { base, type_modifier } => {
                wire::Kind::Domain { base: self.number(base), type_modifier: *type_modifier }
            }
            Kind::Composite { fields } => {
                let field = |field: &wal::types::Field| wire::Field {
                    name: field.name.to_string(),
                    type_: self.number(&field.type_),
                    type_modifier: field.type_modifier,
                };
                wire::Kind::Composite { fields: fields.iter().map(field).collect() }
            }
            Kind::Range { subtype } => wire::Kind::Range { subtype: self.number(subtype) },
            Kind::Multirange { range } => wire::Kind::Multirange { range: self.number(range) },
            Kind::Unknown => wire::Kind::Unknown,
        };
        let number = count(self.all.len());
        let (oid, schema, name) = (type_.oid, type_.schema.to_string(), type_.name.to_string());
        self.all.push(wire::Type { oid, schema, name, kind });
        self.seen.push((Arc::clone(type_), number));
        number
    }
}

/// A batch's lists are indexed by `u32` already.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
