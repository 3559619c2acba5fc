//! Debezium's events in Avro: their schemas, and that another library reads from them what Debezium JSON
//! says.

#![allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]

#[path = "scene/connect.rs"]
mod connect;
mod scene;

use apache_avro::{Schema, from_avro_datum};
use connect::connect;
use expect_test::expect;
use proptest::prelude::*;
use record::encode::EncodeError;
use record::plan::{TablePlan, TaskPlan};
use record::schema::Ids;
use scene::{
    Did, Null, Unchanged, Value, array_of, column, encode_binary, numeric_modifier, of_kind,
    orders, v,
};
use serde_json::{Value as Json, json};
use wal::table::ReplicaIdentity::{Default, Full, Index};
use wal::types::{Kind, Type, oid};
use wal::{Column, Table};

const AT: Value<'static> = Value::Text("2024-03-05 02:20:30.123456+00");
const FIRST: [Value<'static>; 4] =
    [Value::Text("1001"), Value::Text("first"), Value::Text("49.90"), AT];
const IDS: Ids = Ids { key: Some(0x0102), value: 0x0304_0506 };
const REGISTRY: &str = "format: debezium-avro, registry: {url: http://r}";

/// A plan whose schemas the registry has taken.
fn plan(table: &Table, sink: &str) -> (TaskPlan, TablePlan) {
    let (task, plan) = scene::plan(table, &format!("{REGISTRY}, {sink}"), "", 1).expect("a plan");
    plan.schemas().expect("schemas").taken_first(IDS);
    (task, plan)
}

/// What a reader that knows the schema makes of a framed record, in the JSON of Kafka Connect.
#[track_caller]
fn read(framed: &[u8], id: u32, schema: &str) -> Json {
    let (head, mut rest) = framed.split_first_chunk::<5>().expect("a frame");
    assert_eq!(*head, [&[0], id.to_be_bytes().as_slice()].concat()[..]);
    let schema = Schema::parse_str(schema).expect("an Avro schema");
    let value = from_avro_datum(&schema, &mut rest, None).expect("a datum of the schema");
    assert!(rest.is_empty(), "{} bytes follow the datum", rest.len());
    connect(value)
}

/// Keys, values and the header of a key change are what Debezium JSON writes of the same changes.
#[track_caller]
fn same_as_json(table: &Table, sink: &str, changes: &[Did<'_>]) {
    let (task, plan) = plan(table, sink);
    let schemas = plan.schemas().expect("schemas");
    let batch = scene::batch(table, scene::transaction(), changes);
    let sent = encode_binary(&task, &plan, &batch).expect("encodes");
    let expected = scene::records(table, sink, changes);
    assert_eq!(sent.len(), expected.len());
    let key = |key: &[u8]| {
        let schema = schemas.key.as_ref().expect("a schema of the key").after(&[]);
        read(key, IDS.key.expect("an id"), &schema.text)
    };
    for (sent, expected) in sent.iter().zip(expected) {
        let parsed = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
        let value = sent.value.as_deref();
        let value = value.map(|value| read(value, IDS.value, &schemas.value.after(&[]).text));
        assert_eq!(value, expected.value.as_deref().map(parsed));
        assert_eq!(sent.key.as_deref().map(key), expected.key.as_deref().map(parsed));
        for (name, value) in &sent.headers {
            let json = expected.header(name).expect("the same headers");
            assert_eq!(value, json.as_bytes());
        }
    }
}

#[test]
fn schemas_are_those_of_connect_s_converter() {
    let mut table = orders(Full);
    table.columns[1].default = Some("none".into());
    let (_, plan) = plan(&table, "");
    let schemas = plan.schemas().expect("schemas");
    let key = schemas.key.as_ref().expect("a schema of the key").after(&[]);
    let value = schemas.value.after(&[]);
    assert_eq!((&*key.subject, &*value.subject), ("shop.orders-key", "shop.orders-value"));
    expect![[r#"{"type":"record","name":"Key","namespace":"appdb.shop.orders","fields":[{"name":"id","type":"long"}],"connect.name":"appdb.shop.orders.Key"}"#]]
    .assert_eq(&key.text);
    expect![[r#"{"type":"record","name":"Envelope","namespace":"appdb.shop.orders","fields":[{"name":"before","type":["null",{"type":"record","name":"Value","namespace":"appdb.shop.orders","fields":[{"name":"id","type":"long"},{"name":"note","type":[{"type":"string","connect.default":"none"},"null"],"default":"none"},{"name":"total","type":["null",{"type":"bytes","scale":2,"precision":12,"connect.version":1,"connect.parameters":{"scale":"2","connect.decimal.precision":"12"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}],"default":null},{"name":"at","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.time.ZonedTimestamp"}],"default":null}],"connect.name":"appdb.shop.orders.Value"}],"default":null},{"name":"after","type":["null","appdb.shop.orders.Value"],"default":null},{"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":[{"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},{"name":"ts_ms","type":"long"},{"name":"snapshot","type":[{"type":"string","connect.version":1,"connect.parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"connect.default":"false","connect.name":"io.debezium.data.Enum"},"null"],"default":"false"},{"name":"db","type":"string"},{"name":"sequence","type":["null","string"],"default":null},{"name":"ts_us","type":["null","long"],"default":null},{"name":"ts_ns","type":["null","long"],"default":null},{"name":"schema","type":"string"},{"name":"table","type":"string"},{"name":"txId","type":["null","long"],"default":null},{"name":"lsn","type":["null","long"],"default":null},{"name":"xmin","type":["null","long"],"default":null}],"connect.version":1,"connect.name":"io.debezium.connector.postgresql.Source"}},{"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":[{"name":"id","type":"string"},{"name":"total_order","type":"long"},{"name":"data_collection_order","type":"long"}],"connect.version":1,"connect.name":"event.block"}],"default":null},{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":null},{"name":"ts_us","type":["null","long"],"default":null},{"name":"ts_ns","type":["null","long"],"default":null}],"connect.version":2,"connect.name":"appdb.shop.orders.Envelope"}"#]]
    .assert_eq(&value.text);
}

#[test]
fn every_operation_is_what_debezium_json_writes() {
    let after = [v("1001"), Null, v("49.90"), AT];
    let moved = [v("2001"), Null, v("59.90"), AT];
    let changes = [
        Did::Read(&FIRST),
        Did::Insert(&FIRST),
        Did::UpdateRow(&FIRST, &after),
        Did::UpdateRow(&FIRST, &moved),
        Did::DeleteRow(&moved),
        Did::Truncate,
    ];
    same_as_json(&orders(Full), "", &changes);
    let mut with_default = orders(Full);
    with_default.columns[1].default = Some("none".into());
    same_as_json(&with_default, "", &changes);
    let unlogged = [v("1001"), Unchanged, v("49.90"), AT];
    let key = [v("1001"), Null, Null, Null];
    let keyed = [Did::Update(&unlogged), Did::UpdateKey(&key, &moved), Did::DeleteKey(&key)];
    same_as_json(&orders(Default), "", &keyed);
    let keyless = scene::table("log", vec![text_column("line")], 0, Full);
    same_as_json(&keyless, "", &[Did::Insert(&[v("a")]), Did::DeleteRow(&[v("a")])]);
}

#[test]
fn a_record_says_its_place_in_its_transaction() {
    let table = orders(Full);
    let (task, plan) = plan(&table, "");
    let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&FIRST)]);
    let sent = scene::encode_placed(&task, &plan, &batch, Some(scene::PLACE)).expect("encodes");
    let schema = &plan.schemas().expect("schemas").value.after(&[]).text;
    let event = read(sent[0].value.as_deref().expect("a value"), IDS.value, schema);
    assert_eq!(event["transaction"].to_string(), scene::PLACED);
}

#[test]
fn a_statement_is_what_debezium_json_writes_and_has_the_schema_of_its_family() {
    let table = scene::statements();
    same_as_json(&table, "", &[Did::Insert(&scene::STATEMENT)]);
    let (_, plan) = plan(&table, "");
    let schemas = plan.schemas().expect("schemas");
    let key = schemas.key.as_ref().expect("a schema of the key").after(&[]);
    let value = schemas.value.after(&[]);
    assert_eq!((&*key.subject, &*value.subject), ("shop.ddl-key", "shop.ddl-value"));
    expect![[r#"{"type":"record","name":"SchemaChangeKey","namespace":"io.debezium.connector.postgresql","fields":[{"name":"databaseName","type":"string"}],"connect.version":1,"connect.name":"io.debezium.connector.postgresql.SchemaChangeKey"}"#]].assert_eq(&key.text);
    let value: Json = serde_json::from_str(&value.text).expect("JSON");
    assert_eq!(value["connect.name"], "io.debezium.connector.postgresql.SchemaChangeValue");
    let names: Vec<_> =
        value["fields"].as_array().expect("fields").iter().map(|it| &it["name"]).collect();
    // Debezium's `SchemaFactory`, and what is ours.
    let theirs = ["source", "ts_ms", "databaseName", "schemaName", "ddl", "tableChanges"];
    assert_eq!(names[..6], theirs);
    assert_eq!(names[6..], ["statement"]);
}

fn text_column(name: &str) -> Column {
    column(name, Type::builtin(oid::TEXT, "text"), -1)
}

#[test]
fn an_old_key_has_room_for_columns_that_were_not_logged() {
    for identity in [Default, Index] {
        let mut table = orders(identity);
        table.columns.iter_mut().for_each(|column| column.not_null = true);
        let key = [v("1001"), Null, Null, Null];
        same_as_json(&table, "", &[Did::Insert(&FIRST), Did::DeleteKey(&key)]);
    }
}

#[test]
fn rows_wait_for_the_registry() {
    let (task, plan) = scene::plan(&orders(Full), REGISTRY, "", 1).expect("a plan");
    let batch = scene::batch(&orders(Full), scene::transaction(), &[Did::Insert(&FIRST)]);
    let error = encode_binary(&task, &plan, &batch).expect_err("nobody has asked the registry");
    assert!(matches!(error, EncodeError::Unregistered { .. }), "{error}");
}

#[test]
fn names_that_avro_does_not_allow_are_adjusted() {
    let mut table = scene::table("2-t", vec![text_column("a b"), text_column("1")], 1, Full);
    table.schema = "Größe".into();
    let (task, plan) = plan(&table, "topic: t");
    let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&[v("x"), v("y")])]);
    let sent = encode_binary(&task, &plan, &batch).expect("encodes");
    let schema = plan.schemas().expect("schemas").value.after(&[]);
    assert!(schema.text.contains(r#""namespace":"appdb.Gr__e._2_t""#), "{}", schema.text);
    let event = read(sent[0].value.as_deref().expect("a value"), IDS.value, &schema.text);
    assert_eq!(event["after"], json!({"a_b": "x", "_1": "y"}));
    assert_eq!(event["source"]["table"], "2-t");
}

#[test]
fn names_follow_the_mode_that_is_set() {
    let mut table = scene::table("the-t", vec![text_column("the-id")], 1, Full);
    table.schema = "Größe".into();
    for (mode, namespace, field) in [
        ("none", "appdb.Gr__e.the_t", "the_id"),
        ("avro", "appdb.Gr__e.the_t", "the_id"),
        ("avro-unicode", "appdb.Gr_u00f6_u00dfe.the_u002dt", "the_u002did"),
        ("escape", "appdb.Gr_x00F6__x00DF_e.the_x002D_t", "the_x002D_id"),
    ] {
        let modes = format!("schema_name_adjustment: {mode}, field_name_adjustment: {mode}");
        let sink = format!("topic: t, format_options: {{{modes}}}");
        let (_, plan) = plan(&table, &sink);
        let schemas = plan.schemas().expect("schemas");
        let key = schemas.key.as_ref().expect("a schema of the key").after(&[]);
        let value = schemas.value.after(&[]);
        for (schema, name) in [(key, "Key"), (value, "Envelope")] {
            let parsed: Json = serde_json::from_str(&schema.text).expect("JSON");
            assert_eq!((&parsed["name"], &parsed["namespace"]), (&json!(name), &json!(namespace)));
            assert!(schema.text.contains(&format!(r#""name":"{field}""#)), "{mode}");
        }
        // Avro has no name that is not adjusted; JSON has.
        if mode != "none" {
            same_as_json(&table, &sink, &[Did::Insert(&[v("x")]), Did::DeleteRow(&[v("x")])]);
        }
    }
}

#[test]
fn tombstones_can_be_left_out() {
    let moved = [v("2001"), Null, v("59.90"), AT];
    let changes = [Did::UpdateRow(&FIRST, &moved), Did::DeleteRow(&moved)];
    for (sink, all, tombstones) in [("", 5, 2), ("format_options: {tombstones: false}", 3, 0)] {
        same_as_json(&orders(Full), sink, &changes);
        let (task, plan) = plan(&orders(Full), sink);
        let batch = scene::batch(&orders(Full), scene::transaction(), &changes);
        let sent = encode_binary(&task, &plan, &batch).expect("encodes");
        let empty = sent.iter().filter(|record| record.value.is_none()).count();
        assert_eq!((sent.len(), empty), (all, tombstones), "{sink}");
    }
}

#[test]
fn subjects_follow_the_strategy() {
    let subjects = |strategy: &str| {
        let sink =
            format!("format: debezium-avro, registry: {{url: http://r, subject: {strategy}}}");
        let (_, plan) = scene::plan(&orders(Full), &sink, "", 1).expect("a plan");
        let schemas = plan.schemas().expect("schemas");
        let key = schemas.key.as_ref().expect("a key").subject().to_owned();
        [key, schemas.value.subject().to_owned()]
    };
    assert_eq!(subjects("record"), ["appdb.shop.orders.Key", "appdb.shop.orders.Envelope"]);
    let both = ["shop.orders-appdb.shop.orders.Key", "shop.orders-appdb.shop.orders.Envelope"];
    assert_eq!(subjects("topic-record"), both);
}

/// Types of every kind of rendering, with texts that JSON and Avro say alike.
fn values() -> Vec<(Type, i32, &'static str)> {
    let built_in = [
        ("bool", oid::BOOL, -1, "t"),
        ("bit", oid::BIT, 1, "0"),
        ("varbit", oid::VARBIT, 12, "100000001"),
        ("int2", oid::INT2, -1, "-32768"),
        ("int4", oid::INT4, -1, "2147483647"),
        ("int8", oid::INT8, -1, "-9223372036854775808"),
        ("oid", oid::OID, -1, "4294967295"),
        ("float4", oid::FLOAT4, -1, "1.1"),
        ("float4", oid::FLOAT4, -1, "NaN"),
        ("float8", oid::FLOAT8, -1, "1e+300"),
        ("float8", oid::FLOAT8, -1, "-Infinity"),
        ("numeric", oid::NUMERIC, numeric_modifier(12, 2), "-49.90"),
        ("numeric", oid::NUMERIC, numeric_modifier(12, -2), "1200"),
        ("numeric", oid::NUMERIC, numeric_modifier(5, 7), "0.0000012"),
        ("numeric", oid::NUMERIC, -1, "123.4500"),
        ("money", oid::MONEY, -1, "-$1,234.50"),
        ("text", oid::TEXT, -1, "a \"b\" ä\n"),
        ("bytea", oid::BYTEA, -1, "\\x0102ff"),
        ("date", oid::DATE, -1, "0044-03-15 BC"),
        ("time", oid::TIME, 3, "10:20:30.123"),
        ("time", oid::TIME, -1, "24:00:00"),
        ("timetz", oid::TIMETZ, -1, "10:20:30.123456+08"),
        ("timestamp", oid::TIMESTAMP, 3, "2024-03-05 10:20:30.123"),
        ("timestamp", oid::TIMESTAMP, -1, "1969-12-31 23:59:59"),
        ("timestamptz", oid::TIMESTAMPTZ, -1, "2024-03-05 02:20:30.123456+00"),
        ("timestamptz", oid::TIMESTAMPTZ, -1, "-infinity"),
        ("interval", oid::INTERVAL, -1, "1 year 2 mons 3 days 04:05:06.789"),
        ("jsonb", oid::JSONB, -1, "{\"a\": 1}"),
        ("uuid", oid::UUID, -1, "6ecd8c99-4036-403d-bf84-cf8400f67836"),
        ("inet", oid::INET, -1, "10.0.0.1/8"),
        ("point", oid::POINT, -1, "(1,2.5)"),
    ]
    .map(|(name, oid, modifier, text)| (Type::builtin(oid, name), modifier, text));
    let int4 = || Type::builtin(oid::INT4, "int4");
    let others = [
        (of_kind("hstore", Kind::Base), -1, "\"a\"=>\"1\", \"b\"=>NULL"),
        (of_kind("geometry", Kind::Base), -1, "0101000020e6100000000000000000f03f0000000000000040"),
        (of_kind("vector", Kind::Base), -1, "[1,2.5]"),
        (of_kind("halfvec", Kind::Base), -1, "[1,2.5]"),
        (of_kind("sparsevec", Kind::Base), -1, "{1:1.5,3:2}/5"),
        (of_kind("mood", Kind::Enum { labels: vec!["ok".into()] }), -1, "ok"),
        (array_of(int4()), -1, "{1,NULL,3}"),
        (array_of(int4()), -1, "{}"),
        (array_of(Type::builtin(oid::TEXT, "text")), -1, "{a,\"b c\",NULL}"),
        (array_of(Type::builtin(oid::NUMERIC, "numeric")), -1, "{1.5,-2}"),
        (array_of(of_kind("hstore", Kind::Base)), -1, "{\"\\\"a\\\"=>\\\"1\\\"\"}"),
    ];
    built_in.into_iter().chain(others).collect()
}

/// Options that reach every branch of rendering.
const OPTIONS: [&str; 4] = [
    "",
    "format_options: {compat: strict, decimal: double, time: connect, interval: string}",
    "format_options: {decimal: string, time: isostring, binary: hex, hstore: map}",
    "format_options: {time: nanoseconds, binary: base64-url-safe}",
];

/// Every mode that the options of Debezium's formats have.
const MODES: [(&str, &[&str]); 8] = [
    ("decimal", &["precise", "double", "string"]),
    ("time", &scene::TIMES),
    ("interval", &["numeric", "string"]),
    ("binary", &["bytes", "base64", "base64-url-safe", "hex"]),
    ("hstore", &["json", "map"]),
    ("compat", &["lossless", "strict"]),
    ("numeric_scale", &["stripped", "stored"]),
    ("unavailable_value", &["gone"]),
];

fn one_column(type_: &Type, modifier: i32) -> Table {
    let id = column("id", Type::builtin(oid::INT4, "int4"), -1);
    scene::table("t", vec![id, column("v", type_.clone(), modifier)], 1, Full)
}

#[test]
fn every_type_is_what_debezium_json_writes() {
    for options in OPTIONS {
        for (type_, modifier, text) in values() {
            // Shown where one of them fails.
            println!("{} {modifier} {text} {options}", type_.name);
            let table = one_column(&type_, modifier);
            same_as_json(&table, options, &[Did::Insert(&[v("1"), v(text)])]);
        }
    }
}

#[test]
fn every_mode_of_every_option_is_what_debezium_json_writes() {
    for (option, modes) in MODES {
        for mode in modes {
            let options = format!("format_options: {{{option}: {mode}}}");
            for (type_, modifier, text) in values() {
                // Shown where one of them fails.
                println!("{} {modifier} {text} {options}", type_.name);
                let table = one_column(&type_, modifier);
                same_as_json(&table, &options, &[Did::Insert(&[v("1"), v(text)])]);
            }
        }
    }
}

#[test]
fn what_debezium_loses_is_refused_unless_it_may_be_lost() {
    let numeric = || (Type::builtin(oid::NUMERIC, "numeric"), numeric_modifier(12, 2));
    let date = || (Type::builtin(oid::DATE, "date"), -1);
    let array = || (array_of(Type::builtin(oid::INT4, "int4")), -1);
    let after = |(type_, modifier): (Type, i32), sink: &str, value: Value<'_>| {
        let table = one_column(&type_, modifier);
        let (task, plan) = plan(&table, sink);
        let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&[v("1"), value])]);
        let sent = encode_binary(&task, &plan, &batch)?;
        let schema = &plan.schemas().expect("schemas").value.after(&[]).text;
        let event = read(sent[0].value.as_deref().expect("a value"), IDS.value, schema);
        Ok::<_, EncodeError<_>>(event["after"]["v"].clone())
    };
    let strict = "format_options: {compat: strict}";
    let interval = || (Type::builtin(oid::INTERVAL, "interval"), -1);
    let text = after(interval(), "format_options: {interval: string}", v("infinity"));
    assert_eq!(text.ok(), Some(json!("infinity")));
    // Other modes have room for what the default ones refuse.
    for (type_, mode, text) in [
        (numeric(), "decimal: string", "NaN"),
        (date(), "time: isostring", "-infinity"),
        ((Type::builtin(oid::FLOAT8, "float8"), -1), "decimal: precise", "Infinity"),
    ] {
        let found = after(type_, &format!("format_options: {{{mode}}}"), v(text));
        assert_eq!(found.ok(), Some(json!(text)), "{mode}");
    }
    for (type_, value, strictly) in [
        (interval(), v("-infinity"), Json::Null),
        (numeric(), v("NaN"), Json::Null),
        (date(), v("infinity"), json!(-2_147_472_692)),
        (date(), Unchanged, Json::Null),
    ] {
        let error = after(type_.clone(), "", value).expect_err("refused");
        assert!(matches!(error, EncodeError::Unrepresentable { .. }), "{error}");
        assert_eq!(after(type_.clone(), "unrepresentable: null", value).ok(), Some(Json::Null));
        assert_eq!(after(type_, strict, value).ok(), Some(strictly));
    }
    let sparse = || (of_kind("sparsevec", Kind::Base), -1);
    let error = after(sparse(), "", v("{1:1}/32768")).expect_err("too many dimensions");
    assert!(error.to_string().contains("32,767 dimensions"), "{error}");
    let error = after(array(), strict, v("{{1,2},{3,4}}")).expect_err("two dimensions");
    assert!(error.to_string().contains("more than one dimension"), "{error}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_by_its_schema(
        which in 0..42_usize,
        options in 0..OPTIONS.len(),
        text in scene::text(),
        array: bool,
    ) {
        let values = values();
        prop_assert_eq!(values.len(), 42);
        let (type_, modifier, _) = &values[which];
        let type_ = if array { array_of(type_.clone()) } else { type_.clone() };
        let table = one_column(&type_, *modifier);
        let (task, plan) = plan(&table, OPTIONS[options]);
        let row = [v("1"), Value::Bytes(&text)];
        let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&row)]);
        if let Ok(sent) = encode_binary(&task, &plan, &batch) {
            let schema = &plan.schemas().expect("schemas").value.after(&[]).text;
            read(sent[0].value.as_deref().expect("a value"), IDS.value, schema);
        }
    }
}
