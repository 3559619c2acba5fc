//! The records of the checkpoint topic as JSON (delivery-protocol.md, section 3), and what must hold
//! between one checkpoint and the next. Pure.

use crate::names::{LaneId, Names};
use crate::process::Process;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wal::{Lsn, Position};

/// Version of the layout. Readers refuse newer ones.
pub const VERSION: u32 = 1;
/// Key of a checkpoint.
pub const CHECKPOINT_KEY: &str = "c";
/// Key of a fence.
pub const FENCE_KEY: &str = "f";
/// Key of what an owner without an epoch writes last.
pub const ENDED_KEY: &str = "e";
/// More partitions than this of one transaction are not noted in `prev_end`: the record has to stay
/// far below the message size limit of a topic (1 MiB).
const ENDS_MAX: usize = 8192;
/// Partitions of older transactions that a checkpoint carries on: every commit writes them again.
const OLDER_ENDS_MAX: usize = 512;

/// Last offsets written, by topic and partition.
pub type Ends = BTreeMap<String, BTreeMap<i32, i64>>;

/// Where a lane stands; written in the same Kafka transaction as the records before it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Checkpoint {
    pub v: u32,
    pub task: String,
    /// Revision of the task.
    pub rev: u64,
    pub lane: LaneId,
    /// Offset of the fence record of the writing instance.
    pub term: i64,
    /// Grows by exactly 1 per committed transaction, from 1. 0: the lane begins anew (`--reseed`),
    /// what was before does not count.
    pub txn_seq: u64,
    /// Last change that the lane holds; never decreases.
    #[serde(with = "position_text")]
    pub pos: Position,
    /// End of the newest source transaction that the lane holds completely.
    #[serde(with = "lsn_text")]
    pub end_lsn: Lsn,
    /// Whether `pos` ends a source transaction.
    pub complete: bool,
    /// Whether the lane was closed by a seal.
    pub sealed: bool,
    /// Snapshot chunks that the lane holds.
    pub snap: Vec<String>,
    /// How far the lane's records are counted, in formats that number them; earlier releases did not write it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub counted: u64,
    /// Last offsets of the transaction that wrote this. An end offset below is a truncated topic.
    pub prev_end: Ends,
    /// Last offsets of the transactions before, where that one wrote nothing: a topic that is seldom
    /// written to is as easily deleted.
    #[serde(default, skip_serializing_if = "Ends::is_empty")]
    pub older_end: Ends,
    /// Written in at-least-once delivery, where no epoch kept an older owner from writing one after it was taken over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfenced: bool,
    pub node: String,
    /// Version of the program.
    pub ver: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A new owner of a lane. Its offset is the owner's term.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fence {
    pub v: u32,
    pub task: String,
    pub lane: LaneId,
    pub node: String,
    pub ver: String,
    /// Of an owner that has no epoch (at-least-once): whoever takes over waits until this one cannot write any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// An owner without an epoch has written everything, and will write no more.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ended {
    /// Offset of its fence.
    pub term: i64,
}

/// A broken invariant (I1, I5): the task is parked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Diverged {
    #[error("it is not readable: {0}")]
    Unreadable(String),
    #[error("it was deleted by someone else")]
    Deleted,
    #[error("its layout has version {0}; this program reads up to {VERSION}, use a newer one")]
    Newer(u32),
    #[error("it belongs to task `{task}`, lane {lane}")]
    Foreign { task: String, lane: LaneId },
    #[error("transaction {next} follows {previous}")]
    Sequence { previous: u64, next: u64 },
    #[error("position {next} follows {previous}")]
    Position { previous: Position, next: Position },
    #[error("term {next} follows {previous}")]
    Term { previous: i64, next: i64 },
    #[error(
        "offset {next} of topic `{topic}` partition {partition} follows {previous}: the topic was \
         deleted and created anew"
    )]
    End { topic: String, partition: i32, previous: i64, next: i64 },
}

impl Checkpoint {
    /// Reads a value of the checkpoint topic and checks whose it is.
    ///
    /// # Errors
    /// Unreadable, of a newer layout, or of another lane.
    pub fn parse(json: &[u8], names: &Names, lane: LaneId) -> Result<Self, Diverged> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u32,
        }
        let unreadable = |error: serde_json::Error| Diverged::Unreadable(error.to_string());
        if json.is_empty() {
            return Err(Diverged::Deleted);
        }
        let Versioned { v } = serde_json::from_slice(json).map_err(unreadable)?;
        if VERSION < v {
            return Err(Diverged::Newer(v));
        }
        let checkpoint: Self = serde_json::from_slice(json).map_err(unreadable)?;
        if checkpoint.task != names.task() || checkpoint.lane != lane {
            return Err(Diverged::Foreign { task: checkpoint.task, lane: checkpoint.lane });
        }
        Ok(checkpoint)
    }

    /// Whether a person had the lane begin anew here.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.txn_seq == 0
    }

    /// What the checkpoint after this one carries on where its transaction wrote `ends`.
    #[must_use]
    pub fn carried_ends(&self, ends: &Ends) -> Ends {
        let mut carried = self.older_end.clone();
        for (topic, partitions) in &self.prev_end {
            carried.entry(topic.clone()).or_default().extend(partitions);
        }
        for (topic, written) in ends {
            if let Some(partitions) = carried.get_mut(topic) {
                partitions.retain(|partition, _| !written.contains_key(partition));
            }
        }
        cut(carried, OLDER_ENDS_MAX)
    }

    fn end_of(&self, topic: &str, partition: i32) -> Option<i64> {
        let find = |ends: &Ends| ends.get(topic)?.get(&partition).copied();
        find(&self.prev_end).or_else(|| find(&self.older_end))
    }
}

/// Checks what is about to be written against what was written last: `txn_seq` + 1, `pos` and `term`
/// never lower, every offset higher.
///
/// # Errors
/// The invariant that does not hold.
pub fn verify_next(previous: Option<&Checkpoint>, next: &Checkpoint) -> Result<(), Diverged> {
    let expected = previous.map_or(1, |previous| previous.txn_seq + 1);
    if next.txn_seq != expected {
        return Err(Diverged::Sequence { previous: expected - 1, next: next.txn_seq });
    }
    let Some(previous) = previous else { return Ok(()) };
    verify_order(previous, next)?;
    let written = next.prev_end.iter().flat_map(|(topic, of)| of.iter().map(move |it| (topic, it)));
    for (topic, (&partition, &end)) in written {
        if let Some(before) = previous.end_of(topic, partition).filter(|&before| end <= before) {
            let topic = topic.clone();
            return Err(Diverged::End { topic, partition, previous: before, next: end });
        }
    }
    Ok(())
}

/// Checks two checkpoints read one after the other. Compaction may have removed some between them.
///
/// # Errors
/// The invariant that does not hold.
pub fn verify_read(previous: &Checkpoint, next: &Checkpoint) -> Result<(), Diverged> {
    if next.txn_seq <= previous.txn_seq {
        return Err(Diverged::Sequence { previous: previous.txn_seq, next: next.txn_seq });
    }
    verify_order(previous, next)
}

fn verify_order(previous: &Checkpoint, next: &Checkpoint) -> Result<(), Diverged> {
    if next.pos < previous.pos {
        return Err(Diverged::Position { previous: previous.pos, next: next.pos });
    }
    if next.term < previous.term {
        return Err(Diverged::Term { previous: previous.term, next: next.term });
    }
    Ok(())
}

/// Keeps `prev_end` within the size that one record may have.
#[must_use]
pub fn bounded_ends(ends: Ends) -> Ends {
    cut(ends, ENDS_MAX)
}

fn cut(ends: Ends, mut left: usize) -> Ends {
    let mut bounded = Ends::new();
    for (topic, partitions) in ends {
        let taken: BTreeMap<_, _> = partitions.into_iter().take(left).collect();
        left -= taken.len();
        if !taken.is_empty() {
            bounded.insert(topic, taken);
        }
    }
    bounded
}

/// `0/16B3748`, as everywhere in PostgreSQL.
pub(crate) mod lsn_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use wal::Lsn;

    pub(crate) fn serialize<S: Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(lsn)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Lsn, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `0/16B3748:3`: commit LSN and ordinal.
pub(crate) mod position_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use wal::Position;

    pub(crate) fn serialize<S: Serializer>(
        position: &Position,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(position)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Position, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names::new("distributary", "shop").expect("valid")
    }

    fn ends(topic: &str, partitions: &[(i32, i64)]) -> Ends {
        Ends::from([(topic.to_owned(), partitions.iter().copied().collect())])
    }

    fn sample() -> Checkpoint {
        Checkpoint {
            v: VERSION,
            task: "shop".into(),
            rev: 2,
            lane: LaneId::Lane(3),
            term: 17,
            txn_seq: 42,
            pos: Position { commit_lsn: Lsn(0x16_B374_8000), ordinal: 7 },
            end_lsn: Lsn(0x16_B374_8030),
            complete: true,
            sealed: false,
            snap: vec!["s1/public.orders/4".into()],
            counted: 0,
            prev_end: ends("orders", &[(0, 9), (11, 40)]),
            older_end: Ends::new(),
            unfenced: false,
            node: "w1".into(),
            ver: "0.1.0".into(),
        }
    }

    /// Frozen: older programs have written this, and every later one must read it.
    const GOLDEN: &str = concat!(
        r#"{"v":1,"task":"shop","rev":2,"lane":3,"term":17,"txn_seq":42,"pos":"16/B3748000:7","#,
        r#""end_lsn":"16/B3748030","complete":true,"sealed":false,"snap":["s1/public.orders/4"],"#,
        r#""prev_end":{"orders":{"0":9,"11":40}},"node":"w1","ver":"0.1.0"}"#
    );

    #[test]
    fn the_bytes_of_a_checkpoint_do_not_change() {
        assert_eq!(serde_json::to_string(&sample()).expect("JSON"), GOLDEN);
        let read = Checkpoint::parse(GOLDEN.as_bytes(), &names(), LaneId::Lane(3));
        assert_eq!(read, Ok(sample()));
    }

    #[test]
    fn foreign_newer_and_damaged_checkpoints_are_refused() {
        let parse = |json: &str, lane| Checkpoint::parse(json.as_bytes(), &names(), lane);
        let foreign = Diverged::Foreign { task: "shop".into(), lane: LaneId::Lane(3) };
        assert_eq!(parse(GOLDEN, LaneId::Meta), Err(foreign));
        assert_eq!(parse(r#"{"v":2}"#, LaneId::Lane(3)), Err(Diverged::Newer(2)));
        assert_eq!(parse("", LaneId::Lane(3)), Err(Diverged::Deleted));
        let cut = &GOLDEN[..GOLDEN.len() - 1];
        assert!(matches!(parse(cut, LaneId::Lane(3)), Err(Diverged::Unreadable(_))));
        let bad = GOLDEN.replace("16/B3748000:7", "16-7");
        assert!(matches!(parse(&bad, LaneId::Lane(3)), Err(Diverged::Unreadable(_))));
    }

    #[test]
    fn the_first_checkpoint_has_number_one() {
        let first = Checkpoint { txn_seq: 1, ..sample() };
        assert_eq!(verify_next(None, &first), Ok(()));
        let error = Diverged::Sequence { previous: 0, next: 42 };
        assert_eq!(verify_next(None, &sample()), Err(error));
    }

    #[test]
    fn a_transaction_left_out_or_repeated_is_noticed() {
        let next = |txn_seq| {
            let prev_end = Ends::new();
            verify_next(Some(&sample()), &Checkpoint { txn_seq, prev_end, ..sample() })
        };
        assert_eq!(next(43), Ok(()));
        assert_eq!(next(42), Err(Diverged::Sequence { previous: 42, next: 42 }));
        assert_eq!(next(44), Err(Diverged::Sequence { previous: 42, next: 44 }));
    }

    #[test]
    fn a_lower_term_is_noticed() {
        let next = Checkpoint { txn_seq: 43, term: 16, ..sample() };
        let error = Err(Diverged::Term { previous: 17, next: 16 });
        assert_eq!(verify_next(Some(&sample()), &next), error);
        assert_eq!(verify_read(&sample(), &next), error);
    }

    #[test]
    fn an_offset_that_turns_back_is_noticed() {
        let last = Checkpoint { older_end: ends("seldom", &[(2, 5)]), ..sample() };
        let next = |topic, partition, offset| {
            let prev_end = ends(topic, &[(partition, offset)]);
            verify_next(Some(&last), &Checkpoint { txn_seq: 43, prev_end, ..sample() })
        };
        assert_eq!(next("orders", 11, 41), Ok(()));
        assert_eq!(next("new", 0, 0), Ok(()));
        assert!(matches!(next("orders", 11, 40), Err(Diverged::End { previous: 40, .. })));
        assert!(matches!(next("seldom", 2, 0), Err(Diverged::End { previous: 5, .. })));
    }

    #[test]
    fn ends_of_older_transactions_are_carried_on() {
        let last = Checkpoint { older_end: ends("seldom", &[(2, 5)]), ..sample() };
        let carried = last.carried_ends(&ends("orders", &[(0, 10)]));
        let mut expected = ends("orders", &[(11, 40)]);
        expected.extend(ends("seldom", &[(2, 5)]));
        assert_eq!(carried, expected);
        let json = serde_json::to_string(&Checkpoint { older_end: carried, ..sample() });
        assert!(json.expect("JSON").contains(r#""older_end":{"orders":{"11":40},"#));
    }

    #[test]
    fn compaction_may_leave_gaps_but_never_turns_back() {
        let at = |txn_seq| Checkpoint { txn_seq, ..sample() };
        assert_eq!(verify_read(&at(42), &at(99)), Ok(()));
        assert!(verify_read(&at(42), &at(42)).is_err());
    }

    #[test]
    fn prev_end_stays_within_one_record() {
        let many: BTreeMap<i32, i64> = (0..6000).map(|partition| (partition, 1)).collect();
        let ends = ["a", "b", "c"].map(|topic| (topic.to_owned(), many.clone())).into();
        let bounded = bounded_ends(ends);
        assert_eq!(bounded.values().map(BTreeMap::len).sum::<usize>(), ENDS_MAX);
        assert!(!bounded.contains_key("c"));
    }

    proptest! {
        #[test]
        fn a_position_never_decreases(before: (u8, u8), after: (u8, u8)) {
            let at = |(lsn, ordinal): (u8, u8)| Position {
                commit_lsn: Lsn(lsn.into()),
                ordinal: ordinal.into(),
            };
            let previous = Checkpoint { pos: at(before), ..sample() };
            let prev_end = Ends::new();
            let next = Checkpoint { pos: at(after), txn_seq: 43, prev_end, ..sample() };
            let verdict = verify_next(Some(&previous), &next);
            prop_assert_eq!(verdict.is_ok(), before <= after);
        }

        #[test]
        fn any_position_reads_back(lsn: u64, ordinal: u64) {
            let checkpoint = Checkpoint {
                pos: Position { commit_lsn: Lsn(lsn), ordinal },
                ..sample()
            };
            let json = serde_json::to_vec(&checkpoint).expect("JSON");
            let read = Checkpoint::parse(&json, &names(), LaneId::Lane(3));
            prop_assert_eq!(read, Ok(checkpoint));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Checkpoint::parse(&bytes, &names(), LaneId::Meta);
        }
    }
}
