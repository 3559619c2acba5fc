//! Names of internal topics and transactional ids (delivery-protocol.md, section 3). Pure.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// More lanes than a task can have (delivery-protocol.md, section 3).
pub const LANES_MAX: u8 = 64;
/// Partitions of the checkpoint topic: one per lane, and the first for the meta lane.
pub const CHECKPOINT_PARTITIONS: i32 = LANES_MAX as i32 + 1;
/// Longest name of a topic (Kafka, `org.apache.kafka.common.internals.Topic`).
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Who writes: a lane, or the meta lane of the ingest process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LaneId {
    Meta,
    /// Below [`LANES_MAX`].
    Lane(u8),
}

impl LaneId {
    /// Its partition of the checkpoint topic.
    #[must_use]
    pub fn partition(self) -> i32 {
        match self {
            Self::Meta => 0,
            Self::Lane(lane) => i32::from(lane) + 1,
        }
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta"),
            Self::Lane(lane) => write!(f, "{lane}"),
        }
    }
}

/// In JSON: the number of the lane, or `"meta"`.
impl Serialize for LaneId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Meta => serializer.serialize_str("meta"),
            Self::Lane(lane) => serializer.serialize_u8(*lane),
        }
    }
}

impl<'de> Deserialize<'de> for LaneId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Number(u8),
            Word(String),
        }
        match Text::deserialize(deserializer)? {
            Text::Number(lane) if lane < LANES_MAX => Ok(Self::Lane(lane)),
            Text::Word(word) if word == "meta" => Ok(Self::Meta),
            Text::Number(_) | Text::Word(_) => {
                Err(serde::de::Error::custom("lane is neither below 64 nor `meta`"))
            }
        }
    }
}

/// Where one writer at a time keeps records: a partition of an internal topic, and the transactional id
/// by which a new writer fences the one before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seat {
    pub topic: String,
    pub partition: i32,
    /// Never holds node, revision or generation: the next owner must fence this one.
    pub transactional_id: String,
}

/// A prefix or a task that Kafka topics cannot be named after.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    #[error("`{0}` holds other characters than letters, digits, `.`, `_` and `-`")]
    Characters(String),
    #[error("topic names of prefix `{0}` exceed {TOPIC_NAME_BYTES_MAX} bytes; shorten the prefix")]
    Long(String),
    #[error("the state prefix is empty")]
    Empty,
}

/// All names of one task in Kafka.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names {
    prefix: String,
    task: String,
}

impl Names {
    /// `prefix` is `sink.state_prefix`, `task` the name of the task.
    ///
    /// # Errors
    /// Names that Kafka refuses.
    pub fn new(prefix: &str, task: &str) -> Result<Self, InvalidName> {
        check(prefix)?;
        check(task)?;
        let names = Self { prefix: prefix.into(), task: task.into() };
        if TOPIC_NAME_BYTES_MAX < names.schema_changes().len() {
            return Err(InvalidName::Long(prefix.into()));
        }
        Ok(names)
    }

    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Checkpoints, fences and the meta lane's state; compacted.
    #[must_use]
    pub fn checkpoints(&self) -> String {
        self.of_task("ckpt")
    }

    /// BEGIN and END of source transactions.
    #[must_use]
    pub fn transaction(&self) -> String {
        self.of_task("transaction")
    }

    #[must_use]
    pub fn schema_changes(&self) -> String {
        self.of_task("schema-changes")
    }

    /// Heartbeats of formats that have no name for their topic.
    #[must_use]
    pub fn heartbeat(&self) -> String {
        self.of_task("heartbeat")
    }

    #[must_use]
    pub fn watermark(&self) -> String {
        self.of_task("watermark")
    }

    /// Where a lane keeps its checkpoints.
    #[must_use]
    pub fn seat(&self, lane: LaneId) -> Seat {
        let transactional_id = match lane {
            LaneId::Meta => self.of_task("meta"),
            LaneId::Lane(lane) => self.of_task(&format!("lane.{lane}")),
        };
        Seat { topic: self.checkpoints(), partition: lane.partition(), transactional_id }
    }

    /// Topics that belong to this task alone.
    #[must_use]
    pub fn topics_of_task(&self) -> [String; 5] {
        [
            self.checkpoints(),
            self.transaction(),
            self.schema_changes(),
            self.watermark(),
            self.heartbeat(),
        ]
    }

    fn of_task(&self, name: &str) -> String {
        format!("{}.{}.{name}", self.prefix, self.task)
    }
}

impl Seat {
    /// The leader's: the state of the cluster, compacted, one partition.
    ///
    /// # Errors
    /// Names that Kafka refuses.
    pub fn of_leader(prefix: &str) -> Result<Self, InvalidName> {
        check(prefix)?;
        let topic = format!("{prefix}.control");
        if TOPIC_NAME_BYTES_MAX < topic.len() {
            return Err(InvalidName::Long(prefix.into()));
        }
        Ok(Self { topic, partition: 0, transactional_id: format!("{prefix}.leader") })
    }
}

fn check(text: &str) -> Result<(), InvalidName> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.bytes().all(plain) { Ok(()) } else { Err(InvalidName::Characters(text.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_protocol() {
        let names = Names::new("distributary", "shop").expect("valid");
        assert_eq!(
            names.topics_of_task(),
            [
                "distributary.shop.ckpt",
                "distributary.shop.transaction",
                "distributary.shop.schema-changes",
                "distributary.shop.watermark",
                "distributary.shop.heartbeat"
            ]
        );
        let seat = |lane| {
            let Seat { topic, partition, transactional_id } = names.seat(lane);
            assert_eq!(topic, names.checkpoints());
            (partition, transactional_id)
        };
        assert_eq!(seat(LaneId::Lane(7)), (8, "distributary.shop.lane.7".to_owned()));
        assert_eq!(seat(LaneId::Meta), (0, "distributary.shop.meta".to_owned()));
        let leader = Seat::of_leader("distributary").expect("valid");
        assert_eq!((&*leader.topic, leader.partition), ("distributary.control", 0));
        assert_eq!(leader.transactional_id, "distributary.leader");
    }

    #[test]
    fn every_lane_has_a_partition_of_its_own() {
        let lanes = (0..LANES_MAX).map(LaneId::Lane);
        let partitions = std::iter::once(LaneId::Meta).chain(lanes).map(LaneId::partition);
        assert!(partitions.eq(0..CHECKPOINT_PARTITIONS));
    }

    #[test]
    fn names_that_kafka_refuses_are_refused_here() {
        assert_eq!(Names::new("", "shop"), Err(InvalidName::Empty));
        assert_eq!(Names::new("a b", "shop"), Err(InvalidName::Characters("a b".into())));
        assert_eq!(Seat::of_leader("a b"), Err(InvalidName::Characters("a b".into())));
        let long = "p".repeat(240);
        assert_eq!(Names::new(&long, "shop"), Err(InvalidName::Long(long)));
    }

    #[test]
    fn a_lane_reads_back_from_json() {
        for lane in [LaneId::Meta, LaneId::Lane(0), LaneId::Lane(63)] {
            let text = serde_json::to_string(&lane).expect("JSON");
            assert_eq!(serde_json::from_str::<LaneId>(&text).expect("lane"), lane);
        }
        for text in ["64", "-1", "\"lane\"", "null"] {
            assert!(serde_json::from_str::<LaneId>(text).is_err(), "{text}");
        }
    }
}
