//! Facts about PostgreSQL that have cost others their data (design.md, section 5): each by its
//! number, end to end.

use serde_json::{Value, json};
use std::thread;
use std::time::Duration;
use tests::checker::Promises;
use tests::deadline::await_true;
use tests::event::Event;
use tests::reader::{Record, Topics};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::task::Spec;
use tests::workload;

/// How long a refusal or a statement may take.
const SOON: Duration = Duration::from_secs(60);

const KEEP: &str = "replica_identity: keep";

/// Envelopes of a table's events in the order of their positions, snapshot rows left out.
fn streamed<'a>(topics: &'a Topics, table: &str) -> Vec<Event<'a>> {
    let mut events: Vec<_> = topics
        .records
        .iter()
        .filter(|record| record.value.is_some() && record.topic.ends_with(&format!(".{table}")))
        .map(|record| Event::parse(record).expect("an event"))
        .filter(|event| event.snapshot.is_none())
        .collect();
    events.sort_by_key(|event| event.id);
    events
}

fn ops(events: &[Event<'_>]) -> String {
    events.iter().map(|event| event.op).collect()
}

/// Captures a database before and after some statements.
fn captured(scene: &Scene, spec: &Spec, before: &str, after: &str) -> Topics {
    scene.sql().run(before);
    scene.catch_up(spec);
    scene.sql().run(after);
    scene.catch_up(spec);
    scene.topics()
}

#[test]
fn fact_1_a_slot_that_someone_advanced_parks_the_task() {
    let scene = Scene::new("fact_1", "postgres-15");
    let spec = scene.spec();
    captured(&scene, &spec, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)");
    scene.sql().run("INSERT INTO t VALUES (2)");
    let advance = format!(
        "SELECT pg_replication_slot_advance('{}', pg_current_wal_insert_lsn())",
        scene.slot()
    );
    scene.superuser().run(&advance);
    let before = scene.topics().records.len();
    let ended = scene.run(&spec, &["--until-caught-up"]).wait(SOON);
    ended.expect(1);
    for word in [scene.slot().as_str(), "advanced", "--reseed"] {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    }
    assert_eq!(scene.topics().records.len(), before, "it went on past the gap");
    // The remedy that it names.
    scene.run(&spec, &["--until-caught-up", "--reseed"]).wait(CATCH_UP_MAX).expect(0);
    let promises = Promises { everything: false, ..Promises::default() };
    scene.check(promises);
}

#[test]
fn fact_3_a_missing_publication_is_named_and_nothing_is_skipped() {
    for server in ["postgres-15", "postgres-18"] {
        let scene = Scene::new("fact_3", server);
        let spec = scene.spec();
        captured(&scene, &spec, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)");
        scene.superuser().run(&format!("DROP PUBLICATION {}", scene.slot()));
        scene.sql().run("INSERT INTO t VALUES (2)");
        let confirmed = || {
            scene.superuser().value(
                "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE \
             database = current_database()",
            )
        };
        let before = confirmed();
        let ended = scene.run(&spec, &["--until-caught-up"]).wait(SOON);
        ended.expect(1);
        assert!(ended.stderr.contains("publication"), "{}", ended.stderr);
        assert_eq!(confirmed(), before, "{server}: the slot went on without the rows");
    }
}

#[test]
fn fact_4_rows_of_one_copy_are_told_apart() {
    let scene = Scene::new("fact_4", "postgres-15");
    let spec = scene.spec();
    scene.sql().run("CREATE TABLE u (v text)");
    scene.catch_up(&spec);
    // Hundreds of rows in one entry of the log: COPY does that, INSERT does not.
    copy(&scene, 2000);
    scene.catch_up(&spec);
    let report = scene.check(Promises::default());
    assert_eq!(report.rows, 2000);
    let topics = scene.topics();
    let lsns: std::collections::BTreeSet<_> = streamed(&topics, "u")
        .iter()
        .map(|event| event.record.json()["source"]["lsn"].as_u64())
        .collect();
    assert!(lsns.len() < 2000, "the test needs rows that share an LSN");
}

/// COPY into table `u` by psql.
fn copy(scene: &Scene, rows: u32) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let (host, port) = scene.postgres.host_and_port();
    let mut psql = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", &port.to_string()])
        .args(["-U", "postgres", "-d", &scene.name, "-c", "COPY u FROM STDIN"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("psql is installed");
    let text: String = (0..rows).map(|n| format!("{n}\n")).collect();
    psql.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("psql reads");
    assert!(psql.wait().expect("psql ends").success());
}

#[test]
fn fact_5_under_full_unchanged_values_out_of_line_arrive_whole() {
    for server in ["postgres-11", "postgres-18"] {
        let scene = Scene::new("fact_5", server);
        let topics = captured(
            &scene,
            &scene.spec(),
            "CREATE TABLE t (id int PRIMARY KEY, body text, n int); \
             ALTER TABLE t ALTER body SET STORAGE EXTERNAL; \
             INSERT INTO t VALUES (1, repeat('long', 1000), 0)",
            "UPDATE t SET n = 1; UPDATE t SET id = 2",
        );
        let events = streamed(&topics, "t");
        assert_eq!(ops(&events), "udc");
        let body = json!("long".repeat(1000));
        assert_eq!(events[0].before["body"], body);
        assert_eq!(events[0].after["body"], body);
        assert_eq!(events[2].after["body"], body);
        scene.check(Promises::default());
    }
}

#[test]
fn fact_5_under_the_key_alone_they_are_marked() {
    let scene = Scene::new("fact_5b", "postgres-15");
    let topics = captured(
        &scene,
        &scene.spec().source(KEEP),
        "CREATE TABLE t (id int PRIMARY KEY, body text, n int); \
         ALTER TABLE t ALTER body SET STORAGE EXTERNAL; \
         INSERT INTO t VALUES (1, repeat('long', 1000), 0)",
        "UPDATE t SET n = 1",
    );
    let events = streamed(&topics, "t");
    assert_eq!(events[0].before, Value::Null);
    assert_eq!(events[0].after, json!({"id": 1, "body": "__debezium_unavailable_value", "n": 1}));
}

#[test]
fn fact_6_null_in_an_old_key_means_that_the_column_is_no_part_of_it() {
    let scene = Scene::new("fact_6", "postgres-15");
    let topics = captured(
        &scene,
        &scene.spec().source(KEEP),
        "CREATE TABLE t (note text, id int, n int, PRIMARY KEY (n, id)); INSERT INTO t VALUES \
         ('a', 1, 7)",
        "UPDATE t SET id = 2; DELETE FROM t",
    );
    let events = streamed(&topics, "t");
    assert_eq!(ops(&events), "dcd");
    // Debezium's shape: the key, and null for every other column.
    assert_eq!(events[0].before, json!({"note": null, "id": 1, "n": 7}));
    assert_eq!(events[0].key, json!({"n": 7, "id": 1}));
    assert_eq!(events[1].after, json!({"note": "a", "id": 2, "n": 7}));
    assert_eq!(events[1].key, json!({"n": 7, "id": 2}));
    assert_eq!(events[2].before, json!({"note": null, "id": 2, "n": 7}));
}

#[test]
fn fact_7_a_composite_type_may_change_without_a_word() {
    let scene = Scene::new("fact_7", "postgres-15");
    let spec = scene.spec();
    scene.sql().run(
        "CREATE TYPE pair AS (a int); CREATE TYPE word AS ENUM ('one'); \
         CREATE TABLE t (id int PRIMARY KEY, p pair, w word)",
    );
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    scene.sql().run("INSERT INTO t VALUES (1, ROW(1), 'one')");
    scene.sql().run("ALTER TYPE pair ADD ATTRIBUTE b text; ALTER TYPE word ADD VALUE 'two'");
    scene.sql().run("INSERT INTO t VALUES (2, ROW(2, 'x'), 'two'); UPDATE t SET w = 'two'");
    await_true("the last update", SOON, || streamed(&scene.topics(), "t").len() == 4);
    run.interrupt(SOON).expect(0);
    let topics = scene.topics();
    let events = streamed(&topics, "t");
    assert_eq!(events[1].after, json!({"id": 2, "p": "(2,x)", "w": "two"}));
    assert_eq!(events[2].after, json!({"id": 1, "p": "(1,)", "w": "two"}));
}

#[test]
fn fact_8_settings_of_database_and_role_change_no_value() {
    for server in ["postgres-11", "postgres-15"] {
        let scene = Scene::new("fact_8", server);
        let mut sql = scene.superuser();
        for setting in [
            "DateStyle = 'German, DMY'",
            "IntervalStyle = 'sql_standard'",
            "bytea_output = 'escape'",
            "extra_float_digits = -3",
            "TimeZone = 'Asia/Kolkata'",
            "search_path = 'nowhere'",
            "default_transaction_isolation = 'serializable'",
            "statement_timeout = '1ms'",
            "client_encoding = 'LATIN1'",
            "standard_conforming_strings = off",
        ] {
            // Of the database, for the task's sessions; the test's own set what they need.
            sql.run(&format!("ALTER DATABASE \"{}\" SET {setting}", scene.name));
        }
        let mut own = scene.sql();
        own.run(
            "SET statement_timeout = 0; SET search_path = public; \
             SET client_encoding = 'UTF8'; SET standard_conforming_strings = on",
        );
        workload::create(&mut own);
        let spec = scene.spec();
        scene.catch_up(&spec);
        own.run(
            "UPDATE shop.kinds SET id = id + 1000; INSERT INTO shop.events SELECT * FROM \
         shop.events",
        );
        scene.catch_up(&spec);
        sql.run(&format!("ALTER DATABASE \"{}\" RESET ALL", scene.name));
        scene.check(Promises::default());
    }
}

#[test]
fn fact_9_a_deferrable_key_is_no_identity() {
    let scene = Scene::new("fact_9", "postgres-15");
    let table =
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, n int); INSERT INTO t VALUES (1, 1)";
    let spec = scene.spec();
    let topics =
        captured(&scene, &spec, table, "UPDATE t SET n = 2; UPDATE t SET id = 2; DELETE FROM t");
    // With the whole row as identity it works, and the key is still the key.
    let events = streamed(&topics, "t");
    assert_eq!(ops(&events), "udcd");
    assert_eq!(events[0].key, json!({"id": 1}));
    scene.check(Promises::default());
}

#[test]
fn facts_9_and_16_a_table_without_identity_stays_usable_for_its_users() {
    for table in
        ["CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, n int)", "CREATE TABLE t (id int, n int)"]
    {
        let scene = Scene::new("fact_16", "postgres-15");
        scene.sql().run(&format!("{table}; INSERT INTO t VALUES (1, 1)"));
        let ended = scene.run(&scene.spec().source(KEEP), &["--until-caught-up"]).wait(SOON);
        // Whether it is refused or captured without updates: the users notice nothing, and it is
        // said.
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("REPLICA IDENTITY"), "no word of it:\n{said}");
        scene.sql().run("UPDATE t SET n = 2; DELETE FROM t");
    }
}

#[test]
fn fact_10_a_generated_column_does_not_make_the_users_update_fail() {
    let scene = Scene::new("fact_10", "postgres-18");
    let spec = scene.spec();
    scene.sql().run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED); \
         INSERT INTO t (id, n) VALUES (1, 1)",
    );
    let ended = scene.run(&spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
    scene.sql().run("UPDATE t SET n = 3");
    if ended.code == Some(0) {
        scene.catch_up(&spec);
        let topics = scene.topics();
        let events = streamed(&topics, "t");
        assert_eq!(ops(&events), "u");
        assert_eq!(events[0].after["n"], json!(3));
    } else {
        ended.expect(3);
        assert!(ended.stderr.contains("twice"), "the column is not named:\n{}", ended.stderr);
    }
}

#[test]
fn fact_14_a_row_that_moves_between_partitions_is_deleted_and_created() {
    for server in ["postgres-11", "postgres-15", "postgres-18"] {
        let scene = Scene::new("fact_14", server);
        let topics = captured(
            &scene,
            &scene.spec(),
            "CREATE TABLE t (id int, region text, note text) PARTITION BY LIST (region); \
             CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a'); \
             CREATE TABLE t_b (note text, region text, id int); \
             ALTER TABLE t ATTACH PARTITION t_b FOR VALUES IN ('b'); \
             INSERT INTO t VALUES (1, 'a', 'x')",
            "UPDATE t SET region = 'b'",
        );
        let events = streamed(&topics, "t");
        assert_eq!(ops(&events), "dc");
        assert_eq!(events[0].before, json!({"id": 1, "region": "a", "note": "x"}));
        assert_eq!(events[1].after, json!({"id": 1, "region": "b", "note": "x"}));
        scene.check(Promises::default());
    }
}

#[test]
fn fact_15_a_truncate_of_many_tables_reaches_each() {
    let scene = Scene::new("fact_15", "postgres-15");
    let topics = captured(
        &scene,
        &scene.spec(),
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int); \
         CREATE TABLE c (id int REFERENCES a); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); \
         INSERT INTO c VALUES (1)",
        "BEGIN; INSERT INTO b VALUES (2); TRUNCATE a, b CASCADE; INSERT INTO a VALUES (3); COMMIT",
    );
    let mut ordinals = std::collections::BTreeSet::new();
    for table in ["a", "b", "c"] {
        let events = streamed(&topics, table);
        let truncates: Vec<_> = events.iter().filter(|event| event.op == 't').collect();
        assert_eq!(truncates.len(), 4, "one in every partition");
        ordinals.extend(truncates.iter().filter_map(|event| event.id.seq).map(|seq| seq.ordinal));
    }
    assert_eq!(ordinals.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    scene.check(Promises::default());
}

#[test]
fn fact_17_rows_of_a_writer_who_was_there_first_are_not_lost() {
    for server in ["postgres-11", "postgres-15", "postgres-18"] {
        let scene = Scene::new("fact_17", server);
        let mut writer = scene.sql();
        writer.run("CREATE TABLE t (id int PRIMARY KEY, n int)");
        writer.run("BEGIN; INSERT INTO t VALUES (1, 1)");
        let mut run = scene.run(&scene.spec(), &[]);
        let mut sql = scene.superuser();
        // It waits for the writer, or it has made its slot already.
        let query = "SELECT (SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = \
         't'::regclass) \
                     + (SELECT count(*) FROM pg_replication_slots WHERE database = \
                     current_database())";
        await_true("the task at the table", SOON, || {
            assert!(!run.has_ended(), "{}", run.log());
            sql.value(query) != "0"
        });
        writer.run(
            "INSERT INTO t VALUES (2, 2); UPDATE t SET n = 3 WHERE id = 1; COMMIT; INSERT \
         INTO t VALUES (3, 3)",
        );
        scene.await_streaming(&mut run);
        run.interrupt(SOON).expect(0);
        scene.catch_up(&scene.spec());
        scene.check(Promises::default());
    }
}

#[test]
fn fact_18_a_key_that_is_out_of_line_and_unchanged_is_no_key_change() {
    let scene = Scene::new("fact_18", "postgres-15");
    let topics = captured(
        &scene,
        &scene.spec().source(KEEP),
        "CREATE TABLE t (id text PRIMARY KEY, filler text, n int); \
         ALTER TABLE t ALTER id SET STORAGE EXTERNAL, ALTER filler SET STORAGE EXTERNAL; \
         INSERT INTO t VALUES (repeat('k', 2300), repeat('f', 3000), 0)",
        "UPDATE t SET n = 1",
    );
    let events = streamed(&topics, "t");
    assert_eq!(ops(&events), "u");
    assert_eq!(events[0].key, json!({"id": "k".repeat(2300)}));
    assert_eq!(events[0].after["id"], json!("k".repeat(2300)));
    let partition = |record: &Record| (record.key.clone(), record.partition);
    let all: Vec<_> = topics.records.iter().map(partition).collect();
    assert_eq!(all[0], all[1], "snapshot and update are in one partition");
}

#[test]
fn fact_19_under_using_index_the_key_is_that_of_the_index() {
    let scene = Scene::new("fact_19", "postgres-15");
    let topics = captured(
        &scene,
        &scene.spec().source(KEEP),
        "CREATE TABLE t (a int NOT NULL, b text NOT NULL, n int PRIMARY KEY); \
         CREATE UNIQUE INDEX t_identity ON t (b, a); ALTER TABLE t REPLICA IDENTITY USING INDEX \
         t_identity; \
         INSERT INTO t VALUES (1, 'x', 9)",
        "UPDATE t SET n = 10; UPDATE t SET a = 2; DELETE FROM t",
    );
    let events = streamed(&topics, "t");
    assert_eq!(ops(&events), "udcd");
    let names = |event: &Event<'_>| {
        let members = event.key.as_object().expect("a key").keys().cloned();
        members.collect::<std::collections::BTreeSet<_>>()
    };
    for event in &events {
        assert_eq!(names(event), ["a".to_owned(), "b".to_owned()].into());
    }
    assert_eq!(events[1].key["a"], json!(1));
    assert_eq!(events[2].key["a"], json!(2));
}

#[test]
fn fact_20_on_11_leaves_carry_the_name_of_their_root() {
    let scene = Scene::new("fact_20", "postgres-11");
    captured(
        &scene,
        &scene.spec(),
        "CREATE TABLE t (id int PRIMARY KEY, note text) PARTITION BY RANGE (id); \
         CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (10); \
         CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (10) TO (100) PARTITION BY RANGE (id); \
         CREATE TABLE t_high_1 PARTITION OF t_high FOR VALUES FROM (10) TO (100); \
         INSERT INTO t VALUES (1, 'a'), (11, 'b')",
        "INSERT INTO t VALUES (2, 'c'), (12, 'd'); UPDATE t SET id = 3 WHERE id = 11; DELETE FROM \
         t WHERE id = 1",
    );
    let topics = scene.topics();
    let names: Vec<_> = topics.partitions.keys().collect();
    assert_eq!(names, [&format!("{}.public.t", scene.name)]);
    scene.check(Promises::default());
}

#[test]
fn fact_21_changes_of_one_key_come_in_commit_order_whatever_their_own_place_in_the_log() {
    let scene = Scene::new("fact_21", "postgres-15");
    let spec = scene.spec();
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY, n int)");
    scene.catch_up(&spec);
    let mut first = scene.sql();
    first.run("BEGIN; INSERT INTO t VALUES (1, 1)");
    let mut second = scene.sql();
    // Its row is in the log before it waits for the key.
    let waiting = thread::spawn(move || second.run("INSERT INTO t VALUES (1, 2)"));
    let mut sql = scene.superuser();
    await_true("the second writer at the key", SOON, || {
        sql.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
            != "0"
    });
    first.run("UPDATE t SET n = 3 WHERE id = 1; DELETE FROM t WHERE id = 1; COMMIT");
    waiting.join().expect("the second writer gets the key");
    scene.catch_up(&spec);
    let topics = scene.topics();
    let events = streamed(&topics, "t");
    assert_eq!(ops(&events), "cudc");
    assert_eq!(events[3].after, json!({"id": 1, "n": 2}));
    let lsn = |event: &Event<'_>| event.record.json()["source"]["lsn"].as_u64();
    assert!(lsn(&events[3]) < lsn(&events[2]), "the test needs an LSN that falls");
    scene.check(Promises::default());
}
