//! Debezium JSON with its schema, by Kafka Connect's JSON converter: each record is what its own schema says.

use serde_json::Value;
use tests::java;
use tests::reader::Record;
use tests::scene::Scene;

/// Columns that are NOT NULL, of which a deletion by key knows nothing, and values for which their types have no room.
const TABLES: &str = "CREATE TABLE kept (id bigint PRIMARY KEY, note text NOT NULL, n int NOT NULL, \
     day date NOT NULL DEFAULT '2024-01-01', big text NOT NULL); \
     ALTER TABLE kept ALTER big SET STORAGE EXTERNAL; \
     CREATE TABLE beyond (id int PRIMARY KEY, day date DEFAULT 'infinity', at timestamp, price numeric, \
     fixed numeric(5,2), ratio float8, part real, place point, spans interval[], days date[], numbers int[])";
const CHANGES: &[&str] = &[
    "INSERT INTO kept VALUES (1, 'a', 1, '2024-03-05', repeat('x', 3000)), (2, 'b', 2, '2024-03-05', 'y')",
    "UPDATE kept SET n = 7",
    "UPDATE kept SET id = 3 WHERE id = 2",
    "DELETE FROM kept",
    "INSERT INTO beyond VALUES (1, '2024-03-05', '2024-03-05 10:20:30', 1.50, 1.50, 0.5, 0.25, '(1,2)', \
     '{1 day}', '{2024-03-05,NULL}', '{1,NULL}')",
    "INSERT INTO beyond VALUES (2, 'infinity', '-infinity', 'NaN', 'NaN', 'NaN', '-Infinity', \
     '(Infinity,1)', '{1 day}', '{infinity}', '{{1,2},{3,4}}')",
];

#[test]
fn kafka_connect_reads_each_record_as_its_schema_says() {
    let scene = Scene::new("connect", "postgres-15");
    let mut sql = scene.sql();
    sql.run(TABLES);
    let spec = scene
        .spec()
        .source("replica_identity: keep")
        .sink("partitions: 1")
        .sink("unrepresentable: \"null\"")
        .sink("format_options: {schemas: true}");
    scene.catch_up(&spec);
    CHANGES.iter().for_each(|statements| sql.run(statements));
    scene.catch_up(&spec);

    let records = scene.topics().records;
    let parts = records.iter().flat_map(|it| [&it.key, &it.value]);
    let parts: Vec<_> = parts.filter_map(Option::as_deref).collect();
    let lines: Vec<_> = parts.iter().map(|part| java::line(Some(part))).collect();
    let answers = java::answers("avro", "Avro", &["connect"], &lines);
    for (part, answer) in parts.iter().zip(&answers) {
        let part: Value = serde_json::from_slice(part).expect("JSON");
        assert_eq!(answer, &part);
    }
    let of = |table: &str| {
        let topic = format!("{}.public.{table}", scene.name);
        records.iter().filter(move |it| it.topic == topic && it.value.is_some()).map(Record::json)
    };
    let deleted: Vec<_> = of("kept").filter(|it| it["payload"]["op"] == "d").collect();
    assert_eq!(deleted.len(), 3, "one of them is a key that changed");
    for event in deleted {
        let row = event["payload"]["before"].as_object().expect("a row").clone();
        assert!(row.iter().all(|(name, value)| name == "id" || value.is_null()), "{row:?}");
    }
    let rows: Vec<_> = of("beyond").map(|it| it["payload"]["after"].clone()).collect();
    let nulls = |row: &Value| {
        let row = row.as_object().expect("a row");
        row.iter().filter(|it| it.1.is_null()).map(|it| it.0.clone()).collect::<Vec<_>>()
    };
    assert_eq!(nulls(&rows[0]), [""; 0]);
    let lost = ["day", "at", "price", "fixed", "ratio", "part", "place", "days", "numbers"];
    assert_eq!(nulls(&rows[1]), lost);
}
