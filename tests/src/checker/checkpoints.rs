//! What the checkpoint topic must look like (delivery-protocol.md, invariants I1, I5, I6 and I7).

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
    position: Position,
}

/// Checks the checkpoint topic of a task against itself and against the slot's confirmed position,
/// where there is one.
#[must_use]
pub fn checkpoints(state: &Topics, confirmed: Option<u64>) -> Report {
    let mut report = Report::default();
    let mut lanes: BTreeMap<i32, Place> = BTreeMap::new();
    let mut owners = Owners::new();
    let mut watermark = None;
    let mut newest: BTreeMap<&str, Newest> = BTreeMap::new();
    let keyed = |record: &&Record| record.topic.ends_with(".ckpt") && record.value.is_some();
    for record in state.records.iter().filter(keyed) {
        report.records += 1;
        let newest = newest.entry(&record.topic).or_default();
        match record.key.as_deref() {
            Some(b"f") => drop(newest.fences.insert(record.partition, record.offset)),
            Some(b"rev") => newest.floor = floor(&record.json()),
            Some(b"c") => {
                let checkpoint = record.json();
                if newest.is_late(record.partition, &checkpoint) {
                    continue;
                }
                alone(&mut owners, record, &checkpoint, &mut report);
                match place(&checkpoint) {
                    Some(place) => {
                        let before = lanes.entry(record.partition).or_default();
                        follow(before, place, record, &mut report);
                        newest.lanes.insert(record.partition, place.position);
                    }
                    None => report.add(Kind::Checkpoint, record, "cannot be read"),
                }
            }
            Some(b"w") => match low(&record.json()) {
                Some(low) if watermark.is_none_or(|before| before <= low) => {
                    watermark = Some(low);
                    newest.told = told(&record.json());
                }
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
    for (topic, newest) in newest {
        newest.behind(topic, &mut report);
    }
    report
}

/// Commit LSN and ordinal.
type Position = (u64, u64);

/// What a checkpoint topic says last.
#[derive(Default)]
struct Newest {
    /// By partition.
    fences: BTreeMap<i32, i64>,
    /// By partition.
    lanes: BTreeMap<i32, Position>,
    /// Where the low watermark found each lane.
    told: Vec<Position>,
    /// What commits before is of earlier revisions, whose lanes were all sealed.
    floor: u64,
}

impl Newest {
    /// At-least-once, nobody keeps an older owner from writing one, and nobody reads it.
    fn is_late(&self, partition: i32, checkpoint: &Value) -> bool {
        let fence = self.fences.get(&partition).copied().unwrap_or(-1);
        checkpoint["unfenced"] == true && checkpoint["term"].as_i64().is_some_and(|it| it < fence)
    }

    /// I6: what the low watermark rests on stands in the lanes' own checkpoints. An idle lane writes none: its place does not
    /// move, and the low watermark passes it.
    fn behind(&self, topic: &str, report: &mut Report) {
        for (partition, &told) in (1..).zip(&self.told) {
            let holds = self.lanes.get(&partition).copied().unwrap_or_default();
            if holds < told && self.floor <= told.0 {
                let text = format!(
                    "{topic}: the low watermark says that lane {} is at {told:X?}, its checkpoint {holds:X?}",
                    partition - 1
                );
                report.add_row(Kind::Checkpoint, text);
            }
        }
    }
}

fn told(value: &Value) -> Vec<Position> {
    let lanes = value["lanes"].as_array();
    lanes.into_iter().flatten().filter_map(|it| position(it.as_str()?)).collect()
}

/// Where the newest revision or mark begins.
fn floor(value: &Value) -> u64 {
    let marks = value["marks"].as_array().into_iter().flatten().map(|it| &it["at"]);
    let begins = marks.chain([&value["start"]]).filter_map(|it| lsn_of(it.as_str()?));
    begins.max().unwrap_or_default()
}

/// Which lane wrote to a partition, by revision, topic and partition.
type Owners = BTreeMap<(u64, String, String), i32>;

/// I7: in one revision, one lane writes to a partition.
fn alone(owners: &mut Owners, record: &Record, checkpoint: &Value, report: &mut Report) {
    let (Some(revision), Some(ends)) =
        (checkpoint["rev"].as_u64(), checkpoint["prev_end"].as_object())
    else {
        return;
    };
    for (topic, partitions) in ends {
        for (partition, _) in partitions.as_object().into_iter().flatten() {
            let key = (revision, topic.clone(), partition.clone());
            let owner = *owners.entry(key).or_insert(record.partition);
            if owner != record.partition {
                let text = format!("{topic}[{partition}] was written by {owner} in this revision");
                report.add(Kind::Checkpoint, record, text);
            }
        }
    }
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
    Some(Place {
        term: value["term"].as_i64()?,
        txn_seq: value["txn_seq"].as_u64()?,
        position: position(value["pos"].as_str()?)?,
    })
}

fn position(text: &str) -> Option<Position> {
    let (lsn, ordinal) = text.split_once(':')?;
    Some((lsn_of(lsn)?, ordinal.parse().ok()?))
}

fn low(value: &Value) -> Option<u64> {
    let lsn = ["lsn", "L", "l"].into_iter().find_map(|name| value.get(name))?;
    lsn.as_str().and_then(lsn_of).or_else(|| lsn.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(partition: i32, key: &str, value: &Value) -> Record {
        Record {
            topic: "it.shop.ckpt".into(),
            partition,
            key: Some(key.into()),
            value: Some(value.to_string().into_bytes()),
            ..Record::default()
        }
    }

    /// Lane, revision, term, number, position and the partition that was written to.
    fn lane(lane: i32, [rev, term, txn_seq, lsn, written]: [u64; 5]) -> Record {
        let value = json!({
            "rev": rev, "term": term, "txn_seq": txn_seq, "pos": format!("0/{lsn:X}:0"),
            "prev_end": {"orders": {written.to_string(): 7}}
        });
        record(lane + 1, "c", &value)
    }

    fn faults(records: Vec<Record>, confirmed: Option<u64>) -> usize {
        let topics = Topics { records, ..Topics::default() };
        checkpoints(&topics, confirmed).kinds().values().sum()
    }

    #[test]
    fn what_may_be_is_left_alone() {
        let records = vec![
            lane(0, [1, 3, 1, 10, 5]),
            lane(1, [1, 2, 1, 10, 6]),
            lane(0, [1, 4, 2, 10, 5]),
            record(0, "w", &json!({"lsn": "0/A"})),
            lane(1, [2, 5, 2, 12, 5]),
        ];
        assert_eq!(faults(records, Some(10)), 0);
    }

    #[test]
    fn each_invariant_is_looked_at() {
        for (what, second) in [
            ("I1, the term", lane(0, [1, 2, 2, 10, 5])),
            ("I5, the number", lane(0, [1, 3, 1, 10, 5])),
            ("I5, the position", lane(0, [1, 3, 2, 9, 5])),
            ("I7, the owner", lane(1, [1, 3, 2, 10, 5])),
        ] {
            assert_eq!(faults(vec![lane(0, [1, 3, 1, 10, 5]), second], None), 1, "{what}");
        }
        let low = |lsn: &str| record(0, "w", &json!({"lsn": lsn}));
        assert_eq!(faults(vec![low("0/A"), low("0/9")], None), 1, "the low watermark goes back");
        assert_eq!(faults(vec![low("0/A")], Some(11)), 1, "I6");
        assert_eq!(faults(Vec::new(), Some(11)), 1, "I6, without any watermark");
    }

    #[test]
    fn a_low_watermark_rests_on_what_the_lanes_hold() {
        let low = |lanes: &[&str]| record(0, "w", &json!({"lsn": "0/99", "lanes": lanes}));
        let with = |lanes: &[&str], more: Vec<Record>| {
            let both = vec![lane(0, [1, 3, 1, 10, 5]), lane(1, [1, 3, 1, 12, 6]), low(lanes)];
            faults(both.into_iter().chain(more).collect(), None)
        };
        assert_eq!(with(&["0/A:0", "0/C:0"], Vec::new()), 0, "an idle lane stays where it is");
        assert_eq!(with(&["0/A:0", "0/C:1"], Vec::new()), 1);
        assert_eq!(
            with(&["0/A:0", "0/C:0", "0/1:0"], Vec::new()),
            1,
            "a lane that has written nothing"
        );
        let revision =
            record(0, "rev", &json!({"rev": 2, "start": "0/5", "marks": [{"at": "0/20"}]}));
        let at_its_start = ["0/1F:18446744073709551615", "0/C:0"];
        assert_eq!(with(&at_its_start, vec![revision]), 0, "a lane begins where its revision does");
        assert_eq!(with(&at_its_start, Vec::new()), 1);
    }

    #[test]
    fn a_checkpoint_that_comes_late_counts_only_where_epochs_keep_it_away() {
        let late = |unfenced: bool| {
            let mut fence = record(1, "f", &json!({}));
            fence.offset = 4;
            let value =
                json!({"rev": 1, "term": 3, "txn_seq": 1, "pos": "0/A:0", "unfenced": unfenced});
            vec![
                lane(0, [1, 3, 1, 10, 5]),
                fence,
                lane(0, [1, 4, 2, 10, 5]),
                record(1, "c", &value),
            ]
        };
        assert_eq!(faults(late(true), None), 0);
        assert_eq!(faults(late(false), None), 1);
    }
}
