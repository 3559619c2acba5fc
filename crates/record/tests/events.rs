//! Events beside the reference's examples: identities, keys, headers, names, and what cannot be
//! written.

mod scene;

use expect_test::expect;
use scene::{Did, Null, Unchanged, Value, encode, orders, plan, records, v};
use serde_json::json;
use wal::table::ReplicaIdentity::{Default, Full};
use wal::types::{Type, oid};

const FIRST: [Value<'static>; 4] =
    [Value::Text("1001"), Value::Text("first"), Value::Text("49.90"), AT];
const AT: Value<'static> = Value::Text("2024-03-05 02:20:30.123456+00");

#[test]
fn with_schemas_the_other_key_and_tombstones_have_none() {
    let after = [v("2001"), Null, v("59.90"), AT];
    let sent = records(
        &orders(Full),
        "format_options: {schemas: true}",
        &[Did::UpdateRow(&FIRST, &after), Did::Truncate],
    );
    assert_eq!(sent[0].header("__debezium.newkey"), Some(r#"{"id":2001}"#));
    assert_eq!(sent[1].header("__debezium.newkey"), Some(r#"{"id":2001}"#));
    assert_eq!(sent[2].header("__debezium.oldkey"), Some(r#"{"id":1001}"#));
    assert_eq!((&sent[1].key, &sent[1].value), (&sent[0].key, &None));
    assert_eq!(sent[3].json()["payload"]["op"], "t");
    assert_eq!(sent[3].key, None);
}

#[test]
fn under_the_default_identity_old_rows_have_their_key_only() {
    let key = [v("1001"), Null, Null, Null];
    let moved = [v("2001"), Unchanged, v("1.00"), Null];
    let updated = [v("1001"), Unchanged, v("1.00"), Null];
    let sent = records(
        &orders(Default),
        "",
        &[Did::Update(&updated), Did::UpdateKey(&key, &moved), Did::DeleteKey(&key)],
    );
    let rows: Vec<_> = sent
        .iter()
        .filter(|record| record.value.is_some())
        .map(scene::Sent::json)
        .map(|event| json!([event["op"], event["before"], event["after"]]).to_string())
        .collect();
    expect![[r#"
        ["u",null,{"id":1001,"note":"__debezium_unavailable_value","total":"ZA==","at":null}]
        ["d",{"id":1001,"note":null,"total":null,"at":null},null]
        ["c",null,{"id":2001,"note":"__debezium_unavailable_value","total":"ZA==","at":null}]
        ["d",{"id":1001,"note":null,"total":null,"at":null},null]"#]]
    .assert_eq(&rows.join("\n"));
}

#[test]
fn under_full_unchanged_values_come_from_the_old_row() {
    let after = [v("1001"), Unchanged, v("1.00"), Null];
    let moved = [v("1002"), Unchanged, v("1.00"), Null];
    let sent = records(
        &orders(Full),
        "",
        &[Did::UpdateRow(&FIRST, &after), Did::UpdateRow(&FIRST, &moved)],
    );
    assert_eq!(sent[0].json()["after"]["note"], "first");
    assert_eq!(sent[3].json()["op"], "c");
    assert_eq!(sent[3].json()["after"]["note"], "first");
}

#[test]
fn an_unchanged_key_that_was_not_sent_again_is_no_key_change() {
    // Server fact 18: the key is TOASTed; the old key comes along, the new row says "unchanged".
    let key = [v("1001"), Null, Null, Null];
    let after = [Unchanged, v("second"), v("1.00"), Null];
    let sent = records(&orders(Default), "", &[Did::UpdateKey(&key, &after)]);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].key.as_deref(), Some(r#"{"id":1001}"#));
    let event = sent[0].json();
    assert_eq!((&event["op"], &event["before"]), (&json!("u"), &json!(null)));
    assert_eq!(event["after"]["id"], 1001);
}

#[test]
fn a_table_without_a_key_has_null_keys() {
    let mut table = orders(Full);
    table.key.clear();
    let after = [v("2001"), Null, v("59.90"), AT];
    let sent = records(
        &table,
        "format_options: {schemas: true}",
        &[Did::Insert(&FIRST), Did::UpdateRow(&FIRST, &after), Did::DeleteRow(&after)],
    );
    let ops: Vec<_> = sent
        .iter()
        .map(|record| record.value.is_some().then(|| record.json()["payload"]["op"].clone()))
        .collect();
    // Debezium, too, lets a tombstone follow.
    assert_eq!(ops, [Some(json!("c")), Some(json!("u")), Some(json!("d")), None]);
    assert!(sent.iter().all(|record| record.key.is_none()));
}

#[test]
fn headers_and_tombstones_can_be_left_out() {
    let options = "headers: false, format_options: {tombstones: false}";
    let after = [v("2001"), Null, v("59.90"), AT];
    let changes = [Did::UpdateRow(&FIRST, &after), Did::DeleteRow(&after)];
    let sent = records(&orders(Full), options, &changes);
    let names: Vec<Vec<_>> = sent
        .iter()
        .map(|record| record.headers.iter().map(|(name, _)| name.as_str()).collect())
        .collect();
    assert_eq!(names, [vec!["__debezium.newkey"], vec!["__debezium.oldkey"], vec![]]);
    let seqs: Vec<_> = records(&orders(Full), "format_options: {tombstones: false}", &changes)
        .iter()
        .map(|record| record.header("distributary.seq").map(str::to_owned))
        .collect();
    assert_eq!(seqs, [Some("0.0".into()), Some("0.2".into()), Some("1".into())]);
}

#[test]
fn an_event_is_known_by_task_position_and_part() {
    let sent = records(&orders(Full), "", &[Did::Insert(&FIRST), Did::Insert(&FIRST)]);
    let headers: Vec<_> =
        sent[1].headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        headers,
        [
            ("distributary.task", "shop"),
            ("distributary.lsn", "0/1A2B400"),
            ("distributary.seq", "1")
        ]
    );
}

#[test]
fn names_of_any_kind_are_escaped() {
    let mut table = orders(Full);
    table.schema = "Größe & \"Co\"".into();
    table.name = "a\tb".into();
    table.columns[1].name = "x\"y\\z\u{1}".into();
    let sent = records(&table, "format_options: {schemas: true}", &[Did::Insert(&FIRST)]);
    let event = sent[0].json();
    assert_eq!(event["payload"]["source"]["schema"], "Größe & \"Co\"");
    assert_eq!(event["payload"]["source"]["table"], "a\tb");
    assert_eq!(event["payload"]["after"]["x\"y\\z\u{1}"], "first");
    assert_eq!(event["schema"]["name"], "appdb.Größe & \"Co\".a\tb.Envelope");
    assert_eq!(sent[0].topic, "Gr_x00F6__x00DF_e_x0020__x0026__x0020__x0022_Co_x0022_.a_x0009_b");
}

#[test]
fn names_are_adjusted_as_debezium_does() {
    let mut table = orders(Full);
    table.schema = "Größe".into();
    table.columns[0].name = "the-id".into();
    let options = "format_options: {schemas: true, schema_name_adjustment: avro, \
                   field_name_adjustment: avro}";
    let sent = records(&table, options, &[Did::Insert(&FIRST)]);
    let event = sent[0].json();
    assert_eq!(event["schema"]["name"], "appdb.Gr__e.orders.Envelope");
    assert_eq!(event["schema"]["fields"][1]["fields"][0]["field"], "the_id");
    assert_eq!(event["payload"]["after"]["the_id"], 1001);
    let key: serde_json::Value =
        serde_json::from_str(sent[0].key.as_deref().expect("a key")).expect("JSON");
    assert_eq!(key["payload"], json!({"the_id": 1001}));
    assert_eq!(key["schema"]["name"], "appdb.Gr__e.orders.Key");
    // The names of the source itself stay.
    assert_eq!(event["payload"]["source"]["schema"], "Größe");
}

#[test]
fn columns_that_would_get_one_name_are_refused() {
    let mut table = orders(Full);
    table.columns[1].name = "a.b".into();
    table.columns[2].name = "a_b".into();
    let refusal = |mode: &str| {
        let sink = format!("format_options: {{field_name_adjustment: {mode}}}");
        plan(&table, &sink, "", 1).map(|_| ()).map_err(|error| error.to_string())
    };
    let said = refusal("avro").expect_err("refused");
    assert!(said.contains("shop.orders") && said.contains("`a_b` and `a.b`"), "{said}");
    assert_eq!(refusal("avro-unicode"), Ok(()));
    assert_eq!(refusal("none"), Ok(()));
}

#[test]
fn constant_defaults_are_part_of_the_schema() {
    let mut table = orders(Full);
    table.columns[1].default = Some("none".into());
    table.columns[2].default = Some("1.50".into());
    table.columns[3].default = Some("not a time".into());
    let sent = records(&table, "format_options: {schemas: true}", &[Did::Insert(&FIRST)]);
    let fields = sent[0].json()["schema"]["fields"][1]["fields"].clone();
    assert_eq!(fields[1]["default"], "none");
    assert_eq!(fields[2]["default"], "AJY=");
    assert!(fields[3].get("default").is_none(), "one that cannot be read is left out");
}

#[test]
fn what_stands_in_the_way_is_named_without_the_value() {
    let table = orders(Full);
    let (task, plan) = plan(&table, "", "", 1).expect("a plan");
    let refusal = |row: &[Value<'_>]| {
        let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(row)]);
        encode(&task, &plan, &batch).expect_err("refused").to_string()
    };
    let said = refusal(&[v("1"), Value::Bytes(b"secret\xff"), Null, Null]);
    assert!(said.starts_with("shop.orders, column `note`: the text is not UTF-8"), "{said}");
    let said = refusal(&[v("1"), Null, v("12.secret"), Null]);
    assert!(said.starts_with("shop.orders, column `total`: the server sent a text"), "{said}");
    let said = refusal(&[Value::Binary(b"secret"), Null, Null, Null]);
    assert!(said.contains("column `id`") && said.contains("source.wire: text"), "{said}");
    assert!(!said.contains("secret"));
}

#[test]
fn values_beyond_the_format_fail_or_are_null_as_the_task_says() {
    let columns = vec![
        scene::column("id", Type::builtin(oid::INT4, "int4"), -1),
        scene::column("at", Type::builtin(oid::TIMESTAMP, "timestamp"), -1),
    ];
    let table = scene::table("times", columns, 1, Full);
    let row = [v("1"), v("294276-12-31 23:59:59.999999")];
    let batch = scene::batch(&table, scene::transaction(), &[Did::Insert(&row)]);
    let (task, fail) = plan(&table, "", "", 1).expect("a plan");
    let said = encode(&task, &fail, &batch).expect_err("refused").to_string();
    assert!(said.contains("column `at`") && said.contains("unrepresentable: null"), "{said}");
    let (task, null) = plan(&table, "unrepresentable: null", "", 1).expect("a plan");
    let sent = encode(&task, &null, &batch).expect("encodes");
    assert_eq!(sent[0].json()["after"], json!({"id": 1, "at": null}));
}
