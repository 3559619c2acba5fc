//! Lanes: whole transactions with one of them, at-least-once, fencing, where rows go and how that is shown, and how a run
//! ends.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tests::checker::{Kind, Promises};
use tests::deadline::await_true;
use tests::event::{Event, Id};
use tests::process::Distributary;
use tests::reader::Topics;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::servers::Server;
use tests::task::{STATE_PREFIX, Spec};
use tests::topics;
use tests::workload::{self, Pace, Workload};

const SOON: Duration = Duration::from_secs(120);
/// How long the markers of a committed transaction may take to reach every partition.
const MARKERS_MAX: Duration = Duration::from_secs(60);

/// Rows that each transaction of [`writes`] changes.
const ROWS: usize = 60;
/// Between two transactions of [`writes`]: what a test reads back must fit into memory, however long
/// a busy machine takes.
const PAUSE: Duration = Duration::from_millis(5);

/// Writes transactions of equal size, each over all rows, until it is told to stop.
fn writes<T>(scene: &Scene, during: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let mut sql = scene.sql();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                sql.run("UPDATE t SET n = n + 1");
                thread::sleep(PAUSE);
            }
        });
        // Also when it panics: the writer would never end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends");
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn one_lane_shows_whole_source_transactions() {
    let scene = Scene::new("one_lane", "postgres-15");
    scene.sql().run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT n, 0 FROM \
         generate_series(1, {ROWS}) n"
    ));
    let spec = scene.spec().line("lanes: 1");
    let mut rng = SmallRng::seed_from_u64(seed("one_lane", 1));
    let mut seen = 0;
    writes(&scene, || {
        for _ in 0..if full() { 12 } else { 4 } {
            let mut run = scene.run(&spec, &[]);
            scene.await_streaming(&mut run);
            thread::sleep(Duration::from_millis(rng.random_range(100..1500)));
            run.kill();
            seen = whole_transactions(&scene);
        }
    });
    assert!(0 < seen, "no transaction was seen: the test shows nothing");
    scene.catch_up(&spec);
    scene.check(Promises::default());
}

/// Every source transaction that is visible is visible whole. How many there are. The writer is dead:
/// what is torn by more than Kafka's own markers, which reach one partition after the other, stays so.
fn whole_transactions(scene: &Scene) -> usize {
    let since = Instant::now();
    loop {
        let rows = rows_by_transaction(&scene.topics());
        if rows.values().all(|&rows| rows == ROWS) {
            return rows.len();
        }
        if MARKERS_MAX < since.elapsed() {
            let torn = |rows: BTreeMap<u64, usize>| {
                rows.into_iter().filter(|it| it.1 != ROWS).collect::<Vec<_>>()
            };
            let there = Topics::read_uncommitted(&scene.kafka, &format!("{}.", scene.name));
            let there = torn(rows_by_transaction(&there));
            panic!("not whole: {:?}; with what is not committed: {there:?}", torn(rows));
        }
    }
}

fn rows_by_transaction(topics: &Topics) -> BTreeMap<u64, usize> {
    let mut rows: BTreeMap<u64, usize> = BTreeMap::new();
    for id in topics.records.iter().map(|record| Id::of(record).expect("an id")) {
        if id.seq.is_some() {
            *rows.entry(id.lsn).or_default() += 1;
        }
    }
    rows
}

#[test]
fn several_lanes_put_every_partition_in_one() {
    let scene = Scene::new("many_lanes", "postgres-15");
    scene
        .sql()
        .run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500)");
    scene.catch_up(&scene.spec().line("lanes: 64").sink("partitions: 16"));
    scene.check(Promises::default());
    let written: BTreeSet<_> =
        scene.topics().records.iter().map(|record| record.partition).collect();
    assert_eq!(written.len(), 16);
}

#[test]
fn at_least_once_loses_nothing() {
    let scene = Scene::new("at_least", "postgres-15");
    let seed = seed("at_least", 3);
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let workload = Workload::start(&scene, seed, Pace::default());
    let spec = scene.spec().sink("delivery: at-least-once");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut run = scene.run(&spec, &[]);
    for _ in 0..if full() { 10 } else { 3 } {
        scene.await_streaming(&mut run);
        thread::sleep(Duration::from_millis(rng.random_range(200..2000)));
        run.kill();
        run = scene.run(&spec, &[]);
    }
    scene.await_streaming(&mut run);
    workload.await_committed(100);
    workload.stop();
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    scene.check(Promises { exactly_once: false, ..Promises::default() });
    // Every event has its id, so that a reader can put doubled ones aside: how many would that be?
    let strict = tests::checker::check(
        Promises::default(),
        &scene.topics(),
        &tests::catalog::contents(&mut scene.superuser()),
    );
    let doubled = strict.kinds().get(&Kind::Doubled).copied().unwrap_or_default();
    say(&format!("at-least-once: {doubled} of {} records doubled", strict.records));
}

/// The first process wakes when the second one streams: what it has queued is not for it to write any more, and what it wrote
/// until then keeps nobody from opening the lanes again.
#[test]
fn at_least_once_goes_on_beside_a_process_that_wakes() {
    let scene = Scene::new("at_least_zombie", "postgres-15");
    let seed = seed("at_least_zombie", 9);
    workload::create(&mut scene.sql());
    let workload = Workload::start(&scene, seed, Pace::default());
    let spec = scene.spec().sink("delivery: at-least-once");
    let mut first = scene.run(&spec, &[]);
    scene.await_streaming(&mut first);
    workload.await_committed(100);
    first.signal(Signal::STOP);
    let mut second = scene.run(&spec, &[]);
    second.await_log("an older owner may still write", SOON);
    second.await_log("streaming generation", SOON);
    first.signal(Signal::CONT);
    first.wait(SOON).expect(1);
    workload.await_committed(100);
    second.kill();
    let begun = Instant::now();
    let mut third = scene.run(&spec, &[]);
    third.await_log("streaming generation", SOON);
    say(&format!("at-least-once: {} ms to go on after kill -9", begun.elapsed().as_millis()));
    // It was seen that nobody writes any more.
    assert!(!third.log().contains("an older owner may still write"), "{}", third.log());
    workload.stop();
    third.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    scene.check(Promises { exactly_once: false, ..Promises::default() });
}

#[test]
fn at_least_once_without_faults_doubles_nothing() {
    let scene = Scene::new("at_least_calm", "postgres-15");
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let spec = scene.spec().sink("delivery: at-least-once").sink("acks: 1");
    scene.catch_up(&spec);
    workload::large_transaction(&mut sql);
    scene.catch_up(&spec);
    scene.check(Promises::default());
}

#[test]
fn a_second_run_fences_the_first() {
    let scene = Scene::new("fenced", "postgres-15");
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let workload = Workload::start(&scene, seed("fenced", 5), Pace::default());
    let spec = scene.spec();
    let mut first = scene.run(&spec, &[]);
    scene.await_streaming(&mut first);
    workload.await_committed(50);
    let mut second = scene.run(&spec, &[]);
    let ended = first.wait(SOON);
    // It says so, and never takes back.
    ended.expect(1);
    assert!(
        ended.stderr.contains("fenced") || ended.stderr.contains("another"),
        "{}",
        ended.stderr
    );
    workload.await_committed(50);
    scene.await_streaming(&mut second);
    workload.stop();
    second.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    scene.check(Promises::default());
}

/// Takes a lane's epoch away, as the broker does with the lane of a process that was paused for long.
fn fence(scene: &Scene, lane: u8) {
    let id = format!("{STATE_PREFIX}.{}.lane.{lane}", scene.name);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &scene.kafka.address)
        .set("transactional.id", id)
        .create()
        .expect("a producer");
    producer.init_transactions(SOON).expect("the lane is fenced");
}

#[test]
fn a_lost_lane_is_replaced_alone() {
    let scene = Scene::new("lost_lane", "postgres-15");
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let workload = Workload::start(&scene, seed("lost_lane", 7), Pace::default());
    let spec = scene.spec();
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    workload.await_committed(50);
    for lane in [2, 5] {
        fence(&scene, lane);
    }
    for lane in [2, 5] {
        run.await_log(&format!("lane has a new owner, sending again lane={lane} "), SOON);
    }
    workload.await_committed(200);
    workload.stop();
    let ended = run.interrupt(CATCH_UP_MAX);
    ended.expect(0);
    // The front lived on, and so did the other lanes. A fence that finds an open transaction asks the
    // broker twice, so one of the two may lose what it has just opened and open it once more.
    let lines: Vec<_> =
        ended.stderr.lines().skip_while(|line| !line.contains(" streaming ")).collect();
    let said = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(said(" streaming "), 1, "{}", ended.stderr);
    for lane in 0..8 {
        let opened = said(&format!("lane opened lane={lane} "));
        let lost = [2, 5].contains(&lane);
        assert_eq!(0 < opened, lost, "lane {lane} opened {opened} times:\n{}", ended.stderr);
    }
    scene.catch_up(&spec);
    scene.check(Promises::default());
}

#[test]
fn a_truncate_comes_in_every_partition_once() {
    let scene = Scene::new("truncate", "postgres-15");
    let spec = scene.spec().sink("partitions: 5");
    scene
        .sql()
        .run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50)");
    scene.catch_up(&spec);
    scene.sql().run("TRUNCATE t; INSERT INTO t SELECT generate_series(20, 80)");
    scene.catch_up(&spec);
    scene.check(Promises::default());
    let topics = scene.topics();
    let truncate = |record: &&tests::reader::Record| record.json()["op"] == "t";
    let partitions: Vec<_> =
        topics.records.iter().filter(truncate).map(|record| record.partition).collect();
    assert_eq!(partitions.len(), 5);
    assert_eq!(partitions.into_iter().collect::<BTreeSet<_>>(), (0..5).collect());
}

#[test]
fn truncates_can_be_left_out() {
    let scene = Scene::new("no_truncate", "postgres-15");
    let spec = scene.spec().sink("format_options: {truncate: false, tombstones: false}");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    scene.catch_up(&spec);
    scene.sql().run("TRUNCATE t; INSERT INTO t VALUES (2); DELETE FROM t");
    scene.catch_up(&spec);
    let ops: String = scene
        .topics()
        .records
        .iter()
        .map(|record| record.json()["op"].as_str().unwrap_or("tombstone").to_owned())
        .collect();
    let mut sorted: Vec<_> = ops.chars().collect();
    sorted.sort_unstable();
    assert_eq!(sorted, ['c', 'd', 'r']);
}

/// Partitions of the topics of [`every_policy_finds_its_partition`].
const PARTITIONS: i32 = 7;

#[test]
fn every_policy_finds_its_partition() {
    for (policy, hash) in [
        ("partition-0", "murmur2"),
        ("partition-0", "java"),
        ("table", "murmur2"),
        ("table", "java"),
        ("primary-key", "murmur2"),
        ("primary-key", "java"),
    ] {
        let scene = Scene::new("policy", "postgres-15");
        scene.sql().run(
            "CREATE TABLE shirts (size text, id int, note text, PRIMARY KEY (id, size)); \
             CREATE TABLE log (note text); CREATE TABLE chosen (id int PRIMARY KEY, customer int, \
             note text); \
             INSERT INTO shirts SELECT (ARRAY['s', 'größe 😀'])[1 + n % 2], n, 'x' FROM \
             generate_series(1, 40) n; \
             INSERT INTO log SELECT 'line ' || n FROM generate_series(1, 10) n; \
             INSERT INTO chosen SELECT n, n % 11 - 5, 'y' FROM generate_series(1, 40) n",
        );
        let spec = scene
            .spec()
            .sink(&format!("partitioning: {policy}"))
            .sink(&format!("hash: {hash}"))
            .sink(&format!("partitions: {PARTITIONS}"))
            .objects(&["{table: public.chosen, partition_key: [customer]}", "{table: public.*}"]);
        scene.catch_up(&spec);
        scene.sql().run(
            "UPDATE shirts SET note = 'z' WHERE id < 20; UPDATE chosen SET customer = customer + \
             1 WHERE id < 20; \
             DELETE FROM chosen WHERE 30 < id",
        );
        scene.catch_up(&spec);
        let topics = scene.topics();
        assert!(!topics.records.is_empty());
        let oracle = Oracle::new(&scene.kafka, &scene.name);
        for record in &topics.records {
            let Some(expected) = documented(&scene, policy, hash, record, &oracle) else {
                continue;
            };
            assert_eq!(
                record.partition,
                expected,
                "{policy} by {hash}: {} {:?}",
                record.topic,
                record.key.as_deref().map(String::from_utf8_lossy)
            );
        }
    }
}

/// The partition that the documentation promises for a record.
fn documented(
    scene: &Scene,
    policy: &str,
    hash: &str,
    record: &tests::reader::Record,
    oracle: &Oracle,
) -> Option<i32> {
    // A tombstone stands with the delete before it, which is looked at.
    let event = record.value.as_ref().map(|_| Event::parse(record).expect("an event"))?;
    let text = |row: &serde_json::Value, column: &str| {
        row[column].as_str().map_or_else(|| row[column].to_string(), Into::into)
    };
    let row = if event.after.is_null() { &event.before } else { &event.after };
    Some(match (policy, event.table.as_str()) {
        ("partition-0", _) | ("primary-key", "log") => 0,
        ("table", table) => {
            let joined = format!("{}{table}", scene.name);
            if hash == "java" { java(&[joined]) } else { oracle.partition(joined.as_bytes()) }
        }
        (_, "chosen") => {
            let customer = text(row, "customer");
            let hashed = format!("{{\"customer\":{customer}}}");
            if hash == "java" { java(&[customer]) } else { oracle.partition(hashed.as_bytes()) }
        }
        (_, _) if hash == "java" => java(&[text(row, "id"), text(row, "size")]),
        // As any Kafka client by the key alone.
        (_, _) => oracle.partition(record.key.as_deref().expect("a key")),
    })
}

/// Java's `String.hashCode` of each text, joined by XOR; absolute value, modulo.
fn java(texts: &[String]) -> i32 {
    let hash = |text: &String| {
        text.encode_utf16()
            .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
    };
    let joined = texts.iter().map(hash).fold(0, |joined, hash| joined ^ hash);
    i32::try_from(joined.unsigned_abs() % PARTITIONS.unsigned_abs()).expect("a partition")
}

/// Where librdkafka's own `murmur2` partitioner, which is that of Kafka's Java client, puts a key.
struct Oracle {
    producer: ThreadedProducer<Answers>,
    topic: String,
    answers: std::sync::Mutex<mpsc::Receiver<i32>>,
}

struct Answers(mpsc::Sender<i32>);

impl rdkafka::ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {
        let message = result.as_ref().expect("the oracle's record is delivered");
        self.0.send(rdkafka::Message::partition(message)).expect("the test listens");
    }
}

impl Oracle {
    fn new(kafka: &Server, name: &str) -> Self {
        // With the scene's topics, and gone with them; the checker never sees it.
        let topic = format!("{STATE_PREFIX}.{name}.oracle");
        topics::create(kafka, &topic, PARTITIONS);
        let (sender, answers) = mpsc::channel();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &kafka.address)
            .set("partitioner", "murmur2")
            .create_with_context(Answers(sender))
            .expect("a producer");
        Self { producer, topic, answers: std::sync::Mutex::new(answers) }
    }

    fn partition(&self, key: &[u8]) -> i32 {
        let record = BaseRecord::<[u8], [u8]>::to(&self.topic).key(key).payload(b"");
        self.producer.send(record).map_err(|(error, _)| error).expect("a record can be queued");
        self.producer.flush(SOON).expect("the broker answers");
        self.answers.lock().expect("one thread").recv_timeout(SOON).expect("an answer")
    }
}

#[test]
fn ctrl_c_drains_and_keeps_the_slot() {
    let scene = Scene::new("ctrl_c", "postgres-15");
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let workload = Workload::start(&scene, seed("ctrl_c", 9), Pace::default());
    let mut run = scene.run(&scene.spec(), &[]);
    scene.await_streaming(&mut run);
    workload.await_committed(100);
    let ended = run.interrupt(SOON);
    ended.expect(0);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(
        said.contains("WAL") && said.contains(&scene.slot()),
        "no word about retained WAL:\n{said}"
    );
    assert_eq!(scene.slots(), [scene.slot()]);
    // Nothing is left open: what is written is visible. What was aborted would never be.
    scene.await_settled();
    let committed = scene.topics().records.len();
    let uncommitted = Topics::read_uncommitted(&scene.kafka, &format!("{}.", scene.name));
    assert_eq!(uncommitted.records.len(), committed, "it ended with an open transaction");
    workload.await_committed(30);
    workload.stop();
    scene.catch_up(&scene.spec());
    scene.check(Promises::default());
}

#[test]
fn release_leaves_nothing_but_the_data() {
    let scene = Scene::new("release", "postgres-15");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let spec = scene.spec();
    scene.catch_up(&spec);
    scene.sql().run("INSERT INTO t VALUES (2)");
    scene.run(&spec, &["--until-caught-up", "--release"]).wait(CATCH_UP_MAX).expect(0);
    scene.await_settled();
    assert_eq!(scene.slots(), [""; 0]);
    assert_eq!(scene.superuser().value("SELECT count(*) FROM pg_publication"), "0");
    assert_eq!(scene.superuser().value("SELECT count(*) FROM pg_event_trigger"), "0");
    let internal = format!("{STATE_PREFIX}.{}.", scene.name);
    // Brokers hear a moment later of what the controller has deleted.
    await_true("no internal topics", SOON, || {
        topics::list(&scene.kafka, |topic| topic.starts_with(&internal)).is_empty()
    });
    assert_eq!(scene.topics().records.len(), 2, "the data stays");
}

#[test]
fn ctrl_c_with_release_leaves_nothing_but_the_data() {
    let scene = Scene::new("released", "postgres-15");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let mut run = scene.run(&scene.spec(), &["--release"]);
    scene.await_streaming(&mut run);
    run.interrupt(SOON).expect(0);
    assert_eq!(scene.slots(), [""; 0]);
    assert_eq!(scene.superuser().value("SELECT count(*) FROM pg_publication"), "0");
}

/// `distributary COMMAND`, on the scene's spec.
fn command(scene: &Scene, spec: &Spec, words: &[&str]) -> Distributary {
    let path = spec.write(scene.folder());
    let (command, options) = words.split_first().expect("a command");
    let words = [&[*command, path.to_str().expect("text")], options].concat();
    Distributary::start(scene.folder(), &words)
}

#[test]
fn objects_shows_what_would_be_captured_and_where_it_goes() {
    let scene = Scene::new("objects", "postgres-15");
    scene.sql().run(
        "CREATE TABLE orders (id int, part int, note text, PRIMARY KEY (id, part)); \
         CREATE TABLE log (note text); CREATE TABLE left_out (id int PRIMARY KEY); \
         INSERT INTO orders SELECT n, n, '' FROM generate_series(1, 500) n; ANALYZE orders; \
         ALTER TABLE orders REPLICA IDENTITY FULL",
    );
    let objects = ["{table: public.orders, partitions: 6}", "{table: public.log}"];
    let spec = scene.spec().line("lanes: 2").sink("partitions: 3").objects(&objects);
    let json = command(&scene, &spec, &["objects", "-o", "json"]).wait(SOON);
    let rows: serde_json::Value = serde_json::from_str(&json.expect(0).stdout).expect("JSON");
    assert!(scene.slots().is_empty() && scene.topics().partitions.is_empty(), "it only looks");
    let row = |table: &str, rows: i64, key: &[&str], partitions: i32, notes: &[&str]| {
        let topic = format!("{}.public.{table}", scene.name);
        let lanes: BTreeSet<u8> =
            (0..partitions).map(|it| record::lane::lane(&topic, it, 2)).collect();
        serde_json::json!({
            "schema": "public", "table": table, "rows_estimated": rows, "key": key, "topic": topic,
            "partitions": partitions, "lanes": lanes, "notes": notes
        })
    };
    let missing = "topic does not exist yet";
    let log = ["no key: records have a null key", "replica identity is not FULL", missing];
    assert_eq!(rows[1], row("orders", 500, &["id", "part"], 6, &[missing]));
    let estimate = rows[0]["rows_estimated"].as_i64().expect("a number");
    assert_eq!(rows[0], row("log", estimate, &[], 3, &log));
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    scene.catch_up(&spec);
    let text = command(&scene, &spec, &["objects"]).wait(SOON).expect(0).stdout.clone();
    let words: Vec<Vec<&str>> = text.lines().map(|it| it.split("  ").collect()).collect();
    let cells = |line: usize| -> Vec<&str> {
        words[line].iter().map(|it| it.trim()).filter(|it| !it.is_empty()).collect()
    };
    assert_eq!(cells(0), ["TABLE", "ROWS", "KEY", "TOPIC", "PARTITIONS", "LANES", "NOTES"]);
    let topic = format!("{}.public.orders", scene.name);
    assert_eq!(cells(2)[..5], ["public.orders", "~500", "id, part", &topic, "6"], "{text}");
    assert!(!text.contains(missing), "{text}");
    assert_eq!(text.lines().last(), Some("2 tables"));
}

#[test]
fn tail_shows_the_tables_that_it_is_asked_for_and_no_others() {
    let scene = Scene::new("tail_table", "postgres-15");
    let mut sql = scene.sql();
    sql.run("CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE log (id int PRIMARY KEY)");
    let options = ["tail", "--table", "public.o*", "-o", "json"];
    let tail = command(&scene, &scene.spec(), &options);
    let active = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name LIKE '{}_tail_%'",
        scene.slot()
    );
    let mut look = scene.superuser();
    await_true("the slot of tail", SOON, || look.value(&active) == "1");
    sql.run(
        "INSERT INTO log VALUES (1); INSERT INTO orders VALUES (7); INSERT INTO log VALUES (2)",
    );
    sql.run("DELETE FROM log; DELETE FROM orders");
    await_true("the deletion in tail", SOON, || tail.shown().contains("\"op\":\"d\""));
    let shown = tail.interrupt(SOON).expect(0).stdout.clone();
    let lines: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ops: Vec<_> = lines.iter().filter_map(|line| line["value"]["op"].as_str()).collect();
    assert_eq!(ops, ["c", "d"], "{shown}");
    let topic = format!("{}.public.orders", scene.name);
    assert!(lines.iter().all(|line| line["topic"] == *topic && line["key"]["id"] == 7), "{shown}");
    assert!(scene.slots().is_empty(), "it leaves nothing behind");
    assert!(scene.topics().partitions.is_empty(), "it writes nothing");
}
