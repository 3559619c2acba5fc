//! Reading a partition of the checkpoint topic up to a fence (delivery-protocol.md, section 4).

use crate::Error;
use crate::checkpoint::Ends;
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
const CALL_MAX: Duration = Duration::from_secs(10);

/// A record of the checkpoint topic.
pub(crate) struct Entry {
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
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

    /// Offsets of fences above `term` that are visible within `patience`.
    pub(crate) fn fences_above(&self, term: i64, patience: Duration) -> Result<bool, Error> {
        let (until, mut seen) = (Instant::now() + patience, false);
        while Instant::now() < until {
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(50)) {
                let is_fence = message.key() == Some(crate::checkpoint::FENCE_KEY.as_bytes());
                if is_fence && term < message.offset() {
                    return Ok(true);
                }
                seen = true;
            }
        }
        if seen {
            return Ok(false);
        }
        Err(Error::Unreachable {
            doing: "reading the checkpoints".into(),
            reason: "nothing came in time".into(),
        })
    }

    /// Checks that nothing written was taken away again: a topic that ends before what the last
    /// transaction wrote was truncated or made anew.
    pub(crate) fn verify_ends(&self, ends: &Ends) -> Result<(), Error> {
        for (topic, partitions) in ends {
            for (&partition, &written) in partitions {
                let (_, end) = self
                    .consumer
                    .fetch_watermarks(topic, partition, CALL_MAX)
                    .map_err(|error| self.end_unknown(topic, &error))?;
                if end <= written {
                    let topic = topic.clone();
                    return Err(Error::TopicTruncated { topic, partition, end, written });
                }
            }
        }
        Ok(())
    }

    fn end_unknown(&self, topic: &str, error: &KafkaError) -> Error {
        match error.rdkafka_error_code() {
            Some(code) if crate::error::is_missing_topic(code) => {
                Error::TopicMissing { topic: topic.into() }
            }
            Some(_) | None => {
                Error::from_kafka(&format!("asking where topic `{topic}` ends"), error)
            }
        }
    }

    pub(crate) fn diverged(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::CheckpointDiverged {
            topic: self.topic.clone(),
            partition: self.partition,
            reason: reason.to_string(),
        }
    }
}
