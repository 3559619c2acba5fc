//! Reading a partition of an internal topic up to a fence (delivery-protocol.md, section 4).

use crate::Error;
use crate::checkpoint::FENCE_KEY;
use crate::client::Watch;
use crate::names::Seat;
use crate::settings::Settings;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Longest pause between two records.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long the leader of a partition is asked for before reading begins without it.
const LEADER_MAX: Duration = Duration::from_secs(1);

/// A record of an internal topic.
pub(crate) struct Entry {
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

impl Entry {
    pub(crate) fn of(message: &impl Message) -> Self {
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let value = message.payload().unwrap_or_default().to_vec();
        Self { offset: message.offset(), key, value }
    }

    /// An owner writes the same fence each time, and no other owner ever does.
    pub(crate) fn is_fence_but(&self, ours: &[u8]) -> bool {
        self.key == FENCE_KEY && self.value != ours
    }
}

pub(crate) struct Reader {
    consumer: BaseConsumer<Watch>,
    seat: Seat,
}

impl Reader {
    pub(crate) fn new(settings: &Settings, seat: &Seat) -> Result<Self, Error> {
        Self::from(&settings.consumer(&seat.topic), seat, Offset::Beginning)
    }

    /// Also sees what no transaction has committed, from `offset` on.
    pub(crate) fn uncommitted(
        settings: &Settings,
        seat: &Seat,
        offset: i64,
    ) -> Result<Self, Error> {
        let mut config = settings.consumer(&seat.topic);
        config.set("isolation.level", "read_uncommitted");
        Self::from(&config, seat, Offset::Offset(offset))
    }

    fn from(config: &ClientConfig, seat: &Seat, offset: Offset) -> Result<Self, Error> {
        let seat = seat.clone();
        let consumer = config
            .create_with_context(Watch::default())
            .map_err(|error| Error::from_kafka("making a consumer", &error))?;
        assign(&consumer, &seat, offset)?;
        Ok(Self { consumer, seat })
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
                Some(Err(error)) if is_forbidden(&error) => {
                    return Err(Error::from_kafka(&reading(&self.seat), &error));
                }
                Some(Err(error)) => {
                    tracing::debug!(topic = self.seat.topic, %error, "reading, waiting");
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Continue(()),
            };
            if step.is_break() {
                return Ok(());
            }
        }
        Err(Error::Unreachable {
            doing: reading(&self.seat),
            reason: "its end did not come in time".into(),
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
                Some(Err(error))
                    if silent_since.elapsed() < SILENCE_MAX && !is_forbidden(&error) =>
                {
                    tracing::debug!(topic = self.seat.topic, %error, "reading, waiting");
                }
                Some(Err(error)) => {
                    return Err(Error::from_kafka(&reading(&self.seat), &error));
                }
                None if silent_since.elapsed() < SILENCE_MAX => {}
                None => {
                    return Err(Error::Unreachable {
                        doing: reading(&self.seat),
                        reason: format!("the fence at offset {term} did not come in time"),
                    });
                }
            }
        }
    }

    /// What is written after [`Self::up_to`], waited for up to `patience`.
    pub(crate) fn next(&self, patience: Duration) -> Result<Option<Entry>, Error> {
        match self.consumer.poll(patience) {
            Some(Ok(message)) => Ok(Some(Entry::of(&message))),
            // Told of brokers that come and go.
            Some(Err(_)) | None => Ok(None),
        }
    }

    /// Whether another owner's fence above `term` is visible now. No proof that there is none.
    pub(crate) fn sees_newer_owner(&self, term: i64, fence: &[u8]) -> Result<bool, Error> {
        let mut seen = false;
        self.until_end(|entry| {
            seen = term < entry.offset && entry.is_fence_but(fence);
            if seen { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(seen)
    }
}

impl Seat {
    /// What it holds cannot be trusted.
    pub(crate) fn diverged(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::CheckpointDiverged {
            topic: self.topic.clone(),
            partition: self.partition,
            reason: reason.to_string(),
        }
    }
}

/// Nothing but a right that is granted helps.
fn is_forbidden(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

/// Whether the topic of this seat may be read: a look at its end.
pub(crate) fn may_read(settings: &Settings, seat: &Seat) -> Result<bool, Error> {
    let reader = Reader::from(&settings.consumer(&seat.topic), seat, Offset::End)?;
    match reader.until_end(|_| ControlFlow::Break(())) {
        Ok(()) => Ok(true),
        Err(Error::NotAuthorized { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn reading(seat: &Seat) -> String {
    format!("reading topic `{}`", seat.topic)
}

/// Has a consumer read from `offset` on. A client that begins before it knows the leader looks again only after
/// half a second, so it is made known first.
pub(crate) fn assign(
    consumer: &BaseConsumer<Watch>,
    seat: &Seat,
    offset: Offset,
) -> Result<(), Error> {
    // What is wrong is told to whoever reads.
    let _ = consumer.fetch_metadata(Some(&seat.topic), LEADER_MAX);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&seat.topic, seat.partition, offset)
        .and_then(|()| consumer.assign(&list))
        .map_err(|error| Error::from_kafka(&reading(seat), &error))
}
