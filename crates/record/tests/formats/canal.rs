//! Canal JSON, message by message (formats/canal-json.md, section 5).

use crate::scene::{Did, Null, Unchanged, encode, orders, plan, records, v};
use crate::{AT, FIRST, MOVED, one, sent, snapshot, transaction};
use wal::change::Transaction;
use wal::table::ReplicaIdentity::{Default, Full};

const CANAL: &str = "format: canal-json";
/// Every record of these tests is handled at this time.
const NOW: &str = "\"ts\":1709605231004";

/// The number of the first record of a lane: what it is counted from is where its transaction commits.
fn number(transaction: Transaction) -> u64 {
    transaction.commit_lsn.0 >> 3 << 17
}

/// `id` is our own; the reference counts.
#[track_caller]
fn check(transaction: Transaction, change: Did<'_>, reference: &str, id: u64, ts: &str) {
    let record = one(&orders(Full), CANAL, transaction, change);
    let expected = reference
        .replace(&format!("\"id\":{id},"), &format!("\"id\":{},", number(transaction)))
        .replace(ts, NOW);
    assert_eq!(record.value.as_deref(), Some(expected.as_str()));
    assert_eq!(record.key, None);
    assert_eq!(record.topic, "shop.orders");
}

const INSERT: &str = r#"{"data":[{"id":"1001","note":"first","total":"49.90","at":"2024-03-05 02:20:30.123456Z"}],"database":"shop","es":1709605230500,"id":101,"isDdl":false,"mysqlType":{"id":"bigint","note":"text","total":"numeric(12,2)","at":"timestamp with time zone"},"old":null,"pkNames":["id"],"sql":"","sqlType":{"id":-5,"note":12,"total":2,"at":93},"table":"orders","ts":1709605231004,"type":"INSERT"}"#;

#[test]
fn an_insert_is_the_reference_s() {
    check(transaction(0, 27_440_128), Did::Insert(&FIRST), INSERT, 101, NOW);
}

#[test]
fn a_row_of_the_snapshot_is_an_insert() {
    check(snapshot(), Did::Read(&FIRST), INSERT, 101, NOW);
}

#[test]
fn an_update_of_the_key_is_the_reference_s() {
    check(
        transaction(1, 27_440_416),
        Did::UpdateRow(&FIRST, &MOVED),
        r#"{"data":[{"id":"2001","note":null,"total":"59.90","at":"2024-03-05 02:20:30.123456Z"}],"database":"shop","es":1709605290250,"id":104,"isDdl":false,"mysqlType":{"id":"bigint","note":"text","total":"numeric(12,2)","at":"timestamp with time zone"},"old":[{"id":"1001","note":"first","total":"49.90"}],"pkNames":["id"],"sql":"","sqlType":{"id":-5,"note":12,"total":2,"at":93},"table":"orders","ts":1709605290754,"type":"UPDATE"}"#,
        104,
        "\"ts\":1709605290754",
    );
}

#[test]
fn a_delete_is_the_reference_s() {
    check(
        transaction(2, 27_440_896),
        Did::DeleteRow(&MOVED),
        r#"{"data":[{"id":"2001","note":null,"total":"59.90","at":"2024-03-05 02:20:30.123456Z"}],"database":"shop","es":1709605350250,"id":107,"isDdl":false,"mysqlType":{"id":"bigint","note":"text","total":"numeric(12,2)","at":"timestamp with time zone"},"old":null,"pkNames":["id"],"sql":"","sqlType":{"id":-5,"note":12,"total":2,"at":93},"table":"orders","ts":1709605350754,"type":"DELETE"}"#,
        107,
        "\"ts\":1709605350754",
    );
}

#[test]
fn a_truncate_is_the_reference_s() {
    check(
        transaction(3, 27_441_384),
        Did::Truncate,
        r#"{"data":null,"database":"shop","es":1709605410250,"id":110,"isDdl":true,"mysqlType":null,"old":null,"pkNames":null,"sql":"TRUNCATE TABLE shop.orders","sqlType":null,"table":"orders","ts":1709605410754,"type":"TRUNCATE"}"#,
        110,
        "\"ts\":1709605410754",
    );
}

#[test]
fn what_was_not_logged_is_left_out_of_data_and_old() {
    let key = [v("1001"), Null, Null, Null];
    let updated = [v("1001"), Unchanged, v("1.00"), Null];
    let moved = [v("2001"), Unchanged, v("1.00"), Null];
    let changes = [Did::Update(&updated), Did::UpdateKey(&key, &moved), Did::DeleteKey(&key)];
    let rows: Vec<_> = records(&orders(Default), CANAL, &changes)
        .iter()
        .map(|record| {
            let message = record.json();
            serde_json::json!([message["type"], message["data"], message["old"]]).to_string()
        })
        .collect();
    expect_test::expect![[r#"
        ["UPDATE",[{"id":"1001","total":"1.00","at":null}],[{}]]
        ["UPDATE",[{"id":"2001","total":"1.00","at":null}],[{"id":"1001"}]]
        ["DELETE",[{"id":"1001"}],null]"#]]
    .assert_eq(&rows.join("\n"));
}

#[test]
fn an_unchanged_value_comes_from_the_old_row_and_is_not_among_the_changed() {
    let after = [v("1001"), Unchanged, v("1.00"), AT];
    let record = one(&orders(Full), CANAL, transaction(0, 8), Did::UpdateRow(&FIRST, &after));
    assert_eq!(record.json()["data"][0]["note"], "first");
    assert_eq!(record.json()["old"], serde_json::json!([{"total": "49.90"}]));
}

#[test]
fn a_row_that_moves_to_another_partition_is_a_delete_and_an_insert() {
    let table = orders(Full);
    let (task, plan) = plan(&table, CANAL, "", 7).expect("a plan");
    let batch = crate::scene::batch(&table, transaction(0, 8), &[Did::UpdateRow(&FIRST, &MOVED)]);
    let sent = encode(&task, &plan, &batch).expect("encodes");
    let said: Vec<_> = sent
        .iter()
        .map(|record| {
            let message = record.json();
            let seq = record.header("distributary.seq").map(str::to_owned);
            (message["type"].clone(), message["data"][0]["id"].clone(), seq)
        })
        .collect();
    let expected = [("DELETE", "1001", "0.0"), ("INSERT", "2001", "0.2")]
        .map(|(type_, id, seq)| (type_.into(), id.into(), Some(seq.to_owned())));
    assert_eq!(said, expected);
    assert_ne!(sent[0].partition, sent[1].partition);
    assert!(sent.iter().all(|record| record.header("__debezium.newkey").is_none()));
}

#[test]
fn headers_and_timestamp_are_those_of_every_format() {
    let records = sent(&orders(Full), CANAL, transaction(0, 27_440_128), &[Did::Insert(&FIRST)]);
    let names: Vec<_> = records[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["distributary.task", "distributary.lsn", "distributary.seq"]);
    assert_eq!(records[0].timestamp_ms, 1_709_605_230_500);
}

#[test]
fn a_table_without_a_key_has_no_names_of_one() {
    let mut table = orders(Full);
    table.key.clear();
    let sink = "format: canal-json, format_options: {message_key: columns}";
    let record = one(&table, sink, transaction(0, 8), Did::Insert(&FIRST));
    assert_eq!(record.json()["pkNames"], serde_json::Value::Null);
    assert_eq!(record.key, None);
}

#[test]
fn names_are_quoted_in_the_statement() {
    let mut table = orders(Full);
    table.schema = "Größe & Co".into();
    table.name = "order".into();
    let record = one(&table, CANAL, transaction(0, 8), Did::Truncate);
    assert_eq!(record.json()["sql"], r#"TRUNCATE TABLE "Größe & Co"."order""#);
    assert_eq!(record.json()["table"], "order");
}
