//! Drains backlogs that wait behind replication slots, each subject in its turn, and prints tables for BENCHMARKS.md.

mod subject;
mod watch;

use clap::{Parser, ValueEnum};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use subject::{STREAMS, SUBJECTS, Subject, WIRES, WITH_DEBEZIUM};
use tests::bench::{
    binary, megabytes, pace, postgres_program, print_ending, print_heading, process_of, shown,
    spread,
};
use tests::java::Connect;
use tests::procfs::{cpu_seconds, memory_bytes_max};
use tests::reader::count;
use tests::scene::Scene;
use tests::sql::{PASSWORD, ROLE, Sql};
use tests::task::Spec;
use tests::topics;
use watch::{Cost, reader_of, watch};

/// Drain backlogs behind replication slots.
#[derive(Parser)]
struct Arguments {
    /// What the backlog is; can be repeated. Without it all of them.
    #[arg(long, value_enum)]
    backlog: Vec<Backlog>,
    /// Row events of each backlog.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Rounds: times that each subject drains each backlog.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Scale of pgbench's tables: 100,000 accounts each.
    #[arg(long, default_value_t = 10)]
    scale: u32,
    /// Compares values as text and in binary form, in place of the two deliveries.
    #[arg(long)]
    wire: bool,
    /// Compares one, two and four streams (`source.streams`), in place of the two deliveries.
    #[arg(long, conflicts_with = "wire")]
    streams: bool,
    /// Heap of Kafka Connect, where it is a subject.
    #[arg(long, default_value = "1g")]
    heap: String,
    /// A small check: one round of 20,000 events, scale 1.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Backlog {
    /// Inserts of 200 bytes in transactions of 100.
    Rows,
    /// pgbench's own workload, from four connections.
    Pgbench,
    /// Inserts of 200 bytes in one transaction.
    Large,
    /// As rows, each transaction into the next one of 16 tables.
    Tables,
}

const TRANSACTION_ROWS: u32 = 100;
const PGBENCH_CONNECTIONS: u32 = 4;
/// Three updates and an insert.
const PGBENCH_EVENTS: u32 = 4;
const TABLES: [&str; 16] = [
    "backlog_0",
    "backlog_1",
    "backlog_2",
    "backlog_3",
    "backlog_4",
    "backlog_5",
    "backlog_6",
    "backlog_7",
    "backlog_8",
    "backlog_9",
    "backlog_10",
    "backlog_11",
    "backlog_12",
    "backlog_13",
    "backlog_14",
    "backlog_15",
];
const PGBENCH_TABLES: [&str; 4] =
    ["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"];
/// How often processes are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const RUN_MAX: Duration = Duration::from_secs(900);
/// Prints the figures of a benchmark of this name; whether Debezium's connector takes part.
pub(crate) fn drain(name: &str, with_debezium: bool) -> io::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { rows: 20_000, runs: 1, scale: 1, ..arguments };
    }
    if arguments.backlog.is_empty() {
        arguments.backlog = Backlog::value_variants().to_vec();
    }
    assert!(0 < arguments.runs, "--runs takes 1 or more");
    print_heading(name)?;
    let subjects = match &arguments {
        _ if with_debezium => WITH_DEBEZIUM,
        Arguments { wire: true, .. } => WIRES,
        Arguments { streams: true, .. } => STREAMS,
        Arguments { .. } => SUBJECTS,
    };
    for &backlog in &arguments.backlog {
        let bench = Bench::new(backlog, subjects, &arguments);
        let mut costs = vec![Vec::new(); bench.subjects.len()];
        for run in 0..arguments.runs {
            for (&subject, costs) in bench.subjects.iter().zip(&mut costs) {
                let cost = bench.drain(subject, run);
                tests::seed::say(&format!("{} run {}: {cost:?}", subject.name(), run + 1));
                costs.push(cost);
            }
        }
        bench.print(&costs)?;
    }
    print_ending()
}

/// A backlog behind one slot for each run of each subject.
struct Bench {
    backlog: Backlog,
    subjects: &'static [Subject],
    scene: Scene,
    /// Events without the one that ends the backlog.
    events: u32,
    scale: u32,
    heap: String,
    /// Where the backlog ends.
    end: String,
    binary: PathBuf,
    broker: u32,
}

impl Bench {
    fn new(backlog: Backlog, subjects: &'static [Subject], arguments: &Arguments) -> Self {
        let scene = Scene::new("drain", "postgres-15");
        let step = match backlog {
            Backlog::Pgbench => PGBENCH_EVENTS * PGBENCH_CONNECTIONS,
            Backlog::Rows | Backlog::Large | Backlog::Tables => 1,
        };
        let mut bench = Self {
            backlog,
            subjects,
            heap: format!("-Xmx{}", arguments.heap),
            broker: process_of(&scene.kafka),
            scene,
            events: arguments.rows / step * step,
            scale: arguments.scale,
            end: String::new(),
            binary: binary(),
        };
        let mut sql = bench.scene.sql();
        bench.create(&mut sql);
        for run in 0..arguments.runs {
            for &subject in bench.subjects {
                bench.prepare(&mut sql, subject, run);
            }
        }
        let begun = Instant::now();
        bench.fill(&mut sql);
        bench.end = sql.value("SELECT pg_current_wal_lsn()");
        // Whoever waits for the end sees a commit behind it.
        sql.run(match backlog {
            Backlog::Pgbench => "INSERT INTO pgbench_history (filler) VALUES ('the end')",
            Backlog::Rows | Backlog::Large => "INSERT INTO backlog VALUES (-1, 'the end')",
            Backlog::Tables => "INSERT INTO backlog_0 VALUES (-1, 'the end')",
        });
        let seconds = begun.elapsed().as_secs();
        tests::seed::say(&format!("{} written in {seconds} s", bench.about()));
        bench
    }

    fn create(&self, sql: &mut Sql) {
        if self.backlog == Backlog::Pgbench {
            self.pgbench(&["-i", "-q", "-s", &self.scale.to_string()]);
        } else {
            for table in self.tables() {
                sql.run(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, payload text)"));
            }
        }
        sql.run(&format!("CREATE PUBLICATION recv FOR TABLE {}", self.tables().join(", ")));
    }

    fn fill(&self, sql: &mut Sql) {
        let last = self.events;
        match self.backlog {
            Backlog::Pgbench => {
                let connections = PGBENCH_CONNECTIONS.to_string();
                let each = (last / PGBENCH_EVENTS / PGBENCH_CONNECTIONS).to_string();
                self.pgbench(&["-n", "-c", &connections, "-j", "2", "-t", &each]);
            }
            Backlog::Rows => {
                let rows = TRANSACTION_ROWS;
                let insert =
                    pace::insert("backlog", &format!("low, least(low + {rows} - 1, {last})"));
                sql.run(&format!(
                    "DO $$ BEGIN FOR low IN 1..{last} BY {rows} LOOP {insert}; COMMIT; END LOOP; \
                     END $$"
                ));
            }
            Backlog::Large => sql.run(&pace::insert("backlog", &format!("1, {last}"))),
            Backlog::Tables => {
                for (table, low) in
                    TABLES.iter().cycle().zip((1..=last).step_by(TRANSACTION_ROWS as usize))
                {
                    let high = last.min(low + TRANSACTION_ROWS - 1);
                    sql.run(&pace::insert(table, &format!("{low}, {high}")));
                }
            }
        }
    }

    fn pgbench(&self, arguments: &[&str]) {
        let (host, port) = self.scene.postgres.host_and_port();
        let output = postgres_program("pgbench")
            .args(["-h", host, "-p", &port.to_string(), "-U", ROLE])
            .args(arguments)
            .arg(&self.scene.name)
            .output()
            .expect("pgbench can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pgbench failed:\n{said}");
    }

    fn tables(&self) -> &'static [&'static str] {
        match self.backlog {
            Backlog::Pgbench => &PGBENCH_TABLES,
            Backlog::Rows | Backlog::Large => &["backlog"],
            Backlog::Tables => &TABLES,
        }
    }

    /// What is in the backlog.
    fn about(&self) -> String {
        let (events, bytes) = (self.events, pace::ROW_BYTES);
        match self.backlog {
            Backlog::Rows => {
                format!("{events} rows of {bytes} bytes in transactions of {TRANSACTION_ROWS}")
            }
            Backlog::Large => format!("{events} rows of {bytes} bytes in one transaction"),
            Backlog::Tables => format!(
                "{events} rows of {bytes} bytes in transactions of {TRANSACTION_ROWS}, each into the next of {} tables",
                TABLES.len()
            ),
            Backlog::Pgbench => format!(
                "{events} events of {} transactions of pgbench (TPC-B-like, scale {}, \
                 {PGBENCH_CONNECTIONS} connections, REPLICA IDENTITY FULL)",
                events / PGBENCH_EVENTS,
                self.scale
            ),
        }
    }

    fn slot(&self, subject: Subject, run: usize) -> String {
        if subject.is_bare() {
            return format!("{}_{}_{run}", self.scene.name, subject.short());
        }
        format!("distributary_{}", self.task(subject, run))
    }

    /// One for each stream.
    fn slots(&self, subject: Subject, run: usize) -> Vec<String> {
        let others = 2..=subject.streams();
        let others = others.map(|it| format!("distributary_{it}_{}", self.task(subject, run)));
        std::iter::once(self.slot(subject, run)).chain(others).collect()
    }

    fn task(&self, subject: Subject, run: usize) -> String {
        format!("{}_{}_{run}", self.scene.name, subject.short())
    }

    fn spec(&self, subject: Subject, run: usize) -> Spec {
        let Scene { postgres, kafka, name, .. } = &self.scene;
        let objects = self.tables().iter().map(|table| format!("{{table: public.{table}}}"));
        let objects: Vec<String> = objects.collect();
        let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
        // pgbench's tables have rows before the slot; they are not what is measured.
        let spec = Spec::new(&self.task(subject, run), postgres, name, kafka)
            .topic(&format!("{name}.{{task}}.{{schema}}.{{table}}"))
            .line("sync: {snapshot: false}")
            .objects(&objects);
        match subject {
            Subject::AtLeastOnce => spec.sink("delivery: at-least-once"),
            Subject::OnceText => spec.source("wire: text"),
            Subject::TwoStreams | Subject::FourStreams => {
                // The role may not create event triggers.
                spec.source("ddl: off").source(&format!("streams: {}", subject.streams()))
            }
            Subject::RecvLogical
            | Subject::RecvBinary
            | Subject::ExactlyOnce
            | Subject::Debezium => spec,
        }
    }

    /// A slot before the backlog, with everything that a task needs beside it.
    fn prepare(&self, sql: &mut Sql, subject: Subject, run: usize) {
        if subject.is_bare() {
            let slot = self.slot(subject, run);
            sql.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
            return;
        }
        let ended = self.command(subject, run).output().expect("distributary can be started");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "the task did not begin:\n{said}");
    }

    fn command(&self, subject: Subject, run: usize) -> Command {
        if subject.is_bare() {
            let (host, port) = self.scene.postgres.host_and_port();
            let mut command = postgres_program("pg_recvlogical");
            command
                .args(["--host", host, "--port", &port.to_string(), "--username", ROLE])
                .args(["--dbname", &self.scene.name, "--slot", &self.slot(subject, run)])
                .args(["--start", "--no-loop", "--file", "/dev/null", "--endpos", &self.end])
                .args(["--option", "proto_version=1", "--option", "publication_names=recv"]);
            if subject == Subject::RecvBinary {
                command.args(["--option", "binary=true"]);
            }
            return command;
        }
        let mut command = Command::new(&self.binary);
        let spec = self.spec(subject, run).write(self.scene.folder());
        command.args([OsStr::new("run"), spec.as_os_str(), OsStr::new("--until-caught-up")]);
        command
    }

    /// The settings of Debezium's connector: its own defaults, from the slot on.
    fn connector(&self, run: usize) -> String {
        let (host, port) = self.scene.postgres.host_and_port();
        let tables = self.tables().iter().map(|table| format!("public.{table}"));
        format!(
            "connector.class=io.debezium.connector.postgresql.PostgresConnector\n\
             database.hostname={host}\ndatabase.port={port}\ndatabase.user={ROLE}\n\
             database.password={PASSWORD}\ndatabase.dbname={}\ntopic.prefix={}\n\
             plugin.name=pgoutput\nslot.name={}\nslot.drop.on.stop=false\n\
             publication.name=recv\npublication.autocreate.mode=disabled\n\
             table.include.list={}\nsnapshot.mode=no_data\n\
             key.converter=org.apache.kafka.connect.json.JsonConverter\n\
             key.converter.schemas.enable=false\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\n\
             value.converter.schemas.enable=false\n\
             topic.creation.default.replication.factor=1\ntopic.creation.default.partitions=1\n",
            self.scene.name,
            self.task(Subject::Debezium, run),
            self.slot(Subject::Debezium, run),
            tables.collect::<Vec<_>>().join(","),
        )
    }

    /// One run of Kafka Connect. It does not end by itself: it has come to the end once every record is in Kafka.
    fn drain_by_connect(&self, run: usize) -> Cost {
        let (subject, folder) = (Subject::Debezium, tempfile::tempdir().expect("a folder"));
        let (slot, prefix) = (self.slot(subject, run), self.task(subject, run));
        let mut sql = Sql::superuser(&self.scene.postgres, "postgres");
        let broker_before = cpu_seconds(self.broker).expect("the broker lives");
        let begun = Instant::now();
        let connectors = [("theirs", self.connector(run))];
        let mut connect =
            Connect::start_with(&[&self.heap], folder.path(), &self.scene.kafka, &connectors);
        let mut walsender = 0;
        connect.await_true("Debezium's stream", RUN_MAX, || {
            walsender = reader_of(&mut sql, &slot);
            walsender != 0
        });
        let (streaming_since, process) = (Instant::now(), connect.id());
        // Starting Java and finding plugins is no work on the backlog.
        let before = cpu_seconds(process).expect("it lives");
        let mut cost = Cost::default();
        connect.await_true("the end of the backlog", RUN_MAX, || {
            cost.walsender_cpu = cpu_seconds(walsender).unwrap_or(cost.walsender_cpu);
            cost.memory_bytes = memory_bytes_max(process).unwrap_or(cost.memory_bytes);
            let topics = self.tables().iter().map(|table| format!("{prefix}.public.{table}"));
            let there = topics::list(&self.scene.kafka, |it| it.starts_with(&prefix));
            let arrived: u64 = topics
                .filter(|topic| there.contains_key(topic))
                .map(|topic| count(&self.scene.kafka, &topic))
                .sum();
            arrived == u64::from(self.events) + 1
        });
        cost.seconds = streaming_since.elapsed().as_secs_f64();
        cost.seconds_whole = begun.elapsed().as_secs_f64();
        cost.client_cpu = cpu_seconds(process).expect("it lives") - before;
        cost.broker_cpu = cpu_seconds(self.broker).expect("the broker lives") - broker_before;
        connect.stop();
        let mut free = || reader_of(&mut sql, &slot) == 0;
        tests::deadline::await_true("a free slot", Duration::from_secs(20), &mut free);
        sql.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
        topics::delete(&self.scene.kafka, |name| name.starts_with(&prefix));
        cost
    }

    /// One run of one subject.
    fn drain(&self, subject: Subject, run: usize) -> Cost {
        if subject == Subject::Debezium {
            return self.drain_by_connect(run);
        }
        let mut sql = Sql::superuser(&self.scene.postgres, "postgres");
        let slots = self.slots(subject, run);
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
        let mut cost = watch(&mut sql, &slots, child, begun, self.scene.folder());
        cost.broker_cpu = cpu_seconds(self.broker).expect("the broker lives") - broker_before;
        for slot in slots {
            sql.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
        }
        if !subject.is_bare() {
            let prefix = format!("{}.{}", self.scene.name, self.task(subject, run));
            let topics = self.tables().iter().map(|table| format!("{prefix}.public.{table}"));
            let arrived: u64 = topics.map(|topic| count(&self.scene.kafka, &topic)).sum();
            assert_eq!(arrived, u64::from(self.events) + 1, "records in {prefix}");
            topics::delete(&self.scene.kafka, |name| name.contains(&self.task(subject, run)));
        }
        cost
    }

    fn print(&self, costs: &[Vec<Cost>]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let events = f64::from(self.events);
        let values = |cost: &Cost| {
            [
                events / cost.seconds,
                cost.client_cpu / events * 1e6,
                cost.walsender_cpu / events * 1e6,
                cost.broker_cpu / events * 1e6,
                megabytes(cost.memory_bytes),
                cost.seconds_whole,
            ]
        };
        let columns = "events/s | of `pg_recvlogical` | client CPU s/M | walsender CPU s/M | \
                       broker CPU s/M | peak MiB | start to end, s";
        writeln!(out, "\nBacklog: {}. Each round:\n", self.about())?;
        writeln!(out, "| Round | Subject | {columns} |\n|---|---|---|---|---|---|---|---|---|")?;
        for run in 0..costs[0].len() {
            let reference = events / costs[0][run].seconds;
            for (subject, costs) in self.subjects.iter().zip(costs) {
                let [rate, client, walsender, broker, memory, whole] = values(&costs[run]);
                writeln!(
                    out,
                    "| {} | {} | {rate:.0} | {:.2} | {client:.2} | {walsender:.2} | {broker:.2} | \
                     {memory:.0} | {whole:.1} |",
                    run + 1,
                    subject.name(),
                    rate / reference
                )?;
            }
        }
        writeln!(out, "\n{} rounds in turns, minimum / median / maximum:\n", costs[0].len())?;
        writeln!(out, "| Subject | {columns} |\n|---|---|---|---|---|---|---|---|")?;
        let reference = spread(&costs[0], |cost| values(cost)[0])[1];
        for (subject, costs) in self.subjects.iter().zip(costs) {
            let all: [[f64; 3]; 6] =
                std::array::from_fn(|column| spread(costs, |cost| values(cost)[column]));
            let [rate, client, walsender, broker, memory, whole] = all;
            let row = [
                shown(rate, 0),
                format!("{:.2}", rate[1] / reference),
                shown(client, 2),
                shown(walsender, 2),
                shown(broker, 2),
                shown(memory, 0),
                shown(whole, 1),
            ];
            writeln!(out, "| {} | {} |", subject.name(), row.join(" | "))?;
        }
        Ok(())
    }
}
