//! Maxwell JSON, message by message (formats/maxwell-json.md, section 4).

use crate::scene::{Did, Null, Unchanged, orders, pieces, plan, records, statements, v};
use crate::{AT, FIRST, MOVED, one, sent, snapshot, transaction};
use wal::change::Transaction;
use wal::table::ReplicaIdentity::{Default, Full};

const MAXWELL: &str = "format: maxwell-json";

#[track_caller]
fn check(sink: &str, transaction: Transaction, change: Did<'_>, expected: &str) {
    let record = one(&orders(Full), sink, transaction, change);
    assert_eq!(record.value.as_deref(), Some(expected));
}

#[test]
fn an_insert_is_the_reference_s() {
    check(
        MAXWELL,
        transaction(0, 8),
        Did::Insert(&FIRST),
        r#"{"database":"shop","table":"orders","type":"insert","ts":1709605230,"xid":7341,"commit":true,"data":{"id":1001,"note":"first","total":49.90,"at":"2024-03-05 02:20:30.123456"}}"#,
    );
}

#[test]
fn an_update_of_the_key_is_the_reference_s() {
    check(
        MAXWELL,
        transaction(1, 8),
        Did::UpdateRow(&FIRST, &MOVED),
        r#"{"database":"shop","table":"orders","type":"update","ts":1709605290,"xid":7342,"commit":true,"data":{"id":2001,"note":null,"total":59.90,"at":"2024-03-05 02:20:30.123456"},"old":{"id":1001,"note":"first","total":49.90}}"#,
    );
}

#[test]
fn a_delete_is_the_reference_s() {
    check(
        MAXWELL,
        transaction(2, 8),
        Did::DeleteRow(&MOVED),
        r#"{"database":"shop","table":"orders","type":"delete","ts":1709605350,"xid":7343,"commit":true,"data":{"id":2001,"note":null,"total":59.90,"at":"2024-03-05 02:20:30.123456"}}"#,
    );
}

#[test]
fn the_first_of_two_rows_is_the_reference_s() {
    let sink = "format: maxwell-json, format_options: {members: [xid, xoffset, commit]}";
    let two = Transaction { changes_count: Some(2), ..transaction(0, 8) };
    let row = [v("1"), v("a"), v("1.00"), AT];
    let sent = sent(&orders(Full), sink, two, &[Did::Insert(&row), Did::Insert(&FIRST)]);
    assert_eq!(
        sent[0].value.as_deref(),
        Some(
            r#"{"database":"shop","table":"orders","type":"insert","ts":1709605230,"xid":7341,"xoffset":0,"data":{"id":1,"note":"a","total":1.00,"at":"2024-03-05 02:20:30.123456"}}"#
        )
    );
    let last = sent[1].json();
    assert_eq!((&last["commit"], last.get("xoffset")), (&true.into(), None));
}

#[test]
fn where_the_last_row_is_not_known_none_is_called_so() {
    let open = Transaction { changes_count: None, ..transaction(0, 8) };
    let record = one(&orders(Full), MAXWELL, open, Did::Insert(&FIRST));
    assert_eq!(record.json().get("commit"), None);
}

#[test]
fn a_row_of_the_snapshot_is_an_insert_or_the_reference_s() {
    let of_snapshot =
        Transaction { commit_time: crate::scene::since_2000(1_709_601_630_000_000), ..snapshot() };
    let row =
        r#""data":{"id":1001,"note":"first","total":49.90,"at":"2024-03-05 02:20:30.123456"}}"#;
    let message = |type_: &str| {
        format!(r#"{{"database":"shop","table":"orders","type":"{type_}","ts":1709601630,{row}"#)
    };
    check(MAXWELL, of_snapshot, Did::Read(&FIRST), &message("insert"));
    let own = "format: maxwell-json, format_options: {snapshot_rows: bootstrap}";
    check(own, of_snapshot, Did::Read(&FIRST), &message("bootstrap-insert"));
}

#[test]
fn every_member_has_its_place() {
    let all = "format: maxwell-json, format_options: {members: [primary_key_columns, primary_key, \
               push_ts, position, commit, xoffset, xid], database: database, zulu: true}";
    check(
        all,
        transaction(0, 8),
        Did::Insert(&FIRST),
        r#"{"database":"appdb","table":"orders","type":"insert","ts":1709605230,"xid":7341,"commit":true,"position":"0/1A2B3C8","push_ts":1709605231.004017,"primary_key":[1001],"primary_key_columns":["id"],"data":{"id":1001,"note":"first","total":49.90,"at":"2024-03-05 02:20:30.123456Z"}}"#,
    );
}

#[test]
fn a_truncate_has_no_message() {
    let table = orders(Full);
    let batch = crate::scene::batch(&table, transaction(0, 8), &[Did::Truncate]);
    let (_, plan) = plan(&table, MAXWELL, "", 4).expect("a plan");
    assert!(pieces(&plan, &batch).is_empty());
}

#[test]
fn what_was_not_logged_is_left_out_and_old_is_there_all_the_same() {
    let key = [v("1001"), Null, Null, Null];
    let updated = [v("1001"), Unchanged, v("1.00"), Null];
    let moved = [v("2001"), Unchanged, v("1.00"), Null];
    let changes = [Did::Update(&updated), Did::UpdateKey(&key, &moved), Did::DeleteKey(&key)];
    let rows: Vec<_> = records(&orders(Default), MAXWELL, &changes)
        .iter()
        .map(|record| {
            let message = record.json();
            serde_json::json!([message["type"], message["data"], message.get("old")]).to_string()
        })
        .collect();
    expect_test::expect![[r#"
        ["update",{"id":1001,"total":1.0,"at":null},{}]
        ["update",{"id":2001,"total":1.0,"at":null},{"id":1001}]
        ["delete",{"id":1001},null]"#]]
    .assert_eq(&rows.join("\n"));
}

#[test]
fn keys_have_maxwell_s_two_forms() {
    let key = |sink: &str, table: &wal::Table| {
        one(table, sink, transaction(0, 27_440_128), Did::Insert(&FIRST)).key
    };
    let mut table = orders(Full);
    table.columns[0].name = "Id".into();
    let hash = r#"{"database":"shop","table":"orders","pk.id":1001}"#;
    assert_eq!(key(MAXWELL, &table).as_deref(), Some(hash));
    let array = "format: maxwell-json, format_options: {message_key: array}";
    assert_eq!(key(array, &table).as_deref(), Some(r#"["shop","orders",[{"id":1001}]]"#));
    let columns = "format: maxwell-json, format_options: {message_key: columns}";
    assert_eq!(key(columns, &table).as_deref(), Some(r#"{"Id":1001}"#));
    let none = "format: maxwell-json, format_options: {message_key: none}";
    assert_eq!(key(none, &table), None);
    // Two columns.
    table.key = vec![0, 1];
    let hash = r#"{"database":"shop","table":"orders","pk.id":1001,"pk.note":"first"}"#;
    assert_eq!(key(MAXWELL, &table).as_deref(), Some(hash));
    let pair = r#"["shop","orders",[{"id":1001},{"note":"first"}]]"#;
    assert_eq!(key(array, &table).as_deref(), Some(pair));
    // Names that would meet in lower case stay as they are.
    table.columns[1].name = "id".into();
    let hash = r#"{"database":"shop","table":"orders","pk.Id":1001,"pk.id":"first"}"#;
    assert_eq!(key(MAXWELL, &table).as_deref(), Some(hash));
    let pair = r#"["shop","orders",[{"Id":1001},{"id":"first"}]]"#;
    assert_eq!(key(array, &table).as_deref(), Some(pair));
    // None: a UUID made of the change's place.
    table.key.clear();
    let uuid = "00000000-01a2-8b40-8000-000000000000";
    let hash = format!(r#"{{"database":"shop","table":"orders","_uuid":"{uuid}"}}"#);
    assert_eq!(key(MAXWELL, &table), Some(hash));
    let array_of = format!(r#"["shop","orders",[{{"_uuid":"{uuid}"}}]]"#);
    assert_eq!(key(array, &table), Some(array_of));
}

/// As Maxwell does; what goes along with them has none.
#[test]
fn each_table_that_a_statement_drops_has_a_message() {
    let dropped = |type_: &str, schema: &str, name: &str, original: bool| {
        serde_json::json!({"type": type_, "schema": schema, "name": name,
            "identity": format!("{schema}.{name}"), "original": original})
    };
    let text = "DROP TABLE shop.orders, lines CASCADE";
    let content = serde_json::json!({"tag": "DROP TABLE", "nth": 1, "query": text, "dropped": [
        dropped("table", "shop", "orders", true), dropped("view", "shop", "seen", false),
        dropped("table", "shop", "orders_1", false), dropped("table", "public", "lines", true),
    ]});
    let content = content.to_string();
    let row = [v("1"), v(r#"[["shop","orders"]]"#), v(&content)];
    let sent = sent(&statements(), MAXWELL, transaction(0, 8), &[Did::Insert(&row)]);
    let told: Vec<_> =
        sent.iter().map(|it| (it.value.as_deref(), it.header("distributary.seq"))).collect();
    let message = |database: &str, table: &str| {
        serde_json::json!({"type": "table-drop", "database": database, "table": table,
            "ts": 1_709_605_230_500_i64, "sql": text})
        .to_string()
    };
    let (orders, lines) = (message("shop", "orders"), message("public", "lines"));
    assert_eq!(told, [(Some(&*orders), Some("0.0")), (Some(&*lines), Some("0.1"))]);
}
