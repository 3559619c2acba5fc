//! The table that all consumers rebuild, what happens to it, and its rows as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::BTreeMap;
use tests::form;
use tests::reader::Record;
use tests::sql::Sql;

/// Rows by key; a value is text, and an array is JSON.
pub(crate) type Rows = BTreeMap<i64, Vec<Value>>;

/// How a consumer's text of a value is compared with the server's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Like {
    Text,
    Double,
    Float,
    Json,
}

/// A column as a consumer sees it: its name, the consumer's type, SQL for the consumer's text.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) type_: &'static str,
    pub(crate) sql: &'static str,
    pub(crate) like: Like,
}

pub(crate) const TABLE: &str = "CREATE SCHEMA o; CREATE TYPE o.mood AS ENUM ('sad', 'so, so'); \
     CREATE TABLE o.goods (id bigint PRIMARY KEY, small smallint, n int, ratio float8, part real, \
     price numeric(12,2), name text, code varchar(20), pad char(5), flag bool, day date, at timestamp, \
     brief timestamp(3), seen timestamptz, clock time(3), raw bytea, doc jsonb, ref uuid, mood o.mood, \
     tags text[], numbers int[]); ALTER TABLE o.goods REPLICA IDENTITY FULL";

/// Rows with the ends of each type, nulls, and some of the middle.
const ROWS: &str = "INSERT INTO o.goods VALUES \
     (1, -32768, -2147483648, 1.7976931348623157e308, 3.4028235e38, -9999999999.99, \
      E'tab\\t quote\" back\\\\slash \\x01 \u{2028} 😀', '', 'ab', true, '0001-01-01', \
      '0001-01-01 00:00:00', '0001-01-01 00:00:00', '0001-01-01 00:00:00+00', '00:00:00', '\\x', '[]', \
      '00000000-0000-0000-0000-000000000000', 'sad', '{}', '{}'), \
     (2, 32767, 2147483647, 5e-324, 1e-45, 9999999999.99, 'NULL', 'twenty characters ok', 'abcde', \
      false, '9999-12-31', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999', \
      '9999-12-31 23:59:59.999999+00', '23:59:59.999', '\\x00ff', '{\"a\": [1, null, \"b\"]}', \
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'so, so', ARRAY['', 'NULL', NULL, E'x,\"y\" \\\\'], \
      '{1,-2,NULL}'), \
     (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
      NULL, NULL, NULL, NULL, NULL); \
     INSERT INTO o.goods SELECT n, n % 100, n, n / 3.0, n / 7.0, n / 100.0, 'goods ' || n, 'c' || n, 'p', \
      n % 2 = 0, date '2024-02-28' + n, timestamp '1969-12-31 23:59:58' + n * interval '1.000001 s', \
      timestamp '2024-01-01' + n * interval '1 ms', timestamptz '2024-03-31 00:59:59+00' + n * interval \
      '0.25 s', time '10:00' + n * interval '1 s', decode(md5(n::text), 'hex'), \
      jsonb_build_object('n', n), md5(n::text)::uuid, 'sad', ARRAY['t' || n], ARRAY[n, n + 1] \
      FROM generate_series(10, 60) n";

/// Every operation, keys that change and come back, and a value of 100 kB.
const CHANGES: &[&str] = &[
    "INSERT INTO o.goods (id, name, price) VALUES (100, 'new', 0.01)",
    "UPDATE o.goods SET name = name || '!', price = -price WHERE id % 3 = 0",
    "UPDATE o.goods SET price = NULL, day = NULL, seen = NULL WHERE id % 10 = 1",
    "UPDATE o.goods SET id = id + 1000 WHERE id % 7 = 0",
    "BEGIN; UPDATE o.goods SET id = 7 WHERE id = 1007 + 7; DELETE FROM o.goods WHERE id = 7; \
     INSERT INTO o.goods (id, flag) VALUES (7, true); UPDATE o.goods SET flag = false WHERE id = 7; COMMIT",
    "UPDATE o.goods SET name = repeat('x', 100000) WHERE id = 2",
    "UPDATE o.goods SET n = 5 WHERE id = 2",
    "DELETE FROM o.goods WHERE id % 5 = 0",
    "BEGIN; DELETE FROM o.goods WHERE id < 20; ROLLBACK",
];

/// One line for each key and value, for a reader in Java: topic, which of the two, and the bytes.
pub(crate) fn lines(records: &[Record]) -> Vec<String> {
    let both = records.iter().flat_map(|record| {
        let line = |part: &str, bytes: &Option<Vec<u8>>| {
            let bytes = bytes.as_ref()?;
            Some(format!("{} {part} {}", record.topic, STANDARD.encode(bytes)))
        };
        [line("key", &record.key), line("value", &record.value)]
    });
    both.flatten().collect()
}

/// Without what differs between two runs: when they began, and when they handled the event.
pub(crate) fn timeless(mut event: Value) -> Value {
    for row in ["before", "after"] {
        // Java has more digits for the smallest numbers of 32 bits than PostgreSQL.
        if let Some(part) = event[row]["part"].as_f64() {
            #[allow(clippy::cast_possible_truncation, reason = "it is one of 32 bits")]
            let part = part as f32;
            event[row]["part"] = part.into();
        }
    }
    for member in ["ts_ms", "ts_us", "ts_ns"] {
        if event.get("op").is_some() {
            event[member] = Value::Null;
        }
        if event["op"] == "r" {
            event["source"][member] = Value::Null;
            event["source"]["lsn"] = Value::Null;
        }
    }
    if let Some(source) = event.get_mut("source").and_then(Value::as_object_mut) {
        source.remove("sequence");
    }
    event
}

pub(crate) fn create(sql: &mut Sql) {
    sql.run(TABLE);
    sql.run(ROWS);
}

pub(crate) fn change(sql: &mut Sql) {
    CHANGES.iter().for_each(|statements| sql.run(statements));
}

/// The table as the source has it.
pub(crate) fn rows(sql: &mut Sql, columns: &[Column]) -> Rows {
    let texts: Vec<_> = columns.iter().map(|column| column.sql).collect();
    let rows = sql.rows(&format!("SELECT id, {} FROM o.goods", texts.join(", ")));
    let row = |row: tests::sql::Row| {
        let mut values = row.into_iter();
        let id = values.next().flatten().expect("a key").parse().expect("a number");
        let texts = values.map(|text| text.map_or(Value::Null, Value::String));
        (id, columns.iter().zip(texts).map(|(column, text)| alike(column, text)).collect())
    };
    rows.into_iter().map(row).collect()
}

/// A value in the one form in which it is compared.
pub(crate) fn alike(column: &Column, value: Value) -> Value {
    let Some(text) = value.as_str() else { return value };
    match column.like {
        Like::Text => value,
        Like::Double => form::float(text).into(),
        Like::Float => {
            text.parse::<f32>().map_or(value.clone(), |number| number.to_string().into())
        }
        Like::Json => {
            serde_json::from_str(text).unwrap_or_else(|_| panic!("{}: {text}", column.name))
        }
    }
}

/// Compares, and names the first row and column that differs.
#[track_caller]
pub(crate) fn assert_same(found: &Rows, expected: &Rows, columns: &[Column]) {
    assert!(30 < expected.len(), "enough rows are left to compare");
    for (id, row) in expected {
        let Some(found) = found.get(id) else { panic!("row {id} is missing") };
        for ((column, found), expected) in columns.iter().zip(found).zip(row) {
            assert_eq!(found, expected, "{} of row {id}", column.name);
        }
    }
    let more: Vec<_> = found.keys().filter(|id| !expected.contains_key(id)).collect();
    assert!(more.is_empty(), "rows that the source does not have: {more:?}");
}

/// The columns of most consumers: name, SQL for the text, how it is compared.
pub(crate) const COLUMNS: &[Column] = &[
    column("id", "BIGINT", "id::text", Like::Text),
    column("small", "SMALLINT", "small::text", Like::Text),
    column("n", "INT", "n::text", Like::Text),
    column("ratio", "DOUBLE", "ratio::text", Like::Double),
    column("part", "FLOAT", "part::text", Like::Float),
    column("price", "DECIMAL(12, 2)", "price::text", Like::Text),
    column("name", "STRING", "name", Like::Text),
    column("code", "STRING", "code", Like::Text),
    // A cast of bpchar to text would drop the padding.
    column("pad", "STRING", "CASE WHEN pad IS NOT NULL THEN concat(pad) END", Like::Text),
    column("flag", "BOOLEAN", "flag::text", Like::Text),
    column("day", "DATE", "day::text", Like::Text),
    column("at", "TIMESTAMP(6)", "to_char(at, 'YYYY-MM-DD HH24:MI:SS.US')", Like::Text),
    column("brief", "TIMESTAMP(3)", "to_char(brief, 'YYYY-MM-DD HH24:MI:SS.US')", Like::Text),
    column(
        "seen",
        "TIMESTAMP(6) WITH LOCAL TIME ZONE",
        "to_char(seen AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
        Like::Text,
    ),
    column("clock", "TIME(3)", "to_char(date '2000-01-01' + clock, 'HH24:MI:SS.MS')", Like::Text),
    column("raw", "BYTES", "raw::text", Like::Text),
    column("doc", "STRING", "doc::text", Like::Json),
    column("ref", "STRING", "ref::text", Like::Text),
    column("mood", "STRING", "mood::text", Like::Text),
    column("tags", "STRING", "tags::text", Like::Text),
    column("numbers", "STRING", "numbers::text", Like::Text),
];

const fn column(name: &'static str, type_: &'static str, sql: &'static str, like: Like) -> Column {
    Column { name, type_, sql, like }
}

/// The same columns, some of them as another consumer has them.
pub(crate) fn columns_but(others: &[(&str, &'static str, &'static str, Like)]) -> Vec<Column> {
    let of = |known: &Column| match others.iter().find(|other| other.0 == known.name) {
        Some(&(_, type_, sql, like)) => column(known.name, type_, sql, like),
        None => known.clone(),
    };
    COLUMNS.iter().map(of).collect()
}
