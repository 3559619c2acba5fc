//! What positions tell: nothing twice, nothing out of order, no number left out, every part there.

use super::{Kind, Read, Report, by_partition};
use crate::event::{Id, Seq};
use crate::reader::Record;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Indexes of records whose id an earlier one had.
///
/// In a partition the earlier offset counts as the first. Rows of a snapshot have no id: the rows
/// themselves tell.
pub(super) fn doubled(reads: &[Read<'_>]) -> BTreeSet<usize> {
    let mut seen: HashSet<(&str, u64, Seq)> = HashSet::with_capacity(reads.len());
    let mut doubled = BTreeSet::new();
    for index in by_partition(reads).into_values().flatten() {
        let Read { id, record, .. } = &reads[index];
        if let Some(seq) = id.seq
            && !seen.insert((task(record), id.lsn, seq))
        {
            doubled.insert(index);
        }
    }
    doubled
}

/// Ids are unique in a task, or in one stream of it; topics of several tasks are never checked together.
fn task(record: &Record) -> &str {
    let task = record.headers.iter().find(|(name, _)| name == "distributary.task");
    task.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// In each partition positions grow: those of the stream strictly, snapshots never fall behind.
pub(super) fn partitions(reads: &[Read<'_>], report: &mut Report) {
    for indexes in by_partition(reads).into_values() {
        let mut highest: Option<Id> = None;
        for index in indexes {
            let Read { id, record, .. } = &reads[index];
            let behind = highest.is_some_and(|highest| match (highest.seq, id.seq) {
                (Some(_), Some(_)) => *id < highest,
                (_, None) | (None, _) => id.lsn < highest.lsn,
            });
            if behind {
                report.add(Kind::OutOfOrder, record, format!("{id:?} after {highest:?}"));
            } else {
                highest = Some(*id);
            }
        }
    }
}

/// The ordinals of a transaction begin at 0 and have no holes.
pub(super) fn ordinals(reads: &[Read<'_>], report: &mut Report) {
    let mut transactions: BTreeMap<(&str, u64), BTreeSet<u64>> = BTreeMap::new();
    for read in reads {
        if let Some(seq) = read.id.seq {
            let transaction = (task(read.record), read.id.lsn);
            transactions.entry(transaction).or_default().insert(seq.ordinal);
        }
    }
    for ((_, lsn), ordinals) in transactions {
        let mut next = 0;
        for ordinal in ordinals {
            if ordinal != next {
                let text = format!("transaction {lsn:X}: {next}..{ordinal} never came");
                report.add_row(Kind::OrdinalMissing, text);
            }
            next = ordinal + 1;
        }
    }
}

/// A TRUNCATE is in every partition of its topic. One that announces a snapshot has no ordinal, and may
/// have been interrupted with it where another announcement follows.
pub(super) fn truncates(
    reads: &[Read<'_>],
    partitions: &BTreeMap<String, i32>,
    report: &mut Report,
) {
    let mut truncates: BTreeMap<(&str, u64, Option<u64>), BTreeSet<i32>> = BTreeMap::new();
    for read in reads.iter().filter(|read| read.event.as_ref().is_some_and(|event| event.op == 't'))
    {
        let Id { lsn, seq } = read.id;
        let of = (read.record.topic.as_str(), lsn, seq.map(|seq| seq.ordinal));
        truncates.entry(of).or_default().insert(read.record.partition);
    }
    let announced: BTreeMap<&str, u64> =
        truncates.keys().filter(|it| it.2.is_none()).map(|it| (it.0, it.1)).collect();
    for ((topic, lsn, ordinal), reached) in truncates {
        // The map keeps the last one of each topic.
        if ordinal.is_none() && announced.get(topic).is_some_and(|&last| lsn < last) {
            continue;
        }
        let count = partitions.get(topic).copied().unwrap_or_default();
        if !reached.iter().copied().eq(0..count) {
            let text = format!(
                "{topic}: TRUNCATE {lsn:X}:{ordinal:?} in {reached:?} of {count} partitions"
            );
            report.add_row(Kind::TruncateIncomplete, text);
        }
    }
}

/// The delete and the create of a key change name each other's keys.
pub(super) fn key_changes(reads: &[Read<'_>], report: &mut Report) {
    let mut halves: HashMap<(u64, u64), [Option<&Read<'_>>; 2]> = HashMap::new();
    for read in reads.iter().filter(|read| read.event.is_some()) {
        let Some(seq) = read.id.seq else { continue };
        for (half, header) in ["__debezium.newkey", "__debezium.oldkey"].into_iter().enumerate() {
            if read.record.header(header).is_some() {
                halves.entry((read.id.lsn, seq.ordinal)).or_default()[half] = Some(read);
            }
        }
    }
    for halves in halves.into_values() {
        match halves {
            [Some(delete), Some(create)] => {
                let key = |read: &Read<'_>| read.record.key.clone().unwrap_or_default();
                let header =
                    |read: &Read<'_>, name| read.record.header(name).map(String::into_bytes);
                let named = header(delete, "__debezium.newkey") == Some(key(create))
                    && header(create, "__debezium.oldkey") == Some(key(delete));
                if !named {
                    report.add(Kind::KeyChangeHalf, delete.record, "the halves name other keys");
                }
            }
            [Some(half), None] | [None, Some(half)] => {
                report.add(Kind::KeyChangeHalf, half.record, "its other half never came");
            }
            [None, None] => {}
        }
    }
}
