//! Flink's deserializers of `debezium-json`, `canal-json` and `maxwell-json`.

use crate::goods::{self, Column, Like, Rows, alike, columns_but};
use serde_json::Value;
use tests::java;
use tests::scene::Scene;

/// How Flink is told to read a format.
struct Reading {
    /// Its word for the format.
    format: &'static str,
    /// `timestamp-format.standard`.
    timestamps: &'static str,
    columns: Vec<Column>,
    /// Whether it fails at the record of a TRUNCATE.
    fails_at_truncate: bool,
}

/// Runs a task, gives its records to Flink, and compares the table that comes of them.
fn carried(format: &str, options: &str, reading: &Reading) {
    let scene = Scene::new("flink", "postgres-15");
    let mut sql = scene.sql();
    goods::create(&mut sql);
    let spec = scene
        .spec()
        .sink(&format!("format: {format}"))
        .sink(&format!("format_options: {{{options}}}"))
        .sink("partitions: 1");
    scene.catch_up(&spec);
    goods::change(&mut sql);
    scene.catch_up(&spec);
    let expected = goods::rows(&mut sql, &reading.columns);
    sql.run("TRUNCATE o.goods");
    scene.catch_up(&spec);

    let records = scene.topics().records;
    let lines: Vec<_> = records.iter().map(|record| java::line(record.value.as_deref())).collect();
    let type_ = |column: &Column| format!("`{}` {}", column.name, column.type_);
    let types: Vec<_> = reading.columns.iter().map(type_).collect();
    let row = format!("ROW<{}>", types.join(", "));
    let mut answers =
        java::answers("flink", "Flink", &[reading.format, reading.timestamps, &row], &lines);
    if reading.fails_at_truncate {
        let last = answers.pop().expect("an answer for each record");
        assert!(last["error"].is_string(), "the record of TRUNCATE: {last}");
    }
    goods::assert_same(&rebuilt(&answers, &reading.columns), &expected, &reading.columns);
}

/// The table of a changelog. What is taken back must have been there, value by value.
fn rebuilt(answers: &[Value], columns: &[Column]) -> Rows {
    let mut rows = Rows::new();
    for answer in answers {
        let changes = answer.as_array().unwrap_or_else(|| panic!("Flink: {answer}"));
        for change in changes {
            let values = change[1].as_array().expect("values").clone();
            let values: Vec<_> =
                columns.iter().zip(values).map(|(column, value)| alike(column, value)).collect();
            let id = values[0].as_str().and_then(|id| id.parse().ok()).expect("a key");
            match change[0].as_str().expect("a kind") {
                "+I" | "+U" => {
                    assert_eq!(rows.insert(id, values), None, "row {id} came twice");
                }
                "-U" | "-D" => {
                    assert_eq!(rows.remove(&id), Some(values), "row {id} is taken back as it was");
                }
                kind => panic!("no kind of change: {kind}"),
            }
        }
    }
    rows
}

/// Flink keeps whole seconds of a time that comes as text.
const CLOCK: (&str, &str, &str, Like) =
    ("clock", "TIME(3)", "to_char(date '2000-01-01' + clock, 'HH24:MI:SS.000')", Like::Text);

/// Flink reads Debezium's numbers of days and microseconds as numbers only.
fn debezium_columns() -> Vec<Column> {
    columns_but(&[
        ("day", "INT", "(day - date '1970-01-01')::text", Like::Text),
        ("at", "BIGINT", "trunc(extract(epoch FROM at) * 1000000)::bigint::text", Like::Text),
        ("brief", "BIGINT", "trunc(extract(epoch FROM brief) * 1000)::bigint::text", Like::Text),
        ("clock", "INT", "trunc(extract(epoch FROM clock) * 1000)::bigint::text", Like::Text),
        ("tags", "ARRAY<STRING>", "array_to_json(tags)::text", Like::Json),
        ("numbers", "ARRAY<STRING>", "array_to_json(numbers::text[])::text", Like::Json),
    ])
}

#[test]
fn flink_reads_debezium_json() {
    let reading = Reading {
        format: "debezium-json",
        timestamps: "ISO-8601",
        columns: debezium_columns(),
        fails_at_truncate: true,
    };
    carried("debezium-json", "decimal: string", &reading);
}

#[test]
fn flink_reads_debezium_json_with_schema() {
    let reading = Reading {
        format: "debezium-json-with-schema",
        timestamps: "ISO-8601",
        columns: debezium_columns(),
        fails_at_truncate: true,
    };
    carried("debezium-json", "decimal: string, schemas: true", &reading);
}

#[test]
fn flink_reads_canal_json() {
    let reading = Reading {
        format: "canal-json",
        timestamps: "SQL",
        columns: columns_but(&[CLOCK]),
        fails_at_truncate: true,
    };
    carried("canal-json", "special_values: refuse", &reading);
}

#[test]
fn flink_reads_maxwell_json() {
    let columns = columns_but(&[
        CLOCK,
        ("tags", "ARRAY<STRING>", "array_to_json(tags)::text", Like::Json),
        ("numbers", "ARRAY<STRING>", "array_to_json(numbers::text[])::text", Like::Json),
    ]);
    let reading =
        Reading { format: "maxwell-json", timestamps: "SQL", columns, fails_at_truncate: false };
    carried("maxwell-json", "zulu: true", &reading);
}
