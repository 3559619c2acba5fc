//! One task with thousands of tables that share a topic: how long it takes to start, the first time and later,
//! what it holds, and how fast rows of all tables go in comparison with as many of one table. Fails where rows
//! are lost or doubled. Prints a table for BENCHMARKS.md.
//!
//! usage: just bench tables [--tables N] [--rows N] [--server NAME] [--quick]

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::bench::{binary, megabytes, pace, print_ending, print_heading, process_of};
use tests::deadline::await_true;
use tests::procfs::{cpu_seconds, cpu_seconds_of_family, has_ended, memory_bytes_max};
use tests::reader::count;
use tests::scene::{Scene, walsender};
use tests::seed::say;
use tests::sql::Sql;
use tests::task::Spec;

/// Measure a task of many tables.
#[derive(Parser)]
struct Arguments {
    /// Tables of the task, of which each has a row when it begins.
    #[arg(long, default_value_t = 10_000)]
    tables: u32,
    /// Rows of 200 bytes of each backlog.
    #[arg(long, default_value_t = 400_000)]
    rows: u32,
    /// The database server, as `cluster/local/servers` names it.
    #[arg(long, default_value = "postgres-15")]
    server: String,
    /// A small check: 300 tables, 6,000 rows.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Each to another table.
const TRANSACTION_ROWS: u32 = 100;
/// Tables that are made in one transaction.
const MADE_AT_ONCE: u32 = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const RUN_MAX: Duration = Duration::from_secs(900);

/// How long a run lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Until {
    /// It reads from its slot.
    Streaming,
    /// All that was written before is delivered.
    CaughtUp,
}

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// From the start of the process until it reads from its slot.
    seconds_start: f64,
    /// From there to its end.
    seconds: f64,
    client_cpu: f64,
    server_cpu: f64,
    memory_bytes: u64,
}

fn main() -> io::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { tables: 300, rows: 6_000, ..arguments };
    }
    print_heading("tables")?;
    let bench = Bench::new(arguments);
    let (tables, rows) = (bench.arguments.tables, bench.arguments.rows);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\n{tables} tables to one topic, exactly once; rows of {} bytes.\n",
        pace::ROW_BYTES
    )?;
    writeln!(
        out,
        "| Run | start, s | then, s | rows/s | client CPU s | server CPU s | peak MiB |\n\
         |---|---|---|---|---|---|---|"
    )?;
    let mut print = |what: &str, rows: u32, cost: Cost| {
        let rate = if rows == 0 { 0.0 } else { f64::from(rows) / cost.seconds };
        writeln!(
            out,
            "| {what} | {:.1} | {:.1} | {rate:.0} | {:.1} | {:.1} | {:.0} |",
            cost.seconds_start,
            cost.seconds,
            cost.client_cpu,
            cost.server_cpu,
            megabytes(cost.memory_bytes)
        )
    };
    print(
        "the first, with its snapshot",
        0,
        bench.run("first", Until::Streaming, u64::from(tables)),
    )?;
    print("again, nothing to do", 0, bench.run("again", Until::Streaming, u64::from(tables)))?;
    bench.fill(tables);
    let all = u64::from(tables) + u64::from(rows);
    print("rows of all tables", rows, bench.run("all", Until::CaughtUp, all))?;
    bench.fill(1);
    print("rows of one table", rows, bench.run("one", Until::CaughtUp, all + u64::from(rows)))?;
    print_ending()
}

struct Bench {
    arguments: Arguments,
    scene: Scene,
    spec: Spec,
    binary: PathBuf,
    server: u32,
}

impl Bench {
    fn new(arguments: Arguments) -> Self {
        let scene = Scene::new("tables", &arguments.server);
        let begun = Instant::now();
        let tables = arguments.tables;
        scene.sql().run(&format!(
            "DO $$ BEGIN FOR low IN 1..{tables} BY {MADE_AT_ONCE} LOOP \
               FOR number IN low..least(low + {MADE_AT_ONCE} - 1, {tables}) LOOP \
                 EXECUTE format('CREATE TABLE shard_%s (id bigint PRIMARY KEY, payload text)', number); \
                 EXECUTE format('INSERT INTO shard_%s VALUES (0, ''first'')', number); \
               END LOOP; COMMIT; \
             END LOOP; END $$"
        ));
        say(&format!("{tables} tables made in {} s", begun.elapsed().as_secs()));
        let spec = scene.spec().topic("{task}.all");
        let server = process_of(&scene.postgres);
        Self { arguments, spec, scene, binary: binary(), server }
    }

    /// Writes a backlog to so many tables, round and round.
    fn fill(&self, tables: u32) {
        let rows = self.arguments.rows;
        let begun = Instant::now();
        // Of another row for each table, and for each backlog.
        self.scene.sql().run(&format!(
            "DO $$ DECLARE number bigint; first bigint; BEGIN \
               SELECT max(id) + 1 INTO first FROM shard_1; \
               FOR low IN 0..{rows} - 1 BY {TRANSACTION_ROWS} LOOP \
                 FOR number IN low..least(low + {TRANSACTION_ROWS}, {rows}) - 1 LOOP \
                   EXECUTE format('INSERT INTO shard_%s SELECT %s, left(string_agg(md5(random()::text), \
                     ''''), {bytes}) FROM generate_series(1, {parts})', number % {tables} + 1, first + number); \
                 END LOOP; COMMIT; \
               END LOOP; END $$",
            bytes = pace::ROW_BYTES,
            parts = pace::ROW_BYTES / 32 + 1,
        ));
        say(&format!("{rows} rows in {tables} tables written in {} s", begun.elapsed().as_secs()));
    }

    /// One run; so many records must be in the topic then.
    fn run(&self, name: &str, until: Until, records: u64) -> Cost {
        let log = self.scene.folder().join(format!("{name}.log"));
        let path = self.spec.write(self.scene.folder());
        let mut sql = Sql::superuser(&self.scene.postgres, "postgres");
        let server_before = cpu_seconds_of_family(self.server).expect("the server lives");
        let begun = Instant::now();
        let mut child = Command::new(&self.binary)
            .args([OsStr::new("run"), path.as_os_str()])
            .args((until == Until::CaughtUp).then_some("--until-caught-up"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("distributary can be started");
        let said = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let mut cost = Cost::default();
        while !has_ended(child.id()) {
            assert!(begun.elapsed() < RUN_MAX, "the run does not end:\n{}", said());
            if cost.seconds_start == 0.0 && walsender(&mut sql, &self.scene.slot()) != 0 {
                cost.seconds_start = begun.elapsed().as_secs_f64();
                if until == Until::Streaming {
                    let child = Pid::from_child(&child);
                    kill_process(child, Signal::INT).expect("a child can be signalled");
                }
            }
            cost.memory_bytes = memory_bytes_max(child.id()).unwrap_or(cost.memory_bytes);
            sleep(LOOK_AGAIN);
        }
        cost.seconds = begun.elapsed().as_secs_f64() - cost.seconds_start;
        cost.client_cpu = cpu_seconds(child.id()).expect("not waited for yet");
        let status = child.wait().expect("a child can be waited for");
        assert!(status.success(), "the run ended with {status}:\n{}", said());
        let server = cpu_seconds_of_family(self.server).expect("the server lives");
        cost.server_cpu = server - server_before;
        assert_ne!(cost.seconds_start, 0.0, "it was never seen streaming:\n{}", said());
        await_true("a free slot", RUN_MAX, || walsender(&mut sql, &self.scene.slot()) == 0);
        let arrived = count(&self.scene.kafka, &format!("{}.all", self.scene.name));
        assert_eq!(arrived, records, "records after `{name}`");
        say(&format!("{name}: {cost:?}"));
        cost
    }
}
