//! What records show of a row: columns left out, renamed, added, and names in another case, in every format.

mod scene;

use record::plan::PlanError;
use scene::{
    Did, Null, Sent, Unchanged, Value, batch, encode, encode_binary, orders, plan, transaction, v,
};
use serde_json::json;
use wal::table::ReplicaIdentity::{Default, Full};

const ROW: [Value<'static>; 4] =
    [Value::Text("1001"), Value::Text("first"), Value::Text("49.90"), Null];
const RULES: &str = "columns: {exclude: [note], rename: {id: order_id}, add: {origin: \"'shop'\", \
                     op: operation, since: commit_time, place: lsn, rank: \"7\"}}";

fn sent(sink: &str, object: &str, changes: &[Did<'_>]) -> Vec<Sent> {
    let table = orders(Full);
    let (task, plan) = plan(&table, sink, object, 1).expect("a plan");
    encode(&task, &plan, &batch(&table, transaction(), changes)).expect("encodes")
}

#[test]
fn columns_are_left_out_renamed_and_added_and_so_is_the_key() {
    let updated = [v("1001"), Unchanged, v("59.90"), Null];
    let moved = [v("2001"), Unchanged, v("59.90"), Null];
    let changes = [Did::Insert(&ROW), Did::UpdateRow(&ROW, &updated), Did::UpdateRow(&ROW, &moved)];
    let sent = sent("format_options: {tombstones: false}", RULES, &changes);
    let keys: Vec<_> = sent.iter().map(|record| record.key.as_deref().expect("a key")).collect();
    let (first, second) = ("{\"order_id\":1001}", "{\"order_id\":2001}");
    assert_eq!(keys, [first, first, first, second]);
    let after = sent[0].json()["after"].clone();
    let since = after["since"].clone();
    assert!(since.to_string().starts_with("\"2024-03-05T02:20:30.5"), "{since}");
    let row = |id: u32, total: &str, op: &str| {
        json!({"order_id": id, "total": total, "at": null, "op": op, "origin": "shop",
            "place": "0/1A2B400", "rank": 7, "since": since})
    };
    let total = after["total"].as_str().expect("a total").to_owned();
    assert_eq!(after, row(1001, &total, "insert"));
    assert_eq!(sent[1].json()["before"], row(1001, &total, "update"));
    assert_eq!(sent[2].json()["before"], row(1001, &total, "delete"));
    let other = sent[3].json()["after"]["total"].as_str().expect("a total").to_owned();
    assert_eq!(sent[3].json()["after"], row(2001, &other, "insert"));
}

#[test]
fn every_format_shows_the_same_columns() {
    let rules = "columns: {exclude: [note], rename: {total: amount}, add: {origin: \"'shop'\"}}";
    for format in ["debezium-json", "canal-json", "maxwell-json", "shareplex-json"] {
        let sent = sent(&format!("format: {format}"), rules, &[Did::Insert(&ROW)]);
        let text = sent[0].value.as_deref().expect("a value");
        for (word, is_there) in [
            ("\"amount\"", true),
            ("\"origin\"", true),
            ("shop", true),
            ("\"note\"", false),
            ("\"total\"", false),
        ] {
            assert_eq!(text.contains(word), is_there, "{format}: {word} in {text}");
        }
        assert!(!text.contains("first"), "{format}: {text}");
    }
    let table = orders(Full);
    let (task, dts) = plan(&table, "format: dts-avro", rules, 1).expect("a plan");
    let batch = batch(&table, transaction(), &[Did::Insert(&ROW)]);
    let sent = encode_binary(&task, &dts, &batch).expect("encodes").remove(0);
    let value = sent.value.expect("a value");
    let has = |word: &[u8]| value.windows(word.len()).any(|it| it == word);
    assert!(has(b"amount") && has(b"origin") && !has(b"note") && !has(b"first") && !has(b"total"));
    let registry = "format: debezium-avro, registry: {url: 'http://r'}";
    let (_, avro) = plan(&table, registry, rules, 1).expect("a plan");
    let schema = format!("{:?}", avro.schemas().expect("schemas").value);
    assert!(schema.contains("amount") && schema.contains("origin") && !schema.contains("note"));
}

#[test]
fn names_take_the_case_that_was_asked_for() {
    let sent = sent(
        "topic: \"{schema}.{table}\"",
        "name_case: upper",
        &[Did::Insert(&ROW), Did::Truncate],
    );
    assert_eq!(sent[0].topic, "SHOP.ORDERS");
    assert_eq!(sent[0].key.as_deref(), Some("{\"ID\":1001}"));
    let event = sent[0].json();
    assert_eq!(
        (&event["source"]["table"], &event["after"]["NOTE"]),
        (&json!("ORDERS"), &json!("first"))
    );
    assert_eq!(sent[1].json()["source"]["schema"], "SHOP");
}

#[test]
fn old_keys_say_nothing_of_what_is_added() {
    let table = orders(Default);
    let (task, plan) = plan(&table, "", RULES, 1).expect("a plan");
    let key = [v("1001"), Null, Null, Null];
    let batch = batch(&table, transaction(), &[Did::DeleteKey(&key)]);
    let sent = encode(&task, &plan, &batch).expect("encodes");
    assert_eq!(sent[0].key.as_deref(), Some("{\"order_id\":1001}"));
    assert_eq!(sent[0].json()["before"]["order_id"], 1001);
}

#[test]
fn what_would_confuse_readers_is_refused() {
    let refused = |object: &str| plan(&orders(Full), "", object, 1).map(drop).expect_err("refused");
    let text = |object: &str| refused(object).to_string();
    assert!(text("columns: {exclude: [id]}").contains("`id` is part of the message key"));
    assert!(
        text("columns: {rename: {note: total}}").contains("two columns would be called `total`")
    );
    assert!(text("columns: {add: {note: \"'x'\"}}").contains("two columns would be called `note`"));
    assert!(matches!(refused("columns: {add: {x: now()}}"), PlanError::Rules { object: 0, .. }));
    let (task, _) = plan(&orders(Full), "", "columns: {exclude: [gone], rename: {lost: x}}", 1)
        .expect("a dropped column is no reason to stop");
    assert_eq!(task.missing_columns(0, &orders(Full)), ["gone", "lost"]);
}
