//! What `distributary run` holds at most: under a steady load, a large transaction, and while the
//! broker is gone. Fails where rows are lost or doubled. Prints a table for BENCHMARKS.md.
//!
//! The broker is one of its own (`kafka:bench`), which is wiped before and after.
//!
//! usage: just bench memory [--case steady|large|outage]... [--lanes N]... [--quick] [--help]

use clap::{Parser, ValueEnum};
use std::fs::File;
use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::bench::arrivals::{Tally, tally};
use tests::bench::pace::{self, Pace, Paced};
use tests::bench::run::Run;
use tests::bench::{megabytes, print_ending, print_heading};
use tests::procfs::{Memory, cpu_seconds};
use tests::scene::Scene;
use tests::seed::say;
use tests::servers::Server;
use tests::sql::Sql;

/// Measure memory.
#[derive(Parser)]
struct Arguments {
    /// What happens; can be repeated. Without it all of them.
    #[arg(long, value_enum)]
    case: Vec<Case>,
    /// Number of lanes; can be repeated.
    #[arg(long, default_values_t = [8, 64])]
    lanes: Vec<u8>,
    /// Transactions a second of the paced workloads.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Rows of the large transaction.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Seconds that the broker is gone.
    #[arg(long, default_value_t = 60)]
    outage: u64,
    /// Seconds of the steady load, and a third of it before and after the outage.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// `NAME=VALUE`, a librdkafka property below `sink.properties`; can be repeated.
    #[arg(long)]
    property: Vec<String>,
    /// A small check: 3 seconds, 20,000 rows, 5 seconds without a broker.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Case {
    /// Transactions of one row.
    Steady,
    /// One transaction.
    Large,
    /// The broker is killed and comes back while transactions of 20 rows go on.
    Outage,
}

const KAFKA: &str = "kafka:bench";
const CONNECTIONS: u32 = 4;
/// Enough for the outage to fill what may be held.
const OUTAGE_ROWS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Many times longer than the slowest needs.
const CATCH_UP_MAX: Duration = Duration::from_secs(180);
/// Lines of a log that are shown of a run that goes wrong.
const LOG_LINES: usize = 60;

/// What one case gave.
struct Held {
    case: Case,
    lanes: u8,
    begin: Memory,
    end: Memory,
    cpu: f64,
    rows: u64,
    tally: Tally,
    /// It did not come to the end.
    stuck: bool,
}

/// The broker of these measurements, wiped in the end.
struct Broker {
    server: Server,
    /// Two of these benchmarks would wipe each other's broker.
    _alone: File,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.server.order("wipe");
    }
}

impl Broker {
    fn start() -> Self {
        let path = std::env::temp_dir().join("distributary-bench-memory.lock");
        let alone = File::create(path).expect("a lock file");
        alone.try_lock().expect("no other `bench memory` on this machine");
        // What an interrupted run has left.
        Server::start(KAFKA).order("wipe");
        Self { server: Server::start(KAFKA), _alone: alone }
    }
}

fn main() -> io::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { rows: 20_000, outage: 5, seconds: 3, ..arguments };
    }
    if arguments.case.is_empty() {
        arguments.case = Case::value_variants().to_vec();
    }
    print_heading("memory")?;
    let broker = Broker::start();
    let mut all = Vec::new();
    for &case in &arguments.case {
        for &lanes in &arguments.lanes {
            let held = measure(&arguments, &broker.server, case, lanes);
            say(&format!("{case:?}, {lanes} lanes: {:?}, {:?}", held.end, held.tally));
            all.push(held);
        }
    }
    drop(broker);
    print(&arguments, &all)?;
    print_ending()?;
    let wrong: Vec<String> = all.iter().filter_map(Held::complaint).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn measure(arguments: &Arguments, kafka: &Server, case: Case, lanes: u8) -> Held {
    let scene = Scene::on("memory", Server::start("postgres-15"), kafka.clone());
    let mut sql = scene.sql();
    pace::create(&mut sql);
    let properties = arguments.property.iter().filter_map(|property| property.split_once('='));
    let properties: Vec<String> =
        properties.map(|(name, value)| format!("{name}: \"{value}\"")).collect();
    let spec = scene
        .spec()
        .line(&format!("lanes: {lanes}"))
        .sink(&format!("partitions: {}", partitions(lanes)))
        .sink(&format!("properties: {{{}}}", properties.join(", ")));
    let run = Run::start(scene.folder(), &spec, &scene.postgres);
    let begin = run.memory();
    match case {
        Case::Steady => {
            let paced = start(arguments, &scene, 1);
            sleep(Duration::from_secs(arguments.seconds));
            drop(paced.stop());
        }
        Case::Large => sql.run(&pace::insert(pace::TABLE, &format!("1, {}", arguments.rows))),
        Case::Outage => outage(arguments, &scene, &run),
    }
    let end = sql.value("SELECT pg_current_wal_lsn()");
    let mut admin = Sql::superuser(&scene.postgres, "postgres");
    let stuck = !run.comes_to(&mut admin, &scene.slot(), &end, CATCH_UP_MAX);
    let (memory, cpu) = (run.memory(), cpu_seconds(run.id()).unwrap_or_default());
    if stuck {
        let log = run.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" status ")).collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        say(&format!("{case:?}, {lanes} lanes: not at the end\n{}", last.join("\n")));
        drop(run);
    } else {
        run.stop();
    }
    let rows = sql.value(&format!("SELECT count(*) FROM {}", pace::TABLE));
    let rows = rows.parse().expect("a number");
    let topic = format!("{}.public.{}", scene.name, pace::TABLE);
    let tally = tally(kafka, &topic);
    Held { case, lanes, begin, end: memory, cpu, rows, tally, stuck }
}

/// Two for each lane: most lanes get one, by its hash.
fn partitions(lanes: u8) -> u32 {
    2 * u32::from(lanes)
}

fn start(arguments: &Arguments, scene: &Scene, rows: u32) -> Paced {
    Paced::start(scene, Pace { rate: arguments.rate, connections: CONNECTIONS, rows })
}

fn outage(arguments: &Arguments, scene: &Scene, run: &Run) {
    let beside = Duration::from_secs(arguments.seconds) / 3;
    let paced = start(arguments, scene, OUTAGE_ROWS);
    sleep(beside);
    say(&format!("before the outage: {:?}", run.memory()));
    scene.kafka.order("kill");
    let gone = Instant::now();
    let mut next = Duration::ZERO;
    while gone.elapsed() < Duration::from_secs(arguments.outage) {
        if next <= gone.elapsed() {
            say(&format!("{:.0} s without a broker: {:?}", next.as_secs_f64(), run.memory()));
            next += Duration::from_secs(10);
        }
        sleep(LOOK_AGAIN);
    }
    say(&format!("after the outage: {:?}", run.memory()));
    scene.kafka.order("start");
    sleep(beside);
    drop(paced.stop());
}

impl Held {
    /// What was lost or doubled, or did not come.
    fn complaint(&self) -> Option<String> {
        let Self { case, lanes, rows, tally, .. } = self;
        let once = Tally { records: *rows, events: *rows, rows: *rows };
        let what = match (self.stuck, self.tally == once) {
            (false, true) => return None,
            (false, false) => "lost or doubled",
            (true, _) => "not delivered in time",
        };
        Some(format!(
            "{case:?}, {lanes} lanes: {what}: {rows} rows in the table, in Kafka {tally:?}"
        ))
    }
}

fn print(arguments: &Arguments, all: &[Held]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\nRows of {} bytes, exactly once, two partitions a lane. Steady: {} transactions of one \
         row a second for {} s. Large: {} rows in one transaction. Outage: {} transactions of \
         {OUTAGE_ROWS} rows a second, the broker killed for {} s. Goal: at most 150 MiB. `arrived`: \
         what a `read_committed` consumer gets, by `distributary.lsn` and `.seq` and by key.\n",
        pace::ROW_BYTES,
        arguments.rate,
        arguments.seconds,
        arguments.rows,
        arguments.rate,
        arguments.outage
    )?;
    writeln!(
        out,
        "| Case | lanes | at first, MiB | peak MiB | at the end, MiB | of that anonymous | threads \
         | CPU s | rows | arrived |\n|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for held in all {
        let arrived = match held.complaint() {
            None => "once each".into(),
            Some(_) => format!("**wrong: {}**", held.tally.rows),
        };
        writeln!(
            out,
            "| {:?} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {:.1} | {} | {arrived} |",
            held.case,
            held.lanes,
            megabytes(held.begin.bytes),
            megabytes(held.end.bytes_max),
            megabytes(held.end.bytes),
            megabytes(held.end.anonymous_bytes),
            held.end.threads,
            held.cpu,
            held.rows
        )?;
    }
    Ok(())
}
