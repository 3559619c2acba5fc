//! Specs as people write them: the interface's own, and damaged ones.

use config::{Problems, Task};
use expect_test::{Expect, expect};
use serde_json::{Map, Value};

const SMALL: &str = "
version: 1
task: shop
source: {hosts: [db1:5432], database: shop, user: distributary}
sink: {brokers: [k1:9092]}
objects: [{table: public.*}]
";

const INTERFACE: &str = include_str!("../testdata/interface.yaml");

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "an expectation is written at its call")]
fn check(text: &str, expected: Expect) {
    let problems = Task::parse(text).err().map_or(String::new(), |problems| problems.to_string());
    expected.assert_eq(&problems);
}

#[test]
fn the_values_of_the_interface_are_the_defaults() {
    let shown = Task::parse(INTERFACE).expect("parses");
    let small = Task::parse(SMALL).expect("parses");
    assert_eq!(small.snapshot, shown.snapshot);
    assert_eq!(small.throttle, shown.throttle);
    assert_eq!(small.retry, shown.retry);
    assert_eq!(small.lanes, shown.lanes);
    assert_eq!(small.sync, shown.sync);
    // What the interface marks as an example, and what it requires, put aside.
    let mut source = shown.source;
    source.hosts.clone_from(&small.source.hosts);
    source.password = None;
    source.tls = config::Tls::default();
    assert_eq!(small.source, source);
    let mut sink = shown.sink;
    sink.topic_prefix = None;
    sink.ddl_topic = None;
    sink.registry = None;
    sink.security = config::Security::default();
    sink.properties.clear();
    assert_eq!(small.sink, sink);
}

#[test]
fn every_problem_is_reported_with_its_line_and_a_remedy() {
    check(
        &SMALL.replace(
            "sink: {",
            "sink: {compresion: lz4, acks: 1, format: debezium-jsn, partitions: x, ",
        ),
        expect![[r#"
            line 5: `sink.compresion`: unknown key; did you mean `compression`? (known here: brokers, connection, topic, topic_prefix, ddl_topic, dead_letter_topic, format, format_options, registry, partitioning, hash, partitions, replication_factor, topic_config, new_partitions, conflicting_topics, delivery, commit_interval, acks, compression, oversize, unrepresentable, headers, watermark_topic, transaction_topic, heartbeat_topic, state_prefix, security, properties)
            line 5: `sink.format`: `debezium-jsn` is not allowed; did you mean `debezium-json`? (allowed: debezium-json, debezium-avro, canal-json, dts-avro, shareplex-json, maxwell-json, protobuf)
            line 5: `sink.partitions`: expected a whole number from -2147483648 to 2147483647, found a text
            line 5: `sink.acks`: exactly-once needs `all`; or choose `delivery: at-least-once`"#]],
    );
}

#[test]
fn a_wrong_type_is_named_without_the_value() {
    let text = SMALL
        .replace("user: distributary", "user: distributary, password: 4711, tls: prefer")
        .replace("sink: {", "sink: {headers: maybe, properties: {linger.ms: 5}, format: 7, ")
        .replace("{table: public.*}", "{table: [public, x]}, {table: a.b, partition_key: id}");
    check(
        &format!("{text}lanes: 300\nsync:\nsnapshot: {{chunk_bytes: many, parallel: -1}}\n"),
        expect![[r#"
            line 4: `source.password`: must be a text; put the secret into quotes
            line 4: `source.tls`: expected keys with values, found a text
            line 5: `sink.headers`: expected true or false, found a text
            line 5: `sink.properties.linger.ms`: expected a text, found a number; put it in quotes
            line 5: `sink.format`: expected a word, found a number
            line 6: `objects[0].table`: expected a text, found a list
            line 6: `objects[1].partition_key`: expected a list, e.g. [a, b], found a text
            line 7: `lanes`: expected a whole number from 0 to 255, found a number
            line 8: `sync`: expected keys with values, found nothing
            line 9: `snapshot.chunk_bytes`: `many` is no size; write bytes, or a number and KiB, MiB or GiB, e.g. 8MiB
            line 9: `snapshot.parallel`: expected a whole number from 0 to 65535, found a number"#]],
    );
}

#[test]
fn a_wrong_duration_has_an_example() {
    check(
        &SMALL.replace("sink: {", "sink: {commit_interval: 200, "),
        expect![[r#"
            line 5: `sink.commit_interval`: a unit is missing; write a number and ms, s, m, h or d, e.g. 200ms or 7d"#]],
    );
}

#[test]
fn what_is_required_is_named() {
    check(
        "version: 1\n",
        expect![[r#"
            `task`: is required: a small letter, then up to 39 small letters, digits or _
            `source.hosts`: is required, e.g. [db1:5432] (or `connection`, not both)
            `source.database`: is required
            `source.user`: is required
            `sink.brokers`: is required, e.g. [k1:9092] (or `connection`, not both)
            `objects`: is required: at least one rule that selects, e.g. `- table: public.*`"#]],
    );
}

#[test]
fn retry_windows_have_bounds() {
    check(
        &format!("{SMALL}retry: {{connection: 10m, other: 10m}}\n"),
        expect!["line 7: `retry.other`: must be less than `retry.connection`"],
    );
    check(
        &format!("{SMALL}retry: {{connection: 9m, other: 2000m, on_expiry: keep}}\n"),
        expect![[r#"
            line 7: `retry.connection`: must be from 10m to 1440m
            line 7: `retry.other`: must be from 1m to 1440m"#]],
    );
}

#[test]
fn what_is_no_spec_is_refused() {
    check("- a\n", expect!["line 1: expected keys with values, e.g. `task: shop` or `node: w1`"]);
    let deep = format!("version: {}1{}", "[".repeat(40), "]".repeat(40));
    assert!(Task::parse(&deep).is_err());
}

#[test]
fn what_this_release_cannot_carry_out_is_named() {
    let named = |policy: &str| {
        let text = SMALL.replace("sink: {", &format!("sink: {{new_partitions: {policy}, "));
        Problems(Task::parse(&text).expect("parses").unsupported()).to_string()
    };
    let switch = named("switch");
    assert!(switch.starts_with("`sink.new_partitions`: `switch` is not carried out"), "{switch}");
    assert!(switch.contains("`pin`") && switch.contains("`park`"), "{switch}");
    assert_eq!((named("pin"), named("park")), (String::new(), String::new()));
}

/// The properties of the first object schema that a schema leads to.
fn properties<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Map<String, Value>> {
    if let Some(reference) = schema["$ref"].as_str() {
        return properties(root, root.pointer(reference.strip_prefix('#')?)?);
    }
    if let Some(found) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], false, "unknown keys are errors");
        return Some(found);
    }
    let choices = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| schema[key].as_array());
    choices.flatten().find_map(|choice| properties(root, choice))
}

/// The keys of the spec that the schema does not know.
fn unknown(root: &Value, schema: &Value, spec: &Value, path: &str, found: &mut Vec<String>) {
    if let Value::Array(items) = spec {
        for item in items {
            unknown(root, &schema["items"], item, path, found);
        }
    }
    let (Value::Object(spec), Some(known)) = (spec, properties(root, schema)) else { return };
    for (key, value) in spec {
        let path = format!("{path}.{key}");
        match known.get(key) {
            Some(schema) => unknown(root, schema, value, &path, found),
            None => found.push(path),
        }
    }
}

#[test]
fn the_schema_knows_every_key_of_the_interface() {
    let schema = config::task_schema();
    let spec = serde_json::to_value(Task::parse(INTERFACE).expect("parses")).expect("JSON");
    let mut found = Vec::new();
    unknown(&schema, &schema, &spec, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
    // The walk sees what is missing.
    let damaged =
        serde_json::json!({"sink": {"registry": {"urll": ""}}, "objects": [{"tabel": 1}]});
    unknown(&schema, &schema, &damaged, "", &mut found);
    assert_eq!(found, [".sink.registry.urll", ".objects.tabel"]);
}

#[test]
fn the_schema_tells_the_allowed_words_and_the_defaults() {
    let schema = config::task_schema().to_string();
    for words in [
        r#""debezium-json","debezium-avro","canal-json","dts-avro","shareplex-json","maxwell-json","protobuf""#,
        r#""disable","prefer","require","verify-ca","verify-full""#,
        r#""partition-0","table","primary-key""#,
        r#""slot_prefix":"distributary_""#,
    ] {
        assert!(schema.contains(words), "{words}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = Task::parse(&text);
    }
}
