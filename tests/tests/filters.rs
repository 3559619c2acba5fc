//! Conditions of `where`: the same verdict as the server's on every row, and a topic that holds what the
//! condition is true of, from the first row of the snapshot on, whatever updates do. Of transforms the same.

#[path = "filters/predicates.rs"]
mod predicates;

use bytes::Bytes;
use postgres::settings::Settings;
use predicates::{COLUMNS, TABLE, condition, literal};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use record::plan::{TablePlan, TaskPlan};
use record::route::Scratch;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use tests::catalog::contents;
use tests::checker::{Promises, check};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::{full, say, seed};
use tests::sql::Sql;
use wal::change::{Operation, Span, Transaction};
use wal::{Change, ChangeBatch, Lsn, Table};

const ROWS: i32 = 120;

fn fill(sql: &mut Sql, rng: &mut SmallRng) {
    for id in 0..ROWS {
        let mut row = id.to_string();
        for (_, _, values) in COLUMNS {
            let value = match rng.random_range(0..5) {
                0 => "NULL".to_owned(),
                _ => literal(values[rng.random_range(0..values.len())]),
            };
            write!(row, ", {value}").expect("a string");
        }
        sql.run(&format!("INSERT INTO t VALUES ({row})"));
    }
}

/// The table as the product sees it.
fn table(scene: &Scene) -> Table {
    let task = config::Task::parse(&scene.spec().yaml()).expect("a spec");
    let settings = Settings::new(&task, Path::new(".")).expect("settings");
    let oid = scene.sql().value("SELECT 't'::regclass::oid").parse().expect("an OID");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tables = runtime
        .expect("a runtime")
        .block_on(async { postgres::Session::connect(&settings).await?.tables(&[oid]).await });
    tables.expect("the table").remove(0)
}

fn put(value: Option<Vec<u8>>, kind: u8, out: &mut Vec<u8>) {
    let Some(value) = value else { return out.push(b'n') };
    out.push(kind);
    out.extend_from_slice(&u32::try_from(value.len()).expect("few").to_be_bytes());
    out.extend_from_slice(&value);
}

/// Every row as an inserted one, in text or in binary form.
fn rows(sql: &mut Sql, table: &Arc<Table>, binary: bool) -> ChangeBatch {
    let column = |(name, send, _): &(&str, &str, &[&str])| match binary {
        true => format!("encode({send}(\"{name}\"), 'hex')"),
        false => format!("\"{name}\"::text"),
    };
    let list: Vec<_> = COLUMNS.iter().map(column).collect();
    let id = if binary { "encode(int4send(id), 'hex')" } else { "id::text" };
    // Casts to text would trim what `char(n)` sends.
    let list = list.join(", ").replace("\"c\"::text", "rpad(\"c\"::text, 6)");
    let mut bytes = Vec::new();
    let mut changes = Vec::new();
    for (ordinal, row) in (0..).zip(sql.rows(&format!("SELECT {id}, {list} FROM t ORDER BY t.id")))
    {
        let start = u32::try_from(bytes.len()).expect("few");
        bytes.extend_from_slice(&u16::try_from(row.len()).expect("few").to_be_bytes());
        for value in row {
            let hex = |at: usize, text: &str| u8::from_str_radix(&text[at..at + 2], 16);
            let value = value.map(|text| match binary {
                true => (0..text.len()).step_by(2).map(|at| hex(at, &text).expect("hex")).collect(),
                false => match text.as_str() {
                    // A cast of a boolean prints more than its output function.
                    "true" => b"t".to_vec(),
                    "false" => b"f".to_vec(),
                    text => text.as_bytes().to_vec(),
                },
            });
            put(value, if binary { b'b' } else { b't' }, &mut bytes);
        }
        let new = Some(Span { start, end: u32::try_from(bytes.len()).expect("few") });
        let (lsn, operation) = (Lsn(8), Operation::Insert);
        changes.push(Change { transaction: 0, table: 0, ordinal, lsn, operation, old: None, new });
    }
    let transaction = Transaction {
        xid: 1,
        commit_lsn: Lsn(8),
        previous_commit_lsn: None,
        commit_time: 0,
        changes_count: None,
    };
    ChangeBatch {
        bytes: Bytes::from(bytes),
        changes,
        transactions: vec![transaction],
        tables: vec![Arc::clone(table)],
        ..ChangeBatch::default()
    }
}

fn plan(table: &Arc<Table>, condition: &str) -> TablePlan {
    let object = config::Object {
        table: "public.t".into(),
        condition: Some(condition.into()),
        operations: Some(vec![config::Operation::Insert]),
        ..config::Object::default()
    };
    let task =
        config::Task { task: "filters".into(), objects: vec![object], ..config::Task::default() };
    let plan =
        TaskPlan::new(&task, "d").and_then(|it| TablePlan::new(Arc::clone(table), &it, 0, 1, 1));
    plan.unwrap_or_else(|error| panic!("{condition}\n{error}"))
}

/// Ids of the rows that are let through.
fn judged(plan: &TablePlan, rows: &ChangeBatch) -> Vec<String> {
    let (mut scratch, mut ids) = (Scratch::default(), Vec::new());
    for index in 0..u32::try_from(rows.changes.len()).expect("few") {
        plan.route(rows, index, &mut scratch, &mut |piece| {
            assert_eq!(piece.part, record::route::Part::Whole, "not judged");
            ids.push(piece.change.to_string());
        });
    }
    ids
}

fn same_verdicts(server: &str, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let scene = Scene::new("filters", server);
    let mut sql = scene.sql();
    sql.run(TABLE);
    fill(&mut sql, &mut rng);
    let table = Arc::new(table(&scene));
    let (text, binary) = (rows(&mut sql, &table, false), rows(&mut sql, &table, true));
    let (mut selective, count) = (0, if full() { 10_000 } else { 1_000 });
    for _ in 0..count {
        let condition = condition(&mut rng, 3);
        let plan = plan(&table, &condition);
        let mut ask = |condition: &str| -> Vec<String> {
            let rows = sql.rows(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"));
            rows.into_iter().flatten().flatten().collect()
        };
        let expected = ask(&condition);
        let pushed = plan.condition().expect("a condition");
        assert_eq!(ask(pushed), expected, "as SQL for the server:\n{condition}\n{pushed}");
        assert_eq!(judged(&plan, &text), expected, "judged by texts:\n{condition}");
        assert_eq!(judged(&plan, &binary), expected, "judged by binary values:\n{condition}");
        selective += usize::from(!expected.is_empty() && expected.len() < text.changes.len());
    }
    say(&format!("filters on {server}: {count} conditions, {selective} of them true of some rows"));
    assert!(count / 4 < selective, "the conditions decide nothing");
}

#[test]
fn conditions_have_the_server_s_verdict() {
    let seed = seed("filters", 9);
    let servers: &[&str] =
        if full() { &["postgres-11", "postgres-15", "postgres-18"] } else { &["postgres-15"] };
    for server in servers {
        same_verdicts(server, seed);
    }
}

/// Some rows come, go and change, also their keys, in transactions.
fn write(sql: &mut Sql, rng: &mut SmallRng, next_id: &mut i32) {
    let mut statements = String::from("BEGIN;");
    for _ in 0..rng.random_range(1..8) {
        let (id, total) = (rng.random_range(0..=*next_id), rng.random_range(0..200));
        let state = ["'draft'", "'paid'", "NULL"][rng.random_range(0..3)];
        statements += &match rng.random_range(0..6) {
            0 | 1 => {
                *next_id += 1;
                format!(
                    "INSERT INTO orders VALUES ({next_id}, {total}.5, {state}, repeat('x', 3000));"
                )
            }
            2 => format!("DELETE FROM orders WHERE id = {id};"),
            3 => format!("UPDATE orders SET id = -id WHERE id = {id};"),
            _ => format!("UPDATE orders SET total = {total}, state = {state} WHERE id = {id};"),
        };
    }
    sql.run(&(statements + "COMMIT"));
}

#[test]
fn a_topic_holds_what_the_condition_is_true_of() {
    filtered("filtered", "");
}

#[test]
fn a_topic_holds_the_same_where_the_publication_leaves_rows_out() {
    let scene = filtered("row_filtered", ", publication_filter: true");
    let filter = "SELECT pg_get_expr(prqual, prrelid) FROM pg_publication_rel \
                  WHERE prrelid = 'orders'::regclass";
    let filter = scene.sql().value(filter);
    assert!(filter.contains("total") && filter.contains("draft"), "{filter}");
    // What the server sends of the publication: as often as the row enters the condition, and nothing of what it leaves out.
    let slot = scene.slot();
    let mut sql = scene.superuser();
    sql.run("SELECT pg_create_logical_replication_slot('row_filtered_probe', 'pgoutput')");
    sql.run(
        "INSERT INTO orders SELECT id, 50, 'paid', 'x' FROM generate_series(1000000, 1000999) id; \
         UPDATE orders SET total = 150 WHERE id = 1000000; \
         UPDATE orders SET total = 151 WHERE id = 1000000; \
         UPDATE orders SET total = 51 WHERE id = 1000000",
    );
    let sent = sql.value(&format!(
        "SELECT string_agg(chr(get_byte(data, 0)), '' ORDER BY lsn) \
         FROM pg_logical_slot_get_binary_changes('row_filtered_probe', NULL, NULL, \
           'proto_version', '1', 'publication_names', '{slot}') \
         WHERE get_byte(data, 0) IN (ascii('I'), ascii('U'), ascii('D'))"
    ));
    sql.run("SELECT pg_drop_replication_slot('row_filtered_probe')");
    assert_eq!(sent, "IUD");
}

#[test]
fn where_servers_have_no_row_filters_the_condition_is_judged_here_only() {
    let scene = Scene::new("unfiltered", "postgres-14");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)");
    let object = "{table: public.t, where: id > 1, publication_filter: true}";
    let spec = scene.spec().objects(&[object]);
    let (state, seen, _) = scene.checked(&spec, "source.publication_filters");
    assert!(state == "warning" && seen.contains("15"), "{state} {seen}");
    scene.catch_up(&spec);
    assert_eq!(scene.topics().records.len(), 2);
    let keep = scene.spec().objects(&[object]).source("replica_identity: keep");
    let ended = scene.run(&keep, &[]).wait(CATCH_UP_MAX);
    ended.expect(2);
    assert!(ended.stderr.contains("needs `source.replica_identity: full`"), "{}", ended.stderr);
}

/// `more`: what the object has besides its condition.
fn filtered(label: &str, more: &str) -> Scene {
    let mut rng = SmallRng::seed_from_u64(seed(label, 28));
    let scene = Scene::new(label, "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE orders (id int PRIMARY KEY, total numeric(12, 2), state text, note text); \
         ALTER TABLE orders ALTER note SET STORAGE EXTERNAL; CREATE TABLE other (id int PRIMARY KEY)",
    );
    let mut next_id = 0;
    (0..60).for_each(|_| write(&mut sql, &mut rng, &mut next_id));
    let condition = "total > 100 and state <> 'draft' and note like 'x%'";
    let object = format!("{{table: public.orders, where: \"{condition}\"{more}}}");
    let spec = scene.spec().objects(&[&object, "{table: \"*.*\"}"]);
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    for _ in 0..if full() { 2000 } else { 200 } {
        write(&mut sql, &mut rng, &mut next_id);
    }
    run.kill();
    (0..50).for_each(|_| write(&mut sql, &mut rng, &mut next_id));
    sql.run("TRUNCATE other; INSERT INTO other VALUES (1)");
    scene.catch_up(&spec);
    // What the condition is not true of was never sent: without it, database and topics are the same.
    sql.run(&format!("DELETE FROM orders WHERE ({condition}) IS NOT TRUE"));
    let promises = Promises { everything: false, ..Promises::default() };
    let report = check(promises, &scene.topics(), &contents(&mut scene.superuser()));
    report.assert_clean();
    assert!(20 < report.rows, "{} rows are no test", report.rows);
    say(&format!("{label}: {} records, {} rows", report.records, report.rows));
    scene
}

/// The same as `TRANSFORMED`, in SQL.
const TRANSFORM: &str = "[row.state == 'draft' ? drop : keep, \
                         {'note': row.state == null ? null : 'is ' + row.state.upperAscii()}, \
                         double(row.total) > 100.0 ? {'total': '100.00'} : keep]";
const TRANSFORMED: &str = "DELETE FROM orders WHERE state = 'draft'; \
                           UPDATE orders SET note = 'is ' || upper(state), total = least(total, 100)";

#[test]
fn a_topic_holds_what_the_transform_makes_of_rows() {
    let mut rng = SmallRng::seed_from_u64(seed("transformed", 30));
    let scene = Scene::new("transformed", "postgres-15");
    let mut sql = scene.sql();
    sql.run(
        "CREATE TABLE orders (id int PRIMARY KEY, total numeric(12, 2), state text, note text); \
         ALTER TABLE orders ALTER note SET STORAGE EXTERNAL",
    );
    for (transform, expected) in [
        ("row.gone == 1 ? drop : keep", "no column `gone`"),
        ("row.total > 100 ? drop : keep", "double()"),
        ("{'id': 1}", "message key"),
    ] {
        let object = format!("{{table: public.orders, transform: \"{transform}\"}}");
        let ended = scene.run(&scene.spec().objects(&[&object]), &[]).wait(CATCH_UP_MAX);
        assert_eq!(ended.code, Some(3), "{transform}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{transform}: {}", ended.stderr);
    }
    let mut next_id = 0;
    (0..60).for_each(|_| write(&mut sql, &mut rng, &mut next_id));
    let object = format!("{{table: public.orders, transform: \"{TRANSFORM}\"}}");
    let spec = scene.spec().objects(&[&object]);
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    for _ in 0..if full() { 2000 } else { 200 } {
        write(&mut sql, &mut rng, &mut next_id);
    }
    run.kill();
    (0..50).for_each(|_| write(&mut sql, &mut rng, &mut next_id));
    scene.catch_up(&spec);
    // Nobody captures this: database and topics are the same then.
    sql.run(TRANSFORMED);
    let promises = Promises { everything: false, ..Promises::default() };
    let report = check(promises, &scene.topics(), &contents(&mut scene.superuser()));
    report.assert_clean();
    assert!(20 < report.rows, "{} rows are no test", report.rows);
    say(&format!("transformed: {} records, {} rows", report.records, report.rows));
}

#[test]
fn what_would_not_have_the_server_s_verdict_does_not_start() {
    let scene = Scene::new("refused", "postgres-15");
    scene.sql().run(
        "CREATE COLLATION nobody_minds (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE t (id int PRIMARY KEY, name text COLLATE nobody_minds, total int)",
    );
    let refused = [
        ("name = 'a'", "the collation of `name` calls different texts equal"),
        ("lower(name) = 'a'", "functions are not part of the subset"),
        ("gone > 1", "public.t has no column `gone`"),
        ("total > '1.5'", "a whole number of the column's range"),
    ];
    for (condition, expected) in refused {
        let object = format!("{{table: public.t, where: \"{condition}\"}}");
        let ended = scene.run(&scene.spec().objects(&[&object]), &[]).wait(CATCH_UP_MAX);
        assert_eq!(ended.code, Some(3), "{condition}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{condition}: {}", ended.stderr);
    }
    let keep = scene.spec().source("replica_identity: keep");
    let ended = scene.run(&keep.objects(&["{table: public.t, where: total > 1}"]), &[]);
    let ended = ended.wait(CATCH_UP_MAX);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("REPLICA IDENTITY FULL"), "{}", ended.stderr);
    let fine = "{table: public.t, where: \"name COLLATE \\\"C\\\" = 'a'\"}";
    scene.catch_up(&scene.spec().objects(&[fine]));
}
