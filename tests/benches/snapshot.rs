//! The first copy of tables: in chunks beside the stream, and in one snapshot before it, next to the
//! same number of connections that do nothing but `COPY … TO STDOUT`, in turns. Then the WAL that the slot
//! keeps while a copy is slowed down and others write. Prints tables for BENCHMARKS.md.
//!
//! usage: just bench snapshot [--rows N] [--tables N] [--runs N] [--seconds N] [--chunk-rows N]... [--quick]

use clap::Parser;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::bench::pace::{self, Pace, Paced};
use tests::bench::{
    binary, megabytes, postgres_program, print_ending, print_heading, process_of, shown, spread,
};
use tests::procfs::{cpu_seconds, cpu_seconds_of_family, has_ended, memory_bytes_max};
use tests::reader::count;
use tests::scene::Scene;
use tests::seed::say;
use tests::sql::{ROLE, Sql};
use tests::task::Spec;
use tests::topics;

/// Measure the first copy of tables.
#[derive(Parser)]
struct Arguments {
    /// Rows of all tables together, of 200 bytes.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u32,
    /// How many tables there are.
    #[arg(long, default_value_t = 4)]
    tables: u32,
    /// Rounds: times that each subject copies all of them.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// `snapshot.chunk_rows` of the copy in chunks.
    #[arg(long, default_value_t = 8192)]
    chunk_rows: u32,
    /// Least seconds of the copies whose WAL is looked at: they are slowed down.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// A small check: one round of 40,000 rows, 5 seconds.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Connections that read.
const CONNECTIONS: u32 = 4;
/// Beside the copies whose WAL is looked at: some 500 KB/s.
const WRITES: Pace = Pace { rate: 100, connections: 2, rows: 20 };
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LOOK_AGAIN_WAL: Duration = Duration::from_millis(100);
const RUN_MAX: Duration = Duration::from_secs(900);
/// What a copy is divided into where its WAL is shown.
const PARTS: usize = 4;
const SUBJECTS: [Subject; 3] = [Subject::Bare, Subject::Chunks, Subject::Before];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject {
    Bare,
    Chunks,
    Before,
}

/// What one copy took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// From the begin of reading until all rows are durable.
    seconds: f64,
    /// From the start of the process to its end.
    seconds_whole: f64,
    client_cpu: f64,
    server_cpu: f64,
    broker_cpu: f64,
    memory_bytes: u64,
}

/// WAL at one moment of a copy, in bytes.
#[derive(Clone, Copy, Debug)]
struct Wal {
    /// Since the copy began.
    written: u64,
    /// Not confirmed.
    unconfirmed: u64,
    /// Kept on disk for the slot.
    kept: u64,
}

fn main() -> io::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { rows: 40_000, runs: 1, seconds: 5, ..arguments };
    }
    assert!(0 < arguments.runs, "--runs takes 1 or more");
    print_heading("snapshot")?;
    let bench = Bench::new(arguments);
    let mut costs = vec![Vec::new(); SUBJECTS.len()];
    for run in 0..bench.arguments.runs {
        for (subject, costs) in SUBJECTS.into_iter().zip(&mut costs) {
            let cost = bench.copy(subject, run);
            say(&format!("{subject:?} run {}: {cost:?}", run + 1));
            costs.push(cost);
        }
    }
    bench.print(&costs)?;
    for subject in [Subject::Chunks, Subject::Before] {
        bench.print_wal(subject, &bench.wal(subject))?;
    }
    print_ending()
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare `COPY`, to nowhere",
            Self::Chunks => "chunks beside the stream",
            Self::Before => "one snapshot before the stream",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Chunks => "chunks",
            Self::Before => "before",
        }
    }

    /// What the log says when reading begins, and when all is durable.
    fn marks(self) -> [&'static str; 2] {
        match self {
            Self::Bare => ["", ""],
            Self::Chunks => ["copying beside the stream", "everything is copied"],
            Self::Before => ["snapshot begins", "snapshot is durable"],
        }
    }
}

struct Bench {
    arguments: Arguments,
    scene: Scene,
    tables: Vec<String>,
    /// Rows of all tables, and their bytes in the text format of COPY.
    rows: u32,
    bytes: u64,
    binary: PathBuf,
    server: u32,
    broker: u32,
}

impl Bench {
    fn new(arguments: Arguments) -> Self {
        let scene = Scene::new("snapshot", "postgres-15");
        let mut sql = scene.sql();
        pace::create(&mut sql);
        let count = arguments.tables.max(1);
        let each = arguments.rows / count;
        let tables: Vec<String> = (1..=count).map(|number| format!("shelf_{number}")).collect();
        for table in &tables {
            sql.run(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, payload text)"));
            sql.run(&pace::insert(table, &format!("1, {each}")));
            // Whoever reads first would set the hint bits for all.
            sql.run(&format!("VACUUM (FREEZE, ANALYZE) {table}"));
        }
        let lines = "SELECT coalesce(sum(octet_length(id::text) + octet_length(payload) + 2), 0)";
        let bytes = tables.iter().map(|table| sql.value(&format!("{lines} FROM {table}")));
        let bytes = bytes.map(|it| it.parse::<u64>().expect("a number")).sum();
        scene.superuser().run("CHECKPOINT");
        let (server, broker) = (process_of(&scene.postgres), process_of(&scene.kafka));
        let rows = each * count;
        Self { arguments, scene, tables, rows, bytes, binary: binary(), server, broker }
    }

    fn task(&self, subject: Subject, run: usize) -> String {
        format!("{}_{}_{run}", self.scene.name, subject.short())
    }

    fn spec(&self, task: &str, subject: Subject) -> Spec {
        let Scene { postgres, kafka, name, .. } = &self.scene;
        let how = if subject == Subject::Chunks { "always" } else { "never" };
        Spec::new(task, postgres, name, kafka).topic("{task}.{table}").line(&format!(
            "snapshot: {{parallel: {CONNECTIONS}, beside_stream: {how}, chunk_rows: {}}}",
            self.arguments.chunk_rows
        ))
    }

    fn copy(&self, subject: Subject, run: usize) -> Cost {
        let before = [self.server, self.broker].map(family);
        let mut cost = match subject {
            Subject::Bare => self.bare(),
            Subject::Chunks | Subject::Before => self.task_run(subject, run),
        };
        [cost.server_cpu, cost.broker_cpu] = [self.server, self.broker].map(family);
        cost.server_cpu -= before[0];
        cost.broker_cpu -= before[1];
        if subject != Subject::Bare {
            self.end(&self.task(subject, run), u64::from(self.rows));
        }
        cost
    }

    /// One connection for each table.
    fn bare(&self) -> Cost {
        let (host, port) = self.scene.postgres.host_and_port();
        let begun = Instant::now();
        let copy = |table: &String| {
            postgres_program("psql")
                .args(["-X", "-q", "-h", host, "-p", &port.to_string(), "-U", ROLE])
                .args(["-d", &self.scene.name, "-c", &format!("COPY {table} TO STDOUT")])
                .stdout(Stdio::null())
                .spawn()
                .expect("psql can be started")
        };
        let mut children: Vec<Child> = self.tables.iter().map(copy).collect();
        while !children.iter().all(|child| has_ended(child.id())) {
            assert!(begun.elapsed() < RUN_MAX, "the copy does not end");
            sleep(LOOK_AGAIN);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = children.iter().filter_map(|child| cpu_seconds(child.id())).sum();
        for child in &mut children {
            assert!(child.wait().expect("a child can be waited for").success(), "psql failed");
        }
        Cost { seconds, seconds_whole: seconds, client_cpu: cpu, ..Cost::default() }
    }

    fn start(&self, spec: &Spec, options: &[&str]) -> Child {
        let path = spec.write(self.scene.folder());
        Command::new(&self.binary)
            .args([OsStr::new("run"), path.as_os_str()])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.log_path(spec.task())).expect("a log"))
            .spawn()
            .expect("distributary can be started")
    }

    fn log_path(&self, task: &str) -> PathBuf {
        self.scene.folder().join(format!("{task}.log"))
    }

    fn log(&self, task: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path(task)).unwrap_or_default()).into_owned()
    }

    fn task_run(&self, subject: Subject, run: usize) -> Cost {
        let spec = self.spec(&self.task(subject, run), subject);
        let begun = Instant::now();
        let mut child = self.start(&spec, &["--until-caught-up"]);
        let [first, last] = subject.marks();
        let (mut cost, mut seen) = (Cost::default(), [None; 2]);
        while !has_ended(child.id()) {
            assert!(begun.elapsed() < RUN_MAX, "the copy does not end:\n{}", self.log(spec.task()));
            cost.memory_bytes = memory_bytes_max(child.id()).unwrap_or(cost.memory_bytes);
            let log = self.log(spec.task());
            for (mark, seen) in [first, last].into_iter().zip(&mut seen) {
                if seen.is_none() && log.contains(mark) {
                    *seen = Some(Instant::now());
                }
            }
            sleep(LOOK_AGAIN);
        }
        cost.seconds_whole = begun.elapsed().as_secs_f64();
        cost.client_cpu = cpu_seconds(child.id()).expect("not waited for yet");
        let status = child.wait().expect("a child can be waited for");
        let log = self.log(spec.task());
        assert!(status.success(), "the run ended with {status}:\n{log}");
        let [Some(first), Some(last)] = seen else { panic!("no copy was seen:\n{log}") };
        cost.seconds = (last - first).as_secs_f64();
        cost
    }

    /// What the slot keeps while a copy that is slowed down goes on and others write.
    fn wal(&self, subject: Subject) -> Vec<Wal> {
        let task = self.task(subject, self.arguments.runs);
        let rows = (self.rows / self.arguments.seconds).max(1);
        let throttle = format!("throttle: {{snapshot: {{rows: {rows}}}}}");
        let spec = self.spec(&task, subject).line(&throttle);
        let mut sql = self.scene.superuser();
        // Each copy begins with the same tables.
        sql.run(&format!("TRUNCATE {}", pace::TABLE));
        let writes = Paced::start(&self.scene, WRITES);
        let mut child = self.start(&spec, &[]);
        let begun = Instant::now();
        let [first, last] = subject.marks();
        let mut samples = Vec::new();
        let mut start = None;
        loop {
            let log = self.log(&task);
            assert!(!has_ended(child.id()) && begun.elapsed() < RUN_MAX, "no end:\n{log}");
            if log.contains(last) {
                break;
            }
            if log.contains(first) {
                let start = start.get_or_insert_with(|| sql.value("SELECT pg_current_wal_lsn()"));
                samples.extend(sample(&mut sql, &task, start));
            }
            sleep(LOOK_AGAIN_WAL);
        }
        let log = self.log(&task);
        child.kill().and_then(|()| child.wait()).expect("a child can be ended");
        drop(writes.stop());
        assert!(PARTS <= samples.len(), "too short a copy:\n{log}");
        self.end(&task, 0);
        samples
    }

    /// Removes what a task has left; at least so many rows must have arrived in the copied tables.
    fn end(&self, task: &str, least: u64) {
        let arrived: u64 = if least == 0 {
            0
        } else {
            let topics = self.tables.iter().map(|table| format!("{task}.{table}"));
            topics.map(|topic| count(&self.scene.kafka, &topic)).sum()
        };
        assert_eq!(arrived, least, "records of {task}");
        let mut sql = self.scene.superuser();
        let slot = format!("distributary_{task}");
        let free = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
        );
        tests::deadline::await_true("a free slot", Duration::from_secs(60), || {
            sql.value(&free) == "1"
        });
        sql.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
        sql.run(&format!("DROP PUBLICATION {slot}"));
        topics::delete(&self.scene.kafka, |name| name.contains(task));
    }

    fn print(&self, costs: &[Vec<Cost>]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let (rows, bytes) = (f64::from(self.rows), megabytes(self.bytes));
        let values = |cost: &Cost| {
            [
                rows / cost.seconds,
                bytes / cost.seconds,
                cost.client_cpu / rows * 1e6,
                cost.server_cpu / rows * 1e6,
                cost.broker_cpu / rows * 1e6,
                megabytes(cost.memory_bytes),
                cost.seconds_whole,
            ]
        };
        writeln!(
            out,
            "\n{} rows of {} bytes ({bytes:.0} MiB) in {} tables, {CONNECTIONS} connections, chunks of {} rows; \
             {} rounds in turns, minimum / median / maximum:\n",
            self.rows,
            pace::ROW_BYTES,
            self.tables.len(),
            self.arguments.chunk_rows,
            costs[0].len()
        )?;
        let columns = "rows/s | of bare `COPY` | MiB/s | client CPU s/M | server CPU s/M | \
                       broker CPU s/M | peak MiB | start to end, s";
        writeln!(out, "| Subject | {columns} |\n|---|---|---|---|---|---|---|---|---|")?;
        let bare = spread(&costs[0], |cost| values(cost)[0])[1];
        for (subject, costs) in SUBJECTS.into_iter().zip(costs) {
            let all: [[f64; 3]; 7] =
                std::array::from_fn(|column| spread(costs, |cost| values(cost)[column]));
            let [rate, megabytes, client, server, broker, memory, whole] = all;
            let memory = if subject == Subject::Bare { String::new() } else { shown(memory, 0) };
            let row = [
                shown(rate, 0),
                format!("{:.2}", rate[1] / bare),
                shown(megabytes, 1),
                shown(client, 2),
                shown(server, 2),
                shown(broker, 2),
                memory,
                shown(whole, 1),
            ];
            writeln!(out, "| {} | {} |", subject.name(), row.join(" | "))?;
        }
        Ok(())
    }

    fn print_wal(&self, subject: Subject, samples: &[Wal]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "\n{}, slowed down to {} s or more, {} rows/s written beside it; MiB of WAL, most in each part:\n",
            subject.name(),
            self.arguments.seconds,
            WRITES.rate * WRITES.rows
        )?;
        writeln!(out, "| Part | written | not confirmed | kept for the slot |\n|---|---|---|---|")?;
        for (number, part) in samples.chunks(samples.len().div_ceil(PARTS)).enumerate() {
            let most = |of: fn(&Wal) -> u64| megabytes(part.iter().map(of).max().unwrap_or(0));
            writeln!(
                out,
                "| {} | {:.1} | {:.1} | {:.1} |",
                number + 1,
                most(|it| it.written),
                most(|it| it.unconfirmed),
                most(|it| it.kept)
            )?;
        }
        Ok(())
    }
}

fn sample(sql: &mut Sql, task: &str, start: &str) -> Option<Wal> {
    let query = format!(
        "SELECT concat_ws(' ', pg_wal_lsn_diff(now, '{start}'), \
           pg_wal_lsn_diff(now, confirmed_flush_lsn), pg_wal_lsn_diff(now, restart_lsn)) \
         FROM pg_replication_slots, pg_current_wal_lsn() now WHERE slot_name = 'distributary_{task}'"
    );
    let text = sql.value(&query);
    let mut numbers =
        text.split(' ').map(|it| it.parse::<i64>().unwrap_or(0).max(0).cast_unsigned());
    Some(Wal { written: numbers.next()?, unconfirmed: numbers.next()?, kept: numbers.next()? })
}

fn family(process: u32) -> f64 {
    cpu_seconds_of_family(process).expect("the server lives")
}
