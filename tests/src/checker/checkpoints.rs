//! What the checkpoint topic must look like (delivery-protocol.md, invariants I1, I5 and I6).

use super::{Kind, Report};
use crate::event::lsn_of;
use crate::reader::{Record, Topics};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a lane's checkpoints say; compaction may have removed some.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Place {
    term: i64,
    txn_seq: u64,
    position: (u64, u64),
}

/// Checks the checkpoint topic of a task against itself and against the slot's confirmed position,
/// where there is one.
#[must_use]
pub fn checkpoints(state: &Topics, confirmed: Option<u64>) -> Report {
    let mut report = Report::default();
    let mut lanes: BTreeMap<i32, Place> = BTreeMap::new();
    let mut watermark = None;
    let keyed = |record: &&Record| record.topic.ends_with(".ckpt") && record.value.is_some();
    for record in state.records.iter().filter(keyed) {
        report.records += 1;
        match record.key.as_deref() {
            Some(b"c") => match place(&record.json()) {
                Some(place) => {
                    follow(lanes.entry(record.partition).or_default(), place, record, &mut report);
                }
                None => report.add(Kind::Checkpoint, record, "cannot be read"),
            },
            Some(b"w") => match low(&record.json()) {
                Some(low) if watermark.is_none_or(|before| before <= low) => watermark = Some(low),
                Some(low) => {
                    report.add(Kind::Checkpoint, record, format!("{low:X} after {watermark:X?}"));
                }
                None => report.add(Kind::Checkpoint, record, "the low watermark cannot be read"),
            },
            _ => {}
        }
    }
    // I6: what the server was told is durable, and was noted before it was told.
    if let Some(confirmed) = confirmed
        && watermark.is_none_or(|low| low < confirmed)
    {
        let text = format!("the slot is at {confirmed:X}, the low watermark at {watermark:X?}");
        report.add_row(Kind::Checkpoint, text);
    }
    report
}

fn follow(before: &mut Place, place: Place, record: &Record, report: &mut Report) {
    let follows = before.term <= place.term
        && before.txn_seq < place.txn_seq
        && before.position <= place.position;
    // A reseed has the lane begin anew, under a term of its own.
    let is_first = *before == Place::default() || before.term < place.term;
    let begins_anew = place.txn_seq == 0 && place.position == (0, 0) && is_first;
    if !follows && !begins_anew {
        report.add(Kind::Checkpoint, record, format!("{place:?} after {before:?}"));
    }
    *before = place;
}

fn place(value: &Value) -> Option<Place> {
    let (lsn, ordinal) = value["pos"].as_str()?.split_once(':')?;
    Some(Place {
        term: value["term"].as_i64()?,
        txn_seq: value["txn_seq"].as_u64()?,
        position: (lsn_of(lsn)?, ordinal.parse().ok()?),
    })
}

fn low(value: &Value) -> Option<u64> {
    let lsn = ["lsn", "L", "l"].into_iter().find_map(|name| value.get(name))?;
    lsn.as_str().and_then(lsn_of).or_else(|| lsn.as_u64())
}
