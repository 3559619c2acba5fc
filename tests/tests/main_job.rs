//! The main job: a database under a random workload arrives in Kafka whole, over snapshot and
//! stream, whatever is killed.
//!
//! The short form has fixed seeds; the long one (`DISTRIBUTARY_FULL=1`) fresh ones, more
//! transactions and more kills.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tests::checker::Promises;
use tests::probe::Probe;
use tests::process::Distributary;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{each, full, say, seed};
use tests::sql::Sql;
use tests::task::Spec;
use tests::workload::{self, LARGE_ROWS, Pace, Workload};

/// How much a test does.
#[derive(Clone, Copy)]
struct Amount {
    /// Transactions before and after the large one, at least.
    transactions: u64,
    kills: u32,
}

impl Amount {
    fn of(short: Self, full_kills: u32) -> Self {
        if full() { Self { transactions: 3000, kills: full_kills } } else { short }
    }
}

/// Kills of each version in the long form.
const KILLS_FULL: u32 = 20;
/// Between two kills: sometimes within the snapshot, sometimes far into the stream.
const ALIVE: std::ops::Range<u64> = 150..3500;

fn arrives_whole(label: &str, server: &str, short_seed: u64, amount: Amount) {
    let seed = seed(label, short_seed);
    let scene = Scene::new(label, server);
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let mut probe = Probe::new(&scene);
    let workload = Workload::start(&scene, seed, Pace::default());
    let spec = scene.spec();
    let mut run = scene.run(&spec, &[]);
    run = kill_at_random(&scene, &spec, run, seed, amount.kills, &mut probe);
    // The snapshot comes to its end under the workload, truncates and all.
    scene.await_streaming(&mut run);
    workload.await_committed(amount.transactions);
    workload::large_transaction(&mut sql);
    workload.await_committed(amount.transactions);
    workload.stop();
    let log = run.interrupt(CATCH_UP_MAX);
    // Every type that the workload's tables have comes in binary form where the server can send it.
    let wire = if server == "postgres-11" { "wire=\"text\"" } else { "wire=\"binary\"" };
    let log = &log.expect(0).stderr;
    assert!(log.contains(wire) && !log.contains("begins again with text"), "{wire}: {log}");
    scene.catch_up(&spec);
    let report = scene.check(Promises::default());
    say(&format!(
        "{label}: {} records, {} rows, {} snapshots",
        report.records, report.rows, report.snapshots
    ));
    assert!(LARGE_ROWS as usize / 2 < report.rows);
    assert_topics(&scene, &mut sql);
}

fn kill_at_random(
    scene: &Scene,
    spec: &Spec,
    mut run: Distributary,
    seed: u64,
    kills: u32,
    probe: &mut Probe<'_>,
) -> Distributary {
    let mut rng = SmallRng::seed_from_u64(seed);
    for kill in 0..kills {
        if kill == kills / 2 {
            // Not all of them may hit the snapshot.
            scene.await_streaming(&mut run);
        }
        sleep(Duration::from_millis(rng.random_range(ALIVE)));
        run.kill();
        // In the long form each row is waited for, so that the next kill meets a task that is over this one.
        let killed = Instant::now();
        run = scene.run(spec, &[]);
        if full() && kills / 2 <= kill {
            probe.mark();
            probe.await_seen("kill -9 while it streams, and a new process", killed);
        }
    }
    run
}

/// Every table has its topic, by the documented name, and nothing else has.
fn assert_topics(scene: &Scene, sql: &mut Sql) {
    let topics = scene.topics();
    let named = |table: &str| format!("{}.shop.{table}", scene.name);
    let street = format!(
        "{}.Gr_x00F6__x00DF_e_x0020__x0026__x0020_Co.Stra_x00DF_e_x0020__x0022_x_x0022_.y",
        scene.name
    );
    let tables =
        ["orders", "lines", "events", "stock", "documents", "bulk", "regions", "readings", "kinds"];
    let missing: Vec<_> = tables
        .into_iter()
        .map(named)
        .chain([street])
        .filter(|topic| !topics.partitions.contains_key(topic))
        .collect();
    assert!(missing.is_empty(), "{missing:?} not among {:?}", topics.partitions);
    let partitions =
        sql.rows("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'");
    for leaf in partitions.into_iter().flatten().flatten() {
        assert!(!topics.partitions.contains_key(&named(&leaf)), "{leaf} has a topic of its own");
    }
}

#[test]
fn everything_arrives_from_15() {
    let short = Amount { transactions: 500, kills: 0 };
    arrives_whole("whole_15", "postgres-15", 15, Amount::of(short, 0));
}

#[test]
fn everything_arrives_from_11() {
    let short = Amount { transactions: 100, kills: 0 };
    arrives_whole("whole_11", "postgres-11", 11, Amount::of(short, 0));
}

#[test]
fn everything_arrives_from_18() {
    let short = Amount { transactions: 100, kills: 0 };
    arrives_whole("whole_18", "postgres-18", 18, Amount::of(short, 0));
}

#[test]
fn killed_again_and_again_nothing_is_lost_or_doubled() {
    let amount = Amount::of(Amount { transactions: 200, kills: 5 }, KILLS_FULL);
    for server in each(&["postgres-15"], &["postgres-11", "postgres-15", "postgres-18"]) {
        arrives_whole("killed", server, 515, amount);
    }
}
