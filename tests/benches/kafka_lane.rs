//! One lane against a real broker: how long a lone transaction takes, and how fast a backlog goes
//! through, exactly once and at least once. Prints a table for BENCHMARKS.md.
//!
//! usage: just bench kafka_lane [--records N] [--runs N] [--lanes N] [--quick]

use clap::Parser;
use config::Delivery;
use kafka::names::{LaneId, Names};
use kafka::settings::Settings;
use kafka::sink::{CommitPoint, LaneSink};
use kafka::topics::Admin;
use record::Record;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tests::bench::{print_ending, print_heading};
use tests::procfs::{cpu_seconds, memory_bytes_max};
use tests::seed::unique;
use tests::servers::Server;
use tests::topics;
use wal::{Lsn, Position};

/// Measure lanes.
#[derive(Parser)]
struct Arguments {
    /// Records of the backlog, 200 to 300 bytes each, over all lanes.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Times that each mode sends it.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Lanes that work side by side.
    #[arg(long, default_value_t = 1)]
    lanes: u8,
    /// A small check: 20,000 records, once.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const LONE_TRANSACTIONS: u64 = 200;
/// As the pipeline ends its transactions (delivery-protocol.md, section 5).
const TRANSACTION_BYTES: u64 = 16 << 20;
const TRANSACTION_RECORDS: u64 = 50_000;
const PARTITIONS: i32 = 4;

struct Scene {
    kafka: Server,
    settings: Settings,
    names: Names,
    topic: String,
}

impl Scene {
    fn new(delivery: Delivery, lanes: u8) -> Self {
        let kafka = Server::start("kafka");
        let task = format!("bench_{}", unique());
        let topic = format!("{task}.rows");
        topics::create(&kafka, &topic, PARTITIONS * i32::from(lanes));
        let mut spec = config::Task { task: task.clone(), ..config::Task::default() };
        spec.sink.brokers = vec![kafka.address.clone()];
        spec.sink.delivery = delivery;
        let settings = Settings::new(&spec, Path::new(".")).expect("valid settings");
        let names = Names::new("distributary", &task).expect("valid names");
        let admin = Admin::new(&settings).expect("a client");
        admin.ensure_internal(&names).expect("the checkpoint topic");
        Self { kafka, settings, names, topic }
    }

    fn open(&self, lane: u8) -> Box<dyn LaneSink> {
        let opened = kafka::open(&self.settings, &self.names, LaneId::Lane(lane), 1, &[]);
        opened.expect("the lane opens").0
    }

    fn send(&self, sink: &mut dyn LaneSink, lane: u8, number: u64, value: &[u8]) -> u64 {
        let key = format!("{{\"id\":{number}}}");
        let partition = i32::from(lane) * PARTITIONS + i32::try_from(number % 4).expect("small");
        let seq = number.to_string();
        let record = Record {
            topic: &self.topic,
            partition,
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: &[
                ("distributary.task", b"bench"),
                ("distributary.lsn", b"0/16B3748"),
                ("distributary.seq", seq.as_bytes()),
            ],
            timestamp_ms: 1_709_605_230_500,
        };
        sink.send(&record).expect("sent");
        (key.len() + value.len()) as u64
    }

    /// Longest, sorted by duration.
    fn lone(&self) -> Vec<Duration> {
        let mut sink = self.open(0);
        let mut took = Vec::new();
        for number in 0..LONE_TRANSACTIONS {
            let started = Instant::now();
            self.send(sink.as_mut(), 0, number, &[b'x'; 250]);
            sink.commit(&point(number + 1)).expect("committed");
            took.push(started.elapsed());
            // Rows of people, not of a load.
            thread::sleep(Duration::from_millis(20));
        }
        took.sort();
        took
    }

    fn backlog(&self, lane: u8, records: u64) {
        let mut sink = self.open(lane);
        let text: Vec<u8> = (0..4096_u32).map(|it| b"0123456789abcdef"[noise(it)]).collect();
        let (mut bytes, mut count) = (0, 0);
        for number in 0..records {
            let at = usize::try_from(number * 61 % 3700).expect("small");
            let length = 200 + usize::try_from(number % 101).expect("small");
            bytes += self.send(sink.as_mut(), lane, number, &text[at..at + length]);
            count += 1;
            if TRANSACTION_BYTES <= bytes || TRANSACTION_RECORDS <= count || number + 1 == records {
                if !sink.commit(&point(number + 1)).expect("committed").clean {
                    // A broker that stalls makes commits slow (delivery-protocol.md, C4).
                    sink = self.open(lane);
                }
                (bytes, count) = (0, 0);
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let (task, topic) = (self.names.task().to_owned(), self.topic.clone());
        topics::delete(&self.kafka, |name| name == topic || name.contains(&task));
    }
}

fn noise(number: u32) -> usize {
    (number.wrapping_mul(2_654_435_761) >> 28) as usize
}

fn point(commit_lsn: u64) -> CommitPoint {
    let position = Position { commit_lsn: Lsn(commit_lsn), ordinal: 0 };
    CommitPoint { position, end_lsn: Lsn(commit_lsn), complete: true, sealed: false, counted: 0 }
}

fn main() -> io::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { records: 20_000, runs: 1, ..arguments };
    }
    print_heading("kafka_lane")?;
    let mut out = io::stdout();
    writeln!(out)?;
    writeln!(out, "| Lone transaction, {LONE_TRANSACTIONS} | p50 | p99 | longest | CPU each |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
        let scene = Scene::new(delivery, 1);
        let before = own_cpu();
        let took = scene.lone();
        let cpu_ms = (own_cpu() - before) * 1000.0 / took.len() as f64;
        let at = |part: usize| took[took.len() * part / 100];
        let longest = took[took.len() - 1];
        let row = [at(50), at(99), longest].map(|it| format!("{:.1} ms", it.as_secs_f64() * 1e3));
        writeln!(out, "| {delivery:?} | {} | {cpu_ms:.2} ms |", row.join(" | "))?;
    }
    writeln!(
        out,
        "\n| Backlog of {}, {} lanes | records/s | CPU s per million | memory |",
        arguments.records, arguments.lanes
    )?;
    writeln!(out, "|---|---|---|---|")?;
    for _ in 0..arguments.runs {
        for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
            let scene = Scene::new(delivery, arguments.lanes);
            let (before, started) = (own_cpu(), Instant::now());
            let share = arguments.records / u64::from(arguments.lanes);
            thread::scope(|scope| {
                for lane in 0..arguments.lanes {
                    let scene = &scene;
                    scope.spawn(move || scene.backlog(lane, share));
                }
            });
            let seconds = started.elapsed().as_secs_f64();
            let millions = arguments.records as f64 / 1e6;
            let cpu = (own_cpu() - before) / millions;
            let memory = memory_bytes_max(std::process::id()).unwrap_or_default() >> 20;
            let rate = arguments.records as f64 / seconds;
            writeln!(out, "| {delivery:?} | {rate:.0} | {cpu:.2} | {memory} MiB |")?;
        }
    }
    print_ending()
}

fn own_cpu() -> f64 {
    cpu_seconds(std::process::id()).unwrap_or_default()
}
