//! DTS Avro byte for byte (the worked examples of the format's reference), and read by another library.

#![allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]

mod scene;

use apache_avro::types::Value as Avro;
use apache_avro::{Schema, from_avro_datum};
use proptest::prelude::*;
use record::plan::{TablePlan, TaskPlan};
use record::told::Teller;
use record::transaction::Summary;
use scene::{Did, Null, Unchanged, Value, array_of, column, encode_binary, of_kind, orders, v};
use std::sync::{Arc, LazyLock};
use wal::change::Transaction;
use wal::table::ReplicaIdentity::{Default, Full};
use wal::table::UniqueIndex;
use wal::types::{Kind, Type, oid};
use wal::{Lsn, Table};

/// As it was published.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse_str(include_str!("../src/encode/dts/record.avsc")).expect("an Avro schema")
});

const AT: Value<'static> = Value::Text("2024-03-05 02:20:30.123456+00");
const FIRST: [Value<'static>; 4] =
    [Value::Text("1001"), Value::Text("first"), Value::Text("49.90"), AT];

fn plan(table: &Table, options: &str) -> (TaskPlan, TablePlan) {
    let task = scene::task(&format!("format: dts-avro, {options}"), "");
    let task = TaskPlan::new(&task, "appdb").expect("a plan").of_server(160_003);
    let plan = TablePlan::new(Arc::new(table.clone()), &task, 0, 1, 8).expect("a plan");
    (task, plan)
}

fn records(table: &Table, transaction: Transaction, lsn: u64, did: Did<'_>) -> Vec<scene::Binary> {
    let (task, plan) = plan(table, "");
    let mut batch = scene::batch(table, transaction, &[did]);
    batch.changes[0].lsn = Lsn(lsn);
    encode_binary(&task, &plan, &batch).expect("encodes")
}

/// Reads the whole record by the published schema.
#[track_caller]
fn read(record: &scene::Binary) -> Vec<(String, Avro)> {
    let mut bytes = record.value.as_deref().expect("no tombstone");
    let read = from_avro_datum(&SCHEMA, &mut bytes, None).expect("a record of the schema");
    assert!(bytes.is_empty(), "{} bytes follow the record", bytes.len());
    let Avro::Record(fields) = read else { panic!("{read:?}") };
    fields
}

#[track_caller]
fn field(record: &[(String, Avro)], name: &str) -> Avro {
    let (_, value) = record.iter().find(|(found, _)| found == name).expect("a field");
    match value {
        Avro::Union(_, value) => (**value).clone(),
        value => value.clone(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// Avro's `long`, written for this test.
fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(rest & 0x7F).expect("seven bits");
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// The record is the reference's, but for its `id`, which DTS counts and we compute.
#[track_caller]
fn same(record: &scene::Binary, reference: &str, its_id: i64, our_id: i64) {
    let reference = unhex(reference);
    let prefix = [vec![0], long(its_id)].concat();
    let rest = reference.strip_prefix(prefix.as_slice()).expect("the reference's id");
    let expected = [vec![0], long(our_id), rest.to_vec()].concat();
    assert_eq!(record.value.as_deref(), Some(expected.as_slice()), "{:?}", read(record));
}

fn transaction(xid: u32, us: i64, previous: u64) -> Transaction {
    Transaction {
        xid,
        commit_lsn: Lsn(0x1A2_B600),
        previous_commit_lsn: Some(Lsn(previous)),
        commit_time: scene::since_2000(us),
        changes_count: None,
    }
}

/// Of the only change of that transaction.
const OUR_ID: i64 = (0x1A2_B600 >> 3) << 17;

#[test]
fn an_insert_is_the_reference_s() {
    let transaction = transaction(7341, 1_709_605_230_500_000, 0x1A2_B3C8);
    let sent = records(&orders(Full), transaction, 0x1A2_B3C8, Did::Insert(&FIRST));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].key.as_deref(), Some(br#"{"id":1001}"#.as_slice()));
    same(
        &sent[0],
        "00ca01dc85b4de0c12302f3141324233433812302f3141324233433808373334
         31060831362e3300022261707064622e73686f702e6f7264657273000214706b
         5f756b5f696e666f247b225052494d415259223a5b226964225d7d0004080469
         6428086e6f7465320a746f74616cc81a046174c0120000040802000831303031
         040a5554462d380a6669727374060a34392e393008040e02d01f0206020a0204
         0228023c0280890f0c2b30303a303000c8deccc6c163",
        101,
        OUR_ID,
    );
}

#[test]
fn a_snapshot_row_is_the_reference_s() {
    let snapshot = Transaction {
        xid: 0,
        commit_lsn: Lsn(0x1A0_0027),
        previous_commit_lsn: None,
        commit_time: scene::since_2000(1_709_601_630_000_000),
        changes_count: None,
    };
    let sent = records(&orders(Full), snapshot, 0x1A0_0028, Did::Read(&FIRST));
    same(
        &sent[0],
        "0002bccdb3de0c12302f3141303030323812302f314130303032380006083136
         2e3320022261707064622e73686f702e6f7264657273000214706b5f756b5f69
         6e666f247b225052494d415259223a5b226964225d7d00040804696428086e6f
         7465320a746f74616cc81a046174c0120000040802000831303031040a555446
         2d380a6669727374060a34392e393008040e02d01f0206020a02040228023c02
         80890f0c2b30303a303000e09c95c3c163",
        1,
        (0x1A0_0027 >> 3) << 17,
    );
}

#[test]
fn an_update_that_changes_the_key_is_the_reference_s() {
    let transaction = transaction(7342, 1_709_605_290_250_000, 0x1A2_B4F0);
    let after = [v("2001"), Null, v("59.90"), AT];
    let did = Did::UpdateRow(&FIRST, &after);
    let sent = records(&orders(Full), transaction, 0x1A2_B520, did);
    assert_eq!(sent.len(), 1, "one record while both keys share a partition");
    assert_eq!(sent[0].key.as_deref(), Some(br#"{"id":2001}"#.as_slice()));
    same(
        &sent[0],
        "00d001d486b4de0c12302f3141324235323012302f3141324234463008373334
         32060831362e3302022261707064622e73686f702e6f7264657273000214706b
         5f756b5f696e666f247b225052494d415259223a5b226964225d7d0004080469
         6428086e6f7465320a746f74616cc81a046174c0120004080200083130303104
         0a5554462d380a6669727374060a34392e393008040e02d01f0206020a020402
         28023c0280890f0c2b30303a30300004080200083230303100060a35392e3930
         08040e02d01f0206020a02040228023c0280890f0c2b30303a3030009484d4c6
         c163",
        104,
        OUR_ID,
    );
}

#[test]
fn a_delete_is_the_reference_s() {
    let transaction = transaction(7343, 1_709_605_350_250_000, 0x1A2_B6A8);
    let row = [v("2001"), Null, v("59.90"), AT];
    let sent = records(&orders(Full), transaction, 0x1A2_B700, Did::DeleteRow(&row));
    assert_eq!(sent.len(), 1, "no tombstone");
    same(
        &sent[0],
        "00d601cc87b4de0c12302f3141324237303012302f3141324236413808373334
         33060831362e3304022261707064622e73686f702e6f7264657273000214706b
         5f756b5f696e666f247b225052494d415259223a5b226964225d7d0004080469
         6428086e6f7465320a746f74616cc81a046174c0120004080200083230303100
         060a35392e393008040e02d01f0206020a02040228023c0280890f0c2b30303a
         30300000d4addbc6c163",
        107,
        OUR_ID,
    );
}

#[test]
fn a_truncate_is_the_reference_s() {
    let transaction = transaction(7344, 1_709_605_410_250_000, 0x1A2_B8A0);
    let sent = records(&orders(Full), transaction, 0x1A2_B8E8, Did::Truncate);
    assert_eq!(sent[0].key, None);
    same(
        &sent[0],
        "00dc01c488b4de0c12302f3141324238453812302f3141324238413008373334
         34060831362e3306022261707064622e73686f702e6f72646572730000000002
         345452554e43415445205441424c452073686f702e6f726465727394d7e2c6c1
         63",
        110,
        OUR_ID,
    );
}

/// Of what no lane writes.
const BESIDE: i64 = 1024;

/// Record and reference, of which the id and, where they have one, the tags are ours.
#[track_caller]
fn same_control(
    value: Option<Vec<u8>>,
    reference: &str,
    our_id: i64,
    our_tags: Option<(&str, &str)>,
) {
    let binary = |value| scene::Binary { key: None, value, headers: Vec::new() };
    let mut expected = read(&binary(Some(unhex(reference))));
    for (name, field) in &mut expected {
        match (name.as_str(), our_tags) {
            ("id", _) => *field = Avro::Long(our_id),
            ("tags", Some((name, value))) => {
                *field = Avro::Map([(name.to_owned(), Avro::String(value.into()))].into());
            }
            _ => {}
        }
    }
    assert!(value.as_ref().is_some_and(|it| 48 < it.len()), "readers take it for a filler");
    assert_eq!(read(&binary(value)), expected);
}

#[test]
fn borders_of_transactions_are_the_reference_s() {
    let (task, _) = plan(&orders(Full), "");
    let mut transaction = transaction(7341, 1_709_605_230_500_000, 0x1A2_B3C8);
    transaction.commit_lsn = Lsn(0x1A2_B4F0);
    let summary = Summary {
        transaction,
        first_lsn: Lsn(0x1A2_B3C8),
        records: 1,
        collections: vec![("shop.orders".into(), 1)],
    };
    let [begin, commit] = Teller::new(&task).transaction(&summary);
    assert_eq!((&begin.key, &commit.key), (&None, &None));
    let base = (0x1A2_B4F0 >> 3) << 17;
    let tags = Some(("records", "1"));
    let reference = "00c801dc85b4de0c12302f3141324233433812302f3141324233433808373334
        31060831362e3308000000000000c8deccc6c163";
    same_control(Some(begin.value), reference, base - (1 << 11) + BESIDE, tags);
    let reference = "00cc01dc85b4de0c12302f3141324234463012302f3141324234463008373334
        31060831362e330a000000000000c8deccc6c163";
    same_control(Some(commit.value), reference, base + (317 << 11) + BESIDE, tags);
}

#[test]
fn a_heartbeat_is_the_reference_s() {
    let (task, _) = plan(&orders(Full), "");
    let told = Teller::new(&task).heartbeat(Lsn(0x1A2_BB00), 1_709_605_530_000_000);
    let reference = "00e401b48ab4de0c12302f3141324242303012302f3141324242303000060831
        362e331000000212686561727462656174087472756500000000a0a6f1c6c163";
    let our_id = ((0x1A2_BB00 >> 3) << 17) - (2 << 11) + BESIDE;
    same_control(told.map(|it| it.value), reference, our_id, None);
}

fn one(type_: Type) -> Table {
    let id = column("id", Type::builtin(oid::INT4, "int4"), -1);
    scene::table("t", vec![id, column("v", type_, -1)], 1, Full)
}

/// The item of the after image that carries a value.
#[track_caller]
fn item(type_: Type, value: Value<'_>) -> (i32, u32, Avro) {
    let table = one(type_);
    let row = [v("1"), value];
    let sent = records(&table, scene::transaction(), 1, Did::Insert(&row));
    let record = read(&sent[0]);
    let Avro::Array(fields) = field(&record, "fields") else { panic!("{record:?}") };
    let Avro::Record(of_v) = &fields[1] else { panic!("{fields:?}") };
    let Avro::Int(number) = of_v[1].1 else { panic!("{of_v:?}") };
    let Avro::Array(items) = field(&record, "afterImages") else { panic!("{record:?}") };
    let Avro::Union(branch, value) = items[1].clone() else { panic!("{items:?}") };
    (number, branch, *value)
}

fn texts(fields: &Avro) -> String {
    let Avro::Record(fields) = fields else { return format!("{fields:?}") };
    let text = |(name, value): &(String, Avro)| match value {
        Avro::String(text) => format!("{name}={text}"),
        Avro::Bytes(bytes) => format!("{name}={}", String::from_utf8_lossy(bytes)),
        Avro::Union(_, value) => match &**value {
            Avro::Null => "-".into(),
            Avro::Int(number) => number.to_string(),
            other => format!("{other:?}"),
        },
        Avro::Record(_) => format!("{name}=[{}]", texts(value)),
        Avro::Int(number) => format!("{name}={number}"),
        Avro::Double(number) => format!("{name}={number}"),
        other => format!("{other:?}"),
    };
    fields.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_type_has_the_item_of_the_reference() {
    let built_in = [
        ("int8", oid::INT8, "9223372036854775807", 1, "precision=0 value=9223372036854775807"),
        ("oid", oid::OID, "4294967295", 1, "precision=0 value=4294967295"),
        ("text", oid::TEXT, "ä\n", 2, "charset=UTF-8 value=ä\n"),
        ("bpchar", oid::BPCHAR, "ab ", 2, "charset=UTF-8 value=ab "),
        ("numeric", oid::NUMERIC, "49.90", 3, "value=49.90 precision=4 scale=2"),
        ("numeric", oid::NUMERIC, "-0.05", 3, "value=-0.05 precision=1 scale=2"),
        ("numeric", oid::NUMERIC, "0.00", 3, "value=0.00 precision=1 scale=2"),
        ("numeric", oid::NUMERIC, "1000", 3, "value=1000 precision=4 scale=0"),
        ("numeric", oid::NUMERIC, "NaN", 11, "type=XTYPE value=NaN"),
        ("numeric", oid::NUMERIC, "-Infinity", 11, "type=XTYPE value=-Infinity"),
        ("float8", oid::FLOAT8, "-0.25", 4, "value=-0.25 precision=8 scale=15"),
        ("float4", oid::FLOAT4, "1.1", 4, "value=1.1 precision=8 scale=15"),
        ("float8", oid::FLOAT8, "NaN", 4, "value=NaN precision=8 scale=15"),
        ("float8", oid::FLOAT8, "-Infinity", 4, "value=-inf precision=8 scale=15"),
        ("date", oid::DATE, "2024-03-05", 6, "2024 3 5 - - - -"),
        ("date", oid::DATE, "0044-03-15 BC", 6, "-43 3 15 - - - -"),
        ("date", oid::DATE, "infinity", 11, "type=XTYPE value=infinity"),
        ("time", oid::TIME, "10:20:30.000007", 6, "- - - 10 20 30 7"),
        ("time", oid::TIME, "24:00:00", 6, "- - - 24 0 0 0"),
        (
            "timetz",
            oid::TIMETZ,
            "10:20:30.5+05:30",
            7,
            "value=[- - - 10 20 30 500000] timezone=+05:30",
        ),
        ("timetz", oid::TIMETZ, "10:20:30-08", 7, "value=[- - - 10 20 30 0] timezone=-08:00"),
        ("timestamp", oid::TIMESTAMP, "2024-03-05 10:20:30.5", 6, "2024 3 5 10 20 30 500000"),
        ("timestamp", oid::TIMESTAMP, "-infinity", 11, "type=XTYPE value=-infinity"),
        (
            "timestamptz",
            oid::TIMESTAMPTZ,
            "2024-01-01 01:20:30+02",
            7,
            "value=[2023 12 31 23 20 30 0] timezone=+00:00",
        ),
        ("bytea", oid::BYTEA, "\\x6162", 10, "type=BYTEA value=ab"),
        ("bool", oid::BOOL, "t", 11, "type=BOOL value=true"),
        ("bool", oid::BOOL, "f", 11, "type=BOOL value=false"),
        ("bit", oid::BIT, "101", 11, "type=XTYPE value=101"),
        ("json", oid::JSON, "{\"a\": 1}", 11, "type=JSON value={\"a\": 1}"),
        ("jsonb", oid::JSONB, "{\"a\": 1}", 10, "type=JSON value={\"a\": 1}"),
        ("xml", oid::XML, "<a/>", 11, "type=XML value=<a/>"),
        ("uuid", oid::UUID, "6ecd8c99", 11, "type=XTYPE value=6ecd8c99"),
        ("money", oid::MONEY, "$1.00", 11, "type=XTYPE value=$1.00"),
        ("interval", oid::INTERVAL, "1 day", 11, "type=XTYPE value=1 day"),
        ("inet", oid::INET, "10.0.0.1", 11, "type=XTYPE value=10.0.0.1"),
        ("point", oid::POINT, "(1,2)", 11, "type=XTYPE value=(1,2)"),
    ];
    for (name, oid, text, branch, expected) in built_in {
        let (number, found, value) = item(Type::builtin(oid, name), v(text));
        assert_eq!((found, texts(&value).as_str()), (branch, expected), "{name} {text}");
        assert_eq!(number, i32::try_from(oid).expect("small"), "{name}");
    }
    let mood = Kind::Enum { labels: vec!["ok".into()] };
    let base = Arc::new(Type::builtin(oid::INT4, "int4"));
    let domain = Kind::Domain { base, type_modifier: -1 };
    let others = [
        (of_kind("mood", mood), "ok", 11, "type=ENUM value=ok"),
        (array_of(Type::builtin(oid::INT4, "int4")), "{1,NULL}", 11, "type=XTYPE value={1,NULL}"),
        (of_kind("hstore", Kind::Base), "\"a\"=>\"1\"", 11, "type=XTYPE value=\"a\"=>\"1\""),
        (of_kind("geometry", Kind::Base), "6162", 8, "type=WKB value=ab"),
        (of_kind("positive", domain), "7", 1, "precision=0 value=7"),
    ];
    for (type_, text, branch, expected) in others {
        let (_, found, value) = item(type_.clone(), v(text));
        assert_eq!((found, texts(&value).as_str()), (branch, expected), "{}", type_.name);
    }
}

/// The example of the reference, section 5; what says nothing more than the key is left out.
#[test]
fn unique_indexes_are_named_beside_the_key() {
    let index =
        |name: &str, columns: &[usize]| UniqueIndex { name: name.into(), columns: columns.into() };
    let info = |table: &Table| {
        let transaction = transaction(7341, 1_709_605_230_500_000, 0x1A2_B3C8);
        let sent = records(table, transaction, 0x1A2_B3C8, Did::Insert(&FIRST));
        let Avro::Map(tags) = field(&read(&sent[0]), "tags") else { panic!("no map") };
        let Avro::String(info) = &tags["pk_uk_info"] else { panic!("no text") };
        info.clone()
    };
    let mut table = orders(Full);
    table.unique = vec![index("orders_note_key", &[1]), index("orders_pkey", &[0])];
    assert_eq!(info(&table), r#"{"PRIMARY":["id"],"orders_note_key":["note"]}"#);
    table.unique.push(index("PRIMARY", &[2]));
    table.unique.push(index("a \"b\"", &[3, 1]));
    let expected = r#"{"PRIMARY":["id"],"orders_note_key":["note"],"a \"b\"":["at","note"]}"#;
    assert_eq!(info(&table), expected);
    table.key.clear();
    table.unique.truncate(1);
    assert_eq!(info(&table), r#"{"orders_note_key":["note"]}"#);
}

#[test]
fn null_is_told_from_what_is_not_known() {
    let text = || Type::builtin(oid::TEXT, "text");
    assert_eq!(item(text(), Null).1, 0);
    let (_, branch, value) = item(text(), Unchanged);
    assert_eq!((branch, value), (12, Avro::Enum(1, "NONE".into())));
}

/// The branches of an image; empty: there is none.
#[track_caller]
fn branches(record: &[(String, Avro)], name: &str) -> Vec<u32> {
    match field(record, name) {
        Avro::Null => Vec::new(),
        Avro::Array(items) => items
            .iter()
            .map(|item| match item {
                Avro::Union(branch, _) => *branch,
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn images_say_what_was_not_logged() {
    let row = |id| [v(id), v("n"), v("1.00"), AT];
    let (one, two) = (row("1"), row("2"));
    let key = [v("1"), Null, Null, Null];
    let images = |did: Did<'_>| {
        let sent = records(&orders(Default), scene::transaction(), 1, did);
        assert_eq!(sent.len(), 1);
        let record = read(&sent[0]);
        (branches(&record, "beforeImages"), branches(&record, "afterImages"))
    };
    let (known, key_only) = (vec![1, 2, 3, 7], vec![1, 12, 12, 12]);
    assert_eq!(images(Did::Update(&one)), (key_only.clone(), known.clone()));
    assert_eq!(images(Did::UpdateKey(&key, &two)), (key_only.clone(), known));
    assert_eq!(images(Did::DeleteKey(&key)), (key_only, Vec::new()));
}

#[test]
fn a_key_that_moves_to_another_partition_is_a_delete_and_an_insert() {
    let task = scene::task("format: dts-avro", "");
    let task = TaskPlan::new(&task, "appdb").expect("a plan");
    let plan = TablePlan::new(Arc::new(orders(Full)), &task, 0, 64, 8).expect("a plan");
    let after = [v("2002"), Null, v("59.90"), AT];
    let batch =
        scene::batch(&orders(Full), scene::transaction(), &[Did::UpdateRow(&FIRST, &after)]);
    let sent = encode_binary(&task, &plan, &batch).expect("encodes");
    let what = |record: &scene::Binary| {
        let (key, record) = (record.key.clone(), read(record));
        let Avro::Long(id) = field(&record, "id") else { panic!("{record:?}") };
        (String::from_utf8(key.expect("a key")).expect("JSON"), field(&record, "operation"), id)
    };
    let [deleted, inserted] = <[_; 2]>::try_from(sent).expect("two records").each_ref().map(what);
    assert_eq!((deleted.0.as_str(), deleted.1), (r#"{"id":1001}"#, Avro::Enum(2, "DELETE".into())));
    assert_eq!(
        (inserted.0.as_str(), inserted.1),
        (r#"{"id":2002}"#, Avro::Enum(0, "INSERT".into()))
    );
    assert!(deleted.2 < inserted.2, "ids grow");
}

#[test]
fn names_are_escaped_and_can_be_shorter() {
    let mut table = orders(Full);
    table.schema = "s.1".into();
    table.name = "O\"x".into();
    let name = |options: &str, did: Did<'_>, of: &str| {
        let (task, plan) = plan(&table, &format!("topic: t, {options}"));
        let sent = encode_binary(&task, &plan, &scene::batch(&table, scene::transaction(), &[did]));
        field(&read(&sent.expect("encodes")[0]), of)
    };
    let full = Avro::String("appdb.s\\u002E1.O\"x".into());
    assert_eq!(name("", Did::Insert(&FIRST), "objectName"), full);
    let short = Avro::String("s\\u002E1.O\"x".into());
    let options = "format_options: {object_name: schema}";
    assert_eq!(name(options, Did::Insert(&FIRST), "objectName"), short);
    let text = Avro::String("TRUNCATE TABLE \"s.1\".\"O\"\"x\"".into());
    assert_eq!(name("", Did::Truncate, "afterImages"), text);
}

/// What readers take for a filler.
const FILLER_BYTES_MAX: usize = 48;

#[test]
fn no_record_is_as_short_as_a_filler() {
    let columns = vec![column("c", Type::builtin(oid::BOOL, "bool"), -1)];
    let mut table = scene::table("t", columns, 0, Full);
    table.schema = "s".into();
    let first = Transaction { xid: 0, commit_lsn: Lsn(9), ..scene::transaction() };
    for did in [Did::Read(&[Null]), Did::Truncate] {
        let task = scene::task("format: dts-avro", "");
        let task = TaskPlan::new(&task, "d").expect("a plan");
        let plan = TablePlan::new(Arc::new(table.clone()), &task, 0, 1, 1).expect("a plan");
        let mut batch = scene::batch(&table, first, &[did]);
        batch.changes[0].lsn = Lsn(9);
        batch.transactions[0].previous_commit_lsn = None;
        let sent = encode_binary(&task, &plan, &batch).expect("encodes");
        let bytes = sent[0].value.as_ref().expect("a value").len();
        assert!(FILLER_BYTES_MAX < bytes, "{did:?} has {bytes} bytes");
        assert_eq!(sent[0].key, None);
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "NULL",
        "NaN",
        "-infinity",
        " BC",
        "2024-03-05",
        " 10:20:30.123456",
        "+08:30",
        "\\x0102",
        "99999999999999999999",
        "-",
        "0",
        "7",
        ".",
        ":",
        "t",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read_by_the_schema(which in 0..14_usize, text in text()) {
        let types = [
            ("int8", oid::INT8), ("text", oid::TEXT), ("numeric", oid::NUMERIC),
            ("float8", oid::FLOAT8), ("date", oid::DATE), ("time", oid::TIME),
            ("timetz", oid::TIMETZ), ("timestamp", oid::TIMESTAMP),
            ("timestamptz", oid::TIMESTAMPTZ), ("bytea", oid::BYTEA), ("bool", oid::BOOL),
            ("jsonb", oid::JSONB), ("interval", oid::INTERVAL), ("json", oid::JSON),
        ];
        let (name, oid) = types[which];
        let table = one(Type::builtin(oid, name));
        let (task, plan) = plan(&table, "");
        let row = [v("1"), Value::Bytes(&text)];
        let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&row)]);
        if let Ok(sent) = encode_binary(&task, &plan, &batch) {
            read(&sent[0]);
        }
    }
}
