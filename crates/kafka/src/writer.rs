//! Sending and waiting for delivery, for every kind of producer. Blocks its thread.

use crate::Error;
use crate::client::{Deliveries, LostRecord, Watch};
use crate::error::{is_fenced, is_missing_topic};
use crate::queues::{RECORD_BYTES, Share};
use crate::settings::{MESSAGE_TIMEOUT, Settings};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use record::Record;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// One round of the thread that serves callbacks: how long it may outlive its writer. The binding
/// handles events when they come, and spins through the last millisecond of each round.
const ROUND: Duration = Duration::from_millis(500);
/// How often whoever waits looks for a fatal error, which no report tells of.
const LOOK: Duration = Duration::from_millis(100);
/// The client frees the records of one report together, after the last callback.
const RELEASE: Duration = Duration::from_micros(50);
/// Longest wait for room in a full queue before the next try.
const FULL: Duration = Duration::from_millis(2);
/// How long the cause of a purge may take to be told.
const PURGE_CAUSE_MAX: Duration = Duration::from_millis(500);
/// How long the look for a partition's end may take: nothing is written meanwhile.
const END_MAX: Duration = MESSAGE_TIMEOUT;
const END_CALL_MAX: Duration = Duration::from_secs(5);
/// Records between two looks at what became of the ones before.
const RECORDS_PER_CHECK: u64 = 512;

/// A producer and what it has sent. After the first error every call fails.
pub(crate) struct Writer {
    producer: Arc<BaseProducer<Watch>>,
    /// Tells the thread that serves the callbacks.
    ended: Arc<AtomicBool>,
    /// Not later than the making of the producer.
    made: Instant,
    /// For messages; never a secret.
    name: String,
    sent: u64,
    /// What they cost the library.
    sent_bytes: u64,
    share: Share,
    /// So much may have been sent before it is looked again at what is delivered.
    sent_bytes_max: u64,
    record_bytes_max: u64,
    /// Of an idempotent producer.
    bursts: Option<Bursts>,
    failed: bool,
}

/// What is handed over within the time in which the library gathers a batch. It has one batch of a partition under way,
/// since it counts records against the five requests that a broker remembers of an idempotent producer; and as soon as
/// something behind that batch has been gathered for long enough, its thread looks without a pause whether it may go.
/// So the next burst waits until this one has arrived, where it costs nothing and grows.
#[derive(Clone, Copy)]
struct Bursts {
    linger: Duration,
    began: Instant,
}

impl Writer {
    pub(crate) fn new(
        config: &ClientConfig,
        name: String,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let made = Instant::now();
        let producer: BaseProducer<Watch> = config
            .create_with_context(Watch::default())
            .map_err(|error| Error::from_kafka("making a producer", &error))?;
        let producer = Arc::new(producer);
        let ended = Arc::new(AtomicBool::new(false));
        let (served, is_ended) = (Arc::clone(&producer), Arc::clone(&ended));
        // A thread of its own, also while nobody asks: unserved events would pile up. And the
        // binding's poll returns neither before its time nor without spinning.
        thread::Builder::new()
            .name("kafka events".into())
            .spawn(move || {
                while !is_ended.load(Ordering::Acquire) {
                    served.poll(ROUND);
                }
            })
            .map_err(|error| Error::Client {
                doing: "starting a thread".into(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            producer,
            ended,
            made,
            name,
            sent: 0,
            sent_bytes: 0,
            share: settings.queues().share(),
            sent_bytes_max: 0,
            record_bytes_max: settings.record_bytes_max(),
            bursts: Bursts::of(config),
            failed: false,
        })
    }

    pub(crate) fn producer(&self) -> &BaseProducer<Watch> {
        &self.producer
    }

    pub(crate) fn watch(&self) -> &Watch {
        self.producer.client().context()
    }

    pub(crate) fn deliveries(&self) -> &Deliveries {
        self.watch().deliveries()
    }

    /// Time since a moment not later than the making of the producer.
    pub(crate) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// Records sent and not yet reported.
    pub(crate) fn pending(&self) -> u64 {
        self.sent - self.deliveries().reported()
    }

    /// Notes that this writer is of no more use, whatever the outcome of its transaction.
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        if !self.failed {
            crate::client::note_poisoned(&self.name, &error);
        }
        self.failed = true;
        error
    }

    pub(crate) fn usable(&self) -> Result<(), Error> {
        if self.failed { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// Queues a record; waits while the client's queue is full.
    pub(crate) fn send(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if self.record_bytes_max < bytes as u64 {
            let error = Error::RecordTooLarge {
                topic: record.topic.into(),
                bytes: bytes as u64,
                bytes_max: Some(self.record_bytes_max),
            };
            return Err(self.fail(error));
        }
        let mut next = BaseRecord::<[u8], [u8]>::to(record.topic)
            .partition(record.partition)
            .timestamp(record.timestamp_ms);
        next.key = record.key;
        next.payload = record.value;
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            let add = |headers: OwnedHeaders, &(key, value): &(&str, &[u8])| {
                headers.insert(Header { key, value: Some(value) })
            };
            next.headers = Some(record.headers.iter().fold(headers, add));
        }
        let cost = self.make_room(record)?;
        loop {
            match self.producer.send(next) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    next = refused;
                    self.check()?;
                    self.wait_for_room();
                }
                Err((error, _)) => {
                    // What went wrong before says more than "wrong state".
                    self.check()?;
                    let error = self.explain(record.topic, bytes as u64, &error);
                    return Err(self.fail(error));
                }
            }
        }
        self.sent += 1;
        self.sent_bytes += cost;
        if self.sent.is_multiple_of(RECORDS_PER_CHECK) {
            self.check()?;
        }
        Ok(())
    }

    /// Waits until a record can be handed over; what it will cost, in bytes.
    pub(crate) fn make_room(&mut self, record: &Record<'_>) -> Result<u64, Error> {
        self.wait_for_burst()?;
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let cost = bytes as u64 + RECORD_BYTES;
        while self.sent_bytes_max < self.sent_bytes + cost && !self.may_hold(cost) {
            self.check()?;
            self.wait_for_room();
        }
        Ok(cost)
    }

    /// Begins a burst, once the one before has arrived.
    fn wait_for_burst(&mut self) -> Result<(), Error> {
        let Some(Bursts { linger, began }) = self.bursts else { return Ok(()) };
        if self.pending() != 0 && began.elapsed() < linger {
            return Ok(());
        }
        while self.pending() != 0 {
            self.check()?;
            self.deliveries().wait(self.sent, LOOK);
        }
        self.bursts = Some(Bursts { linger, began: Instant::now() });
        Ok(())
    }

    /// Whether there is room for so much more, by what is delivered and what the task's other clients hold.
    /// A record that would be the only one always passes.
    fn may_hold(&mut self, cost: u64) -> bool {
        let delivered = self.deliveries().reported_bytes();
        let held = self.sent_bytes - delivered;
        let may = held == 0 || held + cost <= self.share.bytes() || self.share.grow(held + cost);
        self.sent_bytes_max = delivered + self.share.bytes();
        may
    }

    /// Waits until the queue has room for many records, or so long that it may have.
    fn wait_for_room(&self) {
        let reported = self.deliveries().reported();
        if reported < self.sent {
            let enough = (reported + RECORDS_PER_CHECK).min(self.sent);
            self.deliveries().wait(enough, FULL);
        } else {
            thread::sleep(RELEASE);
        }
    }

    /// Tells of a fatal error and of records that were lost.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        // First: records that are lost to a fatal error only say "purged".
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            let error = self.sort(&format!("writing as `{}`", self.name), code, &reason);
            return Err(self.fail(error));
        }
        if let Some(lost) = self.deliveries().lost() {
            let error = self.purged_by(&lost).unwrap_or_else(|| self.lost(lost));
            return Err(self.fail(error));
        }
        Ok(())
    }

    /// The fatal error that made the library throw records away; it may be told a little later.
    fn purged_by(&self, lost: &LostRecord) -> Option<Error> {
        if !matches!(lost.code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) {
            return None;
        }
        let until = Instant::now() + PURGE_CAUSE_MAX;
        while Instant::now() < until {
            if let Some((code, reason)) = self.producer.client().fatal_error() {
                return Some(self.sort(&format!("writing as `{}`", self.name), code, &reason));
            }
            thread::sleep(FULL);
        }
        None
    }

    /// Waits until every record is reported and freed. The library reports each within its time-out.
    pub(crate) fn settle(&mut self, patience: Duration) -> Result<(), Error> {
        let until = Instant::now() + patience;
        loop {
            self.check()?;
            if self.pending() == 0 {
                break;
            }
            if until < Instant::now() {
                let doing = format!("writing as `{}`", self.name);
                let reason = match self.watch().take_trouble() {
                    Some((_, reason)) => reason,
                    None => "records were not acknowledged in time".into(),
                };
                return Err(self.fail(Error::Unreachable { doing, reason }));
            }
            self.deliveries().wait(self.sent, LOOK);
        }
        self.share.shrink(0);
        self.sent_bytes_max = 0;
        // The binding's commit waits 100 ms where it finds records that are reported but not freed.
        while self.producer.in_flight_count() != 0 && Instant::now() < until {
            thread::sleep(RELEASE);
        }
        self.usable()
    }

    /// Where the next record of a partition goes, asked of its leader over this writer's own connection.
    pub(crate) fn end_of(&self, topic: &str, partition: i32) -> Result<i64, Error> {
        let until = Instant::now() + END_MAX;
        loop {
            match self.producer.client().fetch_watermarks(topic, partition, END_CALL_MAX) {
                Ok((_, end)) => return Ok(end),
                // The partition's leader may be moving.
                Err(_) if Instant::now() < until => thread::sleep(LOOK),
                Err(error) => {
                    let doing = format!("asking for the end of partition {partition} of `{topic}`");
                    return Err(Error::from_kafka(&doing, &error));
                }
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn lost(&self, lost: LostRecord) -> Error {
        let LostRecord { code, reason, topic, bytes } = lost;
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => {
                Error::RecordTooLarge { topic, bytes, bytes_max: None }
            }
            code if is_missing_topic(code) => Error::TopicMissing { topic },
            code => self.sort(&format!("writing to topic `{topic}`"), code, &reason),
        }
    }

    /// Sorts an error of a call.
    pub(crate) fn explain(&self, topic: &str, bytes: u64, error: &KafkaError) -> Error {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                let topic = topic.into();
                Error::RecordTooLarge { topic, bytes, bytes_max: Some(self.record_bytes_max) }
            }
            Some(code) if is_missing_topic(code) => Error::TopicMissing { topic: topic.into() },
            Some(code) if is_fenced(code) => self.fenced(),
            Some(_) | None => Error::from_kafka(&format!("writing to topic `{topic}`"), error),
        }
    }

    /// Sorts an error of a transactional call.
    pub(crate) fn transaction_error(&mut self, doing: &str, error: &KafkaError) -> Error {
        let code = match self.producer.client().fatal_error() {
            Some((code, _)) => Some(code),
            None => error.rdkafka_error_code(),
        };
        let sorted = match code {
            Some(code) => self.sort(doing, code, &error.to_string()),
            None => Error::from_kafka(doing, error),
        };
        // "Timed out" hides why: the library says it on its own.
        let sorted = match (sorted, self.watch().take_trouble()) {
            (Error::Unreachable { doing, .. }, Some((code, reason))) => {
                Error::from_code(&doing, code, &reason)
            }
            (sorted, _) => sorted,
        };
        self.fail(sorted)
    }

    fn sort(&self, doing: &str, code: RDKafkaErrorCode, reason: &str) -> Error {
        if is_fenced(code) { self.fenced() } else { Error::from_code(doing, code, reason) }
    }

    fn fenced(&self) -> Error {
        Error::Fenced { transactional_id: self.name.clone() }
    }
}

impl Bursts {
    fn of(config: &ClientConfig) -> Option<Self> {
        let is_idempotent = config.get("enable.idempotence") == Some("true");
        // The library has checked what the task says.
        let linger_ms = config.get("linger.ms").and_then(|it| it.parse().ok()).unwrap_or(5.0);
        let linger = Duration::try_from_secs_f64(linger_ms / 1e3).ok()?;
        is_idempotent.then(|| Self { linger, began: Instant::now() })
    }
}

impl Drop for Writer {
    /// What waits is thrown away, so that nothing is written any more; the library itself ends with
    /// the thread of the callbacks.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }
}
