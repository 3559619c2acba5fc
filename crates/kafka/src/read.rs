//! Reading a partition of the checkpoint topic up to a fence (delivery-protocol.md, section 4).

use crate::Error;
use crate::checkpoint::{FENCE_KEY, Fence};
use crate::client::Watch;
use crate::names::{LaneId, Names};
use crate::settings::Settings;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// Longest pause between two records.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A record of the checkpoint topic.
pub(crate) struct Entry {
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

impl Entry {
    pub(crate) fn is_fence_but_of(&self, node: &str) -> bool {
        is_fence_but_of(node, self.key.as_bytes(), &self.value)
    }
}

/// A fence that cannot be read is another's.
fn is_fence_but_of(node: &str, key: &[u8], value: &[u8]) -> bool {
    let is_own = || serde_json::from_slice::<Fence>(value).is_ok_and(|fence| fence.node == node);
    key == FENCE_KEY.as_bytes() && !is_own()
}

pub(crate) struct Reader {
    consumer: BaseConsumer<Watch>,
    topic: String,
    partition: i32,
}

impl Reader {
    pub(crate) fn new(settings: &Settings, names: &Names, lane: LaneId) -> Result<Self, Error> {
        let (topic, partition) = (names.checkpoints(), lane.partition());
        let consumer: BaseConsumer<Watch> = settings
            .consumer(names)
            .create_with_context(Watch::default())
            .map_err(|error| Error::from_kafka("making a consumer", &error))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition, Offset::Beginning)
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| Error::from_kafka("reading the checkpoints", &error))?;
        Ok(Self { consumer, topic, partition })
    }

    /// Every record up to the one at `term`, which this process has committed. What is visible ends
    /// a read neither at the end of the partition nor at a queried position: only the fence does.
    pub(crate) fn up_to(&self, term: i64) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut silent_since = Instant::now();
        loop {
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    silent_since = Instant::now();
                    let offset = message.offset();
                    let key = String::from_utf8_lossy(message.key().unwrap_or_default());
                    let value = message.payload().unwrap_or_default().to_vec();
                    entries.push(Entry { offset, key: key.into_owned(), value });
                    if term <= offset {
                        return Ok(entries);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if silent_since.elapsed() < SILENCE_MAX => {
                    tracing::debug!(%error, "reading checkpoints, waiting");
                }
                Some(Err(error)) => {
                    return Err(Error::from_kafka("reading the checkpoints", &error));
                }
                None if silent_since.elapsed() < SILENCE_MAX => {}
                None => {
                    return Err(Error::Unreachable {
                        doing: "reading the checkpoints".into(),
                        reason: format!("the fence at offset {term} did not come in time"),
                    });
                }
            }
        }
    }

    /// Whether another process's fence above `term` is visible now. No proof that there is none.
    pub(crate) fn sees_newer_owner(&self, term: i64, node: &str) -> Result<bool, Error> {
        let until = Instant::now() + SILENCE_MAX;
        while Instant::now() < until {
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let key = message.key().unwrap_or_default();
                    let value = message.payload().unwrap_or_default();
                    if term < message.offset() && is_fence_but_of(node, key, value) {
                        return Ok(true);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(false),
                Some(Err(error)) => tracing::debug!(%error, "reading checkpoints, waiting"),
                None => {}
            }
        }
        Err(Error::Unreachable {
            doing: "reading the checkpoints".into(),
            reason: "nothing came in time".into(),
        })
    }

    pub(crate) fn diverged(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::CheckpointDiverged {
            topic: self.topic.clone(),
            partition: self.partition,
            reason: reason.to_string(),
        }
    }
}
