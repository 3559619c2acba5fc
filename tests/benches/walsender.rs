//! Reads a backlog from a replication slot to nowhere: our replication connection beside
//! `pg_recvlogical`, in turns, with TLS and without. Prints a table for BENCHMARKS.md.
//!
//! usage: just bench walsender [--rows N] [--runs N] [--quick]

use clap::Parser;
use config::TlsMode;
use postgres::replication::{Replication, StreamOptions, WalStream};
use postgres::settings::Settings;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::bench::{print_ending, print_heading};
use tests::deadline::await_true;
use tests::procfs::{cpu_seconds, has_ended};
use tests::seed::{say, unique};
use tests::servers::Server;
use tests::sql::{PASSWORD, ROLE, Sql, quoted};
use tokio::runtime::{Builder, Runtime};
use tokio::time::interval;
use wal::Lsn;

/// Read a backlog to nowhere.
#[derive(Parser)]
struct Arguments {
    /// Rows of the backlog, 200 bytes each, in transactions of 100.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Times that each subject reads it.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A small check: 20,000 rows, once.
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How often another process is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const SUBJECTS: [(&str, Subject, TlsMode); 4] = [
    ("`pg_recvlogical`", Subject::RecvLogical, TlsMode::Disable),
    ("`WalStream::read`", Subject::WalStream, TlsMode::Disable),
    ("`pg_recvlogical`, TLS", Subject::RecvLogical, TlsMode::Require),
    ("`WalStream::read`, TLS", Subject::WalStream, TlsMode::Require),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject {
    RecvLogical,
    WalStream,
}

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    seconds: f64,
    client_cpu: f64,
    walsender_cpu: f64,
    /// Times that something was handed over; of our connection only.
    reads: u32,
}

/// A database with a backlog, and a slot before it for each run of each subject: a slot that was
/// read once stands behind it.
struct Bench {
    server: Server,
    name: String,
    admin: Sql,
    slots: Vec<(String, Lsn)>,
    end: Lsn,
    runtime: Runtime,
}

fn main() -> io::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments = Arguments { rows: 20_000, runs: 1, ..arguments };
    }
    print_heading("walsender")?;
    let mut bench = Bench::new(arguments.rows, arguments.runs);
    let mut costs = vec![Vec::new(); SUBJECTS.len()];
    for run in 1..=arguments.runs {
        for ((name, subject, tls), costs) in SUBJECTS.into_iter().zip(&mut costs) {
            let (slot, begin) = bench.slots.pop().expect("a slot for each");
            let cost = match subject {
                Subject::RecvLogical => bench.recv_logical(&slot, tls),
                Subject::WalStream => bench.wal_stream(&slot, begin, tls),
            };
            bench.drop_slot(&slot);
            say(&format!("{name} run {run}: {cost:?}"));
            costs.push(cost);
        }
    }
    bench.remove();
    print(&arguments, &costs)?;
    print_ending()
}

impl Bench {
    fn new(rows: u32, runs: usize) -> Self {
        let server = Server::start("postgres-15");
        let name = format!("walsender_{}", unique());
        Sql::superuser(&server, "postgres")
            .run(&format!("CREATE DATABASE {} OWNER {ROLE}", quoted(&name)));
        let mut admin = Sql::superuser(&server, &name);
        admin.run("CREATE TABLE backlog (id bigint PRIMARY KEY, payload text)");
        admin.run("CREATE PUBLICATION backlog FOR TABLE backlog");
        let position = |text: &str| text.parse().expect("a position");
        let slots = (0..runs * SUBJECTS.len()).map(|number| {
            let slot = format!("{name}_{number}");
            let create =
                format!("SELECT lsn FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')");
            let begin = position(&admin.value(&create));
            (slot, begin)
        });
        let slots = slots.collect();
        admin.run(&format!(
            "DO $$ BEGIN FOR low IN 1..{rows} BY 100 LOOP \
               INSERT INTO backlog SELECT n, substr(repeat(md5(n::text), 7), 1, 200) \
               FROM generate_series(low, least(low + 99, {rows})) n; COMMIT; END LOOP; END $$"
        ));
        let end = position(&admin.value("SELECT pg_current_wal_lsn()"));
        // Whoever waits for the end sees a commit behind it.
        admin.run("INSERT INTO backlog VALUES (-1, 'the end')");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { server, name, admin, slots, end, runtime }
    }

    /// Process id of the walsender; 0: none.
    fn walsender(&mut self, slot: &str) -> u32 {
        let query = format!(
            "SELECT coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = '{slot}'"
        );
        self.admin.value(&query).parse().expect("a process id")
    }

    fn drop_slot(&mut self, slot: &str) {
        let free = || self.walsender(slot) == 0;
        await_true("a free slot", Duration::from_secs(20), free);
        self.admin.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    }

    fn recv_logical(&mut self, slot: &str, tls: TlsMode) -> Cost {
        let (host, port) = self.server.host_and_port();
        let begun = Instant::now();
        let mut child = Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical")
            .args(["--host", host, "--port", &port.to_string(), "--username", ROLE])
            .args(["--dbname", &self.name, "--slot", slot, "--start", "--no-loop"])
            .args(["--file", "/dev/null", "--endpos", &self.end.to_string()])
            .args(["--option", "proto_version=1", "--option", "publication_names=backlog"])
            .env("PGPASSWORD", PASSWORD)
            .env("PGSSLMODE", if tls == TlsMode::Disable { "disable" } else { "require" })
            .stdin(Stdio::null())
            .spawn()
            .expect("pg_recvlogical can be started");
        let (mut cost, mut walsender) = (Cost::default(), 0);
        while !has_ended(child.id()) {
            if walsender == 0 {
                walsender = self.walsender(slot);
            }
            cost.walsender_cpu = cpu_seconds(walsender).unwrap_or(cost.walsender_cpu);
            sleep(LOOK_AGAIN);
        }
        cost.seconds = begun.elapsed().as_secs_f64();
        cost.client_cpu = cpu_seconds(child.id()).expect("not waited for yet");
        assert!(child.wait().expect("a child can be waited for").success());
        cost
    }

    fn wal_stream(&mut self, slot: &str, begin: Lsn, tls: TlsMode) -> Cost {
        let own = std::process::id();
        let settings = self.settings(tls);
        let options = StreamOptions {
            slot: slot.into(),
            from: begin,
            line: None,
            publications: vec!["backlog".into()],
            protocol: 1,
            messages: false,
            binary: false,
            streaming: false,
        };
        let (begun, cpu) = (Instant::now(), cpu_seconds(own).expect("this process lives"));
        let connect = async { Replication::connect(&settings).await?.start(&options).await };
        let mut stream = self.runtime.block_on(connect).expect("a stream");
        let walsender = self.walsender(slot);
        let reads = self.runtime.block_on(read_to(&mut stream, self.end));
        let cost = Cost {
            seconds: begun.elapsed().as_secs_f64(),
            client_cpu: cpu_seconds(own).expect("this process lives") - cpu,
            walsender_cpu: cpu_seconds(walsender).expect("the walsender lives"),
            reads,
        };
        self.runtime.block_on(stream.close()).expect("a good end");
        cost
    }

    fn settings(&self, tls: TlsMode) -> Settings {
        let mut task = config::Task { task: self.name.clone(), ..config::Task::default() };
        task.source.hosts = vec![self.server.address.clone()];
        task.source.database.clone_from(&self.name);
        task.source.user = ROLE.into();
        task.source.password = Some(serde_json::from_value(PASSWORD.into()).expect("a secret"));
        task.source.tls.mode = tls;
        Settings::new(&task, Path::new(".")).expect("settings")
    }

    fn remove(&mut self) {
        let mut sql = Sql::superuser(&self.server, "postgres");
        let drop = format!("DROP DATABASE {}", quoted(&self.name));
        self.admin = Sql::superuser(&self.server, "postgres");
        await_true("nobody in the database", Duration::from_secs(20), || {
            sql.attempt(&drop).is_ok()
        });
    }
}

/// As the reader of a task does it, without looking at what comes. How often it was woken.
async fn read_to(stream: &mut WalStream, end: Lsn) -> u32 {
    let mut due = interval(stream.status_interval());
    let mut reads = 0;
    loop {
        tokio::select! {
            biased;
            _ = due.tick() => {
                stream.report(Lsn::ZERO, Lsn::ZERO, false).await.expect("the connection lives");
            }
            received = stream.read() => {
                reads += 1;
                if end <= received.expect("the stream goes on").server_end {
                    return reads;
                }
            }
        }
    }
}

fn print(arguments: &Arguments, costs: &[Vec<Cost>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let millions = f64::from(arguments.rows) / 1e6;
    writeln!(
        out,
        "\nBacklog: {} rows of 200 bytes in transactions of 100; {} runs each in turns: minimum / \
         median / maximum.\n",
        arguments.rows, arguments.runs
    )?;
    writeln!(out, "| Subject | events/s | client CPU s/M | walsender CPU s/M | rows a read |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    let rows = f64::from(arguments.rows);
    for ((name, subject, _), costs) in SUBJECTS.into_iter().zip(costs) {
        let reads = match subject {
            Subject::RecvLogical => String::new(),
            Subject::WalStream => shown(costs, 0, |cost| rows / f64::from(cost.reads.max(1))),
        };
        writeln!(
            out,
            "| {name} | {} | {} | {} | {reads} |",
            shown(costs, 0, |cost| rows / cost.seconds),
            shown(costs, 2, |cost| cost.client_cpu / millions),
            shown(costs, 2, |cost| cost.walsender_cpu / millions),
        )?;
    }
    Ok(())
}

/// Minimum, median and maximum.
fn shown(costs: &[Cost], digits: usize, value: impl Fn(&Cost) -> f64) -> String {
    let mut values: Vec<f64> = costs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    let last = values.len().saturating_sub(1);
    format!("{:.digits$} / {:.digits$} / {:.digits$}", at(0), at(values.len() / 2), at(last))
}
