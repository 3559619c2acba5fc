//! Specs as people write them: the interface's own, and damaged ones.

use config::{Problems, Task};
use expect_test::{Expect, expect};

const SMALL: &str = "
version: 1
task: shop
source: {hosts: [db1:5432], database: shop, user: distributary}
sink: {brokers: [k1:9092]}
objects: [{table: public.*}]
";

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "an expectation is written at its call")]
fn check(text: &str, expected: Expect) {
    let problems = Task::parse(text).err().map_or(String::new(), |problems| problems.to_string());
    expected.assert_eq(&problems);
}

#[test]
fn the_values_of_the_interface_are_the_defaults() {
    let shown = Task::parse(include_str!("../testdata/interface.yaml")).expect("parses");
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
            line 5: `sink.compresion`: unknown key; did you mean `compression`? (known here: brokers, connection, topic, topic_prefix, ddl_topic, dead_letter_topic, format, format_options, registry, partitioning, hash, partitions, replication_factor, topic_config, new_partitions, conflicting_topics, delivery, commit_interval, acks, compression, oversize, unrepresentable, headers, state_prefix, security, properties)
            line 5: `sink.format`: `debezium-jsn` is not allowed; did you mean `debezium-json`? (allowed: debezium-json, debezium-avro, canal-json, dts-avro, shareplex-json, maxwell-json, protobuf)
            line 5: `sink.partitions`: invalid type: string "x", expected i32
            line 5: `sink.acks`: exactly-once needs `all`; or choose `delivery: at-least-once`"#]],
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
    check("- a\n", expect!["line 1: expected keys such as `version`, `task`, `source`, `sink`"]);
    let deep = format!("version: {}1{}", "[".repeat(40), "]".repeat(40));
    assert!(Task::parse(&deep).is_err());
}

#[test]
fn what_this_release_cannot_carry_out_is_named() {
    let text = SMALL.replace("{table: public.*}", "{table: public.*, where: \"a > 1\"}");
    let task = Task::parse(&text).expect("parses");
    let named = Problems(task.unsupported()).to_string();
    assert_eq!(named, "`objects[0].where`: is not carried out by this release; leave it out");
}

#[test]
fn the_schema_describes_the_spec() {
    let schema = config::task_schema();
    assert!(schema["properties"]["sink"].is_object() || schema["$defs"]["Sink"].is_object());
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = Task::parse(&text);
    }
}
