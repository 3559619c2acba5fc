//! What comes out of Kafka: when, and whether all of it and once.

use crate::deadline::await_some;
use crate::reader::{assign, each};
use crate::servers::Server;
use crate::topics;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// Until a topic is there.
const TOPIC_MAX: Duration = Duration::from_secs(40);

/// A consumer that notes when each row arrives. Ends when dropped.
pub struct Listener {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<(u64, Instant)>>>,
}

impl Listener {
    /// Listens to a topic from its beginning, with the client's own defaults.
    ///
    /// # Panics
    /// When the broker does not answer.
    #[must_use]
    pub fn start(kafka: &Server, topic: &str, isolation: &str) -> Self {
        let consumer = consumer(kafka, topic, isolation);
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, count) = (Arc::clone(&stop), Arc::clone(&heard));
        let thread = thread::spawn(move || {
            let mut arrivals = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let Some(message) = consumer.poll(POLL) else { continue };
                let now = Instant::now();
                arrivals.push((id(&message.expect("the topic can be read")), now));
                count.fetch_add(1, Ordering::Relaxed);
            }
            arrivals
        });
        Self { stop, heard, thread: Some(thread) }
    }

    /// Records so far.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Ends it: rows and when they came.
    ///
    /// # Panics
    /// When the topic could not be read.
    #[must_use]
    pub fn stop(mut self) -> Vec<(u64, Instant)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or_else(Vec::new, |thread| thread.join().expect("a good end"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// All records of a topic for a consumer with `read_committed`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    pub records: u64,
    /// Different values of `distributary.lsn` and `distributary.seq`.
    pub events: u64,
    /// Different rows, by their key.
    pub rows: u64,
}

/// Counts a topic.
///
/// # Panics
/// When the broker does not answer, or a record is not of a row with a number as key.
#[must_use]
pub fn tally(kafka: &Server, topic: &str) -> Tally {
    let (mut events, mut rows) = (HashSet::new(), HashSet::new());
    let mut records = 0;
    each(kafka, topic, partitions(kafka, topic), |message| {
        records += 1;
        events.insert(event(message));
        rows.insert(id(message));
    });
    Tally { records, events: events.len() as u64, rows: rows.len() as u64 }
}

/// How many a topic has, once it is there.
fn partitions(kafka: &Server, topic: &str) -> i32 {
    await_some("the topic", TOPIC_MAX, || {
        topics::list(kafka, |name| name == topic).get(topic).copied()
    })
}

fn consumer(kafka: &Server, topic: &str, isolation: &str) -> BaseConsumer {
    let consumer: BaseConsumer = topics::client(kafka)
        .set("group.id", "distributary-bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .create()
        .expect("a consumer");
    assign(&consumer, topic, partitions(kafka, topic));
    consumer
}

/// The row: the number in a key `{"id":N}`.
fn id(message: &BorrowedMessage<'_>) -> u64 {
    let digits = message.key().unwrap_or_default().iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |id, digit| id * 10 + u64::from(digit - b'0'))
}

fn event(message: &BorrowedMessage<'_>) -> (Box<[u8]>, Box<[u8]>) {
    let header = |name: &str| {
        let found = message.headers().and_then(|all| all.iter().find(|it| it.key == name));
        found.and_then(|it| it.value).unwrap_or_else(|| panic!("no header {name}")).into()
    };
    (header("distributary.lsn"), header("distributary.seq"))
}
