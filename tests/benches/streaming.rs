//! One large transaction, as a whole after its commit and in pieces while it is in progress (`source.streaming`): how
//! long after the commit consumers see it, and what it costs. Fails where rows are lost or doubled. Prints a table for
//! BENCHMARKS.md.
//!
//! usage: just bench streaming [--rows N] [--runs N] [--quick]

use clap::Parser;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tests::bench::arrivals::{Listener, Tally, tally};
use tests::bench::run::Run;
use tests::bench::{megabytes, pace, print_ending, print_heading, shown, spread};
use tests::deadline::await_true;
use tests::procfs::cpu_seconds;
use tests::scene::{Scene, walsender};
use tests::seed::say;
use tests::sql::Sql;

/// Measure a large transaction.
#[derive(Parser)]
struct Arguments {
    /// Its rows.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u32,
    /// Rounds, in turns.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A small check: one round of 400,000 rows, which are more than `logical_decoding_work_mem`.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Many times longer than the slowest needs.
const LONGEST: Duration = Duration::from_secs(600);
/// Rows of one statement.
const SLICE_ROWS: u32 = 20_000;

/// What one run gave.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// From COMMIT to the first and the last record at a `read_committed` consumer, seconds.
    first: f64,
    last: f64,
    /// Seconds of CPU before the commit and after it.
    walsender: [f64; 2],
    client: [f64; 2],
    memory_bytes_max: u64,
}

fn main() -> io::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { rows: 400_000, runs: 1, ..arguments };
    }
    assert!(0 < arguments.runs, "--runs takes 1 or more");
    print_heading("streaming")?;
    let modes = ["off", "on"];
    let mut costs = [Vec::new(), Vec::new()];
    for run in 0..arguments.runs {
        for (mode, costs) in modes.iter().zip(&mut costs) {
            let cost = measure(mode, arguments.rows);
            say(&format!("streaming {mode}, run {}: {cost:?}", run + 1));
            costs.push(cost);
        }
    }
    print(arguments.rows, &modes, &costs)?;
    print_ending()
}

fn measure(mode: &str, rows: u32) -> Cost {
    let scene = Scene::new("large", "postgres-15");
    let mut sql = scene.sql();
    pace::create(&mut sql);
    let spec = scene.spec().source(&format!("streaming: {mode}"));
    let run = Run::start(scene.folder(), &spec, &scene.postgres);
    sql.run(&pace::insert(pace::TABLE, "0, 0"));
    let topic = format!("{}.public.{}", scene.name, pace::TABLE);
    let listener = Listener::start(&scene.kafka, &topic, "read_committed");
    let hears = |records: u64| {
        await_true("the records", LONGEST, || {
            run.assert_alive();
            records <= listener.heard()
        });
    };
    hears(1);
    let mut admin = Sql::superuser(&scene.postgres, "postgres");
    let sender = walsender(&mut admin, &scene.slot());
    let cpu = || [sender, run.id()].map(|it| cpu_seconds(it).expect("it lives"));
    let begun = cpu();
    sql.run("BEGIN");
    for low in (1..=rows).step_by(SLICE_ROWS as usize) {
        let high = (low + SLICE_ROWS - 1).min(rows);
        sql.run(&pace::insert(pace::TABLE, &format!("{low}, {high}")));
    }
    // Whatever the server does before a commit is done.
    let end = sql.value("SELECT pg_current_wal_lsn()");
    let decoded =
        format!("SELECT '{end}'::pg_lsn <= sent_lsn FROM pg_stat_replication WHERE pid = {sender}");
    await_true("the walsender at the end", LONGEST, || admin.value(&decoded) == "t");
    let (before, committed) = (cpu(), Instant::now());
    sql.run("COMMIT");
    hears(u64::from(rows) + 1);
    let after = cpu();
    let arrivals = listener.stop();
    let seconds = |at: usize| arrivals[at].1.saturating_duration_since(committed).as_secs_f64();
    let memory_bytes_max = run.memory().bytes_max;
    run.stop();
    let all = u64::from(rows) + 1;
    let found = tally(&scene.kafka, &topic);
    assert_eq!(found, Tally { records: all, events: all, rows: all }, "lost or doubled");
    Cost {
        first: seconds(1),
        last: seconds(arrivals.len() - 1),
        walsender: [before[0] - begun[0], after[0] - before[0]],
        client: [before[1] - begun[1], after[1] - before[1]],
        memory_bytes_max,
    }
}

fn print(rows: u32, modes: &[&str], costs: &[Vec<Cost>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\n{rows} rows of {} bytes in one transaction, exactly once; the walsender has decoded all of it before the \
         commit. {} rounds in turns, minimum / median / maximum:\n",
        pace::ROW_BYTES,
        costs[0].len()
    )?;
    writeln!(
        out,
        "| `streaming` | commit to first record, s | to the last, s | walsender CPU s/M before the commit | after it \
         | client CPU s/M before | after | peak MiB |\n|---|---|---|---|---|---|---|---|"
    )?;
    let millions = f64::from(rows) / 1e6;
    for (mode, costs) in modes.iter().zip(costs) {
        let row = [
            shown(spread(costs, |it| it.first), 2),
            shown(spread(costs, |it| it.last), 1),
            shown(spread(costs, |it| it.walsender[0] / millions), 2),
            shown(spread(costs, |it| it.walsender[1] / millions), 2),
            shown(spread(costs, |it| it.client[0] / millions), 2),
            shown(spread(costs, |it| it.client[1] / millions), 2),
            shown(spread(costs, |it| megabytes(it.memory_bytes_max)), 0),
        ];
        writeln!(out, "| {mode} | {} |", row.join(" | "))?;
    }
    Ok(())
}
