//! Tables are copied in chunks while the stream runs: under a random workload on every kind of key, killed
//! again and again, everything arrives, no state of a row after a newer one, and no row is read twice.
//!
//! The short form has fixed seeds; the long one (`DISTRIBUTARY_FULL=1`) fresh ones, more rows and more kills.

#[path = "chunked_snapshot/shaped.rs"]
mod shaped;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;
use tests::checker::Promises;
use tests::cluster::Cluster;
use tests::deadline::await_true;
use tests::event::Event;
use tests::network::Link;
use tests::reader::{Record, Topics};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{each, full, say, seed};
use tests::sql::Sql;
use tests::status::Status;
use tests::task::Spec;

const PROMISES: Promises = Promises {
    exactly_once: true,
    everything: true,
    identity_full: true,
    partitions_kept: true,
    beside_stream: true,
};

/// What is logged when the copy begins, and when it is over.
const COPYING: &str = "copying beside the stream";
const COPIED: &str = "everything is copied";

/// Between two kills.
const ALIVE: std::ops::Range<u64> = 300..1500;

/// A table and the SQL of key number `n`.
struct Kind {
    table: &'static str,
    columns: &'static str,
    key: &'static str,
    value: &'static str,
}

/// Every kind of key: order by collation, by several columns, by the operators of an extension.
const KINDS: &[Kind] = &[
    Kind { table: "k_int", columns: "k int PRIMARY KEY", key: "k", value: "$n" },
    Kind {
        table: "k_text",
        columns: "k text PRIMARY KEY",
        key: "k",
        value: "chr(65 + $n % 57) || '''\\ü' || $n",
    },
    Kind {
        table: "k_c",
        columns: "k text COLLATE \"C\" PRIMARY KEY",
        key: "k",
        value: "chr(65 + $n % 57) || $n",
    },
    Kind {
        table: "k_pair",
        columns: "a int2, b text, PRIMARY KEY (b, a)",
        key: "a, b",
        value: "$n % 7, md5(($n / 7)::text)",
    },
    Kind { table: "k_uuid", columns: "k uuid PRIMARY KEY", key: "k", value: "md5($n::text)::uuid" },
    Kind { table: "k_char", columns: "k char(12) PRIMARY KEY", key: "k", value: "'x' || $n" },
    Kind { table: "k_numeric", columns: "k numeric PRIMARY KEY", key: "k", value: "$n / 10.0" },
    Kind {
        table: "k_time",
        columns: "k timestamptz PRIMARY KEY",
        key: "k",
        value: "'2020-01-01Z'::timestamptz + $n * interval '1.000001 s'",
    },
    Kind {
        table: "k_bytea",
        columns: "k bytea PRIMARY KEY",
        key: "k",
        value: "decode(md5($n::text), 'hex')",
    },
    Kind {
        table: "k_citext",
        columns: "k citext PRIMARY KEY",
        key: "k",
        value: "chr(65 + ($n % 2) * 32 + $n / 2 % 26) || $n",
    },
    Kind { table: "k_domain", columns: "k positive PRIMARY KEY", key: "k", value: "$n" },
    Kind {
        table: "k_enum",
        columns: "a mood, b int, PRIMARY KEY (a, b)",
        key: "a, b",
        // The order is that of their making.
        value: "(ARRAY['well', 'bad', 'fine']::mood[])[$n % 3 + 1], $n / 3",
    },
    Kind {
        table: "k_part",
        columns: "k int, r int, PRIMARY KEY (k, r)) PARTITION BY LIST (r",
        key: "k, r",
        value: "$n, $n % 3",
    },
];

impl Kind {
    fn value(&self, number: u32) -> String {
        self.value.replace("$n", &number.to_string())
    }

    fn is_key(&self, number: u32) -> String {
        format!("({}) = ({})", self.key, self.value(number))
    }
}

fn create(sql: &mut Sql, superuser: &mut Sql, rows: u32) {
    superuser.run("CREATE EXTENSION citext SCHEMA public");
    sql.run(
        "CREATE DOMAIN positive AS int CHECK (0 < value); \
         CREATE TYPE mood AS ENUM ('well', 'fine', 'bad')",
    );
    for kind in KINDS {
        let Kind { table, columns, key, .. } = kind;
        let columns = match columns.split_once(") PARTITION") {
            Some((columns, rest)) => format!("{columns}, v text) PARTITION{rest})"),
            None => format!("{columns}, v text)"),
        };
        sql.run(&format!("CREATE TABLE {table} ({columns}"));
        if *table == "k_part" {
            sql.run(
                "CREATE TABLE k_part_0 PARTITION OF k_part FOR VALUES IN (0); \
                 CREATE TABLE k_part_1 PARTITION OF k_part FOR VALUES IN (1, 2)",
            );
        }
        let value = kind.value.replace("$n", "n");
        sql.run(&format!(
            "INSERT INTO {table} ({key}, v) SELECT {value}, repeat('v', n % 50) \
             FROM generate_series(1, {rows}) n"
        ));
    }
    sql.run(
        "CREATE TABLE k_none (v text); INSERT INTO k_none SELECT n FROM generate_series(1, 500) n",
    );
    sql.run("CREATE TABLE k_empty (k int PRIMARY KEY, v text)");
}

/// Between two transactions of a connection in the short form.
const PAUSE: Duration = Duration::from_millis(8);

/// Writes to all tables until it is dropped.
struct Writers {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(scene: &Scene, seed: u64, rows: u32) -> Self {
        Self::of(scene, seed, rows, true)
    }

    /// `truncates`: now and then a table, which is then read again.
    fn of(scene: &Scene, seed: u64, rows: u32, truncates: bool) -> Self {
        let (stop, committed): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let pause = if full() { Duration::ZERO } else { PAUSE };
        let start = |number: u64| {
            let (mut sql, stop, committed) =
                (scene.sql(), Arc::clone(&stop), Arc::clone(&committed));
            let mut rng = SmallRng::seed_from_u64(seed ^ number);
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    // Two that wait for each other, or for the same key: one of them fails.
                    match sql.attempt(&transaction(&mut rng, rows, truncates)) {
                        Ok(()) => drop(committed.fetch_add(1, Relaxed)),
                        Err(_) => drop(sql.attempt("ROLLBACK")),
                    }
                    sleep(pause);
                }
            })
        };
        let threads = (0..4).map(start).collect();
        Self { stop, committed, threads }
    }

    fn await_committed(&self, more: u64) {
        let target = self.committed.load(Relaxed) + more;
        await_true("transactions of the workload", CATCH_UP_MAX, || {
            target <= self.committed.load(Relaxed)
        });
    }

    fn stop(self) {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer"));
    }
}

/// Some statements; keys up to twice the number of rows.
fn transaction(rng: &mut SmallRng, rows: u32, truncates: bool) -> String {
    let mut statements = vec!["BEGIN".to_owned()];
    for _ in 0..rng.random_range(1..5) {
        let kind = &KINDS[rng.random_range(0..KINDS.len())];
        let Kind { table, key, .. } = kind;
        let (one, other) = (rng.random_range(1..=2 * rows), rng.random_range(1..=2 * rows));
        let (is_one, value) = (kind.is_key(one), kind.value(one));
        let text = rng.random_range(0..1_000_000);
        let put = format!("INSERT INTO {table} ({key}, v) VALUES ({value}, '{text}')");
        statements.push(match rng.random_range(0..100) {
            0..40 => format!("UPDATE {table} SET v = '{text}' WHERE {is_one}"),
            40..60 => format!("{put} ON CONFLICT DO NOTHING"),
            60..70 => format!("DELETE FROM {table} WHERE {is_one}"),
            // The same key goes and comes back.
            70..80 => format!("DELETE FROM {table} WHERE {is_one}; {put} ON CONFLICT DO NOTHING"),
            80..98 => {
                let (to, taken) = (kind.value(other), kind.is_key(other));
                format!(
                    "UPDATE {table} SET ({key}, v) = ({to}, '{text}') WHERE {is_one} \
                     AND NOT EXISTS (SELECT FROM {table} WHERE {taken})"
                )
            }
            98 => "INSERT INTO k_none VALUES ('x')".into(),
            // Seldom: a table that is truncated has nothing left to copy.
            _ if truncates && ["k_int", "k_part"].contains(table) => format!("TRUNCATE {table}"),
            _ => "INSERT INTO k_empty VALUES (1) ON CONFLICT (k) DO UPDATE SET v = 'x'".into(),
        });
    }
    statements.push("COMMIT".into());
    statements.join("; ")
}

fn spec(scene: &Scene) -> Spec {
    scene.spec().line("snapshot: {beside_stream: always, chunk_rows: 50, parallel: 3}")
}

/// `truncates`: as [`Writers::of`].
fn copied(label: &str, server: &str, short_seed: u64, kills: u32, truncates: bool) {
    let seed = seed(label, short_seed);
    let (rows, kills) = if full() { (20_000, 10 * kills) } else { (1500, kills) };
    let scene = Scene::new(label, server);
    create(&mut scene.sql(), &mut scene.superuser(), rows);
    let writers = Writers::of(&scene, seed, rows, truncates);
    let mut spec = spec(&scene);
    let mut run = scene.run(&spec, &[]);
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut killed_within = 0;
    for kill in 1..=kills {
        // Tables without a key come first, and from their beginning.
        scene.await_streaming(&mut run);
        sleep(Duration::from_millis(rng.random_range(ALIVE)));
        let log = run.log();
        let is_within = log.contains(COPYING) && !log.contains(COPIED);
        killed_within += u32::from(is_within);
        run.kill();
        if kill == kills {
            // What only some of the old lanes have must not be left to others.
            spec = spec.line("lanes: 5");
        }
        run = scene.run(&spec, &[]);
    }
    assert!(kills / 2 <= killed_within, "{killed_within} of {kills} kills met the copy");
    run.await_log(COPIED, CATCH_UP_MAX);
    writers.await_committed(100);
    writers.stop();
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    let report = scene.check(PROMISES);
    say(&format!(
        "{label}: {} records, {} rows, {} read again ({:.2} %), {killed_within} of {kills} kills met the copy",
        report.records,
        report.rows,
        report.read_again,
        100.0 * report.read_again as f64 / report.rows as f64
    ));
    assert!(rows as usize * 8 < report.rows, "{} rows are left", report.rows);
    // A table that was truncated meanwhile is read again from its beginning; nothing else is, whatever was killed
    // (delivery-protocol.md, section 9).
    let read_again_max = if truncates { rows as usize * 2 } else { 0 };
    assert!(report.read_again <= read_again_max, "{} read again", report.read_again);
}

#[test]
fn every_kind_of_key_is_copied() {
    for server in each(&["postgres-11"], &["postgres-11", "postgres-15", "postgres-18"]) {
        copied("copied", server, 11, 0, true);
    }
}

#[test]
fn killed_again_and_again_nothing_is_lost_or_older_from_15() {
    copied("chunk_kills_15", "postgres-15", 815, 3, true);
}

#[test]
fn killed_again_and_again_no_row_is_told_twice() {
    copied("once_15", "postgres-15", 4415, 3, false);
}

/// Rows of a table that was never analyzed, and bytes of each; two chunks take a third of them.
const WIDE: (u64, u64) = (100, 500_000);

#[test]
fn a_chunk_of_wide_rows_leaves_the_rest_of_them_to_the_server() {
    let scene = Scene::new("wide", "postgres-15");
    let (rows, bytes) = WIDE;
    scene.sql().run(&format!(
        "CREATE TABLE t (k int PRIMARY KEY, v text) WITH (autovacuum_enabled = off); \
         ALTER TABLE t ALTER v SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT n, repeat('v', {bytes}) FROM generate_series(1, {rows}) n"
    ));
    let link = Link::to(&scene.postgres.address);
    let spec = scene.spec().hosts(&link.address).sink("partitions: 1");
    let spec = spec.line("snapshot: {beside_stream: always, parallel: 1}");
    let mut run = scene.run(&spec, &[]);
    run.await_log(COPIED, CATCH_UP_MAX);
    run.interrupt(CATCH_UP_MAX).expect(0);
    let passed = link.bytes();
    scene.check(PROMISES);
    // Each row comes once, and what was on the way when the connection was given up: much on a busy machine, but not the
    // rest of the table for each chunk.
    let most = rows * bytes * 2;
    assert!(passed < most, "{passed} bytes came from the server, not {most}");
}

#[test]
fn a_filter_saves_reading() {
    let scene = Scene::new("filtered", "postgres-15");
    scene.sql().run(
        "CREATE TABLE t (k int PRIMARY KEY, v text); \
         INSERT INTO t SELECT n, 'v' FROM generate_series(1, 5000) n",
    );
    let object = "{table: public.t, where: \"k > 100 and k <= 130\"}";
    let spec = spec(&scene).objects(&[object]);
    let mut run = scene.run(&spec, &[]);
    run.await_log(COPIED, CATCH_UP_MAX);
    assert!(run.log().contains(&format!("{COPIED} rows=30")), "{}", run.log());
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.await_settled();
    let snapshot = |it: &Record| Event::parse(it).expect("an event").op == 'r';
    assert_eq!(scene.topics().records.iter().filter(|it| snapshot(it)).count(), 30);
}

/// `task snapshot`; gives the id of the snapshot.
fn order(cluster: &Cluster<'_>, scene: &Scene, table: &str, condition: &str) -> String {
    let words = ["task", "snapshot", &scene.name, "--table", table, "-o", "json"];
    let ended = cluster.call(&[&words[..], &["--where", condition]].concat());
    ended.expect(0);
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    answer["snapshot"].as_str().expect("an id").to_owned()
}

/// The keys that a snapshot has read of a table, each as JSON.
fn keys_read(topics: &Topics, snapshot: &str) -> Vec<String> {
    let read = topics.records.iter().filter(|it| it.value.is_some()).map(|record| {
        let event = Event::parse(record).expect("an event");
        (event.op == 'r' && event.snapshot.as_deref() == Some(snapshot))
            .then(|| event.key.to_string())
    });
    read.flatten().collect()
}

/// Orders of people, each carried out once although the worker that does it is killed in the middle.
#[test]
fn a_table_is_read_again_when_somebody_asks_for_it() {
    let seed = seed("asked", 2215);
    let rows = if full() { 5000 } else { 500 };
    let scene = Scene::new("asked", "postgres-15");
    create(&mut scene.sql(), &mut scene.superuser(), rows);
    let mut cluster = Cluster::start(&scene, 1, 1);
    // Slow enough that somebody can be killed meanwhile.
    let slow = "throttle: {snapshot: {qps: 5}}";
    let public = |spec: Spec| spec.objects(&["{table: \"public.*\"}"]);
    let spec = public(cluster.spec()).line("snapshot: {chunk_rows: 25, parallel: 2}").line(slow);
    cluster.apply(&spec);
    cluster.await_status("the stream", CATCH_UP_MAX, Status::streams);
    let writers = Writers::start(&scene, seed, rows);
    writers.await_committed(20);

    for (table, said) in [("other.t", "no object"), ("public.*", "several tables")] {
        let words = ["task", "snapshot", &scene.name, "--table", table];
        let refused = cluster.call(&words);
        assert!(refused.expect(2).stderr.contains(said), "{}", refused.stderr);
    }
    let of = |status: &Status, snapshot: &str| {
        status.tables().into_iter().find(|it| it.snapshot == snapshot)
    };
    let is = |status: &Status, snapshot: &str, state: &str| {
        of(status, snapshot).is_some_and(|it| it.state == state)
    };
    // What is over, and told, is forgotten with the next order.
    for (table, condition, cause) in
        [("public.k_none", "", "no key"), ("public.k_int", "nothing = 1", "nothing")]
    {
        let snapshot = order(&cluster, &scene, table, condition);
        let refused = cluster.await_status("a refusal", CATCH_UP_MAX, |it| {
            of(it, &snapshot).is_some_and(|it| it.state == "refused")
        });
        let told = of(&refused, &snapshot).expect("it is told").cause;
        assert!(told.contains(cause), "{told}");
    }
    let whole = order(&cluster, &scene, "public.k_pair", "");
    let part = order(&cluster, &scene, "public.k_numeric", "k <= 9.9");
    cluster.await_status("rows that are read", CATCH_UP_MAX, |it| {
        of(it, &whole).is_some_and(|it| it.state == "reading" && 0 < it.rows)
    });
    cluster.kill("w1");
    cluster.begin("w1");
    cluster.await_status("what became of each order", CATCH_UP_MAX, |it| {
        is(it, &whole, "done") && is(it, &part, "done")
    });
    // What is over is forgotten with the next order: the leader knows of it.
    let last = order(&cluster, &scene, "public.k_uuid", "k is null");
    cluster.await_status("the last table alone", CATCH_UP_MAX, |it| {
        is(it, &last, "done") && of(it, &whole).is_none()
    });

    writers.await_committed(50);
    writers.stop();
    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    drop(cluster);
    scene.catch_up(&public(scene.spec()));
    let report = scene.check(PROMISES);
    let topics = scene.topics();
    let keys = keys_read(&topics, &whole);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "rows were read twice");
    assert!(rows as usize / 4 < keys.len(), "{} keys were read", keys.len());
    let keys = keys_read(&topics, &part);
    assert!(!keys.is_empty() && keys.len() <= 99, "{} keys up to 9.9", keys.len());
    assert!(keys_read(&topics, &last).is_empty());
    say(&format!("asked: {} records, {} read again", report.records, report.read_again));
}

/// Two workers read for a third one, which has the front, and one of them is killed; a fourth one is of the release before,
/// and is asked for nothing.
#[test]
fn several_workers_read_and_another_one_does_what_a_killed_one_was_about() {
    let seed = seed("readers", 2315);
    let rows = if full() { 5000 } else { 300 };
    let scene = Scene::new("readers", "postgres-15");
    create(&mut scene.sql(), &mut scene.superuser(), rows);
    let mut cluster = Cluster::start(&scene, 1, 0);
    cluster.add_labelled_worker("front", "pool: front");
    for name in ["old", "read1", "read2"] {
        cluster.add_labelled_worker(name, "pool: read");
    }
    cluster.renew("old", Some(rpc::CHUNKS - 1));
    let front = "pool: front";
    let placed = format!(
        "placement: {{reader: {{{front}}}, decoder: {{{front}}}, router: {{{front}}}, \
         producers: {{{front}}}, snapshot: {{pool: read}}}}"
    );
    let spec = |cluster: &Cluster<'_>| {
        let spec = cluster.spec().line("lanes: 2").line(&placed);
        spec.line("snapshot: {beside_stream: always, chunk_rows: 25, parallel: 4}")
    };
    // Slow enough that somebody can be killed meanwhile.
    cluster.apply(&spec(&cluster).line("throttle: {snapshot: {qps: 10}}"));
    cluster.await_status("the stream", CATCH_UP_MAX, Status::streams);
    let writers = Writers::of(&scene, seed, rows, false);
    const HERE: &str = "tables are read here";
    await_true("both to read", CATCH_UP_MAX, || {
        ["read1", "read2"].iter().all(|name| cluster.log(name).contains(HERE))
    });
    cluster.await_status("rows that are read", CATCH_UP_MAX, |it| {
        it.tables().iter().any(|it| it.state == "reading" && 0 < it.rows)
    });
    cluster.kill("read1");
    await_true("the loss to be noticed", CATCH_UP_MAX, || {
        cluster.log("front").contains("a reader of tables is lost")
    });
    writers.await_committed(50);
    writers.stop();
    assert!(!cluster.log("front").contains(COPIED), "the copy was over before");
    let fast = spec(&cluster).write(scene.folder());
    cluster.call(&["task", "apply", fast.to_str().expect("UTF-8")]).expect(0);
    await_true("the copy", CATCH_UP_MAX, || cluster.log("front").contains(COPIED));
    let ended = cluster.call(&["cluster", "status", "-o", "json"]);
    let nodes: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let reads = |name: &str| {
        let nodes = nodes["nodes"].as_array().into_iter().flatten();
        nodes.filter(|it| it["name"] == name).map(|it| it["snapshots"].as_u64()).next().flatten()
    };
    assert_eq!((reads("front"), reads("read2")), (Some(0), Some(1)), "{nodes}");
    assert!(!cluster.log("old").contains(HERE), "an older node was asked");
    assert!(cluster.log("front").contains("cannot read tables for others"), "it was not said");

    cluster.call(&["task", "suspend", &scene.name]).expect(0);
    drop(cluster);
    scene.catch_up(&scene.spec().line("lanes: 2"));
    let report = scene.check(PROMISES);
    assert_eq!(report.read_again, 0, "rows were read twice");
    say(&format!("readers: {} records, {} rows", report.records, report.rows));
}

/// Its rows are in no stream.
#[test]
fn a_partition_that_is_attached_meanwhile_is_read_and_so_is_a_column_less() {
    let scene = Scene::new("attached", "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE t (k int PRIMARY KEY, v text, w text) PARTITION BY RANGE (k); \
         CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (4000); \
         CREATE TABLE other (k int PRIMARY KEY, v text, w text); \
         INSERT INTO t SELECT n, n, n FROM generate_series(1, 3000) n; \
         INSERT INTO other SELECT n, n, n FROM generate_series(4001, 4500) n",
    );
    let spec = spec(&scene).line("throttle: {snapshot: {rows: 1000}}");
    let mut run = scene.run(&spec, &[]);
    run.await_log("table is copied", CATCH_UP_MAX);
    sql.run("ALTER TABLE t ATTACH PARTITION other FOR VALUES FROM (4000) TO (5000)");
    sql.run("ALTER TABLE t DROP COLUMN w");
    assert!(!run.log().contains(COPIED), "the copy was over before");
    run.await_log(COPIED, CATCH_UP_MAX);
    run.interrupt(CATCH_UP_MAX).expect(0);
    let topics = scene.topics();
    let keys: BTreeSet<Vec<u8>> = topics
        .records
        .iter()
        .filter(|it| it.topic == format!("{}.public.t", scene.name))
        .filter_map(|it| it.key.clone())
        .collect();
    assert_eq!(keys.len(), 3500);
}

/// A rewrite sends no rows, and would leave a snapshot from before it empty: the table is read again.
#[test]
fn a_table_that_is_rewritten_meanwhile_is_read_again_and_a_limit_holds() {
    let scene = Scene::new("rewritten", "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE t (k int PRIMARY KEY, v text); \
         INSERT INTO t SELECT n, n FROM generate_series(1, 5000) n",
    );
    let spec = spec(&scene).line("throttle: {snapshot: {rows: 1000}}");
    let begun = std::time::Instant::now();
    let mut run = scene.run(&spec, &[]);
    run.await_log("table is copied", CATCH_UP_MAX);
    sql.run("ALTER TABLE t ADD COLUMN w uuid DEFAULT gen_random_uuid()");
    run.await_log(COPIED, CATCH_UP_MAX);
    // 5,000 rows at 1,000 a second; the last chunk is not waited for.
    assert!(Duration::from_millis(4500) < begun.elapsed(), "{:?}", begun.elapsed());
    run.interrupt(CATCH_UP_MAX).expect(0);
    let topics = scene.topics();
    let read: std::collections::BTreeMap<Vec<u8>, String> = topics
        .records
        .iter()
        .filter_map(|it| {
            let value = it.value.as_ref().map(|it| String::from_utf8_lossy(it).into_owned());
            Some((it.key.clone()?, value?))
        })
        .collect();
    assert_eq!(read.len(), 5000);
    let old = read.values().filter(|value| !value.contains("\"w\":\"")).count();
    assert_eq!(old, 0, "rows as they were before the rewrite");
}

/// `id` of Canal JSON and DTS Avro: never twice, and in each partition higher than before, wherever rows come from and
/// however often lanes begin again.
#[test]
fn records_have_numbers_that_are_unique_and_grow() {
    let scene = Scene::new("numbered", "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE t (k int PRIMARY KEY, v text); CREATE TABLE u (k int PRIMARY KEY, v text); \
         CREATE TABLE keyless (v text); INSERT INTO keyless SELECT generate_series(1, 100); \
         INSERT INTO t SELECT n, n FROM generate_series(1, 3000) n; \
         INSERT INTO u SELECT n, n FROM generate_series(1, 1000) n",
    );
    let spec = spec(&scene).sink("format: canal-json").sink("partitions: 3").line("lanes: 2");
    let slow = spec.clone().line("throttle: {snapshot: {rows: 1000}}");
    let mut run = scene.run(&slow, &[]);
    run.await_log("table is copied", CATCH_UP_MAX);
    sql.run("UPDATE t SET v = 'a' WHERE k % 3 = 0");
    sql.run("UPDATE u SET v = 'a' WHERE k = 1");
    assert!(!run.log().contains(COPIED), "the copy was over before");
    run.kill();
    let mut run = scene.run(&spec, &[]);
    run.await_log(COPIED, CATCH_UP_MAX);
    sql.run("UPDATE t SET v = 'b'");
    sql.run("UPDATE u SET v = 'b' WHERE k < 10");
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);

    let topics = scene.topics();
    let (mut seen, mut last) = (BTreeSet::new(), std::collections::BTreeMap::new());
    for record in &topics.records {
        let id = record.json()["id"].as_i64().expect("a number");
        assert!(seen.insert(id), "{id} twice");
        let before = last.insert((record.topic.clone(), record.partition), id);
        assert!(before.is_none_or(|before| before < id), "{id} behind {before:?}");
    }
    assert!(100 + 3000 + 1000 + 3000 < seen.len(), "{} records", seen.len());
}
