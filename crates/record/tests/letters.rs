//! Dead letters: the row as it came, its place, and why.

mod scene;

use record::encode::{Cause, Encoder, Letter};
use scene::{Did, Null, Unchanged, Value, batch, column, orders, pieces, table, transaction, v};
use serde_json::{Value as Json, json};
use std::convert::Infallible;
use wal::table::ReplicaIdentity::{Default, Full};
use wal::types::{Type, oid};
use wal::{ChangeBatch, Table};

/// A dead letter, owned.
struct Sent {
    key: Option<String>,
    value: Json,
    headers: Vec<(String, String)>,
}

fn letters(table: &Table, sink: &str, batch: &ChangeBatch) -> Vec<Sent> {
    let (task, plan) = scene::plan(table, sink, "", 1).expect("a plan");
    let mut encoder = Encoder::new(&task);
    let letter = Letter {
        topic: "shop.dead-letter",
        partition: 5,
        cause: Cause::Unrepresentable,
        reason: "a \"reason\"",
    };
    let mut sent = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    for piece in pieces(&plan, batch) {
        let mut take = |record: record::Record<'_>| {
            assert_eq!((record.topic, record.partition), ("shop.dead-letter", 5));
            sent.push(Sent {
                key: record.key.map(text),
                value: serde_json::from_slice(record.value.expect("a value")).expect("JSON"),
                headers: record
                    .headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), text(value)))
                    .collect(),
            });
            Ok::<(), Infallible>(())
        };
        encoder.letter(&plan, batch, &piece, &letter, &mut take).expect("a letter");
    }
    sent
}

#[test]
fn a_letter_holds_row_place_and_cause() {
    let table = orders(Full);
    let old = [v("7"), v("old"), v("1.00"), Null];
    let new = [v("7"), Unchanged, v("NaN"), v("infinity")];
    let all = letters(
        &table,
        "headers: false",
        &batch(&table, transaction(), &[Did::UpdateRow(&old, &new)]),
    );
    let expected = json!({
        "version": 1, "cause": "unrepresentable", "reason": "a \"reason\"",
        "lsn": "0/1A2B400", "seq": "0", "topic": "shop.orders", "schema": "shop", "table": "orders",
        "operation": "update", "part": "whole", "partition": 0,
        "committed_us": 1_709_605_230_500_000_i64, "key": ["id"],
        "columns": [
            {"name": "id", "type": "pg_catalog.int8"}, {"name": "note", "type": "pg_catalog.text"},
            {"name": "total", "type": "pg_catalog.numeric"},
            {"name": "at", "type": "pg_catalog.timestamptz"},
        ],
        "before": {"id": "7", "note": "old", "total": "1.00", "at": null},
        "after": {"id": "7", "note": "old", "total": "NaN", "at": "infinity"},
    });
    assert_eq!(all[0].value, expected);
    assert_eq!(all[0].key.as_deref(), Some(r#"{"id":7}"#));
    let headers: Vec<_> = all[0].headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let expected = [
        ("distributary.task", "shop"),
        ("distributary.lsn", "0/1A2B400"),
        ("distributary.seq", "0"),
        ("distributary.dead-letter", "unrepresentable"),
        ("distributary.topic", "shop.orders"),
        ("distributary.table", "shop.orders"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn a_changed_key_is_two_letters_whose_ids_differ() {
    let table = orders(Full);
    let (old, new) = ([v("7"), Null, Null, Null], [v("8"), Null, Null, Null]);
    let all = letters(&table, "", &batch(&table, transaction(), &[Did::UpdateRow(&old, &new)]));
    let of = |sent: &Sent| {
        (sent.value["seq"].clone(), sent.value["part"].clone(), sent.key.clone().expect("a key"))
    };
    let found: Vec<_> = all.iter().map(of).collect();
    assert_eq!(
        found,
        [
            (json!("0.0"), json!("key-change-delete"), r#"{"id":7}"#.to_owned()),
            (json!("0.2"), json!("key-change-create"), r#"{"id":8}"#.to_owned()),
        ]
    );
}

#[test]
fn bytes_that_are_no_text_are_told_from_texts_and_from_what_is_not_known() {
    let columns = vec![
        column("id", Type::builtin(oid::INT8, "int8"), -1),
        column("text", Type::builtin(oid::TEXT, "text"), -1),
    ];
    let table = table("t", columns, 1, Default);
    let rows = [v("1"), Value::Bytes(b"a\xE9")];
    let large = [v("2"), Unchanged];
    let changes =
        [Did::Insert(&rows), Did::Update(&large), Did::DeleteKey(&[v("3"), Null]), Did::Truncate];
    let all = letters(&table, "", &batch(&table, transaction(), &changes));
    assert_eq!(all[0].value["after"]["text"], json!({"base64": "Yek="}));
    assert_eq!(all[1].value["after"]["text"], json!({"unchanged": true}));
    assert_eq!(all[2].value["before"], json!({"id": "3", "text": {"unchanged": true}}));
    assert_eq!((&all[3].value["operation"], &all[3].key), (&json!("truncate"), &None));
}

#[test]
fn a_row_of_a_snapshot_is_known_by_its_snapshot() {
    let table = orders(Full);
    let row = [v("7"), Null, Null, Null];
    let mut read =
        batch(&table, wal::change::Transaction { xid: 0, ..transaction() }, &[Did::Read(&row)]);
    read.snapshot = Some("s1".into());
    let all = letters(&table, "format: canal-json", &read);
    assert_eq!((&all[0].value["snapshot"], &all[0].value["seq"]), (&json!("s1"), &Json::Null));
    assert_eq!(all[0].headers[2], ("distributary.snapshot".to_owned(), "s1".to_owned()));
}
