//! What the spec makes of rows is the same in a copy and in the stream; copies of every order of texts; a
//! task without a copy, and one without a stream.

use super::{COPIED, COPYING, PROMISES, spec};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use tests::deadline::await_true;
use tests::event::Event;
use tests::process::Distributary;
use tests::reader::Topics;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::seed;
use tests::sql::{ROLE, Sql, quoted};
use tests::task::Spec;

/// Rows that the copy reads slowly, so that it can be met in its middle.
const ROWS: u32 = 3000;
const SLOWLY: &str = "throttle: {snapshot: {rows: 1000}}";

/// The scene's database made again with other words.
fn database(scene: &Scene, words: &str) {
    let mut sql = Sql::superuser(&scene.postgres, "postgres");
    let name = quoted(&scene.name);
    sql.run(&format!("DROP DATABASE {name}"));
    sql.run(&format!("CREATE DATABASE {name} OWNER {ROLE} TEMPLATE template0 {words}"));
}

/// Last rows by their keys, as a consumer of a task's topics has them, and how many were read by a snapshot.
fn rows(scene: &Scene, task: &str) -> (BTreeMap<String, Value>, usize) {
    scene.await_settled();
    let (mut rows, mut read) = (BTreeMap::new(), 0);
    for record in Topics::read(&scene.kafka, &format!("{task}.public.")).records {
        let key = record.key_json().to_string();
        let after = match &record.value {
            Some(_) => {
                read += usize::from(Event::parse(&record).expect("an event").op == 'r');
                record.json()["after"].take()
            }
            None => Value::Null,
        };
        if after.is_null() { drop(rows.remove(&key)) } else { drop(rows.insert(key, after)) }
    }
    (rows, read)
}

/// Writes as long as the copy lasts; some of it at least.
fn write_meanwhile(run: &mut Distributary, mut write: impl FnMut()) {
    run.await_log(COPYING, CATCH_UP_MAX);
    let mut written = 0;
    await_true("the end of the copy", CATCH_UP_MAX, || {
        let is_over = run.log().contains(COPIED);
        if !is_over {
            write();
            written += 1;
        }
        is_over
    });
    assert!(3 < written, "the copy was over at once:\n{}", run.log());
}

/// One task has every row from the stream, the other copies them while they change: in an encoding of its
/// own, with a condition that rows begin and cease to fulfil, a mask, and a column less.
#[test]
fn a_copy_gives_the_rows_that_the_stream_gives() {
    let mut rng = SmallRng::seed_from_u64(seed("shaped", 2811));
    let scene = Scene::new("shaped", "postgres-15");
    database(&scene, "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE note (k text PRIMARY KEY, n int, email text, hidden text); \
         INSERT INTO note VALUES ('vorher', 99, 'früh@x', 'verborgen')",
    );
    fs::write(scene.folder().join("mask.key"), "0123456789-0123456789\n").expect("written");
    let object = "{table: public.note, where: \"n >= 10\", \
                   columns: {exclude: [hidden], mask: {email: hmac-sha256}}}";
    let shaped =
        |spec: Spec| spec.line("mask_key: ${file:mask.key}").objects(&[object]).line("lanes: 3");
    let streamed_task = format!("{}_s", scene.name);
    let streamed = Spec::new(&streamed_task, &scene.postgres, &scene.name, &scene.kafka);
    let streamed = shaped(streamed.line("sync: {definitions: false, snapshot: false}"));
    scene.run(&streamed, &["--until-caught-up"]).wait(CATCH_UP_MAX).expect(0);
    sql.run(&format!(
        "INSERT INTO note SELECT 'größe-' || n, n % 30, 'ä' || n || '@x', 'verborgen' \
         FROM generate_series(1, {ROWS}) n"
    ));
    let copied = shaped(spec(&scene).line(SLOWLY));
    let mut run = scene.run(&copied, &[]);
    write_meanwhile(&mut run, || {
        let (one, n) = (rng.random_range(1..2 * ROWS), rng.random_range(0..30));
        sql.run(&format!(
            "UPDATE note SET n = {n}, email = 'ö' || n WHERE k = 'größe-{one}'; \
             DELETE FROM note WHERE k = 'größe-{}'; \
             INSERT INTO note VALUES ('größe-{one}', {n}, 'ü@x', 'verborgen') ON CONFLICT DO NOTHING; \
             UPDATE note SET k = 'ß' || k WHERE k = 'größe-{}' AND n < 20",
            rng.random_range(1..ROWS),
            rng.random_range(1..ROWS)
        ));
    });
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&copied);
    scene.run(&streamed, &["--until-caught-up"]).wait(CATCH_UP_MAX).expect(0);
    let (by_stream, read) = rows(&scene, &streamed_task);
    assert_eq!(read, 0, "`sync.snapshot: false` reads nothing");
    let (mut by_copy, read) = rows(&scene, &scene.name);
    assert!(ROWS as usize / 3 < read, "{read} rows were copied");
    let before = by_copy.remove("{\"k\":\"vorher\"}").expect("what was there before is copied");
    assert_eq!(by_stream, by_copy);
    let fulfil = sql.value("SELECT count(*) FROM note WHERE n >= 10 AND k <> 'vorher'");
    assert_eq!(by_copy.len().to_string(), fulfil);
    for row in by_copy.values().chain([&before]) {
        let columns: Vec<&String> = row.as_object().expect("a row").keys().collect();
        assert_eq!(columns, ["k", "n", "email"]);
        assert_eq!(row["email"].as_str().map(str::len), Some(64), "{row}");
    }
}

/// Orders in which numbers within texts count, and one in which texts are equal that are not the same.
#[test]
fn texts_in_an_order_of_icu_are_copied_whole() {
    let mut rng = SmallRng::seed_from_u64(seed("icu", 2812));
    let scene = Scene::new("icu", "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE COLLATION numbers (provider = icu, locale = 'en-u-kn-true'); \
         CREATE COLLATION alike (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    );
    let orders = ["\"de-x-icu\"", "numbers", "alike"];
    for (number, order) in (0..).zip(orders) {
        let number: u32 = number;
        sql.run(&format!(
            "CREATE TABLE t_{number} (k text COLLATE {order} PRIMARY KEY, v text); \
             INSERT INTO t_{number} SELECT (ARRAY['Ä', 'a', 'Z', 'z-', 'ß '])[n % 5 + 1] || n, n \
             FROM generate_series(1, {}) n",
            ROWS / 3
        ));
    }
    let spec = spec(&scene).line(SLOWLY);
    let mut run = scene.run(&spec, &[]);
    write_meanwhile(&mut run, || {
        let (table, one) = (rng.random_range(0..3), rng.random_range(1..ROWS / 3));
        sql.run(&format!(
            "UPDATE t_{table} SET v = v || '+' WHERE k = 'a{one}'; \
             UPDATE t_{table} SET k = upper(k), v = 'larger' WHERE k = 'z-{}'; \
             DELETE FROM t_{table} WHERE k = 'Ä{}'; INSERT INTO t_{table} VALUES ('Ä{}', 'again') \
               ON CONFLICT DO NOTHING",
            one + 1,
            one + 2,
            one + 2
        ));
    });
    run.interrupt(CATCH_UP_MAX).expect(0);
    scene.catch_up(&spec);
    let report = scene.check(PROMISES);
    assert!(ROWS as usize * 9 / 10 < report.rows, "{} rows are left", report.rows);
    assert_eq!(report.read_again, 0, "rows were read twice");
}

/// Without a stream the task is over once everything is read, leaves nothing behind, and writes nothing more.
#[test]
fn a_task_without_a_stream_completes() {
    let scene = Scene::new("alone", "postgres-15");
    scene.sql().run(
        "CREATE TABLE t (k int PRIMARY KEY, v text); CREATE TABLE keyless (v text); \
         INSERT INTO t SELECT n, n FROM generate_series(1, 500) n; INSERT INTO keyless VALUES ('x')",
    );
    // What is copied beside a stream elsewhere is read in one snapshot here.
    let spec = spec(&scene).line("sync: {definitions: false, incremental: false}");
    scene.run(&spec, &[]).wait(CATCH_UP_MAX).expect(0);
    let (copied, read) = rows(&scene, &scene.name);
    assert_eq!((copied.len(), read), (500 + 1, 500 + 1));
    let left = scene.superuser().value(
        "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_event_trigger) \
           + (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'distributary%')",
    );
    assert_eq!((left.as_str(), scene.slots()), ("0", Vec::new()));
    scene.sql().run("INSERT INTO t VALUES (501, 'later')");
    scene.run(&spec, &[]).wait(CATCH_UP_MAX).expect(0);
    assert_eq!(rows(&scene, &scene.name), (copied, read), "it is over");
    assert_eq!(scene.slots(), Vec::<String>::new());
}
