//! Tasks of several streams (`source.streams`): tables are divided over slots, and nothing is lost, doubled or out of its
//! order within a table, whatever ends the process; what belongs to all streams comes once; nothing is left behind.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tests::checker::{Promises, checkpoints};
use tests::deadline::await_true;
use tests::event::{Id, lsn_of};
use tests::process::Distributary;
use tests::reader::Topics;
use tests::scene::{CATCH_UP_MAX, Scene, walsender};
use tests::seed::{full, seed};
use tests::sql::{PASSWORD, Sql, quoted};
use tests::task::{STATE_PREFIX, Spec};
use tests::topics;
use tests::workload::{self, Pace, Workload};

/// Name of one stream of a task, as its slot and its internal topics have it.
fn life(scene: &Scene, number: u8) -> String {
    if number == 1 { scene.name.clone() } else { format!("{number}_{}", scene.name) }
}

fn slot(scene: &Scene, number: u8) -> String {
    format!("distributary_{}", life(scene, number))
}

fn slots(scene: &Scene, streams: u8) -> Vec<String> {
    let mut names: Vec<String> = (1..=streams).map(|number| slot(scene, number)).collect();
    names.sort();
    names
}

fn await_all_streaming(scene: &Scene, run: &mut Distributary, streams: u8) {
    let mut sql = Sql::superuser(&scene.postgres, "postgres");
    await_true("all slots in use", CATCH_UP_MAX, || {
        assert!(!run.has_ended(), "ended before it streamed:\n{}", run.log());
        (1..=streams).all(|number| walsender(&mut sql, &slot(scene, number)) != 0)
    });
}

/// Tables by the publication that has them.
fn published(scene: &Scene) -> BTreeMap<String, BTreeSet<String>> {
    let query = "SELECT pubname, schemaname || '.' || tablename FROM pg_publication_tables";
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in scene.superuser().rows(query) {
        let [publication, table] = <[_; 2]>::try_from(row).expect("two columns");
        let tables = found.entry(publication.expect("a name")).or_default();
        tables.insert(table.expect("a name"));
    }
    found
}

/// Checkpoints of each stream against its own slot; no partition was written by two streams.
fn check_streams(scene: &Scene, streams: u8) {
    let mut owners: BTreeMap<String, u8> = BTreeMap::new();
    for number in 1..=streams {
        let state =
            Topics::read(&scene.kafka, &format!("{STATE_PREFIX}.{}.ckpt", life(scene, number)));
        let slot = slot(scene, number);
        let confirmed = Sql::superuser(&scene.postgres, "postgres").value(&format!(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ));
        checkpoints(&state, lsn_of(&confirmed)).assert_clean();
        for record in state.records.iter().filter(|it| it.key.as_deref() == Some(b"c")) {
            for topic in record.json()["prev_end"].as_object().into_iter().flatten() {
                let owner = *owners.entry(topic.0.clone()).or_insert(number);
                assert_eq!(owner, number, "{} was written by two streams", topic.0);
            }
        }
    }
    let of: BTreeSet<u8> = owners.into_values().collect();
    assert!(of.into_iter().eq(1..=streams), "every stream carries something");
}

/// What belongs to the task beside its data topics.
fn left_behind(scene: &Scene, streams: u8) -> Vec<String> {
    let mut left = scene.slots();
    left.extend(published(scene).into_keys());
    for number in 1..=streams {
        let prefix = format!("{STATE_PREFIX}.{}.", life(scene, number));
        left.extend(topics::list(&scene.kafka, |it| it.starts_with(&prefix)).into_keys());
    }
    left
}

#[test]
fn a_divided_workload_survives_kills_and_is_released_whole() {
    let scene = Scene::new("streams", "postgres-15");
    let seed = seed("streams", 7);
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let workload = Workload::start(&scene, seed, Pace::default());
    let spec = scene.spec().source("streams: 3").source("ddl: off").line("lanes: 2");
    let mut rng = SmallRng::seed_from_u64(seed);
    // The first one most likely in a snapshot of one of them.
    let run = scene.run(&spec, &[]);
    let first = slot(&scene, 3);
    await_true("the last slot", CATCH_UP_MAX, || scene.slots().contains(&first));
    run.kill();
    for _ in 0..if full() { 8 } else { 1 } {
        let mut run = scene.run(&spec, &[]);
        await_all_streaming(&scene, &mut run, 3);
        thread::sleep(Duration::from_millis(rng.random_range(100..1500)));
        run.kill();
    }
    let mut run = scene.run(&spec, &[]);
    await_all_streaming(&scene, &mut run, 3);
    workload.await_committed(50);
    workload.stop();
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    scene.check(Promises::default());
    check_streams(&scene, 3);
    assert_eq!(scene.slots(), slots(&scene, 3));
    let tables: Vec<BTreeSet<String>> = published(&scene).into_values().collect();
    let all: BTreeSet<&String> = tables.iter().flatten().collect();
    assert_eq!(all.len(), tables.iter().map(BTreeSet::len).sum::<usize>(), "{tables:?}");

    let ended = scene.run(&spec, &["--until-caught-up", "--release"]).wait(CATCH_UP_MAX);
    ended.expect(0);
    assert_eq!(left_behind(&scene, 3), [""; 0], "{}", ended.stdout);
}

/// A superuser, whose DDL is captured.
fn with_admin(scene: &Scene) -> Spec {
    let role = format!("{}_admin", scene.name);
    let admin = quoted(&role);
    let mut sql = scene.superuser();
    sql.run(&format!("CREATE ROLE {admin} SUPERUSER REPLICATION LOGIN PASSWORD '{PASSWORD}'"));
    // TRUNCATE goes to every partition.
    let spec = scene.spec().user(&role, Some(PASSWORD)).sink("partitions: 1");
    spec.source("streams: 3").line("lanes: 2")
}

/// Records of a topic that are of this operation.
fn records(topics: &Topics, topic: &str, op: &str) -> usize {
    let records = topics.of(topic).filter(|it| it.value.is_some());
    records.filter(|it| it.json()["op"] == op).count()
}

#[test]
fn new_and_renamed_tables_have_one_stream_and_ddl_comes_once() {
    let scene = Scene::new("divided", "postgres-15");
    let spec = with_admin(&scene);
    let mut sql = scene.superuser();
    for number in 0..3 {
        sql.run(&format!(
            "CREATE TABLE t{number} (id int PRIMARY KEY, n int); INSERT INTO t{number} VALUES (1, 1)"
        ));
    }
    let mut run = scene.run(&spec, &[]);
    await_all_streaming(&scene, &mut run, 3);
    // Without keys: what the triggers do not take in would lack its first row.
    for number in 0..3 {
        sql.run(&format!(
            "CREATE TABLE new{number} (n int); INSERT INTO new{number} VALUES (1), (2); \
             ALTER TABLE t{number} RENAME TO renamed{number}; INSERT INTO renamed{number} VALUES (2, 2)"
        ));
    }
    let tables = published(&scene);
    let names = |it: &BTreeSet<String>| it.iter().filter(|it| it.contains("new")).count();
    assert_eq!(tables.values().map(BTreeSet::len).sum::<usize>(), 3 + 3, "{tables:?}");
    assert!(tables.values().all(|it| names(it) != 0), "new ones are everywhere: {tables:?}");
    sql.run("TRUNCATE new0, new1, new2");
    sql.run("ALTER TABLE renamed0 ADD COLUMN more text; INSERT INTO renamed0 VALUES (3, 3, 'x')");
    run.interrupt(CATCH_UP_MAX).expect(0);
    // A start looks for tables, and must find none.
    scene.catch_up(&spec);
    assert_eq!(published(&scene), tables);
    let topics = scene.topics();
    for number in 0..3 {
        let of =
            |table, op| records(&topics, &format!("{}.public.{table}{number}", scene.name), op);
        assert_eq!((of("new", "c"), of("new", "t")), (2, 1), "{number}");
        assert_eq!(of("t", "r"), 1, "{number}");
        let more = usize::from(number == 0);
        assert_eq!((of("renamed", "c"), of("renamed", "r")), (1 + more, 0), "{number}");
    }
    let told = topics.of(&format!("{}.ddl", scene.name)).count();
    assert_eq!(told, 3 + 3 + 1, "CREATE, RENAME and ALTER TABLE, each once");
    check_streams(&scene, 3);
    another_number_of_streams_takes_a_reseed(&scene, &spec);
}

fn another_number_of_streams_takes_a_reseed(scene: &Scene, spec: &Spec) {
    let fewer = spec.clone().without_source("streams: 3").source("streams: 2");
    let refused = scene.run(&fewer, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    let said = &refused.expect(1).stderr;
    assert!(said.contains("stream 1 of 2: task") && said.contains("`source.streams: 3`"), "{said}");
    assert_eq!(scene.slots(), slots(scene, 3), "nothing was touched");
    scene.run(&fewer, &["--until-caught-up", "--reseed"]).wait(CATCH_UP_MAX).expect(0);
    assert_eq!(scene.slots(), slots(scene, 2));
    assert_eq!(published(scene).len(), 2);
    scene.run(&fewer, &["--until-caught-up", "--release"]).wait(CATCH_UP_MAX).expect(0);
    assert_eq!(left_behind(scene, 3), [""; 0]);
    let role = quoted(&format!("{}_admin", scene.name));
    // Its objects are in the database of the scene alone.
    scene.superuser().run(&format!(
        "REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
    ));
}

#[test]
fn without_a_snapshot_all_streams_begin_at_one_position() {
    let scene = Scene::new("begun", "postgres-15");
    let mut sql = scene.sql();
    // Of one stream each.
    let tables = ["new0", "new1", "new2"];
    for table in tables {
        sql.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY); INSERT INTO {table} VALUES (0)"
        ));
    }
    let spec = scene.spec().sink("partitions: 1").source("streams: 3").source("ddl: off");
    let spec = spec.line("lanes: 1").line("sync: {snapshot: false, definitions: false}");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Relaxed) {
                number += 1;
                let insert = |table| format!("INSERT INTO {table} VALUES ({number})");
                // Each is one transaction.
                sql.run(&tables.map(insert).join("; "));
                thread::sleep(Duration::from_millis(2));
            }
        });
        // Also when it panics: the writer would never end.
        let begun = std::panic::catch_unwind(|| {
            let mut run = scene.run(&spec, &[]);
            await_all_streaming(&scene, &mut run, 3);
            run.kill();
        });
        stop.store(true, Relaxed);
        writer.join().expect("the writer ends");
        begun.expect("the task streams");
    });
    scene.catch_up(&spec);
    let topics = scene.topics();
    let of = |table: &str| -> Vec<u64> {
        let topic = format!("{}.public.{table}", scene.name);
        topics.of(&topic).map(|it| Id::of(it).expect("an id").lsn).collect()
    };
    let [first, second, third] = tables.map(of);
    assert!(!first.is_empty(), "no transaction was seen: the test shows nothing");
    assert_eq!(first, second);
    assert_eq!(first, third);
}
