//! The checker: rebuilds every table from the topics and compares it row by row with the server;
//! finds records that are missing, doubled, altered or out of order. It has its own decoder, and no
//! idea of how the product works inside.

mod checkpoints;
mod fault;
mod order;
mod rebuild;

pub use checkpoints::checkpoints;
pub use fault::{Fault, Kind, Report};

use crate::catalog::Contents;
use crate::event::{Event, Id};
use crate::reader::{Record, Topics};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What the checker may take for granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Promises {
    /// Exactly-once: nothing is doubled. Without it, doubled records are put aside before the rest
    /// is checked.
    pub exactly_once: bool,
    /// Every table of the database and every operation is captured, so that ordinals have no holes.
    pub everything: bool,
    /// The whole row is logged before each change.
    pub identity_full: bool,
    /// A row stays in its partition. Without it, where the spec's partitioning was changed on the way,
    /// tables are rebuilt in the order of positions.
    pub partitions_kept: bool,
    /// Tables are copied while the stream runs: changes of a row can come before it was read, and a row is
    /// read as the stream has told it.
    pub beside_stream: bool,
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            exactly_once: true,
            everything: true,
            identity_full: true,
            partitions_kept: true,
            beside_stream: false,
        }
    }
}

/// Name of a table: schema and table.
type TableName = (String, String);

/// A record with what it says.
struct Read<'a> {
    record: &'a Record,
    id: Id,
    /// `None`: a tombstone.
    event: Option<Event<'a>>,
}

/// Compares what lies in Kafka with what the database holds. Nothing may be writing to either.
#[must_use]
pub fn check(promises: Promises, topics: &Topics, expected: &[Contents]) -> Report {
    let mut report = Report::default();
    // Statements are no rows, also those that are inferred where a role may not capture them.
    let rows = topics.records.iter().filter(|it| !it.topic.ends_with(".ddl"));
    let mut reads: Vec<Read<'_>> = rows.filter_map(|it| read(it, &mut report)).collect();
    report.records = reads.len();
    let doubled = order::doubled(&reads);
    if promises.exactly_once {
        for &index in &doubled {
            report.add(
                Kind::Doubled,
                reads[index].record,
                format!("{:?} was there before", reads[index].id),
            );
        }
    } else {
        let mut index = 0..;
        reads.retain(|_| index.next().is_none_or(|index| !doubled.contains(&index)));
    }
    let shapes: HashMap<TableName, &Contents> =
        expected.iter().map(|it| ((it.shape.schema.clone(), it.shape.table.clone()), it)).collect();
    // With doubled records put aside, what follows a repetition is older than what it follows.
    if promises.exactly_once {
        order::partitions(&reads, &mut report);
    }
    if promises.everything {
        order::ordinals(&reads, &mut report);
    }
    order::truncates(&reads, &topics.partitions, &mut report);
    order::key_changes(&reads, &mut report);
    rebuild::rebuild(promises, &reads, &shapes, &mut report);
    report
}

fn read<'a>(record: &'a Record, report: &mut Report) -> Option<Read<'a>> {
    let parsed = match &record.value {
        Some(_) => Event::parse(record).map(|event| (event.id, Some(event))),
        None => Id::of(record).map(|id| (id, None)),
    };
    match parsed {
        Ok((id, event)) => Some(Read { record, id, event }),
        Err(reason) => {
            report.add(Kind::Unreadable, record, reason);
            None
        }
    }
}

/// Indexes of the records of each table, or of each topic that several share, in the order of their positions: a table
/// may have gone from one topic to another.
fn by_position(reads: &[Read<'_>]) -> BTreeMap<String, Vec<usize>> {
    let mut tables: BTreeMap<&str, BTreeSet<TableName>> = BTreeMap::new();
    for read in reads {
        let table = read.event.as_ref().map(|event| (event.schema.clone(), event.table.clone()));
        tables.entry(&read.record.topic).or_default().extend(table);
    }
    let mut topics: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, read) in reads.iter().enumerate() {
        let topic = read.record.topic.as_str();
        let mut of_topic = tables.get(topic).into_iter().flatten();
        let name = match (of_topic.next(), of_topic.next()) {
            (Some((schema, table)), None) => format!("table {schema}.{table}"),
            _ => topic.to_owned(),
        };
        topics.entry(name).or_default().push(index);
    }
    // A truncate that announces a snapshot stands at its place, before its rows.
    let is_row = |read: &Read<'_>| read.event.as_ref().is_none_or(|event| event.op != 't');
    for indexes in topics.values_mut() {
        indexes.sort_by_key(|&index| {
            let read = &reads[index];
            (read.id, is_row(read), read.record.offset)
        });
    }
    topics
}

/// Indexes of the records of each partition, in their order.
fn by_partition<'a>(reads: &'a [Read<'_>]) -> BTreeMap<(&'a str, i32), Vec<usize>> {
    let mut partitions: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, read) in reads.iter().enumerate() {
        partitions
            .entry((read.record.topic.as_str(), read.record.partition))
            .or_default()
            .push(index);
    }
    for indexes in partitions.values_mut() {
        indexes.sort_by_key(|&index| reads[index].record.offset);
    }
    partitions
}
