//! Canal, Maxwell and SharePlex JSON from a real database into a real topic: every type, from the
//! snapshot and from the stream, against what the server itself makes of the value; and every operation.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use tests::reader::{Record, Topics};
use tests::scene::Scene;
use tests::seed::full;
use tests::sql::Sql;
use tests::workload;

/// How far the UPDATE of the stream moves the keys of the snapshot.
const MOVED_BY: i64 = 1000;

/// A column of the table of many types.
struct Kind {
    name: String,
    /// Of a domain, the base type.
    type_: String,
    /// Element of an array, and its `typtype`.
    element: Option<(String, String)>,
}

fn kinds(sql: &mut Sql) -> Vec<Kind> {
    let rows = sql.rows(
        "SELECT a.attname, b.typname, e.typname, e.typtype FROM pg_attribute a \
         JOIN pg_type t ON t.oid = a.atttypid \
         JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
         LEFT JOIN pg_type e ON b.typcategory = 'A' AND e.oid = b.typelem \
         WHERE a.attrelid = 'shop.kinds'::regclass AND 0 < attnum AND NOT attisdropped \
         AND attname <> 'id' ORDER BY attnum",
    );
    let kind = |row: tests::sql::Row| {
        let mut texts = row.into_iter();
        let mut next = || texts.next().flatten();
        Kind {
            name: next().expect("a name"),
            type_: next().expect("a type"),
            element: next().zip(next()),
        }
    };
    rows.into_iter().map(kind).collect()
}

/// What the server prints of a column. `concat` calls the output function; a cast would not keep the
/// padding of `char(n)`.
fn printed(column: &str) -> String {
    format!("CASE WHEN {column} IS NOT DISTINCT FROM NULL THEN NULL ELSE concat({column}) END")
}

fn base64(column: &str) -> String {
    format!("replace(encode({column}, 'base64'), E'\\n', '')")
}

/// A moment in UTC whose year has four digits, with another end.
fn ended(column: &str, end: &str) -> String {
    format!("regexp_replace({}, '^(\\d{{4}}-[^B]*)\\+00$', '\\1{end}')", printed(column))
}

/// The string that stands for a value in Canal JSON, in SQL.
fn canal(kind: &Kind) -> String {
    let name = &kind.name;
    match kind.type_.as_str() {
        "bool" => format!("{name}::text"),
        "bytea" => base64(name),
        "timestamptz" => ended(name, "Z"),
        "timetz" => format!("regexp_replace({}, '([+-]\\d\\d)$', '\\1:00')", printed(name)),
        _ => printed(name),
    }
}

fn shareplex(kind: &Kind) -> String {
    let (name, text) = (&kind.name, printed(&kind.name));
    let form = "'YYYY-MM-DD\"T\"HH24:MI:SS.US'";
    match kind.type_.as_str() {
        "timestamp" => format!(
            "CASE WHEN {text} ~ '^\\d{{4}}-[^B]*$' THEN to_char({name}, {form}) || '000' ELSE {text} END"
        ),
        "timestamptz" => format!(
            "CASE WHEN {text} ~ '^\\d{{4}}-[^B]*\\+00$' THEN \
             to_char({name} AT TIME ZONE 'UTC', {form}) || '000Z' ELSE {text} END"
        ),
        _ => canal(kind),
    }
}

/// The JSON value that stands for a value in Maxwell JSON, in SQL.
fn maxwell(kind: &Kind) -> String {
    let (name, text) = (&kind.name, printed(&kind.name));
    let number = format!(
        "CASE WHEN {text} IN ('NaN', 'Infinity', '-Infinity') THEN to_json({text}) ELSE ({text})::json END"
    );
    let array =
        |items: &str| format!("CASE WHEN {text} LIKE '[%' THEN to_json({text}) ELSE {items} END");
    let each = |item: &str| {
        array(&format!(
            "CASE WHEN {name} IS NULL THEN NULL ELSE \
             to_json(ARRAY(SELECT {item} FROM unnest({name}) item)) END"
        ))
    };
    let element = kind.element.as_ref().map(|(name, type_)| (name.as_str(), type_.as_str()));
    match (kind.type_.as_str(), element) {
        (_, Some(("timestamptz", _))) => each(&ended("item", "")),
        (_, Some(("bytea", _))) => each(&base64("item")),
        (_, Some((_, "b" | "e"))) => array(&format!("to_json({name})")),
        ("int2" | "int4" | "int8" | "oid" | "float4" | "float8" | "numeric", _) => number,
        ("bool", _) => format!("to_json({name})"),
        ("bytea", _) => format!("to_json({})", base64(name)),
        ("timestamptz", _) => format!("to_json({})", ended(name, "")),
        ("json" | "jsonb", _) => format!("{name}::json"),
        _ => format!("to_json({text})"),
    }
}

/// Rows of the table of many types by id, as a format should write them.
fn expected(sql: &mut Sql, is_json: bool, of: fn(&Kind) -> String) -> BTreeMap<i64, Value> {
    let kinds = kinds(sql);
    let values: Vec<_> = kinds.iter().map(of).collect();
    let rows = sql.rows(&format!("SELECT id, {} FROM shop.kinds", values.join(", ")));
    let row = |row: tests::sql::Row| {
        let id = row[0].as_deref().expect("a key").parse::<i64>().expect("a number");
        let value = |text: &Option<String>| match text {
            None => Value::Null,
            Some(text) if is_json => serde_json::from_str(text).expect("JSON"),
            Some(text) => Value::from(text.as_str()),
        };
        let names = kinds.iter().map(|kind| kind.name.clone());
        (id, Value::Object(names.zip(row[1..].iter().map(value)).collect()))
    };
    rows.into_iter().map(row).collect()
}

/// Key and other columns of a row.
fn parted(row: &Value) -> (i64, Value) {
    let mut row = row.as_object().expect("a row").clone();
    let id = row.remove("id").expect("an id");
    let id = id.as_i64().or_else(|| id.as_str()?.parse().ok()).expect("a number");
    (id, Value::Object(row))
}

/// Runs a task of a format over both tables, checks every type, and returns what came of the operations.
/// `found`: the row that a message of the stream tells of.
fn carried(
    server: &str,
    format: &str,
    is_json: bool,
    of: fn(&Kind) -> String,
    row: fn(&Value) -> (Value, Value),
) -> Vec<Record> {
    let scene = Scene::new("formats", server);
    let mut sql = scene.sql();
    workload::create(&mut sql);
    sql.run(
        "CREATE SCHEMA o; CREATE TABLE o.orders (id bigint PRIMARY KEY, note text, total numeric(12,2)); \
         INSERT INTO o.orders VALUES (1, 'first', 49.9)",
    );
    let spec = scene
        .spec()
        .sink(&format!("format: {format}"))
        .sink("partitions: 1")
        .objects(&["{table: shop.kinds}", "{table: o.orders}"]);
    scene.catch_up(&spec);
    sql.run(&format!("UPDATE shop.kinds SET id = id + {MOVED_BY}"));
    sql.run(
        "BEGIN; INSERT INTO o.orders VALUES (2, 'second', 1.5); \
         INSERT INTO o.orders VALUES (3, NULL, NULL); COMMIT",
    );
    sql.run("UPDATE o.orders SET note = 'changed' WHERE id = 2");
    sql.run("UPDATE o.orders SET id = 4 WHERE id = 3");
    sql.run("DELETE FROM o.orders WHERE id = 4");
    sql.run("TRUNCATE o.orders");
    scene.catch_up(&spec);

    let Topics { records, .. } = scene.topics();
    let (kinds, orders): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| record.topic.ends_with(".shop.kinds"));
    let expected = expected(&mut sql, is_json, of);
    assert!(5 < expected.len());
    assert_eq!(kinds.len(), 2 * expected.len(), "a row of the snapshot and an update for each");
    for record in &kinds {
        let (new, old) = row(&record.json());
        let (id, values) = parted(&new);
        let from_stream = MOVED_BY <= id;
        let known = &expected[&if from_stream { id } else { id + MOVED_BY }];
        if from_stream {
            assert_eq!(parted(&old).0, id - MOVED_BY);
        }
        for (column, value) in known.as_object().expect("a row") {
            assert_eq!(&values[column], value, "{column} of row {id}");
        }
        assert_eq!(
            values.as_object().map(serde_json::Map::len),
            known.as_object().map(serde_json::Map::len)
        );
    }
    for record in &orders {
        let named = |name: &str| record.headers.iter().any(|(found, _)| found == name);
        assert!(named("distributary.task") && named("distributary.lsn"));
        assert!(named("distributary.seq") || named("distributary.snapshot"));
    }
    orders
}

fn said(orders: &[Record], members: &[&str]) -> Vec<Value> {
    let told = |record: &Record| {
        let message = record.json();
        members.iter().map(|path| message.pointer(path).cloned().unwrap_or(Value::Null)).collect()
    };
    orders.iter().map(told).collect()
}

/// Each format on another version, and with `--full` all of them on the oldest and the newest.
#[test]
fn canal_json() {
    let row = |message: &Value| (message["data"][0].clone(), message["old"][0].clone());
    let orders = carried("postgres-11", "canal-json", false, canal, row);
    assert_eq!(
        said(&orders, &["/type", "/data", "/old"]),
        [
            json!(["INSERT", [{"id": "1", "note": "first", "total": "49.90"}], null]),
            json!(["INSERT", [{"id": "2", "note": "second", "total": "1.50"}], null]),
            json!(["INSERT", [{"id": "3", "note": null, "total": null}], null]),
            json!(["UPDATE", [{"id": "2", "note": "changed", "total": "1.50"}], [{"note": "second"}]]),
            json!(["UPDATE", [{"id": "4", "note": null, "total": null}], [{"id": "3"}]]),
            json!(["DELETE", [{"id": "4", "note": null, "total": null}], null]),
            json!(["TRUNCATE", null, null]),
        ]
    );
    let types = json!({"id": "bigint", "note": "text", "total": "numeric(12,2)"});
    assert_eq!(orders[0].json()["mysqlType"], types);
    let ids: Vec<_> = orders.iter().map(|record| record.json()["id"].as_u64()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(orders.iter().all(|record| record.key.is_none()));
}

#[test]
fn maxwell_json() {
    // All columns but the key are what they were, so that `old` has the key alone.
    let row = |message: &Value| (message["data"].clone(), message["old"].clone());
    let orders = carried("postgres-18", "maxwell-json", true, maxwell, row);
    assert_eq!(
        said(&orders, &["/type", "/data", "/old"]),
        [
            json!(["insert", {"id": 1, "note": "first", "total": 49.90}, null]),
            json!(["insert", {"id": 2, "note": "second", "total": 1.50}, null]),
            json!(["insert", {"id": 3, "note": null, "total": null}, null]),
            json!(["update", {"id": 2, "note": "changed", "total": 1.50}, {"note": "second"}]),
            json!(["update", {"id": 4, "note": null, "total": null}, {"id": 3}]),
            json!(["delete", {"id": 4, "note": null, "total": null}, null]),
        ]
    );
    let xids: Vec<_> = orders.iter().map(|record| record.json()["xid"].as_u64()).collect();
    assert!(xids[0].is_none() && xids[1].is_some() && xids[1] == xids[2] && xids[2] < xids[3]);
    let commits = said(&orders, &["/commit"]);
    let last = json!([true]);
    // A row of the snapshot, then the first of two rows.
    assert!(commits[..2].iter().all(|it| *it == json!([null])), "{commits:?}");
    assert!(commits[2..].iter().all(|it| *it == last), "{commits:?}");
    assert_eq!(orders[1].key_json(), json!({"database": "o", "table": "orders", "pk.id": 2}));
}

/// `data` of an update has what changed; the old row is `key`.
fn shareplex_row(message: &Value) -> (Value, Value) {
    match message.get("key") {
        Some(old) => {
            let mut new = old.clone();
            for (column, value) in message["data"].as_object().expect("columns") {
                new[column] = value.clone();
            }
            (new, old.clone())
        }
        None => (message["data"].clone(), Value::Null),
    }
}

#[test]
fn shareplex_json() {
    let orders = carried("postgres-15", "shareplex-json", false, shareplex, shareplex_row);
    let second = json!({"id": "2", "note": "second", "total": "1.50"});
    let third = json!({"id": "3", "note": null, "total": null});
    assert_eq!(
        said(&orders, &["/meta/op", "/meta/seq", "/data", "/key"]),
        [
            json!(["ins", orders[0].json()["meta"]["seq"], {"id": "1", "note": "first", "total": "49.90"}, null]),
            json!(["ins", 1, second, null]),
            json!(["ins", 2, third, null]),
            json!(["upd", 1, {"note": "changed"}, second]),
            json!(["upd", 1, {"id": "4"}, third]),
            json!(["del", 1, {"id": "4", "note": null, "total": null}, null]),
            json!(["trunc", 1, {}, null]),
        ]
    );
    for record in &orders {
        let meta = &record.json()["meta"];
        assert_eq!(meta["table"], "o.orders");
        assert_eq!(meta["idx"], format!("{}/{}", meta["seq"], meta["size"]));
    }
    assert_eq!(said(&orders[1..], &["/meta/size"]), [2, 2, 1, 1, 1, 1].map(|size| json!([size])));
    let scns: Vec<_> = orders.iter().map(|record| record.json()["meta"]["scn"].clone()).collect();
    assert_eq!(scns[1], scns[2]);
    assert_ne!(scns[2], scns[3]);
}

#[test]
fn every_format_on_the_oldest_and_the_newest_version() {
    if !full() {
        return;
    }
    let canal_row = |message: &Value| (message["data"][0].clone(), message["old"][0].clone());
    let maxwell_row = |message: &Value| (message["data"].clone(), message["old"].clone());
    carried("postgres-18", "canal-json", false, canal, canal_row);
    carried("postgres-11", "maxwell-json", true, maxwell, maxwell_row);
    for server in ["postgres-11", "postgres-18"] {
        carried(server, "shareplex-json", false, shareplex, shareplex_row);
    }
}

/// Rows of a transaction that takes many batches, and bytes of each; together less than is held.
const MANY: (usize, usize) = (20, 100_000);
/// More than is held.
const TOO_MANY: (usize, usize) = (24, 600_000);

#[test]
fn a_transaction_of_many_batches_says_its_length() {
    let scene = Scene::new("lengths", "postgres-15");
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id bigint PRIMARY KEY, note text)");
    let spec = |format: &str| scene.spec().sink(&format!("format: {format}")).sink("partitions: 1");
    let shareplex = spec("shareplex-json");
    scene.catch_up(&shareplex);
    let insert = |from: usize, (rows, bytes): (usize, usize)| {
        let to = from + rows - 1;
        format!("INSERT INTO t SELECT n, repeat('x', {bytes}) FROM generate_series({from}, {to}) n")
    };
    sql.run(&insert(1, MANY));
    sql.run(&insert(100, TOO_MANY));
    sql.run(&insert(200, (1, 1)));
    scene.catch_up(&shareplex);
    let found: Vec<_> = scene.topics().records;
    let expected =
        std::iter::repeat_n(MANY.0, MANY.0).chain(std::iter::repeat_n(0, TOO_MANY.0)).chain([1]);
    let sizes: Vec<_> = expected.map(|size| json!([size])).collect();
    assert_eq!(said(&found, &["/meta/size"]), sizes);
    let seqs = (1..=MANY.0).chain(1..=TOO_MANY.0).chain([1]).map(|seq| json!([seq]));
    assert_eq!(said(&found, &["/meta/seq"]), seqs.collect::<Vec<_>>());
}

#[test]
fn only_the_last_of_a_transaction_s_many_batches_has_commit() {
    let scene = Scene::new("commits", "postgres-15");
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id bigint PRIMARY KEY, note text)");
    let spec = scene.spec().sink("format: maxwell-json").sink("partitions: 1");
    scene.catch_up(&spec);
    let (rows, bytes) = MANY;
    sql.run(&format!(
        "INSERT INTO t SELECT n, repeat('x', {bytes}) FROM generate_series(1, {rows}) n"
    ));
    scene.catch_up(&spec);
    let mut commits = vec![json!([null]); rows - 1];
    commits.push(json!([true]));
    assert_eq!(said(&scene.topics().records, &["/commit"]), commits);
}
