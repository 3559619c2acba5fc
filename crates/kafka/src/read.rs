//! Reading a partition of the checkpoint topic up to a fence (delivery-protocol.md, section 4).

use crate::Error;
use crate::checkpoint::{FENCE_KEY, Fence};
use crate::client::Watch;
use crate::names::{LaneId, Names};
use crate::settings::Settings;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::ops::ControlFlow;
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
    fn of(message: &impl Message) -> Self {
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let value = message.payload().unwrap_or_default().to_vec();
        Self { offset: message.offset(), key, value }
    }

    /// A fence that cannot be read is another's.
    pub(crate) fn is_fence_but_of(&self, node: &str) -> bool {
        let fence = || serde_json::from_slice::<Fence>(&self.value);
        self.key == FENCE_KEY && !fence().is_ok_and(|fence| fence.node == node)
    }
}

pub(crate) struct Reader {
    consumer: BaseConsumer<Watch>,
    topic: String,
    partition: i32,
}

impl Reader {
    pub(crate) fn new(settings: &Settings, names: &Names, lane: LaneId) -> Result<Self, Error> {
        Self::from(&settings.consumer(names), names, lane, Offset::Beginning)
    }

    /// Also sees what no transaction has committed, from `offset` on.
    pub(crate) fn uncommitted(
        settings: &Settings,
        names: &Names,
        lane: LaneId,
        offset: i64,
    ) -> Result<Self, Error> {
        let mut config = settings.consumer(names);
        config.set("isolation.level", "read_uncommitted");
        Self::from(&config, names, lane, Offset::Offset(offset))
    }

    fn from(
        config: &ClientConfig,
        names: &Names,
        lane: LaneId,
        offset: Offset,
    ) -> Result<Self, Error> {
        let (topic, partition) = (names.checkpoints(), lane.partition());
        let consumer: BaseConsumer<Watch> = config
            .create_with_context(Watch::default())
            .map_err(|error| Error::from_kafka("making a consumer", &error))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition, offset)
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| Error::from_kafka("reading the checkpoints", &error))?;
        Ok(Self { consumer, topic, partition })
    }

    /// Every record up to where the partition ends for this reader. No proof of anything while others
    /// may write.
    pub(crate) fn to_end(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        self.until_end(|entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }

    /// Looks at each record up to where the partition ends for this reader, or until one is enough.
    fn until_end(&self, mut look: impl FnMut(Entry) -> ControlFlow<()>) -> Result<(), Error> {
        let until = Instant::now() + SILENCE_MAX;
        while Instant::now() < until {
            let step = match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => look(Entry::of(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => ControlFlow::Break(()),
                Some(Err(error)) => {
                    tracing::debug!(%error, "reading checkpoints, waiting");
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Continue(()),
            };
            if step.is_break() {
                return Ok(());
            }
        }
        Err(Error::Unreachable {
            doing: "reading the checkpoints".into(),
            reason: "their end did not come in time".into(),
        })
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
                    entries.push(Entry::of(&message));
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
        let mut seen = false;
        self.until_end(|entry| {
            seen = term < entry.offset && entry.is_fence_but_of(node);
            if seen { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(seen)
    }

    pub(crate) fn diverged(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::CheckpointDiverged {
            topic: self.topic.clone(),
            partition: self.partition,
            reason: reason.to_string(),
        }
    }
}
