//! Shows the events that come out of Kafka, as any consumer with `read_committed` would meet them: a line per event
//! while there are few, a line of rate and latency per second, and at the end how many rows the topics hold.

mod event;
mod figures;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use event::{Event, Kind};
use figures::{Figures, Tables};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// Show events from Kafka with rate and latency.
#[derive(Parser)]
#[command(name = "watch")]
struct Arguments {
    /// Brokers, separated by commas.
    #[arg(long)]
    brokers: String,
    /// Show the topics whose names begin so; topics that appear later are taken up.
    #[arg(long)]
    prefix: String,
    /// End after this many seconds; without it at SIGINT or SIGTERM.
    #[arg(long)]
    seconds: Option<u64>,
    /// Events shown one by one in a second; the rest is only counted.
    #[arg(long, default_value_t = 6)]
    lines: u64,
    /// Write the rows by topic here at the end, a line `TOPIC ROWS` each.
    #[arg(long)]
    rows: Option<std::path::PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("kafka: {0}; is the broker up?")]
    Kafka(#[from] KafkaError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a record of {topic} is not JSON: {reason}")]
    NotJson { topic: String, reason: serde_json::Error },
    #[error("no event came")]
    Nothing,
}

/// After the end was asked for, the topics count as read once nothing came for this long.
const QUIET: Duration = Duration::from_millis(1500);
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    match Watch::new(Arguments::parse()).and_then(|watch| Ok((watch, end_signals()?))) {
        Ok((watch, signals)) => watch.run(signals).await,
        Err(error) => Err(error),
    }
    .map_or_else(
        |error| {
            let _ = writeln!(io::stderr(), "error: {error}");
            std::process::ExitCode::FAILURE
        },
        |()| std::process::ExitCode::SUCCESS,
    )
}

type Signals = (tokio::signal::unix::Signal, tokio::signal::unix::Signal);

fn end_signals() -> Result<Signals, Error> {
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}

struct Watch {
    arguments: Arguments,
    consumer: StreamConsumer,
    assigned: BTreeSet<(String, i32)>,
    second: Figures,
    all: Figures,
    tables: Tables,
    shown: u64,
}

impl Watch {
    fn new(arguments: Arguments) -> Result<Self, Error> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", &arguments.brokers)
            .set("group.id", "distributary-watch")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "20")
            .create()?;
        Ok(Self {
            arguments,
            consumer,
            assigned: BTreeSet::new(),
            second: Figures::default(),
            all: Figures::default(),
            tables: Tables::default(),
            shown: 0,
        })
    }

    async fn run(mut self, (mut interrupt, mut terminate): Signals) -> Result<(), Error> {
        let end =
            self.arguments.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let received = tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = at(end) => break,
                _ = tick.tick() => {
                    self.close_second()?;
                    self.take_up_topics()?;
                    continue;
                }
                message = self.consumer.recv() => message?.detach(),
            };
            self.show(&received)?;
        }
        self.take_up_topics()?;
        while let Ok(message) = timeout(QUIET, self.consumer.recv()).await {
            let received = message?.detach();
            self.show(&received)?;
        }
        self.close()
    }

    /// Reads topics that are new from their start, so that nothing that is in them is missed.
    fn take_up_topics(&mut self) -> Result<(), Error> {
        let metadata = self.consumer.fetch_metadata(None, METADATA_TIMEOUT)?;
        let mut new = TopicPartitionList::new();
        for topic in metadata.topics() {
            if !topic.name().starts_with(&self.arguments.prefix) {
                continue;
            }
            for partition in topic.partitions() {
                if self.assigned.insert((topic.name().to_owned(), partition.id())) {
                    new.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)?;
                }
            }
        }
        if new.count() != 0 {
            self.consumer.incremental_assign(&new)?;
        }
        Ok(())
    }

    fn show(&mut self, message: &OwnedMessage) -> Result<(), Error> {
        let now_ms = now_ms();
        let (key, value) = (message.key(), message.payload());
        let event = Event::parse(key, value)
            .map_err(|reason| Error::NotJson { topic: message.topic().to_owned(), reason })?;
        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        self.second.add(&event, bytes, now_ms);
        self.all.add(&event, bytes, now_ms);
        self.tables.apply(message.topic(), message.partition(), key, event.kind);
        if event.kind != Kind::Tombstone && self.shown < self.arguments.lines {
            self.shown += 1;
            let line = line(&event, message.topic(), lsn(message), now_ms);
            writeln!(io::stdout(), "{line}")?;
        }
        Ok(())
    }

    fn close_second(&mut self) -> Result<(), Error> {
        let second = std::mem::take(&mut self.second);
        self.shown = 0;
        if second.events != 0 {
            writeln!(io::stdout(), "{} ── {second}", clock(now_ms()))?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<(), Error> {
        self.close_second()?;
        writeln!(io::stdout(), "{} ══ in all {}", clock(now_ms()), self.all)?;
        if let Some(path) = &self.arguments.rows {
            let lines: Vec<_> =
                self.tables.rows().map(|(topic, rows)| format!("{topic} {rows}\n")).collect();
            std::fs::write(path, lines.concat())?;
        }
        if self.all.events == 0 { Err(Error::Nothing) } else { Ok(()) }
    }
}

/// Resolves at a time, or never where there is none.
async fn at(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn line(event: &Event, topic: &str, lsn: &str, now_ms: i64) -> String {
    let Event { kind, committed_ms, key, detail } = event;
    let latency = committed_ms.map_or_else(String::new, |at| format!("{} ms", now_ms - at));
    let text = format!(
        "{} {:<9} {topic:<18} {key:<12} {latency:>7}  {lsn:<11} {detail}",
        clock(now_ms),
        kind.word()
    );
    text.chars().take(COLUMNS).collect()
}

/// A line stays one line in a usual terminal.
const COLUMNS: usize = 150;

/// The commit's position, from the record's headers.
fn lsn(message: &OwnedMessage) -> &str {
    let header = message
        .headers()
        .and_then(|headers| headers.iter().find(|header| header.key == "distributary.lsn"))
        .and_then(|header| header.value);
    header.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time of day in UTC.
fn clock(now_ms: i64) -> String {
    let seconds = now_ms / 1000 % 86_400;
    let (hour, minute) = (seconds / 3600, seconds / 60 % 60);
    format!("{hour:02}:{minute:02}:{:02}.{:03}", seconds % 60, now_ms % 1000)
}
