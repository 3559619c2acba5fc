//! Drains a backlog that waits behind replication slots: `distributary` into Kafka, exactly once
//! and at least once, beside
//! `pg_recvlogical` to nowhere, in turns. Prints a table for BENCHMARKS.md.
//!
//! usage: just bench drain [--rows N] [--runs N] [--large]

use clap::Parser;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::procfs::{cpu_seconds, has_ended, memory_bytes_max};
use tests::reader::count;
use tests::scene::Scene;
use tests::servers::{Server, repository};
use tests::sql::{PASSWORD, ROLE, Sql};
use tests::task::Spec;
use tests::topics;

/// Drain a backlog behind replication slots.
#[derive(Parser)]
struct Arguments {
    /// Rows of the backlog, 200 bytes each.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Times that each subject drains it.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// One transaction in place of transactions of 100 rows.
    #[arg(long)]
    large: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const ROW_BYTES: usize = 200;
const TRANSACTION_ROWS: u32 = 100;
/// How often processes are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const RUN_MAX: Duration = Duration::from_secs(900);
const SUBJECTS: [Subject; 3] = [Subject::RecvLogical, Subject::ExactlyOnce, Subject::AtLeastOnce];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject {
    RecvLogical,
    ExactlyOnce,
    AtLeastOnce,
}

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// From the walsender's first sight to the end of the process.
    seconds: f64,
    /// From the start of the process.
    seconds_whole: f64,
    client_cpu: f64,
    walsender_cpu: f64,
    broker_cpu: f64,
    memory_bytes: u64,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let bench = Bench::new(&arguments);
    let mut costs = vec![Vec::new(); SUBJECTS.len()];
    for run in 0..arguments.runs {
        for (subject, costs) in SUBJECTS.into_iter().zip(&mut costs) {
            let cost = bench.drain(subject, run);
            writeln!(io::stderr(), "{} run {}: {cost:?}", subject.name(), run + 1)?;
            costs.push(cost);
        }
    }
    print(&arguments, &costs)
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::RecvLogical => "`pg_recvlogical` to nowhere",
            Self::ExactlyOnce => "`distributary`, exactly once",
            Self::AtLeastOnce => "`distributary`, at least once",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::RecvLogical => "recv",
            Self::ExactlyOnce => "once",
            Self::AtLeastOnce => "least",
        }
    }
}

/// A backlog behind one slot for each run of each subject.
struct Bench {
    scene: Scene,
    rows: u32,
    /// Where the backlog ends.
    end: String,
    binary: PathBuf,
    broker: u32,
}

impl Bench {
    fn new(arguments: &Arguments) -> Self {
        let scene = Scene::new("drain", "postgres-15");
        let binary = std::env::var_os(tests::process::VARIABLE)
            .map_or_else(|| repository().join("target/release/distributary"), PathBuf::from);
        assert!(binary.is_file(), "{} is missing: cargo build --release -p cli", binary.display());
        let mut sql = scene.sql();
        sql.run(
            "CREATE TABLE backlog (id bigint PRIMARY KEY, payload text); CREATE PUBLICATION \
         recv FOR TABLE backlog",
        );
        let mut bench = Self {
            broker: process_of(&scene.kafka),
            scene,
            rows: arguments.rows,
            end: String::new(),
            binary,
        };
        for run in 0..arguments.runs {
            for subject in SUBJECTS {
                bench.prepare(&mut sql, subject, run);
            }
        }
        let begun = Instant::now();
        fill(&mut sql, arguments);
        bench.end = sql.value("SELECT pg_current_wal_lsn()");
        // Whoever waits for the end sees a commit behind it.
        sql.run("INSERT INTO backlog VALUES (-1, 'the end')");
        let seconds = begun.elapsed().as_secs();
        tests::seed::say(&format!("backlog of {} rows written in {seconds} s", arguments.rows));
        bench
    }

    fn slot(&self, subject: Subject, run: usize) -> String {
        match subject {
            Subject::RecvLogical => format!("{}_recv_{run}", self.scene.name),
            Subject::ExactlyOnce | Subject::AtLeastOnce => {
                format!("distributary_{}", self.task(subject, run))
            }
        }
    }

    fn task(&self, subject: Subject, run: usize) -> String {
        format!("{}_{}_{run}", self.scene.name, subject.short())
    }

    fn spec(&self, subject: Subject, run: usize) -> Spec {
        let Scene { postgres, kafka, name, .. } = &self.scene;
        let spec = Spec::new(&self.task(subject, run), postgres, name, kafka)
            .topic(&format!("{name}.{{task}}.{{table}}"))
            .objects(&["{table: public.backlog}"]);
        if subject == Subject::AtLeastOnce { spec.sink("delivery: at-least-once") } else { spec }
    }

    /// A slot before the backlog, with everything that a task needs beside it.
    fn prepare(&self, sql: &mut Sql, subject: Subject, run: usize) {
        if subject == Subject::RecvLogical {
            let slot = self.slot(subject, run);
            sql.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
            return;
        }
        let ended = self.command(subject, run).output().expect("distributary can be started");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "the empty table was not carried:\n{said}");
    }

    fn command(&self, subject: Subject, run: usize) -> Command {
        if subject == Subject::RecvLogical {
            let (host, port) = self.scene.postgres.host_and_port();
            let mut command = Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical");
            command
                .args(["--host", host, "--port", &port.to_string(), "--username", ROLE])
                .args([
                    "--dbname",
                    &self.scene.name,
                    "--slot",
                    &self.slot(subject, run),
                    "--start",
                    "--no-loop",
                ])
                .args(["--file", "/dev/null", "--endpos", &self.end])
                .args(["--option", "proto_version=1", "--option", "publication_names=recv"])
                .env("PGPASSWORD", PASSWORD);
            return command;
        }
        let mut command = Command::new(&self.binary);
        let spec = self.spec(subject, run).write(self.scene.folder());
        command.args([OsStr::new("run"), spec.as_os_str(), OsStr::new("--until-caught-up")]);
        command
    }

    /// One run of one subject.
    fn drain(&self, subject: Subject, run: usize) -> Cost {
        let mut sql = Sql::superuser(&self.scene.postgres, "postgres");
        let slot = self.slot(subject, run);
        let broker_before = cpu_seconds(self.broker).expect("the broker lives");
        let log = std::fs::File::create(self.scene.folder().join("drain.log")).expect("a log");
        let begun = Instant::now();
        let child = self
            .command(subject, run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the subject can be started");
        let mut cost = watch(&mut sql, &slot, child, begun, self.scene.folder());
        cost.broker_cpu = cpu_seconds(self.broker).expect("the broker lives") - broker_before;
        sql.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
        if subject != Subject::RecvLogical {
            let topic = format!("{}.{}.backlog", self.scene.name, self.task(subject, run));
            assert_eq!(
                count(&self.scene.kafka, &topic),
                u64::from(self.rows) + 1,
                "rows in {topic}"
            );
            topics::delete(&self.scene.kafka, |name| name.contains(&self.task(subject, run)));
        }
        cost
    }
}

/// Watches a run until its process ends.
fn watch(
    sql: &mut Sql,
    slot: &str,
    mut child: Child,
    begun: Instant,
    folder: &std::path::Path,
) -> Cost {
    let query = format!(
        "SELECT coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    let mut cost = Cost::default();
    let (mut walsender, mut streaming_since) = (0, begun);
    while !has_ended(child.id()) {
        assert!(begun.elapsed() < RUN_MAX, "the run does not end");
        if walsender == 0 {
            walsender = sql.value(&query).parse().expect("a process id");
            streaming_since = Instant::now();
        }
        cost.walsender_cpu = cpu_seconds(walsender).unwrap_or(cost.walsender_cpu);
        cost.memory_bytes = memory_bytes_max(child.id()).unwrap_or(cost.memory_bytes);
        sleep(LOOK_AGAIN);
    }
    cost.seconds = streaming_since.elapsed().as_secs_f64();
    cost.seconds_whole = begun.elapsed().as_secs_f64();
    cost.client_cpu = cpu_seconds(child.id()).expect("not waited for yet");
    let status = child.wait().expect("a child can be waited for");
    let log = std::fs::read_to_string(folder.join("drain.log")).unwrap_or_default();
    assert!(status.success(), "the run ended with {status}:\n{log}");
    assert_ne!(walsender, 0, "the run was never seen streaming");
    let mut free = || sql.value(&query) == "0";
    tests::deadline::await_true("a free slot", Duration::from_secs(20), &mut free);
    cost
}

fn fill(sql: &mut Sql, arguments: &Arguments) {
    // Text that does not repeat: lz4 would make a backlog of equal rows too small.
    let payload = format!("substr(repeat(md5(n::text), {}), 1, {ROW_BYTES})", ROW_BYTES / 32 + 1);
    let last = arguments.rows;
    if arguments.large {
        sql.run(&format!(
            "INSERT INTO backlog SELECT n, {payload} FROM generate_series(1, {last}) n"
        ));
        return;
    }
    let rows = TRANSACTION_ROWS;
    sql.run(&format!(
        "DO $$ BEGIN FOR low IN 1..{last} BY {rows} LOOP \
           INSERT INTO backlog SELECT n, {payload} FROM generate_series(low, least(low + {rows} - \
           1, {last})) n; \
           COMMIT; END LOOP; END $$"
    ));
}

/// Process id of a server that `cluster/local/servers` runs.
fn process_of(server: &Server) -> u32 {
    let output = Command::new(repository().join("cluster/local/servers"))
        .args(["status", &server.name])
        .output()
        .expect("the script can be run");
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = status.split_whitespace().skip_while(|word| *word != "pid").nth(1);
    id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no process id in `{status}`"))
}

fn print(arguments: &Arguments, costs: &[Vec<Cost>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let millions = f64::from(arguments.rows) / 1e6;
    let transactions = if arguments.large {
        "one transaction".into()
    } else {
        format!("transactions of {TRANSACTION_ROWS}")
    };
    writeln!(
        out,
        "\nBacklog: {} rows of {ROW_BYTES} bytes in {transactions}; {} runs each in turns: \
         minimum / median / maximum.\n",
        arguments.rows, arguments.runs
    )?;
    writeln!(
        out,
        "| Subject | events/s | of `pg_recvlogical` | client CPU s/M | walsender CPU s/M | broker \
         CPU s/M | peak MB | start to end, s |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    let rate = |cost: &Cost| f64::from(arguments.rows) / cost.seconds;
    let reference = spread(&costs[0], rate)[1];
    for (subject, costs) in SUBJECTS.into_iter().zip(costs) {
        let row = [
            shown(spread(costs, rate), 0),
            format!("{:.2}", spread(costs, rate)[1] / reference),
            shown(spread(costs, |cost| cost.client_cpu / millions), 2),
            shown(spread(costs, |cost| cost.walsender_cpu / millions), 2),
            shown(spread(costs, |cost| cost.broker_cpu / millions), 2),
            #[expect(clippy::cast_precision_loss, reason = "megabytes")]
            shown(spread(costs, |cost| cost.memory_bytes as f64 / f64::from(1 << 20)), 0),
            shown(spread(costs, |cost| cost.seconds_whole), 1),
        ];
        writeln!(out, "| {} | {} |", subject.name(), row.join(" | "))?;
    }
    Ok(())
}

/// Minimum, median, maximum.
fn spread(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

fn shown(values: [f64; 3], digits: usize) -> String {
    values.map(|value| format!("{value:.digits$}")).join(" / ")
}
