//! Callbacks of the client library: delivery reports, statistics, errors, log lines.

use crate::checkpoint::Ends;
use crate::queues::RECORD_BYTES;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// Context of every client. Keeps delivery reports, the newest statistics and the last error of a
/// connection.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    deliveries: Deliveries,
    statistics: Mutex<Statistics>,
    statistics_came: Condvar,
    trouble: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

/// The newest statistics document, unparsed: it is needed after slow commits only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    /// How many documents have arrived.
    pub(crate) count: u64,
    /// Empty before the first one: the library counts from zero.
    pub(crate) json: Arc<[u8]>,
}

impl Watch {
    pub(crate) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    pub(crate) fn statistics(&self) -> Statistics {
        held(&self.statistics).clone()
    }

    /// A document that came after the one with this number; `None`: patience has ended.
    pub(crate) fn statistics_after(&self, count: u64, patience: Duration) -> Option<Statistics> {
        let statistics = held(&self.statistics);
        let waited = self
            .statistics_came
            .wait_timeout_while(statistics, patience, |statistics| statistics.count <= count);
        let (statistics, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (count < statistics.count).then(|| statistics.clone())
    }

    /// The last error that the library reported on its own, taken out.
    pub(crate) fn take_trouble(&self) -> Option<(RDKafkaErrorCode, String)> {
        held(&self.trouble).take()
    }
}

/// A panic in another callback does not make these plain values wrong.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(target: "librdkafka", facility = fac, "{message}");
            }
            // What matters comes back as an error of a call, too: these lines are background.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                info!(target: "librdkafka", facility = fac, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(target: "librdkafka", facility = fac, "{message}");
            }
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        let mut statistics = held(&self.statistics);
        statistics.count += 1;
        statistics.json = json.into();
        drop(statistics);
        self.statistics_came.notify_all();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            let mut trouble = held(&self.trouble);
            // A refused password is followed by "all brokers down", which says less.
            if code == RDKafkaErrorCode::AllBrokersDown && trouble.is_some() {
                return;
            }
            *trouble = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Watch {}

impl ProducerContext for Watch {
    /// One context per producer: a record needs nothing of its own.
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.deliveries.report(result);
    }
}

/// Delivery reports of one producer. Counts, keeps the last offset per partition and the first failure.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    reported: AtomicU64,
    /// What the reported records cost, as their writer counts it.
    reported_bytes: AtomicU64,
    state: Mutex<DeliveryState>,
    progress: Condvar,
}

/// A record that did not arrive.
#[derive(Clone, Debug)]
pub(crate) struct LostRecord {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) reason: String,
    pub(crate) topic: String,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
struct DeliveryState {
    lost: Option<LostRecord>,
    /// Number of reports that somebody waits for; 0: nobody does.
    awaited: u64,
    ends: Ends,
    /// Reports come partition by partition: the current one is kept aside, so that most cost no lookup.
    current: Option<(String, i32, i64)>,
}

impl Deliveries {
    fn report(&self, result: &DeliveryResult<'_>) {
        let (Ok(record) | Err((_, record))) = result;
        let bytes = (record.payload_len() + record.key_len()) as u64 + RECORD_BYTES;
        self.reported_bytes.fetch_add(bytes, Ordering::Release);
        self.note(|state| match result {
            Ok(message) => state.arrived(message.topic(), message.partition(), message.offset()),
            Err((error, message)) => {
                let bytes = message.payload_len() + message.key_len();
                state.lost.get_or_insert_with(|| LostRecord {
                    code: error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
                    reason: error.to_string(),
                    topic: message.topic().to_owned(),
                    bytes: bytes as u64,
                });
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut DeliveryState)) {
        let mut state = held(&self.state);
        change(&mut state);
        let reported = self.reported.fetch_add(1, Ordering::Release) + 1;
        if state.awaited != 0 && (state.awaited <= reported || state.lost.is_some()) {
            state.awaited = 0;
            drop(state);
            self.progress.notify_one();
        }
    }

    /// Reports so far, good and bad.
    pub(crate) fn reported(&self) -> u64 {
        self.reported.load(Ordering::Acquire)
    }

    /// What the records of these reports cost.
    pub(crate) fn reported_bytes(&self) -> u64 {
        self.reported_bytes.load(Ordering::Acquire)
    }

    /// Waits until there are so many reports, a record was lost, or patience ends. For one waiter.
    pub(crate) fn wait(&self, reports: u64, patience: Duration) {
        let mut state = held(&self.state);
        if reports <= self.reported() || state.lost.is_some() {
            return;
        }
        state.awaited = reports;
        let waited = self.progress.wait_timeout_while(state, patience, |state| state.awaited != 0);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.awaited = 0;
    }

    pub(crate) fn lost(&self) -> Option<LostRecord> {
        held(&self.state).lost.clone()
    }

    /// The last offset per partition since the last call.
    pub(crate) fn take_ends(&self) -> Ends {
        let mut state = held(&self.state);
        state.put_current_aside();
        std::mem::take(&mut state.ends)
    }
}

impl DeliveryState {
    fn arrived(&mut self, topic: &str, partition: i32, offset: i64) {
        // Unknown where the broker does not acknowledge.
        if offset < 0 {
            return;
        }
        if let Some((current, at, last)) = &mut self.current
            && *at == partition
            && current == topic
        {
            *last = offset;
            return;
        }
        self.put_current_aside();
        self.current = Some((topic.to_owned(), partition, offset));
    }

    fn put_current_aside(&mut self) {
        if let Some((topic, partition, offset)) = self.current.take() {
            self.ends.entry(topic).or_default().insert(partition, offset);
        }
    }
}

/// Reports a writer that its owner gives up, once.
pub(crate) fn note_poisoned(transactional_id: &str, error: &crate::Error) {
    warn!(transactional_id, %error, "producer given up");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A test that waits so long has failed.
    const FOREVER: Duration = Duration::from_secs(600);

    #[test]
    fn the_last_offset_of_each_partition_is_kept() {
        let mut state = DeliveryState::default();
        for (topic, partition, offset) in
            [("a", 0, 1), ("a", 0, 2), ("b", 0, 9), ("a", 1, 4), ("a", 0, 3), ("c", 0, -1)]
        {
            state.arrived(topic, partition, offset);
        }
        state.put_current_aside();
        let a = BTreeMap::from([(0, 3), (1, 4)]);
        let b = BTreeMap::from([(0, 9)]);
        assert_eq!(state.ends, Ends::from([("a".into(), a), ("b".into(), b)]));
    }

    #[test]
    fn whoever_waits_for_reports_is_woken_by_the_last_of_them() {
        let deliveries = Deliveries::default();
        deliveries.note(|_| {});
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| deliveries.wait(3, FOREVER));
            while held(&deliveries.state).awaited == 0 {
                std::thread::yield_now();
            }
            deliveries.note(|_| {});
            assert_eq!(held(&deliveries.state).awaited, 3, "one report is not enough");
            deliveries.note(|_| {});
            waiter.join().expect("woken");
        });
        deliveries.wait(3, FOREVER);
    }

    #[test]
    fn whoever_waits_for_reports_is_woken_by_a_loss() {
        let deliveries = Deliveries::default();
        let lost = LostRecord {
            code: RDKafkaErrorCode::MessageTimedOut,
            reason: "because".into(),
            topic: "t".into(),
            bytes: 1,
        };
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| deliveries.wait(3, FOREVER));
            deliveries.note(|state| state.lost = Some(lost));
            waiter.join().expect("woken");
        });
        assert_eq!(deliveries.lost().expect("a loss").topic, "t");
    }

    #[test]
    fn the_next_statistics_are_waited_for() {
        let watch = Watch::default();
        watch.stats_raw(b"1");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| watch.statistics_after(1, FOREVER));
            watch.stats_raw(b"2");
            let statistics = waiter.join().expect("woken").expect("in time");
            assert_eq!((statistics.count, &*statistics.json), (2, &b"2"[..]));
        });
        assert!(watch.statistics_after(2, Duration::ZERO).is_none());
    }

    #[test]
    fn a_refused_password_is_not_hidden_by_what_follows() {
        let watch = Watch::default();
        let report = |code| watch.error(KafkaError::Global(code), "because");
        report(RDKafkaErrorCode::Authentication);
        report(RDKafkaErrorCode::AllBrokersDown);
        let (code, _) = watch.take_trouble().expect("an error");
        assert_eq!(code, RDKafkaErrorCode::Authentication);
        assert!(watch.take_trouble().is_none());
    }
}
