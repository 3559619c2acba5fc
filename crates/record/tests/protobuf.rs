//! Debezium's events in Protobuf: their schemas, the numbers of their fields, and that another library reads
//! from them what was there.

#[path = "scene/proto.rs"]
mod proto;
mod scene;

use expect_test::expect;
use proptest::prelude::*;
use prost_reflect::MessageDescriptor;
use proto::read;
use record::encode::EncodeError;
use record::plan::{TablePlan, TaskPlan};
use record::schema::{Draft, Ids, Schema, Version};
use scene::{
    Binary, Did, Null, Unchanged, Value, array_of, column, encode_binary, numeric_modifier,
    of_kind, orders, v,
};
use serde_json::{Value as Json, json};
use wal::table::ReplicaIdentity::{Default, Full};
use wal::types::{Kind, Type, oid};
use wal::{Column, Table};

const AT: Value<'static> = Value::Text("2024-03-05 02:20:30.123456+00");
const FIRST: [Value<'static>; 4] =
    [Value::Text("1001"), Value::Text("first"), Value::Text("49.90"), AT];
const MOVED: [Value<'static>; 4] = [Value::Text("2001"), Null, Value::Text("59.90"), AT];
const IDS: Ids = Ids { key: Some(0x0102), value: 0x0304_0506 };
const REGISTRY: &str = "format: protobuf, registry: {url: http://r}";

fn unasked(table: &Table, sink: &str) -> (TaskPlan, TablePlan) {
    scene::plan(table, &format!("{REGISTRY}, {sink}"), "", 1).expect("a plan")
}

/// A plan whose schemas the registry has taken.
fn plan(table: &Table, sink: &str) -> (TaskPlan, TablePlan) {
    let (task, plan) = unasked(table, sink);
    plan.schemas().expect("schemas").taken_first(IDS);
    (task, plan)
}

/// The message of a schema, which has this name.
fn compile(schema: &Schema, name: &str) -> MessageDescriptor {
    let imports: Vec<_> = schema.references.iter().map(|it| (it.name, it.text)).collect();
    let message = proto::compile(&schema.text, &imports);
    assert_eq!(message.full_name(), name);
    message
}

fn value_schema(plan: &TablePlan) -> Schema {
    plan.schemas().expect("schemas").value.after(&[])
}

fn key_schema(plan: &TablePlan) -> Schema {
    plan.schemas().expect("schemas").key.as_ref().expect("a key").after(&[])
}

fn sent(table: &Table, sink: &str, changes: &[Did<'_>]) -> (TablePlan, Vec<Binary>) {
    let (task, plan) = plan(table, sink);
    let batch = scene::batch(table, scene::transaction(), changes);
    let sent = encode_binary(&task, &plan, &batch).expect("encodes");
    (plan, sent)
}

/// The column `v` of a table, and what becomes of a value in it.
fn after(column: Column, sink: &str, value: Value<'_>) -> Result<Json, String> {
    let name = column.name.clone();
    let id = scene::column("id", Type::builtin(oid::INT4, "int4"), -1);
    let table = scene::table("t", vec![id, column], 1, Full);
    let (task, plan) = plan(&table, sink);
    let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&[v("1"), value])]);
    let sent = encode_binary(&task, &plan, &batch).map_err(|error| error.to_string())?;
    let message = compile(&value_schema(&plan), "appdb.shop.t.Envelope");
    let event = read(sent[0].value.as_deref().expect("a value"), IDS.value, &message);
    Ok(event["after"][&*name].clone())
}

#[test]
fn schemas_are_files_with_one_message() {
    let (_, plan) = plan(&orders(Full), "");
    let (key, value) = (key_schema(&plan), value_schema(&plan));
    assert_eq!((&*key.subject, &*value.subject), ("shop.orders-key", "shop.orders-value"));
    expect![[r#"
        syntax = "proto3";

        package appdb.shop.orders;

        message Key {
          optional int64 id = 1;
        }
    "#]]
    .assert_eq(&key.text);
    assert!(key.references.is_empty());
    expect![[r#"
        syntax = "proto3";

        package appdb.shop.orders;

        import "distributary/semantic.proto";

        message Envelope {
          Value before = 1;
          Value after = 2;
          Source source = 3;
          string op = 4;
          optional int64 ts_ms = 5 [json_name = "ts_ms"];
          optional int64 ts_us = 6 [json_name = "ts_us"];
          optional int64 ts_ns = 7 [json_name = "ts_ns"];
          Transaction transaction = 8;

          message Value {
            optional int64 id = 1;
            optional string note = 2;
            optional string total = 3;
            optional string at = 4 [(distributary.semantic) = "io.debezium.time.ZonedTimestamp"];
          }

          message Source {
            string version = 1;
            string connector = 2;
            string name = 3;
            int64 ts_ms = 4 [json_name = "ts_ms"];
            optional string snapshot = 5;
            string db = 6;
            optional string sequence = 7;
            optional int64 ts_us = 8 [json_name = "ts_us"];
            optional int64 ts_ns = 9 [json_name = "ts_ns"];
            string schema = 10;
            string table = 11;
            optional int64 txId = 12;
            optional int64 lsn = 13;
            optional int64 xmin = 14;
          }

          message Transaction {
            string id = 1;
            int64 total_order = 2 [json_name = "total_order"];
            int64 data_collection_order = 3 [json_name = "data_collection_order"];
          }
        }
    "#]]
    .assert_eq(&value.text);
    let imported: Vec<_> = value.references.iter().map(|it| it.name).collect();
    assert_eq!(imported, ["distributary/semantic.proto"]);
}

/// Keys and values are what Debezium JSON writes of the same changes, and headers are the same bytes.
#[track_caller]
fn same_as_json(table: &Table, changes: &[Did<'_>]) {
    let (plan, sent) = sent(table, "", changes);
    let expected = scene::records(table, "format_options: {decimal: string}", changes);
    assert_eq!(sent.len(), expected.len());
    let name = |side: &str| format!("appdb.shop.{}.{side}", table.name);
    let value_message = compile(&value_schema(&plan), &name("Envelope"));
    let key =
        |key: &[u8]| read(key, IDS.key.expect("an id"), &compile(&key_schema(&plan), &name("Key")));
    for (sent, expected) in sent.iter().zip(expected) {
        let parsed = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
        let value = sent.value.as_deref().map(|value| read(value, IDS.value, &value_message));
        assert_eq!(value, expected.value.as_deref().map(parsed));
        assert_eq!(sent.key.as_deref().map(key), expected.key.as_deref().map(parsed));
        for (name, value) in &sent.headers {
            // That of a changed key, too: Kafka Connect has a converter of its own for headers.
            let json = expected.header(name).expect("the same headers");
            assert_eq!(value, json.as_bytes());
        }
    }
}

#[test]
fn every_operation_is_what_debezium_json_writes() {
    let after = [v("1001"), Null, v("49.90"), AT];
    let changes = [
        Did::Read(&FIRST),
        Did::Insert(&FIRST),
        Did::UpdateRow(&FIRST, &after),
        Did::UpdateRow(&FIRST, &MOVED),
        Did::DeleteRow(&MOVED),
        Did::Truncate,
    ];
    same_as_json(&orders(Full), &changes);
    let unlogged = [v("1001"), Unchanged, v("49.90"), AT];
    let key = [v("1001"), Null, Null, Null];
    let keyed = [Did::Update(&unlogged), Did::UpdateKey(&key, &MOVED), Did::DeleteKey(&key)];
    same_as_json(&orders(Default), &keyed);
    let line = column("line", Type::builtin(oid::TEXT, "text"), -1);
    let keyless = scene::table("log", vec![line], 0, Full);
    same_as_json(&keyless, &[Did::Insert(&[v("a")]), Did::DeleteRow(&[v("a")])]);
}

#[test]
fn a_record_says_its_place_in_its_transaction() {
    let table = orders(Full);
    let (task, plan) = plan(&table, "");
    let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&FIRST)]);
    let sent = scene::encode_placed(&task, &plan, &batch, Some(scene::PLACE)).expect("encodes");
    let message = compile(&value_schema(&plan), "appdb.shop.orders.Envelope");
    let event = read(sent[0].value.as_deref().expect("a value"), IDS.value, &message);
    assert_eq!(event["transaction"].to_string(), scene::PLACED);
}

#[test]
fn a_statement_is_what_debezium_json_writes_in_a_message_of_its_own() {
    let (table, did) = (scene::statements(), [Did::Insert(&scene::STATEMENT)]);
    let (plan, sent) = sent(&table, "", &did);
    let expected = &scene::records(&table, "", &did)[0];
    let name = |side: &str| format!("io.debezium.connector.postgresql.SchemaChange{side}");
    let schema = value_schema(&plan);
    let value = compile(&schema, &name("Value"));
    let found = read(sent[0].value.as_deref().expect("a value"), IDS.value, &value);
    let mut expected_value = expected.json();
    // There is no list that is null.
    let columns = &mut expected_value["tableChanges"][0]["table"]["columns"];
    assert_eq!(columns[0]["enumValues"], Json::Null);
    columns[0]["enumValues"] = json!([]);
    assert_eq!(found, expected_value);
    let key = compile(&key_schema(&plan), &name("Key"));
    let found = read(sent[0].key.as_deref().expect("a key"), IDS.key.expect("an id"), &key);
    assert_eq!(found, json!({"databaseName": "appdb"}));
    assert_eq!(&*schema.text, include_str!("statement.proto"));
}

#[test]
fn subjects_follow_the_strategy() {
    let subjects = |strategy: &str| {
        let sink = format!("format: protobuf, registry: {{url: http://r, subject: {strategy}}}");
        let (_, plan) = scene::plan(&orders(Full), &sink, "", 1).expect("a plan");
        let schemas = plan.schemas().expect("schemas");
        let key = schemas.key.as_ref().expect("a key").subject().to_owned();
        [key, schemas.value.subject().to_owned()]
    };
    assert_eq!(subjects("record"), ["appdb.shop.orders.Key", "appdb.shop.orders.Envelope"]);
    let both = ["shop.orders-appdb.shop.orders.Key", "shop.orders-appdb.shop.orders.Envelope"];
    assert_eq!(subjects("topic-record"), both);
}

#[test]
fn rows_wait_for_the_registry() {
    let (task, plan) = unasked(&orders(Full), "");
    let batch = scene::batch(&orders(Full), scene::transaction(), &[Did::Insert(&FIRST)]);
    let error = encode_binary(&task, &plan, &batch).expect_err("nobody has asked the registry");
    assert!(matches!(error, EncodeError::Unregistered { .. }), "{error}");
}

fn text_column(name: &str) -> Column {
    column(name, Type::builtin(oid::TEXT, "text"), -1)
}

#[test]
fn names_that_protobuf_does_not_allow_are_adjusted_and_the_own_ones_stay_beside() {
    let names = ["a b", "1", "message", "a\"b\\c", "fooBar", "foo_baz", "[x]", "Größe"];
    let columns = names.map(text_column).into();
    let mut table = scene::table("2-t", columns, 1, Full);
    table.schema = "9 lives".into();
    let row = names.map(v);
    let (plan, sent) = sent(&table, "topic: t", &[Did::Insert(&row)]);
    let message = compile(&value_schema(&plan), "appdb._9_lives._2_t.Envelope");
    let event = read(sent[0].value.as_deref().expect("a value"), IDS.value, &message);
    let fields = ["a_b", "_1", "message", "a_b_c", "fooBar", "foo_baz", "_x_", "Gr__e"];
    for (field, name) in fields.iter().zip(names) {
        assert_eq!(event["after"][field], name);
    }
    assert_eq!(event["source"]["table"], "2-t");
    let value = message.get_field_by_name("after").expect("a field").kind();
    let value = value.as_message().expect("a message").clone();
    for (field, name) in fields.iter().zip(names) {
        let field = value.get_field_by_name(field).expect("a field");
        let expected = if name == "[x]" { "X" } else { name };
        assert_eq!(field.json_name(), expected);
    }
}

#[test]
fn names_that_the_compiler_takes_for_the_same_are_refused() {
    let table = scene::table("t", ["fooBar", "foo_bar"].map(text_column).into(), 1, Full);
    let plan = |more: &str| scene::plan(&table, &format!("{REGISTRY}, {more}"), "", 1);
    let error = plan("").expect_err("the same in JSON").to_string();
    assert!(error.contains("`foo_bar` and `fooBar` would both be called `fooBar`"), "{error}");
    let (_, plan) = plan("format_options: {field_name_adjustment: avro-unicode}").expect("a plan");
    compile(&value_schema(&plan), "appdb.shop.t.Envelope");
}

#[test]
fn values_are_what_the_reference_says() {
    let of = |oid: u32, name: &str| Type::builtin(oid, name);
    let check = |type_: Type, modifier: i32, text: &str, expected: Json| {
        let name = type_.name.clone();
        let found = after(column("v", type_, modifier), "", v(text));
        assert_eq!(found, Ok(expected), "{name} {text}");
    };
    check(of(oid::BOOL, "bool"), -1, "t", json!(true));
    check(of(oid::INT2, "int2"), -1, "-32768", json!(-32768));
    check(of(oid::INT4, "int4"), -1, "-2147483648", json!(-2_147_483_648));
    check(of(oid::INT8, "int8"), -1, "-9223372036854775808", json!(i64::MIN));
    check(of(oid::OID, "oid"), -1, "4294967295", json!(4_294_967_295_u32));
    check(of(oid::FLOAT4, "float4"), -1, "1.1", json!(1.1));
    check(of(oid::FLOAT4, "float4"), -1, "NaN", json!("NaN"));
    check(of(oid::FLOAT8, "float8"), -1, "-0", json!(-0.0));
    check(of(oid::FLOAT8, "float8"), -1, "-Infinity", json!("-Infinity"));
    check(of(oid::NUMERIC, "numeric"), numeric_modifier(12, 2), "49.90", json!("49.90"));
    check(of(oid::NUMERIC, "numeric"), -1, "NaN", json!("NaN"));
    check(of(oid::MONEY, "money"), -1, "-$1,234.50", json!("-$1,234.50"));
    check(of(oid::BYTEA, "bytea"), -1, "\\x0102ff", json!("AQL/"));
    check(of(oid::DATE, "date"), -1, "0044-03-15 BC", json!(-735_160));
    check(of(oid::TIME, "time"), 3, "10:20:30.123", json!(37_230_123));
    check(of(oid::TIME, "time"), -1, "24:00:00", json!(86_400_000_000_i64));
    check(of(oid::TIMETZ, "timetz"), -1, "10:20:30+08", json!("02:20:30Z"));
    check(of(oid::TIMESTAMP, "timestamp"), 3, "1970-01-01 00:00:01.5", json!(1500));
    check(of(oid::TIMESTAMPTZ, "timestamptz"), -1, "infinity", json!("infinity"));
    check(of(oid::INTERVAL, "interval"), -1, "1 mon 04:05:06", json!("1 mon 04:05:06"));
    check(of(oid::BIT, "bit"), 1, "1", json!("1"));
    check(of(oid::UUID, "uuid"), -1, "6ecd8c99", json!("6ecd8c99"));
    check(of(oid::POINT, "point"), -1, "(1,2)", json!("(1,2)"));
    check(of_kind("hstore", wal::types::Kind::Base), -1, "\"a\"=>NULL", json!("\"a\"=>NULL"));
}

/// What Debezium JSON writes of the same value under the same options.
fn as_json(column: Column, options: &str, text: &str) -> Json {
    let name = column.name.clone();
    let id = scene::column("id", Type::builtin(oid::INT4, "int4"), -1);
    let table = scene::table("t", vec![id, column], 1, Full);
    let sent = scene::records(&table, options, &[Did::Insert(&[v("1"), v(text)])]);
    sent[0].json()["after"][&*name].clone()
}

#[test]
fn every_mode_of_times_and_numbers_is_what_debezium_json_writes() {
    let moment = "2024-03-05 10:20:30.123";
    let values = [
        ("date", oid::DATE, -1, "2024-03-05"),
        ("time", oid::TIME, 3, "10:20:30.123"),
        ("time", oid::TIME, -1, "10:20:30.123456"),
        ("timestamp", oid::TIMESTAMP, 3, moment),
        ("timestamp", oid::TIMESTAMP, -1, moment),
        ("timestamptz", oid::TIMESTAMPTZ, -1, "2024-03-05 02:20:30.123456+00"),
        ("numeric", oid::NUMERIC, numeric_modifier(12, 2), "-49.90"),
        ("float8", oid::FLOAT8, -1, "1.5"),
    ];
    for time in scene::TIMES {
        for decimal in ["string", "double"] {
            let options = format!("format_options: {{time: {time}, decimal: {decimal}}}");
            for (name, oid, modifier, text) in values {
                let column = || column("v", Type::builtin(oid, name), modifier);
                let found = after(column(), &options, v(text));
                assert_eq!(found, Ok(as_json(column(), &options, text)), "{name} under {options}");
            }
        }
    }
}

#[test]
fn tombstones_can_be_left_out() {
    let changes = [Did::UpdateRow(&FIRST, &MOVED), Did::DeleteRow(&MOVED)];
    for (sink, all, tombstones) in [("", 5, 2), ("format_options: {tombstones: false}", 3, 0)] {
        let (_, sent) = sent(&orders(Full), sink, &changes);
        let empty = sent.iter().filter(|record| record.value.is_none()).count();
        assert_eq!((sent.len(), empty), (all, tombstones), "{sink}");
    }
}

#[test]
fn arrays_keep_nulls_dimensions_and_bounds() {
    let array = |oid: u32, name: &str| column("v", array_of(Type::builtin(oid, name)), -1);
    let ints = |text| after(array(oid::INT4, "int4"), "", v(text)).expect("encodes");
    assert_eq!(
        ints("{1,NULL,0}"),
        json!({"items": [{"value": 1, "array": null}, {"value": null, "array": null},
            {"value": 0, "array": null}], "lower_bounds": []})
    );
    assert_eq!(ints("{}"), json!({"items": [], "lower_bounds": []}));
    let item = |value: i32| json!({"value": value, "array": null});
    let nested =
        |items: Vec<Json>| json!({"value": null, "array": {"items": items, "lower_bounds": []}});
    assert_eq!(
        ints("[0:1][-3:-2]={{1,2},{3,4}}"),
        json!({"items": [nested(vec![item(1), item(2)]), nested(vec![item(3), item(4)])],
            "lower_bounds": [0, -3]})
    );
    let texts = after(array(oid::TEXT, "text"), "", v(r#"{a,"b,c","",NULL}"#)).expect("encodes");
    assert_eq!(texts["items"][1]["value"], "b,c");
    assert_eq!(texts["items"][2]["value"], "");
    assert_eq!(texts["items"][3]["value"], Json::Null);
    let null = after(array(oid::TEXT, "text"), "", Null).expect("encodes");
    assert_eq!(null, Json::Null);
}

#[test]
fn decimals_can_be_bytes() {
    let bytes = "format_options: {decimal: bytes}";
    let numeric = |modifier| column("v", Type::builtin(oid::NUMERIC, "numeric"), modifier);
    let fixed = after(numeric(numeric_modifier(12, 2)), bytes, v("-49.90"));
    assert_eq!(fixed, Ok(json!({"scale": 2, "value": "7II="})));
    let plain = after(numeric(-1), bytes, v("123.4500"));
    assert_eq!(plain, Ok(json!({"scale": 4, "value": "EtZE"})));
    let array = column("v", array_of(Type::builtin(oid::NUMERIC, "numeric")), -1);
    let array = after(array, bytes, v("{1.5}")).expect("encodes");
    assert_eq!(array["items"][0]["value"], json!({"scale": 1, "value": "Dw=="}));
    let double = after(numeric(-1), "format_options: {decimal: double}", v("1.5"));
    assert_eq!(double, Ok(json!(1.5)));
}

#[test]
fn what_has_no_value_is_refused_unless_it_may_be_lost() {
    let date = || column("v", Type::builtin(oid::DATE, "date"), -1);
    for value in [v("infinity"), Unchanged] {
        let error = after(date(), "", value).expect_err("refused");
        assert!(error.contains("does not fit the format"), "{error}");
        assert_eq!(after(date(), "unrepresentable: null", value), Ok(Json::Null));
    }
    let text = after(date(), "format_options: {time: isostring}", v("infinity"));
    assert_eq!(text, Ok(json!("infinity")));
    let nan = column("v", Type::builtin(oid::NUMERIC, "numeric"), -1);
    let error = after(nan, "format_options: {decimal: bytes}", v("NaN")).expect_err("refused");
    assert!(error.contains("NaN and the infinities"), "{error}");
    for type_ in [Type::builtin(oid::TEXT, "text"), Type::builtin(oid::NUMERIC, "numeric")] {
        let found = after(column("v", type_, -1), "", Unchanged);
        assert_eq!(found, Ok(json!("__debezium_unavailable_value")));
    }
}

/// Columns of the value's schema by name, with their numbers, as another library reads them.
fn numbers(schema: &Schema) -> Vec<(String, u32)> {
    let message = compile(schema, "appdb.shop.t.Envelope");
    let value = message.get_field_by_name("after").expect("a field").kind();
    let value = value.as_message().expect("a message").clone();
    value.fields().map(|field| (field.name().to_owned(), field.number())).collect()
}

/// A subject to which table versions are written as a registry would have it.
#[derive(Default)]
struct Subject {
    versions: Vec<Version>,
}

impl Subject {
    /// Id and numbers of the table's version, which is registered where it is not known.
    fn settle(&mut self, table: &Table) -> (u32, Box<[u32]>) {
        let (_, plan) = unasked(table, "");
        let Draft::Numbered(draft) = &plan.schemas().expect("schemas").value else {
            panic!("numbered")
        };
        if let Some(taken) = draft.found(&self.versions) {
            return (taken.id, taken.numbers);
        }
        let (schema, numbers) = draft.after(&self.versions);
        let id = u32::try_from(self.versions.len()).expect("few");
        self.versions.push(Version { id, text: schema.text.into() });
        let found = draft.found(&self.versions).expect("what was registered");
        assert_eq!((found.id, &found.numbers), (id, &numbers));
        (id, numbers)
    }

    fn text(&self, version: usize) -> Schema {
        let (_, plan) = unasked(&of(&["id"]), "");
        let value = value_schema(&plan);
        let references = &[record::schema::Reference {
            name: "distributary/semantic.proto",
            text: include_str!("../src/encode/debezium/protobuf/semantic.proto"),
        }];
        Schema { text: self.versions[version].text.as_str().into(), references, ..value }
    }
}

/// A table whose columns are called after their types: `a` a text, `a:int4` a number.
fn of(columns: &[&str]) -> Table {
    let column = |name: &&str| match name.split_once(':') {
        Some((name, "int4")) => column(name, Type::builtin(oid::INT4, "int4"), -1),
        Some((name, _)) => column(name, Type::builtin(oid::DATE, "date"), -1),
        None => text_column(name),
    };
    scene::table("t", columns.iter().map(column).collect(), 1, Full)
}

#[test]
fn numbers_are_for_ever() {
    let mut subject = Subject::default();
    assert_eq!(&*subject.settle(&of(&["id", "a"])).1, [1, 2]);
    assert_eq!(&*subject.settle(&of(&["id", "b", "a"])).1, [1, 3, 2]);
    assert_eq!(&*subject.settle(&of(&["id", "b"])).1, [1, 3], "a is dropped");
    assert!(subject.versions[2].text.contains("reserved 2;"), "{}", subject.versions[2].text);
    assert!(subject.versions[2].text.contains("reserved \"a\";"), "{}", subject.versions[2].text);
    assert_eq!(&*subject.settle(&of(&["id", "b", "c"])).1, [1, 3, 4]);
    assert_eq!(&*subject.settle(&of(&["id", "b:int4", "c"])).1, [1, 5, 4], "another type");
    assert_eq!(&*subject.settle(&of(&["id", "b:date", "c"])).1, [1, 6, 4], "another meaning");
    for version in 0..subject.versions.len() {
        numbers(&subject.text(version));
    }
}

/// Also those whose name in JSON must be said.
#[test]
fn columns_of_any_name_are_known_again() {
    let names =
        ["id", "created_at", "a b", "1", "message", "a\"b\\c", "fooBar", "foo_baz", "[x]", "Größe"];
    for name in names {
        // Shown where one of them fails.
        println!("{name}");
        let (mut subject, table) = (Subject::default(), of(&["key", name]));
        let first = subject.settle(&table);
        assert_eq!((&*first.1, subject.settle(&table)), (&[1, 2][..], first.clone()));
    }
    let mut subject = Subject::default();
    let first = subject.settle(&of(&names));
    assert_eq!(subject.settle(&of(&names)), first);
    assert_eq!(*subject.settle(&of(&["created_at", "id"])).1, [2, 1]);
}

#[test]
fn an_older_version_of_a_table_is_the_version_it_was() {
    let mut subject = Subject::default();
    let first = subject.settle(&of(&["id", "a"]));
    let second = subject.settle(&of(&["id", "a", "b"]));
    assert_eq!(subject.settle(&of(&["id", "a"])), first, "after a restart");
    assert_eq!(subject.settle(&of(&["id", "a", "b"])), second);
    assert_eq!(subject.versions.len(), 2);
    // Never seen before, but its columns were.
    assert_eq!(&*subject.settle(&of(&["id", "b"])).1, [1, 3]);
}

#[test]
fn a_number_that_two_lanes_gave_is_the_first_one_s() {
    let mut subject = Subject::default();
    subject.settle(&of(&["id"]));
    let mut other = Subject { versions: subject.versions.clone() };
    assert_eq!(&*subject.settle(&of(&["id", "a"])).1, [1, 2]);
    assert_eq!(&*other.settle(&of(&["id", "b"])).1, [1, 2], "at the same moment");
    subject.versions.push(Version { id: 7, ..other.versions.remove(1) });
    let (id, numbers) = subject.settle(&of(&["id", "b"]));
    assert_eq!((id, &*numbers), (3, &[1, 3][..]), "registered anew");
    assert_eq!(&*subject.settle(&of(&["id", "a"])).1, [1, 2]);
}

#[test]
fn what_others_have_registered_says_nothing_and_breaks_nothing() {
    let deep = format!("message A {}{}", "{ message B ".repeat(100_000), "}".repeat(100_000));
    let others = ["", "no proto", "syntax = \"proto3\"; message Envelope {}", "\"long\"", &deep];
    let versions = others.iter().map(|text| Version { id: 1, text: (*text).into() }).collect();
    let mut subject = Subject { versions };
    assert_eq!(&*subject.settle(&of(&["id", "a"])).1, [1, 2]);
}

/// Types of every kind of rendering.
fn types() -> Vec<(Type, i32)> {
    let built_in = [
        ("bool", oid::BOOL, -1),
        ("bit", oid::BIT, 1),
        ("int2", oid::INT2, -1),
        ("int8", oid::INT8, -1),
        ("float4", oid::FLOAT4, -1),
        ("float8", oid::FLOAT8, -1),
        ("numeric", oid::NUMERIC, numeric_modifier(12, 2)),
        ("numeric", oid::NUMERIC, -1),
        ("money", oid::MONEY, -1),
        ("text", oid::TEXT, -1),
        ("bytea", oid::BYTEA, -1),
        ("date", oid::DATE, -1),
        ("time", oid::TIME, 3),
        ("time", oid::TIME, -1),
        ("timetz", oid::TIMETZ, -1),
        ("timestamp", oid::TIMESTAMP, -1),
        ("timestamptz", oid::TIMESTAMPTZ, -1),
        ("interval", oid::INTERVAL, -1),
        ("jsonb", oid::JSONB, -1),
    ];
    let built_in = built_in.map(|(name, oid, modifier)| (Type::builtin(oid, name), modifier));
    let enumeration = of_kind("mood", Kind::Enum { labels: vec!["ok".into()] });
    built_in.into_iter().chain([(enumeration, -1)]).collect()
}

const OPTIONS: [&str; 4] = [
    "",
    "format_options: {decimal: bytes, time: connect}",
    "format_options: {decimal: double, time: isostring}",
    "format_options: {time: nanoseconds}",
];

proptest! {
    // Each case compiles some schemas.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_by_its_schema(
        which in 0..20_usize,
        options in 0..OPTIONS.len(),
        text in scene::text(),
        array: bool,
    ) {
        let (type_, modifier) = types().swap_remove(which);
        let type_ = if array { array_of(type_) } else { type_ };
        // An error is an answer; what another library cannot read would panic.
        let _ = after(column("v", type_, modifier), OPTIONS[options], Value::Bytes(&text));
    }

    #[test]
    fn no_column_ever_has_the_number_of_another(
        tables in prop::collection::vec(
            prop::collection::btree_set(
                prop::sample::select(vec!["a", "b", "c", "d", "e:int4", "f:date"]), 0..6
            ),
            1..12,
        ),
        types in prop::collection::vec(prop::sample::select(vec!["", ":int4"]), 12),
    ) {
        let mut subject = Subject::default();
        let mut known = std::collections::BTreeMap::new();
        for (table, type_) in tables.iter().zip(types) {
            let columns: Vec<_> = ["id".to_owned()].into_iter().chain(table.iter().map(|name| {
                if *name == "a" { format!("a{type_}") } else { (*name).to_owned() }
            })).collect();
            let columns: Vec<_> = columns.iter().map(String::as_str).collect();
            let (id, numbers) = subject.settle(&of(&columns));
            for (column, number) in columns.iter().zip(numbers.iter()) {
                let owner = known.entry(*number).or_insert_with(|| (*column).to_owned());
                prop_assert_eq!(&*owner, column);
            }
            let read = self::numbers(&subject.text(usize::try_from(id).expect("few")));
            prop_assert_eq!(read.len(), columns.len());
        }
    }
}
