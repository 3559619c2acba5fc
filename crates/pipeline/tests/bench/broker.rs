//! What the models of Kafka of both simulations share: what a lane writes down, and how calls fail.

use kafka::checkpoint::{Checkpoint, verify_next};
use kafka::names::LaneId;
use kafka::sink::CommitPoint;
use std::collections::BTreeMap;

/// As in `kafka::open`.
pub(crate) const FENCES_MAX: usize = 5;

pub(crate) fn unreachable() -> kafka::Error {
    kafka::Error::Unreachable { doing: "simulating".into(), reason: "planned".into() }
}

pub(crate) fn fenced(transactional_id: String) -> kafka::Error {
    kafka::Error::Fenced { transactional_id }
}

/// What the owner of `term` writes down after `last`, by the first revision and without chunks.
pub(crate) fn checkpoint(
    lane: u8,
    term: i64,
    last: Option<&Checkpoint>,
    point: &CommitPoint,
) -> Checkpoint {
    Checkpoint {
        v: 1,
        task: "shop".into(),
        rev: 1,
        lane: LaneId::Lane(lane),
        term,
        txn_seq: last.map_or(0, |last| last.txn_seq) + 1,
        pos: point.position,
        end_lsn: point.end_lsn,
        complete: point.complete,
        sealed: point.sealed,
        snap: Vec::new(),
        counted: point.counted,
        prev_end: BTreeMap::new(),
        older_end: BTreeMap::new(),
        unfenced: false,
        node: "simulated".into(),
        ver: "0".into(),
    }
}

/// Whether one may follow the other, by the real rule.
pub(crate) fn verify(
    lane: u8,
    last: Option<&Checkpoint>,
    next: &Checkpoint,
) -> Result<(), kafka::Error> {
    verify_next(last, next).map_err(|diverged| kafka::Error::CheckpointDiverged {
        topic: "simulated".into(),
        partition: lane.into(),
        reason: diverged.to_string(),
    })
}
