//! What the brokers show: topics, partitions, where they begin and end. Writes nothing.

use crate::Error;
use crate::beside::beside;
use crate::checkpoint::Ends;
use crate::client::Watch;
use crate::error::is_missing_topic;
use crate::names::Seat;
use crate::settings::{CONNECT_MAX, Settings};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::metadata::Metadata;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const CALL_MAX: Duration = Duration::from_secs(15);
/// How long one try for metadata may take before it is asked why.
const TRY_MAX: Duration = Duration::from_secs(1);
/// A try that fails at once is not repeated at once.
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// More topics than this are looked up with one request for all.
const SINGLE_LOOKUPS_MAX: usize = 8;
/// Partitions of one question for offsets.
const PARTITIONS_PER_REQUEST: usize = 5000;
/// How long the next event of the client may take.
const EVENT_WAIT: Duration = Duration::from_millis(10);
/// Events of the client that one look takes in.
const EVENTS_MAX: usize = 64;

/// One end of a partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Edge {
    Beginning,
    End,
}

/// Where partitions begin or end.
pub(crate) type Offsets = BTreeMap<(String, i32), i64>;

/// A client that only asks. All calls block.
pub(crate) struct Lookup {
    consumer: BaseConsumer<Watch>,
}

impl Lookup {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        Self::with(&settings.lookup())
    }

    fn with(config: &ClientConfig) -> Result<Self, Error> {
        let consumer = config
            .create_with_context(Watch::default())
            .map_err(|error| Error::from_kafka("making a client", &error))?;
        Ok(Self { consumer })
    }

    /// For the records themselves: one of each partition is enough.
    fn of_records(mut config: ClientConfig) -> Result<Self, Error> {
        config.set("enable.partition.eof", "true").set("group.id", "distributary");
        config.set("fetch.message.max.bytes", "65536").set("queued.max.messages.kbytes", "1024");
        Self::with(&config)
    }

    /// Has it connect now. What is wrong is told by the call that needs it.
    fn connected(self, seat: &Seat) -> Result<Self, Error> {
        let _ = self.consumer.fetch_metadata(Some(&seat.topic), CONNECT_MAX);
        Ok(self)
    }

    /// The id of the cluster.
    pub(crate) fn cluster_id(&self) -> Result<String, Error> {
        if let Some(id) = self.consumer.client().fetch_cluster_id(CALL_MAX) {
            return Ok(id);
        }
        // Fails by itself, and says why.
        self.metadata(None)?;
        let doing = "asking for the id of the cluster".into();
        Err(Error::Unreachable { doing, reason: "the brokers did not say it in time".into() })
    }

    /// Brokers and topics; all topics where none is named.
    pub(crate) fn metadata(&self, topic: Option<&str>) -> Result<Metadata, Error> {
        let until = Instant::now() + CALL_MAX;
        loop {
            let error = match self.consumer.fetch_metadata(topic, TRY_MAX) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            // What the library says on its own names the cause; the call only times out.
            let told = match self.trouble() {
                Some((code, reason)) => Error::from_code("reading metadata", code, &reason),
                None => Error::from_kafka("reading metadata", &error),
            };
            let may_pass = matches!(told, Error::Unreachable { .. } | Error::Client { .. });
            if !may_pass || until <= Instant::now() {
                return Err(told);
            }
            std::thread::sleep(TRY_PAUSE);
        }
    }

    /// One try, without a word about the cause.
    pub(crate) fn try_metadata(&self, patience: Duration) -> Result<Metadata, KafkaError> {
        self.consumer.fetch_metadata(None, patience)
    }

    /// What the library has told since it was asked the last time.
    pub(crate) fn trouble(&self) -> Option<(RDKafkaErrorCode, String)> {
        // Errors come as events: nothing else serves them here. A look without patience ends at the
        // first line for the log.
        (0..EVENTS_MAX).find(|_| self.consumer.poll(EVENT_WAIT).is_none());
        self.consumer.client().context().take_trouble()
    }

    /// Number of partitions of each topic; `None`: it does not exist.
    pub(crate) fn partitions(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, Option<i32>>, Error> {
        let mut found: BTreeMap<String, Option<i32>> =
            topics.iter().map(|topic| (topic.clone(), None)).collect();
        if found.len() <= SINGLE_LOOKUPS_MAX {
            for topic in topics {
                count_partitions(&self.metadata(Some(topic))?, &mut found)?;
            }
        } else {
            count_partitions(&self.metadata(None)?, &mut found)?;
        }
        Ok(found)
    }

    /// Those of the topics that hold records, in order. What transactions have left open counts.
    pub(crate) fn with_records(&self, topics: &[String]) -> Result<Vec<String>, Error> {
        let found = self.partitions(topics)?;
        let partitions: Vec<(&str, i32)> = found
            .iter()
            .flat_map(|(topic, count)| (0..count.unwrap_or_default()).map(|it| (&**topic, it)))
            .collect();
        let begins = self.offsets(&partitions, Edge::Beginning)?;
        let mut ends = self.offsets(&partitions, Edge::End)?;
        ends.retain(|partition, end| begins.get(partition).is_some_and(|begin| begin < end));
        let mut topics: Vec<String> = ends.into_keys().map(|(topic, _)| topic).collect();
        topics.dedup();
        Ok(topics)
    }

    /// Where a partition begins.
    pub(crate) fn begin(&self, topic: &str, partition: i32) -> Result<Option<i64>, Error> {
        let begins = self.offsets(&[(topic, partition)], Edge::Beginning)?;
        Ok(begins.into_values().next())
    }

    /// Checks that nothing written was taken away again: a topic that is gone, or that ends before
    /// what was written to it, was deleted, truncated or made anew. A topic of `older` may be gone:
    /// its table may be, too; whoever knows the tables looks at that ([`crate::topics::Admin::verify_pins`]).
    pub(crate) fn verify_ends(&self, written: &Ends, older: &Ends) -> Result<(), Error> {
        let topics: Vec<String> = written.keys().chain(older.keys()).cloned().collect();
        let found = self.partitions(&topics)?;
        let is_there = |topic: &str| found.get(topic).copied().flatten().is_some();
        let older = older.iter().filter(|(topic, _)| is_there(topic));
        let all = written.iter().chain(older).flat_map(|(topic, of_topic)| {
            of_topic.iter().map(move |(&it, &at)| (&**topic, it, at))
        });
        let mut partitions = Vec::new();
        for (topic, partition, written) in all.clone() {
            if found.get(topic).copied().flatten().unwrap_or_default() <= partition {
                return Err(truncated(topic, partition, 0, written));
            }
            partitions.push((topic, partition));
        }
        let ends = self.offsets(&partitions, Edge::End)?;
        for (topic, partition, written) in all {
            let end = ends.get(&(topic.to_owned(), partition)).copied().unwrap_or_default();
            if end <= written {
                return Err(truncated(topic, partition, end, written));
            }
        }
        Ok(())
    }

    /// Those of partitions that do not exist are left out. Unless the client reads committed, an end is
    /// where the log ends, not where the oldest open transaction of anybody begins.
    fn offsets(&self, partitions: &[(&str, i32)], edge: Edge) -> Result<Offsets, Error> {
        let mut offsets = Offsets::new();
        for some in partitions.chunks(PARTITIONS_PER_REQUEST) {
            let until = Instant::now() + CALL_MAX;
            loop {
                match self.some_offsets(some, edge) {
                    Ok(found) => break offsets.extend(found),
                    // A topic just made, or a partition that moves, has no leader for a moment.
                    Err(Error::Unreachable { .. }) if Instant::now() < until => {
                        std::thread::sleep(TRY_PAUSE);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(offsets)
    }

    fn some_offsets(&self, partitions: &[(&str, i32)], edge: Edge) -> Result<Offsets, Error> {
        let failed = |error: KafkaError| Error::from_kafka("asking where topics end", &error);
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &(topic, partition) in partitions {
            let asked = match edge {
                Edge::Beginning => Offset::Beginning,
                Edge::End => Offset::End,
            };
            list.add_partition_offset(topic, partition, asked).map_err(failed)?;
        }
        let answer = self.consumer.offsets_for_times(list, CALL_MAX).map_err(failed)?;
        let mut offsets = Offsets::new();
        for element in answer.elements() {
            match element.error() {
                Err(error) if error.rdkafka_error_code().is_some_and(is_missing_topic) => continue,
                told => told.map_err(failed)?,
            }
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert((element.topic().to_owned(), element.partition()), offset);
            }
        }
        Ok(offsets)
    }
}

/// What an opening looks with.
pub(crate) struct Looks {
    pub(crate) all: Lookup,
    /// Ends where a consumer with `read_committed` does.
    committed: Lookup,
    /// Gets what such a consumer gets.
    records: Lookup,
}

impl Looks {
    /// Connects, as far as that can be done soon.
    pub(crate) fn new(settings: &Settings, seat: &Seat) -> Result<Self, Error> {
        let committed = || Lookup::with(&settings.lookup_committed())?.connected(seat);
        let records = || Lookup::of_records(settings.lookup_committed())?.connected(seat);
        let (committed, others) = beside(committed, || {
            let (records, all) = beside(records, || Lookup::new(settings)?.connected(seat));
            Ok((records?, all?))
        });
        let (records, all) = others?;
        Ok(Self { all, committed: committed?, records })
    }

    /// Of these partitions, as far as they exist, those in which a transaction is open, and its first
    /// offset: what is visible ends there, before the log does.
    pub(crate) fn open_transactions(&self, partitions: &[(String, i32)]) -> Result<Offsets, Error> {
        let asked: Vec<_> = partitions.iter().map(|(topic, at)| (topic.as_str(), *at)).collect();
        // In this order, so that what is written in between does not look open.
        let ends = self.all.offsets(&asked, Edge::End)?;
        let mut open = self.committed.offsets(&asked, Edge::End)?;
        open.retain(|at, begin| ends.get(at).is_some_and(|end| *begin < *end));
        Ok(open)
    }

    /// Whether a consumer with `read_committed` gets the record at `offset`, which lies below what is open. `None`:
    /// nobody gets it any more.
    pub(crate) fn is_visible(
        &self,
        settings: &Settings,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<bool>, Error> {
        let asked = Offsets::from([((topic.to_owned(), partition), offset)]);
        if first_records(&self.records, &asked)? == asked {
            return Ok(Some(true));
        }
        let is_there = first_records(&Lookup::of_records(settings.lookup())?, &asked)? == asked;
        Ok(is_there.then_some(false))
    }

    /// Checks that the last records of committed transactions can be seen, as far as they are still
    /// there and nothing before them is open: a marker that a broker forgot may have been made up for
    /// by that of a later transaction, which was aborted ([`crate::unsettled`]).
    pub(crate) fn verify_visible(
        &self,
        settings: &Settings,
        ends: [&Ends; 2],
    ) -> Result<(), Error> {
        let mut asked: Offsets = ends
            .into_iter()
            .flatten()
            .flat_map(|(topic, ends)| ends.iter().map(|(&at, &end)| ((topic.clone(), at), end)))
            .collect();
        let partitions: Vec<_> = asked.keys().map(|(topic, at)| (topic.as_str(), *at)).collect();
        let begins = self.committed.offsets(&partitions, Edge::Beginning)?;
        let decided = self.committed.offsets(&partitions, Edge::End)?;
        asked.retain(|at, end| {
            begins.get(at).is_some_and(|begin| *begin <= *end)
                && decided.get(at).is_some_and(|decided| *end < *decided)
        });
        let seen = first_records(&self.records, &asked)?;
        asked.retain(|at, end| seen.get(at) != Some(end));
        if asked.is_empty() {
            return Ok(());
        }
        // Compaction removes records, too; what is in the log and not visible was aborted.
        let there = first_records(&Lookup::of_records(settings.lookup())?, &asked)?;
        match asked.into_iter().find(|(at, end)| there.get(at) == Some(end)) {
            None => Ok(()),
            Some(((topic, partition), offset)) => {
                Err(Error::CommittedAborted { topic, partition, offset })
            }
        }
    }
}

/// The first record that a consumer gets of each partition, from an offset on; partitions without one
/// before their end are left out.
fn first_records(lookup: &Lookup, from: &Offsets) -> Result<Offsets, Error> {
    let mut first = Offsets::new();
    if from.is_empty() {
        return Ok(first);
    }
    let mut topics: Vec<String> = from.keys().map(|(topic, _)| topic.clone()).collect();
    topics.dedup();
    // A client that begins before it knows the leaders looks again only after half a second.
    lookup.partitions(&topics)?;
    let consumer = &lookup.consumer;
    // The end of a partition comes without its topic, so it can only be counted where there are several;
    // what has not come by then is asked for topic by topic.
    take_first(consumer, from.clone(), &mut first)?;
    let mut topics: BTreeMap<&str, Offsets> = BTreeMap::new();
    for (at, offset) in from.iter().filter(|(at, _)| !first.contains_key(*at)) {
        topics.entry(&at.0).or_default().insert(at.clone(), *offset);
    }
    for of_topic in topics.into_values() {
        if !take_first(consumer, of_topic, &mut first)? {
            return Err(Error::Unreachable {
                doing: "looking for records".into(),
                reason: "nothing came in time".into(),
            });
        }
    }
    Ok(first)
}

/// Takes the first record of each partition in. `false`: neither records nor ends came in time.
fn take_first(
    consumer: &BaseConsumer<Watch>,
    mut from: Offsets,
    first: &mut Offsets,
) -> Result<bool, Error> {
    let failed = |error: KafkaError| Error::from_kafka("looking for records", &error);
    let mut list = TopicPartitionList::with_capacity(from.len());
    let mut unended: BTreeMap<i32, usize> = BTreeMap::new();
    for ((topic, partition), &offset) in &from {
        list.add_partition_offset(topic, *partition, Offset::Offset(offset)).map_err(failed)?;
        *unended.entry(*partition).or_default() += 1;
    }
    consumer.assign(&list).map_err(failed)?;
    let until = Instant::now() + CALL_MAX;
    while Instant::now() < until {
        match consumer.poll(TRY_PAUSE) {
            Some(Ok(message)) => {
                let at = (message.topic().to_owned(), message.partition());
                if from.remove(&at).is_some() {
                    first.insert(at, message.offset());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unended.entry(partition).and_modify(|count| *count = count.saturating_sub(1));
            }
            // Told of brokers that come and go.
            Some(Err(_)) | None => {}
        }
        if from.keys().all(|(_, partition)| unended.get(partition) == Some(&0)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn truncated(topic: &str, partition: i32, end: i64, written: i64) -> Error {
    Error::TopicTruncated { topic: topic.to_owned(), partition, end, written }
}

fn count_partitions(
    metadata: &Metadata,
    found: &mut BTreeMap<String, Option<i32>>,
) -> Result<(), Error> {
    for topic in metadata.topics() {
        let Some(count) = found.get_mut(topic.name()) else { continue };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => *count = i32::try_from(topic.partitions().len()).ok(),
            Some(code) if is_missing_topic(code) => {}
            Some(code) => {
                let doing = format!("looking up topic `{}`", topic.name());
                return Err(Error::from_code(&doing, code, &code.to_string()));
            }
        }
    }
    Ok(())
}
