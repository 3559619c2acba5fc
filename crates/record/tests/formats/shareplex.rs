//! SharePlex JSON, message by message (formats/shareplex-json.md, section 2).

use crate::scene::{Did, Null, Unchanged, orders, records, v};
use crate::{FIRST, MOVED, one, snapshot, transaction};
use wal::change::Transaction;
use wal::table::ReplicaIdentity::{Default, Full};

const SHAREPLEX: &str = "format: shareplex-json";

/// Every record of these tests is handled at the time of the first example.
#[track_caller]
fn check(transaction: Transaction, change: Did<'_>, reference: &str, posttime: &str) {
    let record = one(&orders(Full), SHAREPLEX, transaction, change);
    let expected = reference
        .replace(&format!("\"posttime\":\"{posttime}\""), "\"posttime\":\"2024-03-05T02:20:31\"");
    assert_eq!(record.value.as_deref(), Some(expected.as_str()));
    assert_eq!(record.key, None);
}

#[test]
fn an_insert_is_the_reference_s() {
    check(
        transaction(0, 27_440_368),
        Did::Insert(&FIRST),
        r#"{"meta":{"time":"2024-03-05T02:20:30","userid":0,"op":"ins","scn":"27440368","rowid":"","trans":"7341","seq":1,"size":1,"table":"shop.orders","idx":"1/1","posttime":"2024-03-05T02:20:31"},"data":{"id":"1001","note":"first","total":"49.90","at":"2024-03-05T02:20:30.123456000Z"}}"#,
        "2024-03-05T02:20:31",
    );
}

#[test]
fn an_update_of_the_key_is_the_reference_s() {
    check(
        transaction(1, 27_440_808),
        Did::UpdateRow(&FIRST, &MOVED),
        r#"{"meta":{"time":"2024-03-05T02:21:30","userid":0,"op":"upd","scn":"27440808","rowid":"","trans":"7342","seq":1,"size":1,"table":"shop.orders","idx":"1/1","posttime":"2024-03-05T02:21:30"},"data":{"id":"2001","note":null,"total":"59.90"},"key":{"id":"1001","note":"first","total":"49.90","at":"2024-03-05T02:20:30.123456000Z"}}"#,
        "2024-03-05T02:21:30",
    );
}

#[test]
fn a_delete_is_the_reference_s() {
    check(
        transaction(2, 27_441_288),
        Did::DeleteRow(&MOVED),
        r#"{"meta":{"time":"2024-03-05T02:22:30","userid":0,"op":"del","scn":"27441288","rowid":"","trans":"7343","seq":1,"size":1,"table":"shop.orders","idx":"1/1","posttime":"2024-03-05T02:22:30"},"data":{"id":"2001","note":null,"total":"59.90","at":"2024-03-05T02:20:30.123456000Z"}}"#,
        "2024-03-05T02:22:30",
    );
}

#[test]
fn a_truncate_is_the_reference_s() {
    check(
        transaction(3, 27_441_776),
        Did::Truncate,
        r#"{"meta":{"time":"2024-03-05T02:23:30","userid":0,"op":"trunc","scn":"27441776","rowid":"","trans":"7344","seq":1,"size":1,"table":"shop.orders","idx":"1/1","posttime":"2024-03-05T02:23:30"},"data":{}}"#,
        "2024-03-05T02:23:30",
    );
}

#[test]
fn a_row_of_the_snapshot_is_an_insert_of_no_transaction() {
    let record = one(&orders(Full), SHAREPLEX, snapshot(), Did::Read(&FIRST));
    let meta = &record.json()["meta"];
    assert_eq!((&meta["op"], &meta["trans"]), (&"ins".into(), &"".into()));
    assert_eq!((&meta["size"], &meta["idx"]), (&0.into(), &"1/0".into()));
    assert_eq!(record.header("distributary.snapshot"), Some("0/1A2B4F0"));
}

#[test]
fn a_transaction_of_unknown_length_has_size_0() {
    let open = Transaction { changes_count: None, ..transaction(0, 8) };
    let record = one(&orders(Full), SHAREPLEX, open, Did::Insert(&FIRST));
    let meta = &record.json()["meta"];
    assert_eq!((&meta["seq"], &meta["size"], &meta["idx"]), (&1.into(), &0.into(), &"1/0".into()));
}

#[test]
fn without_the_old_row_data_is_the_whole_new_one() {
    let key = [v("1001"), Null, Null, Null];
    let updated = [v("1001"), Unchanged, v("1.00"), Null];
    let moved = [v("2001"), Unchanged, v("1.00"), Null];
    let changes = [Did::Update(&updated), Did::UpdateKey(&key, &moved), Did::DeleteKey(&key)];
    let rows: Vec<_> = records(&orders(Default), SHAREPLEX, &changes)
        .iter()
        .map(|record| {
            let message = record.json();
            let (op, data) = (&message["meta"]["op"], &message["data"]);
            serde_json::json!([op, data, message.get("key")]).to_string()
        })
        .collect();
    expect_test::expect![[r#"
        ["upd",{"id":"1001","total":"1.00","at":null},{"id":"1001"}]
        ["upd",{"id":"2001","total":"1.00","at":null},{"id":"1001"}]
        ["del",{"id":"1001"},null]"#]]
    .assert_eq(&rows.join("\n"));
}

#[test]
fn members_and_key_are_by_choice() {
    let sink = "format: shareplex-json, format_options: {meta: [op, table, time], zulu: true, \
                update_key: key, message_key: columns}";
    let change = Did::UpdateRow(&FIRST, &MOVED);
    let record = one(&orders(Full), sink, transaction(0, 8), change);
    assert_eq!(
        record.value.as_deref(),
        Some(
            r#"{"meta":{"op":"upd","table":"shop.orders","time":"2024-03-05T02:20:30Z"},"data":{"id":"2001","note":null,"total":"59.90"},"key":{"id":"1001"}}"#
        )
    );
    assert_eq!(record.key.as_deref(), Some(r#"{"id":"2001"}"#));
}

#[test]
fn native_values_are_shareplex_s_own() {
    let sink = "format: shareplex-json, format_options: {values: native, meta: [op]}";
    let record = one(&orders(Full), sink, transaction(0, 8), Did::Insert(&FIRST));
    assert_eq!(
        record.value.as_deref(),
        Some(
            r#"{"meta":{"op":"ins"},"data":{"id":1001,"note":"first","total":49.90,"at":"2024-03-05T02:20:30.123456000Z"}}"#
        )
    );
}
