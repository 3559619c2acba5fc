//! The options of Debezium's connector and ours that mean the same, on the same WAL.

use crate::beside::{await_records, await_streams, connector, ours};
use crate::differences::{Differences, Table};
use serde_json::Value;
use tests::java::Connect;
use tests::reader::{Record, Topics};
use tests::scene::Scene;
use tests::task::{STATE_PREFIX, Spec};
use tests::workload;

/// A set of options: its name in the documentation, Debezium's properties, and our `format_options`.
struct Choice {
    name: &'static str,
    theirs: &'static [&'static str],
    ours: &'static str,
}

/// Between them each value that is not the default.
const CHOICES: [Choice; 5] = [
    Choice {
        name: "a",
        theirs: &[
            "decimal.handling.mode=double",
            "time.precision.mode=adaptive_time_microseconds",
            "interval.handling.mode=string",
            "binary.handling.mode=base64",
            "hstore.handling.mode=map",
            "schema.name.adjustment.mode=avro",
            "field.name.adjustment.mode=avro",
            "provide.transaction.metadata=true",
        ],
        ours: "decimal: double, time: adaptive-time-microseconds, interval: string, binary: base64, hstore: map, \
               schema_name_adjustment: avro, field_name_adjustment: avro",
    },
    Choice {
        name: "b",
        theirs: &[
            "decimal.handling.mode=string",
            "time.precision.mode=connect",
            "binary.handling.mode=base64-url-safe",
            "schema.name.adjustment.mode=avro_unicode",
            "field.name.adjustment.mode=avro_unicode",
            "tombstones.on.delete=false",
            "unavailable.value.placeholder=not logged",
        ],
        ours: "decimal: string, time: connect, binary: base64-url-safe, schema_name_adjustment: avro-unicode, \
               field_name_adjustment: avro-unicode, tombstones: false, unavailable_value: not logged",
    },
    Choice {
        name: "c",
        theirs: &["time.precision.mode=isostring", "binary.handling.mode=hex"],
        ours: "time: isostring, binary: hex",
    },
    Choice { name: "d", theirs: &["time.precision.mode=microseconds"], ours: "time: microseconds" },
    Choice { name: "e", theirs: &["time.precision.mode=nanoseconds"], ours: "time: nanoseconds" },
];

/// Names that Avro does not have, an hstore, and texts that are not logged again.
const TABLES: &str = "CREATE EXTENSION hstore; \
     CREATE TABLE shop.named (\"the-id\" int PRIMARY KEY, \"größe\" text, \"1st\" int, \"two words\" hstore, big text); \
     ALTER TABLE shop.named ALTER big SET STORAGE EXTERNAL; \
     INSERT INTO shop.named VALUES (1, 'g', 1, '\"a\"=>\"1\", b=>NULL', repeat('x', 3000)); \
     CREATE TABLE shop.last (id int PRIMARY KEY)";
const CHANGES: &[&str] = &[
    "UPDATE shop.kinds SET id = id + 1000 WHERE id = 0",
    "UPDATE shop.kinds SET a_bool = NOT a_bool",
    "BEGIN; UPDATE shop.named SET \"1st\" = 2; \
     INSERT INTO shop.named VALUES (2, 'h', 2, '\"b\"=>\"2\"', 'y'); UPDATE shop.named SET \"the-id\" = 3 WHERE \"1st\" = 1; \
     UPDATE shop.kinds SET a_bool = NOT a_bool WHERE id = 1; COMMIT",
    "DELETE FROM shop.named WHERE \"the-id\" = 1",
    "INSERT INTO shop.last VALUES (1)",
];
const COMPARED: &[&str] = &["shop.kinds", "shop.named"];

#[test]
fn debeziums_options_do_the_same_here_but_for_what_is_listed() {
    let scene = Scene::new("options", "postgres-15");
    let mut sql = scene.sql();
    workload::create(&mut sql);
    sql.run(TABLES);
    // A name that is no name in Avro.
    let prefix = |choice: &Choice| format!("{}-theirs-{}", scene.name, choice.name);
    let compared: Vec<_> = COMPARED.iter().map(ToString::to_string).collect();
    let specs: Vec<_> =
        CHOICES.iter().map(|choice| spec(&scene, choice, &prefix(choice))).collect();
    specs.iter().for_each(|spec| drop(scene.catch_up(spec)));

    let connectors: Vec<_> = CHOICES
        .iter()
        .map(|choice| {
            let common = connector(&scene, &prefix(choice), choice.name, &compared);
            (choice.name, format!("{common}{}\n", choice.theirs.join("\n")))
        })
        .collect();
    let mut connect = Connect::start(scene.folder(), &scene.kafka, &connectors);
    await_streams(&mut connect, &scene, CHOICES.len());
    CHANGES.iter().for_each(|statements| sql.run(statements));
    specs.iter().for_each(|spec| drop(scene.catch_up(spec)));
    for (choice, spec) in CHOICES.iter().zip(&specs) {
        for (theirs, ours) in topics(&prefix(choice), spec) {
            await_records(&mut connect, &scene, [&theirs, &ours]);
        }
    }
    connect.stop();

    let mut differences = Differences::default();
    for (choice, spec) in CHOICES.iter().zip(&specs) {
        for (theirs, ours) in topics(&prefix(choice), spec) {
            differences.of_topics(choice.name, &scene.kafka, [&theirs, &ours], usize::MAX);
        }
    }
    differences.without_defaults();
    differences.assert_documented(Table::OPTIONS);
    told_of_transactions(&scene, &prefix(&CHOICES[0]), specs[0].task());
}

fn spec(scene: &Scene, choice: &Choice, prefix: &str) -> Spec {
    let told =
        if choice.theirs.contains(&"provide.transaction.metadata=true") { "on" } else { "off" };
    let objects: Vec<_> = COMPARED.iter().map(|table| format!("{{table: {table}}}")).collect();
    ours(scene, choice.name, prefix, &format!("compat: strict, {}", choice.ours), &objects)
        .sink(&format!("transaction_topic: {told}"))
}

/// Debezium's topic and ours for each table.
fn topics(prefix: &str, spec: &Spec) -> Vec<(String, String)> {
    let pair = |table: &&str| (format!("{prefix}.{table}"), format!("{}.{table}", spec.task()));
    COMPARED.iter().map(pair).collect()
}

/// BEGIN and END, but for when each was written. Debezium tells of transactions, too, that have nothing of the task's
/// tables; and in END's id its LSN is that of the commit record's end, ours of its start.
fn told_of_transactions(scene: &Scene, prefix: &str, task: &str) {
    let of = |topic: &str| -> Vec<_> {
        let all = Topics::read(&scene.kafka, topic).records;
        all.iter().map(told).collect()
    };
    let ours = of(&format!("{STATE_PREFIX}.{task}.transaction"));
    let mut theirs = of(&format!("{prefix}.transaction"));
    assert_eq!(ours.len(), 2 * (CHANGES.len() - 1));
    theirs.truncate(ours.len());
    assert_eq!(ours, theirs);
}

/// Key and value of BEGIN or END.
fn told(record: &Record) -> [Value; 2] {
    let (mut key, mut value) = (record.key_json(), record.json());
    let payload = value["payload"].as_object_mut().expect("an object");
    assert!(payload.remove("ts_ms").is_some_and(|it| it.is_i64()));
    if payload["status"] == "END" {
        for id in [&mut key["payload"]["id"], &mut payload["id"]] {
            let (xid, lsn) = id.as_str().and_then(|it| it.split_once(':')).expect("txid:lsn");
            let _: u64 = lsn.parse().expect("an LSN in digits");
            *id = xid.into();
        }
    }
    [key, value]
}
