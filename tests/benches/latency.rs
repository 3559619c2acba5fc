//! From the commit to the record: transactions at a given rate into a running `distributary`, which
//! a `read_uncommitted` and a `read_committed` consumer read. Prints tables for BENCHMARKS.md.
//!
//! usage: just bench latency [--rate N] [--seconds N] [--runs N] [--quick]

use clap::Parser;
use std::collections::HashMap;
use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::bench::arrivals::Listener;
use tests::bench::pace::{self, Committed, Pace, Paced};
use tests::bench::run::Run;
use tests::bench::{megabytes, percentile, print_ending, print_heading, process_of};
use tests::deadline::await_true;
use tests::procfs::{Memory, cpu_seconds};
use tests::scene::{Scene, walsender};
use tests::sql::Sql;

/// Measure from commit to record.
#[derive(Parser)]
struct Arguments {
    /// Transactions a second, of one row each.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Connections that write.
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Seconds that count.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seconds before these.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Times that each guarantee is measured, in turns.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// A small check: 3 seconds after 1.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const DELIVERIES: [&str; 2] = ["exactly-once", "at-least-once"];
const ISOLATIONS: [&str; 2] = ["read_uncommitted", "read_committed"];
/// Longer than the last record needs.
const ARRIVAL_MAX: Duration = Duration::from_secs(60);

/// What one run gave.
struct Measured {
    delivery: &'static str,
    /// Those that count.
    transactions: Vec<Committed>,
    /// By isolation.
    arrivals: Vec<Vec<(u64, Instant)>>,
    seconds: f64,
    client_cpu: f64,
    walsender_cpu: f64,
    broker_cpu: f64,
    memory: Memory,
}

fn main() -> io::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { seconds: 3, warm_up: 1, ..arguments };
    }
    print_heading("latency")?;
    let mut measured = Vec::new();
    for _ in 0..arguments.runs {
        measured.extend(DELIVERIES.map(|delivery| measure(&arguments, delivery)));
    }
    print(&arguments, &measured)?;
    print_ending()
}

fn measure(arguments: &Arguments, delivery: &'static str) -> Measured {
    let scene = Scene::new("latency", "postgres-15");
    let mut sql = scene.sql();
    pace::create(&mut sql);
    let spec = scene.spec().sink(&format!("delivery: {delivery}"));
    let run = Run::start(scene.folder(), &spec, &scene.postgres);
    let topic = format!("{}.public.{}", scene.name, pace::TABLE);
    let listeners = ISOLATIONS.map(|isolation| Listener::start(&scene.kafka, &topic, isolation));

    let mut admin = Sql::superuser(&scene.postgres, "postgres");
    let processes = [run.id(), walsender(&mut admin, &scene.slot()), process_of(&scene.kafka)];
    let cpu = || processes.map(|process| cpu_seconds(process).expect("the process lives"));
    let pace = Pace { rate: arguments.rate, connections: arguments.connections, rows: 1 };
    let paced = Paced::start(&scene, pace);
    sleep(Duration::from_secs(arguments.warm_up));
    let (begun, before) = (Instant::now(), cpu());
    sleep(Duration::from_secs(arguments.seconds));
    let (ended, after) = (Instant::now(), cpu());
    let memory = run.memory();

    let mut transactions = paced.stop();
    let written = transactions.len() as u64;
    await_true("every row at both consumers", ARRIVAL_MAX, || {
        run.assert_alive();
        listeners.iter().all(|listener| written <= listener.heard())
    });
    run.stop();
    let arrivals = listeners.map(Listener::stop).to_vec();
    for (isolation, arrivals) in ISOLATIONS.iter().zip(&arrivals) {
        assert_eq!(arrivals.len() as u64, written, "{delivery}: records for {isolation}");
    }
    transactions.retain(|transaction| begun <= transaction.due && transaction.due < ended);
    let [client_cpu, walsender_cpu, broker_cpu] =
        std::array::from_fn(|process| after[process] - before[process]);
    let seconds = (ended - begun).as_secs_f64();
    Measured {
        delivery,
        transactions,
        arrivals,
        seconds,
        client_cpu,
        walsender_cpu,
        broker_cpu,
        memory,
    }
}

fn print(arguments: &Arguments, measured: &[Measured]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\n{} transactions a second of one row of {} bytes from {} connections for {} s after \
         {} s, synchronous_commit = on. All times are of one process's monotonic clock. The commit \
         lies between two of the client's: just before it sends COMMIT and just after the answer, \
         both are shown. Arrival: when the consumer's poll returned the record.\n",
        arguments.rate,
        pace::ROW_BYTES,
        arguments.connections,
        arguments.seconds,
        arguments.warm_up
    )?;
    let columns = "p50 ms | p90 ms | p99 ms | longest ms";
    writeln!(out, "| Delivery | From | To | {columns} |\n|---|---|---|---|---|---|---|")?;
    for run in measured {
        for (isolation, arrivals) in ISOLATIONS.iter().zip(&run.arrivals) {
            let arrivals: HashMap<u64, Instant> = arrivals.iter().copied().collect();
            for from in ["COMMIT returned", "COMMIT sent"] {
                let instant = |it: &Committed| {
                    if from == "COMMIT sent" { it.sent } else { it.returned }
                };
                let took = run.transactions.iter();
                let took = took.map(|it| milliseconds(instant(it), arrivals[&it.id])).collect();
                let row = shares(took);
                writeln!(out, "| {} | {from} | {isolation} | {row} |", run.delivery)?;
            }
        }
    }
    writeln!(
        out,
        "\n| Delivery | transactions/s | began late, {columns} | client CPU s | walsender CPU s | \
         broker CPU s, two consumers | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for run in measured {
        let late = run.transactions.iter().map(|it| milliseconds(it.due, it.begun)).collect();
        writeln!(
            out,
            "| {} | {:.0} | {} | {:.2} | {:.2} | {:.2} | {:.0} |",
            run.delivery,
            run.transactions.len() as f64 / run.seconds,
            shares(late),
            run.client_cpu,
            run.walsender_cpu,
            run.broker_cpu,
            megabytes(run.memory.bytes_max)
        )?;
    }
    Ok(())
}

/// Below zero where the record came before the client had its answer.
fn milliseconds(from: Instant, to: Instant) -> f64 {
    let seconds = match to.checked_duration_since(from) {
        Some(after) => after.as_secs_f64(),
        None => -(from - to).as_secs_f64(),
    };
    seconds * 1e3
}

fn shares(mut took: Vec<f64>) -> String {
    took.sort_by(f64::total_cmp);
    [50, 90, 99, 100].map(|percent| format!("{:.1}", percentile(&took, percent))).join(" | ")
}
