//! Drains a backlog through a cluster: with one, two and four workers, with the front apart from the
//! lanes, and with each stage on a worker of its own. Prints a table for BENCHMARKS.md.
//!
//! usage: just bench cluster [--layout NAME]... [--rows N] [--runs N] [--quick]

use clap::{Parser, ValueEnum};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::bench::{
    binary, megabytes, pace, print_ending, print_heading, process_of, shown, spread,
};
use tests::cluster::Cluster;
use tests::deadline::await_true;
use tests::process::VARIABLE;
use tests::procfs::{cpu_seconds, memory_bytes_max};
use tests::reader::count;
use tests::scene::{CATCH_UP_MAX, Scene, walsender};
use tests::sql::Sql;
use tests::status::Status;

/// Drain a backlog through clusters of several layouts.
#[derive(Parser)]
struct Arguments {
    /// Which workers there are; can be repeated. Without it all layouts.
    #[arg(long, value_enum)]
    layout: Vec<Layout>,
    /// Rows of each backlog.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Times that each layout drains one.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A small check: one round of 20,000 rows.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Layout {
    One,
    Two,
    Four,
    /// Reader, decoder and router on one worker, lanes on two others.
    Front,
    /// Each on a worker of its own, lanes on two others.
    Stages,
}

const TABLE: &str = "backlog";
const TRANSACTION_ROWS: u32 = 100;
const LANES: usize = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const DRAIN_MAX: Duration = Duration::from_secs(600);
/// The coordinator, among the nodes of a run.
const COORDINATOR: &str = "c1";

/// What one run took.
#[derive(Clone, Debug, Default)]
struct Cost {
    /// From the walsender's first sight until the slot is confirmed to the backlog's end.
    seconds: f64,
    walsender_cpu: f64,
    broker_cpu: f64,
    /// CPU seconds of each node, and the most memory that it had, in bytes.
    nodes: BTreeMap<String, (f64, u64)>,
}

fn main() -> io::Result<()> {
    if std::env::var_os(VARIABLE).is_none() {
        // Nodes are started by what the suites use, which would take the debug build.
        let own = std::env::current_exe()?;
        return Err(Command::new(own)
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, binary())
            .exec());
    }
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { rows: 20_000, runs: 1, ..arguments };
    }
    if arguments.layout.is_empty() {
        arguments.layout = Layout::value_variants().to_vec();
    }
    assert!(0 < arguments.runs, "--runs takes 1 or more");
    print_heading("cluster")?;
    let mut costs = vec![Vec::new(); arguments.layout.len()];
    for run in 0..arguments.runs {
        for (layout, costs) in arguments.layout.iter().zip(&mut costs) {
            let cost = drain(*layout, arguments.rows);
            tests::seed::say(&format!("{} run {}: {cost:?}", layout.about(), run + 1));
            costs.push(cost);
        }
    }
    print(&arguments, &costs)?;
    print_ending()
}

impl Layout {
    fn about(self) -> &'static str {
        match self {
            Self::One => "one worker",
            Self::Two => "two workers",
            Self::Four => "four workers",
            Self::Front => "the front, and two workers with lanes",
            Self::Stages => "reader, decoder, router, and two workers with lanes",
        }
    }

    /// Name and labels of each.
    fn workers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::One => &[("w1", "")],
            Self::Two => &[("w1", ""), ("w2", "")],
            Self::Four => &[("w1", ""), ("w2", ""), ("w3", ""), ("w4", "")],
            Self::Front => {
                &[("front", "stage: front"), ("p1", "stage: lanes"), ("p2", "stage: lanes")]
            }
            Self::Stages => &[
                ("reader", "stage: reader"),
                ("decoder", "stage: decoder"),
                ("router", "stage: router"),
                ("p1", "stage: lanes"),
                ("p2", "stage: lanes"),
            ],
        }
    }

    fn placement(self) -> &'static str {
        match self {
            Self::One | Self::Two | Self::Four => "{}",
            Self::Front => "{reader: {stage: front}, producers: {stage: lanes}}",
            Self::Stages => {
                "{reader: {stage: reader}, decoder: {stage: decoder}, router: {stage: router}, \
                 producers: {stage: lanes}}"
            }
        }
    }
}

/// One backlog through one cluster.
fn drain(layout: Layout, rows: u32) -> Cost {
    let scene = Scene::new("bench", "postgres-15");
    let mut sql = scene.sql();
    sql.run(&format!("CREATE TABLE {TABLE} (id bigint PRIMARY KEY, payload text)"));
    let mut cluster = Cluster::start(&scene, 1, 0);
    for (name, labels) in layout.workers() {
        cluster.add_labelled_worker(name, labels);
    }
    let spec = cluster
        .spec()
        .line(&format!("lanes: {LANES}"))
        .line("sync: {snapshot: false}")
        .line(&format!("placement: {}", layout.placement()))
        .sink("partitions: 8");
    cluster.apply(&spec);
    cluster.await_status("the stream", CATCH_UP_MAX, Status::flows);
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    let slot = scene.slot();
    let mut admin = Sql::superuser(&scene.postgres, "postgres");
    await_true("the slot free", CATCH_UP_MAX, || walsender(&mut admin, &slot) == 0);
    let end = fill(&mut sql, rows);

    let (broker, nodes) = (process_of(&scene.kafka), cluster.ids());
    let cpu = |process: u32| cpu_seconds(process).expect("a running process");
    let before: BTreeMap<_, _> = nodes.iter().map(|(name, id)| (name.clone(), cpu(*id))).collect();
    let broker_before = cpu(broker);
    cluster.call(&["task", "resume", &scene.name]).expect(0);
    let mut cost = watch(&mut admin, &slot, &end);
    cost.broker_cpu = cpu(broker) - broker_before;
    for (name, id) in nodes {
        let used = cpu(id) - before[&name];
        cost.nodes.insert(name, (used, memory_bytes_max(id).expect("a running process")));
    }
    cluster.assert_alive();
    let topic = format!("{}.public.{TABLE}", scene.name);
    assert_eq!(count(&scene.kafka, &topic), u64::from(rows) + 1, "records in {topic}");
    cost
}

/// Writes the backlog; returns where it ends.
fn fill(sql: &mut Sql, rows: u32) -> String {
    let step = TRANSACTION_ROWS;
    let insert = pace::insert(TABLE, &format!("low, least(low + {step} - 1, {rows})"));
    sql.run(&format!(
        "DO $$ BEGIN FOR low IN 1..{rows} BY {step} LOOP {insert}; COMMIT; END LOOP; END $$"
    ));
    let end = sql.value("SELECT pg_current_wal_lsn()");
    // Whoever waits for the end sees a commit behind it.
    sql.run(&format!("INSERT INTO {TABLE} VALUES (-1, 'the end')"));
    end
}

/// Watches until everything up to `end` is confirmed.
fn watch(sql: &mut Sql, slot: &str, end: &str) -> Cost {
    let query = format!(
        "SELECT coalesce(max(active_pid), 0) || ' ' || count(*) FILTER (WHERE '{end}'::pg_lsn <= \
         confirmed_flush_lsn) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    let (mut cost, begun) = (Cost::default(), Instant::now());
    let mut streaming_since = None;
    loop {
        assert!(begun.elapsed() < DRAIN_MAX, "the backlog does not end");
        let answer = sql.value(&query);
        let (process, done) = answer.split_once(' ').expect("two numbers");
        let process: u32 = process.parse().expect("a process id");
        if process != 0 {
            streaming_since.get_or_insert_with(Instant::now);
            cost.walsender_cpu = cpu_seconds(process).unwrap_or(cost.walsender_cpu);
        }
        if done == "1" {
            let since = streaming_since.expect("it was seen streaming");
            cost.seconds = since.elapsed().as_secs_f64();
            return cost;
        }
        sleep(LOOK_AGAIN);
    }
}

fn print(arguments: &Arguments, costs: &[Vec<Cost>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let rows = f64::from(arguments.rows);
    let runs = arguments.runs;
    writeln!(
        out,
        "\n{} rows of {} bytes in transactions of {TRANSACTION_ROWS}, {LANES} lanes, exactly once, one \
         coordinator; {runs} runs in turns, minimum / median / maximum:\n",
        arguments.rows,
        pace::ROW_BYTES
    )?;
    writeln!(
        out,
        "| Workers | rows/s | walsender CPU s/M | broker CPU s/M | CPU s/M and peak MiB of each node |"
    )?;
    writeln!(out, "|---|---|---|---|---|")?;
    for (layout, costs) in arguments.layout.iter().zip(costs) {
        let names = costs[0].nodes.keys().filter(|name| *name != COORDINATOR);
        let each = names.map(|name| {
            let cpu = spread(costs, |cost| cost.nodes[name].0 / rows * 1e6);
            let memory = spread(costs, |cost| megabytes(cost.nodes[name].1));
            format!("{name}: {}, {:.0}", shown(cpu, 2), memory[2])
        });
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            layout.about(),
            shown(spread(costs, |cost| rows / cost.seconds), 0),
            shown(spread(costs, |cost| cost.walsender_cpu / rows * 1e6), 2),
            shown(spread(costs, |cost| cost.broker_cpu / rows * 1e6), 2),
            each.collect::<Vec<_>>().join("; ")
        )?;
    }
    Ok(())
}
